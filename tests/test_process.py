"""What a relay asks of its process."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

# In a process of its own: what is asked of one stays.
PROGRAM = """
import gc, json, resource, sys
from chatrelay.process import prepare

def faults_of_reads():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        kept = [bytes(270_000 + 1000 * each) for each in range(2)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "prepared":
    prepare()
faults_of_reads()
print(json.dumps([gc.get_threshold()[0], gc.get_freeze_count() > 1000, faults_of_reads()]))
"""


class ProcessTests(SynchronousTestCase):
    """What is different once it was asked."""

    def found(self, how: str) -> tuple[int, bool, int]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, timeout=60
        )
        threshold, is_frozen, faults = json.loads(done.stdout)
        return threshold, is_frozen, faults

    def test_the_collector_lets_what_is_short_lived_pass(self) -> None:
        self.assertEqual(self.found("prepared")[:2], (50_000, True))
        self.assertLess(self.found("as it is")[0], 50_000)

    def test_memory_of_reads_does_not_go_back_to_the_kernel(self) -> None:
        if platform.libc_ver()[0] != "glibc":
            self.skipTest("mallopt is of the GNU C library, Debian's package libc6")
        self.assertLess(self.found("prepared")[2], 100)
