"""
Whether a history of confirmed messages keeps what docs/protocol.rst promises; each violation
is a sentence.

Pure: it is fed events and their times, and has neither I/O nor a clock.

What it holds a relay to:

* a message answered *stored* reaches its recipient.  One that acks sees the relay's order
  without a gap: each connection begins at the first message that was not acked, and what was
  seen before is marked ``again``.  One that does not ack may miss, or see twice, only what may
  have been in flight when its connection or the relay ended;
* messages of one sender to one recipient are first delivered in the order they were sent, and
  none overtakes one that was answered before it was sent;
* no answer contradicts another: *stored* stays *stored* with its id, what was refused never
  arrives, an id is one message, *acked* is what the recipient asked for;
* a ref makes one message, within what is promised: an owned sender's *stored* ones survive
  everything, its *sent* ones (to a recipient that does not ack) the connection but not the
  relay, a free sender's neither.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

from tests.delivery_answers import Answers
from tests.delivery_history import (
    REFUSED,
    AckAnswered,
    AckAsked,
    AckRefused,
    AckReported,
    Answered,
    Asked,
    Connected,
    Ended,
    Event,
    HistoryRead,
    Received,
    RelayKilled,
)
from tests.delivery_receipts import Receipts
from tests.delivery_state import (
    CUT,
    KILLED,
    READ,
    Connection,
    Message,
    Recipient,
    State,
    Submission,
)


class Checker:
    """Fed with a history, it collects what contradicts the promises."""

    def __init__(
        self,
        *,
        acking: Iterable[str],
        reading: Iterable[str],
        free: Iterable[str] = (),
        in_flight_s: float = math.inf,
        refuses_at_times: bool = False,
        noticed_after: int = 20,
        settled_after: int = 20,
    ) -> None:
        """
        Begin with an empty history.

        :param acking: owned names of which every connection has the cap ``ack`` from its
            first line on.
        :param reading: owned names of which no connection ever has.
        :param free: senders whose names nobody owns.
        :param in_flight_s: how long before an end something may have been read by its client
            without counting as read for the relay.
        :param refuses_at_times: whether the relay may refuse what it would have accepted a
            moment earlier, and the history may not show it: then the order of what was asked
            again is judged less strictly.
        :param noticed_after: so many answers to messages that were sent after a connection was cut
            show that the relay knows that and does not write into it any more; with 0 it always
            does.
        :param settled_after: so many messages that were sent after a connection had been read to
            its end, and were stored, show that the relay has kept how far it was read.
        """
        state = self._state = State(
            acking,
            reading,
            free,
            in_flight_s,
            refuses_at_times,
            noticed_after,
            settled_after,
        )
        answers, receipts = self._answers, self._receipts = Answers(state), Receipts(state)
        self._is_finished = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Connected: self._connected,
            Ended: self._ended,
            RelayKilled: self._relay_killed,
            Asked: answers.asked,
            Answered: answers.answered,
            Received: receipts.received,
            AckAsked: receipts.ack_asked,
            AckAnswered: receipts.ack_answered,
            AckRefused: receipts.ack_refused,
            AckReported: receipts.ack_reported,
            HistoryRead: receipts.history_read,
        }

    @property
    def violations(self) -> list[str]:
        """Sentences, each with the number, from 1, of the event that showed it."""
        return self._state.violations

    @property
    def counts(self) -> Mapping[str, int]:
        """How much was seen, by kind; 0 for what was not."""
        return self._state.counts

    def feed(self, event: Event, now_s: float = 0.0) -> None:
        """
        Take the next event.

        :param now_s: when it was, on any clock that never goes back.
        :raises ValueError: if the history itself can not be.
        """
        self._state.event += 1
        self._state.now_s = now_s
        self._handlers[type(event)](event)

    def finish(self) -> list[str]:
        """
        Judge what is missing, when no event can come any more and the last connections are open.

        :returns: all violations.
        """
        if not self._is_finished:
            self._is_finished = True
            self._state.event += 1
            for connection in self._state.open.values():
                self._check_all_is_answered(connection)
                self._receipts.check_all_came_again(connection)
            arrivals = {
                name: _Arrivals(recipient) for name, recipient in self._state.recipients.items()
            }
            for message in self._state.messages.values():
                if message.target in arrivals:
                    self._check_arrival(message, arrivals[message.target])
                    self._check_copies(message)
        return self.violations

    def _connected(self, event: Connected) -> None:
        state = self._state
        if event.connection in state.connections:
            raise ValueError(f"there was a connection {event.connection}")
        connection = Connection(event.connection, event.name, state.event)
        state.connections[event.connection] = state.open[event.connection] = connection
        recipient = state.recipients.get(event.name)
        if recipient is not None:
            connection.acked_at_first = recipient.acked
            recipient.connections.append(connection)

    def _ended(self, event: Ended) -> None:
        connection = self._state.open_connection(event.connection)
        if event.everything_read:
            self._check_all_is_answered(connection)
        self._end(connection, READ if event.everything_read else CUT)

    def _relay_killed(self, _event: RelayKilled) -> None:
        for connection in list(self._state.open.values()):
            self._end(connection, KILLED)
        self._receipts.relay_killed()
        self._state.relay_killed()

    def _end(self, connection: Connection, how: str) -> None:
        connection.how_ended = how
        connection.ended = self._state.event
        connection.ended_s = self._state.now_s
        self._state.note_end(connection)
        connection.waiting.clear()
        connection.keys.clear()
        del self._state.open[connection.label]

    def _check_all_is_answered(self, connection: Connection) -> None:
        self._answers.check_all_is_answered(connection)
        self._receipts.check_all_acks_are_answered(connection)

    def _check_arrival(self, message: Message, arrivals: _Arrivals) -> None:
        state, recipient = self._state, arrivals.recipient
        candidates = message.candidates()
        is_known = not message.may_be_forgotten
        if (
            is_known
            and message.is_delivered
            and all(
                one.answer is None and self._is_void(recipient, message, one) for one in candidates
            )
        ):
            state.violation(f"{message} was refused and arrived")
        if recipient.acks:
            for id_ in message.stored.values():
                if id_ not in recipient.positions:
                    state.violation(f"{message} was stored as {id_} and never arrived")
        elif not message.is_delivered and any(one.answer is not None for one in candidates):
            state.counts["missing"] += 1
            barrier = arrivals.earliest_after(message)
            if not any(
                candidates[0].event < connection.noticed
                for connection in recipient.connections
                if connection.how_ended in {CUT, KILLED} and connection.opened < barrier
            ):
                state.violation(
                    f"{message} was accepted, was not in flight at an end, and never arrived"
                )

    def _is_void(self, recipient: Recipient, message: Message, submission: Submission) -> bool:
        """Whether a later refusal says that an unanswered one was not accepted."""
        scope = self._state.scope(message, submission)
        return any(
            later.answer == REFUSED
            and later.event > submission.event
            and (recipient.acks or later.life == submission.life)
            and self._state.scope(message, later) == scope
            for later in message.submissions
        )

    def _check_copies(self, message: Message) -> None:
        copies = len(message.ids)
        if copies > 1:
            self._state.counts["copies"] += copies - 1
            if copies > self._state.most_copies(message):
                ids = ", ".join(sorted(message.ids))
                self._state.violation(f"{message} was made {copies} messages: {ids}")


class _Arrivals:
    """Where the messages to one recipient arrived first, by when they were sent."""

    def __init__(self, recipient: Recipient) -> None:
        self.recipient = recipient
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for delivery in recipient.order:
            for one in delivery.message.candidates()[:1]:
                found[one.connection.label].append((one.event, delivery.first.opened))
                found[""].append((one.event, delivery.first.opened))
        # By connection of a sender, and of all: when each was sent, negative and rising, and
        # the earliest beginning of the connections where it or a later one arrived.
        self._earliest: dict[str, tuple[list[int], list[int]]] = {}
        for label, arrivals in found.items():
            arrivals.sort(reverse=True)
            earliest = accumulate((opened for _, opened in arrivals), min)
            self._earliest[label] = [-event for event, _ in arrivals], list(earliest)

    def earliest_after(self, message: Message) -> float:
        """
        When the earliest connection began on which something arrived that was sent after it.

        What did not arrive before that was not in flight when that one ended.
        """
        candidates = message.candidates()
        earliest = math.inf
        if message.accepted_event > candidates[-1].event:
            earliest = self._sent_after("", message.accepted_event)
        if len(candidates) == 1:
            (one,) = candidates
            earliest = min(earliest, self._sent_after(one.connection.label, one.event))
        return earliest

    def _sent_after(self, label: str, event: float) -> float:
        events, earliest = self._earliest.get(label, ([], []))
        count = bisect_left(events, -event)
        return earliest[count - 1] if count else math.inf
