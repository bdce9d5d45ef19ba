"""One member who says a line now and then, and how late the others hear it."""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from bench.naming import BrokenTrafficError
from bench.rooms.dialects import RoomDialect
from bench.rooms.party import Party, burst_of, delivered_bytes

_RECEIVE_BYTES = 65536
_EVENTS = 4096
_STALLED_S = 20.0


@dataclass(frozen=True)
class Lateness:
    """
    How late lines were heard, each from when it was sent, in seconds and in order of size.

    :ivar each: by every member.
    :ivar last: by whoever heard it last.
    """

    each: Sequence[float]
    last: Sequence[float]


def percentile_us(sorted_s: Sequence[float], percent: int) -> float:
    """Of seconds that are in order, in microseconds."""
    return sorted_s[len(sorted_s) * percent // 100] * 1e6


class Paced:
    """One room, whose first member is the one who says something."""

    def __init__(
        self, dialect: RoomDialect, party: Party, ends: Sequence[socket.socket], size: int
    ) -> None:
        """
        Prepare.

        :param party: of one sender, with a burst of one line.
        :param ends: of all members, who have joined.
        :param size: bytes in each text.
        """
        self._line = burst_of(party, dialect, 0, size)
        self._each = delivered_bytes(party, dialect, size)
        self._ping, self._pong = dialect.ping, dialect.pong
        self._sender = ends[0]
        self._listeners = {end.fileno(): end for end in ends[1:]}

    def say(self, lines: int, every_s: float) -> Lateness:
        """
        Say so many lines, one each `every_s` seconds, whether the last was heard or not.

        :raises BrokenTrafficError: a line was not heard, or something else came.
        """
        poller = select.epoll()
        for number in self._listeners:
            poller.register(number, select.EPOLLIN)
        try:
            return self._say(poller, lines, every_s)
        except OSError as error:
            raise BrokenTrafficError(f"the relay cut a connection: {error}") from None
        finally:
            poller.close()

    def _say(self, poller: select.epoll, lines: int, every_s: float) -> Lateness:
        each, last, sent_s = array("d"), array("d"), array("d")
        heard_by = [0] * lines
        bytes_heard = dict.fromkeys(self._listeners, 0)
        began_s = moved_s = time.perf_counter()
        while len(last) < lines:
            now_s = time.perf_counter()
            if len(sent_s) < lines and now_s >= began_s + len(sent_s) * every_s:
                sent_s.append(now_s)
                self._sender.send(self._line)
            all_sent = len(sent_s) == lines
            _wait(poller, now_s + 1.0 if all_sent else began_s + len(sent_s) * every_s)
            events = poller.poll(0.0, _EVENTS)
            if not events and now_s - moved_s > _STALLED_S:
                raise BrokenTrafficError(f"{lines - len(last)} lines were not heard by all")
            for number, _ in events:
                count = self._receive(number)
                heard_s = moved_s = time.perf_counter()
                before = bytes_heard[number] // self._each
                bytes_heard[number] += count
                for line in range(before, bytes_heard[number] // self._each):
                    each.append(heard_s - sent_s[line])
                    heard_by[line] += 1
                    if heard_by[line] == len(self._listeners):
                        last.append(heard_s - sent_s[line])
        if any(size != lines * self._each for size in bytes_heard.values()):
            raise BrokenTrafficError("a member got something else")
        return Lateness(sorted(each), sorted(last))

    def _receive(self, number: int) -> int:
        data = self._listeners[number].recv(_RECEIVE_BYTES)
        if not data:
            raise BrokenTrafficError("the relay closed a member's connection")
        if self._ping and self._ping in data:
            self._listeners[number].send(self._pong)
            return len(data) - len(self._ping) * data.count(self._ping)
        return len(data)


def _wait(poller: select.epoll, until_s: float) -> None:
    """Wait for something to read, but no longer; a poll's time-out is of whole milliseconds."""
    left_s = until_s - time.perf_counter()
    if left_s > 0:
        select.select([poller], [], [], left_s)
