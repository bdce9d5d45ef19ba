"""Logs as they are kept: what was written is found again, and what goes when there is no room."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.ids import SET_ASIDE
from chatrelay.mailbox import entries
from chatrelay.mailbox.entries import Kind, Run, encode
from chatrelay.mailbox.histories import Asked
from chatrelay.mailbox.log import Bounds, Changes, Entry, GivenUp, Written
from chatrelay.store import histories
from chatrelay.store import logs as module
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database, StoreError
from chatrelay.store.logs import Logs
from tests.store_harness import HASH, NOW_S, Cleanups, name, open_database, temporary_directory

BOUNDS = Bounds(20, 100_000, keeps_read=True, keep_sent_s=600.0, keep_sent_entries=5)
ALICE, CAROL, DAVE = 11, 12, 13


class Store:
    """A database with three accounts, and what was written into their logs."""

    def __init__(self, test: SynchronousTestCase | Cleanups) -> None:
        self.directory = temporary_directory(test)
        self.database: Database = open_database(test, self.directory)
        # Nothing is killed here, and the disk need not be waited for.
        self.database.connection.execute("PRAGMA synchronous = OFF")
        self.accounts = Accounts(self.database.connection)
        self.logs: Logs = self.accounts.logs
        self.last_id = 0
        with self.database.transaction():
            for written in ("carol", "dave", "erin"):
                self.accounts.add(name(written), HASH, NOW_S)
        self.carol, self.dave, self.erin = [row[0] for row in self.logs.owned_names()]

    def run(
        self,
        *texts: bytes,
        kind: Kind = Kind.RECEIVED,
        party: bytes = b"alice",
        account: int = ALICE,
        refs: bytes = b"",
    ) -> Run:
        """Make a run with the next ids."""
        first_id = self.last_id + 1
        self.last_id += len(texts)
        joined = b"\n".join(texts)
        return Run(kind, first_id, len(texts), first_id * 1000, party, account, refs, joined)

    def write(
        self,
        *received: Run,
        sent: list[Run] | None = None,
        account: int = 0,
        bounds: Bounds = BOUNDS,
        now_s: float = NOW_S,
        **positions: Any,
    ) -> Written:
        """Write into a log, carol's if nothing is said."""
        changes = Changes(account or self.carol, received, sent or (), **positions)
        with self.database.transaction():
            return self.logs.write([changes], bounds, now_s)

    def texts(self, account: int = 0) -> list[bytes]:
        """All that was sent to a name and is kept."""
        return [
            text
            for run in self.logs.page(account or self.carol, 0, 1 << 30)
            for _, _, text in run.entries()
        ]


def read_all(
    store: Store, party: bytes | None, count: int, *, room: int = 0, **bounds: int
) -> list[Entry]:
    """A history of carol's, or of a room, piece by piece."""
    asked = Asked(0 if room else store.carol, party, count, room=room, **bounds)
    answers: list[list[Entry]] = []
    asked.answer.addCallback(answers.append)
    while not asked.take(asked.read(store.accounts)):
        pass
    return answers[0]


def draw_history(
    store: Store, data: st.DataObject, kept: list[Entry], party: bytes | None = None, room: int = 0
) -> tuple[list[Entry], list[Entry]]:
    """
    Read some of a history: what was found, and what has to be.

    :param kept: all of it, oldest first.
    """
    count = data.draw(st.integers(0, 12))
    bound = data.draw(st.sampled_from([None, "before_id", "after_id"]))
    at = data.draw(st.integers(0, store.last_id + 1))
    if bound == "after_id":
        expected = [entry for entry in kept if entry.id > at][:count]
    else:
        older = [entry for entry in kept if bound is None or entry.id < at]
        expected = older[-count:] if count else []
    with mock.patch.object(histories, "_MOST_RUNS", data.draw(st.sampled_from([1, 2, 1000]))):
        found = read_all(store, party, count, room=room, **({bound: at} if bound else {}))
    return found, expected


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store(self)
        self.logs = self.store.logs


class NamesTests(StoreCase):
    """Who has a log."""

    def test_all_and_some(self) -> None:
        rows = self.logs.owned_names()
        self.assertEqual([row[1] for row in rows], [b"carol", b"dave", b"erin"])
        self.assertEqual(self.logs.owned_names([b"dave", b"nobody"]), [rows[1]])
        self.assertEqual(self.logs.owned_names([]), [])


class IdTests(StoreCase):
    """Ids are set aside before they are given."""

    def test_no_number_is_set_aside_twice(self) -> None:
        with self.store.database.transaction():
            self.assertEqual(self.logs.set_ids_aside(1000), 1000)
            # By the next run, whose clock was put back.
            self.assertEqual(self.logs.set_ids_aside(5), 1000 + SET_ASIDE)
            self.assertEqual(self.logs.set_ids_aside(1 << 50), 1 << 50)


class LoadTests(StoreCase):
    """What is held in memory of one log."""

    def load(self, **options: Any) -> Any:
        return self.logs.load(self.store.carol, NOW_S + 5, NOW_S - 600, **options)

    def test_an_empty_one(self) -> None:
        loaded = self.load()
        self.assertEqual(tuple(map(bool, loaded)), (False,) * 9)

    def test_what_is_unread_by_whom(self) -> None:
        store = self.store
        one, two, free = (
            store.run(b"a", b"bb"),
            store.run(b"ccc", party=b"dave", account=DAVE),
            store.run(b"d", account=0),
        )
        acked = store.run(b"7", kind=Kind.ACKED, party=b"dave", account=0, refs=b"r7")
        store.write(one, two, free, acked, read_id=1, offered_id=3)
        loaded = self.load()
        self.assertEqual((loaded.read_id, loaded.offered_id, loaded.last_id), (1, 3, 5))
        self.assertEqual(
            (loaded.entries, loaded.size_bytes),
            (5, sum(run.size_bytes for run in (one, two, free, acked))),
        )
        unread = {account: (entries, size) for account, entries, size in loaded.unread}
        later = one.after(1)
        assert later is not None
        self.assertEqual(
            unread,
            {
                ALICE: (1, later.size_bytes),
                DAVE: (1, two.size_bytes),
                0: (1, free.size_bytes),
            },
        )

    def test_the_refs_of_the_last_ten_minutes(self) -> None:
        store = self.store
        old = store.run(b"old", kind=Kind.SENT, party=b"bob", refs=b"r1")
        new = store.run(b"new", kind=Kind.SENT, party=b"bob", refs=b"r2")
        plain = store.run(b"plain", kind=Kind.SENT, party=b"bob")
        store.write(sent=[old], now_s=NOW_S - 601)
        store.write(sent=[new, plain], now_s=NOW_S)
        acked = store.run(b"%x" % new.first_id, kind=Kind.ACKED, party=b"bob", refs=b"r2")
        store.write(acked)
        loaded = self.load()
        self.assertEqual(loaded.accepted, [(5.0, new)])
        self.assertEqual(loaded.acked, [acked])
        # A clock that was put back makes none older than it is.
        self.assertEqual(self.logs.load(store.carol, NOW_S - 50, 0.0).accepted[-1][0], 0.0)

    def test_positions_never_go_back(self) -> None:
        self.store.write(read_id=5, offered_id=9)
        self.store.write(read_id=3, offered_id=2)
        loaded = self.load()
        self.assertEqual((loaded.read_id, loaded.offered_id), (5, 9))

    def test_a_removed_account_takes_its_log_with_it(self) -> None:
        store = self.store
        store.write(store.run(b"x"), sent=[store.run(b"y", kind=Kind.SENT)], read_id=1)
        with store.database.transaction():
            store.accounts.remove(store.carol, NOW_S)
        for table in ("chunk", "mailbox"):
            [(count,)] = self.logs._rows(f"SELECT count(*) FROM {table}")
            self.assertEqual(count, 0, table)
        written = store.write(store.run(b"z"), read_id=3)
        self.assertEqual(written.gone, {store.carol})
        self.assertEqual(store.texts(), [])

    def test_several_logs_in_one_job(self) -> None:
        store = self.store
        changes = [
            Changes(account, [store.run(b"to %d" % account)], read_id=account)
            for account in (store.carol, 99, store.dave, store.erin)
        ]
        with store.database.transaction():
            written = self.logs.write(changes, BOUNDS, NOW_S)
        self.assertEqual(written.gone, {99})
        for account in (store.carol, store.dave, store.erin):
            self.assertEqual(store.texts(account), [b"to %d" % account])
            self.assertEqual(self.logs.load(account, NOW_S, 0.0).read_id, account)
        self.assertEqual(written.used_bytes, self.logs.used_bytes())


class BlockTests(StoreCase):
    def test_block_and_unblock(self) -> None:
        carol = self.store.carol
        with self.store.database.transaction():
            for _ in range(2):
                self.logs.block(carol, b"bob", b"Bob")
            self.logs.block(carol, b"eve", b"eve")
            self.logs.block(99, b"eve", b"eve")
            self.logs.unblock(carol, b"eve")
            self.logs.unblock(carol, b"nobody")
        self.assertEqual(self.logs.load(carol, NOW_S, 0.0).blocked, [b"bob"])
        self.assertEqual(list(self.logs.load(self.store.dave, NOW_S, 0.0).blocked), [])


class BoundTests(StoreCase):
    """What makes place, and what does not."""

    def fill(self, count: int, *, now_s: float = NOW_S) -> None:
        for number in range(count):
            self.store.write(self.store.run(b"%d" % number), now_s=now_s)

    def test_what_is_read_goes_first_and_what_is_unread_never(self) -> None:
        store = self.store
        self.fill(30)
        written = store.write(read_id=15, is_over=True)
        # To 95 of 100 of the bound, so that it is not cut at every commit.
        self.assertEqual(written.freed[store.carol][0], 11)
        self.assertEqual(len(store.texts()), 19)
        self.assertEqual(store.texts()[0], b"11")
        written = store.write(is_over=True)
        self.assertEqual(written.freed, {})
        self.fill(10)
        written = store.write(is_over=True)
        self.assertEqual(written.freed[store.carol][0], 4)
        self.assertEqual(len(store.texts()), 25)

    def test_by_size(self) -> None:
        store = self.store
        for number in range(10):
            store.write(store.run(b"%d" % number + b"x" * 935))
        bounds = BOUNDS._replace(size_bytes=5000)
        written = store.write(read_id=9, is_over=True, bounds=bounds)
        self.assertEqual(written.freed[store.carol], (6, 6000))
        self.assertEqual(len(store.texts()), 4)

    def test_what_it_sent_goes_too_but_for_the_refs_that_may_be_asked_again(self) -> None:
        store = self.store
        for number in range(15):
            sent = store.run(b"%d" % number, kind=Kind.SENT, party=b"bob", refs=b"r%d" % number)
            store.write(sent=[sent], now_s=NOW_S - 1000 if number < 3 else NOW_S)
        self.fill(15)
        written = store.write(is_over=True)
        # Of 15 the newest 5 stay, the others would have had to go even so.
        self.assertEqual(written.freed[store.carol][0], 10)
        kept = self.logs.load(store.carol, NOW_S, NOW_S - 600).accepted
        self.assertEqual([run.texts for _, run in kept], [b"10", b"11", b"12", b"13", b"14"])
        self.assertEqual(len(store.texts()), 15)

    def test_without_a_history_what_is_read_goes_at_once(self) -> None:
        store = self.store
        bounds = BOUNDS._replace(keeps_read=False)
        store.write(store.run(b"a", b"b"), bounds=bounds)
        store.write(store.run(b"c"), bounds=bounds)
        self.assertEqual(store.write(read_id=1, bounds=bounds).freed, {})
        written = store.write(read_id=2, bounds=bounds)
        self.assertEqual(written.freed[store.carol][0], 2)
        self.assertEqual(store.texts(), [b"c"])

    def test_by_age(self) -> None:
        store = self.store
        self.fill(3, now_s=NOW_S - 100)
        store.write(sent=[store.run(b"s", kind=Kind.SENT)], now_s=NOW_S - 100)
        self.fill(2, now_s=NOW_S)
        store.write(read_id=2, now_s=NOW_S)
        with store.database.transaction():
            freed = self.logs.give_up(written_before_s=NOW_S - 1000, read_before_s=NOW_S - 50).freed
        self.assertEqual(freed[store.carol][0], 3)
        self.assertEqual(len(store.texts()), 3)
        with store.database.transaction():
            freed = self.logs.give_up(written_before_s=NOW_S - 50, read_before_s=NOW_S - 50).freed
        # What is unread has an age, too.
        self.assertEqual(freed[store.carol][0], 1)
        self.assertEqual(store.texts(), [b"0", b"1"])
        with store.database.transaction():
            self.assertEqual(
                self.logs.give_up(written_before_s=NOW_S - 50, read_before_s=NOW_S - 50),
                GivenUp({}, 0),
            )

    def test_what_is_unread_has_its_age_where_what_is_read_may_be_older(self) -> None:
        self.fill(2, now_s=NOW_S - 100)
        self.fill(1, now_s=NOW_S)
        with self.store.database.transaction():
            freed = self.logs.give_up(written_before_s=NOW_S - 50, read_before_s=NOW_S - 1000).freed
        self.assertEqual(freed[self.store.carol][0], 2)

    def test_much_that_is_unread_is_looked_at_piece_by_piece(self) -> None:
        self.patch(module, "_LOOKED_AT_ROWS", 4)
        self.patch(module, "_OLDEST_ROWS", 2)
        store = self.store
        for number in range(10):
            store.write(store.run(b"%d" % number), account=store.dave if number < 6 else 0)
        store.write(read_id=10)
        looked_at: list[int] = []
        freed_entries = []
        while not looked_at or looked_at[-1]:
            with store.database.transaction():
                given_up = self.logs.give_up(
                    written_before_s=0.0,
                    read_before_s=NOW_S + 1,
                    after_number=looked_at[-1] if looked_at else 0,
                )
            looked_at.append(given_up.until)
            freed_entries.append(given_up.freed.get(store.carol, (0, 0))[0])
        self.assertEqual((looked_at, freed_entries), ([4, 8, 10, 0], [0, 2, 2, 0]))

    def test_a_clock_that_was_put_back_has_nothing_given_up_too_early(self) -> None:
        self.fill(2, now_s=NOW_S)
        self.fill(2, now_s=NOW_S - 3600)
        self.store.write(read_id=4)
        with self.store.database.transaction():
            freed = self.logs.give_up(
                written_before_s=NOW_S - 1800, read_before_s=NOW_S - 1800
            ).freed
        self.assertEqual(freed, {})

    def test_what_is_given_up_makes_room(self) -> None:
        store = self.store
        for _ in range(20):
            store.write(store.run(b"x" * 50_000))
        full_bytes = self.logs.used_bytes()
        store.write(read_id=20)
        with store.database.transaction():
            self.logs.give_up(written_before_s=0.0, read_before_s=NOW_S + 1)
        self.assertLess(self.logs.used_bytes(), full_bytes / 5)


class DamageTests(StoreCase):
    """A chunk that is none."""

    def test_its_log_can_not_be_read_and_others_can(self) -> None:
        store = self.store
        store.write(store.run(b"x"))
        store.write(store.run(b"y"), account=store.dave)
        with store.database.transaction():
            self.logs._rows("UPDATE chunk SET data = x'00' WHERE account = ?", store.carol)
        for read in (
            store.texts,
            lambda: self.logs.load(store.carol, NOW_S, 0.0),
            lambda: self.logs.history(store.carol, None, 5),
        ):
            error = self.assertRaises(StoreError, read)
            self.assertIn("damaged", str(error))
        self.assertEqual(store.texts(store.dave), [b"y"])


class Kept(NamedTuple):
    """An entry as the model has it."""

    id: int
    is_sent: bool
    kind: Kind
    party: bytes
    text: bytes
    time_ms: int


TEXTS = st.sampled_from([b"x", b"hello", b"%", b"z" * 60])
PARTIES = st.sampled_from([b"alice", b"Alice", b"bob", b"carol", b"#Ops%alice", b"#Ops"])
RUNS = st.tuples(
    st.sampled_from([Kind.RECEIVED, Kind.RECEIVED, Kind.SENT, Kind.ACKED, Kind.REMEMBERED]),
    PARTIES,
    st.lists(TEXTS, min_size=1, max_size=5),
)
BATCHES = st.lists(st.lists(RUNS, min_size=1, max_size=4), max_size=8)


class ModelTests(SynchronousTestCase):
    """Pages and histories, against a list."""

    def setUp(self) -> None:
        # Small enough that a batch is more than one chunk.
        self.patch(entries, "CHUNK_BYTES", 150)

    @settings(max_examples=60, deadline=None)
    @given(BATCHES, st.data())
    def test_pages_and_histories(self, batches: list[Any], data: st.DataObject) -> None:
        with Cleanups() as cleanups:
            store = Store(cleanups)
            kept: list[Kept] = []
            for batch in batches:
                self.write(store, batch, kept)
                # What was sent to another name is in another log.
                store.write(store.run(b"not carol's"), account=store.dave)
            for _ in range(6):
                self.compare_page(store, kept, data)
                self.compare_history(store, kept, data)

    def write(self, store: Store, batch: list[Any], kept: list[Kept]) -> None:
        received, sent = [], []
        for kind, party, texts in batch:
            run = store.run(*texts, kind=kind, party=party)
            is_sent = kind in (Kind.SENT, Kind.REMEMBERED)
            (sent if is_sent else received).append(run)
            for number, _, text in run.entries():
                kept.append(Kept(number, is_sent, kind, party, text, run.time_ms))
        store.write(*received, sent=sent)

    def compare_page(self, store: Store, kept: list[Kept], data: st.DataObject) -> None:
        after_id = data.draw(st.integers(0, store.last_id + 1))
        max_bytes = data.draw(st.sampled_from([1, 200, 1 << 20]))
        expected = [entry for entry in kept if not entry.is_sent and entry.id > after_id]
        found = []
        # Page after page, as a connection reads.
        while runs := store.logs.page(store.carol, after_id, max_bytes):
            for run in runs:
                for number, _, text in run.entries():
                    found.append(Kept(number, False, run.kind, run.party, text, run.time_ms))
            after_id = runs[-1].last_id
        self.assertEqual(found, expected)

    def compare_history(self, store: Store, kept: list[Kept], data: st.DataObject) -> None:
        party = data.draw(st.sampled_from([None, b"alice", b"bob", b"carol", b"nobody", b"ops"]))
        wanted = [
            Entry(entry.id, entry.time_ms, entry.is_sent, entry.party, entry.text)
            for entry in kept
            if entry.kind is Kind.RECEIVED or (entry.kind is Kind.SENT and party is not None)
            if party is None or entry.party.lower() == party
        ]
        self.assertEqual(*draw_history(store, data, wanted, party))


class NoteTests(StoreCase):
    def test_what_a_name_wrote_to_itself_is_in_its_history_once(self) -> None:
        store = self.store
        one = store.run(b"note", party=b"carol")
        store.write(one, sent=[one._replace(kind=Kind.SENT)])
        self.assertEqual(len(read_all(store, b"carol", 10)), 1)

    def test_a_chunk_has_a_bound(self) -> None:
        store = self.store
        store.write(*[store.run(b"x" * 1000) for _ in range(1000)])
        sizes = self.logs._rows("SELECT length(data) FROM chunk")
        self.assertGreater(len(sizes), 5)
        self.assertLess(max(size for (size,) in sizes), 2 * entries.CHUNK_BYTES)

    def test_also_where_one_run_is_longer(self) -> None:
        store = self.store
        run = store.run(*[b"%d" % number for number in range(10_000)])
        store.write(run)
        rows = self.logs._rows("SELECT entries, size_bytes FROM chunk")
        self.assertGreater(len(rows), 2)
        self.assertLess(max(size for _, size in rows), 2 * entries.CHUNK_BYTES)
        self.assertEqual(sum(count for count, _ in rows), 10_000)
        self.assertEqual(store.texts(), run.texts.split(b"\n"))

    def test_a_chunk_is_what_entries_makes_of_it(self) -> None:
        one, two = self.store.run(b"a"), self.store.run(b"b", b"c")
        self.store.write(one, two)
        [(data,)] = self.logs._rows("SELECT data FROM chunk")
        self.assertEqual(data, encode([one, two]))
