"""
Who is not read, and why: the one mechanism of back-pressure.

A connection is read only while nothing holds its `Gate`.  Whatever makes it wait (a
recipient over its mark, its own answers over theirs, a claim that is pending, the store) is a
holder.  `Flow` watches the recipients over their mark and ends those
that are slow for too long (docs/protocol.rst, *Flow*).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Protocol

from chatrelay.limits import Limits


class Reason(Enum):
    """What holds a connection besides an outbox over its mark."""

    DECISION = "something is being decided or looked up for it"
    PACE = "it has sent as much as it may for now"
    ENDING = "it ends when it has its answers"


class Readable(Protocol):
    """A connection whose input can be stopped."""

    def pause_reading(self) -> None:
        """Take nothing more from the peer."""

    def resume_reading(self) -> None:
        """Go on, with what is buffered first, in a turn of its own."""


class Slowness:
    """How long somebody was slow within the last window."""

    __slots__ = ("_spells", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._spells: deque[tuple[float, float]] = deque()

    def add(self, now_s: float, seconds: float) -> float:
        """
        Count the `seconds` up to `now_s`, and return what the window has.

        Counting the same seconds again changes nothing: a sender that ten slow recipients
        hold for a second was held for one.
        """
        if not self._spells or self._spells[-1][0] != now_s:
            self._spells.append((now_s, seconds))
        while self._spells[0][0] <= now_s - self._window_s:
            self._spells.popleft()
        return sum(spell for _, spell in self._spells)


class Gate:
    """
    Whether one connection is read: while nothing holds it.

    :ivar slowness: for how long slow recipients held it; ``None`` if never.
    """

    __slots__ = ("_connection", "_holders", "slowness")

    def __init__(self, connection: Readable) -> None:
        self._connection = connection
        self._holders: set[Hashable] | None = None
        self.slowness: Slowness | None = None

    @property
    def held(self) -> bool:
        """Whether anything holds it."""
        return bool(self._holders)

    def hold(self, holder: Hashable) -> bool:
        """
        Stop reading until `holder` releases.

        :returns: whether it did not hold already; holding twice is holding once.
        """
        if self._holders is None:
            self._holders = set()
        if holder in self._holders:
            return False
        if not self._holders:
            self._connection.pause_reading()
        self._holders.add(holder)
        return True

    def release(self, holder: Hashable) -> None:
        """Take back a hold; without any the connection is read again."""
        if self._holders and holder in self._holders:
            self._holders.remove(holder)
            if not self._holders:
                self._holders = None
                self._connection.resume_reading()

    def forget(self) -> None:
        """The connection is gone: no holder has to release it."""
        for holder in self._holders or ():
            if isinstance(holder, Holder):
                holder.held_gates.discard(self)
        self._holders = None


class Holder:
    """
    Something that holds gates until it has room again.

    :ivar held_gates: the gates it holds.
    """

    __slots__ = ("_gates",)

    def __init__(self) -> None:
        self._gates: set[Gate] | None = None

    @property
    def held_gates(self) -> set[Gate]:
        """The gates it holds now."""
        if self._gates is None:
            self._gates = set()
        return self._gates

    def release_gates(self) -> None:
        """Release every gate it holds."""
        gates, self._gates = self._gates, None
        for gate in gates or ():
            gate.release(self)


class Backlog(Holder, ABC):
    """
    What waits to be sent to one client, as flow sees it; `chatrelay.outbox` is one.

    :ivar unsent_bytes: what the client has not been sent.
    :ivar sent_bytes: what it has been sent, or what was dropped when it ended.
    :ivar is_over: whether it was over the high-water mark and not below the low one since.
    :ivar dropped_bytes: what of that was dropped.
    :ivar slowness: for how long it was slow; ``None`` if never.
    :ivar on_sent: called when some of it was sent.
    """

    __slots__ = (
        "credit_bytes",
        "dropped_bytes",
        "is_over",
        "on_sent",
        "sent_bytes",
        "slowness",
        "taken_at_last_tick_bytes",
        "unsent_bytes",
    )

    def __init__(self) -> None:
        super().__init__()
        self.unsent_bytes = 0
        self.sent_bytes = 0
        self.dropped_bytes = 0
        self.on_sent: Callable[[], None] | None = None
        self.is_over = False
        self.slowness: Slowness | None = None
        self.credit_bytes = 0.0
        self.taken_at_last_tick_bytes = 0

    @property
    def written_bytes(self) -> int:
        """Everything that was ever written."""
        return self.sent_bytes + self.unsent_bytes

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send, after everything written before."""

    @abstractmethod
    def taken_bytes(self) -> int:
        """All that the client took, as far as its machine acknowledged it."""

    @abstractmethod
    def end_slow(self) -> None:
        """The client takes too little: end the connection, or let it fall behind."""

    @abstractmethod
    def cut(self) -> None:
        """End the connection, because all together have too much."""


class Flow:
    """
    The back-pressure of a whole relay.

    :ivar unsent_bytes: what all backlogs together hold.
    """

    # A second in which less arrives than the rate asks may follow one in which more
    # did: peers and kernels take bytes in gulps.
    _MAX_CREDIT_S = 2.0
    # A longer tick is time in which the relay itself did not run.
    _MAX_TICK_S = 2.0

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        """
        Begin with nobody connected.

        :param seconds: a clock that never jumps.
        """
        self.unsent_bytes = 0
        self._limits = limits
        self._seconds = seconds
        self._backlogs: set[Backlog] = set()
        # Over their mark now, or at some time since the last tick (a reader in gulps may
        # drop below it and be over it again between any two), and since when that has not
        # been accounted for.
        self._accounted_s: dict[Backlog, float] = {}

    def opened(self, backlog: Backlog) -> None:
        """A client connected."""
        self._backlogs.add(backlog)

    def ending(self, backlog: Backlog) -> None:
        """A client is told its last, for which it has a time of its own: it holds nobody more."""
        self._accounted_s.pop(backlog, None)
        self._below_mark(backlog)

    def spilled(self, backlog: Backlog) -> None:
        """A client gets what is new once it has room: it holds nobody more."""
        self.ending(backlog)

    def closed(self, backlog: Backlog) -> None:
        """A client is gone, or has been sent everything."""
        self._backlogs.discard(backlog)
        self.ending(backlog)

    def over_mark(self, backlog: Backlog, gate: Gate | None) -> None:
        """
        Hold who writes to a backlog over its high-water mark.

        :param gate: the writer's; ``None`` for one that is no connection.
        """
        if not backlog.is_over:
            if backlog not in self._backlogs:
                return
            backlog.is_over = True
            if backlog not in self._accounted_s:
                self._accounted_s[backlog] = self._seconds()
                backlog.credit_bytes = 0.0
                backlog.taken_at_last_tick_bytes = backlog.taken_bytes()
        if gate is not None:
            gate.hold(backlog)
            backlog.held_gates.add(gate)

    def drained(self, backlog: Backlog) -> None:
        """Some of a backlog was sent: below the low-water mark it holds nobody."""
        if backlog.unsent_bytes < self._limits.low_water_bytes:
            self._below_mark(backlog)

    def shed(self) -> None:
        """End the clients with the fullest backlogs until all together are under their cap."""
        while self.unsent_bytes > self._limits.max_unsent_bytes and self._backlogs:
            max(self._backlogs, key=lambda backlog: backlog.unsent_bytes).cut()

    def tick(self) -> None:
        """Once a second: account for those over their mark."""
        self.shed()
        now_s = self._seconds()
        for backlog, since_s in list(self._accounted_s.items()):
            if not backlog.is_over:
                self._accounted_s.pop(backlog, None)
                continue
            elapsed_s = min(now_s - since_s, self._MAX_TICK_S)
            self._accounted_s[backlog] = now_s
            if self._is_slow(backlog, elapsed_s):
                self._count_slow(backlog, now_s, elapsed_s)

    def _below_mark(self, backlog: Backlog) -> None:
        backlog.is_over = False
        backlog.release_gates()

    def _is_slow(self, backlog: Backlog, elapsed_s: float) -> bool:
        taken_bytes = backlog.taken_bytes()
        newly_bytes = taken_bytes - backlog.taken_at_last_tick_bytes
        backlog.taken_at_last_tick_bytes = taken_bytes
        rate = self._limits.slow_bytes_per_s
        bound = self._MAX_CREDIT_S * rate
        credit = backlog.credit_bytes + newly_bytes - rate * elapsed_s
        backlog.credit_bytes = max(0.0, min(bound, credit))
        return credit < 0

    def _count_slow(self, backlog: Backlog, now_s: float, elapsed_s: float) -> None:
        # Its senders count too: one that is passed from one slow reader to the next
        # would never be free although no reader is slow for long.
        # A room's gate is not held while most of its members take enough.
        held = (gate for gate in backlog.held_gates if gate.held)
        accounts: list[Backlog | Gate] = [backlog, *held]
        longest_s = 0.0
        for account in accounts:
            if account.slowness is None:
                account.slowness = Slowness(self._limits.slow_window_s)
            longest_s = max(longest_s, account.slowness.add(now_s, elapsed_s))
        if longest_s >= self._limits.slow_s:
            backlog.end_slow()
