"""A relay that was forked is one that was executed, as far as anybody can see."""

from __future__ import annotations

import contextlib  # trial takes what a module has as "suppress" for its own
import os
import re
import signal
import threading
from pathlib import Path

from tests.integration.fork_server import ForkedProcess
from tests.integration.relay_process import RelayProcess, RelayTestCase


def files_of(relay: RelayProcess) -> set[str]:
    """What a relay has open; some of it may be closed while one looks."""
    found = set()
    for descriptor in Path(f"/proc/{relay.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(descriptor))
    return found


class ForkServerTests(RelayTestCase):
    """The start of relays in tests."""

    def start(self, *options: str, is_executed: bool = False) -> RelayProcess:
        relay = RelayProcess(*options, is_executed=is_executed)
        self.addCleanup(relay.end)
        return relay

    def test_both_say_and_do_the_same(self) -> None:
        logs = []
        for is_executed in (False, True):
            relay = self.start(is_executed=is_executed)
            client = self.connect(relay.address(), "carol")
            client.send("%reverse%hello")
            self.assertEqual(client.line(), "%reverse%olleh")
            directory = os.readlink(f"/proc/{relay.pid}/cwd")
            self.assertEqual(directory, os.path.realpath(relay.directory))
            relay.signal(signal.SIGTERM)
            self.assertTrue(client.rest()[-1].startswith("!error shutting-down "))
            self.assertEqual(relay.wait(), 0)
            log = "\n".join(relay.log()).replace(relay.directory, "DIRECTORY")
            self.assertIn("kept in DIRECTORY", log)
            logs.append(re.sub(r"\b\d+ s\b|(?<=port )\d+|(?<=on )\d+", "N", log, flags=re.I))
        self.assertEqual(*logs)

    def test_what_can_not_start_ends_with_a_status(self) -> None:
        relay = self.start("--port", "nonsense")
        self.assertEqual(relay.wait(), 1)
        self.assertIn("--port 'nonsense' is neither a number nor", relay.output)

    def test_each_has_its_own_end(self) -> None:
        first, second, third = [self.start() for _ in range(3)]
        for relay in (first, second, third):
            relay.address()
        second.signal(signal.SIGKILL)
        self.assertEqual(second.wait(), -signal.SIGKILL)
        self.connect(first.address(), "carol").ping()
        first.signal(signal.SIGINT)
        self.assertEqual(first.wait(), 0)
        self.connect(third.address(), "carol").ping()
        second.signal(signal.SIGTERM)  # to nobody

    def test_one_that_ends_before_the_signal_comes(self) -> None:
        relay = self.start("--port", "nonsense")
        self.assertEqual(relay.wait(), 1)
        # As it was when it was asked.
        self.patch(ForkedProcess, "poll", lambda _: None)
        relay.signal(signal.SIGTERM)

    def test_it_keeps_nothing_of_others_open(self) -> None:
        first, second = self.start(), self.start()
        first.address()
        second.address()
        opened = [files_of(relay) for relay in (first, second)]
        self.assertNotIn("anon_inode:[pidfd]", opened[0] | opened[1])
        both = opened[0] & opened[1]
        self.assertEqual([name for name in both if name.startswith(("socket:", "pipe:"))], [])

    def test_several_may_start_one_at_once(self) -> None:
        started: list[RelayProcess] = []
        threads = [threading.Thread(target=lambda: started.append(self.start())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len({relay.address()[1] for relay in started}), 4)
        self.assertEqual(len({relay.pid for relay in started}), 4)
