"""
What one client is sent: messages as it asked for them, and the relay's own lines.

A receiver is what the registry holds for a client; `chatrelay.session` adds the other
half, what comes from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatrelay.flow import Backlog, Gate
from chatrelay.interfaces import Recipient
from chatrelay.mailbox.entries import Run
from chatrelay.names import Name
from chatrelay.relay import Relay
from chatrelay.stamps import Stamp

_CRLF = b"\r\n"


class Receiver:
    """
    One client, as far as it is sent something.

    :ivar relay: what it shares with all others.
    :ivar outbox: what is to be sent to it.
    :ivar gate: whether it is read; held when it sends more than others take.
    :ivar eol: how lines to it end.
    :ivar caps: what it asked to have added.
    :ivar connected_s: since when it is connected, in seconds since the epoch.
    :ivar heard_s: when something last came from it, by the clock of the relay.
    :ivar messages_out: messages delivered to it.
    :ivar is_echoed: whether another connection of its name is shown what it sends.
    """

    __slots__ = (
        "_name",
        "caps",
        "connected_s",
        "eol",
        "gate",
        "heard_s",
        "is_echoed",
        "messages_out",
        "outbox",
        "relay",
    )

    def __init__(self, relay: Relay, outbox: Backlog, gate: Gate) -> None:
        """Begin without a name."""
        self.relay = relay
        self.outbox = outbox
        self.gate = gate
        self.eol = _CRLF
        self.caps: frozenset[bytes] = frozenset()
        self.connected_s = relay.wall_clock()
        self.heard_s = relay.seconds()
        self.messages_out = 0
        self.is_echoed = False
        self._name: Name | None = None

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

    def includes(self, other: object) -> bool:
        """Whether another recipient is this one."""
        return other is self

    def deliver(
        self,
        sender: Recipient,
        text: bytes,
        stamp: Stamp | None = None,
        asker: Recipient | None = None,
    ) -> None:
        """Write one message."""
        self.deliver_copy(sender, text, stamp or self.new_stamp(), asker)
        self.relay.console.relayed(sender.name.shown, self.name.shown, text)

    def deliver_copy(
        self, sender: Recipient, text: bytes, stamp: Stamp, asker: Recipient | None
    ) -> None:
        """Write a message that the console has shown already."""
        self._write_message(sender, b"", text, stamp)
        self.messages_out += 1
        self.hold_if_over(asker or sender)

    def echo(self, sender: Recipient, target: bytes, text: bytes, stamp: Stamp) -> None:
        """Write what another connection of the same name sent."""
        self._write_message(sender, b"to=" + target, text, stamp)
        self.hold_if_over(sender)

    def new_stamp(self) -> Stamp:
        """Make the stamp of one message."""
        return Stamp(self.relay)

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> int:
        """Write what one sender wrote to it in one run; not for a client with stamps."""
        outbox = self.outbox
        outbox.write(lines if self.eol == b"\n" else lines.replace(b"\n", self.eol))
        self.messages_out += count
        # As `hold_if_over`, which would be called once for each recipient of each read.
        if outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            self.hold_if_over(sender)
        if self.relay.console.verbose:
            for line in lines.splitlines():
                text = line[len(sender.name.shown) + 2 :]
                self.relay.console.relayed(sender.name.shown, self.name.shown, text)
        return 0

    def deliver_kept(self, run: Run, *, is_again: bool) -> None:
        """
        Write messages out of the log of its name.

        :param is_again: whether they may have been sent before to who had to ack them.
        """
        self.messages_out += run.length
        prefix = b"%" + run.party + b"%"
        if self.takes_runs and not is_again:
            texts = run.texts.replace(b"\n", self.eol + prefix)
            self.outbox.write(prefix + texts + self.eol)
            return
        tags = [b"time=" + self.relay.timestamp(run.time_ms)] if b"time" in self.caps else []
        if is_again:
            tags.append(b"again")
        eol = self.eol
        if b"id" not in self.caps:
            head = _tagged(tags, prefix)
            self.outbox.write(head + run.texts.replace(b"\n", eol + head) + eol)
            return
        id_prefix, between = self.relay.ids.prefix, b";".join([b"", *tags]) + b" " + prefix
        lines = [
            b"@id=%b%x%b%b%b" % (id_prefix, message_id, between, text, eol)
            for message_id, text in enumerate(run.texts.split(b"\n"), run.first_id)
        ]
        self.outbox.write(b"".join(lines))

    def deliver_receipts(self, run: Run) -> None:
        """Tell what was acked of what its name has sent, if it wants to know."""
        if b"receipts" in self.caps:
            for _, ref, message_id in run.entries():
                self.answer(b"!acked " + run.party + b" id=" + message_id, ref)

    def presence_changed(self, key: bytes, written: bytes, online: bool) -> None:
        """Tell of a watched name that came or went, if it may know."""
        if not self.relay.may_see(self.name.key, key):
            return
        self.answer((b"!online " if online else b"!offline ") + written, b"")
        # Nobody waits for a watcher; one that does not read is ended when its time is up.
        self.hold_if_over(None)

    def answer(self, line: bytes, ref: bytes) -> None:
        """
        Write a line of the relay's own to the client.

        :param ref: what the client's line carried; empty if nothing.
        """
        if ref:
            line = b"@ref=" + ref + b" " + line
        self.outbox.write(line + self.eol)

    def answer_sent(self, target: bytes, ref: bytes) -> None:
        """What it sent was written to an open connection."""
        self.answer(b"!sent " + target, ref)

    def answer_stored(self, target: bytes, first_id: int, refs: Sequence[bytes]) -> None:
        """
        What it sent is in the log of its recipient.

        :param first_id: of the first message; each has one more than the one before.
        :param refs: one for each, empty if it had none.
        """
        if refs[0]:
            prefix, eol = self.relay.ids.prefix, self.eol
            lines = [
                b"@ref=%b !stored %b id=%b%x%b" % (ref, target, prefix, message_id, eol)
                for message_id, ref in enumerate(refs, first_id)
            ]
            self.outbox.write(b"".join(lines))
            return
        for message_id in range(first_id, first_id + len(refs)):
            self.answer(b"!stored " + target + b" id=" + self.relay.ids.write(message_id), b"")

    def answer_acked(self, message_id: int, ref: bytes) -> None:
        """What it said that it has read will not come again."""
        self.answer(b"!acked " + self.relay.ids.write(message_id), ref)

    def tell_acked(self, target: bytes, message_id: int, ref: bytes) -> None:
        """Tell that a message was acked, if it wants to know."""
        if b"receipts" in self.caps:
            self.answer(b"!acked " + target + b" id=" + self.relay.ids.write(message_id), ref)

    def answer_lines(self, lines: list[bytes], ref: bytes) -> None:
        """
        Write an answer of several lines at once: nothing else comes between them.

        :param ref: as for `answer`; the stamps of messages stand behind it.
        """
        if ref:
            tag = b"@ref=" + ref
            lines = [
                tag + (b";" + line[1:] if line.startswith(b"@") else b" " + line) for line in lines
            ]
        self.outbox.write(self.eol.join([*lines, b""]))

    @property
    def takes_runs(self) -> bool:
        """Whether it is written messages as they are, without anything of their own."""
        return b"id" not in self.caps and b"time" not in self.caps

    @property
    def wants_echo(self) -> bool:
        """Whether it is to be shown what other connections of its name send."""
        return b"echo" in self.caps

    def hold_if_over(self, sender: Recipient | None) -> None:
        """
        Hold who has it written more than it takes.

        :param sender: who has: itself, where it does not read its answers; ``None`` for one that
            is no connection.
        """
        if self.outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            gate = sender.gate if isinstance(sender, Receiver) else None
            self.relay.flow.over_mark(self.outbox, gate)

    def _write_message(self, sender: Recipient, tag: bytes, text: bytes, stamp: Stamp) -> None:
        line = b"%" + sender.name.shown + b"%" + text + self.eol
        if tag or not self.takes_runs:
            tags = []
            if b"id" in self.caps:
                tags.append(b"id=" + stamp.id)
            if b"time" in self.caps:
                tags.append(b"time=" + stamp.time)
            if tag:
                tags.append(tag)
            line = _tagged(tags, line)
        self.outbox.write(line)


def _tagged(tags: list[bytes], line: bytes) -> bytes:
    return b"@" + b";".join(tags) + b" " + line
