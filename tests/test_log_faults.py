"""
The disk is full, read-only, slow, or has lost something; the clock jumps.  The relay says what is
wrong, refuses what it can not keep, keeps relaying to who is here, loses nothing that it
answered *stored*, and goes on when the fault is over (docs/reliability.rst).
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import ExitStack

from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import FILE_NAME
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool, failing, let_fail
from tests.test_mailbox import stored_ids

FULL, READ_ONLY = sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY
FAULTS = [
    (FULL, "the disk is full"),
    (READ_ONLY, "read-only"),
    (sqlite3.SQLITE_IOERR, "the disk reports an error"),
    (sqlite3.SQLITE_IOERR_FSYNC, "the disk reports an error"),
    (sqlite3.SQLITE_CORRUPT, "it is damaged"),
    (sqlite3.SQLITE_NOTADB, "no SQLite database"),
    (sqlite3.SQLITE_BUSY, "another process"),
]
# Where a commit may fail: before, within, and at its end.
STATEMENTS = ("BEGIN IMMEDIATE", "SAVEPOINT", "INSERT INTO chunk", "RELEASE", "COMMIT")
REFUSED = b"!error store-failed "


class FaultCase(SynchronousTestCase):
    """bob is away, carol here, dave here with ack; alice owns no name."""

    def setUp(self) -> None:
        let_fail(self)
        self.refs = 1000
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.begin(OwnedWorld(self))

    def begin(self, world: OwnedWorld) -> None:
        self.world = world
        world.owner(b"bob").end()
        self.carol = world.owner(b"carol")
        self.dave = world.owner(b"dave")
        self.dave.lines(b"/caps ack")
        self.alice = world.join(b"alice")
        # So that it is known what is in their logs.
        self.alice.lines(b"%bob%first", b"%dave%first")
        self.dave.lines(b"/ack " + self.last_id(self.dave))
        self.said()

    def last_id(self, client: Client) -> bytes:
        return client.told()[-1].split(b" ")[0].split(b";")[0].removeprefix(b"@id=")

    def said(self) -> list[str]:
        """What the operator was told of errors since this was last asked."""
        events, self.events[:] = list(self.events), []
        return [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]

    def bob_reads(self) -> list[bytes]:
        bob = self.world.log_in(b"bob " + SECRET)
        told = bob.told()
        bob.end()
        return told

    def check_live(self) -> None:
        """Everything that needs no disk goes on."""
        self.refs += 2
        one, two = b"@ref=%d " % (self.refs - 1), b"@ref=%d " % self.refs
        told = self.alice.lines(one + b"%alice%self", b"%carol%x", b"@a=b %carol%y")
        self.assertEqual(told, [b"%alice%self", one + b"!sent alice"])
        self.assertEqual(self.alice.lines(two + b"%carol%z"), [two + b"!sent carol"])
        self.assertEqual(self.carol.told(), [b"%alice%x", b"%alice%y", b"%alice%z"])
        self.assertEqual(self.carol.lines(b"%alice%hi", b"/ping"), [b"!pong"])
        self.assertEqual(self.alice.told(), [b"%carol%hi"])

    def check_refused(self) -> None:
        """What would have to be kept is refused, each time, and reaches nobody."""
        for name in (b"bob", b"dave"):
            for line in (b"%NAME%lost", b"@ref=7 %NAME%lost", b"@ref=7;a=b %NAME%lost"):
                told = self.alice.lines(line.replace(b"NAME", name))
                ref = b"@ref=7 " if line.startswith(b"@ref") else b""
                self.assertEqual(told, [ref + REFUSED + name], line)
        self.assertEqual(self.dave.told(), [])


class DiskFaultTests(FaultCase):
    """Every fault of the disk, wherever in a commit it comes."""

    def test_each_fault_at_each_statement(self) -> None:
        for statement in STATEMENTS:
            for code, words in FAULTS:
                with failing(statement, code):
                    self.check_refused()
                    self.check_live()
                    [line, *others] = self.said()
                    # One line, and not one for each.
                    self.assertIn(words, line, statement)
                    self.assertEqual(others, [], statement)
                # It is over, and nothing else is needed.
                [kept] = stored_ids(self.alice.lines(b"@ref=7 %bob%" + statement.encode()))
                self.assertEqual(
                    self.bob_reads()[-1:], [b"%alice%" + statement.encode()], (statement, words)
                )
                self.assertGreater(kept, 0)
                # Each is told once a minute.
                self.world.pass_time(60)
                self.alice.lines(b"%dave%again")
                self.dave.lines(b"/ack " + self.last_id(self.dave))
                self.world.pass_time(541)
        self.assertNotIn(b"%alice%lost", self.bob_reads())
        self.flushLoggedErrors()

    def test_what_was_stored_before_is_there(self) -> None:
        ids = stored_ids(self.alice.lines(b"%bob%1", b"@ref=1 %bob%2"))
        with failing("COMMIT", FULL):
            self.check_refused()
            self.world.kill()
        self.world = self.world.restarted(is_killed=True)
        self.alice = self.world.join(b"alice")
        [later] = stored_ids(self.alice.lines(b"%bob%3"))
        self.assertGreater(later, max(ids))
        self.assertEqual(self.bob_reads(), [b"%alice%first", b"%alice%1", b"%alice%2", b"%alice%3"])

    def test_an_ack_that_could_not_be_kept_yet(self) -> None:
        self.alice.lines(b"/caps receipts")
        [number] = stored_ids(self.alice.lines(b"@ref=1 %dave%x"))
        self.dave.told()
        receipt = b"@ref=1 !acked dave id=%x" % number
        with failing("COMMIT", FULL):
            told = self.dave.lines(b"@ref=2 /ack %x" % number)
            self.assertEqual(told, [b"@ref=2 !error store-failed dave"])
            self.world.pass_time(3)
            # Nobody is told of what is not on the disk.
            self.assertEqual(self.alice.told(), [])
        self.world.pass_time(1)
        self.assertEqual(self.alice.told(), [receipt])
        self.assertEqual(self.dave.lines(b"/ack %x" % number), [b"!acked %x" % number])

    def test_an_ack_that_was_not_kept_when_the_relay_died(self) -> None:
        [number] = stored_ids(self.alice.lines(b"%dave%x"))
        self.dave.told()
        with failing("COMMIT", FULL):
            self.dave.lines(b"/ack %x" % number)
            self.world.kill()
        self.world = self.world.restarted(is_killed=True)
        dave = self.world.log_in(b"dave " + SECRET, caps=b"ack")
        self.assertEqual(dave.told(), [b"@id=%x;again %%alice%%x" % number])

    def test_what_was_read_meanwhile_is_read(self) -> None:
        bob = self.world.log_in(b"bob " + SECRET)
        self.assertEqual(bob.told(), [b"%alice%first"])
        with failing("COMMIT", FULL):
            self.assertEqual(self.alice.lines(b"%bob%live"), [])
            self.assertEqual(bob.told(), [b"%alice%live"])
            self.world.pass_time(3)
        # The next second is another attempt.
        self.world.pass_time(2)
        self.world = self.world.restarted(is_killed=True)
        self.assertEqual(self.bob_reads(), [])

    def test_what_was_live_while_it_failed_is_not_in_the_history(self) -> None:
        self.alice.lines(b"%carol%1")
        with failing("COMMIT", FULL):
            self.alice.lines(b"%carol%2")
            self.assertEqual(self.carol.told(), [b"%alice%1", b"%alice%2"])
            self.assertEqual(self.carol.lines(b"/history"), [b"!error store-failed"])
        self.alice.lines(b"%carol%3")
        self.carol.told()
        told = [line.partition(b" ")[2] for line in self.carol.lines(b"/history")[1:-1]]
        self.assertEqual(told, [b"%alice%1", b"%alice%3"])

    def test_a_page_that_could_not_be_read_comes_before_what_is_newer(self) -> None:
        self.alice.lines(b"%bob%1", b"%bob%2")
        with failing("SELECT data", sqlite3.SQLITE_IOERR):
            bob = self.world.log_in(b"bob " + SECRET, caps=b"id")
            self.assertEqual(bob.told(), [])
            [number] = stored_ids(self.alice.lines(b"%bob%3"))
            self.assertEqual(bob.told(), [])
            self.world.pass_time(3)
            self.assertEqual(bob.told(), [])
        self.world.pass_time(1)
        texts = [line.rpartition(b"%")[2] for line in bob.told()]
        self.assertEqual(texts, [b"first", b"1", b"2", b"3"])
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%4"), [b"@ref=1 !sent bob"])
        self.assertGreater(number, 0)

    def test_with_ack_what_could_not_be_noted_as_offered_is_not_offered(self) -> None:
        self.alice.lines(b"%bob%1")
        with failing("INSERT INTO mailbox", FULL):
            bob = self.world.log_in(b"bob " + SECRET, caps=b"ack")
            self.assertEqual(bob.told(), [])
        self.world.pass_time(1)
        self.assertEqual([line.rpartition(b"%")[2] for line in bob.told()], [b"first", b"1"])

    def test_one_that_ends_its_input_does_not_wait_for_the_disk(self) -> None:
        self.alice.lines(b"%bob%1")
        bob = self.world.connect()
        bob.write(b"bob " + SECRET + b"\n")
        with failing("SELECT data", sqlite3.SQLITE_IOERR):
            bob.end()
            self.assertFalse(bob.is_connected)
        self.assertEqual(len(bob.told()), 1)
        self.assertEqual(self.bob_reads(), [b"%alice%first", b"%alice%1"])

    def test_a_log_that_was_not_looked_at_yet(self) -> None:
        self.world = self.world.restarted()
        alice = self.world.join(b"alice")
        erin = self.world.join(b"erin")
        with failing("SELECT coalesce(sum(entries)", sqlite3.SQLITE_IOERR):
            told = alice.lines(b"@ref=1 %bob,erin,nobody%x", b"%bob%y", b"@ref=2 %bob%z")
            self.assertEqual(
                told,
                [
                    b"@ref=1 !error store-failed bob",
                    b"@ref=1 !sent erin",
                    b"@ref=1 !error unknown-name nobody",
                    b"!error store-failed bob",
                    b"@ref=2 !error store-failed bob",
                ],
            )
            self.assertEqual(erin.told(), [b"%alice%x"])
        self.assertEqual(len(stored_ids(alice.lines(b"@ref=2 %bob%z"))), 1)
        self.assertEqual(self.bob_reads(), [b"%alice%first", b"%alice%z"])

    def test_a_disk_that_is_really_full(self) -> None:
        def fill(accounts: Accounts) -> None:
            connection = accounts._connection
            [(pages,)] = connection.execute("PRAGMA page_count")
            connection.execute(f"PRAGMA max_page_count = {pages}")

        def free(accounts: Accounts) -> None:
            accounts._connection.execute("PRAGMA max_page_count = 1000000")

        self.world.in_store(fill)
        kept, refused = [], []
        for number in range(50):
            text = b"%d" % number + b"x" * 1000
            [told] = self.alice.lines(b"%bob%" + text)
            (refused if REFUSED in told else kept).append(text)
        self.assertGreater(len(refused), 20)
        self.check_live()
        self.assertIn("the disk is full", self.said()[0])
        self.world.in_store(free)
        self.assertEqual(len(stored_ids(self.alice.lines(b"%bob%last"))), 1)
        self.assertEqual(
            self.bob_reads(), [b"%alice%" + text for text in [b"first", *kept, b"last"]]
        )


class DamagedFileTests(FaultCase):
    """Something of the file is lost, or another one."""

    def close_and_open(self) -> OwnedWorld:
        """A relay that has nothing of the file in memory."""
        self.world = self.world.restarted()
        self.alice = self.world.join(b"alice")
        self.carol = self.world.owner(b"carol")
        return self.world

    def test_truncated_under_the_relay_and_put_right(self) -> None:
        for number in range(100):
            self.alice.lines(b"%%bob%%%d" % number + b"-" * 900)
        world = self.close_and_open()
        path = world.directory / FILE_NAME
        whole = path.read_bytes()
        self.said()
        for size in (len(whole) // 2, 8192, 100, 0):
            with path.open("r+b") as file:
                file.truncate(size)
            [told] = self.alice.lines(b"@ref=%d %%bob%%lost" % size)
            self.assertEqual(told, b"@ref=%d !error store-failed bob" % size)
            self.check_live()
            self.assertTrue(self.said(), size)
            with path.open("r+b") as file:
                file.write(whole)
            world.pass_time(60)
        self.assertEqual(len(stored_ids(self.alice.lines(b"@ref=1 %bob%last"))), 1)
        texts = [line.rpartition(b"%")[2].rstrip(b"-") for line in self.bob_reads()]
        self.assertEqual(texts, [b"first", *(b"%d" % number for number in range(100)), b"last"])
        self.flushLoggedErrors()

    def test_removed_under_the_relay_and_put_back(self) -> None:
        path = self.world.directory / FILE_NAME
        away = path.with_name("away")
        path.rename(away)
        self.check_refused()
        self.check_live()
        self.assertIn("removed or replaced", self.said()[0])
        away.rename(path)
        self.assertEqual(len(stored_ids(self.alice.lines(b"@ref=7 %bob%x"))), 1)
        self.assertEqual(self.bob_reads(), [b"%alice%first", b"%alice%x"])

    def damage(self, name: bytes) -> tuple[bytes, int]:
        """Damage the oldest chunk of a log, and return what it was."""
        account = self.world.account(name)
        assert account is not None

        def job(accounts: Accounts) -> tuple[bytes, int]:
            rows = accounts.logs._rows
            [(data, number)] = rows(
                "SELECT data, number FROM chunk WHERE account = ? ORDER BY number LIMIT 1",
                account.number,
            )
            rows("UPDATE chunk SET data = substr(data, 1, 12) WHERE number = ?", number)
            return data, number

        data, number = self.world.in_store(job)
        return data, number

    def repair(self, chunk: tuple[bytes, int]) -> None:
        self.world.in_store(
            lambda accounts: accounts.logs._rows(
                "UPDATE chunk SET data = ? WHERE number = ?", *chunk
            )
        )

    def test_a_damaged_log_is_not_given_out_in_part(self) -> None:
        chunk = self.damage(b"bob")
        world = self.close_and_open()
        self.said()
        # Nobody is told that something is in a log that nobody can read.
        self.assertEqual(
            self.alice.lines(b"@ref=1 %bob,carol%x"),
            [b"@ref=1 !error store-failed bob", b"@ref=1 !sent carol"],
        )
        self.assertEqual(self.carol.told(), [b"%alice%x"])
        [told] = world.connect().lines(b"bob " + SECRET)
        self.assertTrue(told.startswith(b"!error store-failed"), told)
        self.check_live()
        [line, *_] = self.said()
        self.assertIn("damaged", line)
        self.assertIn("backup", line)
        self.repair(chunk)
        self.assertEqual(len(stored_ids(self.alice.lines(b"@ref=1 %bob%x"))), 1)
        self.assertEqual(self.bob_reads(), [b"%alice%first", b"%alice%x"])

    def test_where_only_the_history_is_damaged_messages_go_on(self) -> None:
        self.alice.lines(b"%carol%0")
        self.alice.lines(b"%carol%1")
        self.carol.told()
        self.damage(b"carol")
        # What is younger is looked at for refs when its owner comes.
        self.world.pass_time(601)
        world = self.close_and_open()
        self.assertEqual(self.carol.lines(b"/history"), [b"!error store-failed"])
        self.check_live()
        self.carol.end()
        stored_ids(self.alice.lines(b"%carol%2"))
        carol = world.log_in(b"carol " + SECRET)
        self.assertEqual(carol.told(), [b"%alice%2"])


class SlowDiskTests(SynchronousTestCase):
    """The disk takes its time: half a minute for each batch."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self, storing=ManualThreadpool())
        self.world.settle_all()
        for name in (b"bob", b"carol"):
            self.world.add(name)
        for _ in range(2):
            self.world.pass_time(1)
            self.world.settle_all()
        self.carol = self.world.log_in(b"carol " + SECRET)
        self.alice = self.world.log_in(b"alice")
        self.alice.send(b"%bob%first\n")
        self.world.settle_all()
        self.alice.told()

    def run_one(self) -> None:
        """The disk has done what it was given first."""
        self.world.storing.run()
        self.world.settle()

    def test_nobody_waits_who_needs_no_disk(self) -> None:
        self.alice.send(b"@ref=1 %bob%1\n%bob%2\n")
        for number in range(30):
            self.world.pass_time(1)
            self.assertEqual(self.alice.lines(b"/ping", b"%carol%x"), [b"!pong"])
            self.assertEqual(self.carol.told(), [b"%alice%x"])
            ref = b"@ref=%d " % number
            self.assertEqual(self.carol.lines(ref + b"%alice%x"), [ref + b"!sent alice"])
            self.assertEqual(self.alice.told(), [b"%carol%x"])
        self.world.settle_all()
        self.assertEqual(len(stored_ids(self.alice.told())), 2)
        self.assertEqual(
            self.world.log_in(b"bob " + SECRET).told(),
            [b"%alice%first", b"%alice%1", b"%alice%2"],
        )

    def test_one_batch_after_another(self) -> None:
        answered = []
        for number in range(12):
            self.alice.send(b"@ref=%d %%bob%%%d\n" % (number, number))
            self.world.pass_time(1)
            if number % 4 == 3:
                self.run_one()
            answered += self.alice.told()
        self.world.settle_all()
        answered += self.alice.told()
        self.assertEqual(
            [line.split(b" ")[0] for line in answered], [b"@ref=%d" % n for n in range(12)]
        )
        ids = stored_ids(answered)
        self.assertEqual(ids, sorted(set(ids)))
        texts = [line.rpartition(b"%")[2] for line in self.world.log_in(b"bob " + SECRET).told()]
        self.assertEqual(texts, [b"first", *(b"%d" % number for number in range(12))])

    def test_who_comes_back_waits_and_nothing_overtakes(self) -> None:
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        sent = 0
        while self.world.storing.pending:
            self.alice.send(b"@ref=%d %%bob%%%d\n" % (sent, sent))
            sent += 1
            self.world.pass_time(1)
            self.run_one()
            if sent > 20:
                break
        self.world.settle_all()
        texts = [line.rpartition(b"%")[2] for line in bob.told()[1:]]
        self.assertEqual(texts, [b"first", *(b"%d" % number for number in range(sent))])
        told = self.alice.told()
        self.assertEqual(len(told), sent)
        self.assertEqual({line.split(b" ")[1] for line in told} - {b"!stored", b"!sent"}, set())

    def test_it_dies_while_it_writes(self) -> None:
        self.alice.send(b"@ref=1 %bob%1\n")
        self.run_one()
        self.alice.send(b"@ref=2 %bob%2\n")
        answers = self.alice.told()
        self.assertEqual(len(stored_ids(answers)), 1)
        after = self.world.restarted(is_killed=True)
        told = after.log_in(b"bob " + SECRET).told()
        self.assertEqual(told, [b"%alice%first", b"%alice%1"])


class ClockTests(SynchronousTestCase):
    """The wall clock jumps back an hour, in a running relay or between two."""

    def jump(self, world: OwnedWorld, *, restarts: bool, seconds: float = -3600.0) -> OwnedWorld:
        world.epoch_s += seconds
        return world.restarted(is_killed=True) if restarts else world

    def test_order_and_ids(self) -> None:
        for restarts in (False, True):
            world = OwnedWorld(self)
            world.owner(b"bob").end()
            carol = world.owner(b"carol")
            ids = stored_ids(carol.lines(b"@ref=1 %bob%1", b"%bob%2"))
            world = self.jump(world, restarts=restarts)
            if restarts:
                carol = world.owner(b"carol")
            ids += stored_ids(carol.lines(b"@ref=3 %bob%3"))
            self.assertEqual(ids, sorted(set(ids)))
            # Asking again is as safe as before.
            self.assertEqual(stored_ids(carol.lines(b"@ref=1 %bob%1")), ids[:1])
            world.pass_time(130)
            bob = world.log_in(b"bob " + SECRET, caps=b"id")
            self.assertEqual(
                bob.told(), [b"@id=%x %%carol%%%d" % (number, n) for n, number in enumerate(ids, 1)]
            )
            history = bob.lines(b"/history carol")[1:-1]
            self.assertEqual([line[-1:] for line in history], [b"1", b"2", b"3"])
            after = bob.lines(b"/history after=%x" % ids[0])[1:-1]
            self.assertEqual([line[-1:] for line in after], [b"2", b"3"])
            # The time is what the clock shows.
            self.assertIn(b"time=2026-09-21T14:13:20", history[0])
            self.assertIn(b"time=2026-09-21T13:13:2", history[2])

    def test_nothing_is_given_up_for_it(self) -> None:
        limits = Limits(history_s=1800.0, unread_lifetime_s=1800.0)
        for restarts in (False, True):
            world = OwnedWorld(self, limits)
            world.owner(b"bob").end()
            alice = world.join(b"alice")
            stored_ids(alice.lines(b"%bob%1"))
            world = self.jump(world, restarts=restarts)
            alice = world.join(b"anna")
            stored_ids(alice.lines(b"%bob%2"))
            world.pass_time(121)
            texts = [line[-1:] for line in world.log_in(b"bob " + SECRET).told()]
            self.assertEqual(texts, [b"1", b"2"], restarts)

    def test_cursor_and_acks(self) -> None:
        world = OwnedWorld(self)
        bob = world.owner(b"bob")
        bob.lines(b"/caps ack")
        alice = world.join(b"alice")
        [one] = stored_ids(alice.lines(b"%bob%1"))
        bob.lines(b"/ack %x" % one)
        world = self.jump(world, restarts=True)
        bob = world.log_in(b"bob " + SECRET, caps=b"ack")
        self.assertEqual(bob.told(), [])
        [two] = stored_ids(world.join(b"alice").lines(b"%bob%2"))
        self.assertEqual(bob.told(), [b"@id=%x %%alice%%2" % two])
        world = self.jump(world, restarts=True)
        bob = world.log_in(b"bob " + SECRET, caps=b"ack")
        self.assertEqual(bob.told(), [b"@id=%x;again %%alice%%2" % two])

    def test_refs_live_as_long_as_they_should(self) -> None:
        for restarts in (False, True):
            world = OwnedWorld(self)
            world.owner(b"bob").end()
            carol = world.owner(b"carol")
            [first] = stored_ids(carol.lines(b"@ref=1 %bob%x"))
            world = self.jump(world, restarts=restarts)
            if restarts:
                carol = world.owner(b"carol")
            world.pass_time(590)
            self.assertEqual(stored_ids(carol.lines(b"@ref=1 %bob%x")), [first])
            # By a clock that never jumps.
            world.pass_time(11)
            self.assertNotEqual(stored_ids(carol.lines(b"@ref=1 %bob%x")), [first])


class AnyFaultTests(SynchronousTestCase):
    """Faults come and go at random while messages are sent and read; each seed is one history."""

    def test_nothing_stored_is_lost_nothing_refused_is_delivered(self) -> None:
        let_fail(self)
        for seed in range(25):
            self.check(random.Random(seed), seed)
        self.flushLoggedErrors()

    def check(self, chance: random.Random, seed: int) -> None:
        world = OwnedWorld(self)
        acks = chance.random() < 0.5
        world.owner(b"bob").end()
        alice = world.owner(b"alice")
        stored: list[bytes] = []
        sent: list[bytes] = []
        refused: set[bytes] = set()
        came: list[bytes] = []
        bob: Client | None = None

        def read() -> None:
            if bob is None:
                return
            last = b""
            for line in bob.told():
                if b"%alice%" not in line:
                    continue
                tags, _, rest = line.rpartition(b"%alice%")
                if b";again" not in tags or rest not in came:
                    came.append(rest)
                last = tags.split(b" ")[0].split(b";")[0].removeprefix(b"@id=")
            if last and acks and chance.random() < 0.7:
                bob.lines(b"/ack " + last)

        with ExitStack() as faults:
            for step in range(60):
                what = chance.random()
                if what < 0.55:
                    text = b"%d" % step
                    ref = b"@ref=%d" % step
                    [told] = [
                        one for one in alice.lines(ref + b" %bob%" + text) if one.startswith(ref)
                    ]
                    if b"!stored" in told:
                        stored.append(text)
                    elif b"!sent" in told:
                        sent.append(text)
                    else:
                        refused.add(text)
                elif what < 0.65:
                    faults.close()
                    statement = chance.choice([*STATEMENTS, "SELECT data", "INSERT INTO mailbox"])
                    faults.enter_context(failing(statement, chance.choice(FAULTS)[0]))
                elif what < 0.78:
                    faults.close()
                elif what < 0.88 and bob is None:
                    client = world.connect()
                    client.send((b"/caps ack\n" if acks else b"") + b"bob " + SECRET + b"\n")
                    bob = client if client.session is not None and client.session.is_named else None
                elif what < 0.93 and bob is not None:
                    read()
                    bob.reset()
                    bob = None
                else:
                    world.pass_time(1)
                read()
            faults.close()
        if bob is not None:
            read()
            bob.reset()
        world.pass_time(2)
        bob = world.log_in(b"bob " + SECRET, caps=b"ack" if acks else b"none")
        read()
        self.assertEqual(set(came) & refused, set(), seed)
        self.assertEqual(sorted(came, key=int), came, seed)
        self.assertEqual(len(set(came)), len(came), seed)
        self.assertEqual(set(stored) - set(came), set(), seed)
        self.assertEqual(set(sent) - set(came), set(), seed)
