"""
The rooms that a person at a terminal knows of, and who is in those that the person is in.

Pure: for completion, and to say what the person has left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from chatrelay.client.core import Reply, is_room, is_short, name_key, same_name

MAX_ROOMS = 2000
"""Rooms that were told of."""
MAX_JOINED = 1000
"""Rooms that the person is in."""
MAX_MEMBERS = 50_000
"""Members that are remembered of all of them; those beyond are not completed."""

_ABOUT_ROOMS = ("room", "joined", "members", "invited", "topic", "kept")


class KnownRooms:
    """What was told of rooms."""

    def __init__(self) -> None:
        self._told: OrderedDict[bytes, str] = OrderedDict()
        self._joined: dict[bytes, dict[bytes, str]] = {}

    @property
    def names(self) -> list[str]:
        """All that were told of lately, each with its ``#``."""
        return list(self._told.values())

    @property
    def joined(self) -> list[str]:
        """Those that the person is in."""
        return [room for key, room in self._told.items() if key in self._joined]

    def is_joined(self, room: str) -> bool:
        """Whether the person is in a room."""
        return name_key(room) in self._joined

    def members(self, room: str) -> Collection[str]:
        """Who is in a room that the person is in."""
        return self._joined.get(name_key(room), {}).values()

    def take(self, reply: Reply, own_name: str) -> str | None:
        """
        Learn from a reply.

        :returns: a room that the person is not in any more.
        """
        room, *words = reply.arguments or ("",)
        if not is_room(room) or not is_short(room):
            return None
        if reply.word in _ABOUT_ROOMS:
            self._tell(room)
        if reply.word == "members":
            self._add(room, words)
        elif reply.word == "joined" and words:
            if same_name(words[0], own_name) and len(self._joined) < MAX_JOINED:
                self._joined[name_key(room)] = {}
            self._add(room, words[:1])
        elif reply.word in ("left", "removed") and words:
            if same_name(words[0], own_name):
                return room if self.leave(room) else None
            self._joined.get(name_key(room), {}).pop(name_key(words[0]), None)
        return None

    def leave(self, room: str) -> bool:
        """The person is not in a room; returns whether it was."""
        return self._joined.pop(name_key(room), None) is not None

    def _tell(self, room: str) -> None:
        key = name_key(room)
        self._told[key] = room
        self._told.move_to_end(key)
        if len(self._told) > MAX_ROOMS:
            del self._told[next(other for other in self._told if other not in self._joined)]

    def _add(self, room: str, names: list[str]) -> None:
        members = self._joined.get(name_key(room))
        if members is None:
            return
        left = MAX_MEMBERS - sum(map(len, self._joined.values()))
        for name in list(filter(is_short, names))[: max(0, left)]:
            members[name_key(name)] = name
