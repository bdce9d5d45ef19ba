"""chatrelay: names with an owner; each line has its own ref, and is answered ``!stored``."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from bench.confirming.base import Confirming, Recipient
from bench.dialects import Step
from bench.naming import BrokenTrafficError

_WELCOME = re.compile(rb"^!welcome [^\n]*\n", re.MULTILINE)
_STORED = re.compile(rb"@ref=(\d{7}) !stored \S+ id=\S+")
_MESSAGE = re.compile(rb"(?:@\S+ )?%([^%]+)%(.*)")
_TOLD = (b"!caps", b"!acked")


class Chatrelay(Confirming):
    """The lines of chatrelay."""

    confirmation = b"\n"
    refusal = b"!error"

    def sending(self, name: str) -> list[Step]:
        """How a sender begins."""
        return [Step(self._claim(name), b"!welcome ")]

    def message(self, sender: str, recipient: str, number: int, text: bytes) -> bytes:  # noqa: ARG002
        """What a sender sends."""
        return b"@ref=%07d %%%b%%%b\n" % (number, recipient.encode(), text)

    def confirmed(self, data: bytes) -> list[int]:
        """Take apart what a sender has read."""
        numbers = []
        for line in data.splitlines():
            stored = _STORED.fullmatch(line)
            if stored is None:
                raise ValueError(f"a sender was told {line!r}")
            numbers.append(int(stored[1]))
        return numbers

    def recipient(self, name: str, size: int) -> Recipient:
        """One that comes for what is, or will be, in its mailbox."""
        return Acking(name, size, b"/caps ack\n" + self._claim(name))

    def reader(self, name: str, size: int) -> Recipient:
        """One that comes and acks nothing."""
        return Reading(name, size, self._claim(name))

    def _claim(self, name: str) -> bytes:
        return f"{name} {self.tokens[name]}\n".encode()


class Reading(Recipient):
    """A client that reads."""

    def __init__(self, name: str, size: int, hello: bytes) -> None:
        """
        Begin.

        :param hello: what it sends to be named.
        """
        super().__init__(name, size)
        self._hello = hello
        self._seen = 0

    def begin(self) -> bytes:
        """What it sends once it is connected."""
        return self._hello

    def take(self, data: bytes) -> bytes:
        """Take what was read."""
        self.read(data)
        return b""

    def read(self, data: bytes) -> tuple[int, int]:
        """
        Take what was read.

        :returns: where in `came` its complete lines begin and end.
        :raises BrokenTrafficError: it was refused something.
        """
        if b"!error" in data:
            raise BrokenTrafficError(f"{self.name} was told {data[:200]!r}")
        self.came += data
        if not self._seen:
            welcome = _WELCOME.search(self.came)
            if welcome is None:
                return 0, 0
            self._seen = welcome.end()
        # A percent sign on both sides of a sender's name, and in no text of ours.
        start, end = self._seen, self.came.rfind(b"\n") + 1
        self.received += self.came.count(b"%", start, end) // 2
        self._seen = max(start, end)
        return start, end

    def texts(self) -> Iterator[tuple[str | None, bytes]]:
        """Who sent each message, and its text."""
        welcome = _WELCOME.search(self.came)
        for line in bytes(self.came[welcome.end() if welcome else 0 :]).splitlines():
            if line.startswith(_TOLD):
                continue
            message = _MESSAGE.fullmatch(line)
            if message is None:
                raise ValueError(f"{self.name} got {line!r}")
            yield message[1].decode(), message[2]


class Acking(Reading):
    """A client that acks the last message of whatever it has read."""

    def __init__(self, name: str, size: int, hello: bytes) -> None:
        """
        Begin.

        :param hello: what it sends to be named.
        """
        super().__init__(name, size, hello)
        self._underway: deque[int] = deque()  # for each ack, how much it covers

    def take(self, data: bytes) -> bytes:
        """Take what was read."""
        before = self.received
        start, end = self.read(data)
        for _ in range(self.came.count(b"!acked ", start, end)):
            self.acked = self._underway.popleft()
        if self.received == before:
            return b""
        self._underway.append(self.received)
        tags = bytes(self.came[self.came.rfind(b"@id=", start, end) + 4 : end]).split(b" ", 1)[0]
        return b"/ack %b\n" % tags.split(b";", 1)[0]
