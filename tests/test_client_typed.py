"""Standard input cut into lines, and what a typed line means."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.framing import MAX_LINE_BYTES, InputLines
from chatrelay.client.identity import holds_secret
from chatrelay.client.typed import (
    NEEDED_CAPS,
    Choose,
    Explain,
    Leave,
    Register,
    RunCommand,
    Send,
    Switch,
    read_typed,
)


class InputLinesTests(SynchronousTestCase):
    """Standard input as lines to send."""

    def test_addressed(self) -> None:
        """Plain lines get their target; those of the protocol stay as they are."""
        lines = InputLines("bob")
        fed = lines.feed(b"hi\n%dave%hi\n/who\n@ref=1 %dave%x\n\n\r\nlast")
        self.assertEqual(fed, b"%bob%hi\n%dave%hi\n/who\n@ref=1 %dave%x\n\n\r\n")
        self.assertEqual(lines.finish(), b"%bob%last\n")
        self.assertEqual(lines.finish(), b"")

    def test_as_written(self) -> None:
        """Without a target every line is the protocol's."""
        lines = InputLines(None)
        self.assertEqual(lines.feed(b"a\nb"), b"a\n")
        self.assertEqual(lines.feed(b"c\n"), b"bc\n")
        self.assertEqual(lines.finish(), b"")

    def test_longest(self) -> None:
        """A line of the greatest length is sent; one byte more and it is dropped whole."""
        lines = InputLines("bob")
        self.assertEqual(lines.feed(b"x" * MAX_LINE_BYTES), b"")
        self.assertEqual(lines.feed(b"\n"), b"%bob%" + b"x" * MAX_LINE_BYTES + b"\n")
        lines.feed(b"y" * (MAX_LINE_BYTES + 1))
        lines.feed(b"more")
        self.assertEqual(lines.feed(b"%dave%end\nnext\n"), b"%bob%next\n")
        self.assertEqual(lines.dropped, 1)
        self.assertEqual(lines.finish(), b"")

    @given(st.lists(st.sampled_from([b"hi", b"%bob%x", b"/who", b"", b"\n", b"\r\n"])), st.data())
    def test_cut_anywhere(self, parts: list[bytes], data) -> None:
        """However the input is cut, the same lines come out, and only whole ones."""
        whole = b"".join(parts)
        for to in (None, "bob"):
            expected = InputLines(to)
            wanted = expected.feed(whole) + expected.finish()
            lines, rest, got = InputLines(to), whole, b""
            while rest:
                size = data.draw(st.integers(1, len(rest)))
                fed = lines.feed(rest[:size])
                self.assertTrue(not fed or fed.endswith(b"\n"))
                got, rest = got + fed, rest[size:]
            self.assertEqual(got + lines.finish(), wanted)


class TypedTests(SynchronousTestCase):
    """What a typed line means."""

    def test_table(self) -> None:
        """Each kind of line, with bob as the target."""
        for line, typed in [
            ("", None),
            ("  ", None),
            ("%bob,dave,Bob%hi", Send(("bob", "dave"), "hi", None)),
            ("%bob,BOB%hi", Send(("bob",), "hi", "bob")),
            ("hi  there ", Send(("bob",), "hi  there ", None)),
            ("100 % sure", Send(("bob",), "100 % sure", None)),
            ("%dave%hi %", Send(("dave",), "hi %", "dave")),
            ("%#ops%hi", Send(("#ops",), "hi", "#ops")),
            ("%dave,erin%hi", Send(("dave", "erin"), "hi", None)),
            ("%*%hi", Send(("*",), "hi", None)),
            ("%dave%", Choose("dave")),
            ("/WHO bob", RunCommand("who", "/WHO bob")),
            ("/quit", Leave()),
            ("/QUIT now", Leave()),
        ]:
            self.assertEqual(read_typed(line, "bob"), typed, line)

    def test_explained(self) -> None:
        """What can not be meant is explained, and nothing is sent."""
        for line in ("%dave", "%%hi", "%", "%*%", "%a,b%"):
            self.assertIsInstance(read_typed(line, "bob"), Explain, line)

    def test_caps(self) -> None:
        """What the program needs is kept, whatever is asked for; to ask which there are is left."""
        for line, asked in [
            ("/caps none", ""),
            ("/caps id", "id "),
            ("/CAPS  id receipts ", "id receipts "),
            ("/caps ack", "ack "),
        ]:
            typed = read_typed(line, None)
            self.assertTrue(typed.line.startswith(f"/caps {asked}"), typed)
            self.assertEqual(set(typed.line.split()[1:]), {*asked.split(), *NEEDED_CAPS})
            self.assertTrue(typed.note)
        self.assertEqual(read_typed("/caps", None), RunCommand("caps", "/caps"))
        all_of_them = "/caps " + " ".join(NEEDED_CAPS)
        self.assertEqual(read_typed(all_of_them, None), RunCommand("caps", all_of_them))

    def test_rooms(self) -> None:
        """To join a room makes it the target; /leave alone is for the one that is."""
        for line, target, typed in [
            ("/join #ops", "bob", RunCommand("join", "/join #ops", chooses="#ops")),
            ("/JOIN  #ops ", None, RunCommand("join", "/JOIN  #ops", chooses="#ops")),
            ("/join ops", None, RunCommand("join", "/join ops")),
            ("/join #ops #dev", None, RunCommand("join", "/join #ops #dev")),
            ("/leave", "#ops", RunCommand("leave", "/leave #ops")),
            ("/leave", "bob", RunCommand("leave", "/leave")),
            ("/leave #dev", "#ops", RunCommand("leave", "/leave #dev")),
            ("hi", "#ops", Send(("#ops",), "hi", None)),
            ("/switch", None, Switch("")),
            ("/switch bob", None, Switch("bob")),
            ("/SWITCH 2", None, Switch("2")),
            ("/switch a b", None, Switch("a b")),
            ("/switching", None, RunCommand("switching", "/switching")),
            ("/", None, RunCommand("", "/")),
        ]:
            self.assertEqual(read_typed(line, target), typed, line)

    def test_nobody(self) -> None:
        """A plain line without a target goes nowhere."""
        self.assertIsInstance(read_typed("hi", None), Explain)
        self.assertEqual(read_typed("%bob%hi", None), Send(("bob",), "hi", "bob"))


class SecretTests(SynchronousTestCase):
    """Lines that show a secret, and the one that has it asked for."""

    def test_register(self) -> None:
        """Alone it is asked for; with a secret it is a command like any other."""
        for line in ("/register", "/REGISTER", "/register  "):
            self.assertEqual(read_typed(line, "bob"), Register())
        for line in ("/register new-secret", "/registers"):
            self.assertIsInstance(read_typed(line, None), RunCommand)

    def test_holds_secret(self) -> None:
        """Which lines are not kept."""
        for line, holds in [
            ("/register new-secret", True),
            ("/Register new-secret old-secret", True),
            ("/register\tnew-secret", True),
            ("/register", False),
            ("/name karl his-secret", True),
            ("/NAME  karl  his-secret", True),
            ("/name karl", False),
            ("/names karl dave", False),
            ("%bob%/register x", False),
            ("", False),
        ]:
            self.assertEqual(holds_secret(line), holds, line)
