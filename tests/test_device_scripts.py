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
# What is tried again later, by each script.
PASSING = (
    b"busy",
    b"mailbox-full",
    b"rate-limited",
    b"shutting-down",
    b"store-failed",
    b"too-many-clients",
)
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
        for code in PASSING:
            said = f"!error {code.decode()} :Later."
            self.assertEqual(self.deliver(said), 3, said)
            self.assertIn(said, self.complaint)
        self.assertEqual(self.deliver("!error bad-secret lamp :No."), 1)
        self.assertEqual(self.deliver(""), 3)

    def deliver(self, said: str) -> int:
        return self.run_script("deliver.sh", "lamp", "bob", "hi", said=said)[0]


class PostTests(SynchronousTestCase):
    """``post.py``."""

    def visit(self, refusals: dict[bytes, bytes]) -> tuple[list[bytes], list[bytes]]:
        """
        Send two messages to lamp and one to bob.

        :param refusals: the code with which what is sent to a target is refused.
        :returns: the lines that were sent, and those that wait for the next visit.
        """
        post: dict = {"__name__": "post", "print": lambda *_: None}
        exec(FILES["post.py"], post)
        self.assertEqual(set(post["TRY_LATER"]), set(PASSING))
        sent: list[bytes] = []

        def answer(_max_bytes: int) -> bytes:
            ref, _, line = sent[-1].partition(b" ")
            if ref == b"@ref=h":
                return ref + b" !end history 0\n"
            target = line.split(b"%")[1]
            if target in refusals:
                return ref + b" !error " + refusals[target] + b" lamp :No.\n"
            return ref + b" !stored " + target + b" id=1\n"

        connection = mock.MagicMock(sendall=sent.append)
        connection.makefile.return_value.readline = answer
        mail = post["Post"]("127.0.0.1", 1, b"no-such-name", b"secret", None)
        for target, text in [(b"lamp", b"one"), (b"lamp", b"two"), (b"bob", b"three")]:
            mail.send(target, text)
        post["socket"] = mock.MagicMock(socket=lambda: connection)
        if set(refusals.values()) & set(PASSING):
            self.assertRaises(OSError, mail.visit)
        else:
            mail.visit()
        self.assertIn(b"/history", sent[-1])
        lines = [line.partition(b" ")[2].strip() for line in sent[1:-1]]
        return lines, [line for _, line in mail.waiting]

    def test_refused_for_now(self) -> None:
        """An OSError, and it is kept, with what follows to the same name; others are served."""
        for code in PASSING:
            sent, waiting = self.visit({b"lamp": code})
            self.assertEqual(sent, [b"%lamp%one", b"%bob%three"])
            self.assertEqual(waiting, [b"%lamp%one", b"%lamp%two"])

    def test_refused_for_good(self) -> None:
        """It is dropped, and all else is sent."""
        sent, waiting = self.visit({b"lamp": b"blocked"})
        self.assertEqual(sent, [b"%lamp%one", b"%lamp%two", b"%bob%three"])
        self.assertEqual(waiting, [])
