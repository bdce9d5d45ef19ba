"""
Flow in rooms: who speaks is held exactly while more than half of the others have too much
waiting, nobody for ever, and no member that takes enough is ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, ClassVar
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import outbox
from chatrelay.limits import Limits
from chatrelay.rooms.audience import Audience
from tests.relay_harness import Client, World, what_is_left
from tests.rooms_model import check_rooms

RATE = 1000
LIMITS = Limits(high_water_bytes=2000, low_water_bytes=1000, slow_bytes_per_s=RATE)
# What is handed to a transport counts as taken when all of it is.
PIECE_BYTES = 200
# Everything, enough, too little, nothing: bytes a second.  What is said at once is one piece, which
# counts when all of it is taken: it is less than what a second takes of it.
PACES = st.sampled_from([None, None, 2 * RATE, 2 * RATE, RATE // 2, 0, 0])
MOST_LINES = 10
NAMES = (b"a", b"b", b"c", b"d", b"e")
LINE = b"%#r%" + b"x" * 90 + b"\n"


class Watched:
    """Who has more waiting than he may, by what is written in rooms and what is sent of it."""

    def __init__(self, world: World) -> None:
        self.over: dict[Any, set[Any]] = {}
        write, drained = Audience.write, world.relay.flow.drained

        def watched_write(
            audience: Audience, lines: bytes, count: int, stamp: Any, spared: Collection[Any]
        ) -> None:
            write(audience, lines, count, stamp, spared)
            for device in audience._writings:
                backlog = device.outbox
                if device not in spared and backlog.unsent_bytes > LIMITS.high_water_bytes:
                    self.over.setdefault(audience, set()).add(backlog)

        def watched_drained(backlog: Any) -> None:
            if backlog.unsent_bytes < LIMITS.low_water_bytes:
                self.gone(backlog)
            drained(backlog)

        self.patch = mock.patch.object(Audience, "write", watched_write)
        self.patch.start()
        world.relay.flow.drained = watched_drained  # type: ignore[method-assign]

    def gone(self, backlog: Any, audience: Audience | None = None) -> None:
        for room, over in self.over.items():
            if audience in (None, room):
                over.discard(backlog)


class RoomFlow(RuleBasedStateMachine):
    """Members of two rooms, each of whom takes so many bytes a second."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LIMITS)
        self.watched = Watched(self.world)
        self.clients: dict[bytes, Client] = {}
        self.ended: list[Client] = []
        self.paces: dict[Client, int | None] = {}
        # That it took enough in each second so far.
        self.takes_enough: set[Client] = set()

    @initialize(paces=st.lists(PACES, min_size=2, max_size=5))
    def begin(self, paces: list[int | None]) -> None:
        for name in NAMES[: len(paces)]:
            self.come(name)
        for number, pace in enumerate(paces):
            self.set_pace(number, pace)

    def come(self, name: bytes) -> None:
        client = self.clients[name] = self.world.join(name)
        self.paces[client] = None
        self.takes_enough.add(client)
        client.send(b"/join #r\n")

    def here(self, number: int) -> Client | None:
        clients = [client for client in self.clients.values() if client.is_connected]
        return clients[number % len(clients)] if clients else None

    def settle(self) -> None:
        """Let each go on that takes everything; the others take as time passes."""
        self.world.settle()
        for backlogs in self.watched.over.values():
            for backlog in list(backlogs):
                if backlog not in self.world.relay.flow._backlogs:
                    backlogs.discard(backlog)

    @rule(who=st.integers(0, 4), pace=PACES)
    def set_pace(self, who: int, pace: int | None) -> None:
        client = self.here(who)
        if client is not None:
            self.paces[client] = pace
            if pace is not None and pace < RATE:
                self.takes_enough.discard(client)
            client.take(None if pace is None else 0)

    @rule(
        who=st.integers(0, 4),
        count=st.sampled_from([MOST_LINES, 5, 1]),
        times=st.sampled_from([1, 5, 5]),
        is_run=st.booleans(),
    )
    def speak(self, who: int, count: int, times: int, is_run: bool) -> None:
        client = self.here(who)
        if client is None or client.session is None:
            return
        for _ in range(times):
            client.send(LINE * count if is_run else (b"@a " + LINE) * count)
        self.settle()
        room = self.world.relay.rooms.find(b"#r")
        if client.session is None or room is None or client.session.name.key not in room:
            return
        # At rest it has either said everything or is held, by the room if most take too little.
        audience = room._audience
        over = self.watched.over.get(audience, set()) - {client.session.outbox}
        is_held = audience.gate._speakers in (client.session.gate._holders or ())
        others = len(audience._writings) - 1
        if client.session.gate._holders in (None, {audience.gate._speakers}):
            assert is_held is (2 * len(over) > others), (len(over), others)
        self.counted["held" if is_held else "free"] += 1

    @rule(
        sender=st.integers(0, 4), to=st.sampled_from(NAMES), count=st.sampled_from([1, MOST_LINES])
    )
    def write(self, sender: int, to: bytes, count: int) -> None:
        client = self.here(sender)
        if client is not None:
            client.send((b"%" + to + b"%" + b"y" * 90 + b"\n") * count)

    @rule(who=st.integers(0, 4), line=st.sampled_from([b"/leave #r", b"/join #r", b"/join #s"]))
    def ask(self, who: int, line: bytes) -> None:
        client = self.here(who)
        if client is not None:
            client.send(line + b"\n")

    @rule(who=st.integers(0, 4), caps=st.sampled_from([b"none", b"echo", b"id"]))
    def set_caps(self, who: int, caps: bytes) -> None:
        client = self.here(who)
        if client is not None:
            client.send(b"/caps " + caps + b"\n")

    @rule(who=st.integers(0, 4), how=st.sampled_from([Client.reset, Client.end]))
    def leave(self, who: int, how: Any) -> None:
        client = self.here(who)
        if client is not None:
            self.clients = {name: one for name, one in self.clients.items() if one is not client}
            self.ended.append(client)
            how(client)

    @rule(name=st.sampled_from(NAMES))
    def come_back(self, name: bytes) -> None:
        client = self.clients.get(name)
        if (client is None or not client.is_connected) and self.world.relay.registry.find(
            name
        ) is None:
            self.come(name)

    @rule(seconds=st.sampled_from([1, 3, 12]))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            for client in (*self.clients.values(), *self.ended):
                pace = self.paces[client]
                if pace is not None:
                    client.transport.room = pace
            self.world.pass_time(1)

    @invariant()
    def it_is_held_only_while_most_of_the_others_take_too_little(self) -> None:
        self.settle()
        check_rooms(self.world.relay)
        for room in self.world.relay.rooms:
            audience = room._audience
            over = {
                backlog
                for backlog in self.watched.over.get(audience, set())
                if backlog in {device.outbox for device in audience._writings}
            }
            self.watched.over[audience] = over
            assert audience.gate._over == over
            for device in audience._writings:
                if audience.gate._speakers in (device.gate._holders or ()):
                    others = len(audience._writings) - 1
                    assert 2 * len(over - {device.outbox}) > others, "held by less than most"

    @invariant()
    def who_takes_enough_is_not_ended(self) -> None:
        for client in self.takes_enough:
            assert not client.transport.aborted

    def teardown(self) -> None:
        # Whoever was held goes on: the others take what waits, or are ended.
        for _ in range(60):
            self.wait(1)
        for client in self.clients.values():
            assert not client.is_connected or not client.session.gate.held
            assert not client.is_connected or not client.transport.incoming, "held for ever"
            client.take()
            client.end()
        self.world.pass_time(11)
        self.watched.patch.stop()
        assert what_is_left(self.world) == {}


class AnyOrder(SynchronousTestCase):
    """The same under both runners: trial does not find a machine's own test case."""

    def test_members_that_take_or_do_not(self) -> None:
        self.patch(outbox, "PIECE_BYTES", PIECE_BYTES)
        run_state_machine_as_test(
            RoomFlow, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
        )
        for what in ("held", "free"):
            self.assertGreater(RoomFlow.counted[what], 0, RoomFlow.counted)
