"""
The refs of one sender's accepted messages, so that asking again is safe
(docs/protocol.rst, *Sending again*).

Messages that came and were accepted together are remembered together; one message is a run of
one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hashlib import blake2b

from chatrelay.errors import RefReused
from chatrelay.limits import Limits

_DIGEST_BYTES = 16
_NONE: set[int] = set()
# Longer texts are remembered by their digests: as they are, one sender could hold 8 MB of them.
_MAX_KEPT_TEXT_BYTES = 128


def digest(text: bytes) -> bytes:
    """What is remembered of a text."""
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()


class AcceptedRun:
    """
    Messages that were accepted together for one recipient.

    :ivar recipient_key: the recipient's.
    :ivar refs: theirs.
    :ivar accepted_s: when.
    :ivar first_id: of the first, in the log of the recipient; 0 while they are not committed
        there, or if they were written to an open connection.
    :ivar acked: the ids of those that the recipient's program acked.
    :ivar pending: what is told when they are committed; ``None`` if they are, or need not.
    :ivar forgotten: how many of the first ones are not remembered any more.
    """

    __slots__ = (
        "_digests",
        "_texts",
        "accepted_s",
        "acked",
        "first_id",
        "forgotten",
        "pending",
        "recipient_key",
        "refs",
    )

    def __init__(
        self,
        recipient_key: bytes,
        refs: Sequence[bytes],
        texts: bytes,
        accepted_s: float,
        *,
        first_id: int = 0,
        are_digests: bool = False,
    ) -> None:
        """
        Remember messages.

        :param texts: theirs, LF between; or what `digest` makes of each, in hexadecimal digits.
        """
        self.recipient_key = recipient_key
        self.refs = refs
        self.accepted_s = accepted_s
        self.first_id = first_id
        # A set of its own takes as much as all else, and most need none.
        self.acked = _NONE
        self.pending: object | None = None
        self.forgotten = 0
        self._texts: bytes | None = None
        self._digests = b""
        if are_digests:
            self._digests = bytes.fromhex(texts.decode("ascii"))
        elif len(texts) <= len(refs) * _MAX_KEPT_TEXT_BYTES:
            self._texts = texts
        else:
            self._digests = b"".join(map(digest, texts.split(b"\n")))

    def has_text(self, index: int, text: bytes) -> bool:
        """Whether this was the text of one of them."""
        if self._texts is not None:
            return self._texts.split(b"\n", index + 1)[index] == text
        start = index * _DIGEST_BYTES
        return self._digests[start : start + _DIGEST_BYTES] == digest(text)


class Accepted:
    """One message that was accepted before."""

    __slots__ = ("_index", "run")

    def __init__(self, run: AcceptedRun, index: int) -> None:
        self.run = run
        self._index = index

    @property
    def id(self) -> int:
        """Its id in the log of the recipient, as `AcceptedRun.first_id`."""
        return self.run.first_id and self.run.first_id + self._index

    @property
    def index(self) -> int:
        """Which one of its run it is."""
        return self._index

    @property
    def is_acked(self) -> bool:
        """Whether the recipient's program said so."""
        return self.id in self.run.acked

    def acked(self) -> None:
        """The recipient's program said so."""
        if self.run.acked is _NONE:
            self.run.acked = set()
        self.run.acked.add(self.id)


class AcceptedRefs:
    """
    What one sender had accepted under which ref: the last 1,000 refs, for 10 minutes.

    Under one ref it remembers as many recipients as one message has at most, the last ones.

    :ivar known: the refs that something is remembered under, and what.
    """

    __slots__ = ("_entries", "_limits", "_runs", "known")

    def __init__(self, limits: Limits) -> None:
        self.known: dict[bytes, AcceptedRun | list[AcceptedRun]] = {}
        self._limits = limits
        self._runs: deque[AcceptedRun] = deque()
        self._entries = 0

    def find(self, ref: bytes, recipient_key: bytes, now_s: float) -> Accepted | None:
        """What was accepted under a ref for a recipient, if it is not forgotten."""
        found = self.known.get(ref)
        for run in (found,) if isinstance(found, AcceptedRun) else found or ():
            if run.recipient_key == recipient_key:
                if now_s - run.accepted_s >= self._limits.ref_lifetime_s:
                    return None
                return Accepted(run, run.refs.index(ref))
        return None

    def find_same(
        self, ref: bytes, recipient_key: bytes, text: bytes, now_s: float
    ) -> Accepted | None:
        """
        As `find`, of a message that is sent again.

        :raises RefReused: the ref stands for another text.
        """
        accepted = self.find(ref, recipient_key, now_s)
        if accepted is not None and not accepted.run.has_text(accepted.index, text):
            raise RefReused
        return accepted

    def accept(self, run: AcceptedRun) -> None:
        """Remember messages; for their recipient nothing is remembered under their refs."""
        self.forget_old(run.accepted_s)
        self._runs.append(run)
        self._entries += len(run.refs)
        for ref in run.refs:
            self._add(ref, run)
        self._forget_too_many()

    def accept_new(self, runs: Sequence[AcceptedRun]) -> None:
        """Remember messages that came at once; nothing is remembered under any of their refs."""
        self.forget_old(runs[0].accepted_s)
        self._runs.extend(runs)
        for run in runs:
            self._entries += len(run.refs)
            self.known.update(dict.fromkeys(run.refs, run))
        self._forget_too_many()

    def _forget_too_many(self) -> None:
        limits, known = self._limits, self.known
        # One ref for line after line to other names would grow without end.
        most = limits.max_refs * limits.max_targets
        while len(known) > limits.max_refs or self._entries > most:
            self._forget_some(len(known) - limits.max_refs)

    def forget(self, run: AcceptedRun) -> None:
        """What was accepted could not be kept: it is refused after all."""
        for ref in run.refs:
            self._remove(ref, run)

    def _add(self, ref: bytes, run: AcceptedRun) -> None:
        others = _as_list(self.known.get(ref))
        # What is too old for the same recipient makes place.
        others = [other for other in others if other.recipient_key != run.recipient_key]
        if others:
            self.known[ref] = [*others, run][-self._limits.max_targets :]
        else:
            self.known[ref] = run

    def _remove(self, ref: bytes, run: AcceptedRun) -> None:
        others = [other for other in _as_list(self.known.get(ref)) if other is not run]
        if others:
            self.known[ref] = others
        else:
            self.known.pop(ref, None)

    def _forget_some(self, most: int) -> None:
        """Forget the oldest: one at least, and no more than that of one run."""
        run = self._runs[0]
        start = run.forgotten
        run.forgotten = min(len(run.refs), start + max(1, most))
        self._entries -= run.forgotten - start
        known = self.known
        for ref in run.refs[start : run.forgotten]:
            if known.get(ref) is run:
                del known[ref]
            else:
                self._remove(ref, run)
        if run.forgotten == len(run.refs):
            self._runs.popleft()

    def forget_old(self, now_s: float) -> None:
        """Forget what has been remembered for long enough."""
        runs = self._runs
        while runs and now_s - runs[0].accepted_s >= self._limits.ref_lifetime_s:
            self._forget_some(len(runs[0].refs))


def _as_list(found: AcceptedRun | list[AcceptedRun] | None) -> list[AcceptedRun]:
    if found is None:
        return []
    return found if isinstance(found, list) else [found]
