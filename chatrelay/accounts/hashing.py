"""
Who may hash a secret when: two at a time, one for each address, a hundred waiting.

A hash takes a core for tens of milliseconds and 19 MiB, on purpose.  Whatever is asked for,
relaying goes on beside two of them, and nobody who asks often keeps others from their turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from chatrelay.errors import Busy, Refusal
from chatrelay.limits import Limits

T = TypeVar("T")


class Work(NamedTuple, Generic[T]):
    """
    Something to hash.

    :ivar network: the address that asks, as `chatrelay.accounts.guessing.network_of` has it.
    :ivar is_known: whether the name's secret was right from there lately.
    :ivar check: called when its turn comes; raises a refusal if it is not to be done now.
    :ivar hash: what is done, in a thread.
    :ivar done: told what that returned, or the refusal or failure.
    """

    network: str
    is_known: bool
    check: Callable[[], None]
    hash: Callable[[], T]
    done: Callable[[T | Exception], None]


class _Waiting(Generic[T]):
    """Those who wait, by address; each address has its turn, whoever has how many."""

    def __init__(self) -> None:
        self.count = 0
        self._by_network: OrderedDict[str, deque[Work[T]]] = OrderedDict()

    def add(self, work: Work[T]) -> None:
        """Wait behind those of the same address."""
        self._by_network.setdefault(work.network, deque()).append(work)
        self.count += 1

    def count_of(self, network: str) -> int:
        """How many of one address wait."""
        return len(self._by_network.get(network, ()))

    def take(self, running: set[str]) -> Work[T] | None:
        """Take the first of the address whose turn it is, of those that hash nothing now."""
        network = next((one for one in self._by_network if one not in running), None)
        if network is None:
            return None
        self.count -= 1
        work = self._by_network[network].popleft()
        if self._by_network[network]:
            self._by_network.move_to_end(network)
        else:
            del self._by_network[network]
        return work

    def longest(self) -> tuple[str, int]:
        """The address that waits for most, and for how many; nobody must wait for none."""
        network = max(self._by_network, key=self.count_of, default="")
        return network, self.count_of(network)

    def drop(self, network: str) -> Work[T]:
        """Take out the last one of an address."""
        self.count -= 1
        work = self._by_network[network].pop()
        if not self._by_network[network]:
            del self._by_network[network]
        return work


class HashQueue(Generic[T]):
    """The one place in which a relay has secrets hashed."""

    def __init__(
        self,
        limits: Limits,
        run: Callable[[Callable[[], T], Callable[[T | Exception], None]], None],
    ) -> None:
        """
        Begin with nothing to do.

        :param run: runs its first argument in a thread, and then tells its second one what
            came of it, in the reactor's.
        """
        self._limits = limits
        self._run = run
        self._running: set[str] = set()
        self._known: _Waiting[T] = _Waiting()
        self._strangers: _Waiting[T] = _Waiting()
        self._was_known = False

    @property
    def waiting_count(self) -> int:
        """How many wait."""
        return self._known.count + self._strangers.count

    def add(self, work: Work[T]) -> None:
        """
        Hash now or later.

        If as many wait as may, whoever waits for most loses his last one, and a stranger
        before one whose secret was right lately; if that is this one itself, so be it.
        """
        waiting = self._known if work.is_known else self._strangers
        if self.waiting_count >= self._limits.max_waiting_hashes:
            loser = self._loser(work)
            if loser is None:
                work.done(Busy())
                return
            loser.done(Busy())
        waiting.add(work)
        self._go_on()

    def _loser(self, work: Work[T]) -> Work[T] | None:
        if work.is_known and self._strangers.count:
            network, _ = self._strangers.longest()
            return self._strangers.drop(network)
        waiting = self._known if work.is_known else self._strangers
        network, count = waiting.longest()
        if count > waiting.count_of(work.network) + 1:
            return waiting.drop(network)
        return None

    def _go_on(self) -> None:
        while len(self._running) < self._limits.max_running_hashes:
            work = self._take()
            if work is None:
                return
            try:
                work.check()
            except Refusal as refusal:
                work.done(refusal)
                continue
            self._running.add(work.network)
            self._run(work.hash, lambda result, work=work: self._ended(work, result))  # type: ignore[misc]

    def _take(self) -> Work[T] | None:
        # In turns, so that neither keeps the other from its own.
        first, second = self._known, self._strangers
        if self._was_known:
            first, second = second, first
        work = first.take(self._running) or second.take(self._running)
        if work is not None:
            self._was_known = work.is_known
        return work

    def _ended(self, work: Work[T], result: T | Exception) -> None:
        self._running.discard(work.network)
        try:
            work.done(result)
        finally:
            self._go_on()
