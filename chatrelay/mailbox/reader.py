"""One connection of an owned name as it reads the log: how far it was written, and how far read."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from chatrelay.errors import Refusal
from chatrelay.interfaces import Device
from chatrelay.mailbox.entries import Run

_MAX_TICK_S = 2.0
_MARK_BYTES = 1024


class ReadingDevice(Device, Protocol):
    """What a reader asks of its connection."""

    def deliver_kept(self, run: Run, *, is_again: bool) -> None:
        """
        Write messages out of the log.

        :param is_again: whether they may have been sent before to who had to ack them.
        """

    def deliver_receipts(self, run: Run) -> None:
        """Tell what was acked of what its name has sent."""

    def answer_acked(self, message_id: int, ref: bytes) -> None:
        """What it said that it has read will not come again."""

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """That could not be kept."""

    def awaits_answer(self) -> None:
        """It will be told something, if it stays."""

    def was_answered(self) -> None:
        """It has been told."""

    def caught_up(self) -> None:
        """Everything that waited for the name is written to it, or can not be read."""

    def cut(self) -> None:
        """It takes nothing at all."""


class Reader:
    """
    One connection.

    :ivar device: it.
    :ivar first_id: what is later was sent to it.
    :ivar position: the last id that was.
    :ivar again_until_id: up to this one entries may have been sent before to who had to ack
        them.
    :ivar is_loading: whether what it gets next is being read from the store.
    """

    __slots__ = (
        "_looked_s",
        "_marked_bytes",
        "_marks",
        "_room_bytes",
        "_stalled_s",
        "_taken_bytes",
        "again_until_id",
        "device",
        "first_id",
        "is_loading",
        "position",
    )

    def __init__(
        self, device: ReadingDevice, position: int, again_until_id: int, room_bytes: int
    ) -> None:
        """
        Begin behind `position`.

        :param room_bytes: with so much unsent it gets nothing more out of the log.
        """
        self.device = device
        self.first_id = self.position = position
        self.is_loading = False
        self.again_until_id = again_until_id
        self._room_bytes = room_bytes
        # How much will have been written when an entry is.
        self._marks: deque[tuple[int, int]] = deque()
        self._marked_bytes = 0
        self._taken_bytes = 0
        self._looked_s = 0.0
        self._stalled_s = 0.0

    @property
    def has_to_ack(self) -> bool:
        """Whether it says itself what it has read."""
        return b"ack" in self.device.caps

    @property
    def has_room(self) -> bool:
        """Whether more may be written to it."""
        return self.device.outbox.unsent_bytes < self._room_bytes

    def mark(self, entry_id: int) -> None:
        """Everything up to an entry has been written to its outbox."""
        self.position = max(self.position, entry_id)
        written_bytes = self.device.outbox.written_bytes
        if self._marks and written_bytes < self._marked_bytes + _MARK_BYTES:
            # Of short messages that wait together it is enough to know when all are taken.
            self._marks[-1] = (written_bytes, self.position)
        else:
            self._marks.append((written_bytes, self.position))
            self._marked_bytes = written_bytes

    def read_id(self) -> int:
        """Up to which entry its transport has taken everything; 0 for nothing new."""
        sent_bytes = self.device.outbox.sent_bytes - self.device.outbox.dropped_bytes
        read_id = 0
        marks = self._marks
        while marks and marks[0][0] <= sent_bytes:
            read_id = marks.popleft()[1]
        return read_id

    def stalled_s(self, now_s: float) -> float:
        """For how long it has taken nothing although something waits; to be asked each second."""
        outbox = self.device.outbox
        taken_bytes = outbox.taken_bytes()
        if taken_bytes != self._taken_bytes or not outbox.unsent_bytes:
            self._stalled_s = 0.0
        else:
            # Longer ago nobody looked: the name was live, or the relay itself did not run.
            self._stalled_s += min(now_s - self._looked_s, _MAX_TICK_S)
        self._taken_bytes, self._looked_s = taken_bytes, now_s
        return self._stalled_s
