"""The relays that are measured, and how each is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import chatrelay
from bench.certificate import CERTIFICATE, write_certificate
from bench.process import Served
from bench.results import SECURED

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON_PATH = {"PYTHONPATH": str(CHECKOUT)}

_NATS = """\
listen: "127.0.0.1:{port}"
"""
_NATS_TLS = """\
listen: "127.0.0.1:{port}"
tls {{ cert_file: "{certificate}", key_file: "{key}" }}
"""
_TLS_PORT = "tls:{port}:certificate={certificate}:key={key}"
# Penalties and limits would hold senders back on purpose.
_NGIRCD = """\
[Global]
Name = bench.example.net
Info = bench
Listen = 127.0.0.1
Ports = {port}
MotdPhrase = bench
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
SyslogFacility = local1
"""
# Without the bound it drops messages, the more the faster it is sent to.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
set_tcp_nodelay true
"""


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
    is_secured: bool = False
    may_have_accounts: bool = False
    at_once: int = 256

    @property
    def is_missing(self) -> bool:
        """Whether its program is not installed."""
        return bool(self.program) and _find(self.program) is None

    @property
    def has_accounts(self) -> bool:
        """Whether names can be owned on it, and it is told where to keep that."""
        settings = tuple({**PYTHON_PATH, **self.environment}.items())
        return self.may_have_accounts and _has_option("--data", settings)

    def start(self, data: Path | None = None) -> Served:
        """
        Start it on a free port of loopback.

        :param data: where it keeps its accounts; without it, a directory that ends with it.
        """
        served = Served.prepare()
        command = self.command(served.directory, served.port)
        if self.has_accounts:
            command += ["--data", str(data or served.directory / "data")]
        served.start(command, {**PYTHON_PATH, **self.environment})
        return served

    def task(self, served: Served) -> dict[str, Any]:
        """What a generator has to know of it once it runs."""
        task = {"dialect": self.dialect, "port": served.port, "pid": served.pid}
        if self.is_secured:
            task["certificate"] = str(served.directory / CERTIFICATE)
        return task


def chatrelay_variant(name: str, environment: Mapping[str, str]) -> Relay:
    """
    The same chatrelay under another name and with an environment of its own.

    :param name: one that ends in ``-tls`` is spoken to over TLS.
    """
    relay = _CHATRELAY_TLS if name.endswith(SECURED) else _CHATRELAY
    return replace(relay, name=name, label=name, environment=environment)


def has_compiled_parts() -> bool:
    """Whether chatrelay runs with anything compiled, so that its pure variant is another."""
    package = Path(chatrelay.__file__).parent
    return any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path in package.rglob("*.so"))


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def _twistd() -> list[str]:
    twistd = Path(sys.executable).with_name("twistd")
    if twistd.exists():
        return [sys.executable, str(twistd)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


@cache
def _has_option(option: str, environment: tuple[tuple[str, str], ...]) -> bool:
    """Whether the chatrelay of this environment has an option."""
    asked = subprocess.run(  # noqa: S603 - the command is ours
        [*_twistd(), "chatrelay", "--help"],
        env={**os.environ, **dict(environment)},
        capture_output=True,
        check=False,
    )
    return option.encode() in asked.stdout


def _chatrelay(port_options: str) -> list[str]:
    return [*_twistd(), "-n", "--pidfile=", "chatrelay", "--port", port_options]


def _start_chatrelay(_directory: Path, port: int) -> list[str]:
    return _chatrelay(str(port))


def _start_chatrelay_tls(directory: Path, port: int) -> list[str]:
    certificate, key = write_certificate(directory)
    return _chatrelay(_TLS_PORT.format(port=port, certificate=certificate, key=key))


def _peer(module: str) -> Callable[[Path, int], list[str]]:
    return lambda _, port: [sys.executable, "-m", f"bench.peers.{module}", str(port)]


def _start_forward_tls(directory: Path, port: int) -> list[str]:
    return [*_peer("forward")(directory, port), *map(str, write_certificate(directory))]


def _configured(
    program: str, configuration: str, *options: str
) -> Callable[[Path, int], list[str]]:
    def command(directory: Path, port: int) -> list[str]:
        path = directory / f"{program}.conf"
        files = {}
        if "{certificate}" in configuration:
            files["certificate"], files["key"] = write_certificate(directory)
        path.write_text(configuration.format(port=port, **files), encoding="utf-8")
        return [_find(program) or program, *options, str(path)]

    return command


def _over_tls(relay: Relay, command: Callable[[Path, int], list[str]], works: str = "ab") -> Relay:
    return replace(
        relay,
        name=relay.name + SECURED,
        label=relay.label + ", TLS",
        command=command,
        works=frozenset(works),
        is_secured=True,
    )


_CHATRELAY = Relay(
    "chatrelay",
    "chatrelay",
    "lines",
    _start_chatrelay,
    works=frozenset("abcdegh"),
    may_have_accounts=True,
)
_CHATRELAY_TLS = _over_tls(_CHATRELAY, _start_chatrelay_tls)
_NATS_SERVER = Relay(
    "nats",
    "nats-server",
    "nats",
    _configured("nats-server", _NATS, "-c"),
    "nats-server",
    "apt-get install nats-server",
)
_FORWARD = Relay(
    "forward", "Twisted, unparsed", "unparsed", _peer("forward"), works=frozenset("df")
)

RELAYS = {
    relay.name: relay
    for relay in (
        _CHATRELAY,
        replace(
            _CHATRELAY,
            name="chatrelay-pure",
            label="chatrelay (pure)",
            environment={"CHATRELAY_PURE": "1"},
        ),
        _NATS_SERVER,
        _CHATRELAY_TLS,
        _over_tls(_NATS_SERVER, _configured("nats-server", _NATS_TLS, "-c")),
        Relay(
            "ngircd",
            "ngIRCd",
            "irc",
            _configured("ngircd", _NGIRCD, "-n", "-f"),
            "ngircd",
            "apt-get install ngircd",
            at_once=8,
        ),
        Relay(
            "mosquitto",
            "Mosquitto, QoS 0",
            "mqtt",
            _configured("mosquitto", _MOSQUITTO, "-c"),
            "mosquitto",
            "apt-get install mosquitto",
            at_once=64,
        ),
        Relay("threads", "a thread per client", "lines", _peer("threads")),
        Relay("streams", "asyncio streams", "lines", _peer("streams")),
        Relay("plain", "plain LineReceiver", "lines", _peer("plain")),
        _FORWARD,
        _over_tls(_FORWARD, _start_forward_tls, "f"),
    )
}
