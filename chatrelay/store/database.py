"""The one SQLite file of a relay: found or made, checked, upgraded and opened."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from pwd import getpwuid
from urllib.parse import quote

from twisted.logger import Logger

from chatrelay.errors import ChatrelayError
from chatrelay.store.files import HeldError, Lock, make_private, making, shown_path, sync
from chatrelay.store.schema_files import (
    SCHEMA_DIRECTORY,
    apply_schema,
    missing_parts,
    read_schema,
)

FILE_NAME = "chatrelay.sqlite3"
APPLICATION_ID = 0x6372_6C79
"""What SQLite's header says whose file it is: ``crly``."""
BUSY_TIMEOUT_S = 5.0
"""How long one process waits for another that writes."""

_ASIDE_SUFFIX = ".new"
# What a burst made the write-ahead log grow to does not stay on the disk.
_MAX_IDLE_LOG_BYTES = 64 * 1024 * 1024
_LEAST_SQLITE = (3, 37, 0)

_log = Logger(namespace="chatrelay")


class StoreError(ChatrelayError):
    """The accounts can not be had; one sentence for the operator, that says what to do."""


def default_directory(environment: Mapping[str, str]) -> Path:
    """
    Where a user's accounts are: ``$XDG_STATE_HOME/chatrelay`` or ``~/.local/state/chatrelay``.

    :param environment: usually ``os.environ``.
    :raises StoreError: this user has no home.
    """
    state = environment.get("XDG_STATE_HOME", "")
    # The XDG Base Directory Specification has relative paths ignored.
    if os.path.isabs(state):
        return Path(state) / "chatrelay"
    home = environment.get("HOME", "")
    if not home:
        try:
            home = getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise StoreError("this user has no home directory: say --data DIR") from None
    return Path(home) / ".local" / "state" / "chatrelay"


def explain(error: Exception) -> str:
    """Say to the operator, in a few words without a secret in them, what failed."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    # The primary code; what else is in the number says where in SQLite it happened.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return _EXPLANATIONS.get(code) or str(error)


_NOT_ALLOWED = "this user may not write it, or the file system is read-only"
_DAMAGED = "it is damaged: put a backup in its place (docs/accounts.rst)"
_EXPLANATIONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: _NOT_ALLOWED,
    sqlite3.SQLITE_PERM: _NOT_ALLOWED,
    sqlite3.SQLITE_CANTOPEN: "it is not there, or this user may not read it",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: put a backup in its place, or say another"
    " --data DIR",
    sqlite3.SQLITE_BUSY: "another process kept it for more than 5 s",
}


class Database:
    """
    The database of one directory, open.

    :ivar directory: where its files are.
    """

    def __init__(self, directory: Path, lock: Lock | None) -> None:
        """For `open`, which makes them."""
        self.directory = directory
        self._lock = lock
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        exclusive: bool,
        create: bool = True,
        schema_directory: Path = SCHEMA_DIRECTORY,
    ) -> Database:
        """
        Open the database of a directory, and make or upgrade it if that is needed.

        :param exclusive: be the one relay of the directory, until closed.
        :param create: make the directory and the database if they are not there.
        :param schema_directory: the numbered files of the schema.
        :raises StoreError: it can not be had, and was not changed.
        """
        if sqlite3.sqlite_version_info < _LEAST_SQLITE:
            raise StoreError(
                f"accounts need SQLite 3.37 or later, and this Python has {sqlite3.sqlite_version}"
            )
        schema = read_schema(schema_directory)
        path = directory / FILE_NAME
        try:
            if not create and not path.exists():
                raise StoreError(f"there are no accounts in {shown_path(directory)}")
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock_for_relay(directory) if exclusive else None
            database = cls(directory, lock)
            try:
                if not path.exists():
                    _make(path, schema)
                database.connect()
                database._check(schema)
            except BaseException:
                database.close()
                raise
        except HeldError:
            raise StoreError(
                f"another process is making the accounts in {shown_path(directory)}: try again"
            ) from None
        except (OSError, sqlite3.Error) as error:
            # mkdir says this of a file that stands in the directory's place.
            is_no_directory = isinstance(error, FileExistsError)
            why = "it is no directory" if is_no_directory else explain(error)
            where = shown_path(directory if isinstance(error, OSError) else path)
            raise StoreError(f"the accounts in {where} can not be opened: {why}") from None
        return database

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.directory / FILE_NAME

    def connect(self) -> None:
        """
        Make the connection anew, without looking into the database.

        A connection does not survive the fork of a daemon, and not every fault of a disk.

        :raises sqlite3.Error: the file can not be opened.
        :raises StoreError: it is another's.
        """
        self.disconnect()
        # "rw": SQLite would make a file that is not there.
        uri = f"file:{quote(os.fsencode(self.path.absolute()))}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            # Before anything is changed in what may be another program's file.
            [(application_id,)] = connection.execute("PRAGMA application_id")
            if application_id != APPLICATION_ID:
                raise StoreError(
                    f"{shown_path(self.path)} is empty or another program's, not chatrelay's: put"
                    " a backup in its place, or say another --data DIR"
                )
            [(mode,)] = connection.execute("PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise StoreError(
                    f"the file system of {shown_path(self.directory)} can not hold accounts that"
                    " several processes use: say --data DIR with one on a local disk"
                )
            self._file = _identity(self.path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            # What was a secret's hash does not stay in a free page.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_LOG_BYTES}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def check_in_place(self) -> None:
        """
        Check that the file is the one that was opened.

        :raises StoreError: what is written would be nobody's: it was removed or replaced.
        """
        if _identity(self.path) != self._file:
            raise StoreError("the file was removed or replaced under the relay: restart it")

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """
        The connection, in SQLite's autocommit mode: statements begin and end transactions.

        One thread at a time may use it.
        """
        assert self._connection is not None, "not connected"  # noqa: S101 - a bug of the caller
        return self._connection

    def disconnect(self) -> None:
        """Close the connection, and keep the right to be the relay."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # What it held is committed or rolled back, whether or not the disk still answers.
            with suppress(sqlite3.Error):
                connection.close()

    def note_process(self) -> None:
        """Tell others that this process has the database; it may have forked since `open`."""
        if self._lock is not None:
            self._lock.note_process()

    def close(self) -> None:
        """Close everything; more than once is once."""
        self.disconnect()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Write wholly or not at all.

        :raises sqlite3.Error: nothing was written.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    # -- at the beginning

    def _check(self, schema: Sequence[str]) -> None:
        where = shown_path(self.path)
        [(found,)] = self.connection.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise StoreError(f"the accounts in {where} can not be opened: {_DAMAGED}")
        version = self._version()
        if version > len(schema):
            raise StoreError(
                f"the accounts in {where} were upgraded by a later chatrelay (version {version},"
                f" this one knows {len(schema)}): install that again, or put the backup from"
                " before in their place"
            )
        if version < len(schema):
            self._upgrade(schema)
        missing = missing_parts(self.connection, schema)
        if missing:
            raise StoreError(
                f"the accounts in {where} can not be opened: they have no {missing[0]}, so "
                + _DAMAGED
            )
        # SQLite opens what may not be written for reading, and says nothing before a write.
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.connection.execute(f"PRAGMA user_version = {len(schema)}")
        finally:
            self.connection.execute("ROLLBACK")

    def _version(self) -> int:
        [(version,)] = self.connection.execute("PRAGMA user_version")
        return int(version)

    def _upgrade(self, schema: Sequence[str]) -> None:
        lock = self._lock
        where = shown_path(self.directory)
        if lock is None:
            try:
                lock = Lock(self.directory)
            except HeldError as held:
                raise StoreError(
                    f"the accounts in {where} are of an earlier version and in use by"
                    f" {held.holder}: restart that relay, which upgrades them"
                ) from None
        try:
            version = self._version()
            backup = self._back_up(version)
            self.connection.execute("PRAGMA foreign_keys = OFF")
            apply_schema(self.connection, schema)
            self.connection.execute("PRAGMA foreign_keys = ON")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the accounts in {where} could not be upgraded, and are as they were:"
                f" {explain(error)}"
            ) from None
        finally:
            if lock is not self._lock:
                lock.release()
        _log.info(
            "the accounts in {directory} were upgraded from version {version} to {newest};"
            " as they were: {backup}",
            directory=where,
            version=version,
            newest=len(schema),
            backup=shown_path(backup),
        )

    def _back_up(self, version: int) -> Path:
        now = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
        backup = self.directory / f"{FILE_NAME}.version-{version}.{now}.backup"
        aside = backup.with_name(FILE_NAME + ".backup" + _ASIDE_SUFFIX)
        aside.unlink(missing_ok=True)
        make_private(aside)
        try:
            self.connection.execute("VACUUM INTO ?", [os.fspath(aside)])
            sync(aside)
            aside.rename(backup)
        finally:
            aside.unlink(missing_ok=True)
        sync(self.directory)
        return backup


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lock_for_relay(directory: Path) -> Lock:
    try:
        return Lock(directory)
    except HeldError as held:
        raise StoreError(
            f"the accounts in {shown_path(directory)} are in use by another relay"
            f" ({held.holder}): say --data DIR with another directory, or --data none"
        ) from None


def _make(path: Path, schema: Sequence[str]) -> None:
    aside = path.with_name(path.name + _ASIDE_SUFFIX)
    with making(path.parent):
        if path.exists():
            return
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"{shown_path(path)} is gone, and {log.name} beside it is not: put back both, or"
                " remove it to begin without accounts"
            )
        for leftover in (aside, aside.with_name(aside.name + "-journal")):
            leftover.unlink(missing_ok=True)
        make_private(aside)
        connection = sqlite3.connect(aside, isolation_level=None)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            apply_schema(connection, schema)
        finally:
            connection.close()
        # Only whole ones are ever found.
        sync(aside)
        aside.rename(path)
        sync(path.parent)
