"""
What a name takes and what it does not: shares, blocks, and readers that are too slow
(docs/protocol.rst, *What is kept* and *Flow*).
"""

from __future__ import annotations

import sqlite3

from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.bots.api import BotRelay
from chatrelay.bots.participant import BotParticipant
from chatrelay.errors import Blocked, MailboxFull, UnknownName
from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import failing, let_fail
from tests.test_mailbox import AwayCase, numbered, stored_ids

FULL = b"!error mailbox-full bob"
BLOCKED = b"!error blocked bob"
MARK = Limits.high_water_bytes


class ShareTests(AwayCase):
    """A stranger fills a mailbox: his share of it, and the owner still gets the others'."""

    limits = Limits(max_mailbox_entries=40)

    def test_a_stranger_fills_a_mailbox(self) -> None:
        owners = [self.world.owner(name) for name in (b"carol", b"dave", b"erin")]
        told = self.send(*numbered(0, 100))
        self.assertEqual(told.count(FULL), 96)
        # All who own no name are one to this: another stranger has no room either.
        mallory = self.world.join(b"mallory")
        self.assertEqual(mallory.lines(b"%bob%x", b"@ref=1 %bob%y"), [FULL, b"@ref=1 " + FULL])
        for owner in owners:
            told = owner.lines(*[b"%%bob%%%d" % number for number in range(15)])
            self.assertEqual(told.count(FULL), 5, told)
        bob = self.bob()
        came = bob.told()
        self.assertEqual(len(came), 4 + 3 * 10)
        self.assertEqual(came[:4], [b"%alice%" + text for text in numbered(0, 4)])
        bob.end()
        # What was read makes place.
        self.assertEqual(len(stored_ids(self.send(*numbered(0, 4)))), 4)

    def test_on_every_way(self) -> None:
        for lines in (
            [b"@ref=%d %%bob%%x" % number for number in range(10)],
            [b"@ref=%d;a=b %%bob%%x" % number for number in range(10, 20)],
            [b"@a=b %bob%x"] * 10,
            [b"%bob,nobody%x"] * 10,
        ):
            told = [line for line in self.alice.lines(*lines) if b"nobody" not in line]
            full = [line for line in told if FULL in line]
            self.assertEqual((len(told), len(full)), (10, 6), lines[0])
            self.assertEqual(len(self.came(bob := self.bob())), 4)
            bob.end()

    def test_all_of_it_is_unread(self) -> None:
        for name in (b"carol", b"dave", b"erin", b"frank", b"grace"):
            owner = self.world.owner(name)
            owner.lines(*[b"%bob%x"] * 10)
        self.assertEqual(self.send(b"x"), [FULL])
        self.assertEqual(len(self.bob().told()), 40)

    def test_by_bytes(self) -> None:
        self.world = OwnedWorld(self, Limits(max_mailbox_bytes=100_000))
        self.world.owner(b"bob").end()
        self.alice = self.world.join(b"alice")
        told = self.send(*[b"x" * 4000] * 5)
        self.assertEqual([line == FULL for line in told], [True] * 3 + [False] * 2)
        carol = self.world.owner(b"carol")
        self.assertEqual(len(stored_ids(carol.lines(*[b"%bob%" + b"x" * 4000] * 5))), 5)

    def test_over_a_restart(self) -> None:
        self.send(*numbered(0, 3))
        self.world = self.world.restarted()
        self.alice = self.world.join(b"alice")
        self.assertEqual(sorted(self.send(b"x", b"y"))[0], FULL)

    def test_unacked_messages_fill_it_too(self) -> None:
        bob = self.bob(caps=b"ack")
        told = self.send(*numbered(0, 6))
        self.assertEqual(told.count(FULL), 2)
        last = bob.told()[-1].split(b" ")[0].removeprefix(b"@id=")
        bob.lines(b"/ack " + last)
        self.assertEqual(len(stored_ids(self.send(b"x"))), 1)

    def test_what_goes_straight_to_who_is_here_is_never_refused(self) -> None:
        bob = self.bob()
        self.assertEqual(self.send(*numbered(0, 200)), [])
        self.assertEqual(len(self.came(bob)), 200)

    def test_what_was_read_makes_place(self) -> None:
        bob = self.bob()
        for first in range(0, 100, 5):
            self.send(*numbered(first, first + 5))
        self.came(bob)
        history = bob.lines(b"/history 200")[1:-1]
        self.assertGreater(len(history), 30)
        self.assertLessEqual(len(history), 40)
        # The oldest go first.
        texts = [line.rpartition(b"%")[2] for line in history]
        self.assertEqual(texts, numbered(100 - len(texts), 100))

    def test_the_relay_is_full(self) -> None:
        self.world = OwnedWorld(self, Limits(max_store_bytes=400_000))
        self.world.owner(b"bob").end()
        self.alice = self.world.join(b"alice")
        carol = self.world.owner(b"carol")
        sent = 0
        text = b"%bob%" + b"x" * 8000
        while FULL not in carol.lines(b"@ref=%d " % sent + text)[0]:
            sent += 1
            self.assertLess(sent, 100)
        # What is live goes on; what was read makes place for what is not.
        self.assertEqual(self.send(b"live", to=b"carol"), [])
        self.assertEqual(carol.told(), [b"%alice%live"])
        self.assertEqual(self.send(b"x"), [FULL])
        bob = self.bob()
        self.assertEqual(len(bob.told()), sent)
        bob.end()
        self.world.pass_time(3)
        self.assertEqual(len(stored_ids(self.send(b"x"))), 1)

    def test_messages_are_given_up_by_age(self) -> None:
        limits = Limits(history_s=1000.0, unread_lifetime_s=2000.0)
        self.world = OwnedWorld(self, limits)
        self.world.owner(b"bob").end()
        self.alice = self.world.join(b"alice")
        self.send(b"old")
        bob = self.bob()
        self.came(bob)
        bob.end()
        self.send(b"unread")
        self.world.pass_time(1200)
        carol = self.world.owner(b"carol")
        bob = self.world.log_in(b"bob " + SECRET, caps=b"ack")
        self.assertEqual(len(bob.told()), 1)
        self.assertEqual(len(bob.lines(b"/history")), 3)
        bob.end()
        self.world.pass_time(1000)
        bob = self.world.log_in(b"bob " + SECRET)
        self.assertEqual(bob.told(), [])
        self.assertTrue(carol.is_connected)


class BlockTests(AwayCase):
    """Nothing comes from who is blocked."""

    def block(self, *names: bytes, verb: bytes = b"block") -> None:
        bob = self.world.log_in(b"bob " + SECRET)
        for name in names:
            told = bob.lines(b"@ref=3 /" + verb + b" " + name)
            self.assertEqual(told[-1], b"@ref=3 !" + verb + b"ed " + name)
        bob.end()

    def test_on_every_way(self) -> None:
        self.block(b"Alice")
        lines = (b"%bob%x", b"@a=b %bob%x", b"%bob,alice%x", b"@ref=1 %bob%x", b"@ref=1;a %bob%x")
        carol = self.world.owner(b"carol")
        for here, caps in ((False, b""), (True, b"none"), (True, b"id"), (True, b"ack")):
            bob = self.bob(caps=caps) if here else None
            for line in lines:
                ref = b"@ref=1 " if line.startswith(b"@ref") else b""
                told = [one for one in self.alice.lines(line) if not one.startswith(b"%alice%")]
                self.assertEqual(told, [ref + BLOCKED], (here, caps, line))
            # A whole read of them, and among those of others.
            self.assertEqual(self.send(b"1", b"2", b"3"), [BLOCKED] * 3)
            if bob is not None:
                carol.lines(b"%bob%hello")
                [line] = bob.told()
                self.assertTrue(line.endswith(b"%carol%hello"), line)
                bob.end()

    def test_it_is_kept(self) -> None:
        self.block(b"alice")
        self.world = self.world.restarted(is_killed=True)
        self.alice = self.world.join(b"alice")
        self.assertEqual(self.send(b"x"), [BLOCKED])
        self.block(b"ALICE", verb=b"unblock")
        self.assertEqual(len(stored_ids(self.send(b"x"))), 1)
        self.world = self.world.restarted(is_killed=True)
        self.alice = self.world.join(b"alice")
        self.assertEqual(len(stored_ids(self.send(b"x"))), 1)

    def test_what_was_sent_before_stays(self) -> None:
        self.send(b"before")
        bob = self.bob()
        bob.lines(b"/block alice")
        self.assertEqual(bob.lines(b"/history")[1].split(b" ")[1], b"%alice%before")

    def test_by_one_connection_for_all(self) -> None:
        phone, laptop = self.bob(), self.bob()
        laptop.lines(b"/block alice")
        self.assertEqual(self.send(b"x"), [BLOCKED])
        phone.lines(b"/unblock alice")
        self.assertEqual(self.send(b"y"), [])
        self.assertEqual((self.came(phone), self.came(laptop)), ([b"y"], [b"y"]))

    def test_what_is_refused_is_in_no_history(self) -> None:
        self.block(b"carol")
        carol = self.world.owner(b"carol")
        for here in (False, True):
            bob = self.bob() if here else None
            carol.lines(b"%bob%1", b"@ref=1 %bob%2", b"@a=b %bob%3")
            for history in (b"/history bob", b"/history carol", b"/history"):
                self.assertEqual(carol.lines(history)[-1], b"!end history 0", (here, history))
            if bob is not None:
                self.assertEqual(bob.lines(b"/history")[-1], b"!end history 0")

    def test_how_many(self) -> None:
        self.world = OwnedWorld(self, Limits(max_blocked=3))
        bob = self.world.owner(b"bob")
        for name in (b"a", b"b", b"A", b"c"):
            self.assertEqual(bob.lines(b"/block " + name), [b"!blocked " + name])
        self.assertEqual(bob.lines(b"/block d"), [b"!error not-allowed"])
        self.assertEqual(bob.lines(b"/block b"), [b"!blocked b"])
        bob.lines(b"/unblock a")
        self.assertEqual(bob.lines(b"/block d"), [b"!blocked d"])

    def test_forms(self) -> None:
        bob = self.bob()
        self.assertEqual(bob.lines(b"/unblock"), [b"!error bad-line"])
        for verb in (b"/block", b"/unblock"):
            self.assertEqual(bob.lines(verb + b" a b"), [b"!error bad-line"])
            self.assertEqual(bob.lines(verb + b" a_b%"), [b"!error bad-name"])
            self.assertEqual(self.alice.lines(verb + b" bob"), [b"!error not-allowed"])

    def test_the_list(self) -> None:
        bob = self.bob()
        self.assertEqual(bob.lines(b"/block"), [b"!end block 0"])
        bob.lines(b"/block Zoe", b"/block \xc3\x84nne")
        told = [b"!blocked zoe", b"!blocked \xc3\xa4nne", b"!end block 2"]
        self.assertEqual(bob.lines(b"/block"), told)
        self.assertEqual(self.alice.lines(b"/block"), [b"!error not-allowed"])

    def test_one_that_could_not_be_kept_is_none(self) -> None:
        let_fail(self)
        self.world = OwnedWorld(self)
        bob, alice = self.world.owner(b"bob"), self.world.join(b"alice")
        bob.lines(b"/block mallory")
        mallory = self.world.join(b"mallory")
        with failing("COMMIT", sqlite3.SQLITE_FULL):
            self.assertEqual(bob.lines(b"/block alice"), [b"!error store-failed"])
            self.assertEqual(bob.lines(b"/unblock mallory"), [b"!error store-failed"])
        self.assertEqual(alice.lines(b"@ref=1 %bob%x"), [b"@ref=1 !sent bob"])
        self.assertEqual(mallory.lines(b"%bob%x"), [BLOCKED])
        self.flushLoggedErrors()


class SpillTests(SynchronousTestCase):
    """A slow owner falls behind and catches up; nobody waits for it."""

    def setUp(self) -> None:
        limits = Limits(high_water_bytes=100_000, low_water_bytes=50_000)
        self.world = OwnedWorld(self, limits)
        self.bob = self.world.owner(b"bob")
        self.alice = self.world.owner(b"alice")
        self.sent: list[bytes] = []

    def send(self, count: int, *, size: int = 1000) -> list[bytes]:
        texts = [b"%d" % (len(self.sent) + number) + b"-" * size for number in range(count)]
        self.sent += texts
        self.alice.send(b"".join(b"@ref=%b %%bob%%%b\n" % (text[:6], text) for text in texts))
        return self.alice.told()

    def came(self, client: Client) -> list[bytes]:
        return [line.partition(b"%alice%")[2] for line in client.told()]

    def spill(self) -> None:
        self.bob.stop_taking()
        self.send(120)
        self.assertTrue(self.alice.session.gate.held)
        self.world.pass_time(12)

    def test_it_is_spilled_and_catches_up(self) -> None:
        self.spill()
        self.assertTrue(self.bob.is_connected)
        self.assertFalse(self.alice.session.gate.held)
        told = self.send(50)
        # With what was held before.
        self.assertEqual(len([line for line in told[-50:] if b"!stored" in line]), 50)
        self.bob.take(30_000)
        told = self.send(1)
        self.assertIn(b"!stored", told[-1])
        self.bob.take()
        self.assertEqual(self.came(self.bob), self.sent)
        self.assertEqual(self.send(1)[-1].split(b" ")[1:], [b"!sent", b"bob"])
        self.assertEqual(self.came(self.bob), self.sent[-1:])

    def test_it_is_cut_off_after_a_minute_in_which_it_takes_nothing(self) -> None:
        self.spill()
        self.send(50)
        # Since it was spilled.
        self.world.pass_time(53)
        self.assertTrue(self.bob.is_connected)
        self.world.pass_time(5)
        self.assertFalse(self.bob.is_connected)
        self.assertEqual(self.bob.told()[:-1], self.bob.told())
        # What it has not taken waits.
        self.assertEqual(self.came(self.world.owner(b"bob")), self.sent)

    def test_one_that_takes_a_little_is_not(self) -> None:
        self.spill()
        for _ in range(10):
            self.send(20)
            self.bob.take(140_000)
            self.world.pass_time(50)
            self.assertTrue(self.bob.is_connected)
        self.bob.take()
        self.assertEqual(self.came(self.bob), self.sent)

    def test_a_slow_one_beside_another_is_cut_off(self) -> None:
        phone = self.world.owner(b"bob")
        self.spill()
        self.assertFalse(self.bob.is_connected)
        self.assertEqual(self.came(phone), self.sent)
        self.assertEqual(self.send(1)[-1].split(b" ")[1:], [b"!sent", b"bob"])

    def test_a_second_one_that_comes_gets_everything_unread(self) -> None:
        self.spill()
        self.send(50)
        phone = self.world.owner(b"bob")
        self.assertEqual(self.came(phone), self.sent)
        self.send(10)
        self.bob.take()
        self.assertEqual(self.came(self.bob), self.sent)
        self.assertEqual(self.came(phone), self.sent[-10:])

    def test_with_ack(self) -> None:
        self.bob.lines(b"/caps ack")
        self.bob.stop_taking()
        for _ in range(4):
            told = self.send(120)
            self.assertEqual(len([line for line in told if b"!stored" in line]), 120)
            self.world.pass_time(4)
        # It holds nobody, and what waits for it takes no memory.
        self.assertFalse(self.alice.session.gate.held)
        self.assertLess(self.world.relay.flow.unsent_bytes, 400_000)
        self.bob.take()
        self.assertEqual(self.came(self.bob), self.sent)

    def test_again_and_again(self) -> None:
        for _ in range(3):
            self.spill()
            self.send(30)
            self.bob.take()
            self.send(1)
        self.assertEqual(self.came(self.bob), self.sent)

    def test_without_a_history(self) -> None:
        limits = Limits(high_water_bytes=100_000, low_water_bytes=50_000, history_s=0.0)
        self.world = OwnedWorld(self, limits)
        self.bob, self.alice = self.world.owner(b"bob"), self.world.owner(b"alice")
        self.spill()
        self.send(50)
        self.bob.take()
        self.assertEqual(self.came(self.bob), self.sent)
        self.world.pass_time(1)
        self.assertEqual(self.bob.lines(b"/history"), [b"!history", b"!end history 0"])


class BotTests(AwayCase):
    """A bot writes to owned names, whether they are here or not."""

    def setUp(self) -> None:
        super().setUp()
        relay = self.world.relay
        self.participant = BotParticipant(
            reverse, relay.find, relay.wall_clock, lambda *_: None, relay.limits
        )
        relay.registry.add_bot(self.participant)
        self.bot = BotRelay("reverse", self.participant._send)
        self.carol = self.world.owner(b"carol")

    def ask(self, client: Client) -> list[object]:
        """Have a client ask something that the bot answers later."""
        messages: list[object] = []
        self.patch(type(reverse), "message_received", lambda _, message: messages.append(message))
        client.send(b"%reverse%when?\n")
        return messages

    def test_a_late_answer_to_a_device_that_has_left(self) -> None:
        phone = self.world.owner(b"carol")
        [message] = self.ask(self.carol)
        self.carol.end()
        message.reply("now")
        self.world.settle()
        self.assertEqual(phone.told(), [b"%reverse%now"])
        phone.end()
        message.reply("and now")
        self.world.settle()
        self.assertEqual(self.world.owner(b"carol").told(), [b"%reverse%and now"])

    def test_a_late_answer_when_its_log_was_put_away(self) -> None:
        [message] = self.ask(self.carol)
        self.carol.end()
        self.world.pass_time(130)
        self.assertEqual(self.world.relay.mailboxes._mailboxes, {})
        message.reply("now")
        self.world.settle()
        self.assertEqual(self.world.owner(b"carol").told(), [b"%reverse%now"])

    def test_a_late_answer_to_a_name_that_is_another_s(self) -> None:
        [message] = self.ask(self.carol)
        account = self.world.account(b"carol")
        assert account is not None
        self.world.in_store(lambda accounts: accounts.remove(account.number, 0.0))
        self.world.pass_time(2)
        other = self.world.owner(b"carol")
        self.assertRaises(UnknownName, message.reply, "now")
        self.assertEqual(other.told(), [])

    def test_unasked_to_a_log_that_was_not_looked_at(self) -> None:
        self.carol.lines(b"/block alice")
        self.carol.end()
        self.world = self.world.restarted()
        relay = self.world.relay
        participant = BotParticipant(
            reverse, relay.find, relay.wall_clock, lambda *_: None, relay.limits
        )
        relay.registry.add_bot(participant)
        bot = BotRelay("reverse", participant._send)
        for text in ("1", "2"):
            bot.send("carol", text)
        self.world.settle()
        bot.send("carol", "3")
        self.world.settle()
        mailbox = self.world.relay.find(b"carol")
        self.assertEqual(mailbox._unread.entries, 3)
        carol = self.world.owner(b"carol")
        self.assertEqual(carol.told(), [b"%reverse%1", b"%reverse%2", b"%reverse%3"])
        self.assertEqual(mailbox._unread.entries, 0)

    def test_a_name_that_was_somebody_s_before_it_was_a_bot_s(self) -> None:
        self.world.add(b"reverse")
        self.world.pass_time(2)
        self.assertEqual(
            self.alice.lines(b"@ref=1 %reverse%abc"), [b"%reverse%cba", b"@ref=1 !sent reverse"]
        )

    def test_one_that_is_blocked(self) -> None:
        self.carol.lines(b"/block reverse")
        self.assertRaises(Blocked, self.bot.send, "carol", "x")
        self.assertEqual(self.carol.told(), [])

    def test_all_together_have_a_share(self) -> None:
        self.world = OwnedWorld(self, Limits(max_mailbox_entries=40))
        relay = self.world.relay
        self.world.owner(b"carol").end()
        participant = BotParticipant(
            reverse, relay.find, relay.wall_clock, lambda *_: None, relay.limits
        )
        bot = BotRelay("reverse", participant._send)
        for number in range(10):
            bot.send("carol", str(number))
        self.assertRaises(MailboxFull, bot.send, "carol", "10")


class UnreadAnswersTests(SynchronousTestCase):
    """Who sends much and does not read what he is told waits for himself."""

    def test_what_was_stored(self) -> None:
        world = OwnedWorld(self)
        bob = world.owner(b"bob")
        bob.send(b"/caps ack\n")
        alice = world.join(b"alice")
        alice.stop_taking()
        for number in range(50):
            refs = range(number * 900, number * 900 + 900)
            alice.send(b"".join(b"@ref=%d %%bob%%x\n" % ref for ref in refs))
            if b"@id=" in (raw := bob.raw()):
                bob.send(b"/ack " + raw.rpartition(b"@id=")[2].partition(b" ")[0] + b"\n")
        self.assertTrue(alice.session.gate.held)
        self.assertLess(alice.session.outbox.unsent_bytes, MARK + 100_000)

    def test_what_was_refused_to_who_is_blocked(self) -> None:
        world = OwnedWorld(self)
        world.owner(b"bob").lines(b"/block alice")
        alice = world.join(b"alice")
        alice.stop_taking()
        for _ in range(10):
            alice.send(b"%bob%x\n" * 5000)
        self.assertTrue(alice.session.gate.held)
        self.assertLess(alice.session.outbox.unsent_bytes, MARK + 1_000_000)
        alice.take()
        self.assertFalse(alice.session.gate.held)
        self.assertEqual(alice.raw().count(b"!error blocked bob"), 50_000)
