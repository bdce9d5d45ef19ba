"""The command line of ``twistd chatrelay``."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import Misuse
from chatrelay.limits import Limits
from chatrelay.listening import Listener, parse_port
from chatrelay.options import Options


def parse(*words: str) -> Options:
    options = Options()
    options.parseOptions(list(words))
    return options


class OptionTests(SynchronousTestCase):
    def refusal(self, *words: str) -> str:
        """The one line that wrong options end with."""
        ended = self.assertRaises(SystemExit, parse, *words)
        self.assertIsInstance(ended.code, str)
        self.assertTrue(ended.code.startswith("chatrelay: "), ended.code)
        self.assertNotIn("\n", ended.code)
        return str(ended.code)

    def test_the_defaults(self) -> None:
        options = parse()
        self.assertEqual(options["ports"], ["12345"])
        self.assertEqual((options["interface"], options["reserved"]), (None, []))
        self.assertEqual(options["bots"], ["reverse"])
        self.assertFalse(options["verbose"])
        self.assertEqual(options.limits, Limits())

    def test_every_bound_is_an_option(self) -> None:
        for option, field, value in [
            ("max-clients", "max_clients", 5),
            ("max-unnamed", "max_unnamed", 1),
            ("max-per-address", "max_per_address", 1_000_000),
            ("connects-per-minute", "connects_per_min", 0),
            ("max-line", "max_line_bytes", 512),
            ("max-watches", "max_watches", 1),
            ("max-rooms-per-client", "max_rooms_per_client", 1),
            ("max-rooms", "max_rooms", 1),
            ("max-kept-rooms", "max_kept_rooms", 0),
            ("max-members", "max_members", 1),
            ("accounts-per-day", "accounts_per_day", 0),
            ("names-per-minute", "names_per_min", 5),
            ("lines-per-second", "lines_per_s", 10),
            ("bytes-per-second", "bytes_per_s", 10_000),
            ("burst", "burst_s", 3600),
            ("idle-timeout", "idle_timeout_s", 90),
            ("naming-timeout", "naming_timeout_s", 4),
            ("high-water", "high_water_bytes", 65_536),
            ("max-unsent", "max_unsent_bytes", 65_536),
        ]:
            limits = parse(f"--{option}={value}").limits
            self.assertEqual(getattr(limits, field), value)

    def test_the_low_mark_is_half_the_high_one(self) -> None:
        limits = parse("--high-water", "200000").limits
        self.assertEqual((limits.high_water_bytes, limits.low_water_bytes), (200_000, 100_000))

    def test_repeated_options(self) -> None:
        options = parse(
            *("--port", "1", "--port", "tcp:2", "--reserve", "Root", "--reserve", "Анна"),
            *("--bot", "a", "--bot", "b"),
        )
        self.assertEqual(options["ports"], ["1", "tcp:2"])
        self.assertEqual([name.shown.decode() for name in options["reserved"]], ["Root", "Анна"])
        self.assertEqual(options["bots"], ["a", "b"])

    def test_no_bots(self) -> None:
        self.assertEqual(parse("--no-bots")["bots"], [])
        self.assertIn("--no-bots", self.refusal("--no-bots", "--bot", "reverse"))

    def test_what_is_wrong_is_named(self) -> None:
        for words, named in [
            (["--max-clients", "0"], "max-clients"),
            (["--max-clients", "-1"], "max-clients"),
            (["--max-clients", "five"], "max-clients"),
            (["--max-clients", "1000001"], "max-clients"),
            (["--max-line", "511"], "max-line"),
            (["--max-line", "65537"], "max-line"),
            (["--naming-timeout", "3"], "naming-timeout"),
            (["--reserve", "a b"], "--reserve"),
            (["--reserve", ""], "--reserve"),
            (["--interface", "localhost"], "--interface"),
            (["--nosuch"], "nosuch"),
            (["12345"], "12345"),
        ]:
            self.assertIn(named, self.refusal(*words))

    def test_help_names_every_option(self) -> None:
        text = str(parse())
        for option in ("--port", "--interface", "--max-clients", "--reserve", "--bot", "--verbose"):
            self.assertIn(option, text)


class PortTests(SynchronousTestCase):
    def listeners(self, written: str, interface: str | None = None) -> list[Listener]:
        return parse_port(MemoryReactorClock(), written, interface)

    def test_a_bare_number_is_loopback_of_both_kinds(self) -> None:
        first, second = self.listeners("12345")
        self.assertIsInstance(first.endpoint, TCP4ServerEndpoint)
        self.assertIsInstance(second.endpoint, TCP6ServerEndpoint)
        self.assertEqual((first.is_optional, second.is_optional), (False, True))
        for listener, interface in ((first, "127.0.0.1"), (second, "::1")):
            endpoint: Any = listener.endpoint
            self.assertEqual((endpoint._port, endpoint._interface), (12345, interface))

    def test_with_an_interface_it_is_that(self) -> None:
        for interface, kind in [("0.0.0.0", TCP4ServerEndpoint), ("::", TCP6ServerEndpoint)]:
            (listener,) = self.listeners("1", interface)
            self.assertIsInstance(listener.endpoint, kind)
            self.assertFalse(listener.is_optional)

    def test_any_endpoint_string(self) -> None:
        for written, kind in [
            ("tcp:1", TCP4ServerEndpoint),
            ("tcp:1:interface=0.0.0.0", TCP4ServerEndpoint),
            ("tcp6:1", TCP6ServerEndpoint),
            ("unix:/tmp/chatrelay.socket", UNIXServerEndpoint),
        ]:
            (listener,) = self.listeners(written)
            self.assertIsInstance(listener.endpoint, kind)
        self.assertEqual(len(self.listeners("haproxy:tcp:1")), 1)

    def test_what_is_neither(self) -> None:
        for written in ("", "65536", "nosuch:1", "tcp:", "tcp:x", "-1", "1.5", "tcp"):
            error = self.assertRaises(Misuse, self.listeners, written)
            self.assertIn("--port", str(error))
            self.assertNotIn("\n", str(error))
