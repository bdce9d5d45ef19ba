"""
The input of one client: from bytes as they arrive to runs of messages and lines.

Complete lines are kept as they were read, in blocks, and most blocks are cut in one go;
the others are taken as runs and line by line.  What is kept is bounded by one read and one
line, and no byte of an over-long line is looked at twice (docs/protocol.rst, *Lines*).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chatrelay.cutting import Confirmed, Cut, Route
from chatrelay.runs import Run, cut_confirmed, cut_whole, find_stretch
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


class Block:
    """
    Complete lines, none of which has been looked at.

    :ivar is_admitted: whether they may be served, where that is bounded.
    """

    __slots__ = (
        "_confirmed_until",
        "_lines",
        "_max_line_bytes",
        "_position",
        "_run",
        "_singly_until",
        "is_admitted",
    )

    def __init__(self, lines: bytes, max_line_bytes: int) -> None:
        """
        Begin with the first line.

        :param lines: LF after each.
        :param max_line_bytes: how long a line may be, without its end.
        """
        self.is_admitted = False
        self._lines = lines
        self._max_line_bytes = max_line_bytes
        self._position = 0  # what has been taken, or is in the run
        self._singly_until = 0  # up to here it is taken line by line
        self._confirmed_until = 0  # up to here `cut_confirmed` has looked
        self._run: Run | None = None

    @property
    def begins_with_tags(self) -> bool:
        """Whether what comes next may be for `cut_confirmed`."""
        return (
            self._run is None
            and self._position >= self._singly_until
            and self._lines.startswith(b"@", self._position)
        )

    @property
    def is_empty(self) -> bool:
        """Whether every line was taken."""
        return self._position == len(self._lines) and self._run is None

    def count_lines(self) -> int:
        """How many lines it has had in all."""
        return self._lines.count(b"\n")

    def split(self, count: int) -> Block:
        """Keep the first `count` lines of one that nothing was taken of; returns the others."""
        end = 0
        for _ in range(count):
            end = self._lines.index(b"\n", end) + 1
        others = Block(self._lines[end:], self._max_line_bytes)
        self._lines = self._lines[:end]
        return others

    def cut(self, prefix: bytes, routes: dict[bytes, Route]) -> Cut[Route]:
        """
        Take plain messages: the whole block, or up to a line that needs a closer look.

        :param prefix: what every line to a recipient begins with, ``%SENDER%``.
        :param routes: whom the quick path can serve, by the name as written.
        :returns: what to write to whom, one entry for each recipient; empty if the next
            line is for `take_line`.
        """
        if self._run is None:
            if self._position < self._singly_until:
                return []
            if not self._position:
                cut = cut_whole(self._lines, self._max_line_bytes, prefix, routes)
                if cut is not None:
                    self._position = len(self._lines)
                    return cut
            if not self._lines.startswith(b"%", self._position):
                return []
            start = self._position
            end, is_run = find_stretch(self._lines, start, self._max_line_bytes)
            if not is_run:
                self._singly_until = end
                return []
            self._position = end
            stretch = self._lines[start:end]
            if len(stretch) < len(self._lines):
                cut = cut_whole(stretch, self._max_line_bytes, prefix, routes)
                if cut is not None:
                    return cut
            self._run = Run(stretch)
        some = self._run.cut(prefix, routes)
        if self._run.is_empty:
            self._run = None
        return some

    def cut_confirmed(
        self, routes: dict[bytes, Route], known: Mapping[bytes, object]
    ) -> Confirmed[Route]:
        """
        Look at messages with a ref: as many as can be taken together.

        :param routes: whom they can go to, by the name as written.
        :param known: refs that need a closer look.
        :returns: what goes to whom.  It stays in the block until `taken` is called; if that
            is not, its lines are for `take_line`.
        """
        end, confirmed = cut_confirmed(
            self._lines, self._position, self._max_line_bytes, routes, known
        )
        self._confirmed_until = self._singly_until = end
        return confirmed

    def taken(self) -> None:
        """What `cut_confirmed` has returned is served."""
        self._position = self._confirmed_until

    def take_line(self) -> bytes | Overlong:
        """
        Take one line; the block must not be empty.

        :returns: the line without its end, or what is left of one that was too long.
        """
        if self._run is not None:
            line = self._run.take_line()
            if self._run.is_empty:
                self._run = None
            return line
        end = self._lines.index(b"\n", self._position)
        line = self._lines[self._position : end]
        self._position = end + 1
        return line if len(line) <= self._max_line_bytes else _overlong(line)


class LineBuffer:
    """
    Cuts what one client sends.

    :ivar ending: how its first line ended, LF or CR LF; empty until there was one.
    """

    __slots__ = ("_discarded", "_max_line_bytes", "_queue", "_tail", "ending")

    def __init__(self, max_line_bytes: int) -> None:
        self.ending = b""
        self._max_line_bytes = max_line_bytes
        self._tail = b""  # the line that has not ended,
        self._discarded: Overlong | None = None  # or what is left of it, once it is too long
        self._queue: list[Block | Overlong] | None = None  # what is complete

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
        lines = data
        if self._tail or start or end < len(data):
            lines = b"".join((self._tail, memoryview(data)[start:end]))
            self._tail = b""
        if lines:
            if b"\r" in lines:
                lines = lines.replace(b"\r\n", b"\n")
            self._enqueue(Block(lines, self._max_line_bytes))
        if end < len(data):
            self._extend_tail(data[end:])

    def take(self) -> Block | Overlong | None:
        """
        Take what comes next, in order.

        :returns: a block, which comes again until it is empty; what is left of an over-long
            line; or ``None`` until more is appended.
        """
        while self._queue:
            following = self._queue[0]
            if isinstance(following, Block) and not following.is_empty:
                return following
            self._queue.pop(0)
            if isinstance(following, Overlong):
                return following
        self._queue = None
        return None

    def split(self, block: Block, count: int) -> None:
        """Let the block that comes next, of which nothing was taken, end after `count` lines."""
        if self._queue:
            self._queue.insert(1, block.split(count))

    def clear(self) -> None:
        """Forget everything that was not taken."""
        self._tail, self._discarded, self._queue = b"", None, None

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

    def _enqueue(self, part: Block | Overlong) -> None:
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
