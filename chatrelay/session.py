"""
One client's conversation: not yet named, then named, then closed.

A session is handed runs and lines and decides what they mean.  It knows no transport: what it
asks of one is `chatrelay.interfaces.Connection` (docs/protocol.rst).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from chatrelay import wire
from chatrelay.claims import FREE, Grant
from chatrelay.commands import VERBS
from chatrelay.console import Peer
from chatrelay.errors import (
    BadLine,
    BadSecret,
    Busy,
    LineTooLong,
    NameInUse,
    NameOwned,
    NotNamed,
    Refusal,
    ShuttingDown,
    TimedOut,
    TooManyClients,
    UnknownCommand,
)
from chatrelay.flow import Backlog, Gate
from chatrelay.interfaces import Connection
from chatrelay.lines import Block, Overlong
from chatrelay.liveness import Due, Silence
from chatrelay.log_holder import LogHolder
from chatrelay.names import Name
from chatrelay.naming import claim_on_first_line
from chatrelay.relay import Relay
from chatrelay.sending import note_sent, send, send_confirmed, send_run
from chatrelay.state import State

_OWNER_CAME = "This name is registered, and its owner wants it now."
_REVOKED = "The account of this name was made, disabled, removed, or given another secret."

# A long answer looks this often whether it should wait.
_LINES_BETWEEN_CHECKS = 256


class Session(LogHolder):
    """
    One client.

    :ivar connection: the door that it came through.
    :ivar peer: where it comes from.
    :ivar state: where it is.
    :ivar is_confidential: whether nobody can read what travels on its connection.
    :ivar grant: what its name was granted on.
    :ivar awaits_decision: whether a claim, a registration, or what a log holds, is awaited.
    :ivar messages_in: messages that came from it and were delivered or refused.
    :ivar bytes_in: everything that came from it.
    """

    __slots__ = (
        "_answering",
        "_refused_first_lines",
        "_silence",
        "_turn_ends_s",
        "_waits_to_end",
        "awaits_decision",
        "bytes_in",
        "connection",
        "grant",
        "is_confidential",
        "messages_in",
        "peer",
        "state",
    )

    def __init__(
        self,
        relay: Relay,
        connection: Connection,
        outbox: Backlog,
        peer: Peer,
        *,
        is_confidential: bool,
    ) -> None:
        """Begin without a name."""
        super().__init__(relay, outbox, Gate(connection))
        self.connection = connection
        self.peer = peer
        self.state = State.UNNAMED
        self.messages_in = self.bytes_in = 0
        self.is_confidential = is_confidential
        self.grant = FREE
        self.awaits_decision = self._waits_to_end = False
        self._refused_first_lines = 0
        self._answering: tuple[Iterator[bytes], bytes] | None = None
        self._turn_ends_s = 0.0
        self._silence: Silence | None = None
        relay.sessions[self] = None
        relay.admission.add_unnamed(self)

    # What comes from the client.

    def turn_begins(self, received_bytes: int) -> None:
        """Something was read, or what was held goes on; it gets `Limits.turn_s` at most."""
        now_s = self.relay.seconds()
        self._turn_ends_s = now_s + self.relay.limits.turn_s
        if received_bytes:
            self.heard_s = now_s
            self.bytes_in += received_bytes

    def run_received(self, block: Block) -> int:
        """
        Serve plain messages as far as the quick path goes.

        :returns: how many; with none, the next line of the block is for `line_received`.
        """
        if self._name is None or self.is_echoed or self.state is State.CLOSED:
            return 0
        if block.begins_with_tags:
            return send_confirmed(self, block)
        served = 0
        prefix = b"%" + self._name.shown + b"%"
        for recipient, lines, count in block.cut(prefix, self.relay.registry.routes):
            send_run(self, recipient, lines, count)
            served += count
        note_sent(self, served)
        return served

    def line_received(self, line: bytes) -> None:
        """Serve one line, without its end, that the quick path does not."""
        if self.state is State.CLOSED:
            return
        if not line:
            self._check_share()
            return
        if self.state is State.UNNAMED and wire.is_other_protocol(line):
            self.close_unanswered()
            return
        ref = b""
        try:
            if line.startswith(b"@"):
                tags, line = wire.parse_tags(line)
                ref = tags.get(b"ref", b"")
            wire.check_text(line)
            self._handle(line, ref)
        except Refusal as refusal:
            self.refuse(refusal, ref)
        self._check_share()

    def overlong_received(self, overlong: Overlong) -> None:
        """Answer a line that was too long and has been discarded."""
        if self.state is State.UNNAMED and wire.is_other_protocol(overlong.end):
            self.close_unanswered()
            return
        ref = b""
        refusal: Refusal = LineTooLong()
        try:
            if overlong.head.startswith(b"@"):
                tags, _ = wire.parse_tags(overlong.head)
                ref = tags.get(b"ref", b"")
        except Refusal as bad_tags:
            refusal = bad_tags
        self.refuse(refusal, ref)
        self._check_share()

    @property
    def is_answering(self) -> bool:
        """Whether a command is not answered to its end; nothing else is served before."""
        return self._answering is not None

    def go_on(self) -> None:
        """Write more of a command's answer: to its end, or until the session must wait."""
        if self._answering is None:
            return
        lines, ref = self._answering
        try:
            for count, line in enumerate(lines, 1):
                self.answer(line, ref)
                if count % _LINES_BETWEEN_CHECKS == 0 and self._check_share():
                    return
        except Refusal as refusal:
            self.refuse(refusal, ref)
        self._answering = None

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
        self.relay.sessions.pop(self, None)

    # What the modules that serve its lines ask for.

    @property
    def is_named(self) -> bool:
        """Whether it has been given a name; it keeps it when it is closed."""
        return self._name is not None

    @property
    def is_closed(self) -> bool:
        """Whether its conversation has ended."""
        return self.state is State.CLOSED

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """Answer with a refusal; the third of a first line closes."""
        self.answer(wire.error_line(refusal), ref)
        if self.state is State.NAMED:
            # Who is blocked is refused on the quick path, too.
            self.hold_if_over(self)
        if self.state is not State.UNNAMED:
            return
        if isinstance(refusal, TooManyClients):
            self.close("too many clients", lingers=False)
        elif not isinstance(refusal, (NameInUse, Busy)):
            self._refused_first_lines += 1
            if self._refused_first_lines >= self.relay.limits.max_refused_first_lines:
                self.close("none of its first lines was a name", lingers=False)

    def take_name(self, name: Name, grant: Grant) -> None:
        """Have a name that the registry has given, in place of the one before."""
        is_first, self._name, self.grant = self._name is None, name, grant
        if is_first:
            self.state = State.NAMED
            self.relay.admission.remove_unnamed(self)
            self.connection.named()
        self.relay.registry.renew_routes(name.key)

    def set_caps(self, caps: frozenset[bytes]) -> None:
        """Add from now on to what is sent what `caps` name, and nothing else."""
        self.caps = caps
        if b"ping" in caps:
            self._silence = self._silence or Silence(self.heard_s)
            self.relay.pinging[self] = None
        else:
            self._silence = None
            self.relay.pinging.pop(self, None)
        if self.state is State.NAMED:
            self.relay.registry.renew_routes(self.name.key)
            if self.mailbox is not None:
                self.mailbox.reading.caps_changed()

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
            self._leave(why)
            self.connection.close(grace_s or self.relay.limits.close_grace_s, lingers=lingers)

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

    def give_up_unproven(self) -> None:
        """The owner of its name is here; without proof it holds it no longer."""
        if not self.grant.is_proven:
            why = "its name is registered, and its owner came"
            self.close(why, NameOwned(self.name.shown, sentence=_OWNER_CAME))

    def revoke(self, revision: int) -> None:
        """Whatever its name was granted on before `revision` does not hold any more."""
        if self.grant.revision < revision:
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

    def _handle(self, line: bytes, ref: bytes) -> None:
        if line.startswith(b"/"):
            self._command(line, ref)
        elif self.state is State.UNNAMED:
            if line.startswith(b"%"):
                raise NotNamed
            claim_on_first_line(self, line, ref)
        elif line.startswith(b"%"):
            send(self, line, ref)
        else:
            raise BadLine

    def _command(self, line: bytes, ref: bytes) -> None:
        command = wire.parse_command(line)
        verb = VERBS.get(command.verb)
        if verb is None:
            raise UnknownCommand
        if self.state is State.UNNAMED and not verb.before_naming:
            raise NotNamed
        self._answering = (iter(verb.answer(self, command.arguments, ref)), ref)
        self.go_on()

    def _check_share(self) -> bool:
        # Off the quick path: whoever asks for more than it reads waits for itself, and
        # whoever asks for much work lets others have theirs in between.
        if self.state is State.CLOSED:
            return True
        self.hold_if_over(self)
        if self.relay.seconds() >= self._turn_ends_s:
            self.connection.wait_for_turn()
            return True
        return self.gate.held

    def _end_of_answers(self) -> None:
        grace_s = self.relay.limits.end_of_input_grace_s
        self.when_answered(partial(self.close, "end of input", grace_s=grace_s))

    def _leave(self, why: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._answering = None
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
