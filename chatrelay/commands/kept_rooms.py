"""The commands about rooms that are kept (docs/protocol.rst, *Kept rooms*)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import NotAllowed, TooManyRooms, UnknownName
from chatrelay.names import parse_name, parse_room
from chatrelay.pending import await_decision
from chatrelay.rooms.kept import Keep
from chatrelay.rooms.room import Room

if TYPE_CHECKING:
    from chatrelay.rooms.keeping import Keeping
    from chatrelay.session import Session

_NOT_OWNED = "Only who has registered a name keeps a room; /register SECRET makes it yours."
_NOT_KEPT = "This room is not kept; its members may /keep it, if they have registered."
_NOT_YOURS = "Only its owner may do this."
_TOO_MANY = "You keep as many rooms as you may."
_INVITE_OWNED = "Only who has registered a name is invited: another might take a free one."
_KEEP_FORM = "/keep #ROOM [members-only or open]"


def kept_line(room: Room, owner: bytes) -> bytes:
    """What members are told of how a room is kept."""
    is_members_only = room.keep is not None and room.keep.is_members_only
    return b"!kept %b owner=%b%b" % (
        room.name.shown,
        owner,
        b" members-only" if is_members_only else b"",
    )


def _keep(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) not in (1, 2) or words[1:] not in ([], [b"members-only"], [b"open"]):
        raise wrong_form(_KEEP_FORM)
    room = session.relay.rooms.find_joined(parse_room(words[0]), session.name.key)
    keeping, account = _keeping(session)
    is_members_only = words[1] == b"members-only" if words[1:] else None

    def kept(_: None) -> None:
        if is_members_only is None or room.keep is None:
            _tell(session, room, kept_line(room, session.name.shown), ref)
        else:
            set_members_only()

    def set_members_only() -> None:
        await_decision(
            session,
            partial(keeping.set_members_only, room, bool(is_members_only)),
            lambda _: _tell(session, room, kept_line(room, session.name.shown), ref),
            ref,
        )

    if room.keep is not None:
        _owned(session, room)
        kept(None)
        return ()
    if keeping.count_of(account) >= session.relay.limits.max_kept_rooms:
        raise TooManyRooms(room.name.shown, sentence=_TOO_MANY)
    await_decision(session, partial(keeping.keep, room, account), kept, ref)
    return ()


def _unkeep(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/unkeep #ROOM")
    keeping, room = _room(session, words[0])
    told = b"!unkept %b %b" % (room.name.shown, session.name.shown)
    listeners = room.devices()

    def unkept(_: None) -> None:
        for device in listeners:
            if device is not session:
                device.answer(told, b"")
        session.answer(told, ref)

    await_decision(session, partial(keeping.unkeep, room), unkept, ref)
    return ()


def _topic(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if not words:
        raise wrong_form("/topic #ROOM [TEXT]")
    if len(words) == 1:
        room = session.relay.rooms.find_joined(parse_room(words[0]), session.name.key)
        return [topic_line(room)]
    keeping, room = _room(session, words[0])
    topic = b" ".join(words[1:])

    def is_set(_: None) -> None:
        _tell(session, room, topic_line(room), ref)

    await_decision(
        session, partial(keeping.set_topic, room, b"" if topic == b"-" else topic), is_set, ref
    )
    return ()


def topic_line(room: Room) -> bytes:
    """What a room is about."""
    topic = room.keep.topic if room.keep is not None else b""
    return b"!topic " + room.name.shown + (b" :" + topic if topic else b"")


def _invite(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 2:
        raise wrong_form("/invite #ROOM NAME")
    keeping, room = _room(session, words[0])
    name = parse_name(words[1])
    mailboxes = session.relay.mailboxes
    mailbox = mailboxes.find(name.key) if mailboxes is not None else None
    if mailbox is None:
        raise NotAllowed(words[1], sentence=_INVITE_OWNED)
    told = b"!invited %b %b" % (room.name.shown, mailbox.name.shown)

    def invited(_: None) -> None:
        if name.key not in room:
            for device in session.relay.registry.devices(name.key):
                device.answer(told, b"")
        _tell(session, room, told, ref)

    await_decision(session, partial(keeping.invite, room, mailbox.account), invited, ref)
    return ()


def _remove(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 2:
        raise wrong_form("/remove #ROOM NAME")
    keeping, room = _room(session, words[0])
    name = parse_name(words[1])
    mailboxes, rooms = session.relay.mailboxes, session.relay.rooms
    mailbox = mailboxes.find(name.key) if mailboxes is not None else None
    account = mailbox.account if mailbox is not None else 0
    keep = room.keep
    assert keep is not None, "_room has looked"  # noqa: S101
    if name.key not in room and account not in keep.accounts:
        raise UnknownName(words[1], sentence="This name is neither a member nor invited.")
    told = b"!removed %b %b" % (room.name.shown, words[1])

    def removed() -> None:
        room.tell(told, (session,))
        if name.key in room:
            rooms.remove(room, name.key)

    def answer(_: None) -> None:
        session.answer(told, ref)

    await_decision(session, partial(keeping.remove, room, account, removed), answer, ref)
    return ()


def _room(session: Session, written: bytes) -> tuple[Keeping, Room]:
    """
    A room that the client keeps.

    :raises Refusal: it does not.
    """
    name = parse_room(written)
    rooms = session.relay.rooms
    room = rooms.find(name.key)
    if room is None or room.keep is None or room.keep.owner != session.account:
        room = rooms.find_joined(name, session.name.key)
    keeping, _ = _keeping(session)
    _owned(session, room)
    return keeping, room


def _keeping(session: Session) -> tuple[Keeping, int]:
    keeping = session.relay.rooms.keeping
    if keeping is None or not session.account or not session.grant.is_proven:
        raise NotAllowed(sentence=_NOT_OWNED)
    return keeping, session.account


def _owned(session: Session, room: Room) -> Keep:
    if room.keep is None:
        raise NotAllowed(room.name.shown, sentence=_NOT_KEPT)
    if room.keep.owner != session.account:
        raise NotAllowed(room.name.shown, sentence=_NOT_YOURS)
    return room.keep


def _tell(session: Session, room: Room, line: bytes, ref: bytes) -> None:
    room.tell(line, (session,))
    session.answer(line, ref)


VERBS = (
    Verb(b"keep", _KEEP_FORM, "let a room stay, with members who are away; it is yours", _keep),
    Verb(b"unkeep", "/unkeep #ROOM", "keep it no more, nor its history", _unkeep),
    Verb(b"topic", "/topic #ROOM [TEXT]", "what it is about; - is nothing", _topic),
    Verb(b"invite", "/invite #ROOM NAME", "let NAME join; its owner's", _invite),
    Verb(b"remove", "/remove #ROOM NAME", "let NAME be in it no more; its owner's", _remove),
)
