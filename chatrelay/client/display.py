"""
How a terminal shows what others sent: harmless, with time and sender.

Pure.  Nothing a peer wrote reaches a terminal but through `harmless`.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from zlib import crc32

from chatrelay.client.core import EVERYONE, Message

# C0 but TAB, DEL and C1 drive a terminal; the separators forge a line; the others
# turn the order of what is read: RLO makes "cod.exe" out of "exe.doc".
_HARMFUL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SENDER_COLOURS = (31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96)
_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def harmless(text: str) -> str:
    r"""
    Make a text safe to show: control and bidirectional characters become escapes.

    ``ESC`` is shown as ``\x1b``, U+202E as ``\u202e``; TAB stays.
    """
    return _HARMFUL.sub(_escape, text)


def harmless_bytes(line: bytes) -> bytes:
    r"""`harmless` for bytes; what is not UTF-8 is shown as ``\xff``."""
    return harmless(line.decode("utf-8", "backslashreplace")).encode("utf-8")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shortened(text: str, width: int = 60) -> str:
    """A harmless text in quotes, cut to `width` code points."""
    return f'"{harmless(text if len(text) <= width else text[: width - 1] + "…")}"'


def message_shown(message: Message, now: datetime, zone: tzinfo | None, *, colour: bool) -> str:
    """
    One message as a line for people.

    :param now: shown when the message has no time of its own; of another day than this the
        date is shown, too.
    :param zone: the time zone to show times in; ``None`` for this machine's.
    :param colour: whether to use ANSI colours.

    What another connection of one's own name sent is shown as one's own.
    """
    if message.to is not None:
        return sent_shown(message.to, message.text, message.time or now, now, zone, colour=colour)
    moment = _moment(message.time or now, now, zone)
    sender, text = harmless(message.sender), harmless(message.text)
    where = harmless(message.room) + " " if message.room else ""
    if message.room == EVERYONE:
        where = "(to all) "  # before the sender: no text looks like it, and no name
    if not colour:
        return f"{moment} {where}{sender}: {text}"
    shade = _SENDER_COLOURS[crc32(message.sender.casefold().encode()) % len(_SENDER_COLOURS)]
    return f"{_DIM}{moment}{_PLAIN} {where}{_BOLD}\x1b[{shade}m{sender}{_PLAIN}: {text}"


def sent_shown(
    target: str, text: str, time: datetime, now: datetime, zone: tzinfo | None, *, colour: bool
) -> str:
    """One's own message, once the relay has taken it."""
    line = f"{_moment(time, now, zone)} to {harmless(target)}: {harmless(text)}"
    return f"{_DIM}{line}{_PLAIN}" if colour else line


def _moment(time: datetime, now: datetime, zone: tzinfo | None) -> str:
    local = time.astimezone(zone)
    is_today = local.date() == now.astimezone(zone).date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S")


def notice_shown(sentence: str, *, colour: bool) -> str:
    """A sentence of the client's own, or the relay's: set apart from messages."""
    line = f"* {harmless(sentence)}"
    return f"{_DIM}{line}{_PLAIN}" if colour else line
