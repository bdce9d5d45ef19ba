"""What a mailbox asks of who has them all, and what a relay asks of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from chatrelay.claims import Decided
from chatrelay.errors import Refusal
from chatrelay.flow import Gate
from chatrelay.ids import Ids
from chatrelay.limits import Limits
from chatrelay.mailbox.log import Entry, Page
from chatrelay.names import Name
from chatrelay.stamps import Clock

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox
    from chatrelay.mailbox.waiting import Batch
    from chatrelay.rooms.kept import RoomLog


class Logged(Protocol):
    """What has a log that is written: a mailbox, or a kept room."""

    @property
    def has_to_write_again(self) -> bool:
        """Whether something could not be written that nobody would send again."""

    def take_batch(self) -> Batch:
        """Give out what is to be written, of which `committed` or `failed` will tell."""

    def committed(self, batch: Batch) -> None:
        """What was given out is on the disk."""

    def failed(self, batch: Batch, refusal: Callable[[bytes], Refusal]) -> None:
        """
        What was given out could not be written.

        :param refusal: makes what the senders are told, with the name as they wrote it.
        """

    def freed(self, entries: int, size_bytes: int) -> None:
        """Some of the log was given up."""


class Keeper(Clock, Protocol):
    """What a mailbox asks for."""

    limits: Limits

    @property
    def is_full(self) -> bool:
        """Whether all logs together have as much as they may."""

    def now_s(self) -> float:
        """Seconds, of a clock that never jumps."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""

    def watch(self, mailbox: Mailbox) -> None:
        """Call `Reading.tick` of it once a second, for as long as that asks for it."""

    def changed(self, mailbox: Logged, size_bytes: int = 0) -> None:
        """Something of this size is to be written: ask for it soon."""

    def load_page(
        self,
        mailbox: Mailbox,
        after_id: int,
        *,
        has_to_ack: bool,
        then: Callable[[Page | None], None],
    ) -> None:
        """Read some of the log, and note what is offered; ``None`` if that fails."""

    def load(self, mailboxes: Sequence[Mailbox], decided: Decided[None]) -> None:
        """
        Have it known what is in some logs.

        :param decided: told ``None`` when it is, or why it can not be.
        """

    def renew_route(self, mailbox: Mailbox) -> None:
        """The mailbox became live, or is it no longer."""

    def mailbox_of(self, account: int) -> Mailbox | None:
        """The mailbox of another account, loaded or not."""

    def tell_acked(self, sender: bytes, mailbox: Mailbox, ref: bytes, message_id: int) -> None:
        """A message of somebody whose name nobody owns was acked."""


class Surroundings(Protocol):
    """What is asked of the relay."""

    limits: Limits
    ids: Ids

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""

    def timestamp(self, milliseconds_since_epoch: int) -> bytes:
        """Write a time as the protocol does."""

    @property
    def seconds(self) -> Callable[[], float]:
        """A clock that never jumps."""

    def renew_route(self, key: bytes, log: tuple[bytes, Mailbox | None]) -> None:
        """
        Let the quick path find an owned name, or not, as it is now.

        :param log: how the name is written, and the log if what is sent to it goes there.
        """

    def account_gone(self, account: int, key: bytes) -> None:
        """There is no account of this number any more, which the name with this key had."""

    def tell_acked(self, sender: bytes, recipient: Name, ref: bytes, message_id: int) -> None:
        """Tell a sender whose name nobody owns that a message was acked."""


class Mailboxes(Protocol):
    """The logs of owned names, as sessions see them."""

    @property
    def owned_count(self) -> int:
        """How many names have an account."""

    @property
    def used_bytes(self) -> int:
        """What everything takes in the store, when that was last known; 0 until it is."""

    def find(self, key: bytes) -> Mailbox | None:
        """The mailbox of a name; ``None`` if nobody owns it."""

    def is_owned(self, key: bytes) -> bool:
        """Whether a name had an account when that was last looked at."""

    def add(self, account: int, name: Name) -> Mailbox:
        """The mailbox of a name that has this account."""

    def forget(self, key: bytes) -> None:
        """A name has no owner, whoever it had when that was last looked at."""

    def refresh(self, key: bytes) -> None:
        """Somebody else changed the account of a name: look whether it has one, and which."""

    def load(self, mailboxes: Sequence[Mailbox], decided: Decided[None]) -> None:
        """
        Have it known what is in some logs.

        :param decided: told ``None`` when it is, or why it can not be.
        """

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

        What was accepted before is in it.
        """

    def set_blocked(
        self, mailbox: Mailbox, name: Name, decided: Decided[None], *, is_blocked: bool
    ) -> None:
        """
        Have a name's messages refused from now on, or no more.

        :param decided: told ``None`` when that is kept, or why it is not.
        """

    def sent(self, gate: Gate) -> None:
        """
        Something was sent, wholly: begin to write, if that is worth it.

        :param gate: of who has sent it; it is held if more is to be written than may wait.
        """

    def tick(self) -> None:
        """A second has passed."""
