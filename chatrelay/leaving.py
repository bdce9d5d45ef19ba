"""
How one client's conversation ends: it wants to, its time is up, or the relay has it leave.

It also asks a client that wants it whether it is there (docs/protocol.rst, *Caps*).
"""

from __future__ import annotations

from functools import partial

from chatrelay import wire
from chatrelay.claims import FREE
from chatrelay.console import Peer
from chatrelay.errors import (
    BadSecret,
    NameOwned,
    NameReserved,
    Refusal,
    ShuttingDown,
    TimedOut,
    TooManyClients,
)
from chatrelay.flow import Backlog, Gate
from chatrelay.interfaces import Connection
from chatrelay.liveness import Due, Silence
from chatrelay.log_holder import LogHolder
from chatrelay.relay import Relay
from chatrelay.state import State
from chatrelay.statistics import Traffic

_OWNER_CAME = "This name is registered, and its owner wants it now."
_IDLE = "You sent nothing for too long; a /ping now and then is enough, or the cap ping."
_REVOKED = "The account of this name was made, disabled, removed, or given another secret."


class Leaver(LogHolder):
    """
    One client, until it leaves.

    :ivar connection: the door that it came through.
    :ivar peer: where it comes from.
    :ivar state: where it is.
    :ivar grant: what its name was granted on.
    :ivar messages_in: messages that came from it and were delivered or refused.
    :ivar bytes_in: everything that came from it.
    :ivar served_s: when something came from it, or it was read again after it was held.
    """

    __slots__ = (
        "_silence",
        "_waits_to_end",
        "bytes_in",
        "connection",
        "grant",
        "messages_in",
        "peer",
        "served_s",
        "state",
    )

    def __init__(self, relay: Relay, connection: Connection, outbox: Backlog, peer: Peer) -> None:
        """Begin without a name."""
        super().__init__(relay, outbox, Gate(connection))
        self.connection = connection
        self.peer = peer
        self.state = State.UNNAMED
        self.messages_in = self.bytes_in = 0
        self.served_s = self.heard_s
        self.grant = FREE
        self._waits_to_end = False
        self._silence: Silence | None = None

    @property
    def is_named(self) -> bool:
        """Whether it has been given a name; it keeps it when it is closed."""
        return self._name is not None

    @property
    def traffic(self) -> Traffic:
        """What came from it, and what it was sent."""
        sent_bytes = self.outbox.sent_bytes - self.outbox.dropped_bytes
        return Traffic(self.messages_in, self.messages_out, self.bytes_in, sent_bytes)

    @property
    def is_closed(self) -> bool:
        """Whether its conversation has ended."""
        return self.state is State.CLOSED

    def end_of_input(self) -> None:
        """The client will send nothing more: its name is free, its answers are still written."""
        if self.state is State.CLOSED:
            return
        # What has waited for the name is what it came for.
        self._waits_to_end = self.mailbox is not None and self.mailbox.reading.is_behind(self)
        if not self._waits_to_end:
            self._end_of_answers()

    def caught_up(self) -> None:
        """Everything that waited for the name is written to it, or can not be read."""
        if self._waits_to_end:
            self._end_of_answers()

    def connection_lost(self, why: str) -> None:
        """The connection is gone."""
        self._leave(why)
        if self.mailbox is not None:
            self.mailbox.reading.gone(self)
        del self.relay.sessions[self]
        self.relay.statistics.departed(self.traffic)

    def close(
        self,
        why: str,
        refusal: Refusal | None = None,
        *,
        lingers: bool = True,
        grace_s: float | None = None,
    ) -> None:
        """
        Free the name, write what is to be written, and close.

        :param why: for the console.
        :param refusal: what the client is told at last.
        :param lingers: as for `Connection.close`.
        """
        if self.state is not State.CLOSED:
            if refusal is not None:
                self.answer(wire.error_line(refusal), b"")
                self.relay.statistics.refusals[refusal.code] += 1
            self._leave(why)
            self.connection.close(grace_s or self.relay.limits.close_grace_s, lingers=lingers)

    def ask_if_silent(self, wanted: bool) -> None:
        """Ask it from now on whether it is there when it says nothing, or no more."""
        if wanted:
            self._silence = self._silence or Silence(self.heard_s)
            self.relay.pinging[self] = None
        else:
            self._silence = None
            self.relay.pinging.pop(self, None)

    # What the relay tells it.

    def hint(self) -> None:
        """The client has said nothing for a while: tell what is expected."""
        if self.state is State.UNNAMED and not self.bytes_in:
            self.answer(b"!hello :Type a name to begin; /help lists the commands.", b"")

    def naming_timed_out(self) -> None:
        """The client has given no name in its time."""
        self.close("no name in time", TimedOut(), lingers=False)

    def give_way(self) -> None:
        """There are too many connections without a name, and this is the oldest."""
        self.close("too many connections without a name", TooManyClients(), lingers=False)
        if self.connection.door.is_tls:
            # Nothing can be written, nor closed, before the peer has done its part of TLS.
            self.relay.admission.add_closing(self.connection)

    def give_up_reserved(self) -> None:
        """Its name is reserved from now on; without proof it holds it no longer."""
        if not self.grant.is_proven:
            self.close("its name is reserved now", NameReserved(self.name.shown))

    def give_up_unproven(self) -> None:
        """The owner of its name is here; without proof it holds it no longer."""
        if not self.grant.is_proven:
            why = "its name is registered, and its owner came"
            self.close(why, NameOwned(self.name.shown, sentence=_OWNER_CAME))

    def revoke(self, revision: int) -> None:
        """Whatever its name was granted on before `revision` does not hold any more."""
        if self.grant.revision < revision:
            self.account_gone()

    def account_gone(self) -> None:
        """There is no account of its name any more, or another one."""
        self.close("its account has changed", BadSecret(self.name.shown, sentence=_REVOKED))

    def close_unanswered(self) -> None:
        """The peer speaks another protocol: nothing it says is read, nothing is said to it."""
        self._leave("it speaks another protocol")
        self.connection.abort()

    def end_slow(self) -> None:
        """The client takes too little for too long."""
        if self.mailbox is not None and self.mailbox.reading.spill(self):
            self.relay.flow.spilled(self.outbox)
        else:
            self.cut()

    def cut(self) -> None:
        """The client does not read; nothing more can be written to it."""
        self._leave("slow-consumer: it did not read what it was sent")
        self.connection.abort()

    def failed(self) -> None:
        """Serving this client raised an exception: it is closed, and nobody else."""
        self._leave("an error in the relay")
        self.connection.abort()

    def shut_down(self) -> None:
        """The relay stops."""
        self.close("the relay stopped", ShuttingDown())

    def is_idle(self, since_s: float) -> bool:
        """Whether it could have sent something all the time since then, and did not."""
        return (
            self.served_s <= since_s
            and self.state is State.NAMED
            # Who wants to be asked proves in its own way that it is there.
            and self._silence is None
            and not self.gate.held
            and not self.connection.is_waiting
            and not self._waits_to_end
        )

    def end_idle(self) -> None:
        """It was idle for too long."""
        self.close("it sent nothing for too long", TimedOut(sentence=_IDLE))

    def tick(self, elapsed_s: float) -> None:
        """For the cap ``ping``: a second has passed, or `elapsed_s` if the relay was stopped."""
        if self._silence is None:
            return
        limits = self.relay.limits
        is_held = self.gate.held or self.connection.is_waiting
        due = self._silence.tick(self.heard_s, elapsed_s, limits, held=is_held)
        if due is Due.PING:
            self.answer(b"!ping " + self.relay.ids.write(self.relay.ids.take()), b"")
        elif due is Due.CLOSE:
            self.close("no answer to a ping", TimedOut())

    # How it does it.

    def _end_of_answers(self) -> None:
        grace_s = self.relay.limits.end_of_input_grace_s
        self.when_answered(partial(self.close, "end of input", grace_s=grace_s))

    def _leave(self, why: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        relay = self.relay
        relay.registry.unwatch_all(self)
        relay.pinging.pop(self, None)
        relay.admission.remove_unnamed(self)
        self.gate.forget()
        if self._name is not None:
            if self.mailbox is not None:
                self.mailbox.reading.leave(self)
            relay.registry.release(self, self._name)
            stayed_s = relay.wall_clock() - self.connected_s
            relay.console.departed(self._name.shown, self.peer, stayed_s, why)
        elif why not in ("end of input", "the connection was closed"):
            relay.console.turned_away(self.peer, why)
