"""An owned name that is away, and comes back: docs/protocol.rst, *The log of an owned name*."""

from __future__ import annotations

import re

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.protocol import WAITING_READ_BYTES
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld
from tests.relay_harness import Client, what_is_left
from tests.store_harness import ManualThreadpool

STORED = re.compile(rb"\A(?:@ref=(\S+) )?!stored (\S+) id=([0-9a-f]+)\Z")


def stored_ids(told: list[bytes]) -> list[int]:
    """The ids of lines that are all ``!stored``."""
    found = [STORED.match(line) for line in told]
    assert all(found), told
    return [int(match[3], 16) for match in found if match]


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


class AwayCase(SynchronousTestCase):
    """bob owns his name and is away; alice, whose name nobody owns, writes to him."""

    limits = Limits()

    def setUp(self) -> None:
        self.world = OwnedWorld(self, self.limits)
        self.world.owner(b"bob").end()
        self.alice = self.world.join(b"alice")

    def send(self, *texts: bytes, to: bytes = b"bob") -> list[bytes]:
        """Have alice write to a name, and return what she is told."""
        return self.alice.lines(*[b"%" + to + b"%" + text for text in texts])

    def bob(self, *, caps: bytes = b"") -> Client:
        """Connect bob; what waits for him has not been read."""
        client = self.world.connect()
        if caps:
            client.lines(b"/caps " + caps)
        client.send(b"bob " + SECRET + b"\n")
        assert client.told_first().startswith(b"!welcome bob"), client.raw()
        return client

    def came(self, client: Client) -> list[bytes]:
        """The texts of the messages of alice that a client was sent; there is nothing else."""
        told = client.told()
        texts = [line.partition(b"%alice%")[2] for line in told]
        self.assertTrue(all(texts), told)
        return texts


class AwayTests(AwayCase):
    """What is sent while nobody is there waits."""

    def test_also_while_what_he_wrote_before_he_was_lost_is_served(self) -> None:
        bob = self.bob()
        bob.transport.protocol.dataReceived(b"%alice%hi\n" * WAITING_READ_BYTES)
        bob.transport.lose(ConnectionLost())
        self.alice.transport.protocol.dataReceived(b"%bob%lost\n@a %bob%too\n")
        self.world.settle()
        self.assertEqual(self.came(self.bob()), [b"lost", b"too"])

    def test_in_order_and_before_anything_newer(self) -> None:
        texts = numbered(0, 50)
        ids = stored_ids(self.send(*texts))
        self.assertEqual(ids, sorted(set(ids)))
        bob = self.bob()
        self.assertEqual(self.send(b"newer"), [])
        self.assertEqual(self.came(bob), [*texts, b"newer"])

    def test_it_is_read_by_that(self) -> None:
        self.send(b"x")
        self.assertEqual(self.came(self.bob()), [b"x"])
        self.assertEqual(self.came(self.bob()), [])

    def test_it_outlives_the_relay(self) -> None:
        for is_killed in (False, True):
            ids = stored_ids(self.send(b"1", b"2"))
            self.world = self.world.restarted(is_killed=is_killed)
            self.alice = self.world.join(b"alice")
            later = stored_ids(self.send(b"3"))
            self.assertGreater(later[0], ids[1])
            bob = self.bob()
            self.assertEqual(self.came(bob), [b"1", b"2", b"3"])
            # And so does that it is read.
            bob.end()
            self.world = self.world.restarted(is_killed=is_killed)
            self.alice = self.world.join(b"alice")
            bob = self.bob()
            self.assertEqual(self.came(bob), [])
            bob.end()

    def test_what_a_relay_that_is_stopped_has_sent_is_read(self) -> None:
        self.send(b"1")
        bob = self.bob()
        # In the very turn in which it stops.
        self.alice.write(b"%bob%2\n")
        self.world.turn()
        self.world = self.world.restarted()
        self.assertEqual(bob.told()[:2], [b"%alice%1", b"%alice%2"])
        self.assertEqual(self.came(self.bob()), [])

    def test_stamps_are_those_of_when_it_was_accepted(self) -> None:
        [number] = stored_ids(self.send(b"x"))
        self.world.pass_time(60)
        bob = self.bob(caps=b"id time")
        self.assertEqual(bob.told(), [b"@id=%x;time=2026-09-21T14:13:20.000Z %%alice%%x" % number])

    def test_with_one_stamp_and_the_ends_that_the_client_has(self) -> None:
        [number] = stored_ids(self.send(b"x"))
        for caps, expected in (
            (b"id", b"@id=%x %%alice%%x" % number),
            (b"time", b"@time=2026-09-21T14:13:20.000Z %alice%x"),
            (b"none", b"%alice%x"),
        ):
            self.send(b"x")
            bob = self.world.connect()
            bob.lines(b"/caps " + caps + b"\r")
            bob.send(b"bob " + SECRET + b"\r\n")
            raw = bob.raw().split(b"\r\n")
            self.assertTrue(raw[0].startswith(b"!welcome"), raw)
            if caps != b"id":
                self.assertEqual(raw[-2].split(b" ")[-1], expected.split(b" ")[-1])
            else:
                self.assertEqual(raw[1], expected)
            bob.end()

    def test_an_answer_repeats_the_name_as_the_line_wrote_it(self) -> None:
        for line in (b"%BOB%x", b"@ref=1 %BoB%x"):
            [told] = self.alice.lines(line)
            match = STORED.match(told)
            assert match is not None, told
            self.assertEqual(match[2], line.split(b"%")[1])
        self.assertEqual(self.came(self.bob()), [b"x", b"x"])

    def test_any_text_as_it_was(self) -> None:
        texts = [b"%", b" ", b"\t", b"@ref=1", b"/quit", "é日👍".encode(), b"z" * 8000, b"%bob%x"]
        self.send(*texts)
        self.assertEqual(self.came(self.bob()), texts)

    def test_the_order_of_each_sender(self) -> None:
        carol = self.world.owner(b"carol")
        for number in range(20):
            self.alice.write(b"%%bob%%a%d\n" % number)
            carol.write(b"@ref=%d %%bob%%c%d\n" % (number, number))
            self.world.turn()
        self.world.settle()
        told = self.bob().told()
        for sender, first in ((b"alice", b"a"), (b"carol", b"c")):
            prefix = b"%" + sender + b"%" + first
            of_one = [line for line in told if line.startswith(prefix)]
            self.assertEqual(of_one, [prefix + number for number in numbered(0, 20)])
        self.assertEqual(len(told), 40)

    def test_to_several(self) -> None:
        self.world.owner(b"carol").end()
        dave = self.world.join(b"dave")
        told = self.alice.lines(b"@ref=1 %bob,nobody,dave,CAROL,Bob%x")
        # What the disk decides comes when it has.
        self.assertEqual(told[:2], [b"@ref=1 !error unknown-name nobody", b"@ref=1 !sent dave"])
        self.assertEqual(
            [line.split(b" id=")[0] for line in told[2:]],
            [
                b"@ref=1 !stored bob",
                b"@ref=1 !stored CAROL",
            ],
        )
        first, second = stored_ids(told[2:])
        self.assertNotEqual(first, second)
        self.assertEqual(dave.told(), [b"%alice%x"])
        self.assertEqual(self.came(self.bob()), [b"x"])
        self.assertEqual(self.world.owner(b"carol").told(), [b"%alice%x"])

    def test_a_message_to_oneself_from_a_connection_that_leaves(self) -> None:
        bob = self.bob()
        bob.lines(b"%bob%note")
        self.assertEqual(self.came(self.bob()), [])
        bob.end()

    def test_an_owner_that_is_away_is_offline(self) -> None:
        self.assertEqual(self.alice.lines(b"/watch bob"), [b"!offline bob"])
        self.assertEqual(self.alice.lines(b"/who bob"), [b"!end who 0"])
        self.send(b"x")
        self.assertEqual(self.alice.told(), [])

    def test_nothing_is_left(self) -> None:
        self.send(b"x", b"y")
        bob = self.bob()
        bob.end()
        self.alice.end()
        self.assertEqual(what_is_left(self.world), {})

    def test_a_log_that_nobody_uses_is_put_away_and_found_again(self) -> None:
        self.send(b"1")
        mailboxes = self.world.relay.mailboxes
        self.assertEqual(len(mailboxes._mailboxes), 1)
        self.world.pass_time(121)
        self.assertEqual(mailboxes._mailboxes, {})
        stored_ids(self.send(b"2"))
        self.world.pass_time(121)
        self.assertEqual(self.came(self.bob()), [b"1", b"2"])


class NotBeforeTheCommitTests(SynchronousTestCase):
    """Nothing is said before it is true."""

    def setUp(self) -> None:
        self.storing = ManualThreadpool()
        self.world = OwnedWorld(self, storing=self.storing)
        self.settle()
        self.world.add(b"bob")
        for _ in range(2):
            # The relay looks for accounts that others have made.
            self.world.pass_time(1)
            self.settle()
        self.alice = self.join(b"alice")

    def settle(self) -> None:
        self.world.settle()
        while self.storing.pending:
            self.storing.run_all()
            self.world.settle()

    def join(self, line: bytes, caps: bytes = b"none") -> Client:
        client = self.world.connect()
        client.send(b"/caps " + caps + b"\n")
        client.told()
        client.send(line + b"\n")
        self.settle()
        assert client.told_first().startswith(b"!welcome"), client.raw()
        return client

    def test_stored(self) -> None:
        self.alice.send(b"%bob%x\n")
        self.settle()
        stored_ids(self.alice.told())
        for line in (b"%bob%y", b"@ref=1 %bob%z"):
            self.alice.send(line + b"\n/ping\n")
            # Lines behind it are served meanwhile.
            self.assertEqual(self.alice.told(), [b"!pong"])
            self.settle()
            self.assertEqual(len(stored_ids(self.alice.told())), 1)

    def test_what_is_not_stored_yet_is_delivered_to_who_comes(self) -> None:
        self.alice.send(b"%bob%0\n")
        self.settle()
        self.alice.send(b"@ref=1 %bob%1\n")
        self.alice.told()
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        # The job that writes it was given before; who comes is looked up behind it.
        self.settle()
        self.assertEqual(bob.told()[1:], [b"%alice%0", b"%alice%1"])
        self.assertEqual(len(stored_ids(self.alice.told())), 1)

    def test_a_message_that_comes_while_the_log_is_read_waits_for_its_turn(self) -> None:
        self.alice.send(b"%bob%0\n")
        self.settle()
        bob = self.world.connect()
        bob.send(b"bob " + SECRET + b"\n")
        while not bob.session.is_named:
            self.storing.run()
            self.world.settle()
        self.assertEqual(len(bob.told()), 1)
        self.assertTrue(self.storing.pending)
        self.alice.send(b"@ref=1 %bob%1\n%bob%2\n")
        self.settle()
        self.assertEqual(bob.told(), [b"%alice%0", b"%alice%1", b"%alice%2"])
        told = self.alice.told()
        self.assertEqual(len(told), 3)
        self.alice.send(b"@ref=2 %bob%3\n")
        self.assertEqual(self.alice.told(), [b"@ref=2 !sent bob"])

    def test_with_ack_it_is_delivered_after_the_commit(self) -> None:
        bob = self.join(b"bob " + SECRET, caps=b"ack")
        self.alice.send(b"%bob%x\n")
        self.assertEqual((bob.told(), self.alice.told()), ([], []))
        self.settle()
        [line] = bob.told()
        [number] = stored_ids(self.alice.told())
        self.assertEqual(line, b"@id=%x %%alice%%x" % number)
        bob.send(b"/ack %x\n/ping\n" % number)
        self.assertEqual(bob.told(), [b"!pong"])
        self.settle()
        self.assertEqual(bob.told(), [b"!acked %x" % number])

    def test_many_messages_are_one_commit(self) -> None:
        self.alice.send(b"%bob%0\n")
        self.settle()
        self.alice.send(b"%bob%1\n")
        self.assertEqual(len(self.storing.pending), 1)
        for number in range(2, 100):
            self.alice.send(b"%%bob%%%d\n" % number)
        # They came while the first was being written.
        self.storing.run()
        self.assertEqual(len(self.storing.pending), 1)
        self.storing.run()
        self.assertEqual(len(self.storing.pending), 0)
        self.world.settle()
        self.assertEqual(len(stored_ids(self.alice.told())), 100)

    def test_who_ends_or_quits_is_told_first(self) -> None:
        self.alice.send(b"%bob%0\n")
        self.settle()
        for end in (b"", b"/quit\n"):
            carol = self.join(b"carol")
            carol.send(b"@ref=1 %bob%x\n" + end)
            if not end:
                carol.end()
            self.assertEqual(carol.told(), [])
            self.settle()
            told = carol.told()
            self.assertEqual(len(stored_ids(told[:1])), 1)
            self.assertEqual(told[1:], [b"!bye"] if end else [])
            self.assertFalse(carol.is_connected)


class DeviceTests(AwayCase):
    """Several connections have one cursor."""

    def test_one_that_comes_gets_what_none_has_read(self) -> None:
        phone = self.bob()
        phone.stop_taking()
        self.send(b"1", b"2")
        laptop = self.bob()
        self.assertEqual(self.came(laptop), [b"1", b"2"])
        self.send(b"3")
        phone.take()
        self.assertEqual(self.came(phone), [b"1", b"2", b"3"])
        self.assertEqual(self.came(laptop), [b"3"])

    def test_what_another_has_read_does_not_come(self) -> None:
        phone = self.bob()
        self.send(b"1")
        laptop = self.bob()
        self.send(b"2")
        self.assertEqual(self.came(laptop), [b"2"])
        self.assertEqual(self.came(phone), [b"1", b"2"])

    def test_one_that_leaves_leaves_the_others(self) -> None:
        phone, laptop = self.bob(), self.bob()
        self.send(b"1")
        phone.end()
        self.send(b"2")
        self.assertEqual(self.came(laptop), [b"1", b"2"])
        laptop.reset()
        stored_ids(self.send(b"3"))
        self.assertEqual(self.came(self.bob()), [b"3"])

    def test_what_nobody_has_taken_is_unread(self) -> None:
        phone = self.bob()
        self.send(b"1")
        self.came(phone)
        phone.stop_taking()
        self.send(b"2", b"3")
        phone.reset()
        self.assertEqual(self.came(self.bob()), [b"2", b"3"])

    def test_what_one_of_them_sends_and_is_stored_is_shown_to_the_others_then(self) -> None:
        storing = ManualThreadpool()
        world = OwnedWorld(self, storing=storing)

        def settle() -> None:
            world.settle()
            while storing.pending:
                storing.run_all()
                world.settle()

        settle()
        world.add(b"bob")
        world.add(b"carol")
        world.pass_time(1)
        settle()
        world.pass_time(1)
        settle()
        clients = []
        for line in (b"/caps echo id\nbob " + SECRET, b"bob " + SECRET, b"/ping"):
            client = world.connect()
            client.send(line + b"\n")
            settle()
            client.raw()
            clients.append(client)
        phone, laptop, _ = clients
        laptop.send(b"%carol%0\n")
        settle()
        [number] = stored_ids(laptop.told())
        self.assertEqual(phone.told(), [b"@id=%x;to=carol %%bob%%0" % number])
        laptop.send(b"%Carol%1\n")
        self.assertEqual(phone.told(), [])
        settle()
        [number] = stored_ids(laptop.told())
        self.assertEqual(phone.told(), [b"@id=%x;to=Carol %%bob%%1" % number])


class EndOfInputTests(AwayCase):
    """Who comes only to read what waits."""

    limits = Limits(high_water_bytes=20_000, low_water_bytes=10_000)

    def read(self, *, room: int | None = None) -> Client:
        client = self.world.connect()
        client.transport.room = room
        client.write(b"bob " + SECRET + b"\n")
        client.end()
        return client

    def test_everything_is_written_first(self) -> None:
        texts = [b"%d" % number + b"-" * 500 for number in range(100)]
        self.send(*texts)
        client = self.read()
        told = client.told()
        self.assertEqual(told[1:], [b"%alice%" + text for text in texts])
        self.assertFalse(client.is_connected)
        self.assertEqual(self.came(self.bob()), [])

    def test_as_fast_as_it_reads(self) -> None:
        texts = [b"%d" % number + b"-" * 8000 for number in range(300)]
        self.send(*texts)
        client = self.read(room=140_000)
        for _ in range(10):
            # Slower than what would have it cut off if others waited for it.
            self.world.pass_time(20)
            self.assertTrue(client.is_connected)
            client.take(140_000)
        client.take()
        self.assertEqual(client.told()[1:], [b"%alice%" + text for text in texts])
        self.assertFalse(client.is_connected)

    def test_one_that_takes_nothing_is_cut_off_and_loses_nothing(self) -> None:
        texts = [b"%d" % number + b"-" * 8000 for number in range(100)]
        self.send(*texts)
        client = self.read(room=0)
        self.world.pass_time(59)
        self.assertTrue(client.is_connected)
        self.world.pass_time(3)
        self.assertFalse(client.is_connected)
        self.assertEqual(self.came(self.bob()), texts)

    def test_what_it_does_not_take_in_the_end_waits(self) -> None:
        texts = [b"%d" % number + b"-" * 500 for number in range(20)]
        self.send(*texts)
        client = self.read(room=5_000)
        self.world.pass_time(12)
        self.assertFalse(client.is_connected)
        came = self.came(self.bob())
        self.assertEqual(came, texts[-len(came) :])
        self.assertGreaterEqual(len(came) * 500 + 5_000, 20 * 500)

    def test_with_nothing_waiting_it_ends_at_once(self) -> None:
        client = self.read()
        self.assertEqual(len(client.told()), 1)
        self.assertFalse(client.is_connected)

    def test_with_ack_what_was_not_acked_waits(self) -> None:
        self.send(b"1")
        client = self.world.connect()
        client.write(b"/caps ack\nbob " + SECRET + b"\n")
        client.end()
        told = client.told()
        self.assertTrue(told[-1].endswith(b" %alice%1"), told)
        self.assertFalse(client.is_connected)
        self.assertEqual(self.came(self.bob()), [b"1"])


class AccountTests(AwayCase):
    """What becomes of a log when its account changes."""

    def operate(self, what: str, *arguments: object) -> None:
        account = self.world.account(b"bob")
        assert account is not None
        self.world.in_store(
            lambda accounts: getattr(accounts, what)(account.number, *arguments, 0.0)
        )
        self.world.pass_time(2)

    def test_removed_while_messages_wait(self) -> None:
        self.send(b"x")
        self.operate("remove")
        self.assertEqual(self.send(b"y"), [b"!error unknown-name bob"])
        bob = self.world.owner(b"bob", OTHER_SECRET)
        # The next owner of the name has another log.
        self.assertEqual(self.came(bob), [])
        self.assertEqual(bob.lines(b"/history"), [b"!history", b"!end history 0"])
        self.assertEqual(self.send(b"z"), [])
        self.assertEqual(self.came(bob), [b"z"])

    def test_removed_before_the_relay_has_seen_it(self) -> None:
        self.send(b"x")
        account = self.world.account(b"bob")
        assert account is not None
        self.world.in_store(lambda accounts: accounts.remove(account.number, 0.0))
        self.assertEqual(self.send(b"y"), [b"!error unknown-name bob"])
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%z"), [b"@ref=1 !error unknown-name bob"])

    def test_removed_while_it_is_there(self) -> None:
        bob = self.bob(caps=b"ack")
        self.send(b"x")
        self.operate("remove")
        self.assertFalse(bob.is_connected)
        self.assertEqual(self.send(b"y"), [b"!error unknown-name bob"])
        self.assertEqual(what_is_left_of(self.world, self.alice), {})

    def test_disabled_and_enabled(self) -> None:
        self.operate("set_disabled", True)
        stored_ids(self.send(b"x"))
        self.assertEqual(self.world.connect().lines(b"bob " + SECRET), [b"!error bad-secret bob"])
        self.operate("set_disabled", False)
        self.assertEqual(self.came(self.bob()), [b"x"])

    def test_another_secret(self) -> None:
        self.send(b"x")
        bob = self.bob()
        bob.lines(b"/register " + OTHER_SECRET + b" " + SECRET)
        bob.end()
        self.send(b"y")
        self.assertEqual(self.came(self.world.owner(b"bob", OTHER_SECRET)), [b"y"])

    def test_made_by_the_tool(self) -> None:
        self.assertEqual(self.send(b"x", to=b"carol"), [b"!error unknown-name carol"])
        self.world.add(b"carol")
        self.world.pass_time(2)
        stored_ids(self.send(b"y", to=b"carol"))
        self.assertEqual(self.world.owner(b"carol").told(), [b"%alice%y"])

    def test_registered_by_who_has_it(self) -> None:
        carol = self.world.join(b"carol")
        dave = self.world.join(b"dave")
        self.assertEqual(dave.lines(b"@ref=1 %carol%1"), [b"@ref=1 !sent carol"])
        told = carol.lines(b"@ref=9 %dave%before", b"/register " + SECRET)
        self.assertEqual(told, [b"%dave%1", b"@ref=9 !sent dave", b"!registered carol"])
        self.assertEqual(dave.lines(b"@ref=2 %carol%2"), [b"%carol%before", b"@ref=2 !sent carol"])
        self.assertEqual(carol.told(), [b"%dave%2"])
        # What it had accepted is not forgotten.
        self.assertEqual(carol.lines(b"@ref=9 %dave%before"), [b"@ref=9 !sent dave"])
        self.assertEqual(dave.told(), [])
        carol.end()
        stored_ids(dave.lines(b"%carol%3"))
        self.assertEqual(self.world.owner(b"carol").told(), [b"%dave%3"])


class NameChangeTests(AwayCase):
    """A connection that takes another name leaves one log, and may come to another."""

    def test_to_a_free_name(self) -> None:
        bob = self.bob()
        self.send(b"1")
        self.assertEqual(bob.lines(b"/name robert")[0], b"%alice%1")
        stored_ids(self.send(b"2"))
        self.assertEqual(self.send(b"3", to=b"robert"), [])
        self.assertEqual(self.came(bob), [b"3"])
        self.assertEqual(bob.lines(b"/history"), [b"!error not-allowed"])
        told = bob.lines(b"/name bob " + SECRET)
        self.assertEqual(told[1:], [b"%alice%2"])

    def test_to_another_name_of_its_own(self) -> None:
        self.world.owner(b"carol").end()
        stored_ids(self.send(b"c", to=b"carol"))
        bob = self.bob()
        told = bob.lines(b"/name carol " + SECRET)
        self.assertEqual(told[1:], [b"%alice%c"])
        stored_ids(self.send(b"b"))
        self.assertEqual(self.send(b"d", to=b"carol"), [])
        self.assertEqual(self.came(bob), [b"d"])
        bob.lines(b"/name bob " + SECRET)
        self.assertEqual(len(stored_ids(self.send(b"e", to=b"carol"))), 1)

    def test_to_another_writing(self) -> None:
        bob = self.bob()
        bob.lines(b"/name BOB")
        self.assertEqual(self.send(b"1"), [])
        self.assertEqual(self.send(b"2", to=b"BOB"), [])
        self.assertEqual(self.came(bob), [b"1", b"2"])

    def test_what_was_on_its_way_comes_again_at_most(self) -> None:
        bob = self.bob()
        bob.stop_taking()
        self.send(b"1")
        bob.send(b"/name robert\n")
        self.assertEqual(self.came(self.bob()), [b"1"])
        bob.take()
        self.assertEqual(bob.told()[0], b"%alice%1")


def what_is_left_of(world: OwnedWorld, *clients: Client) -> dict[str, object]:
    for client in clients:
        client.end()
    return what_is_left(world)
