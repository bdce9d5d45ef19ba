"""Messages between clients: docs/protocol.rst, *Messages*."""

from __future__ import annotations

from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.bots.participant import BotParticipant
from chatrelay.limits import Limits
from chatrelay.protocol import RelayProtocol
from tests.relay_harness import Client, World


def add_bot(world: World) -> None:
    relay = world.relay
    participant = BotParticipant(
        reverse, relay.registry.find, relay.wall_clock, lambda *_: None, relay.limits
    )
    relay.registry.add_bot(participant)


class MessageTests(SynchronousTestCase):
    """What alice sends as ``%bob%hi`` bob reads as ``%alice%hi``."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_to_one_name(self) -> None:
        self.assertEqual(self.alice.lines(b"%bob%hello"), [])
        self.assertEqual(self.bob.raw(), b"%alice%hello\n")

    def test_a_name_in_any_writing_of_it(self) -> None:
        anna = self.world.join("Анна".encode())
        for writing in ("анна", "АННА", "Анна", "аННА", "анНА", "АнНа"):
            for line in (f"%{writing}%x", f"@a %{writing}%x", f"%{writing},bob%x"):
                self.assertEqual(self.alice.lines(line.encode()), [])
                self.assertEqual(anna.told(), [b"%alice%x"], writing)

    def test_another_writing_is_on_the_quick_path_from_its_second_use(self) -> None:
        seen: list[bytes] = []

        class Watching(RelayProtocol):
            def lineReceived(self, line: bytes) -> None:
                seen.append(line)
                super().lineReceived(line)

        self.alice.protocol.__class__ = Watching
        self.alice.lines(b"%BOB%1", b"%BOB%2", b"%bob%3")
        self.alice.lines(b"%BOB%4")
        self.assertEqual(seen, [b"%BOB%1"])
        self.assertEqual(self.bob.told(), [b"%%alice%%%d" % number for number in (1, 2, 3, 4)])

    def test_only_the_first_two_percents_are_syntax(self) -> None:
        for text in (b"%", b"%%", b"100%", b"%bob%x", b"a%b%c", b"%s %d %(x)s %%"):
            self.alice.lines(b"%bob%" + text, b"@a %bob%" + text, b"%bob,bob%" + text)
            self.assertEqual(self.bob.raw(), (b"%alice%" + text + b"\n") * 3)

    def test_to_several_names_each_is_its_own_delivery(self) -> None:
        carol = self.world.join(b"carol")
        self.assertEqual(self.alice.lines(b"%bob,carol,alice%x"), [b"%alice%x"])
        self.assertEqual((self.bob.told(), carol.told()), ([b"%alice%x"], [b"%alice%x"]))

    def test_a_name_given_twice_is_one(self) -> None:
        told = self.alice.lines(b"@ref=1 %bob,BOB,bob,nobody,Bob,NOBODY%x")
        self.assertEqual(self.bob.told(), [b"%alice%x"])
        self.assertEqual(told, [b"@ref=1 !sent bob", b"@ref=1 !error unknown-name nobody"])

    def test_32_and_33_targets(self) -> None:
        clients = [self.world.join(b"n%d" % number) for number in range(31)]
        names = [b"n%d" % number for number in range(31)]
        told = self.alice.lines(b"@ref=1 %" + b",".join([*names, b"bob"]) + b"%x")
        self.assertEqual(told, [b"@ref=1 !sent " + name for name in (*names, b"bob")])
        for client in (*clients, self.bob):
            self.assertEqual(client.told(), [b"%alice%x"])
        told = self.alice.lines(b"@ref=2 %" + b",".join([*names, b"bob", b"alice"]) + b"%x")
        self.assertEqual(told, [b"@ref=2 !error too-many-targets"])
        for client in (*clients, self.bob):
            self.assertEqual(client.told(), [])

    def test_a_repeated_target_counts_each_time(self) -> None:
        told = self.alice.lines(b"%" + b",".join([b"bob"] * 33) + b"%x")
        self.assertEqual(told, [b"!error too-many-targets"])

    def test_to_oneself(self) -> None:
        for line in (b"%alice%x", b"@a %alice%x", b"%ALICE%x"):
            self.assertEqual(self.alice.lines(line), [b"%alice%x"])

    def test_no_such_name(self) -> None:
        for target in ("carol", "Carol", "Анна", "server", "a" * 32):
            self.assertEqual(
                self.alice.lines(f"%{target}%x".encode()),
                [b"!error unknown-name " + target.encode()],
            )

    def test_refused_lines(self) -> None:
        for line, answer in [
            (b"%bob%", b"!error empty-text"),
            (b"%bob,alice%", b"!error empty-text"),
            (b"%", b"!error bad-line"),
            (b"%bob", b"!error bad-line"),
            (b"%%x", b"!error bad-line"),
            (b"hello", b"!error bad-line"),
            (b" %bob%x", b"!error bad-line"),
            (b"!sent bob", b"!error bad-line"),
            (b"%bob,%x", b"!error bad-name"),
            (b"%,bob%x", b"!error bad-name"),
            (b"%bob, alice%x", b"!error bad-name"),
            (b"%b ob%x", b"!error bad-name"),
            (b"%" + b"b" * 33 + b"%x", b"!error bad-name"),
            ("%Bоb%x".encode(), b"!error bad-name"),
            (b"%bob,#ops%x", b"!error bad-line"),
            (b"%#ops,bob%x", b"!error bad-line"),
            (b"%bob,*%x", b"!error bad-line"),
            (b"%#a b%x", b"!error bad-room"),
            (b"%#%x", b"!error bad-room"),
            (b"%#ops%x", b"!error unknown-room #ops"),
            (b"%#ops%", b"!error empty-text"),
            (b"%*%x", b"!error not-allowed"),
            (b"%*%", b"!error empty-text"),
        ]:
            self.assertEqual(self.alice.lines(line), [answer], line)
            self.assertEqual(self.alice.lines(b"@ref=r " + line), [b"@ref=r " + answer], line)
            self.assertEqual(self.bob.told(), [], line)

    def test_a_refusal_in_a_run_keeps_its_place(self) -> None:
        told = self.alice.lines(
            b"%bob%1", b"%alice%2", b"%nobody%3", b"%alice%4", b"%bob%", b"%alice%5", b"%bob%6"
        )
        self.assertEqual(
            told,
            [
                b"%alice%2",
                b"!error unknown-name nobody",
                b"%alice%4",
                b"!error empty-text",
                b"%alice%5",
            ],
        )
        self.assertEqual(self.bob.told(), [b"%alice%1", b"%alice%6"])

    def test_order_whatever_path_a_message_takes(self) -> None:
        lines = []
        for number in range(200):
            before = (b"", b"@a ", b"", b"@ref=%d " % number)[number % 4]
            target = (b"bob", b"BOB", b"bob,bob")[number % 3]
            lines.append(before + b"%" + target + b"%" + b"%d" % number)
        for piece in (1, 64, 1000, 100_000):
            stream = b"\n".join(lines) + b"\n"
            for start in range(0, len(stream), piece):
                self.alice.write(stream[start : start + piece])
            self.world.settle()
            self.assertEqual(self.bob.told(), [b"%%alice%%%d" % n for n in range(200)])
            self.alice.raw()
            self.world.pass_time(601)

    def test_without_a_ref_a_delivered_message_has_no_answer(self) -> None:
        self.assertEqual(
            self.alice.lines(b"%bob%1", b"@a=b %bob%2", b"%bob,alice%3"), [b"%alice%3"]
        )

    def test_messages_and_bytes_in_and_out_are_counted(self) -> None:
        lines = (b"%bob%one", b"@a %bob%two", b"%nobody%x", b"%bob,alice%3")
        alice, bob = self.alice.session, self.bob.session
        before_in, before_out = alice.bytes_in, bob.bytes_out
        self.alice.lines(*lines)
        self.assertEqual((alice.messages_in, alice.messages_out), (4, 1))
        self.assertEqual((bob.messages_in, bob.messages_out), (0, 3))
        self.assertEqual(alice.bytes_in - before_in, sum(map(len, lines)) + len(lines))
        self.assertEqual(bob.bytes_out - before_out, len(self.bob.raw()))


class LeavingTests(SynchronousTestCase):
    """A recipient that leaves, also in the middle of a run."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_between_two_reads(self) -> None:
        self.alice.lines(b"%bob%1")
        self.bob.end()
        self.assertEqual(
            self.alice.lines(b"%bob%2", b"@ref=3 %bob%3"),
            [b"!error unknown-name bob", b"@ref=3 !error unknown-name bob"],
        )
        self.assertEqual(self.bob.told(), [b"%alice%1"])

    def test_in_the_middle_of_a_run_that_is_held(self) -> None:
        """The run waits for carol; bob leaves meanwhile, then another bob comes."""
        carol = self.world.join(b"carol")
        carol.stop_taking()
        big = b"x" * 8000
        # Three reads and more: the first of them are over carol's mark.
        lines = [b"%carol%" + big] * 200 + [b"%bob%for the first bob"]
        self.alice.write(b"\n".join(lines) + b"\n")
        self.world.settle()
        self.assertFalse(self.alice.transport.reading)
        self.bob.end()
        second = self.world.join(b"bobby")
        carol.take()
        self.assertEqual(self.alice.told(), [b"!error unknown-name bob"])
        self.assertEqual(len(carol.told()), 200)
        self.assertEqual((self.bob.told(), second.told()), ([], []))

    def test_a_sender_that_leaves_has_sent(self) -> None:
        self.alice.write(b"%bob%1\n/quit\n%bob%2\n")
        self.world.settle()
        self.assertEqual(self.bob.told(), [b"%alice%1"])

    def test_a_recipient_that_leaves_by_the_run_itself(self) -> None:
        """It can not be written to any more, and is ended while the run is routed."""
        world = World(Limits(max_unsent_bytes=100_000, high_water_bytes=1 << 20))
        alice, bob = world.join(b"alice"), world.join(b"bob")
        bob.stop_taking()
        alice.write(b"".join(b"%bob%" + b"x" * 8000 + b"\n" for _ in range(30)))
        world.settle()
        self.assertFalse(bob.is_connected)
        told = alice.told()
        self.assertEqual(set(told), {b"!error unknown-name bob"})
        self.assertLess(len(told), 30)
        self.assertEqual(world.relay.flow.unsent_bytes, 0)

    def test_the_next_holder_of_the_name_gets_what_is_sent_then(self) -> None:
        self.alice.lines(b"%BOB%1", b"%Bob%1")
        self.bob.end()
        second = self.world.join(b"Bob")
        self.alice.lines(b"%bob%2", b"%BOB%3", b"%Bob%4")
        self.assertEqual(second.told(), [b"%alice%2", b"%alice%3", b"%alice%4"])


class BotTests(SynchronousTestCase):
    """A bot is a recipient like any."""

    def setUp(self) -> None:
        self.world = World()
        add_bot(self.world)
        self.alice = self.world.join(b"alice")

    def test_reverse(self) -> None:
        self.assertEqual(
            self.alice.lines("%reverse%hello é 👩‍👩‍👧".encode()),
            ["%reverse%👩‍👩‍👧 é olleh".encode()],
        )

    def test_its_answer_keeps_its_place(self) -> None:
        told = self.alice.lines(b"%alice%1", b"%reverse%ab", b"/ping 3", b"@ref=4 %REVERSE%cd")
        self.assertEqual(
            told, [b"%alice%1", b"%reverse%ba", b"!pong 3", b"%reverse%dc", b"@ref=4 !sent REVERSE"]
        )

    def test_its_name_is_reserved(self) -> None:
        self.assertEqual(self.world.connect().lines(b"Reverse"), [b"!error name-reserved Reverse"])
        self.assertEqual(self.alice.lines(b"/name reverse"), [b"!error name-reserved reverse"])

    def test_it_is_here_for_who_and_watch(self) -> None:
        self.assertEqual(self.alice.lines(b"/watch reverse"), [b"!online reverse"])
        who = self.alice.lines(b"/who reverse")
        self.assertTrue(who[0].startswith(b"!who reverse since="))
        self.assertEqual(self.world.relay.registry.client_count, 1)

    def test_one_among_several_targets(self) -> None:
        bob = self.world.join(b"bob")
        self.assertEqual(self.alice.lines(b"%bob,reverse%ab"), [b"%reverse%ba"])
        self.assertEqual(bob.told(), [b"%alice%ab"])

    def test_its_answer_counts_against_who_asked(self) -> None:
        self.alice.stop_taking()
        text = b"x" * 8000
        self.alice.write((b"%reverse%" + text + b"\n") * 400)
        self.world.settle()
        limits = self.world.relay.limits
        self.assertLess(self.alice.session.outbox.unsent_bytes, limits.high_water_bytes + 10_000)
        self.assertFalse(self.alice.transport.reading)
        self.alice.take()
        self.assertEqual(self.alice.told(), [b"%reverse%" + text] * 400)


class StampTests(SynchronousTestCase):
    """The caps ``id`` and ``time``: what is added to what one is sent."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")

    def ids(self, client: Client) -> list[bytes]:
        return [line.split(b" ")[0].removeprefix(b"@id=") for line in client.told()]

    def test_id_is_unique_and_never_used_again(self) -> None:
        bob, carol = self.world.join(b"bob", caps=b"id"), self.world.join(b"carol", caps=b"id")
        for _ in range(50):
            self.alice.lines(b"%bob%x", b"%bob,carol%y", b"@ref=1 %carol%z")
        ids = self.ids(bob) + self.ids(carol)
        bob.end()
        bob = self.world.join(b"bob", caps=b"id")
        self.alice.lines(b"%bob%x")
        ids += self.ids(bob)
        other = World()
        dave = other.join(b"dave", caps=b"id")
        dave.lines(b"%dave%x")
        dave.send(b"%dave%x\n")
        ids += self.ids(dave)
        self.assertGreater(len(ids), 150)
        self.assertEqual(len(set(ids)), len(ids))
        for one in ids:
            self.assertRegex(one, rb"\A[0-9a-zA-Z_-]{1,64}\Z")

    def test_time_is_utc_with_milliseconds(self) -> None:
        bob = self.world.join(b"bob", caps=b"time")
        self.world.clock.advance(0.25)
        self.alice.lines(b"%bob%x")
        self.assertEqual(bob.told(), [b"@time=2026-09-21T14:13:20.250Z %alice%x"])

    def test_both_in_one_set_of_tags(self) -> None:
        bob = self.world.join(b"bob", caps=b"time id")
        self.alice.lines(b"%bob%1", b"%bob%2")
        for line in bob.told():
            self.assertRegex(line, rb"\A@id=[^ ;]+;time=[^ ;]+ %alice%[12]\Z")

    def test_only_who_asked_is_sent_them(self) -> None:
        bob, carol = self.world.join(b"bob", caps=b"id"), self.world.join(b"carol")
        self.alice.lines(b"%carol%1", b"%bob%1", b"%bob,carol%2")
        self.assertEqual(carol.told(), [b"%alice%1", b"%alice%2"])
        self.assertEqual(len(self.ids(bob)), 2)

    def test_tags_of_a_sender_are_never_relayed(self) -> None:
        bob = self.world.join(b"bob")
        self.alice.lines(b"@id=forged;time=now;ref=1;x=y %bob%hi")
        self.assertEqual(bob.told(), [b"%alice%hi"])
