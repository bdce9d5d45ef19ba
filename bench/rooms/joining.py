"""
Members that come to their rooms.

Whoever is there is told of each who comes, where relays tell it; so everybody reads all
the time.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from bench.dialects import Step
from bench.naming import BrokenTrafficError, Door, in_clear, name_all
from bench.rooms.dialects import RoomDialect
from bench.rooms.party import Party

_RECEIVE_BYTES = 256 * 1024
_EVENTS = 4096
_ANSWERED_S = 200.0
_REFUSALS = (b"!error ", b"-ERR ")


def gather(
    door: Door, dialect: RoomDialect, party: Party, at_once: int = 32
) -> list[socket.socket]:
    """
    Connect, be named, join, and read what that brings.

    :param at_once: how many are on their way.
    :returns: the connections of all members, room by room, with nothing left to be read.
    :raises BrokenTrafficError: a connection was closed, something refused or never answered.
    """
    ends = [in_clear(end) for end in name_all(door, dialect, party.names, at_once)]
    take_steps(ends, lambda member: dialect.join(party.room_of(member)), at_once)
    # Each has been told of those who came later.
    read_all(ends, dialect, at_once)
    return ends


def read_all(ends: Sequence[socket.socket], dialect: RoomDialect, at_once: int = 32) -> None:
    """Read everything that was sent to these clients until now."""
    take_steps(ends, lambda _: dialect.is_all_read(), at_once)


def take_steps(ends: Sequence[socket.socket], step: Callable[[int], Step], at_once: int) -> None:
    """
    Let each client take one step, while all read.

    :param step: of the client with this number.
    :param at_once: how many are on their way.
    """
    poller = select.epoll()
    numbers = {end.fileno(): number for number, end in enumerate(ends)}
    steps = [step(number) for number in range(len(ends))]
    # What has come of the answers: their ends may come in pieces.
    answers: dict[int, bytes] = {}
    waiting = deque(range(len(ends)))
    ends_s = time.monotonic() + _ANSWERED_S
    try:
        for end in ends:
            poller.register(end, select.EPOLLIN)
        while waiting or answers:
            while waiting and len(answers) < at_once:
                number = waiting.popleft()
                ends[number].send(steps[number].sends)
                answers[number] = b""
            for fileno, _ in poller.poll(1.0, _EVENTS):
                number = numbers[fileno]
                data = ends[number].recv(_RECEIVE_BYTES)
                if not data:
                    raise BrokenTrafficError("the relay closed a member's connection")
                if number in answers:
                    _take(answers, number, data, steps[number])
            if time.monotonic() > ends_s:
                left = len(waiting) + len(answers)
                raise BrokenTrafficError(f"{left} of {len(ends)} wait for {_ANSWERED_S:.0f} s")
    except OSError as error:
        raise BrokenTrafficError(f"joining: {error}") from None
    finally:
        poller.close()


def _take(answers: dict[int, bytes], number: int, data: bytes, step: Step) -> None:
    data = answers[number] + data
    if step.marker in data and data.endswith(step.end):
        del answers[number]
        return
    if any(refusal in data for refusal in _REFUSALS):
        raise BrokenTrafficError(f"a member was told {data[-200:]!r}")
    answers[number] = data[-_RECEIVE_BYTES:]
