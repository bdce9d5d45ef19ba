"""
Rooms as they are kept: whose they are, who belongs to them, and what was said there.

Everything here is SQL on one connection, and synchronous.  Times are seconds since the epoch,
and are passed in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from chatrelay.mailbox.log import Bounds, Changes
from chatrelay.rooms.log import KeptRoom
from chatrelay.store.chunks import COLUMNS, Held, chunk_rows, freed_by, too_many
from chatrelay.store.rows import delete, fetch, insert, those_there

_ADD_MEMBER = """
INSERT INTO room_member (room, account, has_joined)
SELECT room.number, account.number, ?3 FROM room, account
WHERE room.number = ?1 AND account.number = ?2
ON CONFLICT (room, account) DO UPDATE SET has_joined = max(has_joined, excluded.has_joined)
"""


class Rooms:
    """
    The kept rooms behind one connection.

    `all` only reads.  All others write, and are called inside a transaction that the caller has
    opened.  On a room or an account that is gone they do nothing.

    Each raises ``sqlite3.Error`` if the database fails.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self) -> list[KeptRoom]:
        """All of them, ordered by their numbers; for the start, since it looks at all logs."""
        members: dict[int, list[tuple[int, bool]]] = {}
        for room, account, has_joined in self._rows(
            "SELECT room, account, has_joined FROM room_member ORDER BY room, account"
        ):
            members.setdefault(room, []).append((account, bool(has_joined)))
        held: dict[int, tuple[int, int]] = {
            room: (entries, size_bytes)
            for room, entries, size_bytes in self._rows(
                "SELECT room, sum(entries), sum(size_bytes) FROM room_chunk GROUP BY room"
            )
        }
        return [
            KeptRoom(
                *(number, key, shown, owner, topic, bool(is_members_only)),
                *(members.get(number, []), *held.get(number, (0, 0))),
            )
            for number, key, shown, owner, topic, is_members_only in self._rows(
                "SELECT number, key, shown, owner, topic, is_members_only FROM room ORDER BY number"
            )
        ]

    def keep(
        self, key: bytes, shown: bytes, owner: int, members: Sequence[int], now_s: float
    ) -> int:
        """
        Keep a room, with its owner and those of these accounts that are there as its members.

        :param key: with the ``#``, as `shown`.
        :returns: its number; 0 if its owner's account is gone: nothing is kept then.
        :raises sqlite3.IntegrityError: it is kept already.
        """
        rows = self._rows(
            "INSERT INTO room (key, shown, owner, created_s)"
            " SELECT ?1, ?2, number, ?4 FROM account WHERE number = ?3 RETURNING number",
            *(key, shown, owner, now_s),
        )
        if not rows:
            return 0
        number: int = rows[0][0]
        there = those_there(self._connection, "account", sorted({owner, *members}))
        insert(
            self._connection,
            "INSERT INTO room_member (room, account, has_joined)",
            [(number, account, 1) for account in sorted(there)],
        )
        return number

    def unkeep(self, number: int) -> None:
        """Keep a room no more, and nothing of what was said there."""
        self._rows("DELETE FROM room WHERE number = ?", number)

    def set_topic(self, number: int, topic: bytes) -> None:
        """Give a room another topic; empty for none."""
        self._rows("UPDATE room SET topic = ? WHERE number = ?", topic, number)

    def set_members_only(self, number: int, is_members_only: bool) -> None:
        """Let only those join who are invited; or everybody."""
        query = "UPDATE room SET is_members_only = ? WHERE number = ?"
        self._rows(query, int(is_members_only), number)

    def add_member(self, number: int, account: int) -> None:
        """An account has joined a room."""
        self._rows(_ADD_MEMBER, number, account, 1)

    def invite(self, number: int, account: int) -> None:
        """An account may join a room; if it has, it stays."""
        self._rows(_ADD_MEMBER, number, account, 0)

    def set_not_joined(self, number: int, account: int) -> None:
        """An account has not joined a room after all; it may, unless it was removed."""
        query = "UPDATE room_member SET has_joined = 0 WHERE room = ? AND account = ?"
        self._rows(query, number, account)

    def remove_member(self, number: int, account: int) -> None:
        """An account belongs to a room no more, and is not invited."""
        self._rows("DELETE FROM room_member WHERE room = ? AND account = ?", number, account)

    def write(
        self, changes: Sequence[Changes], bounds: Bounds, now_s: float
    ) -> tuple[set[int], dict[int, tuple[int, int]]]:
        """
        Write what has changed in the logs of several rooms.

        :returns: the rooms that are gone; by room, the entries and the bytes that were given up.
        """
        numbers = [change.room for change in changes]
        there = those_there(self._connection, "room", numbers)
        rows = [
            (change.room, *row)
            for change in changes
            if change.room in there
            for row in chunk_rows(change.received, now_s)
        ]
        insert(self._connection, f"INSERT INTO room_chunk (room, {COLUMNS})", rows)
        given_up = [
            chunk
            for change in changes
            if change.is_over and change.room in there
            for chunk in self._too_many(change.room, bounds)
        ]
        return set(numbers) - there, self._delete(given_up)

    def give_up(
        self, *, written_before_s: float, most_rows: int
    ) -> tuple[dict[int, tuple[int, int]], bool]:
        """
        Give up some of what is the oldest in all logs of rooms.

        :param written_before_s: what was written before.
        :param most_rows: so many chunks at most.
        :returns: by room, the entries and the bytes that were given up; whether there may be more.
        """
        # In the order of the commits, which is that of time whatever the clock says.
        rows = self._rows(
            "SELECT number, room, entries, size_bytes, written_s FROM room_chunk"
            " ORDER BY number LIMIT ?",
            most_rows,
        )
        old = [Held(*row[:4]) for row in takewhile(lambda row: row[4] < written_before_s, rows)]
        return self._delete(old), len(old) == most_rows

    def _too_many(self, number: int, bounds: Bounds) -> list[Held]:
        rows = self._rows(
            "SELECT number, room, entries, size_bytes FROM room_chunk WHERE room = ?"
            " ORDER BY first_id",
            number,
        )
        chunks = [Held(*row) for row in rows]
        entries = sum(chunk.entries for chunk in chunks)
        return too_many(chunks, bounds, entries, sum(chunk.size_bytes for chunk in chunks))

    def _delete(self, chunks: Sequence[Held]) -> dict[int, tuple[int, int]]:
        delete(self._connection, "room_chunk", [chunk.number for chunk in chunks])
        return freed_by(chunks)

    def _rows(self, query: str, *values: bytes | str | float) -> list[Any]:
        return fetch(self._connection, query, *values)
