"""
A message off the quick path: to several names, with a ref, to somebody who is not here, or to
one whose log it goes into.

Each target gets exactly one of a delivery, a place in the log, a repeated answer or a refusal
(docs/protocol.rst, *Messages* and *Refs*).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chatrelay import wire
from chatrelay.errors import Refusal, StoreFailed, UnknownName
from chatrelay.interfaces import RunRecipient
from chatrelay.lines import Block
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.waiting import Pending
from chatrelay.names import Name, is_room, parse_name
from chatrelay.outcomes import accept, is_answered_again, note_sent, refusals, undelivered
from chatrelay.pending import await_logs
from chatrelay.refs import AcceptedRun
from chatrelay.rooms.room import Room
from chatrelay.saying import announce, say, say_run
from chatrelay.stamps import Stamp

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.session import Session


def send(session: Session, line: bytes, ref: bytes) -> None:
    """
    Relay one line of a named client.

    :param session: the sender.
    :param line: the line, which begins with ``%``, its tags taken off and its text checked.
    :param ref: what its answers carry; without one only refusals, and what is stored, are
        answered.
    :raises Refusal: the whole line is refused.
    """
    message = wire.parse_message(line, session.relay.limits.max_targets)
    session.messages_in += 1
    first_target = message.targets[0]
    if first_target == wire.EVERYONE:
        announce(session, message.text, ref)
        return
    if is_room(first_target):
        say(session, first_target, message.text, ref)
        return
    names: dict[bytes, tuple[bytes, Name]] = {}
    for target in message.targets:
        name = parse_name(target)
        names.setdefault(name.key, (target, name))
    targets = list(names.values())
    send_to_all = partial(_send_to_all, session, message.text, ref, targets)
    await_logs(session, _unknown_logs(session.relay, targets), send_to_all, ref)


def send_confirmed(session: Session, block: Block) -> int:
    """
    Relay messages with refs of their own, up to one that does not go into a log.

    :param block: where they are taken from.
    :returns: how many; with none, the next line is for `send`.
    """
    known = session.accepted_refs()
    confirmed = block.cut_confirmed(session.relay.registry.logs, known.known)
    if not confirmed:
        return 0
    for mailbox, _, refs, texts in confirmed:
        if not mailbox.has_room_for(session, len(refs), texts):
            return 0
    served, accepted, now_s = 0, [], session.relay.seconds()
    for mailbox, target, refs, texts in confirmed:
        pending = mailbox.take_run(session, refs, texts)
        session.relay.have_met(session.name.key, mailbox.name.key)
        pending.ask(session, target, refs)
        run = AcceptedRun(mailbox.name.key, refs, texts, now_s)
        pending.remember(known, run)
        accepted.append(run)
        if session.mailbox is not None:
            session.mailbox.sent.add_logged(target, pending.run)
        served += len(refs)
    known.accept_new(accepted)
    block.taken()
    note_sent(session, served)
    session.hold_if_over(session)
    return served


def _unknown_logs(relay: Relay, targets: list[tuple[bytes, Name]]) -> list[Mailbox]:
    """The logs of some targets of which it is not known what is in them."""
    if relay.mailboxes is None:
        return []
    found = [relay.mailboxes.find(name.key) for _, name in targets]
    return [mailbox for mailbox in found if mailbox is not None and not mailbox.is_loaded]


def _send_to_all(
    session: Session, text: bytes, ref: bytes, targets: list[tuple[bytes, Name]]
) -> None:
    for target, name in targets:
        try:
            _send_to(session, target, name, text, ref)
        except Refusal as refusal:
            session.refuse(refusal, ref)
    note_sent(session, 0)


def send_run(session: Session, recipient: RunRecipient | Room, lines: bytes, count: int) -> None:
    """
    Relay plain messages to one recipient, or to a room.

    :param lines: ``%SENDER%TEXT`` each, LF after each.
    :param count: how many.
    """
    # No call: this is done for each recipient of each read.
    if type(recipient) is Room:
        say_run(session, recipient, lines, count)
        return
    target = recipient.name.shown
    try:
        first_id = recipient.deliver_run(session, lines, count)
    except Refusal as refusal:
        session.begin_answer(refusals(session, target, lines, refusal), b"")
        return
    relay = session.relay
    if relay.is_public:
        relay.have_met(session.name.key, recipient.name.key)
    if session.mailbox is not None:
        session.mailbox.sent.add_run(target, lines, count, first_id)


def _send_to(session: Session, target: bytes, name: Name, text: bytes, ref: bytes) -> None:
    if ref and is_answered_again(session, target, name, text, ref):
        return
    pending = _deliver(session, target, name, text, ref)
    if pending is not None:
        pending.ask(session, target, (ref,))
    elif ref:
        session.answer_sent(target, ref)
    if ref:
        accept(session, name, (ref,), text, pending)


def _deliver(
    session: Session, target: bytes, name: Name, text: bytes, ref: bytes
) -> Pending | None:
    relay = session.relay
    recipient = relay.find(name.key)
    if recipient is None:
        raise undelivered(session, target, text, UnknownName(target))
    stamp = Stamp(relay)
    echo = None
    if session.is_echoed and not recipient.includes(session):
        echo = partial(_echo, session, target, text, stamp)
    pending = None
    if isinstance(recipient, Mailbox):
        pending = _take(session, recipient, target, text, ref, stamp, echo)
    else:
        # First, so that what a bot answers at once does not come before the question.
        if echo is not None:
            echo()
        recipient.deliver(session, text, stamp)
    relay.have_met(session.name.key, name.key)
    if pending is None:
        relay.registry.note_writing(target, name)
    if session.mailbox is not None:
        session.mailbox.sent.add(stamp, target, text, ref if pending is not None else b"")
    return pending


def _take(
    session: Session,
    mailbox: Mailbox,
    target: bytes,
    text: bytes,
    ref: bytes,
    stamp: Stamp,
    echo: partial[None] | None,
) -> Pending | None:
    try:
        if not mailbox.is_loaded:
            raise StoreFailed(target)
        pending = mailbox.take(session, target, text, ref, stamp)
    except Refusal as refusal:
        raise undelivered(session, target, text, refusal) from None
    if pending is not None:
        if echo is not None:
            pending.when_stored(echo)
    elif echo is not None:
        echo()
    return pending


def _echo(session: Session, target: bytes, text: bytes, stamp: Stamp) -> None:
    for device in session.relay.registry.devices(session.name.key):
        if device is not session and device.wants_echo:
            device.echo(session, target, text, stamp)
