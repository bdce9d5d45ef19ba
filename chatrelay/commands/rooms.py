"""The commands about rooms (docs/protocol.rst, *Rooms*)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from chatrelay.commands.kept_rooms import topic_line
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.names import parse_room
from chatrelay.pending import await_decision
from chatrelay.rooms.room import Room
from chatrelay.wire import cut_list

if TYPE_CHECKING:
    from chatrelay.session import Session

# A line of names goes on until it has so many bytes.
_NAMES_BYTES = 1000


def _join(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/join #ROOM")
    rooms, member, account = session.relay.rooms, session.name, session.account
    name = parse_room(words[0])
    rooms.check_may_join(name, member, account)
    room, keeping = rooms.find(name.key), rooms.keeping
    if account and room is not None and keeping is not None and room.has_to_note(account):

        def join() -> None:
            # Somebody else, or another connection of the name, may have taken the last place.
            rooms.check_may_join(name, member, account)
            rooms.join(room.name, member, account, (session,))

        def joined(_: None) -> None:
            session.begin_answer(_joined_lines(session, room), ref)
            # At once: nothing that is said there comes before it.
            session.go_on()

        await_decision(session, partial(keeping.join, room, account, join), joined, ref)
        return ()
    return _joined_lines(session, rooms.join(name, member, account, (session,)))


def _joined_lines(session: Session, room: Room) -> Iterator[bytes]:
    yield b"!joined %b %b" % (room.name.shown, session.name.shown)
    if room.keep is not None and room.keep.topic:
        yield topic_line(room)
    yield from _member_lines(room)


def _member_lines(room: Room) -> Iterator[bytes]:
    head = b"!members " + room.name.shown + b" "
    names = [member.name.shown for member in room.members()]
    for part in cut_list(b" ".join(names), b" ", _NAMES_BYTES - len(head)):
        yield head + part
    yield b"!end members %b %d" % (room.name.shown, len(names))


def _leave(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/leave #ROOM")
    rooms, member = session.relay.rooms, session.name
    room = rooms.find_joined(parse_room(words[0]), member.key)
    told = b"!left %b %b" % (room.name.shown, member.shown)

    def leave() -> None:
        if member.key in room:
            rooms.leave(room, member, (session,))

    if room.keep is not None and rooms.keeping is not None and session.account:
        await_decision(
            session,
            partial(rooms.keeping.remove, room, session.account, leave),
            lambda _: session.answer(told, ref),
            ref,
        )
        return ()
    leave()
    return [told]


def _rooms(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if words:
        raise wrong_form("/rooms")
    rooms = session.relay.rooms
    listed = 0
    for room in rooms:
        # A long list is written over several turns.
        if rooms.find(room.name.key) is room:
            line = _room_line(session, room)
            yield line
            listed += bool(line)
    yield b"!end rooms %d" % listed


def _room_line(session: Session, room: Room) -> bytes:
    """Empty for a room of others that nobody is to know of."""
    is_joined, keep = session.name.key in room, room.keep
    words = [b"!room", room.name.shown, b"members=%d" % len(room)]
    if keep is not None:
        if not is_joined and not keep.admits(session.account):
            return b""
        words.append(b"kept")
        if keep.is_members_only:
            words.append(b"members-only")
    elif session.relay.is_public and not is_joined:
        return b""
    if is_joined:
        words.append(b"joined")
    if keep is not None and keep.topic:
        words.append(b":" + keep.topic)
    return b" ".join(words)


VERBS = (
    Verb(b"join", "/join #ROOM", "be in a room; it is made if there is none", _join),
    Verb(b"leave", "/leave #ROOM", "be in it no more", _leave),
    Verb(b"rooms", "/rooms", "which rooms there are", _rooms),
)
