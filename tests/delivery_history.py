"""
What senders and receivers saw of a relay: the events of a history, and how one is written down.

A connection is a label that is never used again.  Whoever tells a history tells it in an
order that could have been: a message is asked before it is received, and everything that
could still be read of a connection is told before its end, or the relay's.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import Literal

SENT: Literal["sent"] = "sent"
STORED: Literal["stored"] = "stored"
REFUSED: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection begins, before the relay can know whose it is."""

    connection: str
    name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """
    A connection has ended, and the relay's end of it takes nothing any more.

    :ivar everything_read: whether its client said so and has read to the end of what the relay
        wrote: then nothing was in flight.
    """

    connection: str
    everything_read: bool = False


@dataclass(frozen=True, slots=True)
class RelayKilled:
    """The relay is gone, and all connections with it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A confirmed message to one target is about to be sent; a line with several is one for each.

    Asking again is the same ref, target and text; each ref has a text of its own.
    """

    connection: str
    ref: str
    target: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """
    An answer was read.

    :ivar target: ``None`` for a refusal of the whole line.
    :ivar detail: the id of what is stored, the code of what is refused.
    """

    connection: str
    ref: str
    target: str | None
    answer: Literal["sent", "stored", "refused"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """
    A message was read.

    :ivar id: its id, if the connection is told ids.
    :ivar again: whether it is marked as a repeat.
    """

    connection: str
    sender: str
    text: str
    id: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class AckAsked:
    """An ``/ack`` is about to be sent."""

    connection: str
    id: str


@dataclass(frozen=True, slots=True)
class AckAnswered:
    """An ``!acked`` was read by whom it answers."""

    connection: str
    id: str


@dataclass(frozen=True, slots=True)
class AckRefused:
    """An ``/ack`` was answered with an error."""

    connection: str
    id: str
    code: str


@dataclass(frozen=True, slots=True)
class AckReported:
    """A sender read that its message was acked."""

    connection: str
    ref: str
    target: str
    id: str


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """
    What the relay shows as the newest that was addressed to a name, oldest first, without a gap.

    :ivar entries: id, sender and text of each.
    """

    name: str
    entries: tuple[tuple[str, str, str], ...]


Event = (
    Connected
    | Ended
    | RelayKilled
    | Asked
    | Answered
    | Received
    | AckAsked
    | AckAnswered
    | AckRefused
    | AckReported
    | HistoryRead
)

_KINDS = {kind.__name__: kind for kind in Event.__args__}


def write_event(event: Event, now_s: float) -> str:
    """Write an event and its time as one line of JSON."""
    return json.dumps([round(now_s, 6), type(event).__name__, *astuple(event)])


def read_event(line: str) -> tuple[Event, float]:
    """Read what `write_event` wrote."""
    now_s, kind, *values = json.loads(line)
    if kind == HistoryRead.__name__:
        values[1] = tuple(tuple(entry) for entry in values[1])
    return _KINDS[kind](*values), now_s
