"""
Accounts as they are kept: owned names, their tokens, where they were opened from, and who has
to give a name back.

Everything here is SQL on one connection, and synchronous.  Times are seconds since the epoch,
and are passed in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from chatrelay.names import Name
from chatrelay.store.bans import StoredBans
from chatrelay.store.logs import Logs
from chatrelay.store.rooms import Rooms

MAX_TOKENS = 256
"""Tokens of one account; the longest unused goes for another."""
MAX_NETWORKS = 64
"""Networks of one account that are remembered; the oldest goes for another."""

_DAY_S = 86_400.0
TOKEN_LIFETIME_S = 30 * _DAY_S
"""Seconds from the last use of a token."""
LOGIN_LIFETIME_S = 30 * _DAY_S
"""Seconds for which a login from a network is remembered."""
REVOCATION_LIFETIME_S = _DAY_S
"""Seconds for which a revocation is kept; relays look every few."""
# A write for each use would cost an fsync each; a day more or less of thirty costs nobody.
_TOKEN_NOTED_EVERY_S = _DAY_S

# SQLite takes 32,766 values; parsing so many marks takes longer than another query.
_KEYS_IN_ONE_QUERY = 256

_COLUMNS = (
    "number, key, shown, secret_hash, is_disabled, account.created_s, changed_s, last_login_s"
)


# One query instead of four: each gives the interpreter away and waits to have it back.
_LOOK_UP = f"""
SELECT {_COLUMNS}, login.last_s, token.used_s,
    (SELECT seq FROM sqlite_sequence WHERE name = 'revocation')
FROM account
LEFT JOIN login ON login.account = number AND login.network = ?
LEFT JOIN token ON token.account = number AND token.hash = ?
WHERE key = ?
"""  # noqa: S608 - no value in it


class Account(NamedTuple):
    """
    One owned name.

    :ivar number: never given to another account, not even after this one was removed.
    :ivar key: what names are compared by.
    :ivar shown: the name as its owner wrote it.
    :ivar secret_hash: what `chatrelay.accounts.secrets.is_right` takes.
    :ivar changed_s: when it was made, got another secret, or was disabled or enabled.
    :ivar last_login_s: the last login with the secret, or to the day with a token; ``None``
        if there was none.
    """

    number: int
    key: bytes
    shown: bytes
    secret_hash: str
    is_disabled: bool
    created_s: float
    changed_s: float
    last_login_s: float | None


class Revocation(NamedTuple):
    """Whoever was granted the name `key` before this was made holds it no longer."""

    sequence: int
    key: bytes


class TokenUse(Enum):
    """What a token is good for."""

    UNKNOWN = "unknown"
    """Never given for this account, revoked, or not used for 30 days."""
    GOOD = "good"
    GOOD_TO_NOTE = "good, and to be noted"
    """Good; its use is to be written down with `Accounts.note_token_use`."""


class Found(NamedTuple):
    """
    What there is about a claim.

    :ivar account: the name's; ``None`` if nobody owns it.
    :ivar revision: the last revocation that is taken into account.
    :ivar is_known: whether the name was opened from the same network lately.
    :ivar token_use: what the token that was shown is good for.
    """

    account: Account | None
    revision: int
    is_known: bool = False
    token_use: TokenUse = TokenUse.UNKNOWN


class Accounts:
    """
    The accounts behind one connection.

    :ivar logs: their logs, and those of rooms.
    :ivar rooms: the rooms that they keep.
    :ivar bans: who is kept out.

    `find`, `owned`, `look_up`, `count`, iteration, `last_revocation`, `is_revoked` and
    `revocations_after` only read.  All others write, and are called inside a
    transaction that the caller has opened.  On an account that is gone they do nothing.

    Each raises ``sqlite3.Error`` if the database fails.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.rooms = Rooms(connection)
        self.logs = Logs(connection, self.rooms)
        self.bans = StoredBans(connection)

    def find(self, key: bytes) -> Account | None:
        """The account of a name."""
        for row in self._rows(f"SELECT {_COLUMNS} FROM account WHERE key = ?", key):  # noqa: S608
            return _account(row)
        return None

    def owned(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of these names have an account; as quick for hundreds as `find` for a few."""
        found: set[bytes] = set()
        for start in range(0, len(keys), _KEYS_IN_ONE_QUERY):
            some = keys[start : start + _KEYS_IN_ONE_QUERY]
            marks = ", ".join("?" * len(some))
            rows = self._rows(f"SELECT key FROM account WHERE key IN ({marks})", *some)  # noqa: S608
            found.update(key for (key,) in rows)
        return found

    def look_up(self, key: bytes, network: str, token_hash: bytes | None, now_s: float) -> Found:
        """
        Read at once what a claim of a name is decided by.

        :param network: where the claim comes from.
        :param token_hash: of the token that was shown; ``None`` if there was none.
        """
        rows = self._rows(_LOOK_UP, network, token_hash or b"", key)
        if not rows:
            return Found(None, self.last_revocation())
        *account, last_s, used_s, revision = rows[0]
        return Found(
            _account(account),
            revision or 0,
            is_known=_is_recent_login(last_s, now_s),
            token_use=_token_use(used_s, now_s),
        )

    def count(self) -> int:
        """How many accounts there are."""
        return int(self._rows("SELECT count(*) FROM account")[0][0])

    def __iter__(self) -> Iterator[Account]:
        """All accounts, ordered by their keys."""
        query = f"SELECT {_COLUMNS} FROM account ORDER BY key"  # noqa: S608 - no value in it
        yield from map(_account, self._connection.execute(query))

    def add(self, name: Name, secret_hash: str, now_s: float) -> bool:
        """
        Make a name owned, and revoke it from whoever holds it without a secret.

        :returns: ``False`` if it is owned already; nothing is changed then.
        """
        added = self._rows(
            "INSERT INTO account (key, shown, secret_hash, created_s, changed_s)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING RETURNING key",
            *(name.key, name.shown, secret_hash, now_s, now_s),
        )
        self._revoke(added, now_s)
        return bool(added)

    def set_secret(self, number: int, secret_hash: str, now_s: float) -> None:
        """Give an account another secret, drop its tokens and revoke the name."""
        changed = self._rows(
            "UPDATE account SET secret_hash = ?, changed_s = ? WHERE number = ? RETURNING key",
            *(secret_hash, now_s, number),
        )
        self._rows("DELETE FROM token WHERE account = ?", number)
        self._revoke(changed, now_s)

    def set_disabled(self, number: int, is_disabled: bool, now_s: float) -> None:
        """Let nobody open an account, and revoke its name; or let its owner open it again."""
        changed = self._rows(
            "UPDATE account SET is_disabled = ?, changed_s = ? WHERE number = ? RETURNING key",
            *(int(is_disabled), now_s, number),
        )
        if is_disabled:
            self._revoke(changed, now_s)

    def remove(self, number: int, now_s: float) -> None:
        """Make a name free, revoke it, and forget its tokens and logins."""
        removed = self._rows("DELETE FROM account WHERE number = ? RETURNING key", number)
        self._revoke(removed, now_s)

    def add_token(self, number: int, token_hash: bytes, now_s: float) -> None:
        """Remember a token; of `MAX_TOKENS` already there the longest unused goes."""
        self._rows(
            "DELETE FROM token WHERE account = ?1 AND hash IN (SELECT hash FROM token"
            " WHERE account = ?1 ORDER BY used_s DESC, hash LIMIT -1 OFFSET ?2)",
            *(number, MAX_TOKENS - 1),
        )
        self._rows(
            "INSERT OR REPLACE INTO token (account, hash, created_s, used_s)"
            " SELECT number, ?2, ?3, ?3 FROM account WHERE number = ?1",
            *(number, token_hash, now_s),
        )

    def note_token_use(self, number: int, token_hash: bytes, now_s: float) -> None:
        """Write down that a token was used, which is a login."""
        used = self._rows(
            "UPDATE token SET used_s = ? WHERE account = ? AND hash = ? RETURNING account",
            *(now_s, number, token_hash),
        )
        if used:
            self._rows("UPDATE account SET last_login_s = ? WHERE number = ?", now_s, number)

    def note_success(self, number: int, network: str, now_s: float) -> None:
        """Write down a login; of `MAX_NETWORKS` other networks the oldest goes."""
        self._rows(
            "DELETE FROM login WHERE account = ?1 AND network IN (SELECT network FROM login"
            " WHERE account = ?1 AND network != ?2"
            " ORDER BY last_s DESC, network LIMIT -1 OFFSET ?3)",
            *(number, network, MAX_NETWORKS - 1),
        )
        self._rows(
            "INSERT OR REPLACE INTO login (account, network, last_s)"
            " SELECT number, ?2, ?3 FROM account WHERE number = ?1",
            *(number, network, now_s),
        )
        self._rows("UPDATE account SET last_login_s = ? WHERE number = ?", now_s, number)

    def last_revocation(self) -> int:
        """The highest sequence that any revocation ever had; 0 if there was none."""
        found = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'revocation'")
        return int(found[0][0]) if found else 0

    def is_revoked(self, key: bytes, sequence: int) -> bool:
        """Whether a name was revoked since."""
        query = "SELECT 1 FROM revocation WHERE key = ? AND sequence > ? LIMIT 1"
        return bool(self._rows(query, key, sequence))

    def revocations_after(self, sequence: int) -> list[Revocation]:
        """The revocations made since, the earliest first, of those that are still kept."""
        query = "SELECT sequence, key FROM revocation WHERE sequence > ? ORDER BY sequence"
        return [Revocation(*row) for row in self._rows(query, sequence)]

    def prune(self, now_s: float) -> None:
        """Forget what is too old to be asked for."""
        self._rows("DELETE FROM token WHERE used_s < ?", now_s - TOKEN_LIFETIME_S)
        self._rows("DELETE FROM login WHERE last_s < ?", now_s - LOGIN_LIFETIME_S)
        self._rows("DELETE FROM revocation WHERE revoked_s < ?", now_s - REVOCATION_LIFETIME_S)

    def _revoke(self, rows: list[Any], now_s: float) -> None:
        for (key,) in rows:
            self._rows("INSERT INTO revocation (key, revoked_s) VALUES (?, ?)", key, now_s)

    def _rows(self, query: str, *values: bytes | str | float) -> list[Any]:
        # To the end, so that no statement stays open when its transaction ends.
        return self._connection.execute(query, values).fetchall()


def _token_use(used_s: float | None, now_s: float) -> TokenUse:
    if used_s is None or now_s - used_s > TOKEN_LIFETIME_S:
        return TokenUse.UNKNOWN
    # A use in the future is one of a clock that was wrong: noting it puts it right.
    if 0 <= now_s - used_s <= _TOKEN_NOTED_EVERY_S:
        return TokenUse.GOOD
    return TokenUse.GOOD_TO_NOTE


def _is_recent_login(last_s: float | None, now_s: float) -> bool:
    return last_s is not None and now_s - last_s <= LOGIN_LIFETIME_S


def _account(row: Any) -> Account:  # noqa: ANN401 - as sqlite3 gives it
    number, key, shown, secret_hash, is_disabled, *times_s = row
    return Account(number, key, shown, secret_hash, bool(is_disabled), *times_s)
