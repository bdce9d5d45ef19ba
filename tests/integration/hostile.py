"""
How fast honest clients are served while others mean harm, on a relay for strangers::

    python -m tests.integration.hostile --seconds 10

Ten pairs of honest clients talk, first alone and then during each of the attacks of
`tests.integration.attacks`, which another process repeats for as long, twice a second: a thousand
new connections, none of an address that was there before.  A round trip is a question, and its
answer by the other of the pair.  Attackers have a lower priority: on a machine of their own they
would take no time of the relay's.

With ``--memory`` it is measured instead what one connection of each kind holds.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

from chatrelay.limits import PUBLIC_LIMITS
from tests.integration.attacks import ATTACKS, PORTS, Stranger, Target
from tests.integration.honest import Honest
from tests.integration.relay_process import Client, RelayProcess, eventually

_PAIRS = 10
_CROWD = 900
_NICENESS = 10
_ROUND_S = 0.5
_COUNTED = 400
_TARGETS = int(PUBLIC_LIMITS["max_targets"])
_REFS = int(PUBLIC_LIMITS["max_refs"])
_MARK_KIB = int(PUBLIC_LIMITS["high_water_bytes"]) // 1024
_LOOK_S = 1.0
_SLOW_READER_BYTES = 4096


def main(arguments: list[str]) -> int:
    """Run what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.hostile", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=10.0, help="for each attack")
    parser.add_argument("--attack", choices=ATTACKS, help="only this one")
    parser.add_argument("--memory", action="store_true", help="measure what connections hold")
    options = parser.parse_args(arguments)
    if options.memory:
        measure_memory()
        return 0
    print(f"{'':32}  p50 ms  p99 ms  of idle p50   relay MiB  rounds")
    attacks = [options.attack] if options.attack else list(ATTACKS)
    with relay("--naming-timeout", "4") as (process, target), crowd(target, _CROWD):
        honest = Honest(target.plain, _PAIRS)
        idle_s = percentile(honest.talk(options.seconds), 50)
        show("nobody else", honest.talk(options.seconds), idle_s, process, 0)
        for name in attacks:
            with attacking(name, target) as rounds:
                honest.talk(1.0)  # Until it has begun.
                round_trips_s = honest.talk(options.seconds)
                done = rounds()
            show(name, round_trips_s, idle_s, process, done)
    return 0


def show(
    name: str, round_trips_s: list[float], idle_s: float, process: RelayProcess, rounds: int
) -> None:
    """Print one line of the table."""
    p50_s, p99_s = percentile(round_trips_s, 50), percentile(round_trips_s, 99)
    mib = process.memory_bytes() / (1 << 20)
    print(
        f"{name:32}  {p50_s * 1e3:6.2f}  {p99_s * 1e3:6.2f}  {p50_s / idle_s:11.2f}"
        f"  {mib:10.0f}  {rounds:6}",
        flush=True,
    )


def percentile(figures: list[float], percent: float) -> float:
    """The figure that so many of a hundred do not exceed."""
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * percent / 100))]


@contextlib.contextmanager
def relay(*options: str) -> Iterator[tuple[RelayProcess, Target]]:
    """Run a relay for strangers."""
    process = RelayProcess(*PORTS, "--public", "--data", "none", *options)
    try:
        yield process, Target.of(process)
    finally:
        process.end()


@contextlib.contextmanager
def crowd(target: Target, count: int) -> Iterator[list[Client]]:
    """Let so many be in a room and say nothing; another process reads what they are sent."""
    ready, ends = multiprocessing.Event(), multiprocessing.Event()
    reading = multiprocessing.Process(target=_be_crowd, args=(target, count, ready, ends))
    reading.start()
    ready.wait()
    try:
        yield []
    finally:
        ends.set()
        reading.join()


def _be_crowd(target: Target, count: int, ready: Event, ends: Event) -> None:
    os.nice(_NICENESS)
    clients = [Client(target.plain, f"crowd{number}") for number in range(count)]
    for client in clients:
        client.send("/join #crowd")
    for client in clients:
        client.expect("!end members #crowd ")
        client.socket.setblocking(False)
    ready.set()
    while not ends.wait(0.2):
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                client.socket.recv(1 << 20)


@contextlib.contextmanager
def attacking(name: str, target: Target) -> Iterator[Callable[[], int]]:
    """Have another process attack for as long; gives how often it has done so."""
    ends, rounds = multiprocessing.Event(), multiprocessing.Value("i", 0)
    attacker = multiprocessing.Process(target=_attack, args=(name, target, ends, rounds))
    attacker.start()
    try:
        yield lambda: rounds.value
    finally:
        ends.set()
        # It may wait for what comes after many seconds only.
        attacker.kill()
        attacker.join()


def _attack(name: str, target: Target, ends: Event, rounds: object) -> None:
    os.nice(_NICENESS)
    while not ends.is_set():
        due_s = time.monotonic() + _ROUND_S
        with contextlib.suppress(OSError, EOFError):
            ATTACKS[name](target)
        rounds.value += 1  # type: ignore[attr-defined]
        ends.wait(max(0.0, due_s - time.monotonic()))


# What connections hold.

_Prepare = Callable[[Target, int], Client]


def _unnamed(target: Target, _number: int) -> Client:
    return Stranger(target)


def _named(target: Target, number: int) -> Client:
    return Stranger(target, name=f"named{number}")


def _plain(target: Target, number: int) -> Client:
    return Client(target.plain, f"plain{number}")


def _half_line(target: Target, number: int) -> Client:
    client = _named(target, number)
    client.send_bytes(b"x" * 8192)
    return client


def _in_rooms(target: Target, number: int) -> Client:
    client = _named(target, number)
    client.send(*(f"/join #room{number}-{room}" for room in range(32)))
    client.expect(f"!end members #room{number}-31 ")
    return client


def _watching(target: Target, number: int) -> Client:
    client = _named(target, number)
    client.send(f"/watch {' '.join(f'watched{number}-{name}' for name in range(128))}")
    client.expect(f"!offline watched{number}-127")
    return client


def _with_refs(target: Target, number: int) -> Client:
    client = _plain(target, number)
    client.send(*(f"@ref={ref:064} %plain{number}%{ref:0128}" for ref in range(_REFS)))
    client.expect(f"@ref={_REFS - 1:064} !sent ")
    return client


def _with_refs_of_many(target: Target, number: int) -> Client:
    client = _plain(target, number)
    names = ",".join(f"r{name}" for name in range(_TARGETS))
    client.send(*(f"@ref={ref:064} %{names}%{ref:0128}" for ref in range(_REFS)))
    client.expect(f"@ref={_REFS - 1:064} !sent r{_TARGETS - 1}")
    return client


def _with_backlog(target: Target, number: int) -> Client:
    client = Client(target.plain, f"plain{number}", receive_buffer_bytes=_SLOW_READER_BYTES)
    client.send("/help\n" * 4000)
    return client


_KINDS: dict[str, tuple[_Prepare, tuple[str, ...], int]] = {
    "without a name": (_unnamed, (), _COUNTED),
    "with a name, through a proxy": (_named, (), _COUNTED),
    "with a name": (_plain, (), _COUNTED),
    "and a line of 8 KiB without end": (_half_line, (), _COUNTED),
    "and 32 rooms of its own": (_in_rooms, ("--max-rooms=100000",), _COUNTED),
    "and 128 watched names": (_watching, (), _COUNTED),
    f"and {_REFS} refs, texts of 128 bytes": (_with_refs, ("--lines-per-second=0",), 50),
    f"and {_REFS} refs to {_TARGETS} names each": (
        _with_refs_of_many,
        ("--lines-per-second=0",),
        20,
    ),
    f"and {_MARK_KIB} KiB that it does not read": (_with_backlog, ("--lines-per-second=0",), 60),
}


def measure_memory() -> None:
    """Print what one connection of each kind takes of the relay's memory."""
    print(f"{'a connection':34}  KiB each")
    for kind, (prepare, options, count) in _KINDS.items():
        with relay("--bytes-per-second=0", "--max-unnamed=10000", *options) as (process, target):
            others = [Client(target.plain, f"r{name}") for name in range(_TARGETS)]
            reading = threading.Thread(target=_read_all, args=(others,), daemon=True)
            reading.start()
            # What the first ones take is there once.
            clients = [prepare(target, number) for number in range(count // 4)]
            _settle(process)
            before_bytes = process.memory_bytes()
            clients += [prepare(target, count + number) for number in range(count)]
            _settle(process)
            # The most: who does not read is cut after a while.
            each = (process.memory_bytes("VmHWM") - before_bytes) / count / 1024
            print(f"{kind:34}  {each:8.1f}", flush=True)
            for client in [*clients, *others]:
                client.reset()
            reading.join()


def _read_all(clients: list[Client]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while True:
            for client in clients:
                client.socket.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    client.socket.recv(1 << 20)


def _settle(process: RelayProcess) -> None:
    """Wait until the relay has had nothing to do for a while."""
    used_s, since_s = process.used_s(), time.monotonic()

    def is_idle() -> bool:
        nonlocal used_s, since_s
        now_s = time.monotonic()
        if process.used_s() - used_s > _LOOK_S / 100:
            used_s, since_s = process.used_s(), now_s
        return now_s - since_s > _LOOK_S

    eventually("the relay is idle", is_idle)


if __name__ == "__main__":
    assert Path("/proc/self/status").exists(), "what a process holds is read in /proc"
    sys.exit(main(sys.argv[1:]))
