"""An endpoint of Twisted's that speaks TLS: the same conversation, closed as TLS closes."""

from __future__ import annotations

import datetime
import signal
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.relay_process import RelayTestCase

DEADLINE_S = 60


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """A key and a certificate of its own for localhost, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


class TlsEndpointTests(RelayTestCase):
    """``--port ssl:…``; the relay's checks of TLS's own are another matter."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        key_file, certificate_file = write_certificate(Path(directory.name))
        self.started = self.relay(
            "--port",
            f"ssl:0:interface=127.0.0.1:privateKey={key_file}:certKey={certificate_file}",
        )
        self.context = ssl.create_default_context(cafile=str(certificate_file))

    def connect_tls(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self.started.address(), DEADLINE_S)
        secured = self.context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        )
        self.addCleanup(secured.close)
        return secured

    def read_to_end(self, client: ssl.SSLSocket) -> bytes:
        """Everything up to the end that TLS tells of; a connection cut short raises."""
        received = b""
        while data := client.recv(65536):
            received += data
        return received

    def test_quitting_ends_as_tls_ends(self) -> None:
        client = self.connect_tls()
        client.sendall(b"zoe\n%reverse%ab\n/quit\n")
        self.assertTrue(self.read_to_end(client).endswith(b"%reverse%ba\n!bye\n"))

    def test_what_waits_is_sent_in_order(self) -> None:
        reader, sender = self.connect_tls(), self.connect_tls()
        reader.sendall(b"bob\n")
        reader.recv(65536)
        lines = [b"%%bob%%%07d %s\n" % (number, b"x" * 1000) for number in range(3000)]
        # More than the high-water mark, sent before any of it is read.
        sender.sendall(b"ann\n" + b"".join(lines[:500]))
        sender.sendall(b"".join(lines[500:]))
        sender.sendall(b"/quit\n")
        expected = b"".join(lines).replace(b"%bob%", b"%ann%")
        received = b""
        while len(received) < len(expected):
            received += reader.recv(65536)
        self.assertEqual(received, expected)

    def test_it_stops_and_says_so(self) -> None:
        client = self.connect_tls()
        client.sendall(b"zoe\n")
        client.recv(65536)
        self.started.signal(signal.SIGTERM)
        self.assertIn(b"!error shutting-down", self.read_to_end(client))
        self.assertEqual(self.started.wait(), 0)

    def test_with_nothing_to_do_it_does_nothing(self) -> None:
        client = self.connect_tls()
        client.sendall(b"zoe\n")
        client.recv(65536)

        def cpu_ticks() -> int:
            fields = Path(f"/proc/{self.started.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        before = cpu_ticks()
        client.settimeout(1.0)
        # A second in which nothing comes.
        self.assertRaises(TimeoutError, client.recv, 1)
        # A producer that pulls is asked in every turn under TLS, and takes all of it.
        self.assertLess(cpu_ticks() - before, 30)
