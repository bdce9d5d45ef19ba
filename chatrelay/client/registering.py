"""
How a person gives a name a secret: asked for, not shown, and twice.

Pure: who asks, and how it is kept from being shown, is `chatrelay.client.prompt`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from chatrelay.client.core import Disconnected
from chatrelay.client.identity import check_own_secret
from chatrelay.errors import Misuse, Refusal

Ask = Callable[[str], Awaitable[str | None]]
"""Asks a question whose answer is not shown; ``None`` when the user drops it."""


class Registrant(Protocol):
    """The connection whose name is given a secret: a `chatrelay.client.library.Client`."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def is_registered(self) -> bool:
        """Whether it has a secret."""

    def check_confidential(self) -> None:
        """Raise `Insecure` if others could read what is sent."""

    def register(self, secret: str, old: str | None = None) -> Awaitable[None]:
        """Give it a secret, or another one."""


async def register_name(
    connected: Callable[[], Registrant | None], ask: Ask | None, tell: Callable[[str], None]
) -> bool:
    """
    Give the name a secret that the user is asked for, and tell what became of it.

    :param connected: the connection there is now.
    :param ask: asks the user; ``None`` if there is nothing to ask with.
    :param tell: shows a sentence.
    :returns: whether the name is registered now, and was not before.
    """
    try:
        client = connected()
        if client is None or ask is None:
            raise Misuse("A name can not be registered now.")
        client.check_confidential()  # before it is asked for
        was_registered = client.is_registered
        secrets = await ask_new_secret(ask, client.name, is_registered=was_registered)
        if secrets is None:
            raise Misuse("No secret was typed.")
        client = connected()
        if client is None:
            raise Misuse("The connection was lost.")
        await client.register(*secrets)
    except Misuse as misuse:
        tell(f"{misuse} Nothing is changed.")
    except Refusal as refusal:
        tell(f"{refusal.sentence} ({refusal.code}) Nothing is changed.")
    except Disconnected as error:
        tell(str(error))
    else:
        if was_registered:
            tell(f"{client.name} has another secret now; its other connections are closed.")
        else:
            tell(f"{client.name} is registered: it is granted only with its secret now.")
        return not was_registered
    return False


async def ask_new_secret(
    ask: Ask, name: str, *, is_registered: bool
) -> tuple[str, str | None] | None:
    """
    Ask for the secret that a name shall have.

    :param is_registered: whether it has one, which is asked for first.
    :returns: the new one and the old one; ``None`` if the user has dropped it.
    :raises Misuse: one of them can not be a secret, or the user has not typed the new one
        the same twice.
    """
    old = None
    if is_registered:
        old = await ask(f"Secret of {name} until now: ")
        if not old:
            return None
        check_own_secret(old)
    new = await ask(f"New secret of {name}: ")
    if not new:
        return None
    check_own_secret(new)
    again = await ask("The same again: ")
    if not again:
        return None
    if again != new:
        raise Misuse("The two are not the same.")
    return new, old
