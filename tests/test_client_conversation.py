"""Where typed lines go: never to whoever took the name of somebody who left."""

from datetime import UTC, datetime

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import conversation
from chatrelay.client.connecting import connect
from chatrelay.client.conversation import Conversation
from chatrelay.client.core import Message
from chatrelay.client.incoming import MAX_KNOWN_NAMES
from chatrelay.client.reconnect import stay_connected
from tests.client_harness import RelayEndpoint

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class ConversationCase(SynchronousTestCase):
    """A conversation with a relay that the test plays."""

    def setUp(self) -> None:
        self.shown: list[str] = []
        self.here = {"bob", "dave"}
        self.conversation = Conversation(self.shown.append, lambda: NOON, zone=UTC)
        self.attach()

    def attach(self, to: str | None = None) -> None:
        endpoint = RelayEndpoint()
        connecting = connect(Clock(), endpoint, "carol", caps=())
        self.relay = endpoint.accept()
        self.relay.welcome()
        self.client = self.successResultOf(connecting)
        self.client._on_arrival = self.conversation.arrived
        attaching = self.conversation.attach(self.client, to)
        self.serve()
        self.successResultOf(attaching)
        self.shown.clear()

    def serve(self, *, answer: bool = True) -> list[str]:
        """Be the relay until it is silent; returns what the client wrote, but fences."""
        written = []
        while lines := self.relay.lines():
            for line in lines:
                ref, _, rest = line.decode().partition(" ")
                if rest != "/ping .":
                    written.append(rest)
                for said in self.answers(rest) if answer else ():
                    self.relay.say(f"{ref} {said}".encode())
        return written

    def answers(self, line: str) -> list[str]:
        if line.startswith("%"):
            targets = line[1:].split("%", maxsplit=1)[0].split(",")
            return [
                f"!sent {name}"
                if name in self.here
                else f"!error unknown-{'room' if name[0] == '#' else 'name'} {name} :Nobody."
                for name in targets
            ]
        verb, *words = line.split()
        return {
            "/watch": [f"!{'online' if word in self.here else 'offline'} {word}" for word in words],
            "/who": [*(f"!who {name}" for name in sorted(self.here)), "!end who 2"],
            "/help": ["!help /who [NAME] :lists", "!help %NAME%TEXT :sends", "!end help"],
            "/ping": ["!pong ."],
            "/unwatch": [f"!unwatched {word}" for word in words],
        }.get(verb, ["!error unknown-command :No."])

    def type(self, *lines: str) -> list[str]:
        """Type lines, each when the one before is done; returns the messages written."""
        written = []
        for line in lines:
            self.conversation.typed(line)
            written += self.serve()
        return [line for line in written if line.startswith("%")]

    def leave(self, name: str) -> None:
        self.here.discard(name)
        self.relay.say(b"!offline " + name.encode())


class ConversationTests(ConversationCase):
    """Where lines go, and what is shown."""

    def test_target(self) -> None:
        """Plain lines go to the last one named."""
        written = self.type("%bob%hi", "more", "%dave%hi", "again", "/who", "and again")
        self.assertEqual(
            written, ["%bob%hi", "%bob%more", "%dave%hi", "%dave%again", "%dave%and again"]
        )
        self.assertIn("12:00:00 to bob: more", self.shown)

    def test_nobody(self) -> None:
        """Without a target a plain line is not sent, and why is said."""
        self.assertEqual(self.type("hello"), [])
        self.assertIn("nobody", self.shown[-1])

    def test_watch_goes_first(self) -> None:
        """The target is watched before the message, so that no departure is missed."""
        self.conversation.typed("%bob%hi")
        self.assertEqual(self.serve(), ["/watch bob", "%bob%hi"])

    def test_left(self) -> None:
        """Who left is no target, even when somebody has the name again."""
        self.type("%bob%hi")
        self.leave("bob")
        self.assertIsNone(self.conversation.target)
        self.here.add("bob")
        self.relay.say(b"!online bob")
        self.assertEqual(self.type("a secret for bob"), [])
        self.assertIn("bob left", " ".join(self.shown))

    def test_left_in_another_case(self) -> None:
        """Names are compared as the relay compares them."""
        self.here.add("Bob")
        self.type("%Bob%hi")
        self.relay.say(b"!offline bob")
        self.assertIsNone(self.conversation.target)

    def test_left_while_lines_wait(self) -> None:
        """Lines typed for who then left are not sent, nor what was typed right behind."""
        self.conversation.typed("%bob%one")
        self.conversation.typed("two")
        self.conversation.typed("three")
        self.leave("bob")
        written = [line for line in self.serve() if line.startswith("%")]
        self.assertEqual(written, ["%bob%one"])
        self.assertIn('* Plain lines do not go to bob any more; not sent: "two"', self.shown)
        self.assertIn('* Plain lines do not go to bob any more; not sent: "three"', self.shown)

    def test_typed_ahead(self) -> None:
        """Lines typed at once go where they were meant to, in order."""
        for line in ("%bob%1", "2", "%dave%3", "4"):
            self.conversation.typed(line)
        written = [line for line in self.serve() if line.startswith("%")]
        self.assertEqual(written, ["%bob%1", "%bob%2", "%dave%3", "%dave%4"])
        self.assertEqual(self.conversation.target, "dave")

    def test_earlier_target_unwatched(self) -> None:
        """Who is no target any more is not watched, unless the user asked for it."""
        self.type("%bob%hi")
        self.conversation.typed("%dave%hi")
        self.assertEqual(self.serve(), ["/unwatch bob", "/watch dave", "%dave%hi"])
        self.type("/watch dave")
        self.conversation.typed("%bob%hi")
        self.assertNotIn("/unwatch dave", self.serve())

    def test_not_here(self) -> None:
        """A message that is refused says so, with its text, and names no target."""
        self.type("%bob%hi", "%nobody%psst")
        self.assertIn('* nobody is not here: not delivered: "psst"', self.shown)
        self.assertIsNone(self.conversation.target)
        self.assertEqual(self.type("more"), [])

    def test_came_just_now(self) -> None:
        """Who was not here when that was asked, and was when the message came, is the target."""
        self.here.discard("bob")
        self.conversation.typed("%bob%hi")
        lines = self.relay.lines()
        for line, answer in zip(lines, (b"!offline bob", b"!pong .", b"!sent bob"), strict=True):
            self.relay.say(line.partition(b" ")[0] + b" " + answer)
        self.here.add("bob")
        self.serve()
        self.assertEqual(self.conversation.target, "bob")

    def test_presence_is_not_told(self) -> None:
        """A relay that hides who is here would not tell when the target leaves, either."""
        answers = self.answers
        self.answers = lambda line: ["!offline bob"] if line == "/watch bob" else answers(line)
        self.assertEqual(self.type("%bob%hi", "more"), ["%bob%hi"])
        self.assertIn(
            "* You are not told when bob leaves, before you have an answer", self.shown[1]
        )
        self.answers = answers
        self.assertEqual(self.type("%bob%hi", "more"), ["%bob%hi", "%bob%more"])

    def test_several(self) -> None:
        """Several names are no target; each refusal is told."""
        self.type("%bob%hi", "%dave,nobody%both")
        self.assertEqual(self.conversation.target, "bob")
        self.assertIn('* nobody is not here: not delivered: "both"', self.shown)

    def test_choose(self) -> None:
        """A target without a message; one who is not here is none."""
        self.assertEqual(self.type("%bob%", "hi"), ["%bob%hi"])
        self.assertEqual(self.type("%nobody%", "hi"), [])
        self.assertIsNone(self.conversation.target)

    def test_first_target(self) -> None:
        """--to sets the first target, if it is here."""
        for to, target in (("bob", "bob"), ("nobody", None)):
            self.conversation = Conversation(self.shown.append, lambda: NOON, zone=UTC)
            self.attach(to)
            self.assertEqual(self.conversation.target, target)

    def test_misuse(self) -> None:
        """What can not be sent is said, and is no target."""
        self.assertEqual(self.type("%a b%hi", "%bob%\x1b", "hi"), [])
        self.assertIsNone(self.conversation.target)
        self.assertNotIn("\x1b", "".join(self.shown))

    def test_refused_room(self) -> None:
        """A room that refuses a message is no target; one that takes it is."""
        self.here.add("#ops")
        self.assertEqual(self.type("%#ops%hi", "more"), ["%#ops%hi", "%#ops%more"])
        self.assertEqual(self.type("%#pos%hi", "more"), ["%#pos%hi"])
        self.assertIsNone(self.conversation.target)
        self.type("%#ops%hi")
        self.here.remove("#ops")
        self.type("plain")
        self.assertIsNone(self.conversation.target)

    def test_too_long(self) -> None:
        """A text that can not be sent leaves the target who it was."""
        self.type("%bob%hi", "%bob%" + "x" * 9000)
        self.assertEqual(self.conversation.target, "bob")
        self.type("x" * 9000)
        self.assertEqual(self.type("plain"), ["%bob%plain"])
        self.type("%dave%" + "x" * 9000)
        self.assertIsNone(self.conversation.target)

    def test_unwatched(self) -> None:
        """A target that the user unwatches can not be one."""
        self.type("%bob%hi", "/unwatch bob")
        self.assertIsNone(self.conversation.target)

    def test_disconnect(self) -> None:
        """After a gap the name may be somebody else's: it is named again or not written to."""
        self.type("%bob%hi")
        self.conversation.typed("on its way")
        self.relay.lose()
        self.conversation.detach()
        self.assertIn(
            '* The connection was lost; it may or may not have arrived: "on its way"', self.shown
        )
        self.conversation.typed("%bob%in the gap")
        # Without `stay_connected` nothing waits.
        self.assertIn('* The connection was lost; not sent: "in the gap"', self.shown)
        self.assertIsNone(self.conversation.target)
        self.conversation.typed("/who")
        self.assertIn("* There is no connection now.", self.shown)
        self.conversation.typed("%dave%")
        self.attach()
        self.assertIsNone(self.conversation.target)
        self.assertEqual(self.type("plain"), [])

    def test_seen_late(self) -> None:
        """Who left is known when it arrives, not when everything before it is shown."""
        self.type("%bob%hi")
        self.relay.say(*[b"%dave%flood"] * 100, b"!offline bob")
        self.assertIsNone(self.conversation.target)
        self.assertFalse(any("flood" in line for line in self.shown))

    def test_presence_shown_once(self) -> None:
        """Departures of the target are told once; those the user asked for as they come."""
        self.type("/watch dave", "%bob%hi")
        self.shown.clear()
        for name in ("bob", "dave"):
            self.leave(name)
            self.conversation.show_event(self.client._unread.popleft()[0])
        self.assertEqual(len(self.shown), 2)
        self.assertEqual(self.shown[1], "* dave is not here.")

    def test_watches_again(self) -> None:
        """What the user watches is watched on the next connection, too."""
        self.type("/watch dave")
        self.relay.lose()
        self.conversation.detach()
        endpoint = RelayEndpoint()
        connect(Clock(), endpoint, "carol", caps=()).addCallback(self.conversation.attach)
        self.relay = endpoint.accept()
        self.relay.welcome()
        self.assertIn("/watch dave", self.serve())

    def test_learned(self) -> None:
        """Names and commands for completion come from the relay; their number is bounded."""
        self.assertEqual(list(self.conversation.names), ["bob", "dave"])
        self.assertEqual(self.conversation.verbs, ["help", "quit", "switch", "who"])
        for number in range(MAX_KNOWN_NAMES + 1):
            self.conversation.show_event(Message(f"n{number}", "hi"))
        self.assertEqual(len(self.conversation.names), MAX_KNOWN_NAMES)
        self.leave("n7")
        self.assertNotIn("n7", self.conversation.names)

    def test_harmless(self) -> None:
        """Nothing shown drives the terminal."""
        self.conversation.show_event(Message("bob", "\u202eevil\x1b[2J"))
        self.assertEqual(self.shown, ["12:00:00 bob: \\u202eevil\\x1b[2J"])

    def test_help(self) -> None:
        """/help tells how to write, then what the relay has."""
        self.type("/help")
        self.assertIn("%bob%hi", self.shown[0])
        self.assertIn("* /who [NAME] - lists", self.shown)

    def test_leave(self) -> None:
        """/quit leaves; nothing else does."""
        self.assertFalse(self.conversation.typed("/quit"))
        self.assertTrue(self.conversation.typed("/nonsense"))
        self.serve()
        self.assertEqual(self.shown[-1], "* No. (unknown-command)")

    def test_echo(self) -> None:
        """What another of one's own devices sent is shown, and changes no target."""
        self.type("%bob%")
        self.shown.clear()
        self.relay.say(b"@to=dave;time=2026-11-22T11:00:00.000Z %carol%hi")
        self.conversation.show_event(self.successResultOf(self.client._next_event()))
        self.assertEqual(self.shown, ["11:00:00 to dave: hi"])
        self.assertEqual(self.conversation.target, "bob")
        self.assertIn("dave", self.conversation.names)


class OwnedTargetTests(ConversationCase):
    """A target whose name is known to be owned: what is stored for it tells."""

    def setUp(self) -> None:
        super().setUp()
        self.stored = {"bob"}

    def answers(self, line: str) -> list[str]:
        name = line[1:].partition("%")[0]
        if line.startswith("%") and name in self.stored:
            return [f"!stored {name} id=1"]
        return super().answers(line)

    def test_disconnect(self) -> None:
        """It is the target on the next connection, too, and watched there."""
        self.type("%bob%hi")
        self.relay.lose()
        self.conversation.detach()
        self.assertEqual(self.conversation.target, "bob")
        self.attach()
        self.assertEqual(self.conversation.target, "bob")
        self.assertEqual(self.type("plain"), ["%bob%plain"])
        self.here.discard("bob")
        self.relay.say(b"!offline bob")
        self.assertEqual(self.conversation.target, "bob")

    def test_away(self) -> None:
        """It may be written to while it is away, and that is said, once."""
        self.here.discard("bob")
        self.assertEqual(self.type("%bob%one", "two"), ["%bob%one", "%bob%two"])
        away = "* bob is not here: what you write is kept for them."
        self.assertEqual(self.shown.count(away), 1)
        self.relay.say(b"!online bob")
        self.assertEqual(self.shown[-1], "* bob is here.")
        self.relay.say(b"!offline bob")
        self.assertEqual(self.shown[-1], "* bob left: what you write is kept for them.")
        self.assertEqual(self.type("three"), ["%bob%three"])

    def test_turned_to_while_away(self) -> None:
        """So it is for one that is turned to again."""
        self.type("%bob%one", "%dave%hi")
        self.here.discard("bob")
        self.type("/switch bob")
        self.assertEqual(self.shown[-1], "* bob is not here: what you write is kept for them.")
        self.assertEqual(self.conversation.target, "bob")

    def test_owned_no_more(self) -> None:
        """A name that is unknown has no owner any more."""
        self.here.discard("bob")
        self.type("%bob%one")
        self.stored.clear()
        self.type("two")
        self.assertIsNone(self.conversation.target)
        self.assertIn('* bob is not here: not delivered: "two"', self.shown)


class WaitingTests(SynchronousTestCase):
    """Lines that are typed while there is no connection."""

    def start(self, secret: str | None = "old-secret") -> None:
        self.shown: list[str] = []
        self.conversation = Conversation(self.shown.append, lambda: NOON, zone=UTC)
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.relays = stay_connected(self.clock, self.endpoint, "carol", secret=secret)
        self.connect()

    def connect(self) -> list[bytes]:
        self.come_back()
        return self.messages()

    def come_back(self) -> None:
        waiting = ensureDeferred(self.relays.__anext__())
        while not self.endpoint.attempts:
            self.clock.advance(1)
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!welcome carol :Hi.")
        self.clock.advance(0)
        self.conversation.attach(self.successResultOf(waiting))

    def messages(self) -> list[bytes]:
        return [line for line in self.relay.lines() if b" %" in line]

    def lose(self) -> None:
        self.relay.lose(ConnectionLost())
        self.conversation.detach()
        self.shown.clear()

    def answer(self, line: bytes, answer: bytes) -> list[bytes]:
        self.relay.say(line.partition(b" ")[0] + b" " + answer)
        return self.messages()

    def test_typed_in_the_gap(self) -> None:
        """They go when there is one, in order, each told of in one line."""
        for secret in ("old-secret", None):
            self.start(secret)
            self.lose()
            self.conversation.typed("%bob%one")
            self.conversation.typed("two")
            self.assertEqual(
                self.shown,
                [
                    f'* There is no connection now; this goes when there is: "{text}"'
                    for text in ("one", "two")
                ],
            )
            [one] = self.connect()
            self.assertTrue(one.endswith(b" %bob%one"))
            self.assertNotIn("12:00:00 to bob: one", self.shown)
            lines = self.answer(one, b"!stored bob id=1")
            self.assertIn("12:00:00 to bob: one", self.shown)
            self.assertEqual(lines, [])  # it is watched first
            for line in self.relay.lines():
                self.relay.say(line.partition(b" ")[0] + b" !online bob")
            self.assertEqual(self.conversation.target, "bob")

    def serve(self) -> list[str]:
        """Answer what was written; returns the messages, and who is to be watched or not."""
        served: list[str] = []
        while self.relay.value():
            for line in self.relay.lines():
                ref, _, asked = line.decode().partition(" ")
                answer = "pong ."
                if asked.startswith("%"):
                    answer = f"stored {asked.split('%')[1]} id=1"
                elif asked.startswith("/watch "):
                    answer = asked.replace("/watch", "online")
                served += [asked] if asked.startswith(("%", "/watch", "/unwatch")) else []
                self.relay.say(f"{ref} !{answer}".encode())
        return served

    def test_two_targets_in_the_gap(self) -> None:
        """The first one is watched until what was typed for it is on its way."""
        self.start()
        self.conversation.typed("%dave%hi")
        self.serve()
        self.lose()
        for line in ("%bob%one", "two", "%dave%three"):
            self.conversation.typed(line)
        self.come_back()
        first = ["%bob%one", "/watch dave", "/watch bob", "%bob%two"]
        self.assertEqual(self.serve(), [*first, "/unwatch bob", "/watch dave", "%dave%three"])
        self.assertEqual(self.conversation.target, "dave")

    def test_unanswered(self) -> None:
        """What was on its way goes again under an owned name; that is told."""
        self.start()
        self.conversation.typed("%bob%one")
        [line] = self.messages()
        self.relay.lose(ConnectionLost())
        self.conversation.detach()
        self.assertIn(
            '* Not answered yet; it goes again on the next connection: "one"', self.shown[-1]
        )
        self.assertEqual(self.connect(), [line])

    def test_unanswered_under_a_free_name(self) -> None:
        """Under a free one nobody knows."""
        self.start(secret=None)
        self.conversation.typed("%bob%one")
        self.lose()
        self.assertEqual(self.connect(), [])

    def test_bound(self) -> None:
        """No more lines wait than may."""
        self.patch(conversation, "MAX_WAITING_LINES", 2)
        self.start()
        self.lose()
        for text in ("1", "2", "3"):
            self.conversation.typed(f"%bob%{text}")
        self.assertEqual(self.shown[-1], '* 2 lines wait for a connection; not sent: "3"')
        self.conversation.typed("%bob%x\x1b")
        self.assertIn("Nothing is sent.", self.shown[-1])

    def test_left_meanwhile(self) -> None:
        """What never went is told when the user leaves."""
        self.start()
        self.lose()
        self.conversation.typed("%bob%1")
        self.conversation.typed("%bob%2")
        ensureDeferred(self.relays.close())
        self.assertEqual(
            self.shown[-2:],
            [f'* The connection was lost; not sent: "{number}"' for number in (1, 2)],
        )


class RegisterTests(SynchronousTestCase):
    """A name is given a secret, which is asked for."""

    def begin(self, secret: str | None = None) -> None:
        self.shown: list[str] = []
        self.asked: list[str] = []
        self.waiting: list[Deferred] = []
        self.conversation = Conversation(self.shown.append, lambda: NOON, ask=self.ask, zone=UTC)
        endpoint = RelayEndpoint()
        connecting = connect(Clock(), endpoint, "carol", caps=(), secret=secret)
        self.relay = endpoint.accept()
        self.relay.welcome()
        self.client = self.successResultOf(connecting)
        self.conversation.attach(self.client)
        self.relay.clear()
        self.shown.clear()

    def ask(self, question: str) -> Deferred:
        self.asked.append(question)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def register(self, *answers: str | None) -> list[bytes]:
        """Type /register and give the answers; returns what was written then."""
        self.conversation.typed("/register")
        for answer in answers:
            self.waiting.pop().callback(answer)
        self.assertEqual(self.waiting, [])
        return [line.partition(b" ")[2] for line in self.relay.lines()] if self.written() else []

    def written(self) -> bool:
        return self.relay.value() != b""

    def test_new(self) -> None:
        """Asked for twice; the old one only where there is one."""
        self.begin()
        written = self.register("new-secret", "new-secret")
        self.assertEqual(written, [b"/register new-secret", b"/ping ."])
        self.assertEqual(self.asked, ["New secret of carol: ", "The same again: "])
        self.begin("old-secret")
        written = self.register("old-secret", "new-secret", "new-secret")
        self.assertEqual(written[0], b"/register new-secret old-secret")
        self.assertEqual(self.asked[0], "Secret of carol until now: ")

    def test_answer(self) -> None:
        """What the relay says to it."""
        for said, shown in [
            (b"!registered carol :Yours.", "carol is registered: it is granted only with its"),
            (b"!error insecure :Not here.", "Not here. (insecure) Nothing is changed."),
            (None, "may or may not have arrived"),
        ]:
            self.begin()
            self.conversation.typed("/register")
            for _ in range(2):
                self.waiting.pop().callback("new-secret")
            refs = [line.partition(b" ")[0] for line in self.relay.lines()]
            if said is None:
                self.relay.lose()
            else:
                self.relay.say(refs[0] + b" " + said, refs[1] + b" !pong .")
            self.assertIn(shown, self.shown[-1])
            self.assertNotIn("new-secret", "".join(self.shown))

    def test_nothing_changed(self) -> None:
        """What is dropped, differs, or can not be a secret changes nothing."""
        for answers in [
            (None,),
            ("",),
            ("short",),
            ("crt_" + "x" * 43,),
            ("new-secret", None),
            ("new-secret", "old-secret"),
        ]:
            self.begin()
            self.assertEqual(self.register(*answers), [])
            self.assertTrue(self.shown[-1].endswith(" Nothing is changed."), self.shown)
            self.assertNotIn("-secret", "".join(self.shown))

    def test_lost_meanwhile(self) -> None:
        """A connection that is lost while one types: nothing is changed, and that is told."""
        self.begin()
        self.conversation.typed("/register")
        self.conversation.detach()
        for _ in range(2):
            self.waiting.pop().callback("new-secret")
        self.assertIn("Nothing is changed.", self.shown[-1])
        self.conversation.typed("/register")
        self.assertEqual(self.waiting, [])

    def test_asked_at_once(self) -> None:
        """The question does not wait for the answers to earlier lines."""
        self.begin()
        self.conversation.typed("/who")
        self.conversation.typed("/register")
        self.assertEqual(len(self.waiting), 1)
