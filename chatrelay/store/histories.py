"""Reading the history in a log, of which much may have to be looked at for little: in pieces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from chatrelay.mailbox.entries import Kind
from chatrelay.mailbox.log import Entry, Piece
from chatrelay.names import key_of_party
from chatrelay.store.chunks import decoded

# Runs that are looked at for one piece: some milliseconds.
_MOST_RUNS = 1000


class _Side(NamedTuple):
    """Where one side of a conversation stands."""

    chunks: str
    log: int
    is_sent: bool


def read_piece(
    connection: sqlite3.Connection,
    account: int,
    party: bytes | None,
    count: int,
    *,
    room: int = 0,
    before_id: int | None = None,
    after_id: int | None = None,
) -> Piece:
    """
    Read some of a history, in order.

    :param account: whose log it is read in; 0 for that of a room.
    :param party: the key of a name, for the messages from and to it; ``None`` for all
        that were sent to the log's own.
    :param room: the number of the room in whose log it is read; 0 for an account's.
    :param count: so many at most: the first ones after `after_id`, else the last ones.
    """
    is_forward = after_id is not None
    bounds = (after_id or 0, before_id if before_id is not None else 1 << 62)
    sides = [_Side("chunk WHERE account = ? AND is_sent = 0", account, is_sent=False)]
    if room:
        sides = [_Side("room_chunk WHERE room = ?", room, is_sent=False)]
    elif party is not None:
        sides.append(_Side("chunk WHERE account = ? AND is_sent = 1", account, is_sent=True))
    streams = [_entries(connection, side, party, bounds, is_forward=is_forward) for side in sides]
    found: list[Entry] = []
    runs = next_id = 0
    for number, entry in merge(*streams, key=_number, reverse=not is_forward):
        if len(found) >= count:
            break
        if isinstance(entry, int):
            runs += entry
            if runs >= _MOST_RUNS:
                next_id = number
                break
        # What a name wrote to itself is in both.
        elif not found or found[-1].id != entry.id:
            found.append(entry)
    return Piece(found if is_forward else found[::-1], next_id)


def _entries(
    connection: sqlite3.Connection,
    side: _Side,
    party: bytes | None,
    bounds: tuple[int, int],
    *,
    is_forward: bool,
) -> Iterator[tuple[int, Entry | int]]:
    """Each entry by its id, and behind each chunk how many runs it has, by its farthest id."""
    after_id, before_id = bounds
    order = "first_id" if is_forward else "first_id DESC"
    query = f"SELECT data FROM {side.chunks} AND first_id < ? AND last_id > ? ORDER BY {order}"  # noqa: S608
    wanted = Kind.SENT if side.is_sent else Kind.RECEIVED
    for (data,) in connection.execute(query, (side.log, before_id, after_id)):
        runs = decoded(data)
        entries = [
            (number, Entry(number, run.time_ms, side.is_sent, run.party, text))
            for run in runs
            if run.kind is wanted and (party is None or key_of_party(run.party) == party)
            for number, _, text in run.entries()
            if after_id < number < before_id
        ]
        yield from entries if is_forward else reversed(entries)
        yield (runs[-1].last_id if is_forward else runs[0].first_id), len(runs)


def _number(found: tuple[int, Entry | int]) -> int:
    return found[0]
