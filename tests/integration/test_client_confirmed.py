"""Messages that are not lost, as users of the programs see them, over kills of both sides."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from chatrelay.client.options import EXIT_NOT_DELIVERED, EXIT_OK, EXIT_ONLY_SENT, EXIT_TIMED_OUT
from chatrelay.client.reading import BEGINNING, END
from tests.integration.relay_process import DEADLINE_S, Client, RelayProcess, eventually, free_port
from tests.integration.test_client_programs import ProgramCase, Terminal

SECRETS = {"alice": "correct-horse-battery", "bob": "zebra-horse-battery"}


class ConfirmedCase(ProgramCase):
    """A relay that keeps its data over restarts, on one port; alice and bob are registered."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.state = str(self.directory / "state")
        self.port = f"tcp:{free_port()}:interface=127.0.0.1"
        self.start_relay()
        for name, secret in SECRETS.items():
            client = self.connect(self.address, name)
            client.send(f"/register {secret}")
            client.expect(f"!registered {name}")
            client.close()
            path = self.directory / name
            path.write_text(secret + "\n", encoding="utf-8")
            path.chmod(0o600)

    def start_relay(self) -> None:
        data = str(self.directory / "data")
        self.running: RelayProcess = self.relay("--port", self.port, "--data", data)
        self.address = self.running.address()

    def kill_relay(self) -> None:
        self.running.signal(signal.SIGKILL)
        self.running.wait()

    def as_owner(self, name: str, *arguments: str) -> list[str]:
        """The command line of a program under a registered name."""
        secret = str(self.directory / name)
        return self.command(self.address, "--secret-file", secret, name, *arguments)

    def send(self, *arguments: str, given: bytes = b"", name: str = "alice") -> tuple[int, str]:
        """Send to bob, and wait for the end: the status and what was said."""
        program = self.start_send(*arguments, name=name)
        _, said = program.communicate(given, DEADLINE_S)
        return program.returncode, said.decode()

    def start_send(self, *arguments: str, name: str = "alice") -> subprocess.Popen[bytes]:
        return self.start(
            self.address,
            *("--secret-file", str(self.directory / name), name, "--send", "bob", *arguments),
        )

    def read(self, name: str = "bob") -> Client:
        """A connection of the owner that acks what it is sent when it says so."""
        client = self.connect(self.address)
        client.send("/caps ack receipts", f"{name} {SECRETS[name]}")
        client.expect("!welcome ")
        return client


class SendTests(ConfirmedCase):
    """``--send`` with ``--wait``."""

    def test_levels(self) -> None:
        """What each level is reached by, and what is said if it is not."""
        self.assertEqual(self.send("one", "--wait", "stored"), (EXIT_OK, ""))
        status, said = self.send("two", "--wait", "acked", "--timeout", "0.5")
        self.assertEqual((status, said.count("\n")), (EXIT_TIMED_OUT, 1))
        self.assertIn("Stored for bob, but not acked within 0.5 s.", said)
        plain = self.connect(self.address)
        plain.send(f"bob {SECRETS['bob']}")
        plain.expect("%alice%two")
        status, said = self.send("three", "--wait", "stored")
        self.assertEqual((status, said.count("\n")), (EXIT_ONLY_SENT, 1))
        plain.send("/block alice")
        plain.expect("!blocked alice")
        status, said = self.send("four")
        self.assertEqual((status, said.count("\n")), (EXIT_NOT_DELIVERED, 1))
        self.assertIn("(blocked)", said)

    def test_acked(self) -> None:
        """It ends when the recipient's program has acked the message, not before."""
        bob = self.read()
        program = self.start_send("hi", "--wait", "acked")
        line = bob.expect("@id=")
        self.assertTrue(line.endswith(" %alice%hi"))
        bob.ping()
        self.assertIsNone(program.poll())
        bob.send(f"/ack {line[4:].partition(' ')[0].partition(';')[0]}")
        self.assertEqual(program.wait(DEADLINE_S), EXIT_OK)

    def test_killed_relay(self) -> None:
        """What the relay had taken, or had not, when it was killed is stored once."""
        for is_stopped in (False, True):
            given = b"".join(b"%d\n" % number for number in range(1, 300))
            program = self.start_send("-", "--wait", "stored")
            assert program.stdin is not None
            program.stdin.write(b"0\n")
            program.stdin.flush()
            bob = self.read()
            bob.expect("@id=")
            bob.close()
            if is_stopped:
                self.running.signal(signal.SIGSTOP)
            program.stdin.write(given)
            program.stdin.flush()
            self.kill_relay()
            self.start_relay()
            _, said = program.communicate(timeout=DEADLINE_S)
            self.assertEqual((program.returncode, said), (EXIT_OK, b""))
            bob = self.read()
            texts = [bob.expect("@id=").partition(" ")[2] for _ in range(300)]
            self.assertEqual(texts, [f"%alice%{number}" for number in range(300)])
            bob.send("@ref=last /history 1")
            newest = bob.expect("@ref=last;id=")
            self.assertTrue(newest.endswith(" %alice%299"), newest)
            bob.send(f"/ack {newest.partition('id=')[2].partition(';')[0]}")
            bob.expect("!acked ")
            bob.close()

    def test_mail_of_the_sender(self) -> None:
        """What is sent to the name meanwhile stays unread."""
        self.send("to alice", name="bob")
        program = self.start(
            *(self.address, "--secret-file", str(self.directory / "bob"), "bob"),
            *("--send", "alice", "for alice", "--wait", "stored"),
        )
        self.assertEqual(program.wait(DEADLINE_S), EXIT_OK)
        self.assertEqual(self.send("hi", "--wait", "stored"), (EXIT_OK, ""))
        alice = self.read("alice")
        self.assertTrue(alice.expect("@id=").endswith("%bob%for alice"))


class PipeTests(ConfirmedCase):
    """Lines of a pipe that have a ref."""

    def test_killed_relay(self) -> None:
        """They go again under a registered name until they are answered, once each."""
        program = self.start(self.address, "--secret-file", str(self.directory / "alice"), "alice")
        assert program.stdout is not None
        self.assertTrue(program.stdout.readline().startswith(b"!welcome alice "))
        self.running.signal(signal.SIGSTOP)
        assert program.stdin is not None
        given = b"".join(b"@ref=r%d %%bob%%%d\n" % (number, number) for number in range(100))
        program.stdin.write(given)
        program.stdin.close()
        program.stdin = None
        # The end of the input is on its way, too.
        eventually("the input is read", self._is_half_closed)
        self.kill_relay()
        self.start_relay()
        printed, said = program.communicate(timeout=DEADLINE_S)
        self.assertEqual(program.returncode, EXIT_OK, said)
        self.assertIn(b"goes again (100 messages)", said)
        stored = [line for line in printed.splitlines() if b" !stored bob id=" in line]
        self.assertEqual(len(stored), 100)
        bob = self.read()
        bob.send("@ref=last /history 200")
        bob.expect("@ref=last !end history 100")

    def _is_half_closed(self) -> bool:
        # The client closes its side of the connection when it has read to the end.
        sockets = Path("/proc/net/tcp").read_text(encoding="ascii")
        remote_port_and_state = f":{self.address[1]:04X} 05 "  # FIN-WAIT-2
        return remote_port_and_state in sockets


class TerminalTests(ConfirmedCase):
    """What the terminal program shows of what was missed."""

    def terminal(self, name: str = "bob") -> Terminal:
        terminal = Terminal(self.as_owner(name), self.state)
        self.addCleanup(terminal.end)
        terminal.expect(f"You are {name}.")
        return terminal

    def test_missed(self) -> None:
        """It is shown once, whoever has it by then, over restarts of both sides."""
        terminal = self.terminal()
        self.send("live", "--wait", "acked")
        terminal.expect("alice: live")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)

        self.send("seen elsewhere", "--wait", "stored")
        phone = self.connect(self.address)
        phone.send(f"bob {SECRETS['bob']}")
        phone.expect("%alice%seen elsewhere")
        phone.close()
        self.send("seen by nobody", "--wait", "stored")
        self.kill_relay()
        self.start_relay()

        terminal = self.terminal()
        terminal.expect(BEGINNING)
        terminal.expect("alice: seen elsewhere")
        terminal.expect("alice: seen by nobody")
        terminal.expect(END)
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)
        self.assertNotIn("alice: live", terminal.raw.decode())
        self.assertEqual(terminal.raw.decode().count("seen by nobody"), 1)

        terminal = self.terminal()
        self.send("new", "--wait", "acked")
        terminal.expect("alice: new")
        self.assertNotIn("seen", terminal.raw.decode())

    def test_first_start(self) -> None:
        """Nothing old is shown at the first start; what is unread is."""
        self.send("old", "--wait", "stored")
        phone = self.read()
        identity = phone.expect("@id=")[4:].partition(" ")[0]
        phone.send(f"/ack {identity}")
        phone.expect("!acked ")
        phone.close()
        self.send("unread", "--wait", "stored")
        terminal = self.terminal()
        terminal.expect("alice: unread")
        self.assertNotIn("old", terminal.raw.decode())

    def test_killed(self) -> None:
        """Killed when it has acked, it shows nothing again; what came meanwhile it does."""
        terminal = self.terminal()
        self.assertEqual(self.send("one", "--wait", "acked"), (EXIT_OK, ""))
        os.kill(terminal.pid, signal.SIGKILL)
        self.send("two", "--wait", "stored")
        terminal = self.terminal()
        terminal.expect("alice: two")
        terminal.expect(END)
        self.assertNotIn("alice: one", terminal.raw.decode())

    def test_lines_over_a_kill(self) -> None:
        """A line that was on its way when the relay was killed goes again, once."""
        terminal = self.terminal("alice")
        terminal.type("%bob%one\r")
        terminal.expect("what you write is kept for them")
        self.running.signal(signal.SIGSTOP)
        terminal.type("two\r")
        terminal.expect("to bob: two")
        self.kill_relay()
        terminal.expect('it goes again on the next connection: "two"')
        terminal.type("three\r")
        terminal.expect('this goes when there is: "three"')
        self.start_relay()
        terminal.expect("to bob: three")
        terminal.type("/quit\r")
        self.assertEqual(terminal.wait(), EXIT_OK)
        bob = self.read()
        bob.send("@ref=all /history")
        texts = [bob.expect("@ref=all;id=").partition(" ")[2] for _ in range(3)]
        self.assertEqual(texts, ["%alice%one", "%alice%two", "%alice%three"])
        bob.expect("@ref=all !end history 3")
