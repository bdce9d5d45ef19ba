"""
Who has exchanged messages with whom: on a relay for strangers they learn of each other that they
are here (docs/protocol.rst, *Presence on a public relay*).
"""

from __future__ import annotations

# Of one name; whom it first wrote to the longest ago is forgotten.
MAX_WRITTEN_TO = 256


class Acquaintances:
    """What names wrote to each other."""

    def __init__(self) -> None:
        """Begin with nobody knowing anybody."""
        self._written_to: dict[bytes, dict[bytes, None]] = {}
        self._read_by: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """How many names have written to others."""
        return len(self._written_to)

    def note(self, sender_key: bytes, recipient_key: bytes) -> None:
        """Something of a sender reached a recipient, or its log."""
        written_to = self._written_to.setdefault(sender_key, {})
        if recipient_key in written_to:
            return
        if len(written_to) >= MAX_WRITTEN_TO:
            self._forget(sender_key, next(iter(written_to)))
            written_to = self._written_to.setdefault(sender_key, {})
        written_to[recipient_key] = None
        self._read_by.setdefault(recipient_key, {})[sender_key] = None

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
        for of, key, other_key in (
            (self._written_to, sender_key, recipient_key),
            (self._read_by, recipient_key, sender_key),
        ):
            others = of[key]
            del others[other_key]
            if not others:
                del of[key]
