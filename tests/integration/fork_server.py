"""
Starts relays in processes that have imported everything already.

To start Python and to import Twisted takes much longer than most of what a test then asks of its
relay.  So one process imports it, once for each run of the tests, and forks.  What it has forked
does what ``twistd -n chatrelay`` does: the same function, arguments, environment and directory,
and a process of its own that is ended, killed and measured as any other.  What is not tried like
that is the start itself, for which `RelayProcess` can be told to execute it.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

# What a relay imports until it listens.  The reactor is not among it: it can not be forked.
_MODULES = (
    *("chatrelay.accounts.service", "chatrelay.options", "chatrelay.service"),
    *("twisted.application.app", "twisted.internet.endpoints", "twisted.internet.epollreactor"),
    *("twisted.internet.ssl", "twisted.protocols.haproxy", "twisted.scripts._twistd_unix"),
    *("twisted.scripts.twistd", "twisted.plugins"),
)
_MAX_REQUEST_BYTES = 1 << 17
_END_S = 60.0


class ForkedProcess:
    """
    A process that a fork server started, with what `subprocess.Popen` has of methods.

    :ivar pid: of the process.
    :ivar stdout: what it writes, to either.
    """

    def __init__(self, arguments: Sequence[str], cwd: str, environment: Mapping[str, str]) -> None:
        """
        Start it.

        :param arguments: of ``twistd``.
        :param cwd: the directory that it runs in.
        :param environment: all that it has.
        """
        readable, writable = os.pipe()
        self.stdout: IO[bytes] = os.fdopen(readable, "rb", buffering=0)
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([[*arguments], cwd, {**environment}]).encode()
        with telling:
            socket.send_fds(_server(), [request], [writable, telling.fileno()])
        os.close(writable)
        self._status: int | None = None
        told = self._told.recv(32)
        if not told:
            raise RuntimeError("the fork server has ended; what it said is above")
        self.pid = int(told)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal that ended it; ``None`` while it runs."""
        return self._status_within(0.0)

    def wait(self, timeout: float) -> int:
        """
        Wait for its end; return its exit status.

        :param timeout: how long, in seconds.
        :raises subprocess.TimeoutExpired: it still runs.
        """
        status = self._status_within(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("a forked relay", timeout)
        return status

    def _status_within(self, timeout_s: float) -> int | None:
        if self._status is None and select.select([self._told], [], [], timeout_s)[0]:
            self._status = int(self._told.recv(32))
            self._told.close()
        return self._status

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            # It may have ended since, and the server has waited for it already.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """End it, whatever state it is in; nothing more can be read."""
        self.kill()
        self.wait(_END_S)
        self.stdout.close()


_starting = threading.Lock()
_servers: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


def _server() -> socket.socket:
    """The connection to the fork server, which is started by the first who asks."""
    with _starting:
        if not _servers:
            _servers.append(_start_server())
    return _servers[0][0]


def _start_server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        # It ends when this process does, as then nobody has the other end.
        server = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main({its.fileno()})"],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PYTHONUNBUFFERED": "1",
            },
        )
    return ours, server


# -- in the server


def main(descriptor: int) -> None:
    """
    Fork relays until nobody can ask for one; in each of them, run it.

    :param descriptor: of the socket that requests come from.
    """
    for name in _MODULES:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    # Who interrupts the tests means the relays, too, but not this one.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_forked = _serve(socket.socket(fileno=descriptor))
    if run_forked is not None:
        signal.signal(signal.SIGINT, interrupted)
        run_forked()


def _serve(requests: socket.socket) -> Callable[[], Any] | None:
    """Answer requests; returns in the forked process, with what it has to run, and at the end."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not requests:
                pid, telling = key.data
                _, status = os.waitpid(pid, 0)
                _tell(telling, os.waitstatus_to_exitcode(status))
                telling.close()
                selector.unregister(key.fileobj)
                os.close(key.fd)
                continue
            request, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 2)
            if not request:
                return None
            output, telling = descriptors[0], socket.socket(fileno=descriptors[1])
            pid = os.fork()
            if not pid:
                for other in [*selector.get_map().values()]:
                    if other.data is not None:
                        other.data[1].close()
                        os.close(other.fd)
                selector.close()
                requests.close()
                telling.close()
                return _become(output, *json.loads(request))
            os.close(output)
            _tell(telling, pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, telling))


def _tell(telling: socket.socket, number: int) -> None:
    with suppress(OSError):  # The test does not want to know.
        telling.send(b"%d" % number)


def _become(
    output: int, arguments: list[str], cwd: str, environment: dict[str, str]
) -> Callable[[], Any]:
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["twistd", *arguments]
    run: Callable[[], Any] = import_module("twisted.scripts.twistd").run
    return run
