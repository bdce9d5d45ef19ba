"""Rooms while the store takes its time: what is done, answered and told when it has decided."""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool, failing, let_fail


class SlowStoreTests(SynchronousTestCase):
    """Alice, bob and carol own their names; alice and bob are in ``#ops``."""

    limits = Limits()

    def setUp(self) -> None:
        let_fail(self)
        self.storing = ManualThreadpool()
        self.world = OwnedWorld(self, self.limits, storing=self.storing)
        self.alice, self.bob, self.carol = map(self.owner, (b"alice", b"bob", b"carol"))
        self.do(self.alice, b"/join #ops")
        self.do(self.bob, b"/join #ops")
        self.all_told()

    def owner(self, name: bytes) -> Client:
        client = self.world.log_in(name)
        self.do(client, b"/register " + SECRET)
        client.told()
        return client

    def do(self, client: Client, *lines: bytes) -> None:
        """Send lines, and let the store do what comes of them."""
        client.send(b"".join(line + b"\n" for line in lines))
        self.world.settle_all()

    def keep(self, how: bytes = b"open") -> None:
        self.do(self.alice, b"/keep #ops " + how)
        self.all_told()

    def all_told(self) -> None:
        for client in (self.alice, self.bob, self.carol):
            client.told()


class AnswerTests(SlowStoreTests):
    """Who asks is read again when it has its answer, and not before."""

    def test_each_line_in_its_turn(self) -> None:
        self.alice.send(b"@ref=1 /keep #ops members-only\n@ref=2 /topic #ops -\n@ref=3 /ping\n")
        told: list[bytes] = []
        while self.storing.pending:
            self.storing.run()
            self.world.settle()
            told += self.alice.told()
        self.assertEqual(
            told,
            [
                b"@ref=1 !kept #ops owner=alice members-only",
                b"@ref=2 !topic #ops",
                b"@ref=3 !pong",
            ],
        )
        self.assertFalse(self.alice.session.gate.held)

    def test_all_of_it_or_nothing(self) -> None:
        """A room is never open for the moment between two commits."""
        self.alice.send(b"/keep #ops members-only\n")
        self.storing.run()
        self.assertEqual(
            self.carol.lines(b"/join #ops"),
            [b"!error not-allowed #ops"],
        )

    def test_what_is_said_comes_behind_the_join(self) -> None:
        self.keep()
        self.carol.send(b"/join #ops\n")
        self.alice.write(b"%#ops%hi\n")
        self.storing.run()
        self.world.settle_all()
        self.assertEqual(
            [line.split()[0] for line in self.carol.told()],
            [b"!joined", b"!members", b"!end", b"%#ops%alice%hi"],
        )

    def test_kept_no_more_before_the_join_is_decided(self) -> None:
        self.keep()
        self.alice.send(b"/unkeep #ops\n")
        self.carol.send(b"/join #ops\n")
        self.world.settle_all()
        self.assertEqual(self.carol.told(), [b"!error busy"])
        self.assertEqual(self.alice.told(), [b"!unkept #ops alice"])
        self.do(self.carol, b"/join #ops")
        self.assertEqual(self.carol.told()[-1], b"!end members #ops 3")

    def test_who_is_removed_before_the_history_is_read(self) -> None:
        self.keep()
        self.alice.send(b"/remove #ops bob\n")
        self.bob.send(b"/history #ops\n")
        self.alice.send(b"%#ops%not for bob\n")
        self.world.settle_all()
        self.assertEqual(self.bob.told(), [b"!removed #ops bob", b"!error not-in-room #ops"])

    def test_who_is_invited_when_his_account_is_gone(self) -> None:
        self.keep()
        account = self.world.account(b"carol")
        assert account is not None
        now_s = self.world.relay.wall_clock()
        self.world.in_store(lambda accounts: accounts.remove(account.number, now_s))
        self.world.relay.tick()
        self.storing.run()
        # That is known, and what is left of it is being looked up.
        self.alice.send(b"/invite #ops carol\n")
        self.world.settle_all()
        self.assertEqual(self.alice.told(), [b"!error unknown-name carol"])
        room = self.world.relay.rooms.find(b"#ops")
        assert room is not None
        assert room.keep is not None
        self.assertNotIn(account.number, room.keep.accounts)


class BoundTests(SlowStoreTests):
    """What is asked for at the same moment is counted together."""

    limits = Limits(max_members=3, max_kept_rooms=2, max_rooms_per_client=2)

    def test_members(self) -> None:
        self.keep()
        dave = self.owner(b"dave")
        for client in (self.carol, dave):
            client.send(b"/join #ops\n")
        self.world.settle_all()
        self.assertEqual(self.carol.told()[-1], b"!end members #ops 3")
        self.assertEqual(dave.told(), [b"!error too-many-rooms #ops"])
        kept = self.world.in_store(lambda accounts: accounts.rooms.all())
        self.assertEqual([len(room.members) for room in kept], [3])
        self.do(self.carol, b"/leave #ops")
        self.do(dave, b"/join #ops")
        self.assertEqual(dave.told()[-1], b"!end members #ops 3")

    def test_who_could_not_join_is_still_invited(self) -> None:
        self.keep(b"members-only")
        self.do(self.alice, b"/invite #ops carol")
        phone = self.world.log_in(b"carol " + SECRET)
        self.do(self.carol, b"/join #a")
        self.all_told()
        self.carol.send(b"/join #ops\n")
        phone.send(b"/join #b\n")
        self.world.settle_all()
        self.assertEqual(self.carol.told()[-1], b"!error too-many-rooms #ops")
        [room] = self.world.in_store(lambda accounts: accounts.rooms.all())
        self.assertEqual([has_joined for _, has_joined in room.members], [True, True, False])
        self.do(phone, b"/leave #b")
        self.carol.told()
        self.do(self.carol, b"/join #ops")
        self.assertEqual(self.carol.told()[-1], b"!end members #ops 3")

    def test_kept_rooms(self) -> None:
        devices = [self.alice, *(self.world.log_in(b"alice " + SECRET) for _ in range(2))]
        self.do(self.alice, b"/leave #ops", b"/join #a", b"/join #b")
        self.do(self.alice, b"/keep #a")
        for device in devices:
            device.told()
            device.send(b"/keep #b\n")
        self.world.settle_all()
        told = sorted(device.told()[0] for device in devices)
        self.assertEqual(told[:2], [b"!error too-many-rooms #b"] * 2)
        self.do(self.alice, b"/unkeep #a")
        self.alice.told()
        self.do(self.alice, b"/keep #a")
        self.assertEqual(self.alice.told(), [b"!kept #a owner=alice"])


class GoneTests(SlowStoreTests):
    """Who asked is gone when it is decided: it is done, and the others are told."""

    def test_what_the_members_are_told(self) -> None:
        self.keep()
        for line, told in (
            (b"/topic #ops disks", b"!topic #ops"),
            (b"/keep #ops members-only", b"!kept #ops owner=alice members-only"),
            (b"/invite #ops carol", b"!invited #ops carol"),
            (b"/remove #ops carol", b"!removed #ops carol"),
            (b"/unkeep #ops", b"!unkept #ops alice"),
        ):
            self.alice.send(line + b"\n")
            self.alice.reset()
            self.world.settle_all()
            self.assertEqual(self.bob.told()[-1], told)
            self.alice = self.world.log_in(b"alice " + SECRET)
            self.alice.told()
        self.assertEqual(self.carol.told(), [b"!invited #ops carol", b"!removed #ops carol"])

    def test_what_is_kept_without_its_owner_here(self) -> None:
        self.alice.send(b"/keep #ops\n")
        self.alice.reset()
        self.world.settle_all()
        self.assertEqual(
            self.bob.told(),
            [b"!left #ops alice", b"!joined #ops alice", b"!kept #ops owner=alice"],
        )
        self.do(self.bob, b"%#ops%back?")
        alice = self.world.log_in(b"alice " + SECRET)
        self.assertEqual(alice.told(), [b"%#ops%bob%back?"])

    def test_who_leaves_or_comes_while_it_is_being_kept(self) -> None:
        self.alice.send(b"/keep #ops\n")
        self.bob.send(b"/leave #ops\n")
        self.carol.send(b"/join #ops\n")
        self.world.settle_all()
        self.assertEqual(self.bob.told(), [b"!left #ops bob"])
        self.do(self.carol, b"/quit")
        self.alice.told()
        self.do(self.alice, b"%#ops%hi")
        self.assertEqual(self.bob.told(), [])
        kept = self.world.in_store(lambda accounts: accounts.rooms.all())
        self.assertEqual([len(room.members) for room in kept], [2])
        self.assertEqual(self.world.log_in(b"carol " + SECRET).told(), [b"%#ops%alice%hi"])

    def test_who_is_removed_while_it_is_kept_that_he_is_a_member(self) -> None:
        self.keep()
        dave = self.world.log_in(b"dave")
        self.do(dave, b"/join #ops")
        dave.send(b"/register " + SECRET + b"\n")
        self.storing.run()
        self.world.settle()
        # It is being made his own when he is removed, and is noted behind that.
        self.alice.send(b"/remove #ops dave\n")
        self.world.settle_all()
        self.assertEqual(self.alice.told()[-1], b"!removed #ops dave")
        self.assertIn(b"!registered dave", dave.told())
        kept = self.world.in_store(lambda accounts: accounts.rooms.all())
        self.assertEqual([len(room.members) for room in kept], [2])


class SayingTests(SlowStoreTests):
    """What is said while logs are looked at, and while they can not be written."""

    def setUp(self) -> None:
        super().setUp()
        self.keep()

    def restart(self) -> None:
        """Nobody knows what is in bob's log then, and alice is back."""
        self.world = self.world.restarted(storing=self.storing)
        self.alice = self.world.log_in(b"alice " + SECRET)

    def is_known(self, name: bytes) -> bool:
        mailboxes: Any = self.world.relay.mailboxes
        return bool(mailboxes.find(name).is_loaded)

    def test_no_stranger_has_logs_looked_at(self) -> None:
        self.restart()
        mallory = self.world.log_in(b"mallory")
        for line in (b"%#ops%x", b"@ref=1 %#ops%x"):
            self.do(mallory, line)
            self.assertTrue(mallory.told()[0].endswith(b"!error not-in-room #ops"))
        self.assertFalse(self.is_known(b"bob"))
        self.do(self.alice, b"%#ops%x")
        self.assertTrue(self.is_known(b"bob"))

    def test_asked_again_on_another_connection(self) -> None:
        self.restart()
        phone = self.world.log_in(b"alice " + SECRET)
        for device in (self.alice, phone):
            device.send(b"@ref=1 %#ops%x\n")
        self.world.settle_all()
        [answer] = self.alice.told()
        self.assertTrue(answer.startswith(b"@ref=1 !stored #ops id="), answer)
        self.assertEqual(phone.told(), [answer])
        self.assertEqual(self.world.log_in(b"bob " + SECRET).told(), [b"%#ops%alice%x"])

    def test_each_line_that_is_not_kept_is_refused(self) -> None:
        self.do(self.bob, b"/quit")
        self.alice.told()
        self.alice.send(b"%#ops%one\n%#ops%two\n")
        with failing("INSERT INTO chunk", sqlite3.SQLITE_FULL):
            self.world.settle_all()
        self.assertEqual(self.alice.told(), [b"!error store-failed #ops"] * 2)

    def test_each_line_that_some_miss_is_refused(self) -> None:
        self.restart()
        self.alice.send(b"%#ops%one\n%#ops%two\n")
        with failing("\nSELECT EXISTS", sqlite3.SQLITE_CORRUPT):
            self.world.settle_all()
        self.assertEqual(self.alice.told(), [b"!error store-failed #ops"] * 2)

    def test_who_was_written_it_before_the_commit_misses_nothing(self) -> None:
        self.do(self.bob, b"/quit")
        self.do(self.alice, b"%bob%first")
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        while b"!welcome" not in bob.transport.taken:
            self.storing.run()
            self.world.settle()
        self.storing.run()
        self.world.settle()
        self.alice.told()
        bob.told()
        # His log is being read, and he is live before this is written into it.
        self.alice.send(b"@ref=1 %#ops%x\n")
        self.storing.run()
        self.world.settle()
        self.assertEqual(bob.told(), [b"%alice%first", b"%#ops%alice%x"])
        with failing("INSERT INTO chunk", sqlite3.SQLITE_FULL):
            self.world.settle_all()
        self.assertEqual(self.alice.told(), [b"@ref=1 !sent #ops"])
        self.do(self.alice, b"@ref=1 %#ops%x")
        self.assertEqual(self.alice.told(), [b"@ref=1 !sent #ops"])
        self.assertEqual(bob.told(), [])

    def test_the_account_of_the_only_one_who_missed_it_goes(self) -> None:
        self.do(self.bob, b"/quit")
        self.alice.told()
        account = self.world.account(b"bob")
        assert account is not None
        now_s = self.world.relay.wall_clock()
        self.world.in_store(lambda accounts: accounts.remove(account.number, now_s))
        self.do(self.alice, b"@ref=1 %#ops%x")
        self.assertEqual(self.alice.told(), [b"@ref=1 !sent #ops"])
