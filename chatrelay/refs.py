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
        # By ref, in the order of last use, and recipient: when that was, and the text's digest.
        self._accepted: OrderedDict[bytes, dict[bytes, tuple[float, bytes]]] = OrderedDict()

    def has_text(self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float) -> bool | None:
        """
        Look up a message that may have been accepted before.

        :returns: whether this ref stands for this text to this recipient; ``None`` if
            nothing was accepted under it.
        """
        accepted = self._accepted.get(ref, {}).get(recipient_key)
        if accepted is None or now_s - accepted[0] >= self._limits.ref_lifetime_s:
            return None
        return accepted[1] == _digest(text)

    def accept(self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float) -> None:
        """Remember that a message was accepted."""
        self._forget_old(now_s)
        recipients = self._accepted.setdefault(ref, {})
        self._accepted.move_to_end(ref)
        if len(self._accepted) > self._limits.max_refs:
            self._accepted.popitem(last=False)
        if recipient_key not in recipients and len(recipients) >= self._limits.max_targets:
            # One ref for line after line to other names would grow without end.
            del recipients[next(iter(recipients))]
        accepted = (now_s, _digest(text))
        # One message to many names is one text and one time: kept once.
        last = next(reversed(recipients.values()), accepted)
        recipients[recipient_key] = last if last == accepted else accepted

    def _forget_old(self, now_s: float) -> None:
        while self._accepted:
            recipients = next(iter(self._accepted.values()))
            last_used_s = max(accepted_s for accepted_s, _ in recipients.values())
            if now_s - last_used_s < self._limits.ref_lifetime_s:
                break
            self._accepted.popitem(last=False)


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()
