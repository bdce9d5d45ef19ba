"""Who is told that what he sent was acked: owners by their logs, others while they are here."""

from __future__ import annotations

from collections.abc import Iterable

from chatrelay.mailbox.entries import Run
from chatrelay.mailbox.in_flight import Header
from chatrelay.mailbox.seams import Keeper
from chatrelay.mailbox.shares import BOTS
from chatrelay.names import Name, key_of_party
from chatrelay.refs import AcceptedRefs

Receipt = tuple[bytes, bytes, int]
"""The name of a sender, the ref of a message and its id."""


def tell_senders(acked: Iterable[Header], by: Name, keeper: Keeper) -> list[Receipt]:
    """
    Note in the logs of those who own their names what was acked.

    :param by: who acked it.
    :returns: who else is to be told of what, once the ack is committed.
    """
    others: list[Receipt] = []
    of: dict[int, list[tuple[bytes, int]]] = {}
    for header in acked:
        if header.account > 0:
            of.setdefault(header.account, []).extend(header.refs_and_ids())
        elif header.account != BOTS:
            others += [(header.party, *one) for one in header.refs_and_ids()]
    for account, refs in of.items():
        mailbox = keeper.mailbox_of(account) if refs else None
        if mailbox is not None:
            mailbox.note_acked(by.shown, refs)
    return others


def note_acked(refs: AcceptedRefs, run: Run, now_s: float) -> None:
    """
    Remember what was acked of what somebody sent.

    :param refs: what that had accepted under which ref.
    :param run: of kind `Kind.ACKED`.
    """
    key = key_of_party(run.party)
    for _, ref, message_id in run.entries():
        accepted = refs.find(ref, key, now_s)
        if accepted is not None and accepted.id == int(message_id, 16):
            accepted.acked()
