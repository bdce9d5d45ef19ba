"""The one thread that reads and writes the accounts, as the reactor sees it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chatrelay.errors import Busy, ShuttingDown
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database, StoreError, explain
from chatrelay.store.files import shown_path
from chatrelay.store.jobs import Done, Job, JobRunner

MAX_WAITING_JOBS = 10_000
FAULT_LINES_EVERY_S = 60.0

_log = Logger(namespace="chatrelay")

T = TypeVar("T")
_Waiting = tuple[Job, "Deferred[Any]"]


class _OneThread(ThreadPool):
    # Where nobody closes the store, the process ends all the same; SQLite lives through that.
    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # noqa: N815

    def __init__(self) -> None:
        super().__init__(1, 1, "store")


class StoreThread:
    """
    Hands jobs to the store's thread, and what became of them back to the reactor.

    Jobs run one after another, in the order in which they were given.  All that wait when the
    thread is free go to it together; neighbouring writes among them share one transaction, and
    no Deferred fires before what it rests on is on the disk.

    The Deferreds of `read` and `write` fire in the order of the jobs, with what the job returned
    or raised, or fail with

    * `chatrelay.errors.StoreFailed`: the database failed; nothing of this job was written;
    * `chatrelay.errors.Busy`: `MAX_WAITING_JOBS` wait already;
    * `chatrelay.errors.ShuttingDown`: the store was closed.

    Cancelling one does not stop its job.
    """

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401 - IReactorTime and IReactorFromThreads
        directory: Path,
        *,
        threadpool: Any = None,  # noqa: ANN401 - ThreadPool has no interface
    ) -> None:
        """
        Make it; nothing is opened yet.

        :param directory: where the accounts are.
        :param threadpool: one thread that is not started yet, as
            `twisted.python.threadpool.ThreadPool`; an own one if ``None``.
        """
        self._reactor = reactor
        self._directory = directory
        self._threadpool = threadpool if threadpool is not None else _OneThread()
        self._has_thread = False
        self._database: Database | None = None
        self._runner: JobRunner | None = None
        self._waiting: list[_Waiting] = []
        self._is_running = False
        self._is_closing = False
        self._closed: list[Deferred[None]] = []
        self._fault_line_s: float | None = None

    def open(self, begin: Callable[[Accounts], T]) -> T:
        """
        Open the database, be the one relay that has it, and run a first job at once.

        The thread is not started before the first job, and connects to the file anew: a process
        may become a daemon, or another user, in between.

        :param begin: may change something; called with the accounts in this thread.
        :returns: what it returned.
        :raises StoreError: that can not be; one sentence for the operator.
        """
        self._database = Database.open(self._directory, exclusive=True)
        try:
            with self._database.transaction():
                result = begin(Accounts(self._database.connection))
        except sqlite3.Error as error:
            self._database.close()
            where = shown_path(self._directory)
            raise StoreError(f"the accounts in {where} can not be read: {explain(error)}") from None
        except BaseException:
            self._database.close()
            raise
        self._database.disconnect()
        self._runner = JobRunner(self._database)
        return result

    def read(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """
        Run a job that changes nothing.

        :param job: called with the accounts, in the store's thread.
        :returns: fires with what it returned.
        """
        return self._add(Job(job, writes=False))

    def write(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """
        Run a job that may change something: all of it or, if it raises, nothing.

        :param job: called with the accounts, in the store's thread and inside a transaction.
        :returns: fires with what it returned, after the commit.
        """
        return self._add(Job(job, writes=True))

    def close(self) -> Deferred[None]:
        """
        Take no more jobs, and close the database after those that were given.

        :returns: fires with ``None`` when another relay may open it.
        """
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        self._is_closing = True
        self._close_if_idle()
        return closed

    # -- in the reactor's thread

    def _add(self, job: Job) -> Deferred[Any]:
        if self._is_closing:
            return fail(ShuttingDown())
        if len(self._waiting) >= MAX_WAITING_JOBS:
            return fail(Busy())
        deferred: Deferred[Any] = Deferred()
        self._waiting.append((job, deferred))
        if not self._is_running:
            self._run_waiting()
        return deferred

    def _run_waiting(self) -> None:
        assert self._runner is not None, "not open"  # noqa: S101 - a bug of the caller
        batch, self._waiting = self._waiting, []
        run = partial(self._runner.run, [job for job, _ in batch])
        self._in_thread(run, partial(self._ran, batch))

    def _in_thread(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._is_running = True
        if not self._has_thread:
            self._has_thread = True
            self._threadpool.start()

        def done_in_thread(_is_success: bool, result: Any) -> None:  # noqa: ANN401 - function's
            self._reactor.callFromThread(done, result)

        self._threadpool.callInThreadWithCallback(done_in_thread, function)

    def _ran(self, batch: Sequence[_Waiting], result: Done | Failure) -> None:
        self._is_running = False
        # First, so that the thread works while the reactor tells about what is done.
        if self._waiting:
            self._run_waiting()
        self._tell(batch, result)
        self._close_if_idle()

    def _tell(self, batch: Sequence[_Waiting], result: Done | Failure) -> None:
        if isinstance(result, Failure):
            # A bug: nobody knows what became of which job.
            for _, deferred in batch:
                deferred.errback(result)
            return
        if result.fault is not None:
            self._report(result.fault)
        for (_, deferred), outcome in zip(batch, result.outcomes, strict=True):
            if isinstance(outcome, Failure):
                deferred.errback(outcome)
            else:
                deferred.callback(outcome)

    def _report(self, fault: str) -> None:
        now_s = self._reactor.seconds()
        if self._fault_line_s is None or now_s - self._fault_line_s >= FAULT_LINES_EVERY_S:
            self._fault_line_s = now_s
            _log.error(
                "the accounts in {directory} can not be read or written: {fault}; who needs them"
                " is refused until that is over",
                directory=shown_path(self._directory),
                fault=fault,
            )

    def _close_if_idle(self) -> None:
        if not self._is_closing or self._is_running:
            return
        if self._has_thread:
            assert self._runner is not None, "not open"  # noqa: S101 - the thread ran its jobs
            self._in_thread(self._runner.close, self._thread_closed)
        else:
            self._finish()

    def _thread_closed(self, _result: object) -> None:
        self._is_running = self._has_thread = False
        # It has nothing left to do, so that this waits for next to nothing.
        self._threadpool.stop()
        self._finish()

    def _finish(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
        closed, self._closed = self._closed, []
        for deferred in closed:
            deferred.callback(None)
