"""
The incomplete input of one client: from bytes as they arrive to lines and runs of lines.

A stretch of clean lines that begin with ``%`` is handed over as a run, which one pass can
serve; everything else goes line by line.  What is kept is bounded by one read and one
line, and no byte of an over-long line is looked at twice (docs/protocol.rst, *Lines*).
"""

from __future__ import annotations

from typing import NamedTuple

from chatrelay.runs import Run, find_stretch
from chatrelay.wire import MAX_TAGS_BYTES

# Enough of an over-long line's end to see another protocol's request in it.
_KEPT_END_BYTES = 32


class Overlong(NamedTuple):
    """
    A line that was longer than allowed and has been discarded.

    :ivar head: its beginning, with the whole of its tags if it has some.
    :ivar end: its last bytes.
    """

    head: bytes
    end: bytes


class LineBuffer:
    """
    Cuts what one client sends.

    :ivar ending: how its first line ended, LF or CR LF; empty until there was one.
    """

    __slots__ = (
        "_block",
        "_discarded",
        "_max_line_bytes",
        "_position",
        "_queue",
        "_singly_until",
        "_tail",
        "_unhandled",
        "ending",
    )

    def __init__(self, max_line_bytes: int) -> None:
        self.ending = b""
        self._max_line_bytes = max_line_bytes
        self._tail = b""  # the line that has not ended,
        self._discarded: Overlong | None = None  # or what is left of it, once it is too long
        self._queue: list[bytes | Overlong] | None = None  # complete lines behind _block
        self._block = b""  # complete lines, each ended by LF alone
        self._position = 0  # what of _block has been taken
        self._singly_until = 0  # up to here _block is taken line by line
        self._unhandled: Run | None = None

    def append(self, data: bytes) -> None:
        """Add what was read."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._extend_tail(data)
            return
        if not self.ending:
            self.ending = self._ending_of_first_line(data)
        start = 0
        if self._discarded is not None:
            start = data.index(b"\n") + 1
            self._extend_tail(data[: start - 1])
            head, ending = self._discarded
            self._enqueue(Overlong(head, ending.removesuffix(b"\r")))
            self._discarded = None
        lines = self._tail + data[start:end]
        self._tail = b""
        if lines:
            self._enqueue(lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines)
        if end < len(data):
            self._extend_tail(data[end:])

    def take(self) -> Run | bytes | Overlong | None:
        """
        Take what comes next, in order.

        :returns: a run, one line without its end, what is left of an over-long
            line, or ``None`` until more is appended.
        """
        if self._unhandled is not None:
            unhandled, self._unhandled = self._unhandled, None
            return unhandled
        while self._position == len(self._block):
            self._block, self._position, self._singly_until = b"", 0, 0
            if not self._queue:
                return None
            following = self._queue.pop(0)
            if isinstance(following, Overlong):
                return following
            self._block = following
        if self._position >= self._singly_until and self._block.startswith(b"%", self._position):
            run = self._take_run()
            if run is not None:
                return run
        return self._take_line()

    def give_back(self, run: Run) -> None:
        """Put the rest of a run back, to be taken first, because its connection is held."""
        self._unhandled = run

    def clear(self) -> None:
        """Forget everything that was not taken."""
        self._tail, self._discarded, self._queue, self._unhandled = b"", None, None, None
        self._block, self._position, self._singly_until = b"", 0, 0

    def _take_run(self) -> Run | None:
        start = self._position
        end, is_run = find_stretch(self._block, start, self._max_line_bytes)
        if not is_run:
            self._singly_until = end
            return None
        self._position = end
        return Run(self._block[start:end])

    def _take_line(self) -> bytes | Overlong:
        end = self._block.index(b"\n", self._position)
        line = self._block[self._position : end]
        self._position = end + 1
        return line if len(line) <= self._max_line_bytes else _overlong(line)

    def _extend_tail(self, data: bytes) -> None:
        if self._discarded is not None:
            head, end = self._discarded
            self._discarded = Overlong(head, (end + data)[-_KEPT_END_BYTES:])
            return
        self._tail += data
        # One more than a line may have: a CR that is part of its end.
        if len(self._tail) > self._max_line_bytes + 1:
            self._discarded = _overlong(self._tail)
            self._tail = b""

    def _enqueue(self, part: bytes | Overlong) -> None:
        if self._queue is None:
            self._queue = []
        self._queue.append(part)

    def _ending_of_first_line(self, data: bytes) -> bytes:
        length = data.index(b"\n")
        if length:
            before = data[length - 1 : length]
        else:
            before = self._discarded.end[-1:] if self._discarded else self._tail[-1:]
        return b"\r\n" if before == b"\r" else b"\n"


def _overlong(line: bytes) -> Overlong:
    return Overlong(line[: MAX_TAGS_BYTES + 1], line[-_KEPT_END_BYTES:])
