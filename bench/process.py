"""Processes: what one uses, as Linux tells it, and one that is started and ended."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_S = 20.0
_END_S = 5.0


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text("ascii").split()]
            except OSError:  # ended meanwhile
                continue
    return found


def cpu_s(pid: int) -> float:
    """The processor seconds that a process has used, with its threads and its children."""
    ticks = 0
    for member in family(pid):
        stat = Path(f"/proc/{member}/stat").read_text("utf-8", "replace")
        fields = stat.rpartition(")")[2].split()
        # Own and ended children's, in user and in system mode.
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


def machine_cpu_s() -> float:
    """The processor seconds that everything on this machine has used."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _waiting, irq, soft_irq, stolen = map(int, fields[:8])
    return (user + nice + system + irq + soft_irq + stolen) / _TICKS_PER_S


class Used:
    """What the relay, the generator and all others on this machine use from now on."""

    def __init__(self, pid: int) -> None:
        """
        Begin.

        :param pid: the relay's; the generator is this process.
        """
        self._pid = pid
        self._before = self._now()

    def since(self, took_s: float) -> tuple[float, dict[str, float]]:
        """The seconds of the relay, and the share of one core of each."""
        server_s, own_s, all_s = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        return server_s, {
            "server_share": server_s / took_s,
            "generator_share": own_s / took_s,
            "others_share": max(0.0, all_s - server_s - own_s) / took_s,
        }

    def _now(self) -> tuple[float, float, float]:
        return cpu_s(self._pid), time.process_time(), machine_cpu_s()


def memory_bytes(pid: int) -> int:
    """The memory that a process and its children occupy."""
    pages = 0
    for member in family(pid):
        pages += int(Path(f"/proc/{member}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def allow_files() -> int:
    """Let this process, and those it starts, open as many files as they may; return the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


class Served:
    """
    A relay that was started and accepts connections.

    :ivar pid: of its process.
    :ivar port: of loopback.
    :ivar directory: its own, with what it writes; removed at the end.
    """

    def __init__(self, directory: Path, port: int) -> None:
        """Prepare for a relay in this directory, which nobody else uses."""
        self.directory = directory
        self.port = port
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def prepare(cls) -> Served:
        """A new directory and a free port."""
        directory = Path(tempfile.mkdtemp(prefix="chatrelay-bench-"))
        # Some relays give up root's rights and still have to read their configuration.
        directory.chmod(0o755)
        return cls(directory, free_port())

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """
        Start the relay, and wait until it accepts connections.

        :raises RuntimeError: it does not; with the end of what it wrote.
        """
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                cwd=self.directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid
        ends_s = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), _START_S).close()
            except OSError:
                if self._process.poll() is None and time.monotonic() < ends_s:
                    time.sleep(0.02)
                    continue
                written = (self.directory / "log").read_text("utf-8", "replace")
                self.end()
                raise RuntimeError(f"it does not start: {written[-500:].strip()}") from None
            return

    def end(self) -> None:
        """End it and remove what it wrote."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
