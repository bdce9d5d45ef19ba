"""
A simple relay with its clients, which makes histories: valid ones, or with one fault built in.

It is for testing the checker: everything happens in one list of steps that a source of chance
chooses, and what is durable is a list that a kill leaves.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from random import Random

from tests.delivery_history import (
    REFUSED,
    SENT,
    STORED,
    AckAnswered,
    AckAsked,
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

OWNED_SENDERS = ("alice", "anna")
FREE_SENDER = "zoe"
ACKING = ("bob", "berta")
READING = ("dora", "dave")
NOBODY = "nobody"
# Of those who do not ack, the one that is not told ids.
BARE = "dave"
RECIPIENTS = (*ACKING, *READING)

FAULTS = {
    "forgets the end of a log at a kill": "never arrived",
    "answers before the commit": "never arrived",
    "forgets refs at a kill": "was made 2 messages",
    "makes two messages of one ref": "messages:",
    "does not mark repeats": "without the mark",
    "marks what it never sent": "on the first connection of all",
    "lets one overtake another": "and was sent after it",
    "skips one that acks": "which came earlier and was not acked",
    "delivers what it refused": "was refused and arrived",
    "forgets acks": "though it was acked",
    "takes more as acked than was asked": "never arrived",
    "answers a stored one anew": "and later refused",
    "delivers before the commit": "was not acked",
    "sends a live one twice": "twice",
    "loses a live one": "was not in flight at an end, and never arrived",
    "loses what came while one was away": "was not in flight at an end, and never arrived",
    "answers twice": "or has been answered",
    "never answers": "was never answered",
    "answers out of order": "was answered after a later line",
    "says sent to one who acks": "though bob acks",
    "says sent to one who is away": "was away",
    "reports acks that nobody asked": "who did not",
    "delivers to somebody else": "who did not write that",
    "gives one id to two": "and also of",
    "does not know an owned name": "that is owned",
    "forgets what was read long ago": "though it was not in flight",
    "takes another text under a used ref": "was accepted under the ref",
    "leaves one out of the history": "does not show",
}
"""What a relay can do wrong, and words of the sentence that tells it."""


@dataclass(eq=False)
class _Entry:
    id: str
    sender: str
    ref: str
    text: str


@dataclass(eq=False)
class _Link:
    """A connection; what is in it is lost when it is cut."""

    label: str
    name: str
    to_relay: deque[tuple[object, ...]] = field(default_factory=deque)
    to_client: deque[tuple[Event, int | None]] = field(default_factory=deque)
    received_ids: list[str] = field(default_factory=list)
    waiting: Counter[tuple[str, ...]] = field(default_factory=Counter)
    next: int = 0


@dataclass(eq=False)
class _Log:
    """A recipient at the relay: entries and cursor survive a kill, the rest does not."""

    entries: list[_Entry] = field(default_factory=list)
    kept_cursor: int = 0
    cursor: int = 0
    shown: int = 0


class Model:
    """
    The relay and its clients.

    :ivar events: what clients saw.
    :ivar refuses_at_times: whether it refuses now and then what it could accept.
    """

    def __init__(self, chance: Random, fault: str | None = None) -> None:
        assert fault is None or fault in FAULTS
        self.events: list[Event] = []
        self._chance = chance
        self._fault = fault
        self._labels = 0
        self._texts = 0
        self._ids = 0
        self._links: dict[str, _Link] = {}
        self._logs = {name: _Log() for name in RECIPIENTS}
        # By scope, ref and target: the text, and the id of what is stored.
        self._kept_refs: dict[tuple[str, ...], tuple[str, str]] = {}
        self._refs: dict[tuple[str, ...], tuple[str, str | None]] = {}
        self._uncommitted: list[tuple[object, ...]] = []
        # What senders wait for: by ref and target, the text, in the order of the lines.
        self._unanswered: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        self._stored: list[tuple[str, str, str]] = []
        self.refuses_at_times = chance.random() < 0.5

    def run(self, steps: int) -> list[Event]:
        """Take so many steps, then let everything arrive; return what was seen."""
        actions = [
            (self._come, 6),
            (self._ask, 20),
            (self._ask_again_for_no_reason, 1),
            (self._reuse_a_ref, 1),
            (self._handle, 30),
            (self._commit, 12),
            (self._read, 40),
            (self._ack, 8),
            (self._cut, 2),
            (self._leave, 2),
            (self._kill, 1),
        ]
        for action in self._chance.choices(*zip(*actions, strict=True), k=steps):
            action()
        self._settle()
        return self.events

    # Clients.

    def _any(self, names: tuple[str, ...]) -> _Link | None:
        links = [link for name, link in self._links.items() if name in names]
        return self._chance.choice(links) if links else None

    def _come(self) -> None:
        name = self._chance.choice((*OWNED_SENDERS, FREE_SENDER, *RECIPIENTS))
        if name not in self._links:
            self._connect(name)

    def _connect(self, name: str) -> None:
        self._labels += 1
        link = self._links[name] = _Link(f"{name}/{self._labels}", name)
        self.events.append(Connected(link.label, name))
        if name in self._logs:
            link.next = self._logs[name].cursor
            self._pump(name)
        if name == FREE_SENDER:
            self._unanswered[name].clear()
        for (ref, target), text in list(self._unanswered[name].items()):
            self._send(link, ref, (target,), text)

    def _ask(self) -> None:
        link = self._any((*OWNED_SENDERS, FREE_SENDER))
        if link is not None:
            targets = self._chance.sample((*RECIPIENTS, NOBODY), self._chance.choice([1, 1, 1, 2]))
            self._texts += 1
            self._send(link, f"r{self._texts}", tuple(targets), f"text {self._texts}")

    def _ask_again_for_no_reason(self) -> None:
        link = self._any(OWNED_SENDERS)
        known = list(self._unanswered[link.name].items()) if link else []
        if link is not None and known:
            (ref, target), text = self._chance.choice(known)
            self._send(link, ref, (target,), text)

    def _reuse_a_ref(self) -> None:
        link = self._any(OWNED_SENDERS)
        stored = [
            one
            for one in self._stored
            if link is not None and one[0] == link.name and not link.waiting[one[1:]]
        ]
        if link is not None and stored:
            _, ref, target = self._chance.choice(stored)
            self._texts += 1
            self._send(link, ref, (target,), f"text {self._texts}")

    def _send(self, link: _Link, ref: str, targets: tuple[str, ...], text: str) -> None:
        for target in targets:
            self.events.append(Asked(link.label, ref, target, text))
            link.waiting[ref, target] += 1
            self._unanswered[link.name][ref, target] = text
        link.to_relay.append(("message", ref, targets, text))

    def _ack(self) -> None:
        link = self._any(ACKING)
        if link is not None and link.received_ids:
            id_ = self._chance.choice(link.received_ids[-3:])
            self.events.append(AckAsked(link.label, id_))
            link.to_relay.append(("ack", id_))

    def _read(self, link: _Link | None = None) -> None:
        link = link or self._any(tuple(name for name, one in self._links.items() if one.to_client))
        if link is None:
            return
        event, place = link.to_client.popleft()
        self.events.append(event)
        if place is not None and link.name in READING:
            log = self._logs[link.name]
            log.cursor = max(log.cursor, place + 1)
        if isinstance(event, Received) and event.id is not None:
            link.received_ids.append(event.id)
        if isinstance(event, Answered):
            targets = [event.target] if event.target else [NOBODY, *RECIPIENTS]
            for target in targets:
                self._unanswered[link.name].pop((event.ref, target), None)
                link.waiting[event.ref, target] -= 1
            if event.answer == STORED and event.target:
                self._stored.append((link.name, event.ref, event.target))

    def _cut(self) -> None:
        link = self._any(tuple(self._links))
        if link is not None:
            for _ in range(self._chance.randrange(len(link.to_relay) + 1)):
                self._handle(link)
            del self._links[link.name]
            self.events.append(Ended(link.label))

    def _leave(self) -> None:
        link = self._any(RECIPIENTS)
        if link is not None:
            self._empty(link)
            del self._links[link.name]
            self.events.append(Ended(link.label, everything_read=True))

    def _empty(self, link: _Link) -> None:
        """Let everything be handled, committed and read."""
        while link.to_relay:
            self._handle(link)
        self._commit()
        while link.to_client:
            self._read(link)

    def _settle(self) -> None:
        names = (*RECIPIENTS, *OWNED_SENDERS, FREE_SENDER)
        for name in names:
            if name not in self._links:
                self._connect(name)
        # What one does may leave something for another.
        for _ in range(3):
            for name in names:
                self._empty(self._links[name])
        for name in RECIPIENTS:
            entries = self._logs[name].entries
            shown = [(entry.id, entry.sender, entry.text) for entry in entries]
            if self._is("leaves one out of the history"):
                del shown[len(shown) // 2 : len(shown) // 2 + 1]
            self.events.append(HistoryRead(name, tuple(shown)))

    # The relay.

    def _is(self, fault: str, probability: float = 1.0) -> bool:
        assert fault in FAULTS
        return self._fault == fault and self._chance.random() < probability

    def _handle(self, link: _Link | None = None) -> None:
        link = link or self._any(tuple(name for name, one in self._links.items() if one.to_relay))
        if link is None:
            return
        kind, *rest = link.to_relay.popleft()
        if kind == "ack":
            self._uncommitted.append(("ack", link, rest[0]))
            return
        ref, targets, text = rest
        assert isinstance(targets, tuple)
        if len(targets) > 1 and self.refuses_at_times and self._chance.random() < 0.1:
            link.to_client.append((Answered(link.label, str(ref), None, REFUSED, "busy"), None))
            return
        for target in targets:
            self._accept(link, str(ref), target, str(text))

    def _accept(self, link: _Link, ref: str, target: str, text: str) -> None:
        log = self._logs.get(target)
        if log is None or self._is("does not know an owned name", 0.05):
            self._answer(link, ref, target, REFUSED, "unknown-name")
            return
        key = (link.label if link.name == FREE_SENDER else link.name, ref, target)
        before = self._refs.get(key) or self._kept_refs.get(key)
        if before is not None and self._is("takes another text under a used ref"):
            before = None if before[0] != text else before
        if self._is("makes two messages of one ref", 0.5):
            before = None
        if before is not None:
            self._answer_again(link, ref, target, text, before)
        elif self.refuses_at_times and self._chance.random() < 0.05:
            self._answer(link, ref, target, REFUSED, "mailbox-full")
            if self._is("delivers what it refused"):
                self._uncommitted.append(("entry", None, target, self._entry(link, ref, text), key))
        else:
            self._accept_new(link, ref, target, text, key)

    def _answer_again(
        self, link: _Link, ref: str, target: str, text: str, before: tuple[str, str | None]
    ) -> None:
        if before[0] != text:
            self._answer(link, ref, target, REFUSED, "ref-reused")
        elif before[1] is None:
            self._answer(link, ref, target, SENT)
        elif self._is("answers a stored one anew"):
            self._answer(link, ref, target, REFUSED, "mailbox-full")
        else:
            # Where its commit is still to come, behind that.
            self._uncommitted.append(("answer", link, ref, target, before[1]))

    def _accept_new(
        self, link: _Link, ref: str, target: str, text: str, key: tuple[str, ...]
    ) -> None:
        log, to = self._logs[target], self._links.get(target)
        is_behind = any(job[0] == "entry" and job[2] == target for job in self._uncommitted)
        is_live = to is not None and not is_behind and to.next == len(log.entries)
        if self._is("says sent to one who is away", 0.2) and to is None:
            self._answer(link, ref, target, SENT)
            return
        entry = self._entry(link, ref, text)
        if is_live and to is not None and target in READING:
            self._refs[key] = (text, None)
            self._answer(link, ref, target, SENT)
            if not self._is("loses a live one", 0.2):
                self._show(to, entry, None, again=False)
            if self._is("sends a live one twice", 0.2):
                self._show(to, entry, None, again=False)
            return
        self._refs[key] = (text, entry.id)
        if self._is("answers before the commit"):
            self._answer(link, ref, target, STORED, entry.id)
            self._uncommitted.append(("entry", None, target, entry, key))
            return
        if self._is("delivers before the commit") and is_live and to is not None:
            self._show(to, entry, None, again=False)
        self._uncommitted.append(("entry", link, target, entry, key))

    def _entry(self, link: _Link, ref: str, text: str) -> _Entry:
        if not self._is("gives one id to two", 0.1):
            self._ids += 1
        return _Entry(f"id{self._ids:04}", link.name, ref, text)

    def _answer(self, link: _Link, ref: str, target: str, answer: str, detail: str = "") -> None:
        if self._links.get(link.name) is not link or self._is("never answers", 0.05):
            return
        if self._is("says sent to one who acks", 0.05) and target in ACKING:
            answer, detail = SENT, ""
        answered = Answered(link.label, ref, target, answer, detail), None  # type: ignore[arg-type]
        link.to_client.append(answered)
        if self._is("answers twice", 0.1):
            link.to_client.append(answered)
        if self._is("answers out of order", 0.2) and len(link.to_client) > 1:
            link.to_client[-1], link.to_client[-2] = link.to_client[-2], link.to_client[-1]

    def _commit(self) -> None:
        jobs, self._uncommitted = self._uncommitted, []
        changed = []
        for job in jobs:
            if job[0] == "entry":
                _, link, target, entry, key = job
                assert isinstance(entry, _Entry) and isinstance(target, str)
                if not (
                    self._is("loses what came while one was away")
                    and target in READING
                    and target not in self._links
                ):
                    self._logs[target].entries.append(entry)
                self._kept_refs[key] = (entry.text, entry.id)  # type: ignore[index]
                changed.append(target)
                if isinstance(link, _Link):
                    self._answer(link, entry.ref, target, STORED, entry.id)
            elif job[0] == "answer":
                _, link, ref, target, id_ = job
                self._answer(link, str(ref), str(target), STORED, str(id_))  # type: ignore[arg-type]
            else:
                self._commit_ack(*job[1:])  # type: ignore[arg-type]
        for log in self._logs.values():
            if not self._is("forgets what was read long ago"):
                log.kept_cursor = log.cursor
        for target in dict.fromkeys(changed):
            self._pump(target)

    def _commit_ack(self, link: _Link, id_: str) -> None:
        log = self._logs[link.name]
        places = [place for place, entry in enumerate(log.entries) if entry.id == id_]
        place = places[0] if places else -1
        if self._is("takes more as acked than was asked", 0.3):
            place = len(log.entries) - 1
        acked = log.entries[log.cursor : place + 1]
        log.cursor = max(log.cursor, place + 1)
        if self._is("reports acks that nobody asked", 0.3):
            acked += log.entries[place + 1 :]
        if self._links.get(link.name) is link:
            link.to_client.append((AckAnswered(link.label, id_), None))
        for entry in acked:
            sender = self._links.get(entry.sender)
            if sender is not None and entry.sender in OWNED_SENDERS:
                told = AckReported(sender.label, entry.ref, link.name, entry.id)
                sender.to_client.append((told, None))

    def _pump(self, name: str) -> None:
        link, log = self._links.get(name), self._logs[name]
        while link is not None and link.next < len(log.entries):
            place = link.next
            link.next += 1
            if self._is("skips one that acks", 0.1) and name in ACKING:
                continue
            entry = log.entries[place]
            if self._is("lets one overtake another", 0.3) and place + 1 < len(log.entries):
                entry = log.entries[place + 1]
                log.entries[place : place + 2] = [entry, log.entries[place]]
            again = name in ACKING and place < log.shown
            log.shown = max(log.shown, link.next)
            if self._is("marks what it never sent") and name in ACKING:
                again = True
            if self._is("delivers to somebody else", 0.05):
                other = self._any(RECIPIENTS)
                link_to = other if other is not None and other.name in RECIPIENTS else link
                self._show(link_to, entry, None, again=False)
            self._show(link, entry, place, again=again)

    def _show(self, link: _Link, entry: _Entry, place: int | None, *, again: bool) -> None:
        id_ = None if link.name == BARE else entry.id
        if self._is("does not mark repeats"):
            again = False
        received = Received(link.label, entry.sender, entry.text, id_, again)
        link.to_client.append((received, place))
        # The transport's buffer empties at once, or when its client has read.
        if place is not None and link.name in READING and self._chance.random() < 0.5:
            log = self._logs[link.name]
            log.cursor = max(log.cursor, place + 1)

    def _kill(self) -> None:
        for link in list(self._links.values()):
            if self._chance.random() < 0.5:
                while link.to_client:
                    self._read(link)
            else:
                self.events.append(Ended(link.label))
        self.events.append(RelayKilled())
        self._links.clear()
        self._uncommitted.clear()
        self._refs.clear()
        if self._is("forgets refs at a kill"):
            self._kept_refs.clear()
        for name, log in self._logs.items():
            if self._is("forgets the end of a log at a kill"):
                del log.entries[-2:]
            log.cursor = min(log.kept_cursor, len(log.entries))
            if self._is("forgets acks") and name in ACKING:
                log.cursor = 0
            log.kept_cursor = log.cursor
            # What was shown is not kept: too much is marked, never too little.
            log.shown = len(log.entries)
