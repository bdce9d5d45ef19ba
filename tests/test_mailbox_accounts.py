"""Accounts that come and go while there is something for their logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld, quick_hash
from tests.relay_harness import EPOCH_S, Client
from tests.store_harness import ManualThreadpool, open_database
from tests.test_naming import welcome


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


class RevokedMeanwhileTests(SynchronousTestCase):
    """A login that is decided, and waits for it to be known what is in the log."""

    def setUp(self) -> None:
        self.storing = ManualThreadpool()
        self.world = OwnedWorld(self, storing=self.storing)
        self.world.add(b"alice")
        self.world.look()

    def log_in(self, change: Callable[[Accounts, int], None]) -> Client:
        """Log in; the relay looks for what was revoked just before it reads the log."""
        world, storing = self.world, self.storing
        account = world.account(b"alice")
        assert account is not None
        alice = world.connect()
        alice.send(b"alice " + SECRET + b"\n")
        # The account is looked up, and is found to be there when the secret was right.
        storing.run()
        world.relay.claims.tick(world.relay._account_changed)
        storing.run()
        with self.other_process(world) as accounts:
            change(accounts, account.number)
        storing.run_all()
        world.settle()
        storing.run_all()
        world.settle()
        return alice

    @contextmanager
    def other_process(self, world: OwnedWorld) -> Iterator[Accounts]:
        database = open_database(self, world.directory, exclusive=False)
        with database.transaction():
            yield Accounts(database.connection)

    def test_who_was_disabled_is_not_let_in(self) -> None:
        alice = self.log_in(lambda accounts, number: accounts.set_disabled(number, True, EPOCH_S))
        self.assertEqual(alice.told(), [b"!error bad-secret alice"])

    def test_who_was_removed_is_not_let_in(self) -> None:
        alice = self.log_in(lambda accounts, number: accounts.remove(number, EPOCH_S))
        self.assertEqual(alice.told(), [b"!error bad-secret alice"])
        self.assertIsNone(self.world.relay.find(b"alice"))

    def test_what_was_revoked_of_others_is_nothing_to_him(self) -> None:
        self.world.add(b"bob")
        account = self.world.account(b"bob")
        assert account is not None
        alice = self.log_in(lambda accounts, _: accounts.remove(account.number, EPOCH_S))
        self.assertEqual(alice.told(), [welcome("alice")])
