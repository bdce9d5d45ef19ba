"""
A store in memory whose jobs run, commit, fail and are told of when a simulation says so, and
whose database survives the relay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from twisted.python.failure import Failure

from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database
from chatrelay.store.jobs import JobRunner
from chatrelay.store.schema_files import SCHEMA_DIRECTORY, apply_schema, read_schema
from chatrelay.store.thread import StoreThread
from tests.store_harness import NOW_S

T = TypeVar("T")

_WRITES = ("INSERT", "DELETE", "UPDATE", "COMMIT")


class PowerLossError(BaseException):
    """The machine stops; nobody handles that."""


class Disk(sqlite3.Connection):
    """
    A connection that can be told to fail.

    :ivar statements_until_full: so many statements that write succeed; ``None`` for all.
    :ivar is_unreadable: whether no statement succeeds.
    :ivar transactions_until_loss: so many begin before the machine stops; ``None`` for all.
    """

    statements_until_full: int | None = None
    is_unreadable = False
    transactions_until_loss: int | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.is_unreadable and not sql.startswith(("PRAGMA", "ROLLBACK")):
            raise _error("disk I/O error", sqlite3.SQLITE_IOERR)
        if self.statements_until_full is not None and sql.startswith(_WRITES):
            # What only reads ends with COMMIT, too.
            if self.statements_until_full == 0 and self.in_transaction and self._writes:
                raise _error("database or disk is full", sqlite3.SQLITE_FULL)
            self.statements_until_full = max(0, self.statements_until_full - 1)
        if sql.startswith("BEGIN"):
            self._writes = sql.endswith("IMMEDIATE")
            if self.transactions_until_loss is not None:
                if self.transactions_until_loss == 0:
                    raise PowerLossError
                self.transactions_until_loss -= 1
        return super().execute(sql, parameters)

    _writes = False

    def repair(self) -> None:
        """From now on everything succeeds."""
        self.statements_until_full = self.transactions_until_loss = None
        self.is_unreadable = False


def _error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


def new_disk(owned: Iterable[bytes], secret_hash: str, room: bytes = b"") -> Disk:
    """
    Make a database in which these names have accounts.

    :param room: a kept room that they all belong to; none if empty.
    """
    disk = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Disk)
    disk.deserialize(_template(tuple(owned), secret_hash, room))
    disk.execute("PRAGMA foreign_keys = ON")
    return disk


@cache
def _template(owned: tuple[bytes, ...], secret_hash: str, room: bytes) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply_schema(connection, read_schema(SCHEMA_DIRECTORY))
    accounts = Accounts(connection)
    for written in owned:
        accounts.add(parse_name(written), secret_hash, NOW_S)
    if room:
        numbers = [number for number, _, _ in accounts.logs.owned_names()]
        accounts.rooms.keep(room, room, numbers[0], numbers, NOW_S)
    template = connection.serialize()
    connection.close()
    return template


class SimulatedDatabase(Database):
    """A database on a disk that is there longer than it."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(Path("simulated"), None)
        self._disk = disk
        self._connection = disk
        self.disconnect()

    def connect(self) -> None:
        self._connection = self._disk

    def disconnect(self) -> None:
        self._connection = None
        if self._disk.in_transaction:
            sqlite3.Connection.execute(self._disk, "ROLLBACK")
        # Another connection would begin like this.
        sqlite3.Connection.execute(self._disk, "PRAGMA query_only = 0")

    def check_in_place(self) -> None:
        """It can not be replaced."""


class SimulatedStore(StoreThread):
    """The relay's store on a simulated disk."""

    def __init__(self, reactor: Any, disk: Disk, thread: SimulatedThread) -> None:
        super().__init__(reactor, Path("simulated"), threadpool=thread)
        self._disk = disk

    def open(self, begin: Callable[[Accounts], T]) -> T:
        self._database = SimulatedDatabase(self._disk)
        self._database.connect()
        with self._database.transaction():
            result = begin(Accounts(self._disk))
        self._runner = JobRunner(self._database)
        return result


class SimulatedThread:
    """
    The store's thread: it runs a batch, and the reactor learns of that, in two steps.

    :ivar given: what it has not run.
    :ivar told: what it has run and the reactor does not know.
    """

    def __init__(self) -> None:
        self.given: list[tuple[Callable[[bool, Any], object], Callable[[], Any]]] = []
        self.told: list[Callable[[], object]] = []

    def start(self) -> None:
        """It always runs."""

    def stop(self) -> None:
        """It always runs."""

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], object], function: Callable[[], Any]
    ) -> None:
        self.given.append((done, function))

    @property
    def is_idle(self) -> bool:
        """Whether everything was run and told."""
        return not self.given and not self.told

    def run(self) -> None:
        """
        Run what was given first.

        :raises PowerLossError: the disk says so.
        """
        done, function = self.given.pop(0)
        try:
            result = function()
        except Exception:
            failure = Failure()
            self.told.append(lambda: done(False, failure))
        else:
            self.told.append(lambda: done(True, result))

    def tell(self) -> None:
        """Let the reactor know of what was run first."""
        self.told.pop(0)()
