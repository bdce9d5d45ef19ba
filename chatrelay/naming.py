"""
Claiming a name: the first one and another, decided at once or later.

While a claim is being decided its connection is held (docs/protocol.rst, *Names*).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chatrelay.errors import BadName, Refusal
from chatrelay.flow import Reason
from chatrelay.names import Name, parse_name
from chatrelay.wire import VERSION

if TYPE_CHECKING:
    from chatrelay.session import Session

_GREETING = b":%NAME%TEXT sends TEXT to NAME; /who tells who is here, /help lists the commands."


def claim_on_first_line(session: Session, line: bytes, ref: bytes) -> None:
    """
    Claim the name that a first line gives, with the secret behind it if there is one.

    :raises Refusal: nobody has to be asked about this one.
    """
    written, space, secret = line.partition(b" ")
    if space and not secret:
        raise BadName
    claim(session, written, secret if space else None, ref)


def claim(session: Session, written: bytes, secret: bytes | None, ref: bytes) -> None:
    """
    Claim a name for a session, in place of the one it has.

    It is answered with a welcome or a refusal, at once or when it is decided; the
    session may be closed by then.

    :raises BadName, NameReserved: nobody has to be asked about this one.
    """
    relay = session.relay
    name = parse_name(written)
    relay.registry.check_not_reserved(name)
    session.is_claiming = True
    relay.claims.decide(name, secret, partial(_decided, session, name, ref))
    if session.is_claiming:
        session.gate.hold(Reason.CLAIM)
        if not session.is_named:
            relay.admission.set_claiming(session, True)


def _decided(session: Session, name: Name, ref: bytes, refusal: Refusal | None) -> None:
    if not session.is_claiming or session.is_closed:
        return
    session.is_claiming = False
    relay = session.relay
    try:
        if refusal is not None:
            raise refusal
        if not session.is_named:
            relay.admission.check_room(relay.registry.client_count)
        relay.registry.claim(session, name, session.name if session.is_named else None)
    except Refusal as refused:
        relay.admission.set_claiming(session, False)
        session.refuse(refused, ref)
    else:
        previous = session.take_name(name)
        session.answer(
            b" ".join(
                (
                    b"!welcome",
                    name.shown,
                    b"version=%d" % VERSION,
                    b"max-line=%d" % relay.limits.max_line_bytes,
                    _GREETING,
                )
            ),
            ref,
        )
        if previous is None:
            relay.console.arrived(name.shown, session.peer, relay.registry.client_count)
        else:
            relay.console.renamed(name.shown, previous.shown, session.peer)
    session.gate.release(Reason.CLAIM)
