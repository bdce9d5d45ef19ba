"""All mailboxes of a relay: found by name, loaded when they are needed, pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.claims import Decided
from chatrelay.errors import NotAllowed, Refusal, StoreFailed, UnknownName
from chatrelay.flow import Gate
from chatrelay.ids import Ids
from chatrelay.mailbox import failures
from chatrelay.mailbox.histories import Asked, Histories
from chatrelay.mailbox.loading import Loading
from chatrelay.mailbox.log import Bounds, Changes, Entry, Page, Written
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.owned import Owned, OwnedNames
from chatrelay.mailbox.seams import Logged, Surroundings
from chatrelay.mailbox.upkeep import Freed, Upkeep
from chatrelay.mailbox.waiting import Batch
from chatrelay.mailbox.writer import Batches, Store, Writer
from chatrelay.names import Name
from chatrelay.rooms.kept import RoomLog
from chatrelay.store.accounts import Accounts
from chatrelay.store.jobs import SENTENCE

# The rows of a page are decoded at once; so much is written to a connection at once.
PAGE_BYTES = 256 * 1024
_TOO_MANY_BLOCKED = "You block as many names as you may; /unblock some."

_log = Logger(namespace="chatrelay")


class Mailboxes:
    """
    The mailboxes of one relay.

    :ivar ids: gives the numbers that messages have.
    """

    def __init__(
        self,
        relay: Surroundings,
        store: Store,
        owned: Iterable[tuple[int, bytes, bytes]],
        *,
        call_later: Callable[[Callable[[], None]], object],
    ) -> None:
        """
        Begin.

        :param owned: the number, key and shown name of each account.
        :param call_later: calls in the reactor's next turn.
        """
        self.limits = relay.limits
        self._relay = relay
        self._store = store
        self._owned = OwnedNames(owned)
        self._mailboxes: dict[int, Mailbox] = {}
        self._loading = Loading(
            store,
            self.renew_route,
            refs_lifetime_s=self.limits.ref_lifetime_s,
            wall_clock=lambda: self.now_ms() / 1000,
            call_later=call_later,
        )
        self._rooms: dict[int, RoomLog] = {}
        self._watched: dict[Mailbox, None] = {}
        self._to_write_again: dict[Logged, None] = {}
        self._histories = Histories(store)
        self._upkeep = Upkeep(relay, store, self._note_freed)
        self._writer = Writer(
            store,
            self._bounds,
            self._told,
            max_waiting_bytes=self.limits.max_unwritten_bytes,
            wall_clock=lambda: self.now_ms() / 1000,
            call_later=call_later,
        )

    def _bounds(self) -> Bounds:
        limits = self.limits
        return Bounds(
            limits.max_mailbox_entries,
            limits.max_mailbox_bytes,
            limits.keeps_history,
            limits.ref_lifetime_s,
            limits.max_refs,
        )

    # By name.

    def find(self, key: bytes) -> Mailbox | None:
        """The mailbox of a name; ``None`` if nobody owns it."""
        owned = self._owned.get(key)
        if owned is None:
            return None
        mailbox = self._mailboxes.get(owned.account)
        if mailbox is None:
            mailbox = Mailbox(self, owned.account, Name(owned.shown, key))
            self._mailboxes[owned.account] = mailbox
        return mailbox

    @property
    def owned_count(self) -> int:
        """How many names have an account."""
        return len(self._owned)

    @property
    def used_bytes(self) -> int:
        """What everything takes in the store, when that was last known; 0 until it is."""
        return self._upkeep.used_bytes

    def is_owned(self, key: bytes) -> bool:
        """Whether a name had an account when that was last looked at."""
        return key in self._owned

    def add(self, account: int, name: Name) -> Mailbox:
        """A name has an owner now."""
        owned = self._owned.get(name.key)
        if owned is None or owned.account != account:
            self.forget(name.key)
            self._owned.add(name.key, Owned(account, name.shown))
        mailbox = self.find(name.key)
        assert mailbox is not None, "it was put there"  # noqa: S101
        return mailbox

    def forget(self, key: bytes) -> None:
        """A name has no owner, whoever it had when that was last looked at."""
        owned = self._owned.remove(key)
        if owned is None:
            return
        self._relay.account_gone(owned.account, key)
        self._relay.renew_route(key, (owned.shown, None))
        mailbox = self._mailboxes.pop(owned.account, None)
        if mailbox is not None:
            self._writer.removed(mailbox)
            self._watched.pop(mailbox, None)
            mailbox.removed(UnknownName)

    def add_room(self, log: RoomLog) -> None:
        """A room has a log."""
        self._rooms[log.number] = log

    def forget_room(self, number: int) -> None:
        """A room has a log no more."""
        log = self._rooms.pop(number, None)
        if log is not None:
            self._writer.removed(log)

    def refresh(self, key: bytes) -> None:
        """Somebody else changed the account of a name: look whether it has one now, and which."""

        def found(rows: list[tuple[int, bytes, bytes]]) -> None:
            if not rows:
                self.forget(key)
            for number, _, shown in rows:
                self.add(number, Name(shown, key))

        reading = self._store.read(lambda accounts: accounts.logs.owned_names([key]))
        reading.addCallback(found).addErrback(failures.note)

    def load(self, mailboxes: Sequence[Mailbox], decided: Decided[None]) -> None:
        """
        Have it known what is in some logs.

        :param decided: told ``None`` when it is, or why it can not be.
        """
        self._loading.load(mailboxes, decided)

    def history(
        self,
        log: Mailbox | RoomLog,
        party: bytes | None,
        count: int,
        decided: Decided[list[Entry]],
        *,
        before_id: int | None = None,
        after_id: int | None = None,
    ) -> None:
        """
        Read some of a log; see `chatrelay.store.histories.read_piece`.

        What was accepted before is in it: it is written first.
        """
        account, room = (0, log.number) if isinstance(log, RoomLog) else (log.account, 0)
        asked = Asked(account, party, count, before_id=before_id, after_id=after_id, room=room)
        failures.tell(asked.answer, decided)
        self._writer.when_written(lambda: self._histories.ask(asked))

    def set_blocked(
        self, mailbox: Mailbox, name: Name, decided: Decided[None], *, is_blocked: bool
    ) -> None:
        """
        Have a name's messages refused from now on, or no more.

        :param decided: told ``None`` when that is kept, or why it is not.
        """
        blocked = mailbox.blocked
        if is_blocked and name.key not in blocked and len(blocked) >= self.limits.max_blocked:
            decided(NotAllowed(sentence=_TOO_MANY_BLOCKED))
            return

        def kept(_: None) -> None:
            if is_blocked:
                blocked.add(name.key)
            else:
                blocked.discard(name.key)
            self.renew_route(mailbox)

        def job(accounts: Accounts) -> None:
            if is_blocked:
                accounts.logs.block(mailbox.account, name.key, name.shown)
            else:
                accounts.logs.unblock(mailbox.account, name.key)

        failures.tell(self._store.write(job).addCallback(kept), decided)

    def close(self) -> Deferred[None]:
        """Write everything; fires with ``None`` when that is done, or could not be."""
        return self._writer.close()

    def sent(self, gate: Gate) -> None:
        """
        Something was sent, wholly: begin to write, if that is worth it.

        :param gate: of who has sent it; it is held if more is to be written than may wait.
        """
        self._writer.sent(gate)

    def tick(self) -> None:
        """A second has passed."""
        now_s = self.now_s()
        for mailbox in list(self._watched):
            if not mailbox.reading.tick(now_s):
                self._watched.pop(mailbox, None)
        again, self._to_write_again = self._to_write_again, {}
        for logged in again:
            self.changed(logged)
        if self._upkeep.tick():
            self._put_away_idle(now_s)

    # What a mailbox asks for.

    @property
    def ids(self) -> Ids:
        """The numbers that messages have."""
        return self._relay.ids

    @property
    def is_full(self) -> bool:
        """Whether all logs together have as much as they may."""
        return self._upkeep.is_full

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._relay.now_ms()

    def timestamp(self, milliseconds_since_epoch: int) -> bytes:
        """Write a time as the protocol does."""
        return self._relay.timestamp(milliseconds_since_epoch)

    def now_s(self) -> float:
        """Seconds, of a clock that never jumps."""
        return self._relay.seconds()

    def watch(self, mailbox: Mailbox) -> None:
        """Call `Reading.tick` of it once a second, for as long as that asks for it."""
        self._watched[mailbox] = None

    def load_page(
        self,
        mailbox: Mailbox,
        after_id: int,
        *,
        has_to_ack: bool,
        then: Callable[[Page | None], None],
    ) -> None:
        """Read some of a log; who has to ack it is noted to be offered it before it is."""
        job = partial(
            _page, mailbox.account, after_id, has_to_ack=has_to_ack, bounds=self._bounds()
        )
        # What is not offered to anybody is only read, and waits for no disk.
        reading = self._store.write(job) if has_to_ack else self._store.read(job)

        def failed(failure: Failure) -> None:
            self.watch(mailbox)
            failures.note(failure)
            then(None)

        reading.addCallbacks(then, failed)
        reading.addErrback(lambda failure: _log.failure("delivering a log failed", failure))

    def changed(self, mailbox: Logged, size_bytes: int = 0) -> None:
        """Something of this size is to be written: ask for it soon."""
        self._writer.changed(mailbox, size_bytes)

    def renew_route(self, mailbox: Mailbox) -> None:
        """The mailbox became live, or is it no longer."""
        owned = self._owned.get(mailbox.name.key)
        if owned is None or owned.account != mailbox.account:
            # Its account is gone, and its last connections leave: the name is not its any more.
            return
        goes_to_log = mailbox.is_loaded and not mailbox.reading.is_live
        log = (owned.shown, mailbox if goes_to_log else None)
        self._relay.renew_route(mailbox.name.key, log)

    def mailbox_of(self, account: int) -> Mailbox | None:
        """The mailbox of an account that was looked at, loaded or not."""
        key = self._owned.key_of(account)
        return None if key is None else self.find(key)

    def name_of(self, account: int) -> Name | None:
        """The name of an account that was looked at."""
        key = self._owned.key_of(account)
        owned = self._owned.get(key) if key is not None else None
        return None if key is None or owned is None else Name(owned.shown, key)

    def tell_acked(self, sender: bytes, mailbox: Mailbox, ref: bytes, message_id: int) -> None:
        """A message of somebody whose name nobody owns was acked."""
        self._relay.tell_acked(sender, mailbox.name, ref, message_id)

    # How it does it.

    def _put_away_idle(self, now_s: float) -> None:
        if self._loading:
            # Who waits for several counts on those that were there already.
            return
        busy = self._watched.keys() | self._to_write_again.keys()
        for mailbox in list(self._mailboxes.values()):
            if mailbox not in busy and mailbox.is_idle(now_s):
                del self._mailboxes[mailbox.account]
                mailbox.is_loaded = False
                self.renew_route(mailbox)

    def _told(self, batches: Batches, result: Written | Failure) -> None:
        if isinstance(result, Failure):
            failures.note(result)
        else:
            self._upkeep.used_bytes = result.used_bytes
            self._note_freed(result.freed, result.freed_rooms)
        for mailbox, batch in batches:
            try:
                self._tell(mailbox, batch, result)
            except Exception:
                # The others wait, too.
                _log.failure("telling of a commit failed")

    def _tell(self, mailbox: Logged, batch: Batch, result: Written | Failure) -> None:
        if isinstance(result, Failure):
            mailbox.failed(batch, _store_failed)
            if mailbox.has_to_write_again:
                self._to_write_again[mailbox] = None
        elif batch.changes.account in result.gone:
            mailbox.failed(batch, UnknownName)
        else:
            mailbox.committed(batch)

    def _note_freed(self, freed: Freed, freed_rooms: Freed) -> None:
        for account, (entries, size_bytes) in freed.items():
            mailbox = self._mailboxes.get(account)
            if mailbox is not None:
                mailbox.freed(entries, size_bytes)
        for room, (entries, size_bytes) in freed_rooms.items():
            if room in self._rooms:
                self._rooms[room].freed(entries, size_bytes)


def _page(
    account: int, after_id: int, accounts: Accounts, *, has_to_ack: bool, bounds: Bounds
) -> Page:
    runs = accounts.logs.page(account, after_id, PAGE_BYTES)
    if has_to_ack and runs:
        offered = Changes(account, offered_id=runs[-1].last_id)
        accounts.logs.write([offered], bounds, 0.0)
    is_last = sum(run.size_bytes for run in runs) < PAGE_BYTES
    return Page(runs, is_last)


def _store_failed(name: bytes) -> Refusal:
    return StoreFailed(name, sentence=SENTENCE)
