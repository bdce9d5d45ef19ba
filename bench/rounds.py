"""
The rounds: every relay is measured once in each, one right after the other.

A shared machine is now faster, now slower; two relays that are measured within seconds see
much the same of it.  So nothing is compared but ratios within one round.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.dialects import DIALECTS
from bench.disk import data_directory, file_system, sync_times_us
from bench.generating import begin, generate, generate_anew, output
from bench.keeping import SIZE, Keeping
from bench.logins import owned_names
from bench.owned import Owned
from bench.process import Served, allow_files, cpu_s
from bench.relay import Relay
from bench.results import Results
from bench.returning import measure_return
from bench.rooms.starting import SIZE as ROOMS_SIZE
from bench.rooms.starting import measure_rooms
from bench.works import KEEPING, ROOMS, WORKS

_CALM_S = 3.0
# Between two round trips under load.
_PAUSE_S = 0.002
# What is passed on unparsed has no names: only what goes from one to one, and an idle trip.
_UNPARSED = {"a": "f", "d": "d"}
# What a generator needs for itself beside the connections.
_OTHER_FILES = 200


@dataclass(frozen=True)
class Extent:
    """
    How much is measured.

    :ivar rounds: how often each relay has its turn.
    :ivar seconds: about how long one measurement lasts.
    :ivar verified: messages looked at one by one before each measurement.
    :ivar trips: round trips in one measurement.
    :ivar connections: how many are named in (e).
    :ivar settle_s: how long they are left alone before memory is looked at.
    :ivar logins: names that (g) logs in to.
    :ivar names: owned ones that come back in (h).
    :ivar members: of all rooms together, in "rooms"; a multiple of ten.
    """

    rounds: int = 5
    seconds: float = 1.2
    verified: int = 10_000
    trips: int = 5000
    connections: int = 9000
    settle_s: float = 1.0
    logins: int = 100
    names: int = 5000
    members: int = 10_000


class Bench:
    """
    One run of the benchmark.

    :ivar results: what it found so far.
    """

    def __init__(
        self,
        relays: Sequence[Relay],
        works: Sequence[str],
        sizes: Sequence[int],
        extent: Extent,
        tell: Callable[[str], None],
    ) -> None:
        """
        Prepare a run.

        :param works: of `bench.works.WORKS`.
        :param sizes: of the texts, in bytes.
        :param tell: is told what is being done, a line each.
        """
        self.results = Results()
        self._relays = relays
        self._works = works
        self._sizes = sizes
        self._extent = extent
        self._tell = tell
        self._returning = Owned(owned_names(extent.names))
        self._keeping = Keeping(
            seconds=extent.seconds, verified=extent.verified, settle_s=extent.settle_s
        )
        self._messages: dict[tuple[str, str, int], int] = {}
        self._files = allow_files()

    def run(self) -> Results:
        """Go through all rounds; an interrupt ends them early, with what there is."""
        with contextlib.ExitStack() as ending, contextlib.suppress(KeyboardInterrupt):
            ending.callback(self._returning.remove)
            ending.callback(self._keeping.remove)
            for number in range(self._extent.rounds):
                self._run_round(number)
        return self.results

    def _run_round(self, number: int) -> None:
        # Each round has its relays anew: hash seeds and memory layouts differ from start
        # to start, and that belongs into the spread.
        with contextlib.ExitStack() as ending:
            running: dict[str, Served] = {}
            for relay in {relay.name: relay for _, _, relay in self._turns()}.values():
                running[relay.name] = relay.start()
                ending.callback(running[relay.name].end)
            for work, size, relay in self._turns():
                served = running[relay.name]
                measure = partial(self._measure, work, size, relay, served)
                self._note(number, work, size, relay, measure)
                if work == "d" and not _is_calm(served):
                    # It would work off its load while the next one is measured.
                    served.end()
                    running[relay.name] = relay.start()
                    ending.callback(running[relay.name].end)
        for work, begin_anew in (("e", self._connect), ("g", self._log_in), ("h", self._return)):
            for relay in self._relays:
                if work in self._works and work in relay.works:
                    self._note(number, work, 0, relay, partial(begin_anew, relay, number))
        self._keep(number)
        self._be_in_rooms(number)

    def _keep(self, number: int) -> None:
        works = [work for work in WORKS if work in (KEEPING | {"history"}) & set(self._works)]
        if KEEPING & set(works):
            self.results.note_disk(number, file_system(data_directory()), *sync_times_us())
        for work in works:
            for relay in self._relays:
                if work in relay.works:
                    measure = partial(self._keeping.measure, work, relay)
                    self._note(number, work, SIZE, relay, measure)

    def _be_in_rooms(self, number: int) -> None:
        measure = partial(measure_rooms, seconds=self._extent.seconds, members=self._extent.members)
        for work in (work for work in WORKS if work in ROOMS & set(self._works)):
            for relay in self._relays:
                if work in relay.works:
                    one = partial(measure, work, relay, number)
                    self._note(number, work, ROOMS_SIZE, relay, one)

    def _turns(self) -> Iterator[tuple[str, int, Relay]]:
        for work in "abcd":
            for size in self._sizes:
                for relay in self._relays:
                    # (f) is the traffic of (a), and is measured next to it.
                    wanted = work if relay.dialect != "unparsed" else _UNPARSED.get(work)
                    if wanted in self._works and wanted in relay.works:
                        yield work, size, relay

    def _note(
        self, number: int, work: str, size: int, relay: Relay, measure: Callable[[], dict[str, Any]]
    ) -> None:
        try:
            found = measure()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            found = {"error": str(error)}
        self.results.add(work, size, relay.name, relay.label, number, found)
        shown = found.get("error") or self.results.in_words(work, found)
        of = f" {size} bytes" if size else ""
        self._tell(f"round {number + 1} ({work}){of} {relay.label}: {shown}")

    def _measure(self, work: str, size: int, relay: Relay, served: Served) -> dict[str, Any]:
        if size > DIALECTS[relay.dialect].max_text_bytes:
            return {"error": "its lines can not hold this"}
        if work == "d":
            return self._round_trips(size, relay, served)
        known = (relay.name, work, size)
        found = generate(
            relay,
            served,
            kind="throughput",
            work=work,
            size=size,
            verified=self._extent.verified,
            seconds=self._extent.seconds,
            messages=self._messages.get(known),
        )
        if "messages" in found:
            self._messages[known] = found["messages"]
        return found

    def _round_trips(self, size: int, relay: Relay, served: Served) -> dict[str, Any]:
        asked = {"kind": "round_trips", "size": size, "trips": self._extent.trips}
        seconds = 2 * self._extent.seconds
        idle = generate(relay, served, **asked, seconds=seconds)
        if "error" in idle:
            return idle
        if relay.dialect == "unparsed":
            return {f"idle_{key}": value for key, value in idle.items()}
        flood = begin(relay, served, kind="flood", work="b", size=size, seconds=10 * seconds)
        try:
            output(flood).readline()
            time.sleep(seconds / 8)
            loaded = generate(relay, served, **asked, seconds=seconds, pause_s=_PAUSE_S)
            if "error" not in loaded and flood.poll() is not None:
                loaded = {"error": f"the load ended: {output(flood).read().strip()}"}
        finally:
            flood.kill()
            flood.communicate()
        return {
            **{f"idle_{key}": value for key, value in idle.items()},
            **{f"loaded_{key}": value for key, value in loaded.items()},
        }

    def _connect(self, relay: Relay, _: int) -> dict[str, Any]:
        return generate_anew(
            relay,
            kind="connections",
            count=min(self._extent.connections, self._files - _OTHER_FILES),
            at_once=relay.at_once,
            settle_s=self._extent.settle_s,
        )

    def _log_in(self, relay: Relay, _: int) -> dict[str, Any]:
        if not relay.has_accounts:
            return {"error": "its names can not be owned"}
        return generate_anew(
            relay, kind="logins", count=self._extent.logins, seconds=self._extent.seconds
        )

    def _return(self, relay: Relay, number: int) -> dict[str, Any]:
        if not relay.has_accounts:
            return {"error": "its names can not be owned"}
        # Whoever comes second finds a relay that has grown already.
        return measure_return(
            relay,
            self._returning,
            owned_first=number % 2 == 0,
            settle_s=self._extent.settle_s,
        )


def _is_calm(served: Served) -> bool:
    """Wait a little until a relay has dealt with what a load has left behind."""
    ends_s = time.monotonic() + _CALM_S
    while time.monotonic() < ends_s:
        before_s = cpu_s(served.pid)
        time.sleep(0.2)
        if cpu_s(served.pid) - before_s < 0.04:
            return True
    return False
