"""What is answered is kept, whatever happens: simulations, each from a seed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import run

SEEDS = 300


class SeedTests(SynchronousTestCase):
    def test_nothing_happens_that_may_not(self) -> None:
        for seed in range(1, SEEDS + 1):
            self.assertEqual(run(seed), [], f"python -m tests.simulation --seed {seed} -v")
