"""The command line of ``twistd chatrelay``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import configuration
from chatrelay.errors import Misuse
from chatrelay.limits import Limits
from chatrelay.listening import Listener, parse_port
from chatrelay.options import BOUNDS, Options
from chatrelay.store.database import default_directory


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
        chosen = parse().configuration
        self.assertEqual(chosen.ports, ("12345",))
        self.assertEqual((chosen.interface, chosen.reserved, chosen.operators), (None, (), ()))
        self.assertEqual(chosen.bots, ("reverse",))
        self.assertEqual(chosen.data, default_directory(os.environ))
        self.assertFalse(chosen.is_verbose or chosen.is_public or chosen.allows_insecure_secrets)
        self.assertEqual(chosen.limits, Limits())

    def test_every_bound_is_an_option(self) -> None:
        for option, field, least, most, _ in BOUNDS:
            self.assertTrue(least <= getattr(Limits(), field) <= most, option)
            for value in (least, most):
                limits = parse(f"--{option}={value}").limits
                self.assertEqual(getattr(limits, field), value, option)
            for value in (least - 1, most + 1):
                self.assertIn(option, self.refusal(f"--{option}={value}"))

    def test_the_low_mark_is_half_the_high_one(self) -> None:
        limits = parse("--high-water", "200000").limits
        self.assertEqual((limits.high_water_bytes, limits.low_water_bytes), (200_000, 100_000))

    def test_repeated_options(self) -> None:
        chosen = parse(
            *("--port", "1", "--port", "tcp:2", "--reserve", "Root", "--reserve", "Анна"),
            *("--operator", "Boss", "--operator", "eve", "--bot", "Reverse"),
        ).configuration
        self.assertEqual(chosen.ports, ("1", "tcp:2"))
        self.assertEqual([name.shown.decode() for name in chosen.reserved], ["Root", "Анна"])
        self.assertEqual([name.key for name in chosen.operators], [b"boss", b"eve"])
        self.assertEqual(chosen.bots, ("Reverse",))

    def test_flags(self) -> None:
        chosen = parse("--public", "--verbose", "--allow-insecure-secrets").configuration
        self.assertTrue(chosen.is_public and chosen.is_verbose and chosen.allows_insecure_secrets)

    def test_a_public_relay_has_other_limits_and_each_can_be_set(self) -> None:
        self.patch(configuration, "PUBLIC_LIMITS", {"max_watches": 7, "max_clients": 8})
        limits = parse("--public", "--max-clients", "20000").limits
        self.assertEqual((limits.max_watches, limits.max_clients), (7, 20_000))
        self.assertEqual(parse().limits, Limits())

    def test_where_data_is_and_how_long(self) -> None:
        home = str(Path.home())
        for words, data, days in [
            (["--data", "none", "--history", "none"], None, 0),
            (["--data", "/x", "--history", "1"], Path("/x"), 1),
            (["--data", "~/x"], Path(home, "x"), 30),
            (["--data", "x"], Path.cwd() / "x", 30),
        ]:
            chosen = parse(*words).configuration
            self.assertEqual((chosen.data, chosen.limits.history_s), (data, days * 86_400.0))

    def test_no_bots(self) -> None:
        self.assertEqual(parse("--no-bots").configuration.bots, ())
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
            (["--operator", "#"], "--operator"),
            (["--interface", "localhost"], "--interface"),
            (["--history", "0"], "--history"),
            (["--data", "~nobody-at-all/x"], "nobody-at-all"),
            (["--port", "nosuch:1"], "--port"),
            (["--bot", "nosuch"], "nosuch"),
            (["--reserve", "reverse"], "reverse"),
            (["--operator", "reverse"], "reverse"),
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
