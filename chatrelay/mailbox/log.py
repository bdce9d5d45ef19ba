"""What is asked of the store about a log, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chatrelay.mailbox.entries import Run


class Changes(NamedTuple):
    """
    What is to be written to one log.

    :ivar account: its account's number.
    :ivar received: runs to be added of what was sent to the name, by their ids.
    :ivar sent: the same of what it sent.
    :ivar read_id: up to which id it is read; 0 for no change.
    :ivar offered_id: the last id that may be sent to who has to ack it; 0 for no change.
    :ivar is_over: whether it holds more than it may.
    :ivar room: the number of the room whose log it is, `account` is 0 then; only `received` and
        `is_over` say something of one.
    """

    account: int
    received: Sequence[Run] = ()
    sent: Sequence[Run] = ()
    read_id: int = 0
    offered_id: int = 0
    is_over: bool = False
    room: int = 0


class Bounds(NamedTuple):
    """
    What a log holds at most.

    :ivar entries: so many entries.
    :ivar size_bytes: of this size.
    :ivar keeps_read: whether what was read is kept.
    :ivar keep_sent_s: for how long the newest `keep_sent_entries` of what the name sent are
        kept, whatever the other bounds say: its refs are in them.
    """

    entries: int
    size_bytes: int
    keeps_read: bool
    keep_sent_s: float
    keep_sent_entries: int


class Written(NamedTuple):
    """
    What became of changes.

    :ivar gone: the accounts that are not there any more; nothing was written for them.
    :ivar freed: by account, the entries and the bytes that were given up.
    :ivar used_bytes: what all logs and accounts take in the file.
    :ivar gone_rooms: the same as `gone` of rooms.
    :ivar freed_rooms: the same as `freed`, by room.
    """

    gone: set[int]
    freed: dict[int, tuple[int, int]]
    used_bytes: int
    gone_rooms: set[int] = set()
    freed_rooms: dict[int, tuple[int, int]] = {}


class GivenUp(NamedTuple):
    """
    What became of looking for what is old.

    :ivar freed: by account, the entries and the bytes that were given up.
    :ivar until: up to where the logs of accounts were looked at; 0 if nothing older than was
        asked for is behind.
    :ivar freed_rooms: the same as `freed`, by room.
    :ivar has_more_of_rooms: whether more of rooms may be older than was asked for.
    """

    freed: dict[int, tuple[int, int]]
    until: int
    freed_rooms: dict[int, tuple[int, int]] = {}
    has_more_of_rooms: bool = False

    @property
    def has_more(self) -> bool:
        """Whether it is worth looking again."""
        return bool(self.until) or self.has_more_of_rooms


class Loaded(NamedTuple):
    """
    One log, as far as it is held in memory.

    :ivar read_id: the last id that is read.
    :ivar offered_id: the last id that may have been sent to who has to ack it.
    :ivar last_id: of the last entry that was sent to the name; 0 if there is none.
    :ivar entries: how many entries are kept, sent and received.
    :ivar size_bytes: what they count for.
    :ivar unread: account, entries and bytes of what is unread.
    :ivar accepted: what the name sent under a ref lately: age in seconds, and the run.
    :ivar acked: runs of what others acked of that.
    :ivar blocked: the keys of the names that it takes nothing from.
    """

    read_id: int = 0
    offered_id: int = 0
    last_id: int = 0
    entries: int = 0
    size_bytes: int = 0
    unread: Sequence[tuple[int, int, int]] = ()
    accepted: Sequence[tuple[float, Run]] = ()
    acked: Sequence[Run] = ()
    blocked: Sequence[bytes] = ()


class Entry(NamedTuple):
    """
    One message of a history: its id, its time, who wrote to whom, and the text.

    :ivar party: the other name; of what was said in a room, as `chatrelay.mailbox.entries.Run`.
    """

    id: int
    time_ms: int
    is_sent: bool
    party: bytes
    text: bytes


class Piece(NamedTuple):
    """
    Some of a history.

    :ivar entries: in order.
    :ivar next_id: what the rest is before, or after; 0 if that is all that was asked for.
    """

    entries: list[Entry]
    next_id: int


class Page(NamedTuple):
    """
    Some of a log.

    :ivar runs: in order.
    :ivar is_last: whether nothing more was in the log.
    """

    runs: list[Run]
    is_last: bool
