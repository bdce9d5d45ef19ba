"""What was not answered when a connection was lost, on the next one."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import Answer, Disconnected, OnlySent, TooMuchWaiting, outgoing
from chatrelay.client.answers import ASK_AGAIN_WITHIN_S
from chatrelay.client.outgoing import MAX_UNANSWERED
from chatrelay.client.reconnect import stay_connected
from chatrelay.errors import Misuse
from tests.client_harness import RelayEndpoint

CAPS = ("id", "receipts")
_STEPS = ["send", "handle", "answer", "lose", "come back"]


class Case(SynchronousTestCase):
    """A client that comes back; carol is hers."""

    def start(self, secret: str | None = "old-secret", patience_s: float | None = None) -> None:
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.relays = stay_connected(
            self.clock, self.endpoint, "carol", caps=CAPS, secret=secret, patience_s=patience_s
        )
        waiting = ensureDeferred(self.relays.__anext__())
        self.connect()
        self.client = self.successResultOf(waiting)

    def connect(self, name: bytes = b"carol") -> list[bytes]:
        """The next connection; returns what was written on it after the name."""
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!caps id receipts", b"!welcome " + name + b" max-line=8192 :Hello.")
        self.clock.advance(0)
        return self.messages()

    def messages(self) -> list[bytes]:
        return [line for line in self.relay.lines() if b"/token" not in line]

    def lose(self) -> None:
        self.relay.lose(ConnectionLost())

    def come_back(self, after_s: float = 1.0, name: bytes = b"carol") -> list[bytes]:
        while not self.endpoint.attempts or after_s > 0:
            self.clock.advance(0.5)
            after_s -= 0.5
            if after_s > 0:
                while self.endpoint.attempts:
                    self.endpoint.refuse(ConnectError())
        return self.connect(name)

    def assert_lost(self, sending: Deferred, *, may_have_arrived: bool) -> str:
        error = self.failureResultOf(sending, Disconnected).value
        self.assertEqual(error.may_have_arrived, may_have_arrived)
        return str(error)


class OwnedNameTests(Case):
    """The refs of an owned name are its own on the next connection, too."""

    def setUp(self) -> None:
        self.start()

    def test_again(self) -> None:
        """It goes again as it was, before what came after it, and its answer there counts."""
        answered = self.client.send("bob", "0")
        one = self.client.send("bob", "1")
        both = self.client.send_each(["bob", "dave"], "2")
        lines = self.messages()
        refs = [line.partition(b" ")[0] for line in lines]
        self.relay.say(refs[0] + b" !sent bob", refs[2] + b" !sent bob")
        self.successResultOf(answered)
        self.lose()
        later = self.client.send("bob", "3")
        for sending in (one, both, later):
            self.assertNoResult(sending)
        again = self.come_back()
        self.assertEqual(again[:2], [lines[1], refs[2] + b" %dave%2"])
        self.assertTrue(again[2].endswith(b" %bob%3"))
        self.relay.say(
            refs[2] + b" !stored dave id=2",
            refs[1] + b" !sent bob",
            again[2].partition(b" ")[0] + b" !stored bob id=3",
        )
        self.assertEqual(self.successResultOf(one), Answer("bob", "sent"))
        self.assertEqual(
            self.successResultOf(both), [Answer("bob", "sent"), Answer("dave", "stored", "2")]
        )
        self.assertEqual(self.successResultOf(later), Answer("bob", "stored", "3"))

    def test_lost_again_and_again(self) -> None:
        """However often the connection is lost."""
        sending = self.client.send("bob", "1")
        lines = self.messages()
        for _ in range(3):
            self.lose()
            self.assertEqual(self.come_back(), lines)
        self.relay.say(lines[0].partition(b" ")[0] + b" !sent bob")
        self.successResultOf(sending)

    def test_the_next_client_goes_on(self) -> None:
        """The next client sends as well, and the refs of the two are different ones."""
        self.client.send("bob", "1").addErrback(lambda _: None)
        self.lose()
        waiting = ensureDeferred(self.relays.__anext__())
        first = self.come_back()
        self.successResultOf(waiting).send("bob", "2").addErrback(lambda _: None)
        second = self.messages()
        self.assertNotEqual(first[0].partition(b" ")[0], second[0].partition(b" ")[0])

    def test_too_late(self) -> None:
        """A ref that the relay may have forgotten is not asked again."""
        sending = self.client.send("bob", "1")
        lines = self.messages()
        self.lose()
        self.assertEqual(self.come_back(ASK_AGAIN_WITHIN_S - 60), lines)
        self.lose()
        self.assertEqual(self.come_back(60.0), [])
        self.assert_lost(sending, may_have_arrived=True)

    def test_another_name(self) -> None:
        """Refs belong to the name: under another one nothing goes again."""
        sending = self.client.send("bob", "1")
        self.lose()
        waiting = self.client.send("bob", "2")
        [line] = self.come_back(name=b"karl")
        self.assertTrue(line.endswith(b"%bob%2"))
        self.assertIn("karl", self.assert_lost(sending, may_have_arrived=True))
        self.assertNoResult(waiting)

    def test_commands(self) -> None:
        """A command is asked on its connection only."""
        asking = self.client.who()
        self.lose()
        self.assert_lost(asking, may_have_arrived=True)
        self.assert_lost(self.client.who(), may_have_arrived=False)
        self.assertEqual(self.come_back(), [])

    def test_window(self) -> None:
        """No more lines are on their way than the relay remembers refs, in order."""
        sending = [self.client.send("bob", str(number)) for number in range(MAX_UNANSWERED + 5)]
        who = self.client.who()
        lines = self.messages()
        self.assertEqual(len(lines), MAX_UNANSWERED)
        self.lose()
        self.assert_lost(who, may_have_arrived=False)
        self.assertEqual(self.come_back(), lines)
        self.relay.say(*[line.partition(b" ")[0] + b" !sent bob" for line in lines])
        rest = self.messages()
        self.assertEqual(
            [line[-4:] for line in rest], [b"1000", b"1001", b"1002", b"1003", b"1004"]
        )
        self.relay.say(*[line.partition(b" ")[0] + b" !sent bob" for line in rest])
        for one in sending:
            self.successResultOf(one)
        self.assertEqual(self.client._outgoing._kept, 0)

    def test_window_begins_with_the_first_unanswered(self) -> None:
        """However many behind it are answered: the relay would forget its ref."""
        sending = [self.client.send("bob", str(number)) for number in range(MAX_UNANSWERED + 1)]
        lines = self.messages()
        self.relay.say(*[line.partition(b" ")[0] + b" !sent bob" for line in lines[1:]])
        self.assertEqual(self.messages(), [])
        self.lose()
        self.assertEqual(self.come_back(), lines[:1])
        self.relay.say(lines[0].partition(b" ")[0] + b" !sent bob")
        self.assertEqual(len(self.messages()), 1)
        self.successResultOf(sending[0])

    def test_cancelled(self) -> None:
        """What nobody waits for any more does not go again, nor for the first time."""
        written = self.client.send("bob", "1")
        written.cancel()
        self.lose()
        waiting = self.client.send("bob", "2")
        waiting.cancel()
        for sending in (written, waiting):
            self.failureResultOf(sending, CancelledError)
        self.assertEqual(self.come_back(), [])
        self.assertEqual(self.client._outgoing._kept, 0)

    def test_given_up(self) -> None:
        """When there will be no connection everything fails, with what is known of it."""
        self.start(patience_s=10)
        written = self.client.send("bob", "1")
        self.lose()
        waiting = self.client.send("bob", "2")
        following = ensureDeferred(self.relays.__anext__())
        for _ in range(200):
            self.clock.advance(0.1)
            while self.endpoint.attempts:
                self.endpoint.refuse(ConnectError())
        self.failureResultOf(following)
        self.assert_lost(written, may_have_arrived=True)
        self.assert_lost(waiting, may_have_arrived=False)
        self.assert_lost(self.client.send("bob", "3"), may_have_arrived=False)

    def test_closed(self) -> None:
        """So it is when the program ends it."""
        self.lose()
        waiting = self.client.send("bob", "1")
        self.successResultOf(ensureDeferred(self.relays.close()))
        self.assert_lost(waiting, may_have_arrived=False)

    def test_quit(self) -> None:
        """After /quit there is no next connection."""
        closing = self.client.close()
        sending = self.client.send("bob", "1")
        self.lose()
        self.clock.advance(0)
        self.successResultOf(closing)
        self.assert_lost(sending, may_have_arrived=True)

    def test_count(self) -> None:
        """What is kept has a bound: the message beyond it fails, and is never written."""
        self.patch(outgoing, "MAX_KEPT", 3)
        sending = [self.client.send("bob", str(number)) for number in range(3)]
        error = self.failureResultOf(self.client.send("bob", "3"), TooMuchWaiting).value
        self.assertIn("3 messages", str(error))
        ref = self.messages()[0].partition(b" ")[0]
        self.relay.say(ref + b" !sent bob")
        self.successResultOf(sending[0])
        self.assertNoResult(self.client.send("bob", "4"))
        self.assertEqual(len(self.messages()), 1)

    def test_bytes(self) -> None:
        """And one in bytes."""
        self.patch(outgoing, "MAX_KEPT_BYTES", 20)
        self.lose()
        self.assertNoResult(self.client.send("bob", "x" * 15))
        self.failureResultOf(self.client.send("bob", "y"), TooMuchWaiting)
        self.assertEqual(len(self.come_back()), 1)


class AckTests(Case):
    """What waits for `!acked`."""

    def setUp(self) -> None:
        self.start()

    def stored(self, name: bytes = b"bob") -> tuple[Deferred, bytes, bytes]:
        sending = self.client.send("bob", "hi", wait="acked")
        [line] = self.messages()
        ref = line.partition(b" ")[0]
        self.relay.say(ref + b" !stored " + name + b" id=7")
        self.assertNoResult(sending)
        return sending, line, ref

    def test_acked(self) -> None:
        """It fires when the recipient's program said so."""
        sending, _, ref = self.stored()
        self.relay.say(ref + b" !acked bob id=7")
        self.assertEqual(self.successResultOf(sending), Answer("bob", "acked", "7"))

    def test_acked_over_a_loss(self) -> None:
        """It is asked again on the next connection, where the receipt comes, or came."""
        sending, line, ref = self.stored()
        self.lose()
        self.assertEqual(self.come_back(), [line])
        self.relay.say(ref + b" !acked bob id=7", ref + b" !stored bob id=7")
        self.assertEqual(self.successResultOf(sending), Answer("bob", "acked", "7"))

    def test_acked_long_after(self) -> None:
        """Its ref forgotten, a stored message is not asked again: its receipt still comes."""
        sending, _, ref = self.stored()
        self.lose()
        self.assertEqual(self.come_back(ASK_AGAIN_WITHIN_S + 1), [])
        self.assertNoResult(sending)
        self.relay.say(ref + b" !acked bob id=7")
        self.successResultOf(sending)

    def test_acked_much_later(self) -> None:
        """Nor is it after as many messages as the relay remembers."""
        first, line, ref = self.stored()
        for count in (MAX_UNANSWERED - 1, 1):
            for _ in range(count):
                self.client.send("dave", "hi")
                self.relay.say(self.messages()[0].partition(b" ")[0] + b" !sent dave")
            self.lose()
            self.assertEqual(self.come_back(), [line] if count > 1 else [])
            self.relay.say(ref + b" !stored bob id=7")
        self.assertNoResult(first)
        self.relay.say(ref + b" !acked bob id=7")
        self.successResultOf(first)

    def test_cancelled(self) -> None:
        """What nobody waits for takes no memory: its ack may never come."""
        sending, *_ = self.stored()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(self.client._outgoing._kept, 0)
        self.assertFalse(self.client._outgoing.awaits_answer)

    def test_cancelled_before_it_was_stored(self) -> None:
        """Nor does what was cancelled even before the first answer, once that is there."""
        sending = self.client.send("bob", "hi", wait="acked")
        ref = self.messages()[0].partition(b" ")[0]
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertTrue(self.client._outgoing.awaits_answer)
        self.relay.say(ref + b" !stored bob id=7")
        self.assertEqual(self.client._outgoing._kept, 0)
        self.assertFalse(self.client._outgoing.awaits_answer)

    def test_takes_no_place(self) -> None:
        """Who waits for acks does not keep others from sending."""
        for _ in range(MAX_UNANSWERED):
            self.stored()
        self.client.send("bob", "next")
        self.assertEqual(len(self.messages()), 1)

    def test_only_sent(self) -> None:
        """More than a name can give is an error of its own."""
        for wait in ("stored", "acked"):
            sending = self.client.send("bob", "hi", wait=wait)
            ref = self.messages()[0].partition(b" ")[0]
            self.relay.say(ref + b" !sent bob")
            error = self.failureResultOf(sending, OnlySent).value
            self.assertEqual(error.answer, Answer("bob", "sent"))
            self.assertIn("nobody owns this name, or it is here and reads without acks", str(error))

    def test_without_the_cap(self) -> None:
        """Nobody waits for what is never told."""
        self.client.set_caps("id")
        self.relay.say(self.messages()[0].partition(b" ")[0] + b" !caps id")
        with self.assertRaises(Misuse):
            self.client.send("bob", "hi", wait="acked")
        with self.assertRaises(Misuse):
            self.client.send("bob", "hi", wait="read")

    def test_ended(self) -> None:
        """What was stored is said to be, when its ack can not come any more."""
        sending, *_ = self.stored()
        self.client.close()
        self.lose()
        self.clock.advance(0)
        self.assertIn("It is stored.", self.assert_lost(sending, may_have_arrived=True))


class FreeNameTests(Case):
    """The refs of a free name end with the connection."""

    def setUp(self) -> None:
        self.start(secret=None)

    def test_written(self) -> None:
        """What was written may have arrived; what was not goes on the next connection."""
        written = self.client.send("bob", "1")
        self.messages()
        self.lose()
        self.assert_lost(written, may_have_arrived=True)
        waiting = self.client.send("bob", "2")
        [line] = self.come_back()
        self.assertTrue(line.endswith(b" %bob%2"))
        self.relay.say(line.partition(b" ")[0] + b" !sent bob")
        self.successResultOf(waiting)

    def test_registered_meanwhile(self) -> None:
        """What was written before the name was registered has no ref that survives."""
        before = self.client.send("bob", "1")
        registering = self.client.register("new-secret")
        refs = [line.partition(b" ")[0] for line in self.messages()]
        self.relay.say(refs[1] + b" !registered carol :Yours.", refs[2] + b" !pong .")
        self.successResultOf(registering)
        after = self.client.send("bob", "2")
        [line] = self.messages()
        self.lose()
        self.assert_lost(before, may_have_arrived=True)
        self.assertEqual(self.come_back(), [line])
        self.assertNoResult(after)


class _Relay:
    """What a relay does with messages: accepted once for each ref, in order."""

    def __init__(self) -> None:
        self.accepted: dict[bytes, bytes] = {}

    def handle(self, line: bytes) -> bytes:
        ref, _, message = line.partition(b" ")
        assert self.accepted.setdefault(ref, message) == message
        return ref + b" !stored bob id=1"


class AnyLossTests(Case):
    """Whatever is lost when, each message is accepted once, in order, and answered."""

    @given(st.lists(st.sampled_from(_STEPS), max_size=40))
    def test_once_and_in_order(self, steps: list[str]) -> None:
        self.start()
        relay = _Relay()
        sending: list[Deferred] = []
        unhandled: list[bytes] = []
        unanswered: list[bytes] = []
        connected = True
        for step in [*steps, "come back", *["handle", "answer"] * 41]:
            if step == "send":
                sending.append(self.client.send("bob", str(len(sending))))
            elif step == "handle" and connected and unhandled:
                unanswered.append(relay.handle(unhandled.pop(0)))
            elif step == "answer" and connected and unanswered:
                self.relay.say(unanswered.pop(0))
            elif step == "lose" and connected:
                connected, unhandled, unanswered = False, [], []
                self.lose()
            elif step == "come back" and not connected:
                connected = True
                unhandled += self.come_back()
            if connected:
                unhandled += self.messages()
        texts = [message.rpartition(b"%")[2] for message in relay.accepted.values()]
        self.assertEqual(texts, [str(number).encode() for number in range(len(sending))])
        for one in sending:
            self.assertEqual(self.successResultOf(one), Answer("bob", "stored", "1"))
