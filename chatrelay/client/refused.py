"""
What a refused name means to the person who runs the client.

Pure.  The relay's own sentences are for whoever types lines; here it is known where a secret
came from, and whether the name was one's own until now.
"""

from __future__ import annotations

from enum import Enum

from chatrelay.client.display import harmless
from chatrelay.errors import BadSecret, NameOwned, Refusal
from chatrelay.private_input import SECRET_VARIABLE


class Proof(Enum):
    """Where the secret that was refused came from."""

    NONE = "there was none"
    GIVEN = "the environment, or a file"
    TYPED = "the user was asked for it"


def why_refused(refusal: Refusal, name: str, proof: Proof, *, was_connected: bool) -> str:
    """
    Say why the name was refused, in a sentence or two with the code behind.

    :param name: the name that was claimed.
    :param was_connected: whether this client had it before.
    """
    shown = harmless(name)
    sentence = refusal.sentence
    if was_connected and isinstance(refusal, BadSecret | NameOwned):
        sentence = (
            f"{shown} was taken from this client: its account was made, disabled or removed, or"
            " has another secret. Start again to be asked for it."
        )
    elif isinstance(refusal, BadSecret) and proof is Proof.TYPED:
        sentence = f"This secret does not open {shown}.{what_the_relay_says(refusal)}"
    elif isinstance(refusal, BadSecret) and proof is Proof.GIVEN:
        sentence = f"The secret in {SECRET_VARIABLE} or --secret-file does not open {shown}." + (
            what_the_relay_says(refusal) or f" If nobody registered {shown}, give none."
        )
    elif isinstance(refusal, NameOwned) and proof is Proof.NONE:
        sentence += f" Give its secret with --secret-file FILE, or in {SECRET_VARIABLE}."
    return f"{sentence} ({refusal.code})"


def what_the_relay_says(refusal: Refusal) -> str:
    """Why, with a space before it, if the relay has said more than that it was refused."""
    if refusal.sentence == type(refusal).sentence:
        return ""
    return f" The relay says: {refusal.sentence}"
