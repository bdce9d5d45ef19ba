"""
The refs of one sender's accepted messages, so that asking again is safe
(docs/protocol.rst, *Refs*).
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from chatrelay.limits import Limits

# Remembering texts as they are would let one connection hold 8 MB of them.
_DIGEST_BYTES = 16


class AcceptedRefs:
    """
    What one sender had accepted under which ref: the last 1,000 refs, for 10 minutes.

    Under one ref it remembers as many recipients as one message has at most, the last ones.
    """

    __slots__ = ("_accepted", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # By ref, in the order of first use: when that was, and a text's digest by recipient.
        self._accepted: OrderedDict[bytes, tuple[float, dict[bytes, bytes]]] = OrderedDict()

    def has_text(self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float) -> bool | None:
        """
        Look up a message that may have been accepted before.

        :returns: whether this ref stands for this text to this recipient; ``None`` if
            nothing was accepted under it.
        """
        self._forget_old(now_s)
        entry = self._accepted.get(ref)
        digest = None if entry is None else entry[1].get(recipient_key)
        return None if digest is None else digest == _digest(text)

    def accept(self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float) -> None:
        """Remember that a message was accepted."""
        entry = self._accepted.get(ref)
        if entry is None:
            while len(self._accepted) >= self._limits.max_refs:
                self._accepted.popitem(last=False)
            entry = self._accepted[ref] = (now_s, {})
        recipients = entry[1]
        if recipient_key not in recipients and len(recipients) >= self._limits.max_targets:
            # One ref for line after line to other names would grow without end.
            del recipients[next(iter(recipients))]
        recipients[recipient_key] = _digest(text)

    def _forget_old(self, now_s: float) -> None:
        while self._accepted:
            oldest = next(iter(self._accepted))
            if now_s - self._accepted[oldest][0] < self._limits.ref_lifetime_s:
                break
            del self._accepted[oldest]


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()
