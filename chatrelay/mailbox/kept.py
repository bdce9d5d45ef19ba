"""How much one log holds, what is read and what was sent included."""

from __future__ import annotations

from collections.abc import Iterable

from chatrelay.limits import Limits
from chatrelay.mailbox.entries import Run


class Kept:
    """
    What is kept of one log.

    :ivar entries: how many entries.
    :ivar size_bytes: what they count for.
    """

    __slots__ = ("_limits", "entries", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        """Begin with nothing."""
        self._limits = limits
        self.entries = 0
        self.size_bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether that is more than it may be."""
        return (
            self.entries > self._limits.max_mailbox_entries
            or self.size_bytes > self._limits.max_mailbox_bytes
        )

    def is_asked(self) -> None:
        """The store is asked how much there is: what it was given to write before is in that."""
        self.entries = self.size_bytes = 0

    def add(self, entries: int, size_bytes: int) -> None:
        """More is there; less, with negative numbers."""
        self.entries += entries
        self.size_bytes += size_bytes

    def add_runs(self, runs: Iterable[Run], sign: int) -> None:
        """Runs are to be written; with -1, they were not."""
        for run in runs:
            self.add(sign * run.length, sign * run.size_bytes)
