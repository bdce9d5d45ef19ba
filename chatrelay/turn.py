"""
The end of a turn: when what all senders wrote to a recipient in this turn is sent at once.

A turn of the reactor serves every connection that has something to read.  Sending at its
end joins what many senders wrote to one recipient, and costs no other turn: a call that is
due is made before the reactor looks at its sockets again.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger(namespace="chatrelay")


class Sender(Protocol):
    """Something that has written in this turn."""

    def send(self) -> None:
        """Send what waits."""


class Turn:
    """The turn that a reactor is in, for all who write in it."""

    def __init__(self, clock: IReactorTime) -> None:
        """
        Wait for the first to write.

        :param clock: the reactor.
        """
        self._clock = clock
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Have `sender` send at the end of this turn; it adds itself once."""
        if not self._senders:
            self._clock.callLater(0, self._end)
        self._senders.append(sender)

    def _end(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            try:
                sender.send()
            except Exception:
                # The others wrote in this turn too.
                _log.failure("sending what was written in this turn failed")
