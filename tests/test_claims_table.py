"""Who gets a name, and what a holder may do: the tables of docs/protocol.rst, state by state."""

from __future__ import annotations

from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts.secrets import make_token, token_hash
from chatrelay.bans import Ban
from chatrelay.bots.participant import BotParticipant
from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld, quick_hash
from tests.relay_harness import Client
from tests.transcripts import ROOT, read_document

DOCUMENT = read_document(ROOT / "docs" / "protocol.rst")
TOKEN = make_token()


class StateCase(SynchronousTestCase):
    """A relay in which one name is in the state that a row of a table says."""

    def begin(self, state: str) -> tuple[OwnedWorld, bytes, Client | None]:
        """The relay, the name, and who holds it."""
        world = OwnedWorld(self, reserved=[b"kept"] if state.startswith("reserved") else [])
        name = b"kept" if state.startswith("reserved") else b"carol"
        if state == "a bot's":
            return world, self.add_bot(world), None
        holder = None
        if state in ("free, and held", "owned, held without proof"):
            holder = world.join(name)
        if state not in ("free", "free, and held", "reserved"):
            world.in_store(lambda accounts: self.add(accounts, name))
        if state != "owned, held without proof":
            world.look()
        if state in ("owned, and held", "disabled"):
            holder = world.owner(name)
        if state == "disabled":
            self.change(
                world, name, lambda accounts, number: accounts.set_disabled(number, True, 0)
            )
        if state == "banned":
            ban = Ban(parse_name(name), 0.0, None, b"alice", b"")
            world.relay.bans.add(ban, lambda _: None)
        if state == "removed":
            self.change(world, name, lambda accounts, number: accounts.remove(number, 0.0))
            world.look()
        return world, name, holder

    def add(self, accounts: Accounts, name: bytes) -> None:
        accounts.add(parse_name(name), quick_hash(SECRET), 0.0)
        accounts.add_token(accounts.find(name).number, token_hash(TOKEN), 1_790_000_000.0)

    def change(self, world: OwnedWorld, name: bytes, change: object) -> None:
        world.in_store(lambda accounts: change(accounts, accounts.find(name).number))

    def add_bot(self, world: OwnedWorld) -> bytes:
        relay = world.relay
        relay.registry.add_bot(
            BotParticipant(
                reverse, relay.registry.find, relay.wall_clock, lambda *_: None, relay.limits
            )
        )
        return b"reverse"

    def word(self, told: list[bytes]) -> str:
        """What an answer is, as the tables write it."""
        (line,) = told
        first, *words = line.decode().split()
        return words[0] if first == "!error" else first


class WhoGetsANameTests(StateCase):
    def test_every_row(self) -> None:
        rows = DOCUMENT.table("Who gets a name")
        self.assertEqual(len(rows), 11)
        for state, with_none, with_wrong, with_right in rows:
            for shown, expected in [
                (b"", with_none),
                (b" wrong-secret", with_wrong),
                (b" crt_wrong", with_wrong),
                (b" " + SECRET, with_right),
                (b" " + TOKEN, with_right),
            ]:
                for is_first in (True, False):
                    self.check(state, shown, expected, is_first=is_first)

    def check(self, state: str, shown: bytes, expected: str, *, is_first: bool) -> None:
        world, name, holder = self.begin(state)
        client = world.connect() if is_first else world.join(b"dave")
        told = client.lines((b"" if is_first else b"/name ") + name + shown)
        row = (state, shown, is_first)
        self.assertEqual(self.word(told), expected, row)
        devices = world.relay.registry.devices(name)
        self.assertEqual(client.session in devices, expected == "!welcome", row)
        if holder is not None and state != "disabled":
            is_evicted = expected == "!welcome" and state == "owned, held without proof"
            self.assertEqual(holder.session in devices, not is_evicted, row)
        if not is_first and expected != "!welcome":
            self.assertEqual(client.lines(b"%dave%still"), [b"%dave%still"], row)


class WhatAHolderMayDoTests(StateCase):
    def test_every_row(self) -> None:
        rows = DOCUMENT.table("What a holder may do")
        self.assertEqual(len(rows), 4)
        for state, register, change, token in rows:
            for line, expected in [
                (b"/register " + OTHER_SECRET, register),
                (b"/register " + OTHER_SECRET + b" " + SECRET, change),
                (b"/token", token),
            ]:
                _, _, holder = self.begin(state)
                assert holder is not None
                self.assertEqual(self.word(holder.lines(line)), expected, (state, line))
