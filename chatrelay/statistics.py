"""
What a relay has done since it was started, counted where it costs nothing.

What a client sent and was sent is counted by itself, and added here when it leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Traffic(NamedTuple):
    """
    What came from a client, or several, and what they were sent.

    :ivar bytes_out: what their connections' sockets were handed.
    """

    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class Statistics:
    """
    The counts of one relay.

    :ivar started_s: when it was started, by the relay's clock.
    :ivar connections: how many were made.
    :ivar refusals: ``!error`` lines, by the code.
    """

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.connections = 0
        self.refusals: Counter[str] = Counter()
        self._departed = Traffic(0, 0, 0, 0)

    def departed(self, traffic: Traffic) -> None:
        """A client is gone."""
        self._departed = self.traffic([traffic])

    def traffic(self, present: Iterable[Traffic]) -> Traffic:
        """
        All that there was.

        :param present: what those who are connected count.
        """
        return Traffic(*map(sum, zip(self._departed, *present, strict=True)))
