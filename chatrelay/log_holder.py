"""
What is remembered for one client from line to line: its refs, and the log of its name if that
is owned.
"""

from __future__ import annotations

from collections.abc import Callable

from chatrelay.flow import Backlog, Gate, Reason
from chatrelay.mailbox.mailbox import Mailbox
from chatrelay.mailbox.shares import FREE
from chatrelay.names import Name
from chatrelay.receiver import Receiver
from chatrelay.refs import AcceptedRefs
from chatrelay.relay import Relay


class LogHolder(Receiver):
    """
    One client, with what is remembered for it.

    :ivar mailbox: the log of its name; ``None`` if it has none.  It stays when the client
        leaves.
    """

    __slots__ = ("_awaited", "_refs", "_when_answered", "mailbox")

    def __init__(self, relay: Relay, outbox: Backlog, gate: Gate) -> None:
        """Begin without anything."""
        super().__init__(relay, outbox, gate)
        self.mailbox: Mailbox | None = None
        self._refs: AcceptedRefs | None = None
        self._awaited = 0
        self._when_answered: Callable[[], None] | None = None

    def awaits_answer(self) -> None:
        """It will be told what became of something, if it stays."""
        self._awaited += 1

    def was_answered(self) -> None:
        """It has been told."""
        self._awaited -= 1
        if not self._awaited and self._when_answered is not None:
            then, self._when_answered = self._when_answered, None
            then()

    def when_answered(self, then: Callable[[], None]) -> None:
        """Do something when everything that it has sent is answered; read nothing before."""
        if not self._awaited:
            then()
            return
        self.gate.hold(Reason.ENDING)
        self._when_answered = then

    def accepted_refs(self) -> AcceptedRefs:
        """What it, or the owner of its name, had accepted under which ref."""
        if self.mailbox is not None:
            return self.mailbox.refs
        if self._refs is None:
            self._refs = AcceptedRefs(self.relay.limits)
        return self._refs

    @property
    def account(self) -> int:
        """The number of the account that owns its name."""
        return self.mailbox.account if self.mailbox is not None else FREE

    def message_acked(self, recipient: Name, ref: bytes, message_id: int) -> None:
        """Somebody acked a message, that this one has sent if it knows its ref."""
        accepted = self.accepted_refs().find(ref, recipient.key, self.relay.seconds())
        if accepted is not None and accepted.id == message_id:
            accepted.acked()
            self.tell_acked(recipient.shown, message_id, ref)
