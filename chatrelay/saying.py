"""
What is said in a room: to those who are here, and into the logs of members who are not
(docs/protocol.rst, *Rooms*); and what operators say to everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from chatrelay.errors import NotAllowed, NotInRoom, Refusal, StoreFailed, UnknownRoom
from chatrelay.names import Name, parse_room
from chatrelay.outcomes import accept, is_answered_again, note_sent, refusals, undelivered
from chatrelay.pending import await_logs
from chatrelay.rooms.room import Room
from chatrelay.stamps import Stamp
from chatrelay.wire import EVERYONE

if TYPE_CHECKING:
    from chatrelay.session import Session

_SOME_MISS_IT = "The log of a member can not be read or written; the others have the message."


def say(session: Session, target: bytes, text: bytes, ref: bytes) -> None:
    """
    Say one thing in a room.

    :param target: the room, as it was written.
    :param ref: what the answers carry; without one only a refusal is answered.
    :raises Refusal: it reaches nobody.
    """
    name = parse_room(target)
    if ref and is_answered_again(session, target, name, text, ref):
        return
    room = session.relay.rooms.find(name.key)
    if room is None:
        raise undelivered(session, target, text, UnknownRoom(target))
    if session.name.key not in room:
        raise undelivered(session, target, text, NotInRoom(room.name.shown))
    _when_known(session, room, partial(_say, session, room, target, name, text, ref), ref)


def say_run(session: Session, room: Room, lines: bytes, count: int) -> None:
    """
    Say what one read brought for a room.

    :param lines: ``%SENDER%TEXT`` each, LF after each.
    :param count: how many.
    """
    if session.name.key not in room:
        not_in_room = NotInRoom(room.name.shown)
        session.begin_answer(refusals(session, room.name.shown, lines, not_in_room), b"")
        return
    _when_known(session, room, partial(_say_run, session, room, lines, count), b"")


def announce(session: Session, text: bytes, ref: bytes) -> None:
    """
    Say something to everybody who is here.

    :param ref: what the answer carries; without one there is none.
    :raises NotAllowed: the client is no operator.
    """
    if not session.is_operator:
        raise undelivered(session, EVERYONE, text, NotAllowed())
    everyone = Name(EVERYONE, EVERYONE)
    if ref and is_answered_again(session, EVERYONE, everyone, text, ref):
        return
    relay = session.relay
    relay.console.operator_did(session.name.shown, session.peer, b"%*%" + text)
    relay.everyone.say(session, text)
    if ref:
        session.answer_sent(EVERYONE, ref)
        accept(session, everyone, (ref,), text, None)
    note_sent(session, 0)


def _when_known(session: Session, room: Room, then: Callable[[bool], None], ref: bytes) -> None:
    """
    Hold the session until it is known what is in the logs that it goes into.

    It is a member, or others could have all those logs looked at.

    :param then: says it; told whether there is a log of which that is not known even then.
    """
    unknown = room.unknown_logs()

    def when_known() -> None:
        # If all were known nobody has waited, and they still are.
        then(bool(unknown and room.unknown_logs()))
        note_sent(session, 0)

    await_logs(session, unknown, when_known, ref)


def _say(
    session: Session,
    room: Room,
    target: bytes,
    name: Name,
    text: bytes,
    ref: bytes,
    some_miss_it: bool,
) -> None:
    if ref and is_answered_again(session, target, name, text, ref):
        # Another connection of the name has said it while the logs were looked at.
        return
    stamp = Stamp(session.relay)
    try:
        whole = room.say(session, b"%" + session.name.shown + b"%" + text + b"\n", 1, stamp)
    except Refusal as refusal:
        raise undelivered(session, target, text, refusal) from None
    session.relay.rooms.note_writing(room, target)
    if some_miss_it:
        raise undelivered(session, target, text, StoreFailed(target, sentence=_SOME_MISS_IT))
    if whole is not None:
        whole.ask(session if ref else _OnlyFailures(session), target, (ref,))
        if session.mailbox is not None and ref:
            session.mailbox.sent.add(stamp, target, text, ref)
    elif ref:
        session.answer_sent(target, ref)
    if ref:
        accept(session, name, (ref,), text, whole)


def _say_run(session: Session, room: Room, lines: bytes, count: int, some_miss_it: bool) -> None:
    target = room.name.shown
    try:
        whole = room.say(session, lines, count)
    except Refusal as refusal:
        session.begin_answer(refusals(session, target, lines, refusal), b"")
        return
    if some_miss_it:
        not_stored = StoreFailed(target, sentence=_SOME_MISS_IT)
        session.begin_answer(refusals(session, target, lines, not_stored), b"")
    elif whole is not None:
        whole.ask(_OnlyFailures(session), target, (b"",) * count)


class _OnlyFailures:
    """Who said something without a ref is told only that it could not be kept."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def answer_stored(self, target: bytes, first_id: int, refs: Sequence[bytes]) -> None:
        """Nobody asked."""

    def answer_sent(self, target: bytes, ref: bytes) -> None:
        """Nobody asked."""

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """It could not be kept."""
        self._session.refuse(refusal, ref)

    def awaits_answer(self) -> None:
        """It may be told something."""
        self._session.awaits_answer()

    def was_answered(self) -> None:
        """It has been."""
        self._session.was_answered()
