"""
The three loops of the quick path that look at every byte, in pure Python.

This is the reference, and what runs where there is no compiler.  ``_cutting.pyx`` has the
same functions compiled; `chatrelay.runs` chooses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from typing import TypeVar

from chatrelay.wire import CONTROLS, MAX_REF_BYTES, is_clean

Route = TypeVar("Route")
Cut = list[tuple[Route, bytes, int]]
"""
By recipient, in the order of their first lines: the lines it is written, in order, LF after
each, and how many.
"""

Confirmed = list[tuple[Route, bytes, list[bytes], bytes]]
"""
By recipient, in the order of their first lines: the recipient, how it was written, the refs, and
the texts, LF between.
"""

IMPLEMENTATION = "pure Python"
_REF = b"@ref="

# What is left of one plain message without all that names and texts are made of.
_MARKS = b"%%\n"
_TEXT_BYTES = bytes(set(range(256)) - set(CONTROLS) - set(_MARKS))
# The end of a line, with the beginning of the next one if that is no "%".
_ODD_BEGINNING = re.compile(rb"\n[^%]")


def find_stretch(block: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
    """
    Find how far lines that begin with ``%`` go on.

    :param block: lines, LF after each.
    :param start: where a line begins, with ``%``.
    :param max_line_bytes: how long a line may be, without its end.
    :returns: where the stretch ends, and whether all its lines are clean and short enough.
    """
    match = _ODD_BEGINNING.search(block, start)
    end = match.start() + 1 if match else len(block)
    stretch = block[start:end]
    return end, is_clean(stretch) and not _has_longer_line(stretch, max_line_bytes)


def cut_whole(
    block: bytes, max_line_bytes: int, prefix: bytes, routes: dict[bytes, Route]
) -> Cut[Route] | None:
    """
    Cut lines into what each recipient is written, if every one is a plain message.

    :param block: lines, LF after each; any bytes.
    :param max_line_bytes: how long a line may be, without its end.
    :param prefix: what every line to a recipient begins with, ``%SENDER%``.
    :param routes: whom the quick path can serve, by the name as written.
    :returns: ``None`` for lines that need a closer look, some perhaps for no other reason
        than a ``%`` in a text.  If a room is among the targets it is the only one.
    """
    # One pass, 24 ns for a line of 70 bytes, says that each has exactly two "%" and no
    # control character.
    marks = block.translate(None, _TEXT_BYTES)
    count = len(marks) // len(_MARKS)
    if (
        not block.startswith(b"%")
        or marks != _MARKS * count
        or _has_longer_line(block, max_line_bytes)
        or not (block.isascii() or is_clean(block))
    ):
        return None
    first = block[: block.index(b"%", 1) + 1]
    if block.startswith(first, block.rfind(b"\n", 0, len(block) // 2) + 1):
        # One more like the first: worth a look whether all are, which takes half the time.
        cut = _cut_for_one(block, first, count, prefix, routes)
        if cut is not None:
            return cut
    # What goes to a room goes to names, too: nothing may overtake it.
    if block.startswith(b"%#") or b"\n%#" in block:
        return None
    return _cut_for_many(block, prefix, routes)


def cut_confirmed(
    block: bytes,
    start: int,
    max_line_bytes: int,
    routes: dict[bytes, Route],
    known: Collection[bytes],
) -> tuple[int, Confirmed[Route]]:
    """
    Cut lines that are ``@ref=REF %NAME%TEXT`` into what goes to whom.

    :param block: lines, LF after each; any bytes.
    :param start: where a line begins.
    :param max_line_bytes: how long a line may be, without its end.
    :param routes: whom such lines can go to, by the name as written.
    :param known: refs that need a closer look.
    :returns: where the first line begins that needs one, and what was before it.
    """
    groups: dict[bytes, tuple[Route, list[bytes], list[bytes]]] = {}
    recipients: set[Route] = set()
    seen: set[bytes] = set()
    while block.startswith(_REF, start):
        end = block.find(b"\n", start)
        line = block[start:end]
        ref, space, message = line[len(_REF) :].partition(b" ")
        target, percent, text = message[1:].partition(b"%")
        if (
            not (space and percent and text and message.startswith(b"%"))
            or len(line) > max_line_bytes
            or not 1 <= len(ref) <= MAX_REF_BYTES
            or b";" in ref
            or b"\t" in ref
            or ref in known
            or ref in seen
            or not is_clean(line)
        ):
            break
        group = groups.get(target)
        if group is None:
            recipient = routes.get(target)
            # Under two writings of its name a recipient's lines would lose their order.
            if recipient is None or recipient in recipients:
                break
            recipients.add(recipient)
            group = groups[target] = (recipient, [], [])
        seen.add(ref)
        group[1].append(ref)
        group[2].append(text)
        start = end + 1
    return start, [
        (recipient, target, refs, b"\n".join(texts))
        for target, (recipient, refs, texts) in groups.items()
    ]


def _cut_for_one(
    block: bytes, head: bytes, count: int, prefix: bytes, routes: dict[bytes, Route]
) -> Cut[Route] | None:
    recipient = routes.get(head[1:-1])
    texts = block[len(head) : -1].split(b"\n" + head)
    if recipient is None or len(texts) != count or b"" in texts:
        return None
    return [(recipient, prefix + (b"\n" + prefix).join(texts) + b"\n", count)]


def _cut_for_many(block: bytes, prefix: bytes, routes: dict[bytes, Route]) -> Cut[Route] | None:
    # Where every line begins with "%" and has two of them, every second part is a target
    # and the one behind it a text with the line's end.
    if _ODD_BEGINNING.search(block):
        return None
    parts = block.split(b"%")
    texts = parts[2::2]
    if b"\n" in texts:
        return None
    texts_of: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for target, text in zip(parts[1::2], texts, strict=True):
        texts_of[target].append(text)
    recipients = list(map(routes.get, texts_of))
    # Under two writings of its name a recipient's lines would lose their order.
    if None in recipients or len(set(recipients)) != len(recipients):
        return None
    return [
        (recipient, prefix + prefix.join(texts), len(texts))
        for recipient, texts in zip(recipients, texts_of.values(), strict=True)
        if recipient is not None
    ]


def _has_longer_line(stretch: bytes, max_line_bytes: int) -> bool:
    if len(stretch) <= max_line_bytes:
        return False
    # A line that is too long fills a whole window of half that size: where each has an
    # end of line, nothing more has to be measured.
    window = max(1, max_line_bytes // 2)
    for start in range(0, len(stretch) - window, window):
        if stretch.find(b"\n", start, start + window) < 0:
            return max(map(len, stretch.split(b"\n"))) > max_line_bytes
    return False
