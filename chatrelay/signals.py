"""What the signals mean that the process of a relay is sent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

_STDIN = 0


class Signals:
    """
    The handlers of one process.

    SIGTERM and SIGINT stop the reactor; a second one ends the process at once.  SIGHUP has the
    configuration read again, or stops the reactor, too, if the terminal is gone that the
    process was started in.
    """

    def __init__(self, reactor: Any, reread: Callable[[], None]) -> None:  # noqa: ANN401
        """
        Handle signals from now on.

        :param reactor: the installed one.
        :param reread: called in the reactor's thread.
        """
        self._reactor = reactor
        self._reread = reread
        self._had_terminal = False
        self._is_stopping = False
        # At once: until then it would end the relay.
        signal.signal(signal.SIGHUP, self._hung_up)
        # Not before the reactor has set its own handlers, and twistd has gone into the background.
        reactor.callWhenRunning(self._reactor_runs)

    def _reactor_runs(self) -> None:
        self._had_terminal = os.isatty(_STDIN)
        # twistd would end with the signal's own status, as if the relay had been killed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if not self._is_stopping:
            self._is_stopping = True
            self._reactor.callFromThread(self._reactor.stop)

    def _hung_up(self, _number: int, frame: object) -> None:
        if self._had_terminal and not os.isatty(_STDIN):
            # The shell may say so, too: a second one is not from a person who can not wait.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._stop(signal.SIGTERM, frame)
        else:
            self._reactor.callFromThread(self._reread)
