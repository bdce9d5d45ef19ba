"""
The commands about logs: one's own, and what was said in a kept room (docs/protocol.rst, *The log of
an owned name*, *Kept rooms*).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from chatrelay.claims import Decided
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import BadId, NotAllowed
from chatrelay.mailbox.log import Entry
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.seams import Mailboxes
from chatrelay.names import is_room, parse_name, parse_room
from chatrelay.pending import await_decision
from chatrelay.rooms.kept import RoomLog

if TYPE_CHECKING:
    from chatrelay.session import Session

MAX_HISTORY_ENTRIES = 200
DEFAULT_HISTORY_ENTRIES = 50

_NOT_OWNED = "Only a registered name has this; /register SECRET makes it one."
_NO_HISTORY = "This room has no history; one that is kept has, where the relay keeps any."
_HISTORY_FORM = "/history [NAME or #ROOM] [N] [before=ID or after=ID]"


def _owned(session: Session) -> tuple[Mailboxes, Mailbox]:
    mailboxes, mailbox = session.relay.mailboxes, session.mailbox
    if mailboxes is None or mailbox is None:
        raise NotAllowed(sentence=_NOT_OWNED)
    return mailboxes, mailbox


def _ack(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/ack ID")
    _, mailbox = _owned(session)
    mailbox.ack(session, _id(session, words[0]), ref)
    return ()


def _id(session: Session, written: bytes) -> int:
    number = session.relay.ids.read(written)
    if number is None:
        raise BadId
    return number


class _Wanted(NamedTuple):
    """What of a history is asked for."""

    target: bytes | None = None
    length: int | None = None
    before_id: int | None = None
    after_id: int | None = None


def _history(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    wanted = _read_wanted(session, words)
    target = wanted.target
    log: Mailbox | RoomLog
    party = None
    if target is not None and is_room(target):
        mailboxes, log = _kept_log(session, target)
    else:
        mailboxes, log = _owned(session)
        party = parse_name(target).key if target is not None else None
    length = wanted.length if wanted.length is not None else DEFAULT_HISTORY_ENTRIES

    def ask(decided: Decided[list[Entry]]) -> None:
        mailboxes.history(
            *(log, party, min(length, MAX_HISTORY_ENTRIES), decided),
            before_id=wanted.before_id,
            after_id=wanted.after_id,
        )

    def show(entries: list[Entry]) -> None:
        if isinstance(log, RoomLog) and target is not None:
            # He may have been removed, and what was said since then is not for him.
            _kept_log(session, target)
        _show_history(session, target, ref, entries)

    await_decision(session, ask, show, ref)
    return ()


def _kept_log(session: Session, target: bytes) -> tuple[Mailboxes, RoomLog]:
    room = session.relay.rooms.find_joined(parse_room(target), session.name.key)
    mailboxes = session.relay.mailboxes
    if mailboxes is None or room.keep is None or room.keep.log is None:
        raise NotAllowed(room.name.shown, sentence=_NO_HISTORY)
    return mailboxes, room.keep.log


def _read_wanted(session: Session, words: list[bytes]) -> _Wanted:
    wanted = _Wanted()
    for index, word in enumerate(words):
        side, equals, written_id = word.partition(b"=")
        is_bounded = wanted.before_id is not None or wanted.after_id is not None
        if side == b"before" and equals and not is_bounded:
            wanted = wanted._replace(before_id=_id(session, written_id))
        elif side == b"after" and equals and not is_bounded:
            wanted = wanted._replace(after_id=_id(session, written_id))
        elif word.isdigit() and wanted.length is None and (index or not _is_name(words)):
            wanted = wanted._replace(length=int(word[:9]))
        elif index == 0 and not equals:
            wanted = wanted._replace(target=word)
        else:
            raise wrong_form(_HISTORY_FORM)
    return wanted


def _is_name(words: list[bytes]) -> bool:
    """Whether the first word, all digits, is a name: a number follows it."""
    return len(words) > 1 and words[1].isdigit()


def _show_history(session: Session, target: bytes | None, ref: bytes, entries: list[Entry]) -> None:
    head = b"!history" if target is None else b"!history " + target
    shown = session.name.shown
    lines = [head, *(_history_line(session, shown, entry) for entry in entries)]
    session.answer_lines([*lines, b"!end history %d" % len(entries)], ref)


def _history_line(session: Session, shown: bytes, entry: Entry) -> bytes:
    relay = session.relay
    tags = b"id=%b;time=%b" % (relay.ids.write(entry.id), relay.timestamp(entry.time_ms))
    if entry.is_sent:
        return b"@%b;to=%b %%%b%%%b" % (tags, entry.party, shown, entry.text)
    return b"@%b %%%b%%%b" % (tags, entry.party, entry.text)


def _block(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if words:
        return _set_blocked(session, words, ref, is_blocked=True)
    _, mailbox = _owned(session)
    blocked = sorted(mailbox.blocked)
    return [*(b"!blocked " + key for key in blocked), b"!end block %d" % len(blocked)]


def _set_blocked(
    session: Session, words: list[bytes], ref: bytes, *, is_blocked: bool
) -> Iterable[bytes]:
    verb = b"block" if is_blocked else b"unblock"
    if len(words) != 1:
        raise wrong_form("/block [NAME]" if is_blocked else "/unblock NAME")
    mailboxes, mailbox = _owned(session)
    name = parse_name(words[0])

    def ask(decided: Decided[None]) -> None:
        mailboxes.set_blocked(mailbox, name, decided, is_blocked=is_blocked)

    def done(_: None) -> None:
        session.answer(b"!" + verb + b"ed " + words[0], ref)

    await_decision(session, ask, done, ref)
    return ()


VERBS = (
    Verb(b"ack", "/ack ID", "with the cap ack: everything up to ID was read", _ack),
    Verb(
        b"history",
        _HISTORY_FORM,
        "what was sent to you, between you and NAME, or in a kept room",
        _history,
    ),
    Verb(
        b"block",
        "/block [NAME]",
        "take nothing more from NAME; alone it lists them",
        _block,
    ),
    Verb(
        b"unblock",
        "/unblock NAME",
        "take its messages again",
        partial(_set_blocked, is_blocked=False),
    ),
)
