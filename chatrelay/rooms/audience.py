"""
The connections of a room's members: what is said there is encoded once for all that are
written alike, and written to each.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Set
from typing import NamedTuple

from chatrelay.flow import Flow, Gate, Holder
from chatrelay.interfaces import Listener
from chatrelay.limits import Limits
from chatrelay.stamps import Clock, Stamp


class Writing(NamedTuple):
    """
    How a connection is written.

    :ivar eol: how lines to it end.
    :ivar has_id: whether messages to it have their ids,
    :ivar has_time: and their times.
    """

    eol: bytes
    has_id: bool
    has_time: bool

    @classmethod
    def of(cls, device: Listener) -> Writing:
        """How a connection is written now."""
        return cls(device.eol, b"id" in device.caps, b"time" in device.caps)

    def encode(self, lines: bytes, stamp: Stamp, clock: Clock) -> bytes:
        """
        Encode messages.

        :param lines: LF after each.
        :param stamp: theirs.
        """
        eol = self.eol
        if not (self.has_id or self.has_time):
            return lines if eol == b"\n" else lines.replace(b"\n", eol)
        time = b"time=" + stamp.time if self.has_time else b""
        if not self.has_id:
            head = b"@" + time + b" "
            return head + lines[:-1].replace(b"\n", eol + head) + eol
        id_prefix = clock.ids.prefix
        behind = b";" + time + b" " if time else b" "
        return b"".join(
            [
                b"@id=%b%x%b%b%b" % (id_prefix, message_id, behind, line, eol)
                for message_id, line in enumerate(lines[:-1].split(b"\n"), stamp.number)
            ]
        )


class _Speakers(Holder):
    """Those who wait until the room takes more."""

    def pause_reading(self) -> None:
        """Who speaks from now on is held, one by one."""

    def resume_reading(self) -> None:
        """They are read again, one by one."""


class MajorityGate(Gate):
    """The gate of a room: held while more than half of its listeners are over their marks."""

    __slots__ = ("_listener_count", "_over", "_speakers", "_spoken")

    def __init__(self) -> None:
        self._speakers = _Speakers()
        super().__init__(self._speakers)
        self._listener_count = 0
        self._over: set[Hashable] = set()
        # What waits for each of those who are held.
        self._spoken: dict[Gate, Hashable | None] = {}

    @property
    def held(self) -> bool:
        """Whether a listener who speaks is held; the speaker does not count."""
        return 2 * len(self._over) > max(0, self._listener_count - 1)

    def hold(self, holder: Hashable) -> bool:
        """A listener is over its mark; returns whether it was not before."""
        is_new = holder not in self._over
        self._over.add(holder)
        return is_new

    def release(self, holder: Hashable) -> None:
        """A listener is over its mark no more, or is gone."""
        self._over.discard(holder)
        self._look_again()

    def has_listeners(self, listener_count: int) -> None:
        """So many connections listen from now on, the speaker among them."""
        self._listener_count = listener_count
        self._look_again()

    def hold_speaker(self, speaker: Gate, backlog: Hashable | None) -> None:
        """
        Hold who has just spoken, if more than half of the others are over their marks.

        :param backlog: what waits for the speaker itself, which does not count; ``None`` if it
            does not listen.
        """
        if self._over and self._holds(backlog):
            speaker.hold(self._speakers)
            self._speakers.held_gates.add(speaker)
            self._spoken[speaker] = backlog

    def _holds(self, own: Hashable | None) -> bool:
        over_count = len(self._over) - (own in self._over)
        return 2 * over_count > max(0, self._listener_count - (own is not None))

    def _look_again(self) -> None:
        if 2 * (len(self._over) - 1) > self._listener_count:
            # Nobody is to be released, and many may be held: not with every one that has read.
            return
        for speaker, backlog in list(self._spoken.items()):
            if not self._holds(backlog):
                del self._spoken[speaker]
                self._speakers.held_gates.discard(speaker)
                speaker.release(self._speakers)


class Audience:
    """
    The connections of a room's members, by how each is written.

    :ivar gate: held while too many of them take too little.
    """

    __slots__ = ("_clock", "_flow", "_groups", "_limits", "_listener_count", "_writings", "gate")

    def __init__(self, limits: Limits, flow: Flow, clock: Clock) -> None:
        """Begin with nobody."""
        self.gate = MajorityGate()
        self._limits = limits
        self._flow = flow
        self._clock = clock
        self._groups: dict[Writing, dict[Listener, None]] = {}
        self._writings: dict[Listener, Writing | None] = {}
        self._listener_count = 0

    def place(self, device: Listener, *, is_live: bool) -> None:
        """
        A connection of a member came, or is written otherwise than before.

        :param is_live: whether it is written what is said; if not it reads that out of a log.
        """
        wanted = Writing.of(device) if is_live else None
        before = self._writings.get(device)
        self._writings[device] = wanted
        if before == wanted:
            return
        if before is not None:
            self._take_out(device, before)
        if wanted is None:
            self._listens_no_more(device)
            return
        self._groups.setdefault(wanted, {})[device] = None
        if before is None:
            self._listener_count += 1
            self.gate.has_listeners(self._listener_count)

    def remove(self, device: Listener) -> None:
        """A connection is gone, or its member."""
        writing = self._writings.pop(device, None)
        if writing is not None:
            self._take_out(device, writing)
            self._listens_no_more(device)

    def write(self, lines: bytes, count: int, stamp: Stamp, spared: Set[Listener]) -> None:
        """
        Write what was said.

        :param lines: as `Writing.encode` has it.
        :param count: how many.
        :param spared: who does not get it; they may be many.
        """
        most_bytes = self._limits.high_water_bytes
        for writing, devices in self._groups.items():
            data = writing.encode(lines, stamp, self._clock)
            for device in devices:
                if device in spared:
                    continue
                outbox = device.outbox
                outbox.write(data)
                device.messages_out += count
                if outbox.unsent_bytes > most_bytes:
                    self._flow.over_mark(outbox, self.gate)

    def write_back(
        self, devices: Iterable[Listener], lines: bytes, count: int, stamp: Stamp
    ) -> None:
        """Write to connections of who said it; those that are live have it by `write`."""
        for device in devices:
            if self._writings.get(device) is None:
                device.outbox.write(Writing.of(device).encode(lines, stamp, self._clock))
                device.messages_out += count
                if device.outbox.unsent_bytes > self._limits.high_water_bytes:
                    self._flow.over_mark(device.outbox, device.gate)

    def tell(self, line: bytes, spared: Collection[Listener] = ()) -> None:
        """
        Write a line of the relay's own.

        :param spared: who does not get it.
        """
        most_bytes = self._limits.high_water_bytes
        ended: dict[bytes, bytes] = {}
        for device in self._writings:
            if device in spared:
                continue
            data = ended.get(device.eol)
            if data is None:
                data = ended[device.eol] = line + device.eol
            outbox = device.outbox
            outbox.write(data)
            if outbox.unsent_bytes > most_bytes:
                # Nobody waits for who is only told something.
                self._flow.over_mark(outbox, None)

    def _take_out(self, device: Listener, writing: Writing) -> None:
        group = self._groups[writing]
        del group[device]
        if not group:
            del self._groups[writing]

    def _listens_no_more(self, device: Listener) -> None:
        self._listener_count -= 1
        device.outbox.held_gates.discard(self.gate)
        self.gate.has_listeners(self._listener_count)
        self.gate.release(device.outbox)
