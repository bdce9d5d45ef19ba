"""The commands about rooms that are kept (docs/protocol.rst, *Kept rooms*)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from chatrelay.claims import Decided
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import LineTooLong, NotAllowed, TooManyRooms, UnknownName
from chatrelay.names import parse_name, parse_room
from chatrelay.pending import await_decision
from chatrelay.rooms.kept import Keep
from chatrelay.rooms.room import Room

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox
    from chatrelay.rooms.keeping import Keeping
    from chatrelay.session import Session

MAX_TOPIC_BYTES = 400
_NOT_OWNED = "Only who has registered a name keeps a room; /register SECRET makes it yours."
_NOT_KEPT = "This room is not kept; its members may /keep it, if they have registered."
_NOT_YOURS = "Only its owner may do this."
_TOO_MANY = "You keep as many rooms as you may."
_INVITE_OWNED = "Only who has registered a name is invited: another might take a free one."
_TOO_MANY_INVITED = "This room has as many members and invitations as it may."
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
    is_members_only, shown = words[1:] == [b"members-only"], session.name.shown

    def tell() -> bytes:
        now = session.relay.rooms.find(room.name.key) or room
        return _told(session, now, kept_line(now, shown))

    if room.keep is None:
        if keeping.count_of(account) >= session.relay.limits.max_kept_rooms:
            raise TooManyRooms(room.name.shown, sentence=_TOO_MANY)
        keep = partial(keeping.keep, room, account, is_members_only)
        return _when_kept(session, keep, tell, ref)
    _owned(session, room)
    if not words[1:]:
        return [tell()]
    return _when_kept(session, partial(keeping.set_members_only, room, is_members_only), tell, ref)


def _unkeep(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form("/unkeep #ROOM")
    keeping, room = _room(session, words[0])
    line = b"!unkept %b %b" % (room.name.shown, session.name.shown)
    return _when_kept(
        session, partial(keeping.unkeep, room), partial(_told, session, room, line), ref
    )


def _topic(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if not words:
        raise wrong_form("/topic #ROOM [TEXT]")
    if len(words) == 1:
        room = session.relay.rooms.find_joined(parse_room(words[0]), session.name.key)
        return [topic_line(room)]
    keeping, room = _room(session, words[0])
    topic = b" ".join(words[1:])
    if len(topic) > MAX_TOPIC_BYTES:
        raise LineTooLong(sentence=f"A topic has {MAX_TOPIC_BYTES} bytes at most.")

    def tell() -> bytes:
        return _told(session, room, topic_line(room))

    set_it = partial(keeping.set_topic, room, b"" if topic == b"-" else topic)
    return _when_kept(session, set_it, tell, ref)


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
    accounts = _owned(session, room).accounts
    if mailbox.account not in accounts and len(accounts) >= session.relay.limits.max_members:
        raise TooManyRooms(room.name.shown, sentence=_TOO_MANY_INVITED)
    line = b"!invited %b %b" % (room.name.shown, mailbox.name.shown)

    def tell() -> bytes:
        if name.key not in room:
            _tell_name(session, mailbox, line)
        return _told(session, room, line)

    return _when_kept(session, partial(keeping.invite, room, mailbox.account), tell, ref)


def _remove(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 2:
        raise wrong_form("/remove #ROOM NAME")
    keeping, room = _room(session, words[0])
    name = parse_name(words[1])
    mailboxes, rooms = session.relay.mailboxes, session.relay.rooms
    mailbox = mailboxes.find(name.key) if mailboxes is not None else None
    account = mailbox.account if mailbox is not None else 0
    if name.key not in room and account not in _owned(session, room).accounts:
        raise UnknownName(words[1], sentence="This name is neither a member nor invited.")
    shown = words[1]
    if name.key in room:
        shown = room.member(name.key).name.shown
    elif mailbox is not None:
        shown = mailbox.name.shown
    line = b"!removed %b %b" % (room.name.shown, shown)

    def tell() -> bytes:
        _told(session, room, line)
        if name.key in room:
            rooms.remove(room, name.key)
        elif mailbox is not None:
            _tell_name(session, mailbox, line)
        return line

    return _when_kept(session, partial(keeping.remove, room, account), tell, ref)


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


def _when_kept(
    session: Session,
    change: Callable[[Callable[[], None], Decided[None]], None],
    tell: Callable[[], bytes],
    ref: bytes,
) -> Iterable[bytes]:
    """
    Have something of a room changed, which is told to its members once it is kept.

    :param change: begins it; given what to call when it is kept, and whom to tell behind that.
    :param tell: tells them; returns what the client is told, if it is still here.
    """
    lines: list[bytes] = []

    def kept() -> None:
        lines.append(tell())

    def answer(_: None) -> None:
        session.answer(lines[0], ref)

    await_decision(session, partial(change, kept), answer, ref)
    return ()


def _told(session: Session, room: Room, line: bytes) -> bytes:
    """Tell the members, but for the client itself, which is answered."""
    room.tell(line, (session,))
    return line


def _tell_name(session: Session, mailbox: Mailbox, line: bytes) -> None:
    """Tell who is no member, unless he takes nothing from the client."""
    if session.name.key in mailbox.blocked:
        return
    for device in session.relay.registry.devices(mailbox.name.key):
        if device is not session:
            device.answer(line, b"")


VERBS = (
    Verb(b"keep", _KEEP_FORM, "let a room stay, with members who are away; it is yours", _keep),
    Verb(b"unkeep", "/unkeep #ROOM", "keep it no more, nor its history", _unkeep),
    Verb(b"topic", "/topic #ROOM [TEXT]", "what it is about; - is nothing", _topic),
    Verb(b"invite", "/invite #ROOM NAME", "let NAME join; for its owner", _invite),
    Verb(b"remove", "/remove #ROOM NAME", "let NAME be in it no more; for its owner", _remove),
)
