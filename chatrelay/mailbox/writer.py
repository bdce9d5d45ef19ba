"""
Writes what has changed in all mailboxes together: group commit.

What changes in one turn, or while a commit is on its way, is written by the next one: one job
of the store for all of it.  The reactor never waits for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.flow import Gate, Holder
from chatrelay.mailbox.log import Bounds, Changes, Written
from chatrelay.mailbox.seams import Logged
from chatrelay.mailbox.waiting import Batch
from chatrelay.store.accounts import Accounts

T = TypeVar("T")

# Senders that wait for their answers would all wait for one commit, and the store then for all
# of them, if it began only when all of them had been read.
_ENOUGH_BYTES = 32 * 1024

_log = Logger(namespace="chatrelay")


class Store(Protocol):
    """What is asked of the store, which answers later."""

    def read(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """Run a job that changes nothing."""

    def write(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """Run a job that may change something."""


Batches = list[tuple[Logged, Batch]]
Told = Callable[[Batches, Written | Failure], None]


class _Commit:
    """
    One commit.

    :ivar batches: what it writes.
    :ivar result: what became of it; ``None`` until that is known.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.result: Written | Failure | None = None


class Writer(Holder):
    """Writes for all mailboxes of one relay."""

    def __init__(
        self,
        store: Store,
        bounds: Callable[[], Bounds],
        told: Told,
        *,
        max_waiting_bytes: int,
        wall_clock: Callable[[], float],
        call_later: Callable[[Callable[[], None]], object],
    ) -> None:
        """
        Begin with nothing to write.

        :param bounds: tells what a log may hold now.
        :param told: called in the order of the commits with what each wrote, or why not.
        :param max_waiting_bytes: with more to be written, who sends is held.
        :param wall_clock: seconds since the epoch.
        :param call_later: calls in the reactor's next turn.
        """
        super().__init__()
        self._store = store
        self._bounds = bounds
        self._told = told
        self._max_waiting_bytes = max_waiting_bytes
        self._wall_clock = wall_clock
        self._call_later = call_later
        self._changed: dict[Logged, None] = {}
        self._commits: deque[_Commit] = deque()
        self._then: list[Callable[[], object]] = []
        self._closed: list[Deferred[None]] = []
        self._waiting_bytes = self._looked_at_bytes = 0
        self._is_scheduled = False
        self._is_writing = False

    def changed(self, mailbox: Logged, size_bytes: int = 0) -> None:
        """Something of a mailbox is to be written, of this size."""
        self._waiting_bytes += size_bytes
        self._changed[mailbox] = None
        if not self._is_scheduled and not self._is_writing:
            self._is_scheduled = True
            self._call_later(self._begin)

    def removed(self, mailbox: Logged) -> None:
        """Nothing of it can be."""
        self._changed.pop(mailbox, None)

    def sent(self, gate: Gate) -> None:
        """
        Begin at once with what is enough for a commit, if the store has nothing to do.

        :param gate: of who has sent what came last; it is held if there is too much.
        """
        if self._waiting_bytes >= _ENOUGH_BYTES:
            self._write()
        # Who has sent nothing that is to be written does not wait for the disk.
        has_added = self._waiting_bytes > self._looked_at_bytes
        self._looked_at_bytes = self._waiting_bytes
        if has_added and self._waiting_bytes > self._max_waiting_bytes and gate.hold(self):
            self.held_gates.add(gate)

    def close(self) -> Deferred[None]:
        """Write everything; fires with ``None`` when that is done, or could not be."""
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        self._write()
        self._fire_if_idle()
        return closed

    def when_written(self, then: Callable[[], object]) -> None:
        """Give the store something to do behind everything that has changed until now."""
        self._write()
        if self._changed:
            self._then.append(then)
        else:
            then()

    # How it does it.

    def _begin(self) -> None:
        self._is_scheduled = False
        self._write()

    def _write(self) -> None:
        if not self._changed or self._is_writing:
            return
        self._is_writing = True
        changed, self._changed = self._changed, {}
        self._waiting_bytes = self._looked_at_bytes = 0
        commit = _Commit([(mailbox, mailbox.take_batch()) for mailbox in changed])
        self._commits.append(commit)
        changes = [batch.changes for _, batch in commit.batches]
        writing = self._store.write(partial(_write, changes, self._bounds(), self._wall_clock()))
        writing.addBoth(partial(self._over, commit))
        writing.addErrback(lambda failure: _log.failure("telling of a commit failed", failure))

    def _over(self, commit: _Commit, result: Written | Failure) -> None:
        self._is_writing = False
        commit.result = result
        # Before anybody is told, so that the store works while the reactor does.
        self._write()
        then, self._then = self._then, []
        for call in then:
            call()
        while self._commits and self._commits[0].result is not None:
            first = self._commits.popleft()
            assert first.result is not None, "it was asked"  # noqa: S101
            self._told(first.batches, first.result)
        self.release_gates()
        self._fire_if_idle()

    def _fire_if_idle(self) -> None:
        if not self._is_writing and not self._changed:
            closed, self._closed = self._closed, []
            for deferred in closed:
                deferred.callback(None)


def _write(changes: list[Changes], bounds: Bounds, now_s: float, accounts: Accounts) -> Written:
    return accounts.logs.write(changes, bounds, now_s)
