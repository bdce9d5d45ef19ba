"""What may stand in a configuration file, what is said of everything else, and what wins."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.configuration import Configuration
from chatrelay.configuration_file import file_keys
from chatrelay.limits import PUBLIC_LIMITS, Limits
from chatrelay.options import BOUNDS, Options
from tests.store_harness import temporary_directory
from tests.test_structure import ROOT

EXAMPLE = ROOT / "docs" / "chatrelay.toml"
# A setting that is not used; what people read has a space behind the mark.
_COMMENTED_OUT = re.compile(r"^#(?=[a-z\[])", re.MULTILINE)


class FileTestCase(SynchronousTestCase):
    """A test with a configuration file."""

    def setUp(self) -> None:
        self.path = temporary_directory(self) / "relay.toml"

    def parse(self, text: str, *words: str) -> Options:
        self.path.write_text(text, "utf-8")
        options = Options()
        options.parseOptions(["--config", str(self.path), *words])
        return options

    def chosen(self, text: str, *words: str) -> Configuration:
        return self.parse(text, *words).configuration

    def wrong(self, text: str, *words: str) -> list[str]:
        """What is said of a file, without the words at the beginning of each line."""
        ended = self.assertRaises(SystemExit, self.parse, text, *words)
        lines = str(ended.code).splitlines()
        beginning = f"chatrelay: {self.path}: "
        for line in lines:
            self.assertTrue(line.startswith(beginning), line)
        return [line.removeprefix(beginning) for line in lines]


class KeyTests(FileTestCase):
    def test_every_key(self) -> None:
        chosen = self.chosen(
            'ports = [0, "tcp:1"]\ninterface = "::"\nbots = []\nreserved = ["Root", "Анна"]\n'
            'operators = ["Boss"]\npublic = true\ndata = "/data"\nhistory = 7\n'
            "allow-insecure-secrets = true\nverbose = true\n[limits]\n"
            + "".join(f"{option} = {least}\n" for option, _, least, *_ in BOUNDS)
        )
        self.assertEqual(
            (chosen.ports, chosen.interface, chosen.bots, chosen.data, chosen.limits.history_s),
            (("0", "tcp:1"), "::", (), Path("/data"), 7 * 86_400.0),
        )
        names = [[name.key for name in part] for part in (chosen.reserved, chosen.operators)]
        self.assertEqual(names, [[b"root", "анна".encode()], [b"boss"]])
        self.assertTrue(chosen.is_public and chosen.allows_insecure_secrets and chosen.is_verbose)
        for option, field, least, *_ in BOUNDS:
            self.assertEqual(getattr(chosen.limits, field), least, option)

    def test_an_empty_file_is_the_defaults(self) -> None:
        options = Options()
        options.parseOptions([])
        self.assertEqual(self.chosen(""), options.configuration)

    def test_each_key_that_is_wrong_is_named_with_what_was_expected(self) -> None:
        for text, line in [
            ("ports = 12345", "ports: 12345 is not a list of port numbers and endpoint strings,"),
            ("ports = []", "ports: [] is not a list of port numbers and endpoint strings, such as"),
            ("ports = [1, true]", "ports[1]: true is not a port number or an endpoint string"),
            ("ports = [65536]", "ports[0]: 65536 is not a port number or an endpoint string"),
            ("ports = ['nosuch:1']", "ports: 'nosuch:1' is neither a number nor a Twisted"),
            ("ports = ['tls:1:x']", "ports: 'tls:1:x' is not tls:PORT"),
            ("ports = ['tls:1']\ndata = 'none'", "ports: 'tls:1' needs certificate=FILE and"),
            ("interface = 'eth0'", "interface: 'eth0' is not an address; 0.0.0.0 is every one"),
            ("interface = 4", 'interface: 4 is not an address or "loopback"'),
            ("bots = ['nosuch']", "bots: there is no bot 'nosuch'; there are: reverse"),
            ("bots = [1]", "bots[0]: 1 is not the name of a bot"),
            (
                "reserved = ['reverse']",
                "reserved: 'reverse' can not be reserved: a bot has that name",
            ),
            (
                "operators = ['Reverse']",
                "operators: 'Reverse' can not be an operator: a bot has that name",
            ),
            (
                "operators = ['Server']",
                "operators: 'Server' can not be an operator: it is the relay's own name",
            ),
            ("operators = ['a b']", "operators[0]: 'a b': A name is 1 to 32"),
            ("reserved = ['']", "reserved[0]: '' is not a name"),
            ("reserved = 'root'", "reserved: 'root' is not a list of names"),
            ("public = 1", "public: 1 is not true or false"),
            ("verbose = 'yes'", "verbose: 'yes' is not true or false"),
            ("data = 0", 'data: 0 is not the path of a directory, or "none"'),
            ("data = ''", "data: '' is not the path of a directory"),
            ("data = '~nobody-at-all/x'", "data: '~nobody-at-all/x': "),
            ("history = 0", 'history: 0 is not a number of days from 1 to 36500, or "none"'),
            ("history = 'ever'", "history: 'ever' is not a number of days"),
            ("history = 1.5", "history: 1.5 is not a number of days"),
            ("history = 2026-11-26", "history: 2026-11-26 is not a number of days"),
            ("history = {a = 1}", "history: a table is not a number of days"),
            (
                f"history = 0x{5000 * 'f'}",
                "history: a number of many digits is not a number of days",
            ),
            ("history = [1]", "history: a list is not a number of days"),
            (f"history = '{99 * 'x'}'", "history: '" + 39 * "x" + "… is not a number of days"),
            ("limits = 5", "limits: 5 is not the table [limits]"),
        ]:
            [said] = self.wrong(text)
            self.assertTrue(said.startswith(line), (said, line))

    def test_every_bound(self) -> None:
        for option, _, least, most, _ in BOUNDS:
            for value in (str(least - 1), str(most + 1), "true", "'5'", "5.0", "[5]"):
                [said] = self.wrong(f"[limits]\n{option} = {value}")
                self.assertTrue(said.startswith(f"limits.{option}: "), said)
                self.assertIn(f"is not a whole number from {least} to {most}", said)

    def test_a_key_that_there_is_not(self) -> None:
        for text, line in [
            ("port = 1", "port: ; was ports meant?"),
            ("max-clients = 1", "max-clients: ; was max-clients meant, in [limits]?"),
            ("[limits]\nmax_clients = 1", "limits.max_clients: ; was max-clients meant?"),
            ("[limits]\nPORTS = 1", "limits.PORTS: ; was ports meant, before [limits]?"),
            ("[limit]\nmax-clients = 1", "limit: ; was [limits] meant?"),
            ("no-bots = true", "no-bots: ; was bots meant?"),
            ("reserve = ['x']", "reserve: ; was reserved meant?"),
            ("colour = 'blue'", "colour: "),
        ]:
            [said] = self.wrong(text)
            self.assertEqual(said.replace("there is no such key", ""), line)

    def test_everything_is_told_at_once(self) -> None:
        said = self.wrong(
            "ports = ['nosuch:1', 'tcp:x']\nbots = ['nosuch']\nverbos = true\nhistory = 0\n"
            "[limits]\nmax-clients = 'many'\nmax-rooms = -1\n"
        )
        self.assertEqual(
            [line.partition(":")[0] for line in said],
            [
                "verbos",
                "history",
                "limits.max-clients",
                "limits.max-rooms",
                "ports",
                "ports",
                "bots",
            ],
        )

    def test_what_is_found_by_something_wrong_is_not_looked_for(self) -> None:
        said = self.wrong("ports = ['tls:1']\ndata = 5\nbots = ['nosuch']\nreserved = [5]")
        self.assertEqual([line.partition(":")[0] for line in said], ["data", "reserved[0]"])

    def test_a_file_that_is_none(self) -> None:
        for data, words in [
            (b"ports = ", "it is not TOML: Invalid value (at end of document)"),
            (b"a = 1\na = 2\n", "it is not TOML: Cannot overwrite a value (at line 2, column 6)"),
            (b"a = " + 5000 * b"1", "it is not TOML: "),
            (b"a = '\xff'", "it is not UTF-8"),
            (b"a = " + 9999 * b"[", "it is not TOML: "),
        ]:
            with mock.patch.object(Path, "write_text"):
                self.path.write_bytes(data)
                [said] = self.wrong("")
            self.assertTrue(said.startswith(words), said)
        self.path.unlink()
        with mock.patch.object(Path, "write_text"):
            self.assertEqual(self.wrong(""), ["it can not be read: No such file or directory"])
            self.path.mkdir()
            self.assertEqual(self.wrong(""), ["it can not be read: Is a directory"])

    @given(
        st.recursive(
            st.one_of(st.booleans(), st.integers(), st.floats(), st.text()),
            lambda some: st.lists(some) | st.dictionaries(st.text(), some),
            max_leaves=4,
        )
    )
    def test_whatever_stands_at_a_key_is_taken_or_named(self, value: object) -> None:
        from chatrelay.configuration_file import _read_document  # noqa: PLC0415

        for key in file_keys(BOUNDS):
            table, _, last = key.rpartition(".")
            chosen, problems = _read_document(
                {table: {last: value}} if table else {key: value}, BOUNDS
            )
            self.assertNotEqual(bool(chosen), bool(problems), key)
            for problem in problems:
                self.assertEqual(problem.key.partition("[")[0], key)
                self.assertNotIn("\n", problem.sentence)


class CommandLineTests(FileTestCase):
    """The command line wins over the file, key by key."""

    def test_what_is_given_wins_and_the_rest_stays(self) -> None:
        text = (
            "ports = [1, 2]\nreserved = ['root']\nbots = []\nhistory = 3\ninterface = '::'\n"
            "[limits]\nmax-clients = 5\nmax-rooms = 6\n"
        )
        chosen = self.chosen(
            text,
            *("--port", "3", "--max-clients", "20000", "--bot", "reverse"),
            *("--interface", "loopback", "--verbose"),
        )
        self.assertEqual((chosen.ports, chosen.bots), (("3",), ("reverse",)))
        self.assertEqual((chosen.interface, chosen.is_verbose), (None, True))
        self.assertEqual((chosen.limits.max_clients, chosen.limits.max_rooms), (20_000, 6))
        self.assertEqual([name.key for name in chosen.reserved], [b"root"])
        self.assertEqual(chosen.limits.history_s, 3 * 86_400.0)

    def test_no_bots(self) -> None:
        self.assertEqual(self.chosen("bots = ['reverse']", "--no-bots").bots, ())

    def test_what_is_wrong_with_it_is_said_in_its_words(self) -> None:
        ended = self.assertRaises(SystemExit, self.parse, "ports = [1]", "--port", "nosuch:1")
        self.assertTrue(ended.code.startswith("chatrelay: --port 'nosuch:1' is "), ended.code)

    def test_a_file_that_is_wrong_is_wrong_also_where_the_command_line_wins(self) -> None:
        self.assertEqual(len(self.wrong("ports = 1", "--port", "1")), 1)


class CheckTests(FileTestCase):
    """``--check-config``"""

    def test_nothing_is_wrong(self) -> None:
        said = StringIO()
        with redirect_stdout(said):
            ended = self.assertRaises(SystemExit, self.parse, "ports = [1]", "--check-config")
        self.assertEqual(ended.code, 0)
        self.assertEqual(said.getvalue(), f"chatrelay: {self.path}: nothing is wrong\n")

    def test_sockets_that_only_the_relay_is_given_are_not_missed(self) -> None:
        text = 'ports = ["systemd:domain=INET:index=7", "systemd:domain=UNIX:name=chat"]'
        with redirect_stdout(StringIO()):
            ended = self.assertRaises(SystemExit, self.parse, text, "--check-config")
        self.assertEqual(ended.code, 0)
        for line in self.wrong(text):
            self.assertIn("systemd has handed over no such socket", line)
        self.assertEqual(len(self.wrong('ports = ["systemd:index=7"]', "--check-config")), 1)

    def test_something_is(self) -> None:
        self.assertEqual(len(self.wrong("a = 1\nb = 1", "--check-config")), 2)


class ExampleTests(FileTestCase):
    """docs/chatrelay.toml has every key with its default, and says what it is for."""

    def setUp(self) -> None:
        super().setUp()
        self.text = EXAMPLE.read_text("utf-8")

    def test_as_it_is_it_changes_nothing(self) -> None:
        self.assertEqual(self.chosen(self.text), self.chosen(""))

    def test_it_has_every_key_once(self) -> None:
        missing = {*file_keys(BOUNDS)} - {*self.settings()}
        self.assertEqual(missing, set(), f"write them, commented out, into {EXAMPLE.name}")

    def test_it_says_what_public_relays_have_instead(self) -> None:
        for option, field, *_ in BOUNDS:
            setting = self.settings()[f"limits.{option}"]
            said = re.search(r"# public: (\d+)$", setting)
            self.assertEqual(
                int(said[1]) if said else None, PUBLIC_LIMITS.get(field), f"{option} = {setting}"
            )

    def settings(self) -> dict[str, str]:
        """Everything behind the equals signs, by key."""
        found, table = {}, ""
        for line in _COMMENTED_OUT.sub("", self.text).splitlines():
            if line.startswith("["):
                table = line.strip("[]") + "."
            elif line and not line.startswith("#"):
                key, _, setting = line.partition(" = ")
                found[table + key] = setting
        return found

    def test_the_values_are_the_defaults(self) -> None:
        text = _COMMENTED_OUT.sub("", self.text)
        self.assertNotEqual(text, self.text)
        with mock.patch.dict("os.environ", {"XDG_STATE_HOME": ""}):
            found, defaults = self.chosen(text), self.chosen("")
        for field in fields(Configuration):
            self.assertEqual(getattr(found, field.name), getattr(defaults, field.name), field.name)

    def test_each_key_is_explained(self) -> None:
        lines = self.text.splitlines()
        for number, line in enumerate(lines):
            if re.match(r"#[a-z-]+ = ", line):
                self.assertRegex(lines[number - 1], r"^# |^#[a-z-]+ = ", line)

    def test_the_defaults_are_those_of_the_code(self) -> None:
        self.assertEqual(self.chosen("").limits, Limits())
