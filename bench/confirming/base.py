"""What the generator asks of each server that confirms messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from bench.dialects import Step


class Recipient(ABC):
    """
    One to whom messages are kept, from its coming (back) on; it acks what it gets.

    :ivar came: everything that was read.
    :ivar received: how many messages were in that.
    :ivar acked: how many of them the server knows to be acked, as far as it says so.
    """

    def __init__(self, name: str, size: int) -> None:
        """
        Begin.

        :param name: of its mailbox.
        :param size: bytes in each text.
        """
        self.name = name
        self.size = size
        self.came = bytearray()
        self.received = 0
        self.acked = 0

    @abstractmethod
    def begin(self) -> bytes:
        """What it sends once it is connected; then messages come."""

    @abstractmethod
    def take(self, data: bytes) -> bytes:
        """
        Take what was read.

        :returns: what to send now.
        :raises BrokenTrafficError: the server refuses something.
        """

    @abstractmethod
    def texts(self) -> Iterator[tuple[str | None, bytes]]:
        """Who sent each message, where the server says so, and its text."""


class Confirming(ABC):
    """
    One server's way to take messages into mailboxes and to confirm them.

    All messages of senders whose names have one length, to recipients whose names have one,
    are of one size.

    :cvar confirmation: a byte that is in each confirmation, `in_each` times; where it is empty, a
        confirmation has `in_each` bytes.
    :cvar refusal: what is in no confirmation, but in each refusal; empty where nothing is refused
        without closing the connection.
    """

    confirmation = b""
    in_each = 1
    refusal = b""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """
        Prepare.

        :param tokens: what each name is claimed with, where names have owners.
        """
        self.tokens = tokens

    @abstractmethod
    def sending(self, name: str) -> list[Step]:
        """How a sender begins."""

    def preparing(self, name: str) -> list[Step]:  # noqa: ARG002
        """How a mailbox is made, by one who then leaves; nothing where it is there already."""
        return []

    @abstractmethod
    def message(self, sender: str, recipient: str, number: int, text: bytes) -> bytes:
        """
        What a sender sends.

        :param number: of this sender's messages, from 0 on.
        """

    @abstractmethod
    def confirmed(self, data: bytes) -> list[int]:
        """
        Take apart what a sender has read.

        :returns: the number of each message that was confirmed.
        :raises ValueError: something else is in it.
        """

    @abstractmethod
    def recipient(self, name: str, size: int) -> Recipient:
        """One that comes for what is, or will be, in its mailbox."""

    def reader(self, name: str, size: int) -> Recipient | None:  # noqa: ARG002
        """One that comes and acks nothing; ``None`` where everybody has to."""
        return None
