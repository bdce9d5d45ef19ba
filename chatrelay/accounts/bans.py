"""Bans that outlive the relay: the store as `chatrelay.bans` asks for it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.accounts.authentication import Store
from chatrelay.bans import Ban, Target
from chatrelay.claims import Decided
from chatrelay.mailbox import failures

_log = Logger(namespace="chatrelay")


class BanJournal:
    """The bans in a store; a `chatrelay.bans.Journal`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, ban: Ban, decided: Decided[None]) -> None:
        """Keep a ban, in place of the one of the same target."""
        failures.tell(self._store.write(lambda accounts: accounts.bans.add(ban)), decided)

    def remove(self, target: Target, decided: Decided[None]) -> None:
        """Keep it no longer."""
        removed = self._store.write(lambda accounts: accounts.bans.remove(target))
        failures.tell(removed.addCallback(lambda _: None), decided)

    def read(self, then: Callable[[list[Ban] | None], None]) -> None:
        """Read all of them; ``None`` if that fails."""

        def failed(failure: Failure) -> None:
            failures.note(failure)
            then(None)

        reading = self._store.read(lambda accounts: accounts.bans.all())
        reading.addCallbacks(then, failed)
        reading.addErrback(lambda failure: _log.failure("reading bans failed", failure))
