"""
Senders who say a burst each, again and again, as fast as all members hear it.

A relay without back-pressure cuts off members who fall behind, or loses what they should
hear.  So there is one pace for all relays: of the bursts of each sender that are underway, two or
another number, the first has to be heard by all members before there is one more.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

from bench.naming import BrokenTrafficError
from bench.rooms.dialects import RoomDialect
from bench.rooms.party import Party, burst_of, delivered_bytes

_PIECE_BYTES = 256 * 1024
_EVENTS = 4096
# Nothing may come after the last message; it is waited for this long.
_QUIET_S = 0.02
_STALLED_S = 20.0


class Waves:
    """
    The traffic of a party.  A wave is a burst of each sender.

    :ivar heard: what each member got, while it was to be kept.
    """

    def __init__(
        self,
        dialect: RoomDialect,
        party: Party,
        ends: Sequence[socket.socket],
        size: int,
        underway: int = 2,
    ) -> None:
        """
        Prepare.

        :param ends: of all members, who have joined.
        :param size: bytes in each text.
        :param underway: so many waves; with one, relays wait for the generator, but write
            nobody two bursts at once.
        """
        self.heard: list[bytearray] = []
        self._underway = underway
        self._ping, self._pong = dialect.ping, dialect.pong
        each = delivered_bytes(party, dialect, size)
        self._poller = select.epoll()
        self._ends = {end.fileno(): end for end in ends}
        self._receive = {number: end.recv_into for number, end in self._ends.items()}
        self._places = {number: place for place, number in enumerate(self._ends)}
        # Bytes that are still to come of the first wave underway; less than none where some of
        # the next one have come already.
        self._due = dict.fromkeys(self._ends, 0)
        self._in_wave = {
            number: party.heard_by(place) * each for number, place in self._places.items()
        }
        self._bursts = {
            number: memoryview(burst_of(party, dialect, place, size))
            for number, place in self._places.items()
            if party.is_sender(place)
        }
        self._unsent: dict[int, memoryview] = {}
        for number, end in self._ends.items():
            self._poller.register(number, select.EPOLLIN)
            _ack_at_once(end)

    def close(self) -> None:
        """Leave the connections alone from now on."""
        self._poller.close()

    def run(self, *, least: int = 1, seconds: float = 0.0, keep: bool = False) -> tuple[int, float]:
        """
        Begin waves for so long, and see each of them heard by all.

        :param least: so many in any case.
        :param keep: whether to keep what is heard.
        :returns: how many waves there were, and the seconds they took.
        :raises BrokenTrafficError: a connection was closed, too much or nothing more came.
        """
        self.heard = [bytearray() for _ in self._ends] if keep else []
        began_s = time.perf_counter()
        begun = heard_by_all = 0
        try:
            while True:
                while begun < heard_by_all + self._underway and (
                    begun < least or time.perf_counter() < began_s + seconds
                ):
                    self._begin_wave()
                    begun += 1
                if begun == heard_by_all:
                    break
                self._hear_wave()
                heard_by_all += 1
            took_s = time.perf_counter() - began_s
            self._check_surplus()
        except OSError as error:
            raise BrokenTrafficError(f"the relay cut a connection: {error}") from None
        return heard_by_all, took_s

    def _begin_wave(self) -> None:
        for number, burst in self._bursts.items():
            left = self._unsent.get(number)
            if left is None:
                self._send(number, burst)
            else:
                self._unsent[number] = memoryview(bytes(left) + bytes(burst))

    def _send(self, number: int, data: memoryview) -> None:
        try:
            count = self._ends[number].send(data)
        except BlockingIOError:
            count = 0
        if count < len(data):
            if number not in self._unsent:
                self._poller.modify(number, select.EPOLLIN | select.EPOLLOUT)
            self._unsent[number] = data[count:]
        elif self._unsent.pop(number, None) is not None:
            self._poller.modify(number, select.EPOLLIN)

    # One function for all: a call for each read would be much of its time.
    def _hear_wave(self) -> None:
        """Receive until every member has heard the wave that is the first underway."""
        poll, due, heard, receive = self._poller.poll, self._due, self.heard, self._receive
        bursts, buffer = self._bursts, bytearray(_PIECE_BYTES)
        for number, size in self._in_wave.items():
            due[number] += size
        unfinished = sum(1 for left in due.values() if left > 0)
        moved_s = time.perf_counter()
        while unfinished:
            events = poll(1.0, _EVENTS)
            if events:
                moved_s = time.perf_counter()
            elif time.perf_counter() - moved_s > _STALLED_S:
                missing = sum(left for left in due.values() if left > 0)
                raise BrokenTrafficError(f"{missing} bytes never came")
            for number, event in events:
                if event & ~select.EPOLLOUT:
                    count = receive[number](buffer)
                    if not count:
                        raise BrokenTrafficError("the relay closed a member's connection")
                    if number in bursts:
                        _ack_at_once(self._ends[number])
                    if heard:
                        heard[self._places[number]] += buffer[:count]
                    left = due[number]
                    due[number] = left - count
                    if 0 < left <= count:
                        unfinished -= 1
                if event & select.EPOLLOUT:
                    self._send(number, self._unsent[number])

    def _check_surplus(self) -> None:
        """See that nothing came or comes beyond what was due, but for the relay's pings."""
        while events := self._poller.poll(_QUIET_S, _EVENTS):
            for number, _ in events:
                data = self._ends[number].recv(_PIECE_BYTES)
                if not data:
                    raise BrokenTrafficError("the relay closed a member's connection")
                self._due[number] -= len(data)
        for number, left in self._due.items():
            if left and -left == len(self._ping):
                self._ends[number].send(self._pong)
                self._due[number] = 0
            elif left:
                raise BrokenTrafficError(f"a member got {-left} bytes too many")


def _ack_at_once(end: socket.socket) -> None:
    """
    Have the kernel ack at once what comes, until something is sent.

    Who has sent something puts acks off for 40 ms, and a relay that leaves Nagle's algorithm on
    (ngIRCd) would wait for them in each wave.
    """
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
