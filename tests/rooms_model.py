"""
What a relay keeps of its rooms, computed anew from who is connected and who belongs to which: it
has to be the same.
"""

from __future__ import annotations

from typing import Any

from chatrelay.names import parse_name, parse_room
from chatrelay.relay import Relay
from chatrelay.rooms.audience import Writing

MAX_WRITINGS = 4


def check_rooms(relay: Relay) -> None:
    """Fail unless the rooms, the routes, the audiences and their gates are what they have to be."""
    rooms = {room.name.key: room for room in relay.rooms}
    assert len(rooms) == len(relay.rooms)
    joined: dict[bytes, set[Any]] = {}
    for key, room in rooms.items():
        assert relay.rooms.find(key) is room
        assert len(room) or room.keep is not None, "nobody is in it"
        for member in room:
            joined.setdefault(member, set()).add(room)
        _check_members(relay, room)
        _check_gate(relay, room)
    assert {key: set(of) for key, of in relay.rooms._of.items()} == joined
    _check_routes(relay, rooms)
    _check_speakers(relay, rooms)


def _check_members(relay: Relay, room: Any) -> None:
    listening: dict[Any, Writing | None] = {}
    logged = set()
    for key, member in room._members.items():
        holder = relay.registry.find(key)
        devices = relay.registry.devices(key)
        assert list(member.devices) == devices, (room.name, key)
        belongs = room.keep is not None and room.keep.accounts.get(member.account)
        assert holder is not None or belongs, "away, and no member of a room that is kept"
        assert member.name.key == key
        if holder is not None:
            assert member.name == holder.name
            assert member.account in (0, holder.account)
        mailbox = relay.mailboxes.find(key) if relay.mailboxes is not None else None
        is_live = mailbox is None or (mailbox.is_loaded and mailbox.reading.is_live)
        if not is_live:
            logged.add(key)
        for device in devices:
            writing = Writing(device.eol, b"id" in device.caps, b"time" in device.caps)
            listening[device] = writing if is_live else None
    assert set(room._logged) == logged, (room.name, room._logged, logged)
    audience = room._audience
    assert audience._writings == listening
    groups: dict[Writing, set[Any]] = {}
    for device, wanted in listening.items():
        if wanted is not None:
            groups.setdefault(wanted, set()).add(device)
    assert {writing: set(devices) for writing, devices in audience._groups.items()} == groups


def _check_gate(relay: Relay, room: Any) -> None:
    audience = room._audience
    gate = audience.gate
    outboxes = {device.outbox for device, writing in audience._writings.items() if writing}
    assert gate._listener_count == len(outboxes)
    over = {outbox for outbox in outboxes if gate in (outbox._gates or ())}
    assert gate._over == over, "who holds it, and whom it knows as its holders"
    assert all(outbox.is_over for outbox in over)
    # Whoever was written something here and is over its mark is known to be.
    assert not any(gate in (outbox._gates or ()) for outbox in relay.flow._backlogs - outboxes)
    is_held = 2 * len(over) > max(0, len(outboxes) - 1)
    assert gate.held is is_held
    assert is_held or not gate._speakers._gates, "held by a room that takes more"


def _check_routes(relay: Relay, rooms: dict[bytes, Any]) -> None:
    routes = {}
    for written, recipient in relay.registry.routes.items():
        if written.startswith(b"#"):
            assert rooms[parse_room(written).key] is recipient
            routes.setdefault(recipient, set()).add(written)
        else:
            assert recipient not in rooms.values()
            assert parse_name(written)
    writings = relay.rooms._writings
    assert {room: set(some) for room, some in writings.items()} == routes
    assert set(routes) == set(rooms.values()), "a room that the quick path does not find"
    assert all(len(some) <= MAX_WRITINGS for some in routes.values())


def _check_speakers(relay: Relay, rooms: dict[bytes, Any]) -> None:
    speakers = {room._audience.gate._speakers for room in rooms.values()}
    for session in relay.sessions:
        gate: Any = session.gate  # type: ignore[attr-defined]
        for holder in gate._holders or ():
            if type(holder).__name__ == "_Speakers":
                assert holder in speakers, "held by a room that is gone"
                assert gate in holder._gates
