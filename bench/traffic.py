"""
Who sends what to whom: buffers that are ready to be sent, and the proof of what arrived.

The traffic of a work is the same for every relay and in every round.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.dialects import Dialect

# Names are of one length, so that every message of a measurement has one size.
# What one sender repeats, and what all repeat together.
_CYCLE_BYTES = 256 * 1024
_ALL_CYCLES_BYTES = 8 * 1024 * 1024

_FILLING = b"the quick brown fox jumps over the lazy dog, 0123456789 times; " * 20


@dataclass(frozen=True)
class Pattern:
    """
    A number of senders and of receivers.

    :ivar paired: whether each sender has one receiver; otherwise each message goes to one
        at random.
    """

    senders: int
    receivers: int
    paired: bool = False

    @property
    def sender_names(self) -> list[str]:
        """The names of those who send."""
        return [f"s{index:03d}" for index in range(self.senders)]

    @property
    def receiver_names(self) -> list[str]:
        """The names of those who receive."""
        return [f"r{index:03d}" for index in range(self.receivers)]


PATTERNS = {
    "a": Pattern(4, 4, paired=True),
    "b": Pattern(20, 20),
    "c": Pattern(50, 1000),
    "f": Pattern(4, 4, paired=True),
}


def make_text(sender: int, receiver: int, number: int, size: int) -> bytes:
    """
    The text of the message with this number from one sender to one receiver.

    :param size: at least 16 bytes, which hold the three.
    """
    head = b"%03d>%03d#%07d" % (sender, receiver, number)
    start = number % 64
    # Not a space at the end: IRC servers take it away.
    return head + _FILLING[start : start + size - len(head) - 1] + b"."


@dataclass(frozen=True)
class Plan:
    """
    What is sent in one measurement.

    :ivar buffers: what each sender sends.
    :ivar repeats: how often it sends that.
    :ivar expected: how many messages each receiver gets.
    :ivar size: bytes in a text.
    """

    buffers: Sequence[bytes]
    repeats: int
    expected: Sequence[int]
    size: int

    @property
    def messages(self) -> int:
        """How many messages that is."""
        return sum(self.expected)


def make_plan(pattern: Pattern, dialect: Dialect, size: int, messages: int) -> Plan:
    """
    Prepare about so many messages.

    :param size: of each text.
    :param messages: of all senders together; where they are many, buffers are repeated.
    """
    names = pattern.receiver_names
    message_bytes = len(dialect.message(names[0], make_text(0, 0, 0, size)))
    cycle_bytes = min(_CYCLE_BYTES, _ALL_CYCLES_BYTES // pattern.senders)
    each = max(1, round(messages / pattern.senders))
    repeats = max(1, round(each * message_bytes / cycle_bytes))
    in_cycle = max(1, round(each / repeats))
    choose = random.Random(pattern.senders)  # noqa: S311 - the same for every relay
    expected: Counter[int] = Counter()
    buffers = []
    for sender in range(pattern.senders):
        sent: Counter[int] = Counter()
        parts = []
        for _ in range(in_cycle):
            receiver = sender if pattern.paired else choose.randrange(pattern.receivers)
            text = make_text(sender, receiver, sent[receiver], size)
            parts.append(dialect.message(names[receiver], text))
            sent[receiver] += 1
        buffers.append(b"".join(parts))
        expected.update(sent)
    return Plan(
        buffers,
        repeats,
        [expected[receiver] * repeats for receiver in range(pattern.receivers)],
        size,
    )


def verify(pattern: Pattern, dialect: Dialect, plan: Plan, received: Sequence[bytes]) -> None:
    """
    Prove that every message of a plan without repeats arrived once, intact and in order.

    :param received: what each receiver got.
    :raises ValueError: it did not; with the first message that is wrong.
    """
    senders = pattern.sender_names
    for receiver, data in enumerate(received):
        name = pattern.receiver_names[receiver]
        came: Counter[int] = Counter()
        for said_sender, text in dialect.texts(data, name):
            sender = int(text[:3])
            wanted = make_text(sender, receiver, came[sender], plan.size)
            if text != wanted or said_sender not in {None, senders[sender]}:
                raise ValueError(f"{name} got {text!r} of {said_sender} instead of {wanted!r}")
            came[sender] += 1
        if came.total() != plan.expected[receiver]:
            raise ValueError(f"{name} got {came.total()} of {plan.expected[receiver]} messages")
