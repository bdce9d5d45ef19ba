"""What a generator measures of a relay's rooms."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.naming import BrokenTrafficError, Door, close_all
from bench.process import Used
from bench.rooms.deaf import Deaf
from bench.rooms.dialects import Lines, RoomDialect
from bench.rooms.joining import gather, read_all
from bench.rooms.paced import Paced, percentile_us
from bench.rooms.party import Party, verify
from bench.rooms.waves import Waves

# A wave may take longer than all the time there is.
_LEAST_WAVES = 3
_WARM_UP_LINES = 20
# Until the relay has noticed who went.
_NOTICED_S = 0.2


def fan_out(dialect: RoomDialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Verify one wave, then count deliveries for about ``seconds``.

    The task has the ``party``, as the arguments of `Party`, ``size``, ``at_once``, and how many
    waves are ``underway``.
    """
    party = Party(*task["party"])
    ends = gather(door, dialect, party, task["at_once"])
    waves = Waves(dialect, party, ends, task["size"], task["underway"])
    waves.run(keep=True)
    verify(party, dialect, task["size"], [bytes(data) for data in waves.heard])
    waves.run(seconds=task["seconds"] / 4)
    used = Used(task["pid"])
    count, took_s = waves.run(least=_LEAST_WAVES, seconds=task["seconds"])
    server_s, shares = used.since(took_s)
    waves.close()
    close_all(ends)
    deliveries = count * party.deliveries
    return {
        "verified": party.deliveries,
        "deliveries": deliveries,
        "waves": count,
        "seconds": took_s,
        "rate": deliveries / took_s,
        "server_cpu_s": server_s,
        **shares,
        "cpu_s_per_million": server_s / deliveries * 1e6,
    }


def quiet(dialect: RoomDialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Say ``lines``, one each ``every_s`` seconds, and see how late the last member hears them.

    The task has the ``party``, ``size`` and ``at_once``, too.
    """
    party = Party(*task["party"])
    ends = gather(door, dialect, party, task["at_once"])
    paced = Paced(dialect, party, ends, task["size"])
    paced.say(_WARM_UP_LINES, task["every_s"])
    used, began_s = Used(task["pid"]), time.perf_counter()
    lateness = paced.say(task["lines"], task["every_s"])
    _, shares = used.since(time.perf_counter() - began_s)
    close_all(ends)
    return {
        "lines": len(lateness.last),
        "last_p50_us": percentile_us(lateness.last, 50),
        "last_p99_us": percentile_us(lateness.last, 99),
        **shares,
    }


def beside_a_deaf_one(dialect: RoomDialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    As `quiet`, in ``turns`` without and with a member who has stopped reading.

    The task has ``deaf_first`` beside that: which of the two begins.
    """
    if not isinstance(dialect, Lines):
        raise BrokenTrafficError("it is not known how to fill a member who does not read")
    party = Party(*task["party"])
    ends = gather(door, dialect, party, task["at_once"])
    paced = Paced(dialect, party, ends, task["size"])
    paced.say(_WARM_UP_LINES, task["every_s"])
    lateness: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * task["turns"]):
        with_deaf = (turn % 2 == 0) == task["deaf_first"]
        deaf = Deaf(door, dialect, party.room_of(0)) if with_deaf else None
        _read_notices(ends, dialect)
        # What came before has taken caches from all.
        paced.say(_WARM_UP_LINES, task["every_s"])
        lateness[with_deaf] += paced.say(task["lines"], task["every_s"]).each
        if deaf is not None:
            if not deaf.is_there:
                raise BrokenTrafficError("who does not read was cut off too early")
            deaf.leave()
            _read_notices(ends, dialect)
    close_all(ends)
    without, beside = sorted(lateness[False]), sorted(lateness[True])
    return {
        "heard": len(beside),
        "without_p50_us": percentile_us(without, 50),
        "without_p99_us": percentile_us(without, 99),
        "beside_p50_us": percentile_us(beside, 50),
        "beside_p99_us": percentile_us(beside, 99),
        "without_most_us": without[-1] * 1e6,
        "beside_most_us": beside[-1] * 1e6,
        "ratio": percentile_us(beside, 99) / percentile_us(without, 99),
    }


def _read_notices(ends: Sequence[socket.socket], dialect: RoomDialect) -> None:
    time.sleep(_NOTICED_S)
    read_all(ends, dialect)


MEASURING: dict[str, Callable[[RoomDialect, Door, dict[str, Any]], dict[str, Any]]] = {
    "fan_out": fan_out,
    "quiet": quiet,
    "beside_a_deaf_one": beside_a_deaf_one,
}
