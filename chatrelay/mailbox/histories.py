"""
Reads histories out of the store: in pieces, one at a time.

For one that has little to show a whole log may have to be looked at.  Commits and logins go
between its pieces, and so do the pieces of others.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatrelay.mailbox.log import Entry, Piece
from chatrelay.mailbox.writer import Store
from chatrelay.store.accounts import Accounts


class Asked:
    """
    A history that is asked for.

    :ivar answer: fires with its entries, in order.
    """

    def __init__(
        self,
        account: int,
        party: bytes | None,
        count: int,
        *,
        room: int = 0,
        before_id: int | None = None,
        after_id: int | None = None,
    ) -> None:
        """Ask; see `chatrelay.store.histories.read_piece`."""
        self.answer: Deferred[list[Entry]] = Deferred()
        self._account = account
        self._party = party
        self._count = count
        self._room = room
        self._before_id = before_id
        self._after_id = after_id
        self._found: list[Entry] = []

    def read(self, accounts: Accounts) -> Piece:
        """Read the next piece, in the thread of the store."""
        return accounts.logs.history(
            *(self._account, self._party, self._count - len(self._found)),
            room=self._room,
            before_id=self._before_id,
            after_id=self._after_id,
        )

    def take(self, piece: Piece) -> bool:
        """Take what was read; returns whether that is all."""
        if self._after_id is None:
            self._found[:0] = piece.entries
            self._before_id = piece.next_id
        else:
            self._found += piece.entries
            self._after_id = piece.next_id
        if piece.next_id and len(self._found) < self._count:
            return False
        self.answer.callback(self._found)
        return True


class Histories:
    """The histories that are asked of one store."""

    def __init__(self, store: Store) -> None:
        """Begin with none."""
        self._store = store
        self._waiting: deque[Asked] = deque()
        self._is_reading = False

    def ask(self, asked: Asked) -> None:
        """Have one read, behind the pieces of others that wait."""
        self._waiting.append(asked)
        self._read_next()

    def _read_next(self) -> None:
        if self._is_reading or not self._waiting:
            return
        asked = self._waiting.popleft()
        self._is_reading = True

        def read(piece: Piece) -> None:
            self._is_reading = False
            if not asked.take(piece):
                self._waiting.append(asked)
            self._read_next()

        def failed(failure: Failure) -> None:
            self._is_reading = False
            asked.answer.errback(failure)
            self._read_next()

        self._store.read(asked.read).addCallbacks(read, failed)
