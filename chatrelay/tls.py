"""
What the relay's TLS ports use: a certificate that may be renewed while they are open.

The files are looked at when somebody connects, once a second at most.  What has changed is used
for connections that come from then on; those that are there keep what they began with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
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
from zope.interface import implementer

from chatrelay.certificate.pair import Pair, read_pair
from chatrelay.errors import Misuse
from chatrelay.tls_transport import TlsTransport

LOOK_INTERVAL_S = 1.0
COMPLAINT_INTERVAL_S = 60.0
DAY_S = 86_400.0
WARNING_DAYS = 14

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
        if pair.is_as(self._pair) and not was_refused:
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
