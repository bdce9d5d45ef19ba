"""
The two loops of the quick path that look at every byte, in pure Python.

This is the reference, and what runs where there is no compiler.  ``_cutting.pyx`` has the
same two functions compiled; `chatrelay.runs` chooses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container

from chatrelay.wire import is_clean

Cut = dict[bytes, tuple[bytes, int]]
"""
By target as written: the lines it is written, in order, LF after each, and how many.
"""

IMPLEMENTATION = "pure Python"

# The end of a line that is not followed by one that begins with "%".
_STRETCH_END = re.compile(rb"\n(?!%)")


def find_stretch(block: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
    """
    Find how far lines that begin with ``%`` go on.

    :param block: lines, LF after each.
    :param start: where a line begins, with ``%``.
    :param max_line_bytes: how long a line may be, without its end.
    :returns: where the stretch ends, and whether all its lines are clean and short enough.
    """
    match = _STRETCH_END.search(block, start)
    end = match.end() if match else len(block)
    stretch = block[start:end]
    return end, is_clean(stretch) and not _has_longer_line(stretch, max_line_bytes)


def cut_whole(stretch: bytes, prefix: bytes, routes: Container[bytes]) -> Cut | None:
    """
    Cut lines into what each recipient is written, if every one is a plain message.

    :param stretch: clean lines that begin with ``%``, LF after each.
    :param prefix: what every line to a recipient begins with, ``%SENDER%``.
    :param routes: the targets, as written, that the quick path can serve.
    :returns: ``None`` for lines that need a closer look, some perhaps for no other reason
        than a ``%`` in a text.
    """
    # Where every line has exactly two "%", every second part is a target and the one
    # behind it a text with the line's end.  A line with another number shifts what
    # follows it: then there is a part with a line's end among the targets, which is no
    # route, or there are more texts than lines.
    parts = stretch.split(b"%")
    targets = parts[1::2]
    count = len(targets)
    if len(parts) != 2 * count + 1 or stretch.count(b"\n") != count or b"\n" in parts:
        return None
    first = targets[0]
    if targets.count(first) == count:
        if first not in routes:
            return None
        return {first: (prefix + prefix.join(parts[2::2]), count)}
    texts: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for target, text in zip(targets, parts[2::2], strict=True):
        texts[target].append(text)
    if not all(map(routes.__contains__, texts)):
        return None
    return {
        target: (prefix + prefix.join(of_target), len(of_target))
        for target, of_target in texts.items()
    }


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
