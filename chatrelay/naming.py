"""
Claiming a name: the first one and another, decided at once or later (docs/protocol.rst,
*Names*).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chatrelay.claims import Claim, Grant
from chatrelay.errors import BadName, Insecure
from chatrelay.names import Name, parse_name
from chatrelay.pending import await_decision
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


def check_confidential(session: Session) -> None:
    """
    Check that a secret may travel on a session's connection.

    :raises Insecure: others could read it there.
    """
    if not session.is_confidential and not session.relay.allows_insecure_secrets:
        raise Insecure


def claim(session: Session, written: bytes, secret: bytes | None, ref: bytes) -> None:
    """
    Claim a name for a session, in place of the one it has.

    It is answered with a welcome or a refusal, at once or when it is decided; the
    session may be closed by then.

    :raises BadName, NameReserved, TooManyClients, Insecure: nobody has to be asked about this one.
    """
    relay = session.relay
    name = parse_name(written)
    relay.registry.check_not_taken_for_good(name)
    if not session.is_named:
        relay.admission.check_room(relay.registry.client_count)
    elif secret is None and name.key == session.name.key:
        # Another writing of one's own, for which nothing has to be shown again.
        _give(session, name, ref, session.grant)
        return
    if secret is not None:
        check_confidential(session)
    asked = Claim(name, secret, session.peer.host, lambda: not session.is_closed)
    await_decision(
        session, partial(relay.claims.decide, asked), partial(_give, session, name, ref), ref
    )


def _give(session: Session, name: Name, ref: bytes, grant: Grant) -> None:
    relay = session.relay
    previous = session.name if session.is_named else None
    relay.registry.claim(session, name, previous, is_proven=grant.is_proven)
    session.take_name(name, grant)
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
