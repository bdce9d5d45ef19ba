"""What is in logs becomes known by jobs of the store that are bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import Refusal, StoreFailed
from chatrelay.mailbox.loading import Loading


class Log:
    """A mailbox, as far as it is loaded."""

    def __init__(self, account: int) -> None:
        self.account = account
        self.is_loaded = False

    def is_being_loaded(self) -> None:
        """It is."""

    def loaded(self, _log: object) -> None:
        self.is_loaded = True


class LoadingTests(SynchronousTestCase):
    """Many logs that are asked for in one turn, or while others are read."""

    def setUp(self) -> None:
        self.jobs: list[tuple[Any, Deferred[Any]]] = []
        self.later: list[Callable[[], None]] = []
        self.decisions: list[Refusal | None] = []
        self.sizes: list[int] = []
        self.most_at_once = 0
        self.loading = Loading(
            mock.Mock(read=self.read),
            lambda _: None,
            refs_lifetime_s=600.0,
            wall_clock=lambda: 0.0,
            call_later=self.later.append,
        )

    def read(self, job: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.jobs.append((job, answer))
        return answer

    def run_all(self) -> None:
        """Let turns pass, and the store answer one job in each."""
        while self.jobs or self.later:
            later, self.later[:] = list(self.later), []
            for call in later:
                call()
            self.most_at_once = max(self.most_at_once, len(self.jobs))
            if self.jobs:
                job, answer = self.jobs.pop(0)
                accounts = mock.Mock()
                answer.callback(job(accounts))
                self.sizes.append(accounts.logs.load.call_count)

    def test_few_are_one_job(self) -> None:
        logs: list[Any] = [Log(number) for number in range(40)]
        self.loading.load(logs[:20], self.decisions.append)
        self.loading.load(logs[10:], self.decisions.append)
        self.run_all()
        self.assertEqual((self.sizes, self.decisions), ([40], [None, None]))
        self.assertFalse(self.loading)

    def test_many_are_several_one_after_the_other(self) -> None:
        logs: list[Any] = [Log(number) for number in range(1000)]
        self.loading.load(logs, self.decisions.append)
        self.later.pop()()
        self.loading.load([Log(1000)], self.decisions.append)  # type: ignore[list-item]
        self.assertEqual(len(self.jobs), 1)
        self.run_all()
        self.assertEqual(sum(self.sizes), 1001)
        self.assertLessEqual(max(self.sizes), 256)
        self.assertEqual(self.most_at_once, 1)
        self.assertEqual(self.decisions, [None, None])
        self.assertTrue(all(log.is_loaded for log in logs))

    def test_what_can_not_be_read_keeps_nobody_waiting(self) -> None:
        logs: list[Any] = [Log(number) for number in range(600)]
        self.loading.load(logs, self.decisions.append)
        self.later.pop()()
        _, first = self.jobs.pop()
        first.errback(StoreFailed())
        for _, answer in self.jobs:
            answer.errback(StoreFailed())
        self.jobs.clear()
        self.run_all()
        [decision] = self.decisions
        self.assertIsInstance(decision, StoreFailed)
        self.assertFalse(self.loading)
