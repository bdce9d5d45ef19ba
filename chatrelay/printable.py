"""What a peer sent, made harmless and short for a person's console."""

from __future__ import annotations

import unicodedata

MAX_SHOWN_CODE_POINTS = 80

# Controls, format characters (among them those that turn the direction of text),
# surrogates, private and unassigned code points, line and paragraph separators.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(data: bytes, max_code_points: int = MAX_SHOWN_CODE_POINTS) -> str:
    r"""
    Decode for a log line.

    :param data: anything; what is not UTF-8 is shown as ``\xNN``.
    :returns: one line without anything that drives a terminal, cut to `max_code_points`
        and ``…`` if it was longer.
    """
    # A code point has 4 bytes at most; an 8 KiB text need not be decoded to show 80 of them.
    text = data[: 4 * max_code_points + 4].decode("utf-8", "backslashreplace")
    shown = "".join(map(_escape, text[:max_code_points]))
    return shown + "…" if len(text) > max_code_points else shown


def _escape(character: str) -> str:
    if unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character
