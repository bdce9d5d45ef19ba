"""What can be chosen on the command line of ``twistd chatrelay``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.errors import ChatrelayError, Misuse
from chatrelay.limits import Limits
from chatrelay.listening import DEFAULT_PORT, check_interface
from chatrelay.names import Name, parse_name
from chatrelay.store.database import default_directory

NO_DATA = "none"
DEFAULT_BOTS = ("reverse",)
DEFAULT_HISTORY_DAYS = 30
_MAX_DAYS = 36_500
_DAY_S = 86_400.0

# Lines that one read brings must fit, and the default receiver of most libraries
# gives up at 16 KiB; the relay adds up to 1 KiB.
_MIN_LINE_BYTES = 512
_MAX_LINE_BYTES = 65_536

# Option, the limit it sets, the least and the most it may be, and what it is for.
_BOUNDS: tuple[tuple[str, str, int, int, str], ...] = (
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
)


def _whole_number(option: str, least: int, most: int) -> Callable[[str], int]:
    def coerce(written: str) -> int:
        # What a person wrote, or the default.
        if str(written).isdecimal() and least <= int(written) <= most:
            return int(written)
        raise usage.UsageError(
            f"--{option} {written!a}: it takes a whole number from {least} to {most}"
        )

    return coerce


class Options(usage.Options):
    """
    The options of ``twistd chatrelay``.

    After parsing, `limits` is the `chatrelay.limits.Limits` they ask for; ``self["ports"]``,
    ``self["reserved"]`` and ``self["bots"]`` are lists, ``self["interface"]`` is an address
    or ``None``, ``self["data"]`` a ``Path`` or ``None``.  What can not be understood ends the
    program with one line.
    """

    synopsis = "[options]"
    longdesc = (
        "A relay of named messages. A client's first line is its name; then %bob%hello"
        " reaches bob as %alice%hello. Try: nc localhost 12345"
    )
    optFlags = [  # noqa: N815 - Twisted's name
        ["no-bots", None, "Start without any bot."],
        [
            "allow-insecure-secrets",
            None,
            "Take secrets on any connection, also where others can read them.",
        ],
        ["verbose", "v", "Log every message that is relayed."],
    ]
    optParameters = [  # noqa: N815 - Twisted's name
        [option, None, int(getattr(Limits, field)), purpose, _whole_number(option, least, most)]
        for option, field, least, most, purpose in _BOUNDS
    ]
    limits: Limits

    def __init__(self) -> None:
        """Begin with the defaults."""
        super().__init__()
        self["ports"] = []
        self["interface"] = None
        self["data"] = ""
        self["history"] = DEFAULT_HISTORY_DAYS
        self["reserved"] = []
        self["bots"] = []

    def opt_port(self, written: str) -> None:
        """A port number, tls:NUMBER, or a Twisted endpoint string; may be repeated.
        [default: 12345]
        """
        self["ports"].append(written)

    def opt_interface(self, written: str) -> None:
        """Where port numbers listen: 0.0.0.0 is every network. [default: loopback]"""
        self["interface"] = check_interface(written)

    def opt_data(self, written: str) -> None:
        """Where registered names and their messages are kept; "none" keeps none.
        [default: chatrelay in the XDG state directory]
        """
        self["data"] = written

    def opt_history(self, written: str) -> None:
        """For how many days what registered names have read and sent is kept; "none" keeps
        only what they have not read. [default: 30]
        """
        if written == NO_DATA:
            self["history"] = 0
        elif written.isdecimal() and 1 <= int(written) <= _MAX_DAYS:
            self["history"] = int(written)
        else:
            raise usage.UsageError(
                f"--history {written!a}: it takes a number of days from 1 to {_MAX_DAYS}, or none"
            )

    def opt_reserve(self, written: str) -> None:
        """A name that no client may take; may be repeated."""
        self["reserved"].append(_name("--reserve", written))

    def opt_bot(self, written: str) -> None:
        """A bot to start, instead of the default one; may be repeated. [default: reverse]"""
        self["bots"].append(written)

    def opt_version(self) -> None:
        """Display the versions of chatrelay and Twisted, and exit."""
        print(f"chatrelay {__version__}")
        super().opt_version()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; what is wrong with it ends the program with one line."""
        try:
            super().parseOptions(options)
        except (usage.UsageError, ChatrelayError) as error:
            raise SystemExit(f"chatrelay: {error} (twistd chatrelay --help)") from None

    def parseArgs(self, *arguments: str) -> None:
        """Refuse what is no option."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!a} is not an option; was --port meant?")

    def postOptions(self) -> None:
        """Put together what was chosen."""
        if self["no-bots"] and self["bots"]:
            raise usage.UsageError("--bot and --no-bots exclude each other")
        if not self["no-bots"] and not self["bots"]:
            self["bots"] = list(DEFAULT_BOTS)
        self["ports"] = self["ports"] or [DEFAULT_PORT]
        if self["data"] == NO_DATA:
            self["data"] = None
        else:
            self["data"] = Path(self["data"] or default_directory(os.environ)).absolute()
        chosen: dict[str, Any] = {field: self[option] for option, field, *_ in _BOUNDS}
        high_water_bytes = chosen["high_water_bytes"]
        history_s = self["history"] * _DAY_S
        self.limits = replace(
            Limits(), **chosen, low_water_bytes=high_water_bytes // 2, history_s=history_s
        )


def _name(option: str, written: str) -> Name:
    try:
        return parse_name(written.encode("utf-8", "surrogateescape"))
    except ChatrelayError as error:
        raise Misuse(f"{option} {written!a}: {error}") from None
