"""
The grammar of the line protocol: bytes to messages, commands and tags, and back.

Nothing here knows a client or a socket.  The reading functions raise the
`chatrelay.errors.Refusal` that answers the line (docs/protocol.rst, *Lines*,
*Messages*, *Tags*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from chatrelay.errors import (
    BadLine,
    BadTags,
    BadText,
    BadUtf8,
    EmptyText,
    Refusal,
    TooManyTargets,
)
from chatrelay.names import is_room, parse_name, parse_room

VERSION = 1
MAX_TAGS_BYTES = 512
MAX_REF_BYTES = 64
EVERYONE = b"*"

# Deleting these and comparing lengths is the cheapest way to look for them in a
# whole chunk (80 ns a message; a regular expression takes 460).  LF is not among
# them: in a line there is none, in a run it ends the lines.
CONTROLS = bytes(code for code in range(0x20) if code not in b"\t\n") + b"\x7f"
# In valid UTF-8 these bytes are never part of another character.
_C1_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")
_LINE_SEPARATOR = "\u2028".encode()
_PARAGRAPH_SEPARATOR = "\u2029".encode()
_TAG = re.compile(rb"([^=;]+)(?:=([^;]*))?\Z")
_OTHER_PROTOCOL = re.compile(rb" HTTP/[0-9]+(?:\.[0-9]+)?\Z")
TLS_FIRST_BYTE = 0x16


class Message(NamedTuple):
    """
    A message to relay.

    :ivar targets: what stands between the first two ``%``: names as written, or
        one room with its ``#``, or ``*``.
    :ivar text: what follows, byte for byte.
    """

    targets: list[bytes]
    text: bytes


class Command(NamedTuple):
    """
    A command.

    :ivar verb: its word in lower case, without the ``/``.
    :ivar arguments: the words after it.
    """

    verb: bytes
    arguments: list[bytes]


def is_clean(data: bytes) -> bool:
    """Whether lines hold nothing but relayable text: UTF-8 without controls and separators."""
    try:
        check_text(data)
    except Refusal:
        return False
    return True


def check_text(data: bytes) -> None:
    """
    Check what may be relayed or shown.

    :param data: one line, or several with LF between them.
    :raises BadUtf8: it is not UTF-8.
    :raises BadText: a C0 control other than TAB, DEL, a C1 control, U+2028 or U+2029.
    """
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            raise BadUtf8() from None
        if _C1_CONTROL.search(data) or _LINE_SEPARATOR in data or _PARAGRAPH_SEPARATOR in data:
            raise BadText()
    if len(data.translate(None, CONTROLS)) != len(data):
        raise BadText()


def is_other_protocol(first_line: bytes) -> bool:
    """Whether a first line, or its end, is an HTTP request: no such peer is a client."""
    return _OTHER_PROTOCOL.search(first_line) is not None


def parse_tags(line: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """
    Take the tags off a line.

    :returns: the tags by key (of a repeated key the last one), and the rest of the
        line; a line that does not begin with ``@`` has none.
    :raises BadTags: longer than 512 bytes, not UTF-8, a control character, an empty
        key, or a ``ref`` that is empty or longer than 64 bytes.
    """
    if not line.startswith(b"@"):
        return {}, line
    written, _, rest = line.partition(b" ")
    if len(written) > MAX_TAGS_BYTES or b"\t" in written or not is_clean(written):
        raise BadTags()
    tags: dict[bytes, bytes] = {}
    for tag in written[1:].split(b";"):
        match = _TAG.match(tag)
        if match is None:
            raise BadTags()
        tags[match[1]] = match[2] or b""
    if not 1 <= len(tags.get(b"ref", b"-")) <= MAX_REF_BYTES:
        raise BadTags()
    return tags, rest


def parse_message(line: bytes, max_targets: int) -> Message:
    """
    Read ``%TARGET[,TARGET…]%TEXT``.

    :param line: a line that begins with ``%``, its tags taken off.
    :raises BadLine: no second ``%``, no target, or a room or ``*`` among others.
    :raises BadName, BadRoom: a target that can not be a name or a room.
    :raises TooManyTargets: more than `max_targets`, a repeated one counted each time.
    :raises EmptyText: nothing after the second ``%``.
    """
    written, second_percent, text = line[1:].partition(b"%")
    if not second_percent or not written:
        raise BadLine()
    # Counted before anything else looks at them: the work for a line is bounded.
    if written.count(b",") >= max_targets:
        raise TooManyTargets(sentence=f"One message goes to {max_targets} names at most.")
    targets = written.split(b",")
    if len(targets) == 1 and is_room(written):
        parse_room(written)
    elif written != EVERYONE:
        for target in targets:
            if target == EVERYONE or is_room(target):
                raise BadLine(sentence="A room or '*' stands alone as a target.")
            parse_name(target)
    if not text:
        raise EmptyText()
    return Message(targets, text)


def parse_command(line: bytes) -> Command:
    """Read ``/VERB [ARGUMENT…]``, a line that begins with ``/``, its tags taken off."""
    verb, *arguments = line[1:].split(b" ")
    return Command(verb.lower(), [argument for argument in arguments if argument])


def error_line(refusal: Refusal) -> bytes:
    """The line that tells a peer of a refusal, without tags and end."""
    words = [b"!error", refusal.code.encode("ascii"), *refusal.context]
    return b" ".join(words) + b" :" + refusal.sentence.encode("utf-8")


def cut_list(listed: bytes, separator: bytes, most_bytes: int) -> Iterator[bytes]:
    """
    Cut a list of words that may be too long for one line.

    :param separator: what stands between two words, one byte.
    :param most_bytes: each part but the last has so many, and what is left of a word.
    :returns: the parts; none of an empty list.
    """
    start = 0
    while start < len(listed):
        end = listed.find(separator, start + most_bytes)
        if end < 0:
            end = len(listed)
        yield listed[start:end]
        start = end + 1


def with_tags(tags: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]], line: bytes) -> bytes:
    """Put tags before a line; without tags it is the line."""
    written = b";".join(key + b"=" + value for key, value in dict(tags).items())
    return b"@" + written + b" " + line if written else line
