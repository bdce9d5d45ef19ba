"""
Several connections that hold one owned name, as one recipient: each gets every message.

What one of them sends is shown to those of the others that have the cap ``echo``
(docs/protocol.rst, *Several connections*).
"""

from __future__ import annotations

from collections.abc import Iterator

from chatrelay.interfaces import Device, Recipient
from chatrelay.names import Name
from chatrelay.stamps import Stamp


class Devices:
    """The connections of one name, in the order they came; never none."""

    __slots__ = ("_devices",)

    def __init__(self, first: Device, second: Device) -> None:
        self._devices: dict[Device, None] = {first: None, second: None}
        self.renew()

    def __iter__(self) -> Iterator[Device]:
        """Each of them, as of now."""
        return iter(list(self._devices))

    def __len__(self) -> int:
        return len(self._devices)

    def add(self, device: Device) -> None:
        """One more came."""
        self._devices[device] = None
        self.renew()

    def remove(self, device: Device) -> None:
        """One of them left."""
        del self._devices[device]
        device.is_echoed = False
        self.renew()

    def renew(self) -> None:
        """One of them has other caps."""
        echoing = [device for device in self._devices if device.wants_echo]
        for device in self._devices:
            device.is_echoed = any(other is not device for other in echoing)

    # The recipient.

    @property
    def name(self) -> Name:
        """The name, as the one that was here first writes it."""
        return next(iter(self._devices)).name

    @property
    def account(self) -> int:
        """The number of the name's account."""
        return next(iter(self._devices)).account

    @property
    def connected_s(self) -> float:
        """Since when one of them is here."""
        return min(device.connected_s for device in self._devices)

    @property
    def takes_runs(self) -> bool:
        """Whether all of them take runs."""
        return all(device.takes_runs for device in self._devices)

    def idle_s(self) -> float:
        """For how long nothing came from any of them."""
        return min(device.idle_s() for device in self._devices)

    def includes(self, other: Recipient) -> bool:
        """Whether another recipient is one of them."""
        return other in self._devices or other is self

    def deliver(
        self,
        sender: Recipient,
        text: bytes,
        stamp: Stamp | None = None,
        asker: Recipient | None = None,
    ) -> None:
        """Hand one message to each, under one id."""
        first, *others = self._devices
        stamp = stamp or first.new_stamp()
        first.deliver(sender, text, stamp, asker)
        for device in others:
            device.deliver_copy(sender, text, stamp, asker)

    def deliver_run(self, sender: Recipient, lines: bytes, count: int) -> int:
        """Hand a run to each."""
        for device in self._devices:
            device.deliver_run(sender, lines, count)
        return 0
