"""Connected again and again, by a clock that the tests move."""

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import errors
from chatrelay.client import Disconnected, Unreachable, stay_connected
from chatrelay.client.reconnect import MAX_DELAY_S, retry_delay_s
from chatrelay.errors import Misuse
from tests.client_harness import RelayEndpoint

TOKEN = b"crt_" + b"x" * 43


class DelayTests(SynchronousTestCase):
    """The time between attempts."""

    def test_growing(self) -> None:
        """It grows to its bound, and is never without jitter."""
        delays = [retry_delay_s(attempt, lambda: 0.5) for attempt in range(1, 12)]
        self.assertEqual(delays, sorted(delays))
        self.assertEqual((delays[0], delays[-1]), (0.5, MAX_DELAY_S))
        self.assertEqual(retry_delay_s(10_000, lambda: 0.5), MAX_DELAY_S)
        self.assertEqual(retry_delay_s(1, lambda: 0.0), 0.25)
        self.assertEqual(retry_delay_s(1, lambda: 1.0), 0.75)


class ReconnectorCase(SynchronousTestCase):
    """`stay_connected`, and the attempts it makes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.troubles = []

    def start(self, **options) -> None:
        self.relays = stay_connected(
            self.clock, self.endpoint, "carol", on_trouble=self.troubles.append, **options
        )

    def next(self):
        return ensureDeferred(self.relays.__anext__())

    def first(self):
        """The first connection: its relay and its client."""
        waiting = self.next()
        relay = self.endpoint.accept()
        relay.welcome()
        self.clock.advance(0)
        return relay, self.successResultOf(waiting)

    def pass_time(self, seconds: float) -> None:
        """Move the clock in small steps, refusing every attempt."""
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)
            while self.endpoint.attempts:
                self.endpoint.refuse(ConnectError())

    def name_is_taken_for(self, seconds: int) -> None:
        """Move the clock in small steps; somebody has the name at every attempt."""
        for _ in range(seconds * 10):
            self.clock.advance(0.1)
            if self.endpoint.attempts:
                self.endpoint.accept().say(b"!error name-in-use carol :Taken.")


class ReconnectorTests(ReconnectorCase):
    """`stay_connected`."""

    def test_first_refused(self) -> None:
        """Before the first welcome a refusal is final."""
        self.start()
        waiting = self.next()
        self.endpoint.accept().say(b"!error name-in-use carol :Taken.")
        self.clock.advance(0)
        self.failureResultOf(waiting, errors.NameInUse)
        self.pass_time(60)
        self.assertEqual((self.endpoint.attempts, self.troubles), ([], []))

    def test_first_unreachable(self) -> None:
        """Before the first welcome an unreachable server is final."""
        self.start()
        waiting = self.next()
        self.endpoint.refuse(ConnectError())
        self.clock.advance(0)
        self.failureResultOf(waiting, Unreachable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """After a loss there is another connection, and whoever asked is told."""
        self.start()
        relay, client = self.first()
        waiting = self.next()  # closes the one that is open
        self.assertEqual(relay.lines(), [b"/quit"])
        self.assertFalse(client.lost)
        self.assertNoResult(waiting)

    def test_lost(self) -> None:
        """The next turn of the loop has the next connection."""
        self.start()
        relay, client = self.first()
        relay.lose(ConnectionLost())
        waiting = self.next()
        [trouble] = self.troubles
        self.assertIs(trouble.error, client.lost)
        self.assertTrue(trouble.was_connected)
        self.assertEqual(self.endpoint.attempts, [])
        self.clock.advance(trouble.retry_in_s)
        again = self.endpoint.accept()
        self.assertEqual(again.welcome(), [b"/caps id time ping", b"carol"])
        self.clock.advance(0)
        self.assertIsNot(self.successResultOf(waiting), client)

    def test_messages_between(self) -> None:
        """What comes with the welcome is there when the client is given."""
        self.start()
        waiting = self.next()
        relay = self.endpoint.accept()
        relay.lines()
        relay.say(b"!welcome carol :Hi.", b"%bob%early")
        self.clock.advance(0)
        client = self.successResultOf(waiting)
        self.assertEqual(self.successResultOf(ensureDeferred(client.__anext__())).text, "early")

    def test_lost_before_given(self) -> None:
        """A connection that ends at once is not given; the one after it is."""
        self.start()
        waiting = self.next()
        relay = self.endpoint.accept()
        relay.welcome()
        relay.lose()
        self.clock.advance(0)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.endpoint.accept().welcome()
        self.clock.advance(0)
        self.successResultOf(waiting)

    def test_patience(self) -> None:
        """It gives up when the last attempt, at the end of its patience, has failed."""
        self.start(patience_s=90)
        relay, _ = self.first()
        relay.lose()
        waiting = self.next()
        self.pass_time(89.8)
        self.assertNoResult(waiting)
        self.pass_time(0.5)
        self.failureResultOf(waiting, Unreachable)
        self.assertGreater(len(self.troubles), 5)
        self.pass_time(60)
        self.failureResultOf(self.next(), Unreachable)

    def test_own_name(self) -> None:
        """A name that the relay has not given up yet is waited for, up to 90 s."""
        self.start()
        relay, _ = self.first()
        relay.lose()
        waiting = self.next()
        self.name_is_taken_for(55)
        for _ in range(400):
            if not self.endpoint.attempts:
                self.clock.advance(0.1)
        self.endpoint.refuse(ConnectError())  # it begins anew: this was another relay
        self.name_is_taken_for(55)
        self.assertNoResult(waiting)
        result = []
        waiting.addBoth(result.append)
        self.name_is_taken_for(120)
        [failure] = result
        failure.trap(errors.NameInUse)

    def test_final_refusal(self) -> None:
        """What the relay would refuse again ends it: another one owns the name now."""
        self.start()
        relay, _ = self.first()
        relay.lose()
        waiting = self.next()
        self.clock.advance(1)
        self.endpoint.accept().say(b"!error name-owned carol :Owned.")
        self.clock.advance(0)
        self.failureResultOf(waiting, errors.NameOwned)
        self.assertFalse(self.relays.out_of_patience)

    def test_renamed(self) -> None:
        """After /name it comes back under the new name."""
        self.start(caps=())
        relay, _ = self.first()
        relay.say(b"!welcome karl max-line=8192 :Hi.")
        relay.lose()
        self.next()
        self.clock.advance(1)
        self.assertEqual(self.endpoint.accept().lines(), [b"karl"])

    def test_rooms(self) -> None:
        """What was joined is joined again, before what waits is written; a new name has none."""
        self.start(caps=())
        relay, client = self.first()
        relay.say(b"!joined #ops carol", b"!joined #dev carol", b"!joined #dev bob")
        relay.say(b"!left #dev carol")
        self.assertEqual(client.joined, ("#ops",))
        relay.lose(ConnectionLost())
        self.assertEqual(client.joined, ("#ops",))
        sending = client.send("#ops", "hi")
        waiting = self.next()
        self.clock.advance(1)
        relay = self.endpoint.accept()
        relay.welcome()
        joining, said = relay.lines()
        self.assertTrue(joining.endswith(b" /join #ops"), joining)
        self.assertTrue(said.endswith(b" %#ops%hi"), said)
        self.clock.advance(0)
        client = self.successResultOf(waiting)
        # It is told as what comes unasked: who is there may be others now.
        relay.say(joining.partition(b" ")[0] + b" !members #ops bob carol")
        event = self.successResultOf(client._next_event())
        self.assertEqual(event.arguments, ("#ops", "bob", "carol"))
        relay.say(b"!welcome karl max-line=8192 :Hi.")
        self.assertEqual(client.joined, ())
        relay.lose(ConnectionLost())
        self.failureResultOf(sending, Disconnected)
        self.next()
        self.clock.advance(1)
        relay = self.endpoint.accept()
        relay.welcome(b"karl")
        self.assertEqual(relay.lines_or_none(), [])

    def test_asked_to_end(self) -> None:
        """After an end that was asked for the iteration stops."""
        self.start()
        relay, client = self.first()
        client.close()
        relay.say(b"!bye")
        relay.lose()
        self.failureResultOf(self.next(), StopAsyncIteration)
        self.pass_time(60)
        self.assertEqual(self.endpoint.attempts, [])

    def test_quit(self) -> None:
        """A ``/quit`` of the program's own is such an end."""
        self.start(caps=())
        relay, client = self.first()
        quitting = client.command("/quit")
        relay.say(relay.lines()[0].partition(b" ")[0] + b" !bye")
        self.successResultOf(quitting)
        relay.lose()
        self.failureResultOf(self.next(), StopAsyncIteration)
        self.assertEqual(self.troubles, [])

    def test_close(self) -> None:
        """Closing it drains the connection first."""
        self.start()
        relay, client = self.first()
        closing = ensureDeferred(self.relays.close())
        self.assertEqual(relay.lines(), [b"/quit"])
        self.clock.advance(0.1)
        self.assertFalse(relay.lost)
        relay.say(b"!bye")
        relay.lose()
        self.successResultOf(closing)
        self.assertIsNone(client.lost)
        self.failureResultOf(self.next(), StopAsyncIteration)

    def test_close_between(self) -> None:
        """Closing it while there is no connection ends the attempts."""
        self.start()
        relay, _ = self.first()
        relay.lose()
        waiting = self.next()
        self.successResultOf(ensureDeferred(self.relays.close()))
        self.failureResultOf(waiting, StopAsyncIteration)
        self.pass_time(60)
        self.assertEqual(self.endpoint.attempts, [])


class SecretTests(ReconnectorCase):
    """Names that are owned: their secrets and tokens."""

    def token_answer(self, relay, answer: bytes) -> None:
        """Answer the one request for a token that the client wrote, and nobody else's."""
        [request] = [line for line in relay.lines() if line.endswith(b" /token")]
        relay.say(request.partition(b" ")[0] + b" " + answer)

    def first_owned(self, answer: bytes = b"!token " + TOKEN):
        self.start(caps=(), secret="old-secret")
        waiting = self.next()
        relay = self.endpoint.accept()
        self.assertEqual(relay.lines(), [b"carol old-secret"])
        relay.say(b"!welcome carol :Hi.")
        self.token_answer(relay, answer)
        self.clock.advance(0)
        return relay, self.successResultOf(waiting)

    def again(self):
        """The next attempt, and what it claims."""
        self.clock.advance(30)
        relay = self.endpoint.accept()
        return relay, relay.lines()

    def test_token(self) -> None:
        """The next connection claims with the token, and asks for none."""
        relay, client = self.first_owned()
        relay.lose()
        self.assert_no_events(client)
        waiting = self.next()
        again, lines = self.again()
        self.assertEqual(lines, [b"carol " + TOKEN])
        again.welcome()
        self.assertEqual(again.lines(), [])
        self.clock.advance(0)
        self.successResultOf(waiting)

    def assert_no_events(self, client) -> None:
        events = client.events()
        reading = ensureDeferred(events.__anext__())
        self.failureResultOf(reading, StopAsyncIteration)

    def test_answers_without_a_token(self) -> None:
        """A relay that gives none is still a relay: the secret serves."""
        for code in (b"not-allowed", b"insecure", b"unknown-command", b"busy", b"store-failed"):
            relay, client = self.first_owned(b"!error " + code + b" :No.")
            self.assertIsNone(client.lost)
            relay.lose()
            self.assert_no_events(client)
            again, lines = self.again()
            self.assertEqual(lines, [b"carol old-secret"], code)
            ensureDeferred(self.relays.close())
            again.lose()

    def test_token_refused(self) -> None:
        """A token that is revoked or expired is dropped; the secret is tried at once."""
        relay, _ = self.first_owned()
        relay.lose()
        waiting = self.next()
        relay, _ = self.again()
        relay.say(b"!error bad-secret carol :No.")
        relay = self.endpoint.accept()
        self.assertEqual(relay.welcome(), [b"carol old-secret"])
        self.token_answer(relay, b"!token crt_another")
        self.clock.advance(0)
        self.successResultOf(waiting)
        self.assertEqual([trouble.was_connected for trouble in self.troubles], [True])
        relay.lose()
        self.assertEqual(self.again()[1], [b"carol crt_another"])

    def test_both_refused(self) -> None:
        """When the secret is refused as well there is no other attempt."""
        relay, _ = self.first_owned()
        relay.lose()
        waiting = self.next()
        self.again()[0].say(b"!error bad-secret carol :No.")
        self.endpoint.accept().say(b"!error bad-secret carol :No.")
        self.clock.advance(0)
        self.failureResultOf(waiting, errors.BadSecret)
        self.pass_time(60)
        self.assertEqual(self.endpoint.attempts, [])

    def test_busy_after_the_token(self) -> None:
        """A secret that could not be looked at is tried again later."""
        relay, _ = self.first_owned()
        relay.lose()
        waiting = self.next()
        self.again()[0].say(b"!error bad-secret carol :No.")
        self.endpoint.accept().say(b"!error busy :Later.")
        self.assertNoResult(waiting)
        self.assertEqual(self.again()[1], [b"carol old-secret"])

    def test_worth_retrying(self) -> None:
        """Which refusals are met again, and which may pass."""
        for code, is_retried in [
            ("busy carol", True),
            ("rate-limited carol", True),
            ("rate-limited", True),
            ("too-many-clients", True),
            ("timeout", True),
            ("shutting-down", True),
            ("store-failed", True),
            ("bad-secret carol", False),
            ("name-owned carol", False),
            ("insecure", False),
        ]:
            relay, _ = self.first_owned(b"!error busy :No.")
            relay.lose()
            waiting = self.next()
            self.again()[0].say(f"!error {code} :No.".encode())
            self.clock.advance(0)
            if is_retried:
                self.assertNoResult(waiting)
                self.assertEqual(len(self.again()[1]), 1)
                ensureDeferred(self.relays.close())
                self.failureResultOf(waiting)
            else:
                self.failureResultOf(waiting, errors.REFUSALS[code.split()[0]])

    def test_register(self) -> None:
        """A name that was registered, and one that has another secret, come back with it."""
        self.start(caps=())
        relay, client = self.first()
        for arguments, written in [
            (("new-secret",), b"/register new-secret"),
            (("newer-secret", "new-secret"), b"/register newer-secret new-secret"),
        ]:
            registering = client.register(*arguments)
            lines = relay.lines()
            self.assertIn(written, lines[0])
            relay.say(
                lines[0].partition(b" ")[0] + b" !registered carol :Yours.",
                lines[1].partition(b" ")[0] + b" !pong .",
            )
            self.assertIsNone(self.successResultOf(registering))
            self.assertTrue(client.is_registered)
            self.token_answer(relay, b"!token crt_for-" + arguments[0].encode())
        relay.lose()
        relay, lines = self.again()
        self.assertEqual(lines, [b"carol crt_for-newer-secret"])
        relay.say(b"!error bad-secret carol :No.")
        self.assertEqual(self.endpoint.accept().lines(), [b"carol newer-secret"])

    def test_register_unanswered(self) -> None:
        """A loss before the answer: what may be the secret is tried, too."""
        self.start(caps=())
        relay, client = self.first()
        registering = client.register("new-secret")
        relay.lose()
        self.assertTrue(self.failureResultOf(registering, Disconnected).value.may_have_arrived)
        relay, lines = self.again()
        self.assertEqual(lines, [b"carol"])
        relay.say(b"!error name-owned carol :Owned.")
        relay = self.endpoint.accept()
        self.assertEqual(relay.welcome(), [b"carol new-secret"])

    def test_renamed_with_a_secret(self) -> None:
        """It comes back under the new name, with its secret or without."""
        relay, client = self.first_owned()
        for name, secret, claimed in [
            ("bob", "bob-secret", b"bob bob-secret"),
            ("eve", None, b"eve"),
        ]:
            renaming = client.rename(name, secret)
            refs = [line.partition(b" ")[0] for line in relay.lines()]
            relay.say(refs[0] + b" !welcome " + name.encode() + b" :Hi.", refs[1] + b" !pong .")
            self.assertEqual(self.successResultOf(renaming), name)
            relay.lose()
            self.next()
            relay, lines = self.again()
            self.assertEqual(lines, [claimed])
            relay.welcome(name.encode())
            self.clock.advance(0)
            client = self.relays._given or self.relays._ready
            relay.clear()

    def test_taken_away(self) -> None:
        """A name that is taken away: the relay's sentence, and the refusal for good."""
        for code in (b"bad-secret", b"name-owned"):
            relay, client = self.first_owned(b"!error busy :No.")
            relay.say(b"!error " + code + b" Carol :It is not yours.")
            relay.lose()
            self.assertEqual(str(client.lost), "The relay closed the connection: It is not yours.")
            waiting = self.next()
            self.again()[0].say(b"!error " + code + b" carol :Not yours.")
            self.clock.advance(0)
            self.failureResultOf(waiting, errors.REFUSALS[code.decode()])

    def test_not_taken_away(self) -> None:
        """The same codes as answers to something else explain no later loss."""
        answer = b"!error bad-secret bob :Wrong."
        for lines in (
            [answer],
            [b"@ref=1 !error bad-secret carol :Wrong."],
            [b"!error bad-secret :Wrong."],
            [b"!error bad-secret carol :Wrong.", b"%bob%hi"],
        ):
            relay, client = self.first_owned(b"!error busy :No.")
            relay.say(*lines)
            relay.lose()
            self.assertEqual(str(client.lost), "The relay closed the connection.", lines)
            ensureDeferred(self.relays.close())
        relay, client = self.first_owned(b"!error busy :No.")
        relay.say(b"!error bad-secret carol :Wrong.")
        relay.say(b"%bob%hi")
        relay.lose()
        self.assertEqual(str(client.lost), "The relay closed the connection.")

    def test_misuse(self) -> None:
        """What can not be a secret is refused at once, and not repeated."""
        for secret in ("short", "two words", "x" * 129):
            with self.assertRaises(Misuse) as raised:
                self.start(secret=secret)
            self.assertNotIn(secret, str(raised.exception))
