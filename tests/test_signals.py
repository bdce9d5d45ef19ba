"""What a relay does on signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.signals import Signals


class Reactor:
    """One that runs when a test says so."""

    def __init__(self) -> None:
        self.when_running: list[Callable[[], None]] = []
        self.stops = 0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.when_running.append(call)

    def callFromThread(self, call: Callable[[], None]) -> None:
        call()

    def stop(self) -> None:
        self.stops += 1

    def run(self) -> None:
        for call in self.when_running:
            call()


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.rereads = 0
        Signals(self.reactor, self.reread)

    def reread(self) -> None:
        self.rereads += 1

    def run_with(self, *, terminal: bool) -> None:
        with mock.patch.object(os, "isatty", return_value=terminal):
            self.reactor.run()

    def hang_up(self, *, terminal: bool) -> None:
        with mock.patch.object(os, "isatty", return_value=terminal):
            signal.raise_signal(signal.SIGHUP)

    def test_the_first_signal_stops_and_the_second_is_not_handled(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.reactor.stops = 0
            Signals(self.reactor, self.reread)
            self.run_with(terminal=True)
            signal.raise_signal(number)
            self.assertEqual(self.reactor.stops, 1)
            self.assertEqual(signal.getsignal(number), signal.SIG_DFL)

    def test_one_of_each_stops_once(self) -> None:
        self.run_with(terminal=True)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        self.hang_up(terminal=False)
        self.assertEqual(self.reactor.stops, 1)

    def test_hanging_up_rereads(self) -> None:
        self.hang_up(terminal=False)
        for terminal in (True, False):
            self.run_with(terminal=terminal)
            self.hang_up(terminal=terminal)
        self.assertEqual((self.rereads, self.reactor.stops), (3, 0))

    def test_a_terminal_that_is_closed_stops(self) -> None:
        self.run_with(terminal=True)
        self.hang_up(terminal=False)
        self.hang_up(terminal=False)
        self.assertEqual((self.rereads, self.reactor.stops), (0, 1))
