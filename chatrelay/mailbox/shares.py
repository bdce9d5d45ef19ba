"""How much of a log those may fill who write to a name: a stranger leaves room for the others."""

from __future__ import annotations

from chatrelay.limits import Limits
from chatrelay.mailbox.entries import ENTRY_BYTES, Run

FREE = 0
"""Stands for the account of all senders whose names nobody owns: they have one share."""
BOTS = -1
"""Stands for the account of all bots."""


class Shares:
    """
    What is unread in one log, by who sent it.

    :ivar entries: how many there are.
    :ivar size_bytes: what they count for.
    """

    __slots__ = ("_limits", "_of", "entries", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of: dict[int, tuple[int, int]] = {}
        self.entries = 0
        self.size_bytes = 0

    def fitting(self, run: Run) -> Run | None:
        """As much of a run as there is room for; ``None`` for nothing."""
        if self.has_room(run.account, run.length, run.size_bytes):
            return run
        least, most = 0, run.length
        while most - least > 1:
            middle = (least + most) // 2
            part = run.until(run.first_id + middle - 1)
            if self.has_room(part.account, part.length, part.size_bytes):
                least = middle
            else:
                most = middle
        return run.until(run.first_id + least - 1) if least else None

    def has_room(self, account: int, entries: int, size_bytes: int) -> bool:
        """Whether so much more of this sender may wait."""
        limits = self._limits
        share = limits.free_share if account == FREE else limits.owner_share
        held_entries, held_bytes = self._of.get(account, (0, 0))
        return (
            self.entries + entries <= limits.max_mailbox_entries
            and self.size_bytes + size_bytes <= limits.max_mailbox_bytes
            and held_entries + entries <= limits.max_mailbox_entries * share
            and held_bytes + size_bytes <= limits.max_mailbox_bytes * share
        )

    @property
    def is_full(self) -> bool:
        """Whether there is no room for anybody."""
        limits = self._limits
        return (
            self.entries >= limits.max_mailbox_entries
            or self.size_bytes + ENTRY_BYTES >= limits.max_mailbox_bytes
        )

    def add(self, account: int, entries: int, size_bytes: int) -> None:
        """More waits; less, with negative numbers."""
        self.entries += entries
        self.size_bytes += size_bytes
        held_entries, held_bytes = self._of.get(account, (0, 0))
        if held_entries + entries > 0:
            self._of[account] = (held_entries + entries, held_bytes + size_bytes)
        else:
            # Whatever rounding has left of the bytes goes, too.
            self._of.pop(account, None)
            self.size_bytes -= held_bytes + size_bytes
