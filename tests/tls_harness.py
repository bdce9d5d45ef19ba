"""
Clients that speak TLS: in the world of tests/relay_harness.py, and the files of a relay's
certificate for those that need some.
"""

from __future__ import annotations

import datetime
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress
from twisted.internet.ssl import CertificateOptions

from chatrelay.certificate.authority import Authority, Issued, issue, make_authority
from chatrelay.certificate.names import subject_names
from chatrelay.tls import RenewableCertificate, TlsFactory
from tests.relay_harness import READ_BYTES, Client, MemoryTransport, World

RECORD_BYTES = 16 * 1024


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@cache
def authority() -> Authority:
    """One for all tests: its certificate is what their clients trust."""
    return make_authority("test", now())


def issued(*names: str, days: int = 30) -> Issued:
    """A certificate of that authority; for localhost and its addresses if nothing is said."""
    names = names or ("localhost", "127.0.0.1", "::1")
    return issue(authority(), subject_names(names), now(), days)


def key_pem(key: Any) -> bytes:
    """A private key, as a file's contents."""
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def issued_for(key: Any) -> bytes:
    """A certificate of one's own for a key of any kind, as a file's contents."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now())
        .not_valid_after(now() + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


class Files:
    """
    The certificate files of a relay, in a directory.

    :ivar authority: what its clients trust.
    """

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"
        self.authority = directory / "ca.pem"
        self.authority.write_bytes(authority().certificate_pem)
        self.renew()

    def renew(self, *names: str, days: int = 30) -> Issued:
        """Replace both, one after the other."""
        certificate = issued(*names, days=days)
        self.put(self.key, certificate.key_pem)
        self.put(self.certificate, certificate.chain_pem)
        return certificate

    def put(self, file: Path, contents: bytes) -> None:
        aside = file.with_suffix(".new")
        aside.write_bytes(contents)
        aside.chmod(0o600)
        aside.rename(file)


def handshake(
    certificate: RenewableCertificate, context: SSL.Context | None = None
) -> tuple[SSL.Connection, SSL.Connection]:
    """Connect a client to a relay's TLS, without anything between; the client and the relay."""
    server = certificate.serverConnectionForTLS(mock.Mock())
    server.set_accept_state()
    client = SSL.Connection(context or _client_context(), None)
    client.set_connect_state()
    for _ in range(3):
        for this, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                this.do_handshake()
            pass_on(this, other)
    return client, server


def pass_on(this: SSL.Connection, other: SSL.Connection) -> None:
    """Let one end read what the other has written."""
    with suppress(SSL.WantReadError):
        other.bio_write(this.bio_read(2 * RECORD_BYTES))


class TlsTransport(MemoryTransport):
    """The TCP connection under TLS: what is written to it has a producer that pushes."""

    _has_paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self._unsent) > READ_BYTES:
            self._has_paused = True
            self.producer.pauseProducing()

    def do_write(self) -> bool:
        moved = super().do_write()
        if self._has_paused and not self._unsent and self.producer is not None:
            self._has_paused = False
            self.producer.resumeProducing()
        return moved


class TlsClient(Client):
    """The far end of one TLS connection, which ends as TLS ends."""

    def __init__(self, world: TlsWorld, address: IAddress) -> None:
        self.world = world
        self.transport = TlsTransport(world.clock, address)
        wrapper = world.tls_factory.buildProtocol(address)
        self.protocol: Any = wrapper and wrapper.wrappedProtocol
        self.has_said_goodbye = False
        self.seen = 0
        self._tls = SSL.Connection(_client_context(), None)
        self._tls.set_connect_state()
        self._is_connected = False
        self._fed = 0
        self._plain = bytearray()
        self._unsent_plain = b""
        if wrapper is None:
            self.transport.connected = False  # as Twisted closes the socket
            return
        self.transport.protocol = wrapper
        wrapper.makeConnection(self.transport)

    def react(self) -> bool:
        """Do what a TLS client does with what has come; whether that was anything."""
        size = len(self.transport.taken) - self._fed
        if self._is_connected and not size:
            return False
        for _ in range(0, size, RECORD_BYTES):
            new = bytes(self.transport.taken[self._fed : self._fed + RECORD_BYTES])
            self._tls.bio_write(new)
            self._fed += len(new)
        try:
            if not self._is_connected:
                self._tls.do_handshake()
                self._is_connected = True
                self.write(self._unsent_plain)
            while True:
                self._plain += self._tls.recv(RECORD_BYTES)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.say_goodbye()
        return self._flush() or size > 0

    def write(self, data: bytes) -> None:
        if self.has_said_goodbye:
            return
        if not self._is_connected:
            self._unsent_plain += data
            return
        for start in range(0, len(data), RECORD_BYTES):
            self._tls.send(data[start : start + RECORD_BYTES])
        self._flush()

    def say_goodbye(self) -> None:
        """End TLS, and the connection under it."""
        if not self.has_said_goodbye:
            self.has_said_goodbye = True
            self._tls.shutdown()
            self._flush()
            self.transport.incoming.append(b"")

    def end(self) -> None:
        self.say_goodbye()
        self.world.settle()

    def raw(self) -> bytes:
        self.react()
        plain, self._plain = self._plain, bytearray()
        return bytes(plain)

    def _flush(self) -> bool:
        sent = b""
        while True:
            try:
                sent += self._tls.bio_read(RECORD_BYTES)
            except SSL.WantReadError:
                break
        if sent:
            self.transport.incoming.append(sent)
        return bool(sent)


class TlsWorld(World):
    """A relay whose clients speak TLS."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        options: Any = _server_options()
        self.tls_factory = TlsFactory(options, self.factory, self.clock)

    def _new_client(self, address: IAddress) -> Client:
        return TlsClient(self, address)

    def turn(self) -> bool:
        moved = super().turn()
        for client in list(self.clients):
            assert isinstance(client, TlsClient)
            moved = client.react() or moved
        return moved


@cache
def _server_options() -> CertificateOptions:
    certificate = issued()
    key: Any = serialization.load_pem_private_key(certificate.key_pem, None)
    return CertificateOptions(privateKey=key, certificate=certificate.certificate)


@cache
def _client_context() -> SSL.Context:
    # Who is who is another matter: tests/test_tls.py.
    return SSL.Context(SSL.TLS_METHOD)
