"""Rooms that are kept: whose they are, who belongs to them, and what they find when they come."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool


def without_ids(lines: list[bytes]) -> list[bytes]:
    """Lines without the values of ids and times."""
    return [line.partition(b" id=")[0] for line in lines]


class KeptWorldTests(SynchronousTestCase):
    """Alice keeps ``#ops``; bob belongs to it; carol has a free name and is in it."""

    def setUp(self) -> None:
        self.world = OwnedWorld(self)
        self.alice = self.world.owner(b"alice")
        self.bob = self.world.owner(b"bob")
        self.carol = self.world.join(b"carol")
        for client in (self.alice, self.bob, self.carol):
            client.send(b"/join #ops\n")
        self.alice.send(b"/keep #ops\n")
        for client in (self.alice, self.bob, self.carol):
            client.told()

    def back(self, name: bytes, caps: bytes = b"none") -> Client:
        return self.world.log_in(name + b" " + SECRET, caps=caps)

    def forget(self, name: bytes) -> None:
        account = self.world.account(name)
        assert account is not None
        now_s = self.world.relay.wall_clock()
        self.world.in_store(lambda accounts: accounts.remove(account.number, now_s))


class KeepingTests(KeptWorldTests):
    """``/keep``, ``/unkeep``, ``/topic``, ``/invite``, ``/remove``."""

    def test_it_is_told(self) -> None:
        self.alice.send(b"@ref=1 /keep #OPS\n")
        self.assertEqual(self.alice.told(), [b"@ref=1 !kept #ops owner=alice"])
        self.assertEqual(self.carol.told(), [b"!kept #ops owner=alice"])
        self.alice.send(b"/keep #ops members-only\n/keep #ops open\n")
        self.assertEqual(
            self.bob.told(),
            [
                *(b"!kept #ops owner=alice", b"!kept #ops owner=alice members-only"),
                b"!kept #ops owner=alice",
            ],
        )

    def test_who_may(self) -> None:
        for line, answer in (
            (b"/keep #ops", b"!error not-allowed #ops"),
            (b"/unkeep #ops", b"!error not-allowed #ops"),
            (b"/topic #ops mine", b"!error not-allowed #ops"),
            (b"/invite #ops dave", b"!error not-allowed #ops"),
            (b"/remove #ops alice", b"!error not-allowed #ops"),
            (b"/keep #none", b"!error unknown-room #none"),
            (b"/topic #none", b"!error unknown-room #none"),
            (b"/keep ops", b"!error bad-room"),
            (b"/keep #ops closed", b"!error bad-line"),
        ):
            self.assertEqual(self.bob.lines(line), [answer], line)
        self.assertEqual(self.carol.lines(b"/join #c")[-1], b"!end members #c 1")
        self.assertEqual(self.carol.lines(b"/keep #c"), [b"!error not-allowed"])
        dave = self.world.join(b"dave")
        self.assertEqual(dave.lines(b"/topic #ops"), [b"!error not-in-room #ops"])

    def test_a_topic(self) -> None:
        self.assertEqual(self.carol.lines(b"/topic #ops"), [b"!topic #ops"])
        self.alice.send(b"@ref=1 /topic #ops disks, and what fills them\n")
        self.assertEqual(self.alice.told(), [b"@ref=1 !topic #ops"])
        self.assertIn(b"!topic #ops :disks, and what fills them\n", self.bob.raw())
        dave = self.world.join(b"dave")
        dave.send(b"/join #ops\n")
        self.assertIn(
            b"!joined #ops dave\n!topic #ops :disks, and what fills them\n!members", dave.raw()
        )
        long = self.alice.lines(b"/topic #ops " + b"x" * 401)
        self.assertEqual(long[-1], b"!error line-too-long")
        self.alice.send(b"/topic #ops -\n")
        self.assertIn(b"!topic #ops\n", self.bob.raw())

    def test_members_only(self) -> None:
        self.alice.send(b"/keep #ops members-only\n")
        dave = self.world.owner(b"dave")
        self.assertEqual(dave.lines(b"/join #ops"), [b"!error not-allowed #ops"])
        self.assertEqual(dave.lines(b"/rooms"), [b"!end rooms 0"])
        self.assertEqual(
            self.alice.lines(b"/invite #ops erin"),
            [b"!kept #ops owner=alice members-only", b"!error not-allowed erin"],
        )
        self.alice.send(b"/invite #ops Dave\n")
        self.assertEqual(self.alice.told(), [b"!invited #ops dave"])
        self.assertEqual(dave.told(), [b"!invited #ops dave"])
        self.assertEqual(dave.lines(b"/rooms")[0], b"!room #ops members=3 kept members-only")
        self.assertEqual(dave.lines(b"/join #ops")[0], b"!joined #ops dave")
        self.carol.send(b"/leave #ops\n/join #ops\n")
        self.assertEqual(self.carol.told()[-1], b"!error not-allowed #ops")

    def test_who_blocks_the_owner_is_not_told_of_an_invitation(self) -> None:
        dave = self.world.owner(b"dave")
        dave.lines(b"/block alice")
        self.assertEqual(self.alice.lines(b"/invite #ops dave"), [b"!invited #ops dave"])
        self.assertEqual(self.alice.lines(b"/remove #ops dave"), [b"!removed #ops dave"])
        self.assertEqual(dave.told(), [])

    def test_removed(self) -> None:
        self.assertEqual(self.alice.lines(b"/remove #ops nobody"), [b"!error unknown-name nobody"])
        for name, client in ((b"bob", self.bob), (b"carol", self.carol)):
            self.assertEqual(self.alice.lines(b"/remove #ops " + name), [b"!removed #ops " + name])
            self.assertIn(b"!removed #ops " + name, client.told())
            self.assertEqual(client.lines(b"%#ops%x"), [b"!error not-in-room #ops"])
        self.bob.reset()
        self.alice.send(b"%#ops%gone\n")
        self.assertEqual(self.back(b"bob").told(), [])

    def test_not_kept_any_more(self) -> None:
        self.bob.reset()
        self.assertEqual(self.alice.lines(b"/unkeep #ops"), [b"!unkept #ops alice"])
        self.assertEqual(self.carol.told(), [b"!unkept #ops alice"])
        self.assertEqual(self.alice.lines(b"/rooms")[0], b"!room #ops members=2 joined")
        self.alice.reset()
        self.carol.reset()
        self.assertEqual(len(self.world.relay.rooms), 0)
        self.assertEqual(self.world.in_store(lambda accounts: accounts.rooms.all()), [])

    def test_bound(self) -> None:
        world = OwnedWorld(self, Limits(max_kept_rooms=1))
        alice = world.owner(b"alice")
        alice.send(b"/join #a\n/keep #a\n/join #b\n/keep #b\n")
        self.assertEqual(alice.told()[-1], b"!error too-many-rooms #b")

    def test_bound_of_invitations(self) -> None:
        world = OwnedWorld(self, Limits(max_members=2))
        alice = world.owner(b"alice")
        for name in (b"bob", b"dave"):
            world.add(name)
        world.look()
        alice.send(b"/join #a\n/keep #a\n")
        alice.told()
        self.assertEqual(
            alice.lines(b"/invite #a bob", b"/invite #a bob", b"/invite #a dave"),
            [b"!invited #a bob", b"!invited #a bob", b"!error too-many-rooms #a"],
        )

    def test_an_account_that_goes_takes_its_rooms(self) -> None:
        self.carol.send(b"/leave #ops\n")
        self.bob.reset()
        self.forget(b"alice")
        self.world.look()
        self.assertEqual(len(self.world.relay.rooms), 0)
        self.assertEqual(self.world.relay.rooms._of, {})

    def test_the_members_are_told_of_an_account_that_goes(self) -> None:
        self.bob.reset()
        self.forget(b"bob")
        self.world.look()
        self.assertEqual(self.carol.told(), [b"!left #ops bob"])
        self.assertEqual(self.alice.told(), [b"!left #ops bob"])
        self.alice.reset()
        self.forget(b"alice")
        self.world.look()
        self.assertEqual(self.carol.told(), [b"!unkept #ops alice"])
        self.assertEqual(self.carol.lines(b"/rooms")[0], b"!room #ops members=1 joined")
        mailboxes: Any = self.world.relay.mailboxes
        self.assertEqual(mailboxes._rooms, {})

    def test_a_name_that_is_free_again_is_none_before_that_was_looked_at(self) -> None:
        self.bob.reset()
        self.alice.send(b"/keep #ops members-only\n")
        self.forget(b"bob")
        bob = self.world.join(b"bob")
        self.alice.send(b"%#ops%secret\n")
        self.assertEqual(bob.lines(b"/history #ops", b"%#ops%x"), [b"!error not-in-room #ops"] * 2)
        self.assertEqual(self.alice.told()[-1], b"!left #ops bob")
        self.world.look()
        self.assertTrue(bob.is_connected)

    def test_the_next_owner_of_a_name_is_none_although_the_last_one_was_here(self) -> None:
        self.alice.send(b"/keep #ops members-only\n")
        self.forget(b"bob")
        self.world.add(b"bob", OTHER_SECRET)
        bob = self.world.connect()
        bob.send(b"bob " + OTHER_SECRET + b"\n")
        self.alice.send(b"%#ops%secret\n")
        self.assertEqual(bob.told()[1:], [])
        self.assertEqual(self.bob.told()[-1], b"!error bad-secret bob")
        self.assertEqual(bob.lines(b"/history #ops"), [b"!error not-in-room #ops"])
        self.world.look()
        self.assertEqual(bob.lines(b"/rooms"), [b"!end rooms 0"])

    def test_who_has_the_name_after_a_member_is_none(self) -> None:
        self.bob.reset()
        self.forget(b"bob")
        self.world.look()
        bob = self.world.join(b"bob")
        self.alice.send(b"%#ops%secret\n")
        self.assertEqual(bob.lines(b"%#ops%x"), [b"!error not-in-room #ops"])

    def test_after_a_restart(self) -> None:
        self.alice.send(b"/topic #ops disks\n/keep #ops members-only\n")
        world = self.world.restarted()
        bob = world.log_in(b"bob " + SECRET)
        self.assertIn(
            b"kept members-only joined :disks", bob.transport.taken * 0 + self.raw(bob, b"/rooms")
        )
        self.assertEqual(bob.lines(b"/topic #ops mine"), [b"!error not-allowed #ops"])
        alice = world.log_in(b"alice " + SECRET)
        alice.told()
        alice.send(b"%#ops%here again\n")
        self.assertEqual(bob.told(), [b"%#ops%alice%here again"])

    def raw(self, client: Client, line: bytes) -> bytes:
        client.raw()
        client.send(line + b"\n")
        return client.raw()


class AwayTests(KeptWorldTests):
    """What was said while a member was away, or behind."""

    def test_what_was_missed_is_found_once(self) -> None:
        self.bob.reset()
        self.assertEqual(self.carol.told(), [])
        self.carol.send(b"%#ops%one\n@ref=1 %#ops%two\n%bob%three\n")
        *_, stored = self.carol.told()
        self.alice.send(b"%#ops%four\n")
        self.assertIn(b"!stored bob id=", stored)
        missed = [
            *(b"%#ops%carol%one", b"%#ops%carol%two", b"%carol%three", b"%#ops%alice%four"),
        ]
        first = self.back(b"bob")
        second = self.back(b"bob")
        self.assertEqual(first.told(), missed)
        self.assertEqual(second.told(), [])
        self.alice.send(b"%#ops%five\n")
        for device in (first, second):
            self.assertEqual(device.told(), [b"%#ops%alice%five"])

    def test_who_registers_in_a_room_belongs_to_it(self) -> None:
        self.carol.send(b"/register " + SECRET + b"\n")
        self.carol.told()
        self.carol.reset()
        self.assertEqual(self.bob.told(), [])
        self.alice.send(b"@ref=1 %#ops%one\n")
        self.assertEqual(without_ids(self.alice.told()), [b"@ref=1 !stored #ops"])
        self.assertEqual(self.back(b"carol").told(), [b"%#ops%alice%one"])
        world = self.world.restarted()
        alice = world.log_in(b"alice " + SECRET)
        self.assertIn(b"!members #ops alice bob carol", alice.lines(b"/join #ops"))

    def test_stored_is_said_after_the_commit(self) -> None:
        world = OwnedWorld(self, storing=ManualThreadpool())
        # Nothing is decided before the store has run.
        alice = world.connect()
        alice.send(b"alice\n")
        world.settle_all()
        alice.send(b"/register " + SECRET + b"\n")
        world.settle_all()
        bob = world.connect()
        bob.send(b"bob\n")
        world.settle_all()
        bob.send(b"/register " + SECRET + b"\n")
        world.settle_all()
        alice.send(b"/join #ops\n")
        bob.send(b"/join #ops\n")
        alice.send(b"/keep #ops\n")
        world.settle_all()
        bob.reset()
        world.settle_all()
        alice.told()
        alice.send(b"@ref=1 %#ops%x\n@ref=1 %#ops%x\n")
        self.assertEqual(alice.told(), [])
        world.settle_all()
        first, again = alice.told()
        self.assertEqual(first, again)
        self.assertTrue(first.startswith(b"@ref=1 !stored #ops id="), first)

    def test_acks(self) -> None:
        self.bob.send(b"/caps ack\n")
        self.bob.told()
        self.alice.send(b"%#ops%one\n@ref=1 %#ops%two\n")
        self.assertEqual(without_ids(self.alice.told()), [b"@ref=1 !stored #ops"])
        one, two = self.bob.told()
        self.assertTrue(one.endswith(b" %#ops%alice%one"), one)
        message_id = one.partition(b" ")[0][4:]
        self.assertEqual(self.bob.lines(b"/ack " + message_id), [b"!acked " + message_id])
        self.bob.reset()
        again = self.world.log_in(b"bob " + SECRET, caps=b"ack")
        *_, line = again.told()
        self.assertIn(b";again %#ops%alice%two", line)
        self.assertEqual(line.partition(b";")[0], two.partition(b" ")[0])

    def test_acks_in_a_room_that_is_not_kept(self) -> None:
        dave = self.world.join(b"dave")
        self.bob.send(b"/join #b\n/caps ack\n")
        dave.send(b"/join #b\n%#b%hi\n")
        self.assertTrue(self.bob.told()[-1].endswith(b" %#b%dave%hi"))

    def test_who_speaks_with_acks_waits_for_more_than_half_of_the_others(self) -> None:
        dave = self.world.join(b"dave")
        for client in (self.bob, self.carol, dave):
            client.send(b"/join #b\n")
        self.bob.send(b"/caps ack\n")
        self.carol.stop_taking()
        self.bob.send((b"%#b%" + b"x" * 1000 + b"\n") * 2000)
        self.assertFalse(self.bob.session.gate.held)
        dave.stop_taking()
        self.bob.send((b"%#b%" + b"x" * 1000 + b"\n") * 2000)
        self.assertTrue(self.bob.session.gate.held)

    def test_echo_with_acks(self) -> None:
        """One's own messages are not in one's log: they come back all the same, and once."""
        phone = self.back(b"bob", caps=b"echo")
        self.bob.send(b"/caps ack echo time\n")
        self.bob.told()
        phone.told()
        self.alice.send(b"%#ops%one\n")
        self.bob.send(b"@ref=1 %#ops%two\n")
        here, there = self.bob.told(), phone.told()
        self.assertEqual(
            [line.rpartition(b"%")[2] for line in here if b"%#" in line], [b"one", b"two"]
        )
        [own] = [line for line in here if line.endswith(b"%two")]
        self.assertRegex(own, rb"\A@id=\w+;time=\S+ %#ops%bob%two\Z")
        self.assertEqual(there, [b"%#ops%alice%one", b"%#ops%bob%two"])
        self.assertIn(b"@ref=1 !sent #ops", [line.partition(b" id=")[0] for line in here])

    def test_over_a_restart(self) -> None:
        self.bob.reset()
        self.alice.send(b"@ref=1 %#ops%one\n")
        world = self.world.restarted()
        bob = world.log_in(b"bob " + SECRET)
        self.assertEqual(bob.told()[-1], b"%#ops%alice%one")
        alice = world.log_in(b"alice " + SECRET)
        alice.told()
        alice.send(b"@ref=1 %#ops%one\n@ref=1 %#ops%two\n")
        self.assertEqual(
            without_ids(alice.told()), [b"@ref=1 !stored #ops", b"@ref=1 !error ref-reused #ops"]
        )
        self.assertEqual(bob.told(), [])

    def test_who_blocks_does_not_get_it(self) -> None:
        self.bob.lines(b"/block carol")
        self.carol.send(b"%#ops%here\n")
        self.assertEqual(self.alice.told(), [b"%#ops%carol%here"])
        self.assertEqual(self.bob.told(), [])
        self.bob.reset()
        self.carol.send(b"@ref=1 %#ops%away\n")
        self.assertEqual(self.carol.told(), [b"@ref=1 !sent #ops"])
        self.assertEqual(self.back(b"bob").told(), [])

    def test_a_full_mailbox_misses_it(self) -> None:
        world = OwnedWorld(self, Limits(max_mailbox_entries=40))
        alice, bob = world.owner(b"alice"), world.owner(b"bob")
        for client in (alice, bob):
            client.send(b"/join #ops\n")
        alice.send(b"/keep #ops\n")
        bob.reset()
        alice.told()
        alice.send(b"%#ops%x\n" * 11 + b"@ref=1 %#ops%y\n")
        self.assertEqual(alice.told(), [b"@ref=1 !sent #ops"])
        self.assertEqual(world.log_in(b"bob " + SECRET).told(), [b"%#ops%alice%x"] * 10)


class RegisteredInARoomTests(KeptWorldTests):
    """Who registers a name that is in a room is a member like others from then on."""

    def test_it_belongs_to_the_room_while_it_is_away(self) -> None:
        self.carol.lines(b"/register " + SECRET)
        self.carol.reset()
        self.assertEqual(self.alice.told(), [])
        self.alice.send(b"@ref=1 %#ops%one\n")
        self.assertEqual(without_ids(self.alice.told()), [b"@ref=1 !stored #ops"])
        self.assertEqual(self.back(b"carol").told(), [b"%#ops%alice%one"])

    def test_with_acks_everything_goes_through_its_log(self) -> None:
        dave = self.world.log_in(b"dave", caps=b"ack")
        dave.lines(b"/join #ops", b"/register " + SECRET)
        self.alice.told()
        self.alice.send(b"@ref=1 %#ops%one\n")
        self.assertEqual(without_ids(self.alice.told()), [b"@ref=1 !stored #ops"])
        [line] = dave.told()
        message_id = line.partition(b" ")[0][4:]
        self.assertEqual(dave.lines(b"/ack " + message_id), [b"!acked " + message_id])


class HistoryTests(KeptWorldTests):
    """``/history #ROOM``."""

    def test_all_members_read_it(self) -> None:
        self.alice.send(b"%#ops%one\n%#ops%two\n")
        self.carol.told()
        for client in (self.carol, self.bob):
            client.told()
            head, *lines, end = client.lines(b"@ref=1 /history #OPS")
            self.assertEqual((head, end), (b"@ref=1 !history #OPS", b"@ref=1 !end history 2"))
            self.assertEqual(
                [line.partition(b" ")[2] for line in lines],
                [b"%#ops%alice%one", b"%#ops%alice%two"],
            )
        last_id = lines[-1].partition(b"id=")[2].partition(b";")[0]
        _, line, _ = self.bob.lines(b"/history #ops before=" + last_id)
        self.assertTrue(line.endswith(b"%#ops%alice%one"))
        dave = self.world.join(b"dave")
        self.assertEqual(dave.lines(b"/history #ops"), [b"!error not-in-room #ops"])
        self.assertEqual(dave.lines(b"/join #d")[-1], b"!end members #d 1")
        self.assertEqual(dave.lines(b"/history #d"), [b"!error not-allowed #d"])

    def test_it_is_not_in_the_history_of_a_name(self) -> None:
        self.bob.send(b"%alice%to you\n%#ops%to all\n")
        self.alice.told()
        for command, texts in (
            (b"/history bob", [b"%bob%to you"]),
            (b"/history", [b"%bob%to you"]),
        ):
            self.assertEqual(
                [line.partition(b" ")[2] for line in self.alice.lines(command)[1:-1]], texts
            )

    def test_bounds(self) -> None:
        world = OwnedWorld(self, Limits(max_mailbox_entries=40))
        alice = world.owner(b"alice")
        alice.send(b"/join #ops\n/keep #ops\n")
        for number in range(100):
            alice.send(b"%%#ops%%%d\n" % number)
        lines = alice.lines(b"/history #ops 200")
        self.assertLessEqual(len(lines), 50)
        self.assertTrue(lines[-2].endswith(b"%99"))

    def test_none_is_kept(self) -> None:
        world = OwnedWorld(self, Limits(history_s=0.0))
        alice = world.owner(b"alice")
        alice.send(b"/join #ops\n/keep #ops\n%#ops%x\n")
        alice.told()
        self.assertEqual(alice.lines(b"/history #ops"), [b"!error not-allowed #ops"])
