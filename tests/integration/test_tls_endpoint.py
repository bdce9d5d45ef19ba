"""A relay's TLS port: the same protocol there, and certificates that are renewed under it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import tempfile
import warnings
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.integration import test_flow, test_relay_process
from tests.integration.relay_process import (
    DEADLINE_S,
    Client,
    RelayProcess,
    RelayTestCase,
    eventually,
    run_twistd,
)
from tests.tls_harness import Files

# Test cases, and those of their tests that are not of TLS: they need netcat, or a Unix socket.
CLASSES: dict[ModuleType, dict[str, set[str]]] = {
    test_relay_process: {
        "Conversation": {
            "test_three_clients_one_of_them_netcat",
            "test_netcat_sees_the_answers_to_what_it_sent_before_it_ended",
            "test_both_ends_of_lines",
        },
        "Ending": set(),
        # A client is waited for until it has ended TLS, too.
        "Bounds": {"test_connections_that_gave_way_are_gone_at_once"},
    },
    test_flow: {
        # Half a gigabyte takes its time.
        "SlowReaders": {"test_500_mb_to_a_reader_that_sleeps_and_is_slow"},
    },
}


class TlsTestCase(RelayTestCase):
    """A test whose relays and clients speak TLS, if nothing else is said."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.files = Files(self.directory)
        self.context = ssl.create_default_context(cafile=str(self.files.authority))

    def tls_port(self, number: int = 0) -> str:
        return (
            f"tls:{number}:interface=127.0.0.1"
            f":certificate={self.files.certificate}:key={self.files.key}"
        )

    def relay(self, *options: str) -> RelayProcess:
        if "--port" not in options:
            options = ("--port", self.tls_port(), *options)
        return super().relay(*options)


def _over_tls(base: Any, left_out: set[str]) -> type[TlsTestCase]:
    # A copy, as what is inherited can not be left out.
    kept = {name: value for name, value in vars(base).items() if name not in left_out}
    name = f"{base.__name__}OverTls"
    return type(name, (TlsTestCase,), kept | {"__module__": __name__, "__qualname__": name})


for _module, _names in CLASSES.items():
    for _name, _left_out in _names.items():
        _class = _over_tls(getattr(_module, _name), _left_out)
        globals()[_class.__name__] = _class
del _class


class RenewalTests(TlsTestCase):
    """The certificate changes while the relay runs."""

    def serial(self, address: tuple[str, int]) -> str:
        """Connect, and tell which certificate is shown."""
        client = self.connect(address)
        assert isinstance(client.socket, ssl.SSLSocket)
        certificate: Any = client.socket.getpeercert()
        client.close()
        return str(certificate["serialNumber"])

    def becomes(self, address: tuple[str, int], serial: int) -> None:
        """Wait until new clients are shown this one."""
        eventually("it is shown", lambda: int(self.serial(address), 16) == serial)

    def test_under_100_open_connections(self) -> None:
        relay = self.relay()
        address = relay.address()
        clients = [self.connect(address, f"c{index}") for index in range(100)]
        before = int(self.serial(address), 16)
        renewed = self.files.renew().certificate.serial_number
        self.assertNotEqual(before, renewed)
        self.becomes(address, renewed)
        # All of them stay, and relay.
        for index, client in enumerate(clients):
            client.send(f"%c{(index + 1) % 100}%from {index}")
        for index, client in enumerate(clients):
            before_it = (index - 1) % 100
            self.assertEqual(client.line(), f"%c{before_it}%from {before_it}")
        self.assertEqual(relay.output.count("TLS uses the certificate in"), 2)

    def test_a_bad_renewal_and_a_good_one(self) -> None:
        relay = self.relay()
        address = relay.address()
        before = int(self.serial(address), 16)
        for contents, words in (
            (b"", "holds no certificate in PEM form"),
            (None, "there is no certificate at"),
        ):
            if contents is None:
                self.files.certificate.unlink()
            else:
                self.files.put(self.files.certificate, contents)

            def is_told(words: str = words) -> bool:
                self.assertEqual(int(self.serial(address), 16), before)
                return words in relay.output

            eventually("it is told", is_told)
        renewed = self.files.renew("localhost", "after.example").certificate.serial_number
        self.becomes(address, renewed)
        relay.wait_for_log("TLS uses .* as it is now, for localhost, after.example, valid until")

    def test_what_can_not_be_used_at_the_start(self) -> None:
        self.files.put(self.files.key, b"rubbish")
        ended = run_twistd(["--port", self.tls_port()])
        output, _ = ended.communicate(timeout=DEADLINE_S)
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(len(output.splitlines()), 1, output)
        self.assertIn(b"key.pem holds no private key", output)


class OthersTests(TlsTestCase):
    """Who connects to a TLS port and is no client."""

    def test_they_are_closed_and_the_relay_goes_on(self) -> None:
        relay = self.relay("--naming-timeout", "4")
        address = relay.address()
        ann = self.connect(address, "ann")
        for sent in (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"mallory\n%ann%hello\n",
            os.urandom(4096),
            b"\x16\x03\x01\x02\x00" + os.urandom(2000),
        ):
            with socket.create_connection(address, DEADLINE_S) as plain:
                plain.sendall(sent)
                with contextlib.suppress(ConnectionResetError):
                    while plain.recv(4096):
                        pass
        # One says nothing at all, one never ends what it began.
        silent = [socket.create_connection(address, DEADLINE_S) for _ in range(2)]
        silent[1].sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        for plain in silent:
            with plain, contextlib.suppress(ConnectionResetError):
                self.assertEqual(plain.recv(4096), b"")
        ann.ping()
        self.assertEqual(relay.output.count("arrived"), 1)

    def test_one_that_does_not_trust_the_certificate(self) -> None:
        relay = self.relay()
        self.context = ssl.create_default_context()
        self.assertRaises(ssl.SSLCertVerificationError, self.connect, relay.address())
        self.context = ssl.create_default_context(cafile=str(self.files.authority))
        self.connect(relay.address(), "carol").ping()

    def test_old_versions(self) -> None:
        relay = self.relay()
        self.context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.context.minimum_version = ssl.TLSVersion.TLSv1
            self.context.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertRaises(ssl.SSLError, self.connect, relay.address())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.context = ssl.create_default_context(cafile=str(self.files.authority))
            self.context.minimum_version = self.context.maximum_version = version
            self.connect(relay.address(), f"with-{version.name}").ping()


class EndingTests(TlsTestCase):
    """Connections end as TLS ends; a client of these raises if one is cut short."""

    def test_quitting(self) -> None:
        client = self.connect(self.relay().address())
        client.send("zoe", "%reverse%ab", "/quit")
        lines = []
        with contextlib.suppress(EOFError):
            while True:
                lines.append(client.line())
        self.assertEqual(lines[-2:], ["%reverse%ba", "!bye"])

    def test_quitting_behind_more_than_is_served_at_once(self) -> None:
        relay = self.relay()
        client = self.connect(relay.address(), "zoe")
        client.send(*(f"%zoe%{number}" for number in range(20_000)), "/quit")
        for number in range(20_000):
            self.assertEqual(client.line(), f"%zoe%{number}")
        self.assertEqual(client.line(), "!bye")
        self.assertRaises(EOFError, client.line)
        client.close()
        relay.wait_for_log("^zoe at .* left after .*: it quit")
        # It is gone at once, and not when its time is over.
        eventually("it is gone", partial(self.has_no_connection, relay))

    def has_no_connection(self, relay: RelayProcess) -> bool:
        """Whether all sockets of a relay are its own."""
        descriptors = Path(f"/proc/{relay.pid}/fd").iterdir()
        sockets = 0
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                sockets += os.readlink(descriptor).startswith("socket:")
        # The port, and the reactor's own two.
        return sockets <= 3

    def test_what_waits_is_sent_in_order(self) -> None:
        address = self.relay().address()
        reader, sender = self.connect(address, "bob"), self.connect(address, "ann")
        lines = [f"{number:07} {'x' * 1000}" for number in range(3000)]
        # More than the high-water mark, sent before any of it is read.
        sender.send(*(f"%bob%{line}" for line in lines), "/quit")
        for line in lines:
            self.assertEqual(reader.line(), f"%ann%{line}")
        self.assertEqual(sender.rest(), ["!bye"])

    def test_with_nothing_to_do_it_does_nothing(self) -> None:
        relay = self.relay()
        client = self.connect(relay.address(), "zoe")

        def cpu_ticks() -> int:
            fields = Path(f"/proc/{relay.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        before = cpu_ticks()
        client.socket.settimeout(1.0)
        # A second in which nothing comes.
        self.assertRaises(TimeoutError, client.socket.recv, 1)
        # A producer that pulls is asked in every turn under TLS, and takes all of it.
        self.assertLess(cpu_ticks() - before, 30)


class TwistedsTests(TlsTestCase):
    """``--port ssl:…`` is Twisted's own, and works as before."""

    def relay(self, *options: str) -> RelayProcess:
        port = f"ssl:0:interface=127.0.0.1:privateKey={self.files.key}"
        return super().relay("--port", f"{port}:certKey={self.files.certificate}", *options)

    def test_it_says_so_and_stops(self) -> None:
        relay = self.relay()
        client = self.connect(relay.address(), "zoe")
        relay.wait_for_log(r"listens on 127\.0\.0\.1 port \d+, with TLS, for this machine only$")
        relay.signal(signal.SIGTERM)
        self.assertTrue(client.rest()[-1].startswith("!error shutting-down "))
        self.assertEqual(relay.wait(), 0)


class DefaultTests(TlsTestCase):
    """The certificate is found where the tool puts it."""

    def test_a_number_alone(self) -> None:
        directory = self.directory / "data" / "tls"
        directory.mkdir(parents=True)
        files = Files(directory)
        relay = self.relay(
            *("--data", str(directory.parent), "--port", "tcp:0:interface=127.0.0.1"),
            *("--port", "tls:0"),
        )
        plain, *with_tls = relay.ports(2 + socket.has_ipv6)
        context = ssl.create_default_context(cafile=str(files.authority))
        self.context = None
        ann = self.connect(plain, "ann")
        for number, address in enumerate(with_tls):
            client = Client(address, f"c{number}", context=context)
            self.addCleanup(client.close)
            client.send("%ann%hello")
            self.assertEqual(ann.line(), f"%c{number}%hello")
