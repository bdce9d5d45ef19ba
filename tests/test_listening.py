"""What ``--port`` means."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import endpoints
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatrelay import listening
from chatrelay.certificate import pair
from chatrelay.errors import Misuse
from chatrelay.factory import RelayFactory
from chatrelay.listening import describe, is_loopback, parse_port, prepare
from chatrelay.protocol import RelayProtocol
from chatrelay.sockets import ACCEPTS_PER_TURN, KEEPALIVE_IDLE_S
from tests.tls_harness import Files


class ListeningTestCase(SynchronousTestCase):
    """A test with a directory in which there is a certificate."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.files = Files(self.directory)
        self.reactor = MemoryReactorClock()

    def misuse(self, written: str, interface: str | None = None, **named: Any) -> str:
        error = self.assertRaises(Misuse, parse_port, self.reactor, written, interface, **named)
        self.assertEqual(len(str(error).splitlines()), 1)
        return str(error).replace(f"{self.directory}/", "")

    def listened(self, written: str, interface: str | None = None) -> list[tuple[int, str, bool]]:
        """Listen; each port's number and interface, and whether it is one of TLS."""
        self.reactor.tcpServers.clear()
        for listener in parse_port(self.reactor, written, interface, self.directory):
            self.assertEqual(listener.written, written)
            self.successResultOf(listener.endpoint.listen(Factory()))
        return [
            (port, address, isinstance(factory, TLSMemoryBIOFactory))
            for port, factory, _, address in self.reactor.tcpServers
        ]


class PortTests(ListeningTestCase):
    """Numbers, ``tls:`` and Twisted's strings."""

    def test_where_they_listen(self) -> None:
        for written, interface, expected in (
            ("1", None, [(1, "127.0.0.1", False), (1, "::1", False)]),
            ("1", "192.0.2.1", [(1, "192.0.2.1", False)]),
            ("65535", "::", [(65535, "::", False)]),
            ("tcp:1", None, [(1, "", False)]),
            ("tls:1", None, [(1, "127.0.0.1", True), (1, "::1", True)]),
            ("TLS:1", None, [(1, "127.0.0.1", True), (1, "::1", True)]),
            ("tls:0", "192.0.2.1", [(0, "192.0.2.1", True)]),
            ("tls:65535", "::", [(65535, "::", True)]),
            ("tls:1:interface=0.0.0.0", None, [(1, "0.0.0.0", True)]),
            (r"tls:1:interface=\:\:", "192.0.2.1", [(1, "::", True)]),
        ):
            self.assertEqual(self.listened(written, interface), expected, written)

    def test_the_second_loopback_is_optional(self) -> None:
        for written in ("1", "tls:1"):
            listeners = parse_port(self.reactor, written, None, self.directory)
            self.assertEqual([listener.is_optional for listener in listeners], [False, True])
        [listener] = parse_port(self.reactor, "tls:1", "::", self.directory)
        self.assertFalse(listener.is_optional)

    def test_files_of_its_own(self) -> None:
        other = self.directory / "with a colon: and a = sign"
        other.mkdir()
        files = Files(other)
        certificate, key = (
            quoteStringArgument(str(file)) for file in (files.certificate, files.key)
        )
        for path in (self.files.certificate, self.files.key):
            path.unlink()
        written = f"tls:1:key={key}:certificate={certificate}:interface=127.0.0.1"
        self.assertEqual(self.listened(written), [(1, "127.0.0.1", True)])

    def test_files_below_home(self) -> None:
        written = "tls:1:certificate=~/certificate.pem:key=~/key.pem"
        with mock.patch.dict("os.environ", HOME=str(self.directory)):
            self.assertEqual(len(parse_port(self.reactor, written, None)), 2)

    def test_what_is_no_tls_port(self) -> None:
        form = "is not tls:PORT[:certificate=FILE:key=FILE][:interface=ADDRESS]"
        for written, words in (
            ("tls", form),
            ("tls:", form),
            ("tls:x", form),
            ("tls:-1", form),
            ("tls:1:2", form),
            ("tls:/etc/certificates:1", form),
            ("tls:1:certificate=a", form),
            ("tls:1:key=a", form),
            ("tls:1:backlog=5", form),
            ("tls:1:interface=::1", form),
            ("tls:1\\", form),
            ("tls:1:interface=nosuch", "interface='nosuch' of --port"),
            ("tls:1:interface=", "interface='' of --port"),
            ("tls:65536", "a port is a number up to 65535"),
        ):
            self.assertIn(words, self.misuse(written, certificate_directory=self.directory))

    def test_a_certificate_that_is_not_there(self) -> None:
        self.assertIn("needs certificate=FILE and key=FILE", self.misuse("tls:1"))
        self.files.certificate.unlink()
        self.assertEqual(
            self.misuse("tls:1", certificate_directory=self.directory),
            "--port tls:1: there is no certificate at certificate.pem; python -m"
            f" chatrelay.certificate --directory {self.directory} makes one",
        )
        self.patch(pair, "default_directory", lambda _environment: self.directory)
        self.assertIn(
            "; python -m chatrelay.certificate makes one",
            self.misuse("tls:1", certificate_directory=self.directory),
        )

    def test_a_certificate_that_can_not_be_used(self) -> None:
        self.files.put(self.files.key, b"rubbish")
        self.assertIn(
            "--port tls:1: key.pem holds no private key",
            self.misuse("tls:1", certificate_directory=self.directory),
        )

    def test_what_a_proxy_itself_was_refused_is_nothing_to_who_comes_through_it(self) -> None:
        relay = RelayFactory(self.reactor)
        address = IPv4Address("TCP", "192.0.2.1", 1)
        for _ in range(3):
            relay.relay.admission.told.refuse(address.host)
        self.assertIsNone(relay.buildProtocol(address))
        [listener] = parse_port(self.reactor, "haproxy:tcp:1", None, self.directory)
        self.successResultOf(listener.endpoint.listen(relay))
        [(_, factory, _, _)] = self.reactor.tcpServers
        factory.doStart()
        self.assertTrue(relay._ticker.running)
        self.assertIsInstance(factory.buildProtocol(address).wrappedProtocol, RelayProtocol)
        relay._connections.clear()
        factory.doStop()
        self.assertFalse(relay._ticker.running)

    def test_what_is_neither(self) -> None:
        for written in ("nosuch:1", "", "x", "-1", "tcp", "1.5"):
            self.assertIn("is neither a number nor a Twisted endpoint", self.misuse(written))
        self.assertIn("a port is a number up to 65535", self.misuse("65536"))


class SystemdTests(ListeningTestCase):
    """Sockets that systemd has opened; tests/integration/test_systemd.py hands some over."""

    def test_one_that_was_not_handed_over(self) -> None:
        for written in (
            "systemd:domain=INET:index=0",
            "systemd:domain=INET6:name=chatrelay",
            "tls:systemd:domain=INET6:name=chatrelay-tls",
            "haproxy:systemd:domain=INET:index=0",
            "haproxy:systemd:domain=INET6:name=chatrelay",
        ):
            words = self.misuse(written, certificate_directory=self.directory)
            self.assertIn(f"--port {written!r}: systemd has handed over no such socket", words)

    def test_one_of_another_family(self) -> None:
        """Addresses read from it as of this one would be of what is in memory there."""
        handed_over = socket.socket(socket.AF_UNIX)
        self.addCleanup(handed_over.close)
        sockets = ListenFDs([handed_over.fileno()])
        self.patch(endpoints._SystemdParser, "_sddaemon", sockets)
        listening._family_of_inherited.cache_clear()
        self.addCleanup(listening._family_of_inherited.cache_clear)
        for written in (
            "systemd:domain=INET:index=0",
            "tls:systemd:domain=INET:index=0",
            "haproxy:systemd:domain=INET:index=0",
        ):
            words = self.misuse(written, certificate_directory=self.directory)
            self.assertEqual(words, f"--port {written!r}: that socket is one of domain=UNIX")

    def test_what_is_none(self) -> None:
        for written in (
            "systemd:name=a",
            "systemd:domain=INET",
            "tls:systemd",
            "tls:systemd:interface=0.0.0.0",
            "tls:systemd:domain=INET:name=a:index=0",
        ):
            words = self.misuse(written, certificate_directory=self.directory)
            self.assertNotIn("handed over", words)


class DescribeTests(SynchronousTestCase):
    """What is said about a port."""

    def test_tls(self) -> None:
        factory = mock.Mock(spec=TLSMemoryBIOFactory)
        for address, words in (
            (
                IPv4Address("TCP", "127.0.0.1", 1),
                "127.0.0.1 port 1, with TLS, for this machine only",
            ),
            (IPv4Address("TCP", "0.0.0.0", 1), "0.0.0.0 port 1, with TLS"),
            (IPv6Address("TCP", "::1", 1), "::1 port 1, with TLS, for this machine only"),
            (IPv6Address("TCP", "::", 1), ":: port 1, with TLS"),
        ):
            port = mock.Mock(factory=factory)
            port.getHost.return_value = address
            self.assertEqual(describe(port), words)
            self.assertEqual(is_loopback(port), "only" in words)


class SocketTests(TestCase):
    """The sockets of real ports."""

    timeout = 60

    def options(self, port: Any) -> list[int]:
        listening: socket.socket = port.socket
        return [
            listening.getsockopt(level, option)
            for level, option in (
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )
        ]

    def test_a_tls_port_has_the_options_of_a_plain_one(self) -> None:
        from twisted.internet import reactor  # noqa: PLC0415

        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        Files(Path(directory.name))
        found: list[list[int]] = []

        def opened(port: IListeningPort) -> None:
            self.addCleanup(port.stopListening)
            prepare(port)
            found.append(self.options(port))

        factory = RelayFactory(reactor)  # type: ignore[arg-type]
        for written in ("0", "tls:0"):
            [listener] = parse_port(reactor, written, "127.0.0.1", Path(directory.name))
            listening: Deferred[IListeningPort] = listener.endpoint.listen(factory)
            listening.addCallback(opened)
        plain, with_tls = found
        self.assertEqual(plain, with_tls)
        self.assertEqual(plain[2], KEEPALIVE_IDLE_S)

    def test_a_flood_of_connections_is_accepted_a_few_in_each_turn(self) -> Deferred[None]:
        from twisted.internet import reactor  # noqa: PLC0415

        clock: Any = reactor
        in_this_turn, in_turns = [0], []

        class Counting(Factory):
            def buildProtocol(self, addr: object) -> None:  # noqa: ARG002
                in_this_turn[0] += 1

        def opened(port: Any) -> Deferred[None]:
            self.addCleanup(port.stopListening)
            prepare(port)
            for _ in range(3 * ACCEPTS_PER_TURN + 1):
                client = socket.create_connection(("127.0.0.1", port.getHost().port))
                self.addCleanup(client.close)
            all_accepted: Deferred[None] = Deferred()

            def turn_ends() -> None:
                in_turns.append(in_this_turn[0])
                in_this_turn[0] = 0
                if sum(in_turns) > 3 * ACCEPTS_PER_TURN:
                    all_accepted.callback(None)
                else:
                    clock.callLater(0, turn_ends)

            turn_ends()
            return all_accepted

        [listener] = parse_port(reactor, "0", "127.0.0.1")
        return (
            listener.endpoint.listen(Counting())
            .addCallback(opened)
            .addCallback(lambda _: self.assertLessEqual(max(in_turns), ACCEPTS_PER_TURN))
        )
