"""
Wrong secrets, slowed down: each one makes the next attempt wait twice as long.

They are counted for the address that they come from and for the name that they are for.
From an address where that name's secret was right in the last 30 days, its attempts have a
count of their own: whatever strangers do to the name, or to the address with other names,
the owner there is not slowed.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import NamedTuple

from chatrelay.limits import Limits


class Kind(Enum):
    """What attempts are counted for."""

    NETWORK = "an address"
    NAME = "a name, for addresses that it is not known from"
    KNOWN = "a name and an address that it is known from"


class Account(NamedTuple):
    """One count of wrong secrets: of a kind, and of whom."""

    kind: Kind
    network: str = ""
    key: bytes = b""


def accounts_of(network: str, key: bytes, *, is_known: bool) -> list[Account]:
    """
    Tell what an attempt counts for.

    :param key: of the name.
    :param is_known: whether the name's secret was right from this network lately.
    """
    if is_known:
        return [Account(Kind.KNOWN, network, key)]
    return [Account(Kind.NETWORK, network), Account(Kind.NAME, key=key)]


class Guesses:
    """The wrong secrets of one relay."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # How many, and when the last one was; in the order of that.
        self._wrong: OrderedDict[Account, tuple[int, float]] = OrderedDict()

    def wait_s(self, accounts: list[Account], now_s: float) -> float:
        """For how many seconds more nothing is tried for any of these; 0 if it may be."""
        return max(self._wait_s(account, now_s) for account in accounts)

    def wrong(self, accounts: list[Account], now_s: float) -> None:
        """A secret was wrong."""
        for account in accounts:
            count, last_s = self._wrong.get(account, (0, now_s))
            if now_s - last_s >= self._limits.wrong_secrets_forgotten_s:
                count = 0
            self._wrong[account] = (count + 1, now_s)
            self._wrong.move_to_end(account)
        while self._wrong:
            _, last_s = next(iter(self._wrong.values()))
            is_full = len(self._wrong) > self._limits.max_counted_guessers
            if not is_full and now_s - last_s < self._limits.wrong_secrets_forgotten_s:
                break
            self._wrong.popitem(last=False)

    def right(self, network: str, key: bytes) -> None:
        """A secret was right: from there the name is known, and begins without wrong ones."""
        self._wrong.pop(Account(Kind.KNOWN, network, key), None)

    def _wait_s(self, account: Account, now_s: float) -> float:
        limits = self._limits
        count, last_s = self._wrong.get(account, (0, 0.0))
        doublings = count - limits.free_wrong_secrets
        if doublings < 0 or now_s - last_s >= limits.wrong_secrets_forgotten_s:
            return 0.0
        longest_s = (
            limits.longest_address_wait_s
            if account.kind is Kind.NETWORK
            else limits.longest_name_wait_s
        )
        wait_s = min(limits.first_wait_s * 2.0 ** min(doublings, 60), longest_s)
        return max(0.0, last_s + wait_s - now_s)
