"""
Who has exchanged messages with whom: on a relay for strangers they learn of each other that they
are here (docs/protocol.rst, *Presence on a public relay*).
"""

from __future__ import annotations

# Of one name; whom it first wrote to the longest ago is forgotten.
MAX_WRITTEN_TO = 256
# Of all names, at 170 bytes; who has written to nobody new for the longest is forgotten.  Owned
# names are known when they are away, too, and strangers may own a hundred thousand.
MAX_PAIRS = 500_000


class Acquaintances:
    """What names wrote to each other."""

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        """
        Begin with nobody knowing anybody.

        :param max_pairs: of a name and one that it wrote to, in all.
        """
        self._max_pairs = max_pairs
        self._pairs = 0
        # In the order in which they wrote to somebody new.
        self._written_to: dict[bytes, dict[bytes, None]] = {}
        self._read_by: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """How many names have written to others."""
        return len(self._written_to)

    def note(self, sender_key: bytes, recipient_key: bytes) -> None:
        """Something of a sender reached a recipient, or its log."""
        if recipient_key in self._written_to.get(sender_key, ()):
            return
        written_to = self._written_to.pop(sender_key, {})
        self._written_to[sender_key] = written_to
        written_to[recipient_key] = None
        self._read_by.setdefault(recipient_key, {})[sender_key] = None
        self._pairs += 1
        if len(written_to) > MAX_WRITTEN_TO:
            self._forget(sender_key, next(iter(written_to)))
        if self._pairs > self._max_pairs:
            self.forget(next(iter(self._written_to)))

    def do_know(self, key: bytes, other_key: bytes) -> bool:
        """Whether each of two has written to the other."""
        return other_key in self._written_to.get(key, ()) and other_key in self._read_by.get(
            key, ()
        )

    def forget(self, key: bytes) -> None:
        """A name may be somebody else's from now on."""
        for other_key in list(self._written_to.get(key, ())):
            self._forget(key, other_key)
        for other_key in list(self._read_by.get(key, ())):
            self._forget(other_key, key)

    def _forget(self, sender_key: bytes, recipient_key: bytes) -> None:
        self._pairs -= 1
        for of, key, other_key in (
            (self._written_to, sender_key, recipient_key),
            (self._read_by, recipient_key, sender_key),
        ):
            others = of[key]
            del others[other_key]
            if not others:
                del of[key]
