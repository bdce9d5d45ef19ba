"""Wrong secrets, slowed: whom they slow, and whom they do not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts.guessing import Guesses, accounts_of
from chatrelay.limits import Limits
from chatrelay.networks import network_of

LIMITS = Limits(
    free_wrong_secrets=3,
    first_wait_s=1.0,
    longest_address_wait_s=100.0,
    longest_name_wait_s=10.0,
    wrong_secrets_forgotten_s=1000.0,
    max_counted_guessers=8,
)


class GuessesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.guesses = Guesses(LIMITS)

    def wait_s(
        self, network: str, key: bytes, now_s: float = 0.0, *, is_known: bool = False
    ) -> float:
        return self.guesses.wait_s(accounts_of(network, key, is_known=is_known), now_s)

    def wrong(
        self, network: str, key: bytes, now_s: float = 0.0, *, is_known: bool = False
    ) -> None:
        self.guesses.wrong(accounts_of(network, key, is_known=is_known), now_s)

    def test_each_doubles_the_wait(self) -> None:
        waits = []
        for number in range(12):
            self.wrong("a", b"name%d" % number)
            waits.append(self.wait_s("a", b"another"))
        self.assertEqual(waits, [0, 0, 1, 2, 4, 8, 16, 32, 64, 100, 100, 100])

    def test_a_name_has_a_shorter_one(self) -> None:
        waits = []
        for number in range(8):
            self.wrong(f"n{number}", b"carol")
            waits.append(self.wait_s("elsewhere", b"carol"))
        self.assertEqual(waits, [0, 0, 1, 2, 4, 8, 10, 10])
        self.assertEqual(self.wait_s("elsewhere", b"dave"), 0)

    def test_it_passes(self) -> None:
        for _ in range(5):
            self.wrong("a", b"carol", 50.0)
        self.assertEqual(self.wait_s("a", b"x", 50.0), 4.0)
        self.assertEqual(self.wait_s("a", b"x", 53.0), 1.0)
        self.assertEqual(self.wait_s("a", b"x", 54.0), 0.0)

    def test_it_is_forgotten(self) -> None:
        for _ in range(50):
            self.wrong("a", b"carol")
        self.assertEqual(self.wait_s("a", b"x", 1.0), 99.0)
        self.wrong("a", b"carol", 1001.0)
        self.assertEqual(self.wait_s("a", b"x", 1001.0), 0.0)

    def test_a_stranger_slows_no_owner_where_the_name_is_known(self) -> None:
        for number in range(50):
            self.wrong("a", b"carol")
            self.wrong(f"n{number}", b"carol")
        self.assertEqual(self.wait_s("a", b"carol", is_known=True), 0.0)
        self.assertGreater(self.wait_s("a", b"carol"), 0.0)

    def test_where_it_is_known_there_are_limits_too(self) -> None:
        for _ in range(50):
            self.wrong("a", b"carol", is_known=True)
        self.assertEqual(self.wait_s("a", b"carol", is_known=True), 10.0)
        self.assertEqual(self.wait_s("a", b"dave"), 0.0)
        self.guesses.right("a", b"carol")
        self.assertEqual(self.wait_s("a", b"carol", is_known=True), 0.0)

    def test_being_right_with_one_name_helps_with_no_other(self) -> None:
        for _ in range(50):
            self.wrong("a", b"carol")
        self.guesses.right("a", b"mallory")
        self.assertEqual(self.wait_s("a", b"carol"), 100.0)

    @given(
        st.lists(st.tuples(st.integers(0, 20), st.sampled_from([b"a", b"b"]), st.booleans())),
        st.floats(0, 500),
    )
    def test_it_is_bounded(self, attempts: list[tuple[int, bytes, bool]], step_s: float) -> None:
        guesses = Guesses(LIMITS)
        now_s = 0.0
        for network, key, is_known in attempts:
            counts = accounts_of(str(network), key, is_known=is_known)
            guesses.wrong(counts, now_s)
            self.assertLessEqual(len(guesses._wrong), LIMITS.max_counted_guessers)
            self.assertLessEqual(guesses.wait_s(counts, now_s), 100.0)
            now_s += step_s


class NetworkTests(SynchronousTestCase):
    def test_what_counts_as_one_address(self) -> None:
        for host, network in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("a Unix socket", "a Unix socket"),
        ]:
            self.assertEqual(network_of(host), network)
