"""
What a client reads and writes: lines to messages and replies, and messages to lines.

Pure: no socket and no clock.  Bytes are decoded here, at the edge of the library,
with what is not UTF-8 replaced, so that a broken relay can not raise in a program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Literal

from chatrelay.errors import REFUSALS, ChatrelayError, Misuse, Refusal
from chatrelay.names import MAX_NAME_BYTES, Name, parse_name, parse_room
from chatrelay.wire import EVERYONE as _EVERYONE
from chatrelay.wire import check_text, parse_message, parse_tags

EVERYONE = _EVERYONE.decode("ascii")
"""The target that is everybody who is connected, and the room of what came from there."""
MAX_TARGETS = 32
KNOWN_CAPS = ("id", "time", "echo", "ping", "ack", "receipts")
"""What a relay of this version can add to its lines; it passes over the others silently."""
Level = Literal["sent", "stored", "acked"]
"""What can become of a message; each is more than the one before."""
LEVELS: tuple[Level, ...] = ("sent", "stored", "acked")


class Disconnected(ChatrelayError):  # noqa: N818 - named as the refusals are
    """
    The connection ended, or had ended before.

    :ivar may_have_arrived: whether what was asked had been written: then it may or
        may not have been done.  False: it was never written.
    """

    def __init__(self, reason: str, *, may_have_arrived: bool = False) -> None:
        self.may_have_arrived = may_have_arrived
        if may_have_arrived:
            reason += " What was not answered may or may not have arrived."
        super().__init__(reason)


class Unreachable(ChatrelayError):  # noqa: N818 - named as the refusals are
    """No connection could be made, or what answers is not a relay."""


class WrongServer(Unreachable):
    """What answers is not the relay: trying again does not help."""


class OnlySent(ChatrelayError):  # noqa: N818 - named as the refusals are
    """
    More was asked than that the message was sent, and it was sent.

    Only for an owned name is a message stored, and only if that is away, or one of its
    connections has the cap ``ack``.

    :ivar answer: what became of the message.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        why = "nobody owns this name, or it is here and reads without acks."
        if is_room(answer.target):
            why = "no member is away, or the room is not kept."
        super().__init__(f"{answer.target} was sent the message, but it is not stored: {why}")


class TooMuchWaiting(ChatrelayError):  # noqa: N818 - named as the refusals are
    """As much waits for a connection or an answer as may wait; this was never written."""


class UnknownRefusal(Refusal):
    """A refusal with a code that this version does not know; `code` holds it."""

    code = "unknown-code"
    sentence = "The relay refused this."

    def __init__(self, code: str, *context: bytes, sentence: str | None = None) -> None:
        self.code = code  # type: ignore[misc]
        super().__init__(*context, sentence=sentence)


@dataclass(frozen=True, slots=True)
class Message:
    """
    A message that came.

    :ivar sender: who wrote it.
    :ivar text: what was written; it may hold bidirectional overrides, so use
        `chatrelay.client.display.harmless` before showing it on a terminal.
    :ivar room: the room it was written in, with its ``#``; ``*`` when it went to
        everyone; ``None`` for a direct message.
    :ivar time: when the relay took it, with the cap ``time``, else ``None``.
    :ivar id: its id, with the cap ``id``, else ``None``.
    :ivar to: of what another connection of one's own name sent, with the cap ``echo``: whom
        it went to; ``None`` for what was sent to this name.
    :ivar tags: all of its tags.
    :ivar again: whether it may have been delivered before, to this program or to another of
        the name: nobody had acked it (cap ``ack``).
    """

    sender: str
    text: str
    room: str | None = None
    time: datetime | None = None
    id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    to: str | None = None
    again: bool = False

    @property
    def conversation(self) -> str:
        """Where an answer goes: the room, or the other side."""
        if self.to is not None:
            return self.to
        return self.sender if self.room in (None, EVERYONE) else str(self.room)


@dataclass(frozen=True, slots=True)
class Reply:
    """
    A line of the relay's own: ``!WORD ARGUMENTS :SENTENCE``.

    :ivar word: the fixed word, without its ``!``.
    :ivar arguments: the words after it.
    :ivar sentence: for people; programs never parse it.
    :ivar tags: its tags.
    """

    word: str
    arguments: tuple[str, ...] = ()
    sentence: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """What stands in the argument ``KEY=…``; ``None`` if there is none."""
        pairs = (word.partition("=") for word in self.arguments)
        return next((value for found, is_pair, value in pairs if is_pair and found == key), None)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is neither message nor reply: this peer speaks something else."""

    line: bytes


Event = Message | Reply | Unreadable


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What became of a message to one target.

    :ivar target: as it was written.
    :ivar state: ``sent``, queued on the target's open connection, and lost if that
        breaks now; ``stored``, committed in the log of a name that is owned; or ``acked``,
        stored, and the target's own program has said that it has it.
    :ivar id: of a stored message, else ``None``.
    """

    target: str
    state: Level
    id: str | None = None


Outcome = Answer | Refusal


def parse_line(line: bytes) -> Event:
    """Read one line from a relay, without its end.  Raises nothing."""
    try:
        raw_tags, rest = parse_tags(line)
    except Refusal:
        return Unreadable(line)
    tags = {_text(key): _text(value) for key, value in raw_tags.items()}
    if rest.startswith(b"%"):
        return _parse_incoming(_text(rest), tags) or Unreadable(line)
    if rest.startswith(b"!") and rest[1:2].isalpha():
        head, _, sentence = _text(rest[1:]).partition(" :")
        word, *arguments = head.split()
        return Reply(word, tuple(arguments), sentence, tags)
    return Unreadable(line)


def _parse_incoming(line: str, tags: dict[str, str]) -> Message | None:
    where, percent, rest = line[1:].partition("%")
    room = None
    sender, text = where, rest
    if where == EVERYONE or is_room(where):
        room = where
        sender, percent, text = rest.partition("%")
    if not percent or not sender:
        return None
    return Message(
        sender,
        text,
        room,
        _parse_time(tags.get("time")),
        tags.get("id"),
        tags,
        tags.get("to"),
        "again" in tags,
    )


def _parse_time(written: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(written or "")
    except ValueError:
        return None
    # At the ends of the calendar it can not be told in every time zone.
    is_common = time.tzinfo is not None and MINYEAR < time.year < MAXYEAR
    return time if is_common else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def is_bye(event: Event) -> bool:
    """Whether it is the relay's answer to ``/quit``: the connection ends in order."""
    return isinstance(event, Reply) and event.word == "bye"


def refusal_from(reply: Reply) -> Refusal:
    """The exception that stands for ``!error CODE [CONTEXT…] :sentence``."""
    code, *words = reply.arguments or ("unknown-code",)
    context = [word.encode("utf-8") for word in words]
    sentence = reply.sentence or None
    kind = REFUSALS.get(code)
    if kind is None:
        return UnknownRefusal(code, *context, sentence=sentence)
    return kind(*context, sentence=sentence)


def check_name(name: str) -> Name:
    """
    Read a name that this program wants to use.

    :raises Misuse: it can not be a name.
    """
    try:
        return parse_name(_encoded(name))
    except Refusal as refusal:
        raise Misuse(refusal.sentence) from None


def check_room(room: str) -> None:
    """
    Check a room that this program wants to use.

    :raises Misuse: it can not be a room.
    """
    try:
        parse_room(_encoded(room))
    except Refusal as refusal:
        raise Misuse(refusal.sentence) from None


def is_room(target: str) -> bool:
    """Whether a target is written as a room."""
    return target.startswith("#")


def is_short(name: str) -> bool:
    """Whether it is no longer than a name or room can be: what is longer is not remembered."""
    return len(name) <= MAX_NAME_BYTES + 1


def same_name(one: str, other: str) -> bool:
    """Whether two writings are one name or room; what can be neither is like itself only."""
    return one == other or name_key(one) == name_key(other)


def name_key(name: str) -> bytes:
    """What is the same for all writings of a name or room, and of what can be neither itself."""
    if is_room(name):
        return b"#" + name_key(name[1:])
    try:
        return check_name(name).key
    except Misuse:
        return name.encode("utf-8", "backslashreplace")


def distinct(names: Sequence[str]) -> list[str]:
    """Names or rooms, each once, in order and as they are written first."""
    first: dict[bytes, str] = {}
    for name in names:
        first.setdefault(name_key(name), name)
    return list(first.values())


def not_among(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """The names or rooms that are none of the others, however they are written."""
    keys = set(map(name_key, others))
    return [name for name in names if name_key(name) not in keys]


def message_line(targets: Sequence[str], text: str, max_line_bytes: int) -> tuple[bytes, list[str]]:
    """
    Write a message.

    :param targets: names; or one room, or ``*``, alone.
    :param max_line_bytes: what the relay takes, without the end; 64 bytes of it are
        kept for the ref.
    :returns: the line without tags and end, and the targets that will be answered,
        in order: a name given twice is one.
    :raises Misuse: it can not be sent: no such target, no text, a control character
        or an end of line in it, or longer than a line may be.
    """
    if isinstance(targets, str):
        raise Misuse("Names are a list of them, not one text.")
    for target in targets:
        _encoded(target)
    if any("," in target or "%" in target for target in targets):
        raise Misuse("A name holds no ',' and no '%'.")
    if not text:
        raise Misuse("There is no text.")
    line = b"%" + _encoded(",".join(targets)) + b"%" + _encoded(text)
    _check_line(line, max_line_bytes)
    try:
        parse_message(line, MAX_TARGETS)
    except Refusal as refusal:
        raise Misuse(refusal.sentence) from None
    return line, distinct(targets)


def check_level(wait: str, targets: Sequence[str]) -> None:
    """
    Check what a program wants to wait for.

    :raises Misuse: it is none of `LEVELS`, or not told of such a target.
    """
    if wait not in LEVELS:
        raise Misuse(f"A message is waited for until it is {' or '.join(LEVELS)}, not {wait!r}.")
    if wait == "acked" and any(is_room(target) or target == EVERYONE for target in targets):
        raise Misuse("What many are sent is not acked as a whole: wait until it is stored.")


def command_line(line: str, max_line_bytes: int) -> bytes:
    """
    Write a command.

    :param line: ``/VERB`` and its arguments.
    :raises Misuse: it does not begin with ``/``, or can not be sent.
    """
    written = _encoded(line)
    if not written.startswith(b"/"):
        raise Misuse("A command begins with '/'.")
    _check_line(written, max_line_bytes)
    return written


def check_caps(caps: Sequence[str]) -> tuple[str, ...]:
    """
    Read the caps that a program wants a connection to have.

    :raises Misuse: one of them is none that this version knows.
    """
    if isinstance(caps, str):
        raise Misuse(f"Caps are a list of them, not one text, as {caps!r} is.")
    for cap in caps:
        if cap not in KNOWN_CAPS:
            raise Misuse(f"There is no cap {cap!r}; there are {', '.join(KNOWN_CAPS)}.")
    return tuple(caps)


def _encoded(text: str) -> bytes:
    if not isinstance(text, str):  # a program need not be type-checked
        raise Misuse(f"Names, messages and commands are str, not {type(text).__name__}.")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Misuse("This is not Unicode text: it has a lone surrogate.") from None


def _check_line(line: bytes, max_line_bytes: int) -> None:
    room = max_line_bytes - _TAG_ROOM
    if len(line) > room:
        raise Misuse(f"This is {len(line)} bytes; a line holds {room}.")
    if b"\n" in line:
        raise Misuse("A message is one line: it can not hold an end of line.")
    try:
        check_text(line)
    except Refusal as refusal:
        raise Misuse(refusal.sentence) from None


# "@ref=" and the space after it, and the longest ref that Answers makes.
_TAG_ROOM = 64
