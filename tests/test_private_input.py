"""Where a secret is read from, and that it is not shown on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import Misuse
from chatrelay.private_input import (
    MAX_FILE_LINE_BYTES,
    secret_from_environment,
    secret_from_file,
)
from tests.terminal_harness import DEADLINE_S, ROOT, on_terminal

PROGRAM = """
import sys
from chatrelay import private_input
from chatrelay.errors import Misuse
try:
    print("read", getattr(private_input, sys.argv[1])("Secret: "))
except Misuse as misuse:
    print("refused:", misuse)
"""


class FileTests(SynchronousTestCase):
    """A file that nobody else can read."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chatrelay-secret-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def file(self, content: bytes, mode: int = 0o600) -> str:
        path = self.directory / "secret"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def assert_refused(self, path: str, *parts: str) -> None:
        sentence = str(self.assertRaises(Misuse, secret_from_file, path))
        for part in parts:
            self.assertIn(part, sentence)
        self.assertNotIn("hunter2", sentence)

    def test_the_first_line_without_its_end(self) -> None:
        longest = b"x" * (MAX_FILE_LINE_BYTES - 1)
        for content, secret in [
            (b"hunter2-hunter2", b"hunter2-hunter2"),
            (b"hunter2-hunter2\n", b"hunter2-hunter2"),
            (b"hunter2-hunter2\r\n", b"hunter2-hunter2"),
            (b"hunter2\nanother\n", b"hunter2"),
            (b" spaces stay \n", b" spaces stay "),
            (b"\xff\x00\n", b"\xff\x00"),
            (longest + b"\n", longest),
        ]:
            self.assertEqual(secret_from_file(self.file(content)), secret)

    def test_what_is_no_secret(self) -> None:
        for content in (b"", b"\n", b"\r\n", b"\nhunter2\n"):
            self.assert_refused(self.file(content), "is empty")
        self.assert_refused(self.file(b"hunter2" * 1000), "more than 1024 bytes")

    def test_who_may_read_it(self) -> None:
        for mode in (0o400, 0o600, 0o700, 0o620):
            self.assertEqual(secret_from_file(self.file(b"hunter2", mode)), b"hunter2")
        for mode in (0o640, 0o604, 0o644, 0o660):
            path = self.file(b"hunter2", mode)
            self.assert_refused(path, "others can read", f"chmod 600 {path}")

    def test_what_can_not_be_read(self) -> None:
        missing = str(self.directory / "secret")
        self.assert_refused(missing, missing, "No such file")
        self.assert_refused(str(self.directory), str(self.directory), "Is a directory")
        self.assert_refused("a\x00b", "not a path")
        self.assert_refused("a\x1b[2Jb", r"a\x1b[2Jb")

    def test_a_pipe(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"hunter2\n")
        os.close(writing)
        self.assertEqual(secret_from_file(f"/dev/fd/{reading}"), b"hunter2")


class EnvironmentTests(SynchronousTestCase):
    """The variable CHATRELAY_SECRET."""

    def test_values(self) -> None:
        self.assertIsNone(secret_from_environment({}))
        self.assertEqual(
            secret_from_environment({"CHATRELAY_SECRET": "gr\u00fcn"}), "gr\u00fcn".encode()
        )
        not_utf8 = os.fsdecode(b"\xff")
        self.assertEqual(secret_from_environment({"CHATRELAY_SECRET": not_utf8}), b"\xff")

    def test_empty(self) -> None:
        self.assertRaises(Misuse, secret_from_environment, {"CHATRELAY_SECRET": ""})


class TerminalTests(SynchronousTestCase):
    """A real terminal, and its echo."""

    def on_terminal(self, function: str, *typed: bytes) -> tuple[bytes, bytes]:
        """Returns what the terminal showed and what the program printed."""
        shown, printed, _ = on_terminal(self, ["-c", PROGRAM, function], *typed)
        return shown, printed

    def test_it_is_read_and_not_shown(self) -> None:
        shown, printed = self.on_terminal("prompt_secret", b"hunter2 \xc3\xbc\n")
        self.assertEqual(printed, b"read b'hunter2 \\xc3\\xbc'\n")
        self.assertEqual(shown, b"Secret: \r\n")

    def test_nothing_typed(self) -> None:
        for typed in (b"\n", b"\x04"):
            _, printed = self.on_terminal("prompt_secret", typed)
            self.assertEqual(printed, b"refused: no secret was typed\n")

    def test_twice_the_same(self) -> None:
        shown, printed = self.on_terminal("choose_secret", b"hunter2\n", b"hunter2\n")
        self.assertEqual(printed, b"read b'hunter2'\n")
        self.assertEqual(shown, b"Secret: \r\nThe same again: \r\n")

    def test_a_slip(self) -> None:
        shown, printed = self.on_terminal("choose_secret", b"hunter2\n", b"hunter3\n")
        self.assertIn(b"refused: the two are not the same", printed)
        self.assertNotIn(b"hunter", shown + printed)

    def test_no_terminal(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "prompt_secret"],
            input=b"hunter2\n",
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=DEADLINE_S,
            check=True,
        )
        self.assertEqual(done.stdout, b"refused: there is no terminal to type a secret on\n")
