"""At least once, and receipts: docs/protocol.rst, *At least once* and *Receipts*."""

from __future__ import annotations

from twisted.plugins.chatrelay_bots import reverse

from chatrelay.bots.participant import BotParticipant
from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool
from tests.test_mailbox import AwayCase, stored_ids


def kept(told: list[bytes]) -> list[tuple[int, bool, bytes]]:
    """The id, whether it is marked, and the text of each message."""
    found = []
    for line in told:
        tags, space, message = line.partition(b" ")
        first, *others = tags.removeprefix(b"@").split(b";")
        assert tags.startswith(b"@id=") and space, line
        assert others in ([], [b"again"]), line
        number = int(first.removeprefix(b"id="), 16)
        found.append((number, bool(others), message.split(b"%", 2)[2]))
    return found


class AckTests(AwayCase):
    """With the cap ``ack`` a program says itself what it has."""

    def acking(self) -> Client:
        return self.bob(caps=b"ack")

    def test_it_is_unread_until_it_is_acked(self) -> None:
        ids = stored_ids(self.send(b"1", b"2", b"3"))
        bob = self.acking()
        self.assertEqual(
            kept(bob.told()), [(ids[0], False, b"1"), (ids[1], False, b"2"), (ids[2], False, b"3")]
        )
        self.assertEqual(bob.lines(b"/ack %x" % ids[1]), [b"!acked %x" % ids[1]])
        bob.reset()
        again = self.acking()
        self.assertEqual(kept(again.told()), [(ids[2], True, b"3")])
        [new] = stored_ids(self.send(b"4"))
        self.assertEqual(kept(again.told()), [(new, False, b"4")])
        self.assertEqual(again.lines(b"@ref=7 /ack %x" % new), [b"@ref=7 !acked %x" % new])
        again.end()
        self.assertEqual(kept(self.acking().told()), [])

    def test_also_what_is_sent_to_it_while_it_is_here(self) -> None:
        bob = self.acking()
        ids = stored_ids(self.send(b"1", b"2"))
        self.assertEqual(kept(bob.told()), [(ids[0], False, b"1"), (ids[1], False, b"2")])
        bob.reset()
        self.assertEqual(kept(self.acking().told()), [(ids[0], True, b"1"), (ids[1], True, b"2")])

    def test_over_a_restart(self) -> None:
        for is_killed in (False, True):
            bob = self.acking()
            ids = stored_ids(self.send(b"1", b"2"))
            bob.lines(b"/ack %x" % ids[0])
            self.world = self.world.restarted(is_killed=is_killed)
            self.alice = self.world.join(b"alice")
            bob = self.acking()
            self.assertEqual(kept(bob.told()), [(ids[1], True, b"2")], is_killed)
            bob.lines(b"/ack %x" % ids[1])
            bob.end()

    def test_what_was_never_offered_is_not_marked(self) -> None:
        ids = stored_ids(self.send(b"1"))
        bob = self.acking()
        bob.reset()
        self.send(b"2")
        self.world = self.world.restarted(is_killed=True)
        self.assertEqual(
            [(mark, text) for _, mark, text in kept(self.acking().told())],
            [(True, b"1"), (False, b"2")],
        )
        self.assertEqual(len(ids), 1)

    def test_an_ack_covers_what_its_own_connection_was_sent(self) -> None:
        one, two, three = stored_ids(self.send(b"1", b"2", b"3"))
        bob = self.acking()
        bob.told()
        for bad in (b"%x" % (three + 1), b"%x" % (three + 1000), b"zz", b"", b"-1", b"1 2"):
            [told] = bob.lines(b"/ack " + bad)
            self.assertIn(told, (b"!error bad-id", b"!error bad-line"), bad)
        self.assertEqual(bob.lines(b"/ack %x" % two), [b"!acked %x" % two])
        later = self.acking()
        self.assertEqual(kept(later.told()), [(three, True, b"3")])
        # It was not sent what is before.
        self.assertEqual(later.lines(b"/ack %x" % one), [b"!error bad-id"])
        self.assertEqual(later.lines(b"/ack %x" % two), [b"!error bad-id"])
        # Nor may it ack what comes only to another name.
        carol = self.world.owner(b"carol")
        carol.lines(b"/caps ack")
        [other] = stored_ids(self.send(b"x", to=b"carol"))
        self.assertEqual(later.lines(b"/ack %x" % other), [b"!error bad-id"])
        self.assertEqual(later.lines(b"/ack %x" % three), [b"!acked %x" % three])

    def test_an_id_of_somebody_else_s_between_two_of_one_s_own(self) -> None:
        bob = self.acking()
        carol = self.world.owner(b"carol")
        [one] = stored_ids(self.send(b"1"))
        self.alice.lines(b"%carol%x")
        others = [one + 1, one + 2]
        [two] = stored_ids(self.send(b"2"))
        carol.end()
        for other in set(others) - {two}:
            self.assertEqual(bob.lines(b"/ack %x" % other)[-1:], [b"!error bad-id"])
        self.assertEqual(bob.lines(b"/ack %x" % two), [b"!acked %x" % two])
        self.assertEqual(bob.lines(b"/ack %x" % one), [b"!acked %x" % one])

    def test_twice_and_out_of_order(self) -> None:
        one, two = stored_ids(self.send(b"1", b"2"))
        bob = self.acking()
        bob.told()
        told = bob.lines(b"/ack %x" % two, b"/ack %x" % one, b"/ack %x" % two)
        self.assertEqual(told, [b"!acked %x" % number for number in (two, one, two)])
        bob.end()
        self.assertEqual(kept(self.acking().told()), [])

    def test_who_has_no_log_has_nothing_to_ack(self) -> None:
        self.assertEqual(self.alice.lines(b"/caps ack"), [b"!caps id ack"])
        self.assertEqual(self.alice.lines(b"/ack 1"), [b"!error not-allowed"])
        self.alice.lines(b"/caps none")

    def test_one_acks_for_all(self) -> None:
        ids = stored_ids(self.send(b"1"))
        laptop = self.bob()
        self.assertEqual(self.came(laptop), [b"1"])
        phone = self.acking()
        [number] = stored_ids(self.send(b"2"))
        # Nothing that the others read moves the cursor.
        self.assertEqual(self.came(laptop), [b"2"])
        self.assertEqual(kept(phone.told()), [(number, False, b"2")])
        phone.reset()
        laptop.end()
        phone = self.acking()
        self.assertEqual(kept(phone.told()), [(number, True, b"2")])
        self.assertEqual(len(ids), 1)

    def test_when_the_last_that_acks_has_gone_the_others_read(self) -> None:
        laptop, phone = self.bob(), self.acking()
        self.send(b"1")
        phone.reset()
        self.assertEqual(self.send(b"2"), [])
        self.assertEqual(self.came(laptop), [b"1", b"2"])
        laptop.end()
        self.assertEqual(kept(self.acking().told()), [])

    def test_caps_that_change(self) -> None:
        bob = self.bob()
        self.assertEqual(self.send(b"1"), [])
        bob.lines(b"/caps ack")
        [number] = stored_ids(self.send(b"2"))
        self.assertEqual(kept(bob.told()), [(number, False, b"2")])
        bob.lines(b"/caps none")
        self.assertEqual(self.send(b"3"), [])
        self.assertEqual(self.came(bob), [b"3"])

    def test_two_that_ack(self) -> None:
        one, two = self.acking(), self.acking()
        first, second = stored_ids(self.send(b"1", b"2"))
        for client in (one, two):
            self.assertEqual(len(kept(client.told())), 2)
        one.lines(b"/ack %x" % first)
        self.assertEqual(two.lines(b"/ack %x" % first), [b"!acked %x" % first])
        two.reset()
        # The one that is there was sent it, and so was the one that has gone.
        self.assertEqual(kept(self.acking().told()), [(second, True, b"2")])

    def test_slowly_and_all_of_it(self) -> None:
        texts = [b"%d" % number + b"-" * 8000 for number in range(150)]
        self.send(*texts)
        bob = self.world.connect()
        bob.lines(b"/caps ack")
        bob.transport.room = 1000
        bob.send(b"bob " + SECRET + b"\n")
        for number in range(150, 200):
            texts.append(b"%d" % number)
            self.send(texts[-1])
            bob.take(40_000)
        bob.take()
        found = kept(bob.told()[1:])
        self.assertEqual([text for _, _, text in found], texts)
        self.assertEqual([number for number, _, _ in found], sorted({n for n, _, _ in found}))
        bob.lines(b"/ack %x" % found[-1][0])
        bob.end()
        self.assertEqual(kept(self.acking().told()), [])

    def test_stamps_go_before_the_mark(self) -> None:
        [number] = stored_ids(self.send(b"1"))
        self.acking().reset()
        told = self.bob(caps=b"ack time").told()
        self.assertEqual(told, [b"@id=%x;time=2026-09-21T14:13:20.000Z;again %%alice%%1" % number])

    def test_without_a_history(self) -> None:
        self.world = OwnedWorld(self, Limits(history_s=0.0))
        self.world.owner(b"bob").end()
        self.alice = self.world.join(b"alice")
        [one], [two] = stored_ids(self.send(b"1")), stored_ids(self.send(b"2"))
        bob = self.acking()
        bob.told()
        bob.lines(b"/ack %x" % one)
        # What is acked is not kept.
        self.assertEqual(len(bob.lines(b"/history")), 3)
        self.world = self.world.restarted()
        self.assertEqual(kept(self.acking().told()), [(two, True, b"2")])


class MarkingTests(AwayCase):
    """After a crash too much may be marked, never too little."""

    def test_a_crash_at_any_job_of_the_store(self) -> None:
        most = 0
        # A message is sent so many jobs after its recipient came; before, if that is negative.
        for sent_at in range(-1, 4):
            for jobs in range(8):
                offered, marked = self.crash(sent_at, jobs)
                self.assertLessEqual(offered, marked, (sent_at, jobs))
                most = max(most, len(offered))
        self.assertEqual(most, 2)

    def crash(self, sent_at: int, jobs: int) -> tuple[set[bytes], set[bytes]]:
        """What was delivered until the relay died, and what the next one has marked of it."""
        world = OwnedWorld(self, storing=ManualThreadpool())
        world.settle_all()
        world.add(b"bob")
        for _ in range(2):
            world.pass_time(1)
            world.settle_all()
        alice = world.log_in(b"alice")
        alice.send(b"%bob%0\n")
        world.settle_all()
        if sent_at < 0:
            alice.send(b"%bob%1\n")
        bob = world.connect()
        bob.send(b"/caps ack\nbob " + SECRET + b"\n")
        for job in range(jobs):
            if job == sent_at:
                alice.send(b"%bob%1\n")
            if world.storing.pending:
                world.storing.run()
                world.settle()
        offered = {line.partition(b" ")[2] for line in bob.told() if b"%alice%" in line}
        after = world.restarted(is_killed=True, storing=ManualThreadpool())
        after.settle_all()
        told = after.log_in(b"bob " + SECRET, caps=b"ack").told()
        return offered, {line.partition(b" ")[2] for line in told if b";again" in line}


class ReceiptTests(AwayCase):
    """A sender is told that its message was acked."""

    def setUp(self) -> None:
        super().setUp()
        self.lamp = self.bob(caps=b"ack")
        self.carol = self.world.owner(b"carol")
        for client in (self.alice, self.carol):
            client.lines(b"/caps receipts")

    def ack(self, client: Client | None = None) -> int:
        """Ack everything that a client, bob's, was sent."""
        client = client or self.lamp
        last = kept(client.told())[-1][0]
        [told] = client.lines(b"/ack %x" % last)
        self.assertEqual(told, b"!acked %x" % last)
        return last

    def test_to_free_and_to_owned_senders(self) -> None:
        for client in (self.alice, self.carol):
            [number] = stored_ids(client.lines(b"@ref=1 %Bob%x"))
            self.ack()
            # The name as its owner writes it.
            self.assertEqual(client.told(), [b"@ref=1 !acked bob id=%x" % number])

    def test_one_ack_is_a_receipt_for_each_message(self) -> None:
        for client in (self.alice, self.carol):
            ids = stored_ids(
                client.lines(b"@ref=1 %bob%1", b"%bob%2", b"@ref=3 %bob%3", b"@ref=4 %bob%4")
            )
            self.ack()
            self.assertEqual(
                client.told(),
                [b"@ref=%d !acked bob id=%x" % (ref, ids[ref - 1]) for ref in (1, 3, 4)],
            )

    def test_not_to_who_did_not_ask(self) -> None:
        self.alice.lines(b"/caps none")
        self.carol.lines(b"/caps ack")
        for client in (self.alice, self.carol):
            client.lines(b"@ref=1 %bob%x")
        self.ack()
        self.assertEqual((self.alice.told(), self.carol.told()), ([], []))

    def test_not_for_what_another_had_sent_under_that_name(self) -> None:
        self.alice.lines(b"@ref=1 %bob%x")
        self.alice.end()
        alice = self.world.join(b"alice", caps=b"receipts")
        alice.lines(b"@ref=1 %carol%other")
        self.ack()
        self.assertEqual(alice.told(), [])

    def test_to_all_connections_of_an_owned_sender(self) -> None:
        phone = self.world.owner(b"carol")
        phone.lines(b"/caps receipts")
        [number] = stored_ids(phone.lines(b"@ref=1 %bob%x"))
        self.ack()
        for client in (self.carol, phone):
            self.assertEqual(client.told(), [b"@ref=1 !acked bob id=%x" % number])

    def test_it_waits_for_an_owned_sender_that_is_away(self) -> None:
        for restarts in (False, True):
            [number] = stored_ids(self.carol.lines(b"@ref=1%d %%bob%%x" % restarts))
            self.carol.end()
            self.ack()
            if restarts:
                self.world = self.world.restarted(is_killed=True)
            self.carol = self.world.connect()
            self.carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
            self.assertEqual(
                self.carol.told()[2:], [b"@ref=1%d !acked bob id=%x" % (restarts, number)]
            )
            self.carol.end()
            self.carol = self.world.connect()
            self.carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
            # Once it has been told.
            self.assertEqual(len(self.carol.told()), 2)

    def test_nobody_has_looked_into_the_log_it_waits_in(self) -> None:
        [number] = stored_ids(self.carol.lines(b"@ref=1 %bob%x"))
        self.carol.end()
        self.world = self.world.restarted(is_killed=True)
        lamp = self.bob(caps=b"ack")
        self.ack(lamp)
        lamp.end()
        mailboxes = self.world.relay.mailboxes
        self.assertIn(b"carol", [mailbox.name.key for mailbox in mailboxes._mailboxes.values()])
        self.world.pass_time(121)
        self.assertEqual(mailboxes._mailboxes, {})
        self.carol = self.world.connect()
        self.carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
        self.assertEqual(self.carol.told()[2:], [b"@ref=1 !acked bob id=%x" % number])

    def test_in_their_place_among_messages(self) -> None:
        [number] = stored_ids(self.carol.lines(b"@ref=1 %bob%x"))
        self.carol.end()
        stored_ids(self.send(b"before", to=b"carol"))
        self.ack()
        stored_ids(self.send(b"after", to=b"carol"))
        carol = self.world.connect()
        carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
        self.assertEqual(
            carol.told()[2:],
            [b"%alice%before", b"@ref=1 !acked bob id=%x" % number, b"%alice%after"],
        )

    def test_one_that_came_before_the_cap_is_gone(self) -> None:
        self.carol.lines(b"@ref=1 %bob%x")
        self.carol.end()
        self.ack()
        carol = self.world.owner(b"carol")
        self.assertEqual(carol.lines(b"/caps receipts"), [b"!caps receipts"])
        carol.end()
        carol = self.world.connect()
        carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
        self.assertEqual(len(carol.told()), 2)

    def test_asked_again(self) -> None:
        for client in (self.alice, self.carol):
            line = b"@ref=5 %bob%x"
            [number] = stored_ids(client.lines(line))
            stored, acked = b"@ref=5 !stored bob id=%x", b"@ref=5 !acked bob id=%x"
            self.assertEqual(client.lines(line), [stored % number])
            self.ack()
            self.assertEqual(client.told(), [acked % number])
            self.assertEqual(client.lines(line), [stored % number, acked % number])
        self.world = self.world.restarted()
        carol = self.world.connect()
        carol.send(b"/caps receipts\ncarol " + SECRET + b"\n")
        carol.told()
        self.assertEqual(carol.lines(line), [stored % number, acked % number])

    def test_it_is_neither_in_the_history_nor_unread(self) -> None:
        self.carol.lines(b"@ref=1 %bob%x")
        self.carol.end()
        self.ack()
        carol = self.world.owner(b"carol")
        carol.lines(b"/caps ack")
        self.assertEqual(carol.lines(b"/history"), [b"!history", b"!end history 0"])
        carol.end()
        self.assertEqual(len(self.world.owner(b"carol").told()), 0)

    def test_to_one_that_acks_too(self) -> None:
        self.carol.lines(b"/caps ack receipts")
        stored_ids(self.send(b"m", to=b"carol"))
        [number] = stored_ids(self.carol.lines(b"@ref=1 %bob%x")[1:])
        self.ack()
        self.assertEqual(self.carol.told(), [b"@ref=1 !acked bob id=%x" % number])
        [last] = stored_ids(self.send(b"n", to=b"carol"))
        self.carol.lines(b"/ack %x" % last)
        self.carol.lines(b"@ref=2 %bob%x")
        self.ack()
        self.carol.reset()
        # A receipt need not be acked: one that is the last of all does not come again.
        carol = self.world.log_in(b"carol " + SECRET, caps=b"ack receipts")
        self.assertEqual(carol.told(), [])
        self.assertEqual(self.world.relay.find(b"carol")._unread.entries, 0)

    def test_a_ref_that_was_used_again_after_its_time(self) -> None:
        [first] = stored_ids(self.carol.lines(b"@ref=1 %bob%x"))
        self.world.pass_time(601)
        [second] = stored_ids(self.carol.lines(b"@ref=1 %bob%y"))
        self.lamp.lines(b"/ack %x" % first)
        self.assertEqual(self.carol.told(), [b"@ref=1 !acked bob id=%x" % first])
        self.assertEqual(self.carol.lines(b"@ref=1 %bob%y"), [b"@ref=1 !stored bob id=%x" % second])

    def test_none_for_bots(self) -> None:
        relay = self.world.relay
        relay.registry.add_bot(
            BotParticipant(reverse, relay.find, relay.wall_clock, lambda *_: None, relay.limits)
        )
        self.lamp.send(b"%reverse%abc\n")
        self.ack()
        self.assertEqual(self.flushLoggedErrors(), [])


class ReceiptsWithoutHistoryTests(ReceiptTests):
    """The same where nothing is kept that was read."""

    limits = Limits(history_s=0.0)
