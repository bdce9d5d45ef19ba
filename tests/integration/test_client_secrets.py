"""Secrets in the client programs, as real processes on a real terminal: nothing shows them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from chatrelay.client.options import EXIT_INTERRUPTED, EXIT_LOST, EXIT_OK, EXIT_REFUSED, EXIT_USAGE
from tests.fake_relay import FakeRelay
from tests.integration.relay_process import (
    DEADLINE_S,
    RelayProcess,
    environment,
    eventually,
    free_port,
)
from tests.integration.test_client_programs import ProgramCase, Terminal

SECRET = "correct-horse-battery"
NEW_SECRET = "zebra-horse-battery"


class Ended(NamedTuple):
    """How a program ended: its exit status, and what it wrote."""

    status: int
    printed: str
    said: str


class SecretCase(ProgramCase):
    """A relay on which carol is registered."""

    def setUp(self) -> None:
        self.fake = FakeRelay({"carol": SECRET})
        self.addCleanup(self.fake.end)

    def run_pipe(self, given: bytes, *arguments: str, secret: str | None = None) -> Ended:
        """Run the pipe program to its end."""
        variables = {"CHATRELAY_SECRET": secret} if secret is not None else {}
        done = subprocess.run(
            self.command(self.fake.address, *arguments),
            env={**environment(), **variables},
            input=given,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class PipeTests(SecretCase):
    """``python -m chatrelay.client`` on a pipe."""

    def test_sources(self) -> None:
        """From the environment and from a file; the token's answer is not printed."""
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        file = Path(directory.name) / "secret"
        file.write_text(SECRET + "\n")
        file.chmod(0o600)
        for arguments, secret in [
            (("carol",), SECRET),
            (("--secret-file", str(file), "carol"), None),
        ]:
            ended = self.run_pipe(b"/ping .\n", *arguments, secret=secret)
            self.assertEqual((ended.status, ended.said), (EXIT_OK, ""))
            self.assertRegex(ended.printed, r"\A!welcome carol .*\n!pong \.\n\Z")
        self.assertEqual(self.fake.first_lines, [f"carol {SECRET}"] * 2)
        self.assertEqual(len(self.fake.tokens), 2)
        file.chmod(0o644)
        ended = self.run_pipe(b"", "--secret-file", str(file), "carol")
        self.assertEqual((ended.status, ended.said.count("\n")), (EXIT_USAGE, 1))

    def test_refused(self) -> None:
        """No secret, and a wrong one: one sentence, which does not hold it."""
        ended = self.run_pipe(b"", "carol")
        self.assertEqual((ended.status, ended.said.count("\n")), (EXIT_REFUSED, 1))
        self.assertIn("CHATRELAY_SECRET", ended.said)
        self.assertIn("--secret-file", ended.said)
        ended = self.run_pipe(b"", "carol", secret=NEW_SECRET)
        self.assertEqual((ended.status, ended.said.count("\n")), (EXIT_REFUSED, 1))
        self.assertNotIn(NEW_SECRET, ended.said)

    def test_traceback(self) -> None:
        """A bug in the client, made here, shows a traceback and no secret."""
        bug = (
            "import os, sys\n"
            "from chatrelay.client.__main__ import main\n"
            "from chatrelay.client.pipe import PipeProgram\n"
            "from twisted.internet import defer\n"
            "defer.setDebugging(True)\n"
            "def broken(program):\n"
            "    assert 'CHATRELAY_SECRET' not in os.environ\n"
            "    everything = {**vars(program), **vars(program._reconnector)}\n"
            "    raise ZeroDivisionError(f'{everything} {everything[\"_claim\"]}')\n"
            "PipeProgram._giving_up = broken\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        host, port = self.fake.address
        done = subprocess.run(
            [sys.executable, "-c", bug, "--host", host, "--port", str(port), "carol"],
            env={**environment(), "CHATRELAY_SECRET": NEW_SECRET},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        self.assertIn(b"ZeroDivisionError", done.stderr)
        self.assertIn(b"<secret>", done.stderr)
        self.assertNotIn(NEW_SECRET.encode(), done.stdout + done.stderr)


class TerminalTests(SecretCase):
    """``python -m chatrelay.client`` on a terminal."""

    def terminal(self, *arguments: str) -> Terminal:
        terminal = Terminal(self.command(self.fake.address, *arguments))
        self.addCleanup(terminal.end)
        self.addCleanup(self.check_hidden, terminal)
        return terminal

    def check_hidden(self, terminal: Terminal) -> None:
        """Nothing it ever showed held a secret."""
        for secret in (SECRET, NEW_SECRET):
            self.assertNotIn(secret[:4], terminal.seen + terminal.raw.decode())

    def enter(self, terminal: Terminal, prompt: str, text: str) -> None:
        """Answer a question."""
        terminal.expect(prompt)  # without its space: the cursor goes over that
        terminal.type(text)
        terminal.expect("*")
        terminal.type("\r")

    def test_asked(self) -> None:
        """It asks for the secret, again after a wrong one, and comes back with the token."""
        terminal = self.terminal("carol")
        self.enter(terminal, "Secret of carol:", "short")
        self.enter(terminal, "This secret does not open carol.", NEW_SECRET)
        terminal.expect("This secret does not open carol.")
        self.enter(terminal, "Secret of carol:", SECRET)
        terminal.expect("You are carol.")
        command_line = Path(f"/proc/{terminal.pid}/cmdline").read_bytes()
        self.assertNotIn(SECRET.encode(), command_line)
        eventually("there is a token", lambda: len(self.fake.tokens) == 1)
        # Its answer may still be on its way.
        terminal.type("/ping .\r")
        terminal.expect("pong")
        self.fake.drop()
        terminal.expect("Connecting again in ")
        terminal.expect("You are carol.")
        self.assertEqual(
            self.fake.first_lines,
            [
                "carol",
                f"carol {NEW_SECRET}",
                f"carol {SECRET}",
                f"carol {next(iter(self.fake.tokens))}",
            ],
        )
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_three_times(self) -> None:
        """After three wrong ones it ends."""
        terminal = self.terminal("carol")
        for _ in range(3):
            self.enter(terminal, "Secret of carol:", NEW_SECRET)
        self.assertEqual(terminal.wait(), EXIT_REFUSED)
        self.assertIn("(bad-secret)", terminal.seen)
        self.assertEqual(len(self.fake.first_lines), 4)

    def test_not_asked_for(self) -> None:
        """A wrong one that was given is not asked for; leaving the question ends it, too."""
        os.environ["CHATRELAY_SECRET"] = NEW_SECRET
        self.addCleanup(os.environ.pop, "CHATRELAY_SECRET", None)
        terminal = self.terminal("carol")
        self.assertEqual(terminal.wait(), EXIT_REFUSED)
        self.assertIn("(bad-secret)", terminal.seen)
        del os.environ["CHATRELAY_SECRET"]
        for key in ("\x03", "\x04"):
            terminal = self.terminal("carol")
            terminal.expect("Secret of carol:")
            terminal.type(key)
            self.assertEqual(terminal.wait(), EXIT_INTERRUPTED + signal.SIGINT)

    def test_register(self) -> None:
        """Asked for twice; what arrives meanwhile is shown; then for the old one as well."""
        terminal = self.terminal("dave")
        terminal.expect("dave>")
        terminal.type("/register\r")
        terminal.expect("New secret of dave:")
        terminal.type(SECRET[:5])
        self.fake.say("%bob%look behind you")
        terminal.expect("bob: look behind you")
        terminal.type(SECRET[5:] + "\r")
        self.enter(terminal, "The same again:", SECRET)
        terminal.expect("dave is registered")
        self.assertEqual(self.fake.secrets["dave"], SECRET)
        # Nowhere do plain lines go: what bob said is read when one turns to it.
        terminal.expect("dave [1 unread]>")
        terminal.type("\x1bn")
        terminal.expect("Unread of bob: 1")
        terminal.expect("dave>")
        # Typed ahead, and pasted: every question has its answer.
        terminal.type(f"/register\r{SECRET}\r{NEW_SECRET}\r\x1b[200~{NEW_SECRET}\n\x1b[201~\r")
        terminal.expect("dave has another secret now")
        self.assertEqual(self.fake.secrets["dave"], NEW_SECRET)
        # The last thing that was typed for all to see.
        terminal.expect("dave>")
        terminal.type("\x1b[A")
        terminal.expect("/register")
        terminal.type("\x03/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_dropped(self) -> None:
        """Ctrl-C leaves the question and not the program; nothing of it can be got back."""
        terminal = self.terminal("dave")
        terminal.expect("dave>")
        terminal.type("hello\r")
        terminal.expect("would go to nobody")
        for keys in (SECRET, SECRET + "\x15", f"\x12{SECRET}"):
            terminal.type("/register\r")
            terminal.expect("New secret of dave:")
            terminal.type(keys + "\x1b[A\t\x03")
            terminal.expect("Nothing is changed.")
            terminal.expect("dave>")
            terminal.type("\x1f\x19")  # Ctrl-_, Ctrl-Y: what was there before, what was cut
            terminal.type("/ping .\r")
            terminal.expect("pong")
        self.assertEqual(self.fake.secrets, {"carol": SECRET})
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_typed_in_clear(self) -> None:
        """A secret that was typed for all to see works; the history does not keep it."""
        terminal = self.terminal("dave")
        terminal.expect("dave>")
        terminal.type("/ping .\r")
        terminal.expect("pong")
        for line, answer in [
            ("/register visible-secret", "dave is registered"),
            ("/name carol visible-secret", "That is not its secret."),
        ]:
            terminal.type(line + "\r")
            terminal.expect(answer)
            terminal.expect(">")
            terminal.type("\x1b[A")
            terminal.expect("/ping .")
            self.assertNotIn("secret", terminal.seen)
            terminal.type("\x03")
        self.assertEqual(self.fake.secrets["dave"], "visible-secret")
        terminal.type("/token\r")
        terminal.expect("token crt_")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)


class RelayTests(ProgramCase):
    """The programs with a relay that has accounts."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-data-")
        self.addCleanup(directory.cleanup)
        self.data = str(Path(directory.name) / "data")
        self.port = f"tcp:{free_port()}:interface=127.0.0.1"
        file = Path(directory.name) / "secret"
        file.write_text(SECRET)
        file.chmod(0o600)
        self.with_secret = ("--secret-file", str(file), "carol")

    def start_relay(self) -> RelayProcess:
        return self.relay("--port", self.port, "--data", self.data)

    def register(self, address: tuple[str, int]) -> None:
        owner = self.connect(address, "carol")
        owner.send(f"/register {SECRET}")
        owner.expect("!registered carol")
        owner.close()

    def expect(self, program: subprocess.Popen[bytes], beginning: bytes) -> None:
        """Read what a pipe prints, up to a line that begins like this."""
        for line in program.stdout:
            if line.startswith(beginning):
                return
        raise AssertionError(f"it ended without {beginning!r}")

    def write(self, program: subprocess.Popen[bytes], line: str) -> None:
        program.stdin.write(line.encode() + b"\n")
        program.stdin.flush()

    def test_comes_back(self) -> None:
        """A pipe that registers its name has it again when the relay is back, with a token."""
        relay = self.start_relay()
        address = relay.address()
        program = self.start(address, "carol")
        self.expect(program, b"!welcome carol")
        self.write(program, f"/register {SECRET}")
        self.expect(program, b"!registered carol")
        self.write(program, "/ping there-is-a-token")
        self.expect(program, b"!pong there-is-a-token")
        relay.signal(signal.SIGTERM)
        relay.wait()
        self.start_relay().address()
        self.expect(program, b"!welcome carol")
        stranger = self.connect(address)
        stranger.send("carol")
        self.assertTrue(stranger.line().startswith("!error name-owned carol "))
        program.stdin.close()
        self.assertNotIn(b"crt_", program.stdout.read())
        self.assertEqual(program.wait(DEADLINE_S), EXIT_OK)
        self.assertNotIn(SECRET.encode(), program.stderr.read())

    def test_disabled(self) -> None:
        """An account that is disabled: what the relay said, and the end."""
        address = self.start_relay().address()
        self.register(address)
        program = self.start(address, *self.with_secret)
        self.expect(program, b"!welcome carol")
        tool = [sys.executable, "-m", "chatrelay.accounts", "--data", self.data, "disable", "carol"]
        subprocess.run(tool, env=environment(), check=True, capture_output=True)
        self.expect(program, b"!error bad-secret carol")
        self.assertEqual(program.wait(DEADLINE_S), EXIT_LOST)
        lost, refused = program.stderr.read().decode().splitlines()
        self.assertIn("The relay closed the connection: ", lost)
        self.assertIn("(bad-secret)", refused)

    def test_two_devices(self) -> None:
        """On the terminal one sees what the other device is sent, and what it sends."""
        address = self.start_relay().address()
        self.register(address)
        terminal = Terminal(self.command(address, *self.with_secret))
        self.addCleanup(terminal.end)
        terminal.expect("You are carol.")
        program = self.start(address, *self.with_secret)
        self.expect(program, b"!welcome carol")
        bob = self.connect(address, "bob")
        self.write(program, "%bob%hello")
        self.assertEqual(bob.line(), "%carol%hello")
        terminal.expect("to bob: hello")
        bob.send("%carol%hi")
        self.expect(program, b"%bob%hi")
        terminal.expect("bob: hi")
        terminal.type(f"/register\r{SECRET}\r{NEW_SECRET}\r{NEW_SECRET}\r")
        terminal.expect("carol has another secret now")
        self.expect(program, b"!error bad-secret carol")
        self.assertEqual(program.wait(DEADLINE_S), EXIT_LOST)
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)
