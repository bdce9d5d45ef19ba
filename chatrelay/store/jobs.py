"""Runs jobs on the database, in the store's thread: neighbouring writes share a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeGuard

from twisted.python.failure import Failure

from chatrelay.errors import StoreFailed
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import BUSY_TIMEOUT_S, Database, StoreError, explain

SENTENCE = "The relay could not read or write its accounts; its operator finds why in the log."

# The disk, and not the job that asked; what else sqlite3 raises is a bug in a job's SQL.
_FAULTS = (sqlite3.OperationalError, sqlite3.InternalError, StoreError)
# After these the connection is as good as it was, and reads what another one, which would have
# to write before it can, would not.
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PASSING_WRITES = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
}


class Job(NamedTuple):
    """
    Something to do with the accounts.

    :ivar call: is called once, with the accounts.
    :ivar writes: whether it may change them.
    """

    call: Callable[[Accounts], Any]
    writes: bool


class Done(NamedTuple):
    """
    What became of a batch.

    :ivar outcomes: what each job returned, or a `Failure`, in the order of the jobs.
    :ivar fault: what failed, in words for the operator; ``None`` if nothing did.
    """

    outcomes: list[Any]
    fault: str | None


class JobRunner:
    """
    Runs batches of jobs, one after another, and lives through faults of the disk.

    A job that raises changes nothing.  If the database fails, jobs fail with `StoreFailed`;
    the next batch tries again, with another connection where that may help.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._accounts: Accounts | None = None
        self._fault: sqlite3.Error | StoreError | None = None
        self._is_impatient = False

    def run(self, jobs: Sequence[Job]) -> Done:
        """Run jobs in their order; when this returns, what they wrote is on the disk."""
        self._fault = None
        write_fault: sqlite3.Error | StoreError | None = None
        outcomes: list[Any] = []
        for writes, neighbours in groupby(jobs, attrgetter("writes")):
            group = list(neighbours)
            try:
                # What failed once is not tried again for each of many: a lock takes 5 s.
                if writes and write_fault is not None:
                    raise write_fault
                outcomes += self._write(group) if writes else self._read(group)
            except (sqlite3.Error, StoreError) as error:
                self._fault = error
                write_fault = error if writes else write_fault
                outcomes += [_store_failed() for _ in group]
        if self._fault is None:
            return Done(outcomes, None)
        code = getattr(self._fault, "sqlite_errorcode", 0)
        if code & 0xFF not in _PASSING and code not in _PASSING_WRITES:
            self.close()
        return Done(outcomes, explain(self._fault))

    def close(self) -> None:
        """Close the connection; another job opens it again."""
        self._accounts = None
        self._database.disconnect()

    def _read(self, group: Sequence[Job]) -> list[Any]:
        # Of one state of the database, and with one lock for all of them.
        return self._in_transaction("BEGIN", group, self._outcome)

    def _write(self, group: Sequence[Job]) -> list[Any]:
        try:
            outcomes = self._in_transaction("BEGIN IMMEDIATE", group, self._outcome_of_write)
        except sqlite3.Error as error:
            # Whoever keeps the lock that long keeps it longer: what is only read does not wait
            # behind each write again.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                self._set_busy_timeout(0)
            raise
        if self._is_impatient:
            self._set_busy_timeout(BUSY_TIMEOUT_S)
        return outcomes

    def _set_busy_timeout(self, timeout_s: float) -> None:
        self._is_impatient = not timeout_s
        milliseconds = int(timeout_s * 1000)
        self._database.connection.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def _in_transaction(
        self, begin: str, group: Sequence[Job], outcome: Callable[[Accounts, Job], Any]
    ) -> list[Any]:
        accounts = self._connected()
        connection = self._database.connection
        connection.execute(f"PRAGMA query_only = {int(not group[0].writes)}")
        try:
            connection.execute(begin)
            outcomes = [outcome(accounts, job) for job in group]
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return outcomes

    def _outcome_of_write(self, accounts: Accounts, job: Job) -> Any:  # noqa: ANN401 - the job's
        connection = self._database.connection
        connection.execute("SAVEPOINT job")
        outcome = self._outcome(accounts, job)
        if isinstance(outcome, Failure):
            # Some faults end the whole transaction, and with it what its other jobs wrote.
            if self._fault is not None and not connection.in_transaction:
                raise self._fault
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return outcome

    def _outcome(self, accounts: Accounts, job: Job) -> Any:  # noqa: ANN401 - the job's
        try:
            return job.call(accounts)
        except Exception as error:
            if not _is_fault(error):
                return Failure()
            self._fault = error
            return _store_failed()

    def _connected(self) -> Accounts:
        if self._accounts is None:
            self._database.connect()
            self._database.note_process()
            self._accounts = Accounts(self._database.connection)
        self._database.check_in_place()
        return self._accounts

    def _roll_back(self) -> None:
        try:
            if self._database.connection.in_transaction:
                self._database.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()


def _is_fault(error: Exception) -> TypeGuard[sqlite3.Error | StoreError]:
    """Whether an exception says that the database failed, and not that a job is wrong."""
    # SQLITE_CORRUPT and SQLITE_NOTADB have no class of their own.
    return isinstance(error, _FAULTS) or type(error) is sqlite3.DatabaseError


def _store_failed() -> Failure:
    return Failure(StoreFailed(sentence=SENTENCE))
