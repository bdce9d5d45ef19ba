"""Who may be connected: how many clients, how many without a name, how many from one address."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from chatrelay.errors import TooManyClients
from chatrelay.limits import Limits


class Unnamed(Protocol):
    """A connection that has not been given a name."""

    def give_way(self) -> None:
        """Close, because there are too many like it and it is the oldest."""


class Admission:
    """The counts behind ``--max-clients``, ``--max-unnamed`` and ``--max-per-address``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connections: Counter[str] = Counter()
        self._unnamed: dict[Unnamed, None] = {}  # in the order they came,
        self._claiming: set[Unnamed] = set()  # some of them as good as named

    def connected(self, network: str, *, exempt: bool) -> bool:
        """
        Count a connection from an address.

        :param exempt: whether the address has no bound of its own.
        :returns: whether it may stay; if not, it was not counted.
        """
        if exempt:
            return True
        if self._connections[network] >= self._limits.max_per_address:
            return False
        self._connections[network] += 1
        return True

    def disconnected(self, network: str) -> None:
        """A connection that was counted is gone."""
        self._connections[network] -= 1
        if self._connections[network] <= 0:
            del self._connections[network]

    def add_unnamed(self, connection: Unnamed) -> None:
        """One more has no name yet; over the bound the oldest such gives way."""
        self._unnamed[connection] = None
        self._check_unnamed()

    def set_claiming(self, connection: Unnamed, is_claiming: bool) -> None:
        """A claim of one without a name is being decided, which counts as named; or no more."""
        if is_claiming:
            self._claiming.add(connection)
        elif connection in self._claiming:
            self._claiming.remove(connection)
            self._check_unnamed()

    def remove_unnamed(self, connection: Unnamed) -> None:
        """It has a name, or is gone."""
        self._unnamed.pop(connection, None)
        self._claiming.discard(connection)

    def _check_unnamed(self) -> None:
        if len(self._unnamed) - len(self._claiming) > self._limits.max_unnamed:
            next(one for one in self._unnamed if one not in self._claiming).give_way()

    def check_room(self, client_count: int) -> None:
        """
        Check that one more client may have a name; those whose claim is being decided have one.

        :param client_count: clients that have.
        :raises TooManyClients: there are as many as there may be.
        """
        if client_count + len(self._claiming) >= self._limits.max_clients:
            raise TooManyClients()
