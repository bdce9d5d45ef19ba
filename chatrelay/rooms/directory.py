"""All rooms of a relay: found by name, joined, left, and gone with their last member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatrelay.errors import NotAllowed, NotInRoom, TooManyRooms, UnknownRoom
from chatrelay.interfaces import Listener
from chatrelay.names import Name
from chatrelay.rooms.kept import Keep
from chatrelay.rooms.room import Room

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.rooms.keeping import Keeping

# The writings of one room, besides the first, that the quick path knows.
_MAX_OTHER_WRITINGS = 3
_TOO_MANY_IN_ALL = "The relay has as many rooms as it may."
_FULL = "This room has as many members as it may."
_MEMBERS_ONLY = "This room is for members only; its owner can invite you, under a registered name."


class Rooms:
    """
    The rooms of one relay.

    :ivar keeping: keeps rooms; ``None`` where nothing is kept.
    """

    def __init__(self, relay: Relay) -> None:
        """Begin without any."""
        self.keeping: Keeping | None = None
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

    def check_may_join(self, name: Name, member: Name, account: int) -> None:
        """
        Check that a name may join a room.

        :param account: the number of its account; 0 if it has none.
        :raises TooManyRooms, NotAllowed: it may not.
        """
        limits, room = self._relay.limits, self._rooms.get(name.key)
        if room is not None and member.key in room:
            return
        if room is not None and room.keep is not None and not room.keep.admits(account):
            raise NotAllowed(name.shown, sentence=_MEMBERS_ONLY)
        if len(self._of.get(member.key, ())) >= limits.max_rooms_per_client:
            raise TooManyRooms(name.shown)
        if room is None and len(self._rooms) >= limits.max_rooms:
            raise TooManyRooms(name.shown, sentence=_TOO_MANY_IN_ALL)
        if room is not None and len(room) >= limits.max_members:
            raise TooManyRooms(name.shown, sentence=_FULL)

    def join(
        self, name: Name, member: Name, account: int, spared: tuple[Listener, ...] = ()
    ) -> Room:
        """
        Let a name join a room, which is made if there is none.

        :param account: the number of its account; 0 if it has none.
        :param spared: who is not told of it.
        """
        room = self._rooms.get(name.key)
        if room is None:
            room = self.make(name)
        if member.key not in room:
            self.add(room, member, account)
            room.tell(b"!joined " + room.name.shown + b" " + member.shown, spared)
        return room

    def leave(self, room: Room, member: Name, spared: tuple[Listener, ...] = ()) -> None:
        """
        Let a name leave a room.

        :param spared: who is not told of it.
        """
        room.tell(b"!left " + room.name.shown + b" " + member.shown, spared)
        self.remove(room, member.key)

    def renewed(self, key: bytes) -> None:
        """The connections of a name, its account, or what they are written, have changed."""
        for room in self.of(key):
            self._place(room, key)

    def gone(self, name: Name) -> None:
        """Nobody has a name any more: it leaves its rooms, but for those that it belongs to."""
        for room in self.of(name.key):
            if room.keep is not None and room.keep.accounts.get(room.member(name.key).account):
                self._place(room, name.key)
            else:
                self._gone(room, name)

    def note_writing(self, room: Room, written: bytes) -> None:
        """Let the quick path find a room under another writing of its name."""
        writings = self._writings.setdefault(room, [])
        if written not in writings and len(writings) <= _MAX_OTHER_WRITINGS:
            writings.append(written)
            self._relay.registry.routes[written] = room

    # Rooms that are kept.

    def make(self, name: Name, keep: Keep | None = None) -> Room:
        """Make a room that there is not."""
        room = self._rooms[name.key] = Room(self._relay, name)
        room.keep = keep
        self.note_writing(room, name.shown)
        return room

    def add(self, room: Room, member: Name, account: int) -> None:
        """A name belongs to a room."""
        room.add(member, account)
        self._of.setdefault(member.key, {})[room] = None
        self._place(room, member.key)

    def remove(self, room: Room, key: bytes) -> None:
        """A name belongs to a room no more; a room that is not kept goes with its last one."""
        room.remove(key)
        joined = self._of[key]
        del joined[room]
        if not joined:
            del self._of[key]
        self._forget_if_empty(room)

    def no_longer_kept(self, room: Room) -> None:
        """A room is there from now on while somebody is in it, and is here."""
        room.keep = None
        for member in room.members():
            if not member.devices:
                self.remove(room, member.name.key)
        self._forget_if_empty(room)

    def account_gone(self, account: int, key: bytes) -> None:
        """There is no account of this number any more, which the name with this key had."""
        for room in self:
            if room.keep is not None and room.keep.owner == account:
                self._owner_gone(room, key)
            elif room.keep is not None:
                room.keep.accounts.pop(account, None)
        for room in self.of(key):
            member = room.member(key)
            member.account = 0
            if not member.devices:
                self._gone(room, member.name)

    def _owner_gone(self, room: Room, key: bytes) -> None:
        owner = room.member(key).name.shown if key in room else key
        if self.keeping is not None:
            self.keeping.forget(room)
        room.tell(b"!unkept %b %b" % (room.name.shown, owner))

    def _gone(self, room: Room, name: Name) -> None:
        self.remove(room, name.key)
        room.tell(b"!left " + room.name.shown + b" " + name.shown)

    def _place(self, room: Room, key: bytes) -> None:
        relay = self._relay
        holder = relay.registry.find(key)
        mailbox = None
        if holder is not None and relay.mailboxes is not None:
            mailbox = relay.mailboxes.find(key)
        member = room.member(key)
        name = holder.name if holder is not None else member.name
        if holder is not None and holder.account != member.account and holder.account:
            # It was registered meanwhile.
            member.account = holder.account
            if self.keeping is not None:
                self.keeping.note(room, key, holder.account)
        room.placed(key, name, relay.registry.devices(key), mailbox)

    def _forget_if_empty(self, room: Room) -> None:
        if not len(room) and room.keep is None and self._rooms.get(room.name.key) is room:
            del self._rooms[room.name.key]
            for written in self._writings.pop(room, ()):
                del self._relay.registry.routes[written]
