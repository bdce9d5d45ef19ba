"""
How each relay is spoken to: being named, a message sent, a message delivered.

A message that is delivered has a size that is known before it is sent, so that the
generator counts bytes and looks at none of them while it measures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """
    One exchange of being named.

    :ivar sends: what the client says.
    :ivar marker: what the answer has in it once it is complete.
    :ivar end: what the answer then ends in.
    """

    sends: bytes
    marker: bytes
    end: bytes = b"\n"


class Dialect:
    """
    The lines of chatrelay; others derive from it.

    :cvar ping: what the relay may send between messages.
    :cvar pong: what answers it.
    :cvar max_text_bytes: the longest text that its messages can hold.
    :cvar refusal: what is in an answer that refuses a step; nothing where that is not told.
    :cvar greets_in_clear: whether a relay that asks for TLS says something before it, a line.
    """

    ping = b""
    pong = b""
    max_text_bytes = 1 << 20
    refusal = b""
    greets_in_clear = False

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        return [Step(b"%b\n" % name.encode(), b"!welcome ")]

    def named(self, answers: bytes) -> None:
        """Learn from what was answered to a client that has its name now."""

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a client sends."""
        return b"%%%b%%%b\n" % (receiver.encode(), text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:  # noqa: ARG002
        """What the receiver gets of it."""
        return b"%%%b%%%b\n" % (sender.encode(), text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """
        Take apart what a receiver got.

        :returns: who sent it, where the relay says so, and the text of each message.
        """
        for line in data.split(b"\n")[:-1]:
            before, sender, text = line.split(b"%", 2)
            if before:
                raise ValueError(f"{receiver} got {line!r}")
            yield sender.decode(), text


class Unparsed(Dialect):
    """The lines of chatrelay, which arrive as they were sent."""

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:  # noqa: ARG002
        """What the receiver gets of it."""
        return self.message(receiver, text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a receiver got."""
        for name, text in super().texts(data, receiver):
            if name != receiver:
                raise ValueError(f"{receiver} got what was for {name}")
            yield None, text


class Nats(Dialect):
    """NATS: a subject for each receiver."""

    ping = b"PING\r\n"
    pong = b"PONG\r\n"
    greets_in_clear = True

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        hello = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b 1\r\nPING\r\n'
        return [Step(hello % name.encode(), b"PONG\r\n")]

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a client sends."""
        return b"PUB %b %d\r\n%b\r\n" % (receiver.encode(), len(text), text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:  # noqa: ARG002
        """What the receiver gets of it."""
        return b"MSG %b 1 %d\r\n%b\r\n" % (receiver.encode(), len(text), text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a receiver got."""
        lines = iter(data.split(b"\r\n")[:-1])
        for line in lines:
            if line == b"PING":
                continue
            verb, subject, _, size = line.split(b" ")
            text = next(lines)
            if verb != b"MSG" or subject != receiver.encode() or int(size) != len(text):
                raise ValueError(f"{receiver} got {line!r}")
            yield None, text


class Irc(Dialect):
    """IRC: a nick for each client, and private messages."""

    max_text_bytes = 400

    def __init__(self) -> None:
        self._user_and_host = b"!~u@127.0.0.1"

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        # 376 ends the message of the day.
        nick = name.encode()
        return [
            Step(b"NICK %b\r\nUSER u 0 * :u\r\n" % nick, b" 376 %b :" % nick),
            Step(b"PING :named\r\n", b"PONG "),
        ]

    def named(self, answers: bytes) -> None:
        """Learn what this relay calls its clients."""
        called = re.search(rb" 001 \S+ :.* [^ !]+(![^ ]+)\r\n", answers)
        if called:
            self._user_and_host = called[1]

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a client sends."""
        return b"PRIVMSG %b :%b\r\n" % (receiver.encode(), text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:
        """What the receiver gets of it."""
        mask = sender.encode() + self._user_and_host
        return b":%b PRIVMSG %b :%b\r\n" % (mask, receiver.encode(), text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a receiver got."""
        for line in data.split(b"\r\n")[:-1]:
            mask, verb, nick, text = line.split(b" ", 3)
            if verb != b"PRIVMSG" or nick != receiver.encode():
                raise ValueError(f"{receiver} got {line!r}")
            yield mask[1:].partition(b"!")[0].decode(), text[1:]


class Mqtt(Dialect):
    """MQTT 3.1.1 at QoS 0: a topic for each receiver."""

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        client = name.encode()
        connect = mqtt_string(b"MQTT") + b"\x04\x02\x00\x00" + mqtt_string(client)
        subscribe = b"\x00\x01" + mqtt_string(client) + b"\x00"
        return [
            Step(mqtt_packet(0x10, connect), b"\x20\x02\x00\x00", b""),
            Step(mqtt_packet(0x82, subscribe), b"\x90\x03\x00\x01\x00", b""),
        ]

    def message(self, receiver: str, text: bytes) -> bytes:
        """What a client sends."""
        return mqtt_packet(0x30, mqtt_string(receiver.encode()) + text)

    def delivered(self, sender: str, receiver: str, text: bytes) -> bytes:  # noqa: ARG002
        """What the receiver gets of it."""
        return self.message(receiver, text)

    def texts(self, data: bytes, receiver: str) -> Iterator[tuple[str | None, bytes]]:
        """Take apart what a receiver got."""
        topic = mqtt_string(receiver.encode())
        at = 0
        while at < len(data):
            kind, size, shift = data[at], 0, 0
            at += 1
            while True:
                size |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
                if data[at - 1] < 0x80:
                    break
            body = data[at : at + size]
            at += size
            if kind != 0x30 or len(body) != size or not body.startswith(topic):
                raise ValueError(f"{receiver} got {body!r}")
            yield None, body[len(topic) :]


def mqtt_string(value: bytes) -> bytes:
    """Bytes with their length before them, as MQTT has them."""
    return len(value).to_bytes(2, "big") + value


def mqtt_packet(kind: int, body: bytes) -> bytes:
    """
    A packet of MQTT.

    :param kind: its first byte, with the flags.
    """
    size, rest = bytearray(), len(body)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    size.append(rest)
    return bytes([kind]) + bytes(size) + body


DIALECTS: dict[str, type[Dialect]] = {
    "lines": Dialect,
    "unparsed": Unparsed,
    "nats": Nats,
    "irc": Irc,
    "mqtt": Mqtt,
}
