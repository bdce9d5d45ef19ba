"""
A message off the quick path: to several names, with a ref, or to somebody who is not here.

Each target gets exactly one of a delivery, a repeated answer or a refusal
(docs/protocol.rst, *Messages* and *Refs*).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatrelay import wire
from chatrelay.errors import NotAllowed, RefReused, Refusal, UnknownName, UnknownRoom
from chatrelay.names import Name, parse_name

if TYPE_CHECKING:
    from chatrelay.session import Session


def send(session: Session, line: bytes, ref: bytes) -> None:
    """
    Relay one line of a named client.

    :param session: the sender.
    :param line: the line, which begins with ``%``, its tags taken off and its text checked.
    :param ref: what its answers carry; without one only refusals are answered.
    :raises Refusal: the whole line is refused.
    """
    message = wire.parse_message(line, session.relay.limits.max_targets)
    session.messages_in += 1
    first_target = message.targets[0]
    if first_target == wire.EVERYONE:
        raise _undelivered(session, first_target, message.text, NotAllowed())
    if wire.is_room(first_target):
        raise _undelivered(session, first_target, message.text, UnknownRoom(first_target))
    seen = set()
    for target in message.targets:
        name = parse_name(target)
        if name.key not in seen:
            seen.add(name.key)
            try:
                _send_to(session, target, name, message.text, ref)
            except Refusal as refusal:
                session.refuse(refusal, ref)


def _send_to(session: Session, target: bytes, name: Name, text: bytes, ref: bytes) -> None:
    if not ref:
        _deliver(session, target, name, text)
        return
    now_s = session.relay.seconds()
    accepted = session.accepted_refs()
    known = accepted.has_text(ref, name.key, text, now_s)
    if known is False:
        raise RefReused(target)
    if known is None:
        _deliver(session, target, name, text)
        accepted.accept(ref, name.key, text, now_s)
    session.answer(b"!sent " + target, ref)


def _deliver(session: Session, target: bytes, name: Name, text: bytes) -> None:
    registry = session.relay.registry
    recipient = registry.find(name.key)
    if recipient is None:
        raise _undelivered(session, target, text, UnknownName(target))
    stamp = None
    if session.is_echoed and not recipient.includes(session):
        # First, so that what a bot answers at once does not come before the question.
        stamp = session.new_stamp()
        for device in registry.devices(session.name.key):
            if device is not session and device.wants_echo:
                device.echo(session, target, text, stamp)
    recipient.deliver(session, text, stamp)
    registry.note_writing(target, name)


def _undelivered(session: Session, target: bytes, text: bytes, refusal: Refusal) -> Refusal:
    session.relay.console.undelivered(session.name.shown, target, text, refusal)
    return refusal
