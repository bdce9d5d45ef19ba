"""
Which lines of a pipe may be written again: messages with a ref that were not answered.

Pure.  The refs are the user's own; a line without one has no answer, so that nothing is
known of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatrelay.client.answers import ASK_AGAIN_WITHIN_S
from chatrelay.client.core import MAX_TARGETS, Reply, name_key, parse_line
from chatrelay.errors import Refusal
from chatrelay.wire import parse_message, parse_tags

MAX_LINES = 1000
"""Lines from the first that waits for its answers on; the relay remembers as many refs."""
LINES_IN_A_READ = 700
"""One read of standard input has 8,192 bytes, and a line with a ref 12 at least."""
MAX_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Line:
    """
    A line that waits for its answers.

    :ivar number: its place in the order of lines.
    :ivar unanswered: the targets that it has no answer for.
    :ivar owner: the owned name under which it was written.
    """

    number: int
    unanswered: set[bytes]
    owner: bytes | None
    written_s: float


class RepeatableLines:
    """The messages with a ref that wait for their answers."""

    def __init__(self) -> None:
        # By ref, then by line: a ref may be used for several, or for the same one twice.
        self._lines: dict[bytes, dict[bytes, _Line]] = {}
        # What of it waits, in order.
        self._in_order: dict[int, tuple[bytes, bytes]] = {}
        self._next = 0
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._in_order)

    @property
    def is_full(self) -> bool:
        """Whether with another read more would wait than may."""
        first = next(iter(self._in_order), self._next)
        return self._next - first > MAX_LINES - LINES_IN_A_READ or self._size_bytes >= MAX_BYTES

    def written(self, data: bytes, owner: bytes | None, now_s: float) -> None:
        """
        Note what goes to the relay.

        :param data: whole lines, each with its end.
        :param owner: the owned name to which refs belong; ``None``: to the connection.
        """
        if not data.startswith(b"@") and b"\n@" not in data:
            return
        for line in data.split(b"\n"):
            if line.startswith(b"@"):
                self._note(line, owner, now_s)

    def _note(self, line: bytes, owner: bytes | None, now_s: float) -> None:
        try:
            tags, rest = parse_tags(line.removesuffix(b"\r"))
            if b"ref" not in tags or not rest.startswith(b"%"):
                return
            targets = parse_message(rest, MAX_TARGETS).targets
        except Refusal:
            return  # the relay refuses it
        unanswered = {name_key(target.decode("utf-8")) for target in targets}
        ref = tags[b"ref"]
        known = self._lines.setdefault(ref, {})
        if line not in known:  # else the relay remembers it since it came first
            known[line] = _Line(self._next, unanswered, owner, now_s)
            self._in_order[self._next] = ref, line
            self._size_bytes += len(line)
        self._next += 1

    def answered(self, lines: Sequence[bytes]) -> None:
        """Note what came from the relay."""
        if self._in_order:
            for line in lines:
                if line.startswith(b"@"):
                    self._take(line)

    def _take(self, line: bytes) -> None:
        reply = parse_line(line)
        if not isinstance(reply, Reply) or reply.word not in ("sent", "stored", "error"):
            return
        ref = reply.tags.get("ref", "").encode("utf-8")
        at = 1 if reply.word == "error" else 0
        key = name_key(reply.arguments[at]) if len(reply.arguments) > at else None
        lines = self._lines.get(ref, {})
        for written, waiting in lines.items():
            if key is not None and key in waiting.unanswered:
                waiting.unanswered.discard(key)
                if not waiting.unanswered:
                    self._drop(ref, written)
                return
        if reply.word == "error" and lines:  # of the whole line, whatever it names
            self._drop(ref, next(iter(lines)))

    def _drop(self, ref: bytes, line: bytes) -> None:
        del self._in_order[self._lines[ref].pop(line).number]
        if not self._lines[ref]:
            del self._lines[ref]
        self._size_bytes -= len(line)

    def lost(self, now_s: float) -> None:
        """The connection is lost: what can not be written again safely is kept no longer."""
        for number, (ref, line) in list(self._in_order.items()):
            waiting = self._lines[ref][line]
            if (
                waiting.owner is None
                or now_s - waiting.written_s >= ASK_AGAIN_WITHIN_S
                or self._next - number > MAX_LINES
            ):
                self._drop(ref, line)

    def again(self, owner: bytes | None, now_s: float) -> bytes:
        """
        What to write first on the next connection, each line with its end.

        :param owner: the owned name that this connection has.
        """
        self.lost(now_s)
        for ref, line in list(self._in_order.values()):
            if self._lines[ref][line].owner != owner:
                self._drop(ref, line)
        return b"".join(line + b"\n" for _, line in self._in_order.values())
