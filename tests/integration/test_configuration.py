"""A configuration file, as an operator uses one: checked, started with, and changed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from tests.integration.relay_process import (
    DEADLINE_S,
    RelayTestCase,
    environment,
    run_twistd,
    twistd_command,
)
from tests.store_harness import temporary_directory

# Becomes another program, whose terminal is its input.
ON_TERMINAL = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
PORT = 'ports = ["tcp:0:interface=127.0.0.1"]\n'


class ConfigurationTests(RelayTestCase):
    def setUp(self) -> None:
        self.path = temporary_directory(self) / "relay.toml"

    def write(self, text: str) -> None:
        self.path.write_text(text, "utf-8")

    def run_to_its_end(self, *options: str) -> tuple[int, list[str]]:
        """Start a relay that ends by itself: its status, and what it said about the file."""
        with run_twistd(("--config", str(self.path), *options)) as process:
            try:
                output = process.communicate(timeout=DEADLINE_S)[0].decode()
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        lines = output.splitlines()
        self.assertNotIn("Traceback", output)
        return process.returncode, [line.replace(f"{self.path}: ", "") for line in lines]

    def read_more(self, process: subprocess.Popen[bytes], said: bytes) -> bytes:
        """What a relay says next; fail if it says nothing more."""
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        more = os.read(process.stdout.fileno(), 65536) if readable else b""
        self.assertNotEqual(more, b"", said)
        return more

    def test_checking_a_good_file(self) -> None:
        self.write(PORT + "[limits]\nmax-clients = 5\n")
        status, said = self.run_to_its_end("--check-config")
        self.assertEqual((status, said), (0, ["chatrelay: nothing is wrong"]))

    def test_checking_a_bad_file_and_starting_with_it(self) -> None:
        self.write("ports = [70000, 'nosuch:1']\n[limits]\nmax_clients = 5\nmax-line = 1\n")
        for options in (["--check-config"], []):
            status, said = self.run_to_its_end(*options)
            self.assertEqual(status, 1)
            self.assertEqual(
                said,
                [
                    "chatrelay: ports[0]: 70000 is not a port number or an endpoint string",
                    "chatrelay: limits.max_clients: there is no such key; was max-clients meant?",
                    "chatrelay: limits.max-line: 1 is not a whole number from 512 to 65536",
                ],
            )

    def test_a_relay_that_runs_takes_over_what_can_change(self) -> None:
        self.write(PORT + "[limits]\nmax-watches = 1\n")
        relay = self.relay("--config", str(self.path))
        relay.wait_for_log(rf"the configuration is read from {self.path}")
        alice = self.connect(relay.address(), "alice")
        alice.send("/watch bob carol")
        self.assertTrue(alice.line().startswith("!error too-many-watches "))

        self.write(PORT + "verbos = true\n[limits]\nmax-watches = 2\n")
        relay.signal(signal.SIGHUP)
        relay.wait_for_log(r"not taken over: .*verbos: there is no such key; was verbose meant\?")
        alice.send("/watch bob carol")
        self.assertTrue(alice.line().startswith("!error too-many-watches "))

        self.write('ports = [1, "tls:2"]\ndata = "none"\n[limits]\nmax-watches = 2\n')
        relay.signal(signal.SIGHUP)
        relay.wait_for_log(r"not taken over: .*: ports: 'tls:2' needs certificate=FILE")

        self.write('ports = [1, 2]\noperators = ["alice"]\n[limits]\nmax-watches = 2\n')
        relay.signal(signal.SIGHUP)
        relay.wait_for_log(r": ports is tcp:0:interface=127.0.0.1 until a restart makes it 1, 2$")
        relay.wait_for_log(r": limits.max-watches is 2 now, it was 1$")
        # The name was hers as long as nobody had to own it.
        self.assertTrue(alice.rest()[-1].startswith("!error name-reserved alice "))
        bob = self.connect(relay.address(), "bob")
        bob.send("/watch alice carol")
        self.assertEqual(bob.lines(2), ["!offline alice", "!offline carol"])

        relay.signal(signal.SIGTERM)
        self.assertEqual(relay.wait(), 0)

    def test_without_a_file_there_is_nothing_to_be_read_again(self) -> None:
        relay = self.relay()
        alice = self.connect(relay.address(), "alice")
        relay.signal(signal.SIGHUP)
        relay.wait_for_log("no --config was given")
        alice.ping()

    def test_a_terminal_that_is_closed_ends_the_relay(self) -> None:
        ours, theirs = os.openpty()
        options = ("--port", "tcp:0:interface=127.0.0.1", "--data", "none")
        with subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *twistd_command(*options)],
            cwd=self.path.parent,
            env=environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self.addCleanup(process.kill)
            os.close(theirs)
            said = b""
            while b"port" not in said or b"quick path" not in said:
                said += self.read_more(process, said)
            process.send_signal(signal.SIGHUP)
            while b"no --config was given" not in said:
                said += self.read_more(process, said)
            os.close(ours)
            said += process.communicate(timeout=DEADLINE_S)[0]
            self.assertEqual(process.returncode, 0, said)
        self.assertNotIn(b"Traceback", said)
