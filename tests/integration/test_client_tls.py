"""The client programs and the library over TLS: real relays, real processes, a real terminal."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from chatrelay.client.options import EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE
from tests.integration.relay_process import DEADLINE_S, RelayProcess, environment, free_port
from tests.integration.test_client_programs import WELCOME, ProgramCase, Terminal
from tests.tls_harness import issued_for, key_pem

UNCHECKED = "--tls-without-checking-the-server"
NOW = datetime.now(UTC)

# A program on the library: it says what it is told.
PROGRAM = """
import sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from chatrelay.client import Unreachable, connect, tls_endpoint

async def main(reactor):
    host, port, ca_file = sys.argv[1:]
    server = tls_endpoint(reactor, host, int(port), ca_file=ca_file)
    try:
        client = await connect(reactor, server, "carol")
    except Unreachable as error:
        print("unreachable:", error)
        return
    await client.send("reverse", "hello")
    async for message in client:
        print(message.text)
        break
    await client.close()

react(lambda reactor: ensureDeferred(main(reactor)))
"""


class Server(NamedTuple):
    """A port of the relay, how it is asked for, and what is said of it."""

    what: str
    host: str
    port: str
    says: str = ""


class TlsCase(ProgramCase):
    """A directory with the certificates of one CA."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.ca = trustme.CA()
        self.ca_file = str(self.directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def port(self, ca: trustme.CA, *hosts: str, number: int = 0, **options) -> str:
        """A ``--port`` with a certificate of its own."""
        certificate = ca.issue_cert(*hosts, **options)
        name = str(len(list(self.directory.iterdir())))
        key_file, certificate_file = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        certificate.private_key_pem.write_to_path(str(key_file))
        certificate.cert_chain_pems[0].write_to_path(str(certificate_file))
        return self.port_of(key_file, certificate_file, number)

    def port_of(self, key_file: Path, certificate_file: Path, number: int = 0) -> str:
        where = f"tls:{number}:interface=127.0.0.1"
        return f"{where}:certificate={certificate_file}:key={key_file}"

    def self_signed(self) -> str:
        """A ``--port`` with a certificate that nobody but itself has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        key_file, certificate_file = self.directory / "own.key", self.directory / "own.pem"
        key_file.write_bytes(key_pem(key))
        certificate_file.write_bytes(issued_for(key))
        return self.port_of(key_file, certificate_file)

    def good_relay(self) -> tuple[str, int]:
        """A relay at localhost; its address."""
        _, port = self.relay("--port", self.port(self.ca, "localhost")).address()
        return "localhost", port


class ServerTests(TlsCase):
    """Each kind of server, to the program and to the library."""

    def setUp(self) -> None:
        super().setUp()
        self.servers = [
            Server("good", "localhost", self.port(self.ca, "localhost")),
            Server("address", "127.0.0.1", self.port(self.ca, "127.0.0.1")),
            Server(
                "expired",
                "localhost",
                self.port(self.ca, "localhost", not_after=NOW - timedelta(days=1)),
                " expired on ",
            ),
            Server(
                "not yet valid",
                "localhost",
                self.port(
                    self.ca,
                    "localhost",
                    not_before=NOW + timedelta(days=1),
                    not_after=NOW + timedelta(days=2),
                ),
                " is valid only from ",
            ),
            Server(
                "self-signed",
                "localhost",
                self.self_signed(),
                " is self-signed, and not trusted: ",
            ),
            Server(
                "another CA", "localhost", self.port(trustme.CA(), "localhost"), " is signed by "
            ),
            Server(
                "another host",
                "localhost",
                self.port(self.ca, "other.example"),
                " is for other.example, not for localhost: ",
            ),
            Server(
                "plain text",
                "localhost",
                "tcp:0:interface=127.0.0.1",
                " closed the connection instead of answering in TLS: ",
            ),
        ]
        options = [word for server in self.servers for word in ("--port", server.port)]
        self.started = self.relay(*options)
        self.numbers = [port for _, port in self.started.ports(len(self.servers))]

    def test_program(self) -> None:
        """It talks to the right one, and says in one sentence what is wrong with another."""
        for server, number in zip(self.servers, self.numbers, strict=True):
            address = (server.host, number)
            status, printed, said = self.run_to_end(
                address, b"%reverse%hello\n", "--ca", self.ca_file, "carol"
            )
            if not server.says:
                self.assertEqual((status, said), (EXIT_OK, ""), server.what)
                self.assertEqual(printed.splitlines()[1], b"%reverse%olleh")
                continue
            self.assertEqual((status, printed), (EXIT_UNREACHABLE, b""), server.what)
            self.assertIn(server.says, said)
            self.assertIn(f"localhost port {number}", said)
            self.assertEqual(said.count("\n"), 1, said)
        self.assert_only_good_ones_were_told(2)

    def test_library(self) -> None:
        """The same for a program of one's own."""
        for server, number in zip(self.servers, self.numbers, strict=True):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, server.host, str(number), self.ca_file],
                env=environment(),
                capture_output=True,
                timeout=DEADLINE_S,
                check=False,
                text=True,
            )
            self.assertEqual(done.stderr, "", server.what)
            if not server.says:
                self.assertEqual(done.stdout, "olleh\n", server.what)
                continue
            self.assertTrue(done.stdout.startswith("unreachable: "), done.stdout)
            self.assertIn(server.says, done.stdout)
        self.assert_only_good_ones_were_told(2)

    def assert_only_good_ones_were_told(self, count: int) -> None:
        """Of those that were not trusted none has learnt the name."""
        self.started.signal(signal.SIGTERM)
        self.started.wait()
        told = [line for line in self.started.log() if line.startswith("carol at ")]
        self.assertEqual(len(told), count, told)


class UncheckedTests(TlsCase):
    """``--tls-without-checking-the-server``."""

    def test_warning(self) -> None:
        """It talks to whoever answers, and says so at every start."""
        _, port = self.relay("--port", self.self_signed()).address()
        for _ in range(2):
            status, printed, said = self.run_to_end(
                ("127.0.0.1", port), b"%reverse%hello\n", UNCHECKED, "carol"
            )
            self.assertEqual((status, printed.splitlines()[1]), (EXIT_OK, b"%reverse%olleh"))
            self.assertEqual(said.count("\n"), 1, said)
            self.assertIn(UNCHECKED, said)

    def test_usage(self) -> None:
        """It excludes what checks; a file without a certificate is no file of CAs."""
        for arguments in [(UNCHECKED, "--ca", self.ca_file), ("--ca", "/dev/null"), ("--ca", "")]:
            status, _, said = self.run_to_end(("localhost", 1), b"", *arguments, "carol")
            self.assertEqual((status, said.count("\n")), (EXIT_USAGE, 1), said)


class PipeTests(TlsCase):
    """The pipe program over TLS."""

    def test_large_input(self) -> None:
        """Every line of a large input is answered, in order."""
        address = self.good_relay()
        count = 50_000
        given = b"".join(b"@ref=%d %%reverse%%%b\n" % (n, b"x" * 60) for n in range(count))
        status, printed, said = self.run_to_end(address, given, "--ca", self.ca_file, "carol")
        self.assertEqual((status, said), (EXIT_OK, ""))
        answers = [line for line in printed.splitlines() if line.startswith(b"@ref=")]
        self.assertEqual(answers, [b"@ref=%d !sent reverse" % n for n in range(count)])
        self.assertEqual(printed.count(b"%reverse%"), count)
        # And nothing else than without TLS.
        self.assertEqual(printed.count(b"\n"), 2 * count + 1)

    def test_reconnects(self) -> None:
        """A relay that comes back with another certificate of the CA is gone on with."""
        number = free_port()
        relay = RelayProcess("--port", self.port(self.ca, "localhost", number=number))
        self.addCleanup(relay.end)
        relay.address()
        program = self.start(("localhost", number), "--ca", self.ca_file, "carol")
        self.assertTrue(program.stdout.readline().startswith(WELCOME))
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        self.assertTrue(program.stdout.readline().startswith(b"!error shutting-down"))
        self.assertIn(b"may not have arrived. Connecting again in ", program.stderr.readline())
        impostor = RelayProcess("--port", self.port(trustme.CA(), "localhost", number=number))
        self.addCleanup(impostor.end)
        while b" is signed by " not in (said := program.stderr.readline()):
            self.assertIn(b"Connecting again in ", said)
        impostor.end()
        self.relay("--port", self.port(self.ca, "localhost", number=number))
        self.assertTrue(program.stdout.readline().startswith(WELCOME))
        program.stdin.write(b"%reverse%back\n")
        program.stdin.flush()
        self.assertEqual(program.stdout.readline(), b"%reverse%kcab\n")


class TerminalTests(TlsCase):
    """The terminal program over TLS."""

    def test_talk(self) -> None:
        address = self.good_relay()
        terminal = Terminal(self.command(address, "--ca", self.ca_file, "carol"))
        self.addCleanup(terminal.end)
        terminal.expect("You are carol.")
        terminal.type("%reverse%hello\r")
        terminal.expect("reverse: olleh")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_not_trusted(self) -> None:
        address = self.good_relay()
        terminal = Terminal(self.command(address, "--tls", "carol"))
        self.addCleanup(terminal.end)
        self.assertEqual(terminal.wait(), EXIT_UNREACHABLE)
        self.assertIn("which is not trusted: ", terminal.seen.replace("\r\n", ""))


class ListenerTests(TlsCase):
    """What leaves the client before the server is checked."""

    def test_nothing_in_clear(self) -> None:
        """A server that only listens reads a hello of TLS, and neither name nor line."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(DEADLINE_S)
            port = listener.getsockname()[1]
            program = self.start(("localhost", port), "--ca", self.ca_file, "carol")
            program.stdin.write(b"%bob%hunter2\n")
            program.stdin.close()
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(DEADLINE_S)
                received = connection.recv(65536)
                connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(65536):
                    received += data
            self.assertEqual(received[0], 22)
            for word in (b"carol", b"bob", b"hunter2"):
                self.assertNotIn(word, received)
            self.assertEqual(program.wait(DEADLINE_S), EXIT_UNREACHABLE)
