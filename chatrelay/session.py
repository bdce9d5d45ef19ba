"""
One client's conversation: not yet named, then named, then closed.

A session is handed runs and lines and decides what they mean.  It knows no transport: what it
asks of one is `chatrelay.interfaces.Connection` (docs/protocol.rst).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from chatrelay import wire
from chatrelay.claims import Grant
from chatrelay.commands import VERBS
from chatrelay.console import Peer
from chatrelay.errors import (
    BadLine,
    Busy,
    LineTooLong,
    NameInUse,
    NotAllowed,
    NotNamed,
    RateLimited,
    Refusal,
    TooManyClients,
    UnknownCommand,
)
from chatrelay.flow import Backlog
from chatrelay.interfaces import Connection
from chatrelay.leaving import Leaver
from chatrelay.lines import Block, Overlong
from chatrelay.names import Name
from chatrelay.naming import claim_on_first_line
from chatrelay.outcomes import note_sent
from chatrelay.rates import take
from chatrelay.relay import Relay
from chatrelay.sending import send, send_confirmed, send_run
from chatrelay.state import State

_MINUTE_S = 60.0
_TOO_MANY_NAMES = "You asked for many other names in the last minute; wait a little."
# A long answer looks this often whether it should wait.
_LINES_BETWEEN_CHECKS = 256


class Session(Leaver):
    """
    One client.

    :ivar is_confidential: whether nobody can read what travels on its connection.
    :ivar awaits_decision: whether a claim, a registration, or what a log holds, is awaited.
    """

    __slots__ = (
        "_answering",
        "_names_full_s",
        "_refused_first_lines",
        "_turn_ends_s",
        "awaits_decision",
        "is_confidential",
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
        super().__init__(relay, connection, outbox, peer)
        self.is_confidential = is_confidential
        self.awaits_decision = False
        self._refused_first_lines = 0
        self._names_full_s = 0.0
        self._answering: tuple[Iterator[bytes], bytes] | None = None
        self._turn_ends_s = 0.0
        relay.sessions[self] = None
        relay.statistics.connections += 1
        relay.admission.add_unnamed(self)

    # What comes from the client.

    def turn_begins(self, received_bytes: int, turn_s: float) -> None:
        """
        Something was read, or what was held goes on.

        :param turn_s: what it gets of the turn, `Limits.turn_s` at most.
        """
        now_s = self.relay.seconds()
        self.served_s = now_s
        self._turn_ends_s = now_s + turn_s
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

    def begin_answer(self, lines: Iterable[bytes], ref: bytes) -> None:
        """
        Have an answer written as fast as it is read, behind one that is not at its end.

        :param lines: without tags and ends; an empty one is not written, and stands for work
            that had nothing to show.
        :param ref: what they carry.
        """
        if self._answering is not None:
            before, ref = self._answering
            lines = chain(before, lines)
        self._answering = (iter(lines), ref)

    def go_on(self) -> None:
        """Write more of a command's answer: to its end, or until the session must wait."""
        if self._answering is None:
            return
        lines, ref = self._answering
        try:
            for count, line in enumerate(lines, 1):
                if line:
                    self.answer(line, ref)
                if count % _LINES_BETWEEN_CHECKS == 0 and self._check_share():
                    return
        except Refusal as refusal:
            self.refuse(refusal, ref)
        self._answering = None
        self.hold_if_over(self)

    # What the modules that serve its lines ask for.

    @property
    def is_operator(self) -> bool:
        """Whether its client has shown that it is an operator."""
        return self.is_named and self.grant.is_proven and self.name.key in self.relay.operators

    def refuse(self, refusal: Refusal, ref: bytes) -> None:
        """Answer with a refusal; the third of a first line closes."""
        self.answer(wire.error_line(refusal), ref)
        self.relay.statistics.refusals[refusal.code] += 1
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

    def count_name(self, name: Name) -> None:
        """
        It asks for another name.

        :raises RateLimited: it has asked for as many as it may in a minute.
        """
        most = self.relay.limits.names_per_min
        full_s = take(self._names_full_s, self.relay.seconds(), most, _MINUTE_S) if most else 0.0
        if full_s is None:
            self.relay.console.refused(self.peer, "too many names for one client")
            raise RateLimited(name.shown, sentence=_TOO_MANY_NAMES)
        self._names_full_s = full_s

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
        self.ask_if_silent(b"ping" in caps)
        if self.state is State.NAMED:
            self.relay.registry.renew_routes(self.name.key)
            if self.mailbox is not None:
                self.mailbox.reading.caps_changed()

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
        if verb.for_operators and not self.is_operator:
            raise NotAllowed
        self.begin_answer(verb.answer(self, command.arguments, ref), ref)
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

    def _leave(self, why: str) -> None:
        self._answering = None
        super()._leave(why)
