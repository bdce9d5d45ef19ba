"""The service: ports, bots, starting and stopping."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from chatrelay.errors import Misuse
from chatrelay.factory import RelayFactory
from chatrelay.limits import Limits
from chatrelay.listening import Listener, describe, parse_port
from chatrelay.options import Options
from chatrelay.relay import Relay
from chatrelay.service import RelayService, makeService
from tests.store_harness import temporary_directory


class Port:
    """One that listens."""

    def __init__(self) -> None:
        self.stopping: Deferred[None] = Deferred()
        self.is_stopped = False

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4711)

    def stopListening(self) -> Deferred[None]:
        self.is_stopped = True
        return self.stopping


@implementer(IStreamServerEndpoint)
class Endpoint:
    """One that answers what a test says."""

    def __init__(self, answer: Callable[[], Deferred[Any]]) -> None:
        self.answer = answer
        self.factories: list[Factory] = []

    def listen(self, factory: Factory) -> Deferred[Any]:
        self.factories.append(factory)
        return self.answer()


def cannot_listen(number: int, address: str = "127.0.0.1") -> Deferred[Any]:
    return fail(CannotListenError(address, 4711, OSError(number, os.strerror(number))))


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        # The limit of open files is of the whole process.
        patched = mock.patch.object(resource, "setrlimit")
        self.setrlimit = patched.start()
        self.addCleanup(patched.stop)

    def service(self, *listeners: Listener, limits: Limits | None = None) -> RelayService:
        relay = Relay(limits or Limits(max_clients=10, max_unnamed=10), seconds=self.clock.seconds)
        return RelayService(RelayFactory(self.clock, relay), listeners, [reverse])

    def test_it_listens_on_all_and_stops_all(self) -> None:
        ports = [Port(), Port()]
        endpoints = [Endpoint(lambda port=port: succeed(port)) for port in ports]
        service = self.service(*(Listener("4711", endpoint) for endpoint in endpoints))
        service.privilegedStartService()
        service.startService()
        self.assertEqual(service.ports, ports)
        for endpoint in endpoints:
            self.assertEqual(endpoint.factories, [service.factory])
        stopping = service.stopService()
        self.assertTrue(all(port.is_stopped for port in ports))
        self.assertNoResult(stopping)
        for port in ports:
            port.stopping.callback(None)
        self.successResultOf(stopping)
        self.assertIsNone(service.factory.buildProtocol(None))

    def test_without_twistd_it_listens_too(self) -> None:
        endpoint = Endpoint(lambda: succeed(Port()))
        service = self.service(Listener("4711", endpoint))
        service.startService()
        self.assertEqual(len(endpoint.factories), 1)

    def test_a_port_that_can_not_be_had_ends_with_one_line(self) -> None:
        for number, word in [
            (errno.EADDRINUSE, "choose another port"),
            (errno.EACCES, "privileges"),
            (errno.EADDRNOTAVAIL, "does not have that address"),
            (errno.EMFILE, "Too many open files"),
        ]:
            service = self.service(
                Listener("4711", Endpoint(lambda number=number: cannot_listen(number)))
            )
            ended = self.assertRaises(SystemExit, service.privilegedStartService)
            self.assertIn(word, ended.code)
            self.assertIn("4711", ended.code)
            self.assertEqual(len(ended.code.splitlines()), 1)

    def test_a_machine_without_ipv6(self) -> None:
        for number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            service = self.service(
                Listener("4711", Endpoint(lambda: succeed(Port()))),
                Listener(
                    "4711", Endpoint(lambda number=number: cannot_listen(number, "::1")), True
                ),
            )
            service.privilegedStartService()
            self.assertEqual(len(service.ports), 1)

    def test_an_optional_port_in_use_is_an_error_all_the_same(self) -> None:
        service = self.service(
            Listener("4711", Endpoint(lambda: cannot_listen(errno.EADDRINUSE)), True)
        )
        self.assertRaises(SystemExit, service.privilegedStartService)

    def test_its_bots_are_here(self) -> None:
        service = self.service()
        self.assertIsNotNone(service.factory.registry.find(b"reverse"))

    def test_two_bots_of_one_name(self) -> None:
        relay = Relay(seconds=self.clock.seconds)
        self.assertRaises(
            Misuse, RelayService, RelayFactory(self.clock, relay), [], [reverse, reverse]
        )

    def test_it_raises_its_limit_of_open_files(self) -> None:
        for soft, hard, most in [(100, 4096, 1020 + 64), (100, 500, 500), (4096, 4096, None)]:
            self.setrlimit.reset_mock()
            service = self.service(
                Listener("1", Endpoint(lambda: succeed(Port()))),
                limits=Limits(max_clients=1000, max_unnamed=20),
            )
            with mock.patch.object(resource, "getrlimit", return_value=(soft, hard)):
                service.startService()
            calls = [call.args for call in self.setrlimit.mock_calls]
            self.assertEqual(
                calls, [] if most is None else [(resource.RLIMIT_NOFILE, (most, hard))]
            )

    def test_ports_are_described_for_people(self) -> None:
        for address, words in [
            (IPv4Address("TCP", "127.0.0.1", 1), "127.0.0.1 port 1, for this machine only"),
            (IPv4Address("TCP", "0.0.0.0", 1), "0.0.0.0 port 1"),
            (UNIXAddress("/run/x"), "the Unix socket /run/x"),
        ]:
            port = mock.Mock()
            port.getHost.return_value = address
            self.assertEqual(describe(port), words)

    def test_with_a_reactor_in_memory(self) -> None:
        reactor = MemoryReactorClock()
        factory = RelayFactory(reactor, Relay(seconds=reactor.seconds))
        service = RelayService(factory, parse_port(reactor, "4711", None))
        service.privilegedStartService()
        self.assertEqual(
            [(port, interface) for port, _, _, interface in reactor.tcpServers],
            [(4711, "127.0.0.1"), (4711, "::1")],
        )


class MakeServiceTests(SynchronousTestCase):
    """From the options to the service, with the reactor that is installed but does not run."""

    def setUp(self) -> None:
        # The limit of open files is of the whole process.
        patched = mock.patch.object(resource, "setrlimit")
        self.setrlimit = patched.start()
        self.addCleanup(patched.stop)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))

    def make(self, *words: str) -> RelayService:
        from twisted.internet import reactor  # noqa: PLC0415 - what makeService uses

        options = Options()
        options.parseOptions(list(words))
        with mock.patch.object(reactor, "callWhenRunning") as called:
            service = makeService(options)
        called.assert_called()
        return service

    def test_it_rereads_its_file_on_sighup(self) -> None:
        path = temporary_directory(self) / "relay.toml"
        path.write_text("[limits]\nmax-clients = 5\n", "utf-8")
        service = self.make("--config", str(path))
        path.write_text("[limits]\nmax-clients = 6\n", "utf-8")
        calls: list[Callable[[], None]] = []
        with mock.patch("twisted.internet.reactor.callFromThread", calls.append):
            signal.raise_signal(signal.SIGHUP)
        self.assertEqual(service.factory.relay.limits.max_clients, 5)
        with mock.patch.object(resource, "getrlimit", return_value=(1, 9999)):
            calls[0]()
        self.assertEqual(service.factory.relay.limits.max_clients, 6)
        self.setrlimit.assert_called_with(resource.RLIMIT_NOFILE, (2000 + 6 + 64, 9999))

    def test_what_does_not_go_well_together(self) -> None:
        for words, address, warnings in [
            (["--operator", "boss"], "0.0.0.0", []),
            (["--operator", "boss", "--data", "none"], "::1", ["operators need accounts"]),
            (["--public"], "0.0.0.0", ["strangers can read"]),
            (["--public"], "127.0.0.1", []),
            (["--max-unsent", "100000"], "127.0.0.1", ["--max-unsent is less than --high-water"]),
            (["--max-unsent", "100000", "--high-water", "100000"], "127.0.0.1", []),
        ]:
            service = self.make("--max-clients", "1", "--max-unnamed", "1", *words)
            port = mock.Mock()
            port.getHost.return_value = IPv4Address("TCP", address, 1)
            service.ports = [port]
            with capturedLogs() as events:
                service.configuration_changed()
            said = [formatEvent(event) for event in events]
            self.assertEqual(len(said), len(warnings), (words, said))
            for line, warning in zip(said, warnings, strict=True):
                self.assertTrue(line.startswith(warning), line)

    def test_the_options_reach_the_relay(self) -> None:
        service = self.make(
            "--max-clients",
            "5",
            "--reserve",
            "root",
            "--verbose",
            "--no-bots",
            "--public",
            "--operator",
            "boss",
        )
        relay = service.factory.relay
        self.assertEqual((relay.is_public, relay.operators), (True, {b"boss"}))
        self.assertEqual(relay.limits.max_clients, 5)
        self.assertTrue(relay.console.verbose)
        self.assertIn(b"root", relay.registry._reserved)
        self.assertIsNone(relay.registry.find(b"reverse"))
