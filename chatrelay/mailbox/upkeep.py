"""
What is done from time to time for all logs: old entries are given up, ids are set aside, and it
is known how much there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.python.failure import Failure

from chatrelay.mailbox import failures
from chatrelay.mailbox.log import GivenUp
from chatrelay.mailbox.seams import Surroundings
from chatrelay.mailbox.writer import Store
from chatrelay.store.accounts import Accounts

PRUNE_INTERVAL_S = 60.0

Freed = Mapping[int, tuple[int, int]]


class Upkeep:
    """
    The upkeep of the logs of one relay.

    :ivar used_bytes: what everything takes in the file, when that was last known.
    """

    def __init__(
        self, relay: Surroundings, store: Store, freed: Callable[[Freed, Freed], None]
    ) -> None:
        """
        Begin.

        :param freed: told by account, and by room, how many entries and bytes were given up.
        """
        self.used_bytes = 0
        self._relay = relay
        self._store = store
        self._freed = freed
        self._is_pruning = False
        self._pruned_until = 0
        self._jobs = 0
        self._rests_until_s = 0.0
        self._is_setting_aside = False
        self._pruned_s = relay.seconds()

    @property
    def is_full(self) -> bool:
        """Whether all logs together have as much as they may."""
        return self.used_bytes > self._relay.limits.max_store_bytes

    def tick(self) -> bool:
        """A second has passed; returns whether it is time for what is done once a minute."""
        now_s = self._relay.seconds()
        is_time = now_s - self._pruned_s >= PRUNE_INTERVAL_S
        if is_time:
            self._pruned_s = now_s
        is_needed = is_time or (self.is_full and now_s >= self._rests_until_s)
        if is_needed and not self._is_pruning:
            self._prune()
        if self._relay.ids.is_running_out and not self._is_setting_aside:
            self._set_ids_aside()
        return is_time

    def _prune(self) -> None:
        limits = self._relay.limits
        now_s = self._relay.now_ms() / 1000
        is_needed = self.is_full
        # What was sent stays for as long as its refs are asked for.
        kept_s = max(limits.history_s, limits.ref_lifetime_s)
        read_before_s = now_s if is_needed else now_s - kept_s
        written_before_s = now_s - limits.unread_lifetime_s
        self._is_pruning = True

        def job(accounts: Accounts) -> tuple[GivenUp, int]:
            given_up = accounts.logs.give_up(
                written_before_s=written_before_s,
                read_before_s=read_before_s,
                after_number=self._pruned_until,
            )
            return given_up, accounts.logs.used_bytes()

        def done(result: tuple[GivenUp, int]) -> None:
            given_up, self.used_bytes = result
            self._is_pruning = False
            self._jobs += 1
            self._pruned_until = given_up.until
            self._freed(given_up.freed, given_up.freed_rooms)
            if not given_up.has_more:
                # There may be nothing to give up, and much to look at: the store has other work.
                rest_s = min(PRUNE_INTERVAL_S, float(self._jobs))
                self._rests_until_s = self._relay.seconds() + rest_s
                self._jobs = 0
            elif self.is_full is is_needed:
                self._prune()

        def failed(failure: Failure) -> None:
            self._is_pruning = False
            failures.note(failure)

        self._store.write(job).addCallbacks(done, failed)

    def _set_ids_aside(self) -> None:
        ids = self._relay.ids
        least = ids.last + 1
        self._is_setting_aside = True

        def done(first: int) -> None:
            self._is_setting_aside = False
            ids.renew(first)

        def failed(failure: Failure) -> None:
            self._is_setting_aside = False
            failures.note(failure)

        setting = self._store.write(lambda accounts: accounts.logs.set_ids_aside(least))
        setting.addCallbacks(done, failed)
