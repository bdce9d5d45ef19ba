"""How much of a log those may fill who write to a name."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.mailbox.shares import BOTS, FREE, Shares

LIMITS = Limits(max_mailbox_entries=40, max_mailbox_bytes=4000, free_share=0.10, owner_share=0.25)
OWNER, OTHER, THIRD, FOURTH = 1, 2, 3, 4


class ShareTests(SynchronousTestCase):
    """Entries and bytes, below, at and above each bound."""

    def setUp(self) -> None:
        self.shares = Shares(LIMITS)

    def test_entries_of_one_sender(self) -> None:
        for account, most in ((FREE, 4), (OWNER, 10), (BOTS, 10)):
            shares = Shares(LIMITS)
            for _ in range(most):
                self.assertTrue(shares.has_room(account, 1, 1))
                shares.add(account, 1, 1)
            self.assertFalse(shares.has_room(account, 1, 1))
            shares.add(account, -1, -1)
            self.assertTrue(shares.has_room(account, 1, 1))

    def test_bytes_of_one_sender(self) -> None:
        for account, most in ((FREE, 400), (OWNER, 1000), (BOTS, 1000)):
            shares = Shares(LIMITS)
            self.assertTrue(shares.has_room(account, 1, most))
            self.assertFalse(shares.has_room(account, 1, most + 1))
            shares.add(account, 1, most - 1)
            self.assertTrue(shares.has_room(account, 1, 1))
            self.assertFalse(shares.has_room(account, 1, 2))

    def test_several_at_once(self) -> None:
        self.assertTrue(self.shares.has_room(OWNER, 10, 1000))
        self.assertFalse(self.shares.has_room(OWNER, 11, 1000))
        self.assertFalse(self.shares.has_room(OWNER, 10, 1001))

    def test_one_sender_leaves_room_for_the_others(self) -> None:
        self.shares.add(FREE, 4, 400)
        self.shares.add(OWNER, 10, 1000)
        self.assertFalse(self.shares.has_room(FREE, 1, 1))
        self.assertFalse(self.shares.has_room(OWNER, 1, 1))
        for account in (OTHER, BOTS):
            self.assertTrue(self.shares.has_room(account, 10, 1000))

    def test_a_full_log(self) -> None:
        for account in (OWNER, OTHER, THIRD):
            self.shares.add(account, 10, 100)
        self.assertTrue(self.shares.has_room(FOURTH, 10, 100))
        self.shares.add(FREE, 4, 100)
        self.assertFalse(self.shares.has_room(FOURTH, 7, 1))
        self.assertTrue(self.shares.has_room(FOURTH, 6, 1))
        self.shares.add(FOURTH, 6, 1)
        self.assertFalse(self.shares.has_room(BOTS, 1, 1))
        by_bytes = Shares(LIMITS)
        for account in (OWNER, OTHER, THIRD):
            by_bytes.add(account, 1, 1000)
        by_bytes.add(FREE, 1, 400)
        self.assertTrue(by_bytes.has_room(FOURTH, 1, 600))
        self.assertFalse(by_bytes.has_room(FOURTH, 1, 601))

    def test_the_defaults(self) -> None:
        shares = Shares(Limits())
        self.assertTrue(shares.has_room(FREE, 1000, 1))
        self.assertFalse(shares.has_room(FREE, 1001, 1))
        self.assertTrue(shares.has_room(OWNER, 2500, 1))
        self.assertFalse(shares.has_room(OWNER, 2501, 1))

    CHANGES: ClassVar = st.lists(
        st.tuples(st.sampled_from([FREE, OWNER, BOTS]), st.integers(1, 5), st.integers(0, 3)),
        max_size=30,
    )

    @given(CHANGES)
    def test_what_is_added_and_taken(self, changes: list[tuple[int, int, int]]) -> None:
        """Against counting; of an entry that was split a byte or two may be left over."""
        shares = Shares(LIMITS)
        entries: Counter[int] = Counter()
        size_bytes: Counter[int] = Counter()
        for account, count, left_over in changes:
            if entries[account] >= count:
                # Read, some bytes fewer than had been counted for it.
                taken = max(0, size_bytes[account] * count // entries[account] - left_over)
                shares.add(account, -count, -taken)
                entries[account] -= count
                size_bytes[account] -= taken
                if not entries[account]:
                    size_bytes[account] = 0
            else:
                shares.add(account, count, 100 * count)
                entries[account] += count
                size_bytes[account] += 100 * count
            self.assertEqual(shares.entries, entries.total())
            self.assertEqual(shares.size_bytes, size_bytes.total())
