"""Asking again, of owned names and of what is being stored: docs/protocol.rst, *Sending again*."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool, failing, let_fail
from tests.test_mailbox import stored_ids

REUSED = b"@ref=1 !error ref-reused bob"


class RefCase(SynchronousTestCase):
    limits = Limits(max_refs=5)

    def setUp(self) -> None:
        let_fail(self)
        self.world = OwnedWorld(self, self.limits, storing=ManualThreadpool())
        self.world.settle_all()
        for name in (b"bob", b"carol"):
            self.world.add(name)
        for _ in range(2):
            self.world.pass_time(1)
            self.world.settle_all()
        self.alice = self.world.log_in(b"alice")
        self.carol = self.log_in(b"carol")
        # So that it is known what is in bob's log.
        self.log_in(b"bob").end()
        self.world.settle_all()

    def log_in(self, name: bytes, *, caps: bytes = b"none") -> Client:
        return self.world.log_in(name + b" " + SECRET, caps=caps)

    def lines(self, client: Client, *lines: bytes) -> list[bytes]:
        """Send lines, let everything happen, and return what the client is told."""
        client.send(b"".join(line + b"\n" for line in lines))
        self.world.settle_all()
        return client.told()

    def restart(self, *, is_killed: bool) -> None:
        self.world = self.world.restarted(is_killed=is_killed, storing=ManualThreadpool())
        self.world.settle_all()
        self.carol = self.log_in(b"carol")

    def came(self) -> list[bytes]:
        """What waits for bob, who reads it."""
        bob = self.log_in(b"bob")
        told = bob.told()
        bob.end()
        self.world.settle_all()
        return told


class PendingTests(RefCase):
    """Asked again before it is stored: each is answered, and it is stored once."""

    def test_on_one_connection(self) -> None:
        for client in (self.alice, self.carol):
            line = b"@ref=1 %bob%x\n"
            client.send(line + line)
            client.send(line)
            self.assertEqual(client.told(), [])
            self.world.settle_all()
            told = client.told()
            self.assertEqual(len(told), 3)
            self.assertEqual(len(set(stored_ids(told))), 1)
            self.assertEqual(len(self.came()), 1)

    def test_on_another_connection_of_the_name(self) -> None:
        phone = self.log_in(b"carol")
        self.carol.send(b"@ref=1 %bob%x\n")
        phone.send(b"@ref=1 %Bob%x\n")
        self.assertEqual(phone.told() + self.carol.told(), [])
        self.world.settle_all()
        [one], [two] = self.carol.told(), phone.told()
        self.assertEqual(one.replace(b" bob ", b" Bob "), two)
        self.assertEqual(self.came(), [b"%carol%x"])

    def test_after_the_connection_broke_in_between(self) -> None:
        self.carol.send(b"@ref=1 %bob%x\n")
        self.carol.reset()
        again = self.world.connect()
        again.send(b"carol " + SECRET + b"\n@ref=1 %bob%x\n")
        self.world.settle_all()
        self.assertEqual(len(stored_ids(again.told()[1:])), 1)
        self.assertEqual(self.came(), [b"%carol%x"])

    def test_another_text(self) -> None:
        for client in (self.alice, self.carol):
            client.send(b"@ref=1 %bob%x\n@ref=1 %bob%y\n@ref=1;a %BOB%z\n")
            self.world.settle_all()
            told = client.told()
            self.assertEqual(told[:2], [REUSED, REUSED.replace(b"bob", b"BOB")])
            self.assertEqual(len(stored_ids(told[2:])), 1)
            self.assertEqual(len(self.came()), 1)

    def test_one_that_is_delivered_before_it_is_stored(self) -> None:
        self.carol.send(b"@ref=1 %bob%x\n")
        self.assertEqual(len(self.world.storing.pending), 1)
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        self.world.settle_all()
        self.assertEqual(bob.told()[1:], [b"%carol%x"])
        [first] = self.carol.told()
        stored_ids([first])
        self.assertEqual(self.lines(self.carol, b"@ref=1 %bob%x"), [first])
        self.assertEqual(bob.told(), [])


class FailingTests(RefCase):
    """What could not be stored is refused, and the same line is another attempt."""

    def test_on_every_way(self) -> None:
        for client in (self.alice, self.carol):
            for number, line in enumerate(
                (b"@ref=%d %%bob%%x", b"@ref=%d;a=b %%bob%%x", b"@ref=%d %%bob,nobody%%x")
            ):
                ref = number + 10 * (client is self.alice)
                with failing("COMMIT", sqlite3.SQLITE_FULL):
                    told = self.lines(client, *[line % ref] * 2)
                told = [one for one in told if b"nobody" not in one]
                self.assertEqual(told, [b"@ref=%d !error store-failed bob" % ref] * 2)
                told = self.lines(client, *[line % ref] * 2)
                told = [one for one in told if b"nobody" not in one]
                self.assertEqual(len(set(stored_ids(told))), 1)
                self.assertEqual(len(self.came()), 1)

    def test_one_that_was_delivered_before_the_disk_failed_was_sent(self) -> None:
        for fails in (True, False):
            bob = self.log_in(b"bob", caps=b"ack")
            ref = b"@ref=%d " % fails
            self.carol.send(ref + b"%bob%x\n%bob%y\n")
            self.assertEqual(bob.told(), [])
            bob.send(b"/caps none\n")
            self.assertEqual(bob.told(), [b"!caps none", b"%carol%x", b"%carol%y"])
            self.assertEqual(self.carol.told(), [])
            if fails:
                with failing("INSERT INTO chunk", sqlite3.SQLITE_FULL):
                    self.world.settle_all()
                # The one without a ref has no answer.
                self.assertEqual(self.carol.told(), [ref + b"!sent bob"])
            else:
                self.world.settle_all()
                self.assertEqual(len(stored_ids(self.carol.told())), 2)
            [again] = self.lines(self.carol, ref + b"%bob%x")
            self.assertIn(b"!sent" if fails else b"!stored", again)
            self.assertEqual(bob.told(), [])
            bob.end()
            self.world.settle_all()
        self.assertEqual(self.came(), [])


class RestartTests(RefCase):
    """What was stored under a ref is remembered for 10 minutes, also by the next relay."""

    def test_answered_again_with_its_id(self) -> None:
        for is_killed in (False, True):
            [first] = self.lines(self.carol, b"@ref=1%d %%bob%%x" % is_killed)
            self.restart(is_killed=is_killed)
            line = b"@ref=1%d %%bob%%" % is_killed
            self.assertEqual(self.lines(self.carol, line + b"x"), [first])
            self.assertIn(b"ref-reused", self.lines(self.carol, line + b"y")[0])
            self.assertEqual(self.came(), [b"%carol%x"])

    def test_for_what_is_left_of_10_minutes(self) -> None:
        [first] = self.lines(self.carol, b"@ref=1 %bob%x")
        self.world.pass_time(500)
        self.world.settle_all()
        self.restart(is_killed=True)
        self.world.pass_time(95)
        self.world.settle_all()
        self.assertEqual(self.lines(self.carol, b"@ref=1 %bob%x"), [first])
        self.world.pass_time(5)
        self.world.settle_all()
        [second] = self.lines(self.carol, b"@ref=1 %bob%y")
        self.assertNotEqual(stored_ids([first]), stored_ids([second]))

    def test_a_run_of_them(self) -> None:
        lines = [b"@ref=%d %%bob%%text %d" % (number, number) for number in range(5)]
        told = self.lines(self.carol, *lines)
        self.restart(is_killed=True)
        for line, answer in zip(lines, told, strict=True):
            self.assertEqual(self.lines(self.carol, line), [answer])
        self.assertEqual(len(self.came()), 5)

    def test_what_nobody_confirmed_is_not(self) -> None:
        self.carol.send(b"@ref=1 %bob%x\n")
        # It dies before the store has done it.
        self.restart(is_killed=True)
        [told] = self.lines(self.carol, b"@ref=1 %bob%x")
        stored_ids([told])
        self.assertEqual(self.came(), [b"%carol%x"])

    def test_when_its_log_was_put_away(self) -> None:
        [first] = self.lines(self.carol, b"@ref=1 %bob%x")
        self.carol.end()
        for _ in range(200):
            self.world.pass_time(1)
            self.world.settle_all()
        self.carol = self.log_in(b"carol")
        self.assertEqual(self.lines(self.carol, b"@ref=1 %bob%x"), [first])


class RestartWithoutHistoryTests(RestartTests):
    """The same where no text is kept."""

    limits = Limits(max_refs=5, history_s=0.0)
