"""Presence on a public relay: told to those who share a room or have exchanged messages."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.acquaintances import MAX_WRITTEN_TO, Acquaintances
from chatrelay.commands import rooms
from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client, World, what_is_left


def seen(client: Client) -> set[bytes]:
    """Whom ``/who`` shows."""
    client.told()
    client.send(b"/who\n")
    return {line.split()[1] for line in client.told() if line.startswith(b"!who ")}


class AcquaintancesTests(SynchronousTestCase):
    """What names wrote to each other, against the same in a set of pairs."""

    def test_as_a_set_of_pairs(self) -> None:
        randomly = random.Random(6)
        names = [b"%d" % number for number in range(6)]
        acquaintances, pairs = Acquaintances(), set[tuple[bytes, bytes]]()
        for _ in range(3000):
            one, other = randomly.choice(names), randomly.choice(names)
            if randomly.random() < 0.1:
                acquaintances.forget(one)
                pairs = {pair for pair in pairs if one not in pair}
            else:
                acquaintances.note(one, other)
                pairs.add((one, other))
            for first in names:
                for second in names:
                    self.assertEqual(
                        acquaintances.do_know(first, second),
                        {(first, second), (second, first)} <= pairs,
                    )
        for name in names:
            acquaintances.forget(name)
        self.assertEqual(vars(acquaintances), vars(Acquaintances()))

    def test_bound(self) -> None:
        acquaintances = Acquaintances()
        for number in range(MAX_WRITTEN_TO + 1):
            acquaintances.note(b"a", b"%d" % number)
            acquaintances.note(b"%d" % number, b"a")
        self.assertFalse(acquaintances.do_know(b"a", b"0"))
        self.assertTrue(acquaintances.do_know(b"a", b"1"))
        self.assertTrue(acquaintances.do_know(b"a", b"%d" % MAX_WRITTEN_TO))

    def test_bound_of_all(self) -> None:
        acquaintances = Acquaintances(max_pairs=100)
        acquaintances.note(b"a", b"b")
        acquaintances.note(b"b", b"a")
        for number in range(1000):
            # Who writes to somebody new stays.
            acquaintances.note(b"a", b"%d" % (number % 20))
            acquaintances.note(b"stranger%d" % (number // 10), b"%d" % number)
            kept = sum(map(len, acquaintances._written_to.values()))
            self.assertLessEqual(kept, 100)
            self.assertEqual(kept, acquaintances._pairs)
            self.assertEqual(kept, sum(map(len, acquaintances._read_by.values())))
        self.assertFalse(acquaintances.do_know(b"b", b"a"))


class PublicTests(SynchronousTestCase):
    """``/who`` and ``/watch``."""

    def setUp(self) -> None:
        self.world = World(is_public=True, operators=[b"root"])
        self.alice, self.bob = self.world.join(b"alice"), self.world.join(b"bob")

    def test_strangers_do_not_see_each_other(self) -> None:
        self.assertEqual(seen(self.alice), {b"alice"})
        self.assertEqual(self.alice.lines(b"/who bob"), [b"!end who 0"])
        self.assertEqual(self.alice.lines(b"/watch bob"), [b"!offline bob"])
        self.bob.reset()
        self.world.join(b"bob")
        self.assertEqual(self.alice.told(), [])

    def test_one_who_only_writes_learns_nothing(self) -> None:
        self.alice.send(b"%bob%hello\n")
        self.assertEqual((seen(self.alice), seen(self.bob)), ({b"alice"}, {b"bob"}))

    def test_who_has_exchanged_messages(self) -> None:
        for one, other in ((self.alice, b"%bob%"), (self.bob, b"@ref=1 %alice%")):
            one.send(other + b"hello\n")
        self.assertEqual(seen(self.alice), {b"alice", b"bob"})
        self.assertEqual(seen(self.bob), {b"alice", b"bob"})
        self.assertEqual(self.alice.lines(b"/watch bob"), [b"!online bob"])
        self.bob.reset()
        self.assertEqual(self.alice.told(), [b"!offline bob"])
        # Another one.
        self.world.join(b"bob").send(b"%alice%who are you?\n")
        self.assertEqual(self.alice.told(), [b"%bob%who are you?"])
        self.assertEqual(seen(self.alice), {b"alice"})

    def test_who_shares_a_room(self) -> None:
        self.alice.send(b"/watch bob\n/join #ops\n")
        self.bob.send(b"/join #ops\n/join #other\n")
        self.assertEqual(seen(self.alice), {b"alice", b"bob"})
        self.assertEqual(
            self.alice.lines(b"/rooms"), [b"!room #ops members=2 joined", b"!end rooms 1"]
        )
        self.bob.reset()
        self.assertEqual(self.alice.told(), [b"!offline bob", b"!left #ops bob"])

    def test_a_name_that_is_owned_is_known_when_it_is_back(self) -> None:
        world = OwnedWorld(self, is_public=True)
        alice, bob = world.join(b"alice"), world.owner(b"bob")
        alice.send(b"/watch bob\n%bob%hello\n")
        bob.send(b"%alice%hello\n")
        alice.told()
        bob.reset()
        world.log_in(b"bob " + SECRET)
        self.assertEqual(alice.told(), [b"!offline bob", b"!online bob"])

    def test_nothing_is_left(self) -> None:
        self.test_who_has_exchanged_messages()
        for client in list(self.world.clients):
            client.reset()
        self.assertEqual(len(self.world.relay.acquaintances), 0)
        self.assertEqual({k: v for k, v in what_is_left(self.world).items() if v}, {})


class WorkTests(SynchronousTestCase):
    """Who may see nobody is not answered in one turn, however many there are."""

    def most_in_a_turn(self, world: World, client: Client, line: bytes) -> int:
        """How many names or rooms were looked at in one turn until the line was answered."""
        looked, most = [0], 0

        def counted(look: Any) -> Any:
            def look_and_count(*arguments: Any) -> Any:
                looked[0] += 1
                return look(*arguments)

            return look_and_count

        self.patch(world.relay, "may_see", counted(world.relay.may_see))
        self.patch(rooms, "_room_line", counted(rooms._room_line))
        client.write(line + b"\n")
        while b"!end" not in client.raw():
            looked[0] = 0
            world.turn()
            most = max(most, looked[0])
        return most

    def test_lists(self) -> None:
        now_s = count(1)
        world = World(is_public=True, seconds=lambda: next(now_s) * Limits().turn_s)
        alice = world.join(b"alice")
        for number in range(1500):
            client = world.join(b"bob%d" % number)
            client.send(b"/join #r%d\n" % number)
            world.clients.remove(client)
        for line in (b"/who", b"/rooms"):
            self.assertIn(self.most_in_a_turn(world, alice, line), range(1, 600), line)
