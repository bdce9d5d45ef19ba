"""
What a log holds: runs of entries, and how they are written as bytes.

A run is messages between the same two names, accepted at once, whose ids follow each other;
one message is a run of one.  What one commit adds to a log is a *chunk*: runs, one after
another, each a line that describes it, then its refs, then its texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

CHUNK_BYTES = 128 * 1024
"""With about this size a chunk ends: as a whole it is read, and given up."""
ENTRY_BYTES = 64
"""What an entry counts for besides its text: about what its line and its names take."""


class Kind(Enum):
    """What the entries of a run are."""

    RECEIVED = b"<"
    """Messages to the name; `Run.party` wrote them."""
    SENT = b">"
    """Messages of the name; `Run.party` is whom they went to, as it was written."""
    REMEMBERED = b"="
    """As `SENT`, where texts are not kept: what stands for them are their digests."""
    ACKED = b"+"
    """Messages of the name that `Run.party` acked; what stands for the texts are their ids."""


class Run(NamedTuple):
    """
    Entries that follow each other.

    :ivar first_id: of the first; each has one more than the one before.
    :ivar length: how many.
    :ivar time_ms: when they were accepted, in milliseconds since the epoch.
    :ivar party: the other name.  Of what was said in a room it is ``#ROOM%NAME`` where it was
        received and ``#ROOM`` where it was sent, as each was written.
    :ivar account: the number of the sender's account, of `RECEIVED` ones; see
        `chatrelay.mailbox.shares`.
    :ivar refs: theirs, a space between; empty if they have none.
    :ivar texts: theirs, LF between.
    """

    kind: Kind
    first_id: int
    length: int
    time_ms: int
    party: bytes
    account: int
    refs: bytes
    texts: bytes

    @property
    def last_id(self) -> int:
        """Of the last one."""
        return self.first_id + self.length - 1

    @property
    def size_bytes(self) -> int:
        """What the run counts for in its log."""
        return len(self.texts) + len(self.refs) + ENTRY_BYTES * self.length

    def after(self, entry_id: int) -> Run | None:
        """What of it is later than an id; ``None`` if nothing is."""
        passed = entry_id - self.first_id + 1
        if passed <= 0:
            return self
        if passed >= self.length:
            return None
        return self._replace(
            first_id=entry_id + 1,
            length=self.length - passed,
            refs=self.refs.split(b" ", passed)[-1] if self.refs else b"",
            texts=self.texts.split(b"\n", passed)[-1],
        )

    def until(self, entry_id: int) -> Run:
        """What of it is not later than an id, which is not before the first one's."""
        count = min(self.length, entry_id - self.first_id + 1)
        refs = b" ".join(self.refs.split(b" ", count)[:count]) if self.refs else b""
        texts = b"\n".join(self.texts.split(b"\n", count)[:count])
        return self._replace(length=count, refs=refs, texts=texts)

    def entries(self) -> list[tuple[int, bytes, bytes]]:
        """Each entry's id, ref and text."""
        texts = self.texts.split(b"\n")
        refs = self.refs.split(b" ") if self.refs else [b""] * self.length
        return list(
            zip(range(self.first_id, self.first_id + self.length), refs, texts, strict=True)
        )


def receipts(first_id: int, time_ms: int, party: bytes, refs: list[tuple[bytes, int]]) -> Run:
    """
    Make the entries that say what was acked.

    :param party: by whom.
    :param refs: the ref and the id of each message.
    """
    written_refs = b" ".join(ref for ref, _ in refs)
    written_ids = b"\n".join(b"%x" % message_id for _, message_id in refs)
    return Run(Kind.ACKED, first_id, len(refs), time_ms, party, 0, written_refs, written_ids)


class DamagedError(ValueError):
    """These bytes are no chunk."""


def encode(runs: Iterable[Run]) -> bytes:
    """Write runs as a chunk."""
    parts: list[bytes] = []
    for kind, first_id, count, time_ms, party, account, refs, texts in runs:
        numbers = (first_id, count, time_ms, account, len(refs), len(texts))
        parts += (kind.value, b"%x %d %d %d %d %d " % numbers, party, b"\n", refs, texts)
    return b"".join(parts)


def decode(chunk: bytes) -> list[Run]:
    """
    Read a chunk.

    :raises DamagedError: it is none.
    """
    runs: list[Run] = []
    position = 0
    try:
        while position < len(chunk):
            end = chunk.index(b"\n", position)
            kind = Kind(chunk[position : position + 1])
            first, *numbers, party = chunk[position + 1 : end].split(b" ")
            count, time_ms, account, refs_bytes, texts_bytes = map(int, numbers)
            texts_at = end + 1 + refs_bytes
            position = texts_at + texts_bytes
            refs, texts = chunk[end + 1 : texts_at], chunk[texts_at:position]
            run = Run(kind, int(first, 16), count, time_ms, party, account, refs, texts)
            if texts.count(b"\n") != count - 1 or (refs and refs.count(b" ") != count - 1):
                raise DamagedError
            runs.append(run)
    except ValueError:
        raise DamagedError("this is no chunk of a log") from None
    if position != len(chunk):
        raise DamagedError("this chunk of a log is cut off")
    return runs


def parted(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Part runs, in order, into what becomes one chunk each."""
    chunk: list[Run] = []
    size_bytes = 0
    for run in runs:
        for part in _parts(run):
            chunk.append(part)
            size_bytes += part.size_bytes
            if size_bytes >= CHUNK_BYTES:
                yield chunk
                chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _parts(run: Run) -> Iterator[Run]:
    # That of one read may have 37,000 entries.
    rest: Run | None = run
    while rest is not None and rest.size_bytes > CHUNK_BYTES and rest.length > 1:
        last_id = rest.first_id + max(1, rest.length * CHUNK_BYTES // rest.size_bytes) - 1
        yield rest.until(last_id)
        rest = rest.after(last_id)
    if rest is not None:
        yield rest


def texts_of(lines: bytes) -> bytes:
    """The texts of a run of lines that all begin with the same ``%SENDER%``."""
    prefix = lines[: lines.index(b"%", 1) + 1]
    return lines[len(prefix) : -1].replace(b"\n" + prefix, b"\n")
