"""Rooms: joined, left, spoken in, and gone with their last member."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.relay_harness import Client, World, what_is_left

MIB = 1024 * 1024


def people(world: World, *names: bytes, room: bytes = b"#ops") -> list[Client]:
    """Clients that are in a room and have read everything."""
    clients = [world.join(name) for name in names]
    for client in clients:
        client.send(b"/join " + room + b"\n")
    for client in clients:
        client.told()
    return clients


class JoiningTests(SynchronousTestCase):
    """Who is in which room, and who is told."""

    def setUp(self) -> None:
        self.world = World()

    def test_the_first_makes_it_and_each_is_told(self) -> None:
        alice, bob = self.world.join(b"alice"), self.world.join(b"Bob")
        alice.send(b"/join #Ops\n")
        self.assertEqual(
            alice.told(), [b"!joined #Ops alice", b"!members #Ops alice", b"!end members #Ops 1"]
        )
        bob.send(b"@ref=1 /join #ops\n")
        self.assertEqual(
            bob.told(),
            [
                b"@ref=1 !joined #Ops Bob",
                b"@ref=1 !members #Ops alice Bob",
                b"@ref=1 !end members #Ops 2",
            ],
        )
        self.assertEqual(alice.told(), [b"!joined #Ops Bob"])

    def test_again_is_answered_and_changes_nothing(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.send(b"/join #ops\n")
        self.assertEqual(
            bob.told(), [b"!joined #ops bob", b"!members #ops alice bob", b"!end members #ops 2"]
        )
        self.assertEqual(alice.told(), [])

    def test_leaving(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.send(b"@ref=7 /leave #OPS\n")
        self.assertEqual(bob.told(), [b"@ref=7 !left #ops bob"])
        self.assertEqual(alice.told(), [b"!left #ops bob"])
        bob.send(b"/leave #ops\n%#ops%x\n")
        self.assertEqual(bob.told(), [b"!error not-in-room #ops"] * 2)
        alice.send(b"/leave #ops\n/leave #ops\n%#ops%x\n")
        self.assertEqual(alice.told(), [b"!left #ops alice", *[b"!error unknown-room #ops"] * 2])

    def test_a_name_that_goes_leaves(self) -> None:
        for how in (b"/quit\n", b"/name robert\n"):
            alice, bob = people(self.world, b"alice", b"bob")
            bob.send(how)
            self.assertEqual(alice.told(), [b"!left #ops bob"])
            alice.send(b"/quit\n")
            bob.reset()
            self.assertEqual(list(self.world.relay.rooms), [])

    def test_another_writing_of_ones_name_stays(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.send(b"/name BOB\n%#ops%hi\n/join #ops\n")
        self.assertEqual(alice.told(), [b"%#ops%BOB%hi"])
        self.assertIn(b"!members #ops alice BOB", bob.told())

    def test_what_can_not_be_one(self) -> None:
        alice = self.world.join(b"alice")
        for line in (
            b"/join ops",
            b"/join #",
            b"/join # ops",
            b"/leave #a b",
            b"/join",
            b"/rooms x",
        ):
            alice.send(line + b"\n")
            [answer] = alice.told()
            self.assertIn(answer, (b"!error bad-room", b"!error bad-line"), line)
        alice.send(b"/leave #none\n/who #none\n%#no one%x\n")
        self.assertEqual(
            alice.told(),
            [b"!error unknown-room #none", b"!error unknown-room #none", b"!error bad-room"],
        )

    def test_a_long_list_is_cut_into_lines(self) -> None:
        names = [b"member-number-%02d" % number for number in range(90)]
        *_, last = people(self.world, *names)
        last.send(b"/join #ops\n")
        joined, *members, end = last.told()
        self.assertEqual((joined, end), (b"!joined #ops " + names[-1], b"!end members #ops 90"))
        self.assertGreater(len(members), 1)
        self.assertEqual([word for line in members for word in line.split()[2:]], names)

    def test_bounds(self) -> None:
        world = World(Limits(max_rooms_per_client=2, max_rooms=3, max_members=2))
        alice, bob, carol = (world.join(name) for name in (b"alice", b"bob", b"carol"))
        alice.send(b"/join #a\n/join #b\n/join #c\n")
        self.assertEqual(alice.told()[-1], b"!error too-many-rooms #c")
        bob.send(b"/join #a\n/join #c\n")
        carol.send(b"/join #a\n/join #d\n")
        self.assertEqual(carol.told(), [b"!error too-many-rooms #a", b"!error too-many-rooms #d"])

    def test_listing(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.send(b"/join #b\n")
        bob.told()
        alice.send(b"/rooms\n")
        self.assertEqual(
            alice.told(), [b"!room #ops members=2 joined", b"!room #b members=1", b"!end rooms 2"]
        )

    def test_who_is_in_it(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        carol = self.world.join(b"carol")
        bob.send(b"/join #secret\n/join #both\n")
        alice.send(b"/join #both\n")
        alice.told()
        for asked in (b"#ops", b"bob"):
            alice.send(b"/who " + asked + b"\n")
            line = next(line for line in alice.told() if line.startswith(b"!who bob"))
            self.assertTrue(line.endswith(b"rooms=#ops,#both"), line)
        carol.send(b"/who #ops\n/who bob\n")
        refusal, line, _ = carol.told()
        self.assertEqual(refusal, b"!error not-in-room #ops")
        self.assertTrue(line.endswith(b"rooms="), line)

    def test_who_shares_more_rooms_than_a_line_holds(self) -> None:
        world = World(Limits(max_line_bytes=512))
        rooms = [b"#%b%d" % ("ж".encode() * 28, n) for n in range(10, 74)]
        alice, bob = world.join(b"alice"), world.join(b"bob")
        for client in (alice, bob):
            client.lines(*(b"/join " + room for room in rooms))
        alice.told()
        *lines, end = alice.lines(b"@ref=1 /who bob")
        self.assertEqual(end, b"@ref=1 !end who %d" % len(lines))
        self.assertLess(max(map(len, lines)), 512 + 1024)
        parts = [line.partition(b" rooms=") for line in lines]
        self.assertEqual(len({head for head, _, _ in parts}), 1)
        self.assertEqual(b",".join(part for _, _, part in parts).split(b","), rooms)


class SpeakingTests(SynchronousTestCase):
    """What one member says reaches all others, each as it asked for it."""

    def setUp(self) -> None:
        self.world = World()

    def test_each_as_it_is_written(self) -> None:
        world = self.world
        members = {
            caps: world.join(caps.replace(b" ", b"-") + eol_name, caps=caps, eol=eol)
            for caps, eol, eol_name in (
                (b"none", b"\n", b"1"),
                (b"none ping", b"\r\n", b"2"),
                (b"id", b"\n", b"3"),
                (b"time", b"\r\n", b"4"),
                (b"id time", b"\n", b"5"),
            )
        }
        for client in members.values():
            client.send(b"/join #ops\n")
        [alice] = people(world, b"alice")
        for client in members.values():
            client.told()
        alice.send(b"%#ops%one\n%#ops%two %% %\n")
        raw = {caps: client.raw() for caps, client in members.items()}
        self.assertEqual(raw[b"none"], b"%#ops%alice%one\n%#ops%alice%two %% %\n")
        self.assertEqual(raw[b"none ping"], b"%#ops%alice%one\r\n%#ops%alice%two %% %\r\n")
        ids = [line.partition(b" ")[0][4:] for line in raw[b"id"].splitlines()]
        time = b"time=" + world.relay.timestamp(world.relay.now_ms())
        self.assertEqual(len(set(ids)), 2)
        self.assertEqual(
            raw[b"id"],
            b"@id=%b %%#ops%%alice%%one\n@id=%b %%#ops%%alice%%two %%%% %%\n" % (ids[0], ids[1]),
        )
        self.assertEqual(
            raw[b"time"],
            b"@%b %%#ops%%alice%%one\r\n@%b %%#ops%%alice%%two %%%% %%\r\n" % (time, time),
        )
        self.assertEqual(
            raw[b"id time"].splitlines()[0], b"@id=%b;%b %%#ops%%alice%%one" % (ids[0], time)
        )
        self.assertEqual(alice.told(), [])

    def test_nothing_overtakes_what_a_room_is_told(self) -> None:
        for whole in (True, False):
            alice, bob = people(self.world, b"alice", b"bob")
            people(self.world, b"carol", room=b"#b")
            bob.send(b"/join #b\n")
            alice.send(b"/join #b\n")
            bob.told()
            lines = [b"%bob%1", b"%#ops%2", b"%bob%3", b"%#b%4", b"%#ops%5", b"%#OPS%6", b"%BOB%7"]
            for part in [b"\n".join(lines) + b"\n"] if whole else [line + b"\n" for line in lines]:
                alice.send(part)
            self.assertEqual(
                [line.rpartition(b"%")[2] for line in bob.told()],
                [b"1", b"2", b"3", b"4", b"5", b"6", b"7"],
            )
            for name in (b"alice", b"bob", b"carol"):
                for device in self.world.relay.registry.devices(name):
                    device.cut()  # type: ignore[attr-defined]
            self.world.settle()

    def test_echo(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        alice.send(b"/caps echo\n%#ops%hi\n%bob%and you\n")
        self.assertEqual(alice.told(), [b"!caps echo", b"%#ops%alice%hi"])
        self.assertEqual(bob.told(), [b"%#ops%alice%hi", b"%alice%and you"])

    def test_refs(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        carol = self.world.join(b"carol")
        for _ in range(2):
            alice.send(b"@ref=1 %#ops%hi\n@ref=2 %#Ops%hi\n")
            self.assertEqual(alice.told(), [b"@ref=1 !sent #ops", b"@ref=2 !sent #Ops"])
        self.assertEqual(bob.told(), [b"%#ops%alice%hi"] * 2)
        alice.send(b"@ref=1 %#ops%ho\n@ref=3 %#none%x\n@ref=4 %#ops%\n@ref=5 %#ops,bob%x\n")
        self.assertEqual(
            alice.told(),
            [
                b"@ref=1 !error ref-reused #ops",
                b"@ref=3 !error unknown-room #none",
                b"@ref=4 !error empty-text",
                b"@ref=5 !error bad-line",
            ],
        )
        carol.send(b"@ref=1 %#ops%let me in\n")
        self.assertEqual(carol.told(), [b"@ref=1 !error not-in-room #ops"])
        self.assertEqual(bob.told(), [])

    def test_many_refusals_let_others_have_their_turn(self) -> None:
        [alice] = people(self.world, b"alice")
        mallory = self.world.join(b"mallory")
        mallory.stop_taking()
        mallory.send(b"%#ops%x\n" * 100_000)
        self.assertLess(self.world.relay.flow.unsent_bytes, 2 * MIB)
        self.assertEqual(alice.told(), [])
        mallory.take()
        self.assertEqual(mallory.told(), [b"!error not-in-room #ops"] * 100_000)


class FlowTests(SynchronousTestCase):
    """A room waits for most of its members, and for no single one."""

    def setUp(self) -> None:
        self.world = World()

    def say_much(self, speaker: Client, mebibytes: int) -> int:
        """What of it is read."""
        lines = (b"%#ops%" + b"x" * 1000 + b"\n") * (mebibytes * 1024)
        speaker.send(lines)
        return len(lines) - sum(map(len, speaker.transport.incoming))

    def test_one_that_does_not_read_holds_nobody_and_is_ended(self) -> None:
        alice, bob, carol = people(self.world, b"alice", b"bob", b"carol")
        carol.stop_taking()
        self.say_much(alice, 4)
        self.assertFalse(alice.transport.incoming)
        self.assertEqual(bob.raw().count(b"\n"), 4096)
        self.world.pass_time(12.0)
        self.assertFalse(carol.is_connected)
        self.assertEqual(bob.told(), [b"!left #ops carol"])

    def test_more_than_half_hold_who_speaks(self) -> None:
        alice, bob, carol, dave = people(self.world, b"alice", b"bob", b"carol", b"dave")
        carol.stop_taking()
        dave.stop_taking()
        self.assertLess(self.say_much(alice, 4), 2 * MIB)
        dave.take()
        self.assertEqual(dave.raw().count(b"\n"), 4096)
        self.assertEqual(bob.raw().count(b"\n"), 4096)

    def test_who_is_written_otherwise_holds_as_before(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.stop_taking()
        self.say_much(alice, 4)
        waiting = sum(map(len, alice.transport.incoming))
        bob.send(b"/caps id\n")
        self.assertEqual(sum(map(len, alice.transport.incoming)), waiting)
        bob.take()
        self.assertEqual(sum(map(len, alice.transport.incoming)), 0)

    def test_what_waits_for_who_speaks_does_not_count(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.stop_taking()
        self.say_much(alice, 4)
        self.assertTrue(alice.transport.incoming)
        bob.send(b"%#ops%slowly\n" * 3)
        bob.send(b"%#ops%but surely\n")
        self.assertEqual(alice.raw().count(b"%#ops%bob%"), 4)

    def test_who_leaves_holds_nobody(self) -> None:
        alice, bob = people(self.world, b"alice", b"bob")
        bob.stop_taking()
        self.assertLess(self.say_much(alice, 4), 2 * MIB)
        bob.send(b"/leave #ops\n")
        self.assertEqual(self.world.relay.rooms.of(b"bob"), [])
        self.assertEqual(sum(map(len, alice.transport.incoming)), 0)


class NothingIsLeftTests(SynchronousTestCase):
    """When all have gone there is nothing of them."""

    def test_nothing(self) -> None:
        world = World()
        for _ in range(3):
            clients = people(world, b"alice", b"bob", b"carol")
            clients[0].send(b"%#ops%x\n%#OPS%x\n/join #b\n@ref=1 %#oPS%x\n")
            clients[1].send(b"/join #B\n/leave #ops\n")
            for client in clients:
                client.reset()
        left = what_is_left(world)
        self.assertEqual({name: value for name, value in left.items() if value}, {})
