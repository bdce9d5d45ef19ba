"""NATS JetStream: a stream and a consumer for each recipient, and an inbox for each sender."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping

from bench.confirming.base import Confirming, Recipient
from bench.dialects import Step
from bench.naming import BrokenTrafficError

_HELLO = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
_CONFIRMED = re.compile(
    rb'MSG _INBOX\.s\d+\.(\d+) 1 \d+\r\n\{"stream":"\w+", ?"seq":\d+\}\r\n|PING\r\n'
)
# It asks once for more than there is.
_AT_ONCE = 10_000_000
_DELIVERED = re.compile(rb"MSG m\.\S+ 1 (\S+) (\d+)\r\n")
_ACKED = b" 2 0\r\n\r\n"


class JetStream(Confirming):
    """
    What its own clients do that publish without waiting for each answer.

    Each message has a reply subject of its own under one inbox that is subscribed to as a whole.
    """

    confirmation = b"}"
    refusal = b'"error"'

    def sending(self, name: str) -> list[Step]:
        """How a sender begins."""
        return [Step(_HELLO + b"SUB _INBOX.%b.* 1\r\nPING\r\n" % name.encode(), b"PONG\r\n")]

    def preparing(self, name: str) -> list[Step]:
        """How a mailbox is made: a stream, and a consumer."""
        stream = {
            "name": name,
            "subjects": [f"m.{name}"],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "num_replicas": 1,
        }
        consumer = {
            "durable_name": name,
            "deliver_policy": "all",
            # What comes in one read is acked at once.
            "ack_policy": "all",
            "max_ack_pending": -1,
        }
        inbox = f"_INBOX.api.{name}"
        subscribe = b"SUB %b 1\r\nPING\r\n" % inbox.encode()
        wanted = {"stream_name": name, "config": consumer}
        return [
            Step(_HELLO + subscribe, b"PONG\r\n"),
            _asked(f"STREAM.CREATE.{name}", inbox, stream),
            _asked(f"CONSUMER.DURABLE.CREATE.{name}.{name}", inbox, wanted),
        ]

    def message(self, sender: str, recipient: str, number: int, text: bytes) -> bytes:
        """What a sender sends."""
        subjects = recipient.encode(), sender.encode(), number
        return b"PUB m.%b _INBOX.%b.%07d %d\r\n%b\r\n" % (*subjects, len(text), text)

    def confirmed(self, data: bytes) -> list[int]:
        """Take apart what a sender has read."""
        at, numbers = 0, []
        while at < len(data):
            confirmed = _CONFIRMED.match(data, at)
            if confirmed is None:
                raise ValueError(f"a sender was told {data[at : at + 200]!r}")
            at = confirmed.end()
            if confirmed[1]:
                numbers.append(int(confirmed[1]))
        return numbers

    def recipient(self, name: str, size: int) -> Recipient:
        """One that comes for what is, or will be, in its mailbox."""
        return Reading(name, size)


class Reading(Recipient):
    """A client that pulls, and acks the last message of whatever it has read."""

    def __init__(self, name: str, size: int) -> None:
        """Begin."""
        super().__init__(name, size)
        self._inbox = b"_INBOX.acks.%b" % name.encode()
        self._head_end = b" %d\r\n" % size
        self._seen = 0
        self._acks_seen = 0
        self._underway: deque[int] = deque()  # for each ack, how much it covers

    def begin(self) -> bytes:
        """What it sends once it is connected."""
        name, asked = self.name.encode(), b'{"batch":%d}' % _AT_ONCE
        return (
            _HELLO
            + b"SUB %b 2\r\nSUB _INBOX.mail.%b 1\r\n" % (self._inbox, name)
            + b"PUB $JS.API.CONSUMER.MSG.NEXT.%b.%b _INBOX.mail.%b %d\r\n%b\r\n"
            % (name, name, name, len(asked), asked)
        )

    def take(self, data: bytes) -> bytes:
        """Take what was read."""
        if b"-ERR" in data:
            raise BrokenTrafficError(f"{self.name} was told {data[:200]!r}")
        came, start, before = self.came, self._seen, self.received
        came += data
        text_bytes = len(self._head_end) + self.size + 2
        end = came.rfind(self._head_end, start)
        if end >= 0 and len(came) < end + text_bytes:
            end = came.rfind(self._head_end, start, end)
        # Between two messages there may be an answer to an ack; it is shorter than one.
        self._seen = end + text_bytes if end >= 0 else start
        self.received += came.count(self._head_end, start, self._seen)
        self._count_acks(came)
        if self.received == before:
            return b""
        self._underway.append(self.received)
        reply = bytes(came[came.rfind(b" $JS.ACK.", start, end) + 1 : end])
        return b"PUB %b %b 4\r\n+ACK\r\n" % (reply, self._inbox)

    def texts(self) -> Iterator[tuple[str | None, bytes]]:
        """Each text; who sent it is not said."""
        came = bytes(self.came)
        for message in _DELIVERED.finditer(came):
            if int(message[2]) != self.size:
                raise ValueError(f"{self.name} got {message[0]!r}")
            yield None, came[message.end() : message.end() + self.size]

    def _count_acks(self, came: bytearray) -> None:
        while (found := came.find(_ACKED, self._acks_seen)) >= 0:
            self.acked = self._underway.popleft()
            self._acks_seen = found + len(_ACKED)


def _asked(what: str, inbox: str, how: Mapping[str, object]) -> Step:
    body = json.dumps(how)
    request = f"PUB $JS.API.{what} {inbox} {len(body)}\r\n{body}\r\n"
    return Step(request.encode(), b"}\r\n", b"\r\n")
