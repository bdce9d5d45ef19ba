"""What was written to the connections of a name and is not read: by whom, and under which refs."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from chatrelay.mailbox.entries import ENTRY_BYTES, Run


class Header(NamedTuple):
    """
    What is held in memory of a run: all but its texts.

    The fields are those of `chatrelay.mailbox.entries.Run`.
    """

    first_id: int
    length: int
    size_bytes: int
    account: int
    party: bytes
    refs: bytes

    @property
    def entry_bytes(self) -> float:
        """What each of them counts for."""
        return self.size_bytes / self.length

    def split(self, length: int) -> tuple[Header, Header]:
        """Take the first ones off; of the bytes as much as they are of the entries."""
        first_bytes = self.size_bytes * length // self.length
        refs = self.refs.split(b" ") if self.refs else []
        return (
            self._replace(length=length, size_bytes=first_bytes, refs=b" ".join(refs[:length])),
            self._replace(
                first_id=self.first_id + length,
                length=self.length - length,
                size_bytes=self.size_bytes - first_bytes,
                refs=b" ".join(refs[length:]),
            ),
        )

    def is_before(self, other: Header) -> bool:
        """Whether another one goes on with short messages of the same sender, without refs."""
        return (
            self.first_id + self.length == other.first_id
            and (self.account, self.party) == (other.account, other.party)
            and not (self.refs or other.refs)
            and max(self.entry_bytes, other.entry_bytes) <= 2 * ENTRY_BYTES
        )

    def joined(self, other: Header) -> Header:
        """Both as one, if it is before the other."""
        return self._replace(
            length=self.length + other.length, size_bytes=self.size_bytes + other.size_bytes
        )

    def refs_and_ids(self) -> list[tuple[bytes, int]]:
        """The ref and the id of each; empty if they have no refs, or were said in a room."""
        if not self.refs or self.party.startswith(b"#"):
            return []
        ids = range(self.first_id, self.first_id + self.length)
        return list(zip(self.refs.split(b" "), ids, strict=True))


class InFlight:
    """The headers of one name, by their ids."""

    __slots__ = ("_headers", "_last_id")

    def __init__(self) -> None:
        self._headers: deque[Header] = deque()
        self._last_id = 0

    def __bool__(self) -> bool:
        return bool(self._headers)

    def add(self, run: Run) -> None:
        """A run was written; what was written already to another connection is there."""
        later = run.after(self._last_id)
        if later is not None:
            self._last_id = later.last_id
            header = Header(
                *(later.first_id, later.length, later.size_bytes),
                *(later.account, later.party, later.refs),
            )
            if self._headers and self._headers[-1].is_before(header):
                # One at a time they would take fifty times as much as what is written of them.
                header = self._headers.pop().joined(header)
            self._headers.append(header)

    def has(self, entry_id: int) -> bool:
        """Whether an entry is among them; as much work as to take all up to it."""
        for header in self._headers:
            if entry_id < header.first_id + header.length:
                return entry_id >= header.first_id
        return False

    def take(self, last_id: int) -> list[Header]:
        """Everything up to an id is read; it is given back."""
        taken: list[Header] = []
        while self._headers and self._headers[0].first_id <= last_id:
            header = self._headers.popleft()
            read = min(header.length, last_id - header.first_id + 1)
            if read < header.length:
                header, rest = header.split(read)
                self._headers.appendleft(rest)
            taken.append(header)
        return taken

    def remove(self, first_id: int, last_id: int) -> None:
        """What has these ids could not be kept, and will not come again."""
        kept: deque[Header] = deque()
        for header in self._headers:
            before = min(header.length, max(0, first_id - header.first_id))
            behind = min(header.length, max(0, header.first_id + header.length - 1 - last_id))
            if max(before, behind) == header.length:
                kept.append(header)
                continue
            if before:
                kept.append(header.split(before)[0])
            if behind:
                kept.append(header.split(header.length - behind)[1])
        self._headers = kept

    def clear(self, last_id: int) -> None:
        """Nobody is written to any more; what is later than an id will be written again."""
        self._headers.clear()
        self._last_id = last_id
