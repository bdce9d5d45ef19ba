"""`chatrelay.mailbox.kept`: what is counted of a log is what the store has."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.mailbox.kept import Kept
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client


class KeptTests(SynchronousTestCase):
    """What a log holds, against its bounds."""

    def setUp(self) -> None:
        self.kept = Kept(Limits(max_mailbox_entries=100, max_mailbox_bytes=1000))

    def test_each_bound(self) -> None:
        for entries, size_bytes, is_over in [
            (100, 1000, False),
            (101, 1000, True),
            (100, 1001, True),
        ]:
            self.kept.is_asked()
            self.kept.add(entries, size_bytes)
            self.assertIs(self.kept.is_to_be_cut(), is_over, (entries, size_bytes))
            self.kept.add(-1, -1)
            self.assertFalse(self.kept.is_to_be_cut())

    def test_where_nothing_can_be_given_up_that_is_not_tried_with_every_commit(self) -> None:
        self.kept.add(101, 0)
        tried = []
        for _ in range(7):
            tried.append(self.kept.is_to_be_cut())
            self.kept.add(1, 0)
        self.assertEqual(tried, [True, False, False, True, False, False, True])

    def test_large_ones(self) -> None:
        self.kept.add(1, 1001)
        tried = []
        for _ in range(5):
            tried.append(self.kept.is_to_be_cut())
            self.kept.add(0, 10)
        self.assertEqual(tried, [True, False, False, True, False])


class CountedTests(SynchronousTestCase):
    """A log that is written to before it is known what is in it."""

    def log_in(self, world: OwnedWorld, name: bytes) -> Client:
        client = world.connect()
        client.send(b"/caps ack\n" + name + b" " + SECRET + b"\n")
        return client

    def test_what_was_written_before_is_counted_once(self) -> None:
        world = OwnedWorld(self)
        world.owner(b"bob").reset()
        alice = world.owner(b"alice")
        alice.send(b"".join(b"@ref=%d %%bob%%x\n" % ref for ref in range(500)))
        world = world.restarted()
        bob = self.log_in(world, b"bob")
        last_id = bob.raw().rpartition(b"@id=")[2].partition(b" ")[0]
        # The receipts go into the log of alice, who has not been here.
        bob.send(b"/ack " + last_id + b"\n")
        mailbox = self.log_in(world, b"alice").session.mailbox
        log = world.in_store(lambda accounts: accounts.logs.load(mailbox.account, 0.0, 0.0))
        self.assertEqual(log.entries, 1000)
        self.assertEqual(mailbox._kept.entries, log.entries)
        self.assertEqual(mailbox._kept.size_bytes, log.size_bytes)
