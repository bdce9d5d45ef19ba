"""
Standard input as lines to send: whole ones only, plain ones addressed.

Pure.  Half a line is kept back, because the rest of it would be a line of its own to
the relay if a new connection came between, and could be anybody's message.
"""

from __future__ import annotations

MAX_LINE_BYTES = 64 * 1024
"""A longer line of input is dropped: no relay takes it, and what is kept is bounded."""

_AS_WRITTEN = (b"%", b"/", b"@")
_EMPTY = (b"", b"\r")


class InputLines:
    """
    Cuts the input.

    :ivar dropped: how many lines were longer than `MAX_LINE_BYTES`.
    """

    def __init__(self, to: str | None) -> None:
        """
        Begin.

        :param to: where lines go that begin with neither ``%``, ``/`` nor ``@``;
            ``None`` leaves every line as it is.
        """
        self.dropped = 0
        self._prefix = b"" if to is None else b"%" + to.encode("utf-8") + b"%"
        self._unfinished = b""
        self._dropping = False

    def feed(self, data: bytes) -> bytes:
        """Take what was read; returns the lines that are complete, each with its LF."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            return b""
        start = 0
        if self._dropping:
            start = data.index(b"\n") + 1
            self._dropping = False
        lines = self._unfinished + data[start:end]
        self._unfinished = b""
        self._keep(data[end:])
        return self._addressed(lines)

    def finish(self) -> bytes:
        """The input has ended: returns its last line, if it had no end, with one."""
        last, self._unfinished = self._unfinished, b""
        return self._addressed(last + b"\n") if last else b""

    def _keep(self, data: bytes) -> None:
        if self._dropping:
            return
        self._unfinished += data
        if len(self._unfinished) > MAX_LINE_BYTES:
            self._unfinished, self._dropping = b"", True
            self.dropped += 1

    def _addressed(self, lines: bytes) -> bytes:
        if not self._prefix:
            return lines
        prefix = self._prefix
        return b"".join(
            line + b"\n"
            if line.startswith(_AS_WRITTEN) or line in _EMPTY
            else prefix + line + b"\n"
            for line in lines.split(b"\n")[:-1]
        )
