"""Who may be connected: docs/protocol.rst, *Limits*."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.admission import Admission, Told
from chatrelay.bans import Bans
from chatrelay.limits import Limits
from chatrelay.networks import network_of
from tests.relay_harness import World, what_is_left


class Unnamed:
    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1
        self.admission.remove_unnamed(self)


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def admission(self, limits: Limits) -> Admission:
        return Admission(limits, self.clock.seconds, Bans(self.clock.seconds))

    def connect(self, admission: Admission, network: str) -> str:
        refused = admission.connected(network, exempt=False)
        return "" if refused is None else refused.refusal.code

    def test_addresses(self) -> None:
        admission = self.admission(Limits(max_per_address=2))
        self.assertEqual(
            [self.connect(admission, "a") for _ in range(3)], ["", "", "too-many-clients"]
        )
        self.assertEqual(self.connect(admission, "b"), "")
        self.assertIsNone(admission.connected("a", exempt=True))
        admission.disconnected("a")
        self.assertEqual(self.connect(admission, "a"), "")
        for host in ("a", "a", "b"):
            admission.disconnected(host)
        self.assertEqual(admission._connections, {})

    def test_new_connections(self) -> None:
        admission = self.admission(Limits(connects_per_min=2))
        for network, after_s, code in [
            ("a", 0, ""),
            ("a", 0, ""),
            ("a", 0, "rate-limited"),
            ("b", 0, ""),
            ("a", 30, ""),
            ("a", 0, "rate-limited"),
            ("a", 3600, ""),
            ("a", 0, ""),
            ("a", 0, "rate-limited"),
        ]:
            self.clock.advance(after_s)
            self.assertEqual(self.connect(admission, network), code)
            if not code:
                admission.disconnected(network)
        self.assertEqual(admission._connections, {})

    def test_a_site_counts_as_some_addresses(self) -> None:
        limits = Limits(max_per_address=2, connects_per_min=3, accounts_per_day=2)
        for many, codes in (
            (0, [""] * 8),
            (3, [*[""] * 6, *["too-many-clients"] * 2]),
            (1, ["", "", *["too-many-clients"] * 6]),
        ):
            admission = self.admission(replace(limits, addresses_per_site=many))
            hosts = [f"2001:db8:7:{number:x}::1" for number in range(8)]
            self.assertEqual([self.connect(admission, host) for host in hosts], codes)
            self.assertEqual(self.connect(admission, "2001:db8:8::1"), "")
            self.assertEqual(self.connect(admission, "192.0.2.1"), "")
            # Whatever it was when they came.
            limits_now = replace(limits, addresses_per_site=3 - many)
            admission._limits.change_to(limits_now)
            for host, code in zip(hosts, codes, strict=True):
                if not code:
                    admission.disconnected(network_of(host))
            admission.disconnected(network_of("2001:db8:8::1"))
            admission.disconnected("192.0.2.1")
            self.assertEqual(admission._connections, {})

    def test_what_a_site_does_in_a_while(self) -> None:
        admission = self.admission(
            Limits(connects_per_min=3, accounts_per_day=2, addresses_per_site=2)
        )
        hosts = [f"2001:db8:7:{number:x}::1" for number in range(8)]
        codes = [self.connect(admission, host) for host in hosts]
        self.assertEqual(codes, [*[""] * 6, *["rate-limited"] * 2])
        # Those two have left nothing.
        self.assertEqual(len(admission._connects), 7)
        registered = [admission.registers(network_of(host)) for host in hosts]
        self.assertEqual(registered, [*[True] * 4, *[False] * 4])
        admission.did_not_register(network_of(hosts[0]))
        self.assertTrue(admission.registers(network_of(hosts[7])))
        self.assertFalse(admission.registers(network_of(hosts[7])))

    def test_one_address_takes_nothing_from_others_of_its_site(self) -> None:
        admission = self.admission(
            Limits(connects_per_min=3, accounts_per_day=2, addresses_per_site=2)
        )
        for _ in range(100):
            self.connect(admission, "2001:db8:7::1")
            admission.registers(network_of("2001:db8:7::1"))
        neighbours = [self.connect(admission, "2001:db8:7:1::1") for _ in range(4)]
        self.assertEqual(neighbours, ["", "", "", "rate-limited"])
        registered = [admission.registers(network_of("2001:db8:7:1::1")) for _ in range(3)]
        self.assertEqual(registered, [True, True, False])

    def test_any_number_of_them(self) -> None:
        admission = self.admission(Limits(connects_per_min=0, max_per_address=10_000))
        self.assertEqual({self.connect(admission, "a") for _ in range(5000)}, {""})

    def test_whoever_is_refused_for_its_number_has_not_connected(self) -> None:
        admission = self.admission(Limits(connects_per_min=2, max_per_address=1))
        told = [self.connect(admission, "a") for _ in range(4)]
        self.assertEqual(told, ["", *["too-many-clients"] * 3])
        admission.disconnected("a")
        self.assertEqual(self.connect(admission, "a"), "")

    def test_many_addresses_take_bounded_memory(self) -> None:
        admission = self.admission(Limits(max_counted_addresses=100))
        for number in range(1000):
            self.connect(admission, str(number))
            admission.disconnected(str(number))
            admission.told.refuse(str(number))
        self.assertEqual(len(admission._connects), 100)
        for number in range(1000, 5000):
            admission.told.refuse(str(number))
        self.assertLessEqual(len(admission.told._refused), 1024)

    def test_the_longest_unnamed_gives_way(self) -> None:
        admission = self.admission(Limits(max_unnamed=2))
        unnamed = [Unnamed(admission) for _ in range(5)]
        for connection in unnamed[:4]:
            admission.add_unnamed(connection)
        self.assertEqual([connection.gave_way for connection in unnamed], [1, 1, 0, 0, 0])
        admission.remove_unnamed(unnamed[2])
        admission.add_unnamed(unnamed[4])
        self.assertEqual([connection.gave_way for connection in unnamed], [1, 1, 0, 0, 0])

    def test_who_closes_goes_before_those_who_may_be_given_a_name(self) -> None:
        admission = self.admission(Limits(max_unnamed=2))
        first, second, third, fourth = (Unnamed(admission) for _ in range(4))
        closing, other = Unnamed(admission), Unnamed(admission)
        admission.add_unnamed(first)
        admission.add_closing(closing)
        admission.add_unnamed(second)
        self.assertEqual((closing.gave_way, first.gave_way), (1, 0))
        # One alone is given the time that it takes to be written why.
        admission.add_closing(closing)
        self.assertEqual((closing.gave_way, first.gave_way), (1, 0))
        admission.add_closing(other)
        self.assertEqual((closing.gave_way, other.gave_way), (2, 0))
        admission.add_unnamed(third)
        self.assertEqual((other.gave_way, first.gave_way, second.gave_way), (1, 1, 0))
        for connection in (second, third, fourth):
            admission.remove_unnamed(connection)
        self.assertEqual((admission._unnamed, admission._closing), ({}, {}))

    def test_room_for_clients(self) -> None:
        admission = self.admission(Limits(max_clients=2))
        self.assertEqual([admission.is_full(count) for count in (1, 2, 3)], [False, True, True])


class ToldTests(SynchronousTestCase):
    """Refusals are told to each address three times in a second, and fifty times in all."""

    def test_one_address(self) -> None:
        told = Told()
        self.assertFalse(told)
        self.assertEqual([told.refuse("a") for _ in range(4)], [True, True, True, False])
        self.assertTrue(told)
        self.assertEqual((told.is_over("a"), told.is_over("b")), (True, False))
        told.tick()
        self.assertEqual((bool(told), told.is_over("a"), told.refuse("a")), (False, False, True))

    def test_many(self) -> None:
        told = Told()
        self.assertEqual(sum(told.refuse(str(number)) for number in range(60)), 50)
        self.assertFalse(told.is_over("59"))
        told.tick()
        self.assertTrue(told.refuse("59"))


class BoundTests(SynchronousTestCase):
    """The same as clients see it."""

    def test_the_defaults(self) -> None:
        limits = Limits()
        self.assertEqual(
            (limits.max_clients, limits.max_unnamed, limits.max_per_address), (20_000, 2_000, 64)
        )

    def test_five_clients_at_once(self) -> None:
        """The number of the tutorial this grew out of."""
        world = World(Limits(max_clients=5))
        clients = [world.join(b"client%d" % number) for number in range(5)]
        sixth = world.connect()
        self.assertEqual(sixth.lines(b"@ref=1 sixth"), [b"@ref=1 !error too-many-clients"])
        self.assertFalse(sixth.is_connected)
        clients[0].lines(b"%client1,client2,client3,client4%hello")
        for client in clients[1:]:
            self.assertEqual(client.told(), [b"%client0%hello"])
        clients[0].end()
        world.join(b"sixth")

    def test_the_longest_unnamed_is_closed(self) -> None:
        world = World(Limits(max_unnamed=2))
        named = world.join(b"carol")
        first, second, third = world.connect(), world.connect(), world.connect()
        self.assertEqual(first.told(), [b"!error too-many-clients"])
        self.assertFalse(first.is_connected)
        for client in (named, second, third):
            self.assertTrue(client.is_connected)
        second.lines(b"second")
        fourth = world.connect()
        self.assertTrue(third.is_connected)
        self.assertTrue(fourth.is_connected)

    def test_who_waits_for_its_peer_to_close_is_counted(self) -> None:
        world = World(Limits(max_unnamed=2))
        leaving = []
        for _ in range(5):
            leaving.append(world.connect())
            leaving[-1].transport.closes_after_relay = False
            leaving[-1].send(b"carol\n/quit\n")
            self.assertEqual(leaving[-1].told()[-1], b"!bye")
        self.assertEqual([client.is_connected for client in leaving], [False] * 3 + [True] * 2)
        world.pass_time(5)
        self.assertEqual(what_is_left(world), {})

    def test_bots_are_no_clients(self) -> None:
        world = World(Limits(max_clients=1))
        carol = world.join(b"carol")
        carol.end()
        world.join(b"dave").end()
        self.assertEqual(what_is_left(world), {})
