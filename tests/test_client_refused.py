"""What a refused name means to the person who runs the client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client.refused import Proof, why_refused
from chatrelay.errors import BadSecret, NameOwned


class WhyRefusedTests(SynchronousTestCase):
    """The relay's reason is shown where it has one, and only there."""

    def test_table(self) -> None:
        plain, disabled = BadSecret(b"carol"), BadSecret(b"carol", sentence="It is disabled.")
        for refusal, proof, was_connected, expected in [
            (plain, Proof.TYPED, False, "This secret does not open carol. (bad-secret)"),
            (
                disabled,
                Proof.TYPED,
                False,
                "This secret does not open carol. The relay says: It is disabled. (bad-secret)",
            ),
            (
                plain,
                Proof.GIVEN,
                False,
                "The secret in CHATRELAY_SECRET or --secret-file does not open carol. If nobody"
                " registered carol, give none. (bad-secret)",
            ),
            (
                disabled,
                Proof.GIVEN,
                False,
                "The secret in CHATRELAY_SECRET or --secret-file does not open carol. The relay"
                " says: It is disabled. (bad-secret)",
            ),
            (
                NameOwned(b"carol", sentence="Owned."),
                Proof.NONE,
                False,
                "Owned. Give its secret with --secret-file FILE, or in CHATRELAY_SECRET."
                " (name-owned)",
            ),
            (
                disabled,
                Proof.TYPED,
                True,
                "carol was taken from this client: its account was made, disabled or removed, or"
                " has another secret. Start again to be asked for it. (bad-secret)",
            ),
        ]:
            told = why_refused(refusal, "carol", proof, was_connected=was_connected)
            self.assertEqual(told, expected)
