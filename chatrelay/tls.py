"""
What the relay's TLS ports use: a certificate that may be renewed while they are open.

The files are looked at when somebody connects, once a second at most.  What has changed is used
for connections that come from then on; those that are there keep what they began with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.certificate.pair import Pair, read_pair
from chatrelay.errors import Misuse

LOOK_INTERVAL_S = 1.0
COMPLAINT_INTERVAL_S = 60.0
DAY_S = 86_400.0
WARNING_DAYS = 14

# What is read at once of the records that TLS has made: all of a piece of `chatrelay.outbox`.
_PIECE_BYTES = 160 * 1024

_log = Logger(namespace="chatrelay")

_Signature = tuple[tuple[int, ...] | None, ...]


@implementer(IOpenSSLServerConnectionCreator)
class RenewableCertificate:
    """
    Makes the TLS connections of ports, with the certificate that two files hold at the time.

    TLS 1.2 and later, without compression and renegotiation; ciphers are Twisted's choice.  A
    pair of files that can not be used, half renewed perhaps, leaves the one before in use.
    """

    def __init__(
        self,
        certificate_file: Path,
        key_file: Path,
        clock: IReactorTime,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Read the files.

        :param certificate_file: PEM; the relay's certificate, then its chain.
        :param key_file: PEM, not encrypted.
        :param clock: the reactor.
        :param wall_clock: seconds since the epoch.
        :raises Misuse: they can not be used; a sentence that says why.
        """
        self._files = certificate_file, key_file
        self._clock = clock
        self._wall_clock = wall_clock
        # Before they are read: what changes while they are is looked at again.
        self._seen = self._signature()
        self._pair = read_pair(certificate_file, key_file)
        self._options = _options(self._pair, certificate_file)
        self._looked_s = clock.seconds()
        self._refused: _Signature | None = None
        self._complained_s = 0.0
        self._open_ports = 0
        self._daily = LoopingCall(self._check_daily)
        self._daily.clock = clock

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the connection of a client that has come."""
        now_s = self._clock.seconds()
        if now_s - self._looked_s >= LOOK_INTERVAL_S:
            self._look(now_s)
        return self._options.serverConnectionForTLS(protocol)

    def port_opened(self) -> None:
        """One more port uses it: with the first one, say what it is, and warn once a day."""
        self._open_ports += 1
        if self._open_ports == 1:
            self._announce("TLS uses the certificate in {file}, for {names}, valid until {until}")
            self._daily.start(DAY_S, now=False)

    def port_closed(self) -> None:
        """One port less uses it."""
        self._open_ports -= 1
        if not self._open_ports:
            self._daily.stop()

    def _check_daily(self) -> None:
        self._look(self._clock.seconds())
        self._warn()

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        signature = self._signature()
        if signature == self._seen and self._refused is None:
            return
        try:
            pair = read_pair(*self._files)
            options = _options(pair, self._files[0])
        except Misuse as error:
            self._complain(error, signature, now_s)
            return
        self._seen = signature
        was_refused, self._refused = self._refused is not None, None
        if pair.certificate == self._pair.certificate and not was_refused:
            return
        self._pair, self._options = pair, options
        self._announce(
            "TLS uses the certificate in {file} as it is now, for {names}, valid until {until}"
        )

    def _complain(self, error: Misuse, signature: _Signature, now_s: float) -> None:
        is_known = signature == self._refused
        self._refused = signature
        if is_known and now_s - self._complained_s < COMPLAINT_INTERVAL_S:
            return
        self._complained_s = now_s
        _log.error(
            "the certificate has changed and can not be used, TLS goes on with the one for"
            " {names}, valid until {until}: {error}",
            names=self._pair.names(),
            until=_date(self._pair),
            error=str(error),
        )

    def _announce(self, sentence: str) -> None:
        pair = self._pair
        _log.info(sentence, file=self._files[0], names=pair.names(), until=_date(pair))
        if pair.is_key_open:
            _log.warn(
                "every user of this machine can read the key in {file}: chmod o= {file}",
                file=self._files[1],
            )
        self._warn()

    def _warn(self) -> None:
        now_s = self._wall_clock()
        left_days = (self._pair.ends.timestamp() - now_s) / DAY_S
        if left_days <= 0:
            sentence = "the certificate in {file} has expired, clients refuse it: renew it"
        elif self._pair.begins.timestamp() > now_s:
            sentence = "the certificate in {file} is not valid yet, clients refuse it"
        elif left_days < WARNING_DAYS:
            sentence = "the certificate in {file} expires in {days} days: renew it"
        else:
            return
        _log.warn(sentence, file=self._files[0], days=int(left_days))

    def _signature(self) -> _Signature:
        return tuple(map(_file_signature, self._files))


class TlsTransport(TLSMemoryBIOProtocol):
    """
    Twisted's TLS, and no work for each record of it that can be done for each read or write.

    What it overrides of Twisted's inner workings costs time if Twisted drops it, and nothing else.
    """

    _is_writing = False

    def dataReceived(self, data: bytes) -> None:
        """Hand over at once what was in one read; a client may make a record of each line."""
        received: list[bytes] = []
        collector: Any = _Collector(received)
        protocol, self.wrappedProtocol = self.wrappedProtocol, collector
        try:
            super().dataReceived(data)
        finally:
            self.wrappedProtocol = protocol
        if received:
            protocol.dataReceived(received[0] if len(received) == 1 else b"".join(received))

    def write(self, data: bytes) -> None:
        """Send one record or several, in one piece."""
        self._is_writing = True
        try:
            super().write(data)
        finally:
            self._is_writing = False
        self._flushSendBIO()

    def _write(self, data: bytes) -> None:
        # Twisted cuts it into records itself, with a copy and some calls for each.  As long as
        # TLS is not agreed upon, it keeps what can not be sent yet.
        if not self._handshakeDone or self._appSendBuffer or self._lostTLSConnection:
            super()._write(data)
            return
        try:
            self._tlsConnection.sendall(data)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            self._flushSendBIO()

    def loseConnection(self) -> None:
        """End TLS when everything is written; to see that the peer has done so it is read."""
        super().loseConnection()
        transport: Any = self.transport
        transport.resumeProducing()

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


class _Collector:
    """Stands where TLS hands over what it has decrypted."""

    def __init__(self, received: list[bytes]) -> None:
        self.dataReceived = received.append


class TlsFactory(TLSMemoryBIOFactory):
    """A factory whose protocols speak TLS, and that begins and ends with its port."""

    protocol = TlsTransport

    def __init__(
        self, certificate: RenewableCertificate, wrapped: IProtocolFactory, clock: IReactorTime
    ) -> None:
        super().__init__(certificate, False, wrapped, clock)
        self._certificate = certificate

    def startFactory(self) -> None:
        """The port listens."""
        self._certificate.port_opened()

    def stopFactory(self) -> None:
        """The port is closed."""
        self._certificate.port_closed()

    def buildProtocol(  # type: ignore[override]  # `None` closes, as everywhere
        self, addr: IAddress | None
    ) -> TLSMemoryBIOProtocol | None:
        """Make the protocol of one connection; ``None`` if what is wrapped wants none."""
        wrapped: Any = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)


@implementer(IStreamServerEndpoint)
class TlsEndpoint:
    """Listens as another endpoint does, and speaks TLS there."""

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        certificate: RenewableCertificate,
        clock: IReactorTime,
    ) -> None:
        self._endpoint = endpoint
        self._certificate = certificate
        self._clock = clock

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; fires with the port, or fails as the other endpoint does."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(
            TlsFactory(self._certificate, factory, self._clock)
        )
        return listening


def is_tls(port: IListeningPort) -> bool:
    """Whether a port speaks TLS."""
    return isinstance(getattr(port, "factory", None), TLSMemoryBIOFactory)


def _has_unsent(transport: FileDescriptor) -> bool:
    # Anything but a connection that is there and has nothing to send waits its turn.
    return bool(
        not transport.connected
        or transport.disconnecting
        or transport.dataBuffer
        or getattr(transport, "_tempDataBuffer", True)
    )


def _options(pair: Pair, file: Path) -> CertificateOptions:
    # Twisted's defaults are TLS 1.2 at least, and neither compression nor tickets.
    key: Any = pair.key
    certificate: Any = pair.certificate
    chain: Any = list(pair.chain)
    options = CertificateOptions(privateKey=key, certificate=certificate, extraCertChain=chain)
    try:
        options.getContext().set_options(SSL.OP_NO_RENEGOTIATION)
    except (SSL.Error, ValueError, TypeError) as error:
        reasons = error.args[0] if error.args else ""
        reason = reasons[-1][-1] if isinstance(reasons, list) and reasons else str(error)
        raise Misuse(f"OpenSSL refuses the certificate in {file} or its key: {reason}") from None
    return options


def _file_signature(file: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    # The time of the last change of the inode, too: a mode that is put right is a change.
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _date(pair: Pair) -> str:
    return f"{pair.ends:%Y-%m-%d}"
