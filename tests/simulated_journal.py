"""Tells the checkers of deliveries what happens in a simulation, and keeps what was told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tests.delivery_answers import take_waiting
from tests.delivery_checker import Checker
from tests.delivery_history import (
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
from tests.delivery_in_flight import InFlight
from tests.simulated_client import SimulatedClient

ROOM = "#r"
_MOST_SHOWN = 200


class Question(NamedTuple):
    """A message that was sent under a ref: first on which connection, and to whom."""

    label: str
    ref: str
    targets: list[str]
    text: str


class Journal:
    """
    What happened in one simulation.

    :ivar steps: it, in words.
    :ivar event: how many events were told.
    """

    def __init__(
        self,
        acking: frozenset[str],
        reading: frozenset[str],
        free: frozenset[str],
        *,
        members: Sequence[str] = (),
        has_slow_devices: bool,
        refuses_at_times: bool,
        verbose: bool,
    ) -> None:
        self.steps: list[str] = []
        self.event = 0
        self.checker = Checker(
            acking=acking,
            reading=frozenset() if has_slow_devices else reading,
            free=free,
            refuses_at_times=refuses_at_times,
        )
        self.in_flight = InFlight(reading, acking)
        self.failures: list[str] = []
        self._acking, self._reading, self._free = acking, reading, free
        self._verbose = verbose
        self._is_read_in_order = not has_slow_devices
        self._has_ref: set[str] = set()
        self._members = members
        # What was answered `!stored` for the room, with its id.
        self._stored_in_room: dict[str, str] = {}

    @property
    def now_s(self) -> float:
        """When it is."""
        return self.in_flight.now_s

    @now_s.setter
    def now_s(self, now_s: float) -> None:
        self.in_flight.now_s = now_s

    def trace(self, step: str, *values: object) -> None:
        """Note something for who has to find out what went wrong."""
        if self._verbose:
            words = step % values if values else step
            self.steps.append(words)
            print(words)

    @property
    def violations(self) -> list[str]:
        """Everything that should not have been."""
        return [*self.checker.violations, *self.in_flight.violations, *self.failures]

    def waits(self, client: SimulatedClient, ref: str) -> bool:
        """Whether something that a client sent under a ref is not answered."""
        return ref in self.checker._state.open_connection(client.label).waiting

    def has_answers(self, name: str, asked: Question) -> bool:
        """Whether a message was answered for each target, at some time."""
        messages = self.checker._state.messages
        return all(
            any(one.answer for one in messages[name, target, asked.text].submissions)
            for target in self._recipients(name, asked.targets)
        )

    def connected(self, label: str, name: str) -> None:
        self._feed(Connected(label, name))

    def ended(self, client: SimulatedClient, *, everything_read: bool) -> None:
        self.trace("    %s is over%s", client.label, ", all read" if everything_read else "")
        self.in_flight.ended(client.name, client.in_network)
        self._feed(Ended(client.label, everything_read))

    def relay_killed(self, clients: list[SimulatedClient]) -> None:
        for client in clients:
            client.is_over = True
            self.in_flight.ended(client.name, client.in_network)
        self._feed(RelayKilled())
        self.in_flight.relay_killed()

    def asked(self, client: SimulatedClient, ref: str, targets: list[str], text: str) -> None:
        self.in_flight.written(client.label, text, is_free=client.name in self._free)
        if ref:
            self._has_ref.add(text)
            for target in self._recipients(client.name, targets):
                self._feed(Asked(client.label, ref, target, text))

    def answered(
        self,
        client: SimulatedClient,
        ref: str,
        target: str | None,
        answer: Literal["sent", "stored", "refused"],
        detail: str,
    ) -> None:
        if target == ROOM:
            self._answered_in_room(client, ref, answer, detail)
            return
        if answer == "stored" and target is not None:
            text = self._text_of(client, ref, target)
            self.in_flight.stored(target, text, detail)
        self._feed(Answered(client.label, ref, target, answer, detail))

    def _answered_in_room(
        self,
        client: SimulatedClient,
        ref: str,
        answer: Literal["sent", "stored", "refused"],
        detail: str,
    ) -> None:
        # Who reads at once, and does not ack, has it without a log; which of them is not told.
        for target in self._recipients(client.name, [ROOM]):
            if answer == "stored":
                text = self._text_of(client, ref, target)
                if text is not None:
                    self._stored_in_room[text] = detail
                if target in self._acking:
                    self.in_flight.stored(target, text, detail)
            elif answer == "refused" and target not in self._acking:
                # It had that if it read at once.
                take_waiting(self.checker._state.open_connection(client.label), ref, target)
                continue
            elif answer == "sent" and target in self._acking:
                self.failed(f"{client.label} read {answer} {detail} for {target}, who has to ack")
            self._feed(Answered(client.label, ref, target, answer, detail))

    def _recipients(self, sender: str, targets: Sequence[str]) -> list[str]:
        """Who gets what is sent to these."""
        if targets[0] != ROOM:
            return [*targets]
        return [member for member in self._members if member != sender]

    def stored_without_ref(self, target: str, id_: str) -> None:
        self.in_flight.stored(target, None, id_)

    def received(
        self, client: SimulatedClient, sender: str, text: str, id_: str | None, *, is_again: bool
    ) -> None:
        has_ref = text in self._has_ref
        if id_ is not None:
            client.received_ids.append((id_, has_ref))
        if has_ref:
            self._feed(Received(client.label, sender, text, id_, is_again))
        if client.name in self._acking or client.name in self._reading:
            self.in_flight.read(client.reader, text, id_)

    def ack_asked(self, client: SimulatedClient, id_: str) -> None:
        # The checker knows only confirmed messages: the last of those that this covers.
        covered = None
        for one, has_ref in client.received_ids:
            covered = one if has_ref else covered
            if one == id_:
                break
        client.covered[id_] = covered
        if covered is not None:
            self._feed(AckAsked(client.label, covered))

    def ack_answered(self, client: SimulatedClient, id_: str) -> None:
        covered = client.covered.get(id_, id_)
        if covered is not None:
            self._feed(AckAnswered(client.label, covered))

    def ack_refused(self, client: SimulatedClient, id_: str, code: str) -> None:
        covered = client.covered.get(id_, id_)
        if covered is not None:
            self._feed(AckRefused(client.label, covered, code))

    def ack_reported(self, client: SimulatedClient, ref: str, target: str, id_: str) -> None:
        self._feed(AckReported(client.label, ref, target, id_))

    def history(self, client: SimulatedClient, entries: list[tuple[str, str, str]]) -> None:
        if self._members:
            self._room_history(entries)
            return
        if client.name not in self._acking and not self._is_read_in_order:
            return
        shown = tuple(entry for entry in entries if entry[2] in self._has_ref)
        self._feed(HistoryRead(client.name, shown))

    def _room_history(self, entries: list[tuple[str, str, str]]) -> None:
        shown = {id_: text for id_, _, text in entries}
        if len(shown) < len(entries):
            self.failed("the history of the room shows an id twice")
        missing = [text for text, id_ in self._stored_in_room.items() if shown.get(id_) != text]
        if missing and len(entries) < _MOST_SHOWN:
            self.failed(f"the history of the room does not show {missing}")

    def known(self, client: SimulatedClient, text: str) -> None:
        if client.name in self._reading:
            self.in_flight.known(client.name, text)

    def failed(self, what: str) -> None:
        """Something happened that may never happen."""
        self.trace("!!! %s", what)
        self.failures.append(what)

    def finish(self) -> list[str]:
        """Judge what is missing."""
        self.checker.finish()
        self.in_flight.finish()
        return self.violations

    def _text_of(self, client: SimulatedClient, ref: str, target: str) -> str | None:
        connection = self.checker._state.open_connection(client.label)
        for message, _ in connection.waiting.get(ref, []):
            if message.target == target:
                return message.text
        return None

    def _feed(self, event: Event) -> None:
        self.event += 1
        self.in_flight.event = self.event
        before = len(self.checker.violations)
        self.checker.feed(event, self.now_s)
        for violation in self.checker.violations[before:]:
            self.trace("!!! %s", violation)
