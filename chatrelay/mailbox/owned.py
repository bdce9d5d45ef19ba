"""Which names are owned, and by which account, as far as that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Owned(NamedTuple):
    """
    An owned name.

    :ivar account: the number of its account.
    :ivar shown: the name as its account has it.
    """

    account: int
    shown: bytes


class OwnedNames:
    """The owned names, by their keys and by their accounts."""

    def __init__(self, rows: Iterable[tuple[int, bytes, bytes]]) -> None:
        """
        Begin.

        :param rows: the number, key and shown name of each account.
        """
        self._by_key: dict[bytes, Owned] = {}
        self._keys: dict[int, bytes] = {}
        for account, key, shown in rows:
            self.add(key, Owned(account, shown))

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_key

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> Owned | None:
        """Who owns a name; ``None`` if nobody does."""
        return self._by_key.get(key)

    def key_of(self, account: int) -> bytes | None:
        """The key of an account's name; ``None`` if there is no such account."""
        return self._keys.get(account)

    def add(self, key: bytes, owned: Owned) -> None:
        """A name has an owner; it had none."""
        self._by_key[key] = owned
        self._keys[owned.account] = key

    def remove(self, key: bytes) -> Owned | None:
        """A name has no owner any more; returns whose it was, if it was somebody's."""
        owned = self._by_key.pop(key, None)
        if owned is not None:
            del self._keys[owned.account]
        return owned
