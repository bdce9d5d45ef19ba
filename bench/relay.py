"""One relay: how it is started, and what it can be measured at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench.certificate import CERTIFICATE, write_certificate
from bench.process import Served

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON_PATH = {"PYTHONPATH": str(CHECKOUT)}


@dataclass(frozen=True)
class Relay:
    """
    One relay.

    :ivar name: what it is called in ``--relays``.
    :ivar label: what it is called in the table.
    :ivar dialect: of `bench.dialects.DIALECTS`.
    :ivar command: what starts it, for its directory and port.
    :ivar program: what has to be installed.
    :ivar installed_by: the line that does that.
    :ivar environment: what it gets beside ours.
    :ivar works: what it can be measured at.
    :ivar options: that chatrelay is started with, each with its value, if it knows them.
    :ivar confirming: of `bench.confirming.CONFIRMING`, where it keeps messages.
    :ivar keeps: where a message is when its sender reads the confirmation, in words.
    :ivar keeps_acks: and what a recipient has acked.
    :ivar is_secured: whether it is spoken to over TLS.
    :ivar may_have_accounts: whether names can be owned on it, if it is not older than that.
    :ivar at_once: connections underway in (e): of those that it does not listen for, the
        kernel makes each wait for seconds.
    """

    name: str
    label: str
    dialect: str
    command: Callable[[Path, int], list[str]]
    program: str = ""
    installed_by: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    works: frozenset[str] = frozenset("abcde")
    options: tuple[tuple[str, str], ...] = ()
    confirming: str = ""
    keeps: str = ""
    keeps_acks: str = ""
    is_secured: bool = False
    may_have_accounts: bool = False
    at_once: int = 256

    @property
    def is_missing(self) -> bool:
        """Whether its program is not installed."""
        return bool(self.program) and find(self.program) is None

    @property
    def has_accounts(self) -> bool:
        """Whether names can be owned on it, and it is told where to keep that."""
        return self.may_have_accounts and self._knows("--data")

    @property
    def has_history(self) -> bool:
        """Whether owned names have a history on it."""
        return self._knows("--history") and ("--history", "none") not in self.options

    @property
    def keeps_messages(self) -> bool:
        """Whether it keeps messages for those who are away."""
        return bool(self.confirming) and (not self.may_have_accounts or self._knows("--history"))

    def start(self, data: Path | None = None, options: Sequence[tuple[str, str]] = ()) -> Served:
        """
        Start it on a free port of loopback.

        :param data: where it keeps its accounts; without it, a directory that ends with it.
        :param options: more of `options`, for this time and for chatrelay alone.
        """
        served = Served.prepare()
        command = self.command(served.directory, served.port)
        if self.has_accounts:
            command += ["--data", str(data or served.directory / "data")]
        for option, value in [*self.options, *options]:
            if self._knows(option):
                command += [option, value]
        served.start(command, {**PYTHON_PATH, **self.environment})
        return served

    def _knows(self, option: str) -> bool:
        return _has_option(option, tuple({**PYTHON_PATH, **self.environment}.items()))

    def task(self, served: Served) -> dict[str, Any]:
        """What a generator has to know of it once it runs."""
        task: dict[str, Any] = {"dialect": self.dialect, "port": served.port, "pid": served.pid}
        if self.is_secured:
            task["certificate"] = str(served.directory / CERTIFICATE)
        if self.confirming:
            task["confirming"] = self.confirming
        return task


def find(program: str) -> str | None:
    """Where a program is, for those too whose path has none of root's."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def twistd() -> list[str]:
    """What starts Twisted's own program."""
    program = Path(sys.executable).with_name("twistd")
    if program.exists():
        return [sys.executable, str(program)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


@cache
def _has_option(option: str, environment: tuple[tuple[str, str], ...]) -> bool:
    """Whether the chatrelay of this environment has an option."""
    asked = subprocess.run(  # noqa: S603 - the command is ours
        [*twistd(), "chatrelay", "--help"],
        env={**os.environ, **dict(environment)},
        capture_output=True,
        check=False,
    )
    return option.encode() in asked.stdout


def configured(program: str, configuration: str, *options: str) -> Callable[[Path, int], list[str]]:
    """
    A command that starts a program with a file.

    :param configuration: of it, with ``{port}``, ``{directory}``, and with ``{certificate}`` and
        ``{key}`` where it needs them.
    """

    def command(directory: Path, port: int) -> list[str]:
        path = directory / f"{program}.conf"
        files = {}
        if "{certificate}" in configuration:
            files["certificate"], files["key"] = write_certificate(directory)
        path.write_text(
            configuration.format(port=port, directory=directory, **files), encoding="utf-8"
        )
        return [find(program) or program, *options, str(path)]

    return command
