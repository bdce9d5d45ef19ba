"""Accounts that come and go while there is something for their logs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from tests.accounts_harness import OTHER_SECRET, OwnedWorld, quick_hash


class AddedAgainTests(SynchronousTestCase):
    """A name that was removed, and is somebody else's now."""

    def test_its_log_is_the_new_one_when_the_last_connections_of_the_old_leave(self) -> None:
        world = OwnedWorld(self)
        before = world.owner(b"alice")

        def add_again(accounts: Accounts) -> None:
            account = accounts.find(b"alice")
            assert account is not None
            accounts.remove(account.number, world.relay.wall_clock())
            hashed = quick_hash(OTHER_SECRET)
            accounts.add(parse_name(b"alice"), hashed, world.relay.wall_clock())

        world.in_store(add_again)
        alice = world.connect()
        alice.lines(b"/caps ack", b"alice " + OTHER_SECRET)
        world.look()
        self.assertEqual(before.told(), [b"!error bad-secret alice"])
        (stored,) = world.join(b"bob").lines(b"@ref=1 %alice%hi")
        self.assertTrue(stored.startswith(b"@ref=1 !stored alice id="), stored)
        self.assertEqual(len(alice.told()), 1)
