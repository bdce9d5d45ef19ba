"""
Bans as they are kept.

Everything here is SQL on one connection, and synchronous.  Times are seconds since the epoch,
and are passed in.
"""

from __future__ import annotations

import ipaddress
import sqlite3

from chatrelay.bans import CHANGED, Ban, Target
from chatrelay.names import Name


class StoredBans:
    """
    The bans behind one connection.

    `all` only reads.  The others write, and are called inside a transaction that the caller has
    opened.  Each raises ``sqlite3.Error`` if the database fails.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self) -> list[Ban]:
        """All of them, also those whose time is over."""
        rows = self._connection.execute(
            "SELECT kind, what, shown, made_s, until_s, made_by, why FROM ban ORDER BY kind, what"
        ).fetchall()
        return [Ban(_target(*row[:3]), *row[3:]) for row in rows]

    def add(self, ban: Ban) -> None:
        """Keep a ban, in place of the one of the same target; those that have ended go."""
        self._connection.execute("DELETE FROM ban WHERE until_s <= ?", (ban.made_s,))
        self._connection.execute(
            "INSERT OR REPLACE INTO ban (kind, what, shown, made_s, until_s, made_by, why)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*_key(ban.target), *ban[1:]),
        )

    def remove(self, target: Target) -> bool:
        """Keep it no longer; returns whether there was one."""
        removed = self._connection.execute(
            "DELETE FROM ban WHERE kind = ? AND what = ? RETURNING what", _key(target)[:2]
        ).fetchall()
        return bool(removed)

    def note_change(self, now_s: float) -> None:
        """Let a running relay read them again: it looks for revocations every second."""
        self._connection.execute(
            "INSERT INTO revocation (key, revoked_s) VALUES (?, ?)", (CHANGED, now_s)
        )


def _key(target: Target) -> tuple[str, bytes, bytes]:
    """Its kind, what it is compared by, and how it is shown."""
    if isinstance(target, Name):
        return "name", target.key, target.shown
    written = str(target).encode("ascii")
    return "network", written, written


def _target(kind: str, what: bytes, written: bytes) -> Target:
    if kind == "name":
        return Name(written, what)
    return ipaddress.ip_network(what.decode("ascii"))
