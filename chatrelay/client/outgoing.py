"""
What a program asks its relay: queued, written with refs, answered, and written again.

It outlives connections, so that what was not answered on one goes again on the next with its
ref, which makes asking again safe for a name that is owned: its refs belong to the name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, fail

from chatrelay.client.answers import ASK_AGAIN_WITHIN_S, Answers, AskedMessage
from chatrelay.client.core import (
    Answer,
    Disconnected,
    Event,
    Level,
    Outcome,
    TooMuchWaiting,
)
from chatrelay.client.protocol import ClientProtocol

MAX_UNANSWERED = 1000
"""Lines from the first that waits for its answer on; the relay remembers as many refs."""
MAX_KEPT = 10_000
"""Messages that are kept over a loss, written or not."""
MAX_KEPT_BYTES = 16 * 1024 * 1024

_ENDED = "The connection ended before this was sent."


@dataclass(slots=True, eq=False)
class _Asked:
    """
    Something asked, until it is answered.

    :ivar write: makes the lines; ``None`` once a message has its ref.
    :ivar message: of a message that was written.
    :ivar owner: the owned name under which it was written; ``None``: its ref has ended
        with the connection.
    :ivar number: the messages that were written before it.
    """

    answer: Deferred[Any]
    write: Callable[[_Asked], list[bytes]]
    size_bytes: int
    is_message: bool
    message: AskedMessage | None = None
    owner: bytes | None = None
    first_written_s: float = 0.0
    number: int = 0


class Outgoing:
    """
    What waits to be written or answered, in the order in which it was asked.

    At most `MAX_UNANSWERED` lines are on their way; more wait.  No message is asked again after
    which as many others were written: the relay may have forgotten its ref.

    :ivar keeps: whether messages wait for another connection when one is lost.
    """

    def __init__(self, seconds: Callable[[], float], *, keeps: bool = False) -> None:
        """
        Begin without a connection.

        :param seconds: tells the time.
        """
        self.keeps = keeps
        self._seconds = seconds
        self._answers = Answers(token_hex(6).encode("ascii") + b"-")
        self._connection: ClientProtocol | None = None
        self._waiting: deque[_Asked] = deque()
        # Dicts for their order: what is on its way, and what waits for its receipts only.
        self._written: dict[_Asked, None] = {}
        self._unacked: dict[_Asked, None] = {}
        self._messages = 0
        self._kept = 0
        self._kept_bytes = 0
        self._ended: str | None = None

    @property
    def awaits_answer(self) -> bool:
        """Whether the relay owes an answer."""
        return bool(self._written or self._unacked)

    # -- what is asked

    def ask_message(
        self,
        line: bytes,
        targets: list[str],
        wait: Level,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> Deferred[list[Outcome]]:
        """
        Send a message.

        :param line: without tags and end.
        :param targets: those that are answered, in order.
        :param wait: how much is waited for.
        :param on_answer: called with what is answered for each target, refusals left out.
        :returns: fires with an outcome for each target.  Fails with `Disconnected`, or with
            `TooMuchWaiting`.
        """

        def write(asked: _Asked) -> list[bytes]:
            if asked.message is None:
                asked.message = self._answers.ask_message(
                    line,
                    targets,
                    lambda outcomes: self._done(asked, outcomes),
                    wait,
                    lambda: self._answered(asked, on_answer),
                )
                return [asked.message.line]
            return [self._answers.ask_again(asked.message)]

        if self.keeps and (self._kept >= MAX_KEPT or self._kept_bytes + len(line) > MAX_KEPT_BYTES):
            return fail(
                TooMuchWaiting(
                    f"{self._kept} messages with {self._kept_bytes} bytes wait for a connection"
                    " or an answer already; this one is not sent."
                )
            )
        self._kept += 1
        self._kept_bytes += len(line)
        return self._ask(write, len(line), is_message=True)

    def ask_command(self, line: bytes, *, is_one_line: bool = False) -> Deferred[list[Event]]:
        """
        Send a command on this connection.

        :param is_one_line: whether its answer is one line, which comes when its effect is
            kept, be it after the answers to later lines.
        :returns: fires with the lines of the answer.  Fails with `Disconnected`.
        """
        ask = self._answers.ask_one_line if is_one_line else self._answers.ask_command

        def write(asked: _Asked) -> list[bytes]:
            return ask(line, lambda events: self._done(asked, events))

        return self._ask(write, len(line), is_message=False)

    def _ask(
        self, write: Callable[[_Asked], list[bytes]], size_bytes: int, *, is_message: bool
    ) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda _: self._cancelled(asked))
        asked = _Asked(answer, write, size_bytes, is_message)
        if self._ended is not None:
            self._fail(asked, self._ended)
        else:
            self._waiting.append(asked)
            self._write()
        return answer

    def _cancelled(self, asked: _Asked) -> None:
        # What was written keeps its place until it is answered: the relay does it anyway.
        if asked in self._waiting:
            self._waiting.remove(asked)
            self._drop(asked)
        elif asked in self._unacked:
            del self._unacked[asked]
            self._drop(asked)
        elif asked.message is not None:
            asked.message.wait = "sent"  # its ack may never come

    def _may_write(self, asked: _Asked) -> bool:
        if len(self._written) >= MAX_UNANSWERED:
            return False
        if asked.message is not None or not self._written:
            return True
        return self._messages - next(iter(self._written)).number < MAX_UNANSWERED

    def _write(self) -> None:
        while self._connection is not None and self._waiting and self._may_write(self._waiting[0]):
            asked = self._waiting.popleft()
            if asked.message is None:
                asked.number = self._messages
                asked.first_written_s = self._seconds()
                asked.owner = self._connection.refs_owner
                self._messages += asked.is_message
            self._written[asked] = None
            self._connection.write_lines(asked.write(asked))

    # -- what is answered

    def take(self, event: Event, size_bytes: int) -> bool:
        """Whether a line, of so many bytes, was an answer to something asked here."""
        return self._answers.take(event, size_bytes)

    def _answered(self, asked: _Asked, on_answer: Callable[[Answer], None] | None) -> None:
        if on_answer is not None and asked.message is not None:
            for outcome in list(asked.message.outcomes.values()):
                if isinstance(outcome, Answer):
                    on_answer(outcome)
        if asked in self._written:
            del self._written[asked]
            self._unacked[asked] = None
            self._write()

    def _done(self, asked: _Asked, result: list[Any]) -> None:
        self._written.pop(asked, None)
        self._unacked.pop(asked, None)
        self._drop(asked)
        self._write()
        if not asked.answer.called:
            asked.answer.callback(result)

    def _drop(self, asked: _Asked) -> None:
        if asked.message is not None:
            self._answers.forget(asked.message)
        if asked.is_message:
            self._kept -= 1
            self._kept_bytes -= asked.size_bytes

    # -- connections

    def attach(self, connection: ClientProtocol) -> None:
        """There is a connection: what waits is written, what was not answered again first."""
        self._connection = connection
        owner = connection.refs_owner
        lost: list[tuple[_Asked, str]] = []
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if asked.message is None:
                self._waiting.append(asked)
            elif asked.owner != owner:
                lost.append((asked, f"This client is {connection.name} now."))
            elif self._is_remembered(asked):
                self._waiting.append(asked)
            elif asked.message.is_known:
                self._unacked[asked] = None  # stored: its receipt waits for this name
            else:
                lost.append((asked, "There was no connection for too long."))
        self._write()
        for asked, why in lost:
            self._lost(asked, why)

    def _is_remembered(self, asked: _Asked) -> bool:
        """Whether the relay has the ref of a message for sure, if it ever had."""
        return (
            self._seconds() - asked.first_written_s < ASK_AGAIN_WITHIN_S
            and self._messages - asked.number <= MAX_UNANSWERED
        )

    def detach(self, error: Disconnected) -> None:
        """The connection is lost."""
        if not self.keeps:
            self.end(error)
            return
        self._connection = None
        commands = [asked for asked in self._waiting if not asked.is_message]
        written = [*self._unacked, *self._written]
        waiting = [asked for asked in self._waiting if asked.is_message]
        self._unacked, self._written = {}, {}
        again = [
            asked
            for asked in written
            if asked.is_message and asked.owner is not None and not asked.answer.called
        ]
        again.sort(key=lambda asked: asked.number)
        self._waiting = deque([*again, *waiting])
        self._answers.forget_commands()
        kept = set(again)
        for asked in written:
            if asked not in kept:
                self._lost(asked, str(error))
        for asked in commands:
            self._fail(asked, _ENDED)

    def end(self, error: Disconnected) -> None:
        """There will be no connection: everything fails, with what is known of it."""
        self._connection = None
        self._ended = "There is no connection."
        written, waiting = [*self._unacked, *self._written], list(self._waiting)
        self._unacked, self._written = {}, {}
        self._waiting.clear()
        self._answers.forget_commands()
        for asked in written:
            self._lost(asked, str(error))
        for asked in waiting:
            if asked.answer.called:
                continue  # cancelled by one of those before it
            if asked.message is not None:
                self._lost(asked, str(error))
            else:
                self._fail(asked, _ENDED)

    def _lost(self, asked: _Asked, why: str) -> None:
        self._drop(asked)
        stored = ""
        if asked.message is not None and asked.message.wait == "acked":
            states = [
                outcome.state
                for outcome in asked.message.outcomes.values()
                if isinstance(outcome, Answer)
            ]
            stored = " It is stored." if states and "sent" not in states else ""
        if not asked.answer.called:
            asked.answer.errback(Disconnected(why + stored, may_have_arrived=True))

    def _fail(self, asked: _Asked, why: str) -> None:
        self._drop(asked)
        if not asked.answer.called:
            asked.answer.errback(Disconnected(why))
