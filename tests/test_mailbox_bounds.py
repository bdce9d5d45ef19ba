"""What a name's log does not let anybody fill: the memory of the relay."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import OwnedWorld

MARK = Limits.high_water_bytes


class UnreadAnswersTests(SynchronousTestCase):
    """Who sends much and does not read what he is told waits for himself."""

    def test_what_was_stored(self) -> None:
        world = OwnedWorld(self)
        bob = world.owner(b"bob")
        bob.send(b"/caps ack\n")
        alice = world.join(b"alice")
        alice.stop_taking()
        for number in range(50):
            refs = range(number * 900, number * 900 + 900)
            alice.send(b"".join(b"@ref=%d %%bob%%x\n" % ref for ref in refs))
            if b"@id=" in (raw := bob.raw()):
                bob.send(b"/ack " + raw.rpartition(b"@id=")[2].partition(b" ")[0] + b"\n")
        self.assertTrue(alice.session.gate.held)
        self.assertLess(alice.session.outbox.unsent_bytes, MARK + 100_000)

    def test_what_was_refused_to_who_is_blocked(self) -> None:
        world = OwnedWorld(self)
        world.owner(b"bob").lines(b"/block alice")
        alice = world.join(b"alice")
        alice.stop_taking()
        for _ in range(10):
            alice.send(b"%bob%x\n" * 5000)
        self.assertTrue(alice.session.gate.held)
        self.assertLess(alice.session.outbox.unsent_bytes, MARK + 1_000_000)
        alice.take()
        self.assertFalse(alice.session.gate.held)
        self.assertEqual(alice.raw().count(b"!error blocked bob"), 50_000)
