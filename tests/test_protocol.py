"""The TCP door: other protocols' peers, time before a name, how connections close."""

from __future__ import annotations

from unittest import mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import protocol
from chatrelay.factory import RelayFactory
from chatrelay.limits import Limits
from chatrelay.protocol import RelayProtocol
from tests.relay_harness import Client, SlowClaims, World, what_is_left

POST = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:12345\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 30\r\n\r\nmallory\r\n%bob%from a web page\r\n"
)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + b"\nmallory\n%bob%x\n"


class OtherProtocolTests(SynchronousTestCase):
    """No other protocol's request is a client: unanswered, and nothing after it is parsed."""

    def check_closed(self, stream: bytes, piece: int, after: bytes = b"") -> None:
        world = World()
        bob, peer = world.join(b"bob"), world.connect()
        bob.lines(b"/watch mallory")
        if after:
            peer.send(after)
        answered = peer.raw()
        for start in range(0, len(stream), piece):
            peer.write(stream[start : start + piece])
        world.settle()
        self.assertEqual(peer.raw(), b"", stream[-40:])
        self.assertFalse(peer.is_connected, stream[-40:])
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(bob.told(), [], (stream[-40:], answered))
        bob.end()
        self.assertEqual(what_is_left(world), {})

    def test_an_http_request(self) -> None:
        for stream in (
            POST,
            POST.replace(b"\r\n", b"\n"),
            b"GET / HTTP/1.0\r\n\r\nmallory\n%bob%x\n",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\nmallory\n%bob%x\n",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nmallory\n%bob%x\n",
            b"GET /" + b"x" * (8192 - 14) + b" HTTP/1.1\r\nmallory\n%bob%x\n",
            b"GET /" + b"x" * (8192 - 13) + b" HTTP/1.1\r\nmallory\n%bob%x\n",
            b"GET / HTTP/2\nmallory\n%bob%x\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmallory\n%bob%x\n",
            b"\r\nGET / HTTP/1.1\r\nmallory\n%bob%x\n",
        ):
            for piece in (len(stream), 1, 17):
                self.check_closed(stream, piece)

    def test_a_tls_hello(self) -> None:
        for piece in (len(TLS_HELLO), 1):
            self.check_closed(TLS_HELLO, piece)

    def test_after_the_hint_and_after_a_refused_line_too(self) -> None:
        self.check_closed(POST, len(POST), b"not a name\n")

    def test_to_a_named_client_it_is_text(self) -> None:
        world = World()
        bob = world.join(b"bob")
        self.assertEqual(
            bob.lines(b"%bob%GET / HTTP/1.1", b"GET / HTTP/1.1", b"\x16"),
            [b"%bob%GET / HTTP/1.1", b"!error bad-line", b"!error bad-text"],
        )

    def test_a_name_that_only_looks_like_it(self) -> None:
        world = World()
        told = world.connect().lines(b"HTTP", b"/quit")
        self.assertEqual(told, [b"!welcome HTTP version=1 max-line=8192", b"!bye"])


class BeforeANameTests(SynchronousTestCase):
    """The hint, the time-out, and the third refused first line."""

    def setUp(self) -> None:
        self.world = World()

    def test_the_hint_comes_after_3_seconds_of_silence(self) -> None:
        client = self.world.connect()
        self.world.pass_time(2.9)
        self.assertEqual(client.told(), [])
        self.world.pass_time(0.2)
        self.assertEqual(client.told(), [b"!hello"])
        self.world.pass_time(20)
        self.assertEqual(client.told(), [])

    def test_only_to_those_who_said_nothing(self) -> None:
        for data in (b"c", b"\n", b"/ping 1\n", b"carol\n"):
            client = self.world.connect()
            client.send(data)
            client.raw()
            self.world.pass_time(5)
            self.assertEqual(client.told(), [], data)

    def test_the_hint_is_as_it_is_written_down(self) -> None:
        client = self.world.connect()
        self.world.pass_time(3)
        self.assertEqual(
            client.raw(), b"!hello :Type a name to begin; /help lists the commands.\r\n"
        )

    def test_the_timeout_comes_after_30_seconds_without_a_name(self) -> None:
        for data in (b"", b"carol", b"/ping\n", b"not a name\n"):
            client = self.world.connect()
            self.world.pass_time(1)
            client.send(data)
            self.world.pass_time(28.5)
            client.raw()
            self.assertTrue(client.is_connected)
            self.world.pass_time(1)
            self.assertEqual(client.told(), [b"!error timeout"])
            self.assertFalse(client.is_connected)

    def test_a_client_with_a_name_may_be_silent(self) -> None:
        client = self.world.join(b"carol")
        self.world.pass_time(1000)
        self.assertEqual(client.told(), [])
        self.assertTrue(client.is_connected)

    def test_the_option_sets_the_timeout(self) -> None:
        world = World(Limits(naming_timeout_s=4))
        client = world.connect()
        world.pass_time(3.5)
        self.assertEqual(client.told(), [b"!hello"])
        world.pass_time(1)
        self.assertEqual(client.told(), [b"!error timeout"])


class ClosingTests(SynchronousTestCase):
    """Every close that can not complete is an abort after 5 s; what was written is sent first."""

    def setUp(self) -> None:
        self.world = World()

    def quit(self, client: Client) -> None:
        client.write(b"/ping 1\n/quit\n/ping 2\n%a%b\n")
        self.world.settle()

    def test_what_was_written_is_sent_then_the_end(self) -> None:
        client = self.world.join(b"a")
        self.quit(client)
        self.assertEqual(client.told(), [b"!pong 1", b"!bye"])
        self.assertFalse(client.is_connected)
        self.assertFalse(client.transport.aborted)

    def test_a_peer_that_takes_nothing_is_aborted_after_5_seconds(self) -> None:
        client = self.world.join(b"a")
        client.stop_taking()
        self.quit(client)
        self.world.pass_time(4.9)
        self.assertTrue(client.is_connected)
        self.world.pass_time(0.2)
        self.assertTrue(client.transport.aborted)
        self.assertFalse(client.is_connected)

    def test_a_peer_that_does_not_close_is_aborted_after_5_seconds(self) -> None:
        client = self.world.join(b"a")
        client.transport.closes_after_relay = False
        self.quit(client)
        self.assertTrue(client.transport.ended)
        for _ in range(5):
            client.write(b"%a%still talking\n")
            self.world.pass_time(0.9)
        self.assertEqual(client.transport.incoming, type(client.transport.incoming)())
        self.assertTrue(client.is_connected)
        self.world.pass_time(0.6)
        self.assertFalse(client.is_connected)
        self.assertEqual(what_is_left(self.world), {})

    def test_the_name_is_free_at_once(self) -> None:
        client = self.world.join(b"a")
        client.stop_taking()
        self.quit(client)
        self.assertTrue(client.is_connected)
        self.world.join(b"a")

    def test_a_client_that_is_held_can_be_closed(self) -> None:
        slow, sender = self.world.join(b"slow"), self.world.join(b"sender")
        slow.stop_taking()
        sender.send((b"%slow%" + b"x" * 1000 + b"\n") * 2000)
        self.assertFalse(sender.transport.reading)
        sender.session.close("by a test")
        self.world.settle()
        self.assertFalse(sender.is_connected)
        slow.reset()
        self.assertEqual(what_is_left(self.world), {})


class ShutdownTests(SynchronousTestCase):
    """Each client is told, and the service is told when all are gone."""

    def setUp(self) -> None:
        self.world = World()

    def test_every_client_is_told(self) -> None:
        clients = [self.world.join(b"a"), self.world.join(b"b"), self.world.connect()]
        clients[0].lines(b"/watch b")
        gone = self.world.factory.shut_down()
        self.assertNoResult(gone)
        self.world.settle()
        self.successResultOf(gone)
        for client in clients:
            self.assertEqual(client.told()[-1:], [b"!error shutting-down"])
            self.assertFalse(client.is_connected)
        self.assertEqual(what_is_left(self.world), {})

    def test_with_nobody_here(self) -> None:
        self.successResultOf(self.world.factory.shut_down())

    def test_who_takes_nothing_is_given_5_seconds(self) -> None:
        client = self.world.join(b"a")
        client.stop_taking()
        gone = self.world.factory.shut_down()
        self.world.pass_time(4.9)
        self.assertNoResult(gone)
        self.world.pass_time(0.2)
        self.successResultOf(gone)

    def test_who_was_already_closing_does_not_delay_it(self) -> None:
        client = self.world.join(b"a")
        client.transport.closes_after_relay = False
        client.send(b"/quit\n")
        self.assertTrue(client.is_connected)
        gone = self.world.factory.shut_down()
        self.world.pass_time(0.3)
        self.successResultOf(gone)

    def test_who_does_not_close_is_waited_for_a_moment_only(self) -> None:
        client = self.world.join(b"a")
        client.transport.closes_after_relay = False
        gone = self.world.factory.shut_down()
        self.world.settle()
        self.assertEqual(client.told(), [b"!error shutting-down"])
        self.assertTrue(client.transport.reading)
        self.assertNoResult(gone)
        self.world.pass_time(0.3)
        self.successResultOf(gone)

    def test_who_has_ended_its_input_is_still_written_its_answers(self) -> None:
        client = self.world.join(b"a")
        client.stop_taking()
        client.lines(*[b"/ping " + b"x" * 1000] * 500)
        client.end()
        gone = self.world.factory.shut_down()
        client.take()
        self.world.settle()
        self.successResultOf(gone)
        self.assertEqual(client.told().count(b"!pong " + b"x" * 1000), 500)

    def test_one_that_fails_does_not_keep_the_others(self) -> None:
        failing, other = self.world.join(b"a"), self.world.join(b"b")
        with mock.patch.object(failing.session.connection, "close", side_effect=ZeroDivisionError):
            gone = self.world.factory.shut_down()
        self.world.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(other.told(), [b"!error shutting-down"])
        self.assertFalse(failing.is_connected)
        self.successResultOf(gone)

    def test_nobody_new_comes_in(self) -> None:
        self.world.factory.shut_down()
        self.assertIsNone(self.world.factory.buildProtocol(None))

    def test_a_claim_that_is_decided_then_gives_no_name(self) -> None:
        claims = SlowClaims()
        world = World(claims=claims)
        client = world.connect()
        client.send(b"a\n")
        world.factory.shut_down()
        claims.decide_next()
        world.settle()
        self.assertEqual(client.told(), [b"!error shutting-down"])
        self.assertEqual(world.relay.registry.client_count, 0)


class AddressTests(SynchronousTestCase):
    """Who a peer is, and how many may come from one address."""

    def setUp(self) -> None:
        self.world = World(Limits(max_per_address=2))

    def test_each_address_has_its_own_bound(self) -> None:
        first, second = self.world.connect("192.0.2.1"), self.world.connect("192.0.2.1")
        third = self.world.connect("192.0.2.1")
        self.assertEqual(third.told(), [b"!error too-many-clients"])
        self.assertFalse(third.is_connected)
        self.assertIsNone(third.session)
        other = self.world.connect("192.0.2.2")
        for client in (first, second, other):
            self.assertTrue(client.is_connected)

    def test_new_connections_of_an_address(self) -> None:
        world = World(Limits(connects_per_min=3))
        for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            for _ in range(3):
                client = world.connect(host)
                self.assertIsNotNone(client.session)
                client.end()
            client = world.connect(host if ":" not in host else "2001:db8::2")
            self.assertEqual(client.told(), [b"!error rate-limited"])
            self.assertFalse(client.is_connected)
        world.pass_time(20)
        self.assertIsNotNone(world.connect("192.0.2.1").session)
        for _ in range(10):
            world.connect("127.0.0.1").end()
            self.assertIsNotNone(world.connect().session)

    def test_who_goes_on_is_closed_without_a_word_until_the_second_is_over(self) -> None:
        world = World(Limits(connects_per_min=1))
        kept = world.connect("192.0.2.1")
        address = IPv4Address("TCP", "192.0.2.1", 9)
        for _ in range(3):
            told = world.connect(address).told()
            self.assertEqual(told, [b"!error rate-limited"])
        for _ in range(3):
            client = world.connect(address)
            self.assertEqual((client.is_connected, client.raw()), (False, b""))
            self.assertIsNone(client.protocol)
        self.assertIsNotNone(world.connect("192.0.2.2").session)
        self.assertIsNotNone(world.connect("127.0.0.1").session)
        world.pass_time(1)
        self.assertEqual(world.connect(address).told(), [b"!error rate-limited"])
        self.assertTrue(kept.is_connected)

    def test_beyond_what_is_told_in_a_second_it_is_aborted(self) -> None:
        world = World(Limits(connects_per_min=1))
        for number in range(60):
            world.connect(f"192.0.2.{number}")
            client = world.connect(f"192.0.2.{number}")
            self.assertEqual(client.told(), [b"!error rate-limited"][: number < 50])
            self.assertEqual(client.transport.aborted, number >= 50)
            self.assertFalse(client.is_connected)
        # What nobody was told is no refusal that /stats counts.
        self.assertEqual(world.relay.statistics.refusals["rate-limited"], 50)

    def test_through_a_proxy_its_own_address_is_not_counted(self) -> None:
        world = World(Limits(connects_per_min=2))
        self.patch(protocol, "is_proxied", lambda _: True)
        for number in range(5):
            client = world.connect("198.51.100.1")
            client.transport.address = IPv4Address("TCP", f"192.0.2.{number % 2}", 99)
            told = client.lines(b"/ping")
            self.assertEqual(told, [b"!pong"] if number < 4 else [b"!error rate-limited"])
            client.end()
        self.assertFalse(world.relay.admission.told)
        self.assertEqual(world.relay.statistics.refusals["rate-limited"], 1)

    def test_through_a_proxy_the_silent_keep_nobody_out(self) -> None:
        world = World(Limits(max_per_address=2))
        self.patch(protocol, "is_proxied", lambda _: True)
        silent = [world.connect("198.51.100.1") for _ in range(5)]
        client = world.connect("198.51.100.1")
        client.transport.address = IPv4Address("TCP", "192.0.2.1", 99)
        self.assertEqual(client.lines(b"/ping"), [b"!pong"])
        for each in (client, *silent):
            each.end()
        self.assertEqual(what_is_left(world), {})

    def test_what_a_refused_one_says_is_not_served(self) -> None:
        self.world.connect("192.0.2.1"), self.world.connect("192.0.2.1")
        third = self.world.connect("192.0.2.1")
        third.transport.closes_after_relay = False
        third.send(b"mallory\n")
        third.end()
        self.assertEqual(self.world.relay.registry.client_count, 0)
        self.assertEqual(third.told(), [b"!error too-many-clients"])

    def test_a_place_is_free_again_when_its_connection_is_gone(self) -> None:
        first, _ = self.world.connect("192.0.2.1"), self.world.connect("192.0.2.1")
        self.world.connect("192.0.2.1")
        first.end()
        self.assertIsNotNone(self.world.connect("192.0.2.1").session)
        self.assertIsNone(self.world.connect("192.0.2.1").session)

    def test_what_a_proxy_names_and_is_no_address_is_closed(self) -> None:
        client = self.world.connect()
        client.transport.address = IPv4Address("TCP", "no.address", 1)
        client.send(b"mallory\n")
        self.assertFalse(client.is_connected)
        self.assertEqual(client.told(), [])
        self.assertEqual(what_is_left(self.world), {})

    def test_loopback_and_unix_sockets_have_none(self) -> None:
        for address in (
            "127.0.0.1",
            "127.9.9.9",
            IPv6Address("TCP", "::1", 1),
            IPv6Address("TCP", "::ffff:127.0.0.1", 1),
            UNIXAddress("/run/chatrelay"),
            UNIXAddress(None),
        ):
            for _ in range(3):
                self.assertIsNotNone(self.world.connect(address).session, address)

    def test_an_ipv4_address_in_ipv6_writing_is_the_same(self) -> None:
        for address in ("::ffff:192.0.2.1", "::ffff:c000:201"):
            self.world.connect(IPv6Address("TCP", address, 9))
        self.assertIsNone(self.world.connect("192.0.2.1").session)

    def test_a_zone_is_no_part_of_an_address(self) -> None:
        client = self.world.connect(IPv6Address("TCP", "fe80::1%eth0", 7))
        self.assertEqual(client.session.peer, ("fe80::1", 7))

    def test_the_registry_keeps_address_and_port(self) -> None:
        client = self.world.connect(IPv4Address("TCP", "192.0.2.9", 4711))
        client.lines(b"carol")
        session = self.world.relay.registry.find(b"carol")
        self.assertEqual((session.peer.host, session.peer.port), ("192.0.2.9", 4711))
        self.assertEqual(session.connected_s, self.world.relay.wall_clock())

    def test_behind_a_proxy_the_address_is_read_at_the_first_bytes(self) -> None:
        clients = [self.world.connect("127.0.0.1") for _ in range(3)]
        for client in clients:
            # What HAProxyWrappingFactory does when it has read its header.
            client.transport.address = IPv4Address("TCP", "192.0.2.5", 99)
            client.send(b"name%d\n" % client.transport.clock.seconds())
        self.assertEqual(clients[0].session.peer, ("192.0.2.5", 99))
        self.assertEqual(clients[2].told(), [b"!error too-many-clients"])
        self.assertFalse(clients[2].is_connected)

    def test_behind_a_proxy_loopback_is_not_trusted(self) -> None:
        for _ in range(2):
            client = self.world.connect("192.0.2.5")
            client.transport.address = IPv4Address("TCP", "127.0.0.1", 99)
            client.send(b"/ping\n")
        client = self.world.connect("192.0.2.5")
        client.transport.address = IPv4Address("TCP", "127.0.0.1", 98)
        self.assertEqual(client.lines(b"/ping"), [b"!error too-many-clients"])

    def test_the_counts_are_empty_when_all_have_left(self) -> None:
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "127.0.0.1", "192.0.2.4"):
            client = self.world.connect(address)
            if address == "192.0.2.4":
                client.transport.address = IPv4Address("TCP", "192.0.2.1", 9)
            client.send(b"x\n")
        for client in list(self.world.clients):
            client.end()
        self.assertEqual(what_is_left(self.world), {})


class ReceiverTests(SynchronousTestCase):
    """What Twisted sees."""

    def test_it_is_a_line_receiver_that_knows_half_closes(self) -> None:
        client = World().connect()
        self.assertIsInstance(client.protocol, LineReceiver)
        self.assertTrue(IHalfCloseableProtocol.providedBy(client.protocol))

    def test_the_delimiter_is_the_clients(self) -> None:
        for eol in (b"\n", b"\r\n"):
            client = World().join(b"a", eol=eol)
            self.assertEqual(client.protocol.delimiter, eol)

    def test_a_line_that_is_not_plain_comes_through_line_received(self) -> None:
        seen: list[bytes] = []

        class Watching(RelayProtocol):
            def lineReceived(self, line: bytes) -> None:
                seen.append(line)
                super().lineReceived(line)

        world = World()
        client = world.join(b"a")
        client.protocol.__class__ = Watching
        client.send(b"%a%1\n%a%2\n/ping\n%a%3\n%nobody%4\n@a %a%5\n")
        self.assertEqual(seen, [b"/ping", b"%nobody%4", b"@a %a%5"])

    def test_the_factory_holds_the_registry(self) -> None:
        world = World()
        self.assertIsInstance(world.factory, RelayFactory)
        self.assertIs(world.factory.registry, world.relay.registry)

    def test_the_clock_stops_with_the_last_connection(self) -> None:
        world = World()
        client = world.connect()
        world.factory.doStop()
        self.assertNotEqual(world.clock.getDelayedCalls(), [])
        client.end()
        self.assertEqual(world.clock.getDelayedCalls(), [])
