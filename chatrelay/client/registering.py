"""
How a person gives a name a secret: asked for, not shown, and twice.

Pure: who asks, and how it is kept from being shown, is `chatrelay.client.prompt`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chatrelay.client.identity import check_own_secret
from chatrelay.errors import Misuse

Ask = Callable[[str], Awaitable[str | None]]
"""Asks a question whose answer is not shown; ``None`` when the user drops it."""


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
