"""The commands of operators: who is connected, what happened, and who has to go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chatrelay.bans import MAX_WHY_BYTES, Target, includes, read_target
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import BadLine, NotAllowed, Refusal, UnknownName
from chatrelay.leaving import Leaver
from chatrelay.names import Name, parse_name

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.session import Session

_CLIENTS_FORM = "/clients [NAME or ADDRESS or NETWORK]"
_KICK_FORM = "/kick NAME [WHY]"
_KICKED = "An operator has closed this connection"


def connections_of(relay: Relay, target: Target | None) -> list[Leaver]:
    """The open connections of a name or from a network; all of them without a target."""
    if isinstance(target, Name):
        everybody: Iterable[object] = relay.registry.devices(target.key)
    else:
        everybody = relay.sessions
    clients = [one for one in everybody if isinstance(one, Leaver) and not one.is_closed]
    if target is None or isinstance(target, Name):
        return clients
    hosts = {client.peer.host for client in clients}
    inside = {host for host in hosts if includes(target, host)}
    return [client for client in clients if client.peer.host in inside]


def read_why(words: list[bytes]) -> bytes:
    """
    What an operator says about what he does.

    :raises BadLine: it is too long.
    """
    why = b" ".join(words)
    if len(why) > MAX_WHY_BYTES:
        raise BadLine(sentence=f"What is said about it has {MAX_WHY_BYTES} bytes at most.")
    return why


def note(session: Session, *words: bytes) -> None:
    """Write to the log what an operator did."""
    session.relay.console.operator_did(session.name.shown, session.peer, b" ".join(words))


def close(clients: Iterable[Leaver], why: str, refusal: Refusal) -> int:
    """
    Close connections.

    :param why: for the log; what the operator said about it stands there already.
    :param refusal: what each of them is told.
    :returns: how many there were.
    """
    count = 0
    for client in clients:
        count += 1
        client.close(why, refusal)
    return count


def _clients(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if len(words) > 1:
        raise wrong_form(_CLIENTS_FORM)
    target = read_target(words[0]) if words else None
    note(session, b"/clients", *words)
    listed = 0
    for client in connections_of(session.relay, target):
        # A long list is written over several turns, in which people leave.
        if not client.is_closed:
            yield _client_line(session.relay, client)
            listed += 1
    yield b"!end clients %d" % listed


def _client_line(relay: Relay, client: Leaver) -> bytes:
    door, traffic = client.connection.door, client.traffic
    host, port = client.peer
    return b" ".join(
        (
            b"!client",
            client.name.shown if client.is_named else b"-",
            # Who comes through a Unix socket has none.
            f"address={host if port else '-'} port={port} door={door.name}".encode(),
            b"tls=yes" if door.is_tls else b"tls=no",
            b"since=" + relay.timestamp(int(client.connected_s * 1000)),
            b"idle=%d backlog=%d" % (client.idle_s(), client.outbox.unsent_bytes),
            b"messages-in=%d messages-out=%d bytes-in=%d bytes-out=%d" % traffic,
            b"caps=" + b",".join(sorted(client.caps)),
        )
    )


def _kick(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if not words:
        raise wrong_form(_KICK_FORM)
    name, why = parse_name(words[0]), read_why(words[1:])
    relay = session.relay
    if relay.registry.is_bot(name.key):
        raise NotAllowed(words[0], sentence="A bot has no connection.")
    clients = connections_of(relay, name)
    if not clients:
        raise UnknownName(words[0])
    note(session, b"/kick", *words)
    sentence = f"{_KICKED}: {why.decode('utf-8')}" if why else f"{_KICKED}."
    # Who gives his own name means the others that have it.
    others = [client for client in clients if client is not session]
    refusal = NotAllowed(clients[0].name.shown, sentence=sentence)
    count = close(others, "an operator kicked it", refusal)
    yield b"!kicked %b connections=%d" % (words[0], count)


def _stats(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if words:
        raise wrong_form("/stats")
    note(session, b"/stats")
    count = 0
    for key, value in _statistics(session.relay):
        yield b"!stat %b %d" % (key, value)
        count += 1
    yield b"!end stats %d" % count


def _statistics(relay: Relay) -> Iterator[tuple[bytes, int]]:
    statistics, registry, mailboxes = relay.statistics, relay.registry, relay.mailboxes
    clients = connections_of(relay, None)
    # Who is closing is not listed, and has sent and been sent something all the same.
    connected = [one for one in relay.sessions if isinstance(one, Leaver)]
    traffic = statistics.traffic(client.traffic for client in connected)
    yield b"uptime-s", int(relay.seconds() - statistics.started_s)
    yield b"clients", registry.client_count
    yield b"names", registry.name_count
    yield b"unnamed", sum(not client.is_named for client in clients)
    yield b"held", sum(client.gate.held for client in clients)
    yield b"rooms", len(relay.rooms)
    yield b"bans", sum(1 for _ in relay.bans)
    yield b"connections", statistics.connections
    for key, value in traffic._asdict().items():
        yield key.replace("_", "-").encode(), value
    yield b"unsent-bytes", relay.flow.unsent_bytes
    if mailboxes is not None:
        yield b"accounts", mailboxes.owned_count
        yield b"store-bytes", mailboxes.used_bytes
    for code, refused in sorted(statistics.refusals.items()):
        yield b"refused-" + code.encode(), refused


VERBS = (
    Verb(
        b"clients",
        _CLIENTS_FORM,
        "who is connected, from where, and how it goes",
        _clients,
        for_operators=True,
    ),
    Verb(b"kick", _KICK_FORM, "close the connections of a name", _kick, for_operators=True),
    Verb(b"stats", "/stats", "what the relay has and has done", _stats, for_operators=True),
)
