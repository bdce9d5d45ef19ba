"""
Keeps rooms: what is to be kept is written first, and then it is so for everybody.

A relay has one `Keeping`, if anything is kept.  What a ``decided`` is told comes when the store
has answered; the client that asked may be gone by then, what it asked for is done all the same.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from chatrelay.claims import Decided
from chatrelay.errors import Busy, NotAllowed, Refusal, UnknownName
from chatrelay.mailbox import failures
from chatrelay.mailbox.mailboxes import Mailboxes
from chatrelay.mailbox.writer import Store
from chatrelay.names import Name
from chatrelay.rooms.kept import Keep, RoomLog
from chatrelay.rooms.log import KeptRoom
from chatrelay.rooms.room import Room
from chatrelay.store.accounts import Accounts

if TYPE_CHECKING:
    from chatrelay.relay import Relay

T = TypeVar("T")

_NOT_KEPT = "This room is not kept; /keep it first."
_KEPT_ALREADY = "Somebody keeps this room already."
_NO_ACCOUNT = "The account of this name is gone."
_NO_LONGER = "Just now this room is kept no more; try again."


class Keeping:
    """The kept rooms of one relay."""

    def __init__(
        self, relay: Relay, store: Store, mailboxes: Mailboxes, rooms: Iterable[KeptRoom]
    ) -> None:
        """
        Begin with what is kept.

        :param rooms: all of it.
        """
        self._relay = relay
        self._store = store
        self._mailboxes = mailboxes
        # How many rooms each owner has asked for that are not decided.
        self._begun: Counter[int] = Counter()
        for kept in rooms:
            self._restore(kept)

    def count_of(self, account: int) -> int:
        """How many rooms somebody keeps, or is about to."""
        keeps = (room.keep for room in self._relay.rooms)
        kept = sum(keep is not None and keep.owner == account for keep in keeps)
        return kept + self._begun[account]

    # What is asked for calls `then` when it is kept, whether its asker is still here or not, and
    # then tells `decided`, or why it is not so.

    def keep(
        self,
        room: Room,
        owner: int,
        is_members_only: bool,
        then: Callable[[], None],
        decided: Decided[None],
    ) -> None:
        """
        Keep a room from now on, with those of its members who own their names.

        It is made again if all have left meanwhile.

        :param owner: the number of its owner's account.
        :param is_members_only: whether only who is invited may join.
        """
        shown, key = room.name
        members = [member.account for member in room.members() if member.account]
        now_s = self._relay.wall_clock()

        def job(accounts: Accounts) -> int:
            try:
                number = accounts.rooms.keep(key, shown, owner, members, now_s)
            except sqlite3.IntegrityError:
                raise NotAllowed(shown, sentence=_KEPT_ALREADY) from None
            if number and is_members_only:
                accounts.rooms.set_members_only(number, is_members_only)
            return number

        def kept(number: int) -> None:
            if not number:
                raise NotAllowed(shown, sentence=_NO_ACCOUNT)
            here = self._accounts_in(key)
            joined = [(account, True) for account in {owner, *members} & {owner, *here}]
            self._restore(KeptRoom(number, key, shown, owner, b"", is_members_only, joined, 0, 0))
            self._correct(key, {*members} - {owner, *here})
            then()

        def is_over(result: Refusal | None) -> None:
            self._begun -= Counter([owner])
            decided(result)

        self._begun[owner] += 1
        self._do(job, kept, is_over)

    def unkeep(self, room: Room, then: Callable[[], None], decided: Decided[None]) -> None:
        """Keep a room no more, and nothing of what was said there."""
        keep = _kept(room)

        def unkept() -> None:
            self.forget(room)
            then()

        self._change(room, lambda accounts: accounts.rooms.unkeep(keep.number), unkept, decided)

    def forget(self, room: Room) -> None:
        """A room is not in the store any more."""
        if room.keep is not None:
            self._mailboxes.forget_room(room.keep.number)
            self._relay.rooms.no_longer_kept(room)

    def set_topic(
        self, room: Room, topic: bytes, then: Callable[[], None], decided: Decided[None]
    ) -> None:
        """Give a room another topic; empty for none."""
        keep = _kept(room)

        def is_set() -> None:
            keep.topic = topic
            then()

        self._change(
            room, lambda accounts: accounts.rooms.set_topic(keep.number, topic), is_set, decided
        )

    def set_members_only(
        self,
        room: Room,
        is_members_only: bool,
        then: Callable[[], None],
        decided: Decided[None],
    ) -> None:
        """Let only those join who are invited; or everybody."""
        keep = _kept(room)

        def is_set() -> None:
            keep.is_members_only = is_members_only
            then()

        self._change(
            room,
            lambda accounts: accounts.rooms.set_members_only(keep.number, is_members_only),
            is_set,
            decided,
        )

    def invite(
        self, room: Room, account: int, then: Callable[[], None], decided: Decided[None]
    ) -> None:
        """Let somebody join."""
        keep, name = _kept(room), self._mailboxes.name_of(account)

        def invited() -> None:
            self._check_is_there(account, name)
            keep.accounts.setdefault(account, False)
            then()

        self._change(
            room, lambda accounts: accounts.rooms.invite(keep.number, account), invited, decided
        )

    def join(
        self, room: Room, account: int, then: Callable[[], None], decided: Decided[None]
    ) -> None:
        """
        Let the owner of a name belong to a room, whether he is here or not.

        :param then: as for the others; with a `Refusal` that it raises he does not.
        """
        keep, name = _kept(room), self._mailboxes.name_of(account)

        def joined() -> None:
            self._check_is_there(account, name)
            try:
                then()
            except Refusal:
                self._take_back(room, account)
                raise
            keep.accounts[account] = True

        self._change(
            room, lambda accounts: accounts.rooms.add_member(keep.number, account), joined, decided
        )

    def note(self, room: Room, key: bytes, account: int) -> None:
        """
        Let somebody who is in a room belong to it also while he is away, if he owns his name.

        :param key: of his name.
        :param account: 0 if he does not.
        """
        if not account or not room.has_to_note(account):
            return

        def noted() -> None:
            if key not in room:
                # He was removed while it was being kept.
                self.remove(room, account, _nothing, _nobody)

        self.join(room, account, noted, _nobody)

    def remove(
        self, room: Room, account: int, then: Callable[[], None], decided: Decided[None]
    ) -> None:
        """Let somebody belong to a room no more, nor be invited."""
        keep = _kept(room)

        def removed(_: None) -> None:
            keep.accounts.pop(account, None)
            then()

        self._do(
            lambda accounts: accounts.rooms.remove_member(keep.number, account), removed, decided
        )

    def _take_back(self, room: Room, account: int) -> None:
        """Somebody has not joined a room after all; who was invited still is."""
        keep = _kept(room)
        if account not in keep.accounts:
            self.remove(room, account, _nothing, _nobody)
            return

        def job(accounts: Accounts) -> None:
            accounts.rooms.set_not_joined(keep.number, account)

        self._do(job, lambda _: None, _nobody)

    def _check_is_there(self, account: int, name: Name | None) -> None:
        """
        Check that there is still an account, of which nothing is kept otherwise.

        :param name: what it had.
        :raises UnknownName: it was removed.
        """
        if name is None or self._mailboxes.name_of(account) != name:
            raise UnknownName(*([name.shown] if name else []), sentence=_NO_ACCOUNT)

    def _restore(self, kept: KeptRoom) -> None:
        rooms = self._relay.rooms
        log = RoomLog(self._mailboxes, kept) if self._relay.limits.keeps_history else None
        if log is not None:
            self._mailboxes.add_room(log)
        keep = Keep(kept, log)
        room = rooms.find(kept.key)
        if room is None:
            room = rooms.make(Name(kept.shown, kept.key), keep)
        room.keep = keep
        for account, has_joined in kept.members:
            name = self._mailboxes.name_of(account)
            if has_joined and name is not None:
                rooms.join(room.name, name, account)

    def _accounts_in(self, key: bytes) -> set[int]:
        room = self._relay.rooms.find(key)
        return set() if room is None else {member.account for member in room.members()}

    def _correct(self, key: bytes, left: Iterable[int]) -> None:
        """Who left, or came, while it was being kept that they are in a room."""
        room = self._relay.rooms.find(key)
        assert room is not None, "it is kept"  # noqa: S101
        for account in left:
            self.remove(room, account, _nothing, _nobody)
        for member in room.members():
            self.note(room, member.name.key, member.account)

    def _change(
        self,
        room: Room,
        job: Callable[[Accounts], None],
        then: Callable[[], None],
        decided: Decided[None],
    ) -> None:
        """As `_do`, of what a room is only while it is kept as it is now."""
        keep = room.keep

        def changed(_: None) -> None:
            if room.keep is not keep:
                # Its owner, on another connection, was quicker.
                raise Busy(sentence=_NO_LONGER)
            then()

        self._do(job, changed, decided)

    def _do(
        self, job: Callable[[Accounts], T], then: Callable[[T], None], decided: Decided[None]
    ) -> None:
        failures.tell(self._store.write(job).addCallback(then), decided)


def _nothing() -> None:
    """Nothing is to be done."""


def _nobody(_: Refusal | None) -> None:
    """Nobody has asked; what failed is logged, and is kept when he joins the next time."""


def _kept(room: Room) -> Keep:
    """
    How a room is kept.

    :raises Refusal: it is not.
    """
    if room.keep is None:
        raise NotAllowed(room.name.shown, sentence=_NOT_KEPT)
    return room.keep
