"""
How the connections of one owned name read: straight, or out of the log; and how far they have
(docs/protocol.rst, *The log of an owned name*).

A name is *live* while everything goes straight to its connections.  It is *behind* while one of
them has not been written all that waits, and as long as one has the cap ``ack``: then
everything goes through the log, and is delivered after the commit.

Ids say how far everything is.  The cursor, ``read_id``, is the last one that is read.  A reader's
``position`` is the last one written to it; whose position is not before ``_committed_id``, the
last one on the disk, has nothing to load.  ``_offered_id`` is the last one that may be written to
who has to ack, and ``_noted_id`` as far as the disk knows that: nothing behind it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chatrelay.errors import BadId
from chatrelay.interfaces import Device
from chatrelay.mailbox.entries import Kind, Run
from chatrelay.mailbox.in_flight import Header, InFlight
from chatrelay.mailbox.log import Changes, Loaded, Page
from chatrelay.mailbox.reader import Reader, ReadingDevice
from chatrelay.mailbox.seams import Keeper
from chatrelay.mailbox.shares import Shares
from chatrelay.mailbox.waiting import Pending

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox


class Reading:
    """
    The connections of one name, and its one cursor.

    :ivar readers: the connections.
    :ivar is_live: whether everything goes straight to them.
    :ivar read_id: the cursor: everything up to this id is read.
    :ivar committed_read_id: as far as that is on the disk.
    """

    def __init__(self, mailbox: Mailbox, keeper: Keeper, unread: Shares) -> None:
        """
        Begin without knowing what is in the log.

        :param mailbox: the name's, which knows what is not committed.
        :param unread: what is unread; what is read is taken off.
        """
        self.readers: dict[Device, Reader] = {}
        self.is_live = False
        self.read_id = 0
        self.committed_read_id = 0
        self._mailbox = mailbox
        self._keeper = keeper
        self._unread = unread
        self._leaving: dict[Device, Reader] = {}
        self._is_acked = False
        self._in_flight = InFlight()
        self._offered_id = self._noted_id = 0
        self._committed_id = 0

    def loaded(self, log: Loaded) -> None:
        """What is in the log is known now."""
        self.read_id = self.committed_read_id = log.read_id
        self._offered_id = self._noted_id = log.offered_id
        # It may have been added to while it was being looked at.
        self._committed_id = max(self._committed_id, log.last_id, log.read_id)
        self._in_flight.clear(self.read_id)

    def offered_with(self, last_id: int) -> int:
        """
        Up to which id something may be sent to who has to ack it, once a commit is made.

        :param last_id: of what that adds; 0 if it adds nothing.
        :returns: 0 if that is on the disk.
        """
        offered_id = max(self._offered_id, last_id if self._is_acked else 0)
        return offered_id if offered_id > self._noted_id else 0

    @property
    def is_idle(self) -> bool:
        """Whether there is no connection, and none that may still be sent something."""
        return not (self.readers or self._leaving)

    # The connections.

    def attach(self, device: ReadingDevice) -> None:
        """A connection has the name: it is written what waits, and then what comes."""
        room_bytes = self._keeper.limits.low_water_bytes
        reader = Reader(device, self.read_id, self._offered_id, room_bytes)
        self.readers[device] = reader
        device.outbox.on_sent = lambda: self._was_sent(reader)
        # What the others have been sent and this one has not comes first.
        self._set_live(False)
        # A name that was behind before stays so; but it is the owner's connection now.
        self._keeper.renew_route(self._mailbox)
        self.caps_changed()

    def caps_changed(self) -> None:
        """One of the connections came, left, or has other caps."""
        self._is_acked = any(reader.has_to_ack for reader in self.readers.values())
        if self._is_acked and self.is_live:
            self._set_live(False)
        if self._is_acked and self._in_flight:
            # Who has to ack from now on may have been sent all that was written to it.
            positions = [reader.position for reader in self.readers.values() if reader.has_to_ack]
            self._offered_id = max(self._offered_id, *positions)
            if self._offered_id > self._noted_id:
                self._keeper.changed(self._mailbox)
        self.settle()

    def leave(self, device: Device) -> None:
        """A connection has the name no longer; what was written to it may still be sent."""
        reader = self.readers.pop(device, None)
        if reader is None:
            return
        self._leaving[device] = reader
        if not self.readers:
            self._set_live(False)
        self.caps_changed()
        self._keeper.renew_route(self._mailbox)

    def gone(self, device: Device) -> None:
        """A connection is sent nothing more."""
        reader = self._leaving.pop(device, None)
        if reader is None:
            return
        self._note_read(reader)
        reader.device.outbox.on_sent = None
        if not self.readers and not self._leaving:
            # They count as unread, and come again.
            self._in_flight.clear(self.read_id)

    def is_behind(self, device: Device) -> bool:
        """Whether a connection has not been written all that waits."""
        reader = self.readers.get(device)
        return reader is not None and (reader.is_loading or reader.position < self._committed_id)

    def spill(self, device: Device) -> bool:
        """
        A connection takes too little: from now on it is written as fast as it reads, and
        what is sent to the name goes into the log.

        :returns: ``False`` if that is not to be: others of the name read well.
        """
        if device not in self.readers or len(self.readers) > 1:
            return False
        self._set_live(False)
        return True

    def tick(self, now_s: float) -> bool:
        """
        A second has passed: cut who takes nothing at all.

        :returns: whether it has to be called again.
        """
        for reader in list(self.readers.values()):
            if reader.stalled_s(now_s) >= self._keeper.limits.stalled_s:
                reader.device.cut()
        self.settle()
        return bool(self.readers) and not self.is_live

    # What they read.

    def ack(self, device: Device, message_id: int) -> list[Header]:
        """
        A connection has read everything up to an entry.

        :returns: what was acked with that.
        :raises BadId: it was not sent that.
        """
        reader = self.readers[device]
        was_sent = message_id <= self.read_id or self._in_flight.has(message_id)
        if not (was_sent and reader.first_id < message_id <= reader.position):
            raise BadId
        return self._read_up_to(message_id)

    def unkept(self, run: Run) -> Run | None:
        """
        Messages that went straight to the connections could not be kept: they do not come again.

        :returns: what of them is not read.
        """
        unread = run.after(self.read_id)
        if unread is not None:
            self._in_flight.remove(unread.first_id, unread.last_id)
        return unread

    def handed(self, run: Run) -> None:
        """Messages went straight to the connections, and will be in the log."""
        for reader in self.readers.values():
            reader.mark(run.last_id)
        self._in_flight.add(run)

    def committed(self, batch: Iterable[Pending], changes: Changes) -> None:
        """
        Something is on the disk.

        :param batch: what was added to the log.
        :param changes: everything that was written.
        """
        self.committed_read_id = max(self.committed_read_id, changes.read_id)
        self._noted_id = max(self._noted_id, changes.offered_id)
        last_id = changes.received[-1].last_id if changes.received else 0
        previous_id = self._committed_id
        self._committed_id = max(previous_id, last_id)
        for reader in list(self.readers.values()):
            # Who has to ack and came after that was begun gets it as a page: that it may have
            # been offered is not on the disk.
            is_noted = self._noted_id >= last_id or not reader.has_to_ack
            if is_noted and not reader.is_loading and reader.position >= previous_id:
                self._hand_committed(reader, batch)

    def settle(self) -> None:
        """Let each connection that is behind go on, and the name be live if none is."""
        readers = list(self.readers.values())
        for reader in readers:
            if not reader.is_loading and reader.has_room and reader.position < self._committed_id:
                self._load(reader)
        if self.is_live or self._is_acked or not readers:
            return
        for reader in readers:
            if reader.is_loading or reader.position < self._committed_id or not reader.has_room:
                return
        self._hand_uncommitted(readers)
        self._set_live(True)

    # How it does it.

    def _set_live(self, is_live: bool) -> None:
        if self.is_live is not is_live:
            self.is_live = is_live
            self._keeper.renew_route(self._mailbox)
        if not is_live and self.readers:
            self._keeper.watch(self._mailbox)

    def _hand_uncommitted(self, readers: list[Reader]) -> None:
        # Nobody has to ack it, so that it need not wait for its commit.
        for pending in self._mailbox.uncommitted():
            if pending.run.kind is not Kind.RECEIVED:
                continue
            pending.is_handed = True
            for reader in readers:
                if reader.position < pending.run.first_id:
                    self._hand(reader, pending.run)

    def _load(self, reader: Reader) -> None:
        reader.is_loading = True
        last_id, has_to_ack = self._committed_id, reader.has_to_ack

        def loaded(page: Page | None) -> None:
            reader.is_loading = False
            if self.readers.get(reader.device) is not reader:
                return
            if reader.has_to_ack and not has_to_ack:
                # That it may have been offered is not on the disk.
                self._load(reader)
                return
            if page is None:
                # The next tick is another attempt; who has ended its input does not wait for it.
                reader.device.caught_up()
                return
            for run in page.runs:
                later = run.after(reader.position)
                if later is not None:
                    self._hand(reader, later)
            if page.is_last:
                reader.position = max(reader.position, last_id)
                if reader.position >= self._committed_id:
                    # Whatever the others wait for.
                    reader.device.caught_up()
            self.settle()

        self._keeper.load_page(self._mailbox, reader.position, has_to_ack=has_to_ack, then=loaded)

    def _hand_committed(self, reader: Reader, batch: Iterable[Pending]) -> None:
        for pending in batch:
            run = pending.run
            if run.kind is Kind.ACKED and (self.is_live or reader.position >= run.first_id):
                # Others, that were written to it before they were committed, have passed it.
                self._hand(reader, run)
            elif reader.position < run.first_id:
                if not reader.has_room:
                    return
                self._hand(reader, run)

    def _hand(self, reader: Reader, run: Run) -> None:
        device = reader.device
        if run.kind is Kind.ACKED:
            device.deliver_receipts(run)
        elif reader.has_to_ack:
            new = run.after(reader.again_until_id)
            if new is not run:
                device.deliver_kept(run.until(reader.again_until_id), is_again=True)
            if new is not None:
                device.deliver_kept(new, is_again=False)
            self._offered_id = max(self._offered_id, run.last_id)
        else:
            device.deliver_kept(run, is_again=False)
        reader.mark(run.last_id)
        if run.kind is not Kind.ACKED:
            self._in_flight.add(run)
        elif reader.has_to_ack and not self._in_flight:
            # There is nothing before it that would have to be acked, and it has not to be.
            self._read_up_to(run.last_id)

    def _was_sent(self, reader: Reader) -> None:
        self._note_read(reader)
        if not self.is_live:
            self.settle()

    def _note_read(self, reader: Reader) -> None:
        read_id = reader.read_id()
        if read_id and not self._is_acked and not reader.has_to_ack:
            self._read_up_to(read_id)

    def _read_up_to(self, entry_id: int) -> list[Header]:
        """Move the cursor; returns what is read by that."""
        if entry_id <= self.read_id:
            return []
        self.read_id = entry_id
        read = self._in_flight.take(entry_id)
        for header in read:
            self._unread.add(header.account, -header.length, -header.size_bytes)
        self._keeper.changed(self._mailbox)
        return read
