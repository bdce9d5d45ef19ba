"""Reading the history in a log, of which much may have to be looked at for little: in pieces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from heapq import merge

from chatrelay.mailbox.entries import DamagedError, Kind, Run, decode
from chatrelay.mailbox.log import Entry, Piece
from chatrelay.names import parse_name
from chatrelay.store.database import StoreError

# Runs that are looked at for one piece: some milliseconds.
_MOST_RUNS = 1000


def read_piece(
    connection: sqlite3.Connection,
    account: int,
    party: bytes | None,
    count: int,
    *,
    before_id: int | None = None,
    after_id: int | None = None,
) -> Piece:
    """
    Read some of a history, in order.

    :param party: the key of a name, for the messages from and to it; ``None`` for all
        that were sent to the log's own.
    :param count: so many at most: the first ones after `after_id`, else the last ones.
    """
    is_forward = after_id is not None
    bounds = (after_id or 0, before_id if before_id is not None else 1 << 62)
    sides = (False, True) if party is not None else (False,)
    streams = [
        _entries(connection, account, is_sent, party, bounds, is_forward=is_forward)
        for is_sent in sides
    ]
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


def decoded(data: bytes) -> list[Run]:
    """
    Read a chunk.

    :raises StoreError: it is none.
    """
    try:
        return decode(data)
    except DamagedError:
        raise StoreError("a log in it is damaged: put a backup in its place") from None


def _entries(
    connection: sqlite3.Connection,
    account: int,
    is_sent: bool,
    party: bytes | None,
    bounds: tuple[int, int],
    *,
    is_forward: bool,
) -> Iterator[tuple[int, Entry | int]]:
    """Each entry by its id, and behind each chunk how many runs it has, by its farthest id."""
    after_id, before_id = bounds
    order = "first_id" if is_forward else "first_id DESC"
    query = (
        "SELECT data FROM chunk WHERE account = ? AND is_sent = ? AND first_id < ?"  # noqa: S608
        f" AND last_id > ? ORDER BY {order}"
    )
    wanted = Kind.SENT if is_sent else Kind.RECEIVED
    for (data,) in connection.execute(query, (account, int(is_sent), before_id, after_id)):
        runs = decoded(data)
        entries = [
            (number, Entry(number, run.time_ms, is_sent, run.party, text))
            for run in runs
            if run.kind is wanted and (party is None or parse_name(run.party).key == party)
            for number, _, text in run.entries()
            if after_id < number < before_id
        ]
        yield from entries if is_forward else reversed(entries)
        yield (runs[-1].last_id if is_forward else runs[0].first_id), len(runs)


def _number(found: tuple[int, Entry | int]) -> int:
    return found[0]
