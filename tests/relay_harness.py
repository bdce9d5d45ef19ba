"""
A relay and its clients in one process: connections that behave as TCP's do, and time that
passes only when a test says so.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from chatrelay.claims import FREE, Claim, Decided, FreeNames, Grant
from chatrelay.errors import Refusal
from chatrelay.factory import RelayFactory
from chatrelay.limits import Limits
from chatrelay.names import parse_name
from chatrelay.protocol import RelayProtocol
from chatrelay.relay import Relay

EPOCH_S = 1_790_000_000
READ_BYTES = 64 * 1024
WRITE_BYTES = 128 * 1024
_MOST_TURNS = 200_000
# Fields of the logs' classes that hold something only while somebody waits for it.
_OF_CONNECTIONS = {
    *("_changed", "_commits", "_then", "_gates", "_loading", "_to_write_again"),
    *("_uncommitted", "_taken", "_sent", "_acks", "_receipts"),
    *("readers", "_leaving", "_in_flight"),
}
# Sentences are for people: tests, like programs, do without them.
_SENTENCE = re.compile(rb"\A((?:@[^ ]+ )?![^:]*) :.*\Z")


class MemoryTransport:
    """
    One connection, seen from the relay as `twisted.internet.tcp` shows it.

    A producer is asked when everything was sent; a close waits for that, an abort does not.

    :ivar taken: what the peer received.
    :ivar room: what the peer will still take; ``None`` for everything.
    :ivar reading: whether the relay reads.
    :ivar pauses: how often it was told not to.
    :ivar ended: whether the peer was told that nothing more comes.
    :ivar aborted: whether the relay aborted.
    :ivar connected: whether the connection is still there for the relay.
    """

    def __init__(self, clock: Clock, address: IAddress) -> None:
        self.clock = clock
        self.address = address
        self.protocol: Any = None
        self.incoming: deque[bytes] = deque()
        self.taken = bytearray()
        self.room: int | None = None
        self.reading = True
        self.pauses = 0
        self.producer: Any = None
        self.is_pull_producer = False
        self.connected = True
        self.aborted = False
        self.ended = False
        self.closes_after_relay = True
        self._unsent = bytearray()
        self._writing = False
        self._closing = False
        self._half_closing = False

    # What the relay calls.

    def getPeer(self) -> IAddress:
        return self.address

    def getHost(self) -> IAddress:
        return IPv4Address("TCP", "127.0.0.1", 12_345)

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(data)
        if self.connected and not self.ended and data:
            self._unsent += data
            self._writing = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        self.producer, self.is_pull_producer = producer, not streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        if self.connected and self._closing:
            self._writing = True

    def pauseProducing(self) -> None:
        self.reading = False
        self.pauses += 1

    def resumeProducing(self) -> None:
        if self.connected and not self._closing:
            self.reading = True

    def loseConnection(self) -> None:
        if self.connected and not self._closing:
            if self.ended:
                self.lose(ConnectionDone())
            else:
                self.reading = False
                self._closing = self._writing = True

    def loseWriteConnection(self) -> None:
        self._half_closing = self._writing = True

    def abortConnection(self) -> None:
        if self.connected and not self.aborted:
            self.aborted = True
            self.reading = self._writing = False
            self.clock.callLater(0, self.lose, ConnectionAborted())

    # What the reactor and the peer do.

    def do_read(self) -> bool:
        """Read once, if the relay reads; an empty piece is the end of input."""
        if not (self.connected and self.reading and self.incoming):
            return False
        data = self.incoming.popleft()
        if len(data) > READ_BYTES:
            self.incoming.appendleft(data[READ_BYTES:])
            data = data[:READ_BYTES]
        if data:
            self.protocol.dataReceived(data)
            return True
        self.reading = False
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.lose(ConnectionDone())
        return True

    def do_write(self) -> bool:
        """Send once, if there is anything to send and the peer takes it."""
        if not (self.connected and self._writing):
            return False
        size = min(len(self._unsent), WRITE_BYTES)
        if self.room is not None:
            size = min(size, self.room)
            self.room -= size
        self.taken += self._unsent[:size]
        del self._unsent[:size]
        if self._unsent:
            return size > 0
        self._writing = False
        if self.producer is not None and self.is_pull_producer:
            self.producer.resumeProducing()
        elif self._closing:
            self.ended = True
            self.lose(ConnectionDone())
        elif self._half_closing and not self.ended:
            self.ended = True
            self.protocol.writeConnectionLost()
            if self.closes_after_relay:
                self.incoming.append(b"")
        return True

    def lose(self, error: Exception) -> None:
        """The connection is gone, for the relay too."""
        if self.connected:
            self.connected = self.reading = False
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(error))


class Client:
    """The far end of one connection."""

    def __init__(self, world: World, address: IAddress) -> None:
        self.world = world
        self.transport = MemoryTransport(world.clock, address)
        self.seen = 0
        protocol: Any = world.factory.buildProtocol(address)
        self.protocol: RelayProtocol = protocol
        if protocol is None:
            self.transport.connected = False  # as Twisted closes the socket
            return
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)
        if protocol.session is not None and world.is_confidential is not None:
            # This transport is no socket, which alone shows that it is of this machine.
            protocol.session.is_confidential = world.is_confidential

    @property
    def session(self) -> Any:
        return self.protocol and self.protocol.session

    @property
    def is_connected(self) -> bool:
        return self.transport.connected

    def write(self, data: bytes) -> None:
        """Send one piece, and let nothing happen yet."""
        if data:
            self.transport.incoming.append(data)

    def send(self, data: bytes) -> None:
        """Send one piece, and let everything happen that follows from it."""
        self.write(data)
        self.world.settle()

    def lines(self, *lines: bytes) -> list[bytes]:
        """Send lines, ended by LF, and return what this client is told then."""
        self.send(b"".join(line + b"\n" for line in lines))
        return self.told()

    def end(self) -> None:
        """Close the sending side."""
        self.transport.incoming.append(b"")
        self.world.settle()

    def reset(self) -> None:
        """Break the connection."""
        self.transport.lose(ConnectionLost())
        self.world.settle()

    def stop_taking(self) -> None:
        """Read nothing more."""
        self.transport.room = 0

    def take(self, size: int | None = None) -> None:
        """Read so much more, or from now on everything."""
        self.transport.room = size
        self.world.settle()

    def raw(self) -> bytes:
        """What came since this was last asked."""
        taken = bytes(self.transport.taken[self.seen :])
        self.seen = len(self.transport.taken)
        return taken

    def told_first(self) -> bytes:
        """The first of the lines that `told` would return; the others are still to be asked for."""
        line, end, _ = bytes(self.transport.taken[self.seen :]).partition(b"\n")
        assert end, line
        self.seen += len(line) + 1
        return without_sentence(line.removesuffix(b"\r"))

    def told(self) -> list[bytes]:
        """The lines that came since this was last asked, without ends and sentences."""
        raw = self.raw()
        assert not raw or raw.endswith(b"\n"), raw
        return [without_sentence(line.removesuffix(b"\r")) for line in raw.split(b"\n")[:-1]]


class World:
    """
    A relay with clients, on a clock that a test moves.

    :ivar is_confidential: what connections are said to be; ``None`` leaves that to the relay.
    :ivar epoch_s: what the wall clock shows when the clock is at nothing.
    """

    is_confidential: bool | None = True

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        reserved: Iterable[bytes] = (),
        operators: Iterable[bytes] = (),
        claims: Any = None,
        allows_insecure_secrets: bool = False,
        is_public: bool = False,
        verbose: bool = False,
        seconds: Callable[[], float] | None = None,
        work_s: float = 0.0,
        epoch_s: float = EPOCH_S,
        clock: Clock | None = None,
    ) -> None:
        """
        Start a relay.

        :param work_s: what it takes to serve one client that has waited for its turn; with
            more than nothing a round takes several turns.
        :param clock: one that goes on from an earlier relay.
        """
        self.clock = clock or Clock()
        self.epoch_s = epoch_s
        self.relay = Relay(
            limits,
            seconds=seconds or self.clock.seconds,
            wall_clock=lambda: self.epoch_s + self.clock.seconds(),
            reserved=[parse_name(name) for name in reserved],
            operators=[parse_name(name) for name in operators],
            claims=claims,
            allows_insecure_secrets=allows_insecure_secrets,
            is_public=is_public,
            verbose=verbose,
        )
        self.factory = RelayFactory(self.clock, self.relay)
        self.factory.doStart()
        if work_s:
            self._take_time(work_s)
        self.clients: list[Client] = []
        self._port = 40_000

    def connect(self, address: IAddress | str = "127.0.0.1") -> Client:
        """Connect a client that has said nothing."""
        if isinstance(address, str):
            self._port += 1
            address = IPv4Address("TCP", address, self._port)
        client = self._new_client(address)
        self.clients.append(client)
        self.settle()
        return client

    def _new_client(self, address: IAddress) -> Client:
        return Client(self, address)

    def join(self, name: bytes, *, caps: bytes = b"", eol: bytes = b"\n") -> Client:
        """Connect a client that has a name, and has read its welcome."""
        client = self.connect()
        if caps:
            client.send(b"/caps " + caps + eol)
        client.send(name + eol)
        assert b"!welcome" in client.raw(), name
        return client

    def _take_time(self, work_s: float) -> None:
        wait = self.factory.turn.wait

        def wait_and_work(serve: Callable[[], None]) -> None:
            def work() -> None:
                serve()
                self.clock.rightNow += work_s

            wait(work)

        self.factory.turn.wait = wait_and_work  # type: ignore[method-assign]

    def turn(self) -> bool:
        """One turn of the reactor; whether anything happened."""
        moved = False
        for client in list(self.clients):
            moved = client.transport.do_read() or moved
        for client in list(self.clients):
            moved = client.transport.do_write() or moved
        return self._run_due() or moved

    def settle(self) -> None:
        """Let turns pass until nothing more happens without time."""
        for _ in range(_MOST_TURNS):
            if not self.turn():
                self.clients = [client for client in self.clients if client.is_connected]
                return
        raise AssertionError("the relay never comes to rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        while seconds > 0:
            self.clock.rightNow += min(1.0, seconds)
            self.settle()
            seconds -= 1.0

    def _run_due(self) -> bool:
        # What is due now, and not what that makes due: `Clock.advance` would run both,
        # and what waits for the next turn would never wait.
        now_s = self.clock.seconds()
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= now_s]
        for call in due:
            if call.active():
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
        return bool(due)


class SlowClaims(FreeNames):
    """Claims that are decided when a test says so."""

    def __init__(self) -> None:
        self.pending: list[tuple[Claim, Decided[Grant]]] = []

    def decide(self, claim: Claim, decided: Decided[Grant]) -> None:
        self.pending.append((claim, decided))

    def decide_next(self, refusal: Refusal | None = None) -> None:
        _, decided = self.pending.pop(0)
        decided(refusal or FREE)


def without_sentence(line: bytes) -> bytes:
    """A line of the relay's own without what is for people; others as they are."""
    match = _SENTENCE.match(line)
    return match[1] if match else line


def what_is_left(world: World) -> dict[str, object]:
    """Everything that a relay keeps for its clients and should not when all have left."""
    relay = world.relay
    world.factory.doStop()
    left = {
        "sessions": relay.sessions,
        "pinging": relay.pinging,
        "unsent": relay.flow.unsent_bytes,
        "connections": world.factory._connections,
        "calls": world.clock.getDelayedCalls(),
    }
    for part in (relay.registry, relay.flow, relay.admission, relay.rooms):
        for field, value in vars(part).items():
            if isinstance(value, dict | set | list):
                left[f"{type(part).__name__}.{field}"] = value
    if relay.mailboxes is not None:
        left |= _what_is_left_of_logs(relay.mailboxes)
    # Names of their own, that are not live.
    left.pop("Registry.logs")
    left.pop("Registry._reserved", None)
    left.pop("Registry._bots", None)
    return {what: value for what, value in left.items() if value}


def _what_is_left_of_logs(mailboxes: Any) -> dict[str, object]:
    """What names of their own keep of connections, or for the disk; not the logs themselves."""
    parts = [mailboxes, mailboxes._writer]
    for mailbox in mailboxes._mailboxes.values():
        parts += [mailbox, mailbox.reading]
    left: dict[str, object] = {}
    for part in parts:
        for field in filter(partial(hasattr, part), _OF_CONNECTIONS):
            left[f"{type(part).__name__}.{field}"] = getattr(part, field)
    return left
