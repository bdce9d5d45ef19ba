"""What a relay's accounts need while it runs: the store and its thread, threads that hash."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chatrelay.accounts.authentication import Prover
from chatrelay.accounts.bans import BanJournal
from chatrelay.accounts.claims import AccountClaims
from chatrelay.accounts.hashing import HashQueue
from chatrelay.bans import Ban
from chatrelay.ids import Ids
from chatrelay.mailbox.mailboxes import Mailboxes
from chatrelay.relay import Relay
from chatrelay.rooms.keeping import Keeping
from chatrelay.rooms.log import KeptRoom
from chatrelay.store.accounts import Accounts
from chatrelay.store.thread import StoreThread

_log = Logger(namespace="chatrelay")

T = TypeVar("T")

# A hash may take as long as it likes; a message may not.  With two of them on two cores that
# others use too, 99 of 100 round trips take 0.25 ms instead of 3.7, and there are 10 logins a
# second instead of 17; with 10 there are 4.
_NICENESS = 5


class AccountService(Service):
    """
    Lets the names of a relay be owned, from its start to its stop.

    :ivar store: where the accounts are.
    """

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401 - several interfaces
        relay: Relay,
        directory: Path,
        *,
        hashing_threads: Any = None,  # noqa: ANN401 - ThreadPool has no interface
        store: StoreThread | None = None,
    ) -> None:
        """
        Make the service.

        :param relay: whose names may be owned.
        :param directory: where the accounts are kept; it is made if it is not there.
        :param hashing_threads: where secrets are hashed, as
            `twisted.python.threadpool.ThreadPool`.
        :param store: one with other threads than its own.
        """
        self.store = store or StoreThread(reactor, directory)
        self._reactor = reactor
        self._relay = relay
        self._mailboxes: Mailboxes | None = None
        self._directory = directory
        # All of them at the start: one that can not be had is told then.
        count = relay.limits.max_running_hashes
        self._threads = hashing_threads or ThreadPool(count, count, "hashing")

    def startService(self) -> None:
        """
        Open the store, and let the relay decide by it.

        :raises StoreError: it can not be opened; with one sentence for the operator.
        """
        owned, rooms, first_id, revision, bans = self.store.open(
            partial(_begin, int(self._relay.wall_clock() * 1_000_000))
        )
        self._threads.start()
        _log.info(
            "registered names and their messages are kept in {directory}", directory=self._directory
        )
        relay = self._relay
        call_later = partial(self._reactor.callLater, 0)
        self._mailboxes = Mailboxes(relay, self.store, owned, call_later=call_later)
        relay.keep(self._mailboxes, Ids(first_id))
        relay.rooms.keeping = Keeping(relay, self.store, self._mailboxes, rooms)
        relay.bans.keep(BanJournal(self.store), bans)
        hashes: HashQueue[object] = HashQueue(relay.limits, self._in_thread)
        relay.claims = AccountClaims(
            self.store,
            Prover(hashes, relay.limits, relay.seconds, relay.console),
            limits=relay.limits,
            wall_clock=relay.wall_clock,
            call_later=call_later,
            is_owned=self._mailboxes.is_owned,
            revision=revision,
        )
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        Stop hashing, and close the store.

        :returns: fires with ``None`` when another relay may open it.
        """
        super().stopService()
        self._threads.stop()
        closing = succeed(None) if self._mailboxes is None else self._mailboxes.close()
        return closing.addCallback(lambda _: self.store.close())

    def _in_thread(
        self, work: Callable[[], object], done: Callable[[object | Exception], None]
    ) -> None:
        def ended(result: object) -> None:
            done(result.value if isinstance(result, Failure) else result)

        deferToThreadPool(self._reactor, self._threads, _nicely, work).addBoth(ended)


def _begin(
    now_us: int, accounts: Accounts
) -> tuple[list[tuple[int, bytes, bytes]], list[KeptRoom], int, int, list[Ban]]:
    # Microseconds: a file that is put back from a backup does not give again what it has given.
    first_id = accounts.logs.set_ids_aside(now_us)
    return (
        accounts.logs.owned_names(),
        accounts.rooms.all(),
        first_id,
        accounts.last_revocation(),
        accounts.bans.all(),
    )


def _nicely(work: Callable[[], T]) -> T:
    if sys.platform == "linux":
        # On Linux the priority is the thread's own.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    return work()
