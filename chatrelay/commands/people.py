"""The commands about who is here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import TooManyWatches
from chatrelay.interfaces import Recipient
from chatrelay.names import Name, is_room, parse_name, parse_room
from chatrelay.wire import cut_list

if TYPE_CHECKING:
    from chatrelay.session import Session


def _who(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if len(words) > 1:
        raise wrong_form("/who [NAME or #ROOM]")
    registry, key = session.relay.registry, session.name.key
    if not words:
        recipients = list(registry)
    elif is_room(words[0]):
        room = session.relay.rooms.find_joined(parse_room(words[0]), key)
        found = [registry.find(member_key) for member_key in room]
        recipients = [recipient for recipient in found if recipient is not None]
    else:
        recipient = registry.find(parse_name(words[0]).key)
        recipients = [recipient] if recipient is not None else []
    listed = 0
    for recipient in recipients:
        # A long list is written over several turns, in which people leave
        # and others of the same name come.
        holder = registry.find(recipient.name.key)
        is_still_here = holder is not None and (
            holder.includes(recipient) or recipient.includes(holder)
        )
        if holder is not None and is_still_here and session.relay.may_see(key, holder.name.key):
            for line in _who_lines(session, holder):
                yield line
                listed += 1
        else:
            yield b""
    yield b"!end who %d" % listed


def _who_lines(session: Session, recipient: Recipient) -> Iterator[bytes]:
    """One, or more where the rooms are too many for one."""
    relay = session.relay
    head = b"!who %b since=%b idle=%d rooms=" % (
        recipient.name.shown,
        relay.timestamp(int(recipient.connected_s * 1000)),
        recipient.idle_s(),
    )
    shared = relay.rooms.shared(session.name.key, recipient.name.key)
    rooms = b",".join([room.name.shown for room in shared])
    for part in cut_list(rooms, b",", relay.limits.max_line_bytes) if rooms else (b"",):
        yield head + part


def _watch(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if not words:
        raise wrong_form("/watch NAME…")
    for word, name in _names(session, words):
        is_here = session.relay.registry.watch(session, name, word)
        online = is_here and session.relay.may_see(session.name.key, name.key)
        yield (b"!online " if online else b"!offline ") + word


def _unwatch(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if not words:
        raise wrong_form("/unwatch NAME…")
    for word, name in _names(session, words):
        session.relay.registry.unwatch(session, name)
        yield b"!unwatched " + word


def _names(session: Session, words: list[bytes]) -> list[tuple[bytes, Name]]:
    # A name in other letters than ASCII costs 16 µs: bounded before any is looked at.
    if len(words) > session.relay.limits.max_watches:
        raise TooManyWatches
    return [(word, parse_name(word)) for word in words]


VERBS = (
    Verb(
        b"who",
        "/who [NAME or #ROOM]",
        "who is here, since when, idle for how many seconds, in which of your rooms",
        _who,
    ),
    Verb(b"watch", "/watch NAME…", "be told when a name comes or goes", _watch),
    Verb(b"unwatch", "/unwatch NAME…", "be told no more", _unwatch),
)
