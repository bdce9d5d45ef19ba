"""
Peers that mean harm: each attack is a bounded piece of work on a relay, and what it was answered.

They come through a ``haproxy:`` port, whose header says which addresses they have: those of this
machine have no bounds.  Honest clients come straight.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.integration.relay_process import Client, RelayProcess, eventually

KIB = 1024
CHUNK_BYTES = 64 * KIB
# How much the kernel takes for one that does not read.
_SMALL_BUFFER_BYTES = 4096
HALF_CLOSED = 20
PORTS = ("--port", "tcp:0:interface=127.0.0.1", "--port", "haproxy:tcp:0:interface=127.0.0.1")


class Target(NamedTuple):
    """
    The relay that is attacked.

    :ivar plain: where honest clients come in.
    :ivar proxied: where the others do.
    :ivar pid: of its process.
    """

    plain: tuple[str, int]
    proxied: tuple[str, int]
    pid: int

    @classmethod
    def of(cls, relay: RelayProcess) -> Target:
        """The ports of a relay that was started with `PORTS`."""
        return cls(*relay.ports(2), relay.pid)

    def open_files(self) -> int:
        """How many files, sockets among them, it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Stranger(Client):
    """A client that comes from an address which counts."""

    _numbers = itertools.count(1)

    def __init__(
        self,
        target: Target,
        host: str | None = None,
        name: str | None = None,
        *,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        """
        Connect.

        :param host: the address; one that nobody else has if ``None``.
        :param name: what to be called; wait for the welcome.
        """
        super().__init__(target.proxied, receive_buffer_bytes=receive_buffer_bytes)
        number = next(self._numbers)
        self.host = host or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.send_bytes(f"PROXY TCP4 {self.host} 127.0.0.1 40000 12345\r\n".encode())
        if name is not None:
            self.send(name)
            self.expect("!welcome ")

    def answer(self, *lines: str) -> list[str]:
        """What it is told for lines, without a sentence for people, before the answer to a ping."""
        self.send(*lines, "/ping answered")
        answers = []
        while (line := self.line()) != "!pong answered":
            answers.append(line.partition(" :")[0])
        return answers

    def told_last(self) -> str:
        """Read to the end; the last line, without the sentence for people, or nothing."""
        lines = self.rest()
        return lines[-1].partition(" :")[0] if lines else ""


Answers = dict[str, int]
Attack = Callable[[Target], Answers]
"""Do harm, and count the answers by what they begin with."""


def _count(answers: list[str]) -> Answers:
    kinds = (answer.split()[: 2 if answer.startswith("!error") else 1] for answer in answers)
    return dict(Counter(map(" ".join, kinds)))


def _closing(strangers: list[Stranger]) -> Iterator[Stranger]:
    for stranger in strangers:
        yield stranger
        stranger.close()


def drip(target: Target) -> Answers:
    """Connections that write a byte now and then, and never a line; until they are closed."""
    strangers = [Stranger(target) for _ in range(50)]
    for _ in range(20):
        for stranger in strangers:
            with contextlib.suppress(OSError):
                stranger.send_bytes(b"x")
    return _count([stranger.told_last() for stranger in _closing(strangers)])


def endless_line(target: Target) -> Answers:
    """Lines that go on and on; one of each ends at last."""
    strangers = [Stranger(target, name=f"endless{number}") for number in range(8)]
    for stranger in strangers:
        # What is not read any more does not block for ever.
        stranger.socket.setblocking(False)
    for _ in range(4):
        for stranger in strangers:
            with contextlib.suppress(BlockingIOError):
                stranger.socket.send(b"x" * CHUNK_BYTES)
    for stranger in strangers:
        stranger.socket.setblocking(True)
        stranger.reset()
    stranger = Stranger(target, name="endless")
    stranger.send_bytes(b"x" * 3 * 8192)
    return _count(stranger.answer(""))


def many_connections(target: Target) -> Answers:
    """Connections from one address, as many as it takes to be refused, and from many others."""
    host = "203.0.113.1"
    strangers = [Stranger(target, host) for _ in range(200)]
    strangers += [Stranger(target) for _ in range(300)]
    for stranger in strangers:
        with contextlib.suppress(OSError):
            stranger.send("/ping here", "/quit")
    answers = [stranger.told_last() or "nothing" for stranger in _closing(strangers)]
    return _count(answers)


def many_names(target: Target) -> Answers:
    """One name after the other, and first lines that are none."""
    stranger = Stranger(target, name="many")
    answers = stranger.answer(*(f"/name many{number}" for number in range(50)))
    stranger.close()
    for _ in range(20):
        stranger = Stranger(target)
        stranger.send("a b c", "%bob%hi", "!")
        answers.append(stranger.told_last())
        stranger.close()
    return _count(answers)


def many_joins(target: Target) -> Answers:
    """More rooms than one may be in."""
    stranger = Stranger(target, name="joiner")
    answers = stranger.answer(*(f"/join #room{number}" for number in range(80)))
    stranger.close()
    return _count(answers)


def many_watches(target: Target) -> Answers:
    """More names than one may watch, and all that a line has place for."""
    stranger = Stranger(target, name="watcher")
    answers = stranger.answer(*(f"/watch {number} w{number}" for number in range(80)))
    # 16 µs each, if they were looked at.
    names = "".join(f" ж{number}" for number in range(800))
    answers += stranger.answer(*[f"/watch{names}"] * 20)
    stranger.close()
    return _count(answers)


def dearest(target: Target) -> Answers:
    """64 KiB of the command that costs most, from several who read the answers."""
    line = b"/who #crowd\n"
    chunk = line * (CHUNK_BYTES // len(line))
    strangers = [Stranger(target, name=f"dear{number}") for number in range(4)]
    for stranger in strangers:
        stranger.send("/join #crowd")
        stranger.expect("!end members #crowd ")
        stranger.send_bytes(chunk)
    for stranger in _closing(strangers):
        stranger.expect("!end who ")
    return {"!end": len(strangers)}


def never_reading(target: Target) -> Answers:
    """Those who ask and do not read, and those to whom somebody writes who do not."""
    deaf = [
        Stranger(target, name=f"deaf{number}", receive_buffer_bytes=_SMALL_BUFFER_BYTES)
        for number in range(4)
    ]
    for stranger in deaf:
        stranger.send_bytes(b"/help\n" * (CHUNK_BYTES // 6))
    writer = Stranger(target, name="writer")
    text = b"%deaf0%" + b"x" * 8000 + b"\n"
    writer.socket.setblocking(False)
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            writer.socket.send(text * 8)
    writer.socket.setblocking(True)
    writer.reset()
    for stranger in deaf:
        stranger.reset()
    return {}


def half_closed(target: Target) -> Answers:
    """Ends of input, behind which nobody reads or closes; until the relay does."""
    before_files = target.open_files()
    # Behind a proxy an end of input is the end.
    strangers = [
        Client(target.plain, receive_buffer_bytes=_SMALL_BUFFER_BYTES) for _ in range(HALF_CLOSED)
    ]
    for number, stranger in enumerate(strangers):
        stranger.send(f"half{number}", "/join #half", *["/help"] * 90)
        stranger.send_bytes(b"%half1%un")
        stranger.end_input()
    for number in range(HALF_CLOSED):
        _wait_until_free(target, f"half{number}")
    eventually("the relay has closed them", lambda: target.open_files() <= before_files)
    for stranger in strangers:
        stranger.close()
    return {"closed": len(strangers)}


def resets(target: Target) -> Answers:
    """Connections that are broken in the middle of a line, under one name again and again."""
    for number in range(200):
        stranger = Stranger(target)
        stranger.send_bytes(f"reset\n/join #reset\n%nobody%{number}\n%half a l".encode())
        if number % 2:
            # Its welcome, or that the one before is not gone yet.
            stranger.line()
        stranger.reset()
    _wait_until_free(target, "reset")
    return {}


def _wait_until_free(target: Target, name: str) -> None:
    while True:
        with contextlib.closing(Stranger(target)) as next_one:
            next_one.send(name)
            if next_one.line().startswith("!welcome "):
                return


ATTACKS: dict[str, Attack] = {
    "a byte now and then": drip,
    "a line without end": endless_line,
    "many connections": many_connections,
    "many names": many_names,
    "many rooms": many_joins,
    "many watched names": many_watches,
    "64 KiB of the dearest command": dearest,
    "never reading": never_reading,
    "half-closed": half_closed,
    "resets in the middle of a line": resets,
}
