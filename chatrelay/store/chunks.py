"""Chunks as rows: how runs become them, and which of them go when a log has too much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatrelay.mailbox.entries import DamagedError, Run, decode, encode, parted
from chatrelay.mailbox.log import Bounds
from chatrelay.store.database import StoreError

COLUMNS = "first_id, last_id, entries, size_bytes, written_s, data"
"""What every chunk has, whosever it is."""

# A log that is over its bound is cut to this part of it, and not at every commit.
_CUT_TO = 0.95


class Held(NamedTuple):
    """
    A chunk without what is in it.

    :ivar number: its row's.
    :ivar log: the number of the account or the room.
    """

    number: int
    log: int
    entries: int
    size_bytes: int


def chunk_rows(runs: Iterable[Run], now_s: float) -> list[tuple[int, int, int, int, float, bytes]]:
    """Make of runs, in order, what stands in `COLUMNS`, a row for each chunk."""
    return [
        (
            chunk[0].first_id,
            chunk[-1].last_id,
            sum(run.length for run in chunk),
            sum(run.size_bytes for run in chunk),
            now_s,
            encode(chunk),
        )
        for chunk in parted(runs)
    ]


def decoded(data: bytes) -> list[Run]:
    """
    Read a chunk.

    :raises StoreError: it is none.
    """
    try:
        return decode(data)
    except DamagedError:
        raise StoreError("a log in it is damaged: put a backup in its place") from None


def too_many(chunks: Iterable[Held], bounds: Bounds, entries: int, size_bytes: int) -> list[Held]:
    """
    Find what is to be given up until a log is within its bounds.

    :param chunks: what may be, in the order in which it goes.
    :param entries: how many the whole log has.
    :param size_bytes: what they count for.
    """
    given_up: list[Held] = []
    for chunk in chunks:
        if entries <= bounds.entries * _CUT_TO and size_bytes <= bounds.size_bytes * _CUT_TO:
            break
        given_up.append(chunk)
        entries -= chunk.entries
        size_bytes -= chunk.size_bytes
    return given_up


def freed_by(chunks: Sequence[Held]) -> dict[int, tuple[int, int]]:
    """How many entries, and bytes, each log has less without these chunks."""
    freed: dict[int, tuple[int, int]] = {}
    for chunk in chunks:
        entries, size_bytes = freed.get(chunk.log, (0, 0))
        freed[chunk.log] = (entries + chunk.entries, size_bytes + chunk.size_bytes)
    return freed
