"""
How the rooms of each relay are spoken to: joining one, saying something in it, hearing it.

Everybody in a room is a member of it who hears all others, and nobody hears oneself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from bench import dialects
from bench.dialects import Dialect, Step, mqtt_packet, mqtt_string


class RoomDialect(Dialect, ABC):
    """The receiver of a message is the room; everybody else in it gets what is delivered."""

    @abstractmethod
    def join(self, room: str) -> Step:
        """How a named client becomes a member."""

    @abstractmethod
    def is_all_read(self) -> Step:
        """What is answered once everything has come that was sent to a client before."""


class Lines(RoomDialect):
    """The rooms of chatrelay."""

    def join(self, room: str) -> Step:
        """How a named client becomes a member."""
        return Step(b"/join #%b\n" % room.encode(), b"!end members #%b " % room.encode())

    def is_all_read(self) -> Step:
        """What is answered once everything has come that was sent to a client before."""
        return Step(b"/ping all-read\n", b"!pong all-read")

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a member sends; the receiver is the room."""
        return super().message(f"#{receiver}", text)

    def direct(self, receiver: str, text: bytes) -> bytes:
        """What one sends to one client alone."""
        return super().message(receiver, text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:
        """What the other members get of it."""
        return b"%%#%b%%%b%%%b\n" % (receiver.encode(), sender.encode(), text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a member got."""
        for name, said in super().texts(data, receiver):
            sender, _, text = said.partition(b"%")
            if name != f"#{receiver}":
                raise ValueError(f"a member of {receiver} got what was for {name}")
            yield sender.decode(), text


class Nats(dialects.Nats, RoomDialect):
    """A subject for each room; who publishes on it does not get that."""

    def steps(self, name: str) -> list[Step]:  # noqa: ARG002 - clients have none
        """How a client gets its name."""
        hello = b'CONNECT {"verbose":false,"pedantic":false,"echo":false}\r\nPING\r\n'
        return [Step(hello, b"PONG\r\n")]

    def join(self, room: str) -> Step:
        """How a named client becomes a member."""
        return Step(b"SUB %b 1\r\nPING\r\n" % room.encode(), b"PONG\r\n")

    def is_all_read(self) -> Step:
        """What is answered once everything has come that was sent to a client before."""
        return Step(b"PING\r\n", b"PONG\r\n")


class Irc(dialects.Irc, RoomDialect):
    """Channels."""

    def join(self, room: str) -> Step:
        """How a named client becomes a member."""
        # 366 ends the list of the members.
        return Step(b"JOIN #%b\r\n" % room.encode(), b" #%b :End of NAMES" % room.encode())

    def is_all_read(self) -> Step:
        """What is answered once everything has come that was sent to a client before."""
        return Step(b"PING :all-read\r\n", b"PONG ")

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a member sends; the receiver is the room."""
        return super().message(f"#{receiver}", text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:
        """What the other members get of it."""
        return super().delivered(sender, f"#{receiver}", text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a member got."""
        return super().texts(data, f"#{receiver}")


class Mqtt(dialects.Mqtt, RoomDialect):
    """MQTT 5 at QoS 0, whose subscriptions may leave out what one publishes oneself."""

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        connect = mqtt_string(b"MQTT") + b"\x05\x02\x00\x00\x00" + mqtt_string(name.encode())
        # The answer has properties, whose length differs.
        return [Step(mqtt_packet(0x10, connect), b"\x20", b"")]

    def join(self, room: str) -> Step:
        """How a named client becomes a member."""
        subscribe = b"\x00\x01\x00" + mqtt_string(room.encode()) + b"\x04"
        return Step(mqtt_packet(0x82, subscribe), b"\x90\x04\x00\x01\x00\x00", b"")

    def is_all_read(self) -> Step:
        """What is answered once everything has come that was sent to a client before."""
        return Step(b"\xc0\x00", b"\xd0\x00", b"")

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a member sends; the receiver is the room."""
        return super().message(receiver, b"\x00" + text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a member got."""
        for sender, body in super().texts(data, receiver):
            if not body.startswith(b"\x00"):
                raise ValueError(f"a member of {receiver} got {body!r}")
            yield sender, body[1:]


ROOM_DIALECTS: dict[str, type[RoomDialect]] = {
    "lines": Lines,
    "nats": Nats,
    "irc": Irc,
    "mqtt": Mqtt,
}
