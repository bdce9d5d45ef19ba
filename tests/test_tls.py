"""The certificate of TLS ports, while it is renewed, and connections that are no TLS."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from chatrelay.certificate.pair import read_pair
from chatrelay.errors import Misuse
from chatrelay.factory import RelayFactory
from chatrelay.limits import Limits
from chatrelay.sockets import MAX_READ_BYTES, PACED_READ_BYTES
from chatrelay.tls import DAY_S, RenewableCertificate, TlsEndpoint, is_tls
from chatrelay.tls_transport import TlsTransport
from tests.relay_harness import what_is_left
from tests.tls_harness import (
    Files,
    TlsClient,
    TlsWorld,
    authority,
    handshake,
    issued,
    issued_for,
    key_pem,
    now,
    pass_on,
)

ADDRESS = IPv4Address("TCP", "127.0.0.1", 50_000)


class LogTestCase(SynchronousTestCase):
    """A test that looks at what is logged, and has files of a relay's certificate."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.files = Files(self.directory)
        self._events: list[LogEvent] = []
        globalLogPublisher.addObserver(self._events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self._events.append)

    def logged(self) -> list[str]:
        """What was logged since this was last asked, with its level, without the directory."""
        lines = [
            f"{event['log_level'].name}: {formatEvent(event)}".replace(f"{self.directory}/", "")
            for event in self._events
            if event.get("log_namespace") == "chatrelay"
        ]
        self._events.clear()
        return lines


class PairTests(LogTestCase):
    """A certificate and its key, read from files."""

    def refusal(self) -> str:
        misuse = self.assertRaises(Misuse, read_pair, self.files.certificate, self.files.key)
        sentence = str(misuse).replace(f"{self.directory}/", "")
        self.assertEqual(len(sentence.splitlines()), 1)
        return sentence

    def test_a_good_one(self) -> None:
        names = ("relay.example", "*.relay.example", "192.0.2.1", "2001:db8::1")
        certificate = self.files.renew(*names)
        pair = read_pair(self.files.certificate, self.files.key)
        self.assertEqual(pair.certificate, certificate.certificate)
        self.assertEqual(list(pair.chain), [authority().certificate])
        self.assertEqual(pair.names(), ", ".join(names))
        self.assertFalse(pair.is_key_open)

    def test_one_file_for_both(self) -> None:
        certificate = issued()
        self.files.put(self.files.key, certificate.key_pem + certificate.chain_pem)
        pair = read_pair(self.files.key, self.files.key)
        self.assertEqual(pair.certificate, certificate.certificate)

    def test_many_names_are_not_all_shown(self) -> None:
        self.files.renew(*(f"n{number}" for number in range(50)))
        pair = read_pair(self.files.certificate, self.files.key)
        self.assertEqual(pair.names(), "n0, n1, n2, n3, n4, n5 and 44 more")

    def test_what_can_not_be_used(self) -> None:
        other = issued()
        encrypted = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        reversed_chain = authority().certificate_pem + other.chain_pem
        key, certificate = "key", "certificate"
        for file, contents, words in (
            (certificate, b"", "certificate.pem holds no certificate in PEM form"),
            (certificate, b"nothing\n", "certificate.pem holds no certificate in PEM form"),
            (certificate, other.chain_pem[:300], "certificate.pem holds no certificate"),
            (certificate, other.key_pem, "certificate.pem holds no certificate in PEM form"),
            (key, b"", "key.pem holds no private key in PEM form"),
            (key, other.key_pem[:100], "key.pem holds no private key in PEM form"),
            (key, other.chain_pem, "key.pem holds no private key in PEM form"),
            (key, encrypted, "the key in key.pem is encrypted"),
            (key, other.key_pem, "the key in key.pem is not that of the certificate in cert"),
            (certificate, other.chain_pem, "the key in key.pem is not that of the certificate"),
        ):
            self.files.renew()
            self.files.put(getattr(self.files, file), contents)
            self.assertIn(words, self.refusal())
        self.files.put(self.files.key, other.key_pem)
        self.files.put(self.files.certificate, reversed_chain)
        self.assertIn("has to come first", self.refusal())

    def test_a_part_of_the_chain_is_not_taken_for_the_whole(self) -> None:
        whole = self.files.certificate.read_bytes()
        leaf_bytes = whole.index(b"-----END") + len(b"-----END CERTIFICATE-----\n")
        for size in (*range(0, leaf_bytes - 1, 97), *range(leaf_bytes + 40, len(whole) - 26, 97)):
            self.files.put(self.files.certificate, whole[:size])
            self.assertIn("holds no certificate", self.refusal())

    def test_what_is_not_there_or_not_to_be_read(self) -> None:
        self.files.key.unlink()
        self.assertIn("there is no key at key.pem; python -m chatrelay.cert", self.refusal())
        self.files.key.mkdir()
        self.assertIn("key.pem can not be read: Is a directory", self.refusal())
        self.files.certificate.unlink()
        self.assertIn("there is no certificate at certificate.pem; python -m", self.refusal())

    def test_a_key_that_others_may_read(self) -> None:
        for mode, is_open in ((0o600, False), (0o640, False), (0o644, True), (0o602, True)):
            self.files.key.chmod(mode)
            pair = read_pair(self.files.certificate, self.files.key)
            self.assertEqual(pair.is_key_open, is_open, oct(mode))


class RenewalTests(LogTestCase):
    """Files that change while connections come."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.wall_s = now().timestamp()
        self.certificate = self.make()

    def make(self) -> RenewableCertificate:
        return RenewableCertificate(
            self.files.certificate, self.files.key, self.clock, lambda: self.wall_s
        )

    def served(self) -> int:
        """Connect; the serial number of the certificate that the client is shown."""
        client, _ = handshake(self.certificate)
        shown = client.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        return shown.serial_number

    def serial(self) -> int:
        return read_pair(self.files.certificate, self.files.key).certificate.serial_number

    def test_a_renewed_one_is_used_a_second_later(self) -> None:
        before = self.serial()
        self.assertEqual(self.served(), before)
        self.files.renew("new.example")
        self.clock.advance(0.9)
        self.assertEqual(self.served(), before)
        self.assertEqual(self.logged(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.served(), self.serial())
        [line] = self.logged()
        self.assertRegex(
            line,
            r"^info: TLS uses the certificate in certificate\.pem as it is now, for new\.example,"
            r" valid until \d{4}-\d\d-\d\d$",
        )
        self.clock.advance(5)
        self.served()
        self.assertEqual(self.logged(), [])

    def test_touched_only(self) -> None:
        os.utime(self.files.certificate)
        self.clock.advance(1)
        self.served()
        self.assertEqual(self.logged(), [])

    def test_half_renewed(self) -> None:
        before, renewed = self.serial(), issued("new.example")
        self.files.put(self.files.key, renewed.key_pem)
        self.clock.advance(1)
        self.assertEqual(self.served(), before)
        [line] = self.logged()
        self.assertIn("error: the certificate has changed and can not be used, TLS goes on", line)
        self.assertIn("for localhost, 127.0.0.1, ::1, valid until", line)
        self.assertIn("the key in key.pem is not that of the certificate in", line)
        self.files.put(self.files.certificate, renewed.chain_pem)
        self.clock.advance(1)
        self.assertEqual(self.served(), renewed.certificate.serial_number)
        [line] = self.logged()
        self.assertIn("info: TLS uses the certificate", line)

    def test_it_complains_once_a_minute_and_when_the_files_change(self) -> None:
        before = self.serial()
        self.files.put(self.files.certificate, b"rubbish")
        complaints = 0
        for _ in range(150):
            self.clock.advance(1)
            self.assertEqual(self.served(), before)
            complaints += len(self.logged())
        self.assertEqual(complaints, 3)
        self.files.put(self.files.certificate, b"other rubbish")
        self.clock.advance(1)
        self.served()
        self.assertEqual(len(self.logged()), 1)

    def test_the_old_one_put_back_is_good_again(self) -> None:
        contents = self.files.certificate.read_bytes()
        self.files.certificate.rename(self.directory / "aside.pem")
        self.clock.advance(1)
        self.served()
        [line] = self.logged()
        self.assertIn("there is no certificate at certificate.pem", line)
        (self.directory / "aside.pem").rename(self.files.certificate)
        self.clock.advance(1)
        self.served()
        [line] = self.logged()
        self.assertIn("info: TLS uses the certificate", line)
        self.assertEqual(self.files.certificate.read_bytes(), contents)

    def test_a_directory_that_was_away(self) -> None:
        away = self.directory.with_name(self.directory.name + "-away")
        self.directory.rename(away)
        self.clock.advance(1)
        self.served()
        # The same files come back, unchanged.
        away.rename(self.directory)
        self.assertIn("there is no certificate at", self.logged()[0])
        self.clock.advance(1)
        self.served()
        [line] = self.logged()
        self.assertIn("info: TLS uses the certificate", line)

    def test_a_change_of_the_mode_alone_is_seen(self) -> None:
        self.files.key.chmod(0o644)
        self.clock.advance(1)
        self.served()
        self.assertIn(
            "warn: every user of this machine can read the key in key.pem: chmod o= key.pem",
            self.logged(),
        )

    def test_a_chain_that_came_later_is_served(self) -> None:
        certificate = issued()
        leaf, end, _ = certificate.chain_pem.partition(b"-----END CERTIFICATE-----\n")
        self.files.put(self.files.key, certificate.key_pem)
        for contents, length in [(leaf + end, 1), (certificate.chain_pem, 2)]:
            self.files.put(self.files.certificate, contents)
            self.clock.advance(1)
            client, _ = handshake(self.certificate)
            self.assertEqual(len(client.get_peer_cert_chain()), length)

    def test_a_key_that_openssl_finds_too_weak(self) -> None:
        before = self.serial()
        weak = rsa.generate_private_key(65537, 1024)
        certificate = issued_for(weak)
        self.files.put(self.files.key, key_pem(weak))
        self.files.put(self.files.certificate, certificate)
        self.clock.advance(1)
        self.assertEqual(self.served(), before)
        [line] = self.logged()
        self.assertIn("OpenSSL refuses the certificate in certificate.pem or its key: ", line)
        self.assertIn("key too small", line)

    def test_at_the_start(self) -> None:
        expires = "warn: the certificate in certificate.pem "
        for left_days, words in (
            (29, []),
            (14.1, []),
            (13.9, [expires + "expires in 13 days: renew it"]),
            (0.1, [expires + "expires in 0 days: renew it"]),
            (-0.1, [expires + "has expired, clients refuse it: renew it"]),
            (40, [expires + "is not valid yet, clients refuse it"]),
        ):
            ends_s = read_pair(self.files.certificate, self.files.key).ends.timestamp()
            self.wall_s = ends_s - left_days * DAY_S
            certificate = self.make()
            certificate.port_opened()
            announced, *warned = self.logged()
            self.assertIn("for localhost, 127.0.0.1, ::1, valid until", announced)
            self.assertEqual(warned, words)
            certificate.port_closed()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_ports_say_it_once(self) -> None:
        self.certificate.port_opened()
        self.certificate.port_opened()
        self.assertEqual(len(self.logged()), 1)
        self.certificate.port_closed()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.certificate.port_closed()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_warns_once_a_day_and_looks_too(self) -> None:
        self.certificate.port_opened()
        self.logged()
        warned = []
        for _ in range(32):
            self.wall_s += DAY_S
            self.clock.advance(DAY_S)
            warned.append([line.rpartition(", ")[0] or line for line in self.logged()])
        self.assertEqual([len(lines) for lines in warned], [0] * 15 + [1] * 17)
        self.files.renew("renewed.example", days=90)
        self.clock.advance(DAY_S)
        [line] = self.logged()
        self.assertIn("for renewed.example", line)
        self.certificate.port_closed()


class PolicyTests(LogTestCase):
    """What TLS allows."""

    def setUp(self) -> None:
        super().setUp()
        self.certificate = RenewableCertificate(self.files.certificate, self.files.key, Clock())

    def test_versions(self) -> None:
        for version, name in (
            (SSL.TLS1_VERSION, None),
            (SSL.TLS1_1_VERSION, None),
            (SSL.TLS1_2_VERSION, "TLSv1.2"),
            (SSL.TLS1_3_VERSION, "TLSv1.3"),
        ):
            context = SSL.Context(SSL.TLS_METHOD)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
            if name is None:
                error = self.assertRaises(SSL.Error, handshake, self.certificate, context)
                self.assertIn("unsupported protocol", str(error))
            else:
                client, _ = handshake(self.certificate, context)
                self.assertEqual(client.get_protocol_version_name(), name)

    def test_no_renegotiation(self) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client, server = handshake(self.certificate, context)
        self.assertTrue(client.renegotiate())
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        pass_on(client, server)
        self.assertRaises(SSL.WantReadError, server.recv, 100)
        pass_on(server, client)
        error = self.assertRaises(SSL.Error, client.do_handshake)
        self.assertIn("no renegotiation", str(error))


class ConnectionTests(SynchronousTestCase):
    """Connections of a TLS port that are no TLS, or no more."""

    def setUp(self) -> None:
        self.world = TlsWorld()

    def without_tls(self) -> Any:
        """Let nobody do what a TLS client would."""
        return mock.patch.object(TlsClient, "react", lambda _: False)

    def test_what_is_no_tls_is_closed_and_nobody_hears_of_it(self) -> None:
        bob = self.world.join(b"bob")
        for sent in (
            b"mallory\n%bob%hello\n",
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)),
            b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
            b"\n",
        ):
            with self.without_tls():
                peer = self.world.connect()
                peer.transport.incoming.append(sent + b"\n" * 10)
                self.world.settle()
            self.assertFalse(peer.is_connected, sent[:20])
            # Nothing but an alert of TLS's.
            self.assertIn(bytes(peer.transport.taken[:1]), (b"", b"\x15"), sent[:20])
        self.assertEqual(bob.told(), [])
        bob.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_a_handshake_that_is_not_finished_is_closed_by_the_naming_time_out(self) -> None:
        for begins in (b"", b"\x16", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"):
            with self.without_tls():
                peer = self.world.connect()
                if begins:
                    peer.transport.incoming.append(begins)
                self.world.pass_time(29)
                self.assertTrue(peer.is_connected)
                self.world.pass_time(7)
            self.assertFalse(peer.is_connected)
            self.assertEqual(peer.transport.taken, b"")
            self.assertEqual(what_is_left(self.world), {})
            self.world.factory.doStart()

    def test_who_does_not_answer_the_end_counts_as_one_without_a_name(self) -> None:
        world = TlsWorld(Limits(max_unnamed=3))
        carol = world.join(b"carol")
        with self.without_tls():
            for _ in range(20):
                world.connect()
            # One more is being told that it has to give way.
            self.assertLessEqual(len(world.factory._connections), 1 + 3 + 1)
        carol.lines(b"/ping")
        for client in list(world.clients):
            client.reset()
        self.assertEqual(what_is_left(world), {})

    def test_one_that_is_cut_short_frees_its_name(self) -> None:
        client = self.world.join(b"carol")
        client.reset()
        self.world.join(b"carol")

    def test_a_record_that_is_forged_ends_the_connection(self) -> None:
        bob, carol = self.world.join(b"bob"), self.world.join(b"carol")
        carol.write(b"%bob%paid 10\n")
        record = bytearray(carol.transport.incoming.pop())
        record[-1] ^= 1
        carol.transport.incoming.append(bytes(record))
        with self.without_tls():
            self.world.settle()
        self.assertFalse(carol.is_connected)
        self.assertEqual(bob.told(), [])

    def test_what_came_before_the_end_is_served(self) -> None:
        bob, carol = self.world.join(b"bob"), self.world.join(b"carol")
        assert isinstance(carol, TlsClient)
        carol.write(b"%bob%one\n" * 3000)
        carol.write(b"%bob%last\n")
        carol.say_goodbye()
        # All of it in one read, the end too.
        incoming = carol.transport.incoming
        joined = b"".join(incoming)
        incoming.clear()
        incoming.extend([joined, b""])
        self.world.settle()
        told = bob.told()
        self.assertEqual(len(told), 3001)
        self.assertEqual(told[-1], b"%carol%last")
        self.assertFalse(carol.is_connected)

    def test_small_records_count_for_their_pace_with_all_that_tls_adds(self) -> None:
        world = TlsWorld(Limits(bytes_per_s=10_000, burst_s=1))
        carol = world.join(b"carol")
        assert isinstance(carol, TlsClient)
        for _ in range(100):
            for _ in range(20):
                carol.write(b"x")
            world.settle()
        session = carol.session
        # 2,000 bytes in as many records are more than four times a second's share.
        self.assertTrue(session.gate.held)
        self.assertLess(session.bytes_in, 600)
        world.pass_time(1)
        self.assertLess(session.bytes_in, 1_000)
        world.pass_time(5)
        self.assertEqual(session.bytes_in, 2_000 + len(b"carol\n"))
        carol.write(b"\n/quit\n")
        world.settle()
        world.pass_time(11)
        self.assertFalse(carol.is_connected)
        self.assertEqual(what_is_left(world), {})

    def test_what_is_beyond_its_pace_is_served_before_the_end(self) -> None:
        world = TlsWorld(Limits(lines_per_s=100, burst_s=1))
        bob, carol = world.join(b"bob"), world.join(b"carol")
        assert isinstance(carol, TlsClient)
        carol.write(b"%bob%one\n" * 299 + b"%bob%last\n")
        carol.say_goodbye()
        world.settle()
        self.assertEqual(len(bob.told()), 99)  # one was its name
        world.pass_time(1)
        self.assertEqual(len(bob.told()), 100)
        self.assertTrue(carol.is_connected)
        world.pass_time(2)
        self.assertEqual(bob.told()[-1], b"%carol%last")
        self.assertFalse(carol.is_connected)

    def test_who_is_not_admitted_is_told(self) -> None:
        world = TlsWorld(Limits(connects_per_min=1))
        self.assertEqual(world.connect("192.0.2.1").lines(b"/ping"), [b"!pong"])
        for _ in range(3):
            client = world.connect("192.0.2.1")
            self.assertEqual(client.told(), [b"!error rate-limited"])
            self.assertFalse(client.is_connected)

    def test_what_has_to_wait_when_the_end_comes_is_served_too(self) -> None:
        bob, carol, dave = (self.world.join(name) for name in (b"bob", b"carol", b"dave"))
        assert isinstance(carol, TlsClient)
        bob.stop_taking()
        while not dave.session.gate.held:
            dave.send(b"%bob%" + b"d" * 8000 + b"\n")
        for end_of_tls in (True, False):
            sender = carol if end_of_tls else self.world.join(b"eve")
            sender.write(b"%bob%one\n%bob%two\n@ref=1 %bob%last\n")
            if end_of_tls:
                sender.say_goodbye()
            incoming = sender.transport.incoming
            joined = b"".join(incoming)
            incoming.clear()
            incoming.extend([joined, b""])
        self.world.settle()
        bob.take()
        told = bob.told()
        for name in (b"carol", b"eve"):
            came = [line for line in told if line.startswith(b"%" + name)]
            self.assertEqual(
                came, [b"%" + name + b"%" + text for text in (b"one", b"two", b"last")]
            )
        self.world.pass_time(11)
        self.assertEqual(self.world.relay.registry.client_count, 2)

    def test_small_records_are_read_few_at_a_time(self) -> None:
        """What they cost is each record, and a read of 64 KiB may have 2,800."""
        descriptor = FileDescriptor(MemoryReactor())
        transport = self.world.join(b"carol").protocol.transport
        for received_bytes, records, expected in [
            (16_384, 712, 1472),
            (1472, 64, 1472),
            (1024, 40, 1472),
            (1472, 2, 47_104),
            (100, 1, 6400),
            (6400, 1, MAX_READ_BYTES),
            (70_000, 4, MAX_READ_BYTES),
            (MAX_READ_BYTES, 16, MAX_READ_BYTES),
            (20, 1, 1280),
            (1280, 200, 1024),
        ]:
            transport._records = records
            transport.transport = descriptor
            transport.choose_read_size(received_bytes)
            self.assertEqual(descriptor.bufferSize, expected, (received_bytes, records))
        transport._records = 0
        transport.choose_read_size(5)
        self.assertEqual(descriptor.bufferSize, 1024)
        transport.wrappedProtocol.pacer = object()
        transport._records = 1
        transport.choose_read_size(6400)
        self.assertEqual(descriptor.bufferSize, PACED_READ_BYTES)

    def test_what_tls_can_not_take_now_is_sent_later(self) -> None:
        # As while the peer is changing its key.
        bob, carol = self.world.join(b"bob"), self.world.join(b"carol")
        transport = bob.protocol.transport
        tls = transport._tlsConnection
        changing = mock.Mock(wraps=tls)
        changing.sendall.side_effect = changing.send.side_effect = SSL.WantReadError
        transport._tlsConnection = changing
        carol.send(b"%bob%one\n%bob%two\n")
        self.assertEqual(bob.told(), [])
        transport._tlsConnection = tls
        bob.send(b"/ping\n")
        self.assertEqual(bob.told(), [b"%carol%one", b"%carol%two", b"!pong"])

    def test_the_last_that_was_written_comes_before_the_end(self) -> None:
        bob, carol = self.world.join(b"bob"), self.world.join(b"carol")
        bob.stop_taking()
        for _ in range(20):
            carol.send(b"%bob%" + b"x" * 8000 + b"\n")
        bob.send(b"/quit\n")
        bob.take()
        told = bob.told()
        self.assertEqual((len(told), told[-1]), (21, b"!bye"))
        self.assertFalse(bob.is_connected)
        self.assertFalse(bob.transport.aborted)

    def test_records_of_one_read_are_served_as_one(self) -> None:
        bob, carol = self.world.join(b"bob"), self.world.join(b"carol")
        reads: list[int] = []
        received = carol.protocol.dataReceived
        carol.protocol.dataReceived = lambda data: (reads.append(len(data)), received(data))
        lines = [b"%%bob%%%d\n" % number for number in range(100)]
        for line in lines:
            carol.write(line)
        joined = b"".join(carol.transport.incoming)
        carol.transport.incoming.clear()
        carol.transport.incoming.append(joined)
        self.world.settle()
        self.assertEqual(reads, [len(b"".join(lines))])
        self.assertEqual(len(bob.told()), 100)

    def test_what_is_written_at_once_goes_down_at_once(self) -> None:
        carol = self.world.join(b"carol")
        written: list[int] = []
        with mock.patch.object(carol.transport, "write", lambda data: written.append(len(data))):
            carol.transport.protocol.write(b"x" * 500_000)
        [size] = written
        self.assertGreater(size, 500_000)

    def test_a_connection_that_the_relay_does_not_want_is_closed(self) -> None:
        self.world.factory.is_stopping = True
        self.assertIsNone(self.world.tls_factory.buildProtocol(ADDRESS))


class Socket(FileDescriptor):
    """A connected descriptor whose socket takes what a test says."""

    connected = 1

    def __init__(self) -> None:
        self.room = 0
        self.taken = b""
        super().__init__(mock.Mock())

    def writeSomeData(self, data: bytes) -> int:
        size = min(len(data), self.room)
        self.room -= size
        self.taken += data[:size]
        return size


class WritingTests(SynchronousTestCase):
    """What goes to the socket at once, and what waits for it."""

    def setUp(self) -> None:
        self.socket = Socket()
        self.transport = TlsTransport(mock.Mock(), mock.Mock())
        self.transport.transport = self.socket

    def test_order_is_kept(self) -> None:
        self.socket.room = 5
        self.transport._send(b"12345")
        self.transport._send(b"67")
        self.socket.room = 100
        # It would fit, and has to wait behind what is there.
        self.transport._send(b"89")
        self.assertEqual(self.socket.taken, b"12345")
        self.socket.doWrite()
        self.assertEqual(self.socket.taken, b"123456789")
        self.transport._send(b"a")
        self.assertEqual(self.socket.taken, b"123456789a")

    def test_a_part_that_is_taken(self) -> None:
        self.socket.room = 3
        self.transport._send(b"12345")
        self.socket.room = 100
        self.socket.doWrite()
        self.assertEqual(self.socket.taken, b"12345")

    def test_a_socket_that_is_broken(self) -> None:
        self.socket.writeSomeData = lambda _: ConnectionLost()  # type: ignore[method-assign]
        self.transport._send(b"12345")
        # It finds the error itself.
        self.assertIsInstance(self.socket.doWrite(), ConnectionLost)


@implementer(IStreamServerEndpoint)
class Endpoint:
    """One that listens at once."""

    def __init__(self) -> None:
        self.factory: Any = None

    def listen(self, factory: Factory) -> Deferred[Any]:
        self.factory = factory
        return succeed(mock.Mock(factory=factory))


class EndpointTests(LogTestCase):
    """Listening."""

    def test_it_wraps_what_another_listens_with(self) -> None:
        clock, inner = Clock(), Endpoint()
        certificate = RenewableCertificate(self.files.certificate, self.files.key, clock)
        relay = RelayFactory(clock)
        port = self.successResultOf(TlsEndpoint(inner, certificate, clock).listen(relay))
        self.assertTrue(is_tls(port))
        self.assertIs(inner.factory.wrappedFactory, relay)
        self.assertEqual(self.logged(), [])
        inner.factory.doStart()
        self.assertEqual(len(self.logged()), 1)
        inner.factory.doStop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_others_do_not_speak_tls(self) -> None:
        self.assertFalse(is_tls(mock.Mock(factory=Factory())))
        self.assertFalse(is_tls(mock.Mock(spec=[])))
