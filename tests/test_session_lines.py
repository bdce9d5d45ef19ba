"""Lines as a client sees them: docs/protocol.rst, *Lines*."""

from __future__ import annotations

from itertools import product
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.relay_harness import Client, World, what_is_left

MAX_LINE = Limits.max_line_bytes
BAD_CHARACTERS = [
    *(chr(code) for code in range(0x20) if chr(code) not in "\t\n"),
    *("\x7f", "\x80", "\x85", "\x9b", "\x9f", "\u2028", "\u2029"),
]
NOT_UTF8 = [
    b"\x80",
    b"\xff",
    b"\xc3",
    b"\xc0\xaf",
    b"\xe2\x80",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
]


class LineLengthTests(SynchronousTestCase):
    """A line received is at most 8192 bytes without its end."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_below_at_and_above_the_bound_whole_and_byte_by_byte(self) -> None:
        for length, ending, piece in product(
            (MAX_LINE - 1, MAX_LINE, MAX_LINE + 1), (b"\n", b"\r\n"), (MAX_LINE + 9, 1, 8191, 8192)
        ):
            text = b"x" * (length - len(b"%bob%"))
            stream = b"%bob%" + text + ending
            for start in range(0, len(stream), piece):
                self.alice.write(stream[start : start + piece])
            self.world.settle()
            if length <= MAX_LINE:
                self.assertEqual(self.bob.told(), [b"%alice%" + text])
                self.assertEqual(self.alice.told(), [])
            else:
                self.assertEqual(self.bob.told(), [])
                self.assertEqual(self.alice.told(), [b"!error line-too-long"])

    def test_the_connection_stays_and_what_follows_is_served(self) -> None:
        long = b"%bob%" + b"x" * MAX_LINE
        told = self.alice.lines(b"%bob%1", long, b"%bob%2", long + long, b"/ping 3")
        self.assertEqual(told, [b"!error line-too-long", b"!error line-too-long", b"!pong 3"])
        self.assertEqual(self.bob.told(), [b"%alice%1", b"%alice%2"])

    def test_an_overlong_line_is_answered_only_when_it_ends(self) -> None:
        self.alice.send(b"%bob%" + b"x" * 3 * MAX_LINE)
        self.assertEqual(self.alice.told(), [])
        self.assertEqual(self.alice.lines(b""), [b"!error line-too-long"])

    def test_a_ref_in_an_overlong_line_is_answered_with_it(self) -> None:
        line = b"@ref=42 %bob%" + b"x" * MAX_LINE + b"\n"
        for piece in (len(line), 1, 5, 3000):
            for start in range(0, len(line), piece):
                self.alice.write(line[start : start + piece])
            self.world.settle()
            self.assertEqual(self.alice.told(), [b"@ref=42 !error line-too-long"])
        self.assertEqual(self.bob.told(), [])

    def test_bad_tags_of_an_overlong_line(self) -> None:
        told = self.alice.lines(b"@" + b"k" * 600 + b" %bob%" + b"x" * MAX_LINE)
        self.assertEqual(told, [b"!error bad-tags"])

    def test_an_option_sets_the_bound(self) -> None:
        world = World(Limits(max_line_bytes=600))
        alice = world.connect()
        alice.send(b"alice\n")
        self.assertIn(b" max-line=600 ", alice.raw())
        text = b"x" * (600 - len(b"%alice%"))
        self.assertEqual(alice.lines(b"%alice%" + text), [b"%alice%" + text])
        self.assertEqual(alice.lines(b"%alice%x" + text), [b"!error line-too-long"])

    def test_what_is_relayed_is_at_most_1024_bytes_longer(self) -> None:
        """With the longest name, id, time and a text as long as a line can carry."""
        name = "𐒀".encode() * 32
        sender = self.world.join(name)
        to = self.world.join(b"z", caps=b"id time ping")
        text = b"x" * (MAX_LINE - len(b"%z%"))
        self.assertEqual(sender.lines(b"%z%" + text), [])
        (received,) = to.raw().splitlines()
        self.assertTrue(received.endswith(b" %" + name + b"%" + text))
        self.assertLessEqual(len(received), MAX_LINE + 1024)

    def test_answers_are_at_most_1024_bytes_longer(self) -> None:
        ref = b"@ref=" + b"r" * 64 + b" "
        for line in (
            ref + b"/ping " + b"x" * (MAX_LINE - len(ref) - 6),
            ref + b"/watch" + b" a" * ((MAX_LINE - len(ref) - 6) // 2),
            ref + b"%" + ("𐒀" * 32).encode() + b"%x",
            ref + b"/help",
        ):
            self.assertLessEqual(len(line), MAX_LINE)
            self.alice.send(line + b"\n")
            received = self.alice.raw().splitlines()
            self.assertTrue(received)
            self.assertLessEqual(max(map(len, received)), MAX_LINE + 1024)


class LineEndTests(SynchronousTestCase):
    """LF, and a CR before it is dropped; the relay's lines end as the client's first one did."""

    def test_the_relay_ends_its_lines_as_the_client_ended_its_first(self) -> None:
        for first, eol in [
            (b"alice\n", b"\n"),
            (b"alice\r\n", b"\r\n"),
            (b"\nalice\r\n", b"\n"),
            (b"\r\nalice\n", b"\r\n"),
            (b"x" * 9000 + b"\nalice\r\n", b"\n"),
            (b"x" * 9000 + b"\r\nalice\n", b"\r\n"),
        ]:
            for piece in (len(first), 1):
                world = World()
                alice, bob = world.connect(), world.join(b"bob")
                for start in range(0, len(first), piece):
                    alice.send(first[start : start + piece])
                alice.send(b"/watch bob\n/ping 1\r\n/ping 2\n")
                bob.send(b"%alice%one\n%alice%two\r\n@a %alice%three\n")
                bob.end()
                lines = alice.raw().split(b"\n")
                self.assertEqual(lines.pop(), b"")
                self.assertEqual(lines[-1].rstrip(b"\r"), b"!offline bob")
                self.assertEqual({line.endswith(b"\r") for line in lines}, {eol == b"\r\n"})

    def test_before_the_first_line_ends_are_crlf(self) -> None:
        for limits, wait_s, word in [
            (Limits(), 3.0, b"!hello "),
            (Limits(max_unnamed=1), 0, b"!error too-many-clients "),
        ]:
            world = World(limits)
            silent = world.connect()
            world.connect() if not wait_s else world.pass_time(wait_s)
            raw = silent.raw()
            self.assertTrue(raw.startswith(word), raw)
            self.assertTrue(raw.endswith(b"\r\n"))

    def test_both_ends_in_one_stream(self) -> None:
        world = World()
        bob, alice = world.join(b"bob", eol=b"\r\n"), world.join(b"alice")
        alice.send(b"%bob%1\r\n%bob%2\n@a %bob%3\r\n/ping x\r\n%bob%4\n")
        self.assertEqual(alice.raw(), b"!pong x\n")
        self.assertEqual(bob.raw(), b"".join(b"%%alice%%%d\r\n" % n for n in (1, 2, 3, 4)))

    def test_a_cr_that_is_not_before_lf_is_a_control(self) -> None:
        world = World()
        alice = world.join(b"alice")
        for line in (b"%alice%a\rb", b"%alice%a\r\r", b"/ping a\rb"):
            self.assertEqual(alice.lines(line), [b"!error bad-text"])
        self.assertEqual(alice.lines(b"%alice%a\r"), [b"%alice%a"])

    def test_empty_lines_are_ignored(self) -> None:
        world = World()
        alice = world.connect()
        told = alice.lines(b"", b"\r", b"", b"", b"alice", b"", b"\r", b"%alice%x", b"")
        self.assertEqual(told, [b"!welcome alice version=1 max-line=8192", b"%alice%x"])


class TextTests(SynchronousTestCase):
    """Nothing that drives a reader's terminal or forges a line is ever relayed."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def check(self, line: bytes, code: bytes) -> None:
        # In the middle of a run, with a ref, and as a command's argument.
        told = self.alice.lines(b"%bob%before", b"%bob%" + line, b"%bob%after")
        self.assertEqual(told, [b"!error " + code], line)
        self.assertEqual(self.bob.told(), [b"%alice%before", b"%alice%after"], line)
        self.assertEqual(self.alice.lines(b"@ref=7 %bob%" + line), [b"@ref=7 !error " + code], line)
        self.assertEqual(self.alice.lines(b"/ping " + line), [b"!error " + code], line)
        self.assertEqual(self.bob.told(), [])

    def test_bytes_that_are_not_utf8_are_bad_utf8(self) -> None:
        for data in NOT_UTF8:
            self.check(b"a" + data + b"b", b"bad-utf8")

    def test_controls_c1_and_separators_are_bad_text(self) -> None:
        for character in BAD_CHARACTERS:
            self.check(f"a{character}b".encode(), b"bad-text")

    def test_tab_and_all_other_text_is_relayed_byte_for_byte(self) -> None:
        for text in (
            *(
                "\t",
                " ",
                "a b ",
                "é",
                "e\u0301",
                "日本",
                "👩‍👩‍👧",
                "\xa0",
                "\u2027",
                "\u202e",
                "\ufeff",
            ),
            *("/quit", "@ref=1 x", "#ops", "!error", "%", "%%", "100% %d %s %(x)s", "%bob%", "{0}"),
        ):
            for before in (b"", b"@ref=x ", b"@a=b "):
                self.alice.send(before + b"%bob%" + text.encode() + b"\n")
                self.assertEqual(self.bob.raw(), b"%alice%" + text.encode() + b"\n")
                self.alice.raw()
            self.world.clock.advance(601)

    def test_a_bad_first_line_is_refused_too(self) -> None:
        for line, code in [(b"al\xffice", b"bad-utf8"), (b"al\x1bice", b"bad-text")]:
            self.assertEqual(self.world.connect().lines(line), [b"!error " + code])


class EndOfInputTests(SynchronousTestCase):
    """Complete lines are handled, an unfinished one is not; then the name is free."""

    def setUp(self) -> None:
        self.world = World()
        self.bob = self.world.join(b"bob")
        self.bob.lines(b"/watch me")

    def me(self) -> Client:
        return self.world.connect()

    def test_complete_lines_are_handled_and_answered(self) -> None:
        me = self.me()
        me.write(b"me\n%bob%hi\n%carol%hi\n%bob%unfinish")
        me.end()
        self.assertEqual(
            me.told(), [b"!welcome me version=1 max-line=8192", b"!error unknown-name carol"]
        )
        self.assertEqual(self.bob.told(), [b"!online me", b"%me%hi", b"!offline me"])
        self.assertFalse(me.is_connected)
        self.assertFalse(me.transport.aborted)

    def test_an_unfinished_first_line_is_no_name(self) -> None:
        me = self.me()
        me.write(b"me")
        me.end()
        self.assertEqual(self.bob.told(), [])
        self.assertFalse(me.is_connected)

    def test_answers_are_written_for_10_seconds(self) -> None:
        me = self.me()
        me.stop_taking()
        me.write(b"me\n/who\n")
        me.end()
        self.assertEqual(self.bob.told(), [b"!online me", b"!offline me"])
        self.assertEqual(self.bob.lines(b"/who me"), [b"!end who 0"])
        self.world.pass_time(9)
        self.assertTrue(me.is_connected)
        me.take()
        self.assertEqual(me.told()[-1], b"!end who 2")
        self.assertFalse(me.is_connected)
        self.assertFalse(me.transport.aborted)

    def test_after_10_seconds_the_rest_is_given_up(self) -> None:
        me = self.me()
        me.stop_taking()
        me.write(b"me\n/who\n")
        me.end()
        self.world.pass_time(9.9)
        self.assertTrue(me.is_connected)
        self.world.pass_time(0.2)
        self.assertTrue(me.transport.aborted)
        self.assertFalse(me.is_connected)

    def test_lines_that_are_held_are_handled_before_the_name_is_free(self) -> None:
        self.bob.stop_taking()
        me = self.me()
        # Enough for three reads, of which the first two are over the mark.
        line = b"%bob%" + b"x" * 1000 + b"\n"
        count = 3 * 1024
        me.write(b"me\n" + line * count + b"/ping last\n%bob%unfinished")
        me.end()
        self.assertNotIn(b"!pong last", me.told())
        self.assertEqual([str(name) for name in self.names()], ["bob", "me"])
        self.bob.take()
        self.assertEqual(me.told()[-1:], [b"!pong last"])
        told = self.bob.told()
        self.assertEqual(told, [b"!online me", *[b"%me%" + b"x" * 1000] * count, b"!offline me"])
        self.assertFalse(me.is_connected)

    def test_a_broken_connection_frees_the_name_at_once(self) -> None:
        me = self.me()
        me.send(b"me\n%bob%un")
        me.reset()
        self.assertEqual(self.bob.told(), [b"!online me", b"!offline me"])

    def test_nothing_is_left(self) -> None:
        for data in (b"", b"me", b"me\n", b"me\n/watch a b\n/caps ping\n%a%b\n", b"\x16", b"a b\n"):
            me = self.me()
            me.write(data)
            me.end()
            self.assertFalse(me.is_connected)
        self.bob.end()
        self.assertEqual(what_is_left(self.world), {})

    def names(self) -> list[str]:
        return [recipient.name.shown.decode() for recipient in self.world.relay.registry]


class FailureTests(SynchronousTestCase):
    """An exception in one client's handling closes that client and nobody else."""

    def test_one_client_is_closed_and_the_log_says_which(self) -> None:
        world = World()
        alice, bob = world.join(b"alice"), world.connect("192.0.2.7")
        bob.lines(b"bob")
        with mock.patch("chatrelay.session.send", side_effect=ZeroDivisionError):
            bob.write(b"@a %alice%x\n")
            world.settle()
        (failure,) = self.flushLoggedErrors(ZeroDivisionError)
        self.assertIsInstance(failure.value, ZeroDivisionError)
        self.assertTrue(bob.transport.aborted)
        self.assertFalse(bob.is_connected)
        self.assertEqual(alice.lines(b"/who"), [alice_line(world), b"!end who 1"])
        alice.end()
        self.assertEqual(what_is_left(world), {})

    def test_in_a_run(self) -> None:
        world = World()
        alice, bob = world.join(b"alice"), world.join(b"bob")
        with mock.patch.object(type(alice.session), "deliver_run", side_effect=ZeroDivisionError):
            bob.send(b"%alice%x\n%alice%y\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(bob.is_connected)
        self.assertEqual(alice.lines(b"/ping"), [b"!pong"])


def alice_line(world: World) -> bytes:
    since = world.relay.timestamp(world.relay.now_ms())
    return b"!who alice since=" + since + b" idle=0 rooms="
