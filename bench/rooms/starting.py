"""Relays that are begun anew, for each measurement of their rooms."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from bench.generating import generate
from bench.relay import Relay
from bench.rooms.party import FAN_OUT, PACED, Party, large_and_small

SIZE = 64
_QUIET_EVERY_S = 0.01
_BUSIER_EVERY_S = 0.004
_TURNS = 3


def measure_rooms(
    work: str, relay: Relay, number: int, *, seconds: float, members: int
) -> dict[str, Any]:
    """
    Measure a relay's rooms once.

    :param number: of the round, which decides what comes first where two are compared.
    :param seconds: about how long a measurement lasts.
    :param members: of all rooms together, in "rooms".
    :returns: what `bench.rooms.measuring` found.
    """
    if work == "rooms":
        return _large_and_small(relay, number, seconds=seconds, members=members)
    if work in FAN_OUT:
        return _generate(relay, FAN_OUT[work], kind="fan_out", seconds=seconds)
    if work == "quiet":
        lines = round(4 * seconds / _QUIET_EVERY_S)
        return _generate(relay, PACED, kind="quiet", lines=lines, every_s=_QUIET_EVERY_S)
    return _generate(
        relay,
        PACED,
        kind="beside_a_deaf_one",
        lines=round(seconds / _BUSIER_EVERY_S),
        every_s=_BUSIER_EVERY_S,
        turns=_TURNS,
        deaf_first=number % 2 == 0,
    )


def _large_and_small(relay: Relay, number: int, *, seconds: float, members: int) -> dict[str, Any]:
    large, small = large_and_small(members)
    turns = [("large", large), ("small", small)]
    found: dict[str, Any] = {}
    for which, party in turns if number % 2 == 0 else turns[::-1]:
        one = _generate(relay, party, kind="fan_out", seconds=seconds)
        if "error" in one:
            return {"error": f"{which}: {one['error']}"}
        found |= {f"{which}_{key}": value for key, value in one.items()}
    found["ratio"] = found["small_cpu_s_per_million"] / found["large_cpu_s_per_million"]
    found["time_ratio"] = found["large_rate"] / found["small_rate"]
    return found


def _generate(relay: Relay, party: Party, **task: Any) -> dict[str, Any]:  # noqa: ANN401
    served = relay.start()
    try:
        return generate(
            relay, served, party=astuple(party), size=SIZE, at_once=relay.at_once, **task
        )
    finally:
        served.end()
