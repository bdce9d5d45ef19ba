"""How the connections of an owned name read, one beside the other."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.mailbox.entries import Run
from chatrelay.store.logs import Logs
from tests.accounts_harness import SECRET, OwnedWorld
from tests.store_harness import ManualThreadpool, fault
from tests.test_naming import welcome

STALLED_S = Limits.stalled_s


class StalledTests(SynchronousTestCase):
    """Who takes nothing at all for a minute is cut off, and nobody before."""

    def test_time_in_which_nothing_was_written_does_not_count(self) -> None:
        world = OwnedWorld(self)
        desk = world.owner(b"alice")
        world.pass_time(3)
        bob = world.join(b"bob")
        world.pass_time(10 * STALLED_S)
        desk.stop_taking()
        bob.lines(b"%alice%hi")
        world.connect().send(b"/caps ack\nalice " + SECRET + b"\n")
        world.pass_time(STALLED_S - 5)
        self.assertTrue(desk.is_connected)
        world.pass_time(10)
        self.assertFalse(desk.is_connected)


class CaughtUpTests(SynchronousTestCase):
    """Whose input has ended is written what waited, whatever the others of the name wait for."""

    def test_beside_a_slow_one(self) -> None:
        world = OwnedWorld(self)
        desk = world.owner(b"alice")
        desk.stop_taking()
        phone = world.connect()
        phone.send(b"/caps ack\nalice " + SECRET + b"\n")
        bob = world.join(b"bob")
        for _ in range(80):
            bob.send(b"%alice%" + b"x" * 7000 + b"\n")
        self.assertGreater(desk.session.outbox.unsent_bytes, Limits.low_water_bytes)
        phone.reset()
        shell = world.connect()
        shell.write(b"alice " + SECRET + b"\n")
        shell.end()
        self.assertEqual(shell.raw().count(b"%bob%"), 80)
        self.assertFalse(shell.is_connected)
        self.assertTrue(desk.is_connected)

    def test_while_the_disk_fails(self) -> None:
        world = OwnedWorld(self)
        world.owner(b"alice").reset()
        world.join(b"bob").lines(b"%alice%hi")

        def failing(*_arguments: object) -> list[Run]:
            raise fault(sqlite3.SQLITE_IOERR)

        self.patch(Logs, "page", failing)
        shell = world.connect()
        shell.write(b"alice " + SECRET + b"\n")
        shell.end()
        self.assertEqual(shell.told(), [welcome("alice")])
        self.assertFalse(shell.is_connected)


class AckedLateTests(SynchronousTestCase):
    """The cap ``ack`` that is asked for while what waits is being read from the store."""

    def test_what_it_is_written_then_comes_again_and_says_so(self) -> None:
        storing = ManualThreadpool()
        world = OwnedWorld(self, storing=storing)
        world.add(b"alice")
        world.look()
        world.join(b"bob").send(b"%alice%hi\n")
        run_all(storing, world)
        alice = world.connect()
        alice.send(b"alice " + SECRET + b"\n")
        while b"!welcome" not in alice.raw():
            storing.run()
            world.settle()
        alice.send(b"/caps ack\n")
        run_all(storing, world)
        (_, first) = alice.told()
        self.assertRegex(first, rb"\A@id=\w+ %bob%hi\Z")
        again = world.restarted(is_killed=True).connect()
        again.send(b"/caps ack\nalice " + SECRET + b"\n")
        self.assertEqual(again.told()[2:], [first.replace(b" ", b";again ", 1)])

    def test_what_is_on_its_way_then_comes_again_and_says_so(self) -> None:
        for is_killed in (False, True):
            world = OwnedWorld(self)
            alice = world.owner(b"alice")
            alice.stop_taking()
            world.join(b"bob").lines(b"%alice%hi")
            alice.send(b"/caps ack\n")
            alice.take()
            self.assertEqual(alice.told(), [b"%bob%hi", b"!caps id ack"])
            if is_killed:
                world = world.restarted(is_killed=True)
            else:
                alice.reset()
            again = world.connect()
            again.send(b"/caps ack\nalice " + SECRET + b"\n")
            self.assertRegex(again.told()[-1], rb"\A@id=\w+;again %bob%hi\Z")

    def test_a_receipt_is_told_when_it_is_committed_just_after_another_came(self) -> None:
        storing = ManualThreadpool()
        world = OwnedWorld(self, storing=storing)
        world.add(b"alice")
        world.add(b"bob")
        world.look()
        bob, desk, phone = world.connect(), world.connect(), world.connect()
        bob.send(b"/caps ack\nbob " + SECRET + b"\n")
        desk.send(b"/caps receipts\nalice " + SECRET + b"\n")
        run_all(storing, world)
        desk.send(b"@ref=1 %bob%hi\n")
        run_all(storing, world)
        message_id = desk.told()[-1].rpartition(b"=")[2]
        carol = world.join(b"carol")
        phone.send(b"/caps ack\nalice " + SECRET + b"\n")
        storing.run()
        world.settle()
        # What carol writes is shown before either is committed, and phone comes between.
        bob.write(b"/ack " + message_id + b"\n")
        carol.write(b"%alice%x\n")
        run_all(storing, world)
        receipt = b"@ref=1 !acked bob id=" + message_id
        self.assertEqual(desk.told(), [b"%carol%x", receipt])


def run_all(storing: ManualThreadpool, world: OwnedWorld) -> None:
    """Let the store do everything, and all that follows from it."""
    world.settle()
    while storing.pending:
        storing.run()
        world.settle()


class MemoryTests(SynchronousTestCase):
    """What is noted of messages that wait for a connection does not outgrow them."""

    def test_short_ones(self) -> None:
        world = OwnedWorld(self)
        bob = world.owner(b"bob")
        world.pass_time(1)
        bob.stop_taking()
        alice = world.join(b"alice")
        for number in range(100):
            alice.send(b"@ref=%d %%bob%%x\n" % number)
        reading = bob.session.mailbox.reading
        (reader,) = reading.readers.values()
        self.assertLess(len(reader._marks), 5)
        self.assertEqual(len(reading._in_flight._headers), 1)
        bob.take()
        self.assertEqual((len(reader._marks), bool(reading._in_flight)), (0, False))
        self.assertEqual(bob.session.mailbox._unread.entries, 0)
