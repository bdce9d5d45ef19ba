"""The scripts of docs/devices.rst where something fails that no transcript can show."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.transcripts import ROOT, read_document

FILES = read_document(ROOT / "docs" / "devices.rst").files
DEADLINE_S = 10
# In place of netcat: says what the file OUTPUT holds, whatever it is asked.
_NETCAT = '#!/bin/sh\ncat >/dev/null\nprintf "$(cat "$OUTPUT")\\n"\n'


class ShellTests(SynchronousTestCase):
    """With a relay that says always the same."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        (self.directory / "nc").write_text(_NETCAT, encoding="ascii")
        (self.directory / "nc").chmod(0o700)
        (self.directory / "sleep").symlink_to("/bin/true")
        (self.directory / "lamp.secret").write_text("correct-horse\n", encoding="ascii")

    def run_script(self, script: str, *arguments: str, said: str) -> tuple[int, str]:
        (self.directory / script).write_text(FILES[script], encoding="utf-8")
        output = self.directory / "said"
        output.write_text(said, encoding="ascii")
        path = f"{self.directory}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["sh", script, *arguments],
            cwd=self.directory,
            env={**os.environ, "PATH": path, "OUTPUT": str(output)},
            capture_output=True,
            encoding="utf-8",
            timeout=DEADLINE_S,
            check=False,
        )
        self.complaint = ran.stderr
        return ran.returncode, ran.stdout

    def test_cursor_can_not_be_written(self) -> None:
        """The inbox ends, and does not print one full page for ever."""
        (self.directory / "lamp.new").mkdir()
        page = "".join(f"@ref=h;id={number} %%alice%%hi\\n" for number in range(200))
        status, printed = self.run_script("inbox.sh", "lamp", said=f"{page}@ref=h !end history 200")
        self.assertEqual((status, printed), (1, "alice: hi\n"))

    def test_inbox(self) -> None:
        """Its status tells whether all came; what the relay refuses is shown."""
        one = "!welcome lamp\\n@ref=h;id=1 %%alice%%hi"
        for said, status, shown in [
            ("", 1, ""),
            ("!error bad-secret lamp :No.", 1, "!error bad-secret lamp :No."),
            ("!welcome lamp\\n@ref=h !error not-allowed :No.", 1, "@ref=h !error not-allowed"),
            (one, 1, ""),
            (f"{one}\\n%%bob%%what !error is\\n@ref=h !end history 1", 0, None),
        ]:
            self.assertEqual(self.run_script("inbox.sh", "lamp", said=said)[0], status, said)
            if shown is None:
                self.assertEqual(self.complaint, "")
            else:
                self.assertIn(shown, self.complaint)
                self.assertIn("lamp: this is not all", self.complaint)

    def test_register_keeps_a_secret_that_is_there(self) -> None:
        status, _ = self.run_script("register.sh", "lamp", said="!registered lamp")
        self.assertEqual(status, 1)
        self.assertEqual(self.secret_of("lamp"), "correct-horse\n")

    def test_register_keeps_the_secret_if_it_is_registered(self) -> None:
        """Refused or unanswered it does not, and takes the same secret the next time."""
        offered = set()
        for said, status in [
            ("", 1),
            ("!error name-owned bob :No.", 1),
            ("!welcome bob :Hello.\\n!registered bob", 0),
        ]:
            self.assertFalse((self.directory / "bob.secret").exists())
            self.assertEqual(self.run_script("register.sh", "bob", said=said)[0], status, said)
            new = self.directory / "bob.secret.new"
            offered.add(new.read_text("ascii") if status else self.secret_of("bob"))
        [secret] = offered
        self.assertGreater(len(secret), 30)
        self.assertEqual((self.directory / "bob.secret").stat().st_mode & 0o077, 0)

    def secret_of(self, name: str) -> str:
        return (self.directory / f"{name}.secret").read_text("ascii")

    def test_deliver(self) -> None:
        """The status for what may be answered; what passes is asked again."""
        for said, status in [
            ("!error rate-limited :Later.", 3),
            ("!error too-many-clients :Later.", 3),
            ("!error bad-secret lamp :No.", 1),
            ("", 3),
        ]:
            self.assertEqual(
                self.run_script("deliver.sh", "lamp", "bob", "hi", said=said)[0], status, said
            )


class PostTests(SynchronousTestCase):
    """``post.py``."""

    def test_refused_for_now(self) -> None:
        """It is an OSError, after which a device waits; what was sent is kept."""
        post: dict = {"__name__": "post"}
        exec(FILES["post.py"], post)
        sent: list[bytes] = []

        def answer(_max_bytes: int) -> bytes:
            ref = sent[-1].partition(b" ")[0]
            if ref == b"@ref=h":
                return ref + b" !end history 0\n"
            return ref + b" !error store-failed lamp :No.\n"

        connection = mock.MagicMock(sendall=sent.append)
        connection.makefile.return_value.readline = answer
        mail = post["Post"]("127.0.0.1", 1, b"no-such-name", b"secret", None)
        mail.send(b"lamp", b"hi")
        post["socket"] = mock.MagicMock(socket=lambda: connection)
        self.assertRaises(OSError, mail.visit)
        self.assertEqual(len(mail.waiting), 1)
