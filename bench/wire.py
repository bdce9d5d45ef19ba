"""
The generator's sockets: many connections named at once, and traffic in one event loop.

A relay with back-pressure holds those who send while receivers do not read, and one
without cuts receivers off; so everything is read while it is written.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Sequence

from bench.dialects import Dialect
from bench.traffic import Plan

# Large enough that system calls cost little, small enough to stay in a cache.
_PIECE_BYTES = 256 * 1024
_EVENTS = 2048
# Nothing may come after the last message; it is waited for this long.
_QUIET_S = 0.01
_STALLED_S = 20.0
_NAMING_S = 60.0
_LINGER_NOT = struct.pack("ii", 1, 0)


class BrokenTrafficError(Exception):
    """The relay did not do what it is there for; the words say what."""


class _Naming:
    """A connection on its way to its name."""

    def __init__(self, port: int, dialect: Dialect, name: str) -> None:
        self.name = name
        self.connection = socket.socket()
        self.connection.setblocking(False)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = self.connection.connect_ex(("127.0.0.1", port))
        if status not in {0, errno.EINPROGRESS}:
            raise BrokenTrafficError(f"{name}: {errno.errorcode.get(status, status)}")
        self._dialect = dialect
        self._steps = dialect.steps(name)
        self._answer = b""
        self._all_answers = b""

    def send(self) -> None:
        """Take the next step."""
        self.connection.send(self._steps[0].sends)

    def receive(self) -> bool:
        """Take what came; return whether it was the last of this step."""
        data = self.connection.recv(_PIECE_BYTES)
        if not data:
            raise BrokenTrafficError(f"{self.name} was closed after {self._all_answers!r}")
        self._answer += data
        self._all_answers += data
        step = self._steps[0]
        if step.marker not in self._answer or not self._answer.endswith(step.end):
            return False
        self._answer = b""
        del self._steps[0]
        if not self._steps:
            self._dialect.named(self._all_answers)
        return True

    @property
    def is_named(self) -> bool:
        """Whether no step is left."""
        return not self._steps


def name_all(
    port: int, dialect: Dialect, names: Sequence[str], at_once: int = 32
) -> list[socket.socket]:
    """
    Connect and be named, several at a time.

    :param at_once: how many are on their way; few listen for more than fifty.
    :returns: the connections, in the order of the names.
    """
    poller = select.epoll()
    named: dict[str, socket.socket] = {}
    waiting = deque(names)
    underway: dict[int, _Naming] = {}
    ends_s = time.monotonic() + _NAMING_S
    try:
        while len(named) < len(names):
            while waiting and len(underway) < at_once:
                naming = _Naming(port, dialect, waiting.popleft())
                number = naming.connection.fileno()
                underway[number] = naming
                poller.register(number, select.EPOLLOUT)
            for number, event in poller.poll(1.0, _EVENTS):
                naming = underway[number]
                if event & select.EPOLLIN:
                    if not naming.receive():
                        continue
                    if naming.is_named:
                        poller.unregister(number)
                        named[naming.name] = underway.pop(number).connection
                        continue
                naming.send()
                poller.modify(number, select.EPOLLIN)
            if time.monotonic() > ends_s:
                raise BrokenTrafficError(f"{len(named)} of {len(names)} named in {_NAMING_S:.0f} s")
    except OSError as error:
        raise BrokenTrafficError(f"connecting: {error}") from None
    finally:
        poller.close()
    return [named[name] for name in names]


def close_all(connections: Iterable[socket.socket]) -> None:
    """Close at once, so that no port is kept waiting for stray packets."""
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        connection.close()


def exchange(
    dialect: Dialect,
    plan: Plan,
    senders: Sequence[socket.socket],
    receivers: Sequence[socket.socket],
    delivered_bytes: int,
    *,
    keep: bool = False,
    stop_after_s: float | None = None,
) -> tuple[float, list[bytes]]:
    """
    Send all of a plan and receive all of it.

    :param delivered_bytes: the size of one message at its receiver.
    :param keep: whether to keep what is received.
    :param stop_after_s: give up then, quietly, with whatever was received.
    :returns: the seconds it took, and what each receiver got if that was kept.
    :raises BrokenTrafficError: a connection was closed, too much or nothing more came.
    """
    traffic = _Traffic(dialect, plan, senders, receivers, delivered_bytes, keep)
    try:
        took_s = traffic.run(stop_after_s)
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
        senders: Sequence[socket.socket],
        receivers: Sequence[socket.socket],
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
    def run(self, stop_after_s: float | None) -> float:  # noqa: PLR0912
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
            elif now_s - moved_s > _STALLED_S:
                missing = sum(left for left in due.values() if left > 0)
                raise BrokenTrafficError(f"{missing} bytes never came")
            for number, event in events:
                if number in receive:
                    count = receive[number](buffer)
                    if not count:
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
        if not data or data != self.dialect.ping:
            raise BrokenTrafficError(f"a sender was told {data[:200]!r}")
        # Within a message an answer would be part of it.
        if self._offsets[number]:
            self._pinged.add(number)
        else:
            self._answer_ping(number)

    def _answer_ping(self, number: int) -> None:
        try:
            self.senders[number].send(self.dialect.pong)
        except BlockingIOError:
            self._pinged.add(number)  # between two later messages, then
        else:
            self._pinged.discard(number)
