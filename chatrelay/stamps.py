"""What tells one message from all others, and when it was passed on: ``@id`` and ``@time``."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Who makes ids, and knows the time."""

    def next_id(self) -> bytes:
        """Make an id; never the same again."""

    def timestamp(self) -> bytes:
        """Write the time as the protocol does."""


class Stamp:
    """
    The id and the time of one message, the same for all who get it.

    Each is made when it is first asked for: most recipients want neither.
    """

    __slots__ = ("_clock", "_id", "_time")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._id: bytes | None = None
        self._time: bytes | None = None

    @property
    def id(self) -> bytes:
        """The message's id."""
        if self._id is None:
            self._id = self._clock.next_id()
        return self._id

    @property
    def time(self) -> bytes:
        """When it was passed on."""
        if self._time is None:
            self._time = self._clock.timestamp()
        return self._time
