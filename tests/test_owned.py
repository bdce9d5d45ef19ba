"""`chatrelay.mailbox.owned`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox.owned import Owned, OwnedNames


class OwnedNamesTests(SynchronousTestCase):
    """A name is found by its key, and by its account without a look at all others."""

    def test_one_comes_and_goes(self) -> None:
        owned = OwnedNames([(1, b"alice", b"Alice"), (2, b"bob", b"bob")])
        self.assertIn(b"alice", owned)
        self.assertEqual(owned.get(b"alice"), Owned(1, b"Alice"))
        self.assertEqual(owned.key_of(1), b"alice")
        self.assertEqual(owned.remove(b"alice"), Owned(1, b"Alice"))
        self.assertNotIn(b"alice", owned)
        self.assertIsNone(owned.get(b"alice"))
        self.assertIsNone(owned.key_of(1))
        self.assertIsNone(owned.remove(b"alice"))
        owned.add(b"alice", Owned(3, b"ALICE"))
        self.assertEqual(owned.key_of(3), b"alice")
        self.assertEqual(owned.key_of(2), b"bob")
