"""
Everything that can be chosen for a relay, put together from what was chosen and the defaults.

What is chosen is known by the keys of a configuration file, ``ports`` or
``limits.max-clients``, also where it comes from the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from chatrelay.errors import ChatrelayError, Misuse
from chatrelay.limits import PUBLIC_LIMITS, Limits
from chatrelay.names import Name, parse_name

DEFAULT_PORT = "12345"
DEFAULT_BOTS = ("reverse",)
LOOPBACK = "loopback"
NONE = "none"
MAX_HISTORY_DAYS = 36_500
LIMITS_TABLE = "limits"
_DAY_S = 86_400.0

# What was opened, loaded or told when the relay started.
_NEED_RESTART = {"ports", "interface", "bots", "data"}

Bound = tuple[str, str, int, int, str]
"""An option, the limit it sets, the least and the most that may be, and what it is for."""


class Problem(NamedTuple):
    """
    Something that is wrong with what was chosen.

    :ivar key: what is wrong; empty for all of a file.
    :ivar sentence: what was found, and what was expected.
    """

    key: str
    sentence: str


class BadConfigurationError(ChatrelayError):
    """
    What was chosen can not be used.

    :ivar lines: everything that is wrong with it, a line each.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Configuration:
    """
    A choice that is complete, and of which each part is right by itself.

    :ivar ports: what to listen on, as `chatrelay.listening.parse_port` reads it.
    :ivar interface: where port numbers listen; ``None`` for loopback.
    :ivar bots: the names of the bots to start.
    :ivar reserved: names that no client may take without an account.
    :ivar operators: names whose owners may do what an operator may.
    :ivar is_public: whether strangers are expected.
    :ivar data: the directory of what is kept; ``None`` for nothing.
    :ivar allows_insecure_secrets: whether secrets are taken on any connection.
    :ivar is_verbose: whether each message has a line on the console.
    :ivar limits: the bounds.
    """

    ports: tuple[str, ...]
    interface: str | None
    bots: tuple[str, ...]
    reserved: tuple[Name, ...]
    operators: tuple[Name, ...]
    is_public: bool
    data: Path | None
    allows_insecure_secrets: bool
    is_verbose: bool
    limits: Limits

    def shown(self, bounds: Sequence[Bound]) -> dict[str, str]:
        """Every key and its value, for people."""
        days = self.limits.history_s / _DAY_S
        return {
            "ports": ", ".join(self.ports),
            "interface": self.interface or LOOPBACK,
            "bots": ", ".join(self.bots) or NONE,
            "reserved": _shown_names(self.reserved),
            "operators": _shown_names(self.operators),
            "public": _shown_flag(self.is_public),
            "data": str(self.data or NONE),
            "history": _shown_number(days) if days else NONE,
            "allow-insecure-secrets": _shown_flag(self.allows_insecure_secrets),
            "verbose": _shown_flag(self.is_verbose),
        } | {
            limit_key(option): _shown_number(getattr(self.limits, field))
            for option, field, *_ in bounds
        }

    def needing_restart(self, other: Configuration, bounds: Sequence[Bound]) -> set[str]:
        """Tell which keys a running relay of this configuration can not change for another."""
        fixed = self.limits.fixed(other.limits)
        keys = {limit_key(option) for option, field, *_ in bounds if field in fixed}
        return keys | _NEED_RESTART | ({"history"} if "history_s" in fixed else set())

    def until_restart(self, new: Configuration) -> Configuration:
        """Tell what a running relay of this configuration is once it has taken over another."""
        limits = replace(self.limits)
        limits.change_to(new.limits)
        return replace(
            new,
            ports=self.ports,
            interface=self.interface,
            bots=self.bots,
            data=self.data,
            limits=limits,
        )


def limit_key(option: str) -> str:
    """Tell under which key a limit stands that is an option, too."""
    return f"{LIMITS_TABLE}.{option}"


def put_together(
    chosen: Mapping[str, Any], bounds: Sequence[Bound], default_data: Callable[[], Path]
) -> Configuration:
    """
    Complete what was chosen.

    :param chosen: by their keys: ``ports`` and ``bots``, lists of strings; ``reserved`` and
        ``operators``, lists of names; ``interface``, an address or ``None``; ``data``, a path or
        ``None``; ``history``, days, 0 for none; flags; and the limits.
    :param default_data: tells where data is kept if nobody said it.
    """
    is_public = bool(chosen.get("public"))
    limits: dict[str, Any] = asdict(Limits()) | (dict(PUBLIC_LIMITS) if is_public else {})
    for option, field, *_ in bounds:
        limits[field] = chosen.get(limit_key(option), limits[field])
    limits["low_water_bytes"] = limits["high_water_bytes"] // 2
    if "history" in chosen:
        limits["history_s"] = chosen["history"] * _DAY_S
    return Configuration(
        ports=tuple(chosen.get("ports", (DEFAULT_PORT,))),
        interface=chosen.get("interface"),
        bots=tuple(chosen.get("bots", DEFAULT_BOTS)),
        reserved=tuple(chosen.get("reserved", ())),
        operators=tuple(chosen.get("operators", ())),
        is_public=is_public,
        data=chosen["data"] if "data" in chosen else default_data(),
        allows_insecure_secrets=bool(chosen.get("allow-insecure-secrets")),
        is_verbose=bool(chosen.get("verbose")),
        limits=Limits(**limits),
    )


def read_name(written: str) -> Name:
    """
    Read a name that the operator wrote.

    :raises BadName: it is none.
    """
    return parse_name(written.encode("utf-8", "surrogateescape"))


def read_interface(written: str) -> str | None:
    """
    Read where port numbers listen: an address, or ``None`` for loopback.

    :raises Misuse: it is neither ``loopback`` nor an IPv4 or IPv6 address.
    """
    if written == LOOPBACK:
        return None
    try:
        ip_address(written.partition("%")[0])
    except ValueError:
        raise Misuse(
            f"{written!a} is not an address; 0.0.0.0 is every one of IPv4, :: of IPv6,"
            f" and {LOOPBACK} is this machine only"
        ) from None
    return written


def read_data(written: str) -> Path | None:
    """
    Read where data is kept; ``None`` for nowhere.

    :raises Misuse: it is in the home of a user that there is not.
    """
    if written == NONE:
        return None
    try:
        return Path(written).expanduser().absolute()
    except RuntimeError as error:
        raise Misuse(f"{written!a}: {error}") from None


def _shown_names(names: Sequence[Name]) -> str:
    return ", ".join(name.shown.decode("utf-8") for name in names) or NONE


def _shown_number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _shown_flag(value: bool) -> str:
    return "true" if value else "false"
