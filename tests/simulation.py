"""
Runs simulations of a relay, its store and its clients, each from a seed::

    python -m tests.simulation --seeds 5000
    python -m tests.simulation --seed 1234 -v
"""

from __future__ import annotations

import argparse
import re
import sys
import time

from tests.simulated_scenario import Scenario


def main(arguments: list[str]) -> int:
    """Run what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first one")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--most-failures", type=int, default=10, help="stop after so many")
    parser.add_argument("-v", action="store_true", dest="verbose", help="show each step")
    parser.add_argument("--least", action="store_true", help="leave out what is not needed")
    options = parser.parse_args(arguments)
    first, count = options.first, options.seeds
    if options.seed is not None:
        first, count = options.seed, 1
    if options.least:
        run(first, skipped=least(first), verbose=True)
        return 1
    failed = 0
    began_s = time.monotonic()
    for seed in range(first, first + count):
        violations = run(seed, verbose=options.verbose)
        if violations:
            failed += 1
            print(f"seed {seed}: {violations[0]}", flush=True)
            if failed >= options.most_failures:
                count = seed - first + 1
                break
    took_s = time.monotonic() - began_s
    print(f"{count} seeds, {failed} failed, {count / took_s * 60:,.0f} a minute")
    return 1 if failed else 0


def run(seed: int, *, skipped: frozenset[int] = frozenset(), verbose: bool = False) -> list[str]:
    """Run one seed; returns what should not have been."""
    return Scenario(seed, skipped=skipped, verbose=verbose).run()


def least(seed: int) -> frozenset[int]:
    """Find steps of a failing seed that it fails without."""
    kind = _kind(run(seed))
    skipped: frozenset[int] = frozenset()
    for size in (16, 8, 4, 2, 1, 1):
        for start in range(0, Scenario(seed).steps, size):
            more = skipped.union(range(start, start + size))
            if more != skipped and _kind(run(seed, skipped=more)) == kind:
                skipped = more
    return skipped


def _kind(violations: list[str]) -> str:
    # Without names and numbers.
    return " ".join(re.findall(r" [a-z]+(?= |\.)", violations[0])[-4:]) if violations else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
