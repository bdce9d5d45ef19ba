"""What the person who runs the relay reads."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.console import Peer, RateBound, duration
from chatrelay.limits import Limits
from chatrelay.printable import printable
from chatrelay.refusals import Refusals
from tests.relay_harness import World


class ConsoleTests(SynchronousTestCase):
    """One readable line for each thing that happened, at a bounded rate."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def said(self) -> list[str]:
        events, self.events[:] = list(self.events), []
        said = [e for e in events if e.get("log_namespace") == "chatrelay"]
        for event in said:
            self.assertIs(event["log_level"], LogLevel.info)
        lines = [formatEvent(event) for event in said]
        for line in lines:
            self.assertEqual(len(line.splitlines()), 1)
            self.assertTrue(line.isprintable(), ascii(line))
        return lines

    def test_arrival_rename_and_departure(self) -> None:
        world = World()
        client = world.connect("192.0.2.1")
        client.lines(b"carol")
        self.assertEqual(self.said(), ["carol arrived from 192.0.2.1 port 40001; 1 here"])
        client.lines(b"/name ann")
        self.assertEqual(self.said(), ["carol at 192.0.2.1 port 40001 is now ann"])
        world.pass_time(75)
        client.lines(b"/quit")
        self.assertEqual(
            self.said(), ["ann at 192.0.2.1 port 40001 left after 1 min 15 s: it quit"]
        )

    def test_renaming_buys_no_more_lines(self) -> None:
        world = World()
        client = world.join(b"carol")
        self.said()
        for number in range(30):
            client.lines(b"%nobody%x", b"/name c%d" % number)
        told = [line for line in self.said() if "not delivered" in line]
        self.assertEqual(len(told), 10)

    def test_why_a_client_is_gone(self) -> None:
        world = World()
        for how, why in [
            (lambda client: client.end(), "end of input"),
            (lambda client: client.reset(), "the connection was closed"),
            (lambda client: client.session.end_slow(), "slow-consumer"),
            (lambda client: client.session.shut_down(), "the relay stopped"),
        ]:
            client = world.join(b"carol")
            self.said()
            how(client)
            world.settle()
            (line,) = self.said()
            self.assertIn("carol at 127.0.0.1", line)
            self.assertIn(why, line)

    def test_who_never_had_a_name(self) -> None:
        world = World(Limits(max_unnamed=1, max_per_address=1))
        for data, why in [
            (b"GET / HTTP/1.1\r\n", "another protocol"),
            (b"\x16\x03\x01", "another protocol"),
            (b"-\n-\n-\n", "none of its first lines was a name"),
        ]:
            world.connect().send(data)
            (line,) = self.said()
            self.assertIn("from 127.0.0.1 port", line)
            self.assertIn(why, line)
        world.connect()
        world.connect().end()
        (line,) = self.said()
        self.assertIn("too many connections without a name", line)
        world.connect("192.0.2.1")
        world.connect("192.0.2.1")
        self.assertIn("too many connections from this address", " ".join(self.said()))
        world.pass_time(31)
        self.assertIn("no name in time", " ".join(self.said()))

    def test_floods_are_summed_up_once_a_minute(self) -> None:
        world = World(Limits(connects_per_min=1))
        address = IPv4Address("TCP", "192.0.2.1", 7)
        for _ in range(100):
            world.connect(address)
        lines = self.said()
        self.assertEqual(len(lines), 3 + 5)
        self.assertIn("too many new connections from this address", lines[0])
        self.assertIn("its address was refused just before", lines[-1])
        world.pass_time(59)
        self.assertEqual(self.said()[1:], [])
        world.pass_time(1)
        self.assertEqual(
            self.said(),
            [
                "91 more were refused in the last minute: its address was refused just before"
                " (91); most from 192.0.2.1 (91)"
            ],
        )

    def test_what_was_not_said_is_said_at_the_end(self) -> None:
        world = World(Limits(names_per_min=1))
        client = world.join(b"carol")
        client.lines(*[b"/name ann"] * 10)
        lines = [line for line in self.said() if "refused" in line]
        self.assertEqual(
            lines, ["refused to 127.0.0.1 port 40001: too many names for one client"] * 5
        )
        world.factory.shut_down()
        world.settle()
        self.assertIn(
            "4 more were refused in the last minute: too many names for one client (4); most"
            " from 127.0.0.1 (4)",
            self.said(),
        )

    def test_who_looks_in_and_leaves_is_not_worth_a_line(self) -> None:
        world = World()
        world.connect().end()
        world.connect().reset()
        self.assertEqual(self.said(), [])

    def test_a_message_that_could_not_be_delivered(self) -> None:
        world = World()
        alice = world.join(b"alice")
        self.said()
        alice.lines(b"%bob%hello", b"%#ops%x", b"%*%y", b"@ref=1 %Bob%z")
        self.assertEqual(
            self.said(),
            [
                "not delivered, unknown-name: alice to bob: hello",
                "not delivered, unknown-room: alice to #ops: x",
                "not delivered, not-allowed: alice to *: y",
                "not delivered, unknown-name: alice to Bob: z",
            ],
        )

    def test_at_most_10_of_them_a_second_then_one_summary(self) -> None:
        world = World()
        alice, bob = world.join(b"alice"), world.join(b"bob")
        self.said()
        alice.lines(*[b"%nobody%x"] * 100)
        bob.lines(b"%nobody%y")
        self.assertEqual(len(self.said()), 11)
        world.pass_time(1)
        self.assertEqual(self.said(), ["… and 90 more messages of alice not delivered"])
        alice.lines(b"%nobody%x")
        self.assertEqual(len(self.said()), 1)
        world.pass_time(5)
        self.assertEqual(self.said(), [])

    def test_the_summary_comes_when_its_sender_leaves(self) -> None:
        world = World()
        alice = world.join(b"alice")
        alice.lines(*[b"%nobody%x"] * 100)
        self.said()
        alice.end()
        self.assertIn("… and 90 more messages of alice not delivered", self.said()[0])
        world.pass_time(2)
        self.assertEqual(self.said(), [])

    def test_arrivals_and_departures_are_bounded(self) -> None:
        world = World(Limits(max_console_lines_per_s=5))
        clients = [world.join(b"n%d" % number) for number in range(20)]
        for client in clients:
            client.end()
        self.assertEqual(len(self.said()), 10)
        world.pass_time(1)
        self.assertEqual(self.said(), ["… and 15 more arrivals", "… and 15 more departures"])

    def test_the_bound_may_change_and_is_not_that_of_operators(self) -> None:
        world = World(Limits(max_console_lines_per_s=50))
        world.relay.limits.change_to(Limits(max_console_lines_per_s=5))
        for number in range(20):
            world.join(b"n%d" % number)
        self.assertEqual(len(self.said()), 5)
        for _ in range(60):
            world.relay.console.operator_did(b"carol", Peer("192.0.2.1", 1), b"/stats")
        self.assertEqual(len(self.said()), 50)

    def test_many_senders_of_what_is_not_delivered_are_bounded(self) -> None:
        world = World(Limits(max_console_lines_per_s=5))
        clients = [world.join(b"n%d" % number) for number in range(20)]
        world.pass_time(1)
        self.said()
        for client in clients:
            client.lines(b"%nobody%x")
        self.assertEqual(len(self.said()), 5)
        world.pass_time(1)
        self.assertEqual(self.said(), ["… and 15 more messages not delivered"])

    def test_what_is_relayed_is_shown_only_if_asked_for(self) -> None:
        for verbose in (False, True):
            world = World(verbose=verbose)
            alice, _ = world.join(b"alice"), world.join(b"bob")
            self.said()
            alice.lines(b"%bob%one", b"%bob%two", b"@a %bob%three")
            shown = [f"alice to bob: {text}" for text in ("one", "two", "three")]
            self.assertEqual(self.said(), shown if verbose else [])

    def test_nothing_a_client_sent_drives_the_terminal_or_the_format(self) -> None:
        world = World()
        alice = world.join(b"alice")
        self.said()
        text = "{x} %s {0.__class__} \u202eabc\ttab"
        alice.lines(f"%bob%{text}".encode())
        (line,) = self.said()
        self.assertEqual(
            line,
            "not delivered, unknown-name: alice to bob: {x} %s {0.__class__} \\u202eabc\\ttab",
        )

    def test_a_long_text_is_cut(self) -> None:
        self.assertEqual(printable(b"x" * 80), "x" * 80)
        self.assertEqual(printable(b"x" * 81), "x" * 80 + "…")
        self.assertEqual(printable("日".encode() * 9000), "日" * 80 + "…")
        self.assertEqual(printable(b"a\xffb\x1b[2J"), r"a\xffb\x1b[2J")


class RefusalTests(SynchronousTestCase):
    """A flood of refusals is a few lines, then one a minute."""

    def setUp(self) -> None:
        self.refusals = Refusals()

    def tick(self, seconds: int) -> list[str]:
        return [said for said in (self.refusals.tick() for _ in range(seconds)) if said]

    def test_the_first_of_each_kind_have_their_lines(self) -> None:
        for kind in ("one kind", "another"):
            told = [self.refusals.add(kind, "192.0.2.1") for _ in range(8)]
            self.assertEqual(told, [True] * 5 + [False] * 3)
        self.assertEqual(self.tick(59), [])
        self.assertEqual(
            self.tick(1),
            [
                "6 more were refused in the last minute: one kind (3), another (3);"
                " most from 192.0.2.1 (6)"
            ],
        )
        self.assertTrue(self.refusals.add("one kind", "192.0.2.1"))

    def test_few_need_no_summary(self) -> None:
        for _ in range(5):
            self.refusals.add("a kind", "192.0.2.1")
        self.assertEqual(self.tick(120), [])

    def test_the_minute_begins_with_the_first(self) -> None:
        self.tick(50)
        for _ in range(6):
            self.refusals.add("a kind", "192.0.2.1")
        self.assertEqual(self.tick(59), [])
        self.assertEqual(len(self.tick(1)), 1)
        self.assertEqual(self.tick(200), [])

    def test_the_worst_addresses(self) -> None:
        for host, count in [
            ("192.0.2.1", 1000),
            ("2001:db8::1", 700),
            ("2001:db8::2", 700),
            ("192.0.2.3", 5),
            ("192.0.2.4", 4),
        ]:
            for _ in range(count):
                self.refusals.add(f"kind of {len(host)}", host)
        self.assertEqual(
            self.refusals.summary(),
            "2,399 more were refused in the last minute: kind of 11 (1,395), kind of 9 (1,004);"
            " most from 2001:db8::/64 (1,395), 192.0.2.1 (995), 192.0.2.3 (5)",
        )
        self.assertEqual(self.refusals.summary(), "")

    def test_a_flood_from_everywhere_takes_bounded_memory_and_hides_nobody(self) -> None:
        for number in range(20_000):
            self.refusals.add("a kind", f"10.{number >> 8}.{number & 255}.1")
            if number % 10 == 0:
                self.refusals.add("a kind", "192.0.2.1")
            self.assertLessEqual(len(self.refusals._networks), 1000)
        self.assertRegex(self.refusals.summary(), r"21,995 more .* most from 192\.0\.2\.1 ")


class PartTests(SynchronousTestCase):
    def test_durations(self) -> None:
        for seconds, written in [
            (0, "0 s"),
            (59.9, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ]:
            self.assertEqual(duration(seconds), written)

    def test_peers(self) -> None:
        self.assertEqual(str(Peer("192.0.2.1", 80)), "192.0.2.1 port 80")
        self.assertEqual(str(Peer("a Unix socket", 0)), "a Unix socket")

    def test_a_rate_bound(self) -> None:
        bound = RateBound(lambda: 2)
        self.assertEqual([bound.admits() for _ in range(5)], [True, True, False, False, False])
        self.assertEqual((bound.tick(), bound.admits(), bound.tick()), (3, True, 0))
