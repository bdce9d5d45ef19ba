"""What is answered is kept: simulations, and what they have found, each as it happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.mailbox.entries import Run
from chatrelay.mailbox.reading import Reading
from tests.simulated_scenario import Scenario
from tests.simulated_stage import Stage
from tests.simulation import run

SEEDS = 300


class SeedTests(SynchronousTestCase):
    def test_nothing_happens_that_may_not(self) -> None:
        for seed in range(1, SEEDS + 1):
            self.assertEqual(run(seed), [], f"python -m tests.simulation --seed {seed} -v")

    def test_a_seed_is_one_history(self) -> None:
        histories = [Scenario(7), Scenario(7), Scenario(8)]
        for history in histories:
            history.run()
        first, same, other = ([*one.journal.checker.counts.items()] for one in histories)
        self.assertEqual(first, same)
        self.assertNotEqual(first, other)

    def test_what_it_should_find_it_finds(self) -> None:
        def unread(reading: Reading, run: Run) -> None:
            reading.read_id = run.last_id

        faults: dict[str, Callable[..., object]] = {
            "_hand_uncommitted": lambda _reading, _readers: None,
            "handed": unread,
        }
        for method, fault in faults.items():
            with self.subTest(method), mock.patch.object(Reading, method, fault):
                self.assertTrue(any(run(seed) for seed in range(1, SEEDS + 1)))


class FoundTests(SynchronousTestCase):
    """What went wrong once."""

    def stage(self, **options: Any) -> Stage:
        stage = Stage(("alice", "bob"), **options)
        stage.__enter__()
        self.addCleanup(stage.__exit__)
        return stage

    def send(self, stage: Stage, number: int, target: str = "bob") -> None:
        """Let alice send, and let nothing be stored."""
        [alice] = [client for client in stage.clients() if client.name == "alice"]
        stage.write(alice, f"m{number}", [target], f"t{number}")
        stage.world.settle()

    def test_what_is_on_its_way_to_the_log_when_one_that_acks_comes_is_marked_after_a_crash(
        self,
    ) -> None:
        for steps in range(6):
            with self.subTest(steps=steps):
                stage = self.stage(acking=["bob"])
                stage.join("alice")
                stage.quit(stage.join("bob"))
                stage.world.run_store()
                stage.connect("bob")
                stage.world.settle()
                for _ in range(steps):
                    if not stage.world.thread.is_idle:
                        stage.world.step_store()
                self.send(stage, 1)
                stage.world.run_store()
                stage.crash()
                self.assertEqual(stage.finish(), [])

    def test_who_has_read_what_could_not_be_kept_has_its_room_again(self) -> None:
        stage = self.stage()
        stage.join("alice")
        bob = stage.join("bob")
        bob.stop_taking()
        self.send(stage, 1)
        stage.cut(bob)
        stage.world.settle()
        stage.fail_store()
        self.assertEqual(stage.finish(), [])

    def test_what_was_read_before_it_could_not_be_kept_is_counted_once(self) -> None:
        stage = self.stage()
        stage.join("alice")
        bob = stage.join("bob")
        self.send(stage, 1)
        self.assertEqual([*bob.reader.texts], ["t1"])
        stage.fail_store()
        self.assertEqual(stage.finish(), [])

    def test_an_ack_that_fails_is_told_to_the_sender_all_the_same(self) -> None:
        for sender, name in (("alice", "an owned name"), ("fred", "a free one")):
            with self.subTest(name):
                stage = self.stage(acking=["bob"], free=["fred"])
                bob = stage.join("bob")
                client = stage.join(sender, "receipts")
                stage.write(client, "m1", ["bob"], "t1")
                stage.world.run_store()
                assert bob.last_id is not None
                stage.ack(bob, bob.last_id)
                stage.world.settle()
                stage.fail_store()
                stage.world.run_store()
                self.assertEqual(stage.journal.checker.counts["acks reported"], 0)
                stage.pass_time(2.0)
                stage.world.run_store()
                self.assertEqual(stage.journal.checker.counts["acks reported"], 1)
                self.assertEqual(stage.finish(), [])

    def test_a_log_that_somebody_waits_for_is_not_put_away(self) -> None:
        stage = self.stage(free=["fred"], limits=Limits(history_s=0.0))
        fred = stage.join("fred")
        stage.write(fred, "m1", ["alice"], "t1")
        stage.world.run_store()
        alice = stage.join("alice")
        stage.quit(alice)
        stage.world.run_store()
        stage.clock.rightNow += 700.0
        # It knows of alice's log, and not of bob's.
        stage.write(fred, "m2", ["alice", "bob"], "t2")
        stage.world.settle()
        self.assertFalse(stage.world.thread.is_idle)
        stage.pass_time(70.0)
        stage.world.run_store()
        self.assertEqual(stage.finish(), [])
