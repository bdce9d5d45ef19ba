"""
What a sender reads, and whether the recipient gets it: the tables of docs/protocol.rst, row by
row, for free and for owned senders, and on every way that a line can take through the relay.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack

from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.bots.participant import BotParticipant
from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import Cleanups, failing, let_fail
from tests.transcripts import ROOT, read_document

DOCUMENT = read_document(ROOT / "docs" / "protocol.rst")
SMALL = Limits(max_mailbox_entries=100, high_water_bytes=10_000, low_water_bytes=5_000)
# Alone, and so on the quick path; with a tag that makes it go line by line; to several.
LINES = (
    *(b"%NAME%x1", b"@a=b %NAME%x2", b"%NAME,nobody%x3"),
    *(b"@ref=4 %NAME%x4", b"@ref=5;a=b %NAME%x5", b"@ref=6 %NAME,nobody%x6"),
)
TEXTS = [b"%%alice%%x%d" % number for number in range(1, 7)]


class Row:
    """A relay in which the recipient is in the state that a row says, and a sender."""

    def __init__(self, test: Cleanups, state: str, *, sender_is_owned: bool) -> None:
        self.state = state
        self.words = set(state.replace(",", "").split())
        self.name = b"reverse" if state == "a bot" else b"bob"
        let_fail(test)
        self.faults = test.enter_context(ExitStack())
        limits = SMALL
        if "the relay is full" in state:
            limits = Limits(max_store_bytes=1)
        self.world = OwnedWorld(test, limits)
        self.sender = self.world.owner(b"alice") if sender_is_owned else self.world.join(b"alice")
        self.bob: Client | None = None
        if state == "a bot":
            self.add_bot()
        elif state == "free, and here":
            self.bob = self.world.join(b"bob")
        elif "owned" in self.words:
            self.bob = self.world.owner(b"bob")
            self.prepare(self.bob)
        self.sender.told()

    def prepare(self, bob: Client) -> None:
        if "blocks" in self.words:
            bob.lines(b"/block alice")
        if "ack" in self.words:
            bob.lines(b"/caps ack")
        if "behind" in self.words:
            bob.stop_taking()
            self.sender.send((b"%bob%" + b"-" * 8000 + b"\n") * 2)
            self.world.pass_time(12)
        if "away" in self.words:
            bob.end()
            self.bob = None
        if "disabled" in self.words:
            self.set_disabled(True)
        if self.state.endswith("and full"):
            self.sender.lines(*[b"%bob%full"] * 25)
        if "relay" in self.words:
            # How much there is is known after the first commit.
            self.sender.lines(b"%bob%first", b"%bob%second")
        if "disk" in self.words:
            self.faults.enter_context(failing("COMMIT", sqlite3.SQLITE_FULL))

    def add_bot(self) -> None:
        relay = self.world.relay
        relay.registry.add_bot(
            BotParticipant(reverse, relay.find, relay.wall_clock, lambda *_: None, relay.limits)
        )

    def set_disabled(self, is_disabled: bool) -> None:
        account = self.world.account(b"bob")
        assert account is not None
        self.world.in_store(
            lambda accounts: accounts.set_disabled(account.number, is_disabled, 0.0)
        )

    def come(self) -> list[bytes]:
        """What who has the name is written of the messages."""
        if self.bob is None:
            return []
        return [line.split(b" ")[-1] for line in self.bob.told() if b"%alice%x" in line]

    def comes_back(self) -> None:
        """The disk is well again, and the owner is there."""
        self.faults.close()
        if "disabled" in self.words:
            self.set_disabled(False)
        if self.bob is not None:
            self.bob.take()
            self.bob.told()
            self.bob.reset()
        if "owned" in self.words:
            self.bob = self.world.connect()
            self.bob.send(b"bob " + SECRET + b"\n")
        else:
            self.bob = self.world.join(b"bob")


class WhatTheSenderReadsTests(SynchronousTestCase):
    """Messages in each state of their recipient."""

    def test_every_row(self) -> None:
        rows = DOCUMENT.table("What the sender reads")
        self.assertEqual(len(rows), 17)
        for state, without, with_a_ref, arrives in rows:
            for sender_is_owned in (False, True):
                with Cleanups() as cleanups:
                    row = Row(cleanups, state, sender_is_owned=sender_is_owned)
                    self.check_answers(row, without, with_a_ref)
                    if state != "a bot":
                        self.check_arrival(row, arrives)

    def check_answers(self, row: Row, without: str, with_a_ref: str) -> None:
        for line in LINES:
            where = (row.state, row.sender.session.account, line)
            expected = with_a_ref if line.startswith(b"@ref") else without
            told = row.sender.lines(line.replace(b"NAME", row.name))
            told = [one for one in told if b"nobody" not in one and not one.startswith(b"%")]
            self.assertEqual(len(told), int(expected != "nothing"), (where, told))
            for one in told:
                self.assertRegex(one, self.pattern(line, expected, row.name), where)

    def pattern(self, line: bytes, expected: str, name: bytes) -> bytes:
        ref = line[:7] if line.startswith(b"@ref") else b""
        behind = rb" id=[0-9a-f]+" if expected == "!stored" else b""
        word = expected if expected.startswith("!") else "!error " + expected
        return rb"\A" + ref.replace(b";", b" ") + word.encode() + b" " + name + behind + rb"\Z"

    def check_arrival(self, row: Row, arrives: str) -> None:
        where = (row.state, row.sender.session.account)
        if arrives == "in its turn":
            self.assertEqual(row.come(), [], where)
            assert row.bob is not None
            row.bob.take()
        is_at_once = arrives in ("at once", "once it is stored", "in its turn")
        self.assertEqual(row.come(), TEXTS if is_at_once else [], where)
        row.comes_back()
        # Nothing was acked, and comes again; nothing else does.
        is_unread = arrives in ("when he is back", "once it is stored")
        self.assertEqual(row.come(), TEXTS if is_unread else [], where)


class SendingAgainTests(SynchronousTestCase):
    """A message with a ref, asked again where a row and a column say."""

    def test_every_row(self) -> None:
        rows = DOCUMENT.table("Sending again")
        self.assertEqual(len(rows), 4)
        for answer, *columns in rows:
            word, kind = answer.split(", ")
            for where, expected in zip(("same", "reconnect", "restart"), columns, strict=True):
                for history_s in (0.0, 1000.0):
                    self.check(word, kind, where, expected, history_s)

    def check(self, word: str, kind: str, where: str, expected: str, history_s: float) -> None:
        label = (word, kind, where, history_s)
        with Cleanups() as cleanups:
            world = OwnedWorld(cleanups, Limits(history_s=history_s))
            is_owned = kind.endswith("owned name")
            self.assertNotEqual(is_owned, kind.endswith("free name"), label)
            sender = self.sender(world, is_owned)
            bob = world.owner(b"bob")
            if word == "!stored":
                bob.end()
            (first,) = sender.lines(b"@ref=1 %bob%x")
            self.assertTrue(first.startswith(b"@ref=1 " + word.encode() + b" bob"), label)
            if where == "reconnect":
                sender.reset()
                sender = self.sender(world, is_owned)
            elif where == "restart":
                world = world.restarted()
                sender = self.sender(world, is_owned)
            came = [line for line in bob.told() if line == b"%alice%x"]
            if not bob.is_connected:
                bob = world.owner(b"bob")
                came += [line for line in bob.told() if line == b"%alice%x"]
            (second,) = sender.lines(b"@ref=1 %bob%x")
            came += [line for line in bob.told() if line == b"%alice%x"]
            is_again = expected == "answered again"
            self.assertEqual(len(came), 1 if is_again else 2, label)
            if is_again:
                self.assertEqual(second, first, label)
                (other,) = sender.lines(b"@ref=1 %bob%another")
                self.assertEqual(other, b"@ref=1 !error ref-reused bob", label)
            else:
                self.assertEqual(expected, "delivered again", label)

    def sender(self, world: OwnedWorld, is_owned: bool) -> Client:
        return world.owner(b"alice") if is_owned else world.join(b"alice")
