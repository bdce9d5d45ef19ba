"""The file: made, found, refused, upgraded."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox.entries import Kind, Run
from chatrelay.mailbox.log import Bounds, Changes
from chatrelay.store import database as module
from chatrelay.store.accounts import Accounts
from chatrelay.store.chunks import chunk_rows
from chatrelay.store.database import (
    APPLICATION_ID,
    FILE_NAME,
    Database,
    StoreError,
    default_directory,
    explain,
)
from chatrelay.store.files import LOCK_NAME, Lock
from chatrelay.store.schema_files import SCHEMA_DIRECTORY, apply_schema, read_schema
from tests.store_harness import (
    HASH,
    NOBODY,
    NOW_S,
    name,
    open_database,
    temporary_directory,
    unprivileged,
)

BOUNDS = Bounds(100, 10_000, keeps_read=True, keep_sent_s=600.0, keep_sent_entries=1000)
FIRST = "CREATE TABLE account (key BLOB NOT NULL) STRICT;"
SECOND = """
-- A comment; with a semicolon.
ALTER TABLE account ADD COLUMN colour TEXT NOT NULL DEFAULT 'a;b';
CREATE TRIGGER painted AFTER INSERT ON account BEGIN
    UPDATE account SET colour = 'red'; DELETE FROM account WHERE key = x'00';
END;
INSERT INTO account (key) VALUES (x'6361726f6c');
"""
BROKEN = "CREATE TABLE room (name BLOB); INSERT INTO account VALUES (1, 2, 3, 4);"


class DatabaseTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.parent = temporary_directory(self)
        self.directory = self.parent / "data"
        self.path = self.directory / FILE_NAME

    def make(self, *names: str) -> None:
        """Make a database that holds accounts."""
        database = Database.open(self.directory, exclusive=True)
        with database.transaction():
            for written in names:
                Accounts(database.connection).add(name(written), HASH, NOW_S)
        database.close()

    def names(self) -> list[bytes]:
        database = Database.open(self.directory, exclusive=True)
        names = [account.key for account in Accounts(database.connection)]
        database.close()
        return names

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    def assert_refused(self, *words: str, directory: Path | None = None) -> str:
        where = directory or self.directory
        for exclusive in (True, False):
            error = self.assertRaises(StoreError, Database.open, where, exclusive=exclusive)
            sentence = str(error)
            for word in (str(where), *words):
                self.assertIn(word, sentence)
            self.assertNotIn("\n", sentence)
        return sentence


class MakingTests(DatabaseTestCase):
    """Made aside, and private."""

    def test_what_is_made(self) -> None:
        database = open_database(self, self.directory)
        with database.transaction():
            Accounts(database.connection).add(name("carol"), HASH, NOW_S)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        self.assertEqual(
            self.files(), [LOCK_NAME, FILE_NAME, FILE_NAME + "-shm", FILE_NAME + "-wal"]
        )
        for path in self.directory.iterdir():
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_with_any_umask(self) -> None:
        for mask in (0, 0o022, 0o077):
            self.addCleanup(os.umask, os.umask(mask))
            shutil.rmtree(self.directory, ignore_errors=True)
            self.test_what_is_made()

    def test_how_it_is_opened(self) -> None:
        database = open_database(self, self.directory)
        for pragma, value in [
            ("application_id", APPLICATION_ID),
            ("user_version", len(read_schema(SCHEMA_DIRECTORY))),
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("foreign_keys", 1),
            ("busy_timeout", 5000),
            ("trusted_schema", 0),
        ]:
            [(found,)] = database.connection.execute(f"PRAGMA {pragma}")
            self.assertEqual(found, value, pragma)
        tables = database.connection.execute("PRAGMA table_list").fetchall()
        ours = [row for row in tables if not row[1].startswith("sqlite_")]
        self.assertEqual(
            {row[1] for row in ours},
            {
                *("account", "token", "login", "revocation"),
                *("chunk", "mailbox", "block", "next_id"),
                *("room", "room_member", "room_chunk", "ban"),
            },
        )
        self.assertTrue(all(row[5] for row in ours), "STRICT")

    def test_what_was_half_made_is_never_found(self) -> None:
        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("here the process would end")

        patch = self.patch(module, "apply_schema", fail)
        self.assert_refused("here the process would end")
        self.assertFalse(self.path.exists())
        patch.restore()
        self.make("carol")
        self.assertEqual(self.names(), [b"carol"])
        self.assertEqual(self.files(), [LOCK_NAME, FILE_NAME])

    def test_another_was_faster(self) -> None:
        self.make("carol")
        # As it would be seen by somebody who looked before the other had made it.
        module._make(self.path, read_schema(SCHEMA_DIRECTORY))
        self.assertEqual(self.names(), [b"carol"])

    def test_somebody_else_is_making_it(self) -> None:
        self.directory.mkdir()
        self.patch(module.making.__wrapped__.__globals__["time"], "sleep", lambda _: None)
        self.patch(sys.modules["chatrelay.store.files"], "_MAKING_TIMEOUT_S", 0.0)
        with module.making(self.directory):
            self.assert_refused("try again")
        self.make("carol")

    def test_only_if_it_is_asked_for(self) -> None:
        error = self.assertRaises(
            StoreError, Database.open, self.directory, exclusive=False, create=False
        )
        self.assertIn(f"there are no accounts in {self.directory}", str(error))
        self.assertFalse(self.directory.exists())

    def test_a_directory_with_another_mode_stays_as_it_is(self) -> None:
        self.directory.mkdir(0o750)
        self.make()
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o750)

    def test_strange_names_of_directories(self) -> None:
        for strange in ("a b", "a?mode=ro", "a#b", "a%41", "ünï", "{x}", "'"):
            directory = self.parent / strange
            open_database(self, directory)
            self.assertTrue((directory / FILE_NAME).exists(), strange)

    def test_root_makes_it_for_the_directorys_owner(self) -> None:
        self.directory.mkdir()
        if os.geteuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
        there = self.directory.stat()
        owner = (there.st_uid, there.st_gid)
        given: list[tuple[int, int]] = []
        fchown = os.fchown

        def recorded(descriptor: int, uid: int, gid: int) -> None:
            given.append((uid, gid))
            fchown(descriptor, uid, gid)

        # Who is not root gives them to himself: what is asked of the system is the same.
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "fchown", recorded)
        open_database(self, self.directory)
        self.assertEqual(set(given), {owner})
        for path in self.directory.iterdir():
            self.assertEqual((path.stat().st_uid, path.stat().st_gid), owner, path)


class DefaultDirectoryTests(SynchronousTestCase):
    """The XDG Base Directory Specification."""

    def test_where(self) -> None:
        for environment, expected in [
            ({"XDG_STATE_HOME": "/var/state", "HOME": "/h"}, "/var/state/chatrelay"),
            ({"HOME": "/h"}, "/h/.local/state/chatrelay"),
            ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/chatrelay"),
            ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/chatrelay"),
        ]:
            self.assertEqual(default_directory(environment), Path(expected))

    def test_a_user_without_a_home(self) -> None:
        self.assertTrue(default_directory({}).is_absolute())

        def nobody(_: int) -> None:
            raise KeyError

        self.patch(module, "getpwuid", nobody)
        self.assertIn("--data DIR", str(self.assertRaises(StoreError, default_directory, {})))


class RefusalTests(DatabaseTestCase):
    """What can not be used is left as it is, and one sentence says why."""

    def assert_left_alone(self, spoil: Callable[[], None], *words: str) -> str:
        spoil()
        before = self.path.read_bytes()
        sentence = self.assert_refused(*words)
        self.assertEqual(self.path.read_bytes(), before)
        return sentence

    def execute(self, *statements: str) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def test_of_a_later_program(self) -> None:
        self.make("carol")
        self.assert_left_alone(
            lambda: self.execute("PRAGMA user_version = 99"), "later chatrelay", "version 99"
        )

    def test_no_database(self) -> None:
        self.directory.mkdir()
        self.assert_left_alone(
            lambda: self.path.write_bytes(b"Dear diary, " * 1000), "no SQLite database"
        )

    def test_of_another_program(self) -> None:
        self.directory.mkdir()
        for statement in ("PRAGMA application_id = 7", "CREATE TABLE diary (day TEXT)"):
            self.path.unlink(missing_ok=True)
            self.assert_left_alone(lambda: self.execute(statement), "another program's")  # noqa: B023

    def test_empty(self) -> None:
        self.directory.mkdir()
        self.assert_left_alone(self.path.touch, "is empty")

    def test_truncated(self) -> None:
        for kept in (50, 100, 4096, 6000, 8192):
            shutil.rmtree(self.directory, ignore_errors=True)
            self.make(*(f"name{number}" for number in range(100)))
            self.assertGreater(self.path.stat().st_size, 8192)
            self.assert_left_alone(lambda: os.truncate(self.path, kept), "backup")  # noqa: B023

    def test_damaged(self) -> None:
        self.make(*(f"name{number}" for number in range(100)))
        whole = self.path.read_bytes()
        for page in range(1, len(whole) // 4096):

            def damage() -> None:
                begin = page * 4096  # noqa: B023
                self.path.write_bytes(whole[:begin] + b"\xa5" * 4096 + whole[begin + 4096 :])

            self.assert_left_alone(damage, "it is damaged: put a backup in its place")

    def test_without_a_table(self) -> None:
        self.make("carol")
        self.assert_left_alone(lambda: self.execute("DROP TABLE login"), "no index login_by_time")

    def test_more_tables_do_no_harm(self) -> None:
        self.make("carol")
        self.execute("CREATE TABLE note (text TEXT)")
        self.assertEqual(self.names(), [b"carol"])

    def test_gone_but_for_its_log(self) -> None:
        database = open_database(self, self.directory)
        with database.transaction():
            Accounts(database.connection).add(name("carol"), HASH, NOW_S)
        copy = self.parent / "copy"
        copy.mkdir()
        shutil.copy(self.directory / (FILE_NAME + "-wal"), copy)
        self.assert_refused("is gone, and chatrelay.sqlite3-wal", directory=copy)

    def test_a_file_in_the_place_of_the_directory(self) -> None:
        self.directory.write_text("a file")
        self.assert_refused("it is no directory")
        self.assert_refused("Not a directory", directory=self.directory / "below")

    def test_a_directory_in_the_place_of_the_file(self) -> None:
        self.path.mkdir(parents=True)
        self.assert_refused("not there, or this user may not read it")

    def test_a_lock_that_can_not_be_opened(self) -> None:
        (self.directory / LOCK_NAME).mkdir(parents=True)
        error = self.assertRaises(StoreError, Database.open, self.directory, exclusive=True)
        self.assertIn("Is a directory", str(error))

    def test_modes(self) -> None:
        self.make("carol")
        for path, mode, words in [
            (self.path, 0o000, "this user may not read it"),
            (self.path, 0o400, "this user may not write it"),
            (self.directory, 0o000, "Permission denied"),
            (self.directory, 0o500, ""),
        ]:
            with unprivileged(self.directory, *self.directory.iterdir()):
                before = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode)
                try:
                    self.assert_refused(words)
                finally:
                    path.chmod(before)
        self.assertEqual(self.names(), [b"carol"])

    def test_a_directory_that_can_not_be_made(self) -> None:
        self.parent.chmod(0o555)
        with unprivileged():
            self.assert_refused("Permission denied")

    def test_a_full_disk(self) -> None:
        real = sqlite3.connect

        def connect(*arguments: object, **options: object) -> sqlite3.Connection:
            connection = real(*arguments, **options)  # type: ignore[call-overload]
            connection.execute("PRAGMA max_page_count = 3")
            return connection  # type: ignore[no-any-return]

        patch = self.patch(module.sqlite3, "connect", connect)
        self.assert_refused("the disk is full")
        patch.restore()
        self.assertFalse(self.path.exists())

    def test_kept_by_another_process(self) -> None:
        self.make("carol")
        self.patch(module, "BUSY_TIMEOUT_S", 0.0)
        writer = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        self.assert_refused("another process kept it")
        writer.execute("ROLLBACK")
        self.assertEqual(self.names(), [b"carol"])

    def test_an_old_sqlite(self) -> None:
        self.patch(module.sqlite3, "sqlite_version_info", (3, 36, 0))
        for exclusive in (True, False):
            error = self.assertRaises(
                StoreError, Database.open, self.directory, exclusive=exclusive
            )
            self.assertIn("SQLite 3.37 or later", str(error))

    def test_what_is_not_known_is_told_as_it_is(self) -> None:
        self.assertEqual(explain(sqlite3.OperationalError("something new")), "something new")
        self.assertEqual(explain(OSError()), "OSError")


class LockTests(DatabaseTestCase):
    """One relay a directory, and any number of tools."""

    def test_a_second_relay(self) -> None:
        open_database(self, self.directory)
        error = self.assertRaises(StoreError, Database.open, self.directory, exclusive=True)
        self.assertEqual(
            str(error),
            f"the accounts in {self.directory} are in use by another relay (process"
            f" {os.getpid()}): say --data DIR with another directory, or --data none",
        )

    def test_whose_number_is_not_known(self) -> None:
        open_database(self, self.directory)
        (self.directory / LOCK_NAME).write_bytes(b"x" * 1000)
        error = self.assertRaises(StoreError, Database.open, self.directory, exclusive=True)
        self.assertIn("in use by another relay (another process)", str(error))

    def test_tools_beside_it(self) -> None:
        relay = open_database(self, self.directory)
        tools = [open_database(self, self.directory, exclusive=False) for _ in range(2)]
        for number, database in enumerate([relay, *tools]):
            with database.transaction():
                Accounts(database.connection).add(name(f"name{number}"), HASH, NOW_S)
        for database in (relay, *tools):
            self.assertEqual(Accounts(database.connection).count(), 3)

    def test_when_it_is_closed(self) -> None:
        first = Database.open(self.directory, exclusive=True)
        first.close()
        first.close()
        open_database(self, self.directory)

    def test_it_is_given_back_if_the_database_is_refused(self) -> None:
        self.directory.mkdir()
        self.path.write_bytes(b"Dear diary, " * 1000)
        self.assertRaises(StoreError, Database.open, self.directory, exclusive=True)
        self.path.unlink()
        open_database(self, self.directory)

    def test_it_stays_with_a_daemon_and_goes_with_it(self) -> None:
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from chatrelay.store.files import Lock\n"
            "lock = Lock(Path(sys.argv[1]))\n"
            "if os.fork(): os._exit(0)\n"
            "lock.note_process()\n"
            "print(os.getpid(), flush=True)\n"
            "sys.stdin.read()\n"
            "os.kill(os.getpid(), 9)\n"
        )
        self.directory.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        daemon = process.stdout.readline().decode().strip()
        self.assertEqual(process.wait(30), 0)
        error = self.assertRaises(StoreError, Database.open, self.directory, exclusive=True)
        self.assertIn(f"(process {daemon})", str(error))
        process.stdin.close()
        # The end of its output is the end of its process.
        self.assertEqual(process.stdout.read(), b"")
        process.stdout.close()
        open_database(self, self.directory)


class UpgradeTests(DatabaseTestCase):
    """From any version to the newest, wholly or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.schema_directory = self.parent / "schema"
        self.schema_directory.mkdir()
        self.schema("0001-first.sql", FIRST)
        self.open().close()

    def schema(self, file_name: str, text: str) -> None:
        (self.schema_directory / file_name).write_text(text)

    def open(self, *, exclusive: bool = True) -> Database:
        return Database.open(
            self.directory, exclusive=exclusive, schema_directory=self.schema_directory
        )

    def content(self, path: Path) -> tuple[int, int, list[str], list[tuple[object, ...]]]:
        connection = sqlite3.connect(path)
        [(version,)] = connection.execute("PRAGMA user_version")
        [(application_id,)] = connection.execute("PRAGMA application_id")
        tables = [row[0] for row in connection.execute("SELECT sql FROM sqlite_schema")]
        rows = connection.execute("SELECT * FROM account").fetchall()
        connection.close()
        return version, application_id, tables, rows

    def insert(self) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("INSERT INTO account (key) VALUES (x'6279')")
        connection.commit()
        connection.close()

    def test_step_by_step(self) -> None:
        self.insert()
        before = self.content(self.path)
        self.schema("0002-colour.sql", SECOND)
        self.schema("0003-room.sql", "CREATE TABLE room (name BLOB) STRICT")
        for exclusive in (True, False):
            # The second time there is nothing to be done.
            self.open(exclusive=exclusive).close()
        version, application_id, tables, rows = self.content(self.path)
        self.assertEqual((version, application_id), (3, APPLICATION_ID))
        self.assertEqual(rows, [(b"by", "red"), (b"carol", "red")])
        self.assertEqual(len(tables), 3)
        [backup] = self.directory.glob("*.backup")
        self.assertRegex(
            backup.name,
            r"\Achatrelay\.sqlite3\.version-1\.\d{4}-\d\d-\d\dT\d{6}Z\.backup\Z",
        )
        self.assertEqual(self.content(backup), before)
        self.assertEqual(stat.S_IMODE(backup.stat().st_mode), 0o600)
        self.assertEqual(self.files(), sorted([LOCK_NAME, FILE_NAME, backup.name]))

    def test_from_each_version_that_was_shipped(self) -> None:
        shipped = sorted(SCHEMA_DIRECTORY.glob("*.sql"))
        for version in range(1, len(shipped)):
            shutil.rmtree(self.directory)
            shutil.rmtree(self.schema_directory)
            self.schema_directory.mkdir()
            for path in shipped[:version]:
                self.schema(path.name, path.read_text())
            with closing(self.open()) as database, database.transaction():
                Accounts(database.connection).add(name("carol"), HASH, NOW_S)
            database = open_database(self, self.directory)
            with database.transaction():
                logs = Accounts(database.connection).logs
                [(number, key, _)] = logs.owned_names()
                self.assertEqual(key, b"carol")
                logs.write([Changes(number, read_id=7)], BOUNDS, NOW_S)
            self.assertEqual(logs.load(number, NOW_S, 0.0).read_id, 7)
            database.close()

    def test_what_was_kept_before_there_were_rooms_is_as_it_was(self) -> None:
        for path in sorted(SCHEMA_DIRECTORY.glob("*.sql"))[:2]:
            self.schema(path.name, path.read_text())
        (self.schema_directory / "0001-first.sql").unlink()
        shutil.rmtree(self.directory)
        runs = [Run(Kind.RECEIVED, 7, 2, 1000, b"dave", 2, b"", b"one\ntwo")]
        with closing(self.open()) as database, database.transaction():
            for written in ("carol", "dave"):
                Accounts(database.connection).add(name(written), HASH, NOW_S)
            row = (1, 0, *chunk_rows(runs, NOW_S)[0])
            database.connection.execute("INSERT INTO chunk VALUES (NULL, ?,?,?,?,?,?,?,?)", row)
            database.connection.execute("INSERT INTO mailbox VALUES (1, 7, 7)")
        database = open_database(self, self.directory)
        with database.transaction():
            accounts = Accounts(database.connection)
            self.assertEqual(accounts.logs.page(1, 0, 1000), runs)
            self.assertEqual(accounts.logs.load(1, NOW_S, 0.0).read_id, 7)
            self.assertEqual(accounts.rooms.all(), [])
            room = accounts.rooms.keep(b"#ops", b"#Ops", 1, [2], NOW_S)
            changes = [Changes(1, runs[:0], is_over=True), Changes(0, runs, room=room)]
            self.assertEqual(accounts.logs.write(changes, BOUNDS, NOW_S).gone_rooms, set())
            [kept] = accounts.rooms.all()
        self.assertEqual((kept.members, kept.entries), ([(1, True), (2, True)], 2))
        self.assertEqual(len(list(self.directory.glob("*.version-2.*.backup"))), 1)

    def test_the_backup_can_take_its_place(self) -> None:
        self.insert()
        self.schema("0002-colour.sql", SECOND)
        self.open().close()
        [backup] = self.directory.glob("*.backup")
        backup.rename(self.path)
        self.open().close()
        self.assertEqual(self.content(self.path)[0], 2)
        self.assertEqual(len(self.content(self.path)[3]), 2)

    def test_one_that_fails_in_the_middle(self) -> None:
        self.insert()
        before = self.content(self.path)
        self.schema("0002-colour.sql", SECOND)
        self.schema("0003-broken.sql", BROKEN)
        for exclusive in (True, False):
            error = self.assertRaises(StoreError, self.open, exclusive=exclusive)
            self.assertIn("could not be upgraded, and are as they were", str(error))
            self.assertEqual(self.content(self.path), before)
        self.schema("0003-broken.sql", "CREATE TABLE room (name BLOB) STRICT;")
        self.open().close()
        self.assertEqual(self.content(self.path)[0], 3)

    def test_one_that_leaves_rows_without_what_they_refer_to(self) -> None:
        before = self.content(self.path)
        self.schema(
            "0002-token.sql",
            "CREATE TABLE owner (number INTEGER PRIMARY KEY);"
            "CREATE TABLE token (owner INTEGER REFERENCES owner (number));"
            "INSERT INTO token VALUES (7);",
        )
        error = self.assertRaises(StoreError, self.open)
        self.assertIn("are as they were: a row refers to another that is not there", str(error))
        self.assertEqual(self.content(self.path), before)

    def test_without_room_for_the_backup(self) -> None:
        before = self.content(self.path)
        self.schema("0002-colour.sql", SECOND)

        def no_room(_: Path) -> None:
            raise OSError(28, "No space left on device")

        self.patch(module, "sync", no_room)
        error = self.assertRaises(StoreError, self.open)
        self.assertIn("are as they were: No space left on device", str(error))
        self.assertEqual(self.content(self.path), before)
        self.assertEqual(self.files(), [LOCK_NAME, FILE_NAME])

    def test_a_tool_does_not_upgrade_under_a_relay(self) -> None:
        before = self.content(self.path)
        self.schema("0002-colour.sql", SECOND)
        relay = Lock(self.directory)
        error = self.assertRaises(StoreError, self.open, exclusive=False)
        self.assertIn(f"in use by process {os.getpid()}: restart that relay", str(error))
        self.assertEqual(self.content(self.path), before)
        relay.release()
        self.open(exclusive=False).close()
        self.assertEqual(self.content(self.path)[0], 2)
        # And does not keep what is the relay's.
        self.open(exclusive=True).close()

    def test_foreign_keys_hold_afterwards(self) -> None:
        self.schema("0002-colour.sql", SECOND)
        database = self.open()
        [(are_enforced,)] = database.connection.execute("PRAGMA foreign_keys")
        database.close()
        self.assertEqual(are_enforced, 1)


class SchemaFileTests(SynchronousTestCase):
    """0001-…, 0002-…, without a gap."""

    def test_gaps(self) -> None:
        for names in ([], ["0002-a.sql"], ["0001-a.sql", "0003-b.sql"], ["1-a.sql"], ["a.sql"]):
            directory = temporary_directory(self)
            for file_name in names:
                (directory / file_name).touch()
            self.assertRaises(ValueError, read_schema, directory)

    def test_those_that_ship(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        schema = read_schema(SCHEMA_DIRECTORY)
        apply_schema(connection, schema)
        [(version,)] = connection.execute("PRAGMA user_version")
        self.assertEqual(version, len(schema))
