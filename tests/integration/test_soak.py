"""A short soak; docs/operations.rst tells of a long one."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import soak, talkers
from tests.integration.relay_process import RelayTestCase


class SoakTests(SynchronousTestCase):
    """Whatever clients do, nothing is left of them."""

    def run_main(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = soak.main([*arguments])
        return status, output.getvalue()

    def test_60_000_actions_of_300_connections(self) -> None:
        status, output = self.run_main("--connections", "300", "--actions", "60000", "--seed", "2")
        self.assertEqual(status, 0, output)
        self.assertTrue(output.startswith("seed 2\n"), output)
        self.assertTrue(output.endswith("problems: 0\n"), output)
        for kind in ("to rooms", "to names", "joins", "leaves", "renamings", "watches"):
            self.assertIn(f"\n  {kind}: ", output)
        for how in ("reset", "closed", "mid-line", "quit", "end of input"):
            self.assertIn(f"\n  deaths: {how}: ", output)

    def test_what_is_left_is_told(self) -> None:
        def leave(self: soak.Soak) -> None:
            pass

        self.patch(soak.Soak, "_leave", leave)
        self.patch(soak, "eventually", lambda *_: None)
        self.patch(soak, "_SPARE_BYTES", -1 << 40)
        status, output = self.run_main("--connections", "14", "--actions", "500")
        self.assertEqual(status, 1)
        for said in ("still here: !who n", "still here: !room #r", "had "):
            self.assertIn(said, output)


class TalkerTests(RelayTestCase):
    """What a client of a soak should not be told is a problem."""

    def test_problems(self) -> None:
        problems: list[str] = []
        relay = self.relay("--data", "none")
        talker = talkers.Talker(relay.address(), 1, Random(1), Counter(), problems)
        self.addCleanup(talker.socket.close)
        for line in (b"%#r%n1%7 1", b"%n1%7 1", b"!joined #r n1", b"!error name-in-use n1 :so"):
            talker._look_at(line)
        self.assertEqual(problems, [])
        for line in (b"%#r%n1%7 2", b"%n1%7 3", b"!error slow-consumer :so", b"what"):
            talker._look_at(line)
        talker._look_at(b"%n1%7 2")
        self.assertEqual(
            [problem.split(" ", 2)[2] for problem in problems],
            [
                "was told b'!error slow-consumer :so'",
                "was told b'what'",
                "read b'%n1%7 2' too late, or again",
            ],
        )
