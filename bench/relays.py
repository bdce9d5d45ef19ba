"""The relays that are measured, and how each is started."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import chatrelay
from bench.process import Served

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON_PATH = {"PYTHONPATH": str(CHECKOUT)}

_NATS = """\
listen: "127.0.0.1:{port}"
"""
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
    at_once: int = 256

    @property
    def is_missing(self) -> bool:
        """Whether its program is not installed."""
        return bool(self.program) and _find(self.program) is None

    def start(self) -> Served:
        """Start it on a free port of loopback."""
        served = Served.prepare()
        served.start(
            self.command(served.directory, served.port), {**PYTHON_PATH, **self.environment}
        )
        return served


def chatrelay_variant(name: str, environment: Mapping[str, str]) -> Relay:
    """The same chatrelay under another name and with an environment of its own."""
    return replace(_CHATRELAY, name=name, label=name, environment=environment)


def has_compiled_parts() -> bool:
    """Whether chatrelay runs with anything compiled, so that its pure variant is another."""
    package = Path(chatrelay.__file__).parent
    return any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path in package.rglob("*.so"))


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def _start_chatrelay(_directory: Path, port: int) -> list[str]:
    twistd = Path(sys.executable).with_name("twistd")
    if twistd.exists():
        program = [sys.executable, str(twistd)]
    else:
        program = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    return [*program, "-n", "--pidfile=", "chatrelay", "--port", str(port)]


def _peer(module: str) -> Callable[[Path, int], list[str]]:
    return lambda _, port: [sys.executable, "-m", f"bench.peers.{module}", str(port)]


def _configured(
    program: str, configuration: str, *options: str
) -> Callable[[Path, int], list[str]]:
    def command(directory: Path, port: int) -> list[str]:
        path = directory / f"{program}.conf"
        path.write_text(configuration.format(port=port), encoding="utf-8")
        return [_find(program) or program, *options, str(path)]

    return command


_CHATRELAY = Relay("chatrelay", "chatrelay", "lines", _start_chatrelay)

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
        Relay(
            "nats",
            "nats-server",
            "nats",
            _configured("nats-server", _NATS, "-c"),
            "nats-server",
            "apt-get install nats-server",
        ),
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
        Relay("forward", "Twisted, unparsed", "unparsed", _peer("forward")),
    )
}
