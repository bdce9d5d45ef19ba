"""
Claiming a name: the first one and another, decided at once or later, and having its log with
it (docs/protocol.rst, *Names*).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chatrelay.bans import banned
from chatrelay.claims import Claim, Decided, Grant
from chatrelay.errors import BadName, Insecure, Refusal, TooManyClients
from chatrelay.mailbox.log import Loaded
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.names import Name, parse_name
from chatrelay.pending import await_decision
from chatrelay.wire import VERSION

if TYPE_CHECKING:
    from chatrelay.relay import Relay
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

    :raises BadName, NameReserved, NotAllowed, TooManyClients, Insecure, RateLimited: nobody has
        to be asked about this one.
    """
    relay = session.relay
    name = parse_name(written)
    relay.registry.check_not_taken_for_good(name)
    _check_not_banned(relay, name)
    is_over = False
    if not session.is_named:
        # A stranger who tries an operator's name takes nobody's place by that: he counts among
        # those without a name until it is decided.
        is_over = relay.admission.is_full(relay.registry.client_count)
        if is_over and (secret is None or name.key not in relay.operators):
            raise TooManyClients()
    else:
        session.count_name(name)
        if secret is None and name.key == session.name.key:
            # Another writing of one's own, for which nothing has to be shown again.
            _give(session, name, ref, session.grant)
            return
    if secret is not None:
        check_confidential(session)
    asked = Claim(name, secret, session.peer.host, lambda: not session.is_closed)
    decide = partial(_decide, relay, asked)
    give = partial(_give, session, name, ref, is_over=is_over)
    await_decision(session, decide, give, ref, is_counted=not is_over)
    if is_over and session.awaits_decision and not session.is_closed:
        relay.admission.spare(session)


def _check_not_banned(relay: Relay, name: Name) -> None:
    ban = relay.bans.of_name(name.key)
    if ban is not None:
        raise banned(ban, name.shown)


def _decide(relay: Relay, claim: Claim, decided: Decided[Grant]) -> None:
    """Decide on a claim, and have it known what is in the name's log."""
    mailboxes, name = relay.mailboxes, claim.name

    def with_log(granted: Grant | Refusal) -> None:
        if isinstance(granted, Refusal) or mailboxes is None or not granted.account:
            decided(granted)
            return
        grant = granted

        def loaded(refusal: Refusal | None) -> None:
            if refusal is not None:
                decided(refusal)
            else:
                relay.claims.confirm(name, grant, decided)

        mailboxes.load([mailboxes.add(grant.account, name)], loaded)

    def confirmed(granted: Grant | Refusal) -> None:
        # Each of it takes time, in which the account may be disabled or removed.
        if isinstance(granted, Refusal):
            decided(granted)
        elif granted.is_proven:
            relay.claims.confirm(name, granted, with_log)
        else:
            if mailboxes is not None:
                # If there was an account of it, it is gone now, with its place in rooms.
                mailboxes.forget(name.key)
            decided(granted)

    relay.claims.decide(claim, confirmed)


def _give(session: Session, name: Name, ref: bytes, grant: Grant, *, is_over: bool = False) -> None:
    relay = session.relay
    if is_over and not grant.is_proven:
        raise TooManyClients()
    # It may have been banned while that was decided.
    _check_not_banned(relay, name)
    previous = session.name if session.is_named else None
    relay.registry.claim(session, name, previous, is_proven=grant.is_proven)
    _leave_other_log(session, grant.account)
    session.take_name(name, grant)
    _welcome(session, ref)
    if previous is None:
        relay.console.arrived(name.shown, session.peer, relay.registry.client_count)
    else:
        relay.console.renamed(name.shown, previous.shown, session.peer)
    have_log(session)


def have_log(session: Session) -> None:
    """If the name of a session is owned, write what waits in its log, once that is known."""
    mailboxes, account = session.relay.mailboxes, session.grant.account
    if mailboxes is None or not account:
        return
    mailbox = mailboxes.add(account, session.name)

    def loaded(refusal: Refusal | None) -> None:
        if refusal is not None:
            session.close("its log can not be read", refusal)
        elif not session.is_closed and session.grant.account == account:
            _attach(session, mailbox)

    mailboxes.load([mailbox], loaded)


def have_new_log(session: Session) -> None:
    """The name of a session has an owner from now on, and so a log, with nothing in it."""
    mailboxes, account = session.relay.mailboxes, session.grant.account
    if mailboxes is not None and account and session.mailbox is None:
        mailbox = mailboxes.add(account, session.name)
        if not mailbox.is_loaded:
            mailbox.loaded(Loaded())
        # What it had accepted before it owned the name is not forgotten by that.
        mailbox.refs = session.accepted_refs()
        _attach(session, mailbox)


def _leave_other_log(session: Session, account: int) -> None:
    mailbox = session.mailbox
    if mailbox is not None and mailbox.account != account:
        session.mailbox = None
        mailbox.reading.leave(session)
        mailbox.reading.gone(session)


def _attach(session: Session, mailbox: Mailbox) -> None:
    if session.mailbox is None:
        session.mailbox = mailbox
        mailbox.attach(session)


def _welcome(session: Session, ref: bytes) -> None:
    """Tell a session that it has its name."""
    session.answer(
        b" ".join(
            (
                b"!welcome",
                session.name.shown,
                b"version=%d" % VERSION,
                b"max-line=%d" % session.relay.limits.max_line_bytes,
                _GREETING,
            )
        ),
        ref,
    )
