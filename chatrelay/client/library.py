"""
The client for programs: connect, send, iterate over what arrives, close.

See docs/library.rst for a walk through it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatrelay.client import core
from chatrelay.client.commands import Commands, raise_refusal
from chatrelay.client.core import (
    LEVELS,
    Answer,
    Disconnected,
    Event,
    Level,
    Message,
    OnlySent,
    Outcome,
    Reply,
)
from chatrelay.client.identity import holds_secret
from chatrelay.client.outgoing import MAX_UNANSWERED, Outgoing
from chatrelay.client.protocol import DEFAULT_MAX_LINE_BYTES, ClientProtocol
from chatrelay.errors import Insecure, Misuse, Refusal

__all__ = ["MAX_UNANSWERED", "Client"]

HIGH_WATER_BYTES = 1024 * 1024
"""Unread bytes, with `EVENT_BYTES`, above which nothing more is read from the relay."""
MAX_UNREAD_BYTES = 64 * HIGH_WATER_BYTES
"""The same while an answer is awaited, which can only be behind what is unread."""
EVENT_BYTES = 500
"""Counted for each unread line besides its bytes: what its objects take in memory."""
CLOSE_TIMEOUT_S = 10.0


class Client(Commands):
    """
    A connection with a name, as `connect` and `Reconnector` give it.

    ``async for message in client`` yields what is sent to the name, in order, and ends
    when the connection does; `lost` then says why.  What had arrived is yielded first.
    What other connections of the name sent is not addressed to this one: it is yielded,
    with its `Message.to`, only while the relay has granted the cap ``echo``.

    Unread messages are kept up to `HIGH_WATER_BYTES`; then the connection is not read
    until the program iterates, the relay holds those who write to it, and ends the
    connection of a free name after 10 s of that.  While an answer is awaited more is
    read, up to `MAX_UNREAD_BYTES`, so that a loop that answers each message goes on.
    A program that only sends connects with ``receiving=False``.

    :ivar lost: why the connection ended, once it has; ``None`` before, and when this
        side ended it with `close` or ``/quit``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        receiving: bool = True,
        on_arrival: Callable[[Event], None] | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        """
        Use `connect`, unless events are to be seen before they are iterated over.

        :param outgoing: what is asked, if that outlives this connection.
        :param on_arrival: called with everything unasked when it arrives, whatever is
            still unread before it.
        """
        self.lost: Disconnected | None = None
        self._clock = clock
        self._receiving = receiving
        self._on_arrival = on_arrival or (lambda _: None)
        self._connection: ClientProtocol | None = None
        self._outgoing = outgoing if outgoing is not None else Outgoing(clock.seconds)
        self._max_line_bytes = DEFAULT_MAX_LINE_BYTES
        self._unread: deque[tuple[Event, int]] = deque()
        self._unread_bytes = 0
        self._paused = False
        self._readers: deque[Deferred[Event]] = deque()
        self._ended = False
        self._said_bye = False
        self._caps: tuple[str, ...] = ()
        self._close_timer: IDelayedCall | None = None
        self._waiting_for_end: list[Deferred[None]] = []
        self._name = ""
        self._joined: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name this client has, as the relay shows it."""
        return self._connection.name if self._connection is not None else self._name

    @property
    def is_registered(self) -> bool:
        """Whether the name was granted for a secret, or has been given one since."""
        return self._connection is not None and self._connection.identity.is_registered

    @property
    def joined(self) -> tuple[str, ...]:
        """
        The rooms that this client has joined, each with its ``#``.

        `chatrelay.client.reconnect.stay_connected` joins them again on each connection.
        """
        if self._connection is None:
            return self._joined
        return self._connection.identity.membership.rooms

    @property
    def caps(self) -> tuple[str, ...]:
        """What the relay adds to its lines on this connection."""
        return self._caps

    def check_message(self, names: Sequence[str], text: str) -> None:
        """
        Check what `send_each` would be given.

        :raises Misuse: it can not be sent.
        """
        core.message_line(names, text, self._max_line())

    def check_confidential(self) -> None:
        """
        Check that a secret may be sent to the relay.

        :raises Insecure: others could read it on this connection.
        """
        if self._connection is not None:
            self._connection.check_confidential()

    @property
    def asked_to_end(self) -> bool:
        """Whether this side asked the relay to end the connection."""
        return self._said_bye

    # -- sending

    def send(
        self,
        to: str,
        text: str,
        wait: Level = "sent",
        on_answer: Callable[[Answer], None] | None = None,
    ) -> Deferred[Answer]:
        """
        Send a message to one name.

        :param to: a name; or a room with its ``#``; or ``*`` for everyone.
        :param text: one line, of what `chatrelay.wire.check_text` takes.
        :param wait: what is waited for: that the message is at least ``sent``, at least
            ``stored`` in the log of an owned name, or ``acked`` by its program, for which
            this connection needs the cap ``receipts``; of a room that is not told.
        :param on_answer: called with the `Answer` as soon as it is known, and if it is asked for
            again on another connection again, be more waited for or not.
        :returns: fires with the `Answer` when it is true.  Fails with a
            `chatrelay.errors.Refusal`, as `UnknownName`; with `OnlySent`, if more was to be
            waited for; with `Disconnected`, whose `may_have_arrived` says what is known;
            or with `TooMuchWaiting`.
        :raises Misuse: at once, for what can not be sent or waited for.

        At most `MAX_UNANSWERED` lines are on their way; more wait, in order.
        Cancelling stops the waiting; it unsends only what was not written.
        """
        sending = self._send([to], text, wait, on_answer)
        return sending.addCallback(_only_outcome).addCallback(_raise_only_sent, wait)

    def send_each(
        self, names: Sequence[str], text: str, wait: Level = "sent"
    ) -> Deferred[list[Outcome]]:
        """
        Send a message to each of 1 to 32 names.

        :param wait: as in `send`; an `Answer` whose `state` is ``sent`` is as much as that
            name can give.
        :returns: fires with an `Answer` or a `Refusal`, not raised, for each name, in
            their order; a name given twice is one.  Fails with `Disconnected` or
            `TooMuchWaiting`.
        :raises Misuse: at once, for what can not be sent or waited for.
        """
        return self._send(names, text, wait)

    def _send(
        self,
        targets: Sequence[str],
        text: str,
        wait: Level,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> Deferred[list[Outcome]]:
        core.check_level(wait, targets)
        if wait == "acked" and self._connection is not None and "receipts" not in self._caps:
            raise Misuse(
                "To wait for an ack, ask for the cap 'receipts'; the relay has to have it."
            )
        line, answered = core.message_line(targets, text, self._max_line())
        asking = self._outgoing.ask_message(line, answered, wait, on_answer)
        self._set_paused()  # an answer is awaited now
        return asking

    def command(self, line: str) -> Deferred[list[Event]]:
        """
        Send any command.

        :param line: ``/VERB`` and its arguments.
        :returns: fires with the lines of the answer, perhaps none.  Fails with the
            first `Refusal` among them, with `Insecure` for a secret that others could
            read and that is not sent, or with `Disconnected`.
        :raises Misuse: at once, for what can not be sent.
        """
        return self._command_line(line, is_one_line=False)

    def one_line_command(self, line: str) -> Deferred[list[Event]]:
        """`command` for one that is answered by one line, when its effect is kept."""
        return self._command_line(line, is_one_line=True)

    def _command_line(self, line: str, *, is_one_line: bool) -> Deferred[list[Event]]:
        written = core.command_line(line, self._max_line())
        if holds_secret(line):
            try:
                self.check_confidential()
            except Insecure as refusal:
                return fail(refusal)
        if self._connection is None:
            return fail(Disconnected("There is no connection."))
        asking = self._outgoing.ask_command(written, is_one_line=is_one_line)
        self._set_paused()
        return asking.addCallback(raise_refusal)

    def _max_line(self) -> int:
        if self._connection is not None:
            self._max_line_bytes = self._connection.max_line_bytes
        return self._max_line_bytes

    # -- receiving

    def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the messages; replies that come between them are passed over."""
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message."""
        while True:
            event = await self._next_event()
            if isinstance(event, Message) and (event.to is None or "echo" in self._caps):
                return event

    async def events(self) -> AsyncIterator[Event]:
        """
        Iterate over everything that arrives unasked, in order.

        Besides each `Message` there is a `Reply` for what the relay tells, as
        ``online`` and ``offline`` of a watched name or an ``error`` before it closes.
        It takes from the same queue as the iteration over messages.
        """
        with suppress(StopAsyncIteration):
            while True:
                yield await self._next_event()

    def _next_event(self) -> Deferred[Event]:
        if self._unread:
            event, size = self._unread.popleft()
            self._unread_bytes -= size
            self._set_paused()
            return succeed(event)
        if self._ended:
            return fail(StopAsyncIteration())
        reader: Deferred[Event] = Deferred(self._readers.remove)
        self._readers.append(reader)
        return reader

    def name_granted(self, connection: ClientProtocol) -> None:
        """The name was granted: for `open_connection`."""
        self._connection = connection
        self._outgoing.attach(connection)

    def lines_received(self, lines: list[bytes]) -> None:
        """What came from the relay: for the connection."""
        for line in lines:
            if not line:
                continue
            event = core.parse_line(line)
            # Whether or not it answers a command of this program.
            self._said_bye = self._said_bye or core.is_bye(event)
            if isinstance(event, Reply) and event.word == "caps":
                self._caps = tuple(cap for cap in event.arguments if cap != "none")
            if self._outgoing.take(event, len(line)) or self._serve(event):
                continue
            self._on_arrival(event)
            if self._readers:
                self._readers.popleft().callback(event)
            elif self._receiving:
                size = len(line) + EVENT_BYTES
                self._unread.append((event, size))
                self._unread_bytes += size
        self._set_paused()

    def _serve(self, event: Event) -> bool:
        """Do what needs no program: whether the event is dealt with."""
        if not isinstance(event, Reply):
            return False
        if event.word == "ping" and self._connection is not None:
            self._connection.write_lines([" ".join(["/pong", *event.arguments]).encode("utf-8")])
        return event.word in ("ping", "pong", "bye", "welcome", "hello", "caps")

    def _set_paused(self) -> None:
        mark = HIGH_WATER_BYTES // 2 if self._paused else HIGH_WATER_BYTES
        if self._outgoing.awaits_answer or self._close_timer is not None:
            mark = MAX_UNREAD_BYTES
        paused = self._unread_bytes >= mark
        if self._connection is not None and paused is not self._paused:
            self._paused = paused
            if paused:
                self._connection.transport.pauseProducing()
            else:
                self._connection.transport.resumeProducing()

    # -- the end

    def close(self) -> Deferred[None]:
        """
        End the connection in order: ``/quit``.

        What was sent before is handled and answered first.  What arrives until then can
        still be iterated over.

        :returns: fires with ``None`` when the connection has ended, which is made sure
            of after `CLOSE_TIMEOUT_S`; at once if it had.  It does not fail.
        """
        if self._ended or self._connection is None:
            self._ended = True
            return succeed(None)
        if self._close_timer is None:
            self._connection.write_lines([b"/quit"])
            self._said_bye = True
            self._close_timer = self._clock.callLater(
                CLOSE_TIMEOUT_S, self._connection.abort, "The relay did not end the connection."
            )
            self._set_paused()
        return self.when_ended()

    def when_ended(self) -> Deferred[None]:
        """Fires with ``None`` when the connection has ended, however; at once if it had."""
        if self._ended:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_end.append(waiting)
        return waiting

    def connection_lost(self, error: Disconnected, *, clean: bool) -> None:  # noqa: ARG002
        """The connection ended: for the connection."""
        self._name, self._joined = self.name, self.joined
        self._max_line()
        self._ended = True
        self._connection = None
        self.lost = None if self._said_bye else error
        if self._close_timer is not None:
            with suppress(AlreadyCalled, AlreadyCancelled):
                self._close_timer.cancel()
        self._outgoing.detach(error)
        while self._readers:
            self._readers.popleft().errback(StopAsyncIteration())
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for ended in waiting:
            ended.callback(None)


def _only_outcome(outcomes: list[Outcome]) -> Answer:
    [outcome] = outcomes
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome


def _raise_only_sent(answer: Answer, wait: Level) -> Answer:
    if LEVELS.index(answer.state) < LEVELS.index(wait):
        raise OnlySent(answer)
    return answer
