"""The commands that make a name one's own (docs/protocol.rst, *Owned names*)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from chatrelay.claims import Decided, Grant, Registration
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import NotAllowed, RateLimited, Refusal
from chatrelay.naming import check_confidential, have_log, have_new_log
from chatrelay.pending import await_decision

if TYPE_CHECKING:
    from chatrelay.session import Session

_NOT_OWNED = "Only a registered name has tokens; /register SECRET makes it one."

_TOO_MANY = (
    "As many names as may be in a day were registered from your address;"
    " wait some hours, or ask the operator for an account."
)


def _register(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) not in (1, 2):
        raise wrong_form("/register SECRET, or /register NEW OLD; a secret has no space")
    check_confidential(session)
    if not session.grant.is_proven:
        # It may have been taken before it was reserved.
        session.relay.registry.check_not_reserved(session.name)
    registration = Registration(
        session.name,
        words[0],
        words[1] if len(words) > 1 else None,
        session.grant,
        session.peer.host,
        lambda: not session.is_closed,
    )
    await_decision(
        session,
        partial(_begin, session, registration),
        partial(_registered, session, ref, has_account=registration.old_secret is not None),
        ref,
    )
    return ()


def _begin(session: Session, registration: Registration, decided: Decided[Grant]) -> None:
    """Have it registered; a new account counts for the address that it comes from."""
    relay, network = session.relay, session.connection.counted_network
    if registration.old_secret is not None:
        relay.claims.register(registration, decided)
        return
    if not relay.admission.registers(network):
        relay.console.refused(session.peer, "too many registered names from this address")
        decided(RateLimited(registration.name.shown, sentence=_TOO_MANY))
        return

    def counted(result: Grant | Refusal) -> None:
        if isinstance(result, Refusal):
            relay.admission.did_not_register(network)
        decided(result)

    relay.claims.register(registration, counted)


def _registered(session: Session, ref: bytes, grant: Grant, *, has_account: bool) -> None:
    is_new = not session.grant.is_proven
    session.grant = grant
    session.answer(b"!registered " + session.name.shown, ref)
    session.relay.console.registered(session.name.shown, session.peer, is_new=is_new)
    # What others were granted the name on holds no longer.
    session.relay.revoke(session.name.key, grant.revision)
    if has_account:
        have_log(session)
    else:
        have_new_log(session)


def _token(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if words:
        raise wrong_form("/token")
    check_confidential(session)
    if not session.grant.is_proven:
        raise NotAllowed(sentence=_NOT_OWNED)
    await_decision(
        session,
        partial(session.relay.claims.issue_token, session.name, session.grant),
        lambda token: session.answer(b"!token " + token, ref),
        ref,
    )
    return ()


VERBS = (
    Verb(
        b"register",
        "/register SECRET [OLD]",
        "own this name, or change its secret",
        _register,
    ),
    Verb(b"token", "/token", "a token that stands for the secret", _token),
)
