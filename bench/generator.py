"""
The load generator: a process of its own, which measures one relay once.

It is told what to do as one line of JSON on its input, and tells what it found as one line
of JSON on its output.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import logins
from bench.confirming import CONFIRMING, measuring
from bench.dialects import DIALECTS, Dialect
from bench.naming import BrokenTrafficError, Door, close_all, in_clear, name_all
from bench.process import Used, allow_files, cpu_s, memory_bytes
from bench.rooms.dialects import ROOM_DIALECTS
from bench.rooms.measuring import MEASURING
from bench.secured import Secured, client_context
from bench.traffic import PATTERNS, make_plan, make_text, verify
from bench.wire import STALLED_S, exchange

_FIRST_TRY = 4000
_WARM_UP_TRIPS = 200
_RECEIVE_BYTES = 65536


def throughput(dialect: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Verify some messages, then send many and count.

    The task has ``work``, ``size``, ``verified``, and ``messages`` or the ``seconds`` that
    sending them should take.  With ``tokens`` all names are owned, and with ``has_history``
    it has to be there afterwards.
    """
    pattern, size = PATTERNS[task["work"]], task["size"]
    tokens = task.get("tokens")
    naming = (
        logins.Claiming({name: tokens[name].encode() for name in tokens}) if tokens else dialect
    )
    # Receivers first: what is sent before they are there is lost.
    receivers = name_all(door, naming, pattern.receiver_names)
    senders = name_all(door, naming, pattern.sender_names)
    sample = make_text(0, 0, 0, size)
    delivered = len(dialect.delivered(pattern.sender_names[0], pattern.receiver_names[0], sample))

    # One cycle of each sender at most: in repeats the numbers begin again.
    plan = make_plan(pattern, dialect, size, task["verified"])
    if plan.repeats > 1:
        plan = make_plan(pattern, dialect, size, plan.messages // plan.repeats)
    stalled_s = task.get("stalled_s", STALLED_S)
    _, received = exchange(
        dialect, plan, senders, receivers, delivered, keep=True, stalled_s=stalled_s
    )
    verify(pattern, dialect, plan, received)
    verified = plan.messages
    del received

    messages = task.get("messages")
    if messages is None:
        messages = _FIRST_TRY
        while True:
            plan = make_plan(pattern, dialect, size, messages)
            took_s, _ = exchange(dialect, plan, senders, receivers, delivered)
            wanted = messages * task["seconds"] / took_s
            messages = int(min(wanted, messages * 10))
            if took_s > task["seconds"] / 8:
                break
    plan = make_plan(pattern, dialect, size, messages)
    used = Used(task["pid"])
    took_s, _ = exchange(dialect, plan, senders, receivers, delivered)
    server_s, shares = used.since(took_s)
    if task.get("has_history"):
        logins.check_history(in_clear(receivers[0]))
    close_all([*senders, *receivers])
    return {
        **({"tls": senders[0].agreed} if isinstance(senders[0], Secured) else {}),
        "verified": verified,
        "messages": plan.messages,
        "seconds": took_s,
        "rate": plan.messages / took_s,
        "server_cpu_s": server_s,
        **shares,
        "cpu_s_per_million": server_s / plan.messages * 1e6,
    }


def flood(dialect: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """Keep a relay as busy as it gets, until ``seconds`` are over or this is ended."""
    pattern, size = PATTERNS[task["work"]], task["size"]
    receivers = name_all(door, dialect, pattern.receiver_names)
    senders = name_all(door, dialect, pattern.sender_names)
    plan = make_plan(pattern, dialect, size, 1 << 40)
    print("{}", flush=True)
    exchange(dialect, plan, senders, receivers, 1 << 20, stop_after_s=task["seconds"])
    close_all([*senders, *receivers])
    return {}


def round_trips(dialect: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Send a line there and, once it came, a line back; up to ``trips`` times in ``seconds``.

    With ``pause_s`` the next trip waits for the next multiple of that.  Without, a busy
    relay's pauses would be full of quick trips and its busy times hold one slow one each.
    """
    pause_s = task.get("pause_s", 0.0)
    names = ("p000", "q000")
    ends = [in_clear(end) for end in name_all(door, dialect, names)]
    text = make_text(0, 0, 0, task["size"])
    there, back = dialect.message(names[1], text), dialect.message(names[0], text)
    came_there = len(dialect.delivered(names[0], names[1], text))
    came_back = len(dialect.delivered(names[1], names[0], text))
    for end in ends:
        end.settimeout(30.0)
    first, second = ends
    times_ns = []
    server_s, began_s = cpu_s(task["pid"]), time.monotonic()
    stops_s = time.monotonic() + task["seconds"]
    for trip in range(_WARM_UP_TRIPS + task["trips"]):
        began_ns = time.perf_counter_ns()
        first.sendall(there)
        _receive(dialect, second, came_there)
        second.sendall(back)
        _receive(dialect, first, came_back)
        took_ns = time.perf_counter_ns() - began_ns
        # Under load a trip may take so long that there is no warming up.
        if trip >= _WARM_UP_TRIPS or time.monotonic() > stops_s - task["seconds"] / 2:
            times_ns.append(took_ns)
        now_s = time.monotonic()
        if now_s > stops_s:
            break
        if pause_s:
            time.sleep(pause_s - now_s % pause_s)
    server_s, took_s = cpu_s(task["pid"]) - server_s, time.monotonic() - began_s
    close_all(ends)
    times_ns.sort()
    return {
        "server_share": server_s / took_s,
        "trips": len(times_ns),
        "p50_us": times_ns[len(times_ns) // 2] / 1000,
        "p99_us": times_ns[len(times_ns) * 99 // 100] / 1000,
    }


def _receive(dialect: Dialect, end: socket.socket, size: int) -> None:
    data = end.recv(_RECEIVE_BYTES)
    while len(data) != size:
        if dialect.ping and dialect.ping in data:
            end.sendall(dialect.pong)
            data = data.replace(dialect.ping, b"")
            if len(data) == size:
                return
        if len(data) > size:
            raise BrokenTrafficError(f"{data[:200]!r} instead of {size} bytes")
        more = end.recv(_RECEIVE_BYTES)
        if not more:
            raise BrokenTrafficError("the relay closed a connection")
        data += more


def connections(dialect: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """Connect and name ``count`` clients, ``at_once`` underway; see what they cost when idle."""
    # The first ones bring in what a relay loads when it is needed.
    first = name_all(door, dialect, [f"w{index:04d}" for index in range(50)])
    time.sleep(task["settle_s"])
    before = memory_bytes(task["pid"])
    names = [f"n{index:05d}" for index in range(task["count"])]
    used, began_s = Used(task["pid"]), time.perf_counter()
    clients = name_all(door, dialect, names, task["at_once"])
    took_s = time.perf_counter() - began_s
    server_s, shares = used.since(took_s)
    time.sleep(task["settle_s"])
    after = memory_bytes(task["pid"])
    close_all([*first, *clients])
    return {
        "count": task["count"],
        "seconds": took_s,
        "rate": task["count"] / took_s,
        **shares,
        "cpu_s_per_million": server_s / task["count"] * 1e6,
        "kib_per_connection": (after - before) / task["count"] / 1024,
    }


_TASKS: dict[str, Callable[[Dialect, Door, dict[str, Any]], dict[str, Any]]] = {
    "throughput": throughput,
    "flood": flood,
    "round_trips": round_trips,
    "connections": connections,
    "register": logins.register,
    "logins": logins.logins,
    "return_of_all": logins.return_of_all,
}
_KEEPING_TASKS = {
    "confirmed": measuring.confirmed,
    "catching_up": measuring.catching_up,
}


def main() -> None:
    """Do what standard input says."""
    task = json.loads(sys.stdin.readline())
    allow_files()
    gc.disable()
    try:
        certificate = task.get("certificate")
        door = Door(task["port"], client_context(certificate) if certificate else None)
        if task["kind"] in _KEEPING_TASKS:
            confirming = CONFIRMING[task["confirming"]](task.get("tokens", {}))
            found = _KEEPING_TASKS[task["kind"]](confirming, door, task)
        elif task["kind"] in MEASURING:
            found = MEASURING[task["kind"]](ROOM_DIALECTS[task["dialect"]](), door, task)
        else:
            found = _TASKS[task["kind"]](DIALECTS[task["dialect"]](), door, task)
    except (BrokenTrafficError, ValueError, OSError) as error:
        found = {"error": str(error)}
    print(json.dumps(found), flush=True)
    # Thousands of sockets and buffers need not be taken down one by one.
    os._exit(0)


if __name__ == "__main__":
    main()
