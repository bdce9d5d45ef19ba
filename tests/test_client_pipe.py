"""The pipe program between a standard input and output, and a relay, made of strings."""

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from chatrelay.client import repeating
from chatrelay.client.answers import ASK_AGAIN_WITHIN_S
from chatrelay.client.framing import MAX_LINE_BYTES
from chatrelay.client.identity import Secret
from chatrelay.client.library import CLOSE_TIMEOUT_S
from chatrelay.client.options import EXIT_LOST, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE
from chatrelay.client.pipe import ALIVE_AFTER_S, PATIENCE_S, PipeProgram
from chatrelay.client.protocol import Claim
from tests.client_harness import RelayEndpoint, RelayTransport


class StandardIO(StringTransport):
    """Standard input and output: flushed and closed as soon as that is asked for."""

    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost()


class PipeProgramCase(SynchronousTestCase):
    """One run of the program."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.said: list[str] = []

    def start(self, to: str | None = None, secret: Secret | None = None) -> None:
        claim = Claim(b"carol", secret=secret)
        self.program = PipeProgram(self.clock, self.endpoint, claim, to, self.said.append)
        self.stdio = StandardIO()
        self.stdio.protocol = self.program
        self.program.makeConnection(self.stdio)
        self.ending = ensureDeferred(self.program.run())

    def connect(self) -> RelayTransport:
        relay = self.endpoint.accept()
        self.assertEqual(relay.welcome(), [b"carol"])
        self.clock.advance(0)
        return relay

    def begin(self, to: str | None = None) -> RelayTransport:
        self.start(to)
        relay = self.connect()
        self.stdio.clear()
        return relay

    def assert_status(self, status: int) -> None:
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(self.ending), status)


class PipeProgramTests(PipeProgramCase):
    """One run of the program, under a name that nobody owns."""

    def test_nothing_before_the_welcome(self) -> None:
        """Standard input is not read before the name is granted; the welcome is printed."""
        self.start()
        self.assertEqual(self.stdio.producerState, "paused")
        self.connect()
        self.assertEqual(self.stdio.producerState, "producing")
        self.assertTrue(self.stdio.value().startswith(b"!welcome carol "))

    def test_lines(self) -> None:
        """Whole lines go to the relay as they are; what it says is printed as it came."""
        relay = self.begin()
        self.program.dataReceived(b"%bob%hi\n/who\nhal")
        self.assertEqual(relay.lines(), [b"%bob%hi", b"/who"])
        relay.say(b"%bob%\xe2\x80\xaehi", b"@ref=1 !sent bob")
        self.assertEqual(self.stdio.value(), b"%bob%\xe2\x80\xaehi\n@ref=1 !sent bob\n")

    def test_escaped_on_a_terminal(self) -> None:
        """An output that is a terminal gets it harmless."""
        relay = self.begin()
        self.program.escape_output = True
        relay.say(b"%bob%\xe2\x80\xaehi")
        self.assertEqual(self.stdio.value(), b"%bob%\\u202ehi\n")

    def test_alive(self) -> None:
        """A sign of life when nothing else is written for a while; its answer is not printed."""
        relay = self.begin()
        self.clock.advance(ALIVE_AFTER_S - 1)
        self.program.dataReceived(b"/who\n")
        self.assertEqual(relay.lines(), [b"/who"])
        for _ in range(3):
            self.clock.advance(ALIVE_AFTER_S - 1)
            self.assertEqual(relay.value(), b"")
            self.clock.advance(1)
            [line] = relay.lines()
            ref, _, ping = line.partition(b" ")
            self.assertEqual(ping, b"/ping .")
            relay.say(b"%bob%hi", ref + b" !pong .")
        self.assertEqual(self.stdio.value(), b"%bob%hi\n" * 3)
        self.program.readConnectionLost()
        relay.lose()
        self.assert_status(EXIT_OK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_alive_over_connections(self) -> None:
        """Nothing is written while there is no connection."""
        relay = self.begin()
        relay.lose(ConnectionLost())
        self.clock.advance(1)
        self.endpoint.refuse(ConnectError())
        for _ in range(int(ALIVE_AFTER_S)):
            self.clock.advance(1)
            while self.endpoint.attempts:
                self.endpoint.refuse(ConnectError())
        self.assertEqual(relay.value(), b"")

    def test_rooms_again(self) -> None:
        """On the next connection it joins before anything else; the answers are printed plainly."""
        relay = self.begin()
        self.program.dataReceived(b"/join #ops\n")
        relay.lines()
        relay.say(b"!joined #ops carol", b"!members #ops carol", b"!end members #ops 1")
        relay.lose(ConnectionLost())
        self.stdio.clear()
        self.program.dataReceived(b"%#ops%hi\n")
        self.clock.advance(1)
        relay = self.endpoint.accept()
        relay.welcome()
        joining, *rest = relay.lines()
        ref, _, line = joining.partition(b" ")
        self.assertEqual((line, rest), (b"/join #ops", [b"%#ops%hi"]))
        relay.say(ref + b" !joined #ops carol", ref + b" !members #ops carol")
        self.assertTrue(self.stdio.value().endswith(b"\n!joined #ops carol\n!members #ops carol\n"))

    def test_to_a_room(self) -> None:
        """A room that plain lines go to is joined first."""
        self.start("#ops")
        relay = self.endpoint.accept()
        relay.welcome()
        self.program.dataReceived(b"hi\n")
        joining, said = relay.lines()
        self.assertTrue(joining.endswith(b" /join #ops"))
        self.assertEqual(said, b"%#ops%hi")

    def test_drain(self) -> None:
        """At the end of input the last line goes, then half of the connection, then all."""
        relay = self.begin("bob")
        self.program.dataReceived(b"one\ntwo")
        self.program.readConnectionLost()
        self.assertEqual(relay.lines(), [b"%bob%one", b"%bob%two"])
        self.assertTrue(relay.half_closed)
        self.assertIsNone(relay.producer)
        relay.say(b"!pong")
        self.assertNoResult(self.ending)
        relay.lose()
        self.assert_status(EXIT_OK)
        self.assertEqual((self.stdio.value(), self.said), (b"!pong\n", []))

    def test_drain_over_tls(self) -> None:
        """TLS has no half-close: there it says /quit when everything is answered."""
        relay = self.begin()
        directlyProvides(relay, ISSLTransport)
        self.program.dataReceived(b"/who")
        self.program.readConnectionLost()
        who, asked = relay.lines()
        ref = asked.removesuffix(b"/ping .")
        self.assertEqual((who, ref[:5]), (b"/who", b"@ref="))
        relay.say(b"!end who 0")
        self.assertEqual(relay.lines(), [])
        relay.say(b"%bob%late", ref + b"!pong .")
        self.assertEqual(relay.lines(), [ref + b"/quit"])
        relay.say(b"%bob%later", ref + b"!bye")
        relay.lose()
        self.assertFalse(relay.half_closed)
        self.assert_status(EXIT_OK)
        # As without TLS: nothing but what was asked for and what came.
        self.assertEqual(self.stdio.value(), b"!end who 0\n%bob%late\n%bob%later\n")

    def test_users_quit_over_tls(self) -> None:
        """After a /quit of the user's own the relay answers nothing more, and need not."""
        relay = self.begin()
        directlyProvides(relay, ISSLTransport)
        self.program.dataReceived(b"/quit\n")
        self.program.readConnectionLost()
        relay.say(b"!bye")
        relay.lose()
        self.assert_status(EXIT_OK)
        self.assertEqual((self.stdio.value(), self.said), (b"!bye\n", []))

    def test_closed_before_the_last_answer(self) -> None:
        """A connection that ends in order, but before that answer, is told."""
        relay = self.begin()
        directlyProvides(relay, ISSLTransport)
        self.program.readConnectionLost()
        relay.lose()
        self.assert_status(EXIT_LOST)
        self.assertIn("may not have arrived", self.said[0])

    def test_input_ends_before_the_welcome(self) -> None:
        """What was read before the welcome is sent after it."""
        self.start()
        self.program.dataReceived(b"%bob%early")
        self.program.readConnectionLost()
        relay = self.endpoint.accept()
        relay.say(b"!welcome carol :Hi.")
        self.assertEqual(relay.lines(), [b"carol", b"%bob%early"])
        self.assertTrue(relay.half_closed)

    def test_lost_while_draining(self) -> None:
        """A connection that breaks before everything is answered is told, with status 1."""
        relay = self.begin()
        self.program.readConnectionLost()
        relay.lose(ConnectionLost())
        self.assert_status(EXIT_LOST)
        self.assertIn("may not have arrived", self.said[0])

    def test_shutting_down_while_draining(self) -> None:
        """So is a relay that stops."""
        relay = self.begin()
        self.program.readConnectionLost()
        relay.say(b"!error shutting-down :The relay is stopping.")
        relay.lose()
        self.assert_status(EXIT_LOST)

    def test_quit(self) -> None:
        """A /quit among the lines ends it."""
        relay = self.begin()
        self.program.dataReceived(b"/quit\n")
        relay.say(b"!bye")
        relay.lose()
        self.assert_status(EXIT_OK)

    def test_quit_with_a_ref(self) -> None:
        """So does one that has tags; a message with the same word does not."""
        relay = self.begin()
        relay.say(b"%bob%!bye")
        self.assertFalse(self.program.asked_to_end)
        self.program.dataReceived(b"@ref=1 /quit\n")
        relay.say(b"@ref=1 !bye")
        relay.lose()
        self.assert_status(EXIT_OK)

    def test_back_pressure(self) -> None:
        """Each side is read only as fast as the other takes it."""
        relay = self.begin()
        relay.producer.pauseProducing()
        self.assertEqual(self.stdio.producerState, "paused")
        relay.producer.resumeProducing()
        self.assertEqual(self.stdio.producerState, "producing")
        self.stdio.producer.pauseProducing()
        self.assertEqual(relay.producerState, "paused")
        self.stdio.producer.resumeProducing()
        self.assertEqual(relay.producerState, "producing")

    def test_back_pressure_over_connections(self) -> None:
        """An output that is full when the connection is lost holds the next one."""
        relay = self.begin()
        self.stdio.producer.pauseProducing()
        relay.lose()
        self.clock.advance(1)
        self.assertEqual(self.connect().producerState, "paused")

    def test_reconnect(self) -> None:
        """Input waits while there is no connection; half a line goes whole to the next one."""
        relay = self.begin()
        self.program.dataReceived(b"%bob%1\n%bob%se%dave%c")
        relay.lose()
        self.assertEqual(self.stdio.producerState, "paused")
        self.assertIn("may not have arrived. Connecting again in ", self.said[0])
        self.program.dataReceived(b"ret\n")
        self.clock.advance(1)
        again = self.endpoint.accept()
        again.say(b"!welcome carol :Hi.")
        self.assertEqual(again.lines(), [b"carol", b"%bob%se%dave%cret"])
        self.assertEqual(self.stdio.producerState, "producing")

    def test_gives_up(self) -> None:
        """After 90 s without a connection it ends with status 1."""
        self.begin().lose()
        tried_at_s = 0.0
        for _ in range(int(PATIENCE_S * 10) + 1):
            self.clock.advance(0.1)
            while self.endpoint.attempts:
                tried_at_s = self.clock.seconds()
                self.endpoint.refuse(ConnectError())
        self.assertGreater(tried_at_s, PATIENCE_S - 0.2)
        self.assert_status(EXIT_LOST)
        self.assertTrue(self.said[-1].endswith(" No connection for 90 s; giving up."))

    def test_refused(self) -> None:
        """A refused name: one sentence and its status."""
        self.start()
        self.endpoint.accept().say(b"!error name-in-use carol :Somebody has it.")
        self.assert_status(EXIT_REFUSED)
        self.assertEqual(self.said, ["Somebody has it. (name-in-use)"])

    def test_unreachable(self) -> None:
        """An unreachable server: one sentence and its status."""
        self.start()
        self.endpoint.refuse(ConnectError())
        self.assert_status(EXIT_UNREACHABLE)
        self.assertEqual(len(self.said), 1)

    def test_output_closed(self) -> None:
        """Nobody reads the output: it leaves in order, and what still comes is dropped."""
        relay = self.begin()
        self.program.writeConnectionLost()
        self.assertEqual(relay.lines(), [b"/quit"])
        relay.say(b"%bob%late", b"!bye")
        relay.lose()
        self.assert_status(EXIT_LOST)
        self.assertEqual((self.stdio.value(), self.said), (b"", []))

    def test_output_closed_and_no_answer(self) -> None:
        """A relay that does not close then is not waited for any longer than 10 s."""
        relay = self.begin()
        self.program.writeConnectionLost()
        self.clock.advance(CLOSE_TIMEOUT_S + 0.1)
        self.assertTrue(relay.aborted)
        self.assert_status(EXIT_LOST)

    def test_output_closed_between(self) -> None:
        """The same while there is no connection."""
        self.begin().lose()
        self.program.writeConnectionLost()
        self.assert_status(EXIT_LOST)
        self.clock.advance(60)
        self.assertEqual(self.endpoint.attempts, [])

    def test_long_input_line(self) -> None:
        """A line that is too long is dropped, and that is said."""
        relay = self.begin()
        self.program.dataReceived(b"x" * (MAX_LINE_BYTES + 1))
        self.program.dataReceived(b"\n/who\n")
        self.assertEqual(relay.lines(), [b"/who"])
        self.assertEqual(len(self.said), 1)


class OwnedCase(PipeProgramCase):
    """A name that is owned."""

    def begin_owned(self, *, is_tls: bool = False) -> RelayTransport:
        self.start(secret=Secret(b"old-secret"))
        relay = self.endpoint.accept()
        self.assertEqual(relay.lines(), [b"carol old-secret"])
        if is_tls:
            directlyProvides(relay, ISSLTransport)
        relay.say(b"!welcome carol :Hi.")
        self.clock.advance(0)
        return relay


class RepeatTests(OwnedCase):
    """Messages with a ref, over a loss."""

    def lines(self, relay: RelayTransport) -> list[bytes]:
        return [line for line in relay.lines() if b"/token" not in line]

    def come_back(self) -> RelayTransport:
        self.clock.advance(1)
        relay = self.endpoint.accept()
        relay.lines()
        relay.say(b"!welcome carol :Hi.")
        self.clock.advance(0)
        return relay

    def test_again(self) -> None:
        """What was not answered goes first, with its ref; that is told, as what is not known."""
        relay = self.begin_owned()
        self.program.dataReceived(b"@ref=1 %bob%1\n@ref=2 %bob%2\n%bob%3\n@ref=4 /who\n")
        relay.say(b"@ref=1 !sent bob")
        relay.lose(ConnectionLost())
        self.assertIn(
            " What has a ref and no answer goes again (1 message); other lines sent", self.said[0]
        )
        self.program.dataReceived(b"%bob%5\n")
        again = self.come_back()
        self.assertEqual(self.lines(again), [b"@ref=2 %bob%2", b"%bob%5"])

    def test_lost_while_draining(self) -> None:
        """The end of the input is said again on the next connection."""
        for is_clean in (True, False):
            relay = self.begin_owned()
            self.program.dataReceived(b"@ref=1 %bob%1\n")
            self.program.readConnectionLost()
            self.assertTrue(relay.half_closed)
            relay.lose(None if is_clean else ConnectionLost())
            self.assertNoResult(self.ending)
            again = self.come_back()
            self.assertEqual(self.lines(again), [b"@ref=1 %bob%1"])
            self.assertTrue(again.half_closed)
            again.say(b"@ref=1 !stored bob id=1")
            again.lose()
            self.assert_status(EXIT_OK)
            self.assertIn("Connecting again", self.said.pop())
            self.assertEqual(self.said, [])

    def test_too_late_while_draining(self) -> None:
        """What can not go again any more is told, and is not a success."""
        for lost_s in (ASK_AGAIN_WITHIN_S - 0.5, ASK_AGAIN_WITHIN_S):
            relay = self.begin_owned()
            self.program.dataReceived(b"@ref=1 %bob%1\n")
            self.program.readConnectionLost()
            self.clock.advance(lost_s)
            relay.lose()
            again = self.come_back()
            self.assertEqual(self.lines(again), [])
            again.lose()
            self.assert_status(EXIT_LOST)
            told = [said for said in self.said if "it is too late" in said]
            self.assertEqual(len(told), 1)
            self.said.clear()

    def test_stored_late_over_tls(self) -> None:
        """Over TLS it leaves when everything is answered, what is stored late too."""
        relay = self.begin_owned(is_tls=True)
        self.program.dataReceived(b"@ref=1 %bob%1\n")
        self.program.readConnectionLost()
        last = self.lines(relay)[-1].removesuffix(b"/ping .")
        relay.say(last + b"!pong .")
        self.assertEqual(self.lines(relay), [])
        relay.say(b"@ref=1 !stored bob id=1")
        self.assertEqual(self.lines(relay), [last + b"/quit"])
        relay.say(last + b"!bye")
        relay.lose()
        self.assert_status(EXIT_OK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_stored_over_tls(self) -> None:
        """An answer that does not come is not waited for longer than 10 s."""
        relay = self.begin_owned(is_tls=True)
        self.program.dataReceived(b"@ref=1 %bob%1\n")
        self.program.readConnectionLost()
        relay.say(self.lines(relay)[-1].removesuffix(b"/ping .") + b"!pong .")
        self.clock.advance(CLOSE_TIMEOUT_S + 0.1)
        self.assertTrue(self.lines(relay)[0].endswith(b"/quit"))

    def test_users_quit(self) -> None:
        """After the user's own /quit there is no next connection; what is not known is told."""
        relay = self.begin_owned()
        self.program.dataReceived(b"@ref=1 %bob%1\n/quit\n")
        relay.say(b"!bye")
        relay.lose()
        self.assert_status(EXIT_LOST)
        self.assertIn("may not have arrived", self.said[0])

    def test_output_closed(self) -> None:
        """Nor when nobody reads the output."""
        relay = self.begin_owned()
        self.program.dataReceived(b"@ref=1 %bob%1\n")
        self.program.writeConnectionLost()
        relay.lose()
        self.assert_status(EXIT_LOST)

    def test_full(self) -> None:
        """No more input is read while too much is unanswered."""
        self.patch(repeating, "MAX_LINES", repeating.LINES_IN_A_READ)
        relay = self.begin_owned()
        self.program.dataReceived(b"@ref=1 %bob%1\n")
        self.assertEqual(self.stdio.producerState, "paused")
        relay.producer.resumeProducing()
        self.assertEqual(self.stdio.producerState, "paused")
        relay.say(b"@ref=1 !sent bob")
        self.assertEqual(self.stdio.producerState, "producing")

    def test_free_name(self) -> None:
        """The refs of a free name end with the connection: nothing goes again."""
        self.start()
        relay = self.connect()
        self.program.dataReceived(b"@ref=1 %bob%1\n")
        relay.lose(ConnectionLost())
        self.assertIn(". Lines sent just before may not have arrived.", self.said[0])
        self.assertEqual(self.lines(self.come_back()), [])


class SecretTests(OwnedCase):
    """What proves that the name is one's own."""

    def claimed_again(self, relay: RelayTransport) -> bytes:
        """What the next connection begins with."""
        relay.lose()
        self.clock.advance(1)
        self.next_relay = self.endpoint.accept()
        [claim] = self.next_relay.lines()
        return claim

    def test_token(self) -> None:
        """A token is asked for before any input goes, and its answer is not printed."""
        relay = self.begin_owned()
        self.program.dataReceived(b"%bob%hi\n")
        self.program.readConnectionLost()
        request, message = relay.lines()
        ref = request.removesuffix(b" /token")
        self.assertEqual(message, b"%bob%hi")
        relay.say(ref + b" !token crt_x", b"@ref=1 !token crt_mine", b"%bob%" + ref)
        self.assertEqual(
            self.stdio.value(),
            b"!welcome carol :Hi.\n@ref=1 !token crt_mine\n%bob%" + ref + b"\n",
        )

    def test_token_alone(self) -> None:
        """A read of nothing but its answer prints nothing."""
        relay = self.begin_owned()
        self.stdio.clear()
        [request] = relay.lines()
        relay.say(request.removesuffix(b" /token") + b" !token crt_x")
        self.assertEqual(self.stdio.value(), b"")
        self.assertEqual(self.claimed_again(relay), b"carol crt_x")

    def test_secret_changed_in_the_input(self) -> None:
        """What goes through raw is looked at: the next connection claims with what is right."""
        for lines, said, claim in [
            (b"/register new-secret old-secret\n", b"!registered carol", b"carol new-secret"),
            (b"/register new-secret wrong-one\n", b"!error bad-secret carol", b"carol old-secret"),
            (b"@ref=1 /name bob his-secret\n", b"@ref=1 !welcome bob", b"bob his-secret"),
            (b"/name bob\n", b"!welcome bob", b"bob"),
        ]:
            relay = self.begin_owned()
            self.program.dataReceived(lines)
            relay.say(said + b" :Sentence.")
            self.assertEqual(self.claimed_again(relay), claim)

    def test_answers_are_no_ending(self) -> None:
        """A wrong old secret in the input does not explain a loss after it; losing a name does."""
        relay = self.begin_owned()
        self.program.dataReceived(b"/register new-secret wrong-one\n")
        relay.say(b"!error bad-secret carol :Wrong.")
        relay.lose()
        self.assertTrue(self.said[-1].startswith("The relay closed the connection. "))
        relay = self.begin_owned()
        relay.say(b"!error bad-secret carol :Disabled.")
        relay.lose()
        self.assertTrue(self.said[-1].startswith("The relay closed the connection: Disabled. "))

    def test_name_owned(self) -> None:
        """Standard input is data: it ends, and tells where a secret can be given."""
        self.start()
        self.endpoint.accept().say(b"!error name-owned carol :Owned.")
        self.assert_status(EXIT_REFUSED)
        [sentence] = self.said
        self.assertTrue(sentence.startswith("Owned. Give its secret with "), sentence)
        self.assertIn("CHATRELAY_SECRET", sentence)
        self.assertIn("--secret-file", sentence)

    def test_bad_secret(self) -> None:
        """One sentence, without the secret."""
        self.start(secret=Secret(b"old-secret"))
        self.endpoint.accept().say(b"!error bad-secret carol :Wrong.")
        self.assert_status(EXIT_REFUSED)
        [sentence] = self.said
        self.assertIn("does not open carol. The relay says: Wrong. (bad-secret)", sentence)
