"""The client's pure core: what a relay's lines mean, and how messages and commands are written."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.core import (
    KNOWN_CAPS,
    Message,
    Reply,
    UnknownRefusal,
    Unreadable,
    check_caps,
    command_line,
    message_line,
    parse_line,
    refusal_from,
    same_name,
)
from chatrelay.commands.connection import CAPS as RELAY_CAPS
from chatrelay.errors import REFUSALS, Misuse


class ParsingTests(SynchronousTestCase):
    """What a relay writes."""

    def test_lines(self) -> None:
        """Each form of a line, and what it is read as."""
        for line, expected in [
            (b"%alice%hello", Message("alice", "hello")),
            (b"%alice%100 % of %", Message("alice", "100 % of %")),
            (b"%alice%", Message("alice", "")),
            (b"%#ops%alice%disk % full", Message("alice", "disk % full", "#ops")),
            (b"%*%alice%bye", Message("alice", "bye", "*")),
            (b"@to=bob %alice%hi", Message("alice", "hi", tags={"to": "bob"}, to="bob")),
            (b"!pong", Reply("pong")),
            (b"!sent bob", Reply("sent", ("bob",))),
            (
                b"!error unknown-name bob :No : such",
                Reply("error", ("unknown-name", "bob"), "No : such"),
            ),
            (b"!hello :Type a name", Reply("hello", (), "Type a name")),
            (b"%alice\xff%\xffhi", Message("alice\ufffd", "\ufffdhi")),
            (b"@ref=7 !sent bob", Reply("sent", ("bob",), "", {"ref": "7"})),
        ]:
            self.assertEqual(parse_line(line), expected, line)

    def test_value(self) -> None:
        """An argument with a key, wherever it stands; the first of several."""
        for line, value in [
            (b"!stored bob id=7", "7"),
            (b"!stored bob x=1 id=a=b id=8", "a=b"),
            (b"!stored bob id=", ""),
            (b"!stored id bob xid=7 id", None),
            (b"!stored", None),
        ]:
            self.assertEqual(parse_line(line).value("id"), value, line)

    def test_unreadable(self) -> None:
        """What is neither message nor reply is kept as it came."""
        for line in [
            b"SSH-2.0-x",
            b"%alice",
            b"%%hi",
            b"%#ops%hi",
            b"!",
            b"! x",
            b"@=;x",
            b"hello",
        ]:
            self.assertEqual(parse_line(line), Unreadable(line))

    def test_time_and_id(self) -> None:
        """Tags are read; a time that is none is no time."""
        message = parse_line(b"@id=a1;time=2026-11-22T10:00:00.000Z;x %alice%hi")
        self.assertIsInstance(message, Message)
        self.assertEqual(message.id, "a1")
        self.assertEqual(message.time, datetime(2026, 11, 22, 10, tzinfo=UTC))
        self.assertEqual(message.tags["x"], "")
        self.assertFalse(message.again)
        self.assertTrue(parse_line(b"@id=a1;again %alice%hi").again)
        for written in (
            b"yesterday",
            b"2026-11-22T10:00:00",
            b"0001-01-01T00:00:00Z",
            b"9999-12-31T23:59:59Z",
        ):
            self.assertIsNone(parse_line(b"@time=" + written + b" %alice%hi").time)

    def test_conversation(self) -> None:
        """An answer goes to the room, or the other side; not to everyone."""
        self.assertEqual(Message("alice", "hi", to="bob").conversation, "bob")
        self.assertEqual(Message("alice", "hi").conversation, "alice")
        self.assertEqual(Message("alice", "hi", "#ops").conversation, "#ops")
        self.assertEqual(Message("alice", "hi", "*").conversation, "alice")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, line: bytes) -> None:
        """Nothing that a server sends raises."""
        parse_line(line)

    def test_every_code(self) -> None:
        """Each code of the protocol becomes its class, with context and sentence."""
        for code, kind in REFUSALS.items():
            refusal = refusal_from(Reply("error", (code, "bob"), "Why."))
            self.assertIs(type(refusal), kind)
            self.assertEqual((refusal.context, refusal.sentence), ((b"bob",), "Why."))

    def test_unknown_code(self) -> None:
        """A code of a later version is a refusal that keeps it."""
        refusal = refusal_from(Reply("error", ("too-late", "bob"), "Too late."))
        self.assertIsInstance(refusal, UnknownRefusal)
        self.assertEqual((refusal.code, refusal.context), ("too-late", (b"bob",)))
        self.assertIn("too-late", str(refusal))
        self.assertEqual(refusal_from(Reply("error")).code, "unknown-code")
        self.assertEqual(UnknownRefusal.code, "unknown-code")


class WritingTests(SynchronousTestCase):
    """What is sent."""

    def test_message(self) -> None:
        """The line and the targets that will be answered: a name given twice is one."""
        self.assertEqual(message_line(["bob"], "50 % off", 8192), (b"%bob%50 % off", ["bob"]))
        self.assertEqual(
            message_line(["bob", "dave", "BOB"], "hi", 8192), (b"%bob,dave,BOB%hi", ["bob", "dave"])
        )
        self.assertEqual(message_line(["#ops"], "hi", 8192), (b"%#ops%hi", ["#ops"]))
        self.assertEqual(message_line(["*"], "hi", 8192), (b"%*%hi", ["*"]))

    def test_misuse(self) -> None:
        """What can not be sent is refused here, before a line is written."""
        for targets, text in [
            (["bob"], ""),
            (["bob"], "two\nlines"),
            (["bob"], "\r"),
            (["bob"], "\x1b[31m"),
            (["bob"], "\u2028"),
            (["bob"], "\x85"),
            (["bob"], "\ud800"),
            (["bob%x"], "hi"),
            (["bob,dave"], "hi"),
            (["b b"], "hi"),
            ([], "hi"),
            ([""], "hi"),
            (["#ops", "bob"], "hi"),
            ([f"n{number}" for number in range(33)], "hi"),
            (["bob"], b"hi"),
            ([b"bob"], "hi"),
            ("bob", "hi"),
            (["bob"], None),
        ]:
            with self.assertRaises(Misuse, msg=repr((targets, text))):
                message_line(targets, text, 8192)

    def test_caps(self) -> None:
        """Those that the relay has are known; what it would pass over is refused."""
        self.assertEqual(set(KNOWN_CAPS), {cap.decode() for cap in RELAY_CAPS})
        self.assertEqual(check_caps(list(KNOWN_CAPS)), KNOWN_CAPS)
        for caps in (["id", "acks"], [""], "id", [b"id"], ["ID"]):
            with self.assertRaises(Misuse, msg=repr(caps)):
                check_caps(caps)

    def test_length(self) -> None:
        """The bound is the relay's, less what the ref takes."""
        self.assertEqual(len(message_line(["bob"], "x" * (100 - 64 - 5), 100)[0]), 36)
        with self.assertRaises(Misuse):
            message_line(["bob"], "x" * (100 - 64 - 4), 100)

    def test_32_targets(self) -> None:
        """As many as a message may have."""
        names = [f"n{number}" for number in range(32)]
        self.assertEqual(message_line(names, "hi", 8192)[1], names)

    def test_command(self) -> None:
        """A command begins with a slash and is one line."""
        self.assertEqual(command_line("/who bob", 8192), b"/who bob")
        for line in ("who", "", "/who\n%bob%x", "/" + "x" * 9000):
            with self.assertRaises(Misuse):
                command_line(line, 8192)

    def test_same_name(self) -> None:
        """Case does not make another name; what is no name is like itself only."""
        self.assertTrue(same_name("Bob", "bOB"))
        self.assertTrue(same_name("#Ops", "#oPS"))
        self.assertFalse(same_name("#a b", "#A b"))
        self.assertFalse(same_name("bob", "rob"))
        self.assertFalse(same_name("bob", "#bob"))
