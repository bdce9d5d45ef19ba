"""Jobs: their order, their transactions, and what they do when the disk fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import BadSecret, Busy, ShuttingDown, StoreFailed
from chatrelay.store import thread as thread_module
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import FILE_NAME, Database, StoreError
from chatrelay.store.jobs import SENTENCE
from chatrelay.store.thread import StoreThread
from tests.store_harness import (
    HASH,
    NOW_S,
    Cleanups,
    FaultyConnection,
    ImmediateThreadpool,
    ManualThreadpool,
    ThreadlessReactor,
    failing,
    fault,
    let_fail,
    name,
    open_store,
    temporary_directory,
)


def adds(written: str) -> Callable[[Accounts], bool]:
    return lambda accounts: accounts.add(name(written), HASH, NOW_S)


def keys(accounts: Accounts) -> list[bytes]:
    return [account.key for account in accounts]


def adds_and_refuses(written: str) -> Callable[[Accounts], None]:
    def job(accounts: Accounts) -> None:
        accounts.add(name(written), HASH, NOW_S)
        raise BadSecret(written.encode())

    return job


class ThreadTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        let_fail(self)
        self.clock = Clock()
        self.threadpool = ManualThreadpool()
        self.store = open_store(
            self, clock=self.clock, threadpool=self.threadpool, directory=self.directory
        )

    def result(self, deferred: Deferred[Any]) -> Any:
        self.threadpool.run_all()
        return self.successResultOf(deferred)

    def refusal(self, deferred: Deferred[Any], kind: type[Exception]) -> Any:
        self.threadpool.run_all()
        return self.failureResultOf(deferred, kind).value

    def said(self) -> list[str]:
        events, self.events[:] = list(self.events), []
        return [formatEvent(event) for event in events if event["log_level"] is LogLevel.error]


class OrderTests(ThreadTestCase):
    """One after another, with one hop for all that wait."""

    def test_what_a_job_returns(self) -> None:
        self.assertIs(self.result(self.store.write(adds("carol"))), True)
        self.assertIs(self.result(self.store.write(adds("Carol"))), False)
        self.assertEqual(self.result(self.store.read(keys)), [b"carol"])

    def test_all_that_wait_go_together(self) -> None:
        fired: list[int] = []
        for number in range(5000):
            self.store.read(lambda accounts: accounts.find(b"carol")).addCallback(
                lambda _, number=number: fired.append(number)
            )
        # The first found the thread free.
        self.assertEqual(len(self.threadpool.pending), 1)
        self.threadpool.run()
        self.assertEqual((fired, len(self.threadpool.pending)), ([0], 1))
        FaultyConnection.statements.clear()
        self.threadpool.run()
        self.assertEqual(fired, list(range(5000)))
        reactor = self.store._reactor
        self.assertEqual(reactor.calls_from_thread, 2)
        # One read of each, and no more than a transaction around all.
        self.assertLess(len(FaultyConnection.statements), 5010)

    def test_neighbouring_writes_share_a_transaction(self) -> None:
        self.store.read(keys)
        jobs = [self.store.write(adds(f"name{number}")) for number in range(100)]
        self.threadpool.run()
        FaultyConnection.statements.clear()
        self.threadpool.run()
        for begun in ("BEGIN IMMEDIATE", "COMMIT"):
            self.assertEqual(FaultyConnection.statements.count(begun), 1)
        self.assertEqual([self.successResultOf(job) for job in jobs], [True] * 100)

    def test_nothing_fires_before_the_commit(self) -> None:
        self.store.read(keys)
        self.threadpool.run()
        seen: list[bytes] = []

        def look(_: object) -> None:
            other = Database.open(self.directory, exclusive=False)
            seen.extend(keys(Accounts(other.connection)))
            other.close()

        self.store.write(adds("carol")).addCallback(look)
        self.threadpool.run_all()
        self.assertEqual(seen, [b"carol"])

    def test_a_read_sees_what_was_written_before_it(self) -> None:
        deferreds = []
        for number in range(5):
            deferreds.append(self.store.read(Accounts.count))
            self.store.write(adds(f"name{number}"))
        self.threadpool.run_all()
        self.assertEqual([self.successResultOf(each) for each in deferreds], [0, 1, 2, 3, 4])

    def test_jobs_of_callbacks(self) -> None:
        reading = self.store.read(keys)
        reading.addCallback(lambda _: self.store.write(adds("carol")))
        reading.addCallback(lambda _: self.store.read(keys))
        self.assertEqual(self.result(reading), [b"carol"])

    def test_the_thread_works_while_the_reactor_tells(self) -> None:
        pending: list[int] = []
        self.store.read(keys).addCallback(lambda _: pending.append(len(self.threadpool.pending)))
        self.store.read(keys)
        self.threadpool.run_all()
        self.assertEqual(pending, [1])

    def test_a_cancelled_one(self) -> None:
        cancelled = self.store.write(adds("carol"))
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.assertEqual(self.result(self.store.read(keys)), [b"carol"])


class RaisingTests(ThreadTestCase):
    """A job that raises changes nothing, and nothing of its neighbours."""

    def test_among_neighbours(self) -> None:
        self.store.read(keys)
        good, refused, wrong, last = [
            self.store.write(job)
            for job in (
                adds("alice"),
                adds_and_refuses("bob"),
                lambda accounts: accounts.nothing,
                adds("dave"),
            )
        ]
        self.threadpool.run_all()
        self.assertTrue(self.successResultOf(good))
        self.assertEqual(self.failureResultOf(refused).value.context, (b"bob",))
        self.failureResultOf(wrong, AttributeError)
        self.assertTrue(self.successResultOf(last))
        self.assertEqual(self.result(self.store.read(keys)), [b"alice", b"dave"])
        self.assertEqual(self.said(), [])

    def test_wrong_sql_is_a_bug_and_no_fault(self) -> None:
        def job(accounts: Accounts) -> None:
            accounts.add(name("carol"), None, NOW_S)  # type: ignore[arg-type]

        self.refusal(self.store.write(job), sqlite3.IntegrityError)
        self.assertEqual(self.result(self.store.read(keys)), [])
        self.assertEqual(self.said(), [])

    def test_a_read_that_writes(self) -> None:
        self.refusal(self.store.read(adds("carol")), StoreFailed)
        self.assertEqual(self.result(self.store.read(keys)), [])

    def test_what_no_job_should_raise(self) -> None:
        def job(_: Accounts) -> None:
            raise SystemExit

        writing, reading = self.store.write(job), self.store.read(keys)
        self.threadpool.run_all()
        self.failureResultOf(writing, SystemExit)
        self.assertEqual(self.successResultOf(reading), [])
        self.assertTrue(self.result(self.store.write(adds("carol"))))


class FaultTests(ThreadTestCase):
    """The database fails: jobs are refused, nothing is half-written, and it goes on."""

    def setUp(self) -> None:
        super().setUp()
        self.result(self.store.write(adds("alice")))

    def test_any_statement_and_any_fault(self) -> None:
        for beginning in ("BEGIN", "SAVEPOINT", "INSERT", "RELEASE", "COMMIT", "PRAGMA query"):
            for code, words in [
                (sqlite3.SQLITE_FULL, "the disk is full"),
                (sqlite3.SQLITE_IOERR, "the disk reports an error"),
                (sqlite3.SQLITE_IOERR_FSYNC, "the disk reports an error"),
                (sqlite3.SQLITE_READONLY, "read-only"),
                (sqlite3.SQLITE_CORRUPT, "it is damaged"),
                (sqlite3.SQLITE_NOTADB, "no SQLite database"),
                (sqlite3.SQLITE_BUSY, "another process"),
            ]:
                with failing(beginning, code):
                    refusal = self.refusal(self.store.write(adds("bob")), StoreFailed)
                    self.assertEqual(refusal.sentence, SENTENCE)
                    [line] = self.said()
                    self.assertIn(words, line)
                    self.assertIn(str(self.directory), line)
                    self.assertEqual(len(line.splitlines()), 1)
                self.clock.advance(60)
                self.assertEqual(self.result(self.store.read(keys)), [b"alice"], beginning)
        self.assertTrue(self.result(self.store.write(adds("bob"))))
        self.assertEqual(self.result(self.store.read(keys)), [b"alice", b"bob"])

    def test_the_connection_can_not_be_made_again(self) -> None:
        with failing("COMMIT", sqlite3.SQLITE_IOERR):
            self.refusal(self.store.write(adds("bob")), StoreFailed)
        for code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB):
            with failing("PRAGMA application_id", code):
                self.refusal(self.store.write(adds("bob")), StoreFailed)
                self.refusal(self.store.read(keys), StoreFailed)
        self.assertEqual(self.result(self.store.read(keys)), [b"alice"])

    def test_the_file_is_gone_and_comes_back(self) -> None:
        with failing("BEGIN", sqlite3.SQLITE_IOERR):
            self.refusal(self.store.read(keys), StoreFailed)
        path, away = self.directory / FILE_NAME, self.directory / "away"
        path.rename(away)
        self.refusal(self.store.read(keys), StoreFailed)
        self.assertFalse(path.exists())
        path.touch()
        self.refusal(self.store.read(keys), StoreFailed)
        away.rename(path)
        self.assertEqual(self.result(self.store.read(keys)), [b"alice"])

    def test_a_full_disk(self) -> None:
        def fill(accounts: Accounts) -> int:
            [(pages,)] = accounts._connection.execute("PRAGMA page_count")
            accounts._connection.execute(f"PRAGMA max_page_count = {pages}")
            return int(pages)

        def free(accounts: Accounts) -> None:
            accounts._connection.execute("PRAGMA max_page_count = 1000000")

        def adds_many(accounts: Accounts) -> None:
            for number in range(1000):
                accounts.add(name(f"name{number}"), HASH, NOW_S)

        self.result(self.store.read(fill))
        # The first one fits into the pages that there are; the second needs more.
        self.store.read(keys)
        small, big, late = [self.store.write(j) for j in (adds("bob"), adds_many, adds("dave"))]
        reading = self.store.read(keys)
        self.threadpool.run_all()
        self.failureResultOf(big, StoreFailed)
        [line] = self.said()
        self.assertIn("the disk is full", line)
        found = self.successResultOf(reading)
        for key, deferred in [(b"bob", small), (b"dave", late)]:
            outcome: list[Any] = []
            deferred.addBoth(outcome.append)
            self.assertEqual(key in found, outcome == [True])
        self.assertEqual({key for key in found if key.startswith(b"name")}, set())
        self.result(self.store.read(free))
        self.result(self.store.write(adds_many))
        self.assertEqual(len(self.result(self.store.read(keys))), 1000 + len(found))

    def test_a_fault_that_ends_the_transaction_fails_all_in_it(self) -> None:
        def job(accounts: Accounts) -> None:
            accounts.add(name("carol"), HASH, NOW_S)
            accounts._connection.execute("ROLLBACK")
            raise fault(sqlite3.SQLITE_FULL)

        self.store.read(keys)
        writes = [self.store.write(j) for j in (adds("bob"), job, adds_and_refuses("dave"))]
        reading = self.store.read(keys)
        self.threadpool.run_all()
        for write in writes:
            self.failureResultOf(write, StoreFailed)
        self.assertEqual(self.successResultOf(reading), [b"alice"])
        self.assertIn("the disk is full", self.said()[0])

    def test_what_failed_is_not_tried_for_each_of_many(self) -> None:
        self.store.read(keys)
        jobs: list[tuple[Deferred[Any], Deferred[Any]]] = [
            (self.store.write(adds(f"name{number}")), self.store.read(keys)) for number in range(50)
        ]
        FaultyConnection.statements.clear()
        with failing("BEGIN IMMEDIATE", sqlite3.SQLITE_BUSY):
            self.threadpool.run_all()
        self.assertEqual(FaultyConnection.statements.count("BEGIN IMMEDIATE"), 1)
        for write, read in jobs:
            self.failureResultOf(write, StoreFailed)
            self.assertEqual(self.successResultOf(read), [b"alice"])

    def test_a_damaged_page_fails_those_who_need_it(self) -> None:
        def damaged(_: Accounts) -> None:
            raise fault(sqlite3.SQLITE_CORRUPT)

        self.store.read(keys)
        reads = [self.store.read(job) for job in (keys, damaged, keys)]
        self.threadpool.run_all()
        self.assertEqual(self.successResultOf(reads[0]), [b"alice"])
        self.failureResultOf(reads[1], StoreFailed)
        self.assertEqual(self.successResultOf(reads[2]), [b"alice"])
        self.assertIn("it is damaged", self.said()[0])

    def test_one_line_a_minute(self) -> None:
        with failing("BEGIN IMMEDIATE", sqlite3.SQLITE_FULL):
            for seconds, lines in [(0, 1), (0, 0), (59, 0), (1, 1), (59, 0)]:
                self.clock.advance(seconds)
                self.refusal(self.store.write(adds("bob")), StoreFailed)
                self.assertEqual(len(self.said()), lines, seconds)

    def test_no_secret_is_logged(self) -> None:
        def job(accounts: Accounts) -> None:
            accounts._connection.execute("SELECT * FROM nowhere WHERE secret = ?", ["hunter2"])

        refusal = self.store.write(job)
        self.threadpool.run_all()
        failure: Failure = self.failureResultOf(refusal, StoreFailed)
        self.assertNotIn("hunter2", failure.getTraceback(detail="verbose"))
        self.assertNotIn("hunter2", str(self.events))

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from("awr"), st.booleans()), max_size=12),
        st.sampled_from(["BEGIN IMMEDIATE", "INSERT INTO revocation", "COMMIT", "RELEASE"]),
    )
    def test_what_is_told_is_what_is_kept(self, jobs: list[tuple[str, bool]], what: str) -> None:
        cleanups = Cleanups()
        self.addCleanup(cleanups.close)
        threadpool = ManualThreadpool()
        store = open_store(
            self, threadpool=threadpool, directory=temporary_directory(cleanups) / "data"
        )
        told: list[bytes] = []
        for number, (kind, fails) in enumerate(jobs):
            written = f"name{number}"

            def note(_: object, written: str = written) -> None:
                told.append(written.encode())

            FaultyConnection.faults = {what: sqlite3.SQLITE_FULL} if fails else {}
            if kind == "a":
                store.write(adds(written)).addCallbacks(note, lambda _: None)
            elif kind == "w":
                store.write(adds_and_refuses(written)).addErrback(lambda _: None)
            else:
                store.read(keys).addErrback(lambda _: None)
            if fails:
                threadpool.run_all()
        FaultyConnection.faults = {}
        threadpool.run_all()
        reading = store.read(keys)
        threadpool.run_all()
        self.assertEqual(self.successResultOf(reading), sorted(told))


class BoundTests(ThreadTestCase):
    """So many jobs may wait."""

    def test_one_more(self) -> None:
        self.patch(thread_module, "MAX_WAITING_JOBS", 10)
        self.store.read(keys)
        jobs = [self.store.read(keys) for _ in range(10)]
        self.failureResultOf(self.store.read(keys), Busy)
        self.failureResultOf(self.store.write(adds("carol")), Busy)
        self.threadpool.run_all()
        for job in jobs:
            self.assertEqual(self.successResultOf(job), [])
        self.assertEqual(self.result(self.store.read(keys)), [])

    def test_how_many(self) -> None:
        self.assertEqual(thread_module.MAX_WAITING_JOBS, 10_000)


class OpeningAndClosingTests(ThreadTestCase):
    """The thread comes with the first job and goes with the last."""

    def another(self, threadpool: Any = None) -> StoreThread:
        pool = threadpool or ImmediateThreadpool()
        return StoreThread(ThreadlessReactor(self.clock), self.directory, threadpool=pool)

    def test_a_second_relay(self) -> None:
        second = self.another()
        self.assertIn(
            "in use by another relay", str(self.assertRaises(StoreError, second.open, keys))
        )
        self.successResultOf(second.close())
        self.assertTrue(self.result(self.store.write(adds("carol"))))

    def test_after_all_jobs(self) -> None:
        order: list[Any] = []
        for number in range(3):
            self.store.write(adds(f"name{number}")).addCallback(order.append)
        for closed in (self.store.close(), self.store.close()):
            closed.addCallback(order.append)
        self.failureResultOf(self.store.read(keys), ShuttingDown)
        self.failureResultOf(self.store.write(adds("carol")), ShuttingDown)
        self.threadpool.run_all()
        self.assertEqual(order, [True, True, True, None, None])
        self.assertFalse(self.threadpool.is_started)
        self.successResultOf(self.store.close())
        self.assertEqual(sorted(os.listdir(self.directory)), ["chatrelay.lock", FILE_NAME])
        third = self.another()
        third.open(Accounts.last_revocation)
        self.assertEqual(len(self.successResultOf(third.read(keys))), 3)
        self.successResultOf(third.close())

    def test_closed_from_a_callback(self) -> None:
        for threadpool in (ImmediateThreadpool(), ManualThreadpool()):
            self.result(self.store.close())
            store = self.another(threadpool)
            store.open(Accounts.last_revocation)
            order: list[str] = []

            def close(_: object, store: StoreThread = store, order: list[str] = order) -> None:
                order.append("one")
                store.close().addCallback(lambda _: order.append("closed"))

            store.read(keys).addCallback(close)
            if isinstance(threadpool, ManualThreadpool):
                store.read(keys).addCallback(lambda _, order=order: order.append("two"))
                threadpool.run_all()
                self.assertEqual(order, ["one", "two", "closed"])
            else:
                self.assertEqual(order, ["one", "closed"])

    def test_without_a_job(self) -> None:
        self.successResultOf(self.store.close())
        self.assertFalse(self.threadpool.is_started)
        self.successResultOf(self.another().close())

    def test_while_the_disk_fails(self) -> None:
        self.result(self.store.write(adds("carol")))
        with failing("COMMIT", sqlite3.SQLITE_IOERR):
            self.refusal(self.store.write(adds("dave")), StoreFailed)
            self.result(self.store.close())
        self.another().open(Accounts.last_revocation)

    def test_a_process_that_forked_since_writes_its_own_number(self) -> None:
        lock = self.directory / "chatrelay.lock"
        lock.write_text("1\n")
        self.result(self.store.read(keys))
        self.assertEqual(lock.read_text(), f"{os.getpid()}\n")
