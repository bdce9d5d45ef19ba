"""
What waits to be written to one client: counted, and fed to its transport in pieces.

The outbox is the producer registered on the transport, so that it learns when the
transport's buffer is empty.  It pulls (is asked whenever the buffer is empty) because
a push producer is told only after more than a read's size was buffered, and then
nobody could say what has been sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport
from zope.interface import implementer

from chatrelay.flow import Backlog, Flow
from chatrelay.sockets import descriptor_of, queued_bytes
from chatrelay.turn import Turn, Urgency

# What is handed to the transport beyond this waits here, where it can be counted.
PIECE_BYTES = 128 * 1024
# As objects, short lines take ten times their size: so many that wait are made one.
_JOINED_WRITES = 256


class Client(Protocol):
    """Whose outbox it is."""

    def end_slow(self) -> None:
        """The client takes too little: end the connection, or let it fall behind."""

    def cut(self) -> None:
        """End the connection, because all together have too much."""


@implementer(IPullProducer, IPushProducer)
class Outbox(Backlog):
    """
    The unsent bytes of one client.

    `write` never blocks and never refuses; whoever writes looks at `unsent_bytes` and
    is held when it is over the mark.  After `finish` or `discard` writing does nothing.

    Over TLS, where a producer that pulls would be asked in every turn, it pushes: what
    the transport does not refuse counts as sent.
    """

    __slots__ = (
        "_client",
        "_due",
        "_flow",
        "_handed_bytes",
        "_is_direct",
        "_is_ended",
        "_is_paused",
        "_is_pushing",
        "_join_at",
        "_joined",
        "_then",
        "_transport",
        "_turn",
        "_waiting",
    )

    def __init__(
        self,
        transport: Any,  # noqa: ANN401 - ITransport and IConsumer, of whatever door
        flow: Flow,
        turn: Turn,
        client: Client,
    ) -> None:
        """
        Become the producer of a client's transport.

        :param client: who ends when it takes too little for too long.
        """
        super().__init__()
        self._transport: Any | None = transport
        self._flow = flow
        self._turn = turn
        self._due = Urgency.NOTHING
        # The wrapper of a TLS transport has the method too, of what is under it, which
        # must not be sent anything in clear.
        self._is_direct = isinstance(transport, FileDescriptor)
        self._is_pushing = ISSLTransport.providedBy(transport)
        self._is_paused = False
        self._client = client
        self._is_ended = False  # nothing more is taken
        self._then: Callable[[], None] | None = None
        self._handed_bytes = 0
        self._waiting: list[bytes] = []
        self._joined = 0  # so many of them are not looked at again
        self._join_at = _JOINED_WRITES
        flow.opened(self)
        transport.registerProducer(self, self._is_pushing)

    def write(self, data: bytes) -> None:
        """Send, after everything written before."""
        size = len(data)
        if self._is_ended:
            # Nobody has read it: that counts for what is kept of it.
            self.sent_bytes += size
            self.dropped_bytes += size
            return
        self.unsent_bytes += size
        self._flow.unsent_bytes += size
        waiting = self._waiting
        waiting.append(data)
        if len(waiting) >= self._join_at:
            self._join_writes()
        if self._due is not self._turn.urgency and not self._handed_bytes:
            self._become_due()
        elif self.unsent_bytes > PIECE_BYTES and self._due is Urgency.ROUND:
            # More than a piece gains nothing by being joined, and would seem not to be read.
            self._become_due(Urgency.TURN)

    def send(self) -> bool:
        """
        Send what waits, if the transport has nothing of it yet.

        :returns: whether several writes were joined.
        """
        self._due = Urgency.NOTHING
        if not self._waiting or self._handed_bytes or self._transport is None:
            return False
        has_several = len(self._waiting) > 1
        self._hand_over(self._transport)
        return has_several

    def resumeProducing(self) -> None:
        """The transport's buffer is empty: count what it sent and hand over the next piece."""
        if self._transport is None:
            return
        self._is_paused = False
        self._count_sent(self._handed_bytes)
        self._handed_bytes = 0
        if self._waiting:
            self._hand_over(self._transport)
        elif not self._is_pushing and getattr(self._transport, "disconnecting", False):
            # What is around the protocol closes, a proxy's wrapper that missed its header, and
            # Twisted waits for the producer.
            transport = self._transport
            self.discard()
            transport.unregisterProducer()
        else:
            self._has_sent()

    def pauseProducing(self) -> None:
        """The transport has enough: what it was handed counts as unsent until it asks for more."""
        self._is_paused = True

    def stopProducing(self) -> None:
        """The transport is closed: what was not sent is lost."""
        self.discard()

    def finish(self, then: Callable[[], None]) -> None:
        """
        Take nothing more, and hold nobody.

        :param then: called when everything is sent; it may close the transport.
        """
        if self._transport is not None and self._then is None:
            self._then = then
            self._is_ended = True
            self._flow.ending(self)
            self._has_sent()

    def discard(self) -> None:
        """Drop what the transport was not handed; it is about to be aborted."""
        if self._transport is not None:
            self._transport = None
            self._is_ended = True
            self._forget()

    def taken_bytes(self) -> int:
        """All that the client's machine acknowledged; where that can not be seen, what was sent."""
        return self.written_bytes - self._unhanded_bytes() - queued_bytes(self._transport)

    def _unhanded_bytes(self) -> int:
        # What the kernel was not handed.  A transport tells only when it is empty; a piece
        # that it has sent half of would look like half a second without progress.
        descriptor = descriptor_of(self._transport)
        if descriptor is not None and descriptor.dataBuffer:
            in_transport = len(descriptor.dataBuffer) - descriptor.offset
            return self.unsent_bytes - self._handed_bytes + in_transport
        return self.unsent_bytes

    def end_slow(self) -> None:
        """The client takes too little: end the connection, or let it fall behind."""
        self._client.end_slow()

    def cut(self) -> None:
        """End the connection, because all together have too much."""
        self._client.cut()

    def _hand_over(self, transport: Any) -> None:  # noqa: ANN401
        # The transport is empty.  What its socket takes at once needs no event to wait
        # for; the transport is handed the rest, and asks for more when it is empty again.
        piece = self._next_piece()
        size = len(piece)
        sent = transport.writeSomeData(piece) if self._is_direct else 0
        # What is no number is an error, which the transport finds for itself.
        sent = sent if isinstance(sent, int) and sent > 0 else 0
        if sent < size:
            self._handed_bytes = size - sent
            transport.write(piece[sent:])
            if self._is_pushing and not self._is_paused:
                self._handed_bytes, sent = 0, size
        self._count_sent(sent)
        if self._waiting and not self._handed_bytes:
            self._become_due()
        self._has_sent()

    def _become_due(self, urgency: Urgency | None = None) -> None:
        urgency = urgency or self._turn.urgency
        if self._due < urgency:
            self._due = urgency
            self._turn.add(self, urgency)

    def _has_sent(self) -> None:
        if self.is_over:
            self._flow.drained(self)
        if self.on_sent is not None:
            self.on_sent()
        if self._then is not None and not self.unsent_bytes and self._transport is not None:
            transport, self._transport = self._transport, None
            transport.unregisterProducer()
            self._forget()
            self._then()

    def _join_writes(self) -> None:
        writes = self._waiting[self._joined :]
        if sum(map(len, writes)) <= PIECE_BYTES:
            self._waiting[self._joined :] = [b"".join(writes)]
            self._joined += 1
        else:
            self._joined = len(self._waiting)
        self._join_at = self._joined + _JOINED_WRITES

    def _next_piece(self) -> bytes:
        # Nothing is handed over while the transport has something: all that is unsent waits.
        waiting = self._waiting
        count = len(waiting)
        if self.unsent_bytes > PIECE_BYTES:
            size = count = 0
            while count < len(waiting) and size < PIECE_BYTES:
                size += len(waiting[count])
                count += 1
        piece = waiting[0] if count == 1 else b"".join(waiting[:count])
        del waiting[:count]
        if self._joined:
            self._joined = max(0, self._joined - count)
        self._join_at = self._joined + _JOINED_WRITES
        return piece

    def _count_sent(self, size: int) -> None:
        self.sent_bytes += size
        self.unsent_bytes -= size
        self._flow.unsent_bytes -= size

    def _forget(self) -> None:
        self.dropped_bytes += self.unsent_bytes
        self._count_sent(self.unsent_bytes)
        self._handed_bytes = 0
        self._waiting = []
        self._joined = 0
        self._join_at = _JOINED_WRITES
        self._flow.closed(self)
