"""
What a relay asks of its process: a garbage collector and an allocator that leave it alone.

Only for a process that is a relay; whoever embeds one decides this for himself.
"""

from __future__ import annotations

import ctypes
import gc

# Net allocations of containers between two looks of the garbage collector.  Every read makes a
# thousand that are gone with the next one; Python's 700 cost 8 % of (b) in docs/performance.rst.
_COLLECTOR_THRESHOLDS = (50_000, 20, 20)

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# By default what one read brings and makes, some 256 KiB each, comes from the kernel and goes
# back to it with every read, 64 pages that are filled with zeros each time: a fifth of (a).
_MAPPED_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 32 * 1024 * 1024


def prepare() -> None:
    """Take what is loaded for what stays, collect seldom, and keep up to 32 MiB of free memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    # Where the C library is another there is no such function, and nothing to be done.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
