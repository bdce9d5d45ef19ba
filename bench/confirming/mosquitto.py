"""MQTT 3.1.1 at QoS 1: a session that lasts for each recipient, ``PUBACK`` from both sides."""

from __future__ import annotations

from collections.abc import Iterator

from bench.confirming.base import Confirming, Recipient
from bench.dialects import Step, mqtt_packet, mqtt_string
from bench.naming import BrokenTrafficError

_CONNACK_BYTES = 4
_PUBACK = b"\x40\x02"
_PUBACK_BYTES = 4
_CLEAN, _KEPT = b"\x02", b"\x00"
# Packets are numbered from 1 on.
_MOST_IDS = 65_535


class Mosquitto(Confirming):
    """A topic for each recipient."""

    in_each = _PUBACK_BYTES

    def sending(self, name: str) -> list[Step]:
        """How a sender begins."""
        return [Step(_connect(name, _CLEAN), b"\x20\x02\x00\x00", b"")]

    def preparing(self, name: str) -> list[Step]:
        """How a mailbox is made: a session that has subscribed."""
        subscribe = b"\x00\x01" + mqtt_string(name.encode()) + b"\x01"
        return [
            Step(_connect(name, _KEPT), b"\x20\x02\x00\x00", b""),
            Step(mqtt_packet(0x82, subscribe), b"\x90\x03\x00\x01\x01", b""),
        ]

    def message(self, sender: str, recipient: str, number: int, text: bytes) -> bytes:  # noqa: ARG002
        """What a sender sends."""
        packet_id = (number % _MOST_IDS + 1).to_bytes(2, "big")
        return mqtt_packet(0x32, mqtt_string(recipient.encode()) + packet_id + text)

    def confirmed(self, data: bytes) -> list[int]:
        """Take apart what a sender has read."""
        numbers = []
        for at in range(0, len(data), _PUBACK_BYTES):
            if data[at : at + 2] != _PUBACK:
                raise ValueError(f"a sender was told {data[at : at + 200]!r}")
            numbers.append(int.from_bytes(data[at + 2 : at + 4], "big") - 1)
        return numbers

    def recipient(self, name: str, size: int) -> Recipient:
        """One that comes for what is, or will be, in its mailbox."""
        return Reading(name, size)


class Reading(Recipient):
    """A client whose session was there before it; each message is acked by itself."""

    def __init__(self, name: str, size: int) -> None:
        """Begin."""
        super().__init__(name, size)
        topic = mqtt_string(name.encode())
        self._message_bytes = len(mqtt_packet(0x32, topic + b"id" + bytes(size)))
        self._id_at = self._message_bytes - size - 2
        self._seen = 0

    def begin(self) -> bytes:
        """What it sends once it is connected."""
        return _connect(self.name, _KEPT)

    def take(self, data: bytes) -> bytes:
        """Take what was read."""
        came = self.came
        came += data
        if not self._seen:
            if len(came) < _CONNACK_BYTES:
                return b""
            # That it has a session, and no objection.
            if came[:_CONNACK_BYTES] != b"\x20\x02\x01\x00":
                raise BrokenTrafficError(f"{self.name} was told {came[:_CONNACK_BYTES]!r}")
            self._seen = _CONNACK_BYTES
        count = (len(came) - self._seen) // self._message_bytes
        first = self._seen + self._id_at
        self._seen += count * self._message_bytes
        self.received += count
        # It is acked when that was sent; nothing answers.
        self.acked = self.received
        return b"".join(
            [_PUBACK + came[at : at + 2] for at in range(first, self._seen, self._message_bytes)]
        )

    def texts(self) -> Iterator[tuple[str | None, bytes]]:
        """Each text; who sent it is not said."""
        came = bytes(self.came)
        for at in range(_CONNACK_BYTES, len(came), self._message_bytes):
            # At least once: it may say that it has sent this before.
            if came[at] & ~0x08 != 0x32:
                raise ValueError(f"{self.name} got {came[at : at + 20]!r}")
            yield None, came[at + self._id_at + 2 : at + self._message_bytes]


def _connect(name: str, flags: bytes) -> bytes:
    return mqtt_packet(
        0x10, mqtt_string(b"MQTT") + b"\x04" + flags + b"\x00\x00" + mqtt_string(name.encode())
    )
