"""
Has it known what is in the logs that are asked for: those of one turn by one job, unless they are
many.  Then commits and logins go between, and the reactor has others to serve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.claims import Decided
from chatrelay.errors import Refusal
from chatrelay.mailbox import failures
from chatrelay.mailbox.log import Loaded
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.writer import Store
from chatrelay.store.accounts import Accounts

# A job of so many takes about 20 ms, and telling of them 15.
_MOST_AT_ONCE = 256

_log = Logger(namespace="chatrelay")


class Loading:
    """The logs of one relay that are being looked at."""

    def __init__(
        self,
        store: Store,
        loaded: Callable[[Mailbox], None],
        *,
        refs_lifetime_s: float,
        wall_clock: Callable[[], float],
        call_later: Callable[[Callable[[], None]], object],
    ) -> None:
        """
        Begin with none.

        :param loaded: called for each when it is known what is in it, before who has asked.
        :param refs_lifetime_s: for how long refs are remembered.
        :param wall_clock: seconds since the epoch.
        :param call_later: calls in the reactor's next turn.
        """
        self._store = store
        self._loaded = loaded
        self._refs_lifetime_s = refs_lifetime_s
        self._wall_clock = wall_clock
        self._call_later = call_later
        self._waiting: dict[Mailbox, list[Callable[[Refusal | None], None]]] = {}
        self._to_ask: deque[Mailbox] = deque()
        self._is_asking = False

    def __bool__(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def load(self, mailboxes: Sequence[Mailbox], decided: Decided[None]) -> None:
        """
        Have it known what is in some logs.

        :param decided: told ``None`` when it is, or why it can not be.
        """
        unknown = {mailbox for mailbox in mailboxes if not mailbox.is_loaded}
        refusals: list[Refusal] = []

        def one_is(mailbox: Mailbox, refusal: Refusal | None) -> None:
            unknown.discard(mailbox)
            if refusal is not None:
                refusals.append(refusal)
            if not unknown:
                decided(refusals[0] if refusals else None)

        if not unknown:
            decided(None)
            return
        for mailbox in list(unknown):
            self._wait_for(mailbox, partial(one_is, mailbox))

    def _wait_for(self, mailbox: Mailbox, then: Callable[[Refusal | None], None]) -> None:
        waiting = self._waiting.setdefault(mailbox, [])
        waiting.append(then)
        if len(waiting) > 1:
            return
        self._to_ask.append(mailbox)
        if not self._is_asking:
            self._is_asking = True
            self._call_later(self._ask)

    def _ask(self) -> None:
        most = min(len(self._to_ask), _MOST_AT_ONCE)
        reading = self._read([self._to_ask.popleft() for _ in range(most)])
        self._is_asking = bool(self._to_ask)
        if self._is_asking:
            reading.addCallback(lambda _: self._call_later(self._ask))

    def _read(self, mailboxes: list[Mailbox]) -> Deferred[None]:
        for mailbox in mailboxes:
            mailbox.is_being_loaded()
        now_s = self._wall_clock()
        accounts = [mailbox.account for mailbox in mailboxes]
        reading = self._store.read(partial(_load, accounts, now_s, now_s - self._refs_lifetime_s))
        told = reading.addCallbacks(
            partial(self._known, mailboxes), partial(self._failed, mailboxes)
        )
        return told.addErrback(lambda failure: _log.failure("loading a log failed", failure))

    def _known(self, mailboxes: list[Mailbox], logs: list[Loaded]) -> None:
        for mailbox, log in zip(mailboxes, logs, strict=True):
            mailbox.loaded(log)
            self._loaded(mailbox)
            self._tell(mailbox, None)

    def _failed(self, mailboxes: list[Mailbox], failure: Failure) -> None:
        if len(mailboxes) > 1:
            # One that is damaged does not keep the others from being read.
            for mailbox in mailboxes:
                self._read([mailbox])
            return
        self._tell(mailboxes[0], failures.refusal_of(failure))

    def _tell(self, mailbox: Mailbox, refusal: Refusal | None) -> None:
        for then in self._waiting.pop(mailbox):
            try:
                then(refusal)
            except Exception:
                # The others wait, too.
                _log.failure("telling of a log failed")


def _load(
    numbers: Sequence[int], now_s: float, refs_since_s: float, accounts: Accounts
) -> list[Loaded]:
    return [accounts.logs.load(number, now_s, refs_since_s) for number in numbers]
