"""A short run of real kills; docs/reliability.rst tells of a long one."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.delivery_checker import Checker
from tests.delivery_history import RelayKilled, read_event
from tests.integration import kills


class KillTests(SynchronousTestCase):
    """What was answered survives the relay."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chatrelay-kills-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def run_main(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = kills.main([*arguments, "--data", str(self.directory)])
        return status, output.getvalue()

    def test_a_few_kills(self) -> None:
        status, output = self.run_main("--kills", "6", "--seed", "5")
        self.assertEqual(status, 0, output)
        lines = output.splitlines()
        self.assertEqual(lines[0], "seed 5")
        self.assertTrue(lines[6].startswith("kill 6 of 6, "), output)
        self.assertTrue(lines[7].startswith("seed 5, 6 kills, "), output)
        self.assertEqual(lines[-1], "violations: 0")
        events = self.events()
        self.assertEqual(sum(isinstance(event, RelayKilled) for event in events), 6)
        kinds = {type(event).__name__ for event in events}
        for kind in ("Asked", "Answered", "Received", "AckAnswered", "AckReported", "HistoryRead"):
            self.assertIn(kind, kinds)

    def test_what_is_wrong_ends_the_run_and_is_told(self) -> None:
        class Suspicious(Checker):
            @property
            def violations(self) -> list[str]:
                return ["event 1: nothing is right."] * self.counts["kills"] * 25

        self.patch(kills, "Checker", Suspicious)
        status, output = self.run_main("--kills", "3", "--seed", "1")
        self.assertEqual(status, 1)
        self.assertIn("kill 1 of 3, ", output)
        self.assertNotIn("kill 2 of 3, ", output)
        self.assertEqual(output.count("event 1: nothing is right.\n"), 20)
        self.assertIn("and 5 more\n", output)
        self.assertIn("violations: 25\n", output)
        self.assertIn(f"the events are in {self.directory / 'events.jsonl'}", output)
        self.assertNotEqual(self.events(), [])

    def test_a_relay_that_does_not_start(self) -> None:
        class NoRelay(kills.RelayProcess):
            def __init__(self, *options: str, is_executed: bool) -> None:
                super().__init__("--no-such-option", *options, is_executed=is_executed)

        self.patch(kills, "RelayProcess", NoRelay)
        status, output = self.run_main("--kills", "1")
        self.assertEqual(status, 1)
        self.assertIn("no-such-option", output)

    def test_a_directory_that_is_in_use(self) -> None:
        (self.directory / "something").touch()
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertRaises(SystemExit, kills.main, ["--data", str(self.directory)])
        self.assertIn("it has to be empty", errors.getvalue())

    def events(self) -> list[object]:
        with (self.directory / "events.jsonl").open(encoding="utf-8") as log:
            return [read_event(line)[0] for line in log if json.loads(line)]
