"""The numbered files that the schema is made of, one for each version of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

SCHEMA_DIRECTORY = Path(__file__).parent / "schema"


def read_schema(directory: Path) -> list[str]:
    """
    Read ``0001-WORDS.sql`` and those that follow.

    :returns: what each does to the database that those before it have made; as many as there
        are versions.
    :raises ValueError: they are not numbered 1, 2, 3, …
    :raises OSError: they can not be read.
    """
    paths = sorted(directory.glob("*.sql"))
    numbers = [path.name.partition("-")[0] for path in paths]
    if not paths or numbers != [f"{number:04}" for number in range(1, len(paths) + 1)]:
        raise ValueError(f"{directory} has to hold 0001-WORDS.sql, 0002-WORDS.sql and so on")
    return [path.read_text(encoding="utf-8") for path in paths]


def apply_schema(connection: sqlite3.Connection, schema: Sequence[str]) -> None:
    """
    Bring a database to the newest version, in one transaction: wholly or not at all.

    Foreign keys must not be enforced meanwhile, so that a table can be replaced by another.

    :raises sqlite3.Error: nothing was changed.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        [(version,)] = connection.execute("PRAGMA user_version")
        for script in schema[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(schema)}")
        if connection.execute("PRAGMA foreign_key_check").fetchall():
            raise sqlite3.IntegrityError("a row refers to another that is not there")
        connection.execute("COMMIT")
    except BaseException:
        # Some failures have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def missing_parts(connection: sqlite3.Connection, schema: Sequence[str]) -> list[str]:
    """The tables and indexes that a database of the newest version has and this one has not."""
    query = "SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    model = sqlite3.connect(":memory:", isolation_level=None)
    try:
        apply_schema(model, schema)
        expected = {part for (part,) in model.execute(query)}
    finally:
        model.close()
    return sorted(expected - {part for (part,) in connection.execute(query)})


def _statements(script: str) -> Iterator[str]:
    # Connection.executescript would commit first.
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.rstrip(";").strip():
        yield statement
