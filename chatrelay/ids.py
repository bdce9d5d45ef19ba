"""
Numbers that are never given twice, and how they are written: ``@id``.

Where there is a store, it sets numbers aside before they are used, so that no restart gives
one again, whatever the clock says.
"""

from __future__ import annotations

import re
import secrets

SET_ASIDE = 1 << 30
"""How many numbers the store sets aside at once."""

_MAX_NUMBER = (1 << 63) - 1
_WRITTEN = re.compile(rb"[0-9a-f]{1,16}\Z")


class Ids:
    """
    The ids of one relay.

    :ivar prefix: what is written before each.
    :ivar last: the last number that was given.
    :ivar set_aside_until: the first number that is not set aside; ``None`` where nothing keeps
        them.
    """

    __slots__ = ("last", "prefix", "set_aside_until")

    def __init__(self, next_number: int | None = None) -> None:
        """
        Begin.

        :param next_number: the first of the `SET_ASIDE` numbers that the store has set aside;
            ``None`` where there is none: a random word makes the ids different from those of
            any other run.
        """
        if next_number is None:
            self.prefix = secrets.token_hex(6).encode("ascii") + b"-"
            self.last = 0
            self.set_aside_until: int | None = None
        else:
            self.prefix = b""
            self.last = next_number - 1
            self.set_aside_until = next_number + SET_ASIDE

    def renew(self, next_number: int) -> None:
        """The store has set aside more, from this number on."""
        self.set_aside_until = next_number + SET_ASIDE

    def take(self, count: int = 1) -> int:
        """Take numbers that follow each other, and return the first."""
        first = self.last + 1
        self.last += count
        return first

    def write(self, number: int) -> bytes:
        """Write a number as the protocol does."""
        return self.prefix + b"%x" % number

    def read(self, written: bytes) -> int | None:
        """
        Read what somebody says is an id.

        :returns: its number; ``None`` if it was never given.
        """
        if not _WRITTEN.match(written):
            return None
        number = int(written, 16)
        return number if number <= min(self.last, _MAX_NUMBER) else None

    @property
    def is_running_out(self) -> bool:
        """Whether half of what was set aside is used."""
        return self.set_aside_until is not None and (
            self.last > self.set_aside_until - SET_ASIDE // 2
        )
