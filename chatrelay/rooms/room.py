"""One room: its members, and what is said there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, final

from chatrelay.errors import NotInRoom
from chatrelay.interfaces import Device, Listener, Recipient
from chatrelay.mailbox.entries import Kind, Run, texts_of
from chatrelay.mailbox.waiting import Pending, Whole
from chatrelay.names import Name
from chatrelay.rooms.audience import Audience
from chatrelay.rooms.kept import Keep
from chatrelay.stamps import Stamp

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox
    from chatrelay.relay import Relay


class Member:
    """
    A name that is in a room.

    :ivar name: as its holder, or its account, writes it.
    :ivar account: the number of its account; 0 if it has none.
    :ivar devices: its connections.
    """

    __slots__ = ("account", "devices", "name")

    def __init__(self, name: Name, account: int) -> None:
        self.name = name
        self.account = account
        self.devices: tuple[Device, ...] = ()


@final
class Room:
    """
    One room.

    :ivar name: with its ``#``.
    :ivar keep: how it is kept; ``None`` if it is gone with its last member.
    """

    def __init__(self, relay: Relay, name: Name) -> None:
        """Begin without members."""
        self.name = name
        self.keep: Keep | None = None
        self._relay = relay
        self._members: dict[bytes, Member] = {}
        self._audience = Audience(relay.limits, relay.flow, relay)
        # Those for whom what is said goes into their logs: they are away, or read out of it.
        self._logged: dict[bytes, None] = {}
        self._blocking: dict[bytes, Mailbox] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[bytes]:
        """The keys of its members' names as of now, in the order in which they joined."""
        return iter(list(self._members))

    def __contains__(self, key: bytes) -> bool:
        return key in self._members

    def members(self) -> list[Member]:
        """Its members as of now, in the order in which they joined."""
        return list(self._members.values())

    def member(self, key: bytes) -> Member:
        """The member with this key; there must be one."""
        return self._members[key]

    def has_to_note(self, account: int) -> bool:
        """Whether that somebody with this account has joined is to be kept, and is not."""
        return self.keep is not None and not self.keep.accounts.get(account)

    def add(self, name: Name, account: int) -> None:
        """A name joins; `placed` tells of its connections."""
        self._members[name.key] = Member(name, account)

    def remove(self, key: bytes) -> None:
        """A name leaves."""
        member = self._members.pop(key)
        self._logged.pop(key, None)
        self._blocking.pop(key, None)
        for device in member.devices:
            self._audience.remove(device)

    def placed(
        self, key: bytes, name: Name, devices: Iterable[Device], mailbox: Mailbox | None
    ) -> None:
        """
        Something about a member has changed.

        :param name: as it is written now.
        :param devices: its connections, as they are written now.
        :param mailbox: of an owned name that is here.
        """
        member = self._members[key]
        before, member.devices, member.name = member.devices, tuple(devices), name
        is_live = bool(member.devices) and (mailbox is None or mailbox.reading.is_live)
        for device in before:
            if device not in member.devices:
                self._audience.remove(device)
        for device in member.devices:
            self._audience.place(device, is_live=is_live)
        self._logged.pop(key, None)
        self._blocking.pop(key, None)
        if not is_live:
            self._logged[key] = None
        elif mailbox is not None and mailbox.blocked:
            self._blocking[key] = mailbox

    def tell(self, line: bytes, spared: tuple[Listener, ...] = ()) -> None:
        """Write a line of the relay's own to its members, but for some connections."""
        self._audience.tell(line, spared)

    def unknown_logs(self) -> list[Mailbox]:
        """The logs that something said goes into, and of which it is not known what they hold."""
        if not self._logged or self._relay.mailboxes is None:
            return []
        found = map(self._relay.mailboxes.find, self._logged)
        return [mailbox for mailbox in found if mailbox is not None and not mailbox.is_loaded]

    def say(
        self, sender: Recipient, lines: bytes, count: int, stamp: Stamp | None = None
    ) -> Whole | None:
        """
        Pass on what one member says.

        :param lines: ``%SENDER%TEXT`` each, LF after each.
        :param count: how many.
        :param stamp: theirs, if it is asked for elsewhere too.
        :returns: what is to be committed for members who are away or behind; ``None`` for nothing.
        :raises NotInRoom: the sender is no member.
        """
        member = self._members.get(sender.name.key)
        if member is None:
            raise NotInRoom(self.name.shown)
        head = b"%" + self.name.shown
        said = head + lines[:-1].replace(b"\n", b"\n" + head) + b"\n"
        spared = {device for device in member.devices if not device.wants_echo}
        for key, mailbox in self._blocking.items():
            if member.name.key in mailbox.blocked:
                spared.update(self._members[key].devices)
        stamp = stamp or Stamp(self._relay, count)
        self._audience.write(said, count, stamp, spared)
        is_listener = member.name.key not in self._logged
        if not is_listener:
            # What others say they read out of their log, which has nothing of this.
            echoing = [device for device in member.devices if device.wants_echo]
            self._audience.write_back(echoing, said, count, stamp)
        speaker: object = sender
        for device in member.devices:
            if device is speaker:
                backlog = device.outbox if is_listener else None
                self._audience.gate.hold_speaker(device.gate, backlog)
        if self._logged or (self.keep is not None and self.keep.log is not None):
            return self._keep_said(sender, texts_of(lines), count, stamp)
        return None

    def _keep_said(self, sender: Recipient, texts: bytes, count: int, stamp: Stamp) -> Whole | None:
        party = self.name.shown + b"%" + sender.name.shown
        account = sender.account
        numbers = (stamp.number, count, stamp.time_ms)
        run = Run(Kind.RECEIVED, *numbers, party, account, b"", texts)
        if self.keep is not None and self.keep.log is not None:
            self.keep.log.add(run)
        parts: list[Pending] = []
        for key in self._logged:
            mailbox = self._relay.mailboxes.find(key) if self._relay.mailboxes else None
            if mailbox is not None and key != sender.name.key:
                part = mailbox.take_said(sender.name.key, run)
                if part is not None:
                    parts.append(part)
        return Whole(run, parts) if parts else None
