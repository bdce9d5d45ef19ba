"""What is asked for of a log: docs/protocol.rst, ``/history``."""

from __future__ import annotations

from chatrelay.commands.mailbox import DEFAULT_HISTORY_ENTRIES, MAX_HISTORY_ENTRIES
from chatrelay.limits import Limits
from tests.accounts_harness import OTHER_SECRET, SECRET, OwnedWorld
from tests.relay_harness import Client
from tests.store_harness import ManualThreadpool
from tests.test_mailbox import AwayCase, numbered, stored_ids

TIME = b"time=2026-09-21T14:13:20.000Z"


class HistoryCase(AwayCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.bob()

    def history(self, arguments: bytes = b"", client: Client | None = None) -> list[bytes]:
        """The messages of a history, without stamps; its first and its last line are checked."""
        client = client or self.client
        # What came before it.
        client.told()
        first, *messages, last = client.lines((b"/history " + arguments).rstrip())
        self.assertEqual(first.split(b" ")[0], b"!history")
        self.assertEqual(last, b"!end history %d" % len(messages))
        for line in messages:
            self.assertTrue(line.startswith(b"@id="), line)
        return [line.partition(b" ")[2] for line in messages]

    def texts(self, arguments: bytes = b"", client: Client | None = None) -> list[bytes]:
        return [line.split(b"%", 2)[2] for line in self.history(arguments, client)]


class FormTests(HistoryCase):
    """What can be asked for."""

    def ids(self) -> list[bytes]:
        return [
            line.split(b";")[0].removeprefix(b"@id=")
            for line in self.client.lines(b"/history 200")[1:-1]
        ]

    def test_with_and_without_a_name(self) -> None:
        carol = self.world.owner(b"carol")
        self.send(b"1")
        carol.lines(b"%bob%2")
        self.client.lines(b"%alice%3", b"%carol%4", b"%bob%5", b"%reverse%x")
        self.assertEqual(self.history(), [b"%alice%1", b"%carol%2", b"%bob%5"])
        self.assertEqual(self.history(b"ALICE"), [b"%alice%1", b"%bob%3"])
        self.assertEqual(self.history(b"bob"), [b"%bob%5"])
        self.assertEqual(self.history(b"nobody"), [])
        self.assertEqual(self.history(client=carol), [b"%bob%4"])
        self.assertEqual(self.history(b"bob", carol), [b"%carol%2", b"%bob%4"])

    def test_one_s_own_are_as_they_would_be_echoed(self) -> None:
        self.client.lines(b"@ref=1 %Alice%hi")
        [number] = self.client.lines(b"/history alice")[1:-1]
        self.assertRegex(
            number, rb"\A@id=[0-9a-f]+;time=2026-09-21T14:13:20\.000Z;to=Alice %bob%hi\Z"
        )

    def test_with_a_ref(self) -> None:
        self.send(b"1")
        told = self.client.lines(b"@ref=7 /history Alice 5")[-3:]
        self.assertEqual(told[0], b"@ref=7 !history Alice")
        self.assertRegex(told[1], rb"\A@ref=7;id=[0-9a-f]+;" + TIME + rb" %alice%1\Z")
        self.assertEqual(told[2], b"@ref=7 !end history 1")

    def test_how_many(self) -> None:
        self.send(*numbered(0, 300))
        self.client.told()
        for argument, first in (
            *((b"", 300 - DEFAULT_HISTORY_ENTRIES), (b"1", 299), (b"60", 240), (b"0", 300)),
            *((b"200", 100), (b"201", 300 - MAX_HISTORY_ENTRIES), (b"9" * 30, 100), (b"007", 293)),
        ):
            self.assertEqual(self.texts(argument), numbered(first, 300), argument)
        self.assertEqual((DEFAULT_HISTORY_ENTRIES, MAX_HISTORY_ENTRIES), (50, 200))

    def test_before_and_after(self) -> None:
        self.send(*numbered(0, 30))
        self.client.told()
        ids = self.ids()
        for arguments, first, end in (
            (b"after=" + ids[9], 10, 30),
            (b"5 after=" + ids[9], 10, 15),
            (b"after=" + ids[29], 30, 30),
            (b"after=0", 0, 30),
            (b"200 after=0", 0, 30),
            (b"before=" + ids[10], 0, 10),
            (b"3 before=" + ids[10], 7, 10),
            (b"before=" + ids[0], 0, 0),
            (b"before=0", 0, 0),
            (b"0 after=0", 0, 0),
            (b"alice 4 after=" + ids[0], 1, 5),
            (b"alice before=" + ids[5] + b" 2", 3, 5),
        ):
            self.assertEqual(self.texts(arguments), numbered(first, end), arguments)

    def test_names_of_digits(self) -> None:
        digits = self.world.join(b"42")
        digits.lines(b"%bob%from 42")
        self.send(b"from alice")
        self.client.told()
        self.assertEqual(self.texts(b"42"), [b"from 42", b"from alice"])
        self.assertEqual(self.texts(b"42 5"), [b"from 42"])
        self.assertEqual(self.texts(b"42 5 after=0"), [b"from 42"])

    def test_what_is_none(self) -> None:
        self.send(b"x")
        self.client.told()
        for arguments, answer in (
            *((b"after=x", b"bad-id"), (b"before=", b"bad-id"), (b"after=-1", b"bad-id")),
            *((b"after=ffffffffffffff", b"bad-id"), (b"before=1-1", b"bad-id")),
            (b"after=1 before=2", b"bad-line"),
            (b"before=1 before=1", b"bad-line"),
            *((b"alice bob", b"bad-line"), (b"1 2 3", b"bad-line"), (b"a 1 2", b"bad-line")),
            *((b"5 alice", b"bad-line"), (b"around=1", b"bad-line"), (b"a_b%", b"bad-name")),
            (b"#", b"bad-room"),
        ):
            told = self.client.lines(b"@ref=1 /history " + arguments)
            self.assertEqual(told, [b"@ref=1 !error " + answer], arguments)
        self.assertEqual(self.client.lines(b"/history #ops"), [b"!error unknown-room #ops"])

    def test_only_owned_names_have_one(self) -> None:
        for line in (b"/history", b"/history bob", b"/history 5"):
            self.assertEqual(self.alice.lines(line), [b"!error not-allowed"])
        unnamed = self.world.connect()
        self.assertEqual(unnamed.lines(b"/history"), [b"!error not-named"])


class WhatIsInItTests(HistoryCase):
    """Everything that was accepted, and nothing else."""

    def test_what_was_accepted_just_before(self) -> None:
        world = OwnedWorld(self, storing=ManualThreadpool())
        world.settle_all()
        world.add(b"bob")
        for _ in range(2):
            world.pass_time(1)
            world.settle_all()
        alice, bob = world.log_in(b"alice"), world.log_in(b"bob " + SECRET)
        for text in (b"1", b"2"):
            # The second one comes while the first is being written.
            alice.send(b"%bob%" + text + b"\n")
        bob.told()
        bob.send(b"/history\n/ping\n")
        alice.send(b"%bob%3\n")
        self.assertEqual(bob.told(), [b"%alice%3"])
        world.settle_all()
        told = bob.told()
        texts = [line.partition(b" ")[2] for line in told[1:-2]]
        self.assertEqual(texts[:2], [b"%alice%1", b"%alice%2"])
        # What is asked behind it is answered behind it, and nothing stands between its lines.
        self.assertEqual(told[-2:], [b"!end history %d" % len(texts), b"!pong"])

    def test_what_went_on_the_quick_path_and_what_did_not(self) -> None:
        self.alice.send(b"%bob%1\n%bob%2\n@a=b %bob%3\n%BOB%4\n@ref=1 %bob%5\n%bob,nobody%6\n")
        self.client.send(b"%alice%7\n%alice%8\n@ref=2 %alice%9\n@a %Alice%10\n%alice,nobody%11\n")
        self.client.told()
        self.assertEqual(self.texts(), numbered(1, 7))
        self.assertEqual(self.texts(b"alice"), numbered(1, 12))

    def test_what_was_refused_is_not(self) -> None:
        self.client.lines(b"%nobody%x", b"@ref=1 %nobody%x", b"%bob,nobody%y", b"%alice%")
        self.assertEqual(self.texts(b"nobody"), [])
        self.assertEqual(self.texts(), [b"y"])

    def test_one_asked_again_is_once(self) -> None:
        carol = self.world.owner(b"carol")
        carol.lines(*[b"@ref=1 %bob%x"] * 3)
        self.client.told()
        self.assertEqual(self.texts(), [b"x"])
        self.assertEqual(self.texts(b"bob", carol), [b"x"])

    def test_an_id_is_that_of_the_message(self) -> None:
        self.client.lines(b"/caps id")
        carol = self.world.owner(b"carol")
        carol.lines(b"%bob%x")
        [line] = self.client.told()
        shown = line.split(b" ")[0].removeprefix(b"@id=")
        for client, arguments in ((self.client, b""), (self.client, b" carol"), (carol, b" bob")):
            told = client.lines(b"/history" + arguments)
            self.assertTrue(told[1].startswith(b"@id=" + shown + b";time="), told)

    def test_over_a_restart(self) -> None:
        self.send(b"1")
        self.client.lines(b"%alice%2")
        self.world = self.world.restarted(is_killed=True)
        self.client = self.world.owner(b"bob")
        self.assertEqual(self.client.told(), [])
        self.assertEqual(self.texts(b"alice"), [b"1", b"2"])

    def test_it_reads_nothing(self) -> None:
        self.client.end()
        self.send(b"1")
        phone = self.bob(caps=b"ack")
        self.assertEqual(self.texts(client=phone)[-1:], [b"1"])
        phone.end()
        self.assertEqual(self.came(self.bob()), [b"1"])

    def test_an_id_whose_message_is_gone_is_a_place_all_the_same(self) -> None:
        self.world = OwnedWorld(self, Limits(max_mailbox_entries=40))
        bob = self.world.owner(b"bob")
        self.alice = self.world.join(b"alice")
        bob.lines(b"/caps id")
        self.send(b"first")
        gone = bob.told()[0].split(b" ")[0].removeprefix(b"@id=")
        for number in range(100):
            self.send(b"%d" % number)
        bob.told()
        texts = self.texts(b"200", bob)
        self.assertNotIn(b"first", texts)
        self.assertEqual(self.texts(b"200 after=" + gone, bob), texts)
        self.assertEqual(self.texts(b"before=" + gone, bob), [])

    def test_a_device_keeps_a_place_of_its_own(self) -> None:
        place, seen = b"0", []
        sent = 0
        for _ in range(6):
            count = 75
            self.send(*numbered(sent, sent + count))
            sent += count
            self.client.told()
            while True:
                told = self.client.lines(b"/history 40 after=" + place)[1:-1]
                seen += [line.split(b"%", 2)[2] for line in told]
                if told:
                    place = told[-1].split(b";")[0].removeprefix(b"@id=")
                if len(told) < 40:
                    break
        self.assertEqual(seen, numbered(0, sent))

    def test_none(self) -> None:
        self.world = OwnedWorld(self, Limits(history_s=0.0))
        self.client = self.world.owner(b"bob")
        self.alice = self.world.join(b"alice")
        self.send(b"1")
        self.client.lines(b"%alice%2", b"@ref=1 %alice%3")
        self.assertEqual(self.texts(), [])
        self.assertEqual(self.texts(b"alice"), [])
        self.client.lines(b"/caps ack")
        stored_ids(self.send(b"4")[-1:])
        # What is unread is there.
        self.assertEqual(self.texts()[-1:], [b"4"])

    def test_a_new_secret_keeps_it(self) -> None:
        self.send(b"1")
        self.client.lines(b"/register " + OTHER_SECRET + b" " + SECRET)
        self.assertEqual(self.texts(), [b"1"])
