"""
The quick path: a run of plain messages, cut into what each recipient is written.

Most of what clients send is nothing else: whole reads in which every line is
``%NAME%TEXT`` with a name that is here, cut by `cut_whole` in one go.  A `Run` is a
stretch of any other read, clean lines that begin with ``%``, and is cut up to the first
that is no plain message.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from chatrelay import cutting
from chatrelay.cutting import Cut, Route


def _choose_implementation() -> ModuleType:
    if os.environ.get("CHATRELAY_PURE", "") not in ("", "0"):
        return cutting
    try:
        # Built at installation where there is a compiler.
        return import_module("chatrelay._cutting")
    except ImportError:
        return cutting


_implementation = _choose_implementation()
IMPLEMENTATION: str = _implementation.IMPLEMENTATION
"""Which implementation of the quick path runs, for people."""

if TYPE_CHECKING:
    from chatrelay.cutting import cut_confirmed, cut_whole, find_stretch
else:
    cut_confirmed = _implementation.cut_confirmed
    cut_whole = _implementation.cut_whole
    find_stretch = _implementation.find_stretch

__all__ = ["IMPLEMENTATION", "Run", "cut_confirmed", "cut_whole", "find_stretch"]


class Run:
    """Clean lines that begin with ``%`` and are not longer than a line may be."""

    __slots__ = ("_lines", "_next")

    def __init__(self, stretch: bytes) -> None:
        """
        Begin with the first line.

        :param stretch: the lines, LF after each.
        """
        self._lines = stretch[1:-1].split(b"\n%")  # without their "%"
        self._next = 0

    @property
    def is_empty(self) -> bool:
        """Whether every line was taken."""
        return self._next == len(self._lines)

    def cut(self, prefix: bytes, routes: dict[bytes, Route]) -> Cut[Route]:
        """
        Take plain messages, up to the first line that needs a closer look.

        :param prefix: what every line to a recipient begins with, ``%SENDER%``.
        :param routes: whom the quick path can serve, by the name as written; several
            writings may lead to one recipient.
        :returns: what to write to whom, one entry for each recipient; empty if the first
            line is an odd one.  If a room is among them it is the only one.
        """
        texts_of: dict[Route, list[bytes]] = {}
        has_room = False
        for index in range(self._next, len(self._lines)):
            target, _, text = self._lines[index].partition(b"%")
            recipient = routes.get(target)
            if not text or recipient is None:
                break
            is_room = target.startswith(b"#")
            if (is_room or has_room) and texts_of and recipient not in texts_of:
                # What goes to a room goes to names, too: nothing may overtake it.
                break
            has_room = has_room or is_room
            texts_of.setdefault(recipient, []).append(text)
            self._next += 1
        between = b"\n" + prefix
        return [
            (recipient, prefix + between.join(texts) + b"\n", len(texts))
            for recipient, texts in texts_of.items()
        ]

    def take_line(self) -> bytes:
        """Take one line, without its end; the run must not be empty."""
        line = b"%" + self._lines[self._next]
        self._next += 1
        return line
