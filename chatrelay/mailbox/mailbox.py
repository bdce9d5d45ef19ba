"""
One owned name: what is sent to it, what waits, what it sent, and what its senders are told
(docs/protocol.rst, *The log of an owned name*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from chatrelay.errors import Blocked, MailboxFull, Refusal
from chatrelay.interfaces import Recipient
from chatrelay.mailbox.entries import ENTRY_BYTES, Kind, Run, receipts, texts_of
from chatrelay.mailbox.kept import Kept
from chatrelay.mailbox.log import Changes, Loaded
from chatrelay.mailbox.reader import ReadingDevice
from chatrelay.mailbox.reading import Reading
from chatrelay.mailbox.receipts import Receipt, note_acked, tell_senders
from chatrelay.mailbox.seams import Keeper
from chatrelay.mailbox.sent import Sent
from chatrelay.mailbox.shares import Shares
from chatrelay.mailbox.waiting import Ack, Batch, Pending
from chatrelay.names import Name, key_of_party
from chatrelay.refs import AcceptedRefs, AcceptedRun
from chatrelay.stamps import Stamp

_NO_SHARE = "You have your share of this mailbox; it takes more when some of that was read."
_NO_SPACE = "The relay keeps as much as it may for all names together."


class Mailbox:
    """
    One owned name.

    It is a `chatrelay.interfaces.RunRecipient` while it is live.

    :ivar account: the number of its account.
    :ivar name: the name; as its owner writes it, once that is known.
    :ivar is_loaded: whether it is known what is in the log; before, only `deliver` and
        `note_acked` do anything.
    :ivar refs: what it had accepted under which ref.
    :ivar blocked: the keys of the names that it takes nothing from.
    :ivar sent: what it sends.
    :ivar reading: its connections, and how far they have read.
    """

    def __init__(self, keeper: Keeper, account: int, name: Name) -> None:
        """Begin without knowing what is in the log."""
        self.account = account
        self.name = name
        self.is_loaded = False
        self.refs = AcceptedRefs(keeper.limits)
        self.blocked: set[bytes] = set()
        self._keeper = keeper
        self._unread = Shares(keeper.limits)
        self.reading = Reading(self, keeper, self._unread)
        self._kept = Kept(keeper.limits)
        # In order; those before are on their way to the disk.
        self._uncommitted: list[Pending] = []
        self._taken = 0
        self.sent = Sent(keeper, partial(keeper.changed, self))
        self._acks: list[Ack] = []
        self._receipts: list[Receipt] = []
        self._unwritten_receipts: list[Run] = []

    def is_being_loaded(self) -> None:
        """The store is asked what is in the log."""
        self._kept.is_asked()

    def loaded(self, log: Loaded) -> None:
        """What is in the log is known now."""
        self.is_loaded = True
        self.reading.loaded(log)
        self._kept.add(log.entries, log.size_bytes)
        for account, entries, size_bytes in log.unread:
            self._unread.add(account, entries, size_bytes)
        self.blocked.update(log.blocked)
        now_s = self._keeper.now_s()
        for age_s, run in log.accepted:
            self.refs.accept(
                AcceptedRun(
                    *(key_of_party(run.party), run.refs.split(b" "), run.texts, now_s - age_s),
                    first_id=run.first_id,
                    are_digests=run.kind is Kind.REMEMBERED,
                )
            )
        for run in log.acked:
            note_acked(self.refs, run, now_s)

    # The recipient.

    @property
    def connected_s(self) -> float:
        """Since when one of its connections is here, in seconds since the epoch."""
        return min(device.connected_s for device in self.reading.readers)

    def idle_s(self) -> float:
        """For how long nothing came from any of its connections."""
        return min(device.idle_s() for device in self.reading.readers)

    def includes(self, other: Recipient) -> bool:
        """Whether another recipient is one of its connections, or was."""
        # By its account: a log that nobody uses is put away, and is another one when it is back.
        return other.account == self.account

    @property
    def takes_runs(self) -> bool:
        """Whether it takes runs now."""
        return self.reading.is_live and all(device.takes_runs for device in self.reading.readers)

    @property
    def needs_runs(self) -> bool:
        """Whether runs have to be shown to it, and do not just go to its connections."""
        return self.sent.keeps_texts or bool(self.blocked)

    def deliver(
        self,
        sender: Recipient,
        text: bytes,
        stamp: Stamp | None = None,
        asker: Recipient | None = None,
    ) -> None:
        """
        Take one message that nobody is told of; later, if it is not known what is in the log.

        :raises Refusal: it does not.
        """
        if self.is_loaded:
            self.take(sender, self.name.shown, text, b"", stamp or Stamp(self._keeper), asker)
            return

        def loaded(refusal: Refusal | None) -> None:
            if refusal is None:
                with suppress(Refusal):  # Who wrote it has gone on.
                    self.deliver(sender, text, stamp, asker)

        self._keeper.load([self], loaded)

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> int:
        """
        Take a run, while it is live.

        :returns: the id of the first message, or 0 if they were given none.
        :raises Blocked: it takes none of it.
        """
        if sender.name.key in self.blocked:
            raise Blocked(self.name.shown)
        for device in self.reading.readers:
            device.deliver_run(sender, lines, count)
        if not self.sent.keeps_texts:
            return 0
        first_id = self._keeper.ids.take(count)
        time_ms = self._keeper.now_ms()
        shown, account = sender.name.shown, sender.account
        texts = texts_of(lines)
        self._add_handed(Run(Kind.RECEIVED, first_id, count, time_ms, shown, account, b"", texts))
        return first_id

    def take(
        self,
        sender: Recipient,
        target: bytes,
        text: bytes,
        ref: bytes,
        stamp: Stamp,
        asker: Recipient | None = None,
    ) -> Pending | None:
        """
        Take one message.

        :param target: how the sender wrote the name.
        :returns: what will be committed; ``None`` if it was written to its connections.
        :raises Blocked, MailboxFull: it does not take it.
        """
        if sender.name.key in self.blocked:
            raise Blocked(target)
        if self.reading.is_live:
            first, *others = self.reading.readers
            first.deliver(sender, text, stamp, asker)
            for device in others:
                device.deliver_copy(sender, text, stamp, asker)
            if self.sent.keeps_texts:
                self._add_handed(self._run(sender, text, b"", stamp))
            return None
        account = sender.account
        if not self._unread.has_room(account, 1, len(text) + len(ref) + ENTRY_BYTES):
            raise MailboxFull(target, sentence=None if self._unread.is_full else _NO_SHARE)
        if self._keeper.is_full:
            raise MailboxFull(target, sentence=_NO_SPACE)
        pending = Pending(self._run(sender, text, ref, stamp))
        self._add(pending)
        return pending

    def has_room_for(self, sender: Recipient, length: int, texts: bytes) -> bool:
        """Whether it takes so many messages into its log, as `take` would one after the other."""
        return (
            self.is_loaded
            and not self.reading.is_live
            and sender.name.key not in self.blocked
            and not self._keeper.is_full
            # Refs are shorter than this.
            and self._unread.has_room(sender.account, length, len(texts) + length * 2 * ENTRY_BYTES)
        )

    def take_run(self, sender: Recipient, refs: Sequence[bytes], texts: bytes) -> Pending:
        """
        Take messages into its log, for which there is room.

        :param refs: one for each.
        :param texts: theirs, LF between.
        """
        length = len(refs)
        first_id = self._keeper.ids.take(length)
        shown, account = sender.name.shown, sender.account
        numbers = (first_id, length, self._keeper.now_ms())
        run = Run(Kind.RECEIVED, *numbers, shown, account, b" ".join(refs), texts)
        pending = Pending(run)
        self._add(pending)
        return pending

    def take_said(self, sender_key: bytes, run: Run) -> Pending | None:
        """
        Take into its log what was said in a room or to everybody, as much as there is room for.

        :param sender_key: of whom it would block.
        :returns: what will be committed; ``None`` for nothing.
        """
        if not self.is_loaded or sender_key in self.blocked or self._keeper.is_full:
            return None
        fitting = self._unread.fitting(run)
        if fitting is None:
            return None
        pending = Pending(fitting)
        self._add(pending)
        return pending

    # Its connections.

    def attach(self, device: ReadingDevice) -> None:
        """A connection has the name: it is written what waits, and then what comes."""
        self.name = device.name
        self.reading.attach(device)

    def ack(self, device: ReadingDevice, message_id: int, ref: bytes) -> None:
        """
        A connection has read everything up to an entry, and is told when that is kept.

        :raises BadId: it was not sent that.
        """
        acked = self.reading.ack(device, message_id)
        self._receipts += tell_senders(acked, self.name, self._keeper)
        device.awaits_answer()
        self._acks.append(Ack(device, message_id, ref))
        self._keeper.changed(self)

    def note_acked(self, party: bytes, refs: list[tuple[bytes, int]]) -> None:
        """
        Messages that it had sent were acked.

        :param party: by whom.
        :param refs: their refs and ids.
        """
        first_id = self._keeper.ids.take(len(refs))
        run = receipts(first_id, self._keeper.now_ms(), party, refs)
        self._uncommitted.append(Pending(run))
        self._keeper.changed(self)
        if not self.sent.keeps_texts:
            # What is read is not kept; who asks again after a restart is told all the same.
            self.sent.add_acked(run)

    # What is written.

    def uncommitted(self) -> Sequence[Pending]:
        """What was sent to it and is not committed, in order."""
        return self._uncommitted

    @property
    def has_unwritten_cursor(self) -> bool:
        """Whether it is read further than the log says."""
        return self.reading.read_id > self.reading.committed_read_id

    @property
    def has_to_write_again(self) -> bool:
        """Whether something could not be written that nobody would send again."""
        return self.has_unwritten_cursor or bool(self._receipts or self._unwritten_receipts)

    def is_idle(self, now_s: float) -> bool:
        """Whether all that is known of it can be read again from the store."""
        self.refs.forget_old(now_s)
        return (
            self.reading.is_idle
            and not (self.refs.known or self._uncommitted or self._acks)
            and not (self.sent or self.has_to_write_again)
        )

    def take_batch(self) -> Batch:
        """Give out what is to be written, of which `committed` or `failed` will tell."""
        unwritten, self._unwritten_receipts = self._unwritten_receipts, []
        for run in unwritten:
            # Behind what came since, as their ids have to be.
            again = run._replace(first_id=self._keeper.ids.take(run.length))
            self._uncommitted.append(Pending(again))
        pending = self._uncommitted[self._taken :]
        self._taken = len(self._uncommitted)
        sent = self.sent.take()
        acks, self._acks = self._acks, []
        receipts, self._receipts = self._receipts, []
        runs = [one.run for one in pending]
        self._kept.add_runs((*runs, *sent), 1)
        changes = Changes(
            self.account,
            runs,
            sent,
            self.reading.read_id if acks or self.has_unwritten_cursor else 0,
            self.reading.offered_with(runs[-1].last_id if runs else 0),
            self.is_loaded and self._kept.is_to_be_cut(),
        )
        return Batch(changes, pending, acks, receipts)

    def committed(self, batch: Batch) -> None:
        """What was given out is on the disk."""
        self._is_over_with(batch)
        self.reading.committed(batch.pending, batch.changes)
        for pending in batch.pending:
            if pending.run.kind is Kind.ACKED:
                note_acked(self.refs, pending.run, self._keeper.now_s())
            else:
                pending.stored()
        for device, message_id, ref in batch.acks:
            device.answer_acked(message_id, ref)
            device.was_answered()
        for sender, ref, message_id in batch.receipts:
            self._keeper.tell_acked(sender, self, ref, message_id)
        self.reading.settle()

    def failed(self, batch: Batch, refusal: Callable[[bytes], Refusal]) -> None:
        """
        What was given out could not be written.

        :param refusal: makes what the senders are told, with the name as they wrote it.
        """
        self._is_over_with(batch)
        self._kept.add_runs((*batch.changes.received, *batch.changes.sent), -1)
        self._refuse(batch.pending, refusal)
        # What was acked is read all the same, which another commit writes, and tells its senders.
        for ack in batch.acks:
            ack.device.refuse(refusal(self.name.shown), ack.ref)
            ack.device.was_answered()
        self._receipts[:0] = batch.receipts
        self.reading.settle()

    def freed(self, entries: int, size_bytes: int) -> None:
        """Some of the log was given up."""
        self._kept.add(-entries, -size_bytes)

    def removed(self, refusal: Callable[[bytes], Refusal]) -> None:
        """The account is gone: who waits is told."""
        waiting = self._uncommitted[self._taken :]
        del self._uncommitted[self._taken :]
        self._refuse(waiting, refusal)

    # How it does it.

    def _is_over_with(self, batch: Batch) -> None:
        # Commits end in their order.
        del self._uncommitted[: len(batch.pending)]
        self._taken -= len(batch.pending)

    def _run(self, sender: Recipient, text: bytes, ref: bytes, stamp: Stamp) -> Run:
        shown, account = sender.name.shown, sender.account
        return Run(Kind.RECEIVED, stamp.number, 1, stamp.time_ms, shown, account, ref, text)

    def _add(self, pending: Pending) -> None:
        run = pending.run
        self._unread.add(run.account, run.length, run.size_bytes)
        self._uncommitted.append(pending)
        self._keeper.changed(self, run.size_bytes)

    def _add_handed(self, run: Run) -> None:
        self._add(Pending(run, is_handed=True))
        self.reading.handed(run)

    def _refuse(self, pending: Iterable[Pending], refusal: Callable[[bytes], Refusal]) -> None:
        for one in pending:
            if one.run.kind is Kind.ACKED:
                self._unwritten_receipts.append(one.run)
            else:
                unread = self.reading.unkept(one.run) if one.is_handed else one.run
                if unread is not None:
                    self._unread.add(unread.account, -unread.length, -unread.size_bytes)
            one.failed(refusal)
