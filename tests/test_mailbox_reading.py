"""How the connections of an owned name read, one beside the other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld

STALLED_S = Limits.stalled_s


class StalledTests(SynchronousTestCase):
    """Who takes nothing at all for a minute is cut off, and nobody before."""

    def test_time_in_which_nothing_was_written_does_not_count(self) -> None:
        world = OwnedWorld(self)
        desk = world.owner(b"alice")
        world.pass_time(3)
        bob = world.join(b"bob")
        world.pass_time(10 * STALLED_S)
        desk.stop_taking()
        bob.lines(b"%alice%hi")
        world.connect().send(b"/caps ack\nalice " + SECRET + b"\n")
        world.pass_time(STALLED_S - 5)
        self.assertTrue(desk.is_connected)
        world.pass_time(10)
        self.assertFalse(desk.is_connected)
