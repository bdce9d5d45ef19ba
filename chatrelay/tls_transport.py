"""TLS on one connection of a relay: Twisted's, with bounded turns and an end of input."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.pace import Pacer
from chatrelay.sockets import MAX_READ_BYTES, PACED_READ_BYTES

# What is read at once of the records that TLS has made: all of a piece of `chatrelay.outbox`.
_PIECE_BYTES = 160 * 1024
# More than TLS puts into one.
_RECORD_BYTES = 32 * 1024
# 64 records take a quarter of a millisecond; a read of 64 KiB may have 2,800 of one byte each.
_RECORDS_IN_ONE_READ = 64
_FIRST_READ_BYTES = 16 * 1024
_LEAST_READ_BYTES = 1024


@implementer(IHalfCloseableProtocol)
class TlsTransport(TLSMemoryBIOProtocol):
    """
    Twisted's TLS, with two things of our own.

    No work is done for each record that can be done for each read or write.  And the end of what
    a client sends, by TLS or by TCP, is an end of input, as it is without TLS: what it had sent
    is served first, also where that has to wait, and only then is the connection closed.

    It overrides inner workings of Twisted's; tests/test_tls.py says what they have to do.
    """

    _is_writing = False
    _has_input_ended = False
    _records = _plain_bytes = 0

    def makeConnection(self, transport: ITransport) -> None:
        """Begin with the handshake."""
        if isinstance(transport, FileDescriptor):
            transport.bufferSize = _FIRST_READ_BYTES
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Take apart one read, and choose what the next may bring."""
        self._records = self._plain_bytes = 0
        super().dataReceived(data)
        # It takes the processor, too: a record of one byte as much as one of a thousand.
        pacer: Pacer | None = getattr(self.wrappedProtocol, "pacer", None)
        if pacer is not None:
            pacer.received(max(0, len(data) - self._plain_bytes))
        self.choose_read_size(len(data))

    def choose_read_size(self, received_bytes: int) -> None:
        """Choose what the next read may bring, by what the last one had in it."""
        if not self._records or not isinstance(self.transport, FileDescriptor):
            return
        # A record takes much the same time whatever is in it: so many are a share of a turn.
        most = received_bytes * _RECORDS_IN_ONE_READ // self._records
        is_paced = getattr(self.wrappedProtocol, "pacer", None) is not None
        most = min(most, PACED_READ_BYTES if is_paced else MAX_READ_BYTES)
        size = max(most, _LEAST_READ_BYTES)
        if received_bytes >= self.transport.bufferSize or size < self.transport.bufferSize:
            self.transport.bufferSize = size

    def write(self, data: bytes) -> None:
        """Send one record or several, in one piece."""
        self._is_writing = True
        try:
            super().write(data)
        finally:
            self._is_writing = False
        self._flushSendBIO()

    def readConnectionLost(self) -> None:
        """TCP says that nothing more comes."""
        if self._has_input_ended or self.disconnecting or not self._handshakeDone:
            transport: Any = self.transport
            transport.loseConnection()
        else:
            self._end_input()

    def writeConnectionLost(self) -> None:
        """Nothing more is sent: TCP is never closed for one direction here."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone; what TLS still holds of it is handed over."""
        self._has_input_ended = True
        super().connectionLost(reason)

    def _end_input(self) -> None:
        self._has_input_ended = True
        protocol: Any = self.wrappedProtocol
        if self.disconnecting or not IHalfCloseableProtocol.providedBy(protocol):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
            return
        # That TCP ends, too, would be the end of everything.
        transport: Any = self.transport
        transport.pauseProducing()
        protocol.readConnectionLost()

    def _flushReceiveBIO(self) -> None:
        received: list[bytes] = []
        has_ended = False
        while not self._lostTLSConnection and not has_ended:
            try:
                received.append(self._tlsConnection.recv(_RECORD_BYTES))
                self._records += 1
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                has_ended = True
            except SSL.Error:
                self._tlsShutdownFinished(Failure())
        self._flushSendBIO()
        # A client may make a record of each line: they are handed over at once.
        if received and not self._aborted:
            protocol: Any = self.wrappedProtocol
            plain = received[0] if len(received) == 1 else b"".join(received)
            self._plain_bytes = len(plain)
            protocol.dataReceived(plain)
        if has_ended and not self._has_input_ended:
            self._end_input()

    def _write(self, data: bytes) -> None:
        # Twisted cuts it into records itself, with a copy and some calls for each.  As long as
        # TLS is not agreed upon, it keeps what can not be sent yet.
        if not self._handshakeDone or self._appSendBuffer or self._lostTLSConnection:
            super()._write(data)
            return
        try:
            self._tlsConnection.sendall(data)
        except SSL.WantReadError:
            # The peer is changing its key; nothing of it was sent.
            self._bufferedWrite(data)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        if self._is_writing or self._tlsConnection is None:
            return
        pieces = []
        size = _PIECE_BYTES
        with suppress(SSL.WantReadError):
            while size == _PIECE_BYTES:
                pieces.append(self._tlsConnection.bio_read(_PIECE_BYTES))
                size = len(pieces[-1])
        if pieces:
            self._send(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _send(self, data: bytes) -> None:
        # What a socket takes at once needs no event to wait for, as in `chatrelay.outbox`.
        transport: Any = self.transport
        if isinstance(transport, FileDescriptor) and not _has_unsent(transport):
            sent = transport.writeSomeData(data)
            if isinstance(sent, int) and sent > 0:
                data = data[sent:]
        if data:
            transport.write(data)


def _has_unsent(transport: FileDescriptor) -> bool:
    # Anything but a connection that is there and has nothing to send waits its turn.
    return bool(
        not transport.connected
        or transport.disconnecting
        or transport.dataBuffer
        or getattr(transport, "_tempDataBuffer", True)
    )
