"""
Clients of rooms in any order, while the store takes its time: what is known of the rooms is what is
kept of them, and each line is answered.

A seed that fails is told, with what was done.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool

SEEDS = range(40)
ROOMS = (b"#a", b"#b")
NAMES = tuple(b"n%d" % number for number in range(4))
# What is done more often stands here more often.
LINES = (
    *(b"/join ROOM", b"/join ROOM", b"/join ROOM", b"/leave ROOM"),
    *(b"/keep ROOM", b"/keep ROOM members-only", b"/keep ROOM open", b"/unkeep ROOM"),
    *(b"/invite ROOM NAME", b"/remove ROOM NAME", b"/topic ROOM about"),
    *(b"/history ROOM", b"%ROOM%text", b"/rooms", b"/who ROOM", b"/register " + SECRET),
)


class Scenario:
    """What is done with one seed, and what has to be so at its end."""

    def __init__(self, test: SynchronousTestCase, seed: int) -> None:
        self.randomly = randomly = random.Random(seed)
        self.storing = ManualThreadpool()
        self.limits = Limits(
            max_members=randomly.choice([3, 100]),
            max_kept_rooms=randomly.choice([1, 5]),
            max_rooms_per_client=randomly.choice([1, 5]),
        )
        self.world = OwnedWorld(test, self.limits, storing=self.storing)
        self.done: list[object] = []
        self.asked: list[tuple[Client, bytes]] = []
        self.clients = [(self.world.log_in(name), name) for name in NAMES]
        for client, _ in self.clients[:3]:
            client.send(b"/register " + SECRET + b"\n/join #a\n")
            self.world.settle_all()

    def run(self) -> None:
        """Do something, again and again, and let all of it come to its end."""
        steps = (
            *[self.write] * 60,
            *[self.run_store] * 15,
            *[self.turn] * 15,
            *(self.reset, self.reset, self.reset),
            *(self.connect, self.connect, self.connect, self.connect),
            *(self.remove_account, self.remove_account),
        )
        for _ in range(self.randomly.randint(20, 80)):
            self.randomly.choice(steps)()
        for _ in range(2):
            self.world.settle_all()
            self.world.relay.tick()
        self.world.settle_all()

    def write(self) -> None:
        """A client writes a line, with a ref."""
        client, name = self.randomly.choice(self.clients)
        line = self.randomly.choice(LINES).replace(b"ROOM", self.randomly.choice(ROOMS))
        line = b"@ref=r%d " % len(self.asked) + line.replace(b"NAME", self.randomly.choice(NAMES))
        self.asked.append((client, line))
        self.done.append((name, line))
        client.write(line + b"\n")

    def run_store(self) -> None:
        """The store does what it was given first."""
        self.done.append("store")
        if self.storing.pending:
            self.storing.run()

    def turn(self) -> None:
        """A turn of the reactor."""
        self.done.append("turn")
        self.world.turn()

    def reset(self) -> None:
        """A connection breaks."""
        client, name = self.randomly.choice(self.clients)
        self.done.append((name, "reset"))
        client.reset()

    def connect(self) -> None:
        """One more connection claims a name."""
        name = self.randomly.choice(NAMES)
        mailboxes: Any = self.world.relay.mailboxes
        client = self.world.connect()
        client.write(name + (b" " + SECRET if mailboxes.is_owned(name) else b"") + b"\n")
        self.done.append((name, "connect"))
        self.clients.append((client, name))

    def remove_account(self) -> None:
        """An account is removed by the tool, which the relay sees at once or later."""
        name = self.randomly.choice(NAMES)
        account = self.world.account(name)
        if account is not None:
            now_s = self.world.relay.wall_clock()
            self.world.in_store(lambda accounts: accounts.remove(account.number, now_s))
            self.done.append((name, "account removed"))
        if self.randomly.random() < 0.5:
            self.world.relay.tick()

    # What has to be so.

    def check(self) -> None:
        """Check all of it."""
        for client, name in self.clients:
            if client.is_connected and client.session.is_named:
                assert not client.session.gate.held, name
                self.check_answered(client)
        self.check_kept()
        self.check_members()

    def check_answered(self, client: Client) -> None:
        """Each line of a client that is here was answered."""
        for asker, line in self.asked:
            if asker is client:
                ref = line.partition(b" ")[0] + b" "
                assert ref in client.transport.taken, line

    def check_kept(self) -> None:
        """What is known of rooms is what is kept of them."""
        relay: Any = self.world.relay
        kept = {room.key: room for room in self.world.in_store(lambda all_: all_.rooms.all())}
        known = {room.name.key: room for room in relay.rooms if room.keep is not None}
        assert kept.keys() == known.keys()
        for key, room in kept.items():
            keep = known[key].keep
            assert keep.accounts == dict(room.members), key
            assert (keep.number, keep.owner, keep.topic, keep.is_members_only) == (
                *(room.number, room.owner, room.topic, room.is_members_only),
            ), key
            joined = {account for account, has_joined in room.members if has_joined}
            assert joined == {member.account for member in known[key].members()} - {0}, key
        assert relay.mailboxes._rooms.keys() == {room.number for room in kept.values()}
        assert not relay.rooms.keeping._begun

    def check_members(self) -> None:
        """Who is in a room is here, or belongs to it; and not too many are."""
        registry = self.world.relay.registry
        for room in self.world.relay.rooms:
            assert len(room) <= self.limits.max_members, room.name
            assert len(room) or room.keep is not None, room.name
            for member in room.members():
                devices = registry.devices(member.name.key)
                assert set(member.devices) == set(devices), member.name
                assert {device.account for device in devices} <= {member.account}, member.name
                assert devices or room.keep is not None, member.name


class RoomSeedTests(SynchronousTestCase):
    """Each of some seeds."""

    def test_seeds(self) -> None:
        for seed in SEEDS:
            scenario = Scenario(self, seed)
            try:
                scenario.run()
                scenario.check()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {scenario.done}") from error
            scenario.world._stop()
