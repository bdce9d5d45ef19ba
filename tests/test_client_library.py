"""The client for programs, over a relay made of strings."""

import errno
import socket

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.error import (
    ConnectionRefusedError as Refused,
)
from twisted.internet.error import (
    TimeoutError as TimedOut,
)
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from chatrelay import errors
from chatrelay.client import (
    Answer,
    Client,
    Disconnected,
    Message,
    Reply,
    Room,
    Unreachable,
    connect,
    stay_connected,
)
from chatrelay.client.connecting import claim_of, endpoint_for
from chatrelay.client.failures import describe_unreachable
from chatrelay.client.identity import Secret
from chatrelay.client.library import (
    CLOSE_TIMEOUT_S,
    EVENT_BYTES,
    HIGH_WATER_BYTES,
    MAX_UNANSWERED,
    MAX_UNREAD_BYTES,
)
from chatrelay.client.protocol import MOST_LINE_BYTES, Claim, OwnedInClear, open_connection
from chatrelay.errors import Misuse
from tests.client_harness import RelayEndpoint, RelayTransport


class ConnectTests(SynchronousTestCase):
    """`connect`: until the welcome."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = RelayEndpoint()

    def connect(self, **options):
        return connect(self.clock, self.endpoint, "carol", **options)

    def test_welcome(self) -> None:
        """It fires when the relay grants the name, with the name as the relay shows it."""
        connecting = self.connect()
        relay = self.endpoint.accept()
        self.assertEqual(relay.lines(), [b"/caps id time ping", b"carol"])
        relay.say(b"!caps id time ping")
        self.assertNoResult(connecting)
        relay.say(b"!welcome Carol version=1 max-line=8192 :Hello.")
        self.assertEqual(self.successResultOf(connecting).name, "Carol")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_the_welcome_says_of_lines_is_bounded(self) -> None:
        for said, taken in [(b"4096", 4096), (b"999999999", MOST_LINE_BYTES)]:
            connecting = self.connect()
            relay = self.endpoint.accept()
            relay.say(
                b"!caps id time ping", b"!welcome carol version=1 max-line=" + said + b" :Hello."
            )
            client = self.successResultOf(connecting)
            self.assertEqual(client._connection.max_line_bytes, taken)

    def test_without_caps(self) -> None:
        """A client that asks for no caps says only its name; one refused caps goes on."""
        self.connect(caps=())
        self.assertEqual(self.endpoint.accept().lines(), [b"carol"])
        connecting = self.connect()
        relay = self.endpoint.accept()
        relay.say(b"!hello :Type a name.", b"!error unknown-command :No.")
        relay.welcome()
        self.successResultOf(connecting)

    def test_secret(self) -> None:
        """The secret follows the name; a token may stand for it, and none is asked for."""
        for secret in ("old-secret", "crt_" + "x" * 43):
            connecting = self.connect(caps=(), secret=secret)
            relay = self.endpoint.accept()
            self.assertEqual(relay.welcome(), [b"carol " + secret.encode()])
            self.assertTrue(self.successResultOf(connecting).is_registered)
            self.assertEqual(relay.lines(), [])
        connecting = self.connect(secret="old-secret")
        self.endpoint.accept().say(b"!error bad-secret carol :Wrong.")
        self.failureResultOf(connecting, errors.BadSecret)

    def test_secret_that_others_could_read(self) -> None:
        """It is not sent, unless that is asked for; neither is one in a command."""
        connecting = self.connect(secret="old-secret")
        relay = self.endpoint.accept("192.0.2.1")
        self.failureResultOf(connecting, errors.Insecure)
        self.assertEqual(relay.value(), b"")
        self.assertTrue(relay.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

        connecting = self.connect(caps=(), secret="old-secret", secret_in_clear=True)
        relay = self.endpoint.accept("192.0.2.1")
        self.assertEqual(relay.welcome(), [b"carol old-secret"])
        relay.lines()
        client = self.successResultOf(connecting)
        client.register("new-secret", "old-secret")
        self.assertIn(b"/register new-secret old-secret", b"".join(relay.lines()))

        connecting = self.connect(caps=())
        self.endpoint.accept("192.0.2.1").say(b"!error name-owned carol :Owned.")
        self.failureResultOf(connecting, OwnedInClear)
        connecting = self.connect(caps=())
        self.endpoint.accept("127.0.0.1").say(b"!error name-owned carol :Owned.")
        self.assertNotIsInstance(
            self.failureResultOf(connecting, errors.NameOwned).value, OwnedInClear
        )

        connecting = self.connect(caps=())
        relay = self.endpoint.accept("192.0.2.1")
        relay.welcome()
        client = self.successResultOf(connecting)
        self.failureResultOf(client.register("new-secret"), errors.Insecure)
        self.failureResultOf(client.rename("dave", "his-secret"), errors.Insecure)
        self.assertEqual(relay.lines(), [])
        client.rename("dave")
        self.assertIn(b"/name dave", b"".join(relay.lines()))

    def test_secret_to_a_server_that_is_not_checked(self) -> None:
        """TLS to whoever answers is no better than none."""
        for is_checked in (True, False):
            claim = Claim(b"carol", (), Secret(b"old-secret"), is_server_checked=is_checked)
            opening = ensureDeferred(
                open_connection(self.clock, self.endpoint, claim, Client(self.clock))
            )
            factory, attempt = self.endpoint.attempts.pop(0)
            relay = RelayTransport("192.0.2.1")
            directlyProvides(relay, ISSLTransport)
            relay.protocol = factory.buildProtocol(None)
            relay.protocol.makeConnection(relay)
            attempt.callback(relay.protocol)
            if is_checked:
                self.assertEqual(relay.welcome(), [b"carol old-secret"])
                self.successResultOf(opening)
            else:
                self.failureResultOf(opening, errors.Insecure)
                self.assertEqual(relay.value(), b"")

    def test_secret_not_shown(self) -> None:
        """What fails while the secret is at hand shows it in no traceback, however verbose."""

        class Broken(Client):
            def name_granted(self, connection) -> None:
                raise ZeroDivisionError(connection)

        claim = claim_of("carol", (), "old-secret", secret_in_clear=False)
        opening = ensureDeferred(
            open_connection(self.clock, self.endpoint, claim, Broken(self.clock))
        )
        relay = self.endpoint.accept()
        try:
            relay.say(b"!welcome carol :Hi.")
        except ZeroDivisionError:
            failure = Failure(captureVars=True)
        for detail in ("default", "verbose"):
            shown = failure.getTraceback(detail=detail)
            self.assertIn("ZeroDivisionError", shown)
            self.assertNotIn("old-secret", shown)
        opening.cancel()
        self.failureResultOf(opening)

    def test_refused_name(self) -> None:
        """The relay's refusal is raised, and the connection dropped."""
        connecting = self.connect()
        relay = self.endpoint.accept()
        relay.say(b"!error name-in-use carol :Somebody has it.", b"%x%y")
        refusal = self.failureResultOf(connecting, errors.NameInUse).value
        self.assertEqual(refusal.context, (b"carol",))
        self.assertTrue(relay.aborted)

    def test_unreachable(self) -> None:
        """Whatever keeps a connection from being made is one error."""
        for error in (ConnectError(), DNSLookupError("x"), OSError("no")):
            connecting = self.connect()
            self.endpoint.refuse(error)
            self.assertTrue(str(self.failureResultOf(connecting, Unreachable).value))

    def test_where_and_why(self) -> None:
        """The error names the place and the system's reason."""
        reactor = MemoryReactorClock()
        refused = Refused(errno.ECONNREFUSED, "x")
        for server, error, sentence in [
            ("tcp:localhost:12999", refused, " at localhost port 12999: connection refused."),
            ("tcp:\\:\\:1:7", DNSLookupError("x"), " at ::1 port 7: there is no such host."),
            ("unix:/run/x", ConnectError(errno.ENOENT), " at /run/x: no such file or directory."),
            ("tcp:h:7", TimedOut(), " at h port 7: it does not answer."),
            (self.endpoint, OSError("odd"), ": odd."),
        ]:
            endpoint = endpoint_for(reactor, server)
            self.assertEqual(describe_unreachable(endpoint, error), "No relay" + sentence)

    def test_not_a_relay(self) -> None:
        """A server that speaks something else is said to."""
        connecting = self.connect()
        relay = self.endpoint.accept()
        relay.say(b"SSH-2.0-OpenSSH_9.2")
        self.failureResultOf(connecting, Unreachable)
        self.assertTrue(relay.aborted)

    def test_closed_before_welcome(self) -> None:
        """A connection that ends before the welcome was none."""
        connecting = self.connect()
        self.endpoint.accept().lose()
        self.failureResultOf(connecting, Unreachable)

    def test_silence(self) -> None:
        """A server that says nothing is given up after 30 s, not before."""
        connecting = self.connect()
        relay = self.endpoint.accept()
        self.clock.advance(29.9)
        self.assertNoResult(connecting)
        self.clock.advance(0.2)
        why = str(self.failureResultOf(connecting, Unreachable).value)
        self.assertTrue(relay.aborted)
        self.assertIn("--tls", why)

    def test_cancel(self) -> None:
        """Cancelling drops the connection."""
        connecting = self.connect()
        relay = self.endpoint.accept()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(relay.aborted)

    def test_vanished_relay(self) -> None:
        """The kernel is told to find out in a minute that a relay is gone."""
        with socket.socket() as handle:
            connecting = self.connect().addErrback(lambda _: None)
            factory, _ = self.endpoint.attempts.pop()
            transport = RelayTransport()
            transport.getHandle = lambda: handle
            factory.buildProtocol(None).makeConnection(transport)
            for option, value in [("TCP_KEEPIDLE", 30), ("TCP_USER_TIMEOUT", 60_000)]:
                if number := getattr(socket, option, None):
                    self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, number), value)
            connecting.cancel()

    def test_misuse(self) -> None:
        """A name that can not be one, or no endpoint, is refused at once."""
        with self.assertRaises(Misuse):
            connect(self.clock, self.endpoint, "a b")
        with self.assertRaises(Misuse):
            connect(self.clock, "nonsense:here:there", "carol")
        with self.assertRaises(Misuse):
            self.connect(secret="short")

    def test_long_line(self) -> None:
        """A line longer than any relay's ends the connection: what is kept is bounded."""
        self.connect().addErrback(lambda _: None)
        relay = self.endpoint.accept()
        for _ in range(65):
            relay.protocol.dataReceived(b"x" * 1024)
        self.assertTrue(relay.aborted)


class ClientCase(SynchronousTestCase):
    """A client that is connected."""

    options: dict = {}

    def setUp(self) -> None:
        self.clock = Clock()
        endpoint = RelayEndpoint()
        connecting = connect(self.clock, endpoint, "carol", **self.options)
        self.relay = endpoint.accept()
        self.relay.welcome()
        self.client = self.successResultOf(connecting)

    def refs(self) -> list[bytes]:
        """The refs of the lines the client wrote, with their space."""
        return [line.partition(b" ")[0] + b" " for line in self.relay.lines()]

    def next(self):
        return ensureDeferred(self.client.__anext__())

    def assert_ended(self, reading) -> None:
        self.failureResultOf(reading, StopAsyncIteration)


class SendTests(ClientCase):
    """`Client.send` and what becomes of it."""

    def test_sent(self) -> None:
        """It fires when the relay says that it was sent."""
        sending = self.client.send("bob", "50 % off")
        [line] = self.relay.lines()
        ref, _, rest = line.partition(b" ")
        self.assertEqual(rest, b"%bob%50 % off")
        self.assertNoResult(sending)
        self.relay.say(ref + b" !sent bob")
        self.assertEqual(self.successResultOf(sending), Answer("bob", "sent"))

    def test_refused(self) -> None:
        """It fails with the class of the code."""
        sending = self.client.send("bob", "hi")
        [ref] = self.refs()
        self.relay.say(ref + b"!error unknown-name bob :Nobody has it.")
        self.failureResultOf(sending, errors.UnknownName)

    def test_each(self) -> None:
        """Several targets: an outcome for each, refusals among them, not raised."""
        sending = self.client.send_each(["bob", "dave"], "hi")
        [ref] = self.refs()
        self.relay.say(ref + b"!sent bob", ref + b"!error unknown-name dave :Nobody.")
        bob, dave = self.successResultOf(sending)
        self.assertEqual(bob, Answer("bob", "sent"))
        self.assertIsInstance(dave, errors.UnknownName)

    def test_misuse(self) -> None:
        """What can not be sent is refused at once, and nothing is written."""
        for to, text in [("bob", "a\nb"), ("b b", "hi"), ("bob", ""), ("bob", "x" * 8192)]:
            with self.assertRaises(Misuse):
                self.client.send(to, text)
        self.assertEqual(self.relay.lines(), [])

    def test_disconnect(self) -> None:
        """What was not answered may have arrived; what is sent afterwards did not."""
        sending = self.client.send("bob", "hi")
        self.relay.lose(ConnectionLost())
        self.assertTrue(self.failureResultOf(sending, Disconnected).value.may_have_arrived)
        later = self.failureResultOf(self.client.send("bob", "hi"), Disconnected).value
        self.assertFalse(later.may_have_arrived)
        self.assertIsInstance(self.client.lost, Disconnected)

    def test_window(self) -> None:
        """At most 1,000 lines wait for an answer; the others follow in order."""
        sending = [self.client.send("bob", str(number)) for number in range(MAX_UNANSWERED + 2)]
        refs = self.refs()
        self.assertEqual(len(refs), MAX_UNANSWERED)
        self.relay.say(refs[0] + b"!sent bob")
        [line] = self.relay.lines()
        self.assertTrue(line.endswith(b"%bob%1000"))
        self.successResultOf(sending.pop(0))
        sending[0].cancel()  # its line is on its way: its place is not free
        self.failureResultOf(sending.pop(0), CancelledError)
        self.assertEqual(self.relay.lines(), [])
        self.relay.lose()
        known = [self.failureResultOf(one, Disconnected).value.may_have_arrived for one in sending]
        self.assertEqual(known, [True] * (MAX_UNANSWERED - 1) + [False])

    def test_disconnect_with_many_waiting(self) -> None:
        """However many wait for their turn, each is told that it was not sent."""
        sending = [self.client.send("bob", "x") for _ in range(MAX_UNANSWERED + 2000)]
        first, second = sending[MAX_UNANSWERED : MAX_UNANSWERED + 2]
        first.addErrback(lambda failure: (second.cancel(), failure)[1])
        self.relay.lose(ConnectionLost())
        sending.remove(second)
        self.failureResultOf(second, CancelledError)
        known = [self.failureResultOf(one, Disconnected).value.may_have_arrived for one in sending]
        self.assertEqual(known, [True] * MAX_UNANSWERED + [False] * 1999)

    def test_cancel_before_written(self) -> None:
        """Cancelling what still waits for its turn unsends it."""
        for number in range(MAX_UNANSWERED):
            self.client.send("bob", str(number)).addErrback(lambda _: None)
        waiting = self.client.send("bob", "never")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        refs = self.refs()
        self.relay.say(*[ref + b"!sent bob" for ref in refs])
        self.assertEqual(self.relay.lines(), [])


class CommandTests(ClientCase):
    """Commands and the helpers for them."""

    def answer(self, *lines: bytes) -> bytes:
        """Answer the command and its fence; returns the command's line."""
        command, fence = self.relay.lines()
        ref, _, line = command.partition(b" ")
        tags = [
            (ref + b";" + line[1:] if line[:1] == b"@" else ref + b" " + line) for line in lines
        ]
        self.relay.say(*tags)
        self.relay.say(fence.partition(b" ")[0] + b" !pong .")
        return line

    def test_command(self) -> None:
        """All lines of the answer, and nothing that came between."""
        asking = self.client.command("/rooms")
        reading = self.next()
        self.relay.say(b"%bob%between")
        self.assertEqual(self.answer(b"!room #a members=1", b"!end rooms 1"), b"/rooms")
        self.assertEqual([reply.word for reply in self.successResultOf(asking)], ["room", "end"])
        self.assertEqual(self.successResultOf(reading).text, "between")

    def test_refused(self) -> None:
        """An error among the answers is raised."""
        asking = self.client.command("/fly")
        self.answer(b"!error unknown-command :No.")
        self.failureResultOf(asking, errors.UnknownCommand)

    def test_helpers(self) -> None:
        """What each helper writes, and what it makes of the answer."""
        client = self.client
        for call, written, answers, result in [
            (
                client.who,
                b"/who",
                [b"!who bob since=x", b"!who bob since=x", b"!who carol", b"!end who 3"],
                ["bob", "carol"],
            ),
            (lambda: client.who("bob"), b"/who bob", [b"!end who 0"], []),
            (
                lambda: client.watch("bob", "dave"),
                b"/watch bob dave",
                [b"!online bob", b"!offline dave"],
                {"bob": True, "dave": False},
            ),
            (lambda: client.unwatch("bob"), b"/unwatch bob", [b"!unwatched bob"], None),
            (client.ping, b"/ping .", [b"!pong ."], None),
            (lambda: client.set_caps("id"), b"/caps id", [b"!caps id"], ["id"]),
            (client.set_caps, b"/caps none", [b"!caps none"], []),
            (
                lambda: client.rename("karl"),
                b"/name karl",
                [b"!welcome Karl max-line=100 :Hi"],
                "Karl",
            ),
            (
                lambda: client.rename("karl", "his-secret"),
                b"/name karl his-secret",
                [b"!welcome Karl max-line=100 :Hi"],
                "Karl",
            ),
            (
                lambda: client.register("new-secret"),
                b"/register new-secret",
                [b"!registered Karl :Yours."],
                None,
            ),
            (
                lambda: client.register("newer-secret", "new-secret"),
                b"/register newer-secret new-secret",
                [b"!registered Karl :Yours."],
                None,
            ),
            (
                lambda: client.history("bob", 2, after="a1"),
                b"/history bob 2 after=a1",
                [
                    b"!history bob",
                    b"@id=a2 %bob%hi",
                    b"@id=a3;to=bob %carol%ho",
                    b"!end history 2",
                ],
                [
                    Message("bob", "hi", id="a2", tags={"id": "a2"}),
                    Message("carol", "ho", id="a3", tags={"id": "a3", "to": "bob"}, to="bob"),
                ],
            ),
            (
                lambda: client.history(before=Message("bob", "hi", id="a2")),
                b"/history 50 before=a2",
                [b"!history", b"!end history 0"],
                [],
            ),
            (client.token, b"/token", [b"!token crt_x :Keep it."], "crt_x"),
            (
                lambda: client.join("#ops"),
                b"/join #ops",
                [
                    b"!joined #ops carol",
                    b"!topic #ops :Operations",
                    b"!members #ops bob carol",
                    b"!members #ops dave",
                    b"!end members #ops 3",
                ],
                ["bob", "carol", "dave"],
            ),
            (lambda: client.leave("#ops"), b"/leave #ops", [b"!left #ops carol"], None),
            (
                client.rooms,
                b"/rooms",
                [
                    b"!room #ops members=3 kept members-only joined :Ops :-)",
                    b"!room #b members=x",
                    b"!room #c members=1 of-tomorrow",
                    b"!end rooms 3",
                ],
                [
                    Room("#ops", 3, True, True, True, "Ops :-)"),
                    Room("#b", 0),
                    Room("#c", 1),
                ],
            ),
            (lambda: client.topic("#ops"), b"/topic #ops", [b"!topic #ops :a :b"], "a :b"),
            (lambda: client.topic("#ops"), b"/topic #ops", [b"!topic #ops"], ""),
            (
                lambda: client.set_topic("#ops", "a  b"),
                b"/topic #ops a  b",
                [b"!topic #ops :a  b"],
                None,
            ),
            (lambda: client.set_topic("#ops", " "), b"/topic #ops -", [b"!topic #ops"], None),
            (lambda: client.keep("#ops"), b"/keep #ops open", [b"!kept #ops owner=carol"], None),
            (
                lambda: client.keep("#ops", members_only=True),
                b"/keep #ops members-only",
                [b"!kept #ops owner=carol members-only"],
                None,
            ),
            (lambda: client.unkeep("#ops"), b"/unkeep #ops", [b"!unkept #ops carol"], None),
            (
                lambda: client.invite("#ops", "bob"),
                b"/invite #ops bob",
                [b"!invited #ops bob"],
                None,
            ),
            (
                lambda: client.remove("#ops", "bob"),
                b"/remove #ops bob",
                [b"!removed #ops bob"],
                None,
            ),
        ]:
            asking = call()
            self.assertEqual(self.answer(*answers), written)
            self.assertEqual(self.successResultOf(asking), result)
        self.assertEqual(client.name, "Karl")
        with self.assertRaises(Misuse):
            client.send("bob", "x" * 100)
        with self.assertRaises(Misuse):
            client.watch("bob dave")
        for misuse in (
            lambda: client.register("short"),
            lambda: client.register("crt_" + "x" * 43),
            lambda: client.register("new-secret", "crt_" + "x" * 43),
            lambda: client.register("two words here"),
            lambda: client.rename("karl", "short"),
            lambda: client.ack(Message("bob", "no id")),
            lambda: client.history(before="a1", after="a2"),
            lambda: client.history("bob dave"),
            lambda: client.history(after=0),
            lambda: client.ack(None),
            lambda: client.send("bob", b"hi"),
            lambda: client.send("#ops", "hi", wait="acked"),
            lambda: client.join("ops"),
            lambda: client.join("#"),
            lambda: client.leave("#a b"),
            lambda: client.set_topic("#ops", "a\nb"),
            lambda: client.invite("#ops", ""),
            lambda: client.remove("#ops", "bob dave"),
            lambda: client.set_caps("acks"),
            lambda: connect(self.clock, "tcp:localhost:1", "bob", caps=("acks",)),
            lambda: connect(self.clock, "tcp:localhost:1", "b", caps="id", receiving=False),
            lambda: stay_connected(self.clock, "tcp:localhost:1", "bob", caps=("acks",)),
        ):
            self.assertRaises(Misuse, misuse)
        misuse = self.assertRaises(Misuse, client.invite, "#ops", "")
        self.assertEqual(str(misuse), errors.BadName.sentence)
        self.assertEqual(self.relay.lines(), [])

    def test_one_line(self) -> None:
        """What is answered when it is kept, perhaps after what was asked later."""
        for call, written, answer in [
            (lambda: self.client.ack(Message("bob", "hi", id="a1")), b"/ack a1", b"!acked a1"),
            (lambda: self.client.block("bob"), b"/block bob", b"!blocked bob"),
            (lambda: self.client.unblock("bob"), b"/unblock bob", b"!unblocked bob"),
        ]:
            asking, pinging = call(), self.client.ping()
            line, ping, fence = self.relay.lines()
            ref, _, rest = line.partition(b" ")
            self.assertEqual(rest, written)
            self.relay.say(*(asked.replace(b"/ping", b"!pong") for asked in (ping, fence)))
            self.successResultOf(pinging)
            self.assertNoResult(asking)
            self.relay.say(ref + b" " + answer)
            self.assertIsNone(self.successResultOf(asking))
        asking = self.client.block("bob")
        self.relay.say(self.refs()[0] + b"!error not-allowed :Nobody owns your name.")
        self.failureResultOf(asking, errors.NotAllowed)

    def test_secrets_refused(self) -> None:
        """A refusal is raised; an answer without a token is an error, too."""
        for ask in (self.client.token, lambda: self.client.register("new-secret")):
            asking = ask()
            self.answer(b"!error not-allowed :No accounts here.")
            self.failureResultOf(asking, errors.NotAllowed)
        self.assertFalse(self.client.is_registered)
        asking = self.client.token()
        self.answer(b"!token")
        self.failureResultOf(asking, errors.ChatrelayError)

    def test_disconnect(self) -> None:
        """A command that was not answered fails."""
        asking = self.client.who()
        self.relay.lose()
        self.failureResultOf(asking, Disconnected)

    def test_ping(self) -> None:
        """The relay's ping is answered."""
        self.relay.say(b"!ping x7")
        self.assertEqual(self.relay.lines(), [b"/pong x7"])


class ReceiveTests(ClientCase):
    """Iterating over what arrives."""

    def test_order(self) -> None:
        """Messages come in order, whether waited for or not; replies are passed over."""
        reading = self.next()
        self.relay.say(b"!online bob", b"%bob%1", b"%#ops%dave%2")
        self.assertEqual(self.successResultOf(reading), Message("bob", "1"))
        self.assertEqual(self.successResultOf(self.next()), Message("dave", "2", "#ops"))

    def test_echo(self) -> None:
        """What another of one's own devices sent is yielded only with the cap for it."""
        echoed = b"@to=bob %carol%sent elsewhere"
        reading = self.next()
        self.relay.say(b"!caps id time", echoed, b"%bob%1")
        self.assertEqual(self.successResultOf(reading), Message("bob", "1"))
        asking = self.client.set_caps("echo")
        refs = self.refs()
        self.relay.say(refs[0] + b"!caps echo", refs[1] + b"!pong .", echoed)
        self.successResultOf(asking)
        message = self.successResultOf(self.next())
        self.assertEqual(
            (message.sender, message.to, message.conversation), ("carol", "bob", "bob")
        )

    def test_caps(self) -> None:
        """Those that the relay has granted; "none" is none of them."""
        for said, caps in [(b"!caps id time", ("id", "time")), (b"!caps none", ()), (b"!caps", ())]:
            self.relay.say(said)
            self.assertEqual(self.client.caps, caps)

    def test_echo_is_an_event(self) -> None:
        """Events are all there is."""
        self.relay.say(b"@to=bob %carol%sent elsewhere")
        reading = ensureDeferred(self.client.events().__anext__())
        self.assertEqual(self.successResultOf(reading).to, "bob")

    def test_events(self) -> None:
        """Everything unasked is an event."""

        async def read():
            return [event async for event in self.client.events()]

        reading = ensureDeferred(read())
        self.relay.say(b"!offline bob", b"%bob%1", b"?")
        self.relay.lose()
        words = [
            getattr(event, "word", getattr(event, "text", "?"))
            for event in self.successResultOf(reading)
        ]
        self.assertEqual(words, ["offline", "1", "?"])

    def test_end(self) -> None:
        """What had arrived is read before the iteration ends."""
        self.relay.say(b"%bob%last")
        self.relay.lose()
        self.assertEqual(self.successResultOf(self.next()).text, "last")
        self.assert_ended(self.next())

    def test_end_while_waiting(self) -> None:
        """Whoever waits for a message is told that there will be none."""
        reading = self.next()
        self.relay.lose()
        self.assert_ended(reading)

    def test_cancelled_reader(self) -> None:
        """A message does not go to who has stopped waiting."""
        reading = self.next()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.relay.say(b"%bob%kept")
        self.assertEqual(self.successResultOf(self.next()).text, "kept")

    def fill(self, size: int) -> int:
        """Say messages until `size` bytes are unread; returns how many."""
        line = b"%bob%" + b"x" * 8000
        count = -(-size // len(line))
        for _ in range(count):
            self.relay.say(line)
        return count

    def test_back_pressure(self) -> None:
        """Unread messages stop the reading, at the mark; half of them read, it goes on."""
        line = b"%bob%" + b"x" * 8000
        for _ in range(HIGH_WATER_BYTES // (len(line) + EVENT_BYTES)):
            self.relay.say(line)
        self.assertEqual(self.relay.producerState, "producing")
        self.relay.say(line)
        self.assertEqual(self.relay.producerState, "paused")
        while self.relay.producerState == "paused":
            self.successResultOf(self.next())
        self.assertLess(self.client._unread_bytes, HIGH_WATER_BYTES // 2)
        self.assertGreater(self.client._unread_bytes, HIGH_WATER_BYTES // 2 - 2 * 9000)

    def test_short_lines(self) -> None:
        """Many short messages count for what they take in memory, not on the wire."""
        self.relay.say(*[b"%bob%x"] * (HIGH_WATER_BYTES // (6 + EVENT_BYTES)))
        self.assertEqual(self.relay.producerState, "producing")
        self.relay.say(b"%bob%x")
        self.assertEqual(self.relay.producerState, "paused")

    def test_answer_behind_unread(self) -> None:
        """While an answer is awaited reading goes on: it is behind what is unread."""
        self.fill(HIGH_WATER_BYTES)
        self.assertEqual(self.relay.producerState, "paused")
        sending = self.client.send("bob", "hi")
        self.assertEqual(self.relay.producerState, "producing")
        [ref] = self.refs()
        self.fill(HIGH_WATER_BYTES)
        self.assertEqual(self.relay.producerState, "producing")
        self.relay.say(ref + b"!sent bob")
        self.successResultOf(sending)
        self.assertEqual(self.relay.producerState, "paused")

    def test_bound_while_awaiting(self) -> None:
        """Even then what is kept has a bound."""
        self.client.send("bob", "hi").addErrback(lambda _: None)
        self.client._unread_bytes = MAX_UNREAD_BYTES - 1
        self.relay.say(b"%bob%x")
        self.assertEqual(self.relay.producerState, "paused")


class SendingOnlyTests(ClientCase):
    """A program that only sends."""

    options = {"receiving": False}

    def test_takes_nothing_from_a_mailbox(self) -> None:
        """Under an owned name it acks nothing, so that others of the name get it."""
        for caps, written in [((), b"/caps ack"), (("id", "ack"), b"/caps id ack")]:
            endpoint = RelayEndpoint()
            connect(
                self.clock, endpoint, "carol", secret="old-secret", receiving=False, caps=caps
            ).addErrback(lambda _: None)
            self.assertEqual(endpoint.accept().lines(), [written, b"carol old-secret"])

    def test_discards(self) -> None:
        """Messages are not kept, answers are."""
        sending = self.client.send("bob", "hi")
        [ref] = self.refs()
        for _ in range(300):
            self.relay.say(b"%bob%" + b"x" * 8000)
        self.assertEqual(self.relay.producerState, "producing")
        self.relay.say(ref + b"!sent bob")
        self.successResultOf(sending)


class CloseTests(ClientCase):
    """Leaving in order."""

    def test_drain(self) -> None:
        """What was sent is answered, then the connection ends, and nothing was lost."""
        sending = self.client.send("bob", "hi")
        [ref] = self.refs()
        closing = self.client.close()
        self.assertEqual(self.relay.lines(), [b"/quit"])
        self.relay.say(ref + b"!sent bob", b"!bye")
        self.successResultOf(sending)
        self.assertNoResult(closing)
        self.relay.lose()
        self.successResultOf(closing)
        self.assertIsNone(self.client.lost)
        self.assert_ended(self.next())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_quit_as_command(self) -> None:
        """The relay's goodbye ends the command, and the connection as asked for."""
        quitting = self.client.command("/quit")
        ref, _ = self.refs()
        self.relay.say(ref + b"!bye")
        self.assertEqual([reply.word for reply in self.successResultOf(quitting)], ["bye"])
        self.assertTrue(self.client.asked_to_end)
        self.relay.lose()
        self.assertIsNone(self.client.lost)

    def test_twice(self) -> None:
        """Closing again waits for the same end; afterwards there is nothing to wait for."""
        first, second = self.client.close(), self.client.close()
        self.assertEqual(self.relay.lines(), [b"/quit"])
        self.relay.lose()
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.client.close())

    def test_unresponsive(self) -> None:
        """A relay that does not close is not waited for any longer than 10 s."""
        closing = self.client.close()
        self.clock.advance(CLOSE_TIMEOUT_S - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)
        self.assertTrue(self.relay.aborted)

    def test_reason(self) -> None:
        """What the relay said before it closed is the reason."""
        self.relay.say(b"!error unknown-name bob :Not the reason.")
        self.relay.say(b"!error shutting-down :The relay is stopping.")
        self.relay.lose()
        self.assertIn("The relay is stopping.", str(self.client.lost))
        self.assertEqual(self.client.name, "carol")

    def test_reason_in_two_reads(self) -> None:
        """What a read cuts in two is seen, too: the reason here, another name there."""
        for part in (b"!wel", b"come karl :Hi.\n!er", b"ror shutting-down :It is stopping.\n"):
            self.relay.protocol.dataReceived(part)
        self.assertEqual(self.client.name, "karl")
        self.relay.lose()
        self.assertIn("It is stopping.", str(self.client.lost))

    def test_refusals_are_no_reason(self) -> None:
        """An error about a line is not why the connection ended."""
        self.relay.say(b"!error unknown-name bob :Not the reason.")
        self.relay.lose()
        self.assertNotIn("Not the reason", str(self.client.lost))

    def test_reply_type(self) -> None:
        """An error that nobody asked for can be read among the events."""
        reading = ensureDeferred(anext(self.client.events()))
        self.relay.say(b"!error busy :Later.")
        self.assertEqual(self.successResultOf(reading), Reply("error", ("busy",), "Later."))
