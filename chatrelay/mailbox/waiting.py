"""What is on its way to the disk, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from chatrelay.errors import Refusal
from chatrelay.mailbox.entries import Run
from chatrelay.mailbox.in_flight import Header
from chatrelay.mailbox.log import Changes
from chatrelay.mailbox.reader import ReadingDevice
from chatrelay.refs import Accepted, AcceptedRefs


class Asker(Protocol):
    """A connection that is told what became of what it sent."""

    def answer_stored(self, target: bytes, message_id: int, ref: bytes) -> None:
        """A message is in the log of its recipient."""

    def answer_sent(self, target: bytes, ref: bytes) -> None:
        """A message was written to an open connection of its recipient."""

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """It could not be kept."""


class Pending:
    """
    A message, or a run of them, that is not committed yet.

    :ivar run: it, as it will be kept.
    :ivar is_handed: whether it was written to a connection before the commit.
    """

    __slots__ = ("_accepted", "_askers", "_then", "is_handed", "run")

    def __init__(self, run: Run, *, is_handed: bool = False) -> None:
        self.run = run
        self.is_handed = is_handed
        self._askers: list[tuple[Asker, bytes, bytes]] = []
        self._accepted: tuple[AcceptedRefs, Accepted, bytes, bytes] | None = None
        self._then: Callable[[], None] | None = None

    def ask(self, asker: Asker, target: bytes, ref: bytes) -> None:
        """
        Have somebody told.

        :param target: how the recipient is written there.
        :param ref: what the answer carries.
        """
        self._askers.append((asker, target, ref))

    def remember(self, refs: AcceptedRefs, accepted: Accepted, ref: bytes, key: bytes) -> None:
        """Tell what was accepted under which ref, for whom, what became of it."""
        accepted.pending = self
        self._accepted = (refs, accepted, ref, key)

    def when_stored(self, then: Callable[[], None]) -> None:
        """Call something once it is committed."""
        self._then = then

    def stored(self) -> None:
        """It is committed."""
        if self._accepted is not None:
            _, accepted, _, _ = self._accepted
            accepted.id, accepted.pending = self.run.first_id, None
        for asker, target, ref in self._askers:
            asker.answer_stored(target, self.run.first_id, ref)
        if self._then is not None:
            self._then()

    def failed(self, refusal: Callable[[bytes], Refusal]) -> None:
        """
        It could not be kept: it is refused, unless it has been written to a connection.

        :param refusal: makes what the askers are told, of the name as they wrote it.
        """
        if self._accepted is not None:
            refs, accepted, ref, key = self._accepted
            accepted.pending = None
            if not self.is_handed:
                refs.forget(ref, key)
        for asker, target, ref in self._askers:
            if not self.is_handed:
                asker.refuse(refusal(target), ref)
            elif ref:
                asker.answer_sent(target, ref)


class Ack(NamedTuple):
    """
    An ack that is told once it is committed.

    :ivar headers: what was acked with it.
    """

    device: ReadingDevice
    message_id: int
    ref: bytes
    headers: list[Header]


class Batch(NamedTuple):
    """
    What one commit writes for one mailbox, and whom it concerns.

    :ivar receipts: senders whose names nobody owns, the refs and the ids that were acked.
    """

    changes: Changes
    pending: list[Pending]
    acks: list[Ack]
    receipts: list[tuple[bytes, bytes, int]]
