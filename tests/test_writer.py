"""Writing what has changed in all logs together: group commit, and who waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import StoreFailed
from chatrelay.flow import Gate
from chatrelay.limits import Limits
from chatrelay.mailbox.log import Bounds, Changes, Written
from chatrelay.mailbox.waiting import Batch
from chatrelay.mailbox.writer import Batches, Writer
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool, failing, let_fail
from tests.test_mailbox import stored_ids

BOUNDS = Bounds(10, 1000, keeps_read=True, keep_sent_s=1.0, keep_sent_entries=1)
WRITTEN = Written(set(), {}, 4096)


class Log:
    """A mailbox, as far as it is written: numbers that were added to it."""

    def __init__(self, account: int) -> None:
        self.account = account
        self.added: list[int] = []

    def take_batch(self) -> Any:
        taken, self.added = self.added, []
        return Batch(Changes(self.account, read_id=len(taken)), taken, [], [])  # type: ignore[arg-type]


class Store:
    """A store that does its jobs when a test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def read(self, job: Callable[[Any], Any]) -> Deferred[Any]:
        raise AssertionError(job)

    def write(self, _job: Callable[[Any], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.asked.append(deferred)
        return deferred


class Connection:
    """What a gate stops."""

    def __init__(self) -> None:
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


class WriterTests(SynchronousTestCase):
    """One commit at a time; what changes meanwhile is in the next one."""

    def setUp(self) -> None:
        self.store = Store()
        self.later: list[Callable[[], None]] = []
        self.told: list[tuple[list[tuple[int, list[int]]], object]] = []
        self.writer = Writer(
            self.store,
            lambda: BOUNDS,
            self.note,
            max_waiting_bytes=100_000,
            wall_clock=lambda: 0.0,
            call_later=self.later.append,
        )
        self.one, self.two = Log(1), Log(2)

    def note(self, batches: Batches, result: Written | Failure) -> None:
        taken = [(mailbox.account, list(batch.pending)) for mailbox, batch in batches]
        self.told.append((taken, result))  # type: ignore[arg-type]

    def change(self, log: Log, number: int, size_bytes: int = 1) -> None:
        log.added.append(number)
        self.writer.changed(log, size_bytes)  # type: ignore[arg-type]

    def turn(self) -> None:
        later, self.later[:] = list(self.later), []
        for call in later:
            call()

    def commit(self, result: object = WRITTEN) -> None:
        self.store.asked.pop(0).callback(result)

    def test_what_changes_in_one_turn_is_one_commit(self) -> None:
        for number in range(3):
            self.change(self.one, number)
            self.change(self.two, 10 + number)
        self.assertEqual(self.store.asked, [])
        self.turn()
        self.assertEqual(len(self.store.asked), 1)
        self.commit()
        self.assertEqual(self.told, [([(1, [0, 1, 2]), (2, [10, 11, 12])], WRITTEN)])
        self.turn()
        self.assertEqual(self.store.asked, [])

    def test_what_changes_while_one_is_written_is_the_next(self) -> None:
        self.change(self.one, 1)
        self.turn()
        for number in (2, 3):
            self.change(self.one, number)
            self.turn()
        self.assertEqual(len(self.store.asked), 1)
        order: list[int] = []
        self.store.asked[0].addBoth(lambda result: order.append(len(self.store.asked)) or result)
        self.commit()
        # It was given before anybody was told, so that the store has something to do.
        self.assertEqual(len(self.store.asked), 1)
        self.commit()
        self.assertEqual([taken for taken, _ in self.told], [[(1, [1])], [(1, [2, 3])]])

    def test_one_that_fails_leaves_the_next(self) -> None:
        self.change(self.one, 1)
        self.turn()
        self.change(self.one, 2)
        failure = Failure(StoreFailed())
        self.store.asked.pop(0).errback(failure)
        self.commit()
        self.assertEqual(self.told[0], ([(1, [1])], failure))
        self.assertEqual(self.told[1], ([(1, [2])], WRITTEN))

    def test_enough_for_a_commit_does_not_wait_for_the_end_of_the_turn(self) -> None:
        gate = Gate(Connection())
        self.change(self.one, 1, 20_000)
        self.writer.sent(gate)
        self.assertEqual(self.store.asked, [])
        self.change(self.one, 2, 20_000)
        self.writer.sent(gate)
        self.assertEqual(len(self.store.asked), 1)
        self.turn()
        self.assertEqual(len(self.store.asked), 1)

    def test_who_sends_is_held_while_too_much_waits(self) -> None:
        connections = [Connection(), Connection()]
        gates = [Gate(connection) for connection in connections]
        self.change(self.one, 1, 50_000)
        self.writer.sent(gates[0])
        # That is being written; and as much as may wait is waiting.
        self.change(self.one, 2, 100_000)
        self.writer.sent(gates[0])
        self.assertTrue(connections[0].is_read)
        self.change(self.one, 3, 1)
        self.writer.sent(gates[1])
        self.writer.sent(gates[1])
        self.assertTrue(connections[0].is_read)
        self.assertFalse(connections[1].is_read)
        self.commit()
        self.assertTrue(connections[1].is_read)
        self.commit()
        self.assertEqual(len(self.told), 2)

    def test_also_if_it_can_not_be_written(self) -> None:
        connection = Connection()
        gate = Gate(connection)
        for number in range(3):
            self.change(self.one, number, 150_000)
            self.writer.sent(gate)
        self.assertFalse(connection.is_read)
        self.store.asked.pop(0).errback(Failure(StoreFailed()))
        self.assertTrue(connection.is_read)

    def test_one_that_has_gone_is_not_released(self) -> None:
        connection = Connection()
        gate = Gate(connection)
        for number in range(3):
            self.change(self.one, number, 150_000)
            self.writer.sent(gate)
        gate.forget()
        self.commit()
        self.assertFalse(connection.is_read)

    def test_behind_what_has_changed(self) -> None:
        done: list[str] = []
        self.writer.when_written(lambda: done.append("at once"))
        self.assertEqual(done, ["at once"])
        self.change(self.one, 1)
        self.writer.when_written(lambda: done.append("behind 1"))
        # It is given to the store at once, so that what is asked of the store is behind it.
        self.assertEqual((len(self.store.asked), done[-1]), (1, "behind 1"))
        self.change(self.one, 2)
        self.writer.when_written(lambda: done.append("behind 2"))
        self.assertEqual(done[-1], "behind 1")
        self.commit()
        self.assertEqual((len(self.store.asked), done[-1]), (1, "behind 2"))

    def test_of_one_that_is_removed_nothing_is_written(self) -> None:
        self.change(self.one, 1)
        self.change(self.two, 2)
        self.writer.removed(self.one)  # type: ignore[arg-type]
        self.turn()
        self.commit()
        self.assertEqual([taken for taken, _ in self.told], [[(2, [2])]])

    def test_it_is_closed_when_everything_is_written(self) -> None:
        self.successResultOf(self.writer.close())
        self.change(self.one, 1)
        self.turn()
        self.change(self.one, 2)
        closed = self.writer.close()
        self.assertNoResult(closed)
        self.commit()
        self.assertNoResult(closed)
        self.commit()
        self.successResultOf(closed)

    def test_also_where_that_fails(self) -> None:
        self.change(self.one, 1)
        closed = self.writer.close()
        self.store.asked.pop(0).errback(Failure(StoreFailed()))
        self.successResultOf(closed)

    def test_an_error_in_telling_one_leaves_the_next(self) -> None:
        def fail(_batches: Batches, _result: object) -> None:
            raise ZeroDivisionError

        self.writer._told = fail
        self.change(self.one, 1)
        self.turn()
        self.commit()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.writer._told = self.note
        self.change(self.one, 2)
        self.turn()
        self.commit()
        self.assertEqual([taken for taken, _ in self.told], [[(1, [2])]])


class HeldTests(SynchronousTestCase):
    """Through a relay: who sends more than the disk takes is held, whatever way that goes."""

    def world_with(self, **limits: Any) -> OwnedWorld:
        world = OwnedWorld(self, Limits(**limits), storing=ManualThreadpool())
        world.settle_all()
        for name in (b"bob", b"carol"):
            world.add(name)
        for _ in range(2):
            world.pass_time(1)
            world.settle_all()
        return world

    def flood(self, client: Client, to: bytes, ref: bytes) -> int:
        """Send until the sender is held; returns how much was sent."""
        sent = 0
        while not client.session.gate.held:
            tags = [ref and ref % number for number in range(sent, sent + 20)]
            client.send(b"".join(b"%s%%%s%%%s\n" % (tag, to, b"x" * 1000) for tag in tags))
            sent += 20
            self.assertLess(sent, 1000, "it is never held")
        return sent

    def test_on_every_way(self) -> None:
        for to, is_here, sender in (
            (b"bob", False, b"alice"),
            (b"bob", True, b"alice"),
            (b"bob", False, b"carol"),
            (b"dave", True, b"carol"),
        ):
            for ref in (b"", b"@ref=%d ", b"@ref=%d;a=b "):
                world = self.world_with(max_unwritten_bytes=100_000)
                client = world.log_in(sender + b" " + SECRET if sender == b"carol" else sender)
                recipient = None
                if is_here:
                    recipient = world.log_in(to + b" " + SECRET if to == b"bob" else to)
                client.send(b"%" + to + b"%first\n")
                world.settle_all()
                client.told()
                sent = self.flood(client, to, ref)
                # Twice, where the sender has a log, too.
                self.assertGreater(sent, 50)
                self.assertLess(sent, 350)
                world.settle_all()
                self.assertFalse(client.session.gate.held)
                told = client.told()
                if recipient is not None:
                    self.assertEqual(len(recipient.told()), sent + 1)
                    self.assertEqual(len(told), sent if ref else 0)
                else:
                    self.assertEqual(len(stored_ids(told)), sent)
                self.assertEqual(len(world.storing.pending), 0)

    def test_others_are_not(self) -> None:
        world = self.world_with(max_unwritten_bytes=100_000)
        alice, dave, erin = (world.log_in(name) for name in (b"alice", b"dave", b"erin"))
        alice.send(b"%bob%first\n")
        world.settle_all()
        self.flood(alice, b"bob", b"")
        dave.send(b"%erin%hello\n")
        self.assertEqual(erin.told(), [b"%dave%hello"])
        self.assertFalse(dave.session.gate.held)

    def test_a_disk_that_fails_holds_nobody(self) -> None:
        let_fail(self)
        world = self.world_with(max_unwritten_bytes=100_000)
        alice = world.log_in(b"alice")
        alice.send(b"%bob%first\n")
        world.settle_all()
        alice.told()
        sent = self.flood(alice, b"bob", b"")
        with failing("INSERT INTO chunk", sqlite3.SQLITE_FULL):
            world.settle_all()
        told = alice.told()
        self.assertEqual(told.count(b"!error store-failed bob"), len(told))
        self.assertGreater(len(told), sent - 150)
        self.assertFalse(alice.session.gate.held)
        world.settle_all()
        alice.send(b"@ref=1 %bob%again\n")
        world.settle_all()
        self.assertEqual(len(stored_ids(alice.told()[-1:])), 1)
