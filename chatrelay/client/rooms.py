"""
What a client asks its relay about rooms, as methods.

Pure: how a command is written and answered is `chatrelay.client.library`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatrelay.client.answers import replies
from chatrelay.client.core import Event, Reply, check_name, check_room

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@dataclass(frozen=True, slots=True)
class Room:
    """
    A room, as the relay lists it.

    :ivar name: with its ``#``.
    :ivar member_count: how many are in it; those of a kept room who are away, too.
    :ivar is_kept: whether it stays when nobody is in it.
    :ivar is_members_only: whether only those may join whom its owner has invited.
    :ivar is_joined: whether this client is in it.
    :ivar topic: empty if it has none.
    """

    name: str
    member_count: int
    is_kept: bool = False
    is_members_only: bool = False
    is_joined: bool = False
    topic: str = ""


class RoomCommands(ABC):
    """The commands of a `chatrelay.client.library.Client` that are about rooms."""

    @abstractmethod
    def command(self, line: str) -> Deferred[list[Event]]:
        """Send any command."""

    def join(self, room: str) -> Deferred[list[str]]:
        """
        Be in a room; one that is not there is made.

        What is said in it is yielded with its `Message.room`; `events` tells who comes and goes,
        by ``joined`` and ``left`` replies.  To join again is harmless.

        :param room: with its ``#``.
        :returns: fires with the members, this client among them.  Fails with a `Refusal`, as
            `NotAllowed` or `TooManyRooms`.
        :raises Misuse: at once: it can not be a room.
        """
        return self._about(room, "join").addCallback(
            lambda events: [
                member for reply in replies(events, "members") for member in reply.arguments[1:]
            ]
        )

    def leave(self, room: str) -> Deferred[None]:
        """Leave a room; fires with ``None``.  Fails with a `Refusal`, as `NotInRoom`."""
        return self._about(room, "leave").addCallback(_nothing)

    def rooms(self) -> Deferred[list[Room]]:
        """Fires with the rooms that there are, as far as this client may know of them."""
        return self.command("/rooms").addCallback(
            lambda events: [
                room_from(reply) for reply in replies(events, "room") if reply.arguments
            ]
        )

    def topic(self, room: str) -> Deferred[str]:
        """Fires with the topic of a room that this client is in; empty if it has none."""
        return self._about(room, "topic").addCallback(
            lambda events: "".join(reply.sentence for reply in replies(events, "topic")[:1])
        )

    def set_topic(self, room: str, text: str) -> Deferred[None]:
        """
        Give a kept room a topic: for its owner.

        :param text: a few words; empty for no topic.
        :returns: fires with ``None``.  Fails with a `Refusal`, as `NotAllowed`.
        :raises Misuse: at once: it can not be a room, or the text can not be sent.
        """
        return self._about(room, "topic", text.strip() or "-").addCallback(_nothing)

    def keep(self, room: str, *, members_only: bool = False) -> Deferred[None]:
        """
        Keep a room that this client is in, under an owned name.

        :param members_only: whether only those may join whom this client invites.
        :returns: fires with ``None``.  Fails with a `Refusal`, as `NotAllowed`.
        """
        who = "members-only" if members_only else "open"
        return self._about(room, "keep", who).addCallback(_nothing)

    def unkeep(self, room: str) -> Deferred[None]:
        """Keep a room no more: for its owner; fires with ``None``."""
        return self._about(room, "unkeep").addCallback(_nothing)

    def invite(self, room: str, name: str) -> Deferred[None]:
        """Let an owned name join a kept room: for its owner; fires with ``None``."""
        return self._about_member(room, "invite", name).addCallback(_nothing)

    def remove(self, room: str, name: str) -> Deferred[None]:
        """Put a name out of a kept room: for its owner; fires with ``None``."""
        return self._about_member(room, "remove", name).addCallback(_nothing)

    def _about(self, room: str, verb: str, *arguments: str) -> Deferred[list[Event]]:
        check_room(room)
        return self.command(" ".join([f"/{verb}", room, *arguments]))

    def _about_member(self, room: str, verb: str, name: str) -> Deferred[list[Event]]:
        check_name(name)
        return self._about(room, verb, name)


def room_from(reply: Reply) -> Room:
    """Read ``!room #room members=N [kept] [members-only] [joined] [:topic]``."""
    name, *words = reply.arguments
    count = reply.value("members") or ""
    return Room(
        name,
        int(count[:9]) if count.isascii() and count.isdigit() else 0,
        "kept" in words,
        "members-only" in words,
        "joined" in words,
        reply.sentence,
    )


def _nothing(_: object) -> None:
    """A command is done: there is nothing to tell."""
