"""The grammar on any bytes: it refuses with a code of the table, or reads what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatrelay import wire
from chatrelay.errors import REFUSALS, Refusal
from chatrelay.lines import Block, LineBuffer, Overlong
from chatrelay.names import MAX_NAME_BYTES, MAX_NAME_CODE_POINTS, parse_name, parse_room

MAX_TARGETS = 4
_LINE_LENGTHS = (1, 2, 16, 64, 512)
_KEPT_END_BYTES = 32


def check(data: bytes) -> None:
    """
    Fail unless every function of the grammar does what it says with these bytes.

    :param data: how they are cut, and the bytes.
    """
    if len(data) < 2:
        return
    check_line(data[2:])
    check_buffer(data[2:], _LINE_LENGTHS[data[0] % len(_LINE_LENGTHS)], step=1 + data[1])


def check_line(line: bytes) -> None:
    """Everything that may be asked of one line, whatever it begins with."""
    wire.is_other_protocol(line)
    is_clean = wire.is_clean(line)
    assert is_clean == (_attempt(wire.check_text, line) is None), line
    parsed = _attempt(wire.parse_tags, line)
    if isinstance(parsed, tuple):
        check_tags(line, *parsed)
    message = _attempt(wire.parse_message, b"%" + line, MAX_TARGETS)
    if isinstance(message, wire.Message):
        assert b"%" + line == b"%%%b%%%b" % (b",".join(message.targets), message.text), message
        assert 1 <= len(message.targets) <= MAX_TARGETS, message
        assert message.text, message
    command = wire.parse_command(b"/" + line)
    words = [command.verb, *command.arguments]
    assert not any(b" " in word for word in words), command
    assert all(command.arguments), command
    assert b"".join(words).lower() == line.replace(b" ", b"").lower(), command
    name = _attempt(parse_name, line)
    if isinstance(name, tuple):
        check_name(*name)
    room = _attempt(parse_room, line)
    if isinstance(room, tuple):
        assert [part[:1] for part in room] == [b"#", b"#"], room
        check_name(*(part[1:] for part in room))
        assert parse_room(room[0]) == room, room


def check_tags(line: bytes, tags: dict[bytes, bytes], rest: bytes) -> None:
    """What was read as tags and what follows them."""
    if not line.startswith(b"@"):
        assert (tags, rest) == ({}, line), line
        return
    written = line[: len(line) - len(rest)]
    assert line.endswith(rest), line
    assert wire.is_clean(written), line
    assert len(written) <= wire.MAX_TAGS_BYTES + 1, line
    assert tags, line
    assert b"" not in tags, tags
    assert len(tags.get(b"ref", b"-")) in range(1, wire.MAX_REF_BYTES + 1), tags
    assert wire.parse_tags(wire.with_tags(tags, rest)) == (tags, rest), line


def check_name(shown: bytes, key: bytes) -> None:
    """What was read as a name."""
    assert wire.is_clean(shown), shown
    assert not set(b"%,@#*:;!/ \t") & set(shown), shown
    assert len(shown) <= MAX_NAME_BYTES, shown
    assert 1 <= len(shown.decode()) <= MAX_NAME_CODE_POINTS, shown
    again = parse_name(shown)
    assert again == (shown, key), (shown, again)


def check_buffer(data: bytes, max_line_bytes: int, step: int) -> None:
    """However a stream is cut, its lines are the same, and no more is kept than may be."""
    lines = LineBuffer(max_line_bytes)
    taken: list[bytes | Overlong] = []
    for start in range(0, len(data), step):
        lines.append(data[start : start + step])
        assert len(lines._tail) <= max_line_bytes + 1, lines._tail
        while (part := lines.take()) is not None:
            taken.append(part if isinstance(part, Overlong) else _take_line(part))
    written = data.split(b"\n")[:-1]
    assert len(taken) == len(written), taken
    for line, expected in zip(taken, written, strict=True):
        whole = expected.removesuffix(b"\r")
        if isinstance(line, Overlong):
            assert len(whole) > max_line_bytes, line
            assert whole.endswith(line.end), line
            # One of them may be the CR that belongs to its end.
            assert len(line.end) >= min(len(whole), _KEPT_END_BYTES - 1), line
            head = line.head.removesuffix(b"\r")
            assert whole.startswith(head), line
            # All of its tags, or so much of them that they are too long.
            assert len(head) >= min(max_line_bytes, wire.MAX_TAGS_BYTES), line
        else:
            assert line == whole, line
            assert len(line) <= max_line_bytes, line
    lines.clear()
    assert lines.take() is None


def _take_line(block: Block) -> bytes | Overlong:
    assert not block.is_empty
    return block.take_line()


def _attempt(read: Callable[..., Any], *arguments: Any) -> Any:
    """What a function says to it, or the refusal that it raises; nothing else may be raised."""
    try:
        return read(*arguments)
    except Refusal as refusal:
        assert REFUSALS.get(refusal.code) is type(refusal), refusal
        line = wire.error_line(refusal)
        assert wire.is_clean(line), line
        return refusal
