"""
The generator's traffic, in one event loop.

A relay with back-pressure holds those who send while receivers do not read, and one
without cuts receivers off; so everything is read while it is written.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from bench.dialects import Dialect
from bench.naming import BrokenTrafficError, Connection
from bench.traffic import Plan

# Large enough that system calls cost little, small enough to stay in a cache.
_PIECE_BYTES = 256 * 1024
_EVENTS = 2048
# Nothing may come after the last message; it is waited for this long.
_QUIET_S = 0.01
STALLED_S = 20.0
"""Traffic in which nothing moves for this long has failed."""


def exchange(
    dialect: Dialect,
    plan: Plan,
    senders: Sequence[Connection],
    receivers: Sequence[Connection],
    delivered_bytes: int,
    *,
    keep: bool = False,
    stop_after_s: float | None = None,
    stalled_s: float = STALLED_S,
) -> tuple[float, list[bytes]]:
    """
    Send all of a plan and receive all of it.

    :param delivered_bytes: the size of one message at its receiver.
    :param keep: whether to keep what is received.
    :param stop_after_s: give up then, quietly, with whatever was received.
    :param stalled_s: fail when nothing has moved for so long.
    :returns: the seconds it took, and what each receiver got if that was kept.
    :raises BrokenTrafficError: a connection was closed, too much or nothing more came.
    """
    traffic = _Traffic(dialect, plan, senders, receivers, delivered_bytes, keep)
    try:
        took_s = traffic.run(stop_after_s, stalled_s)
        if stop_after_s is None:
            traffic.check_surplus()
    except OSError as error:
        raise BrokenTrafficError(f"the relay cut a connection: {error}") from None
    finally:
        traffic.poller.close()
    return took_s, [bytes(data) for data in traffic.kept.values()]


class _Traffic:
    """One exchange.  What is done for each read is in one function and on plain dicts."""

    def __init__(
        self,
        dialect: Dialect,
        plan: Plan,
        senders: Sequence[Connection],
        receivers: Sequence[Connection],
        delivered_bytes: int,
        keep: bool,
    ) -> None:
        self.poller = select.epoll()
        self.dialect = dialect
        self.buffer = bytearray(_PIECE_BYTES)
        self.receivers = {receiver.fileno(): receiver for receiver in receivers}
        self.senders = {sender.fileno(): sender for sender in senders}
        self.due = {
            receiver.fileno(): count * delivered_bytes
            for receiver, count in zip(receivers, plan.expected, strict=True)
        }
        self.kept = {number: bytearray() for number in self.receivers} if keep else {}
        self._repeats = plan.repeats
        self._offsets = dict.fromkeys(self.senders, 0)
        self._pinged: set[int] = set()  # senders that owe an answer
        self._views = {
            sender.fileno(): memoryview(data)
            for sender, data in zip(senders, plan.buffers, strict=True)
        }
        for number in self.receivers:
            self.poller.register(number, select.EPOLLIN)
        for number in self.senders:
            self.poller.register(number, select.EPOLLIN | select.EPOLLOUT)

    # One function for all: a call for each read or write would be much of its time.
    def run(self, stop_after_s: float | None, stalled_s: float) -> float:  # noqa: PLR0912
        """Send and receive until every receiver has what is due to it."""
        poll, buffer, due, kept = self.poller.poll, self.buffer, self.due, self.kept
        receive = {number: end.recv_into for number, end in self.receivers.items()}
        unfinished = sum(1 for left in due.values() if left > 0)
        offsets, pinged = self._offsets, self._pinged
        repeats_left = dict.fromkeys(self.senders, self._repeats)
        began_s = moved_s = time.perf_counter()
        while unfinished:
            events = poll(1.0, _EVENTS)
            now_s = time.perf_counter()
            if stop_after_s is not None and now_s - began_s > stop_after_s:
                break
            if events:
                moved_s = now_s
            elif now_s - moved_s > stalled_s:
                missing = sum(left for left in due.values() if left > 0)
                raise BrokenTrafficError(f"{missing} bytes never came")
            for number, event in events:
                if number in receive:
                    count = receive[number](buffer)
                    if not count:
                        if count is None:  # over TLS, what is not for us
                            continue
                        raise BrokenTrafficError("the relay closed a receiver's connection")
                    if kept:
                        kept[number] += buffer[:count]
                    left = due[number]
                    due[number] = left - count
                    if 0 < left <= count:
                        unfinished -= 1
                    continue
                if event & ~select.EPOLLOUT:
                    self._read_sender(number)
                if event & select.EPOLLOUT:
                    view, offset = self._views[number], offsets[number]
                    offset += self.senders[number].send(view[offset : offset + _PIECE_BYTES])
                    if offset == len(view):
                        offset = 0
                        if number in pinged:
                            self._answer_ping(number)
                        repeats_left[number] -= 1
                        if not repeats_left[number]:
                            self.poller.modify(number, select.EPOLLIN)
                    offsets[number] = offset
        return time.perf_counter() - began_s

    def check_surplus(self) -> None:
        """See that nothing came or comes beyond what was due, but for the relay's pings."""
        while events := self.poller.poll(_QUIET_S, _EVENTS):
            for number, _ in events:
                if number in self.receivers:
                    count = self.receivers[number].recv_into(self.buffer)
                    if count is None:
                        continue
                    if not count:
                        raise BrokenTrafficError("the relay closed a receiver's connection")
                    self.due[number] -= count
                    if self.kept:
                        self.kept[number] += self.buffer[:count]
                else:
                    self._read_sender(number)
        ping = self.dialect.ping
        for number, left in self.due.items():
            if left and -left == len(ping):
                self.receivers[number].send(self.dialect.pong)
            elif left:
                raise BrokenTrafficError(f"a receiver got {-left} bytes too many")

    def _read_sender(self, number: int) -> None:
        data = self.senders[number].recv(_PIECE_BYTES)
        if data is None:
            return
        if not data or data != self.dialect.ping:
            raise BrokenTrafficError(f"a sender was told {data[:200]!r}")
        # Within a message an answer would be part of it.
        if self._offsets[number]:
            self._pinged.add(number)
        else:
            self._answer_ping(number)

    def _answer_ping(self, number: int) -> None:
        try:
            # Over TLS there may be a piece of messages underway.
            self.senders[number].send(self.dialect.pong)
        except BlockingIOError:
            self._pinged.add(number)  # between two later messages, then
        else:
            self._pinged.discard(number)
