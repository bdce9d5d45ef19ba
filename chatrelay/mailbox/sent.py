"""What one name sends, on its way into its own log: its history, and the refs of what is stored."""

from __future__ import annotations

from collections.abc import Callable

from chatrelay.mailbox.entries import Kind, Run, texts_of
from chatrelay.mailbox.seams import Keeper
from chatrelay.refs import digest
from chatrelay.stamps import Stamp


class Sent:
    """
    What was sent and is not written yet.

    :ivar keeps_texts: whether there is a history of it; if not, only what is stored under a ref
        is noted, and of its text a digest.
    """

    def __init__(self, keeper: Keeper, changed: Callable[[int], None]) -> None:
        """
        Begin with nothing.

        :param changed: called with how many bytes more are to be written.
        """
        self.keeps_texts = keeper.limits.keeps_history
        self._keeper = keeper
        self._changed = changed
        self._runs: list[Run] = []

    def __bool__(self) -> bool:
        """Whether there is something to be written."""
        return bool(self._runs)

    def take(self) -> list[Run]:
        """Give out what is to be written."""
        runs, self._runs = self._runs, []
        return runs

    def add(self, stamp: Stamp, target: bytes, text: bytes, ref: bytes) -> None:
        """
        One of its connections sent a message.

        :param ref: if it is being stored under one.
        """
        if self.keeps_texts:
            run = Run(Kind.SENT, stamp.number, 1, stamp.time_ms, target, 0, ref, text)
        elif ref:
            numbers = (stamp.number, 1, stamp.time_ms)
            run = Run(Kind.REMEMBERED, *numbers, target, 0, ref, _digests(text))
        else:
            return
        self._add(run)

    def add_logged(self, target: bytes, run: Run) -> None:
        """
        One of its connections sent messages that go into a log.

        :param target: how the recipient was written.
        :param run: as the recipient has them.
        """
        if self.keeps_texts:
            sent = run._replace(kind=Kind.SENT, party=target, account=0)
        else:
            texts = _digests(run.texts)
            sent = run._replace(kind=Kind.REMEMBERED, party=target, account=0, texts=texts)
        self._add(sent)

    def add_run(self, target: bytes, lines: bytes, count: int, first_id: int) -> None:
        """
        One of its connections sent a run.

        :param lines: as they were delivered.
        :param first_id: of the messages; 0 if they were given none.
        """
        if not self.keeps_texts:
            return
        first_id = first_id or self._keeper.ids.take(count)
        time_ms = self._keeper.now_ms()
        texts = texts_of(lines)
        self._add(Run(Kind.SENT, first_id, count, time_ms, target, 0, b"", texts))

    def add_acked(self, run: Run) -> None:
        """Messages were acked that are only remembered by their digests."""
        self._add(run)

    def _add(self, run: Run) -> None:
        self._runs.append(run)
        self._changed(run.size_bytes)


def _digests(texts: bytes) -> bytes:
    return b"\n".join(digest(text).hex().encode("ascii") for text in texts.split(b"\n"))
