"""Owned names that all come back at once, as after a restart of the relay."""

from __future__ import annotations

from typing import Any

from bench.generating import generate
from bench.owned import Owned
from bench.relay import Relay


def measure_return(
    relay: Relay, owned: Owned, *, owned_first: bool, settle_s: float
) -> dict[str, Any]:
    """
    Let all owned names come back with their tokens, and as many names that nobody owns.

    :param owned: names that all begin with ``o``.
    :param owned_first: who begins.
    :param settle_s: the pause between the two.
    :returns: what `bench.logins.return_of_all` found.
    """
    with owned.started(relay) as (served, tokens):
        return generate(
            relay,
            served,
            kind="return_of_all",
            tokens=tokens,
            owned_first=owned_first,
            at_once=relay.at_once,
            settle_s=settle_s,
        )
