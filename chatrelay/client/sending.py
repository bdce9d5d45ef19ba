"""
``--send``: messages are sent, and the exit status tells what became of them.

See docs/client.rst, *Send and be sure*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.client.core import Answer, Disconnected, OnlySent, is_room
from chatrelay.client.failures import ignore
from chatrelay.client.framing import MAX_LINE_BYTES, InputLines
from chatrelay.client.library import Client
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
from chatrelay.client.outgoing import Outgoing
from chatrelay.client.protocol import Claim
from chatrelay.client.reconnect import Reconnector, Trouble
from chatrelay.client.refused import Proof, why_refused
from chatrelay.errors import ChatrelayError, Misuse, NotInRoom, Refusal, UnknownRoom

MAX_PENDING = 1000
"""Messages on their way; more of the input is read when one of them is done."""

LEAVE_TIMEOUT_S = 2.0

# Under a name of one's own nothing is acked, so that its mail comes again to who reads it.
_CAPS = ("ack", "receipts", "ping")
# Of several failures the exit status tells the first of these.
_WORST_FIRST = (EXIT_LOST, EXIT_TIMED_OUT, EXIT_NOT_DELIVERED, EXIT_ONLY_SENT)


@implementer(IHalfCloseableProtocol)
class SendProgram(Protocol):
    """One run of the program; the protocol of standard input, if that is what is sent."""

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        claim: Claim,
        task: Task,
        say: Callable[[str], None],
    ) -> None:
        """
        Begin with `run`.

        :param claim: the name, with its secret or a token if it is registered.
        :param say: shows the user one sentence, on standard error.
        """
        self._clock = clock
        self._claim = claim
        self._task = task
        self._say = say
        self._outgoing = Outgoing(clock.seconds, keeps=True)
        self._reconnector = Reconnector(
            clock,
            endpoint,
            claim._replace(caps=_CAPS),
            self._make_client,
            insists=True,
            on_trouble=self._on_trouble,
            on_end=self._outgoing.end,
        )
        self._client: Client | None = None
        self._trouble: ChatrelayError | None = None
        self._input = InputLines(None)
        self._input_ended = task.text is not None
        # Lines that were read and are not sent yet, by their numbers.
        self._unsent: deque[tuple[int, bytes]] = deque()
        if task.text is not None:
            self._unsent.append((0, task.text.encode("utf-8")))
        self._may_send = not is_room(task.to)
        self._may_have_joined = False
        self._entering: IDelayedCall | None = None
        self._lines_read = 0
        self._messages = 0
        self._pending = 0
        self._first_failure: tuple[int, str] | None = None
        self._statuses: set[int] = set()
        self._failures = 0
        self._finished: Deferred[None] = Deferred()
        self._is_over = False

    async def run(self) -> int:
        """Run to the end, with a transport if standard input is sent; returns the status."""
        connecting = ensureDeferred(self._reconnector.__anext__())
        connecting.addTimeout(self._task.timeout_s, self._clock)
        try:
            client = await connecting
        except TimedOut:
            self._say(self._why_no_relay())
            return EXIT_UNREACHABLE
        except Refusal as refusal:
            self._say(self._why_refused(refusal, was_connected=False))
            return EXIT_REFUSED
        except ChatrelayError as error:
            self._say(str(error))
            return EXIT_UNREACHABLE
        self._client = client
        ensureDeferred(self._follow(client)).addErrback(self._finished.errback)
        await self._finished
        if self._first_failure is not None:
            self._say(self._what_failed(*self._first_failure))
        # A relay that does not answer is not waited for longer than `interrupted` does.
        if EXIT_TIMED_OUT not in self._statuses:
            self._leave()
            await self._reconnector.close()
        return next((status for status in _WORST_FIRST if status in self._statuses), EXIT_OK)

    def interrupted(self) -> Deferred[None]:
        """The program ends, perhaps by a signal; fires when it may, within `LEAVE_TIMEOUT_S`."""
        self._is_over = True
        return self._leave().addTimeout(LEAVE_TIMEOUT_S, self._clock).addErrback(_too_late)

    def _leave(self) -> Deferred[None]:
        """Leave the room: a registered name would stay a member of one that is kept."""
        if self._client is None or not self._may_have_joined:
            return succeed(None)
        self._may_have_joined = False
        return self._client.leave(self._task.to).addErrback(ignore)

    def _make_client(self) -> Client:
        return Client(self._clock, receiving=False, outgoing=self._outgoing)

    async def _follow(self, client: Client) -> None:
        """See one connection follow another, until there is none."""
        if not self._may_send:
            self._entering = self._clock.callLater(self._task.timeout_s, self._enters_too_late)
        try:
            while True:
                self._client, self._trouble = client, None
                await self._enter(client)
                self._go_on()
                await client.when_ended()
                client = await self._reconnector.__anext__()
        except StopAsyncIteration:
            pass
        except Refusal as refusal:
            self._end(EXIT_LOST, self._why_refused(refusal, was_connected=True))
        except ChatrelayError as error:
            self._end(EXIT_LOST, str(error))

    async def _enter(self, client: Client) -> None:
        """Be in the room, if it is one that messages go to: only its members may send to it."""
        room = self._task.to
        try:
            if not self._may_send:
                await self._join_existing(client, room)
                self._may_send = True
                self._stop_entering()
        except Disconnected:
            pass  # tried again on the next connection
        except Refusal as refusal:
            self._end(EXIT_NOT_DELIVERED, self._not_delivered(refusal))

    def _stop_entering(self) -> None:
        if self._entering is not None and self._entering.active():
            self._entering.cancel()

    def _enters_too_late(self) -> None:
        sentence = f"Not in {self._task.to} within {self._task.timeout_s:g} s:"
        self._end(EXIT_TIMED_OUT, f"{sentence} {self._why_no_answer()} Nothing was sent.")

    def _why_no_answer(self) -> str:
        return "the relay has not answered." if self._trouble is None else str(self._trouble)

    async def _join_existing(self, client: Client, room: str) -> None:
        """Join a room, unless one is in it; none is made, in which nobody would read."""
        try:
            await client.topic(room)
        except UnknownRoom:
            raise
        except NotInRoom:
            self._may_have_joined = True  # if the connection is lost before that is answered, too
            try:
                await client.join(room)
            except Refusal:
                self._may_have_joined = False
                raise
        except Refusal:
            pass  # whether a message is taken is what counts

    def _not_delivered(self, refusal: Refusal) -> str:
        return f"Not delivered to {self._task.to}: {refusal.sentence} ({refusal.code})"

    def _why_refused(self, refusal: Refusal, *, was_connected: bool) -> str:
        proof = Proof.NONE if self._claim.secret is None else Proof.GIVEN
        name = self._reconnector.identity.name
        return why_refused(refusal, name, proof, was_connected=was_connected)

    def _why_no_relay(self) -> str:
        within = f"within {self._task.timeout_s:g} s"
        if self._trouble is None:
            return f"No relay answered {within}. Nothing was sent."
        return f"Not connected {within}: {self._sentence(self._trouble)} Nothing was sent."

    def _sentence(self, error: ChatrelayError) -> str:
        if isinstance(error, Refusal):
            return f"{self._why_refused(error, was_connected=False)}."
        return str(error)

    def _on_trouble(self, trouble: Trouble) -> None:
        if self._client is None and self._trouble is None:
            limit = f"{self._task.timeout_s:g} s"
            self._say(f"{self._sentence(trouble.error)} Trying again, for {limit} in all.")
        self._trouble = trouble.error

    # -- messages

    def _send(self, number: int, text: str) -> None:
        stored: list[Answer] = []
        if self._client is None:
            return
        try:
            sending = self._client.send(
                self._task.to, text, self._task.wait, on_answer=stored.append
            )
        except Misuse as misuse:
            self._failed(number, EXIT_NOT_DELIVERED, f"{misuse} Not sent.")
            return
        self._pending += 1
        sending.addTimeout(self._task.timeout_s, self._clock)
        sending.addErrback(self._not_reached, number, stored)
        sending.addCallback(lambda _: self._settled())

    def _not_reached(self, failure: Failure, number: int, stored: list[Answer]) -> None:
        error = failure.value
        if isinstance(error, Refusal):
            self._failed(number, EXIT_NOT_DELIVERED, self._not_delivered(error))
        elif isinstance(error, OnlySent):
            self._failed(number, EXIT_ONLY_SENT, str(error))
        elif isinstance(error, Disconnected):
            self._failed(number, EXIT_LOST, str(error))
        elif isinstance(error, TimedOut):
            self._end(EXIT_TIMED_OUT, self._why_so_long(stored), number)
        else:
            failure.raiseException()

    def _why_so_long(self, stored: list[Answer]) -> str:
        limit = f"within {self._task.timeout_s:g} s"
        if stored:
            return f"Stored for {self._task.to}, but not acked {limit}."
        why = self._why_no_answer()
        return f"Not {self._task.wait} {limit}: {why} It may or may not have arrived."

    def _settled(self) -> None:
        self._pending -= 1
        self._go_on()

    def _failed(self, number: int, status: int, sentence: str) -> None:
        if not self._is_over:
            self._failures += 1
            self._statuses.add(status)
            if self._first_failure is None or number < self._first_failure[0]:
                self._first_failure = number, sentence

    def _end(self, status: int, sentence: str, number: int = 0) -> None:
        """Go no further: what is on its way is not waited for."""
        self._failed(number, status, sentence)
        self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._stop_entering()
            if self._task.text is None:
                self.transport.pauseProducing()
            self._finished.callback(None)

    def _what_failed(self, number: int, sentence: str) -> str:
        if not number:
            return sentence
        others = self._failures - 1
        more = f" Others, too: {others} of {self._messages} messages." if others else ""
        return f"Line {number}: {sentence}{more}"

    # -- standard input

    def connectionMade(self) -> None:
        """Standard input is not read before the welcome."""
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Something was read from standard input."""
        dropped = self._input.dropped
        self._take(self._input.feed(data))
        if self._input.dropped > dropped:  # it is the last one of what was read
            self._lines_read += 1
            self._messages += 1
            self._failed(
                self._lines_read,
                EXIT_NOT_DELIVERED,
                f"It is longer than {MAX_LINE_BYTES} bytes. Not sent.",
            )
        self._go_on()

    def readConnectionLost(self) -> None:
        """Standard input has ended."""
        self._take(self._input.finish())
        self._input_ended = True
        self._go_on()

    def writeConnectionLost(self) -> None:
        """Nothing is printed."""

    def _take(self, data: bytes) -> None:
        for line in data.split(b"\n")[:-1]:
            self._lines_read += 1
            if text := line.removesuffix(b"\r"):
                self._messages += 1
                self._unsent.append((self._lines_read, text))

    def _go_on(self) -> None:
        """Send what was read, read more, or finish."""
        if self._is_over or self._client is None or not self._may_send:
            return
        while self._unsent and self._pending < MAX_PENDING:
            self._send_line(*self._unsent.popleft())
        if self._task.text is None and not self._input_ended:
            if self._unsent:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()
        elif not self._unsent and not self._pending:
            self._finish()

    def _send_line(self, number: int, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self._failed(number, EXIT_NOT_DELIVERED, "It is not UTF-8. Not sent.")
        else:
            self._send(number, text)


def _too_late(failure: Failure) -> None:
    failure.trap(TimedOut)
