"""What the relay tells, as a person reads it."""

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.core import Reply, parse_line
from chatrelay.client.sentences import sentence_of, with_short_lists


class SentenceTests(SynchronousTestCase):
    """Each reply as a sentence."""

    def test_table(self) -> None:
        """What carol, on a terminal in UTC, reads."""
        for line, shown in [
            ("!online bob", "bob is here."),
            ("!offline bob", "bob is not here."),
            ("!welcome karl version=1 :Hello.", "You are karl now."),
            ("!error busy :Later.", "Later. (busy)"),
            (
                "!registered karl :Yours.",
                "karl is registered: it is granted only with its secret now.",
            ),
            ("!token crt_x", "token crt_x"),
            ("!history", "From your log:"),
            ("!history #ops", "From the log of #ops:"),
            ("!end history 0", "Nothing is in it."),
            ("!end history 2", "That is all (2)."),
            ("!end help", "end of help"),
            ("!help /who :lists", "/who - lists"),
            ("!pong", "pong"),
            ("!tomorrow #ops x :New.", "tomorrow #ops x - New."),
        ]:
            self.assertEqual(sentence_of(parse_line(line.encode()), "carol", UTC), shown)

    def test_presence(self) -> None:
        """Who is here, since when, and in which rooms that one shares."""
        for line, shown in [
            (
                "!who bob since=2026-11-22T10:00:59.000Z idle=3 rooms=#ops,#dev",
                "bob, since 2026-11-22 10:00, idle 3 s, in #ops, #dev",
            ),
            ("!who bob idle=119", "bob, idle 119 s"),
            ("!who bob idle=120", "bob, idle 2 min"),
            ("!who bob idle=7199", "bob, idle 119 min"),
            ("!who bob idle=7200", "bob, idle 2 h"),
            ("!who bob idle=x rooms=", "bob, idle=x"),
            ("!who bob since=then", "bob, since then"),
            ("!who bob since=0001-01-01T00:00:00+14:00", "bob, since 0001-01-01T00:00:00+14:00"),
            ("!who", "who"),
            ("!end who 0", "Nobody."),
            ("!end who 1", "1 is here."),
            ("!end who 2", "2 are here."),
        ]:
            self.assertEqual(sentence_of(parse_line(line.encode()), "carol", UTC), shown)

    def test_rooms(self) -> None:
        """Of oneself it is told otherwise than of others."""
        for line, shown in [
            ("!joined #ops bob", "bob joined #ops."),
            ("!joined #ops Carol", "You joined #ops."),
            ("!left #ops bob", "bob left #ops."),
            ("!left #ops carol", "You left #ops."),
            ("!removed #ops bob", "bob was put out of #ops."),
            ("!removed #ops carol", "You were put out of #ops."),
            ("!invited #ops bob", "bob is invited to #ops."),
            ("!invited #ops carol", "You are invited to #ops: /join #ops enters it."),
            ("!members #ops bob carol", "In #ops: bob, carol"),
            ("!end members #ops 2", None),
            ("!topic #ops :Operations :-)", "The topic of #ops: Operations :-)"),
            ("!topic #ops", "#ops has no topic."),
            (
                "!kept #ops owner=bob",
                "#ops stays when all have left: bob keeps it, and everybody may join.",
            ),
            (
                "!kept #ops owner=carol members-only",
                "#ops stays when all have left: you keep it, and only who is invited may join.",
            ),
            ("!unkept #ops bob", "bob does not keep #ops any more: it ends when all have left."),
            ("!unkept #ops carol", "You do not keep #ops any more: it ends when all have left."),
            ("!room #ops members=1", "#ops: 1 member"),
            (
                "!room #ops members=3 kept members-only joined :Operations",
                "#ops: 3 members, you are in it, kept, members only - Operations",
            ),
            ("!end rooms 0", "There are no rooms."),
            ("!end rooms 1", "1 room."),
            ("!end rooms 2", "2 rooms."),
            ("!joined #ops", "joined #ops"),
        ]:
            self.assertEqual(sentence_of(parse_line(line.encode()), "carol", UTC), shown)

    def test_long_lists(self) -> None:
        """Of many members the first are named, and how many there are."""
        for lines, shown in [
            (["!members #ops a b", "!end members #ops 2"], ["In #ops: a, b"]),
            (
                ["!joined #ops a", "!members #ops a b", "!members #ops c", "!end members #ops 3"],
                ["a joined #ops.", "In #ops: a, b", "… 3 members in all"],
            ),
            (["!who bob", "!end who 1"], ["bob", "1 is here."]),
        ]:
            events = with_short_lists([parse_line(line.encode()) for line in lines])
            said = [sentence_of(event, "carol", UTC) for event in events]
            self.assertEqual([sentence for sentence in said if sentence is not None], shown)

    @given(
        st.sampled_from(["joined", "invited", "unkept", "members", "topic", "kept", "room", "who"]),
        st.lists(st.text(min_size=1).filter(lambda word: not word.isspace())),
        st.text(),
    )
    def test_anything(self, word: str, arguments: list[str], sentence: str) -> None:
        """A relay may say anything."""
        for words in (arguments, ["#ops", *arguments]):
            shown = sentence_of(Reply(word, tuple(words), sentence), "carol", UTC)
            self.assertIsInstance(shown or "", str)
