"""
What becomes of a message, whoever it is for: it is remembered under its ref and answered again, or
refused, which the console is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chatrelay import wire
from chatrelay.errors import RefReused, Refusal
from chatrelay.mailbox.entries import texts_of
from chatrelay.mailbox.waiting import Pending
from chatrelay.names import Name
from chatrelay.refs import AcceptedRun

if TYPE_CHECKING:
    from chatrelay.session import Session


def is_answered_again(session: Session, target: bytes, name: Name, text: bytes, ref: bytes) -> bool:
    """
    Answer what was accepted before under its ref; false if it was not.

    :raises RefReused: it was another text.
    """
    now_s = session.relay.seconds()
    try:
        accepted = session.accepted_refs().find_same(ref, name.key, text, now_s)
    except RefReused:
        raise RefReused(target) from None
    if accepted is None:
        return False
    if isinstance(accepted.run.pending, Pending):
        accepted.run.pending.ask(session, target, (ref,), accepted.index)
    elif accepted.id:
        session.answer_stored(target, accepted.id, (ref,))
        if accepted.is_acked:
            session.tell_acked(target, accepted.id, ref)
    else:
        session.answer_sent(target, ref)
    return True


def accept(
    session: Session, name: Name, refs: Sequence[bytes], texts: bytes, pending: Pending | None
) -> None:
    """
    Remember what was accepted.

    :param texts: one for each ref, LF between.
    :param pending: what is told when it is committed; ``None`` if it need not be.
    """
    accepted = AcceptedRun(name.key, refs, texts, session.relay.seconds())
    known = session.accepted_refs()
    known.accept(accepted)
    if pending is not None:
        pending.remember(known, accepted)


def undelivered(session: Session, target: bytes, text: bytes, refusal: Refusal) -> Refusal:
    """Tell the console of a message that is refused; returns the refusal."""
    session.relay.console.undelivered(session.name.shown, target, text, refusal)
    return refusal


def refusals(session: Session, target: bytes, lines: bytes, refusal: Refusal) -> Iterator[bytes]:
    """
    Refuse a run: the answer to each line of it.

    :param lines: as `chatrelay.interfaces.RunRecipient.deliver_run` has them.
    """
    line = wire.error_line(refusal)
    for text in texts_of(lines).split(b"\n"):
        undelivered(session, target, text, refusal)
        session.relay.statistics.refusals[refusal.code] += 1
        yield line


def note_sent(session: Session, count: int) -> None:
    """A session has sent something wholly; so many messages are to be counted."""
    session.messages_in += count
    # Not before: what is in the log of the recipient and what is in the sender's go together.
    if session.relay.mailboxes is not None:
        session.relay.mailboxes.sent(session.gate)
