"""Statements about many rows at once: as few as can be, and their results to the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Rows for one statement: powers of two, so that SQLite's compiled statements are used again.
_MOST_ROWS = 256


def fetch(connection: sqlite3.Connection, query: str, *values: bytes | str | float) -> list[Any]:
    """Run one statement; to the end, so that it is not open when its transaction ends."""
    return connection.execute(query, values).fetchall()


def insert(
    connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], behind: str = ""
) -> None:
    """
    Insert rows.

    :param into: the statement, up to its values.
    :param behind: what comes behind them.
    """
    for some in _slices(rows):
        one = "(" + ", ".join("?" * len(some[0])) + ")"
        values = [value for row in some for value in row]
        connection.execute(f"{into} VALUES {', '.join([one] * len(some))}{behind}", values)


def those_there(connection: sqlite3.Connection, table: str, numbers: Sequence[int]) -> set[int]:
    """Which of these numbers a table has."""
    query = f"SELECT number FROM {table} WHERE number IN"  # noqa: S608 - a name of ours
    return {
        number
        for some in _slices(numbers)
        for (number,) in fetch(connection, f"{query} ({_marks(some)})", *some)
    }


def delete(connection: sqlite3.Connection, table: str, numbers: Sequence[int]) -> None:
    """Delete the rows of a table that have these numbers."""
    for some in _slices(numbers):
        query = f"DELETE FROM {table} WHERE number IN ({_marks(some)})"  # noqa: S608 - as above
        fetch(connection, query, *some)


def _slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    # Each statement gives the interpreter away and has to wait to have it back.
    start = 0
    while start < len(values):
        count = min(_MOST_ROWS, 1 << (len(values) - start).bit_length() - 1)
        yield values[start : start + count]
        start += count


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
