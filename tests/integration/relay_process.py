"""
A relay in a process of its own, and clients on plain blocking sockets.

Everything waits on conditions, with a deadline that only a hang reaches.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import F_DUPFD, fcntl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.fork_server import ForkedProcess

DEADLINE_S = 60.0
CHECKOUT = Path(__file__).resolve().parents[2]

_LISTENS = re.compile(r"chatrelay listens on (\S+) port (\d+)")
# What twistd writes before each line: when, and which part of it speaks.
_LOG_PREFIX = re.compile(r"^\S+ \[[^]]*\] ")

Address = tuple[str, int] | str
"""A host and a port, or the path of a Unix socket."""


def _arguments(options: Sequence[str]) -> list[str]:
    return ["-n", "--pidfile=", "chatrelay", *options]


def twistd_command(*options: str) -> list[str]:
    """The command line of ``twistd -n chatrelay`` in this Python's environment."""
    twistd = Path(sys.executable).with_name("twistd")
    if twistd.exists():
        program = [sys.executable, str(twistd)]
    else:
        program = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    return [*program, *_arguments(options)]


# As systemd does it: the sockets from number 3 on, and their names in the environment.
_HANDS_OVER = """
import os, sys
names, numbers, *command = sys.argv[1:]
for place, number in enumerate(numbers.split(":"), 3):
    os.dup2(int(number), place)
os.environ |= {
    "LISTEN_PID": str(os.getpid()),
    "LISTEN_FDS": str(len(numbers.split(":"))),
    "LISTEN_FDNAMES": names,
}
os.execv(command[0], command)
"""
# Where none of those numbers is.
_FIRST_NUMBER = 100


def environment() -> dict[str, str]:
    """An environment in which the checkout can be imported."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Wait for something that nothing announces."""
    ends_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > ends_s:
            raise AssertionError(f"never came true: {what}")
        select.select([], [], [], 0.01)


_given_ports: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody has now, and that nobody who asks for any port is given by chance."""
    given = socket.socket()
    # Bound without listening it keeps nobody from listening there who says that he reuses
    # addresses, as relays do; other tests may run at the same time.
    given.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    given.bind(("127.0.0.1", 0))
    _given_ports.append(given)
    port: int = given.getsockname()[1]
    return port


class RelayProcess:
    """
    A running ``twistd -n chatrelay``.

    :ivar pid: of the process.
    :ivar directory: what it runs in; removed at the end.
    """

    def __init__(
        self,
        *options: str,
        inherited: Mapping[str, socket.socket] | None = None,
        is_executed: bool = False,
    ) -> None:
        """
        Start it.

        :param options: of ``twistd chatrelay``; with neither ``--port`` nor ``--config`` among
            them it listens on a free one of 127.0.0.1.
        :param inherited: sockets that listen already, by the names that they are handed over with.
        :param is_executed: whether it is started as a user starts it, and not by a fork server;
            with ``inherited`` it always is.
        """
        if not {"--port", "--config"} & {*options}:
            options = ("--port", "tcp:0:interface=127.0.0.1", *options)
        self.directory = tempfile.mkdtemp(prefix="chatrelay-test-")
        # Where its accounts are, unless it is told otherwise.
        state = {"XDG_STATE_HOME": self.directory}
        self._process: subprocess.Popen[bytes] | ForkedProcess
        if is_executed or inherited:
            self._process = self._execute(options, environment() | state, inherited or {})
        else:
            self._process = ForkedProcess(
                _arguments(options), self.directory, environment() | state
            )
        self.pid = self._process.pid
        self._changed = threading.Condition()
        self._output = b""
        self._has_ended = False
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _execute(
        self,
        options: Sequence[str],
        environment: Mapping[str, str],
        inherited: Mapping[str, socket.socket],
    ) -> subprocess.Popen[bytes]:
        command = twistd_command(*options)
        numbers = [fcntl(listening, F_DUPFD, _FIRST_NUMBER) for listening in inherited.values()]
        if inherited:
            names = ":".join(inherited)
            command = [
                sys.executable,
                "-c",
                _HANDS_OVER,
                names,
                ":".join(map(str, numbers)),
                *command,
            ]
        process = subprocess.Popen(
            command,
            pass_fds=numbers,
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in numbers:
            os.close(number)
        return process

    @property
    def output(self) -> str:
        """Everything it has written."""
        with self._changed:
            return self._output.decode("utf-8")

    def log(self) -> list[str]:
        """What it has logged, line by line, without times."""
        return [_LOG_PREFIX.sub("", line) for line in self.output.splitlines()]

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """
        Wait until its output matches.

        :param pattern: a regular expression, searched for in the log without its times.
        """
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            # A line that is still being written may not be matched in parts.
            log = "\n".join(self.log()[: self._output.count(b"\n")])
            match = re.search(pattern, log, re.MULTILINE)
            if match:
                found.append(match)
            return bool(match) or self._has_ended

        with self._changed:
            self._changed.wait_for(is_there, DEADLINE_S)
        if not found:
            raise AssertionError(f"no {pattern!r} in the log:\n{self.output}")
        return found[0]

    def ports(self, count: int = 1) -> list[tuple[str, int]]:
        """
        Where it listens, in the order it said so.

        :param count: of TCP ports; wait until it said so many.
        """
        self.wait_for_log(r"(?:.*\n)*?".join([_LISTENS.pattern] * count))
        return [(host, int(port)) for host, port in _LISTENS.findall(self.output)]

    def address(self) -> tuple[str, int]:
        """The first place it listens at."""
        return self.ports()[0]

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """
        What it occupies.

        :param field: ``VmRSS`` for now, ``VmHWM`` for the most it ever was.
        """
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024

    def used_s(self) -> float:
        """How much processor time it has used, in seconds, with all its threads."""
        # What clock_getcpuclockid makes of a process.
        return time.clock_gettime((~self.pid << 3) | 2)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        status = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status

    def end(self) -> None:
        """End it, whatever state it is in, and remove its directory."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while True:
            data = os.read(descriptor, 65536)
            with self._changed:
                self._output += data
                self._has_ended = not data
                self._changed.notify_all()
            if not data:
                return


class Client:
    """A client without any knowledge of the protocol: lines in, lines out."""

    def __init__(
        self,
        address: Address,
        name: str | None = None,
        *,
        receive_buffer_bytes: int | None = None,
        source: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """
        Connect.

        :param name: what to be called; wait for the welcome.
        :param receive_buffer_bytes: how much the kernel takes for one that does not read.
        :param source: the address to come from.
        :param context: for a client that speaks TLS, to a relay that it knows as localhost.
        """
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(address)
        if context is not None:
            # An end that TLS was not told of raises.
            self.socket = context.wrap_socket(
                self.socket, server_hostname="localhost", suppress_ragged_eofs=False
            )
        self._received = b""
        if name is not None:
            self.send(name)
            self.expect("!welcome ")

    @property
    def port(self) -> int:
        """The port it comes from."""
        port: int = self.socket.getsockname()[1]
        return port

    def send(self, *lines: str) -> None:
        """Send lines."""
        self.send_bytes("".join(f"{line}\n" for line in lines).encode())

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def line(self) -> str:
        """
        Wait for the next line.

        :raises EOFError: the relay has closed the connection.
        """
        while b"\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"closed after {self._received!r}")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode().removesuffix("\r")

    def lines(self, count: int) -> list[str]:
        """Wait for several lines."""
        return [self.line() for _ in range(count)]

    def expect(self, beginning: str) -> str:
        """Skip lines up to one that begins like this, and return it."""
        while True:
            line = self.line()
            if line.startswith(beginning):
                return line

    def expect_bytes(self, size: int) -> int:
        """Read this many bytes or a little more and forget them; return how many they were."""
        taken = len(self._received)
        self._received = b""
        while taken < size:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError(f"closed after {taken} of {size} bytes")
            taken += len(data)
        return taken

    def rest(self) -> list[str]:
        """Read to the end of the connection; a reset is an end, too, also under TLS."""
        lines = []
        with contextlib.suppress(EOFError, ConnectionResetError, ssl.SSLEOFError):
            while True:
                lines.append(self.line())
        return lines

    def ping(self) -> float:
        """Wait until everything sent before is served; return the seconds that took."""
        began_s = time.perf_counter()
        self.send("/ping now")
        self.expect("!pong now")
        return time.perf_counter() - began_s

    def end_input(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection the rude way."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()

    def close(self) -> None:
        """End the connection; more than once is once."""
        self.socket.close()


class RelayTestCase(SynchronousTestCase):
    """
    A test with relays and clients, which end with it.

    :cvar context: what clients speak TLS with, if they do.
    :cvar is_executed: whether its relays are started as a user starts them.
    """

    context: ssl.SSLContext | None = None
    is_executed = False

    def relay(self, *options: str) -> RelayProcess:
        """Start a relay."""
        relay = RelayProcess(*options, is_executed=self.is_executed)
        self.addCleanup(self._end, relay)
        return relay

    def connect(
        self,
        address: Address,
        name: str | None = None,
        *,
        receive_buffer_bytes: int | None = None,
        source: str | None = None,
    ) -> Client:
        """Connect a client; the parameters are those of `Client`."""
        client = Client(
            address,
            name,
            receive_buffer_bytes=receive_buffer_bytes,
            source=source,
            context=self.context,
        )
        self.addCleanup(client.close)
        return client

    def allow_files(self, count: int) -> None:
        """Let this process, and those it starts, open so many; skip the test if it may not."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < count:
            if hard != resource.RLIM_INFINITY and hard < count:
                self.skipTest(
                    f"this test opens {count} files and may open {hard}: raise the hard limit,"
                    " with limits.conf of Debian's package libpam-modules"
                )
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def _end(self, relay: RelayProcess) -> None:
        relay.end()
        # Whatever the test looked at: nothing it did may have raised in the relay.
        for sign in ("Traceback", "Unhandled error", "#critical"):
            self.assertNotIn(sign, relay.output)


def run_twistd(options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start ``twistd -n chatrelay`` for one that is expected to end by itself."""
    return subprocess.Popen(
        twistd_command(*options),
        cwd=tempfile.gettempdir(),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def fork_twistd(options: Sequence[str]) -> ForkedProcess:
    """The same in a process that is forked."""
    return ForkedProcess(_arguments(options), tempfile.gettempdir(), environment())
