"""
Who may be connected: how many clients, how many without a name, how many from one address, and
how many new ones from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from chatrelay.bans import Bans, banned
from chatrelay.errors import RateLimited, Refusal, TooManyClients
from chatrelay.limits import Limits
from chatrelay.networks import network_of, site_of
from chatrelay.rates import Rates

_MINUTE_S = 60.0
_DAY_S = 86_400.0
# Refusals that are told in a second: of one address, and of all.  Who asks for more is closed
# without a word, at a fifth of what telling takes.
_MAX_TOLD_TO_ONE = 3
_MAX_TOLD = 50
# Operators whose secret is looked at while there are as many clients as may be: of those without a
# name they are the last to give way.  Who only knows an operator's name may be one of them.
_MAX_SPARED = 16
# Whoever comes from more addresses than that in a second does not come often from one.
_MAX_REMEMBERED = 1024


class NotAdmitted(NamedTuple):
    """
    Why a connection may not stay.

    :ivar why: for the console.
    :ivar refusal: for who connects.
    """

    why: str
    refusal: Refusal


_TOO_MANY = NotAdmitted(
    "too many connections from this address",
    TooManyClients(sentence="Your address has as many connections as it may; close one of them."),
)
_TOO_OFTEN = NotAdmitted(
    "too many new connections from this address",
    RateLimited(sentence="Your address connects too often; wait a little, then try again."),
)
REFUSED_BEFORE = "its address was refused just before"
"""Why a connection is closed without a word, for the console."""


class Unnamed(Protocol):
    """A connection that has no name, or no longer."""

    def give_way(self) -> None:
        """Close, because there are too many like it and it is the oldest."""


class Told:
    """How many refusals were told since the last tick, to whom."""

    def __init__(self) -> None:
        self._count = 0
        self._refused: Counter[str] = Counter()

    def refuse(self, host: str) -> bool:
        """Count a refusal; returns whether it may be told."""
        refused, network = self._refused, network_of(host)
        if network in refused or len(refused) < _MAX_REMEMBERED:
            refused[network] += 1
        if refused[network] > _MAX_TOLD_TO_ONE or self._count >= _MAX_TOLD:
            return False
        self._count += 1
        return True

    def is_over(self, network: str) -> bool:
        """Whether an address was told often enough, and so is not looked at until the next tick."""
        return self._refused[network] >= _MAX_TOLD_TO_ONE

    def __bool__(self) -> bool:
        """Whether there were any."""
        return bool(self._refused)

    def tick(self) -> None:
        """Begin anew."""
        self._count = 0
        self._refused.clear()


class Admission:
    """
    The counts behind ``--max-clients``, ``--max-unnamed``, ``--max-per-address``,
    ``--connects-per-minute``, ``--accounts-per-day`` and ``--addresses-per-site``.

    :ivar told: the refusals of this second.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float], bans: Bans) -> None:
        """
        Begin with nobody connected.

        :param seconds: a clock that never jumps.
        :param bans: who is kept out.
        """
        self.told = Told()
        self._bans = bans
        self._limits = limits
        self._seconds = seconds
        self._connects = Rates()
        self._accounts = Rates()
        self._connections: Counter[str] = Counter()
        self._unnamed: dict[Unnamed, None] = {}  # in the order they came,
        self._claiming: set[Unnamed] = set()  # some of them as good as named
        self._spared: set[Unnamed] = set()
        self._closing: dict[Unnamed, None] = {}

    def connected(self, host: str, *, exempt: bool) -> NotAdmitted | None:
        """
        Count a connection.

        :param host: the address that it comes from.
        :param exempt: whether the address has no bounds of its own.
        :returns: why it may not stay, and then it was not counted; ``None`` if it may.
        """
        if exempt:
            return None
        ban = self._bans.of_host(host)
        if ban is not None:
            return NotAdmitted("its address is banned", banned(ban))
        limits, network = self._limits, network_of(host)
        shares = self._shares(network)
        if any(self._connections[who] >= limits.max_per_address * many for who, many in shares):
            return _TOO_MANY
        if not self._take(self._connects, shares, limits.connects_per_min, _MINUTE_S):
            return _TOO_OFTEN
        for who in filter(None, (network, site_of(network))):
            self._connections[who] += 1
        return None

    def disconnected(self, network: str) -> None:
        """A connection that was counted is gone."""
        for who in filter(None, (network, site_of(network))):
            self._connections[who] -= 1
            if self._connections[who] <= 0:
                del self._connections[who]

    def registers(self, network: str | None) -> bool:
        """
        Count a name that is to be registered.

        :param network: the address that it comes from; ``None`` for one without bounds.
        :returns: whether there may be one more from there today.
        """
        most = self._limits.accounts_per_day
        return network is None or self._take(self._accounts, self._shares(network), most, _DAY_S)

    def did_not_register(self, network: str | None) -> None:
        """What `registers` has counted came to nothing."""
        if network is not None:
            for who, many in self._shares(network):
                self._accounts.give_back(who, self._limits.accounts_per_day * many, _DAY_S)

    def _shares(self, network: str) -> list[tuple[str, int]]:
        """What an address counts for, and as how many addresses each of that counts."""
        many = self._limits.addresses_per_site
        site = site_of(network) if many else ""
        # Before the address: with those of one site nobody fills what is known of addresses.
        return [(site, many), (network, 1)] if site else [(network, 1)]

    def _take(
        self, rates: Rates, shares: list[tuple[str, int]], most: int, window_s: float
    ) -> bool:
        now_s, max_keys = self._seconds(), self._limits.max_counted_addresses
        for index, (who, many) in enumerate(shares):
            if not rates.take(who, now_s, most * many, window_s, max_keys=max_keys):
                # Who asks for too much alone takes nothing from his neighbours.
                for other, its_many in shares[:index]:
                    rates.give_back(other, most * its_many, window_s)
                return False
        return True

    def add_unnamed(self, connection: Unnamed) -> None:
        """One more has no name yet; over the bound the oldest such gives way."""
        self._unnamed[connection] = None
        self._check_unnamed()

    def add_closing(self, connection: Unnamed) -> None:
        """
        One waits for its peer to close, and counts as one without a name until then.

        Over the bound the oldest such goes before any that may still be given a name.
        """
        self._closing[connection] = None
        # What this one was written may not be sent before the turn is over.
        if self._is_over_unnamed and len(self._closing) > 1:
            self._end_oldest_closing()

    def set_claiming(self, connection: Unnamed, is_claiming: bool) -> None:
        """A claim of one without a name is being decided, which counts as named; or no more."""
        if is_claiming:
            self._claiming.add(connection)
            return
        self._spared.discard(connection)
        if connection in self._claiming:
            self._claiming.remove(connection)
            self._check_unnamed()

    def spare(self, connection: Unnamed) -> None:
        """It may be an operator's, of which that is being decided: it does not give way yet."""
        if len(self._spared) < min(_MAX_SPARED, self._limits.max_unnamed // 2):
            self._spared.add(connection)

    def remove_unnamed(self, connection: Unnamed) -> None:
        """It has a name, or is gone."""
        self._unnamed.pop(connection, None)
        self._claiming.discard(connection)
        self._spared.discard(connection)
        self._closing.pop(connection, None)

    @property
    def _is_over_unnamed(self) -> bool:
        count = len(self._unnamed) - len(self._claiming) + len(self._closing)
        return count > self._limits.max_unnamed

    def _check_unnamed(self) -> None:
        while self._is_over_unnamed and self._closing:
            self._end_oldest_closing()
        if self._is_over_unnamed:
            oldest = next(filter(self._may_give_way, self._unnamed), None)
            if oldest is not None:
                oldest.give_way()

    def _may_give_way(self, connection: Unnamed) -> bool:
        return connection not in self._claiming and connection not in self._spared

    def _end_oldest_closing(self) -> None:
        oldest = next(iter(self._closing))
        # It is told of its end in a later turn.
        del self._closing[oldest]
        oldest.give_way()

    def is_full(self, client_count: int) -> bool:
        """
        Whether as many have a name as may; those whose claim is being decided have one.

        :param client_count: clients that have.
        """
        return client_count + len(self._claiming) >= self._limits.max_clients
