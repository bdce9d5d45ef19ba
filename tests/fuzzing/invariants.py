"""What must hold of a relay and of what it writes, whatever its clients do."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from chatrelay import wire
from chatrelay.errors import REFUSALS, Refusal
from chatrelay.names import parse_name
from chatrelay.state import State
from tests.fuzzing.world import FuzzedClient, FuzzedWorld
from tests.relay_harness import what_is_left

_RELAYED_MORE_BYTES = 1024
# One read, each byte of which may become a line to somebody, before its sender is held.
_ONE_READ_BYTES = 250_000
_SHOWN_WRITINGS = 4
_OWN_LINE = re.compile(rb"![a-z-]+(?: .*)?\Z", re.DOTALL)
_MESSAGE = re.compile(rb"%(?:[#*][^%]*%)?[^%#*]+%.+\Z", re.DOTALL)
_ERROR = re.compile(rb"!error ([a-z0-9-]+)((?: [^ :]+)*) :.+\Z", re.DOTALL)
_ANSWER = re.compile(rb"!(?:sent|stored|error [a-z0-9-]+) ([^: ][^ ]*)")
_ANSWERS = (b"!sent ", b"!stored ", b"!error ")


class Invariants:
    """Watches one relay."""

    def __init__(self, world: FuzzedWorld) -> None:
        """Begin with what it has written so far."""
        self._world = world
        self._read: Counter[FuzzedClient] = Counter()
        self._answers: dict[FuzzedClient, dict[bytes, Counter[bytes]]] = {}

    def check(self) -> None:
        """Fail if something is wrong now, or was written since this was last asked."""
        assert not self._world.problems, "\n".join(self._world.problems)
        for client in self._world.everyone:
            self._check_client(client)
        self._check_names()
        self._check_connections()
        self._check_rooms()
        self._check_memory()
        self._check_logs()

    def check_left(self) -> None:
        """Fail if a relay without connections keeps more than what is kept for good."""
        world, relay = self._world, self._world.relay
        for room in relay.rooms:
            assert room.keep is not None, room.name
            for member in room.members():
                assert room.keep.accounts[member.account], member.name
        left = what_is_left(world)
        kept = ("Rooms._rooms", "Rooms._of", "Rooms._writings", "Registry.routes")
        assert left.keys() <= (set(kept) if len(relay.rooms) else set()), left

    # What is written.

    def _check_client(self, client: FuzzedClient) -> None:
        taken = client.transport.taken
        end = taken.rfind(b"\n") + 1
        start = self._read[client]
        if end > start:
            self._read[client] = end
            for line in bytes(taken[start : end - 1]).split(b"\n"):
                self._check_line(client, line.removesuffix(b"\r"))
        protocol: Any = client.protocol
        if protocol is None:
            return  # Its address had been refused just before.
        most = self._world.relay.limits.max_line_bytes
        assert len(protocol._lines._tail) <= most + 1, len(protocol._lines._tail)
        if client.session is not None and client.session._refs is not None:
            self._check_refs(client.session._refs)

    def _check_line(self, client: FuzzedClient, line: bytes) -> None:
        most = self._world.relay.limits.max_line_bytes + _RELAYED_MORE_BYTES
        assert len(line) <= most, (len(line), line)
        assert wire.is_clean(line), line
        tags, rest = wire.parse_tags(line)
        assert _OWN_LINE.match(rest) or _MESSAGE.match(rest), line
        error = _ERROR.match(rest)
        if error is not None:
            assert error[1].decode() in REFUSALS, line
        else:
            assert not rest.startswith(b"!error"), line
        if b"ref" in tags and rest.startswith(_ANSWERS):
            self._check_answer(client, tags[b"ref"], rest)

    def _check_answer(self, client: FuzzedClient, ref: bytes, answer: bytes) -> None:
        match = _ANSWER.match(answer)
        target = _key(match[1]) if match is not None else b""
        answers = self._answers.setdefault(client, {}).setdefault(ref, Counter())
        answers[target] += 1
        # A line is refused as a whole, or answered once for each of its targets.
        asked = client.count_asked(ref)
        of_targets = [count for key, count in answers.items() if key]
        assert answers[b""] + max(of_targets, default=0) <= asked, (ref, answers, asked)

    # What is kept.

    def _check_names(self) -> None:
        world, registry = self._world, self._world.relay.registry
        limits, sessions = world.relay.limits, list(world.relay.sessions)
        named = [session for session in sessions if session.state is State.NAMED]
        held = [key for key in registry._holders for _ in registry.devices(key)]
        assert sorted(held) == sorted(session.name.key for session in named), held
        assert registry.client_count == len(named) <= limits.max_clients, len(named)
        names = [written for written in registry.routes if not wire.is_room(written)]
        assert len(names) <= _SHOWN_WRITINGS * len(registry._holders), registry.routes
        for written in names:
            assert registry.find(parse_name(written).key) is not None, written
        watched = {(watcher, key) for watcher, keys in registry._watched.items() for key in keys}
        assert watched == {
            (watcher, key) for key, watchers in registry._watchers.items() for watcher in watchers
        }, watched
        assert len(watched) <= limits.max_watches * len(sessions), watched
        assert registry._watched.keys() <= set(sessions), registry._watched

    def _check_connections(self) -> None:
        world, limits = self._world, self._world.relay.limits
        admission = world.relay.admission
        assert len(admission._unnamed) <= len(world.factory._connections), admission._unnamed
        assert len(admission._unnamed) - len(admission._claiming) <= limits.max_unnamed
        for network, count in admission._connections.items():
            assert 0 < count <= limits.max_per_address, (network, count)
        connected = {client.protocol for client in world.everyone if client.is_connected}
        assert world.factory._connections == connected
        assert {client.session for client in world.everyone if client.session} == set(
            world.relay.sessions
        )

    def _check_rooms(self) -> None:
        relay: Any = self._world.relay
        limits, rooms = relay.limits, relay.rooms
        assert len(rooms) <= limits.max_rooms, len(rooms)
        members = {(room, key) for room in rooms for key in room}
        assert members == {(room, key) for key, joined in rooms._of.items() for room in joined}, (
            members
        )
        for joined in rooms._of.values():
            assert 0 < len(joined) <= limits.max_rooms_per_client, joined
        owners: Counter[int] = Counter()
        for room in rooms:
            assert len(room) <= limits.max_members, room.name
            assert len(room) or room.keep is not None, room.name
            if room.keep is not None:
                owners[room.keep.owner] += 1
            assert len(rooms._writings[room]) <= _SHOWN_WRITINGS, room.name
            for member in room._members.values():
                devices = relay.registry.devices(member.name.key)
                assert set(member.devices) == set(devices), member.name
        assert all(count <= limits.max_kept_rooms for count in owners.values()), owners
        written = {written for writings in rooms._writings.values() for written in writings}
        assert written == set(filter(wire.is_room, relay.registry.routes)), written

    def _check_memory(self) -> None:
        relay = self._world.relay
        flow, limits = relay.flow, relay.limits
        assert flow.unsent_bytes == sum(backlog.unsent_bytes for backlog in flow._backlogs)
        reads_bytes = _ONE_READ_BYTES * max(1, len(relay.sessions))
        assert all(backlog.unsent_bytes >= 0 for backlog in flow._backlogs)
        assert flow.unsent_bytes <= limits.max_unsent_bytes + reads_bytes, flow.unsent_bytes
        assert flow._accounted_s.keys() <= flow._backlogs
        senders = relay.console._undelivered_of
        assert len(senders) <= len(relay.sessions), senders

    def _check_logs(self) -> None:
        relay: Any = self._world.relay
        limits = relay.limits
        for mailbox in relay.mailboxes._mailboxes.values():
            self._check_refs(mailbox.refs)
            unread = mailbox._unread
            assert unread.entries >= 0, unread.entries
            assert unread.size_bytes >= 0, unread.size_bytes
            assert len(mailbox.blocked) <= limits.max_blocked, mailbox.blocked
            readers = mailbox.reading.readers
            assert len(readers) <= limits.max_devices, readers
            for device in readers:
                assert device in relay.sessions, device

    def _check_refs(self, refs: Any) -> None:
        limits = self._world.relay.limits
        assert len(refs.known) <= limits.max_refs, refs.known
        assert refs._entries <= limits.max_refs * limits.max_targets, refs._entries
        assert len(refs._runs) <= max(1, refs._entries), refs._runs


def _key(target: bytes) -> bytes:
    """What a target is compared by; two writings of one name are one."""
    mark = target[:1] if target.startswith(b"#") else b""
    try:
        return mark + parse_name(target[len(mark) :]).key
    except Refusal:
        return target
