"""How fast one client is read: docs/protocol.rst, *Flow*."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.pace import Pace
from chatrelay.sockets import PACED_READ_BYTES
from tests.relay_harness import Client, World, what_is_left

LIMITS = Limits(lines_per_s=10, bytes_per_s=1000, burst_s=5)
LINES = [
    *(b"%bob%x", b"%bob,alice%y", b"@ref=1 %bob%z", b"%nobody%x", b"/ping 1", b"/watch bob"),
    *(b"", b"nonsense", b"\xff", b"x" * 9000, b"%bob%" + b"y" * 500, b"/who nobody", b"%%%"),
]


class PaceTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """A burst of 50, then 10 a second, as many as are asked for at most."""
        pace = Pace(LIMITS, 0.0)
        for now_s, asked, admitted, wait_s in [
            (0.0, 30, 30, 0.0),
            (0.0, 30, 20, 1.0),
            (0.0, 10, 0, 1.0),
            (0.0, 3, 0, 0.3),
            (0.25, 3, 2, 0.05),
            (1.0, 100, 8, 1.0),
            (1000.0, 100, 50, 1.0),
        ]:
            self.assertEqual(pace.admitted(asked, now_s), admitted)
            self.assertAlmostEqual(pace.wait_s(asked - admitted), wait_s if wait_s else 0.0)

    def test_bytes(self) -> None:
        """A burst of 5,000, then 1,000 a second; what was read is not taken back."""
        pace = Pace(LIMITS, 0.0)
        for now_s, size, wait_s in [
            (0.0, 4000, 0.0),
            (0.0, 1000, 0.0),
            (0.0, 500, 0.5),
            (0.0, 500, 1.0),
            (1.0, 0, 0.0),
            (3.0, 2000, 0.0),
            (1000.0, 6000, 1.0),
        ]:
            self.assertAlmostEqual(pace.received(size, now_s), wait_s)

    def test_each_alone(self) -> None:
        only_lines = Pace(Limits(lines_per_s=1, burst_s=1), 0.0)
        self.assertEqual(only_lines.received(10**9, 0.0), 0.0)
        self.assertEqual(only_lines.admitted(5, 0.0), 1)
        only_bytes = Pace(Limits(bytes_per_s=1, burst_s=1), 0.0)
        self.assertEqual(only_bytes.admitted(10**9, 0.0), 10**9)
        self.assertEqual(only_bytes.wait_s(5), 0.0)
        self.assertEqual(only_bytes.received(3, 0.0), 2.0)

    def test_what_takes_long_counts_for_more(self) -> None:
        """A tenth of a millisecond is a line, up to 3 ms; what was counted is not counted twice."""
        for lines, seconds, left in [
            (0, 0.0, 50),
            (10, 0.0009, 40),
            (10, 0.0010, 40),
            (10, 0.0015, 35),
            (1, 0.0020, 30),
            (1, 0.0500, 20),
            (40, 0.0500, 10),
        ]:
            pace = Pace(LIMITS, 0.0)
            self.assertEqual(pace.admitted(lines, 0.0), lines)
            pace.worked(seconds)
            pace.worked(0.0)
            self.assertEqual(pace.admitted(100, 0.0), left, (lines, seconds))

    def test_who_used_too_much_time_waits_for_it(self) -> None:
        pace = Pace(LIMITS, 0.0)
        self.assertEqual(pace.admitted(40, 0.0), 40)
        for _ in range(2):
            pace.worked(0.003)
        self.assertEqual(pace.admitted(1, 0.0), 0)
        self.assertAlmostEqual(pace.wait_s(1), 2.1)
        self.assertEqual([pace.admitted(1, 2.0), pace.admitted(1, 2.11)], [0, 1])

    def test_time_is_not_owed_where_lines_have_no_bound(self) -> None:
        """The bound may be set later: who has been served for long does not wait for hours."""
        limits = Limits(bytes_per_s=1000)
        pace = Pace(limits, 0.0)
        for _ in range(1000):
            self.assertEqual(pace.admitted(1, 0.0), 1)
            pace.worked(0.003)
        limits.change_to(Limits(bytes_per_s=1000, lines_per_s=10))
        self.assertEqual(pace.admitted(100, 1.0), 10)

    def test_other_limits_hold_at_once(self) -> None:
        limits = Limits(lines_per_s=10, burst_s=10)
        pace = Pace(limits, 0.0)
        limits.change_to(Limits(lines_per_s=2, burst_s=1))
        self.assertEqual(pace.admitted(100, 0.0), 2)
        limits.change_to(Limits())
        self.assertEqual(pace.admitted(100, 0.0), 100)

    @given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 40)), max_size=50))
    def test_never_more_than_the_burst_and_what_came_since(
        self, steps: list[tuple[float, int]]
    ) -> None:
        pace, now_s, served = Pace(LIMITS, 0.0), 0.0, 0
        for step_s, count in steps:
            now_s += step_s
            served += pace.admitted(count, now_s)
            self.assertLessEqual(served, 50 + 10 * now_s + 1e-6)
            wait_s = pace.wait_s(count)
            if wait_s:
                now_s += wait_s + 1e-9
                self.assertGreater(pace.admitted(1, now_s), 0)
                served += 1


class PacedTests(SynchronousTestCase):
    """The same as clients see it."""

    def setUp(self) -> None:
        self.world = World(LIMITS)
        self.bob = self.world.join(b"bob")
        self.bob.lines(b"/caps none")
        self.alice = self.world.join(b"alice")

    def got(self) -> int:
        return len([line for line in self.bob.told() if line.startswith(b"%alice%")])

    def test_a_burst_is_served_at_once_and_the_rest_at_its_pace(self) -> None:
        self.alice.send(b"%bob%x\n" * 200)
        self.assertEqual(self.got(), 49)  # one was its name
        self.assertFalse(self.alice.transport.reading)
        for _ in range(5):
            self.world.pass_time(1)
            self.assertEqual(self.got(), 10)
        self.world.pass_time(10)
        self.assertEqual(self.got(), 100)
        self.world.pass_time(1)
        self.assertEqual(self.got(), 1)
        self.assertTrue(self.alice.transport.reading)
        self.world.pass_time(60)
        self.assertEqual(self.got(), 0)

    def test_nothing_is_lost_and_the_order_is_kept(self) -> None:
        kinds = [b"%%bob%%%d", b"/ping %d", b"@ref=%d %%bob%%x", b"%%nobody%%%d", b"nonsense %d"]
        lines = [kinds[number % 5] % number for number in range(300)]
        stream = b"\n".join(lines) + b"\n" + b"x" * 9000 + b"\n/ping last\n"
        plain = World()
        expected = []
        for world in (plain, World(Limits(lines_per_s=7, bytes_per_s=400, burst_s=1))):
            bob, alice = world.join(b"bob"), world.join(b"alice")
            for start in range(0, len(stream), 501):
                alice.write(stream[start : start + 501])
            world.pass_time(100)
            told = alice.told(), [line for line in bob.told() if b"alice" in line]
            expected.append(told)
        self.assertEqual(expected[0], expected[1])
        self.assertEqual(expected[0][0][-1], b"!pong last")

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.sampled_from(LINES), max_size=60),
        st.integers(1, 400),
        st.integers(0, 20),
        st.sampled_from([0, 500, 5000]),
        st.integers(1, 3),
    )
    def test_whatever_is_sent_is_answered_as_without_a_pace(
        self, lines: list[bytes], piece: int, lines_per_s: int, bytes_per_s: int, burst_s: int
    ) -> None:
        stream = b"".join(line + b"\n" for line in lines)
        paced = Limits(lines_per_s=lines_per_s, bytes_per_s=bytes_per_s, burst_s=burst_s)
        told = []
        for world in (World(), World(paced)):
            bob, alice = world.join(b"bob"), world.join(b"alice")
            for start in range(0, len(stream), piece):
                alice.write(stream[start : start + piece])
            alice.transport.incoming.append(b"")
            # The slowest pace, for all of it.
            world.pass_time(len(lines) + len(stream) / 500 + 5)
            self.assertFalse(alice.is_connected)
            told.append((alice.told(), bob.told()))
        self.assertEqual(told[0], told[1])

    def test_others_do_not_wait(self) -> None:
        self.alice.send(b"%bob%x\n" * 200)
        carol = self.world.join(b"carol")
        self.assertEqual(carol.lines(b"%bob%hello", b"/ping 1"), [b"!pong 1"])
        self.assertIn(b"%carol%hello", self.bob.told())

    def test_bytes(self) -> None:
        world = World(Limits(bytes_per_s=1000, burst_s=5))
        alice = world.join(b"alice")
        line = b"%alice%" + b"x" * 992 + b"\n"
        for _ in range(10):
            alice.write(line)
        world.settle()
        self.assertEqual(len(alice.told()), 4)  # its name was some of the burst
        for _ in range(3):
            world.pass_time(1)
            self.assertEqual(len(alice.told()), 1)
        world.pass_time(3)
        self.assertEqual(len(alice.told()), 3)

    def test_a_line_without_end_is_slowed_too(self) -> None:
        world = World(Limits(bytes_per_s=1000, burst_s=1))
        alice = world.join(b"alice")
        for _ in range(100):
            alice.write(b"x" * 1000)
        world.pass_time(10)
        self.assertGreater(len(alice.transport.incoming), 85)

    def test_what_it_sent_before_it_ended_is_served(self) -> None:
        self.alice.write(b"%bob%x\n" * 100)
        self.alice.end()
        self.assertEqual(self.got(), 49)
        self.world.pass_time(4)
        self.assertTrue(self.alice.is_connected)
        self.world.pass_time(2)
        self.assertEqual(self.got(), 51)
        self.assertFalse(self.alice.is_connected)

    def test_a_client_that_is_gone_leaves_nothing(self) -> None:
        for how in ("reset", "close", "cut"):
            self.alice.send(b"%bob%x\n" * 100)
            if how == "reset":
                self.alice.reset()
            else:
                getattr(self.alice.session, how)(*["by a test"][: how == "close"])
                self.world.settle()
            self.assertFalse(self.alice.is_connected)
            self.alice = self.world.join(b"alice")
        self.alice.end()
        self.bob.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_a_connection_that_is_lost_while_it_waits_for_its_turn_leaves_nothing(self) -> None:
        world = World(Limits(lines_per_s=10, burst_s=5))
        bob, alice = world.join(b"bob"), world.join(b"alice")
        alice.write(b"%bob%x\n" * 3000)
        alice.transport.do_read()
        self.assertTrue(alice.protocol.is_waiting)
        alice.reset()
        self.assertEqual(len(bob.told()), 49)
        bob.end()
        self.assertEqual(what_is_left(world), {})

    def test_without_a_name_too(self) -> None:
        client = self.world.connect()
        client.send(b"/ping\n" * 100)
        self.assertEqual(len(client.told()), 50)
        self.world.pass_time(1)
        self.assertEqual(len(client.told()), 10)

    def one_whose_lines_take_a_millisecond(self) -> Client:
        now_s = [0.0]
        world = World(Limits(lines_per_s=10, burst_s=10), seconds=lambda: now_s[0])
        alice = world.join(b"alice")
        serve = alice.protocol._serve

        def slow(*arguments: object) -> None:
            serve(*arguments)  # type: ignore[arg-type]
            now_s[0] += 0.001

        self.patch(alice.protocol, "_serve", slow)
        return alice

    def test_time_counts(self) -> None:
        """A line that takes a millisecond counts for ten."""
        alice = self.one_whose_lines_take_a_millisecond()
        answered = 0
        for _ in range(30):
            answered += len(alice.lines(b"/ping"))
        self.assertEqual(answered, 10)

    def test_who_asks_line_by_line_is_served_at_the_pace(self) -> None:
        """Looking whether a line is admitted takes time, too, which is not the client's."""
        world = World(Limits(lines_per_s=10, burst_s=1))
        looked = [0.0]

        def seconds() -> float:
            looked[0] += 0.00005
            return world.clock.seconds() + looked[0]

        world.relay.seconds = seconds
        alice = world.join(b"alice")
        for _ in range(50):
            alice.send(b"/ping\n")
            while not alice.told():
                # As timers do: at the moment for which they were set.
                world.clock.rightNow = min(call.getTime() for call in world.clock.getDelayedCalls())
                world.settle()
                # Of each line a tenth of a second, and a little for what it takes.
                self.assertLess(world.clock.seconds(), 10.0)

    def test_time_counts_of_lines_that_came_together_too(self) -> None:
        """They are counted one by one, up to the end of the turn in which they were too many."""
        alice = self.one_whose_lines_take_a_millisecond()
        answered = len(alice.lines(*[b"/ping"] * 90))
        self.assertGreaterEqual(answered, 10)
        self.assertLessEqual(answered, 20)

    def test_with_a_high_rate_many_lines_are_counted_together(self) -> None:
        for rate, count, at_once in ((0, 500, 500), (1, 5, 1), (10, 5, 1), (1000, 500, 100)):
            self.assertEqual(Pace(Limits(lines_per_s=rate), 0.0).at_once(count), at_once)

    def test_it_is_not_idle_while_it_is_held(self) -> None:
        world = World(Limits(lines_per_s=1, burst_s=1, idle_timeout_s=5))
        alice = world.join(b"alice")
        alice.send(b"/ping\n" * 60)
        world.pass_time(40)
        self.assertTrue(alice.is_connected)

    def test_the_limits_may_change(self) -> None:
        world = World()
        alice = world.join(b"alice")
        self.assertIsNone(alice.protocol.pacer)
        self.assertEqual(len(alice.lines(*[b"/ping"] * 500)), 500)
        world.relay.limits.change_to(LIMITS)
        self.assertEqual(len(alice.lines(*[b"/ping"] * 100)), 50)
        world.relay.limits.change_to(Limits())
        world.pass_time(1)
        self.assertEqual(len(alice.told()), 50)
        self.assertEqual(len(alice.lines(*[b"/ping"] * 500)), 500)
        self.assertIsNone(alice.protocol.pacer)


class ReadSizeTests(SynchronousTestCase):
    """Little is read at once of who is held with it."""

    def test_a_paced_client(self) -> None:
        self.assertLess(PACED_READ_BYTES, 64 * 1024)
        for limits, is_paced in ((LIMITS, True), (Limits(), False)):
            client: Client = World(limits).join(b"a")
            self.assertIs(client.protocol.pacer is not None, is_paced)
