"""
One client's conversation: not yet named, then named, then closed.

A session is handed runs and lines and decides what they mean; what it answers goes to
its own outbox, what it sends to those of others.  It knows no transport: what it asks
of one is `Connection` (docs/protocol.rst).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import partial
from typing import Protocol

from chatrelay import wire
from chatrelay.commands import VERBS
from chatrelay.console import Peer
from chatrelay.errors import (
    BadLine,
    BadName,
    Busy,
    LineTooLong,
    NameInUse,
    NotAllowed,
    NotNamed,
    Refusal,
    ShuttingDown,
    TimedOut,
    TooManyClients,
    UnknownCommand,
    UnknownName,
    UnknownRoom,
)
from chatrelay.flow import Backlog, Gate, Readable, Reason
from chatrelay.interfaces import Recipient
from chatrelay.lines import Overlong, Run
from chatrelay.names import Name, parse_name
from chatrelay.refs import AcceptedRefs
from chatrelay.relay import Relay

_CRLF = b"\r\n"
# A long answer looks this often whether it should wait.
_LINES_BETWEEN_CHECKS = 256


class Connection(Readable, Protocol):
    """What a session asks of the door that its client came through."""

    def named(self) -> None:
        """The client has a name; nothing more has to time out."""

    def next_turn(self, waiting: Gate) -> None:
        """Release a gate that is held for `Reason.TURN` in the next turn."""

    def close(self, grace_s: float) -> None:
        """Close once everything is written, or after `grace_s` all the same."""

    def abort(self) -> None:
        """Close now, whatever is not written."""


class State(Enum):
    """Where a session is."""

    UNNAMED = "not yet named"
    NAMED = "named"
    CLOSED = "closed"


class Session:
    """
    One client.

    :ivar relay: what it shares with all others.
    :ivar peer: where it comes from.
    :ivar outbox: what is to be sent to it.
    :ivar gate: whether it is read.
    :ivar state: where it is.
    :ivar eol: how lines to it end.
    :ivar caps: what it asked to have added.
    :ivar connected_s: since when it is connected, in seconds since the epoch.
    :ivar heard_s: when something last came from it, by the clock of the relay.
    :ivar messages_in: messages that came from it and were delivered or refused.
    :ivar messages_out: messages delivered to it.
    :ivar bytes_in: everything that came from it.
    """

    __slots__ = (
        "_answering",
        "_asked_for_pong",
        "_claiming",
        "_name",
        "_refs",
        "_refused_first_lines",
        "_silence",
        "_turn_ends_s",
        "bytes_in",
        "caps",
        "connected_s",
        "connection",
        "eol",
        "gate",
        "heard_s",
        "messages_in",
        "messages_out",
        "outbox",
        "peer",
        "relay",
        "state",
    )

    def __init__(self, relay: Relay, connection: Connection, outbox: Backlog, peer: Peer) -> None:
        """Begin without a name."""
        self.relay = relay
        self.connection = connection
        self.outbox = outbox
        self.peer = peer
        self.gate = Gate(connection)
        self.state = State.UNNAMED
        self.eol = _CRLF
        self.caps: frozenset[bytes] = frozenset()
        self.connected_s = relay.wall_clock()
        self.heard_s = relay.seconds()
        self.messages_in = 0
        self.messages_out = 0
        self.bytes_in = 0
        self._name: Name | None = None
        self._claiming = False
        self._refused_first_lines = 0
        self._refs: AcceptedRefs | None = None
        self._answering: tuple[Iterator[bytes], bytes] | None = None
        self._turn_ends_s = 0.0
        # For the cap ``ping``: until when it was heard, and for how long not since.
        self._silence = (0.0, 0.0)
        self._asked_for_pong = False
        relay.sessions[self] = None
        relay.admission.add_unnamed(self)

    # What a recipient is.

    @property
    def name(self) -> Name:
        """
        The name it holds.

        :raises AttributeError: it holds none; nobody reaches it then.
        """
        if self._name is None:
            raise AttributeError("this session has no name")
        return self._name

    @property
    def bytes_out(self) -> int:
        """Everything that was written to it."""
        return self.outbox.written_bytes

    def idle_s(self) -> float:
        """For how long nothing came from it, in seconds."""
        return self.relay.seconds() - self.heard_s

    def deliver(self, sender: Recipient, text: bytes) -> None:
        """Write one message."""
        line = b"%" + sender.name.shown + b"%" + text + self.eol
        if self._is_stamped:
            line = self._stamp() + line
        self.outbox.write(line)
        self.messages_out += 1
        self._delivered(sender, [text])

    def deliver_run(self, sender: Recipient, texts: list[bytes]) -> None:
        """Write what one sender wrote to it in one run; not for a client with stamps."""
        prefix = b"%" + sender.name.shown + b"%"
        self.outbox.write(b"".join((prefix, (self.eol + prefix).join(texts), self.eol)))
        self.messages_out += len(texts)
        self._delivered(sender, texts)

    def presence_changed(self, written: bytes, online: bool) -> None:
        """Tell of a watched name that came or went."""
        self._answer((b"!online " if online else b"!offline ") + written, b"")

    # What comes from the client.

    def turn_begins(self, received_bytes: int) -> None:
        """Something was read, or what was held goes on; it gets `Limits.turn_s` at most."""
        now_s = self.relay.seconds()
        self._turn_ends_s = now_s + self.relay.limits.turn_s
        if received_bytes:
            self.heard_s = now_s
            self.bytes_in += received_bytes

    def run_received(self, run: Run, start: int) -> int:
        """
        Serve plain messages as far as the quick path goes.

        :param start: the first one to serve.
        :returns: the first one that needs a closer look, which is for `line_received`.
        """
        if self.state is not State.NAMED:
            return start
        routes = self.relay.registry.routes
        groups, handled = wire.group_by_target(run, start, routes)
        for target, texts in groups.items():
            routes[target].deliver_run(self, texts)
        self.messages_in += handled - start
        return handled

    def line_received(self, line: bytes) -> None:
        """Serve one line, without its end, that the quick path does not."""
        if not line or self.state is State.CLOSED:
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
            self._refuse(refusal, ref)
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
        self._refuse(refusal, ref)
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
                self._answer(line, ref)
                if count % _LINES_BETWEEN_CHECKS == 0 and self._check_share():
                    return
        except Refusal as refusal:
            self._refuse(refusal, ref)
        self._answering = None

    def end_of_input(self) -> None:
        """The client will send nothing more: its name is free, its answers are still written."""
        if self.state is not State.CLOSED:
            self._leave("end of input")
            self.connection.close(self.relay.limits.end_of_input_grace_s)

    def connection_lost(self, why: str) -> None:
        """The connection is gone."""
        self._leave(why)
        self.relay.sessions.pop(self, None)

    # What commands ask for.

    def claim(self, written: bytes, secret: bytes | None, ref: bytes) -> None:
        """
        Claim a name, the first one or another.

        The answer is a welcome or a refusal, at once or when it is decided; until then
        the connection is held.

        :raises BadName, NameReserved: nobody has to be asked about this one.
        """
        name = parse_name(written)
        self.relay.registry.check_not_reserved(name)
        self._claiming = True
        self.relay.claims.decide(name, secret, partial(self._decided, name, ref))
        if self._claiming:
            self.gate.hold(Reason.CLAIM)
            self.relay.admission.remove_unnamed(self)

    def set_caps(self, caps: frozenset[bytes]) -> None:
        """Add from now on to what is sent what `caps` name, and nothing else."""
        self.caps = caps
        if b"ping" in caps:
            self._silence = (self.heard_s, 0.0)
            self.relay.pinging[self] = None
        else:
            self.relay.pinging.pop(self, None)
        if self._name is not None:
            self._renew_routes()

    def close(self, why: str, refusal: Refusal | None = None) -> None:
        """
        Free the name, write what is to be written, and close.

        :param why: for the console.
        :param refusal: what the client is told at last.
        """
        if self.state is not State.CLOSED:
            if refusal is not None:
                self._answer(wire.error_line(refusal), b"")
            self._leave(why)
            self.connection.close(self.relay.limits.close_grace_s)

    # What the relay tells it.

    def hint(self) -> None:
        """The client has said nothing for a while: tell what is expected."""
        if self.state is State.UNNAMED and not self.bytes_in:
            self._answer(b"!hello :Type a name to begin; /help lists the commands.", b"")

    def naming_timed_out(self) -> None:
        """The client has given no name in its time."""
        self.close("no name in time", TimedOut())

    def give_way(self) -> None:
        """There are too many connections without a name, and this is the oldest."""
        self.close("too many connections without a name", TooManyClients())

    def close_unanswered(self) -> None:
        """The peer speaks another protocol: nothing it says is read, nothing is said to it."""
        self._leave("it speaks another protocol")
        self.connection.abort()

    def end_slow(self) -> None:
        """The client takes too little for too long; nothing more can be written to it."""
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
        """
        Ask a client with the cap ``ping`` whether it is there.

        :param elapsed_s: time since the last tick; more than two seconds are time in
            which the relay itself did not run, and do not count as silence.
        """
        limits = self.relay.limits
        heard_s, silent_s = self._silence
        if heard_s != self.heard_s:
            self._silence = (self.heard_s, 0.0)
            self._asked_for_pong = False
            return
        if self.gate.held:
            return
        silent_s += min(elapsed_s, 2.0)
        self._silence = (heard_s, silent_s)
        if self._asked_for_pong:
            if silent_s >= limits.ping_after_s + limits.ping_timeout_s:
                self.close("no answer to a ping", TimedOut())
        elif silent_s >= limits.ping_after_s:
            self._asked_for_pong = True
            self._answer(b"!ping " + self.relay.next_id(), b"")

    # How it does it.

    @property
    def _is_stamped(self) -> bool:
        return b"id" in self.caps or b"time" in self.caps

    def _stamp(self) -> bytes:
        tags = {}
        if b"id" in self.caps:
            tags[b"id"] = self.relay.next_id()
        if b"time" in self.caps:
            tags[b"time"] = self.relay.timestamp()
        return wire.with_tags(tags, b"")

    def _delivered(self, sender: Recipient, texts: list[bytes]) -> None:
        if self.outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            gate = sender.gate if isinstance(sender, Session) else None
            self.relay.flow.over_mark(self.outbox, gate)
        if self.relay.console.verbose:
            for text in texts:
                self.relay.console.relayed(sender.name.shown, self.name.shown, text)

    def _answer(self, line: bytes, ref: bytes) -> None:
        if ref:
            line = b"@ref=" + ref + b" " + line
        self.outbox.write(line + self.eol)

    def _handle(self, line: bytes, ref: bytes) -> None:
        if line.startswith(b"/"):
            self._command(line, ref)
        elif self.state is State.UNNAMED:
            if line.startswith(b"%"):
                raise NotNamed
            self._first_line(line, ref)
        elif line.startswith(b"%"):
            self._message(line, ref)
        else:
            raise BadLine

    def _first_line(self, line: bytes, ref: bytes) -> None:
        written, space, secret = line.partition(b" ")
        if space and not secret:
            raise BadName
        self.claim(written, secret if space else None, ref)

    def _command(self, line: bytes, ref: bytes) -> None:
        command = wire.parse_command(line)
        verb = VERBS.get(command.verb)
        if verb is None:
            raise UnknownCommand
        if self.state is State.UNNAMED and not verb.before_naming:
            raise NotNamed
        self._answering = (iter(verb.answer(self, command.arguments, ref)), ref)
        self.go_on()

    def _message(self, line: bytes, ref: bytes) -> None:
        message = wire.parse_message(line, self.relay.limits.max_targets)
        self.messages_in += 1
        first_target = message.targets[0]
        if wire.is_room(first_target) or first_target == wire.EVERYONE:
            refusal: Refusal = NotAllowed()
            if first_target != wire.EVERYONE:
                refusal = UnknownRoom(first_target)
            self._undelivered(first_target, message.text, refusal)
            raise refusal
        seen = set()
        for target in message.targets:
            name = parse_name(target)
            if name.key not in seen:
                seen.add(name.key)
                self._message_to(target, name, message.text, ref)

    def _message_to(self, target: bytes, name: Name, text: bytes, ref: bytes) -> None:
        try:
            if not (ref and self._is_repetition(ref, name, text)):
                self._send(target, name, text)
                if ref:
                    self._accepted_refs().accept(ref, name.key, text, self.relay.seconds())
        except Refusal as refusal:
            self._refuse(refusal, ref)
            return
        if ref:
            self._answer(b"!sent " + target, ref)

    def _send(self, target: bytes, name: Name, text: bytes) -> None:
        recipient = self.relay.registry.find(name.key)
        if recipient is None:
            refusal = UnknownName(target)
            self._undelivered(target, text, refusal)
            raise refusal
        recipient.deliver(self, text)
        if isinstance(recipient, Session) and not recipient._is_stamped:
            self.relay.registry.add_route(target, recipient)

    def _is_repetition(self, ref: bytes, name: Name, text: bytes) -> bool:
        now_s = self.relay.seconds()
        return self._accepted_refs().is_repetition(ref, name.key, text, now_s)

    def _accepted_refs(self) -> AcceptedRefs:
        if self._refs is None:
            self._refs = AcceptedRefs(self.relay.limits)
        return self._refs

    def _undelivered(self, target: bytes, text: bytes, refusal: Refusal) -> None:
        self.relay.console.undelivered(self.name.shown, target, text, refusal)

    def _refuse(self, refusal: Refusal, ref: bytes) -> None:
        self._answer(wire.error_line(refusal), ref)
        if self.state is not State.UNNAMED:
            return
        if isinstance(refusal, TooManyClients):
            self.close("too many clients")
        elif not isinstance(refusal, (NameInUse, Busy)):
            self._refused_first_lines += 1
            if self._refused_first_lines >= self.relay.limits.max_refused_first_lines:
                self.close("none of its first lines was a name")

    def _decided(self, name: Name, ref: bytes, refusal: Refusal | None) -> None:
        if not self._claiming or self.state is State.CLOSED:
            return
        self._claiming = False
        relay = self.relay
        try:
            if refusal is not None:
                raise refusal
            if self._name is None:
                relay.admission.check_room(relay.registry.client_count)
            relay.registry.claim(self, name, self._name)
        except Refusal as refused:
            if self.gate.held and self._name is None:
                relay.admission.add_unnamed(self)
            self._refuse(refused, ref)
        else:
            self._welcome(name, ref)
        self.gate.release(Reason.CLAIM)

    def _welcome(self, name: Name, ref: bytes) -> None:
        relay = self.relay
        previous, self._name = self._name, name
        self.state = State.NAMED
        self._renew_routes()
        self._answer(
            b"!welcome "
            + name.shown
            + b" version=%d max-line=%d" % (wire.VERSION, relay.limits.max_line_bytes)
            + b" :%NAME%TEXT sends TEXT to NAME; /who tells who is here, /help lists the commands.",
            ref,
        )
        if previous is None:
            relay.admission.remove_unnamed(self)
            self.connection.named()
            relay.console.arrived(name.shown, self.peer, relay.registry.client_count)
        else:
            relay.console.renamed(name.shown, previous.shown, self.peer)

    def _renew_routes(self) -> None:
        self.relay.registry.drop_routes(self.name)
        if not self._is_stamped:
            self.relay.registry.add_route(self.name.shown, self)

    def _check_share(self) -> bool:
        # Off the quick path: whoever asks for more than it reads waits for itself, and
        # whoever asks for much work lets others have theirs in between.
        if self.state is State.CLOSED:
            return True
        if self.outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            self.relay.flow.over_mark(self.outbox, self.gate)
        if self.relay.seconds() >= self._turn_ends_s:
            self.gate.hold(Reason.TURN)
            self.connection.next_turn(self.gate)
        return self.gate.held

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
            relay.registry.release(self, self._name)
            stayed_s = relay.wall_clock() - self.connected_s
            relay.console.departed(self._name.shown, self.peer, stayed_s, why)
        elif why not in ("end of input", "the connection was closed"):
            relay.console.turned_away(self.peer, why)
