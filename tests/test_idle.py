"""Clients that send nothing for too long: docs/protocol.rst, *Time*."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.idle import ROUND_TICKS, Idle
from chatrelay.limits import Limits
from tests.relay_harness import World, what_is_left

TIMEOUT_S = 100


class Client:
    def __init__(self, served_s: float) -> None:
        self.served_s = served_s

    def is_idle(self, since_s: float) -> bool:
        return self.served_s <= since_s


class TickTests(SynchronousTestCase):
    def test_everybody_is_looked_at_in_a_round(self) -> None:
        for count in (1, 9, 10, 11, 1000):
            clients = {Client(0): None for _ in range(count)}
            idle, found = Idle(), []
            for tick in range(ROUND_TICKS):
                found += idle.tick(clients, TIMEOUT_S, TIMEOUT_S + tick, 1.0)
            self.assertEqual(set(found), set(clients))
            self.assertLessEqual(len(found), count + ROUND_TICKS)

    def test_a_tick_looks_at_a_share(self) -> None:
        clients = {Client(0): None for _ in range(1000)}
        self.assertEqual(len(list(Idle().tick(clients, TIMEOUT_S, TIMEOUT_S, 1.0))), 101)

    def test_time_in_which_the_relay_did_not_run_is_not_counted(self) -> None:
        clients, idle = {Client(0): None}, Idle()
        for now_s, elapsed_s, count in [
            (99, 1, 0),
            (99.9, 2.1, 0),
            (100, 1, 0),
            (199, 1, 0),
            (199.9, 1, 1),
            (300, 101, 0),
        ]:
            self.assertEqual(len(list(idle.tick(clients, 100, now_s, elapsed_s))), count, now_s)


class IdleTests(SynchronousTestCase):
    """The same as clients see it."""

    def setUp(self) -> None:
        self.world = World(Limits(idle_timeout_s=TIMEOUT_S))

    def test_who_sends_nothing_is_told_and_closed(self) -> None:
        alice, bob = self.world.join(b"alice"), self.world.join(b"bob")
        bob.lines(b"/watch alice")
        self.world.pass_time(TIMEOUT_S - 1)
        bob.send(b"%alice%read this")
        self.assertEqual((alice.told(), alice.is_connected), ([], True))
        self.world.pass_time(ROUND_TICKS + 1)
        self.assertEqual(alice.told(), [b"!error timeout"])
        self.assertFalse(alice.is_connected)
        self.assertEqual(bob.told(), [b"!offline alice"])
        self.world.join(b"alice")
        bob.reset()
        self.world.clients[-1].end()
        self.assertEqual(what_is_left(self.world), {})

    def test_the_sentence_says_how_to_stay(self) -> None:
        alice = self.world.join(b"alice")
        self.world.pass_time(TIMEOUT_S + ROUND_TICKS)
        self.assertIn(b"/ping", alice.raw())

    def test_whatever_is_sent_counts(self) -> None:
        alice = self.world.join(b"alice")
        for data in (b"/ping\n", b"\n", b"%ali", b"ce%x\n", b"nonsense\n", b"\xff\n"):
            self.world.pass_time(TIMEOUT_S - 1)
            alice.send(data)
            self.assertTrue(alice.is_connected, data)

    def test_what_is_received_does_not(self) -> None:
        alice, bob = self.world.join(b"alice"), self.world.join(b"bob")
        for _ in range(6):
            self.world.pass_time(20)
            bob.lines(b"%alice%x")
        self.assertEqual(alice.told()[-1], b"!error timeout")

    def test_with_the_cap_ping_it_is_asked_instead(self) -> None:
        reader = self.world.join(b"reader", caps=b"ping")
        for _ in range(5):
            self.world.pass_time(61)
            (asked,) = reader.told()
            self.assertTrue(asked.startswith(b"!ping "))
            reader.lines(b"/pong" + asked.removeprefix(b"!ping"))
        self.world.pass_time(91)
        self.assertEqual(reader.told()[-1], b"!error timeout")

    def test_who_gives_the_cap_back_is_idle_again(self) -> None:
        alice = self.world.join(b"alice", caps=b"ping")
        alice.lines(b"/caps none")
        self.world.pass_time(TIMEOUT_S + ROUND_TICKS)
        self.assertFalse(alice.is_connected)

    def test_time_in_which_it_is_held_is_not_counted(self) -> None:
        limits = Limits(idle_timeout_s=5, slow_s=40)
        world = World(limits)
        slow, sender = world.join(b"slow", caps=b"ping"), world.join(b"sender")
        slow.stop_taking()
        sender.send((b"%slow%" + b"x" * 1000 + b"\n") * 1100)
        self.assertFalse(sender.transport.reading)
        world.pass_time(30)
        self.assertTrue(sender.is_connected)
        slow.take()
        self.assertTrue(sender.transport.reading)
        world.pass_time(4)
        self.assertTrue(sender.is_connected)
        world.pass_time(ROUND_TICKS + 2)
        self.assertEqual(sender.told(), [b"!error timeout"])

    def test_time_in_which_the_relay_was_stopped_is_not_counted(self) -> None:
        alice = self.world.join(b"alice")
        self.world.pass_time(50)
        self.world.clock.rightNow += 3600
        self.world.settle()
        self.world.pass_time(TIMEOUT_S - 1)
        self.assertTrue(alice.is_connected)
        self.world.pass_time(ROUND_TICKS + 1)
        self.assertFalse(alice.is_connected)

    def test_without_a_name_the_other_timeout_holds(self) -> None:
        world = World(Limits(idle_timeout_s=5))
        client = world.connect()
        world.pass_time(25)
        self.assertTrue(client.is_connected)

    def test_the_limit_may_change(self) -> None:
        world = World()
        alice = world.join(b"alice")
        world.pass_time(10_000)
        self.assertTrue(alice.is_connected)
        world.relay.limits.change_to(Limits(idle_timeout_s=600))
        world.pass_time(ROUND_TICKS)
        self.assertFalse(alice.is_connected)

    def test_the_console_says_why(self) -> None:
        alice = self.world.join(b"alice")
        lines: list[str] = []
        self.patch(
            self.world.relay.console, "departed", lambda *words: lines.append(str(words[-1]))
        )
        self.world.pass_time(TIMEOUT_S + ROUND_TICKS)
        self.assertFalse(alice.is_connected)
        self.assertEqual(lines, ["it sent nothing for too long"])
