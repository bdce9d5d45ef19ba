"""
A store without a thread: its jobs run at once, or when a test says so.

The database is a real one, in a directory that goes with the test.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.names import Name, parse_name
from chatrelay.store import database
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database
from chatrelay.store.schema_files import SCHEMA_DIRECTORY, read_schema
from chatrelay.store.thread import StoreThread

NOBODY = 65_534
NOW_S = 1_790_000_000.0
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaA"


class ThreadlessReactor:
    """A `Clock` whose other threads are the thread it runs in."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls_from_thread = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clock, name)

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.calls_from_thread += 1
        function(*arguments)


class ImmediateThreadpool:
    """Runs what it is given at once."""

    is_started = False

    def start(self) -> None:
        assert not self.is_started
        self.is_started = True

    def stop(self) -> None:
        assert self.is_started
        self.is_started = False

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], function: Callable[..., Any], *arguments: Any
    ) -> None:
        assert self.is_started
        try:
            result = function(*arguments)
        except BaseException:
            done(False, Failure())
        else:
            done(True, result)


class ManualThreadpool(ImmediateThreadpool):
    """
    Runs what it was given when a test says so.

    :ivar pending: what it was given and did not run; a batch of jobs is one.
    """

    def __init__(self) -> None:
        self.pending: deque[Callable[[], None]] = deque()

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], function: Callable[..., Any], *arguments: Any
    ) -> None:
        assert self.is_started
        run = super().callInThreadWithCallback
        self.pending.append(lambda: run(done, function, *arguments))

    def run(self) -> None:
        """Run what was given first."""
        self.pending.popleft()()

    def run_all(self) -> None:
        """Run everything, and what is given meanwhile."""
        while self.pending:
            self.run()


class FaultyConnection(sqlite3.Connection):
    """A connection whose statements fail as a test says."""

    faults: dict[str, int] = {}
    """The beginning of a statement, and the code of SQLite that it fails with."""
    statements: list[str] = []

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self.statements.append(statement)
        for beginning, code in self.faults.items():
            if statement.startswith(beginning):
                raise fault(code)
        return super().execute(statement, *arguments)


def fault(code: int) -> sqlite3.Error:
    """What sqlite3 raises for a code."""
    kind = sqlite3.OperationalError
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        kind = sqlite3.DatabaseError  # type: ignore[assignment]
    error = kind("no words for people")
    error.sqlite_errorcode = code
    return error


def let_fail(test: SynchronousTestCase | Cleanups) -> None:
    """Have databases that are opened from now on fail where `failing` says."""
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **{"factory": FaultyConnection, **options})

    for patch in (
        mock.patch.object(FaultyConnection, "faults", {}),
        mock.patch.object(FaultyConnection, "statements", []),
        mock.patch.object(database.sqlite3, "connect", connect),
    ):
        patch.start()
        test.addCleanup(patch.stop)


@contextmanager
def failing(beginning: str, code: int) -> Iterator[None]:
    """Let statements fail, by their beginning."""
    FaultyConnection.faults[beginning] = code
    try:
        yield
    finally:
        del FaultyConnection.faults[beginning]


class Cleanups(ExitStack):
    """Stands for a test where there is none: what it was given to do is done when it closes."""

    addCleanup = ExitStack.callback  # noqa: N815 - as tests have it


def temporary_directory(test: SynchronousTestCase | Cleanups) -> Path:
    """A directory that everybody may look into, and that goes with the test."""
    directory = Path(tempfile.mkdtemp(prefix="chatrelay-store-"))
    test.addCleanup(shutil.rmtree, directory)
    directory.chmod(0o755)
    return directory


def open_database(
    test: SynchronousTestCase | Cleanups, directory: Path, **options: Any
) -> Database:
    """Open a database until the test ends."""
    database = Database.open(directory, **{"exclusive": True, **options})
    test.addCleanup(database.close)
    return database


def open_store(
    test: SynchronousTestCase,
    *,
    clock: Clock | None = None,
    threadpool: Any = None,
    directory: Path | None = None,
) -> StoreThread:
    """
    Open a store until the test ends.

    :param clock: what its reactor's time is.
    :param threadpool: runs its jobs; at once if ``None``.
    :param directory: where it is; a temporary one if ``None``.
    """
    store = StoreThread(
        ThreadlessReactor(clock or Clock()),
        directory or temporary_directory(test),
        threadpool=threadpool or ImmediateThreadpool(),
    )
    store.open(Accounts.last_revocation)

    def close() -> None:
        closed = store.close()
        if isinstance(threadpool, ManualThreadpool):
            threadpool.run_all()
        test.successResultOf(closed)

    test.addCleanup(close)
    return store


def name(written: str) -> Name:
    """A name, as a client writes it."""
    return parse_name(written.encode())


@contextmanager
def unprivileged(*paths: Path) -> Iterator[None]:
    """Be bound by the modes of files, as root is not; `paths` are made our own."""
    if os.geteuid() != 0:
        yield
        return
    for path in paths:
        os.chown(path, NOBODY, NOBODY)
    # The checkout may be in a directory that is root's own.
    schema = read_schema(SCHEMA_DIRECTORY)
    with mock.patch.object(database, "read_schema", lambda _directory: schema):
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
