"""Where servers keep what they confirm: on which file system, and what a sync costs there."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_SYNCS = 200
_APPENDED = b"x" * 64


def data_directory() -> Path:
    """Where the directories of servers are made; ``TMPDIR`` says so."""
    return Path(tempfile.gettempdir())


def file_system(directory: Path) -> str:
    """The kind of the file system that a directory is on, as Linux names it."""
    wanted, found, longest = directory.resolve(), "unknown", -1
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, mounted_at, kind, *_ = line.split(" ")
        # What is mounted later hides what was there.
        if wanted.is_relative_to(mounted_at) and len(mounted_at) >= longest:
            found, longest = kind, len(mounted_at)
    return found


def is_in_memory(kind: str) -> bool:
    """Whether nothing is ever written to a disk on such a file system."""
    return kind in _IN_MEMORY


def sync_times_us() -> tuple[float, float]:
    """
    What it takes to append 64 bytes to a file and have the disk confirm them.

    :returns: microseconds, the median and the 99th percentile.
    """
    times_ns = []
    with tempfile.TemporaryFile(prefix="chatrelay-bench-") as file:
        for _ in range(_SYNCS):
            os.write(file.fileno(), _APPENDED)
            began_ns = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            times_ns.append(time.perf_counter_ns() - began_ns)
    times_ns.sort()
    return times_ns[_SYNCS // 2] / 1000, times_ns[_SYNCS * 99 // 100] / 1000
