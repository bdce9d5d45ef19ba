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

    __slots__ = ("_limits", "_looked_at_bytes", "_looked_at_entries", "entries", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        """Begin with nothing."""
        self._limits = limits
        self.entries = 0
        self.size_bytes = 0
        self._looked_at_entries = 0
        self._looked_at_bytes = 0

    def is_to_be_cut(self) -> bool:
        """
        Whether it is more than it may be, and it is time to look what can be given up.

        If that was nothing, because all of it is unread or still needed, it is looked again when
        there is a fiftieth more: not with every commit.
        """
        entries, size_bytes = self.entries, self.size_bytes
        limits = self._limits
        if entries <= limits.max_mailbox_entries and size_bytes <= limits.max_mailbox_bytes:
            self._looked_at_entries = self._looked_at_bytes = 0
            return False
        if (
            entries <= self._looked_at_entries + limits.max_mailbox_entries // 50
            and size_bytes <= self._looked_at_bytes + limits.max_mailbox_bytes // 50
            and self._looked_at_entries
        ):
            return False
        self._looked_at_entries, self._looked_at_bytes = entries, size_bytes
        return True

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
