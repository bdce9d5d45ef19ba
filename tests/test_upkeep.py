"""What is given up when all logs together have too much, and what work that is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.mailbox.log import GivenUp
from chatrelay.mailbox.upkeep import PRUNE_INTERVAL_S, Upkeep
from chatrelay.relay import Relay

MAX_BYTES = 1000


class FakeLogs:
    """
    Logs that take `used`, of which so many pieces are looked at one after another.

    :ivar asked: after which piece it was looked, each time.
    """

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.used = MAX_BYTES + 1
        self.freed_in: dict[int, int] = {}
        self.pieces_of_rooms = 0
        self.asked: list[int] = []

    def give_up(self, *, after_number: int, **_before: float) -> GivenUp:
        self.asked.append(after_number)
        freed = self.freed_in.pop(after_number, 0)
        self.used -= freed
        until = after_number + 1
        self.pieces_of_rooms -= 1
        return GivenUp(
            {7: (1, freed)} if freed else {},
            until if until < self.pieces else 0,
            has_more_of_rooms=self.pieces_of_rooms > 0,
        )

    def used_bytes(self) -> int:
        return self.used


class Store:
    """A store that does its jobs when it is told."""

    def __init__(self, logs: FakeLogs) -> None:
        self.logs = logs
        self.jobs: deque[Callable[[], None]] = deque()

    def write(self, job: Callable[[Any], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.jobs.append(lambda: deferred.callback(job(self)))
        return deferred


class FullTests(SynchronousTestCase):
    """More is kept than may be."""

    def setUp(self) -> None:
        self.now_s = 0.0
        self.freed: list[Any] = []

    def start(self, pieces: int) -> FakeLogs:
        logs = FakeLogs(pieces)
        relay = Relay(
            Limits(max_store_bytes=MAX_BYTES),
            seconds=lambda: self.now_s,
            wall_clock=lambda: self.now_s,
        )

        store: Any = Store(logs)
        self.store = store
        self.upkeep = Upkeep(relay, store, lambda freed, _rooms: self.freed.append(freed))
        self.upkeep.used_bytes = logs.used
        return logs

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.upkeep.tick()
            while self.store.jobs:
                self.store.jobs.popleft()()

    def test_what_was_looked_at_in_vain_is_not_looked_at_all_the_time(self) -> None:
        logs = self.start(10)
        self.pass_time(1)
        self.assertEqual(logs.asked, [*range(10)])
        self.pass_time(9)
        self.assertEqual(len(logs.asked), 10)
        self.pass_time(1)
        self.assertEqual(len(logs.asked), 20)

    def test_what_is_left_in_rooms_is_looked_for_where_names_have_nothing(self) -> None:
        logs = self.start(1)
        logs.pieces_of_rooms = 3
        self.pass_time(1)
        self.assertEqual(logs.asked, [0, 0, 0])

    def test_once_a_minute_it_is(self) -> None:
        logs = self.start(500)
        self.pass_time(59)
        self.assertEqual(len(logs.asked), 500)
        self.pass_time(1)
        self.assertEqual(len(logs.asked), 1000)
        self.assertEqual(PRUNE_INTERVAL_S, 60.0)

    def test_it_ends_with_what_is_enough_and_goes_on_from_there(self) -> None:
        logs = self.start(10)
        logs.freed_in = {3: 100, 4: 100, 7: 100}
        self.pass_time(1)
        self.assertEqual((logs.asked, self.upkeep.is_full), ([0, 1, 2, 3], False))
        logs.used = self.upkeep.used_bytes = MAX_BYTES + 50
        self.pass_time(1)
        self.assertEqual((logs.asked[4:], self.upkeep.is_full), ([4], False))
        self.assertEqual([freed for freed in self.freed if freed], [{7: (1, 100)}] * 2)
