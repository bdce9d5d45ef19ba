"""
The table of error codes, and the one tree of chatrelay's exceptions.

Each subclass of `Refusal` is a row of the table: its wire code and the sentence
that a person reads.  The relay raises one to refuse a line and writes it as
``!error CODE [CONTEXT…] :sentence``; the client library raises the same class
when it reads that line.  A code that was ever published keeps its meaning and is
never used for another (docs/protocol.rst, *Errors*).
"""

from __future__ import annotations

from typing import ClassVar


class ChatrelayError(Exception):
    """Anything that chatrelay itself raises."""


class Misuse(ChatrelayError, ValueError):
    """The program that calls chatrelay passed something that can not be sent."""


class Refusal(ChatrelayError):
    """
    The relay refuses what a peer asked.

    :ivar code: the fixed word that programs act on.
    :ivar sentence: what a person reads; programs never parse it.
    :ivar context: names the refusal is about, as the peer wrote them, checked to
        be names: nothing else a peer sent is ever repeated.
    """

    code: ClassVar[str]
    sentence: ClassVar[str]

    def __init__(self, *context: bytes, sentence: str | None = None) -> None:
        self.context = context
        if sentence is not None:
            self.sentence = sentence  # type: ignore[misc]
        super().__init__(
            " ".join([self.code, *(word.decode("utf-8", "backslashreplace") for word in context)])
            + ": "
            + self.sentence
        )


class BadId(Refusal):
    """An id that the relay never gave, or that was given to somebody else."""

    code = "bad-id"
    sentence = "This is not an id that you were given."


class BadLine(Refusal):
    """A line that is neither a message, nor a command, nor (at first) a name."""

    code = "bad-line"
    sentence = "Write %NAME%TEXT to send a message, or /help for the commands."


class BadName(Refusal):
    """A name outside the rules of docs/protocol.rst, *Names*."""

    code = "bad-name"
    sentence = (
        "A name is 1 to 32 letters, digits, '_', '-' or '.', begins with a letter or digit, "
        "and does not mix Latin, Greek and Cyrillic."
    )


class BadRoom(Refusal):
    """A room's name outside the rules."""

    code = "bad-room"
    sentence = "A room is '#' and a name."


class BadSecret(Refusal):
    """The secret does not open the name."""

    code = "bad-secret"
    sentence = "This secret does not open this name; leave the secret out for a name nobody owns."


class BadTags(Refusal):
    """Tags that can not be read, or are longer than 512 bytes."""

    code = "bad-tags"
    sentence = (
        "Tags are @key=value;key and one space before the line, 512 bytes at most, "
        "with a ref of 1 to 64 bytes."
    )


class BadText(Refusal):
    """A control character or a line separator inside a line."""

    code = "bad-text"
    sentence = "Control characters and line separators are not relayed; TAB is."


class BadUtf8(Refusal):
    """Bytes that are not UTF-8."""

    code = "bad-utf8"
    sentence = "Lines are UTF-8."


class Blocked(Refusal):
    """The recipient does not want messages from this sender."""

    code = "blocked"
    sentence = "This name takes no messages from you."


class Busy(Refusal):
    """The relay has too much of this work waiting; the same line may be sent again."""

    code = "busy"
    sentence = "The relay is busy with this now; try again in a few seconds."


class EmptyText(Refusal):
    """A message without a text."""

    code = "empty-text"
    sentence = "Write something after the second '%'."


class Insecure(Refusal):
    """A secret over a connection that others could read."""

    code = "insecure"
    sentence = (
        "Secrets are taken only over TLS, a Unix socket or loopback. One that was sent here may "
        "have been read: change it."
    )


class LineTooLong(Refusal):
    """A line longer than ``max-line`` bytes; it was discarded up to its end."""

    code = "line-too-long"
    sentence = "The line is too long and was not relayed."


class MailboxFull(Refusal):
    """The log of an owned name has no room for this sender."""

    code = "mailbox-full"
    sentence = "The mailbox of this name is full."


class NameInUse(Refusal):
    """Somebody else holds the name now."""

    code = "name-in-use"
    sentence = "Somebody has this name now; take another, or try again when it is free."


class NameOwned(Refusal):
    """The name is registered and was claimed without its secret."""

    code = "name-owned"
    sentence = "This name is registered: write it with its secret."


class NameReserved(Refusal):
    """The name belongs to the relay, to a bot, or to the operator."""

    code = "name-reserved"
    sentence = "This name is reserved; take another."


class NotAllowed(Refusal):
    """The sender may not do this."""

    code = "not-allowed"
    sentence = "Only an operator may do this."


class NotInRoom(Refusal):
    """The sender is not a member of the room."""

    code = "not-in-room"
    sentence = "You are not in this room."


class NotNamed(Refusal):
    """Something that needs a name came before one was given."""

    code = "not-named"
    sentence = "Your first line is your name; write it first."


class RateLimited(Refusal):
    """More than the operator allows in a time."""

    code = "rate-limited"
    sentence = "That is more than is allowed in this time."


class RefReused(Refusal):
    """A ref that an earlier message with another text has."""

    code = "ref-reused"
    sentence = "You sent another text to this name under this ref; use a new one."


class ShuttingDown(Refusal):
    """The relay is stopping."""

    code = "shutting-down"
    sentence = "The relay is stopping."


class SlowConsumer(Refusal):
    """The peer does not take what is sent to it fast enough."""

    code = "slow-consumer"
    sentence = "You read too slowly for what is sent to you."


class StoreFailed(Refusal):
    """The relay's storage failed; what was asked has not been done."""

    code = "store-failed"
    sentence = "The relay could not read or write what it keeps; its operator has a line about it."


class TimedOut(Refusal):
    """The peer took too long."""

    code = "timeout"
    sentence = "You took too long; connect again."


class TooManyClients(Refusal):
    """The relay, or the peer's address, has as many connections as it may."""

    code = "too-many-clients"
    sentence = "There are as many connections as there may be; try again later."


class TooManyRooms(Refusal):
    """More rooms, or members or invitations of one, than there may be."""

    code = "too-many-rooms"
    sentence = "You are in as many rooms as you may be; /leave one first."


class TooManyTargets(Refusal):
    """More names in one message than it may have."""

    code = "too-many-targets"
    sentence = "One message goes to 32 names at most."


class TooManyWatches(Refusal):
    """More watched names than one connection may have."""

    code = "too-many-watches"
    sentence = "You watch as many names as you may; /unwatch some."


class UnknownCommand(Refusal):
    """A command that this relay does not have."""

    code = "unknown-command"
    sentence = "There is no such command here; /help lists them."


class UnknownName(Refusal):
    """Nobody has the name now."""

    code = "unknown-name"
    sentence = "Nobody has this name now."


class UnknownRoom(Refusal):
    """There is no such room."""

    code = "unknown-room"
    sentence = "There is no such room."


REFUSALS: dict[str, type[Refusal]] = {kind.code: kind for kind in Refusal.__subclasses__()}
"""Every code of the protocol and the exception that stands for it."""
