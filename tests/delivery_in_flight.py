"""
Whether names that do not ack miss, or see twice, exactly what was in flight and nothing else.

Pure.  The checker of `tests.delivery_checker` knows only what clients saw; this one is also
told what a simulated network had taken and its client had not, and when the relay could know
that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.delivery_state import REMEMBERED_S


@dataclass(slots=True, eq=False)
class Reader:
    """
    One connection of a recipient.

    :ivar opened: the event that began it.
    :ivar texts: what was read on it, in order.
    """

    label: str
    name: str
    opened: int
    texts: dict[str, None] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Written:
    """
    One text of a sender, which is written nowhere else.

    :ivar from_connection: the connection on which it was written first.
    :ivar times: how often it was written.
    :ivar lives: the lives of the relay in which it was.
    :ivar first_s, last_s: when it was.
    """

    from_connection: str
    number: int
    is_free: bool
    first_s: float
    last_s: float = 0.0
    times: int = 0
    lives: set[int] = field(default_factory=set)

    @property
    def may_be_several(self) -> bool:
        """Whether more than one message may have been made of it."""
        is_forgotten = self.last_s - self.first_s >= REMEMBERED_S
        return self.times > 1 and (self.is_free or len(self.lives) > 1 or is_forgotten)


class InFlight:
    """Told what happens to the messages of a simulation, it collects what may not happen."""

    def __init__(self, reading: frozenset[str], acking: frozenset[str]) -> None:
        """
        Begin.

        :param reading: owned names that never ack.
        :param acking: those that always do.
        """
        self.violations: list[str] = []
        self.event = 0
        self.now_s = 0.0
        self._reading = reading
        self._acking = acking
        self._life = 0
        self._written: dict[str, _Written] = {}
        self._stored: dict[str, dict[str, None]] = defaultdict(dict)
        self._stored_ids: dict[str, dict[str, None]] = defaultdict(dict)
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._seen_ids: dict[str, set[str]] = defaultdict(set)
        # By name and text: since which event the relay knows that it was read.
        self._known: dict[str, dict[str, int]] = defaultdict(dict)
        self._durable: dict[str, set[str]] = defaultdict(set)
        self._lost: dict[str, list[bytes]] = defaultdict(list)

    def written(self, connection: str, text: str, *, is_free: bool) -> None:
        """A sender wrote a text, to whomever."""
        found = self._written.get(text)
        if found is None:
            number = len(self._written)
            found = self._written[text] = _Written(connection, number, is_free, self.now_s)
        found.times += 1
        found.last_s = self.now_s
        found.lives.add(self._life)

    def stored(self, target: str, text: str | None, id_: str) -> None:
        """A sender was told that something was stored; which text, if it knows."""
        if text is not None:
            self._stored[target][text] = None
        self._stored_ids[target][id_] = None

    def read(self, reader: Reader, text: str, id_: str | None) -> None:
        """A client has read a message."""
        name = reader.name
        written = self._written.get(text)
        if written is None:
            self._violation(f"{reader.label} read {text[:40]!r}, which nobody wrote")
            return
        if id_ is not None:
            self._seen_ids[name].add(id_)
        if text in reader.texts and not written.may_be_several:
            self._violation(f"{reader.label} read {text[:40]!r} twice")
        known = self._known[name].get(text) if name in self._reading else None
        if known is not None and known < reader.opened and not written.may_be_several:
            self._violation(
                f"{text[:40]!r} came again on {reader.label}, and was known to be read before that"
                " began"
            )
        if written.times == 1 and text not in reader.texts:
            latest = reader.latest.get(written.from_connection, -1)
            if written.number < latest:
                self._violation(f"{reader.label} read {text[:40]!r} after what was sent later")
            reader.latest[written.from_connection] = max(latest, written.number)
        reader.texts[text] = None
        self._seen[name].add(text)

    def known(self, name: str, text: str) -> None:
        """The network has taken all of a message, and the relay had to see that."""
        self._known[name].setdefault(text, self.event)

    def durable(self, name: str) -> None:
        """What is known to be read is on the disk."""
        self._durable[name].update(self._known[name])

    def ended(self, name: str, in_network: bytes) -> None:
        """
        A connection ended.

        :param in_network: what the network had taken and its client had not.
        """
        if in_network:
            self._lost[name].append(in_network)

    def relay_killed(self) -> None:
        """What was not on the disk is forgotten."""
        self._life += 1
        for name, known in self._known.items():
            durable = self._durable[name]
            self._known[name] = {text: event for text, event in known.items() if text in durable}

    def finish(self) -> list[str]:
        """Judge what is missing, when everything has been read."""
        for name in sorted(self._reading):
            lost = b"".join(self._lost[name])
            for text in self._stored[name]:
                if text not in self._seen[name] and b"%" + text.encode() + b"\n" not in lost:
                    self._violation(f"{text[:40]!r} was stored, and {name} never got it")
        for name in sorted(self._acking):
            for id_ in self._stored_ids[name]:
                if id_ not in self._seen_ids[name]:
                    self._violation(f"{id_} was stored, and {name} never got it")
        return self.violations

    def _violation(self, sentence: str) -> None:
        self.violations.append(f"event {self.event}: {sentence}.")
