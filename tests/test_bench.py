"""
The benchmark's generator tells the truth, on a scale of hundreds of messages.

No figure is looked at: these tests hold on a machine of any speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench.dialects import DIALECTS
from bench.relays import CHECKOUT, RELAYS, Relay
from bench.results import Results
from bench.traffic import PATTERNS, make_plan, make_text, verify

_WAIT_S = 100.0


def generate(relay: Relay, **task: Any) -> dict[str, Any]:
    """Start a relay, let the generator measure it once, and end it."""
    served = relay.start()
    try:
        task |= {"dialect": relay.dialect, "port": served.port, "pid": served.pid}
        generator = subprocess.run(
            [sys.executable, "-m", "bench.generator"],
            cwd=CHECKOUT,
            env=os.environ,
            input=json.dumps(task) + "\n",
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=True,
        )
    finally:
        served.end()
    found: dict[str, Any] = json.loads(generator.stdout)
    return found


class GeneratorTests(SynchronousTestCase):
    """The generator against relays."""

    def test_chatrelay_at_random(self) -> None:
        found = generate(
            RELAYS["chatrelay"],
            kind="throughput", work="b", size=64, verified=400, messages=2000, seconds=1.0,
        )  # fmt: skip
        self.assertEqual((found.get("error"), found["verified"]), (None, 400))
        self.assertEqual(found["messages"], 2000)
        self.assertGreater(found["rate"], 0)

    def test_reference_peer_in_pairs(self) -> None:
        found = generate(
            RELAYS["streams"],
            kind="throughput", work="a", size=16, verified=400, messages=800, seconds=1.0,
        )  # fmt: skip
        self.assertEqual((found.get("error"), found["verified"]), (None, 400))
        self.assertEqual(found["messages"], 800)

    def test_round_trips(self) -> None:
        found = generate(RELAYS["threads"], kind="round_trips", size=16, trips=50, seconds=30.0)
        self.assertEqual((found.get("error"), found["trips"]), (None, 50))
        self.assertLessEqual(found["p50_us"], found["p99_us"])

    def test_round_trips_unparsed(self) -> None:
        found = generate(RELAYS["forward"], kind="round_trips", size=16, trips=50, seconds=30.0)
        self.assertEqual((found.get("error"), found["trips"]), (None, 50))

    def test_connections(self) -> None:
        found = generate(RELAYS["plain"], kind="connections", count=200, at_once=20, settle_s=0.0)
        self.assertEqual((found.get("error"), found["count"]), (None, 200))

    def test_relay_that_is_no_relay(self) -> None:
        # Whatever a sender sends goes to one and the same.
        found = generate(
            RELAYS["forward"],
            kind="throughput", work="b", size=16, verified=400, seconds=1.0,
        )  # fmt: skip
        self.assertIn("error", found)


class VerifyTests(SynchronousTestCase):
    """What is wrong with what arrived is seen, in every dialect."""

    def received(self, name: str) -> tuple[Any, Any, list[bytes]]:
        """A plan, and what its receivers get if all goes well."""
        dialect, pattern = DIALECTS[name](), PATTERNS["b"]
        plan = make_plan(pattern, dialect, 16, 200)
        data = [b""] * pattern.receivers
        sent: dict[tuple[int, int], int] = {}
        for sender, buffer in enumerate(plan.buffers):
            at = 0
            while at < len(buffer):
                for receiver in range(pattern.receivers):
                    number = sent.get((sender, receiver), 0)
                    text = make_text(sender, receiver, number, 16)
                    line = dialect.message(pattern.receiver_names[receiver], text)
                    if buffer.startswith(line, at):
                        break
                else:
                    self.fail(f"nobody was to send {buffer[at : at + 80]!r}")
                at += len(line)
                sent[sender, receiver] = number + 1
                names = pattern.sender_names[sender], pattern.receiver_names[receiver]
                data[receiver] += dialect.delivered(*names, text)
        return dialect, plan, data

    def test_all_well(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            verify(PATTERNS["b"], dialect, plan, data)

    def test_lost(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] = data[3][: len(data[3]) - len(data[3]) // plan.expected[3]]
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_twice(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] += data[3][: len(data[3]) // plan.expected[3]]
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_changed(self) -> None:
        for name in DIALECTS:
            dialect, plan, data = self.received(name)
            data[3] = data[3].replace(b"#0000000.", b"#0000000,", 1)
            with self.assertRaises(ValueError):
                verify(PATTERNS["b"], dialect, plan, data)

    def test_out_of_order(self) -> None:
        dialect, plan, data = self.received("lines")
        data[3] = b"".join(reversed(data[3].splitlines(keepends=True)))
        with self.assertRaises(ValueError):
            verify(PATTERNS["b"], dialect, plan, data)


class PlanTests(SynchronousTestCase):
    """Plans."""

    def test_repeats_are_counted(self) -> None:
        plan = make_plan(PATTERNS["c"], DIALECTS["nats"](), 64, 1_000_000)
        self.assertGreater(plan.repeats, 1)
        lines = sum(buffer.count(b"PUB ") for buffer in plan.buffers)
        self.assertEqual(plan.messages, lines * plan.repeats)
        self.assertAlmostEqual(plan.messages / 1_000_000, 1.0, places=1)

    def test_texts_have_their_size(self) -> None:
        for size in (16, 64, 1024):
            for number in range(100):
                text = make_text(1, 999, number, size)
                self.assertEqual((len(text), text.strip()), (size, text))


class ResultsTests(SynchronousTestCase):
    """Ratios, medians and remarks."""

    def results(self) -> Results:
        """Three rounds of two relays; the second failed once."""
        results = Results()
        for number, (ours, nats) in enumerate([(2e6, 1e6), (3e6, 2e6), (1e6, None)]):
            shares = {"server_share": 0.5, "generator_share": 0.97}
            results.add("a", 64, "chatrelay", "chatrelay", number, {"rate": ours, **shares})
            found = {"error": "it is tired"} if nats is None else {"rate": nats, **shares}
            results.add("a", 64, "nats", "nats-server", number, found)
        return results

    def test_ratio_is_of_the_same_round(self) -> None:
        rows = self.results().as_json()["rows"]
        self.assertEqual(
            rows[0]["figures"]["rate"]["to_nats"], {"median": 1.75, "least": 1.5, "most": 2.0}
        )

    def test_table(self) -> None:
        table = self.results().table()
        self.assertIn("1.75 (1.50..2.00)", table)
        self.assertIn("the generator is the bottleneck", table)
        self.assertIn("it is tired", table)
