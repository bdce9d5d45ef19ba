"""
A relay under thousands of clients that join, leave, rename, talk and die at random::

    python -m tests.integration.soak --minutes 10
    python -m tests.integration.soak --connections 300 --actions 20000 --seed 1

At the end all of them leave, and it is looked for what is left: no name, no room, no connection,
no error in the relay's log, and not more memory than there was after a tenth of it.  What they do
follows from the seed; how far the relay has come by then does not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from tests.integration.relay_process import Client, RelayProcess, eventually
from tests.integration.talkers import Talker

MIB = 1 << 20
# What may come on top of the memory after the first part: what an allocator does not give back
# for one part of it, and a part of it for the dictionaries that grow in steps.
_MOST_GROWN = 0.10
_SPARE_BYTES = 4 * MIB
_ACTIONS_PER_S = 1000
_BATCH = 100
# Where nobody is ready, somebody is read from first.
_ANSWER_S = 0.05
_FIRST_PART = 0.1
_SIGNS_OF_ERRORS = ("Traceback", "Unhandled error", "#critical", "#error")


class Soak:
    """
    One run.

    :ivar counts: what was done and told.
    :ivar problems: what should not have been.
    """

    def __init__(self, connections: int, seed: int, say: Callable[[str], None]) -> None:
        """
        Prepare it.

        :param say: is given each line that tells how far it has come.
        """
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._connections = connections
        self._random = Random(seed)
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._talkers: list[Talker] = []
        self._acted = 0
        self._first_bytes = 0

    def run(self, is_over: Callable[[int], float], actions_per_s: float | None) -> None:
        """
        Run it, and look what is left.

        :param is_over: how much of it is over after so many actions, from 0 to 1.
        :param actions_per_s: no more than these; ``None`` for as many as there can be.
        """
        # Who is not chosen for a long time has no name for as long.
        relay = RelayProcess("--data", "none", "--naming-timeout", "86400")
        try:
            address = relay.address()
            self._look_for_names(address)
            files = len(os.listdir(f"/proc/{relay.pid}/fd"))
            self._live(relay, address, is_over, actions_per_s)
            self._say("everybody leaves")
            self._leave()
            eventually(
                "all connections are gone",
                lambda: len(os.listdir(f"/proc/{relay.pid}/fd")) <= files,
            )
            self._look_for_names(address)
            log = relay.output
            self.problems += [f"in the log: {sign}" for sign in _SIGNS_OF_ERRORS if sign in log]
        finally:
            for talker in self._talkers:
                talker.socket.close()
            self._selector.close()
            relay.end()

    def _live(
        self,
        relay: RelayProcess,
        address: tuple[str, int],
        is_over: Callable[[int], float],
        actions_per_s: float | None,
    ) -> None:
        began_s, told = time.monotonic(), 0.0
        while (over := is_over(self._acted)) < 1.0:
            self._fill(address)
            for talker in self._random.choices(self._talkers, k=_BATCH):
                if talker.is_ready:
                    # Some more names than clients, so that some are free.
                    talker.act(self._connections * 2, max(2, self._connections // 8))
                    self._acted += 1
            self._read(_ANSWER_S)
            if actions_per_s is not None:
                due_s = began_s + self._acted / actions_per_s
                while (early_s := due_s - time.monotonic()) > 0:
                    self._read(early_s)
            if over >= told:
                self._tell(relay, over, time.monotonic() - began_s)
                told = over + _FIRST_PART
        self._tell(relay, 1.0, time.monotonic() - began_s)
        self._check_memory(relay.memory_bytes())

    def _fill(self, address: tuple[str, int]) -> None:
        for talker in self._talkers:
            if talker.is_over:
                self._selector.unregister(talker.socket)
                talker.socket.close()
        self._talkers = [talker for talker in self._talkers if not talker.is_over]
        for _ in range(min(_BATCH, self._connections - len(self._talkers))):
            number = self.counts["connections"] + 1
            random = Random(self._random.random())
            talker = Talker(address, number, random, self.counts, self.problems)
            self._selector.register(talker.socket, selectors.EVENT_READ, talker)
            self._talkers.append(talker)

    def _read(self, most_s: float) -> None:
        for key, _ in self._selector.select(most_s):
            talker: Talker = key.data
            if not talker.is_over:
                talker.read()

    def _tell(self, relay: RelayProcess, over: float, seconds: float) -> None:
        memory_bytes = relay.memory_bytes()
        if over >= _FIRST_PART and not self._first_bytes:
            self._first_bytes = memory_bytes
        self._say(
            f"{over:4.0%} after {seconds:.0f} s: {self._acted:,} actions,"
            f" {self.counts['connections']:,} connections, {self.counts['lines read']:,} lines,"
            f" {memory_bytes / MIB:.1f} MiB"
        )

    def _check_memory(self, memory_bytes: int) -> None:
        most_bytes = self._first_bytes * (1 + _MOST_GROWN) + _SPARE_BYTES
        if memory_bytes > most_bytes:
            self.problems.append(
                f"the relay has {memory_bytes / MIB:.1f} MiB at the end,"
                f" and had {self._first_bytes / MIB:.1f} after a tenth of it"
            )

    def _leave(self) -> None:
        for talker in self._talkers:
            if not talker.is_leaving:
                talker.die()
        while self._talkers:
            for talker in self._talkers:
                if talker.is_over:
                    self._selector.unregister(talker.socket)
                    talker.socket.close()
            self._talkers = [talker for talker in self._talkers if not talker.is_over]
            self._read(0.1)

    def _look_for_names(self, address: tuple[str, int]) -> None:
        with contextlib.closing(Client(address, "looking")) as looking:
            looking.send("/who", "/rooms")
            while not (line := looking.line()).startswith("!end who"):
                if line.split()[1] not in ("reverse", "looking"):
                    self.problems.append(f"still here: {line}")
            while not (line := looking.line()).startswith("!end rooms"):
                self.problems.append(f"still here: {line}")


def main(arguments: list[str]) -> int:
    """Run what the command line says; returns the exit status."""
    program = "python -m tests.integration.soak"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--actions", type=int, help="so many instead, as fast as they can be")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    _allow_files(options.connections + 100)
    soak = Soak(options.connections, options.seed, lambda line: print(line, flush=True))
    print(f"seed {options.seed}")
    if options.actions is not None:
        soak.run(lambda acted: acted / options.actions, None)
    else:
        began_s = time.monotonic()
        soak.run(lambda _: (time.monotonic() - began_s) / 60 / options.minutes, _ACTIONS_PER_S)
    for what, count in sorted(soak.counts.items()):
        print(f"  {what}: {count:,}")
    for problem in soak.problems[:20]:
        print(problem)
    print(f"problems: {len(soak.problems)}")
    return 1 if soak.problems else 0


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            sys.exit(
                f"this opens {count} files and may open {hard}: raise the hard limit (ulimit -Hn)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
