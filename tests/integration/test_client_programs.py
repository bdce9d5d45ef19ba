"""The client programs as a user starts them: real processes, real sockets, a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

from chatrelay.client.options import (
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_NOT_DELIVERED,
    EXIT_OK,
    EXIT_ONLY_SENT,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)
from tests.integration.relay_process import (
    DEADLINE_S,
    RelayProcess,
    RelayTestCase,
    environment,
    free_port,
)

WELCOME = b"!welcome carol version=1 "


class ProgramCase(RelayTestCase):
    """A relay, and client programs that end with the test."""

    def command(self, address: tuple[str, int], *arguments: str) -> list[str]:
        host, port = address
        program = [sys.executable, "-m", "chatrelay.client", "--host", host, "--port", str(port)]
        return [*program, *arguments]

    def start(
        self, address: tuple[str, int], *arguments: str, **options
    ) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options}
        program = subprocess.Popen(
            self.command(address, *arguments), env=environment(), stderr=subprocess.PIPE, **options
        )
        self.addCleanup(self._stop, program)
        # What reads from it is a plain blocking read: its end ends that, too.
        deadline = threading.Timer(DEADLINE_S, program.kill)
        deadline.start()
        self.addCleanup(deadline.cancel)
        return program

    def _stop(self, program: subprocess.Popen[bytes]) -> None:
        if program.poll() is None:
            program.kill()
        program.wait(DEADLINE_S)
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()

    def run_to_end(self, address, given: bytes, *arguments: str) -> tuple[int, bytes, str]:
        """Run a program to its end: its exit status, what it printed, what it complained of."""
        program = self.start(address, *arguments)
        printed, said = program.communicate(given, DEADLINE_S)
        self.assertNotIn(b"Traceback", said)
        return program.returncode, printed, said.decode()


class PipeTests(ProgramCase):
    """``python -m chatrelay.client`` on a pipe."""

    def test_answers_are_printed(self) -> None:
        """Lines go as they are; the answers to all of them are printed before it ends."""
        address = self.relay().address()
        given = b"%reverse%hello\n%bob%hi\n/ping end"
        status, printed, said = self.run_to_end(address, given, "carol")
        welcome, *rest = printed.splitlines()
        self.assertTrue(welcome.startswith(WELCOME))
        self.assertEqual(rest[0], b"%reverse%olleh")
        self.assertTrue(rest[1].startswith(b"!error unknown-name bob :"))
        self.assertEqual(rest[2:], [b"!pong end"])
        self.assertEqual((status, said), (EXIT_OK, ""))

    def test_to(self) -> None:
        """Plain lines go to the one named by --to."""
        address = self.relay().address()
        _, printed, _ = self.run_to_end(address, b"one\n%reverse%two\n", "--to", "reverse", "carol")
        self.assertEqual(printed.splitlines()[1:], [b"%reverse%eno", b"%reverse%owt"])

    def test_messages_between_two(self) -> None:
        """What one writes the other prints, byte for byte."""
        address = self.relay().address()
        bob = self.start(address, "bob")
        self.assertIn(b"!welcome bob", bob.stdout.readline())
        text = "100 % é 日本 \t\u202e".encode()
        self.run_to_end(address, b"%bob%" + text + b"\n", "alice")
        self.assertEqual(bob.stdout.readline(), b"%alice%" + text + b"\n")
        bob.stdin.close()
        self.assertEqual(bob.wait(DEADLINE_S), EXIT_OK)

    def test_input_of_every_kind(self) -> None:
        """A file, /dev/null and a closed standard input are read to their ends."""
        address = self.relay().address()
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"%reverse%hi\n")
            file.flush()
            for redirection, count in [(f"<{file.name}", 2), ("</dev/null", 1), ("<&-", 1)]:
                command = [
                    "sh",
                    "-c",
                    f'exec "$@" {redirection}',
                    "sh",
                    *self.command(address, "carol"),
                ]
                done = subprocess.run(
                    command, env=environment(), capture_output=True, timeout=DEADLINE_S, check=False
                )
                self.assertEqual(len(done.stdout.splitlines()), count, redirection)
                self.assertEqual((done.returncode, done.stderr), (EXIT_OK, b""), redirection)

    def test_output_file(self) -> None:
        """The output may be a regular file, too."""
        address = self.relay().address()
        with tempfile.TemporaryFile() as file:
            program = self.start(address, "carol", stdout=file)
            program.communicate(b"%reverse%hi\n", DEADLINE_S)
            file.seek(0)
            self.assertEqual(file.read().splitlines()[1:], [b"%reverse%ih"])

    def test_output_closed(self) -> None:
        """Nobody reads the output: it ends, and says nothing."""
        address = self.relay().address()
        program = self.start(address, "carol")
        program.stdout.readline()
        program.stdout.close()
        self.assertEqual(program.wait(DEADLINE_S), EXIT_LOST)
        self.assertEqual(program.stderr.read(), b"")

    def test_refused(self) -> None:
        """A refused name is one sentence and a status of its own."""
        address = self.relay().address()
        status, printed, said = self.run_to_end(address, b"", "reverse")
        self.assertEqual((status, printed, said.count("\n")), (EXIT_REFUSED, b"", 1))
        self.assertIn("name-reserved", said)

    def test_unreachable(self) -> None:
        """An unreachable server is one sentence and a status of its own."""
        port = free_port()
        status, printed, said = self.run_to_end(("localhost", port), b"", "carol")
        self.assertEqual((status, printed), (EXIT_UNREACHABLE, b""))
        sentence = f"No relay at localhost port {port}: connection refused."
        self.assertEqual(said, f"chatrelay.client: {sentence}\n")

    def test_usage(self) -> None:
        """Bad usage is one sentence, too."""
        address = ("localhost", 1)
        for arguments in [
            (),
            ("a", "b"),
            ("a b",),
            ("--to", "b b", "carol"),
            ("--nonsense", "carol"),
            (os.fsdecode(b"--\xff"), "carol"),
        ]:
            status, _, said = self.run_to_end(address, b"", *arguments)
            self.assertEqual((status, said.count("\n")), (EXIT_USAGE, 1), said)
            self.assertTrue(said.endswith(". Try --help.\n"), said)

    def test_interrupted(self) -> None:
        """Ctrl-C ends it with 130, without a traceback."""
        program = self.start(self.relay().address(), "carol")
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(DEADLINE_S), EXIT_INTERRUPTED + signal.SIGINT)
        self.assertEqual(program.stderr.read(), b"")

    def test_quit(self) -> None:
        """A /quit among the lines ends it as the end of input does."""
        program = self.start(self.relay().address(), "carol")
        program.stdin.write(b"/quit\n")
        program.stdin.flush()
        self.assertEqual(program.wait(DEADLINE_S), EXIT_OK)
        self.assertEqual(program.stdout.read().splitlines()[1:], [b"!bye"])

    def test_reconnects(self) -> None:
        """When the relay comes back so does the client, and says what may be lost."""
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        relay = RelayProcess("--port", port)
        self.addCleanup(relay.end)
        program = self.start(relay.address(), "carol")
        self.assertTrue(program.stdout.readline().startswith(WELCOME))
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        self.assertTrue(program.stdout.readline().startswith(b"!error shutting-down"))
        self.assertIn(b"may not have arrived. Connecting again in ", program.stderr.readline())
        self.relay("--port", port)
        self.assertTrue(program.stdout.readline().startswith(WELCOME))
        program.stdin.write(b"%reverse%back\n")
        program.stdin.flush()
        self.assertEqual(program.stdout.readline(), b"%reverse%kcab\n")

    def test_20_mb(self) -> None:
        """A large file arrives whole at a reader that begins late; memory stays bounded."""
        address = self.relay().address()
        bob = self.start(address, "bob")
        bob.stdout.readline()
        with tempfile.NamedTemporaryFile() as file:
            line = b"%bob%" + b"x" * 100 + b"\n"
            count = 20_000_000 // len(line)
            file.write(line * count)
            file.flush()
            alice = self.start(address, "alice", stdin=Path(file.name).open("rb"))  # noqa: SIM115
            alice.stdout.readline()
            # Bob's output is full, so he reads nothing, so the relay holds alice.
            first = bob.stdout.readline()
            memory = Path(f"/proc/{alice.pid}/status").read_text(encoding="ascii")
            received = first + bob.stdout.read(len(first) * (count - 1))
            self.assertEqual(received, (b"%alice%" + b"x" * 100 + b"\n") * count)
            self.assertEqual(alice.wait(DEADLINE_S), EXIT_OK)
            peak_kib = int(re.search(r"VmHWM:\s+(\d+)", memory)[1])
            self.assertLess(peak_kib, 100_000)


class SendTests(ProgramCase):
    """``--send TO TEXT``."""

    def test_statuses(self) -> None:
        """What became of it, as a script sees it: the status, and one sentence if it failed."""
        address = self.relay().address()
        for arguments, status, words in [
            (("reverse", "hi"), EXIT_OK, ""),
            (("bob", "hi"), EXIT_NOT_DELIVERED, "(unknown-name)"),
            (("reverse", "hi", "--wait", "stored"), EXIT_ONLY_SENT, "not stored"),
            (("reverse", ""), EXIT_USAGE, "--send: "),
        ]:
            ended, printed, said = self.run_to_end(address, b"", "carol", "--send", *arguments)
            self.assertEqual((ended, printed), (status, b""), said)
            self.assertEqual(said.count("\n"), 1 if words else 0, said)
            self.assertIn(words, said)
        nowhere = ("localhost", free_port())
        task = ("a", "--send", "b", "c", "--timeout", "0.5")
        ended, _, said = self.run_to_end(nowhere, b"", *task)
        self.assertEqual((ended, said.count("\n")), (EXIT_UNREACHABLE, 2), said)

    def test_lines(self) -> None:
        """Each line of the input is a message, whatever the input is."""
        address = self.relay().address()
        bob = self.connect(address, "bob")
        given = "".join(f"{number} % \N{SNOWMAN}\n" for number in range(5000)).encode()
        ended, printed, said = self.run_to_end(address, given, "carol", "--send", "bob", "-")
        self.assertEqual((ended, printed, said), (EXIT_OK, b"", ""))
        self.assertEqual(bob.lines(5000)[-1], "%carol%4999 % \N{SNOWMAN}")
        with tempfile.TemporaryFile() as file:
            file.write(b"one\ntwo")
            file.seek(0)
            program = self.start(address, "carol", "--send", "bob", "-", stdin=file)
            self.assertEqual(program.wait(DEADLINE_S), EXIT_OK)
        self.assertEqual(bob.lines(2), ["%carol%one", "%carol%two"])

    def test_room(self) -> None:
        """A room is entered for a message, if it is there, and left."""
        address = self.relay().address()
        send = ("carol", "--send", "#ops")
        status, _, said = self.run_to_end(address, b"", *send, "hi")
        self.assertEqual(status, EXIT_NOT_DELIVERED)
        self.assertIn("(unknown-room)", said)
        bob = self.connect(address, "bob")
        bob.send("/join #ops")
        lines = [bob.line() for _ in range(3)]
        self.assertEqual(lines[-1], "!end members #ops 1")
        self.assertEqual(self.run_to_end(address, b"a\nb\n", *send, "-")[::2], (EXIT_OK, ""))
        heard = [bob.line() for _ in range(4)]
        self.assertEqual(
            heard,
            ["!joined #ops carol", "%#ops%carol%a", "%#ops%carol%b", "!left #ops carol"],
        )

    def test_relay_restarts(self) -> None:
        """What was not written yet goes when the relay is back; the input waits meanwhile."""
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        relay = RelayProcess("--port", port)
        self.addCleanup(relay.end)
        program = self.start(relay.address(), "carol", "--send", "reverse", "-")
        relay.wait_for_log("carol")
        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)
        program.stdin.write(b"one\n")
        program.stdin.flush()
        again = self.relay("--port", port)
        again.wait_for_log("carol")
        printed, said = program.communicate(b"two\n", DEADLINE_S)
        self.assertEqual((program.returncode, printed, said), (EXIT_OK, b"", b""))


class Terminal:
    """The terminal program on a terminal of its own."""

    def __init__(self, command: list[str], state: str | None = None) -> None:
        """
        Start it.

        :param state: its XDG state directory; ``None`` for an empty one.
        """
        self._own_state = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        state = state if state is not None else self._own_state.name
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            try:
                termios.tcsetwinsize(0, (40, 120))
                os.environ.update(environment(), TERM="xterm", NO_COLOR="1", XDG_STATE_HOME=state)
                os.execv(command[0], command)
            finally:
                os._exit(127)
        self.seen = ""
        self.raw = b""
        self._status: int | None = None

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def expect(self, text: str) -> None:
        """Wait until something is shown, and forget what was before."""
        ends_s = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            self._read(ends_s, f"{text!r} never shown in {self.seen!r}")
        self.seen = self.seen.partition(text)[2]

    def type_until(self, key: str, text: str) -> None:
        """Type a key again and again until something is shown."""
        ends_s = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            self.type(key)
            again_s = min(ends_s, time.monotonic() + 0.5)
            while text not in self.seen and time.monotonic() < again_s:
                if select.select([self._descriptor], [], [], 0.1)[0]:
                    self._read(ends_s, "")
            if time.monotonic() >= ends_s:
                raise AssertionError(f"{text!r} never shown in {self.seen!r}")
        self.seen = self.seen.partition(text)[2]

    def _read(self, ends_s: float, complaint: str) -> None:
        if not select.select([self._descriptor], [], [], max(0.0, ends_s - time.monotonic()))[0]:
            raise AssertionError(complaint)
        data = os.read(self._descriptor, 65536)
        # It asks where the cursor is; whatever the terminal, it is told.
        if b"\x1b[6n" in data:
            os.write(self._descriptor, b"\x1b[1;1R")
        self.raw += data
        self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode("utf-8", "replace"))

    def modes(self) -> list:
        """What the terminal does by itself: its echo and its lines, among others."""
        return termios.tcgetattr(self._descriptor)

    def wait(self) -> int:
        """Wait for the program's end; returns its exit status."""
        ends_s = time.monotonic() + DEADLINE_S
        try:
            while True:
                self._read(ends_s, f"it did not end: {self.seen!r}")
        except OSError:
            pass  # the program has closed the terminal
        self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def end(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        self._own_state.cleanup()


class TerminalTests(ProgramCase):
    """``python -m chatrelay.client`` on a terminal."""

    def terminal(self, address: tuple[str, int], *arguments: str) -> Terminal:
        terminal = Terminal(self.command(address, *arguments))
        self.addCleanup(terminal.end)
        return terminal

    def test_talk(self) -> None:
        """A target, its answer, its leaving, and the way out."""
        address = self.relay().address()
        bob = self.connect(address, "bob")
        terminal = self.terminal(address, "carol")
        terminal.expect("You are carol.")
        terminal.type("%bob%hello\r")
        self.assertEqual(bob.line(), "%carol%hello")
        terminal.expect("bob>")
        terminal.type("plain\r")
        self.assertEqual(bob.line(), "%carol%plain")
        bob.send("%carol%evil \u202etxt")
        terminal.expect("bob: evil \\u202etxt")
        bob.close()
        terminal.expect("bob left")
        terminal.type("secret\r")
        terminal.expect("would go to nobody")
        terminal.type("%bob%hi\r")
        terminal.expect('bob is not here: not delivered: "hi"')
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_completion(self) -> None:
        """TAB completes a name that is here."""
        terminal = self.terminal(self.relay().address(), "carol")
        terminal.expect("You are carol.")
        terminal.expect("carol>")
        terminal.type("%rev")
        # Who is here it knows only when the relay has answered that.
        terminal.type_until("\t", "erse%")  # only what changes is written
        terminal.type("abc\r")
        terminal.expect("reverse: cba")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_rooms(self) -> None:
        """A room and a person: what is unread, the key, TAB; and again after a connection."""
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        relay = RelayProcess("--port", port)
        self.addCleanup(relay.end)
        bob = self.connect(relay.address(), "bob")
        bob.send("/join #ops")
        self.assertEqual(bob.line(), "!joined #ops bob")
        terminal = self.terminal(relay.address(), "carol")
        terminal.expect("You are carol.")
        terminal.type("/join #ops\r")
        terminal.expect("In #ops: bob, carol")
        terminal.expect("carol to #ops>")
        terminal.type("%bob%hi\r")
        terminal.expect("carol to bob>")
        bob.send("%#ops%all of you")
        terminal.expect("#ops bob: all of you")
        terminal.expect("carol to bob [1 unread]>")
        terminal.type("\x1bn")
        terminal.expect("Unread of #ops: 1")
        terminal.expect("carol to #ops>")
        terminal.type("bo\t")
        terminal.expect("bob:")
        terminal.type("yes\r")
        terminal.expect("#ops carol: bob: yes")
        relay.signal(signal.SIGTERM)
        relay.wait()
        terminal.expect("Connecting again in ")
        terminal.type("in the gap\r")
        terminal.expect("this goes when there is")
        self.relay("--port", port)
        terminal.expect("#ops carol: in the gap")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_typed_in_the_gap(self) -> None:
        """What is typed while there is no connection goes on the next one."""
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        relay = RelayProcess("--port", port)
        self.addCleanup(relay.end)
        terminal = self.terminal(relay.address(), "carol")
        terminal.expect("You are carol.")
        relay.signal(signal.SIGTERM)
        relay.wait()
        terminal.expect("Connecting again in ")
        terminal.type("%reverse%abc\r")
        terminal.expect('this goes when there is: "abc"')
        self.relay("--port", port)
        terminal.expect("reverse: cba")

    def test_reconnects(self) -> None:
        """The target does not outlive the connection."""
        port = f"tcp:{free_port()}:interface=127.0.0.1"
        relay = RelayProcess("--port", port)
        self.addCleanup(relay.end)
        terminal = self.terminal(relay.address(), "--to", "reverse", "carol")
        terminal.expect("reverse>")
        terminal.type("hi\r")
        terminal.expect("reverse: ih")
        relay.signal(signal.SIGTERM)
        relay.wait()
        terminal.expect("reverse may be somebody else")
        terminal.expect("Connecting again in ")
        self.relay("--port", port)
        terminal.expect("You are carol.")
        terminal.type("plain\r")
        terminal.expect("would go to nobody")

    def test_refused(self) -> None:
        """A refused name: one sentence, and the same status as on a pipe."""
        terminal = self.terminal(self.relay().address(), "server")
        self.assertEqual(terminal.wait(), EXIT_REFUSED)
        self.assertIn("(name-reserved)", terminal.seen)

    def test_ctrl_c(self) -> None:
        """Ctrl-C drops the line that is being typed; on an empty one it leaves."""
        address = self.relay().address()
        terminal = self.terminal(address, "carol")
        terminal.expect("carol>")
        terminal.type("half a line\x03")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), EXIT_OK)

    def test_signals(self) -> None:
        """A signal ends it with 128 and its number; the terminal is as it was."""
        address = self.relay().address()
        for number in (signal.SIGTERM, signal.SIGINT):
            terminal = self.terminal(address, "carol")
            before = terminal.modes()
            terminal.expect("You are carol.")
            terminal.expect("carol>")
            self.assertNotEqual(terminal.modes(), before)
            os.kill(terminal.pid, number)
            self.assertEqual(terminal.wait(), EXIT_INTERRUPTED + number)
            self.assertEqual(terminal.modes(), before)
            self.assertNotIn("Traceback", terminal.seen)
            self.assertGreater(terminal.raw.rfind(b"[?2004l"), terminal.raw.rfind(b"[?2004h"))

    def test_paste(self) -> None:
        """Each line of a paste is a line."""
        terminal = self.terminal(self.relay().address(), "--to", "reverse", "carol")
        terminal.expect("reverse>")
        terminal.type("\x1b[200~abc\rdef\r\n\nghi\x1b[201~")
        terminal.type("j\r")
        for answer in ("cba", "fed", "jihg"):
            terminal.expect(f"reverse: {answer}")
        terminal.type("\x1b[200~/quit\rlate\x1b[201~\r")
        self.assertEqual(terminal.wait(), EXIT_OK)
        self.assertNotIn("etal", terminal.seen)
