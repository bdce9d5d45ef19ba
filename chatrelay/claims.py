"""
Who may have a name: the decision on a claim, which may take time.

A relay has one `Claims`.  It does not give the name, it says whether the claimant may
have it; `chatrelay.registry` then gives it, if it is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatrelay.errors import BadSecret, Refusal
from chatrelay.names import Name

Decided = Callable[[Refusal | None], None]
"""What a decision is told to: with the refusal, or with ``None`` if the claim is good."""


# Whoever writes two words is more likely to have written a first and a last name.
_ONE_WORD = "A name has no space; nobody registered this one, so write it alone."


class Claims(Protocol):
    """Decides on claims."""

    def decide(self, name: Name, secret: bytes | None, decided: Decided) -> None:
        """
        Decide on one claim.

        :param secret: what the claimant wrote after the name.
        :param decided: called once, before `decide` returns or later; the claimant's
            connection is not read until then, and may be gone by then.
        """


class FreeNames:
    """Names that nobody owns: everybody may have one, and no secret opens one."""

    def decide(self, name: Name, secret: bytes | None, decided: Decided) -> None:
        """Decide at once."""
        decided(BadSecret(name.shown, sentence=_ONE_WORD) if secret is not None else None)
