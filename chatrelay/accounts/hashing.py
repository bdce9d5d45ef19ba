"""
Who may hash a secret when: two at a time, one for each address, a hundred waiting.

A hash takes a core for tens of milliseconds and 19 MiB, on purpose.  Whatever is asked for,
relaying goes on beside two of them, and nobody who asks often keeps others from their turn: it
is the turn of who had his the longest ago.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from chatrelay.errors import Busy, Refusal
from chatrelay.limits import Limits

T = TypeVar("T")


class Work(NamedTuple, Generic[T]):
    """
    Something to hash.

    :ivar network: the address that asks, as `chatrelay.networks.network_of` has it.
    :ivar key: of the name that it is for.
    :ivar is_known: whether the name's secret was right from there lately.
    :ivar check: called when its turn comes; raises a refusal if it is not to be done now.
    :ivar hash: what is done, in a thread.
    :ivar done: told what that returned, or the refusal or failure.
    """

    network: str
    key: bytes
    is_known: bool
    check: Callable[[], None]
    hash: Callable[[], T]
    done: Callable[[T | Exception], None]

    @property
    def party(self) -> Party:
        """Whose turn it takes."""
        return self.network, self.key


Party = tuple[str, bytes]
"""An address and a name, for which it asks: who has a turn."""

# Parties whose last turn is remembered; of one that is forgotten it was long ago.
_REMEMBERED_PARTIES = 1000


class _Turns:
    """Who had his last turn when."""

    def __init__(self) -> None:
        self._last: OrderedDict[Party, int] = OrderedDict()
        self._count = 0

    def note(self, party: Party) -> None:
        """It is somebody's turn."""
        self._count += 1
        self._last[party] = self._count
        self._last.move_to_end(party)
        if len(self._last) > _REMEMBERED_PARTIES:
            self._last.popitem(last=False)

    def last(self, party: Party) -> int:
        """The number of somebody's last turn, the higher the later; 0 for long ago."""
        return self._last.get(party, 0)


class _Waiting(Generic[T]):
    """Those who wait, by party."""

    def __init__(self, turns: _Turns) -> None:
        self.count = 0
        self._turns = turns
        self._by_party: dict[Party, deque[Work[T]]] = {}

    def add(self, work: Work[T]) -> None:
        """Wait behind those of the same party."""
        self._by_party.setdefault(work.party, deque()).append(work)
        self.count += 1

    def take(self, running: set[str]) -> Work[T] | None:
        """Take the first of whose turn it is, of the addresses that hash nothing now."""
        free = (party for party in self._by_party if party[0] not in running)
        party = min(free, key=self._turns.last, default=None)
        return None if party is None else self._remove(party, 0)

    def greediest(self) -> Party | None:
        """Who waits for most, and of those who had his turn last."""
        return max(self._by_party, key=self.greed, default=None)

    def greed(self, party: Party) -> tuple[int, int]:
        """How much a party asks: for how many it waits, and when it had its last turn."""
        return len(self._by_party.get(party, ())), self._turns.last(party)

    def drop(self, party: Party) -> Work[T]:
        """Take out the last one of a party."""
        return self._remove(party, -1)

    def _remove(self, party: Party, index: int) -> Work[T]:
        works = self._by_party[party]
        work = works[index]
        del works[index]
        if not works:
            del self._by_party[party]
        self.count -= 1
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
        self._turns = _Turns()
        self._known: _Waiting[T] = _Waiting(self._turns)
        self._strangers: _Waiting[T] = _Waiting(self._turns)
        self._was_known = False

    @property
    def waiting_count(self) -> int:
        """How many wait."""
        return self._known.count + self._strangers.count

    def add(self, work: Work[T]) -> None:
        """
        Hash now or later.

        If as many wait as may, whoever waits for most or had his turn last loses his last one,
        and a stranger before one whose secret was right lately; if that is this one itself, so
        be it.
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
        if work.is_known:
            stranger = self._strangers.greediest()
            if stranger is not None:
                return self._strangers.drop(stranger)
        waiting = self._known if work.is_known else self._strangers
        greediest = waiting.greediest()
        count, last = waiting.greed(work.party)
        if greediest is None or waiting.greed(greediest) <= (count + 1, last):
            return None
        return waiting.drop(greediest)

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
            self._turns.note(work.party)
            try:
                self._run(work.hash, partial(self._ended, work))
            except Exception as error:  # no thread is to be had
                self._running.discard(work.network)
                work.done(error)

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
