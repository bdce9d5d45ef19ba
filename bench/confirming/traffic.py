"""Sending with a window, and receiving with acks, in one event loop."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Mapping, Sequence

from bench.confirming.base import Confirming, Recipient
from bench.confirming.mail import Mail
from bench.naming import BrokenTrafficError, Connection

_PIECE_BYTES = 256 * 1024
_EVENTS = 2048
# One that does not listen any more is noticed, and one with a slow disk is not cut off.
_STALLED_S = 20.0


class Sender:
    """
    One sender's place in its messages.

    :ivar sent: how many it has sent, or begun to.
    :ivar confirmed: how many of them were confirmed.
    """

    def __init__(self, connection: Connection, buffer: bytes, message_bytes: int) -> None:
        """Begin with the first message."""
        self.connection = connection
        self.kept: bytearray | None = None
        self._view = memoryview(buffer)
        self._message_bytes = message_bytes
        self._offset = 0  # where to send on
        self._until = 0  # how far it may
        self.units = 0  # of confirmations, so far
        self.confirmed = 0

    @property
    def sent(self) -> int:
        """How many messages were sent, the one that is underway included."""
        return -(-self._offset // self._message_bytes)

    def allow(self, count: int) -> None:
        """Let it send the first so many of its messages; of one that is begun, all."""
        self._until = count * self._message_bytes

    def send(self) -> bool:
        """Send what is allowed; return whether all of it went."""
        if self._offset < self._until:
            piece = self._view[self._offset : self._until]
            try:
                self._offset += self.connection.send(piece)
            except BlockingIOError:
                return False
        return self._offset >= self._until


class Traffic:
    """
    Connections of senders and recipients, for one phase of a measurement after the other.

    :ivar senders: in the order of their names.
    :ivar recipients: in the order of theirs.
    """

    def __init__(
        self,
        confirming: Confirming,
        mail: Mail,
        senders: Sequence[Connection],
        recipients: Mapping[Connection, Recipient],
    ) -> None:
        """Begin; recipients say what they have to."""
        self._confirming = confirming
        self._mail = mail
        self._poller = select.epoll()
        self._buffer = bytearray(_PIECE_BYTES)
        self._events: list[tuple[int, int]] = []
        self._due: list[int] = []  # at each recipient, while they are waited for
        self.senders = [
            Sender(connection, buffer, mail.message_bytes)
            for connection, buffer in zip(senders, mail.buffers, strict=True)
        ] if senders else []  # fmt: skip
        self.recipients = list(recipients.values())
        self._by_number = {sender.connection.fileno(): sender for sender in self.senders}
        self._ends = {connection.fileno(): connection for connection in recipients}
        self._comers = {end.fileno(): comer for end, comer in recipients.items()}
        self._answers = {number: comer.begin() for number, comer in self._comers.items()}
        # What each waits for beside reading.
        self._writing = dict.fromkeys(self._by_number, 0) | dict.fromkeys(
            self._ends, select.EPOLLOUT
        )
        for number, writing in self._writing.items():
            self._poller.register(number, select.EPOLLIN | writing)

    def close(self) -> None:
        """Release what this has opened itself."""
        self._poller.close()

    def send(self, until: int, *, stop_after_s: float = 1e9, keep: bool = False) -> float:
        """
        Let each sender send its messages up to one of them, and go on until all are confirmed.

        :param until: the number of the first one not to be sent.
        :param stop_after_s: then begin no more.
        :param keep: whether to keep what each reads, as its ``kept``.
        :returns: the seconds from the first message to the last confirmation.
        :raises BrokenTrafficError: a connection was closed, or nothing more came.
        """
        window = self._mail.crowd.window
        for sender in self.senders:
            sender.kept = bytearray() if keep else None
            sender.allow(min(until, sender.confirmed + window))
        began_s = time.perf_counter()
        stops_s = began_s + stop_after_s
        for number in self._by_number:
            self._push(number)
        is_stopping = False
        unfinished = len(self.senders)
        while unfinished:
            now_s = self._wait()
            if now_s > stops_s and not is_stopping:
                is_stopping = True
                for sender in self.senders:
                    sender.allow(sender.sent)
            for number, event in self._events:
                if number in self._ends:
                    self._serve_recipient(number, event)
                    continue
                sender = self._by_number[number]
                if event & ~select.EPOLLOUT:
                    self._read_confirmations(sender)
                    if not is_stopping:
                        sender.allow(min(until, sender.confirmed + window))
                self._push(number)
            if is_stopping or self.senders[0].confirmed == until:
                unfinished = sum(
                    sender.confirmed < (sender.sent if is_stopping else until)
                    for sender in self.senders
                )
        return time.perf_counter() - began_s

    def receive(self, due: Sequence[int], *, acked: bool) -> float:
        """
        Let each recipient receive so many messages in all.

        :param acked: whether the server has to know that all of them are acked.
        :returns: the seconds it took.
        :raises BrokenTrafficError: a connection was closed, more or nothing more came.
        """
        began_s = time.perf_counter()
        self._due = list(due)
        while True:
            counts = [comer.acked if acked else comer.received for comer in self.recipients]
            if any(count > most for count, most in zip(counts, due, strict=True)):
                raise BrokenTrafficError(f"{counts} messages were received instead of {due}")
            if counts == self._due and (not acked or not any(self._answers.values())):
                return time.perf_counter() - began_s
            self._wait()
            for number, event in self._events:
                if number in self._ends:
                    self._serve_recipient(number, event)

    def _wait(self) -> float:
        """Wait for events, and return the time."""
        self._events = self._poller.poll(_STALLED_S, _EVENTS)
        if not self._events:
            raise BrokenTrafficError(f"nothing comes any more: {self._state()}")
        return time.perf_counter()

    def _state(self) -> str:
        confirmed = sum(sender.confirmed for sender in self.senders)
        sent = sum(sender.sent for sender in self.senders)
        received = [comer.received for comer in self.recipients]
        acked = [comer.acked for comer in self.recipients]
        due = f" of {self._due}" if self._due else ""
        return (
            f"{confirmed} of {sent} messages were confirmed,"
            f" {received}{due} received, {acked} of them acked"
        )

    def _push(self, number: int) -> None:
        self._want(number, 0 if self._by_number[number].send() else select.EPOLLOUT)

    def _read_confirmations(self, sender: Sender) -> None:
        buffer, confirming = self._buffer, self._confirming
        count = sender.connection.recv_into(buffer)
        if not count:
            raise BrokenTrafficError("the server closed a sender's connection")
        if confirming.refusal and buffer.find(confirming.refusal, 0, count) >= 0:
            raise BrokenTrafficError(f"a sender was told {bytes(buffer[: min(count, 200)])!r}")
        if sender.kept is not None:
            sender.kept += buffer[:count]
        marker = confirming.confirmation
        sender.units += buffer.count(marker, 0, count) if marker else count
        sender.confirmed = sender.units // confirming.in_each

    def _serve_recipient(self, number: int, event: int) -> None:
        end = self._ends[number]
        if event & ~select.EPOLLOUT:
            count = end.recv_into(self._buffer)
            if not count:
                raise BrokenTrafficError("the server closed a recipient's connection")
            self._answers[number] += self._comers[number].take(bytes(self._buffer[:count]))
        answers = self._answers[number]
        if answers:
            with contextlib.suppress(BlockingIOError):
                answers = self._answers[number] = answers[end.send(answers) :]
        self._want(number, select.EPOLLOUT if answers else 0)

    def _want(self, number: int, writing: int) -> None:
        if writing != self._writing[number]:
            self._writing[number] = writing
            self._poller.modify(number, select.EPOLLIN | writing)
