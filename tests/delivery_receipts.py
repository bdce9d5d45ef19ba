"""Whether recipients get what they may expect, and acks hold: a part of the checker."""

from __future__ import annotations

import math
from bisect import bisect_right

from tests.delivery_history import (
    AckAnswered,
    AckAsked,
    AckRefused,
    AckReported,
    HistoryRead,
    Received,
)
from tests.delivery_state import (
    CUT,
    PASSING,
    READ,
    Connection,
    Delivered,
    Delivery,
    Message,
    Recipient,
    State,
)


class Receipts:
    """What is received, acked and shown again."""

    def __init__(self, state: State) -> None:
        self._state = state
        # Of each kill: its event and time, and what was settled at it.
        self._kills: list[tuple[float, float, float]] = []

    def relay_killed(self) -> None:
        """Note that the relay may have forgotten what was read shortly before."""
        state = self._state
        self._kills.append((state.event, state.now_s, state.settled_event()))
        for recipient in state.recipients.values():
            if not recipient.acks:
                recipient.so_far = Delivered()

    def received(self, event: Received) -> None:
        """Take a message that was read."""
        state = self._state
        connection = state.open_connection(event.connection)
        message = state.messages.get((event.sender, connection.name, event.text))
        if message is None:
            state.violation(
                f"{connection.label} received {event.text[:40]!r} from {event.sender},"
                f" who did not write that to {connection.name}"
            )
            return
        if event.id is not None:
            state.note_id(event.id, message)
        recipient = state.recipients.get(connection.name)
        if recipient is None:
            message.is_delivered = True
            return
        key = (event.sender, event.text) if event.id is None else event.id
        may_be_copy = event.id is None and state.most_copies(message) > 1
        if key in connection.keys and not may_be_copy:
            state.violation(f"{connection.label} received {message} twice")
            return
        connection.keys.add(key)
        position = recipient.positions.get(key)
        if recipient.acks:
            self._check_place(recipient, connection, message, position)
            self._check_mark(recipient, connection, message, position, event)
        else:
            if event.again:
                state.violation(f"{connection.label} has no ack, and {message} is marked again")
            if position is not None:
                self._check_unmarked_repeat(recipient, connection, position, may_be_copy)
        if position is None:
            position = self._deliver_first(recipient, connection, message, key)
        recipient.so_far.add(message)
        connection.so_far.add(message)
        connection.position = position + 1
        delivery = recipient.order[position]
        delivery.last, delivery.last_event = connection, state.event
        delivery.last_s = state.now_s

    def _check_place(
        self, recipient: Recipient, connection: Connection, message: Message, position: int | None
    ) -> None:
        """To one who acks everything comes from the first that was not acked, without a gap."""
        order = recipient.order
        place = len(order) if position is None else position
        expected = connection.position
        if expected is None:
            expected = connection.acked_at_first
        # What another connection has asked to be acked in the meantime need not come.
        latest = max(expected, recipient.ack_asked)
        if place > latest:
            self._state.violation(
                f"{connection.label} received {message} before {order[latest].message}, which"
                " came earlier and was not acked"
            )
        elif place < expected and connection.position is None:
            self._state.violation(
                f"{message} came again on {connection.label}, though it was acked"
            )
        elif place < expected:
            self._state.violation(f"{message} came out of order on {connection.label}")

    def _check_mark(
        self,
        recipient: Recipient,
        connection: Connection,
        message: Message,
        position: int | None,
        event: Received,
    ) -> None:
        state = self._state
        if event.id is None:
            state.violation(f"{connection.label} has ack, and {message} came without an id")
        if position is None:
            # Written to a connection that did not read it, or marked too much after a kill.
            state.counts["marked again, not seen before"] += event.again
            if event.again and state.life == 0 and recipient.connections[0] is connection:
                state.violation(f"{message} is marked again on the first connection of all")
        elif event.again:
            state.counts["repeats marked"] += 1
        elif connection.opened > recipient.order[position].first_event:
            state.violation(f"{message} came again on {connection.label} without the mark")

    def _check_unmarked_repeat(
        self, recipient: Recipient, connection: Connection, position: int, may_be_copy: bool
    ) -> None:
        delivery = recipient.order[position]
        if connection.opened < delivery.first_event:
            return  # Of two connections each gets it.
        self._state.counts["repeats unmarked"] += 1
        if may_be_copy:
            return
        if not self._may_count_as_unread(delivery):
            self._state.violation(
                f"{delivery.message} came again on {connection.label}, though it was not in flight"
                " at an end"
            )
        self._check_order(recipient, delivery.message, connection.so_far, connection.label)

    def _may_count_as_unread(self, delivery: Delivery) -> bool:
        """Whether the relay may not know that it was read: its connection or the relay ended."""
        connection = delivery.last
        ended_s = connection.ended_s if connection.how_ended == CUT else math.inf
        kill = bisect_right(self._kills, (delivery.last_event, math.inf, math.inf))
        if kill < len(self._kills):
            _, kill_s, settled_event = self._kills[kill]
            if connection.how_ended == READ and connection.ended < settled_event:
                return False
            ended_s = min(ended_s, kill_s)
        return math.isfinite(ended_s) and ended_s - delivery.last_s <= self._state.in_flight_s

    def _deliver_first(
        self, recipient: Recipient, connection: Connection, message: Message, key: object
    ) -> int:
        self._state.counts["received"] += 1
        if not message.is_delivered:
            self._check_order(recipient, message, recipient.so_far, connection.label)
        message.is_delivered = True
        recipient.positions[key] = len(recipient.order)
        event, now_s = self._state.event, self._state.now_s
        recipient.order.append(Delivery(message, connection, event, connection, event, now_s))
        return len(recipient.order) - 1

    def _check_order(
        self, recipient: Recipient, message: Message, so_far: Delivered, where: str
    ) -> None:
        # One that was asked again may have been accepted only then, and what came after it
        # before that: where the relay may have forgotten the first, or have refused it.
        is_known_once = (
            not self._state.is_free(message)
            and not recipient.refuses_at_times
            and (recipient.acks or len({one.life for one in message.candidates()}) == 1)
        )
        later = so_far.later_than(message, is_known_once=is_known_once)
        if later is not None:
            self._state.violation(f"{where}: {later} came before {message}, and was sent after it")

    # Acks.

    def ack_asked(self, event: AckAsked) -> None:
        """Take an ``/ack``."""
        connection = self._state.open_connection(event.connection)
        recipient = self._state.recipients[connection.name]
        connection.acks_waiting.append(event.id)
        # What it should not have received has no place.
        place = recipient.positions.get(event.id, -1)
        recipient.ack_asked = max(recipient.ack_asked, place + 1)

    def ack_answered(self, event: AckAnswered) -> None:
        """Take the answer to an ``/ack``."""
        connection = self._state.open_connection(event.connection)
        if event.id not in connection.acks_waiting:
            self._state.violation(f"{connection.label} read !acked {event.id} and did not ask that")
            return
        connection.acks_waiting.remove(event.id)
        recipient = self._state.recipients[connection.name]
        recipient.acked = max(recipient.acked, recipient.positions.get(event.id, -1) + 1)
        self._state.counts["acks"] += 1

    def ack_refused(self, event: AckRefused) -> None:
        """Take a refused ``/ack``."""
        connection = self._state.open_connection(event.connection)
        if event.id in connection.acks_waiting:
            connection.acks_waiting.remove(event.id)
        if event.code not in PASSING:
            self._state.violation(
                f"/ack {event.id} was refused: {event.code}, and {connection.label} had received it"
            )

    def ack_reported(self, event: AckReported) -> None:
        """Take what a sender is told about an ack."""
        connection = self._state.open_connection(event.connection)
        self._state.counts["acks reported"] += 1
        told = f"{connection.label} was told that {event.target} acked {event.id}"
        message = self._state.text_of_id(event.id)
        recipient = self._state.recipients.get(event.target)
        if message is None or (message.sender, message.ref) != (connection.name, event.ref):
            self._state.violation(f"{told}, which is not what it sent under the ref {event.ref}")
        elif recipient is None or (
            recipient.positions.get(event.id, math.inf) >= recipient.ack_asked
        ):
            self._state.violation(f"{told}, who did not: {message}")

    def check_all_acks_are_answered(self, connection: Connection) -> None:
        """Hold that no ``/ack`` waits on a connection whose answers have all been read."""
        for id_ in connection.acks_waiting:
            self._state.violation(f"/ack {id_} of {connection.label} was never answered")

    def check_all_came_again(self, connection: Connection) -> None:
        """Hold that an open connection got everything that is not acked."""
        recipient = self._state.recipients.get(connection.name)
        if recipient is None or not recipient.acks:
            return
        reached = connection.position
        if reached is None:
            reached = connection.acked_at_first
        for delivery in recipient.order[max(reached, recipient.ack_asked) :]:
            self._state.violation(
                f"{delivery.message} was not acked and did not come again on {connection.label}"
            )

    def history_read(self, event: HistoryRead) -> None:
        """Take what the relay shows of a name's history."""
        state, name = self._state, event.name
        recipient = state.recipients[name]
        places = []
        so_far = Delivered()
        seen = set()
        for id_, sender, text in event.entries:
            message = state.messages.get((sender, name, text))
            if message is None:
                state.violation(
                    f"the history of {name} shows {text[:40]!r} from {sender}, who did not write"
                    f" that to {name}"
                )
                continue
            state.note_id(id_, message)
            if message not in seen:
                self._check_order(recipient, message, so_far, f"the history of {name}")
            so_far.add(message)
            seen.add(message)
            if id_ in recipient.positions:
                places.append(recipient.positions[id_])
        if len({id_ for id_, _, _ in event.entries}) < len(event.entries):
            state.violation(f"the history of {name} shows an id twice")
        if recipient.acks and places != sorted(places):
            state.violation(f"the history of {name} has another order than was received")
        if recipient.acks and places:
            for position in sorted(set(range(places[0], len(recipient.order))) - set(places)):
                message = recipient.order[position].message
                state.violation(f"the history of {name} does not show {message}")
