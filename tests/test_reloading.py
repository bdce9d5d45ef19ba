"""A relay takes over what was changed in its configuration file, and says what it can not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import configuration, options, parts
from chatrelay.configuration_file import file_keys
from chatrelay.errors import Misuse
from chatrelay.limits import FIXED
from chatrelay.options import BOUNDS, Options
from chatrelay.reloading import Reloading
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import World
from tests.store_harness import temporary_directory
from tests.test_configuration_file import _COMMENTED_OUT, EXAMPLE
from tests.test_naming import welcome
from tests.test_structure import ROOT

# What each key is changed to, besides limits, and how that is said; a relay starts with the first.
_OTHER_VALUES = {
    "ports": ("[1]", "[2, 3]", "is 1 until a restart makes it 2, 3"),
    "interface": ("'loopback'", "'::'", "is loopback until a restart makes it ::"),
    "bots": ("[]", "['reverse']", "is none until a restart makes it reverse"),
    "data": ("'/a'", "'none'", "is /a until a restart makes it none"),
    "reserved": ("['a', 'b']", "['Анна']", "is Анна now, it was a, b"),
    "operators": ("[]", "['boss']", "is boss now, it was none"),
    "public": ("false", "true", "is true now, it was false"),
    "history": ("7", "8", "is 8 now, it was 7"),
    "allow-insecure-secrets": ("true", "false", "is false now, it was true"),
    "verbose": ("false", "true", "is true now, it was false"),
}


class ReloadingTestCase(SynchronousTestCase):
    """A test with a relay that was started with a file."""

    def setUp(self) -> None:
        self.path = temporary_directory(self) / "relay.toml"
        self.changes = 0

    def start(self, text: str, *words: str, owned: bool = False) -> None:
        """Start a relay with a file."""
        self.path.write_text(text, "utf-8")
        options = Options()
        options.parseOptions(["--config", str(self.path), *words])
        chosen = options.configuration
        arguments: dict[str, Any] = {
            "reserved": [name.shown for name in chosen.reserved],
            "operators": [name.shown for name in chosen.operators],
            "is_public": chosen.is_public,
            "allows_insecure_secrets": chosen.allows_insecure_secrets,
            "verbose": chosen.is_verbose,
        }
        limits = replace(chosen.limits)
        self.world = OwnedWorld(self, limits, **arguments) if owned else World(limits, **arguments)
        self.relay = self.world.relay
        self.reloading = Reloading(options, self.relay, self._note_change)

    def _note_change(self) -> None:
        self.changes += 1

    def reread(self, text: str) -> list[str]:
        """Write the file and have it read again; return what the log says of it."""
        self.path.write_text(text, "utf-8")
        with capturedLogs() as events:
            self.reloading.reread()
        self.world.settle()
        lines = [f"{event['log_level'].name}: {formatEvent(event)}" for event in events]
        return [line.replace(str(self.path), "FILE") for line in lines if str(self.path) in line]

    def state(self) -> tuple[object, ...]:
        """Everything of a relay that a configuration sets."""
        relay = self.relay
        return (
            replace(relay.limits),
            {*relay.operators},
            {*relay.registry._reserved},
            relay.is_public,
            relay.allows_insecure_secrets,
            relay.console.verbose,
        )


class ReloadingTests(ReloadingTestCase):
    def test_nothing_has_changed(self) -> None:
        self.start("ports = [1]")
        before = self.state()
        [said] = self.reread("# the same\nports = ['1']\n[limits]\nmax-clients = 20000")
        self.assertEqual(said, "info: FILE: nothing is other than it was")
        self.assertEqual((self.state(), self.changes), (before, 0))

    def test_every_limit(self) -> None:
        """Each takes effect at once, or is said to need a restart and stays."""
        for option, field, least, most, _ in BOUNDS:
            self.start(f"[limits]\n{option} = {least}")
            [said] = self.reread(f"[limits]\n{option} = {most}")
            if field in FIXED:
                expected, now = f"warn: FILE: limits.{option} is {least} until a restart", least
            else:
                expected, now = f"info: FILE: limits.{option} is {most} now, it was {least}", most
            self.assertTrue(said.startswith(expected), said)
            self.assertEqual(getattr(self.relay.limits, field), now)
            self.assertEqual(self.changes, int(field not in FIXED))
            self.changes = 0

    def test_the_document_names_those_that_need_a_restart(self) -> None:
        options = {option for option, field, *_ in BOUNDS if field in FIXED}
        text = (ROOT / "docs" / "configuration.rst").read_text("utf-8")
        self.assertEqual(options, {"max-line"})
        self.assertIn("all of ``[limits]`` but ``max-line``", text)
        for key, (*_, words) in _OTHER_VALUES.items():
            _, _, with_restart = text.partition("at once      ")
            line = next(line for line in with_restart.splitlines() if f"``{key}``" in line)
            self.assertEqual(line.index(f"``{key}``") > 50, "restart" in words, key)

    def test_every_other_key(self) -> None:
        keys = [key for key in file_keys(BOUNDS) if not key.startswith("limits.")]
        self.assertEqual({*_OTHER_VALUES}, {*keys}, "say of each key whether it needs a restart")
        for key, (old, new, words) in _OTHER_VALUES.items():
            self.start(f"{key} = {old}")
            before = self.state()
            said = self.reread(f"{key} = {new}")
            self.assertEqual(said[0].partition(": ")[2], f"FILE: {key} {words}")
            waits = "restart" in words
            self.assertEqual(said[0].startswith("warn"), waits)
            self.assertEqual(self.state() == before, waits, key)
            # It says so again, as long as it is so.
            again = self.reread(f"{key} = {new}")
            self.assertEqual(again == said, waits, key)

    def test_history_begins_and_ends_with_a_restart(self) -> None:
        for old, new in [("7", "'none'"), ("'none'", "7")]:
            self.start(f"history = {old}")
            before = self.state()
            [said] = self.reread(f"history = {new}")
            self.assertIn("until a restart", said)
            self.assertEqual(self.state(), before)

    def test_something_that_can_change_and_something_that_can_not(self) -> None:
        self.start("ports = [1]\n[limits]\nmax-line = 8192")
        said = self.reread(
            "ports = [2]\n[limits]\nmax-line = 512\nmax-rooms = 5\nhigh-water = 65536"
        )
        self.assertEqual(len(said), 4)
        limits = self.relay.limits
        self.assertEqual((limits.max_line_bytes, limits.max_rooms), (8192, 5))
        self.assertEqual((limits.high_water_bytes, limits.low_water_bytes), (65_536, 32_768))
        said = self.reread("ports = [1]\n[limits]\nmax-rooms = 6\nhigh-water = 65536")
        self.assertEqual(said, ["info: FILE: limits.max-rooms is 6 now, it was 5"])

    def test_with_something_wrong_nothing_changes(self) -> None:
        self.start("reserved = ['a']\n[limits]\nmax-rooms = 5")
        before = self.state()
        said = self.reread("reserved = ['b']\nverbos = 1\n[limits]\nmax-rooms = 6\nmax-clients = 0")
        self.assertEqual(
            said,
            [
                "error: not taken over: FILE: verbos: there is no such key; was verbose meant?",
                "error: not taken over: FILE: limits.max-clients: 0 is not a whole number from 1 to"
                " 1000000",
            ],
        )
        self.path.unlink()
        self.path.mkdir()
        self.reloading.reread()
        self.assertEqual((self.state(), self.changes), (before, 0))
        self.path.rmdir()
        self.assertEqual(len(self.reread("reserved = ['b']\n[limits]\nmax-rooms = 5")), 1)

    def test_what_is_not_there_is_wrong_also_if_it_needs_a_restart(self) -> None:
        self.start("ports = [1]\nbots = []")
        said = self.reread("ports = ['nosuch:1']\nbots = ['nosuch']\nreserved = ['x']")
        self.assertEqual([line.split(": ")[3] for line in said], ["ports", "bots"])
        self.assertEqual(self.relay.registry._reserved, set())

    def test_what_it_runs_with_is_not_looked_for_again(self) -> None:
        """Its user may not read a certificate any more, that it has."""
        self.start("ports = [1]")

        def gone(*_arguments: object) -> None:
            raise Misuse("it is not there")

        self.patch(parts, "parse_port", gone)
        self.patch(parts, "find_bots", gone)
        self.assertEqual(len(self.reread("ports = [1]\n[limits]\nmax-rooms = 5")), 1)
        self.assertEqual(self.relay.limits.max_rooms, 5)
        said = self.reread("ports = [2]\n[limits]\nmax-rooms = 6")
        self.assertEqual(said, ["error: not taken over: FILE: ports: it is not there"])
        self.assertEqual(self.relay.limits.max_rooms, 5)

    def test_the_command_line_wins_still(self) -> None:
        self.start("[limits]\nmax-rooms = 5", "--max-rooms", "7", "--reserve", "root")
        [said] = self.reread("reserved = []\n[limits]\nmax-rooms = 6")
        self.assertIn("nothing is other", said)

    def test_without_a_place_for_data(self) -> None:
        self.start("data = 'none'")
        before = self.state()
        error = Misuse("this user has no home directory: say --data DIR")
        self.patch(options, "default_directory", mock.Mock(side_effect=error))
        self.assertEqual(self.reread("verbose = true"), [f"error: not taken over: FILE: {error}"])
        self.assertEqual((self.state(), self.changes), (before, 0))

    def test_there_is_no_file(self) -> None:
        self.start("")
        self.reloading._options.file = None
        before = self.state()
        with capturedLogs() as events:
            self.reloading.reread()
        self.assertIn("no --config was given", formatEvent(events[0]))
        self.assertEqual((self.state(), self.changes), (before, 0))

    def test_public(self) -> None:
        self.patch(configuration, "PUBLIC_LIMITS", {"max_watches": 7, "max_clients": 8})
        self.start("[limits]\nmax-clients = 9")
        said = self.reread("public = true\n[limits]\nmax-clients = 9")
        self.assertEqual(
            said,
            [
                "info: FILE: public is true now, it was false",
                "info: FILE: limits.max-watches is 7 now, it was 128",
            ],
        )
        self.assertEqual((self.relay.limits.max_watches, self.relay.limits.max_clients), (7, 9))

    def test_a_long_value_is_cut(self) -> None:
        self.start("")
        [said] = self.reread(f"reserved = [{', '.join(repr(f'name{n}') for n in range(999))}]")
        self.assertLess(len(said), 300)
        self.assertEqual(len(self.relay.registry._reserved), 999)

    def test_the_example_uncommented(self) -> None:
        example = EXAMPLE.read_text("utf-8")
        self.start(example, "--data", "none")
        [said] = self.reread(_COMMENTED_OUT.sub("", example))
        self.assertIn("nothing is other", said)


class ClientTests(ReloadingTestCase):
    """What clients see of it."""

    def test_bounds(self) -> None:
        self.start("[limits]\nmax-watches = 1\nmax-clients = 1")
        alice = self.world.join(b"alice")
        self.assertEqual(self.world.connect().lines(b"bob"), [b"!error too-many-clients"])
        self.assertEqual(alice.lines(b"/watch a b"), [b"!error too-many-watches"])
        self.reread("[limits]\nmax-watches = 2\nmax-clients = 2")
        self.assertEqual(alice.lines(b"/watch a b"), [b"!offline a", b"!offline b"])
        self.assertEqual(self.world.connect().lines(b"bob"), [welcome("bob")])

    def test_who_has_a_name_that_is_reserved_leaves_it(self) -> None:
        self.start("reserved = ['root']", owned=True)
        boss, root, other = self.world.join(b"Boss"), self.world.connect(), self.world.join(b"eve")
        self.assertEqual(root.lines(b"root"), [b"!error name-reserved root"])
        self.reread("operators = ['boss']")
        self.assertEqual(boss.told(), [b"!error name-reserved Boss"])
        self.assertFalse(boss.is_connected)
        self.assertEqual(root.lines(b"root"), [welcome("root")])
        self.assertEqual(other.told(), [])
        self.assertEqual(self.relay.operators, {b"boss"})

    def test_who_owns_it_keeps_it(self) -> None:
        self.start("", owned=True)
        boss = self.world.join(b"boss")
        self.assertEqual(boss.lines(b"/register " + SECRET), [b"!registered boss"])
        self.reread("operators = ['boss']")
        self.assertEqual(boss.lines(b"/ping"), [b"!pong"])
