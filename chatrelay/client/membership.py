"""
Which rooms a client is in, over all of its connections.

Pure.  A name that nobody owns leaves its rooms with each connection: on the next one they are
joined again, before anything that is meant for them is written.
"""

from __future__ import annotations

from secrets import token_hex

from chatrelay.client.core import Reply, is_short, name_key, refusal_from, same_name
from chatrelay.errors import Busy, RateLimited, ShuttingDown, StoreFailed
from chatrelay.wire import with_tags

MAX_ROOMS = 1000
"""Rooms that are remembered; a relay lets a client be in 64 if its operator says nothing else."""

# Different from all refs of users and of other parts of this program.
_PREFIX = f"again-{token_hex(6)}-"
_PREFIX_IN_LINE = b"@ref=" + _PREFIX.encode("ascii")
_WORDS = ("joined", "left", "removed")
_TOLD = tuple(b"!" + word.encode("ascii") + b" " for word in _WORDS)
# What passes: the room is tried again on the next connection.
_PASSING = (Busy, RateLimited, ShuttingDown, StoreFailed)


class Membership:
    """The rooms that a client is in."""

    def __init__(self) -> None:
        self._rooms: dict[bytes, str] = {}
        self._asked: dict[str, bytes] = {}
        self._next = 0

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms, each with its ``#``, in the order in which they were joined."""
        return tuple(self._rooms.values())

    def enter(self, room: str) -> None:
        """The client is in a room, or is to be."""
        if len(self._rooms) < MAX_ROOMS and is_short(room):
            self._rooms.setdefault(name_key(room), room)

    def forget_all(self) -> None:
        """The client has another name: what it was in belongs to the one before."""
        self._rooms.clear()

    def requests(self) -> list[bytes]:
        """The lines to write on a new connection, without their ends, to be in the rooms again."""
        self._asked.clear()
        lines = []
        for key, room in self._rooms.items():
            self._next += 1
            ref = f"{_PREFIX}{self._next}"
            self._asked[ref] = key
            lines.append(with_tags({b"ref": ref.encode("ascii")}, b"/join " + room.encode("utf-8")))
        return lines

    def may_be_told_in(self, data: bytes) -> bool:
        """Whether what came may change the rooms."""
        return any(word in data for word in _TOLD) or (
            bool(self._asked) and _PREFIX.encode("ascii") in data
        )

    def take(self, reply: Reply, name: str) -> None:
        """
        Learn from what the relay tells.

        :param name: the client's.
        """
        asked = self._asked.get(reply.tags.get("ref", ""))
        if asked is not None and reply.word == "error":
            if not isinstance(refusal_from(reply), _PASSING):
                self._rooms.pop(asked, None)
        elif reply.word in _WORDS and len(reply.arguments) > 1:
            room, member, *_ = reply.arguments
            if not same_name(member, name):
                return
            if reply.word == "joined":
                self.enter(room)
            else:
                self._rooms.pop(name_key(room), None)


def is_joined_again(reply: Reply) -> bool:
    """Whether a reply answers one of the `Membership.requests`, which no user has typed."""
    return reply.tags.get("ref", "").startswith(_PREFIX)


def as_untagged(line: bytes) -> bytes:
    """A line of a relay without the ref of `Membership.requests`, which the user does not know."""
    return line.partition(b" ")[2] if line.startswith(_PREFIX_IN_LINE) else line
