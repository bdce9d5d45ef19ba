"""
What one client is sent: messages as it asked for them, and the relay's own lines.

A receiver is what the registry holds for a client; `chatrelay.session` adds the other
half, what comes from it.
"""

from __future__ import annotations

from chatrelay import wire
from chatrelay.flow import Backlog, Gate
from chatrelay.interfaces import Recipient
from chatrelay.names import Name
from chatrelay.relay import Relay

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
    """

    __slots__ = (
        "_name",
        "caps",
        "connected_s",
        "eol",
        "gate",
        "heard_s",
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

    def deliver(self, sender: Recipient, text: bytes) -> None:
        """Write one message."""
        line = b"%" + sender.name.shown + b"%" + text + self.eol
        if self._is_stamped:
            line = self._stamp() + line
        self.outbox.write(line)
        self.messages_out += 1
        self._hold_if_over(sender)
        self.relay.console.relayed(sender.name.shown, self.name.shown, text)

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> None:
        """Write what one sender wrote to it in one run; not for a client with stamps."""
        outbox = self.outbox
        outbox.write(lines if self.eol == b"\n" else lines.replace(b"\n", self.eol))
        self.messages_out += count
        # As `_hold_if_over`, which would be called once for each recipient of each read.
        if outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            self._hold_if_over(sender)
        if self.relay.console.verbose:
            for line in lines.splitlines():
                text = line[len(sender.name.shown) + 2 :]
                self.relay.console.relayed(sender.name.shown, self.name.shown, text)

    def presence_changed(self, written: bytes, online: bool) -> None:
        """Tell of a watched name that came or went."""
        self.answer((b"!online " if online else b"!offline ") + written, b"")
        # Nobody waits for a watcher; one that does not read is ended when its time is up.
        self._hold_if_over(None)

    def answer(self, line: bytes, ref: bytes) -> None:
        """
        Write a line of the relay's own to the client.

        :param ref: what the client's line carried; empty if nothing.
        """
        if ref:
            line = b"@ref=" + ref + b" " + line
        self.outbox.write(line + self.eol)

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

    def _hold_if_over(self, sender: Recipient | None) -> None:
        if self.outbox.unsent_bytes > self.relay.limits.high_water_bytes:
            gate = sender.gate if isinstance(sender, Receiver) else None
            self.relay.flow.over_mark(self.outbox, gate)

    def renew_routes(self) -> None:
        """Be found by the quick path, or not, by what its caps are now."""
        self.relay.registry.drop_routes(self.name)
        if not self._is_stamped:
            self.relay.registry.add_routes(self)
