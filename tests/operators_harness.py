"""A relay with an operator, alice, who comes from 192.0.2.1."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client


class OperatorTestCase(SynchronousTestCase):
    """
    Tests with such a relay.

    :ivar world: the relay.
    :ivar alice: her first connection, which has read its welcome.
    """

    limits: Limits | None = None

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.world = self.new_world()
        self.alice = self.operator()

    def new_world(self, **options: Any) -> OwnedWorld:
        return OwnedWorld(self, self.limits, operators=[b"Alice"], **options)

    def operator(self, host: str = "192.0.2.1") -> Client:
        """One more connection of alice."""
        if self.world.account(b"alice") is None:
            self.world.add(b"alice")
        alice = self.world.connect(host)
        alice.send(b"alice " + SECRET + b"\n")
        self.world.settle_all()
        self.assertTrue(alice.told_first().startswith(b"!welcome"))
        return alice

    def join(self, name: bytes, host: str) -> Client:
        """A client with a free name."""
        client = self.world.connect(host)
        (told,) = client.lines(name)
        self.assertTrue(told.startswith(b"!welcome"), told)
        return client

    def said(self) -> list[str]:
        """What the log says that operators did."""
        events, self.events[:] = list(self.events), []
        lines = [formatEvent(event) for event in events if "what" in event]
        for line in lines:
            self.assertTrue(line.isprintable(), ascii(line))
        return [line for line in lines if line.startswith("operator ")]
