"""A relay that is a plain `twisted.protocols.basic.LineReceiver`."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import protocol, reactor
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

BACKLOG = 4096


class Client(LineReceiver):
    """One client."""

    delimiter = b"\n"
    clients: dict[bytes, Client] = {}  # shared by all, as a relay's names are
    name: bytes | None = None

    def connectionMade(self) -> None:
        """Do not wait for more to send."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        """Take a name, then pass messages on."""
        if self.name is None:
            self.name = line
            self.clients[line] = self
            self.sendLine(b"!welcome " + line)
            return
        _, target, text = line.split(b"%", 2)
        recipient = self.clients.get(target)
        if recipient is not None:
            recipient.sendLine(b"%" + self.name + b"%" + text)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: ARG002
        """Forget the name."""
        if self.name is not None:
            self.clients.pop(self.name, None)


def main() -> None:
    """Listen on the port given."""
    running: Any = reactor
    factory = protocol.Factory.forProtocol(Client)
    running.listenTCP(int(sys.argv[1]), factory, backlog=BACKLOG, interface="127.0.0.1")
    running.run()


if __name__ == "__main__":
    main()
