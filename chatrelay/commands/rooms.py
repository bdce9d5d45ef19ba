"""The commands about rooms (docs/protocol.rst, *Rooms*)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.names import parse_room
from chatrelay.rooms.room import Room

if TYPE_CHECKING:
    from chatrelay.session import Session

# A line of names goes on until it has so many bytes.
_NAMES_BYTES = 1000


def _join(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if len(words) != 1:
        raise wrong_form("/join #ROOM")
    room = session.relay.rooms.join(parse_room(words[0]), session)
    yield b"!joined %b %b" % (room.name.shown, session.name.shown)
    yield from _member_lines(room)


def _member_lines(room: Room) -> Iterator[bytes]:
    shown, head = room.name.shown, b"!members " + room.name.shown
    count, line = 0, head
    for name in room.names():
        line += b" " + name.shown
        count += 1
        if len(line) >= _NAMES_BYTES:
            yield line
            line = head
    if line != head:
        yield line
    yield b"!end members %b %d" % (shown, count)


def _leave(session: Session, words: list[bytes], _ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/leave #ROOM")
    rooms = session.relay.rooms
    room = rooms.find_joined(parse_room(words[0]), session.name.key)
    rooms.leave(room, session)
    return [b"!left %b %b" % (room.name.shown, session.name.shown)]


def _rooms(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if words:
        raise wrong_form("/rooms")
    rooms = session.relay.rooms
    listed = 0
    for room in rooms:
        # A long list is written over several turns.
        if rooms.find(room.name.key) is room:
            is_joined = session.name.key in room
            yield b"!room %b members=%d%b" % (
                room.name.shown,
                len(room),
                b" joined" if is_joined else b"",
            )
            listed += 1
    yield b"!end rooms %d" % listed


VERBS = (
    Verb(b"join", "/join #ROOM", "be in a room; it is made if there is none", _join),
    Verb(b"leave", "/leave #ROOM", "be in it no more", _leave),
    Verb(b"rooms", "/rooms", "which rooms there are", _rooms),
)
