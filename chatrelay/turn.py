"""
The turns of the reactor: who is served in which, and when what was written is sent.

A turn serves every connection that has something to read, in whatever order.  What is
short is served as it is read.  Who sends much waits for its share: in each turn one is
served, or as many as fit into a fraction of a millisecond, so that a line of somebody else
is not kept waiting by twenty clients that send as fast as they can.

What was written is sent at the end of the turn.  That joins what many senders wrote to one
recipient, and costs no other turn: a call that is due is made before the reactor looks at
its sockets again.  What those who send much write is joined over all of them.  Only while
there was nothing to join lately, a short read ends with sending what it wrote.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

# Time for those who wait, in each turn; one of them always has his.  With 3 ms a line of
# somebody else took six times as long, and nothing was faster.
_SHARE_S = 0.0003
# If that is more: so much of the time that the turn took before.  Where short reads take whole
# milliseconds of each, those who wait would starve, and who they write to seem slow.
_SHARE_OF_TURN = 0.5
# So many short reads send by themselves for each turn that had nothing to join: the call at
# the end of a turn takes 6 of the 90 microseconds in which a line is relayed.
_READS_PER_QUIET_TURN = 8
# Where one read writes to more, joining what others write to them too saves more than that call.
_FEW = 8
# Twenty short reads of commands took 60 ms together; this much of its own each has all the same.
_LEAST_SHARE = 1 / 16

_log = Logger(namespace="chatrelay")


class Urgency(IntEnum):
    """When something that was written is sent."""

    NOTHING = 0
    ROUND = 1
    """Once all who wait now have been served."""
    TURN = 2
    """At the end of this turn."""


class Sender(Protocol):
    """Something that was written to."""

    def send(self) -> bool:
        """Send what waits; returns whether several writes were joined."""


class Turn:
    """
    The turn that a reactor is in, for all who are served in it.

    :ivar urgency: when what is written now is to be sent.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        Wait for the first to write.

        :param clock: the reactor.
        """
        self.urgency = Urgency.TURN
        self._clock = clock
        self._scheduled_s = 0.0
        self._is_scheduled = False
        self._is_reading = False
        self._quiet_reads = 0  # so many may send by themselves
        self._written: list[Sender] = []
        self._written_in_round: deque[Sender] = deque()
        self._waiting: deque[Callable[[], None]] = deque()
        self._left_in_round = 0
        self._spent_s = 0.0  # by short reads that took all they might

    def share_s(self, most_s: float) -> float:
        """
        How long a short read may be served now, of which each may take so much by itself.

        Where many come at once that take all they may, they have it together.
        """
        return max(most_s * _LEAST_SHARE, most_s - self._spent_s)

    def add(self, sender: Sender, urgency: Urgency) -> None:
        """Have `sender` send when its turn or its round ends."""
        if urgency is Urgency.TURN:
            self._written.append(sender)
            if self._is_reading and self._quiet_reads:
                return  # `end_read` sends it.
        else:
            self._written_in_round.append(sender)
        self._schedule()

    def begin_read(self) -> None:
        """What is written from now on comes of one short read."""
        self._is_reading = True

    def end_read(self, began_s: float | None = None) -> None:
        """
        The read has been served.

        :param began_s: since when, if it took all that it might, and waits for another turn.
        """
        self._is_reading = False
        if began_s is not None:
            self._spent_s += self._clock.seconds() - began_s
        if len(self._written) > _FEW:
            self._schedule()
        elif self._written and not self._is_scheduled:
            self._quiet_reads -= 1
            self._send_written()

    def wait(self, serve: Callable[[], None]) -> None:
        """
        Wait for a share of a later turn.

        :param serve: called once, behind those who wait already; it must not raise.
        """
        self._waiting.append(serve)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._scheduled_s = self._clock.seconds()
            self._clock.callLater(0, self._end)

    def _end(self) -> None:
        self._is_scheduled = False
        self._spent_s = 0.0
        if self._written:
            self._quiet_reads = 0 if self._send_written() else _READS_PER_QUIET_TURN
        if self._waiting or self._written_in_round:
            now_s = self._clock.seconds()
            self.urgency = Urgency.ROUND
            try:
                self._go_round(now_s + max(_SHARE_S, _SHARE_OF_TURN * (now_s - self._scheduled_s)))
            finally:
                self.urgency = Urgency.TURN
                if self._waiting or self._written_in_round:
                    self._schedule()

    def _go_round(self, ends_s: float) -> None:
        if not self._left_in_round and not self._written_in_round:
            self._left_in_round = len(self._waiting)
        while self._left_in_round or self._written_in_round:
            if self._left_in_round:
                self._left_in_round -= 1
                self._waiting.popleft()()
            else:
                self._send(self._written_in_round.popleft())
            if self._clock.seconds() >= ends_s:
                return

    def _send_written(self) -> bool:
        senders, self._written = self._written, []
        # All of them, not up to the first that joined.
        return sum(map(self._send, senders)) > 0

    @staticmethod
    def _send(sender: Sender) -> bool:
        try:
            return sender.send()
        except Exception:
            # The others wrote in this turn too.
            _log.failure("sending what was written failed")
            return False
