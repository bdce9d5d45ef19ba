"""A relay made of strings: what the client's tests connect to."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

WELCOME = b"!welcome %b version=1 max-line=8192 :Hello."


class RelayTransport(StringTransport):
    """The client's side of a connection, and what the relay does with it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 12345))
        self.protocol = None
        self.aborted = False
        self.half_closed = False
        self.lost = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a TCP transport."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As a TCP transport."""

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.lose(ConnectionLost())

    def loseConnection(self) -> None:
        super().loseConnection()
        self.lose()

    def lines(self) -> list[bytes]:
        """What the client wrote since the last time."""
        written = self.value().split(b"\n")
        self.clear()
        assert written.pop() == b"", "the client wrote half a line"
        return written

    def lines_or_none(self) -> list[bytes]:
        """`lines`, of a client that may have written nothing."""
        return self.lines() if self.value() else []

    def say(self, *lines: bytes) -> None:
        """The relay writes lines, in one read."""
        self.protocol.dataReceived(b"".join(line + b"\n" for line in lines))

    def welcome(self, name: bytes = b"carol") -> list[bytes]:
        """Grant the name; returns what the client had written."""
        written = self.lines()
        self.say(WELCOME % name)
        return written

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


@implementer(IStreamClientEndpoint)
class RelayEndpoint:
    """Attempts to connect that wait for what the test does with them."""

    def __init__(self) -> None:
        self.attempts: list[tuple[IProtocolFactory, Deferred]] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred:  # noqa: N803 - the interface
        attempt = Deferred()
        self.attempts.append((protocolFactory, attempt))
        return attempt

    def accept(self, host: str = "127.0.0.1") -> RelayTransport:
        """Let the oldest attempt succeed, with a relay at `host`."""
        factory, attempt = self.attempts.pop(0)
        transport = RelayTransport(host)
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        attempt.callback(transport.protocol)
        return transport

    def refuse(self, error: Exception) -> None:
        """Let the oldest attempt fail."""
        self.attempts.pop(0)[1].errback(error)
