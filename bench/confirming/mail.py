"""The messages that are sent into mailboxes, and the proof that they came out of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from bench.confirming.base import Confirming
from bench.traffic import make_text


@dataclass(frozen=True)
class Crowd:
    """
    Who sends to whom, and how.

    :ivar window: how many messages of each sender may be underway, unconfirmed.
    """

    senders: int
    window: int
    recipients: int

    @property
    def sender_names(self) -> list[str]:
        """The names of those who send."""
        return [f"s{index:03d}" for index in range(self.senders)]

    @property
    def recipient_names(self) -> list[str]:
        """The names of those who have a mailbox."""
        return [f"r{index:03d}" for index in range(self.recipients)]


CROWDS = {
    "stored": Crowd(50, 32, 10),
    "singly": Crowd(200, 1, 10),
    "acked": Crowd(50, 32, 10),
    "catchup": Crowd(10, 32, 1),
}


@dataclass(frozen=True)
class Mail:
    """
    Messages that are ready to be sent.

    :ivar buffers: all of one sender, one after the other.
    :ivar message_bytes: of each.
    :ivar size: bytes in a text.
    :ivar to: for each sender, the recipient of each message, by number.
    """

    crowd: Crowd
    buffers: Sequence[bytes]
    message_bytes: int
    size: int
    to: Sequence[Sequence[int]]

    @property
    def each(self) -> int:
        """How many messages each sender has."""
        return len(self.to[0])

    def expected(self, sent: Iterable[int]) -> list[int]:
        """
        How many messages each recipient has, or is to get.

        :param sent: how many each sender has sent.
        """
        counted: Counter[int] = Counter()
        for recipients, count in zip(self.to, sent, strict=True):
            counted.update(islice(recipients, count))
        return [counted[recipient] for recipient in range(self.crowd.recipients)]

    def verify(
        self, sent: Sequence[int], came: Sequence[Iterable[tuple[str | None, bytes]]]
    ) -> None:
        """
        Prove that every message sent came out once, intact and in its sender's order.

        :param sent: how many each sender has sent.
        :param came: for each recipient, who sent each message, where that was said, and its text.
        :raises ValueError: it did not; with the first message that is wrong.
        """
        senders, names = self.crowd.sender_names, self.crowd.recipient_names
        for index, (texts, due) in enumerate(zip(came, self.expected(sent), strict=True)):
            counted: Counter[int] = Counter()
            for said_sender, text in texts:
                sender = int(text[:3])
                wanted = make_text(sender, index, counted[sender], self.size)
                if text != wanted or said_sender not in {None, senders[sender]}:
                    raise ValueError(
                        f"{names[index]} got {text!r} of {said_sender} instead of {wanted!r}"
                    )
                counted[sender] += 1
            if counted.total() != due:
                raise ValueError(f"{names[index]} got {counted.total()} of {due} messages")


def make_mail(crowd: Crowd, confirming: Confirming, size: int, messages: int) -> Mail:
    """
    Prepare about so many messages, each to one of the recipients at random.

    :param size: of each text, in bytes.
    """
    each = max(1, round(messages / crowd.senders))
    choose = random.Random(crowd.senders)  # noqa: S311 - the same for every server
    names = crowd.recipient_names
    buffers, to = [], []
    for sender, sender_name in enumerate(crowd.sender_names):
        sent: Counter[int] = Counter()
        recipients, parts = [], []
        for number in range(each):
            recipient = choose.randrange(crowd.recipients)
            text = make_text(sender, recipient, sent[recipient], size)
            parts.append(confirming.message(sender_name, names[recipient], number, text))
            sent[recipient] += 1
            recipients.append(recipient)
        buffers.append(b"".join(parts))
        to.append(recipients)
    message_bytes = len(buffers[0]) // each
    if any(len(buffer) != each * message_bytes for buffer in buffers):
        raise ValueError("messages are not of one size")
    return Mail(crowd, buffers, message_bytes, size, to)
