"""``--send``: what is said, and the exit status, for all that can become of a message."""

from OpenSSL import SSL
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.framing import MAX_LINE_BYTES
from chatrelay.client.identity import Secret
from chatrelay.client.options import (
    EXIT_LOST,
    EXIT_NOT_DELIVERED,
    EXIT_OK,
    EXIT_ONLY_SENT,
    EXIT_REFUSED,
    EXIT_TIMED_OUT,
    EXIT_UNREACHABLE,
    Task,
)
from chatrelay.client.protocol import Claim
from chatrelay.client.sending import LEAVE_TIMEOUT_S, MAX_PENDING, SendProgram
from tests.client_harness import RelayEndpoint


class Case(SynchronousTestCase):
    """One run of the program, as carol, whose name is owned."""

    def start(
        self,
        text: str | None = "hi",
        wait: str = "sent",
        timeout_s: float = 90.0,
        secret: Secret | None = Secret(b"old-secret"),  # noqa: B008 - never changed
        to: str = "bob",
    ) -> None:
        self.clock = Clock()
        self.endpoint = RelayEndpoint()
        self.said: list[str] = []
        claim = Claim(b"carol", secret=secret)
        task = Task(to, text, wait, timeout_s)
        self.program = SendProgram(self.clock, self.endpoint, claim, task, self.said.append)
        self.stdin = StringTransport()
        if text is None:
            self.program.makeConnection(self.stdin)
        self.ending = ensureDeferred(self.program.run())

    def begin(self, **options) -> list[bytes]:
        self.start(**options)
        return self.connect()

    def connect(self) -> list[bytes]:
        """The next connection; returns the messages that are written at once."""
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!caps ack id receipts", b"!welcome carol max-line=8192 :Hello.")
        self.clock.advance(0)
        return self.messages()

    def messages(self) -> list[bytes]:
        return [line for line in self.relay.lines() if b" %" in line]

    def say(self, line: bytes, *answers: bytes) -> None:
        """Answer a line."""
        ref = line.partition(b" ")[0]
        self.relay.say(*[ref + b" " + answer for answer in answers])

    def assert_status(self, status: int, *said: str) -> None:
        """The status, and the one sentence with these words."""
        self.clock.advance(0)
        if not self.ending.called:
            self.assertEqual(self.relay.lines(), [b"/quit"])
            self.relay.say(b"!bye")
            self.relay.lose()
            self.clock.advance(0)
        self.assertEqual(self.successResultOf(self.ending), status)
        self.assertEqual(len(self.said), 1 if said else 0, self.said)
        for words in said:
            self.assertIn(words, self.said[0])


class SendTests(Case):
    """One message."""

    def test_claim(self) -> None:
        """Nothing is taken from the mailbox of the name, and acks are told."""
        self.start()
        relay = self.endpoint.accept()
        self.assertEqual(relay.lines(), [b"/caps ack receipts ping", b"carol old-secret"])

    def test_outcomes(self) -> None:
        """The status for each answer at each level."""
        refusal = b"!error mailbox-full bob :The mailbox of this name is full."
        for wait, answers, status, said in [
            ("sent", [b"!sent bob"], EXIT_OK, []),
            ("sent", [b"!stored bob id=1"], EXIT_OK, []),
            ("stored", [b"!stored bob id=1"], EXIT_OK, []),
            ("acked", [b"!stored bob id=1", b"!acked bob id=1"], EXIT_OK, []),
            ("stored", [b"!sent bob"], EXIT_ONLY_SENT, ["bob was sent", "not stored"]),
            ("acked", [b"!sent bob"], EXIT_ONLY_SENT, ["bob was sent", "not stored"]),
            ("sent", [refusal], EXIT_NOT_DELIVERED, ["Not delivered to bob", "(mailbox-full)"]),
            ("acked", [refusal], EXIT_NOT_DELIVERED, ["(mailbox-full)"]),
        ]:
            [line] = self.begin(wait=wait)
            self.assertTrue(line.endswith(b" %bob%hi"))
            self.assertNoResult(self.ending)
            self.say(line, *answers)
            self.assert_status(status, *said)

    def test_not_connected(self) -> None:
        """No name, or another server: at once, as the other programs."""
        self.start(secret=None)
        self.endpoint.accept().say(b"!error name-owned carol :Owned.")
        self.assert_status(EXIT_REFUSED, "--secret-file")
        self.start()
        self.endpoint.accept().say(b"220 mail.example ESMTP")
        self.assert_status(EXIT_UNREACHABLE, "not a chatrelay")
        self.start()
        self.endpoint.accept().lose(SSL.Error([("", "", "certificate verify failed")]))
        self.assert_status(EXIT_UNREACHABLE, "certificate verify failed")
        self.start(timeout_s=5)
        self.endpoint.accept()
        self.clock.advance(6)
        self.assert_status(EXIT_UNREACHABLE, "No relay answered within 5 s")

    def test_connected_later(self) -> None:
        """A relay that is not there yet, or refuses for now, is asked until it is there."""
        self.start(timeout_s=1000)
        for code in ("busy", "rate-limited", "shutting-down", "store-failed", "too-many-clients"):
            self.endpoint.accept().say(f"!error {code} :Later.".encode())
            self.wait_for_attempt()
            self.endpoint.refuse(ConnectError())
            self.wait_for_attempt()
        [line] = self.connect()
        [waiting] = self.said
        self.assertIn("(busy). Trying again, for 1000 s in all.", waiting)
        self.said.clear()
        self.say(line, b"!sent bob")
        self.assert_status(EXIT_OK)

    def test_never_connected(self) -> None:
        """The status tells that nothing was sent; the sentence why."""
        self.start(timeout_s=5)
        while not self.ending.called:
            while self.endpoint.attempts:
                self.endpoint.refuse(ConnectError())
            self.clock.advance(0.1)
        self.assertGreaterEqual(self.clock.seconds(), 5)
        self.assertIn("No relay", self.said[0])
        self.assertIn("Trying again", self.said.pop(0))
        self.assert_status(EXIT_UNREACHABLE, "Not connected within 5 s: No relay")

    def wait_for_attempt(self) -> None:
        self.clock.pump([0.1] * 400)  # the longest delay is 30 s
        self.assertTrue(self.endpoint.attempts)

    def test_timed_out(self) -> None:
        """The status is another one than that of a refusal; what is known is said."""
        for wait, answers, said in [
            ("sent", [], "the relay has not answered. It may or may not have arrived."),
            ("acked", [], "Not acked within 5 s: the relay has not answered."),
            ("acked", [b"!stored bob id=1"], "Stored for bob, but not acked within 5 s."),
        ]:
            [line] = self.begin(wait=wait, timeout_s=5)
            self.say(line, *answers)
            self.clock.advance(4.9)
            self.assertNoResult(self.ending)
            self.clock.advance(0.2)
            self.assert_status(EXIT_TIMED_OUT, said)
            self.assertEqual("may or may not" in self.said[0], not answers)

    def test_lost(self) -> None:
        """With an owned name it is asked again, with its ref."""
        [line] = self.begin(wait="stored")
        self.relay.lose(ConnectionLost())
        self.clock.advance(1)
        self.assertEqual(self.connect(), [line])
        self.say(line, b"!stored bob id=1")
        self.assert_status(EXIT_OK)

    def test_lost_with_a_free_name(self) -> None:
        """Without one nobody knows."""
        self.begin(secret=None)
        self.relay.lose(ConnectionLost())
        self.assert_status(EXIT_LOST, "may or may not have arrived")

    def test_not_back_in_time(self) -> None:
        """The time counts from the beginning, over connections; why there is none is said."""
        self.begin(timeout_s=5)
        self.relay.lose(ConnectionLost())
        for _ in range(60):
            self.clock.advance(0.1)
            while self.endpoint.attempts:
                self.endpoint.refuse(ConnectError())
        self.assert_status(EXIT_TIMED_OUT, "Not sent within 5 s: No relay")

    def test_refused_later(self) -> None:
        """A name that was taken away ends it."""
        self.begin()
        self.relay.lose(ConnectionLost())
        for _ in range(2):
            self.clock.advance(1)
            if self.endpoint.attempts:
                self.endpoint.accept().say(b"!error bad-secret carol :Disabled.")
        self.assert_status(EXIT_LOST, "carol was taken from this client")


class RoomTests(Case):
    """A room: only its members may send to it."""

    IN_ROOM = b"!topic #ops :Ops"
    GUEST = b"!error not-in-room #ops :You are not in this room."
    JOINED = (b"!joined #ops carol", b"!members #ops bob carol", b"!end members #ops 2")

    def begin_in(self, *, text: str | None = "hi", **options) -> None:
        """Connect; nothing is sent before it is known that one is in the room."""
        self.assertEqual(self.begin(to="#ops", text=text, **options), [])

    def connect(self) -> list[bytes]:
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!welcome carol max-line=8192 :Hello.")
        self.clock.advance(0)
        return []

    def answer(self, *answers: bytes) -> str:
        """Answer the command that was written last, and its fence; returns it."""
        command, fence = self.relay.lines()[-2:]
        self.say(command, *answers)
        self.say(fence, b"!pong .")
        return command.decode().partition(" ")[2]

    def leaves(self, status: int, *said: str) -> None:
        self.clock.advance(0)
        leave, _, bye = self.relay.lines()
        self.assertEqual((leave.partition(b" ")[2], bye), (b"/leave #ops", b"/quit"))
        self.relay.lose()
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(self.ending), status)
        self.assertEqual(self.said, list(said))

    def test_member(self) -> None:
        """A member sends, and stays one."""
        for answer, status in [(b"!sent #ops", EXIT_OK), (b"!stored #ops id=1", EXIT_OK)]:
            self.begin_in()
            self.assertEqual(self.answer(self.IN_ROOM), "/topic #ops")
            [line] = self.messages()
            self.assertTrue(line.endswith(b" %#ops%hi"))
            self.say(line, answer)
            self.assert_status(status)

    def test_guest(self) -> None:
        """Who is none joins for it, and leaves: a kept room would keep an owned name."""
        self.begin_in(wait="stored")
        self.answer(self.GUEST)
        self.assertEqual(self.answer(*self.JOINED), "/join #ops")
        [line] = self.messages()
        self.say(line, b"!sent #ops")
        self.leaves(
            EXIT_ONLY_SENT,
            "#ops was sent the message, but it is not stored: no member is away, or the room is"
            " not kept.",
        )

    def test_lines(self) -> None:
        """Lines of standard input wait for it as well."""
        self.begin_in(text=None)
        self.assertEqual(self.stdin.producerState, "paused")
        self.answer(self.GUEST)
        self.answer(*self.JOINED)
        self.assertEqual(self.stdin.producerState, "producing")
        self.program.dataReceived(b"a\nb\n")
        self.program.readConnectionLost()
        for line in self.messages():
            self.say(line, b"!sent #ops")
        self.leaves(EXIT_OK)

    def test_refused(self) -> None:
        """A room that is not there is not made, and one that is closed is not entered."""
        self.begin_in()
        self.answer(b"!error unknown-room #ops :There is no such room.")
        self.assert_status(EXIT_NOT_DELIVERED, "Not delivered to #ops: There is no such room.")
        self.begin_in()
        self.answer(self.GUEST)
        self.answer(b"!error not-allowed #ops :Members only.")
        self.assert_status(EXIT_NOT_DELIVERED, "Not delivered to #ops: Members only. (not-allowed)")

    def test_no_topic(self) -> None:
        """What else the relay says of the topic does not matter."""
        self.begin_in()
        self.answer(b"!error not-allowed #ops :Not kept.")
        self.assertEqual(len(self.messages()), 1)

    def test_lost(self) -> None:
        """It is entered on the next connection, and again on the one after that."""
        self.begin_in()
        for _ in range(2):
            self.relay.lose(ConnectionLost())
            self.clock.advance(1)
            self.connect()
        self.answer(self.GUEST)
        self.answer(*self.JOINED)
        [line] = self.messages()
        self.relay.lose(ConnectionLost())
        self.clock.advance(1)
        self.relay = self.endpoint.accept()
        self.relay.lines()
        self.relay.say(b"!welcome carol max-line=8192 :Hello.")
        self.clock.advance(0)
        asked, again = (line for line in self.relay.lines() if b"/token" not in line)
        self.assertTrue(asked.endswith(b" /join #ops"))
        self.assertEqual(again, line)
        self.say(again, b"!sent #ops")
        self.leaves(EXIT_OK)

    def test_joined_and_lost(self) -> None:
        """The relay may have joined it for a connection that is gone: it leaves all the same."""
        self.begin_in()
        self.answer(self.GUEST)
        self.assertTrue(self.relay.lines()[0].endswith(b" /join #ops"))
        self.relay.lose(ConnectionLost())
        self.clock.advance(1)
        self.connect()
        self.answer(self.IN_ROOM)
        [line] = self.messages()
        self.say(line, b"!sent #ops")
        self.leaves(EXIT_OK)

    def test_interrupted(self) -> None:
        """A signal ends the program: the room is left, and a silent relay not waited for."""
        for is_answered in (True, False):
            self.begin_in(text=None)
            self.answer(self.GUEST)
            self.answer(*self.JOINED)
            ending = self.program.interrupted()
            self.assertNoResult(ending)
            if is_answered:
                self.assertEqual(self.answer(b"!left #ops carol"), "/leave #ops")
            else:
                self.clock.advance(LEAVE_TIMEOUT_S)
            self.successResultOf(ending)
            self.successResultOf(self.program.interrupted())

    def test_left_too_late(self) -> None:
        """Nor is the room forgotten, in which a message has taken too long."""
        self.begin_in(timeout_s=5)
        self.answer(self.GUEST)
        self.answer(*self.JOINED)
        self.clock.advance(6)
        self.assertEqual(self.successResultOf(self.ending), EXIT_TIMED_OUT)
        ending = self.program.interrupted()  # as whenever the reactor stops
        self.assertNoResult(ending)
        self.assertEqual(self.answer(b"!left #ops carol"), "/leave #ops")
        self.successResultOf(ending)

    def test_interrupted_early(self) -> None:
        """Nothing is left that was not entered."""
        self.start(to="#ops")
        self.successResultOf(self.program.interrupted())
        self.begin_in()
        self.answer(self.IN_ROOM)
        self.successResultOf(self.program.interrupted())

    def test_timed_out(self) -> None:
        """A relay that does not answer is not waited for longer than a message."""
        self.begin_in(timeout_s=5)
        self.clock.advance(6)
        self.assert_status(EXIT_TIMED_OUT, "Not in #ops within 5 s: the relay has not answered.")


class LinesTests(Case):
    """Each line of standard input is a message."""

    def test_lines(self) -> None:
        """They go at once, in order; it ends when all are done."""
        self.begin(text=None)
        self.assertEqual(self.stdin.producerState, "producing")
        self.program.dataReceived(b"one\n\ntwo\r\n%x%y\nthr")
        first = self.messages()
        self.program.dataReceived(b"ee")
        self.program.readConnectionLost()
        lines = first + self.messages()
        self.assertEqual(
            [line.partition(b" ")[2] for line in lines],
            [b"%bob%one", b"%bob%two", b"%bob%%x%y", b"%bob%three"],
        )
        for line in reversed(lines):
            self.assertNoResult(self.ending)
            self.say(line, b"!stored bob id=1")
        self.assert_status(EXIT_OK)

    def test_nothing(self) -> None:
        """No line, no message."""
        self.begin(text=None)
        self.program.readConnectionLost()
        self.assert_status(EXIT_OK)

    def test_read_before_the_welcome(self) -> None:
        """Input that was there first waits for the name."""
        self.start(text=None)
        self.assertEqual(self.stdin.producerState, "paused")
        self.program.dataReceived(b"early\n")
        self.program.readConnectionLost()
        [line] = self.connect()
        self.say(line, b"!sent bob")
        self.assert_status(EXIT_OK)

    def test_failures(self) -> None:
        """The first failure is told, with its line; the others are sent all the same."""
        self.begin(text=None)
        self.program.dataReceived(b"a\nb\xff\nc\x1b\nd\n" + b"x" * 9000 + b"\ne\n")
        self.program.dataReceived(b"x" * (MAX_LINE_BYTES + 1))
        self.program.dataReceived(b"\n")
        self.program.readConnectionLost()
        lines = self.messages()
        self.assertEqual([line[-1:] for line in lines], [b"a", b"d", b"e"])
        for line in lines:
            self.say(line, b"!sent bob")
        self.assert_status(EXIT_NOT_DELIVERED, "Line 2: It is not UTF-8.", "3 of 7 messages")

    def test_numbers(self) -> None:
        """A line's number is its place in the input, empty and dropped ones counted."""
        long = b"x" * (MAX_LINE_BYTES + 1)
        for given, number in [
            ([b"a\n\n\r\n\xff\n"], 4),
            ([b"a\nb\n" + long, b"\nc\n"], 3),
            ([b"a\n" * 2000 + long], 2001),
            ([long, b"x\n\xff\n"], 1),
            ([b"\n\xff\n" + long], 2),
            ([b"\n\xff"], 2),
        ]:
            self.begin(text=None)
            for data in given:
                self.program.dataReceived(data)
            self.program.readConnectionLost()
            while self.program._pending:
                for line in self.messages():
                    self.say(line, b"!sent bob")
            self.assert_status(EXIT_NOT_DELIVERED, f"Line {number}: ")

    def test_worst(self) -> None:
        """Of several failures the status is that of the worst."""
        self.begin(text=None, wait="stored", secret=None)
        self.program.dataReceived(b"a\nb\nc\n")
        self.program.readConnectionLost()
        first, second, _ = self.messages()
        self.say(first, b"!sent bob")
        self.say(second, b"!error blocked bob :No.")
        self.relay.lose(ConnectionLost())
        self.assert_status(EXIT_LOST, "Line 1: bob was sent the message")

    def test_back_pressure(self) -> None:
        """No more is read while as much is on its way as may be."""
        self.begin(text=None)
        self.program.dataReceived(b"x\n" * (MAX_PENDING + 1))
        lines = self.messages()
        self.assertEqual(len(lines), MAX_PENDING)
        self.assertEqual(self.stdin.producerState, "paused")
        self.say(lines[0], b"!sent bob")
        self.assertEqual(len(self.messages()), 1)
        self.assertEqual(self.stdin.producerState, "producing")

    def test_timed_out(self) -> None:
        """The time is each message's own; when one has had it nothing more is sent."""
        self.begin(text=None, timeout_s=5)
        for _ in range(3):
            self.program.dataReceived(b"x\n")
            self.clock.advance(4)
            self.say(self.messages()[0], b"!sent bob")
        self.program.dataReceived(b"y\nz\n")
        self.clock.advance(6)
        self.assertEqual(self.stdin.producerState, "paused")
        self.assert_status(EXIT_TIMED_OUT, "Line 4: Not sent within 5 s")
