"""What reaches a terminal is harmless."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import display
from chatrelay.client.core import Message, Reply
from chatrelay.client.sentences import sentence_of

NOON = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class HarmlessTests(SynchronousTestCase):
    """Control and bidirectional characters become visible escapes."""

    def test_table(self) -> None:
        """Each kind of character, and what it is shown as."""
        for text, shown in [
            ("plain é 日本 👍🏽 \t", "plain é 日本 👍🏽 \t"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
            ("a\r\nb", "a\\x0d\\x0ab"),
            ("\u2028\u2029", "\\u2028\\u2029"),
            ("exe\u202egpj", "exe\\u202egpj"),
        ]:
            self.assertEqual(display.harmless(text), shown)
        for character in BIDIRECTIONAL:
            self.assertEqual(display.harmless(character), f"\\u{ord(character):04x}")

    @given(st.text())
    def test_nothing_harmful_left(self, text: str) -> None:
        """No control character, separator or override passes, whatever is around it."""
        shown = display.harmless(text)
        for character in shown:
            self.assertTrue(
                character == "\t" or unicodedata.category(character) not in ("Cc", "Zl", "Zp")
            )
            self.assertNotIn(character, BIDIRECTIONAL)

    def test_bytes(self) -> None:
        """The same for bytes; what is not UTF-8 is shown."""
        self.assertEqual(display.harmless_bytes("%a%\u202ehi".encode()), b"%a%\\u202ehi")
        self.assertEqual(display.harmless_bytes(b"\xff"), b"\\xff")

    def test_every_place(self) -> None:
        """Sender, room, text, sentences and quotations are all made harmless."""
        evil = "\x1b]0;x\x07"
        for shown in [
            display.message_shown(Message(evil, evil, evil), NOON, UTC, colour=False),
            display.sent_shown(evil, evil, NOON, NOON, UTC, colour=False),
            display.notice_shown(sentence_of(Reply(evil, (evil,), evil)) or "", colour=False),
            display.shortened(evil),
        ]:
            self.assertNotIn("\x1b", shown)
            self.assertNotIn("\x07", shown)


class ShownTests(SynchronousTestCase):
    """Messages as people read them."""

    def test_message(self) -> None:
        """Time and sender; the time is the message's own if it has one, and local."""
        zone = timezone(timedelta(hours=2))
        show = display.message_shown
        self.assertEqual(show(Message("bob", "hi"), NOON, zone, colour=False), "14:00:05 bob: hi")
        stamped = Message("bob", "hi", "#ops", time=NOON - timedelta(minutes=1))
        self.assertEqual(show(stamped, NOON, zone, colour=False), "13:59:05 #ops bob: hi")
        to_all = show(Message("bob", "hi", "*"), NOON, zone, colour=False)
        self.assertEqual(to_all, "14:00:05 (to all) bob: hi")

    def test_forged(self) -> None:
        """Nothing that one person writes looks as if it went to everybody, or into a room."""
        for where in ("*", "#ops"):
            shown = display.message_shown(Message("bob", "hi", where), NOON, UTC, colour=False)
            head = shown.removeprefix("12:00:05 ").removesuffix("bob: hi")
            for text in (f"{head}bob: hi", f"{head}hi"):
                forged = display.message_shown(Message("bob", text), NOON, UTC, colour=False)
                self.assertTrue(forged.startswith("12:00:05 bob: "), forged)
                self.assertFalse(shown.startswith("12:00:05 bob: "), shown)

    def test_another_day(self) -> None:
        """A message of another day, here, has its date."""
        for time, shown in [
            (NOON - timedelta(hours=12, seconds=5), "00:00:00"),
            (NOON - timedelta(hours=12, seconds=6), "2026-11-21 23:59:59"),
            (NOON + timedelta(hours=12), "2026-11-23 00:00:05"),
        ]:
            for message in (
                Message("bob", "hi", time=time),
                Message("me", "ho", time=time, to="x"),
            ):
                line = display.message_shown(message, NOON, UTC, colour=False)
                self.assertTrue(line.startswith(shown + " "), line)

    def test_echo(self) -> None:
        """What another of one's own devices sent is shown as one's own, with its time."""
        for time, shown in [(None, "12:00:05"), (NOON - timedelta(minutes=1), "11:59:05")]:
            message = Message("carol", "hi", to="b\x1bb", time=time)
            line = display.message_shown(message, NOON, UTC, colour=False)
            self.assertEqual(line, f"{shown} to b\\x1bb: hi")

    def test_colour(self) -> None:
        """A sender has one colour, whatever the case; the line ends plain."""
        one = display.message_shown(Message("bob", "hi"), NOON, UTC, colour=True)
        self.assertEqual(
            one.replace("bob", "BOB"),
            display.message_shown(Message("BOB", "hi"), NOON, UTC, colour=True),
        )
        self.assertIn("\x1b[", one)
        self.assertTrue(one.endswith("\x1b[0m: hi"))

    def test_shortened(self) -> None:
        """A long text is cut before it is quoted."""
        self.assertEqual(display.shortened("x" * 60), '"' + "x" * 60 + '"')
        self.assertEqual(display.shortened("x" * 61), '"' + "x" * 59 + '…"')
