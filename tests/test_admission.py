"""Who may be connected: docs/protocol.rst, *Limits*."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.admission import Admission
from chatrelay.errors import TooManyClients
from chatrelay.limits import Limits
from tests.relay_harness import World, what_is_left


class Unnamed:
    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1
        self.admission.remove_unnamed(self)


class AdmissionTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        admission = Admission(Limits(max_per_address=2))
        self.assertEqual(
            [admission.connected("a", exempt=False) for _ in range(3)], [True, True, False]
        )
        self.assertTrue(admission.connected("b", exempt=False))
        self.assertTrue(admission.connected("a", exempt=True))
        admission.disconnected("a")
        self.assertTrue(admission.connected("a", exempt=False))
        for host in ("a", "a", "b"):
            admission.disconnected(host)
        self.assertEqual(admission._connections, {})

    def test_the_longest_unnamed_gives_way(self) -> None:
        admission = Admission(Limits(max_unnamed=2))
        unnamed = [Unnamed(admission) for _ in range(5)]
        for connection in unnamed[:4]:
            admission.add_unnamed(connection)
        self.assertEqual([connection.gave_way for connection in unnamed], [1, 1, 0, 0, 0])
        admission.remove_unnamed(unnamed[2])
        admission.add_unnamed(unnamed[4])
        self.assertEqual([connection.gave_way for connection in unnamed], [1, 1, 0, 0, 0])

    def test_room_for_clients(self) -> None:
        admission = Admission(Limits(max_clients=2))
        admission.check_room(1)
        self.assertRaises(TooManyClients, admission.check_room, 2)


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
