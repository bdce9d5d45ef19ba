"""What a checker of deliveries knows so far: connections, messages, and what each recipient got."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappush, heappushpop

from tests.delivery_history import REFUSED

REMEMBERED_REFS = 1000
REMEMBERED_S = 600.0
# How a connection ended.
CUT, KILLED, READ = "cut", "killed", "read"
# What a relay may refuse now and accept a moment later, so that a later message comes first.
PASSING = frozenset({"mailbox-full", "store-failed", "blocked", "busy", "rate-limited"})


class Delivered:
    """
    The latest of some delivered messages: of each connection of a sender, and of all.

    One is later than another if it was sent later on the same connection, or after the other
    was answered.
    """

    __slots__ = ("_by_connection", "_latest")

    def __init__(self) -> None:
        self._by_connection: dict[str, tuple[int, Message]] = {}
        self._latest: tuple[int, Message] | None = None

    def add(self, message: Message) -> None:
        """Add a message."""
        for one in message.candidates()[:1]:
            added = (one.event, message)
            label = one.connection.label
            of_connection = self._by_connection.get(label, added)
            self._by_connection[label] = max(of_connection, added, key=_when)
            self._latest = max(self._latest or added, added, key=_when)

    def later_than(self, message: Message, *, is_known_once: bool) -> Message | None:
        """
        Find a message that should not be delivered before another.

        :param is_known_once: whether it counts when the other was asked first, though it was
            asked again.
        """
        candidates = message.candidates()
        if not candidates:
            return None
        first = candidates[0]
        if is_known_once or len(candidates) == 1:
            found = self._by_connection.get(first.connection.label)
            if found is not None and found[0] > first.event:
                return found[1]
        found = self._latest
        if found is not None and found[0] > message.accepted_event > candidates[-1].event:
            return found[1]
        return None


def _when(one: tuple[int, Message]) -> int:
    return one[0]


@dataclass(slots=True, eq=False)
class Connection:
    """
    One connection of a sender or a recipient.

    :ivar opened: the number of the event that began it.
    :ivar acked_at_first: how many messages of the name's order had been acked before.
    :ivar position: with ``ack``, the place in that order behind what was read last; ``None``
        before.
    :ivar keys: what was read on it, by id, or by sender and text where there are none.
    :ivar so_far: the same, for holding the order.
    :ivar waiting: what is not answered yet, by ref.
    :ivar last_in_order: the event of the latest line with an answer that keeps the order.
    :ivar how_ended: ``None`` while it is open.
    :ivar noticing: how many messages were answered that had been asked after its end.
    :ivar noticed: the event by which the relay knew of its end.
    """

    label: str
    name: str
    opened: int
    acked_at_first: int = 0
    position: int | None = None
    keys: set[object] = field(default_factory=set)
    so_far: Delivered = field(default_factory=Delivered)
    waiting: dict[str, list[tuple[Message, Submission]]] = field(default_factory=dict)
    acks_waiting: list[str] = field(default_factory=list)
    last_in_order: int = 0
    how_ended: str | None = None
    ended: float = math.inf
    ended_s: float = math.inf
    noticing: int = 0
    noticed: float = math.inf


@dataclass(slots=True, eq=False)
class Submission:
    """
    One time that a message was asked.

    :ivar life: of the relay, from 0.
    :ivar answer: ``None`` while there is none.
    """

    connection: Connection
    life: int
    event: int
    asked_s: float
    answer: str | None = None


@dataclass(slots=True, eq=False)
class Message:
    """
    A text from one sender to one recipient.

    :ivar ref_number: how many refs its sender had used before.
    :ivar stored: the id it was stored under, by the scope of its ref: empty for all of an
        owned sender, else the one connection of a free one.
    :ivar stored_life: the first in which it was answered *stored*.
    :ivar accepted_event: the first that told it was stored or sent.
    :ivar ids: all that it was seen with.
    :ivar is_delivered: whether its recipient read it.
    :ivar may_be_forgotten: whether it was asked so late that the relay need not know its ref.
    """

    sender: str
    target: str
    ref: str
    text: str
    ref_number: int
    submissions: list[Submission] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    stored_life: float = math.inf
    stored_event: float = math.inf
    accepted_event: float = math.inf
    ids: set[str] = field(default_factory=set)
    is_delivered: bool = False
    may_be_forgotten: bool = False

    def __str__(self) -> str:
        return f"{self.sender}'s message {self.text[:40]!r} to {self.target} (ref {self.ref})"

    def candidates(self) -> list[Submission]:
        """The times it was asked that were not refused."""
        return [one for one in self.submissions if one.answer != REFUSED]


@dataclass(slots=True)
class Delivery:
    """
    A message in a recipient's order.

    :ivar first: the connection on which it was read first.
    :ivar last: the one on which it was read last.
    """

    message: Message
    first: Connection
    first_event: int
    last: Connection
    last_event: int
    last_s: float


@dataclass(slots=True, eq=False)
class Recipient:
    """
    An owned name that is written to.

    :ivar acks: whether its connections have the cap ``ack``.
    :ivar order: what was delivered, in the order of the first times.
    :ivar positions: places in it, by id, or by sender and text where there are none.
    :ivar acked: how many of these the relay said are acked.
    :ivar ack_asked: how many of these it was asked to take as acked.
    :ivar refuses_at_times: whether messages to it were refused for what passes.
    :ivar so_far: what was delivered, for holding the order; without ``ack`` since the last kill,
        after which what was lost may come, and then what came meanwhile again.
    """

    name: str
    acks: bool
    connections: list[Connection] = field(default_factory=list)
    order: list[Delivery] = field(default_factory=list)
    positions: dict[object, int] = field(default_factory=dict)
    acked: int = 0
    ack_asked: int = 0
    refuses_at_times: bool = False
    so_far: Delivered = field(default_factory=Delivered)


class State:
    """
    Everything that the parts of a checker share.

    :ivar event: the number of the present event, from 1.
    :ivar now_s: its time.
    :ivar life: how often the relay was killed before.
    """

    def __init__(
        self,
        acking: Iterable[str],
        reading: Iterable[str],
        free: Iterable[str],
        in_flight_s: float,
        refuses_at_times: bool,
        noticed_after: int,
        settled_after: int,
    ) -> None:
        self.violations: list[str] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.recipients = {name: Recipient(name, acks=True) for name in acking}
        self.recipients |= {name: Recipient(name, acks=False) for name in reading}
        for recipient in self.recipients.values():
            recipient.refuses_at_times = refuses_at_times
        self.in_flight_s = in_flight_s
        self.event = 0
        self.now_s = 0.0
        self.life = 0
        self.connections: dict[str, Connection] = {}
        self.open: dict[str, Connection] = {}
        self.messages: dict[tuple[str, str, str], Message] = {}
        self._noticed_after = noticed_after
        self._unnoticed: list[Connection] = []
        self._free = frozenset(free)
        self._settled_after = settled_after
        # When the messages were asked that were stored since the last kill: the latest ones.
        self._stored_events: list[int] = []
        self._ref_numbers: dict[str, dict[str, int]] = defaultdict(dict)
        self._of_id: dict[str, Message] = {}

    def violation(self, sentence: str) -> None:
        """Note a violation."""
        self.violations.append(f"event {self.event}: {sentence}.")

    def open_connection(self, label: str) -> Connection:
        """
        Find a connection.

        :raises ValueError: if it is not open.
        """
        try:
            return self.open[label]
        except KeyError:
            raise ValueError(f"there is no open connection {label}") from None

    def make_message(self, sender: str, target: str, ref: str, text: str) -> Message:
        """Make a message that was never asked before."""
        numbers = self._ref_numbers[sender]
        number = numbers.setdefault(ref, len(numbers))
        message = Message(sender, target, ref, text, number)
        self.messages[sender, target, text] = message
        self.counts["messages"] += 1
        return message

    def is_free(self, message: Message) -> bool:
        """Whether nobody owns its sender's name."""
        return message.sender in self._free

    def scope(self, message: Message, submission: Submission) -> str:
        """Where the ref of a message is known: a free sender's ends with its connection."""
        return submission.connection.label if self.is_free(message) else ""

    def is_remembered(self, message: Message) -> bool:
        """Whether the relay has to know the message's ref, if it accepted it."""
        later = len(self._ref_numbers[message.sender]) - message.ref_number - 1
        age_s = self.now_s - message.submissions[0].asked_s if message.submissions else 0.0
        return later < REMEMBERED_REFS and age_s < REMEMBERED_S

    def most_copies(self, message: Message) -> int:
        """How many messages may have been made of one ref."""
        submissions = message.candidates()
        if message.may_be_forgotten:
            return len(submissions)
        if self.is_free(message):
            return len({one.connection.label for one in submissions})
        recipient = self.recipients.get(message.target)
        if recipient is not None and recipient.acks:
            return 1
        return len({one.life for one in submissions if one.life <= message.stored_life})

    def note_end(self, connection: Connection) -> None:
        """Note that a connection has ended, of which the relay may learn a little later."""
        if connection.how_ended == CUT and self._noticed_after:
            self._unnoticed.append(connection)
        else:
            connection.noticed = self.event

    def note_answer(self, submission: Submission) -> None:
        """Note that the relay was at work after a message was asked."""
        for connection in list(self._unnoticed):
            connection.noticing += submission.event > connection.ended
            if connection.noticing >= self._noticed_after:
                connection.noticed = self.event
                self._unnoticed.remove(connection)

    def note_stored(self, submission: Submission) -> None:
        """Note that the relay has committed something."""
        push = heappush if len(self._stored_events) < self._settled_after else heappushpop
        push(self._stored_events, submission.event)

    def settled_event(self) -> float:
        """What the relay had to keep when this event was, it has kept since."""
        is_known = len(self._stored_events) == self._settled_after
        return self._stored_events[0] if is_known else -math.inf

    def relay_killed(self) -> None:
        """Begin the life of another relay."""
        self.life += 1
        self.counts["kills"] += 1
        self._stored_events.clear()
        for connection in self._unnoticed:
            connection.noticed = self.event
        self._unnoticed.clear()

    def note_id(self, id_: str, message: Message) -> None:
        """Hold that an id belongs to one text of one sender, and note it with the message."""
        of_id = self._of_id.setdefault(id_, message)
        if (of_id.sender, of_id.text) != (message.sender, message.text):
            self.violation(f"the id {id_} is that of {of_id}, and also of {message}")
        message.ids.add(id_)

    def text_of_id(self, id_: str) -> Message | None:
        """The first message that was seen with an id."""
        return self._of_id.get(id_)
