"""Clients that connect, take names, send and leave in any order: what must always hold."""

from __future__ import annotations

import re
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import protocol
from chatrelay.limits import Limits
from chatrelay.names import parse_name, parse_room
from chatrelay.session import State
from tests.relay_harness import Client, World, what_is_left
from tests.rooms_model import check_rooms

NAMES = st.sampled_from([b"a", b"A", b"b", b"B", b"c", b"server", "ж".encode(), "Ж".encode()])
ROOMS = st.sampled_from([b"#r", b"#r", b"#R", b"#s", b"#none"])
MESSAGE = re.compile(rb"%(?:#[^%]+%)?[^%]+%(\d+)-(\d+)x*")
LEAVING = [b"/leave #r", b"/leave #S", b"/rooms", b"/who #r", b"/leave #none"]
SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None)
LIMITS = Limits(
    high_water_bytes=400,
    low_water_bytes=200,
    max_clients=3,
    max_unnamed=3,
    max_per_address=4,
    max_watches=3,
    max_rooms_per_client=2,
)


def key_of(target: bytes) -> bytes:
    return (parse_room if target.startswith(b"#") else parse_name)(target).key


class Clients(RuleBasedStateMachine):
    """The relay against a few people with nothing better to do."""

    work_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LIMITS, work_s=self.work_s)
        self.clients: list[Client] = []
        self.last_sent = 0
        self.asked: dict[Client, list[bytes]] = defaultdict(list)

    def any_of(self, number: int) -> Client | None:
        here = [client for client in self.clients if client.is_connected]
        return here[number % len(here)] if here else None

    @initialize(count=st.integers(0, 3))
    def begin(self, count: int) -> None:
        """Some are in a room already."""
        for name in (b"a", b"b", b"c")[:count]:
            self.clients.append(self.world.join(name))
            self.clients[-1].send(b"/join #r\n")

    @precondition(lambda self: sum(client.is_connected for client in self.clients) < 6)
    @rule(loopback=st.booleans())
    def connect(self, loopback: bool) -> None:
        self.clients.append(self.world.connect("127.0.0.1" if loopback else "192.0.2.1"))

    @rule(who=st.integers(0, 5), name=NAMES)
    def claim(self, who: int, name: bytes) -> None:
        client = self.any_of(who)
        if client is not None and client.session is not None:
            named = client.session.state is State.NAMED
            client.send((b"/name " if named else b"") + name + b"\n")

    @rule(
        who=st.integers(0, 5),
        names=st.lists(NAMES, min_size=1, max_size=3),
        path=st.sampled_from([b"", b"@a ", b"@ref=%d "]),
        count=st.integers(1, 8),
        length=st.sampled_from([0, 50]),
    )
    def send(self, who: int, names: list[bytes], path: bytes, count: int, length: int) -> None:
        client = self.any_of(who)
        if client is not None:
            self.write(client, names, path, count, length)

    def write(
        self, client: Client, names: list[bytes], path: bytes, count: int, length: int
    ) -> None:
        if client.session is None or client.session.state is not State.NAMED:
            return
        lines = []
        for _ in range(count):
            self.last_sent += 1
            before = path
            if b"%d" in path:
                before = path % self.last_sent
                self.asked[client] += [before] * len({key_of(name) for name in names})
            text = b"%d-%d" % (self.clients.index(client), self.last_sent) + b"x" * length
            lines.append(before + b"%" + b",".join(names) + b"%" + text + b"\n")
        client.send(b"".join(lines))

    @rule(sender=st.integers(0, 5), to=st.integers(0, 5))
    def fill(self, sender: int, to: int) -> None:
        """More than somebody takes who takes nothing: the sender is held."""
        recipient, client = self.any_of(to), self.any_of(sender)
        if recipient is not None and recipient.session and recipient.session.is_named:
            recipient.stop_taking()
            if client is not None:
                self.write(client, [recipient.session.name.shown], b"", 12, 60)

    @rule(
        who=st.integers(0, 5),
        room=ROOMS,
        path=st.sampled_from([b"", b"", b"@a ", b"@ref=%d "]),
        count=st.integers(1, 8),
        length=st.sampled_from([0, 50]),
    )
    def say(self, who: int, room: bytes, path: bytes, count: int, length: int) -> None:
        client = self.any_of(who)
        if client is not None:
            self.write(client, [room], path, count, length)

    @rule(who=st.lists(st.integers(0, 5), min_size=1, max_size=4), room=ROOMS)
    def join(self, who: list[int], room: bytes) -> None:
        for number in who:
            client = self.any_of(number)
            if client is not None and client.session and client.session.is_named:
                client.send(b"/join " + room + b"\n")

    @rule(speaker=st.integers(0, 5), others=st.lists(st.integers(0, 5), max_size=4))
    def fill_room(self, speaker: int, others: list[int]) -> None:
        """More than some take who take nothing: the speaker is held if they are most."""
        client = self.any_of(speaker)
        if client is not None:
            for number in others:
                other = self.any_of(number)
                if other is not None and other is not client:
                    other.stop_taking()
            self.write(client, [b"#r"], b"", 12, 60)

    @rule(
        who=st.integers(0, 5),
        line=st.sampled_from([b"/who", b"/watch a b c", b"/unwatch b", *LEAVING]),
    )
    def ask(self, who: int, line: bytes) -> None:
        client = self.any_of(who)
        if client is not None and client.session is not None:
            client.send(line + b"\n")

    @rule(who=st.integers(0, 5), caps=st.sampled_from([b"id", b"time ping", b"none", b"echo"]))
    def set_caps(self, who: int, caps: bytes) -> None:
        client = self.any_of(who)
        if client is not None:
            client.send(b"/caps " + caps + b"\n")

    @rule(who=st.integers(0, 5), how=st.sampled_from([Client.stop_taking, Client.take]))
    def read(self, who: int, how: object) -> None:
        client = self.any_of(who)
        if client is not None:
            how(client)  # type: ignore[operator]
            self.world.settle()

    @rule(
        who=st.integers(0, 5),
        how=st.sampled_from([Client.end, Client.reset, lambda client: client.send(b"/quit\n")]),
    )
    def leave(self, who: int, how: object) -> None:
        client = self.any_of(who)
        if client is not None:
            how(client)  # type: ignore[operator]

    @rule(seconds=st.sampled_from([0.5, 1, 4, 12, 35]))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def a_name_has_one_holder_and_a_holder_one_name(self) -> None:
        sessions = [c.session for c in self.clients if c.session is not None]
        named = [session for session in sessions if session.state is State.NAMED]
        assert sorted(s.name.key for s in named) == sorted(
            holder.name.key for holder in self.world.relay.registry
        )
        assert len({session.name.key for session in named}) == len(named)
        for session in named:
            assert self.world.relay.registry.find(session.name.key) is session
        assert self.world.relay.registry.client_count == len(named) <= LIMITS.max_clients

    @invariant()
    def routes_lead_to_the_holder(self) -> None:
        registry = self.world.relay.registry
        for written, recipient in registry.routes.items():
            if written.startswith(b"#"):
                continue  # `check_rooms` looks at those.
            assert registry.find(parse_name(written).key) is recipient
            assert not recipient.caps & {b"id", b"time"}  # type: ignore[attr-defined]

    @invariant()
    def rooms_are_what_they_have_to_be(self) -> None:
        check_rooms(self.world.relay)

    @invariant()
    def counts_are_those_of_the_connections(self) -> None:
        admission = self.world.relay.admission
        unnamed = [
            client
            for client in self.clients
            if client.session is not None and client.session.state is State.UNNAMED
        ]
        assert len(admission._unnamed) == len(unnamed) <= LIMITS.max_unnamed
        assert self.world.factory._connections == {
            client.protocol for client in self.clients if client.is_connected
        }

    @invariant()
    def all_unsent_bytes_are_counted(self) -> None:
        flow = self.world.relay.flow
        assert flow.unsent_bytes == sum(backlog.unsent_bytes for backlog in flow._backlogs)
        for client in self.clients:
            if client.session is not None and client.is_connected:
                assert client.session.outbox.unsent_bytes >= 0

    @invariant()
    def messages_of_one_connection_to_another_arrive_once_and_in_order(self) -> None:
        for client in self.clients:
            last: dict[bytes, int] = {}
            for match in MESSAGE.finditer(bytes(client.transport.taken)):
                sender, number = match[1], int(match[2])
                assert last.get(sender, 0) < number, (sender, number)
                last[sender] = number

    @invariant()
    def a_ref_is_answered_once_for_each_target(self) -> None:
        for client, asked in self.asked.items():
            taken = bytes(client.transport.taken)
            for ref in set(asked):
                count = taken.count(b"\n" + ref)
                assert count <= asked.count(ref), ref
                if client.is_connected and client.transport.room is None:
                    held = client.session.gate.held
                    assert held or count == asked.count(ref), (ref, count)

    def teardown(self) -> None:
        for client in self.clients:
            if client.is_connected:
                client.take()
        for client in self.clients:
            if client.is_connected:
                client.end()
        self.world.pass_time(11)
        assert what_is_left(self.world) == {}


class WaitingClients(Clients):
    """The same, each of whose reads waits for its turn, in rounds of several turns."""

    work_s = 0.001


class AnyOrder(SynchronousTestCase):
    """The same under both runners: trial does not find a machine's own test case."""

    def test_clients_in_any_order(self) -> None:
        run_state_machine_as_test(Clients, settings=SETTINGS)

    def test_when_all_wait_for_their_turns(self) -> None:
        self.patch(protocol, "WAITING_READ_BYTES", 1)
        run_state_machine_as_test(
            WaitingClients,
            settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
        )
