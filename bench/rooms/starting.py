"""Relays that are begun anew, for each measurement of their rooms."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from bench.generating import generate_anew
from bench.relay import Relay
from bench.rooms.party import FAN_OUT, PACED, Party, in_rooms_of

SIZE = 64
_QUIET_EVERY_S = 0.01
_BUSIER_EVERY_S = 0.004
# Short ones, in turn, share what else happens on the machine.
_TURNS = 8
_OF_SECONDS = 0.5
_SMALL, _SMALLER = 10, 5


def measure_rooms(
    work: str, relay: Relay, number: int, *, seconds: float, members: int
) -> dict[str, Any]:
    """
    Measure a relay's rooms once.

    :param number: of the round, which decides what comes first where two are compared.
    :param seconds: about how long a measurement lasts; twice that where ratios are to be exact.
    :param members: of all rooms together, in "rooms".
    :returns: what `bench.rooms.measuring` found.
    """
    if work == "rooms":
        return _large_and_small(relay, number, seconds=seconds, members=members)
    if work in FAN_OUT:
        return _generate(relay, FAN_OUT[work], kind="fan_out", seconds=seconds, underway=2)
    if work == "quiet":
        lines = round(4 * seconds / _QUIET_EVERY_S)
        return _generate(relay, PACED, kind="quiet", lines=lines, every_s=_QUIET_EVERY_S)
    return _generate(
        relay,
        PACED,
        kind="beside_a_deaf_one",
        lines=round(_OF_SECONDS * seconds / _BUSIER_EVERY_S),
        every_s=_BUSIER_EVERY_S,
        turns=_TURNS,
        deaf_first=number % 2 == 0,
    )


def _large_and_small(relay: Relay, number: int, *, seconds: float, members: int) -> dict[str, Any]:
    turns = [("large", members), ("small", _SMALL), ("smaller", _SMALLER)]
    found: dict[str, Any] = {}
    for which, of in turns if number % 2 == 0 else turns[::-1]:
        party = in_rooms_of(of, members)
        one = _generate(relay, party, kind="fan_out", seconds=2 * seconds, underway=1)
        if "error" in one:
            return {"error": f"rooms of {of}: {one['error']}"}
        found |= {f"{which}_{key}": value for key, value in one.items()}
    large, small, smaller = (found[f"{which}_cpu_s_per_million"] for which, _ in turns)
    # A line costs its being read, once, and its being written to each other member.
    written = ((_SMALL - 1) * small - (_SMALLER - 1) * smaller) / (_SMALL - _SMALLER)
    return {**found, "ratio": smaller / large, "written_ratio": written / large}


def _generate(relay: Relay, party: Party, **task: Any) -> dict[str, Any]:  # noqa: ANN401
    return generate_anew(relay, party=astuple(party), size=SIZE, at_once=relay.at_once, **task)
