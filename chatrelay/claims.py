"""
Who may have a name: the decision on a claim, which may take time.

A relay has one `Claims`.  It does not give the name, it says whether the claimant may
have it; `chatrelay.registry` then gives it, if it is free or the claimant has proved that
it is his.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from zope.interface import Attribute, Interface, implementer

from chatrelay.errors import BadSecret, NotAllowed, Refusal
from chatrelay.names import Name

T = TypeVar("T")
Decided = Callable[[T | Refusal], None]
"""
What a decision is told to, once, before the call that asked for it returns or later: the
result or the refusal.  The client's connection is not read until then, and may be gone.
"""
Revoked = Callable[[bytes, int], None]
"""
Told that whoever was granted the name with this key before that revision holds it no longer.
"""


class IGrant(Interface):
    """What a name was granted on: the avatar of `twisted.cred`."""

    is_proven = Attribute("Whether the name is owned and its secret, or a token, was shown.")
    revision = Attribute("Of the accounts that were looked at.")


@implementer(IGrant)
class Grant(NamedTuple):
    """
    What a name was granted on.

    :ivar is_proven: whether the name is owned and its secret, or a token, was shown.
    :ivar revision: of the accounts that were looked at: what was revoked later is not in it.
    :ivar account: the number of the name's account; 0 if it has none, and so no log.
    """

    is_proven: bool
    revision: int
    account: int = 0


FREE = Grant(is_proven=False, revision=0)
"""Of a name that nobody owns, where nobody can own one."""


class Claim(NamedTuple):
    """
    A name that a client wants.

    :ivar secret: what it wrote after the name: a secret, a token, or anything.
    :ivar host: the address that it comes from.
    :ivar is_wanted: whether the client is still there.
    """

    name: Name
    secret: bytes | None
    host: str
    is_wanted: Callable[[], bool]

    def __repr__(self) -> str:
        # It may end up in a traceback.
        return f"Claim({self.name!r}, host={self.host!r})"


class Registration(NamedTuple):
    """
    A secret that a client wants for the name it holds.

    :ivar old_secret: the one it has, to be changed.
    :ivar grant: what the client holds the name by.
    :ivar host: the address that it comes from.
    :ivar is_wanted: whether the client is still there.
    """

    name: Name
    secret: bytes
    old_secret: bytes | None
    grant: Grant
    host: str
    is_wanted: Callable[[], bool]

    def __repr__(self) -> str:
        return f"Registration({self.name!r}, host={self.host!r})"


class Claims(Protocol):
    """Decides on claims, and keeps what they are decided by."""

    def decide(self, claim: Claim, decided: Decided[Grant]) -> None:
        """Decide whether a client may have a name that nobody holds without proof."""

    def confirm(self, name: Name, grant: Grant, decided: Decided[Grant]) -> None:
        """
        Decide whether what was granted holds still, before the name is given.

        :param decided: told the grant, or that it was revoked after it was made.
        """

    def register(self, registration: Registration, decided: Decided[Grant]) -> None:
        """Make the name owned, or change its secret; earlier grants of it end."""

    def issue_token(self, name: Name, grant: Grant, decided: Decided[bytes]) -> None:
        """
        Make a token that stands for the name's secret.

        :param grant: what the client holds the name by; if that was revoked, it gets none.
        """

    def tick(self, revoked: Revoked) -> None:
        """
        Once a second: tell, now or later, what was revoked meanwhile.

        :param revoked: called for each name whose account was made, disabled, removed or
            given another secret.
        """


# Whoever writes two words is more likely to have written a first and a last name.
ONE_WORD = "Nobody registered this name: write it alone, without a secret. A name has no space."
_NO_ACCOUNTS = "This relay keeps no accounts; names are free again when their holder leaves."


class FreeNames:
    """Names that nobody can own: everybody may have one, and no secret opens one."""

    def decide(self, claim: Claim, decided: Decided[Grant]) -> None:
        """Decide at once."""
        if claim.secret is None:
            decided(FREE)
        else:
            decided(BadSecret(claim.name.shown, sentence=ONE_WORD))

    def confirm(self, name: Name, grant: Grant, decided: Decided[Grant]) -> None:  # noqa: ARG002
        """It does: nothing is ever revoked."""
        decided(grant)

    def register(self, registration: Registration, decided: Decided[Grant]) -> None:  # noqa: ARG002
        """Refuse."""
        decided(NotAllowed(sentence=_NO_ACCOUNTS))

    def issue_token(
        self,
        name: Name,  # noqa: ARG002
        grant: Grant,  # noqa: ARG002
        decided: Decided[bytes],
    ) -> None:
        """Refuse."""
        decided(NotAllowed(sentence=_NO_ACCOUNTS))

    def tick(self, revoked: Revoked) -> None:
        """Nothing is ever revoked."""
