"""Generators: processes of their own, which measure one relay once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, Any

from bench.process import Served
from bench.relay import CHECKOUT, Relay

_TASK_S = 240.0


def begin(relay: Relay, served: Served, **task: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Start a generator, with what `bench.generator` does to one relay."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "bench.generator"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    task |= relay.task(served)
    if generator.stdin is not None:
        generator.stdin.write(json.dumps(task) + "\n")
        generator.stdin.flush()
    return generator


def output(generator: subprocess.Popen[str]) -> IO[str]:
    """What a generator writes."""
    if generator.stdout is None:
        raise RuntimeError("a generator is always started with a pipe")
    return generator.stdout


def generate(relay: Relay, served: Served, **task: Any) -> dict[str, Any]:  # noqa: ANN401
    """
    Let a generator do what it is told, and return what it found.

    :raises subprocess.TimeoutExpired: it takes longer than ``within_s``.
    """
    within_s = task.pop("within_s", _TASK_S)
    generator = begin(relay, served, **task)
    try:
        written, _ = generator.communicate(timeout=within_s)
    except BaseException:
        generator.kill()
        generator.communicate()
        raise
    if not written:
        return {"error": "the generator failed"}
    found: dict[str, Any] = json.loads(written)
    return found


def generate_anew(relay: Relay, **task: Any) -> dict[str, Any]:  # noqa: ANN401
    """As `generate`, with a relay that is started for it and then ended."""
    served = relay.start()
    try:
        return generate(relay, served, **task)
    finally:
        served.end()
