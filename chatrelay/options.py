"""
What can be chosen on the command line of ``twistd chatrelay``, and in the file that it names.

The command line wins over the file, key by key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.configuration import (
    MAX_HISTORY_DAYS,
    NONE,
    BadConfigurationError,
    Bound,
    Configuration,
    Problem,
    limit_key,
    put_together,
    read_data,
    read_interface,
    read_name,
)
from chatrelay.configuration_file import read_file
from chatrelay.errors import ChatrelayError, Misuse
from chatrelay.limits import Limits
from chatrelay.names import Name
from chatrelay.parts import Parts, find_parts
from chatrelay.store.database import default_directory

# Lines that one read brings must fit, and the default receiver of most libraries
# gives up at 16 KiB; the relay adds up to 1 KiB.
_MIN_LINE_BYTES = 512
_MAX_LINE_BYTES = 65_536

BOUNDS: tuple[Bound, ...] = (
    ("max-clients", "max_clients", 1, 1_000_000, "Named clients at once."),
    ("max-unnamed", "max_unnamed", 1, 1_000_000, "Connections without a name at once."),
    (
        "max-per-address",
        "max_per_address",
        1,
        1_000_000,
        "Connections from one address; loopback has no bound.",
    ),
    (
        "connects-per-minute",
        "connects_per_min",
        0,
        1_000_000,
        "New connections from one address in a minute; 0 for any number.",
    ),
    ("max-line", "max_line_bytes", _MIN_LINE_BYTES, _MAX_LINE_BYTES, "Bytes in a client's line."),
    ("max-devices", "max_devices", 2, 1000, "Connections of one registered name."),
    ("max-accounts", "max_accounts", 0, 100_000_000, "Registered names."),
    ("max-mailbox", "max_mailbox_entries", 40, 10_000_000, "Messages kept for one name."),
    ("max-mailbox-bytes", "max_mailbox_bytes", 1 << 20, 1 << 50, "Their size."),
    ("max-store", "max_store_bytes", 1 << 20, 1 << 60, "Size of all that is kept, in bytes."),
    ("max-targets", "max_targets", 1, 1000, "Names in one message."),
    ("max-refs", "max_refs", 1, 1_000_000, "Refs that are remembered for one sender."),
    ("max-watches", "max_watches", 1, 100_000, "Names that one client watches."),
    ("max-rooms-per-client", "max_rooms_per_client", 1, 100_000, "Rooms that one client is in."),
    ("max-rooms", "max_rooms", 1, 10_000_000, "Rooms in all."),
    ("max-kept-rooms", "max_kept_rooms", 0, 100_000, "Rooms that one owner keeps."),
    ("max-members", "max_members", 1, 1_000_000, "Members of one room."),
    ("naming-timeout", "naming_timeout_s", 4, 86_400, "Seconds for giving a name."),
    (
        "accounts-per-day",
        "accounts_per_day",
        0,
        100_000_000,
        "Names registered from one address in a day; 0 for any number.",
    ),
    (
        "addresses-per-site",
        "addresses_per_site",
        0,
        65_536,
        "As how many addresses an IPv6 /48 counts; 0 for any number.",
    ),
    (
        "names-per-minute",
        "names_per_min",
        0,
        1_000_000,
        "Other names that one client asks for in a minute; 0 for any number.",
    ),
    (
        "lines-per-second",
        "lines_per_s",
        0,
        1_000_000,
        "Lines that are taken from one client in a second; 0 for any number.",
    ),
    (
        "bytes-per-second",
        "bytes_per_s",
        0,
        1 << 40,
        "Bytes that are taken from one client in a second; 0 for any number.",
    ),
    ("burst", "burst_s", 1, 3600, "Seconds of that which may be used at once."),
    (
        "idle-timeout",
        "idle_timeout_s",
        0,
        30 * 86_400,
        "Seconds in which a client may send nothing; 0 for any time.",
    ),
    (
        "high-water",
        "high_water_bytes",
        65_536,
        1 << 40,
        "Unsent bytes of one client at which those who write to it are held.",
    ),
    ("max-unsent", "max_unsent_bytes", 65_536, 1 << 50, "Unsent bytes of all clients together."),
    (
        "log-lines-per-second",
        "max_console_lines_per_s",
        1,
        100_000,
        "Lines of one kind in the log; the others are summed up.",
    ),
)


def _whole_number(option: str, least: int, most: int) -> Callable[[str], int]:
    def coerce(written: str) -> int:
        if written.isdecimal() and least <= int(written) <= most:
            return int(written)
        raise usage.UsageError(
            f"--{option} {written!a}: it takes a whole number from {least} to {most}"
        )

    return coerce


class Options(usage.Options):
    """
    The options of ``twistd chatrelay``.

    What is wrong with them, or with the file, ends the program: with one line for the command
    line, with a line for each thing that is wrong in the file.

    :ivar configuration: after parsing, what was chosen.
    :ivar parts: what that names, found.
    :ivar file: the file of ``--config``; ``None`` without.
    :ivar file_name: how the operator wrote it.
    """

    synopsis = "[options]"
    longdesc = (
        "A relay of named messages. A client's first line is its name; then %bob%hello"
        " reaches bob as %alice%hello. Try: nc localhost 12345"
    )
    optFlags = [  # noqa: N815 - Twisted's name
        ["check-config", None, "Say what is wrong with the file and the options, and end."],
        ["no-bots", None, "Start without any bot."],
        ["public", None, "For the open internet: the limits are right for strangers."],
        [
            "allow-insecure-secrets",
            None,
            "Take secrets on any connection, also where others can read them.",
        ],
        ["verbose", "v", "Log every message that is relayed."],
    ]
    optParameters = [  # noqa: N815 - Twisted's name
        [option, None, int(getattr(Limits, field)), purpose, _whole_number(option, least, most)]
        for option, field, least, most, purpose in BOUNDS
    ]
    configuration: Configuration
    parts: Parts

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        super().__init__()
        for option, *_ in BOUNDS:
            # What was not given is not there: the file may say it.
            del self[option]
        self.file: Path | None = None
        self.file_name = ""
        self._given: dict[str, Any] = {}

    @property
    def limits(self) -> Limits:
        """The bounds that were chosen."""
        return self.configuration.limits

    def opt_config(self, written: str) -> None:
        """A TOML file in which all options can stand; an option that is given wins over it."""
        self.file_name = written
        # twistd may go somewhere else, and the file be read again.
        self.file = Path(written).absolute()

    def opt_port(self, written: str) -> None:
        """A port number, tls:NUMBER, or a Twisted endpoint string; may be repeated.
        [default: 12345]
        """
        self._add("ports", written)

    def opt_interface(self, written: str) -> None:
        """Where port numbers listen: 0.0.0.0 is every network. [default: loopback]"""
        try:
            self._given["interface"] = read_interface(written)
        except Misuse as error:
            raise Misuse(f"--interface {error}") from None

    def opt_data(self, written: str) -> None:
        """Where registered names and their messages are kept; "none" keeps none.
        [default: chatrelay in the XDG state directory]
        """
        if written:
            self._given["data"] = read_data(written)

    def opt_history(self, written: str) -> None:
        """For how many days what registered names have read and sent is kept; "none" keeps
        only what they have not read. [default: 30]
        """
        if written == NONE:
            self._given["history"] = 0
        elif written.isdecimal() and 1 <= int(written) <= MAX_HISTORY_DAYS:
            self._given["history"] = int(written)
        else:
            raise usage.UsageError(
                f"--history {written!a}: it takes a number of days from 1 to {MAX_HISTORY_DAYS},"
                " or none"
            )

    def opt_reserve(self, written: str) -> None:
        """A name that no client may take; may be repeated."""
        self._add("reserved", _name("--reserve", written))

    def opt_operator(self, written: str) -> None:
        """A registered name whose owner is an operator; may be repeated."""
        self._add("operators", _name("--operator", written))

    def opt_bot(self, written: str) -> None:
        """A bot to start, instead of the default one; may be repeated. [default: reverse]"""
        self._add("bots", written)

    def opt_version(self) -> None:
        """Display the versions of chatrelay and Twisted, and exit."""
        print(f"chatrelay {__version__}")
        super().opt_version()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line and the file; what is wrong with them ends the program."""
        try:
            super().parseOptions(options)
        except BadConfigurationError as error:
            raise SystemExit("\n".join(f"chatrelay: {line}" for line in error.lines)) from None
        except (usage.UsageError, ChatrelayError) as error:
            raise SystemExit(f"chatrelay: {error} (twistd chatrelay --help)") from None

    def parseArgs(self, *arguments: str) -> None:
        """Refuse what is no option."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!a} is not an option; was --port meant?")

    def postOptions(self) -> None:
        """
        Put together what was chosen.

        :raises BadConfigurationError: it can not be used.
        """
        if self["no-bots"]:
            if "bots" in self._given:
                raise usage.UsageError("--bot and --no-bots exclude each other")
            self._given["bots"] = []
        for flag in ("public", "allow-insecure-secrets", "verbose"):
            if self[flag]:
                self._given[flag] = True
        for option, *_ in BOUNDS:
            if option in self:
                self._given[limit_key(option)] = self[option]
        self.configuration, self.parts = self._read()
        if self["check-config"]:
            print(f"chatrelay: {self.file_name or 'the command line'}: nothing is wrong")
            raise SystemExit(0)

    def reread(self, running: Configuration) -> Configuration:
        """
        Read the file again; the command line is what it was, and wins.

        :param running: what a relay runs with; what that has is not looked for again.
        :raises BadConfigurationError: it can not be used.
        """
        return self._read(running)[0]

    def _read(self, running: Configuration | None = None) -> tuple[Configuration, Parts]:
        chosen: dict[str, Any] = {}
        problems: list[Problem] = []
        if self.file is not None:
            chosen, problems = read_file(self.file, BOUNDS)
        lines = [self._in_file(problem) for problem in problems]
        wrong = {problem.key.partition("[")[0] for problem in problems}
        chosen = {key: value for key, value in chosen.items() if key not in self._given}
        configuration = put_together(
            chosen | self._given, BOUNDS, lambda: default_directory(os.environ)
        )
        parts, missing = find_parts(
            configuration,
            _installed_reactor(),
            wrong,
            running,
            is_check=bool(self["check-config"]) or running is not None,
        )
        if "" not in wrong:  # that is a file that could not be read
            lines += [
                self._in_file(problem) if problem.key in chosen else problem.sentence
                for problem in missing
            ]
        if lines:
            raise BadConfigurationError(lines)
        return configuration, parts

    def _in_file(self, problem: Problem) -> str:
        key, sentence = problem
        # What is an option on the command line is a key here.
        words = (self.file_name, key, sentence.removeprefix("--port "))
        return ": ".join(filter(None, words))

    def _add(self, key: str, value: object) -> None:
        self._given.setdefault(key, []).append(value)


def _name(option: str, written: str) -> Name:
    try:
        return read_name(written)
    except ChatrelayError as error:
        raise Misuse(f"{option} {written!a}: {error}") from None


def _installed_reactor() -> Any:  # noqa: ANN401 - several interfaces
    from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen it

    return reactor
