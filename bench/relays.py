"""The relays that are measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import chatrelay
from bench.certificate import write_certificate
from bench.keepers import KEEPERS
from bench.relay import Relay, configured, twistd
from bench.works import BARE, FAN_OUT, KEEPING, OWNED, ROOMS, SECURED

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


def chatrelay_variant(name: str, environment: Mapping[str, str]) -> Relay:
    """
    The same chatrelay under another name and with an environment of its own.

    :param name: one that ends in ``-tls`` is spoken to over TLS.
    """
    relay = _CHATRELAY_TLS if name.endswith(SECURED) else _CHATRELAY
    works = relay.works | ({"history"} if relay is _CHATRELAY else set())
    return replace(relay, name=name, label=name, environment=environment, works=works)


def has_compiled_parts() -> bool:
    """Whether chatrelay runs with anything compiled, so that its pure variant is another."""
    package = Path(chatrelay.__file__).parent
    return any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path in package.rglob("*.so"))


def _chatrelay(port_options: str) -> list[str]:
    return [*twistd(), "-n", "--pidfile=", "chatrelay", "--port", port_options]


def _start_chatrelay(_directory: Path, port: int) -> list[str]:
    return _chatrelay(str(port))


def _start_chatrelay_tls(directory: Path, port: int) -> list[str]:
    certificate, key = write_certificate(directory)
    return _chatrelay(_TLS_PORT.format(port=port, certificate=certificate, key=key))


def _peer(module: str) -> Callable[[Path, int], list[str]]:
    return lambda _, port: [sys.executable, "-m", f"bench.peers.{module}", str(port)]


def _start_forward_tls(directory: Path, port: int) -> list[str]:
    return [*_peer("forward")(directory, port), *map(str, write_certificate(directory))]


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
    works=frozenset("abcdegh") | KEEPING | ROOMS,
    may_have_accounts=True,
    confirming="lines",
    keeps="on the disk, synced with others in one transaction",
    keeps_acks="an ack is, when it is answered",
)
# What free names lose by a store, and what owned ones have with a history and without.
_FREE = replace(_CHATRELAY, name="chatrelay-free", label="free names", works=frozenset({"history"}))
_OWNED = replace(_FREE, name=OWNED, label="owned names")
_AT_HISTORY = (
    replace(
        _FREE,
        name=BARE,
        label="free, no data",
        options=(("--data", "none"),),
        may_have_accounts=False,
    ),
    _FREE,
    _OWNED,
    replace(
        _OWNED,
        name=f"{OWNED}-no-history",
        label="owned, no history",
        options=(("--history", "none"),),
    ),
)
_CHATRELAY_TLS = _over_tls(_CHATRELAY, _start_chatrelay_tls)
_WITH_ROOMS = frozenset("abcde") | FAN_OUT
_NATS_SERVER = Relay(
    "nats",
    "nats-server",
    "nats",
    configured("nats-server", _NATS, "-c"),
    "nats-server",
    "apt-get install nats-server",
    works=_WITH_ROOMS,
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
        *_AT_HISTORY,
        _NATS_SERVER,
        _CHATRELAY_TLS,
        _over_tls(_NATS_SERVER, configured("nats-server", _NATS_TLS, "-c")),
        Relay(
            "ngircd",
            "ngIRCd",
            "irc",
            configured("ngircd", _NGIRCD, "-n", "-f"),
            "ngircd",
            "apt-get install ngircd",
            works=_WITH_ROOMS,
            at_once=8,
        ),
        Relay(
            "mosquitto",
            "Mosquitto, QoS 0",
            "mqtt",
            configured("mosquitto", _MOSQUITTO, "-c"),
            "mosquitto",
            "apt-get install mosquitto",
            works=_WITH_ROOMS,
            at_once=64,
        ),
        Relay("threads", "a thread per client", "lines", _peer("threads")),
        Relay("streams", "asyncio streams", "lines", _peer("streams")),
        Relay("plain", "plain LineReceiver", "lines", _peer("plain")),
        _FORWARD,
        _over_tls(_FORWARD, _start_forward_tls, "f"),
        *KEEPERS,
    )
}
