"""
Everybody who is connected with a name, for what operators say to all (docs/operations.rst).

What is written alike is encoded once.  Who is written out of a log gets it there, in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatrelay.interfaces import Device
from chatrelay.mailbox.entries import Kind, Run
from chatrelay.rooms.audience import MajorityGate, Writing
from chatrelay.stamps import Stamp
from chatrelay.wire import EVERYONE

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.session import Session


class Everyone:
    """Everybody who is connected with a name."""

    def __init__(self, relay: Relay) -> None:
        """Begin without having said anything."""
        self._relay = relay
        self._gate = MajorityGate()

    def say(self, sender: Session, text: bytes) -> None:
        """
        Pass on a message to everybody, and to its sender's own connections if they have ``echo``.

        The sender is held while more than half of all connections are over their marks.

        :param text: clean text, not empty, as long as a line at most.
        """
        relay, own_key = self._relay, sender.name.key
        mailboxes, most_bytes = relay.mailboxes, relay.limits.high_water_bytes
        stamp, party = Stamp(relay), EVERYONE + b"%" + sender.name.shown
        line = b"%" + party + b"%" + text + b"\n"
        run: Run | None = None
        encoded: dict[Writing, bytes] = {}
        self._gate.has_listeners(relay.registry.client_count)
        for key, devices in relay.registry.held():
            mailbox = None if mailboxes is None or key == own_key else mailboxes.find(key)
            if mailbox is not None and not mailbox.reading.is_live:
                if run is None:
                    numbers = (stamp.number, 1, stamp.time_ms)
                    run = Run(Kind.RECEIVED, *numbers, party, sender.account, b"", text)
                # Nobody blocks everybody.  One whose log is full does not get it.
                mailbox.take_said(EVERYONE, run)
                continue
            for device in devices:
                if key == own_key and not device.wants_echo:
                    continue
                writing = Writing.of(device)
                data = encoded.get(writing)
                if data is None:
                    data = encoded[writing] = writing.encode(line, stamp, relay)
                self._write(device, data, most_bytes)
        self._gate.hold_speaker(sender.gate, sender.outbox)

    def _write(self, device: Device, data: bytes, most_bytes: int) -> None:
        outbox = device.outbox
        outbox.write(data)
        device.messages_out += 1
        if outbox.unsent_bytes > most_bytes:
            self._relay.flow.over_mark(outbox, self._gate)
