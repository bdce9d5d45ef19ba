"""Rooms as they are kept: against a model that has them in dictionaries."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox import entries
from chatrelay.mailbox.entries import Kind, Run
from chatrelay.mailbox.log import Bounds, Changes, Entry, Written
from chatrelay.rooms.log import KeptRoom
from chatrelay.store import logs as module
from tests.store_harness import NOW_S, Cleanups
from tests.test_store_logs import Store, draw_history, read_all

BOUNDS = Bounds(20, 100_000, keeps_read=True, keep_sent_s=600.0, keep_sent_entries=5)
KEY, SHOWN = b"#ops", b"#Ops"


class RoomsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store(self)
        self.logs, self.rooms = self.store.logs, self.store.accounts.rooms

    def keep(self, key: bytes = KEY, shown: bytes = SHOWN, members: Any = ()) -> int:
        with self.store.database.transaction():
            return self.rooms.keep(key, shown, self.store.carol, members, NOW_S)

    def say(self, *changes: Changes, bounds: Bounds = BOUNDS, now_s: float = NOW_S) -> Written:
        with self.store.database.transaction():
            return self.logs.write(changes, bounds, now_s)

    def run_in(self, *texts: bytes) -> Run:
        return self.store.run(*texts, party=b"#Ops%alice")

    def texts(self, room: int) -> list[bytes]:
        return [entry.text for entry in read_all(self.store, None, 1000, room=room)]

    def count(self, table: str) -> int:
        [(count,)] = self.logs._rows(f"SELECT count(*) FROM {table}")
        return int(count)


class RoomTests(RoomsCase):
    """Whose a room is, and who belongs to it."""

    def test_all_that_is_known(self) -> None:
        store = self.store
        self.assertEqual(self.rooms.all(), [])
        number = self.keep(members=[store.dave, 99])
        with store.database.transaction():
            self.rooms.invite(number, store.erin)
            self.rooms.set_topic(number, b"fire")
            self.rooms.set_members_only(number, True)
        members = [(store.carol, True), (store.dave, True), (store.erin, False)]
        room = KeptRoom(number, KEY, SHOWN, store.carol, b"fire", True, members, 0, 0)
        self.assertEqual(self.rooms.all(), [room])

    def test_a_room_is_kept_once(self) -> None:
        self.keep()
        self.assertRaises(sqlite3.IntegrityError, self.keep)
        self.assertEqual(len(self.rooms.all()), 1)

    def test_a_number_is_not_given_again(self) -> None:
        number = self.keep()
        with self.store.database.transaction():
            self.rooms.unkeep(number)
        self.assertGreater(self.keep(), number)

    def test_an_invitation_is_no_leaving(self) -> None:
        number = self.keep()
        with self.store.database.transaction():
            for _ in range(2):
                self.rooms.invite(number, self.store.dave)
                self.rooms.add_member(number, self.store.dave)
                self.rooms.invite(number, self.store.dave)
        self.assertEqual(dict(self.rooms.all()[0].members)[self.store.dave], True)

    def test_who_has_not_joined_after_all_is_still_invited(self) -> None:
        number = self.keep()
        with self.store.database.transaction():
            for account in (self.store.dave, self.store.erin):
                self.rooms.invite(number, account)
                self.rooms.add_member(number, account)
            self.rooms.remove_member(number, self.store.erin)
            for account in (self.store.dave, self.store.erin):
                self.rooms.set_not_joined(number, account)
        members = [(self.store.carol, True), (self.store.dave, False)]
        self.assertEqual(self.rooms.all()[0].members, members)

    def test_what_is_gone_is_not_changed(self) -> None:
        store, rooms = self.store, self.rooms
        with store.database.transaction():
            store.accounts.remove(store.carol, NOW_S)
            self.assertEqual(rooms.keep(KEY, SHOWN, store.carol, [store.dave], NOW_S), 0)
            number = rooms.keep(KEY, SHOWN, store.dave, [], NOW_S)
            before = rooms.all()
            rooms.add_member(number, store.carol)
            rooms.invite(number, store.carol)
            rooms.remove_member(number, store.carol)
            for gone in (number + 1, 0):
                rooms.add_member(gone, store.dave)
                rooms.invite(gone, store.dave)
                rooms.set_not_joined(gone, store.dave)
                rooms.remove_member(gone, store.dave)
                rooms.set_topic(gone, b"fire")
                rooms.set_members_only(gone, True)
                rooms.unkeep(gone)
        self.assertEqual(rooms.all(), before)

    def test_a_removed_account_takes_its_rooms_with_it_and_leaves_those_of_others(self) -> None:
        store = self.store
        number = self.keep(members=[store.dave])
        with store.database.transaction():
            other = self.rooms.keep(b"#b", b"#b", store.dave, [store.carol], NOW_S)
        self.say(Changes(0, [self.run_in(b"hi")], room=number))
        with store.database.transaction():
            store.accounts.remove(store.carol, NOW_S)
        [room] = self.rooms.all()
        self.assertEqual((room.number, room.members), (other, [(store.dave, True)]))
        self.assertEqual((self.count("room_member"), self.count("room_chunk")), (1, 0))
        gone = Changes(0, [self.run_in(b"hi")], room=number, is_over=True)
        kept = Changes(0, [self.run_in(b"ho")], room=other)
        written = self.say(gone, kept)
        self.assertEqual((written.gone, written.gone_rooms), (set(), {number}))
        self.assertEqual((self.texts(number), self.texts(other)), ([], [b"ho"]))


class HistoryTests(RoomsCase):
    """What was said in a room, and what a member missed."""

    def test_one_commit_writes_into_logs_of_both(self) -> None:
        store = self.store
        number = self.keep(members=[store.dave])
        run = self.run_in(b"fire", b"where?")
        in_room = Changes(0, [run], room=number)
        missed = Changes(store.dave, [run])
        written = self.say(missed, in_room, Changes(99, [run]), Changes(0, [run], room=99))
        self.assertEqual((written.gone, written.gone_rooms), ({99}, {99}))
        found = read_all(store, None, 10, room=number)
        self.assertEqual(found, self.logs.history(store.dave, None, 10).entries)
        self.assertEqual([entry.party for entry in found], [b"#Ops%alice"] * 2)
        self.assertEqual(self.logs.page(store.dave, 0, 1000), [run])

    def test_what_was_said_in_a_room_is_not_between_two_names(self) -> None:
        store = self.store
        said = store.run(b"all", kind=Kind.SENT, party=b"#Ops", refs=b"r1")
        direct = store.run(b"you", kind=Kind.SENT, party=b"alice")
        store.write(self.run_in(b"hi"), store.run(b"me"), sent=[said, direct])
        for party, expected in ((b"alice", [b"you", b"me"]), (b"ops", []), (None, [b"hi", b"me"])):
            found = self.logs.history(store.carol, party, 10).entries
            self.assertEqual([entry.text for entry in found], expected, party)


class BoundTests(RoomsCase):
    """Nothing in a room's log is unread: the oldest goes."""

    def fill(self, room: int, count: int, *, now_s: float = NOW_S, size: int = 1) -> None:
        for number in range(count):
            run = self.run_in(b"%d" % number + b"x" * size)
            self.say(Changes(0, [run], room=room), now_s=now_s)

    def test_by_count(self) -> None:
        number, other = self.keep(), self.keep(b"#b", b"#b")
        self.fill(number, 30)
        self.fill(other, 30)
        written = self.say(Changes(0, room=number, is_over=True))
        self.assertEqual(written.freed, {})
        # To 95 of 100 of the bound, so that it is not cut at every commit.
        self.assertEqual(
            {room: freed[0] for room, freed in written.freed_rooms.items()}, {number: 11}
        )
        self.assertEqual(len(self.texts(number)), 19)
        self.assertEqual(self.texts(number)[0], b"11x")
        self.assertEqual(len(self.texts(other)), 30)
        self.assertEqual(self.say(Changes(0, room=number, is_over=True)).freed_rooms, {})

    def test_by_size(self) -> None:
        number = self.keep()
        self.fill(number, 10, size=935)
        bounds = BOUNDS._replace(size_bytes=5000)
        written = self.say(Changes(0, room=number, is_over=True), bounds=bounds)
        self.assertEqual(written.freed_rooms, {number: (6, 6000)})

    def test_by_age(self) -> None:
        number = self.keep()
        self.fill(number, 3, now_s=NOW_S - 100)
        self.fill(number, 2, now_s=NOW_S)
        # One whose clock was put back.
        self.fill(number, 1, now_s=NOW_S - 100)
        with self.store.database.transaction():
            given_up = self.logs.give_up(written_before_s=0.0, read_before_s=NOW_S - 50)
        self.assertEqual((given_up.freed, given_up.until), ({}, 0))
        self.assertEqual(given_up.freed_rooms, {number: (3, 3 * (2 + entries.ENTRY_BYTES))})
        self.assertFalse(given_up.has_more)
        self.assertEqual(len(self.texts(number)), 3)

    def test_much_that_is_old_goes_piece_by_piece(self) -> None:
        self.patch(module, "_OLDEST_ROWS", 2)
        number = self.keep()
        self.fill(number, 5)
        pieces = []
        while not pieces or pieces[-1].has_more:
            with self.store.database.transaction():
                pieces.append(self.logs.give_up(written_before_s=0.0, read_before_s=NOW_S + 1))
        self.assertEqual([piece.freed_rooms[number][0] for piece in pieces], [2, 2, 1])

    def test_what_is_given_up_makes_room(self) -> None:
        number = self.keep()
        self.fill(number, 20, size=50_000)
        full_bytes = self.logs.used_bytes()
        with self.store.database.transaction():
            self.rooms.unkeep(number)
        self.assertLess(self.logs.used_bytes(), full_bytes / 5)


class Model:
    """Kept rooms in dictionaries, and their entries in lists."""

    def __init__(self, accounts: set[int]) -> None:
        self.accounts = accounts
        self.rooms: dict[int, dict[str, Any]] = {}
        self.members: dict[int, dict[int, bool]] = {}
        self.entries: dict[int, list[Entry]] = {}

    def all(self) -> list[KeptRoom]:
        """As `Rooms.all`."""
        return [
            KeptRoom(
                number,
                *room.values(),
                sorted(self.members[number].items()),
                len(self.entries[number]),
                sum(len(entry.text) + entries.ENTRY_BYTES for entry in self.entries[number]),
            )
            for number, room in sorted(self.rooms.items())
        ]

    def keep(self, number: int, key: bytes, owner: int, members: list[int]) -> None:
        """A room is kept."""
        shown = {"key": key, "shown": key}
        self.rooms[number] = {**shown, "owner": owner, "topic": b"", "only": False}
        self.members[number] = {
            account: True for account in {owner, *members} if account in self.accounts
        }
        self.entries[number] = []

    def remove_account(self, account: int) -> None:
        """An account is removed."""
        self.accounts.discard(account)
        for number in [number for number, room in self.rooms.items() if room["owner"] == account]:
            del self.rooms[number]
        for members in self.members.values():
            members.pop(account, None)


ROOM_NUMBERS = st.integers(1, 5)
ACCOUNT_NUMBERS = st.integers(1, 4)
KEYS = st.sampled_from([b"#a", b"#b", b"#c"])
RUNS = st.lists(
    st.tuples(
        st.sampled_from([b"#a%alice", b"#B%bob"]),
        st.lists(st.sampled_from([b"x", b"hello", b"%", b"z" * 60]), min_size=1, max_size=5),
    ),
    max_size=4,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), KEYS, ACCOUNT_NUMBERS, st.lists(ACCOUNT_NUMBERS, max_size=3)),
        st.tuples(st.just("unkeep"), ROOM_NUMBERS),
        st.tuples(
            st.sampled_from(["join", "not_joined", "invite", "remove"]),
            ROOM_NUMBERS,
            ACCOUNT_NUMBERS,
        ),
        st.tuples(st.just("topic"), ROOM_NUMBERS, st.sampled_from([b"", b"fire"])),
        st.tuples(st.just("only"), ROOM_NUMBERS, st.booleans()),
        st.tuples(st.just("say"), st.dictionaries(ROOM_NUMBERS, RUNS, max_size=3), st.booleans()),
        st.tuples(st.just("forget"), ACCOUNT_NUMBERS),
        st.tuples(st.just("history"), ROOM_NUMBERS),
    ),
    max_size=25,
)


class ModelTests(SynchronousTestCase):
    """Whatever is done, in whatever order."""

    def setUp(self) -> None:
        # Small enough that a batch is more than one chunk.
        self.patch(entries, "CHUNK_BYTES", 150)

    @settings(max_examples=100, deadline=None)
    @given(STEPS, st.data())
    def test_rooms_and_their_histories(self, steps: list[Any], data: st.DataObject) -> None:
        with Cleanups() as cleanups:
            store = Store(cleanups)
            model = Model({store.carol, store.dave, store.erin})
            for name, *arguments in steps:
                if name == "history":
                    self.compare_history(store, model, data, *arguments)
                else:
                    with store.database.transaction():
                        getattr(self, name)(store, model, *arguments)
                self.compare_rooms(store.accounts.rooms.all(), model.all())

    def compare_rooms(self, found: list[KeptRoom], expected: list[KeptRoom]) -> None:
        for room, other in zip(found, expected, strict=True):
            self.assertEqual(room._replace(size_bytes=0), other._replace(size_bytes=0))
            # Between the texts of one run there is an LF.
            self.assertGreaterEqual(room.size_bytes, other.size_bytes)
            self.assertLessEqual(room.size_bytes, other.size_bytes + other.entries)

    def keep(self, store: Store, model: Model, key: bytes, owner: int, members: list[int]) -> None:
        if key in [room["key"] for room in model.rooms.values()]:
            return
        number = store.accounts.rooms.keep(key, key, owner, members, NOW_S)
        self.assertEqual(bool(number), owner in model.accounts)
        if number:
            self.assertNotIn(number, model.members)
            model.keep(number, key, owner, members)

    def unkeep(self, store: Store, model: Model, number: int) -> None:
        store.accounts.rooms.unkeep(number)
        model.rooms.pop(number, None)

    def join(self, store: Store, model: Model, number: int, account: int) -> None:
        store.accounts.rooms.add_member(number, account)
        if number in model.rooms and account in model.accounts:
            model.members[number][account] = True

    def not_joined(self, store: Store, model: Model, number: int, account: int) -> None:
        store.accounts.rooms.set_not_joined(number, account)
        if account in model.members.get(number, {}):
            model.members[number][account] = False

    def invite(self, store: Store, model: Model, number: int, account: int) -> None:
        store.accounts.rooms.invite(number, account)
        if number in model.rooms and account in model.accounts:
            model.members[number].setdefault(account, False)

    def remove(self, store: Store, model: Model, number: int, account: int) -> None:
        store.accounts.rooms.remove_member(number, account)
        model.members.get(number, {}).pop(account, None)

    def topic(self, store: Store, model: Model, number: int, topic: bytes) -> None:
        store.accounts.rooms.set_topic(number, topic)
        if number in model.rooms:
            model.rooms[number]["topic"] = topic

    def only(self, store: Store, model: Model, number: int, is_members_only: bool) -> None:
        store.accounts.rooms.set_members_only(number, is_members_only)
        if number in model.rooms:
            model.rooms[number]["only"] = is_members_only

    def forget(self, store: Store, model: Model, account: int) -> None:
        store.accounts.remove(account, NOW_S)
        model.remove_account(account)

    def say(self, store: Store, model: Model, said: dict[int, Any], is_over: bool) -> None:
        changes = [Changes(store.dave, [store.run(b"not a room's")])]
        added: dict[int, list[Entry]] = {}
        for number, runs in said.items():
            made = [store.run(*texts, party=party) for party, texts in runs]
            changes.append(Changes(0, made, room=number, is_over=is_over))
            added[number] = [
                Entry(entry_id, run.time_ms, False, run.party, text)
                for run in made
                for entry_id, _, text in run.entries()
            ]
        written = store.logs.write(changes, BOUNDS, NOW_S)
        self.assertEqual(written.gone_rooms, {room for room in said if room not in model.rooms})
        for number in said.keys() & model.rooms.keys():
            kept = [*model.entries[number], *added[number]]
            freed_entries, freed_bytes = written.freed_rooms.get(number, (0, 0))
            # Whole chunks go, the oldest first, and not one more than has to.
            gone, model.entries[number] = kept[:freed_entries], kept[freed_entries:]
            gone_bytes = sum(len(entry.text) + entries.ENTRY_BYTES for entry in gone)
            # Between the texts of one run there is an LF.
            self.assertGreaterEqual(freed_bytes, gone_bytes)
            self.assertLessEqual(freed_bytes, gone_bytes + len(gone))
            if is_over:
                self.assertLessEqual(len(model.entries[number]), 19)
            if freed_entries:
                self.assertTrue(is_over)
                self.assertGreater(len(kept), 19)
                self.assertGreater(len(model.entries[number]), 19 - 5)

    def compare_history(self, store: Store, model: Model, data: st.DataObject, number: int) -> None:
        kept = model.entries[number] if number in model.rooms else []
        self.assertEqual(*draw_history(store, data, kept, room=number))
