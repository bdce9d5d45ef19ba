"""Who is in which room, what each says, and the proof of what each heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.rooms.dialects import RoomDialect
from bench.traffic import make_text


@dataclass(frozen=True)
class Party:
    """
    Rooms of one size, and everybody a member of one.

    Names are of one length, and those of rooms, so that all deliveries are of one size.

    :ivar rooms: how many.
    :ivar members: of each.
    :ivar senders: those of them who say something: the first ones.
    :ivar burst: messages that each says at once.
    """

    rooms: int
    members: int
    senders: int
    burst: int

    @property
    def names(self) -> list[str]:
        """Of all members, room by room."""
        return [f"m{index:05d}" for index in range(self.rooms * self.members)]

    def room_of(self, member: int) -> str:
        """Where the member with this number is."""
        return f"r{member // self.members:04d}"

    def is_sender(self, member: int) -> bool:
        """Whether the member with this number says something."""
        return member % self.members < self.senders

    def heard_by(self, member: int) -> int:
        """How many messages the member with this number hears of one burst of each sender."""
        return (self.senders - self.is_sender(member)) * self.burst

    @property
    def deliveries(self) -> int:
        """How many messages all members hear of one burst of each sender."""
        return self.rooms * self.senders * self.burst * (self.members - 1)


# The smaller the room, the more it takes to keep a relay busy.
FAN_OUT = {
    "fanout10": Party(1, 10, 4, 256),
    "fanout100": Party(1, 100, 4, 128),
    "fanout1000": Party(1, 1000, 4, 64),
    "single100": Party(1, 100, 4, 1),
    "single1000": Party(1, 1000, 4, 1),
}
PACED = Party(1, 101, 1, 1)


def in_rooms_of(members: int, everybody: int) -> Party:
    """`everybody` in rooms of so many `members`, in each of which one says something."""
    return Party(everybody // members, members, 1, 64)


def burst_of(party: Party, dialect: RoomDialect, member: int, size: int) -> bytes:
    """What a sender sends at once."""
    room = party.room_of(member)
    return b"".join(
        dialect.message(room, _text(member, number, size)) for number in range(party.burst)
    )


def delivered_bytes(party: Party, dialect: RoomDialect, size: int) -> int:
    """The size of each delivery."""
    return len(dialect.delivered(party.names[0], party.room_of(0), _text(0, 0, size)))


def verify(party: Party, dialect: RoomDialect, size: int, heard: Sequence[bytes]) -> None:
    """
    Prove that of one burst of each sender everything was heard once, intact and in order.

    :param heard: by each member.
    :raises ValueError: it was not; with the first message that is wrong.
    """
    names = party.names
    for member, data in enumerate(heard):
        came: Counter[int] = Counter()
        for said_sender, text in dialect.texts(data, party.room_of(member)):
            sender = int(text[: text.index(b">")])
            wanted = _text(sender, came[sender], size)
            if text != wanted or said_sender not in {None, names[sender]}:
                raise ValueError(f"{names[member]} got {text!r} of {said_sender}, not {wanted!r}")
            if sender == member or party.room_of(sender) != party.room_of(member):
                raise ValueError(f"{names[member]} got what {names[sender]} said")
            came[sender] += 1
        if came.total() != party.heard_by(member):
            expected = party.heard_by(member)
            raise ValueError(f"{names[member]} got {came.total()} of {expected} messages")


def _text(sender: int, number: int, size: int) -> bytes:
    return make_text(sender, 0, number, size)
