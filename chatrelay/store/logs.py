"""
The logs of owned names as they are kept: chunks of entries, and how far each log is read.

Everything here is SQL on one connection, and synchronous.  Times are seconds since the epoch,
and are passed in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from chatrelay.ids import SET_ASIDE
from chatrelay.mailbox.entries import Kind, Run
from chatrelay.mailbox.log import Bounds, Changes, GivenUp, Loaded, Piece, Written
from chatrelay.store.chunks import COLUMNS, Held, chunk_rows, decoded, freed_by, too_many
from chatrelay.store.histories import read_piece
from chatrelay.store.rooms import Rooms
from chatrelay.store.rows import delete, fetch, insert, those_there

# Rows that are given up at once, and rows that are looked at for them: milliseconds.
_OLDEST_ROWS = 1000
_LOOKED_AT_ROWS = 5000

# Most names that come back at once have nothing: for them it is one query instead of six.
_HAS_ANY = """
SELECT EXISTS (SELECT 1 FROM mailbox WHERE account = ?1)
    OR EXISTS (SELECT 1 FROM chunk WHERE account = ?1)
    OR EXISTS (SELECT 1 FROM block WHERE account = ?1)
"""


class Logs:
    """
    The logs behind one connection, those of the kept rooms among them.

    `owned_names`, `load`, `page`, `history` and `used_bytes` only read.  All others write, and
    are called inside a transaction that the caller has opened.

    Each raises ``sqlite3.Error`` if the database fails, and `StoreError` if a log is damaged.
    """

    def __init__(self, connection: sqlite3.Connection, rooms: Rooms) -> None:
        self._connection = connection
        self._rooms = rooms

    def owned_names(self, keys: Sequence[bytes] | None = None) -> list[tuple[int, bytes, bytes]]:
        """The number, key and shown name of all accounts, or of those with these keys."""
        query = "SELECT number, key, shown FROM account"
        if keys is None:
            return self._rows(query)
        return [row for key in keys for row in self._rows(query + " WHERE key = ?", key)]

    def set_ids_aside(self, least: int) -> int:
        """
        Set `SET_ASIDE` ids aside that were never given.

        :param least: the first of them has this number at least.
        :returns: its number.
        """
        rows = self._rows("SELECT id FROM next_id")
        first: int = max([least, *(number for (number,) in rows)])
        self._rows("INSERT OR REPLACE INTO next_id (only, id) VALUES (1, ?)", first + SET_ASIDE)
        return first

    def load(self, account: int, now_s: float, refs_since_s: float) -> Loaded:
        """
        Read what is held in memory of one log.

        :param refs_since_s: what the name sent under a ref since then.
        """
        [(has_any,)] = self._rows(_HAS_ANY, account)
        if not has_any:
            return Loaded()
        found = self._rows("SELECT read_id, offered_id FROM mailbox WHERE account = ?", account)
        read_id, offered_id = found[0] if found else (0, 0)
        entries, size_bytes = self._held(account)
        [(last_id,)] = self._rows(
            "SELECT coalesce(max(last_id), 0) FROM chunk WHERE account = ? AND is_sent = 0", account
        )
        unread: dict[int, tuple[int, int]] = {}
        for run in self._runs_after(account, read_id):
            if run.kind is Kind.RECEIVED:
                held = unread.get(run.account, (0, 0))
                unread[run.account] = (held[0] + run.length, held[1] + run.size_bytes)
        rows = self._rows(
            "SELECT is_sent, written_s, data FROM chunk WHERE account = ? AND written_s >= ?"
            " ORDER BY number",
            *(account, refs_since_s),
        )
        lately = [(is_sent, written_s, decoded(data)) for is_sent, written_s, data in rows]
        return Loaded(
            read_id,
            offered_id,
            last_id,
            entries,
            size_bytes,
            [(sender, *held) for sender, held in unread.items()],
            [
                (max(0.0, now_s - written_s), run)
                for is_sent, written_s, runs in lately
                if is_sent
                for run in runs
                if run.refs and run.kind is not Kind.ACKED
            ],
            [run for _, _, runs in lately for run in runs if run.kind is Kind.ACKED],
            [key for (key,) in self._rows("SELECT key FROM block WHERE account = ?", account)],
        )

    def write(self, changes: Sequence[Changes], bounds: Bounds, now_s: float) -> Written:
        """Write what has changed in several logs."""
        of_rooms = [change for change in changes if change.room]
        changes = [change for change in changes if not change.room]
        numbers = [change.account for change in changes]
        there = those_there(self._connection, "account", numbers)
        rows = [
            (change.account, is_sent, *row)
            for change in changes
            if change.account in there
            for is_sent, added in ((0, change.received), (1, change.sent))
            for row in chunk_rows(added, now_s)
        ]
        insert(self._connection, f"INSERT INTO chunk (account, is_sent, {COLUMNS})", rows)
        positions = [
            (change.account, change.read_id, change.offered_id)
            for change in changes
            if change.account in there and (change.read_id or change.offered_id)
        ]
        insert(
            self._connection,
            "INSERT INTO mailbox (account, read_id, offered_id)",
            positions,
            " ON CONFLICT (account) DO UPDATE SET read_id = max(read_id, excluded.read_id),"
            " offered_id = max(offered_id, excluded.offered_id)",
        )
        freed: dict[int, tuple[int, int]] = {}
        for change in changes:
            given_up = (0, 0)
            if not bounds.keeps_read and change.read_id:
                given_up = self._give_up_read(change.account, change.read_id)
            if change.is_over:
                cut = self._cut(change.account, bounds, now_s)
                given_up = (given_up[0] + cut[0], given_up[1] + cut[1])
            if given_up[0]:
                freed[change.account] = given_up
        gone_rooms, freed_rooms = self._rooms.write(of_rooms, bounds, now_s)
        gone = set(numbers) - there
        return Written(gone, freed, self.used_bytes(), gone_rooms, freed_rooms)

    def page(self, account: int, after_id: int, max_bytes: int) -> list[Run]:
        """
        Read what was sent to a name, in order.

        :param after_id: only what is later.
        :param max_bytes: about so much.
        :returns: empty if there is no more.
        """
        runs: list[Run] = []
        size_bytes = 0
        for run in self._runs_after(account, after_id):
            runs.append(run)
            size_bytes += run.size_bytes
            if size_bytes >= max_bytes:
                break
        return runs

    def history(
        self,
        account: int,
        party: bytes | None,
        count: int,
        *,
        room: int = 0,
        before_id: int | None = None,
        after_id: int | None = None,
    ) -> Piece:
        """Read some of a log, in order; see `chatrelay.store.histories.read_piece`."""
        return read_piece(
            *(self._connection, account, party, count),
            room=room,
            before_id=before_id,
            after_id=after_id,
        )

    def block(self, account: int, key: bytes, shown: bytes) -> None:
        """Take nothing more from a name."""
        self._rows(
            "INSERT OR REPLACE INTO block (account, key, shown)"
            " SELECT number, ?2, ?3 FROM account WHERE number = ?1",
            *(account, key, shown),
        )

    def unblock(self, account: int, key: bytes) -> None:
        """Take messages from a name again."""
        self._rows("DELETE FROM block WHERE account = ? AND key = ?", account, key)

    def give_up(
        self, *, written_before_s: float, read_before_s: float, after_number: int = 0
    ) -> GivenUp:
        """
        Give up some of what is the oldest in all logs.

        :param written_before_s: what was written before, read or not.
        :param read_before_s: the same of what is read or was sent, or was said in a room.
        :param after_number: how far it was looked at before.
        """
        # In the order of the commits, which is that of time whatever the clock says.
        [(until, young)] = self._rows(
            "SELECT max(number), min(number) FILTER (WHERE written_s >= ?) FROM"
            " (SELECT number, written_s FROM chunk WHERE number > ? ORDER BY number LIMIT ?)",
            *(max(written_before_s, read_before_s), after_number, _LOOKED_AT_ROWS),
        )
        oldest = self._rows(
            "SELECT number, chunk.account, entries, size_bytes FROM chunk"
            " LEFT JOIN mailbox ON mailbox.account = chunk.account"
            " WHERE number > ?1 AND number <= ?2 AND (written_s < ?3"
            " OR written_s < ?4 AND (is_sent = 1 OR last_id <= coalesce(read_id, 0)))"
            " ORDER BY number LIMIT ?5",
            *(after_number, (until or 0) if young is None else young - 1),
            *(written_before_s, read_before_s, _OLDEST_ROWS),
        )
        if len(oldest) == _OLDEST_ROWS:
            until, young = oldest[-1][0], None
        freed_rooms, has_more_of_rooms = self._rooms.give_up(
            written_before_s=max(written_before_s, read_before_s), most_rows=_OLDEST_ROWS
        )
        return GivenUp(
            self._delete([Held(*row) for row in oldest]),
            (until or 0) if young is None else 0,
            freed_rooms,
            has_more_of_rooms,
        )

    def used_bytes(self) -> int:
        """What everything takes in the file, without its free pages."""
        [(pages, free, page_bytes)] = self._rows(
            "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int((pages - free) * page_bytes)

    # -- how it does it

    def _runs_after(self, account: int, after_id: int) -> Iterator[Run]:
        # The chunk that `after_id` falls into may have more behind it.
        query = (
            "SELECT data FROM chunk WHERE account = ?1 AND is_sent = 0 AND first_id >= coalesce("
            "(SELECT max(first_id) FROM chunk WHERE account = ?1 AND is_sent = 0"
            " AND first_id <= ?2), 0) ORDER BY first_id"
        )
        for (data,) in self._connection.execute(query, (account, after_id)):
            for run in decoded(data):
                later = run.after(after_id)
                if later is not None:
                    yield later

    def _held(self, account: int) -> tuple[int, int]:
        """How many entries a log has, read and unread, sent and received, and their size."""
        [(entries, size_bytes)] = self._rows(
            "SELECT coalesce(sum(entries), 0), coalesce(sum(size_bytes), 0)"
            " FROM chunk WHERE account = ?",
            account,
        )
        return entries, size_bytes

    def _give_up_read(self, account: int, read_id: int) -> tuple[int, int]:
        rows = self._rows(
            "DELETE FROM chunk WHERE account = ? AND is_sent = 0 AND last_id <= ?"
            " RETURNING entries, size_bytes",
            *(account, read_id),
        )
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def _cut(self, account: int, bounds: Bounds, now_s: float) -> tuple[int, int]:
        """Give up what is read, the oldest first, until a log is within its bounds."""
        entries, size_bytes = self._held(account)
        kept = self._rows(
            "SELECT number, entries FROM chunk WHERE account = ? AND is_sent = 1"
            " AND written_s > ? ORDER BY first_id DESC",
            *(account, now_s - bounds.keep_sent_s),
        )
        needed: set[int] = set()
        sent_entries = 0
        for number, chunk_entries in kept:
            if sent_entries >= bounds.keep_sent_entries:
                break
            needed.add(number)
            sent_entries += chunk_entries
        rows = self._rows(
            "SELECT number, chunk.account, entries, size_bytes FROM chunk"
            " LEFT JOIN mailbox ON mailbox.account = chunk.account WHERE chunk.account = ?"
            " AND (is_sent = 1 OR last_id <= coalesce(read_id, 0)) ORDER BY first_id",
            account,
        )
        chunks = [Held(*row) for row in rows if row[0] not in needed]
        given_up = too_many(chunks, bounds, entries, size_bytes)
        return self._delete(given_up).get(account, (0, 0))

    def _delete(self, chunks: Sequence[Held]) -> dict[int, tuple[int, int]]:
        delete(self._connection, "chunk", [chunk.number for chunk in chunks])
        return freed_by(chunks)

    def _rows(self, query: str, *values: bytes | str | float) -> list[Any]:
        return fetch(self._connection, query, *values)
