"""How often something may happen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.rates import Rates, take

MINUTE_S = 60.0


class TakeTests(SynchronousTestCase):
    def test_a_table(self) -> None:
        """With 2 in 60 seconds one comes back in 30."""
        for times, taken in [
            ([0, 0, 0], [True, True, False]),
            ([0, 0, 29.9, 30, 30], [True, True, False, True, False]),
            ([0, 0, 60, 60, 60], [True, True, True, True, False]),
            ([0, 10, 20, 30], [True, True, False, True]),
            ([5, 1000, 1000, 1000], [True, True, True, False]),
        ]:
            full_s, told = 0.0, []
            for now_s in times:
                after_s = take(full_s, now_s, 2, MINUTE_S)
                told.append(after_s is not None)
                full_s = full_s if after_s is None else after_s
            self.assertEqual(told, taken, times)

    @given(
        st.lists(st.floats(0, 30), max_size=60),
        st.integers(1, 20),
        st.sampled_from([1.0, MINUTE_S, 86_400.0]),
        st.sampled_from([0.0, 1e6, 1e9]),
    )
    def test_there_are_never_more_than_a_burst_and_what_came_back(
        self, steps: list[float], most: int, window_s: float, now_s: float
    ) -> None:
        """Whoever waits a whole window has all; nobody has more than that and what came back."""
        full_s, times = 0.0, []
        for step_s in steps:
            now_s += step_s * window_s / 30
            after_s = take(full_s, now_s, most, window_s)
            if after_s is not None:
                full_s = after_s
                times.append(now_s)
        for first, start_s in enumerate(times):
            for last, end_s in enumerate(times[first:], first):
                came_back = (end_s - start_s) / window_s * most
                self.assertLessEqual(last - first + 1, most + came_back + 0.01)
        later_s = now_s + window_s
        for _ in range(most):
            after_s = take(full_s, later_s, most, window_s)
            assert after_s is not None
            full_s = after_s
        self.assertIsNone(take(full_s, later_s, most, window_s))


class RatesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rates = Rates()

    def take(self, key: str, now_s: float, most: int = 1, max_keys: int = 10) -> bool:
        return self.rates.take(key, now_s, most, MINUTE_S, max_keys=max_keys)

    def test_each_has_its_own(self) -> None:
        told = [self.take(key, 0) for key in ("a", "b", "a", "b")]
        self.assertEqual(told, [True, True, False, False])

    def test_none_is_any_number(self) -> None:
        self.assertTrue(all(self.take("a", 0, most=0) for _ in range(100)))
        self.assertEqual(len(self.rates), 0)

    def test_who_is_refused_waits_no_longer_for_it(self) -> None:
        self.take("a", 0)
        for now_s in range(1, 60):
            self.assertFalse(self.take("a", now_s))
        self.assertTrue(self.take("a", 60))

    def test_what_was_taken_can_be_given_back(self) -> None:
        self.take("a", 0)
        self.rates.give_back("a", 1, MINUTE_S)
        self.assertEqual([self.take("a", 0), self.take("a", 0)], [True, False])
        self.rates.give_back("unknown", 1, MINUTE_S)
        self.rates.give_back("a", 0, MINUTE_S)
        self.assertFalse(self.take("a", 0))

    def test_a_bounded_number_is_known(self) -> None:
        for number in range(100):
            self.assertTrue(self.take(str(number), 0))
            self.assertLessEqual(len(self.rates), 10)
        self.assertEqual([self.take("99", 0), self.take("90", 0)], [False, False])
        self.assertTrue(self.take("0", 0))

    def test_who_asks_again_and_again_stays_known(self) -> None:
        self.take("a", 0)
        for number in range(100):
            self.take(str(number), 0)
            self.assertFalse(self.take("a", 0))

    def test_what_is_over_is_forgotten(self) -> None:
        for number in range(10):
            self.take(str(number), 0)
        for _ in range(10):
            self.take("a", 61)
        self.assertEqual(len(self.rates), 1)

    def test_another_number_holds_at_once(self) -> None:
        self.take("a", 0, most=1)
        self.assertFalse(self.take("a", 1, most=1))
        self.assertTrue(self.take("a", 31, most=2))
