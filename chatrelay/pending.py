"""
What takes time for one client: a claim, a registration, a look into a log.

Until it is decided the client's connection is held, so that its answers keep their order
(docs/protocol.rst, *Names*).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chatrelay.claims import Decided
from chatrelay.errors import Refusal
from chatrelay.flow import Reason

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox
    from chatrelay.session import Session

T = TypeVar("T")


def await_decision(
    session: Session,
    begin: Callable[[Decided[T]], None],
    finish: Callable[[T], None],
    ref: bytes,
    *,
    is_counted: bool = True,
) -> None:
    """
    Begin something that is decided now or later, and answer it then.

    :param begin: begins it, and is told whom to tell.
    :param finish: answers what was decided; it may raise a refusal.  It is not called for a
        client that is gone by then.
    :param ref: what a refusal carries.
    :param is_counted: whether a client without a name counts as one that has one meanwhile.
    """
    session.awaits_decision = True

    def decided(result: T | Refusal) -> None:
        if session.awaits_decision and not session.is_closed:
            session.awaits_decision = False
            # It may come out of a thread or a Deferred: nobody else would close the client.
            session.relay.guard(session, partial(_decided, session, result, finish, ref))

    begin(decided)
    if session.awaits_decision and not session.is_closed:
        session.gate.hold(Reason.DECISION)
        if is_counted and not session.is_named:
            session.relay.admission.set_claiming(session, True)


def await_logs(
    session: Session, unknown: Sequence[Mailbox], then: Callable[[], None], ref: bytes
) -> None:
    """
    Do something once it is known what is in some logs, or that they can not be read.

    :param unknown: those of which it is not known; with none it is done at once.
    :param then: does it; it may raise a refusal.
    :param ref: what a refusal carries.
    """
    mailboxes = session.relay.mailboxes
    if not unknown or mailboxes is None:
        then()
        return

    def load(decided: Decided[None]) -> None:
        # One that can not be read is left to `then`; the others get what is sent.
        mailboxes.load(unknown, lambda _: decided(None))

    await_decision(session, load, lambda _: then(), ref)


def _decided(
    session: Session, result: T | Refusal, finish: Callable[[T], None], ref: bytes
) -> None:
    try:
        if isinstance(result, Refusal):
            raise result
        finish(result)
    except Refusal as refusal:
        session.relay.admission.set_claiming(session, False)
        session.refuse(refusal, ref)
    if not session.awaits_decision:
        # What was decided may have begun something else that is to be waited for.
        session.gate.release(Reason.DECISION)
