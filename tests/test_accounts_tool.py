"""``python -m chatrelay.accounts``."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts import tool
from chatrelay.accounts.secrets import is_right
from chatrelay.accounts.tool import main
from chatrelay.bans import CHANGED, Ban, read_target
from chatrelay.secret import check_secret
from chatrelay.store.accounts import Account, Accounts
from chatrelay.store.database import FILE_NAME, Database
from tests.store_harness import HASH, NOW_S, name, open_database, temporary_directory
from tests.terminal_harness import DEADLINE_S, ROOT, on_terminal

SECRET = "hunter2-hunter2"


class ToolTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.parent = temporary_directory(self)
        self.directory = self.parent / "data"
        self.now_s = NOW_S

    def run_tool(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Returns the exit status, and what stands on standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        self.patch(sys, "stdin", io.StringIO())
        status = main(
            ["--data", str(self.directory), *arguments], environment or {}, lambda: self.now_s
        )
        return status, out.getvalue(), err.getvalue()

    def add(self, written: str) -> None:
        status, _, err = self.run_tool("add", written, environment={"CHATRELAY_SECRET": SECRET})
        self.assertEqual((status, err), (0, ""))

    def assert_refused(
        self,
        status: int,
        words: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
    ) -> None:
        found, out, err = self.run_tool(*arguments, environment=environment)
        self.assertEqual((found, out), (status, ""), err)
        self.assertIn(words, err)
        self.assertRegex(err, r"\Achatrelay\.accounts: [^\n]+\.\n\Z")
        self.assertNotIn("hunter2", err)

    def account(self, written: str) -> Account:
        database = Database.open(self.directory, exclusive=False)
        account = Accounts(database.connection).find(name(written).key)
        database.close()
        assert account is not None
        return account

    def revocations(self) -> list[bytes]:
        database = Database.open(self.directory, exclusive=False)
        made = Accounts(database.connection).revocations_after(0)
        database.close()
        return [each.key for each in made]


class SecretTests(ToolTestCase):
    """Where a secret comes from, and where it never does."""

    def file(self, content: str, mode: int = 0o600) -> str:
        path = self.parent / "secret"
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    def test_from_the_environment(self) -> None:
        status, out, err = self.run_tool("add", "Carol", environment={"CHATRELAY_SECRET": SECRET})
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(
            out,
            "Carol is registered; whoever has it without the secret is disconnected within 5"
            " seconds.\n",
        )
        carol = self.account("carol")
        self.assertEqual(carol.shown, b"Carol")
        self.assertEqual(
            (carol.created_s, carol.changed_s, carol.last_login_s), (NOW_S, NOW_S, None)
        )
        self.assertTrue(is_right(carol.secret_hash, SECRET.encode()))
        self.assertEqual(self.revocations(), [b"carol"])

    def test_from_a_file_before_the_environment(self) -> None:
        status, _, err = self.run_tool(
            "add",
            "--secret-file",
            self.file("of-the-file\nsecond line\n"),
            "carol",
            environment={"CHATRELAY_SECRET": SECRET},
        )
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(is_right(self.account("carol").secret_hash, b"of-the-file"))

    def test_made(self) -> None:
        for command in ("add", "reset"):
            status, out, err = self.run_tool(command, "--generate", "carol")
            secret = out.removesuffix("\n").encode()
            self.assertEqual(status, 0)
            self.assertIsNone(check_secret(secret))
            self.assertTrue(is_right(self.account("carol").secret_hash, secret))
            self.assertIn("carol", err)
            self.assertNotIn(out.strip(), err)

    def test_typed(self) -> None:
        tool_of = ["-m", "chatrelay.accounts", "--data", str(self.directory)]
        for command, words in [("add", b"carol is registered"), ("reset", b"has another secret")]:
            shown, printed, status = on_terminal(
                self,
                [*tool_of, command, "carol"],
                b"typed-secret\n",
                b"typed-secret\n",
                is_input=True,
            )
            self.assertIn(words, printed)
            self.assertEqual(status, 0)
            self.assertEqual(shown, b"Secret for carol: \r\nThe same again: \r\n")
        self.assertTrue(is_right(self.account("carol").secret_hash, b"typed-secret"))
        shown, printed, status = on_terminal(
            self, [*tool_of, "reset", "carol"], b"hunter2-1\n", b"hunter2-2\n", is_input=True
        )
        self.assertIn(b"the two are not the same; nothing was changed.", printed)
        self.assertEqual(status, 2)
        self.assertNotIn(b"hunter2", shown + printed)

    def test_interrupted(self) -> None:
        tool_of = ["-m", "chatrelay.accounts", "--data", str(self.directory)]
        _, printed, status = on_terminal(self, [*tool_of, "add", "carol"], b"\x03", is_input=True)
        self.assertEqual((printed, status), (b"chatrelay.accounts: interrupted.\n", 130))

    def test_none(self) -> None:
        self.assert_refused(2, "there is no terminal", "add", "carol")
        self.assert_refused(2, "empty", "add", "carol", environment={"CHATRELAY_SECRET": ""})

    def test_one_that_may_not_be(self) -> None:
        for secret, words in [
            ("hunter2", "8 to 128 bytes"),
            ("hunter2 hunter2", "no spaces"),
            ("crt_hunter2", "crt_"),
        ]:
            self.assert_refused(2, words, "add", "carol", environment={"CHATRELAY_SECRET": secret})
        self.assert_refused(1, "there is no account carol", "disable", "carol")

    def test_files_that_may_not_be(self) -> None:
        path = self.file(SECRET, 0o644)
        self.assert_refused(2, f"chmod 600 {path}", "add", "--secret-file", path, "carol")
        self.assert_refused(2, "No such file", "add", "--secret-file", path + "x", "carol")
        self.assert_refused(
            2, "exclude each other", "add", "--generate", "--secret-file", path, "carol"
        )

    def test_never_from_the_command_line(self) -> None:
        for arguments in (
            ["add", "carol", SECRET],
            ["reset", "carol", SECRET],
            ["disable", "carol", SECRET],
            ["add", f"--secret={SECRET}", "carol"],
            ["add", "--secret", SECRET, "carol"],
            ["add"],
        ):
            self.assert_refused(2, "never given on the command line", *arguments)
        for arguments in (
            [SECRET],
            ["list", SECRET],
            ["add", f"--password={SECRET}", "carol"],
            ["add", f"--generate={SECRET}", "carol"],
            ["add", "no secret: " + SECRET],
        ):
            self.assert_refused(2, "", *arguments)
        self.assertFalse(self.directory.exists())

    def test_nothing_of_it_is_on_the_disk(self) -> None:
        self.add("carol")
        database = open_database(self, self.directory)
        self.add("dave")
        for path in self.directory.iterdir():
            self.assertNotIn(SECRET.encode(), path.read_bytes(), path)
        database.close()


class CommandTests(ToolTestCase):
    """What each does, and what it says."""

    def test_list(self) -> None:
        for written in ("carol", "Ann", "日本", "xxxxxxxxxx"):
            self.add(written)
            self.now_s += 86_400
        database = open_database(self, self.directory)
        accounts = Accounts(database.connection)
        ann, carol = self.account("ann").number, self.account("carol").number
        with database.transaction():
            accounts.note_success(ann, "net", NOW_S + 3600)
            accounts.set_disabled(carol, True, NOW_S)
        status, out, err = self.run_tool("list")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(
            out.splitlines(),
            [
                "name        state     created           last login",
                "Ann         active    2026-09-22 14:13  2026-09-21 15:13",
                "carol       disabled  2026-09-21 14:13  never",
                "xxxxxxxxxx  active    2026-09-24 14:13  never",
                "日本        active    2026-09-23 14:13  never",
            ],
        )

    def test_an_empty_list(self) -> None:
        Database.open(self.directory, exclusive=False).close()
        self.assertEqual(
            self.run_tool("list"), (0, f"There are no accounts in {self.directory}.\n", "")
        )

    def test_what_a_name_may_do_to_a_terminal(self) -> None:
        database = open_database(self, self.directory)
        with database.transaction():
            Accounts(database.connection).add(
                name("carol")._replace(shown=b"\x1b[2Jcarol\xe2\x80\xae"), HASH, NOW_S
            )
        _, out, _ = self.run_tool("list")
        self.assertIn(r"\x1b[2Jcarol\u202e  active", out)

    def test_disable_and_enable(self) -> None:
        self.add("carol")
        for command, is_disabled, words in [
            ("disable", True, "closed within 5 seconds"),
            ("enable", False, "its secret and its tokens are what they were"),
        ]:
            status, out, err = self.run_tool(command, "CAROL")
            self.assertEqual((status, err), (0, ""))
            self.assertIn(words, out)
            self.assertTrue(out.startswith("carol is "))
            self.assertIs(self.account("carol").is_disabled, is_disabled)
        self.assertEqual(self.revocations(), [b"carol"] * 2)

    def test_remove(self) -> None:
        self.add("carol")
        status, out, err = self.run_tool("remove", "carol")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(
            out,
            "carol is removed, and free for everybody; its open connections are closed within 5"
            " seconds.\n",
        )
        self.assert_refused(1, "there is no account carol", "remove", "carol")
        self.assertEqual(self.revocations(), [b"carol"] * 2)

    def test_reset(self) -> None:
        self.add("carol")
        before = self.account("carol")
        self.now_s += 10
        status, out, _ = self.run_tool(
            "reset", "carol", environment={"CHATRELAY_SECRET": "another-secret"}
        )
        self.assertEqual(status, 0)
        self.assertIn("its tokens are gone", out)
        after = self.account("carol")
        self.assertTrue(is_right(after.secret_hash, b"another-secret"))
        self.assertEqual(
            after, before._replace(secret_hash=after.secret_hash, changed_s=self.now_s)
        )
        self.assertEqual(self.revocations(), [b"carol"] * 2)

    def test_nobody_and_somebody(self) -> None:
        self.add("carol")
        for command in ("disable", "enable", "remove"):
            self.assert_refused(1, "there is no account dave", command, "dave")
        for arguments in (["reset", "--generate", "dave"], ["reset", "dave"]):
            self.assert_refused(1, "there is no account dave", *arguments)
        for arguments in (["add", "--generate", "Carol"], ["add", "Carol"]):
            self.assert_refused(1, "Carol is registered already", *arguments)
        self.assert_refused(1, "the relay's own name", "add", "--generate", "Server")

    def test_it_changed_while_the_secret_was_typed(self) -> None:
        def meanwhile(change: str) -> None:
            def hash_secret(_: bytes) -> str:
                database = Database.open(self.directory, exclusive=False)
                accounts = Accounts(database.connection)
                with database.transaction():
                    if change == "add":
                        accounts.add(name("carol"), "of the other", NOW_S)
                    else:
                        accounts.remove(1, NOW_S)
                database.close()
                return HASH

            self.patch(tool, "hash_secret", hash_secret)

        meanwhile("add")
        self.assert_refused(1, "registered already", "add", "--generate", "carol")
        self.assertEqual(self.account("carol").secret_hash, "of the other")
        meanwhile("remove")
        self.assert_refused(1, "no account carol", "reset", "--generate", "carol")

    def test_where_nothing_is(self) -> None:
        for command in ("list", "disable", "enable", "remove", "reset"):
            arguments = [command] if command == "list" else [command, "carol"]
            self.assert_refused(1, f"there are no accounts in {self.directory}", *arguments)
        self.assertFalse(self.directory.exists())

    def test_what_can_not_be_opened(self) -> None:
        self.directory.mkdir()
        (self.directory / FILE_NAME).write_bytes(b"Dear diary, " * 1000)
        self.assert_refused(1, "no SQLite database", "list")

    def test_kept_by_another_process(self) -> None:
        self.add("carol")
        self.patch(sys.modules["chatrelay.store.database"], "BUSY_TIMEOUT_S", 0.0)
        real = tool.hash_secret

        def hash_secret(secret: bytes) -> str:
            writer = sqlite3.connect(self.directory / FILE_NAME, isolation_level=None)
            self.addCleanup(writer.close)
            writer.execute("BEGIN IMMEDIATE")
            return real(secret)

        self.patch(tool, "hash_secret", hash_secret)
        self.assert_refused(1, "another process kept it", "reset", "--generate", "carol")

    def test_what_is_no_command(self) -> None:
        self.assert_refused(2, "give a command: add, list")
        self.assert_refused(2, "the commands are add, list", "mend", "carol")
        self.assert_refused(2, "A name is 1 to 32", "add", "--", "-x")
        self.assert_refused(2, "A name is 1 to 32", "add", "--generate", "a b")
        for nowhere in ("none", ""):
            self.assert_refused(2, "--data takes the directory", "--data", nowhere, "list")


class ProcessTests(ToolTestCase):
    """As a program."""

    def run_program(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.update(options.pop("environment", {}))  # type: ignore[call-overload]
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-m", "chatrelay.accounts", *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=DEADLINE_S,
            **{"stdout": subprocess.PIPE, **options},
        )

    def test_the_default_directory(self) -> None:
        done = self.run_program(
            "add",
            "carol",
            environment={"XDG_STATE_HOME": str(self.parent), "CHATRELAY_SECRET": SECRET},
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue((self.parent / "chatrelay" / FILE_NAME).exists())

    def test_help(self) -> None:
        done = self.run_program("--help")
        self.assertEqual(done.returncode, 0)
        for words in (b"COMMAND [NAME]", b"--data=", b"disable", b"as the user who runs the relay"):
            self.assertIn(words, done.stdout)
        done = self.run_program("add", "--help")
        self.assertIn(b"[--data DIR] add [--secret-file FILE | --generate] NAME\n", done.stdout)

    def test_a_terminal_of_another_encoding(self) -> None:
        self.add("日本")
        done = self.run_program(
            "--data", str(self.directory), "list", environment={"PYTHONIOENCODING": "ascii"}
        )
        self.assertEqual(done.returncode, 0)
        self.assertIn(rb"\u65e5\u672c", done.stdout)

    def test_nobody_reads_its_output(self) -> None:
        self.add("carol")
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = self.run_program("--data", str(self.directory), "list", stdout=writing)
        finally:
            os.close(writing)
        self.assertEqual(
            (done.returncode, done.stderr), (1, b"chatrelay.accounts: nobody reads the output.\n")
        )

    def test_beside_a_relay_that_has_the_directory(self) -> None:
        relay = open_database(self, self.directory)
        done = self.run_program(
            "--data", str(self.directory), "add", "carol", environment={"CHATRELAY_SECRET": SECRET}
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        accounts = Accounts(relay.connection)
        self.assertEqual([each.key for each in accounts.revocations_after(0)], [b"carol"])


class BanTests(ToolTestCase):
    """The way out of a ban that keeps out the operator himself."""

    def ban(self, written: bytes, until_s: float | None = None, why: bytes = b"") -> None:
        database = Database.open(self.directory, exclusive=False)
        with database.transaction():
            one = Ban(read_target(written), self.now_s, until_s, b"alice", why)
            Accounts(database.connection).bans.add(one)
        database.close()

    def test_the_list(self) -> None:
        self.ban(b"Mallory", why="zu laut \N{RIGHT-TO-LEFT OVERRIDE}".encode())
        self.ban(b"203.0.113.0/24", NOW_S + 7200)
        self.ban(b"203.0.113.9")
        self.ban(b"name=10.0.0.1", NOW_S + 1)
        self.now_s += 1
        status, out, err = self.run_tool("bans")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(
            out.splitlines(),
            [
                "banned          until             since             by     why",
                "Mallory         for good          2026-09-21 14:13  alice  zu laut \\u202e",
                "203.0.113.0/24  2026-09-21 16:13  2026-09-21 14:13  alice",
                "203.0.113.9     for good          2026-09-21 14:13  alice",
            ],
        )

    def test_an_empty_list(self) -> None:
        self.add("carol")
        self.assertEqual(
            self.run_tool("bans"), (0, f"There are no bans in {self.directory}.\n", "")
        )
        self.assert_refused(2, "bans takes no NAME", "bans", "carol")

    def test_unban(self) -> None:
        for written, again, shown in [
            (b"Mallory", "MALLORY", "MALLORY"),
            (b"203.0.113.0/24", "203.0.113.7/24", "203.0.113.0/24"),
            (b"::ffff:203.0.113.7", "203.0.113.7", "203.0.113.7"),
            (b"name=10.0.0.1", "name=10.0.0.1", "name=10.0.0.1"),
        ]:
            self.ban(written)
            self.assertEqual(
                self.run_tool("unban", again),
                (0, f"{shown} is not banned any more, within 5 seconds.\n", ""),
            )
            self.assert_refused(1, f"there is no ban of {shown}; bans lists them", "unban", again)
        # That is what a running relay looks for.
        self.assertEqual(self.revocations(), [CHANGED] * 4)

    def test_what_can_not_be_banned(self) -> None:
        self.add("carol")
        for arguments, words in [
            ([], "give one"),
            (["a", "b"], "give one"),
            (["203.0.113.0/99"], "203.0.113.0/24"),
            (["#ops"], "a name, an address"),
        ]:
            self.assert_refused(2, words, "unban", *arguments)
