"""What TAB offers."""

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.completing import MAX_OFFERED, Known, completions

KNOWN = Known(
    names=["Bob", "boris", "dave"],
    verbs=["who", "watch", "quit", "join"],
    rooms=["#build", "#ops", "#Quiet"],
    joined=["#ops"],
    conversations=["dave", "#ops", "erin"],
    target="#ops",
    members_of={"#ops": ["Bob", "zoe"], "": []}.get,
)


class CompletionTests(SynchronousTestCase):
    """What could stand instead of the end of what is typed."""

    def assert_offered(self, before: str, known: Known, *offered: str) -> None:
        found = completions(before, known)
        self.assertEqual([text for text, _ in found], list(offered), before)
        for text, replaced in found:
            self.assertIn(before[len(before) - replaced :].casefold(), text.casefold())

    def test_nowhere(self) -> None:
        """Names, rooms and commands, where they can stand."""
        known = Known(KNOWN.names, KNOWN.verbs, KNOWN.rooms, KNOWN.joined)
        for before, *offered in [
            ("%bo", "Bob%", "boris%"),
            ("%dave,b", "Bob%", "boris%"),
            ("%bob%d",),
            ("%#o", "#ops%"),
            ("%o", "#ops%"),
            ("%#b",),
            ("/w", "watch ", "who "),
            ("da", "%dave%"),
            ("#", "%#ops%"),
            ("hello da",),
            ("",),
            ("%", "#ops%", "Bob%", "boris%", "dave%"),
        ]:
            self.assert_offered(before, known, *offered)

    def test_in_a_room(self) -> None:
        """Who is in the room is addressed there, at the first TAB; others are targets."""
        for before, *offered in [
            ("b", "Bob: "),
            ("bor", "%boris%"),
            ("d", "%dave%"),
            ("z", "zoe: "),
            ("thanks z", "zoe "),
            ("thanks d",),
            ("thanks ",),
            ("100% z",),
            ("%z", "zoe%"),
            ("%bob,z", "zoe%"),
            ("%e", "erin%"),
        ]:
            self.assert_offered(before, KNOWN, *offered)

    def test_composed(self) -> None:
        """A letter and its mark may be typed as two code points; names have one."""
        known = Known(names=["\xc9lan", "elan"])
        self.assertEqual(completions("%e\u0301l", known), [("\xc9lan%", 3)])

    def test_many(self) -> None:
        """Of a room with very many members the first are offered, in order, and the last."""
        members = [f"n{number:05}" for number in range(10_000)]
        known = Known(target="#ops", members_of=lambda _: members[::-1])
        for before, tail in [("n", ": "), ("hi n", " "), ("/remove #ops ", " ")]:
            offered = [text for text, _ in completions(before, known)]
            expected = [*members[: MAX_OFFERED - 1], members[-1]]
            self.assertEqual(offered, [name + tail for name in expected])
        self.assert_offered("n0999", known, *(f"n0999{digit}: " for digit in range(10)))

    def test_arguments(self) -> None:
        """What the words after a command can be."""
        for before, *offered in [
            ("/join ", "#build ", "#Quiet "),
            ("/join #q", "#Quiet "),
            ("/join q", "#Quiet "),
            ("/join #ops #",),
            ("/JOIN #q", "#Quiet "),
            ("/leave ", "#ops "),
            ("/topic #ops d",),
            ("/invite #ops d", "dave "),
            ("/remove #ops ", "Bob ", "zoe "),
            ("/who d", "dave "),
            ("/who #", "#ops "),
            ("/history #", "#ops "),
            ("/watch d", "dave "),
            ("/watch bob d", "dave "),
            ("/switch ", "#ops ", "dave ", "erin "),
            ("/help j", "join "),
            ("/rooms #",),
            ("/anything b", "Bob ", "boris "),
        ]:
            self.assert_offered(before, KNOWN, *offered)
