"""One room: its members, and what is said there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chatrelay.errors import NotInRoom
from chatrelay.interfaces import Listener, Recipient
from chatrelay.names import Name
from chatrelay.rooms.audience import Audience
from chatrelay.stamps import Stamp

if TYPE_CHECKING:
    from chatrelay.relay import Relay


class Member:
    """
    A name that is in a room.

    :ivar name: as its holder writes it.
    :ivar devices: its connections.
    """

    __slots__ = ("devices", "name")

    def __init__(self, name: Name) -> None:
        self.name = name
        self.devices: tuple[Listener, ...] = ()


class Room:
    """
    One room.

    It is a `chatrelay.interfaces.RunTaker`.

    :ivar name: with its ``#``.
    """

    def __init__(self, relay: Relay, name: Name) -> None:
        """Begin without members."""
        self.name = name
        self._relay = relay
        self._members: dict[bytes, Member] = {}
        self._audience = Audience(relay.limits, relay.flow, relay)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[bytes]:
        """The keys of its members' names as of now, in the order in which they joined."""
        return iter(list(self._members))

    def __contains__(self, key: bytes) -> bool:
        return key in self._members

    def names(self) -> Iterator[Name]:
        """Its members as of now, in the order in which they joined."""
        return iter([member.name for member in self._members.values()])

    def add(self, name: Name) -> None:
        """A name joins; `placed` tells of its connections."""
        self._members[name.key] = Member(name)

    def remove(self, key: bytes) -> None:
        """A name leaves."""
        member = self._members.pop(key)
        for device in member.devices:
            self._audience.remove(device)

    def placed(self, key: bytes, name: Name, devices: Iterable[Listener]) -> None:
        """
        Something about a member has changed.

        :param name: as it is written now.
        :param devices: its connections, as they are written now.
        """
        member = self._members[key]
        before, member.devices, member.name = member.devices, tuple(devices), name
        for device in before:
            if device not in member.devices:
                self._audience.remove(device)
        for device in member.devices:
            self._audience.place(device)

    def tell(self, line: bytes, spared: tuple[Listener, ...] = ()) -> None:
        """Write a line of the relay's own to its members, but for some connections."""
        self._audience.tell(line, spared)

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> int:
        """
        Write what one member said to the others.

        :param lines: ``%SENDER%TEXT`` each, LF after each.
        :param count: how many.
        :returns: 0.
        :raises NotInRoom: the sender is no member.
        """
        member = self._members.get(sender.name.key)
        if member is None:
            raise NotInRoom(self.name.shown)
        head = b"%" + self.name.shown
        said = head + lines[:-1].replace(b"\n", b"\n" + head) + b"\n"
        spared = tuple(device for device in member.devices if not device.wants_echo)
        self._audience.write(said, count, Stamp(self._relay, count), spared)
        speaker: object = sender
        for device in member.devices:
            if device is speaker:
                self._audience.gate.hold_speaker(device.gate)
        return 0
