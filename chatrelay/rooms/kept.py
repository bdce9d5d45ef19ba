"""What a room that is kept has besides its members who are here."""

from __future__ import annotations

from chatrelay.mailbox.entries import Run
from chatrelay.mailbox.kept import Kept
from chatrelay.mailbox.log import Changes
from chatrelay.mailbox.seams import Keeper
from chatrelay.mailbox.waiting import Batch
from chatrelay.rooms.log import KeptRoom


class RoomLog:
    """
    What is said in one kept room, on its way into its log.

    :ivar number: the room's.
    """

    def __init__(self, keeper: Keeper, room: KeptRoom) -> None:
        """Begin with what is in the log."""
        self.number = room.number
        self._keeper = keeper
        self._kept = Kept(keeper.limits)
        self._kept.add(room.entries, room.size_bytes)
        self._unwritten: list[Run] = []

    def add(self, run: Run) -> None:
        """Something was said."""
        self._unwritten.append(run)
        self._keeper.changed(self, run.size_bytes)

    @property
    def has_to_write_again(self) -> bool:
        """What could not be written is missing in the history; the store has said why."""
        return False

    def take_batch(self) -> Batch:
        """Give out what is to be written."""
        runs, self._unwritten = self._unwritten, []
        self._kept.add_runs(runs, 1)
        is_over = self._kept.is_to_be_cut()
        return Batch(Changes(0, runs, is_over=is_over, room=self.number), [], [], [])

    def committed(self, batch: Batch) -> None:
        """It is on the disk."""

    def failed(self, batch: Batch, _refusal: object) -> None:
        """It could not be written."""
        self._kept.add_runs(batch.changes.received, -1)

    def freed(self, entries: int, size_bytes: int) -> None:
        """Some of the log was given up."""
        self._kept.add(-entries, -size_bytes)


class Keep:
    """
    That a room is kept, and how.

    :ivar number: of the room.
    :ivar owner: the number of its owner's account.
    :ivar topic: empty if it has none.
    :ivar is_members_only: whether only who is invited may join.
    :ivar accounts: by the numbers of accounts, whether they have joined, or are only invited.
    :ivar log: what is said there; ``None`` where no history is kept.
    """

    def __init__(self, room: KeptRoom, log: RoomLog | None) -> None:
        self.number = room.number
        self.owner = room.owner
        self.topic = room.topic
        self.is_members_only = room.is_members_only
        self.accounts = dict(room.members)
        self.log = log

    def admits(self, account: int) -> bool:
        """Whether somebody with this account, or without one (0), may join."""
        return not self.is_members_only or account == self.owner or account in self.accounts
