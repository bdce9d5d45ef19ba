"""Who is served in which turn, and when what was written is sent."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.outbox import Outbox
from chatrelay.protocol import WAITING_READ_BYTES
from chatrelay.session import Session
from chatrelay.sockets import MAX_READ_BYTES, PACED_READ_BYTES, READ_BYTES, set_read_size
from chatrelay.turn import Turn, Urgency
from tests.relay_harness import Client, World, what_is_left

LONG_S = 0.01


class Writer:
    """Somebody who is written to."""

    def __init__(self, log: list[str], name: str, joins: bool = False) -> None:
        self.log = log
        self.name = name
        self.joins = joins

    def send(self) -> bool:
        self.log.append(self.name)
        return self.joins


class TurnTests(SynchronousTestCase):
    """With a clock that stands still, but for who takes his time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.log: list[str] = []

    def pass_turn(self) -> list[str]:
        """Let one turn pass, and tell what happened in it."""
        calls, self.clock.calls = self.clock.calls, []
        self.log.clear()
        for call in calls:
            call.func(*call.args, **call.kw)
        return list(self.log)

    def writer(self, name: str, *, joins: bool = False) -> Writer:
        return Writer(self.log, name, joins)

    def long_work(self, name: str, *written: Writer) -> Callable[[], None]:
        def serve() -> None:
            self.log.append(name)
            self.clock.rightNow += LONG_S
            for writer in written:
                self.turn.add(writer, self.turn.urgency)

        return serve

    def read(self, *written: Writer) -> list[str]:
        """A short read, and what was sent at its end."""
        self.log.clear()
        self.turn.begin_read()
        for writer in written:
            self.turn.add(writer, self.turn.urgency)
        self.turn.end_read()
        return list(self.log)

    def test_what_is_written_is_sent_when_the_turn_ends(self) -> None:
        for name in "ab":
            self.turn.add(self.writer(name), Urgency.TURN)
        self.assertEqual(self.pass_turn(), ["a", "b"])
        self.assertEqual(self.pass_turn(), [])

    def test_who_waits_is_served_one_in_a_turn_if_it_takes_long(self) -> None:
        for name in "abc":
            self.turn.wait(self.long_work(name))
        self.assertEqual([self.pass_turn() for _ in range(4)], [["a"], ["b"], ["c"], []])

    def test_all_in_one_if_it_does_not(self) -> None:
        for name in "abc":
            self.turn.wait(lambda name=name: self.log.append(name))  # type: ignore[misc]
        self.assertEqual(self.pass_turn(), ["a", "b", "c"])

    def test_what_they_write_is_sent_when_all_have_been_served(self) -> None:
        x, y = self.writer("x"), self.writer("y")
        self.turn.wait(self.long_work("a", x))
        self.turn.wait(self.long_work("b", y))
        self.assertEqual([self.pass_turn() for _ in range(3)], [["a"], ["b"], ["x", "y"]])

    def test_who_waits_again_waits_for_the_next_round(self) -> None:
        x = self.writer("x")

        def serve() -> None:
            self.log.append("a")
            self.turn.add(x, Urgency.ROUND)
            self.turn.wait(self.long_work("a again"))
            self.clock.rightNow += LONG_S

        self.turn.wait(serve)
        self.turn.wait(self.long_work("b"))
        self.assertEqual([self.pass_turn() for _ in range(4)], [["a"], ["b"], ["x"], ["a again"]])

    def test_a_line_is_not_kept_waiting_by_them(self) -> None:
        x = self.writer("x")
        for name in "abc":
            self.turn.wait(self.long_work(name))
        self.pass_turn()
        self.turn.add(x, Urgency.TURN)
        self.assertEqual(self.pass_turn(), ["x", "b"])

    def test_what_is_written_is_urgent_but_for_those_who_wait(self) -> None:
        urgencies = []
        self.turn.wait(lambda: urgencies.append(self.turn.urgency))
        self.pass_turn()
        self.assertEqual([*urgencies, self.turn.urgency], [Urgency.ROUND, Urgency.TURN])

    def test_after_a_turn_with_nothing_to_join_short_reads_send_by_themselves(self) -> None:
        x, joining = self.writer("x"), self.writer("j", joins=True)
        self.assertEqual(self.read(x), [])
        self.assertEqual(self.pass_turn(), ["x"])
        self.assertEqual(self.read(x), ["x"])
        self.assertEqual(self.clock.calls, [])
        # Now and then one is left to its turn, which sees whether there is something to join.
        for _ in range(100):
            if not self.read(joining):
                break
        else:
            self.fail("no turn was ever waited for")
        self.assertEqual(self.pass_turn(), ["j"])
        for _ in range(3):
            self.assertEqual(self.read(joining), [])
            self.assertEqual(self.pass_turn(), ["j"])

    def test_what_is_written_to_many_is_left_to_the_turn(self) -> None:
        few = [self.writer(str(number)) for number in range(8)]
        self.read(*few)
        self.pass_turn()
        self.assertEqual(self.read(*few), [writer.name for writer in few])
        # Another read may have something for them, too.
        many = [*few, self.writer("one more")]
        self.assertEqual([self.read(*many), self.read(*few)], [[], []])
        self.assertEqual(self.pass_turn(), [writer.name for writer in [*many, *few]])

    def test_short_reads_that_take_all_they_may_have_it_together(self) -> None:
        shares = []
        for _ in range(4):
            began_s, share_s = self.clock.seconds(), self.turn.share_s(0.004)
            shares.append(share_s)
            self.turn.begin_read()
            self.clock.rightNow += share_s
            self.turn.wait(lambda: None)
            self.turn.end_read(began_s)
        self.assertEqual(shares, [0.004, *[0.004 / 16] * 3])
        self.pass_turn()
        self.assertEqual(self.turn.share_s(0.004), 0.004)

    def test_what_is_written_outside_of_a_read_is_left_to_the_turn(self) -> None:
        x = self.writer("x")
        self.read(x)
        self.pass_turn()
        self.turn.add(x, Urgency.TURN)
        self.assertEqual(self.read(x), [])
        self.assertEqual(self.pass_turn(), ["x", "x"])

    def test_who_can_not_send_keeps_nobody_from_it(self) -> None:
        class Broken(Writer):
            def send(self) -> bool:
                raise ZeroDivisionError

        self.turn.wait(self.long_work("a", Broken(self.log, ""), self.writer("x")))
        self.turn.add(Broken(self.log, ""), Urgency.TURN)
        self.turn.add(self.writer("y"), Urgency.TURN)
        self.assertEqual([self.pass_turn() for _ in range(2)], [["y", "a"], ["x"]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_who_waits_behind_one_that_fails_is_served(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        self.turn.wait(fail)
        self.turn.wait(self.long_work("b"))
        self.assertRaises(ZeroDivisionError, self.pass_turn)
        self.assertEqual([self.pass_turn(), self.turn.urgency], [["b"], Urgency.TURN])


class OutboxInTurnTests(SynchronousTestCase):
    """Of what is written in a round nothing is sent before, unless a line wants to be."""

    def setUp(self) -> None:
        self.world = World()
        self.bob = self.world.join(b"bob")
        session = self.world.factory.registry.find(b"bob")
        self.outbox: Outbox = session.outbox  # type: ignore[union-attr]

    def test_a_line_takes_along_what_waits_for_the_round(self) -> None:
        turn = self.world.factory.turn
        turn.urgency = Urgency.ROUND
        self.outbox.write(b"of a round\n")
        turn.urgency = Urgency.TURN
        self.outbox.write(b"of a turn\n")
        turn._send_written()
        self.world.turn()
        self.assertEqual(bytes(self.bob.raw()), b"of a round\nof a turn\n")

    def test_one_without_it_waits(self) -> None:
        turn = self.world.factory.turn
        turn.urgency = Urgency.ROUND
        self.outbox.write(b"of a round\n")
        turn.urgency = Urgency.TURN
        self.assertFalse(turn._send_written())
        self.assertEqual(self.outbox.unsent_bytes, 11)
        self.world.settle()
        self.assertEqual(bytes(self.bob.raw()), b"of a round\n")


class WaitingTests(SynchronousTestCase):
    """A client that sends much, and one that sends a line."""

    def setUp(self) -> None:
        self.world = World()
        self.bob = self.world.join(b"bob")
        self.alice = self.world.join(b"alice")

    def flood(self, size: int) -> Client:
        sender = self.world.join(b"sender%d" % size)
        lines = b"%bob%x\n" * (size // 7) + b"%bob%" + b"y" * (size % 7) + b"\n"
        sender.transport.protocol.dataReceived(lines)
        return sender

    def test_a_long_read_waits_and_is_read_no_further_until_it_is_served(self) -> None:
        sender = self.flood(WAITING_READ_BYTES)
        self.assertFalse(sender.transport.reading)
        self.assertEqual(self.bob.raw(), b"")
        self.world.settle()
        self.assertTrue(sender.transport.reading)
        self.assertEqual(self.bob.raw().count(b"\n"), WAITING_READ_BYTES // 7 + 1)

    def test_a_short_one_does_not(self) -> None:
        sender = self.flood(1000)
        self.assertTrue(sender.transport.reading)

    def test_a_line_of_another_goes_first(self) -> None:
        self.flood(WAITING_READ_BYTES)
        self.alice.transport.protocol.dataReceived(b"%bob%before\n")
        self.world.settle()
        self.assertTrue(self.bob.raw().startswith(b"%alice%before\n"))

    def test_what_was_read_is_served_though_its_client_is_gone_before_its_turn(self) -> None:
        self.flood(WAITING_READ_BYTES).transport.lose(ConnectionLost())
        self.world.settle()
        self.assertEqual(self.bob.raw().count(b"\n"), WAITING_READ_BYTES // 7 + 1)

    def test_in_turns_like_all_else(self) -> None:
        self.world = World(Limits(turn_s=0.0))
        self.alice, self.bob = self.world.join(b"alice"), self.world.join(b"bob")
        line = b"@a %bob%hi\n"
        count = WAITING_READ_BYTES // len(line) + 1
        sender = self.world.join(b"sender")
        sender.transport.protocol.dataReceived(line * count)
        sender.transport.lose(ConnectionLost())
        came = 0
        for _ in range(count):
            self.world.turn()
            newly = self.bob.raw().count(b"\n")
            self.assertLessEqual(newly, 1)
            came += newly
        self.world.settle()
        self.assertEqual(came + self.bob.raw().count(b"\n"), count)
        self.assertIsNone(self.world.relay.registry.find(b"sender"))
        for client in (self.alice, self.bob):
            client.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_but_not_of_one_that_is_held(self) -> None:
        sender = self.flood(WAITING_READ_BYTES)
        sender.transport.protocol.session.gate.hold("a test")
        sender.transport.lose(ConnectionLost())
        self.world.settle()
        self.assertEqual(self.bob.raw(), b"")

    def test_a_connection_that_is_gone_leaves_nothing_to_the_collector(self) -> None:
        sender = self.flood(WAITING_READ_BYTES)
        self.world.settle()
        transport = sender.transport
        collects = gc.isenabled()
        gc.disable()
        try:
            transport.lose(ConnectionLost())
            self.world.settle()
            # As Twisted's transports do.
            transport.protocol = None
            del sender
            kept = [
                one
                for one in gc.get_objects()
                if isinstance(one, Session) and one.relay is self.world.relay
            ]
            self.assertEqual(len(kept), len(self.world.relay.sessions))
        finally:
            if collects:
                gc.enable()


class ShareTests(SynchronousTestCase):
    """Work off the quick path, with a clock that goes on with each look at it."""

    def test_empty_lines_use_up_a_share_too(self) -> None:
        ticks = itertools.count()
        world = World(seconds=lambda: next(ticks) / 1000)
        sender = world.join(b"sender")
        sender.transport.pauses = 0
        sender.transport.protocol.dataReceived(b"\n" * 1000)
        self.assertEqual(sender.transport.pauses, 1)
        world.settle()
        self.assertGreater(sender.transport.pauses, 100)
        self.assertTrue(sender.transport.reading)


class BusyTests(SynchronousTestCase):
    """Many who send as fast as they can while others' lines take most of each turn."""

    def test_a_recipient_that_reads_is_not_slow(self) -> None:
        world = World(work_s=0.0005)
        bob = world.join(b"bob")
        senders = [world.join(b"sender%d" % number) for number in range(60)]
        lines = (b"%bob%" + b"x" * 94 + b"\n") * 640
        while world.clock.seconds() < 40 and bob.is_connected:
            for sender in senders:
                if not sender.transport.incoming:
                    sender.write(lines)
            world.turn()
            while bob.transport.do_write():
                pass
            bob.transport.taken.clear()
            world.clock.rightNow += 0.03
        self.assertTrue(bob.is_connected)
        served = [sender.transport.protocol.session.messages_in / 640 for sender in senders]
        # At a third of the processor's time that is eleven a second.
        self.assertGreater(min(served), 200)


class ReadSizeTests(SynchronousTestCase):
    """How much a read asks for."""

    def test_after_a_full_one_more(self) -> None:
        transport = FileDescriptor(MemoryReactor())
        for last_read_bytes, expected in [
            (1, READ_BYTES),
            (READ_BYTES - 1, READ_BYTES),
            (READ_BYTES, MAX_READ_BYTES),
            (READ_BYTES + 1, MAX_READ_BYTES),
            (MAX_READ_BYTES, MAX_READ_BYTES),
            (5, READ_BYTES),
            (READ_BYTES, MAX_READ_BYTES),
            (0, READ_BYTES),
        ]:
            set_read_size(transport, last_read_bytes)
            self.assertEqual(transport.bufferSize, expected)
            set_read_size(transport, last_read_bytes, is_paced=True)
            self.assertEqual(transport.bufferSize, PACED_READ_BYTES)

    def test_another_transport_is_left_alone(self) -> None:
        transport = object()
        set_read_size(transport, READ_BYTES)
