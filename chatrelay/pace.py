"""
How fast one client is read: so many lines and bytes a second, and a burst of what was not used.

Who sends more is not read until it may again; nothing is lost, and nobody else notices
(docs/protocol.rst, *Flow*).  Nothing is done for a line: a read and a block are counted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chatrelay.flow import Gate, Reason
from chatrelay.limits import Limits
from chatrelay.lines import Block, LineBuffer, Overlong

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from chatrelay.relay import Relay

# What a client may send goes up by the moment; it is served so much at once, so that thousands
# who send too fast are not woken for each line.
_SHARE_S = 1.0
# So much of that is counted at once: what lines take is known only when they were served.
_COUNTED_S = 0.1
# A line that takes longer than a tenth of a millisecond counts for more: one to a large room, a
# command with a long answer.
_LINES_PER_WORKING_S = 10_000.0
# Sums of parts of lines are not exact.
_EXACTNESS = 1e-6


class Pace:
    """What one client may send now."""

    __slots__ = ("_bytes", "_filled_s", "_limits", "_lines", "_paid")

    def __init__(self, limits: Limits, now_s: float) -> None:
        """Begin with a burst."""
        self._limits = limits
        self._lines = self._bytes = math.inf  # as much as a burst has
        self._paid = 0  # lines that were counted, and not their time
        self._filled_s = now_s
        self._fill(now_s)

    def received(self, size: int, now_s: float) -> float:
        """Count bytes that were read; returns for how many seconds they have to wait."""
        self._fill(now_s)
        if not self._limits.bytes_per_s:
            return 0.0
        self._bytes -= size
        return max(0.0, -self._bytes / self._limits.bytes_per_s)

    def admitted(self, count: int, now_s: float) -> int:
        """
        Count as many of the next lines as may be served.

        :returns: how many of the `count`; with none, `wait_s` tells how long they have to wait.
        """
        self._fill(now_s)
        if self._limits.lines_per_s:
            count = max(0, min(count, int(self._lines + _EXACTNESS)))
            self._lines -= count
            self._paid += count
        return count

    def at_once(self, count: int) -> int:
        """How many of the next `count` lines are counted, and then served, together."""
        rate = self._limits.lines_per_s
        return min(count, max(1, int(rate * _COUNTED_S))) if rate else count

    def wait_s(self, count: int) -> float:
        """For how many seconds `count` lines, or those of a moment, have to wait."""
        rate = self._limits.lines_per_s
        share = max(1.0, min(count, rate * _SHARE_S))
        return max(0.0, (share - self._lines) / rate) if rate else 0.0

    def worked(self, seconds: float) -> None:
        """Count the time that lines took, if it was more than so many should take."""
        # More than a turn's share is a collection, or another process.
        worth = min(seconds, self._limits.turn_s) * _LINES_PER_WORKING_S
        if self._limits.lines_per_s:
            # Without that bound nothing would ever be paid back, until the bound is set.
            self._lines -= max(0.0, worth - self._paid)
        self._paid = 0

    def _fill(self, now_s: float) -> None:
        limits = self._limits
        elapsed_s, self._filled_s = now_s - self._filled_s, now_s
        lines = self._lines + elapsed_s * limits.lines_per_s
        self._lines = min(lines, limits.lines_per_s * limits.burst_s)
        size = self._bytes + elapsed_s * limits.bytes_per_s
        self._bytes = min(size, limits.bytes_per_s * limits.burst_s)


class Pacer:
    """Holds one client's connection while it has sent more than it may."""

    __slots__ = ("_began_s", "_clock", "_gate", "_pace", "_release", "_seconds")

    def __init__(self, relay: Relay, clock: IReactorTime, gate: Gate) -> None:
        """
        Begin with a burst.

        :param relay: whose limits and whose clock hold.
        :param clock: the reactor.
        :param gate: what is held.
        """
        self._seconds = relay.seconds
        self._began_s: float | None = None
        self._clock = clock
        self._gate = gate
        self._pace = Pace(relay.limits, clock.seconds())
        self._release: IDelayedCall | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the connection is held."""
        return self._release is not None

    def received(self, size: int) -> None:
        """Count bytes that were read; what they are part of may have to wait."""
        wait_s = self._pace.received(size, self._clock.seconds())
        if wait_s:
            self._hold(wait_s)

    def admits(self, lines: LineBuffer, part: Block | Overlong) -> bool:
        """
        Whether what comes next may be served now; if not, the connection is held until it may.

        :param lines: what the client has sent.
        :param part: what comes next of it; a block becomes as much as may be served.
        """
        now_s = self._clock.seconds()
        if isinstance(part, Overlong):
            # It was thrown away; its bytes were counted.
            self._pace.admitted(1, now_s)
            self._serves()
            return True
        if part.is_admitted:
            self._serves()
            return True
        count = part.count_lines()
        admitted = self._pace.admitted(self._pace.at_once(count), now_s)
        if not admitted:
            self._hold(self._pace.wait_s(count))
            return False
        if admitted < count:
            lines.split(part, admitted)
        part.is_admitted = True
        self._serves()
        return True

    def begins(self, *, is_answering: bool) -> None:
        """
        What the client has sent is served as far as it is admitted.

        :param is_answering: whether it is told more of what was admitted before.
        """
        self._began_s = self._seconds() if is_answering else None

    def ends(self) -> None:
        """Count the time that its lines took; to find that none is admitted costs it nothing."""
        if self._began_s is not None:
            self._pace.worked(self._seconds() - self._began_s)

    def stop(self) -> None:
        """The connection ends."""
        if self._release is not None:
            self._release.cancel()
            self._release = None

    def _serves(self) -> None:
        if self._began_s is None:
            self._began_s = self._seconds()

    def _hold(self, wait_s: float) -> None:
        if self._release is not None:
            if self._release.getTime() < self._clock.seconds() + wait_s:
                self._release.reset(wait_s)
            return
        self._gate.hold(Reason.PACE)
        self._release = self._clock.callLater(wait_s, self._released)

    def _released(self) -> None:
        self._release = None
        self._gate.release(Reason.PACE)
