"""Redis: a stream for each recipient, ``XADD`` with its reply, and a consumer group of one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.confirming.base import Confirming, Recipient
from bench.dialects import Step
from bench.naming import BrokenTrafficError

_GROUP = b"g"
# More than any window holds.
_AT_ONCE = 10_000
_ADDED = re.compile(rb"\$\d+\r\n\d+-\d+\r\n")
_REPLY = re.compile(rb"\*1\r\n\*2\r\n\$\d+\r\n[^\r]+\r\n\*(\d+)\r\n")
_ENTRY = re.compile(rb"\*2\r\n\$\d+\r\n(\d+-\d+)\r\n\*2\r\n\$\d+\r\n([^\r]+)\r\n\$\d+\r\n")


class Redis(Confirming):
    """Commands are in Redis's own form, whose arguments have their length before them."""

    confirmation = b"\n"
    in_each = 2
    refusal = b"ERR"

    def sending(self, name: str) -> list[Step]:  # noqa: ARG002
        """How a sender begins."""
        return [Step(_command(b"PING"), b"+PONG\r\n")]

    def preparing(self, name: str) -> list[Step]:
        """How a mailbox is made."""
        made = _command(b"XGROUP", b"CREATE", name.encode(), _GROUP, b"0", b"MKSTREAM")
        return [Step(made, b"+OK\r\n")]

    def message(self, sender: str, recipient: str, number: int, text: bytes) -> bytes:  # noqa: ARG002
        """What a sender sends."""
        return _command(b"XADD", recipient.encode(), b"*", sender.encode(), text)

    def confirmed(self, data: bytes) -> list[int]:
        """Take apart what a sender has read: the replies are in the order of the commands."""
        added = _ADDED.findall(data)
        if b"".join(added) != data:
            raise ValueError(f"a sender was told {data[:200]!r}")
        return list(range(len(added)))

    def recipient(self, name: str, size: int) -> Recipient:
        """One that comes for what is, or will be, in its mailbox."""
        return Reading(name, size)


class Reading(Recipient):
    """A consumer that reads with ``XREADGROUP``, and acks all that a reply had."""

    def __init__(self, name: str, size: int) -> None:
        """Begin."""
        super().__init__(name, size)
        # It waits for as long as it takes.
        self._ask = _command(
            b"XREADGROUP", b"GROUP", _GROUP, b"c", b"COUNT", b"%d" % _AT_ONCE, b"BLOCK", b"0",
            b"STREAMS", name.encode(), b">",
        )  # fmt: skip
        self._seen = 0

    def begin(self) -> bytes:
        """What it sends once it is connected."""
        return self._ask

    def take(self, data: bytes) -> bytes:
        """Take what was read."""
        self.came += data
        came, answers = self.came, b""
        while self._seen < len(came):
            if came[self._seen] == ord("*"):
                ids, end = self._entries(came, self._seen)
                if not ids:
                    break
                self.received += len(ids)
                acks = _command(b"XACK", self.name.encode(), _GROUP, *ids)
                answers += acks + self._ask
            else:
                end = came.find(b"\r\n", self._seen) + 2
                if end == 1:
                    break
                if came[self._seen] != ord(":"):
                    raise BrokenTrafficError(f"{self.name} was told {came[self._seen : end]!r}")
                self.acked += int(came[self._seen + 1 : end])
            self._seen = end
        return answers

    def texts(self) -> Iterator[tuple[str | None, bytes]]:
        """Who sent each message, and its text."""
        came = bytes(self.came)
        for entry in _ENTRY.finditer(came):
            yield entry[2].decode(), came[entry.end() : entry.end() + self.size]

    def _entries(self, came: bytearray, start: int) -> tuple[list[bytes], int]:
        """The ids of a reply that is complete, and its end; none of one that is not."""
        reply = _REPLY.match(came, start)
        if reply is None:
            return [], start
        count, entry_end = int(reply[1]), reply.end()
        # Far fewer bytes than it will have are not looked at each time that some come.
        if len(came) < entry_end + count * self.size:
            return [], start
        ids = []
        for entry in _ENTRY.finditer(came, entry_end):
            ids.append(entry[1])
            if len(ids) == count:
                end = entry.end() + self.size + 2
                return (ids, end) if len(came) >= end else ([], start)
        return [], start


def _command(*words: bytes) -> bytes:
    arguments = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), arguments)
