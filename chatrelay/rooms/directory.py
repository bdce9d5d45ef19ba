"""All rooms of a relay: found by name, joined, left, and gone with their last member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatrelay.errors import NotInRoom, TooManyRooms, UnknownRoom
from chatrelay.names import Name
from chatrelay.rooms.room import Room

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.session import Session

# The writings of one room, besides the first, that the quick path knows.
_MAX_OTHER_WRITINGS = 3
_TOO_MANY_IN_ALL = "The relay has as many rooms as it may."
_FULL = "This room has as many members as it may."


class Rooms:
    """The rooms of one relay."""

    def __init__(self, relay: Relay) -> None:
        """Begin without any."""
        self._relay = relay
        self._rooms: dict[bytes, Room] = {}
        # Those that a name is in, in the order in which it joined.
        self._of: dict[bytes, dict[Room, None]] = {}
        self._writings: dict[Room, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        """All of them as of now, in the order in which they were made."""
        return iter(list(self._rooms.values()))

    def find(self, key: bytes) -> Room | None:
        """The room with this key."""
        return self._rooms.get(key)

    def find_joined(self, name: Name, member_key: bytes) -> Room:
        """
        The room of this name, for one of its members.

        :raises UnknownRoom, NotInRoom: there is none, or it is not theirs.
        """
        room = self._rooms.get(name.key)
        if room is None:
            raise UnknownRoom(name.shown)
        if member_key not in room:
            raise NotInRoom(name.shown)
        return room

    def of(self, key: bytes) -> list[Room]:
        """The rooms that a name is in."""
        return list(self._of.get(key, ()))

    def shared(self, key: bytes, other_key: bytes) -> list[Room]:
        """The rooms that two names are in."""
        return [room for room in self._of.get(key, ()) if other_key in room]

    def do_share(self, key: bytes, other_key: bytes) -> bool:
        """Whether two names are in a room together."""
        return any(other_key in room for room in self._of.get(key, ()))

    def join(self, name: Name, session: Session) -> Room:
        """
        Let the name of a session join a room, which is made if there is none.

        The others are told.

        :raises TooManyRooms, NotAllowed: it may not; nothing has changed.
        """
        room = self._rooms.get(name.key)
        member = session.name
        if room is not None and member.key in room:
            return room
        limits = self._relay.limits
        if len(self._of.get(member.key, ())) >= limits.max_rooms_per_client:
            raise TooManyRooms(name.shown)
        if room is None:
            if len(self._rooms) >= limits.max_rooms:
                raise TooManyRooms(name.shown, sentence=_TOO_MANY_IN_ALL)
            room = self._rooms[name.key] = Room(self._relay, name)
        elif len(room) >= limits.max_members:
            raise TooManyRooms(name.shown, sentence=_FULL)
        room.add(member)
        self._of.setdefault(member.key, {})[room] = None
        self._place(room, member.key)
        self._note_writing(room, name.shown)
        room.tell(b"!joined " + room.name.shown + b" " + member.shown, (session,))
        return room

    def leave(self, room: Room, session: Session) -> None:
        """Let the name of a session leave a room; the others are told."""
        name = session.name
        room.tell(b"!left " + room.name.shown + b" " + name.shown, (session,))
        self._remove(room, name.key)

    def renewed(self, key: bytes) -> None:
        """The connections of a name, or what they are written, have changed."""
        for room in self._of.get(key, ()):
            self._place(room, key)

    def gone(self, name: Name) -> None:
        """Nobody has a name any more: it leaves its rooms."""
        for room in self.of(name.key):
            self._remove(room, name.key)
            room.tell(b"!left " + room.name.shown + b" " + name.shown)

    def note_writing(self, room: Room, written: bytes) -> None:
        """Let the quick path find a room under another writing of its name."""
        self._note_writing(room, written)

    def _place(self, room: Room, key: bytes) -> None:
        holder = self._relay.registry.find(key)
        if holder is not None:
            room.placed(key, holder.name, self._relay.registry.devices(key))

    def _remove(self, room: Room, key: bytes) -> None:
        room.remove(key)
        joined = self._of[key]
        del joined[room]
        if not joined:
            del self._of[key]
        if not len(room):
            del self._rooms[room.name.key]
            for written in self._writings.pop(room, ()):
                del self._relay.registry.routes[written]

    def _note_writing(self, room: Room, written: bytes) -> None:
        writings = self._writings.setdefault(room, [])
        if written not in writings and len(writings) <= _MAX_OTHER_WRITINGS:
            writings.append(written)
            self._relay.registry.routes[written] = room
