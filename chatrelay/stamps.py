"""What tells one message from all others, and when it was passed on: ``@id`` and ``@time``."""

from __future__ import annotations

from typing import Protocol

from chatrelay.ids import Ids


class Clock(Protocol):
    """Who makes ids, and knows the time."""

    @property
    def ids(self) -> Ids:
        """The ids."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""

    def timestamp(self, milliseconds_since_epoch: int) -> bytes:
        """Write a time as the protocol does."""


class Stamp:
    """
    The id and the time of one message, or of a run of them, the same for all who get it.

    Each is made when it is first asked for: most recipients want neither.
    """

    __slots__ = ("_clock", "_count", "_number", "_time_ms")

    def __init__(self, clock: Clock, count: int = 1) -> None:
        self._clock = clock
        self._count = count
        self._number = 0
        self._time_ms = 0

    @property
    def number(self) -> int:
        """The number that the first message's id is; each has one more than the one before."""
        if not self._number:
            self._number = self._clock.ids.take(self._count)
        return self._number

    @property
    def time_ms(self) -> int:
        """When it was passed on, in milliseconds since the epoch."""
        if not self._time_ms:
            self._time_ms = self._clock.now_ms()
        return self._time_ms

    @property
    def id(self) -> bytes:
        """The first message's id, as it is written."""
        return self._clock.ids.write(self.number)

    @property
    def time(self) -> bytes:
        """When it was passed on, as it is written."""
        return self._clock.timestamp(self.time_ms)
