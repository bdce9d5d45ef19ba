"""What is on its way to the disk, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from chatrelay.errors import Refusal, UnknownName
from chatrelay.mailbox.entries import Run
from chatrelay.mailbox.log import Changes
from chatrelay.mailbox.reader import ReadingDevice
from chatrelay.refs import AcceptedRefs, AcceptedRun


class Asker(Protocol):
    """A connection that is told what became of what it sent."""

    def answer_stored(self, target: bytes, first_id: int, refs: Sequence[bytes]) -> None:
        """Messages are in the log of their recipient."""

    def answer_sent(self, target: bytes, ref: bytes) -> None:
        """A message was written to an open connection of its recipient."""

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """It could not be kept."""

    def awaits_answer(self) -> None:
        """It will be told something, if it stays."""

    def was_answered(self) -> None:
        """It has been told."""


class _Asked(NamedTuple):
    asker: Asker
    target: bytes
    refs: Sequence[bytes]
    first_index: int


class Pending:
    """
    A message, or a run of them, that is not committed yet.

    :ivar run: it, as it will be kept.
    :ivar is_handed: whether it was written to a connection before the commit.
    """

    __slots__ = ("_accepted", "_asked", "_then", "_whole", "is_handed", "run")

    def __init__(self, run: Run, *, is_handed: bool = False) -> None:
        self.run = run
        self.is_handed = is_handed
        self._asked: list[_Asked] = []
        self._accepted: tuple[AcceptedRefs, AcceptedRun] | None = None
        self._then: Callable[[], None] | None = None
        self._whole: Whole | None = None

    def ask(self, asker: Asker, target: bytes, refs: Sequence[bytes], first_index: int = 0) -> None:
        """
        Have somebody told.

        :param target: how the recipient is written there.
        :param refs: what the answers carry, one for each message that is asked about.
        :param first_index: which one of the run is the first of these.
        """
        asker.awaits_answer()
        self._asked.append(_Asked(asker, target, refs, first_index))

    def remember(self, refs: AcceptedRefs, accepted: AcceptedRun) -> None:
        """Have what was accepted under refs know what became of it."""
        accepted.pending = self
        self._accepted = (refs, accepted)

    def when_stored(self, then: Callable[[], None]) -> None:
        """Call something once it is committed."""
        self._then = then

    def is_part_of(self, whole: Whole) -> None:
        """It is one of several that somebody is told of together."""
        self._whole = whole

    def stored(self) -> None:
        """It is committed."""
        first_id = self.run.first_id
        if self._accepted is not None:
            _, accepted = self._accepted
            accepted.first_id, accepted.pending = first_id, None
        for asker, target, refs, first_index in self._asked:
            asker.answer_stored(target, first_id + first_index, refs)
            asker.was_answered()
        if self._then is not None:
            self._then()
        if self._whole is not None:
            self._whole.part_is_stored()

    def failed(self, refusal: Callable[[bytes], Refusal]) -> None:
        """
        It could not be kept: it is refused, unless it has been written to a connection.

        :param refusal: makes what the askers are told, of the name as they wrote it.
        """
        if self._accepted is not None:
            refs, accepted = self._accepted
            accepted.pending = None
            if not self.is_handed:
                refs.forget(accepted)
        for asker, target, asked_refs, _ in self._asked:
            for ref in asked_refs:
                if not self.is_handed:
                    asker.refuse(refusal(target), ref)
                elif ref:
                    asker.answer_sent(target, ref)
            asker.was_answered()
        if self._whole is not None:
            self._whole.part_failed(None if self.is_handed else refusal)


class Whole(Pending):
    """
    What was said in a room, for several who have it in their logs: committed when all have.

    Who was written it before the commit, and whose account is gone, misses nothing.
    """

    __slots__ = ("_is_stored", "_open_parts", "_refusal")

    def __init__(self, run: Run, parts: Sequence[Pending]) -> None:
        """
        Wait for all parts.

        :param parts: one for each log; at least one.
        """
        super().__init__(run)
        self._open_parts = len(parts)
        self._is_stored = False
        self._refusal: Callable[[bytes], Refusal] | None = None
        for part in parts:
            part.is_part_of(self)

    def part_is_stored(self) -> None:
        """One of them is committed."""
        self._is_stored = True
        self._part_is_over()

    def part_failed(self, refusal: Callable[[bytes], Refusal] | None) -> None:
        """
        One of them could not be kept.

        :param refusal: as for `failed`; ``None`` if it was written to a connection.
        """
        if refusal is not UnknownName:
            self._refusal = self._refusal or refusal
        self._part_is_over()

    def _part_is_over(self) -> None:
        self._open_parts -= 1
        if self._open_parts:
            return
        if self._refusal is None and self._is_stored:
            self.stored()
        else:
            # In nobody's log, and nobody misses it: it was only sent.
            self.is_handed = self._refusal is None
            self.failed(self._refusal or UnknownName)


class Ack(NamedTuple):
    """An ack that is told once it is committed."""

    device: ReadingDevice
    message_id: int
    ref: bytes


class Batch(NamedTuple):
    """
    What one commit writes for one mailbox, and whom it concerns.

    :ivar receipts: senders whose names nobody owns, the refs and the ids that were acked.
    """

    changes: Changes
    pending: list[Pending]
    acks: list[Ack]
    receipts: list[tuple[bytes, bytes, int]]
