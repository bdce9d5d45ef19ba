"""Which clients have sent nothing for too long (docs/protocol.rst, *Time*)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol, TypeVar

# Everybody is looked at once in so many ticks: a timeout is minutes, and twenty thousand
# clients looked at in one turn would be noticed.
ROUND_TICKS = 10
# More than this between two ticks is time in which the relay itself did not run.
_MAX_TICK_S = 2.0


class Quiet(Protocol):
    """A client that may be idle."""

    def is_idle(self, since_s: float) -> bool:
        """Whether it could have sent something all the time since then, and did not."""


Q = TypeVar("Q", bound=Quiet)


class Idle:
    """Looks for idle clients, some in each tick."""

    def __init__(self) -> None:
        self._runs_since_s = 0.0

    def tick(
        self, clients: dict[Q, None], timeout_s: float, now_s: float, elapsed_s: float
    ) -> Iterator[Q]:
        """
        Look at some of them.

        :param clients: all there are; those that were looked at become the last ones.
        :param timeout_s: for how long one may send nothing; 0 for any time.
        :param elapsed_s: time since the last tick.
        :returns: those that sent nothing for so long.
        """
        if elapsed_s > _MAX_TICK_S:
            self._runs_since_s = now_s
        since_s = now_s - timeout_s
        if not timeout_s or since_s < self._runs_since_s:
            return
        some = list(islice(clients, len(clients) // ROUND_TICKS + 1))
        for client in some:
            del clients[client]
            clients[client] = None
        for client in some:
            if client.is_idle(since_s):
                yield client
