"""
The quick path: a run of plain messages, cut into what each recipient is written.

A run is a stretch of clean lines that begin with ``%``.  The usual one, in which every
line is ``%NAME%TEXT`` with a name that is here and a text without ``%``, costs one split
and one loop; any other is cut line by line, up to the first that is no plain message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping
from importlib import import_module
from types import ModuleType

from chatrelay import cutting
from chatrelay.cutting import Cut


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

find_stretch: Callable[[bytes, int, int], tuple[int, bool]] = _implementation.find_stretch
cut_whole: Callable[[bytes, bytes, Container[bytes]], Cut | None] = _implementation.cut_whole


class Run:
    """Clean lines that begin with ``%`` and are not longer than a line may be."""

    __slots__ = ("_next", "_pieces", "_stretch")

    def __init__(self, stretch: bytes) -> None:
        """
        Begin with the first line.

        :param stretch: the lines, LF after each.
        """
        self._stretch = stretch
        self._pieces: list[bytes] | None = None
        self._next = 0

    @property
    def is_empty(self) -> bool:
        """Whether every line was taken."""
        return not self._stretch

    def cut(self, prefix: bytes, routes: Mapping[bytes, object]) -> Cut:
        """
        Take plain messages, up to the first line that needs a closer look.

        :param prefix: what every line to a recipient begins with, ``%SENDER%``.
        :param routes: whom the quick path can serve, by the name as written; several
            writings may lead to one recipient.
        :returns: what to write to whom, one entry for each recipient; empty if the first
            line is an odd one.
        """
        if self._pieces is None:
            cut = cut_whole(self._stretch, prefix, routes)
            # Under two writings of its name a recipient's lines would lose their order.
            if cut is not None and len({routes[target] for target in cut}) == len(cut):
                self._stretch = b""
                return cut
        return self._cut_some(prefix, routes)

    def take_line(self) -> bytes:
        """Take one line, without its end; the run must not be empty."""
        pieces = self._split()
        line = b"%" + pieces[self._next]
        self._advance(1)
        return line

    def _cut_some(self, prefix: bytes, routes: Mapping[bytes, object]) -> Cut:
        pieces = self._split()
        groups: dict[object, tuple[bytes, list[bytes]]] = {}
        for index in range(self._next, len(pieces)):
            target, _, text = pieces[index].partition(b"%")
            recipient = routes.get(target)
            if not text or recipient is None:
                break
            groups.setdefault(recipient, (target, []))[1].append(text)
            self._next += 1
        self._advance(0)
        between = b"\n" + prefix
        return {
            target: (prefix + between.join(texts) + b"\n", len(texts))
            for target, texts in groups.values()
        }

    def _split(self) -> list[bytes]:
        if self._pieces is None:
            self._pieces = self._stretch[1:-1].split(b"\n%")
        return self._pieces

    def _advance(self, count: int) -> None:
        self._next += count
        if self._pieces is not None and self._next == len(self._pieces):
            self._stretch = b""
