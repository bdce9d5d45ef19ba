"""The client over TLS: which servers it talks to, and what it says of the others."""

from __future__ import annotations

import os
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.usage import UsageError
from twisted.test.iosim import ConnectionCompleter, IOPump
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import Unreachable, connect, stay_connected, tls_endpoint
from chatrelay.client.connecting import endpoint_for, endpoint_trusting
from chatrelay.client.options import ClientOptions
from chatrelay.client.protocol import ClientProtocol
from chatrelay.client.trust import FOR_USERS, ServerTrust, why_tls_failed
from chatrelay.errors import Misuse
from tests.client_harness import RelayTransport

NOW = datetime.now(UTC)
PLACE = "relay.example port 12346"

Pem = tuple[bytes, bytes]
"""A key; a certificate and those that it rests on."""


def issued(ca: trustme.CA, *hosts: str, **options) -> Pem:
    """A certificate of a CA."""
    certificate = ca.issue_cert(*hosts, **options)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    return certificate.private_key_pem.bytes(), chain


def with_chain(pem: Pem, ca: trustme.CA) -> Pem:
    """The same, with the certificate of its CA."""
    return pem[0], pem[1] + ca.cert_pem.bytes()


def made(
    issuer: trustme.CA | None,
    *extensions: x509.ExtensionType,
    lasts_days: int = 1,
    common_name: str = "odd",
) -> Pem:
    """What trustme does not make; self-signed without an issuer."""
    key = serialization.load_pem_private_key(trustme.CA().private_key_pem.bytes(), None)
    name = signer_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = key
    if issuer is not None:
        signer = serialization.load_pem_private_key(issuer.private_key_pem.bytes(), None)
        signer_name = x509.load_pem_x509_certificate(issuer.cert_pem.bytes()).subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=lasts_days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def server_options(pem: Pem, **options) -> CertificateOptions:
    """The TLS side of a server."""
    key, chain = pem
    own, *others = x509.load_pem_x509_certificates(chain)
    return CertificateOptions(
        privateKey=serialization.load_pem_private_key(key, None),
        certificate=own,
        extraCertChain=others,
        **options,
    )


class Relay(Protocol):
    """The relay's side: it welcomes whoever says something."""

    def __init__(self, received: list[bytes]) -> None:
        self.received = received

    def dataReceived(self, data: bytes) -> None:
        if not self.received:
            self.transport.write(b"!welcome carol version=1 max-line=8192 :Hello.\n")
        self.received.append(data)


class Greeter(Protocol):
    """Something that does not speak TLS, and says so first."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    def connectionMade(self) -> None:
        self.transport.write(self.greeting)

    def dataReceived(self, _data: bytes) -> None:
        """Whatever it is."""


class Hangup(Protocol):
    """What a relay's port without TLS does."""

    def dataReceived(self, _data: bytes) -> None:
        self.transport.loseConnection()


class TlsCase(SynchronousTestCase):
    """A client and a server on one reactor of memory, with real TLS between them."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.received: list[bytes] = []
        self.ca = trustme.CA(organization_name="Ours", organization_unit_name="Our CA")
        self.ca_file = self.write(self.ca.cert_pem.bytes())

    def write(self, data: bytes) -> str:
        descriptor, path = tempfile.mkstemp(suffix=".pem")
        self.addCleanup(os.unlink, path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return path

    def serve(self, pem: Pem, **options) -> None:
        """From now on the server is this one."""
        factory = Factory()
        factory.buildProtocol = lambda _: Relay(self.received)
        self.serve_with(
            TLSMemoryBIOFactory(server_options(pem, **options), False, factory, self.reactor)
        )

    def serve_with(self, factory) -> None:
        self.reactor.tcpServers.clear()
        self.reactor.listenTCP(12346, factory)

    def attempt(
        self, host: str = "relay.example", ca_file: str | None = None
    ) -> tuple[Deferred, IOPump]:
        """Connect to the server, until nothing more happens."""
        endpoint = tls_endpoint(self.reactor, host, 12346, ca_file=ca_file or self.ca_file)
        connecting = connect(self.reactor, endpoint, "carol", caps=())
        return connecting, self.complete()

    def complete(self) -> IOPump:
        # Where it connects to does not matter to the server of the test.
        [(_, port, *rest)] = self.reactor.tcpClients
        self.reactor.tcpClients[:] = [("127.0.0.1", port, *rest)]
        pump = ConnectionCompleter(self.reactor).succeedOnce()
        pump.flush()
        return pump

    def complaint(self, **options) -> str:
        """What is said of the server; it must not have been told anything."""
        connecting, pump = self.attempt(**options)
        self.reactor.advance(1)
        pump.flush()
        self.assertEqual(self.received, [])
        return str(self.failureResultOf(connecting, Unreachable).value)

    def assert_welcomed(self, **options) -> None:
        connecting, _ = self.attempt(**options)
        self.assertEqual(self.successResultOf(connecting).name, "carol")
        self.assertEqual(self.received, [b"carol\n"])
        self.received.clear()


class Case(NamedTuple):
    """A server that is not talked to, and what is said of it."""

    what: str
    pem: Pem
    says: str


class ServerTests(TlsCase):
    """`tls_endpoint`: each kind of server."""

    def test_good(self) -> None:
        """A server whose certificate is for what was asked for, whatever it is asked for as."""
        for host, named in [
            ("relay.example", "relay.example"),
            ("RELAY.example.", "relay.example"),
            ("relay.example", "*.example.org relay.example 10.0.0.1"),
            ("a.relay.example", "*.relay.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("fe80::1%lo", "fe80::1"),
            ("localhost", "localhost"),
        ]:
            self.serve(issued(self.ca, *named.split()))
            self.assert_welcomed(host=host)

    def test_intermediate_ca(self) -> None:
        """A certificate may rest on another one, which the server sends."""
        self.serve(issued(self.ca.create_child_ca(), "relay.example"))
        self.assert_welcomed()

    def test_several_cas(self) -> None:
        """All certificates in the file are trusted, and it may hold other text."""
        other = trustme.CA()
        text = b"# Ours\n" + other.cert_pem.bytes() + b"\nand\n" + self.ca.cert_pem.bytes()
        for ca in (self.ca, other):
            self.serve(issued(ca, "relay.example"))
            self.assert_welcomed(ca_file=self.write(text))

    def test_self_signed_and_trusted(self) -> None:
        """A certificate that is nobody else's is its own CA."""
        pem = made(None, x509.SubjectAlternativeName([x509.DNSName("relay.example")]))
        self.serve(pem)
        self.assert_welcomed(ca_file=self.write(pem[1]))

    def test_others(self) -> None:
        """Each is told in one sentence, and reads not a byte of what it was not to read."""
        long_ago, soon = NOW - timedelta(days=900), NOW + timedelta(days=3)
        relay_example = x509.SubjectAlternativeName([x509.DNSName("relay.example")])
        ca_file = f'"{self.ca_file}"'
        other = trustme.CA(organization_name="Theirs", organization_unit_name="Their\u202eCA")
        for case in [
            Case(
                "expired",
                issued(
                    self.ca, "relay.example", not_before=long_ago, not_after=datetime(2025, 11, 1)
                ),
                f"The certificate of {PLACE} expired on 2025-11-01 at 00:00 UTC: it has to be "
                "renewed, or this clock is wrong.",
            ),
            Case(
                "not yet valid",
                issued(
                    self.ca,
                    "relay.example",
                    not_before=soon,
                    not_after=soon + timedelta(days=1),
                ),
                f"The certificate of {PLACE} is valid only from {soon:%Y-%m-%d at %H:%M} UTC: "
                "is the clock of this machine right?",
            ),
            Case(
                "self-signed",
                made(None, relay_example),
                f"The certificate of {PLACE} is self-signed, and not trusted: get it from who "
                "runs the relay, and give it with ca_file.",
            ),
            Case(
                "another CA",
                issued(other, "relay.example"),
                f'The certificate of {PLACE} is signed by "Their\\u202eCA", which is not in '
                f"{ca_file}: give the certificate of its CA with ca_file.",
            ),
            Case(
                "a CA of the same name",
                issued(
                    trustme.CA(organization_name="Ours", organization_unit_name="Our CA"),
                    "relay.example",
                ),
                f'The certificate of {PLACE} is signed by "Our CA", which is not in {ca_file}: '
                "give the certificate of its CA with ca_file.",
            ),
            Case(
                "another CA, whose certificate it sends",
                with_chain(issued(other, "relay.example"), other),
                f'The certificate of {PLACE} is signed by "Their\\u202eCA", which is not in '
                f"{ca_file}: give the certificate of its CA with ca_file.",
            ),
            Case(
                "another host",
                issued(self.ca, "other.example"),
                f"The certificate of {PLACE} is for other.example, not for relay.example: "
                "this may be another server, or its certificate is to be made for that, too.",
            ),
            Case(
                "many other hosts",
                issued(self.ca, *(f"host{number}.example" for number in range(9)), "10.0.0.1"),
                f"The certificate of {PLACE} is for host0.example, host1.example, host2.example "
                "and 7 more, not for relay.example: this may be another server, or its "
                "certificate is to be made for that, too.",
            ),
            Case(
                "a host with a name that drives a terminal",
                made(self.ca, x509.SubjectAlternativeName([x509.DNSName("\x1b[2J")])),
                f"The certificate of {PLACE} is for \\x1b[2J, not for relay.example: this may be "
                "another server, or its certificate is to be made for that, too.",
            ),
            Case(
                "an address",
                issued(self.ca, "127.0.0.1"),
                f"The certificate of {PLACE} is for 127.0.0.1, not for relay.example: this may be "
                "another server, or its certificate is to be made for that, too.",
            ),
            Case(
                "its wildcard is not for that",
                issued(self.ca, "*.relay.example"),
                f"The certificate of {PLACE} is for *.relay.example, not for relay.example: this "
                "may be another server, or its certificate is to be made for that, too.",
            ),
            Case(
                "only mail",
                made(self.ca, x509.SubjectAlternativeName([x509.RFC822Name("a@relay.example")])),
                f"The certificate of {PLACE} names no host that can be checked: a subjectAltName "
                "has to be relay.example.",
            ),
            Case(
                "no host; Twisted's own check logs that, and goes on",
                made(self.ca, common_name="relay.example"),
                f"The certificate of {PLACE} names no host that can be checked: a subjectAltName "
                "has to be relay.example.",
            ),
            Case(
                "a wildcard for everything",
                made(self.ca, x509.SubjectAlternativeName([x509.DNSName("*")])),
                f"The certificate of {PLACE} names no host that can be checked: a subjectAltName "
                "has to be relay.example.",
            ),
            Case(
                "names that are no certificate's",
                made(
                    self.ca,
                    x509.UnrecognizedExtension(
                        x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x01\xff"
                    ),
                ),
                f"The certificate of {PLACE} can not be read.",
            ),
            Case(
                "not for servers",
                made(
                    self.ca,
                    relay_example,
                    x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]),
                ),
                f"The certificate of {PLACE} is not accepted: OpenSSL's verification error 26 at "
                "depth 0.",
            ),
        ]:
            self.serve(case.pem)
            self.assertEqual(self.complaint(), case.says, case.what)

    def test_expired_ca(self) -> None:
        """The CA's dates count, too."""
        identifier = x509.SubjectKeyIdentifier(b"an expired CA")
        is_ca = x509.BasicConstraints(ca=True, path_length=None)
        key, pem = made(None, is_ca, identifier, lasts_days=-1)
        ca = trustme.CA.from_pem(pem, key)
        self.serve(issued(ca, "relay.example"))
        complaint = self.complaint(ca_file=self.write(pem))
        self.assertTrue(
            complaint.startswith(f'The CA certificate "odd" behind that of {PLACE} expired on '),
            complaint,
        )

    def test_not_in_the_system(self) -> None:
        """Without a file it is the system's CAs that are trusted."""
        self.serve(issued(self.ca, "relay.example"))
        endpoint = tls_endpoint(self.reactor, "relay.example", 12346)
        connecting = connect(self.reactor, endpoint, "carol")
        self.complete()
        self.assertEqual(
            str(self.failureResultOf(connecting, Unreachable).value),
            f'The certificate of {PLACE} is signed by "Our CA", which is not trusted: give the '
            "certificate of its CA with ca_file.",
        )

    def test_wrong_address(self) -> None:
        """An address is looked for among the addresses only."""
        self.serve(issued(self.ca, "127.0.0.1"))
        self.assertIn("is for 127.0.0.1, not for 127.0.0.2:", self.complaint(host="127.0.0.2"))
        self.serve(made(self.ca, x509.SubjectAlternativeName([x509.DNSName("127.0.0.1")])))
        self.assertIn("names no host that can be checked", self.complaint(host="127.0.0.1"))

    def test_without_tls(self) -> None:
        """What answers something else, or hangs up, does not speak TLS."""
        advice = "connect without TLS, or is it another port?"
        for greeting in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"!hello :Type a name to begin; /help lists the commands.\n",
            b"220 mail.example ESMTP\r\n",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x00" * 40,
        ):
            self.serve_with(Factory.forProtocol(lambda said=greeting: Greeter(said)))
            self.assertEqual(self.complaint(), f"{PLACE} does not speak TLS: {advice}", greeting)
        self.serve_with(Factory.forProtocol(Hangup))
        self.assertEqual(
            self.complaint(),
            f"{PLACE} closed the connection instead of answering in TLS: {advice}",
        )

    @given(st.binary(max_size=64))
    def test_anything(self, greeting: bytes) -> None:
        """Whatever answers, it is one sentence about it."""
        self.reactor = MemoryReactorClock()
        self.serve_with(Factory.forProtocol(lambda: Greeter(greeting)))
        connecting, pump = self.attempt()
        pump.clientIO.loseConnection()  # it may have said half of something
        pump.flush()
        said = str(self.failureResultOf(connecting, Unreachable).value)
        self.assertIn(PLACE, said)
        self.assertEqual(said.count("\n"), 0)

    def test_old_versions(self) -> None:
        """TLS 1.2 is spoken, 1.1 is not."""
        pem = issued(self.ca, "relay.example")
        self.serve(pem, lowerMaximumSecurityTo=TLSVersion.TLSv1_2)
        self.assert_welcomed()
        old = server_options(pem, insecurelyLowerMinimumTo=TLSVersion.TLSv1_1)
        # It would speak it: the client does not.
        old.getContext().set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        old.getContext().set_max_proto_version(SSL.TLS1_1_VERSION)
        self.serve_with(
            TLSMemoryBIOFactory(old, False, Factory.forProtocol(Protocol), self.reactor)
        )
        complaint = self.complaint()
        self.assertTrue(complaint.startswith(f"TLS with {PLACE} failed: "), complaint)

    def test_silence(self) -> None:
        """A server that never answers the handshake is given up, as one that never welcomes."""
        self.serve_with(Factory.forProtocol(Protocol))
        connecting, pump = self.attempt()
        self.reactor.advance(29)
        self.assertNoResult(connecting)
        self.reactor.advance(2)
        pump.flush()
        self.failureResultOf(connecting, Unreachable)

    def test_unreachable(self) -> None:
        """Where it was is told as without TLS."""
        endpoint = tls_endpoint(self.reactor, "relay.example", 12346)
        connecting = connect(self.reactor, endpoint, "carol")
        ConnectionCompleter(self.reactor).failOnce()
        self.reactor.advance(1)
        self.assertIn(
            f"No relay at {PLACE}: ", str(self.failureResultOf(connecting, Unreachable).value)
        )

    def test_misuse(self) -> None:
        """What can not be a host or a file of certificates is told at once."""
        for host, ca_file, sentence in [
            ("a b", None, 'This is not the name of a host: "a b" ('),
            ("", None, 'This is not the name of a host: "" ('),
            ("h", "/nowhere/ca.pem", 'The file of CA certificates, "/nowhere/ca.pem", can not be '),
            ("h", "", 'The file of CA certificates, "", can not be read: '),
            ("h", self.write(b""), " holds no certificate in PEM, or a broken one."),
            ("h", self.write(self.ca.private_key_pem.bytes()), " holds no certificate in PEM"),
            ("h", self.write(self.ca.cert_pem.bytes()[:-80]), " holds no certificate in PEM"),
        ]:
            with self.assertRaises(Misuse) as raised:
                tls_endpoint(self.reactor, host, 12346, ca_file=ca_file)
            self.assertIn(sentence, str(raised.exception))


class FirstBytesTests(TlsCase):
    """Nothing is said to a server before it is checked."""

    def record_types_sent(self, pem: Pem, version) -> list[int]:
        """What the server reads, whether it can decrypt it or not."""
        sent = []
        factory = Factory()
        factory.buildProtocol = lambda _: Relay(self.received)
        tls = TLSMemoryBIOFactory(
            server_options(pem, lowerMaximumSecurityTo=version), False, factory, self.reactor
        )

        class Tapped:
            def buildProtocol(self, address):
                protocol = tls.buildProtocol(address)
                received = protocol.dataReceived
                protocol.dataReceived = lambda data: (sent.append(data), received(data))
                return protocol

        self.serve_with(Tapped())
        connecting, _ = self.attempt()
        connecting.addErrback(lambda failure: failure.trap(Unreachable))
        return _record_types(b"".join(sent))

    def test_records(self) -> None:
        """A bad server gets a hello and an alert, and no record that holds what was written."""
        for version in (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3):
            for pem in (
                issued(self.ca, "other.example"),
                issued(trustme.CA(), "relay.example"),
                issued(self.ca, "relay.example", not_after=NOW - timedelta(1)),
                made(self.ca),
            ):
                types = self.record_types_sent(pem, version)
                self.assertEqual([kind for kind in types if kind != 20], [22, 21])
                self.assertEqual(self.received, [])
            types = self.record_types_sent(issued(self.ca, "relay.example"), version)
            self.assertIn(23, types)
            self.assertEqual(self.received, [b"carol\n"])
            self.received.clear()


def _record_types(stream: bytes) -> list[int]:
    """The content types of TLS records: 20 change of cipher, 21 alert, 22 handshake, 23 data."""
    types = []
    while stream:
        types.append(stream[0])
        stream = stream[5 + int.from_bytes(stream[3:5], "big") :]
    return types


class SocketTests(TlsCase):
    """What is asked of the kernel is asked under TLS, too."""

    def test_vanished_relay(self) -> None:
        """The kernel is told to find out in a minute that a relay is gone."""
        trust = ServerTrust("relay.example", 12346)
        factory = TLSMemoryBIOFactory(
            trust, True, Factory.forProtocol(ClientProtocol), self.reactor
        )
        with socket.socket() as handle:
            transport = RelayTransport()
            transport.getHandle = lambda: handle
            factory.buildProtocol(None).makeConnection(transport)
            for option, value in [("TCP_KEEPIDLE", 30), ("TCP_USER_TIMEOUT", 60_000)]:
                if number := getattr(socket, option, None):
                    self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, number), value)


class AlertTests(TlsCase):
    """Whoever runs the server finds the reason in its log, too."""

    def test_alert(self) -> None:
        """The server is told by TLS's own means why the client left."""
        told = []

        class Told(Protocol):
            def connectionLost(self, reason) -> None:
                told.append(str(reason.value))

        for pem, alert in [
            (issued(trustme.CA(), "relay.example"), "unknown ca"),
            (issued(self.ca, "relay.example", not_after=NOW - timedelta(1)), "expired"),
            (issued(self.ca, "other.example"), "alert"),
        ]:
            self.serve_with(
                TLSMemoryBIOFactory(
                    server_options(pem), False, Factory.forProtocol(Told), self.reactor
                )
            )
            self.complaint()
            self.assertIn(alert, told.pop())


class ReconnectTests(TlsCase):
    """`stay_connected` over TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.troubles: list[str] = []
        self.relays = stay_connected(
            self.reactor,
            tls_endpoint(self.reactor, "relay.example", 12346, ca_file=self.ca_file),
            "carol",
            on_trouble=lambda trouble: self.troubles.append(str(trouble.error)),
        )

    def next(self) -> Deferred:
        return ensureDeferred(self.relays.__anext__())

    def lose(self, pump: IOPump) -> None:
        self.received.clear()
        pump.serverIO.loseConnection()
        pump.flush()

    def test_another_certificate(self) -> None:
        """A relay that comes back with a renewed certificate is the same; another is not."""
        self.serve(issued(self.ca, "relay.example"))
        waiting = self.next()
        pump = self.complete()
        client = self.successResultOf(waiting)
        self.lose(pump)
        self.assertIsNotNone(client.lost)
        waiting = self.next()
        # An impostor meanwhile is a failed attempt like any other.
        for pem, says in [
            (issued(trustme.CA(), "relay.example"), "is signed by "),
            (issued(self.ca, "relay.example", not_after=NOW - timedelta(1)), "expired on "),
            (issued(self.ca, "other.example"), "is for other.example"),
        ]:
            self.serve(pem)
            self.reactor.advance(30)
            self.complete()
            self.assertIn(says, self.troubles[-1])
            self.assertEqual(self.received, [])
            self.assertNoResult(waiting)
        self.serve(issued(self.ca, "relay.example"))
        self.reactor.advance(30)
        self.complete()
        self.assertIsNot(self.successResultOf(waiting), client)
        self.assertEqual(self.received, [b"/caps id time ping\ncarol\n"])

    def test_first(self) -> None:
        """The first connection is not tried again."""
        self.serve(issued(trustme.CA(), "relay.example"))
        waiting = self.next()
        self.complete()
        self.reactor.advance(0)
        self.failureResultOf(waiting, Unreachable)
        self.reactor.advance(60)
        self.assertEqual((self.reactor.tcpClients, self.troubles), ([], []))


class UncheckedTests(TlsCase):
    """A server that is not checked on purpose."""

    def test_whoever_answers(self) -> None:
        """Any certificate will do."""
        trust = ServerTrust("relay.example", 12346, is_checked=False)
        for pem in (
            made(None),
            issued(trustme.CA(), "other.example"),
            issued(self.ca, "relay.example", not_after=NOW - timedelta(1)),
        ):
            self.serve(pem)
            connecting = connect(
                self.reactor, endpoint_trusting(self.reactor, trust), "carol", caps=()
            )
            self.complete()
            self.successResultOf(connecting)
            self.assertEqual(self.received, [b"carol\n"])
            self.received.clear()

    def test_without_tls(self) -> None:
        """TLS it has to be all the same."""
        self.serve_with(Factory.forProtocol(Hangup))
        trust = ServerTrust("relay.example", 12346, is_checked=False, advice=FOR_USERS)
        connecting = connect(self.reactor, endpoint_trusting(self.reactor, trust), "carol")
        self.complete()
        self.assertIn("leave out --tls", str(self.failureResultOf(connecting, Unreachable).value))


class EndpointStringTests(TlsCase):
    """``tls:`` strings are Twisted's; what goes wrong is told in a sentence as well."""

    def complaint_of_string(self) -> str:
        endpoint = endpoint_for(self.reactor, "tls:relay.example:12346")
        # The string's parser asks for the global reactor's clock.
        endpoint = endpoint_with_clock(endpoint, self.reactor)
        connecting = connect(self.reactor, endpoint, "carol")
        self.complete()
        self.assertEqual(self.received, [])
        return str(self.failureResultOf(connecting, Unreachable).value)

    def test_unknown_ca(self) -> None:
        self.serve(issued(self.ca, "relay.example"))
        self.assertEqual(
            self.complaint_of_string(), "TLS with the server failed: certificate verify failed."
        )

    def test_without_tls(self) -> None:
        self.serve_with(Factory.forProtocol(lambda: Greeter(b"!hello :Type a name.\n")))
        self.assertEqual(
            self.complaint_of_string(), "TLS with the server failed: wrong version number."
        )


def endpoint_with_clock(endpoint, clock):
    """The same endpoint, with its writes on another clock."""
    wrapper = endpoint._wrapperFactory

    def wrap(factory):
        wrapped = wrapper(factory)
        wrapped._clock = clock
        return wrapped

    endpoint._wrapperFactory = wrap
    return endpoint


class WhyTests(SynchronousTestCase):
    """`why_tls_failed`."""

    def test_not_tls_at_all(self) -> None:
        """What has nothing to do with TLS is told otherwise; it may have no handle any more."""

        class Lost:
            def getHandle(self) -> None:
                raise AttributeError("socket")

        self.assertIsNone(why_tls_failed(Lost(), OSError()))
        self.assertIsNone(why_tls_failed(object(), OSError()))
        self.assertIsNone(why_tls_failed(None, SSL.Error()))


class OptionTests(TlsCase):
    """The options of the client program."""

    def parse(self, *arguments: str) -> ClientOptions:
        options = ClientOptions()
        options.parseOptions([*arguments, "carol"])
        return options

    def test_plain(self) -> None:
        """Without any of them it is not TLS, and the port stays what it is with them."""
        self.assertFalse(self.parse()["tls"])
        options = self.parse("--tls")
        given = [options[key] for key in ("tls", "host", "port")]
        self.assertEqual(given, [True, "localhost", 12345])

    def test_implied(self) -> None:
        """Each of them means TLS."""
        for arguments in [
            ("--tls",),
            ("--ca", self.ca_file),
            ("--tls", "--ca", self.ca_file),
        ]:
            options = self.parse("--host", "relay.example", "--port", "12346", *arguments)
            self.assertTrue(options["tls"], arguments)
            endpoint = options.endpoint(self.reactor)
            self.serve(issued(self.ca, "other.example"))
            connecting = connect(self.reactor, endpoint, "carol")
            self.complete()
            self.assertIn(
                "The certificate of", str(self.failureResultOf(connecting, Unreachable).value)
            )
        self.assertTrue(self.parse("--tls-without-checking-the-server")["tls"])

    def test_advice(self) -> None:
        """A user of the program is told its options."""
        for arguments in (("--tls",), ("--ca", self.ca_file)):
            options = self.parse("--host", "relay.example", "--port", "12346", *arguments)
            self.serve(issued(trustme.CA(), "relay.example"))
            connecting = connect(self.reactor, options.endpoint(self.reactor), "carol")
            self.complete()
            said = str(self.failureResultOf(connecting, Unreachable).value)
            self.assertTrue(said.endswith(" with --ca FILE."), said)

    def test_wrong(self) -> None:
        """Each mistake is one sentence, at once."""
        loud = "--tls-without-checking-the-server"
        for arguments, word in [
            (("--server", "tcp:x:1", "--tls"), "--tls"),
            (("--server", "tls:x:1", "--ca", self.ca_file), "--ca"),
            (("--server", "tls:x:1", "--ca", ""), "--ca"),
            (("--server", "tls:x:1", loud), loud),
            (("--ca", self.ca_file, loud), loud),
        ]:
            with self.assertRaises(UsageError, msg=repr(arguments)) as raised:
                self.parse(*arguments)
            self.assertIn(word, str(raised.exception))

    def test_unusable(self) -> None:
        """An empty variable in a script does not turn TLS off."""
        for arguments in [("--ca", ""), ("--ca", "/nowhere"), ("--tls", "--host", "a b")]:
            with self.assertRaises(UsageError, msg=repr(arguments)) as raised:
                self.parse(*arguments).endpoint(self.reactor)
            self.assertEqual(str(raised.exception).count("\n"), 0)
