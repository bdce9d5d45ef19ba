"""Many connections that are named at once."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.dialects import Dialect
from bench.secured import Secured

Connection = socket.socket | Secured

_RECEIVE_BYTES = 256 * 1024
_EVENTS = 2048
_NAMING_S = 60.0
_LINGER_NOT = struct.pack("ii", 1, 0)


class BrokenTrafficError(Exception):
    """The relay did not do what it is there for; the words say what."""


@dataclass(frozen=True)
class Door:
    """
    Where a relay is come to.

    :ivar port: of loopback.
    :ivar context: for TLS; without it, everything is in clear.
    :ivar addresses: those of this machine that one comes from, in turn.
    """

    port: int
    context: ssl.SSLContext | None = None
    addresses: Sequence[str] = ("127.0.0.1",)

    def seen_from(self, addresses: Sequence[str]) -> Door:
        """The same, for those who come from these addresses."""
        return replace(self, addresses=addresses)

    def address(self, number: int) -> str:
        """Where the connection with this number comes from."""
        return self.addresses[number % len(self.addresses)]


class _Naming:
    """A connection on its way to its name."""

    def __init__(self, door: Door, dialect: Dialect, name: str, number: int) -> None:
        self.name = name
        self.number = number
        plain = socket.socket()
        plain.setblocking(False)
        if len(door.addresses) > 1:
            plain.bind((door.address(number), 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = plain.connect_ex(("127.0.0.1", door.port))
        if status not in {0, errno.EINPROGRESS}:
            raise BrokenTrafficError(f"{name}: {errno.errorcode.get(status, status)}")
        self._plain = plain
        self.connection: Connection = plain
        self._dialect = dialect
        self._steps = dialect.steps(name)
        self._answer = b""
        self._all_answers = b""

    def send(self) -> None:
        """Take the next step."""
        self.connection.send(self._steps[0].sends)

    def receive(self) -> bool:
        """Take what came; return whether it was the last of this step."""
        data = self.connection.recv(_RECEIVE_BYTES)
        if data is None:
            return False
        if not data:
            raise BrokenTrafficError(f"{self.name} was closed after {self._all_answers!r}")
        self._answer += data
        self._all_answers += data
        refusal = self._dialect.refusal
        if refusal and refusal in self._answer:
            raise BrokenTrafficError(f"{self.name} was told {self._answer!r}")
        step = self._steps[0]
        if step.marker not in self._answer or not self._answer.endswith(step.end):
            return False
        self._answer = b""
        del self._steps[0]
        if not self._steps:
            self._dialect.named(self._all_answers)
        return True

    @property
    def is_named(self) -> bool:
        """Whether no step is left."""
        return not self._steps


class _SecuredNaming(_Naming):
    """One whose name is given over TLS, which comes first."""

    def __init__(
        self, door: Door, dialect: Dialect, name: str, number: int, context: ssl.SSLContext
    ) -> None:
        super().__init__(door, dialect, name, number)
        self.connection = self._secured = Secured(self._plain, context)
        self._is_greeted = not dialect.greets_in_clear
        self._is_secured = False

    def send(self) -> None:
        """Take the next step, of TLS or in it."""
        if self._is_secured:
            super().send()
        elif self._is_greeted:
            self._secured.handshake()

    def receive(self) -> bool:
        """Take what came; return whether something is to be sent now."""
        if self._is_secured:
            return super().receive()
        if not self._is_greeted:
            self._is_greeted = self._plain.recv(_RECEIVE_BYTES).endswith(b"\n")
            return self._is_greeted
        if not self._secured.feed():
            raise BrokenTrafficError(f"{self.name} was closed before TLS had begun")
        self._is_secured = self._secured.handshake()
        return self._is_secured


def name_all(
    door: Door,
    dialect: Dialect,
    names: Sequence[str],
    at_once: int = 32,
    *,
    within_s: float = _NAMING_S,
) -> list[Connection]:
    """
    Connect and be named, several at a time.

    :param names: one for each connection; they may repeat where a relay allows it.
    :param at_once: how many are on their way; few listen for more than fifty.
    :param within_s: fail if it takes longer.
    :returns: the connections, in the order of the names.
    """
    poller = select.epoll()
    named: dict[int, Connection] = {}
    waiting = deque(enumerate(names))
    underway: dict[int, _Naming] = {}
    ends_s = time.monotonic() + within_s
    try:
        while len(named) < len(names):
            while waiting and len(underway) < at_once:
                index, name = waiting.popleft()
                naming = _begin(door, dialect, name, index)
                number = naming.connection.fileno()
                underway[number] = naming
                poller.register(number, select.EPOLLOUT)
            for number, event in poller.poll(1.0, _EVENTS):
                naming = underway[number]
                if event & select.EPOLLIN:
                    if not naming.receive():
                        continue
                    if naming.is_named:
                        poller.unregister(number)
                        named[naming.number] = underway.pop(number).connection
                        continue
                naming.send()
                poller.modify(number, select.EPOLLIN)
            if time.monotonic() > ends_s:
                raise BrokenTrafficError(f"{len(named)} of {len(names)} named in {within_s:.0f} s")
    except OSError as error:
        raise BrokenTrafficError(f"connecting: {error}") from None
    finally:
        poller.close()
    return [named[index] for index in range(len(names))]


def _begin(door: Door, dialect: Dialect, name: str, number: int) -> _Naming:
    if door.context is None:
        return _Naming(door, dialect, name, number)
    return _SecuredNaming(door, dialect, name, number, door.context)


def in_clear(end: Connection) -> socket.socket:
    """
    A connection without TLS.

    :raises BrokenTrafficError: it has it.
    """
    if isinstance(end, Secured):
        raise BrokenTrafficError("this is not measured over TLS")
    return end


def close_all(connections: Iterable[Connection]) -> None:
    """Close at once, so that no port is kept waiting for stray packets."""
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        connection.close()
