"""Connected again and again, by a clock that the tests move."""

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import errors
from chatrelay.client import Unreachable, stay_connected
from chatrelay.client.reconnect import MAX_DELAY_S, retry_delay_s
from tests.client_harness import RelayEndpoint


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


class ReconnectorTests(SynchronousTestCase):
    """`stay_connected`."""

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
        self.assertEqual(again.welcome(), [b"/caps id time", b"carol"])
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
