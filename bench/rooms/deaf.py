"""A member who has stopped reading, of a room where others have not."""

from __future__ import annotations

import select
import socket

from bench.naming import BrokenTrafficError, Door, close_all, in_clear, name_all
from bench.rooms.dialects import Lines
from bench.rooms.joining import take_steps

_NAME, _FILLER = "z00000", "y00000"
_SMALL_BYTES = 4096
_TEXT_BYTES = 8000
# Who can send nothing for so long is held.
_HELD_MS = 300
_MOST_BYTES = 64 * 1024 * 1024
_GONE = select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP


class Deaf:
    """It is a member, and what is written to it is over the mark of its outbox."""

    def __init__(self, door: Door, dialect: Lines, room: str) -> None:
        """
        Come, join, stop reading, and be sent to until the relay holds whoever does.

        :raises BrokenTrafficError: the relay takes everything.
        """
        [filler] = name_all(door, dialect, [_FILLER])
        self._filler = in_clear(filler)
        self._end = socket.socket()
        # A large one would take for minutes what is said at a moderate pace.
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BYTES)
        self._end.connect(("127.0.0.1", door.port))
        for step in (*dialect.steps(_NAME), dialect.join(room)):
            take_steps([self._end], {0: step}.__getitem__, 1)
        self._fill(dialect.direct(_NAME, b"x" * _TEXT_BYTES))

    def _fill(self, line: bytes) -> None:
        poller = select.poll()
        poller.register(self._filler, select.POLLOUT)
        left, sent = memoryview(b""), 0
        while poller.poll(_HELD_MS):
            left = left or memoryview(line)
            count = self._filler.send(left)
            left, sent = left[count:], sent + count
            if sent > _MOST_BYTES:
                raise BrokenTrafficError("who sends to one that does not read is not held")

    @property
    def is_there(self) -> bool:
        """Whether the relay has not closed its connection."""
        poller = select.epoll()
        poller.register(self._end, select.EPOLLRDHUP)
        events = poller.poll(0.0)
        poller.close()
        return not any(event & _GONE for _, event in events)

    def leave(self) -> None:
        """Close its connection, and that of who has sent to it."""
        close_all([self._filler, self._end])
