"""Who is kept out: names and networks, each for a time or for good (docs/operations.rst)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

from chatrelay.claims import Decided
from chatrelay.errors import BadLine, BadName, NotAllowed, Refusal
from chatrelay.names import Name, parse_name
from chatrelay.networks import Address, parse_address

MAX_BANS = 10_000
"""Bans of one relay, at most."""
MAX_WHY_BYTES = 256
"""Length of what an operator says about one."""
CHANGED = b""
"""What is revoked, in the place of a name, when bans were changed beside a running relay."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Target = Name | Network

_LOOPBACKS: tuple[Network, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)
_MAPPED_BITS = 96
# Of a link-local address: the interface it is reached by, which no peer's address is given with.
_ZONE = re.compile(rb"%[^/]*")
# What can not be in a name, so that one that looks like an address can be said.
_NAME_PREFIX = b"name="
_NO_NETWORK = "A network is written like 203.0.113.0/24 or 2001:db8::/32."
_NO_TARGET = "Write a name, an address, or a network such as 203.0.113.0/24."
_FULL = f"There are {MAX_BANS:,} bans, as many as there may be; /unban some, or ban a network."


class Ban(NamedTuple):
    """
    One ban.

    :ivar made_s: when it was made, in seconds since the epoch.
    :ivar until_s: when it ends; ``None`` if it is for good.
    :ivar made_by: the name of the operator.
    :ivar why: what the operator said about it, and what who is banned reads; or nothing.
    """

    target: Target
    made_s: float
    until_s: float | None
    made_by: bytes
    why: bytes

    def has_ended(self, now_s: float) -> bool:
        """Whether its time is over."""
        return self.until_s is not None and self.until_s <= now_s


class Journal(Protocol):
    """Where bans outlive the relay.  What it is told is done, and told, in that order."""

    def add(self, ban: Ban, decided: Decided[None]) -> None:
        """Keep a ban, in place of the one of the same target."""

    def remove(self, target: Target, decided: Decided[None]) -> None:
        """Keep it no longer."""

    def read(self, then: Callable[[list[Ban] | None], None]) -> None:
        """Read all of them; ``None`` if that fails."""


class Bans:
    """
    The bans of one relay.

    How long a look takes depends on how many lengths of networks there are (33 of IPv4 and 129 of
    IPv6 at most), not on how many bans.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        """
        Begin with none.

        :param wall_clock: seconds since the epoch.
        """
        self._wall_clock = wall_clock
        self._journal: Journal | None = None
        self._is_to_be_read = False
        self._names: dict[bytes, Ban] = {}
        # By IP version and prefix length; then by the bits of the prefix.
        self._networks: dict[tuple[int, int], dict[int, Ban]] = {}

    def keep(self, journal: Journal, bans: Iterable[Ban]) -> None:
        """
        Keep from now on what is changed.

        :param bans: those that were kept before.
        """
        self._journal = journal
        self._replace(bans)

    def read_again(self) -> None:
        """Somebody else has changed what is kept."""

        def read(bans: list[Ban] | None) -> None:
            self._is_to_be_read = bans is None
            if bans is not None:
                self._replace(bans)

        if self._journal is not None:
            self._is_to_be_read = False
            self._journal.read(read)

    def tick(self) -> None:
        """A second has passed: what could not be read is tried again."""
        if self._is_to_be_read:
            self.read_again()

    def __len__(self) -> int:
        return len(self._names) + sum(map(len, self._networks.values()))

    def __iter__(self) -> Iterator[Ban]:
        """Those that have not ended, as of now: names, then networks, each in order."""
        networks = sorted(self._networks.items())
        return iter(
            [
                *self._valid(self._names[key] for key in sorted(self._names)),
                *self._valid(bans[bits] for _, bans in networks for bits in sorted(bans)),
            ]
        )

    def of_name(self, key: bytes) -> Ban | None:
        """The ban of the name with this key."""
        ban = self._names.get(key)
        return None if ban is None or ban.has_ended(self._wall_clock()) else ban

    def of_host(self, host: str) -> Ban | None:
        """The ban of an address, the one that lasts longest; ``None`` also for what is none."""
        if not self._networks:
            return None
        address = read_address(host)
        if address is None:
            return None
        return self._find(address.version, address.max_prefixlen, int(address))

    def of_network(self, network: Network) -> Ban | None:
        """The ban of all of a network, the one that lasts longest."""
        return self._find(*_length(network), _bits(network))

    def has(self, target: Target) -> bool:
        """Whether there is a ban of just this."""
        if isinstance(target, Name):
            return self.of_name(target.key) is not None
        ban = self._networks.get(_length(target), {}).get(_bits(target))
        return ban is not None and not ban.has_ended(self._wall_clock())

    def add(self, ban: Ban, decided: Decided[None]) -> None:
        """
        Ban from now on, in place of an earlier ban of the same target.

        :param decided: told ``None`` when that is kept, or why it is not.
        """
        self._forget_ended()
        if len(self) >= MAX_BANS and not self.has(ban.target):
            decided(NotAllowed(sentence=_FULL))
            return
        done = partial(self._done, partial(self._put, ban), decided)
        if self._journal is None:
            done(None)
        else:
            self._journal.add(ban, done)

    def remove(self, target: Target, decided: Decided[None]) -> None:
        """
        Ban no more; there may be no such ban.

        :param decided: told ``None`` when that is kept, or why it is not.
        """
        done = partial(self._done, partial(self._take, target), decided)
        if self._journal is None:
            done(None)
        else:
            self._journal.remove(target, done)

    @staticmethod
    def _done(change: Callable[[], None], decided: Decided[None], result: Refusal | None) -> None:
        if result is None:
            change()
        decided(result)

    def _find(self, version: int, length: int, bits: int) -> Ban | None:
        found = [
            ban
            for (its_version, its_length), bans in self._networks.items()
            if its_version == version
            and its_length <= length
            and (ban := bans.get(bits >> (length - its_length))) is not None
        ]
        return max(self._valid(found), key=_end, default=None)

    def _forget_ended(self) -> None:
        now_s = self._wall_clock()
        bans = list(self._names.values())
        for some in self._networks.values():
            bans += some.values()
        for ban in bans:
            if ban.has_ended(now_s):
                self._take(ban.target)

    def _replace(self, bans: Iterable[Ban]) -> None:
        self._names.clear()
        self._networks.clear()
        for ban in bans:
            self._put(ban)

    def _put(self, ban: Ban) -> None:
        if isinstance(ban.target, Name):
            self._names[ban.target.key] = ban
        else:
            self._networks.setdefault(_length(ban.target), {})[_bits(ban.target)] = ban

    def _take(self, target: Target) -> None:
        if isinstance(target, Name):
            self._names.pop(target.key, None)
            return
        length = _length(target)
        bans = self._networks.get(length, {})
        if bans.pop(_bits(target), None) is not None and not bans:
            del self._networks[length]

    def _valid(self, bans: Iterable[Ban]) -> list[Ban]:
        now_s = self._wall_clock()
        return [ban for ban in bans if not ban.has_ended(now_s)]


def read_address(host: str) -> Address | None:
    """As `chatrelay.networks.parse_address`; ``None`` for what is no address."""
    try:
        return parse_address(host)
    except ValueError:
        return None


def read_target(word: bytes) -> Target:
    """
    Read what an operator wrote: a network, an address, or a name.

    An address is the network of it alone; bits behind the prefix of a network are left out.  A
    name that could be an address is written ``name=10.0.0.1``.

    :raises BadLine: it begins as a network, and is none.
    :raises BadName: it is none of them.
    """
    if word.startswith(_NAME_PREFIX):
        return parse_name(word.removeprefix(_NAME_PREFIX))
    try:
        network = ipaddress.ip_network(_ZONE.sub(b"", word).decode("ascii"), strict=False)
    except ValueError:
        if b"/" in word or b":" in word:
            raise BadLine(sentence=_NO_NETWORK) from None
        try:
            return parse_name(word)
        except BadName:
            raise BadName(sentence=_NO_TARGET) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def shown(target: Target) -> bytes:
    """Write a target as `read_target` reads it: an address without the length of its prefix."""
    if isinstance(target, Name):
        could_be_address = read_address(target.shown.decode("utf-8")) is not None
        return _NAME_PREFIX + target.shown if could_be_address else target.shown
    is_address = target.prefixlen == target.max_prefixlen
    return str(target.network_address if is_address else target).encode("ascii")


def banned(ban: Ban, *context: bytes) -> NotAllowed:
    """
    The refusal of who is banned: it says what is, until when, and why if that was said.

    :param context: the name that is, as it is known to who is told.
    """
    what = "This name" if isinstance(ban.target, Name) else "Your address"
    why = f": {ban.why.decode('utf-8')}" if ban.why else "."
    return NotAllowed(*context, sentence=f"{what} is banned {until(ban)}{why}")


def until(ban: Ban) -> str:
    """Say for how long, to a person: UTC, to the second."""
    if ban.until_s is None:
        return "for good"
    return datetime.fromtimestamp(ban.until_s, UTC).strftime("until %Y-%m-%d %H:%M:%S UTC")


def is_loopback(network: Network) -> bool:
    """Whether a network has addresses of this machine itself."""
    return any(network.version == one.version and network.overlaps(one) for one in _LOOPBACKS)


def includes(network: Network, host: str) -> bool:
    """Whether a host is an address of a network."""
    address = read_address(host)
    return address is not None and address.version == network.version and address in network


def _length(network: Network) -> tuple[int, int]:
    return network.version, network.prefixlen


def _bits(network: Network) -> int:
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen)


def _end(ban: Ban) -> float:
    return float("inf") if ban.until_s is None else ban.until_s
