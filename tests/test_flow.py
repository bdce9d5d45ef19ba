"""Back-pressure: docs/protocol.rst, *Flow*."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.flow import Backlog, Flow, Gate, Reason, Slowness
from chatrelay.limits import KIB, MIB, Limits
from chatrelay.outbox import Outbox
from tests.relay_harness import Client, World, what_is_left

TEXT = b"x" * 1000
MARK = Limits.high_water_bytes
RATE = Limits.slow_bytes_per_s


class Connection:
    """A connection that only notes whether it is read."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class GateTests(SynchronousTestCase):
    """A connection is read only while nothing holds it."""

    def test_holders(self) -> None:
        connection = Connection()
        gate = Gate(connection)
        self.assertFalse(gate.held)
        self.assertTrue(gate.hold(Reason.DECISION))
        self.assertFalse(gate.hold(Reason.DECISION))
        self.assertTrue(gate.hold("another"))
        self.assertEqual(connection.calls, ["pause"])
        gate.release(Reason.DECISION)
        self.assertTrue(gate.held)
        gate.release(Reason.DECISION)
        gate.release("another")
        self.assertFalse(gate.held)
        self.assertEqual(connection.calls, ["pause", "resume"])

    def test_releasing_what_does_not_hold_does_nothing(self) -> None:
        connection = Connection()
        gate = Gate(connection)
        gate.release("another")
        gate.forget()
        self.assertEqual(connection.calls, [])

    def test_what_is_forgotten_is_never_resumed(self) -> None:
        connection = Connection()
        gate = Gate(connection)
        gate.hold("another")
        gate.forget()
        gate.release("another")
        self.assertEqual(connection.calls, ["pause"])

    def test_slowness_is_what_the_window_has(self) -> None:
        slowness = Slowness(60.0)
        for now_s, seconds, total in [(0, 1, 1), (30, 1, 2), (59, 1, 3), (60, 1, 3), (119, 1, 2)]:
            self.assertEqual(slowness.add(now_s, seconds), total, now_s)


class MarkTests(SynchronousTestCase):
    """Over its high-water mark a recipient holds those who send to it, until below half."""

    def setUp(self) -> None:
        self.world = World()
        self.alice, self.bob = self.world.join(b"alice"), self.world.join(b"bob")
        self.carol = self.world.join(b"carol")

    def send(self, client: Client, to: bytes, size: int) -> None:
        client.send((b"%" + to + b"%" + TEXT + b"\n") * (size // len(TEXT)))

    def test_the_defaults(self) -> None:
        limits = Limits()
        self.assertEqual((limits.high_water_bytes, limits.low_water_bytes), (MIB, MIB // 2))
        self.assertEqual((limits.slow_bytes_per_s, limits.slow_s), (64 * KIB, 10))
        self.assertEqual((limits.slow_window_s, limits.max_unsent_bytes), (60, 512 * MIB))

    def test_below_the_mark_nobody_is_held(self) -> None:
        self.bob.stop_taking()
        self.send(self.alice, b"bob", MARK - 100_000)
        self.assertLess(self.bob.session.outbox.unsent_bytes, MARK)
        self.assertTrue(self.alice.transport.reading)

    def test_over_the_mark_its_senders_are_and_others_are_not(self) -> None:
        self.bob.stop_taking()
        self.send(self.alice, b"bob", 2 * MARK)
        self.assertFalse(self.alice.transport.reading)
        self.assertTrue(self.carol.transport.reading)
        self.assertEqual(self.carol.lines(b"%carol%hi", b"%alice%hi"), [b"%carol%hi"])
        self.assertEqual(self.alice.told(), [b"%carol%hi"])
        # At most a read more than the mark.
        self.assertLess(self.bob.session.outbox.unsent_bytes, MARK + 70 * KIB)
        self.carol.send(b"%bob%one more\n")
        self.assertFalse(self.carol.transport.reading)

    def test_below_half_the_mark_they_go_on_and_nothing_is_lost(self) -> None:
        count = 3 * MARK // len(TEXT)
        self.bob.stop_taking()
        self.send(self.alice, b"bob", 3 * MARK)
        self.carol.send(b"%bob%carol\n")
        unsent = self.bob.session.outbox.unsent_bytes
        self.bob.transport.room = unsent - MARK // 2 - 200 * KIB
        self.world.settle()
        self.assertFalse(self.carol.transport.reading)
        self.bob.transport.room = 400 * KIB
        self.world.turn()
        self.world.settle()
        self.assertTrue(self.carol.transport.reading)
        self.bob.take()
        self.assertTrue(self.alice.transport.reading)
        told = self.bob.told()
        self.assertEqual(told.count(b"%alice%" + TEXT), count)
        self.assertEqual(told.count(b"%carol%carol"), 1)
        self.assertEqual(self.world.relay.flow.unsent_bytes, 0)

    def test_off_the_quick_path_too(self) -> None:
        self.bob.stop_taking()
        line = b"@ref=%d %%bob,BOB%%" + TEXT + b"\n"
        self.alice.send(b"".join(line % number for number in range(3000)))
        self.assertFalse(self.alice.transport.reading)
        self.assertLess(self.bob.session.outbox.unsent_bytes, MARK + 2 * len(TEXT))
        self.bob.take()
        self.assertEqual(len(self.bob.told()), 3000)
        self.assertEqual(len(self.alice.told()), 3000)

    def test_a_recipient_that_leaves_holds_nobody(self) -> None:
        for leave in (Client.reset, lambda client: client.session.close("by a test")):
            bob = self.world.join(b"slow")
            bob.stop_taking()
            self.send(self.alice, b"slow", 2 * MARK)
            self.assertFalse(self.alice.transport.reading)
            leave(bob)
            self.world.settle()
            self.assertTrue(self.alice.transport.reading)
            self.assertIn(b"!error unknown-name slow", self.alice.told())
            self.world.pass_time(6)
        self.assertEqual(self.world.relay.flow.unsent_bytes, 0)

    def test_a_sender_that_leaves_while_it_is_held(self) -> None:
        self.bob.stop_taking()
        self.send(self.alice, b"bob", 2 * MARK)
        self.alice.reset()
        self.assertEqual(self.bob.session.outbox.held_gates, set())
        for client in (self.bob, self.carol):
            client.take()
            client.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_ones_own_answers_over_the_mark(self) -> None:
        self.alice.stop_taking()
        self.alice.send(b"/ping " + b"x" * 8000 + b"\n")
        for _ in range(400):
            self.alice.send(b"/ping " + b"x" * 8000 + b"\n")
        self.assertFalse(self.alice.transport.reading)
        self.assertLess(self.alice.session.outbox.unsent_bytes, MARK + 10_000)
        self.alice.take()
        self.assertEqual(len(self.alice.told()), 401)

    def test_to_oneself(self) -> None:
        self.alice.stop_taking()
        self.send(self.alice, b"alice", 2 * MARK)
        self.assertFalse(self.alice.transport.reading)
        self.alice.take()
        self.assertEqual(len(self.alice.told()), 2 * MARK // len(TEXT))

    def test_two_that_hold_each_other_go_on_when_they_read(self) -> None:
        for client in (self.alice, self.bob):
            client.stop_taking()
        self.send(self.alice, b"bob", 2 * MARK)
        self.send(self.bob, b"alice", 2 * MARK)
        for client in (self.alice, self.bob):
            self.assertFalse(client.transport.reading)
        for client in (self.alice, self.bob):
            client.take()
        for client in (self.alice, self.bob):
            self.assertEqual(len(client.told()), 2 * MARK // len(TEXT))


class Reader(Backlog):
    """A recipient that takes exactly what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.ended_s: list[float] = []
        self.now_s = 0.0

    def write(self, data: bytes) -> None:
        raise AssertionError(data)  # flow writes nothing

    def taken_bytes(self) -> int:
        return self.taken

    def end_slow(self) -> None:
        self.ended_s.append(self.now_s)

    def cut(self) -> None:
        raise AssertionError("together they have little")


class AccountTests(SynchronousTestCase):
    """What counts as slow, second by second."""

    def setUp(self) -> None:
        self.now_s = 0.0
        self.flow = Flow(Limits(), lambda: self.now_s)

    def over(self, *gates: Gate) -> Reader:
        reader = Reader()
        self.flow.opened(reader)
        for gate in gates or (None,):
            self.flow.over_mark(reader, gate)
        return reader

    def pass_time(self, reader: Reader, seconds: Iterable[int], elapsed_s: float = 1.0) -> None:
        """Let seconds pass, in each of which it takes so many bytes."""
        for size in seconds:
            self.now_s += elapsed_s
            reader.now_s = self.now_s
            reader.taken += size
            self.flow.tick()

    def test_nothing_is_slow(self) -> None:
        reader = self.over()
        self.pass_time(reader, [0] * 9)
        self.assertEqual(reader.ended_s, [])
        self.pass_time(reader, [0])
        self.assertEqual(reader.ended_s, [10.0])

    def test_below_at_and_above_the_rate(self) -> None:
        for rate, is_slow in [(RATE - 1, True), (RATE, False), (RATE + KIB, False)]:
            reader = self.over()
            self.pass_time(reader, [rate] * 200)
            self.assertEqual(bool(reader.ended_s), is_slow, rate)
            self.flow.closed(reader)

    def test_gulps(self) -> None:
        reader = self.over()
        self.pass_time(reader, [2 * RATE, 0] * 100)
        self.assertEqual(reader.ended_s, [])

    def test_gulps_that_are_too_small(self) -> None:
        reader = self.over()
        self.pass_time(reader, [2 * RATE - 2 * KIB, 0] * 100)
        self.assertNotEqual(reader.ended_s, [])

    def test_one_great_gulp_does_not_last_forever(self) -> None:
        reader = self.over()
        self.pass_time(reader, [1000 * RATE] + [0] * 11)
        self.assertEqual(reader.ended_s, [])
        self.pass_time(reader, [0] * 2)
        self.assertNotEqual(reader.ended_s, [])

    def test_less_than_10_seconds_in_a_minute(self) -> None:
        reader = self.over()
        self.pass_time(reader, ([0] * 8 + [4 * RATE] * 52) * 5)
        self.assertEqual(reader.ended_s, [])

    def test_10_seconds_in_a_minute_with_others_between(self) -> None:
        reader = self.over()
        self.pass_time(reader, ([0] * 5 + [4 * RATE] * 20) * 3)
        self.assertNotEqual(reader.ended_s, [])

    def test_time_in_which_the_relay_did_not_run(self) -> None:
        reader = self.over()
        self.pass_time(reader, [0] * 4)
        self.pass_time(reader, [0], elapsed_s=300.0)
        self.assertEqual(reader.ended_s, [])

    def test_a_sender_that_several_hold_in_turn(self) -> None:
        gate = Gate(Connection())
        readers = []
        for _ in range(4):
            reader = self.over(gate)
            readers.append(reader)
            self.pass_time(reader, [0] * 4)
            self.flow.drained(reader)
            if not reader.ended_s:
                self.assertFalse(gate.held)
        self.assertEqual([bool(reader.ended_s) for reader in readers], [False, False, True, True])

    def test_one_that_holds_nobody_new_is_not_charged_for_others(self) -> None:
        gate = Gate(Connection())
        self.pass_time(self.over(gate), [0] * 9)
        other = self.over(Gate(Connection()))
        self.pass_time(other, [RATE] * 50)
        self.assertEqual(other.ended_s, [])

    def test_a_reader_that_drops_below_its_mark_between_any_two_ticks(self) -> None:
        # What it took before it was over the mark again counts for that second.
        reader = self.over()
        for _ in range(100):
            self.now_s += 0.9
            reader.taken += 2 * RATE
            self.flow.drained(reader)
            self.flow.over_mark(reader, None)
            self.now_s += 0.1
            self.flow.tick()
        self.assertEqual(reader.ended_s, [])

    def test_after_a_sleep_a_steady_reader_is_not_slow(self) -> None:
        reader = self.over()
        self.pass_time(reader, [0] * 9 + [RATE + KIB] * 50)
        self.assertEqual(reader.ended_s, [])

    def test_part_of_a_second_is_that_part(self) -> None:
        self.flow.tick()
        self.now_s = 0.7
        reader = self.over()
        self.now_s = 1.0
        self.flow.tick()
        self.pass_time(reader, [0] * 9)
        self.assertEqual(reader.ended_s, [])
        self.pass_time(reader, [0])
        self.assertNotEqual(reader.ended_s, [])

    def test_one_below_its_mark_is_not_counted(self) -> None:
        reader = self.over()
        self.flow.drained(reader)
        self.assertFalse(reader.is_over)
        self.pass_time(reader, [0] * 100)
        self.assertEqual(reader.ended_s, [])

    def test_above_the_low_mark_it_still_is(self) -> None:
        reader = self.over()
        reader.unsent_bytes = Limits.low_water_bytes
        self.flow.drained(reader)
        self.assertTrue(reader.is_over)
        reader.unsent_bytes -= 1
        self.flow.drained(reader)
        self.assertFalse(reader.is_over)


class SlowTests(SynchronousTestCase):
    """Ten seconds in a minute at less than 64 KiB a second end a recipient over its mark."""

    def setUp(self) -> None:
        self.world = World()
        self.alice, self.bob = self.world.join(b"alice"), self.world.join(b"bob")

    def flood(self, to: bytes = b"bob", size: int = 16 * MIB) -> None:
        self.alice.write((b"%" + to + b"%" + TEXT + b"\n") * (size // len(TEXT)))
        self.world.settle()

    def test_one_that_takes_nothing_is_aborted_after_10_seconds(self) -> None:
        self.bob.stop_taking()
        self.flood()
        self.world.pass_time(9)
        self.assertTrue(self.bob.is_connected)
        self.world.pass_time(2)
        self.assertTrue(self.bob.transport.aborted)
        self.assertTrue(self.alice.transport.reading)
        self.assertIn(b"!error unknown-name bob", self.alice.told())

    def test_one_below_its_mark_may_be_as_slow_as_it_likes(self) -> None:
        self.bob.stop_taking()
        self.flood(size=MARK // 2)
        self.world.pass_time(600)
        self.assertTrue(self.bob.is_connected)

    def test_time_in_which_the_relay_did_not_run_does_not_count(self) -> None:
        self.bob.stop_taking()
        self.flood()
        self.world.pass_time(3)
        self.world.clock.advance(300)
        self.world.settle()
        self.assertTrue(self.bob.is_connected)
        self.world.pass_time(8)
        self.assertTrue(self.bob.transport.aborted)

    def test_one_that_takes_well_over_it_stays(self) -> None:
        self.bob.stop_taking()
        self.flood()
        for _ in range(40):
            self.bob.transport.room = 4 * RATE
            self.world.pass_time(1)
        self.assertTrue(self.bob.is_connected)

    def test_a_sender_that_several_slow_ones_hold_at_once_is_held_once(self) -> None:
        """A second in which twelve are slow is one second of their sender."""
        slow = [self.world.join(b"slow%d" % number) for number in range(12)]
        for client in slow:
            client.stop_taking()
        self.flood(b",".join(b"slow%d" % number for number in range(12)), 3 * MARK // 2)
        self.world.pass_time(8)
        self.assertEqual([client.is_connected for client in slow], [True] * 12)
        self.world.pass_time(3)
        self.assertEqual([client.transport.aborted for client in slow], [True] * 12)
        self.assertTrue(self.alice.is_connected)

    def test_a_watcher_that_does_not_read_is_ended_too(self) -> None:
        limits = self.world.relay.limits
        limits.change_to(replace(limits, names_per_min=0))
        self.bob.write(b"/watch alice alicia\n")
        self.bob.stop_taking()
        for _ in range(3 * MARK // 64):
            self.alice.write(b"/name alicia\n/name alice\n")
        self.world.settle()
        self.world.pass_time(11)
        self.assertTrue(self.bob.transport.aborted)
        self.assertTrue(self.alice.is_connected)

    def test_the_total_is_capped_and_the_fullest_goes(self) -> None:
        world = World(Limits(max_unsent_bytes=MIB, high_water_bytes=8 * MIB))
        alice = world.join(b"alice")
        readers = [world.join(b"r%d" % number) for number in range(3)]
        for number, reader in enumerate(readers):
            reader.stop_taking()
            alice.send((b"%%r%d%%" % number + TEXT + b"\n") * (200 * (number + 1)))
        self.assertEqual([reader.is_connected for reader in readers], [True, True, False])
        self.assertLessEqual(world.relay.flow.unsent_bytes, MIB)
        self.assertTrue(alice.is_connected)
        for reader in readers:
            reader.reset()
        self.assertEqual(world.relay.flow.unsent_bytes, 0)


class TurnTests(SynchronousTestCase):
    """A session stops after about 3 ms of one client's lines and goes on next turn."""

    def setUp(self) -> None:
        self.now_s = 0.0
        self.step_s = 0.0

        def seconds() -> float:
            self.now_s += self.step_s
            return self.now_s

        self.world = World(seconds=seconds)
        self.alice, self.bob = self.world.join(b"alice"), self.world.join(b"bob")

    def test_work_off_the_quick_path_is_shared(self) -> None:
        self.step_s = 0.001
        self.alice.write(b"".join(b"/ping %d\n" % number for number in range(100)))
        self.bob.write(b"/ping bob\n")
        turns_to_bob = turns_to_alice = 0
        for turn in range(1, 1000):
            self.world.turn()
            if not turns_to_bob and self.bob.transport.taken.endswith(b"!pong bob\n"):
                turns_to_bob = turn
            if self.alice.transport.taken.endswith(b"!pong 99\n"):
                turns_to_alice = turn
                break
        self.assertLess(turns_to_bob, 6)
        self.assertGreater(turns_to_alice, 20)
        self.assertEqual(self.alice.told(), [b"!pong %d" % number for number in range(100)])

    def test_what_was_not_served_comes_first(self) -> None:
        self.step_s = 0.002
        lines = []
        for number in range(60):
            lines += [b"%%alice%%%d" % number, b"@a %%ALICE%%%d-" % number, b"/ping %d" % number]
        self.alice.write(b"\n".join(lines) + b"\n")
        self.alice.write(b"/ping last\n")
        self.world.settle()
        expected = []
        for number in range(60):
            expected += [*(b"%%alice%%%d" % number, b"%%alice%%%d-" % number, b"!pong %d" % number)]
        self.assertEqual(self.alice.told(), [*expected, b"!pong last"])

    def test_a_long_answer_stops_over_the_mark_and_goes_on(self) -> None:
        world = World(Limits(high_water_bytes=40_000, low_water_bytes=20_000))
        alice = world.join(b"alice")
        for number in range(2000):
            world.join(b"n%d" % number)
        alice.stop_taking()
        alice.write(b"@ref=1 /who\n/ping after\n")
        world.settle()
        outbox = alice.session.outbox
        self.assertFalse(alice.transport.reading)
        self.assertLess(outbox.unsent_bytes, 40_000 + 256 * 80)
        self.assertTrue(alice.session.is_answering)
        alice.take()
        told = alice.told()
        self.assertEqual(told[-2:], [b"@ref=1 !end who 2001", b"!pong after"])
        self.assertEqual(len(told), 2003)

    def test_who_leaves_while_a_long_answer_is_written_is_left_out(self) -> None:
        world = World(Limits(high_water_bytes=20_000, low_water_bytes=10_000))
        alice = world.join(b"alice")
        others = [world.join(b"n%d" % number) for number in range(1000)]
        alice.stop_taking()
        alice.send(b"/who\n")
        others[-1].reset()
        others[-2].lines(b"/name renamed")
        alice.take()
        told = alice.told()
        self.assertEqual(len(told), int(told[-1].split()[-1]) + 1)
        self.assertNotIn(b"n999", b" ".join(told))

    def test_a_client_that_leaves_while_it_is_answered(self) -> None:
        world = World(Limits(high_water_bytes=20_000, low_water_bytes=10_000))
        alice = world.join(b"alice")
        for number in range(1000):
            world.join(b"n%d" % number)
        alice.stop_taking()
        alice.send(b"/who\n")
        alice.reset()
        for client in list(world.clients):
            client.end()
        self.assertEqual(what_is_left(world), {})


class FlowTests(SynchronousTestCase):
    """What only a unit test reaches."""

    def test_one_that_is_closed_holds_nobody_any_more(self) -> None:
        world = World()
        bob = world.join(b"bob")
        flow, outbox = world.relay.flow, bob.session.outbox
        gate = Gate(Connection())
        bob.session.close("by a test")
        flow.over_mark(outbox, gate)
        self.assertFalse(gate.held)
        self.assertIsInstance(outbox, Outbox)

    def test_a_writer_that_is_no_connection(self) -> None:
        world = World()
        bob = world.join(b"bob")
        world.relay.flow.over_mark(bob.session.outbox, None)
        self.assertTrue(bob.session.outbox.is_over)
        self.assertEqual(bob.session.outbox.held_gates, set())

    def test_shedding_with_nobody_here(self) -> None:
        flow = Flow(Limits(max_unsent_bytes=1), lambda: 0.0)
        flow.unsent_bytes = 2
        flow.shed()
