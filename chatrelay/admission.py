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
        self._unnamed: dict[Unnamed, None] = {}  # in the order they came

    def connected(self, host: str, *, exempt: bool) -> bool:
        """
        Count a connection from an address.

        :param exempt: whether the address has no bound of its own.
        :returns: whether it may stay; if not, it was not counted.
        """
        if exempt:
            return True
        if self._connections[host] >= self._limits.max_per_address:
            return False
        self._connections[host] += 1
        return True

    def disconnected(self, host: str) -> None:
        """A connection that was counted is gone."""
        self._connections[host] -= 1
        if self._connections[host] <= 0:
            del self._connections[host]

    def add_unnamed(self, connection: Unnamed) -> None:
        """One more has no name yet; over the bound the oldest such gives way."""
        self._unnamed[connection] = None
        if len(self._unnamed) > self._limits.max_unnamed:
            next(iter(self._unnamed)).give_way()

    def remove_unnamed(self, connection: Unnamed) -> None:
        """It has a name, or claims one, or is gone."""
        self._unnamed.pop(connection, None)

    def check_room(self, client_count: int) -> None:
        """
        Check that one more client may have a name.

        :raises TooManyClients: there are as many as there may be.
        """
        if client_count >= self._limits.max_clients:
            raise TooManyClients()
