"""Honest clients: they talk in pairs, and tell how long each answer took, or what was wrong."""

from __future__ import annotations

import select
import time

from tests.integration.relay_process import Client

# Fewer than strangers may send without waiting for their pace.
_LINES_PER_S = 8.0


class Pair:
    """
    Two clients that answer each other.

    :ivar round_trips_s: how long each question took until its answer was read.
    :ivar clients: both.
    """

    def __init__(self, address: tuple[str, int], number: int) -> None:
        """Connect them."""
        self.round_trips_s: list[float] = []
        self._asking, self._answering = f"ask{number}", f"answer{number}"
        self._asker = Client(address, self._asking)
        self._answerer = Client(address, self._answering)
        self.clients = (self._asker, self._answerer)
        self._count = 0
        self._due_s = 0.0

    @property
    def due_s(self) -> float:
        """When it may ask again, by the monotonic clock."""
        return self._due_s

    def ask(self) -> None:
        """
        Send a question, and wait for its answer.

        :raises AssertionError: a line is missing, or another one came.
        """
        self._count += 1
        began_s = time.monotonic()
        self._asker.send(f"%{self._answering}%question {self._count}")
        asked = self._answerer.line()
        assert asked == f"%{self._asking}%question {self._count}", asked
        self._answerer.send(f"%{self._asking}%answer {self._count}")
        answered = self._asker.line()
        assert answered == f"%{self._answering}%answer {self._count}", answered
        ended_s = time.monotonic()
        self.round_trips_s.append(ended_s - began_s)
        self._due_s = max(began_s + 1 / _LINES_PER_S, self._due_s)

    def close(self) -> None:
        """Leave."""
        self._asker.close()
        self._answerer.close()


class Honest:
    """Some pairs, one after the other, each at its pace."""

    def __init__(self, address: tuple[str, int], pairs: int) -> None:
        """Connect them."""
        self._pairs = [Pair(address, number) for number in range(pairs)]

    def talk(self, seconds: float) -> list[float]:
        """Ask and answer for a while; returns how long each round trip took, in seconds."""
        ends_s = time.monotonic() + seconds
        for pair in self._pairs:
            pair.round_trips_s.clear()
        while time.monotonic() < ends_s:
            pair = min(self._pairs, key=lambda one: one.due_s)
            self._hear_nothing_until(pair.due_s)
            pair.ask()
        return [took_s for pair in self._pairs for took_s in pair.round_trips_s]

    def ask(self) -> None:
        """Let each pair ask once; who asks too often is served at the pace of the relay."""
        for pair in self._pairs:
            pair.ask()

    def _hear_nothing_until(self, due_s: float) -> None:
        sockets = [client.socket for pair in self._pairs for client in pair.clients]
        came, _, _ = select.select(sockets, [], [], max(0.0, due_s - time.monotonic()))
        assert not came, "somebody was sent something that nobody had asked"

    def close(self) -> None:
        """Leave."""
        for pair in self._pairs:
            pair.close()
