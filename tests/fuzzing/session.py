"""
Whole conversations on any bytes: several clients of one relay, its store, time, and every way
that a connection ends.

An input is one byte of choices and steps; before each step stands the byte 0xFE, which is in no
UTF-8.  A step's first byte says which client does what, the others are what it writes; 0xFD in
them stands for the last id, and 0xFC for the last token, that it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import IntEnum

from tests.fuzzing.invariants import Invariants
from tests.fuzzing.world import ADDRESSES, LIMITS, PUBLIC_LIMITS, FuzzedClient, FuzzedWorld

BETWEEN = b"\xfe"
# What stands for the last id, and the last token, that the client was sent.
LAST_ID, LAST_TOKEN = b"\xfd", b"\xfc"
_STEPS_OF_A_CLIENT = 8
_MOST_WRITTEN_BYTES = 4 * 1024
_PAUSES_S = (0.5, 1.0, 4.0, 12.0, 40.0, 700.0)
_TICKED_S = 40.0
# Longer than any connection is let stay that is closing.
_LEAVING_S = 12


class Choice(IntEnum):
    """What is so all the time; bits of the first byte."""

    TIME_PASSES = 1
    """Every look at the clock is a little later: turns end in the middle of a read."""
    TURNS_TAKE_TIME = 2
    PURE = 4
    VERBOSE = 8
    NO_HISTORY = 16
    HIGH_MARKS = 32
    PUBLIC = 64


class Step(IntEnum):
    """What a client does; the value is the first byte without the client's number."""

    LINE = 0x60
    """It writes a line."""
    BYTES = 0x68
    """It writes just this."""
    WITHOUT_TURN = 0x70
    """It writes a line, and nothing happens yet."""
    MANY = 0x78
    """It writes lines, as often as the second byte says."""
    WAIT = 0x40
    """Time passes."""
    END = 0x48
    """It closes its sending side."""
    RESET = 0x50
    STOP_TAKING = 0x58
    TAKE = 0x20
    """It takes some, or from now on everything."""
    STORE = 0x28
    """The store does something."""
    FULL_DISK = 0x30
    """The store fails, or does so no more."""
    STORE_ALL = 0x38


def step(what: Step, client: int, payload: bytes = b"") -> bytes:
    """One step of an input."""
    return BETWEEN + bytes([what | client]) + payload


def conversation(choice: int, steps: Iterable[bytes]) -> bytes:
    """An input of such steps, for those that are written by hand."""
    return bytes([choice]) + b"".join(steps)


def check(data: bytes) -> None:
    """
    Fail unless a relay serves these steps without an exception, without keeping more than its
    limits say, and with nothing but clean lines that the protocol has.
    """
    choices, *steps = data.split(BETWEEN)
    choice = choices[0] if choices else 0
    limits = PUBLIC_LIMITS if choice & Choice.PUBLIC else LIMITS
    if choice & Choice.NO_HISTORY:
        limits = replace(limits, history_s=0.0)
    if choice & Choice.HIGH_MARKS:
        limits = replace(limits, high_water_bytes=60_000, low_water_bytes=30_000)
        limits = replace(limits, max_unsent_bytes=100_000)
    with FuzzedWorld(
        limits,
        is_pure=bool(choice & Choice.PURE),
        is_public=bool(choice & Choice.PUBLIC),
        verbose=bool(choice & Choice.VERBOSE),
        step_s=0.0007 if choice & Choice.TIME_PASSES else 0.0,
        work_s=0.001 if choice & Choice.TURNS_TAKE_TIME else 0.0,
    ) as world:
        invariants = Invariants(world)
        for written in steps:
            if written:
                _take(world, written)
                invariants.check()
        _leave(world)
        invariants.check()
        invariants.check_left()


def _take(world: FuzzedWorld, written: bytes) -> None:
    number, payload = written[0] % _STEPS_OF_A_CLIENT % len(ADDRESSES), written[1:]
    try:
        what = Step(written[0] - written[0] % _STEPS_OF_A_CLIENT)
    except ValueError:
        what = Step.BYTES
    _DOES[what](world, number, payload)
    if what is not Step.WITHOUT_TURN:
        world.settle()


def _write(client: FuzzedClient, data: bytes) -> None:
    for byte, beginning in ((LAST_ID, b"id="), (LAST_TOKEN, b"!token ")):
        if byte in data:
            data = data.replace(byte, client.last_sent(beginning))
    client.write(data)


def _line(world: FuzzedWorld, number: int, payload: bytes) -> None:
    _write(world.client(number), payload + b"\n")


def _bytes(world: FuzzedWorld, number: int, payload: bytes) -> None:
    _write(world.client(number), payload)


def _many(world: FuzzedWorld, number: int, payload: bytes) -> None:
    if payload:
        line = payload[1:] + b"\n"
        _write(world.client(number), line * min(payload[0], _MOST_WRITTEN_BYTES // len(line)))


def _wait(world: FuzzedWorld, _number: int, payload: bytes) -> None:
    pause_s = _PAUSES_S[payload[0] % len(_PAUSES_S)] if payload else _PAUSES_S[0]
    # What needs no ticks passes at once.
    world.clock.rightNow += max(0.0, pause_s - _TICKED_S)
    world.pass_time(min(pause_s, _TICKED_S))


def _take_some(world: FuzzedWorld, number: int, payload: bytes) -> None:
    world.client(number).transport.room = 8 * payload[0] if payload else None


def _let_store(world: FuzzedWorld, _number: int, payload: bytes) -> None:
    world.run_store(payload[0] % 8 if payload else 1)


def _fill_disk(world: FuzzedWorld, _number: int, payload: bytes) -> None:
    if payload:
        world.disk.statements_until_full = payload[0] % 16
    else:
        world.disk.repair()


_DOES: dict[Step, Callable[[FuzzedWorld, int, bytes], None]] = {
    Step.LINE: _line,
    Step.BYTES: _bytes,
    Step.WITHOUT_TURN: _line,
    Step.MANY: _many,
    Step.WAIT: _wait,
    Step.END: lambda world, number, _: world.client(number).write_end(),
    Step.RESET: lambda world, number, _: world.client(number).reset(),
    Step.STOP_TAKING: lambda world, number, _: world.client(number).stop_taking(),
    Step.TAKE: _take_some,
    Step.STORE: _let_store,
    Step.FULL_DISK: _fill_disk,
    Step.STORE_ALL: lambda world, _number, _payload: world.run_store(),
}


def _leave(world: FuzzedWorld) -> None:
    """Everybody reads what there is, and goes."""
    world.disk.repair()
    for client in world.clients:
        client.transport.room = None
    world.run_store()
    for client in world.clients:
        client.transport.incoming.append(b"")
    world.run_store()
    for _ in range(_LEAVING_S):
        if not world.factory._connections:
            break
        world.pass_time(1.0)
        world.run_store()
    if world.relay.limits.lines_per_s:
        # Who has sent more than it may would be served for a long time.
        for client in list(world.clients):
            client.reset()
        world.run_store()
    # What the disk did not take before is written again.
    world.pass_time(1.0)
    world.run_store()
