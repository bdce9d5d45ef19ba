"""
The refs of one sender's accepted messages, so that asking again is safe
(docs/protocol.rst, *Refs*).
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from chatrelay.errors import RefReused
from chatrelay.limits import Limits

# Remembering texts as they are would let one connection hold 8 MB of them.
_DIGEST_BYTES = 16


def digest(text: bytes) -> bytes:
    """What is remembered of a text."""
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()


class Accepted:
    """
    One message that was accepted for one recipient.

    :ivar accepted_s: when.
    :ivar digest: of its text.
    :ivar id: in the log of the recipient; 0 while it is not committed there, or if it was
        written to an open connection.
    :ivar is_acked: whether the recipient's program said so.
    :ivar pending: what is told when it is committed; ``None`` if it is, or needs not.
    """

    __slots__ = ("accepted_s", "digest", "id", "is_acked", "pending")

    def __init__(self, accepted_s: float, text_digest: bytes, message_id: int = 0) -> None:
        self.accepted_s = accepted_s
        self.digest = text_digest
        self.id = message_id
        self.is_acked = False
        self.pending: object | None = None


class AcceptedRefs:
    """
    What one sender had accepted under which ref: the last 1,000 refs, for 10 minutes.

    Under one ref it remembers as many recipients as one message has at most, the last ones.
    """

    __slots__ = ("_accepted", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # By ref, in the order of last use, and recipient.
        self._accepted: OrderedDict[bytes, dict[bytes, Accepted]] = OrderedDict()

    def find(self, ref: bytes, recipient_key: bytes, now_s: float) -> Accepted | None:
        """What was accepted under a ref for a recipient, if it is not forgotten."""
        accepted = self._accepted.get(ref, {}).get(recipient_key)
        if accepted is None or now_s - accepted.accepted_s >= self._limits.ref_lifetime_s:
            return None
        return accepted

    def find_same(
        self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float
    ) -> Accepted | None:
        """
        As `find`, of a message that is sent again.

        :raises RefReused: the ref stands for another text.
        """
        accepted = self.find(ref, recipient_key, now_s)
        if accepted is not None and accepted.digest != digest(text):
            raise RefReused
        return accepted

    def accept(self, ref: bytes, recipient_key: bytes, accepted: Accepted) -> None:
        """Remember that a message was accepted."""
        self._forget_old(accepted.accepted_s)
        recipients = self._accepted.setdefault(ref, {})
        self._accepted.move_to_end(ref)
        if len(self._accepted) > self._limits.max_refs:
            self._accepted.popitem(last=False)
        if recipient_key not in recipients and len(recipients) >= self._limits.max_targets:
            # One ref for line after line to other names would grow without end.
            del recipients[next(iter(recipients))]
        recipients[recipient_key] = accepted

    def forget(self, ref: bytes, recipient_key: bytes) -> None:
        """What was accepted could not be kept: it is refused after all."""
        recipients = self._accepted.get(ref)
        if recipients is not None:
            recipients.pop(recipient_key, None)
            if not recipients:
                del self._accepted[ref]

    def _forget_old(self, now_s: float) -> None:
        while self._accepted:
            recipients = next(iter(self._accepted.values()))
            last_used_s = max(accepted.accepted_s for accepted in recipients.values())
            if now_s - last_used_s < self._limits.ref_lifetime_s:
                break
            self._accepted.popitem(last=False)
