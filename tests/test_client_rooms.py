"""A person at a terminal in rooms: what is learned, counted and shown, and where lines go."""

from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.completing import completions
from chatrelay.client.connecting import connect
from chatrelay.client.conversation import Conversation
from chatrelay.client.conversations import (
    MAX_CONVERSATIONS,
    MAX_REPEATED,
    MAX_REPEATED_CHARS,
    Conversations,
)
from chatrelay.client.core import Message, parse_line, same_name
from chatrelay.client.display import harmless
from chatrelay.client.identity import Secret
from chatrelay.client.incoming import MAX_ASKING
from chatrelay.client.known_rooms import MAX_JOINED, MAX_MEMBERS, MAX_ROOMS, KnownRooms
from chatrelay.client.library import Client
from chatrelay.client.outgoing import Outgoing
from chatrelay.client.protocol import Claim
from chatrelay.client.reconnect import Reconnector
from chatrelay.client.typed import NEEDED_CAPS
from tests.client_harness import RelayEndpoint
from tests.test_client_conversation import NOON, ConversationCase


class ConversationsTests(SynchronousTestCase):
    """What is unread where."""

    def setUp(self) -> None:
        self.conversations = Conversations()

    def test_numbers(self) -> None:
        """Each keeps its number; one that is free is given again."""
        for name in ("bob", "#ops", "dave", "BOB"):
            self.conversations.used(name)
        self.assertEqual(
            [(thread.number, thread.name) for thread in self.conversations],
            [(1, "BOB"), (2, "#ops"), (3, "dave")],
        )
        self.conversations.forget("#OPS")
        self.assertIsNone(self.conversations.numbered("2"))
        self.assertEqual(self.conversations.used("erin").number, 2)
        self.assertEqual(self.conversations.numbered("3").name, "dave")
        for written in ("0", "4", "x", "", "03"):
            self.assertIsNone(self.conversations.numbered(written))
        self.assertEqual(self.conversations.names, ["erin", "BOB", "dave"])

    def test_unread(self) -> None:
        """The last lines are kept until the user is there."""
        thread = self.conversations.used("bob")
        for number in range(MAX_REPEATED + 2):
            thread.came(str(number))
        self.assertEqual(self.conversations.unread_count, 1)
        self.assertEqual(thread.unread, MAX_REPEATED + 2)
        self.assertEqual(thread.read(), [str(number) for number in range(2, MAX_REPEATED + 2)])
        self.assertEqual((thread.unread, thread.read()), (0, []))
        self.assertIsNone(self.conversations.next_unread())

    def test_long(self) -> None:
        """Of very long lines fewer are kept, and all are counted."""
        thread = self.conversations.used("bob")
        for size in (1, MAX_REPEATED_CHARS - 1, 2):
            thread.came("x" * size)
        self.assertEqual((thread.unread, thread.read()), (3, ["xx"]))
        thread.came("x" * (MAX_REPEATED_CHARS + 1))
        self.assertEqual((thread.unread, thread.read()), (1, []))

    def test_next(self) -> None:
        """Each of those with something unread has its turn."""
        for name in ("bob", "#ops", "dave"):
            self.conversations.used(name).came("hi")
        self.conversations.used("bob").came("hi again")
        turned_to = []
        while thread := self.conversations.next_unread():
            thread.read()
            turned_to.append(thread.name)
        self.assertEqual(turned_to, ["#ops", "dave", "bob"])

    def test_bound(self) -> None:
        """What is read goes first; of what is unread the oldest."""
        for number in range(MAX_CONVERSATIONS):
            self.conversations.used(f"n{number}").came("hi")
        self.conversations.find("n7").read()
        self.conversations.used("another").came("hi")
        self.assertIsNone(self.conversations.find("n7"))
        self.conversations.used("one.more")
        self.assertIsNone(self.conversations.find("n0"))
        numbers = [thread.number for thread in self.conversations]
        self.assertEqual(numbers, list(range(1, MAX_CONVERSATIONS + 1)))

    @given(st.lists(st.tuples(st.sampled_from("abcABC"), st.sampled_from(["came", "read", "go"]))))
    def test_counts(self, steps: list[tuple[str, str]]) -> None:
        """The counts are those of a plain dictionary."""
        conversations, counts = Conversations(), {}
        for name, step in steps:
            key = name.lower()
            if step == "came":
                conversations.used(name).came("x")
                counts[key] = counts.get(key, 0) + 1
            elif step == "read":
                conversations.used(name).read()
                counts[key] = 0
            else:
                conversations.forget(name)
                counts.pop(key, None)
        found = {thread.name.lower(): thread.unread for thread in conversations}
        self.assertEqual(found, counts)
        self.assertEqual(conversations.unread_count, sum(map(bool, counts.values())))


class KnownRoomsTests(SynchronousTestCase):
    """Who is where, as far as it was told."""

    def setUp(self) -> None:
        self.rooms = KnownRooms()

    def hear(self, *lines: str) -> list[str]:
        taken = [self.rooms.take(parse_line(line.encode()), "carol") for line in lines]
        return [room for room in taken if room is not None]

    def test_members(self) -> None:
        """They come with one's own joining, and go one by one."""
        self.hear("!joined #ops bob", "!members #ops bob")
        self.assertEqual(list(self.rooms.members("#ops")), [])
        self.hear("!joined #ops carol", "!members #ops bob carol", "!members #ops Dave")
        self.hear("!joined #Ops erin", "!left #ops bob", "!removed #ops dave", "!left #ops zoe")
        self.assertEqual(set(self.rooms.members("#OPS")), {"carol", "erin"})
        self.assertEqual(self.hear("!left #ops carol"), ["#ops"])
        self.assertEqual(self.hear("!left #ops carol", "!removed #dev carol"), [])
        self.assertFalse(self.rooms.is_joined("#ops"))

    def test_again(self) -> None:
        """Joined again, only those are there who are told of."""
        self.hear("!joined #ops carol", "!members #ops bob carol")
        self.hear("!joined #ops carol", "!members #ops carol dave")
        self.assertEqual(set(self.rooms.members("#ops")), {"carol", "dave"})

    def test_told(self) -> None:
        """Rooms that are listed, and that one is invited to, are known."""
        self.hear("!room #ops members=1", "!invited #dev carol", "!end rooms 1", "!who bob")
        self.assertEqual((self.rooms.names, self.rooms.joined), (["#ops", "#dev"], []))

    def test_long(self) -> None:
        """What is too long for a name, or a room, is not remembered."""
        long, longest = "x" * 200, "y" * 32
        self.hear("!joined #ops carol", f"!members #ops {long} {longest}", f"!joined #{long} carol")
        self.assertEqual(set(self.rooms.members("#ops")), {"carol", longest})
        self.assertEqual(self.rooms.names, ["#ops"])

    def test_bounds(self) -> None:
        """One's own rooms are forgotten last."""
        self.hear("!joined #ops carol")
        self.hear(*(f"!room #{number} members=1" for number in range(MAX_ROOMS)))
        self.assertEqual(len(self.rooms.names), MAX_ROOMS)
        self.assertEqual(self.rooms.joined, ["#ops"])
        self.assertNotIn("#0", self.rooms.names)
        names = " ".join(f"n{number}" for number in range(MAX_MEMBERS))
        self.hear("!joined #dev carol", f"!members #ops {names}", f"!members #dev {names}")
        counts = [len(self.rooms.members(room)) for room in ("#ops", "#dev")]
        self.assertEqual(sum(counts), MAX_MEMBERS)
        self.hear(*(f"!joined #r{number} carol" for number in range(MAX_JOINED)))
        self.assertEqual(len(self.rooms.joined), MAX_JOINED)
        self.assertEqual(len(self.rooms.names), MAX_ROOMS)


class RoomCase(ConversationCase):
    """A relay with rooms, which echoes."""

    def setUp(self) -> None:
        self.rooms: dict[str, list[str]] = {"#ops": ["bob"], "#shut": ["dave"]}
        super().setUp()

    def attach(self, to: str | None = None) -> None:
        super().attach(to)
        self.relay.say(b"!caps time ping echo ack")

    def answers(self, line: str) -> list[str]:
        verb, *words = line.split()
        room = words[0] if words else line[1:].partition("%")[0]
        if room[:1] != "#":
            return super().answers(line)
        members = self.rooms.get(room, [])
        if verb == "/join":
            if room == "#shut":
                return ["!error not-allowed #shut :Only its members may join."]
            if "carol" not in members:
                self.rooms[room] = members = [*members, "carol"]
            names = f"!members {room} {' '.join(members)}"
            return [f"!joined {room} carol", names, f"!end members {room} {len(members)}"]
        if "carol" not in members:
            code = "not-in-room" if members else "unknown-room"
            return [f"!error {code} {room} :You are not in this room."]
        if verb == "/leave":
            members.remove("carol")
            return [f"!left {room} carol"]
        return [f"!sent {room}"]

    def serve(self, *, answer: bool = True) -> list[str]:
        written = super().serve(answer=answer)
        for line in written:
            where, _, text = line[1:].partition("%")
            if line.startswith("%#") and "carol" in self.rooms.get(where, []):
                self.say(f"%{where}%carol%{text}")
        return written

    def say(self, *lines: str) -> None:
        """The relay says something, and it is shown."""
        self.relay.say(*(line.encode() for line in lines))
        while self.client._unread:
            self.conversation.show_event(self.client._unread.popleft()[0])

    def unread(self) -> dict[str, int]:
        return {thread.name: thread.unread for thread in self.conversation.conversations}


class RoomTests(RoomCase):
    """Where lines go, and what is shown."""

    def test_join(self) -> None:
        """Plain lines go to a room that was joined; they come back, and are shown once."""
        self.assertEqual(self.type("/join #ops", "hi"), ["%#ops%hi"])
        self.say("%#ops%bob%hi carol")
        self.assertEqual(
            self.shown,
            [
                "* You joined #ops.",
                "* In #ops: bob, carol",
                "12:00:00 #ops carol: hi",
                "12:00:00 #ops bob: hi carol",
            ],
        )
        self.assertEqual(self.unread(), {"#ops": 0})

    def test_without_echo(self) -> None:
        """A relay that does not show it again: it is shown when it is sent, as always."""
        self.relay.say(b"!caps time ping")
        self.type("/join #ops")
        self.conversation.typed("hi")
        self.assertEqual(self.shown[-1], "12:00:00 to #ops: hi")

    def test_to_all(self) -> None:
        """What an operator says to all comes back to the operator, too, and is shown once."""
        self.here.add("*")
        self.type("%*%going down")
        self.say("%*%carol%going down")
        self.assertEqual(self.shown, ["12:00:00 (to all) carol: going down"])
        self.assertEqual(self.unread(), {})

    def test_typed_ahead(self) -> None:
        """What is typed behind a /join goes to the room, and nowhere if that is refused."""
        self.type("%bob%")
        self.conversation.typed("/join #ops")
        self.conversation.typed("one")
        self.assertEqual(self.serve(), ["/join #ops", "%#ops%one"])
        self.conversation.typed("/join #shut")
        self.conversation.typed("two")
        self.assertEqual(self.serve(), ["/join #shut"])
        self.assertEqual(
            self.shown[-2:],
            [
                "* Only its members may join. (not-allowed)",
                '* Plain lines do not go to #shut any more; not sent: "two"',
            ],
        )
        self.assertIsNone(self.conversation.target)

    def test_leave(self) -> None:
        """/leave alone is for the room that plain lines go to; nothing goes there then."""
        self.type("/join #ops", "/leave")
        self.assertIn("* You left #ops.", self.shown)
        self.assertIsNone(self.conversation.target)
        self.assertEqual(self.type("psst"), [])
        self.assertEqual(self.unread(), {})

    def test_put_out(self) -> None:
        """So it is when the owner, or another device of one's own, does that."""
        for told in ("!removed #ops carol", "!left #Ops Carol"):
            self.type("/join #ops")
            self.relay.say(told.encode())
            self.assertIsNone(self.conversation.target)
            self.assertEqual(self.type("psst"), [])
            self.rooms["#ops"] = ["bob"]

    def test_put_out_at_once(self) -> None:
        """So it is when that comes before the end of the answer to /join."""
        self.conversation.typed("/join #ops")
        joining, fence = (line.partition(b" ")[0] for line in self.relay.lines())
        self.relay.say(
            joining + b" !joined #ops carol",
            joining + b" !members #ops bob carol",
            b"!removed #ops carol",
            fence + b" !pong .",
        )
        self.assertIsNone(self.conversation.target)
        self.assertEqual(self.conversation.rooms.joined, [])

    def test_not_in_it(self) -> None:
        """A message to a room that one is not in is refused, and how to enter it is said."""
        self.type("%#ops%hi")
        self.assertIn(
            '* You are not in this room. /join #ops enters it. Not delivered: "hi"', self.shown
        )
        self.assertIsNone(self.conversation.target)
        for line in ("%#ops%", "/switch #ops"):
            self.assertEqual(self.type(line, "hi"), [])
            self.assertIn("* You are not in #ops: /join #ops enters it.", self.shown)
            self.shown.clear()

    def test_refused_for_now(self) -> None:
        """What is refused for another reason than membership leaves the target."""
        self.type("/join #ops")
        self.conversation.typed("hi")
        [line, *_] = self.relay.lines()
        self.relay.say(line.partition(b" ")[0] + b" !error busy #ops :Later.")
        self.assertEqual(self.shown[-1], '* Later. Not delivered: "hi"')
        self.assertEqual(self.conversation.target, "#ops")

    def test_told(self) -> None:
        """Who comes and goes in one's rooms is told; and learned for TAB."""
        self.type("/join #ops")
        self.say("!joined #ops erin", "!left #ops bob", "!topic #ops :\u202eevil")
        self.assertEqual(
            self.shown[-3:],
            ["* erin joined #ops.", "* bob left #ops.", "* The topic of #ops: \\u202eevil"],
        )
        offered = [text for text, _ in completions("thanks ", self.conversation.known)]
        self.assertEqual(offered, [])
        self.assertEqual(completions("e", self.conversation.known)[0], ("erin: ", 1))
        self.assertEqual(completions("thanks b", self.conversation.known), [])
        self.assertEqual(completions("/leave ", self.conversation.known), [("#ops ", 0)])

    def test_joined_elsewhere(self) -> None:
        """Another device of the name is told who is in the room; this one asks."""
        answers = self.answers
        self.answers = lambda line: (
            ["!who bob", "!who Carol", "!end who 2"] if line == "/who #ops" else answers(line)
        )
        self.say("!joined #ops Carol")
        self.serve()
        self.assertEqual(set(self.conversation.rooms.members("#ops")), {"bob", "Carol"})
        self.assertEqual(self.shown, ["* You joined #ops."])
        self.say(*["!joined #ops carol"] * (MAX_ASKING + 1))
        self.assertEqual(self.serve(), ["/who #ops"] * MAX_ASKING)
        self.say("!joined #ops carol")
        self.assertEqual(self.serve(), ["/who #ops"])

    def test_left_names_are_not_presence(self) -> None:
        """A person whom plain lines go to may leave a room, and stays the target."""
        self.type("/join #ops", "%bob%hi")
        self.say("!left #ops bob")
        self.assertEqual(self.conversation.target, "bob")

    def test_another_name(self) -> None:
        """Rooms belong to the name: with another one nothing goes there."""
        self.type("/join #ops")
        self.conversation.typed("/name karl")
        line, fence = self.relay.lines()
        self.relay.say(
            line.partition(b" ")[0] + b" !welcome karl max-line=8192 :Hi.",
            fence.partition(b" ")[0] + b" !pong .",
        )
        self.assertIsNone(self.conversation.target)
        self.assertIn("* You are not in #ops now: plain lines go to nobody", self.shown[-1])
        self.assertEqual(self.conversation.rooms.joined, [])

    def test_in_rooms_already(self) -> None:
        """An owned name, or one with other devices, is told which rooms it is in."""
        self.rooms = {"#ops": ["bob", "carol"], "#dev": ["carol"]}
        self.here = {"bob"}
        answers = self.answers
        self.answers = lambda line: (
            ["!who carol idle=0 rooms=#ops", "!who carol idle=0 rooms=#dev", "!end who 2"]
            if line == "/who carol"
            else answers(line)
        )
        self.shown.clear()
        self.conversation.attach(self.client)
        self.serve()
        self.assertIn("* You are in #ops, #dev.", self.shown)
        self.assertNotIn("joined", " ".join(self.shown))
        self.assertEqual(self.conversation.rooms.joined, ["#ops", "#dev"])
        self.assertIn("bob", self.conversation.rooms.members("#ops"))

    def test_in_rooms_whatever_is_refused(self) -> None:
        """Of what is asked at the start one thing may be refused: the others are learned."""
        self.rooms = {"#ops": ["carol"]}
        self.conversation._target.watched_by_user += [f"n{number}" for number in range(50)] * 2
        answers = self.answers
        self.answers = lambda line: (
            {
                "/who": ["!error busy :Later."],
                "/who carol": ["!who carol idle=0 rooms=#ops", "!end who 1"],
            }.get(line)
            or (["!error too-many-watches :No."] if "n49" in line else answers(line))
        )
        self.conversation.attach(self.client)
        self.serve()
        self.assertEqual(self.conversation.rooms.joined, ["#ops"])
        self.assertIn("who", self.conversation.verbs)
        self.assertIn("* n0 is not here.", self.shown)
        [said] = [line for line in self.shown if "Not watched any more: " in line]
        self.assertEqual(said.count(" n"), 20)

    def test_another_name_in_rooms(self) -> None:
        """A name that is owned brings its own rooms."""
        self.rooms = {"#dev": ["karl"]}
        self.conversation.typed("/name karl his-secret")
        line, fence = self.relay.lines()
        self.relay.say(
            line.partition(b" ")[0] + b" !welcome karl max-line=8192 :Hi.",
            fence.partition(b" ")[0] + b" !pong .",
        )
        answers = self.answers
        self.answers = lambda line: (
            {
                "/who karl": ["!who karl rooms=#dev", "!end who 1"],
                "/join #dev": ["!joined #dev karl", "!members #dev karl", "!end members #dev 1"],
            }.get(line)
            or answers(line)
        )
        self.serve()
        self.assertEqual(self.shown[-2:], ["* You are karl now.", "* You are in #dev."])

    def test_first_target(self) -> None:
        """--to with a room joins it."""
        self.conversation = type(self.conversation)(
            self.shown.append, self.conversation._now, zone=self.conversation._zone
        )
        self.attach("#ops")
        self.assertEqual(self.type("hi"), ["%#ops%hi"])


class SwitchTests(RoomCase):
    """Several conversations: counted, listed, turned to."""

    def setUp(self) -> None:
        super().setUp()
        self.type("/join #ops", "%bob%hi")
        self.shown.clear()

    def test_counted(self) -> None:
        """What comes elsewhere than where plain lines go is unread there, and shown."""
        self.say("%#ops%bob%one", "%dave%two", "%bob%three", "%dave%four", "%*%root%all")
        self.assertEqual(self.unread(), {"#ops": 1, "bob": 0, "dave": 2, "root": 1})
        self.assertEqual(self.conversation.conversations.unread_count, 3)
        self.assertEqual(len(self.shown), 5)
        self.assertIn("12:00:00 #ops bob: one", self.shown)

    def test_own(self) -> None:
        """What one writes oneself, here or on another device, is not unread."""
        self.say("%#ops%carol%one", "@to=dave %carol%two", "%carol%note")
        self.assertEqual(self.unread(), {"#ops": 0, "bob": 0, "dave": 0, "carol": 0})

    def test_listed(self) -> None:
        """/switch alone lists them."""
        self.say("%dave%two", "%dave%four")
        self.shown.clear()
        self.type("/switch")
        self.assertEqual(
            self.shown, ["* 1 #ops", "* 2 bob, plain lines go here", "* 3 dave, 2 unread"]
        )

    def test_none(self) -> None:
        """None is said to be none."""
        self.conversation = type(self.conversation)(self.shown.append, self.conversation._now)
        self.attach()
        self.type("/switch")
        self.assertEqual(self.shown, ["* There are no conversations yet."])
        self.conversation.next_unread()
        self.assertEqual(self.shown[-1], "* Nothing is unread.")

    def test_turned_to(self) -> None:
        """By name, room or number; what is unread there is shown once more, and is not then."""
        for to, target, message in [
            ("#OPS", "#ops", "%#ops%bob%psst"),
            ("Dave", "dave", "%dave%psst"),
            ("2", "bob", "%bob%psst"),
        ]:
            self.say(message)
            self.shown.clear()
            self.type(f"/switch {to}")
            self.assertTrue(same_name(self.conversation.target, target))
            self.assertEqual(self.shown[0], f"* Unread of {target}: 1")
            self.assertTrue(self.shown[1].endswith(": psst"), self.shown[1])
            self.assertEqual(set(self.unread().values()), {0})
            self.type(f"/switch {to}")
            self.assertEqual(len(self.shown), 2)
            written = self.type("hello")
            self.assertEqual(written, [f"%{self.conversation.target}%hello"])

    def test_no_such_number(self) -> None:
        """A number that is none, nor anybody's name, leaves the target."""
        self.type("/switch 7")
        self.assertEqual(self.shown, ["* There is no conversation 7; /switch lists them."])
        self.assertEqual(self.conversation.target, "bob")
        self.here.add("7")
        self.say("!joined #ops 7")
        self.type("/switch 7")
        self.assertEqual(self.conversation.target, "7")

    def test_many(self) -> None:
        """Only the last ones are shown once more, and that is said."""
        self.say(*(f"%dave%{number}" for number in range(MAX_REPEATED + 5)))
        self.shown.clear()
        self.type("/switch dave")
        self.assertEqual(self.shown[0], f"* Unread of dave: 25, the last {MAX_REPEATED}")
        self.assertEqual(len(self.shown), 1 + MAX_REPEATED)

    def test_next(self) -> None:
        """The key turns to one after the other."""
        self.say("%dave%one", "%#ops%bob%two")
        for target in ("dave", "#ops"):
            self.conversation.next_unread()
            self.serve()
            self.assertEqual(self.conversation.target, target)
        self.conversation.next_unread()
        self.assertEqual(self.shown[-1], "* Nothing is unread.")
        self.assertEqual(self.conversation.target, "#ops")

    def test_written_to(self) -> None:
        """Who writes somewhere is there."""
        self.say("%dave%one")
        self.type("%dave%hi")
        self.assertEqual(self.unread()["dave"], 0)

    def test_gone(self) -> None:
        """What somebody wrote who is gone can be read still; nothing goes to that name."""
        self.say("%dave%one")
        self.here.discard("dave")
        self.shown.clear()
        self.assertEqual(self.type("/switch dave", "hi"), [])
        self.assertEqual(self.shown[:2], ["* Unread of dave: 1", "12:00:00 dave: one"])
        # A relay for strangers says the same of one who is here, and whom one has not answered.
        self.assertIn("* dave is not here, or you are not told before you answer", self.shown[2])
        self.assertIsNone(self.conversation.target)

    def test_left(self) -> None:
        """What was said in a room before one left it can be read still; nothing goes there."""
        self.relay.say(b"%#ops%bob%one", b"!left #ops carol")
        self.say()
        self.assertEqual(self.unread()["#ops"], 1)
        self.shown.clear()
        self.conversation.next_unread()
        self.serve()
        self.assertEqual(
            self.shown,
            [
                "* Unread of #ops: 1",
                "12:00:00 #ops bob: one",
                "* You are not in #ops: /join #ops enters it.",
            ],
        )
        self.assertEqual((self.conversation.target, list(self.unread())), ("bob", ["bob"]))

    def test_not_in_it_any_more(self) -> None:
        """Who learns of it by a refusal is in the room no more for TAB either."""
        self.rooms["#ops"].remove("carol")
        self.type("%#ops%hi")
        self.assertEqual(self.conversation.rooms.joined, [])

    def test_history_is_no_news(self) -> None:
        """What is asked for is not unread."""
        self.conversation._tell_event(Message("dave", "old", id="a1"))
        self.assertNotIn("dave", self.unread())

    def test_refused(self) -> None:
        """Whom nothing reached is no conversation."""
        self.type("%nobody%psst", "%dave,nobody%both")
        self.assertEqual(list(self.unread()), ["#ops", "bob", "dave"])

    def test_named_twice(self) -> None:
        """What became of a message is that of the right name, whatever is written twice."""
        self.here.add("erin")
        self.assertEqual(self.type("%bob,BOB,nobody,erin%hi"), ["%bob,nobody,erin%hi"])
        self.assertEqual(list(self.unread()), ["#ops", "bob", "erin"])
        self.assertEqual(self.shown[-1], '* nobody is not here: not delivered: "hi"')


class AgainTests(SynchronousTestCase):
    """Over connections: the rooms are joined again, and nobody sees that."""

    SECRET: Secret | None = None

    def setUp(self) -> None:
        self.shown: list[str] = []
        self.conversation = Conversation(self.shown.append, lambda: NOON, zone=UTC)
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.relays = Reconnector(
            self.clock,
            self.endpoint,
            Claim(b"carol", NEEDED_CAPS, self.SECRET),
            self.make_client,
        )
        self.outgoing = Outgoing(self.clock.seconds, keeps=True)
        self.connect()
        self.conversation.typed("/join #ops")
        lines = self.relay.lines()
        ref = next(line for line in lines if line.endswith(b"/join #ops")).partition(b" ")[0]
        fence = lines[lines.index(ref + b" /join #ops") + 1].partition(b" ")[0]
        self.relay.say(
            ref + b" !joined #ops carol", ref + b" !members #ops bob carol", fence + b" !pong ."
        )
        self.lose()

    def make_client(self) -> Client:
        arrived = self.conversation.arrived
        return Client(self.clock, on_arrival=arrived, outgoing=self.outgoing)

    def connect(self) -> list[bytes]:
        waiting = ensureDeferred(self.relays.__anext__())
        while not self.endpoint.attempts:
            self.clock.advance(1)
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!caps time ping echo ack", b"!welcome carol :Hi.")
        self.clock.advance(0)
        self.client = self.successResultOf(waiting)
        self.conversation.attach(self.client)
        return [line for line in self.relay.lines() if b" %" in line or b" /join" in line]

    def lose(self) -> None:
        self.relay.lose(ConnectionLost())
        self.conversation.detach()
        self.shown.clear()

    def hear(self, line: bytes, *answers: bytes) -> None:
        """Answer a line, and have that shown."""
        ref = line.partition(b" ")[0]
        self.relay.say(*(ref + b" " + answer for answer in answers))
        while self.client._unread:
            self.conversation.show_event(self.client._unread.popleft()[0])

    def test_silent(self) -> None:
        """The target is the room still, and what was typed in the gap goes there."""
        self.assertEqual(self.conversation.target, "#ops")
        self.conversation.typed("hi")
        joining, message = self.connect()
        self.assertTrue(joining.endswith(b" /join #ops"))
        self.assertTrue(message.endswith(b" %#ops%hi"))
        self.shown.clear()
        self.hear(joining, b"!joined #ops carol", b"!topic #ops :Ops", b"!members #ops carol erin")
        self.hear(joining, b"!end members #ops 2")
        self.assertEqual(self.shown, [])
        self.assertEqual(set(self.conversation.rooms.members("#ops")), {"carol", "erin"})
        self.hear(message, b"!sent #ops")
        self.relay.say(b"%#ops%carol%hi")
        self.conversation.show_event(self.client._unread.popleft()[0])
        self.assertEqual(self.shown, ["12:00:00 #ops carol: hi"])

    def test_refused(self) -> None:
        """A room that is closed now is told of, and nothing goes there."""
        [joining] = self.connect()
        self.shown.clear()
        self.hear(joining, b"!error not-allowed #ops :Only its members may join.")
        self.assertEqual(
            self.shown,
            [
                "* You are not in #ops now: plain lines go to nobody until you name somebody"
                " (%NAME%TEXT).",
                "* #ops can not be joined again: Only its members may join. (not-allowed)",
            ],
        )
        self.conversation.typed("psst")
        self.assertEqual([line for line in self.relay.lines() if b"psst" in line], [])
        self.lose()
        self.assertEqual(self.connect(), [])

    def test_refused_for_now(self) -> None:
        """What passes is told of, and tried again on the next connection."""
        [joining] = self.connect()
        self.shown.clear()
        self.hear(joining, b"!error store-failed :Later.")
        self.assertEqual(
            self.shown, ["* One of your rooms can not be joined again: Later. (store-failed)"]
        )
        self.lose()
        self.assertEqual(len(self.connect()), 1)

    def test_refused_while_the_last_one_is_shown(self) -> None:
        """A room may be refused before the end of a flood, and of its connection, was shown."""
        attach, self.conversation.attach = self.conversation.attach, lambda _: None
        [joining] = self.connect()
        self.hear(joining, b"!error not-allowed #ops :Only its members may join.")
        attach(self.client)
        self.assertIsNone(self.conversation.target)
        self.assertEqual(self.conversation.rooms.joined, [])


class OwnedAgainTests(AgainTests):
    """Under a name that is owned, what was not answered goes again."""

    SECRET = Secret(b"carols-secret")

    def test_taken_before(self) -> None:
        """What came back of a message was lost with the connection: it is told that it was said."""
        self.connect()
        self.conversation.typed("hi")
        self.relay.lines()
        self.lose()
        _, message = self.connect()
        self.assertTrue(message.endswith(b" %#ops%hi"))
        self.shown.clear()
        self.hear(message, b"!sent #ops")
        self.assertEqual(self.shown, ['* #ops has it: "hi"'])


ROOM_WORDS = ["joined", "left", "removed", "members", "topic", "kept", "unkept", "invited", "room"]
OTHER_WORDS = ["end", "who", "online", "offline", "error", "history", "welcome", "caps"]
WORDS = st.one_of(
    st.sampled_from(
        ["#ops", "#Ops", "#", "carol", "bob", "*", "rooms=#ops", "owner=", "0", "members"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=5),
)
REPLIES = st.builds(
    lambda tag, word, words, sentence: f"{tag}!{word} {' '.join(words)}{sentence}",
    st.sampled_from(["", "@ref=x ", "@time=2026-11-22T11:00:00.000Z "]),
    st.sampled_from(ROOM_WORDS + OTHER_WORDS),
    st.lists(WORDS, max_size=4),
    st.sampled_from(["", " :\u202eevil", " :"]),
)
MESSAGES = st.builds(
    lambda tag, where, sender, text: f"{tag}%{where}{sender}%{text}",
    st.sampled_from(["", "@id=a1 ", "@to=bob ", "@to=# ", "@again "]),
    st.sampled_from(["", "#ops%", "#%", "*%"]),
    WORDS,
    WORDS,
)


class AnyRelayTests(SynchronousTestCase):
    """A relay may say anything at any time."""

    @settings(max_examples=150)
    @given(st.lists(st.one_of(REPLIES, MESSAGES), max_size=30), st.data())
    def test_anything(self, lines: list[str], data: st.DataObject) -> None:
        """Nothing raises, nothing harmful is shown, and the counts are those of what is listed."""
        shown: list[str] = []
        conversation = Conversation(shown.append, lambda: NOON, zone=UTC)
        endpoint = RelayEndpoint()
        connecting = connect(Clock(), endpoint, "carol", caps=())
        relay = endpoint.accept()
        relay.welcome()
        client = self.successResultOf(connecting)
        client._on_arrival = conversation.arrived
        conversation.attach(client)
        for line in lines:
            relay.say(line.encode())
            while client._unread:
                conversation.show_event(client._unread.popleft()[0])
            if data.draw(st.booleans()):
                conversation.next_unread()
            conversation.typed(data.draw(st.sampled_from(["/switch", "/switch 1", "hi", "/leave"])))
        for line in shown:
            self.assertEqual(line, harmless(line))
        unread = [thread.unread for thread in conversation.conversations]
        self.assertEqual(conversation.conversations.unread_count, sum(map(bool, unread)))
        completions("", conversation.known)
        completions("/join ", conversation.known)
        relay.lose()
