"""
Twisted passing bytes on without looking at them: what no relay on it can exceed.

The first line pairs a sender with its receiver: what ``s003`` sends goes to ``r003``, who is
there before it; ``p000`` and ``q000`` send to each other.  A receiver that does not read holds
its sender, as in `twisted.protocols.portforward`.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import protocol, reactor, ssl
from twisted.python.failure import Failure


class End(protocol.Protocol):
    """One end of a pair."""

    receivers: dict[bytes, End] = {}  # by name
    _recipient: Any = None
    _named = False

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came, except for the first line."""
        if self._recipient is not None:
            self._recipient.write(data)
        elif not self._named:
            self._be_named(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: ARG002
        """Release the other end."""
        if self._recipient is not None:
            self._recipient.unregisterProducer()

    def send_to(self, receiver: End) -> None:
        """Pass on to `receiver` whatever comes."""
        self._recipient = receiver.transport
        self._recipient.registerProducer(self.transport, True)

    def _be_named(self, line: bytes) -> None:
        self._named = True
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        name = line.rstrip()
        role, number = name[:1], name[1:]
        if role in b"rp":
            self.receivers[name] = self
        elif role == b"q":
            first = self.receivers[b"p" + number]
            first.send_to(self)
            self.send_to(first)
        else:
            self.send_to(self.receivers[b"r" + number])
        transport.write(b"!welcome " + name + b"\n")


def main() -> None:
    """Listen on the port given, over TLS with the files of a certificate and a key."""
    running: Any = reactor
    factory = protocol.Factory.forProtocol(End)
    port, *files = sys.argv[1:]
    if files:
        certificate, key = files
        context = ssl.DefaultOpenSSLContextFactory(key, certificate)
        running.listenSSL(int(port), factory, context, interface="127.0.0.1")
    else:
        running.listenTCP(int(port), factory, interface="127.0.0.1")
    running.run()


if __name__ == "__main__":
    main()
