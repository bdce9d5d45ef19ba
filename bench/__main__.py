"""The command line of the benchmark; docs/performance.rst tells how to read its table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bench.disk import data_directory, file_system, is_in_memory
from bench.relay import Relay
from bench.relays import RELAYS, chatrelay_variant, has_compiled_parts
from bench.rounds import Bench, Extent
from bench.works import KEEPING, WORKS

_QUICK = Extent(
    rounds=2,
    seconds=0.4,
    verified=2000,
    trips=1000,
    connections=1000,
    settle_s=0.3,
    logins=20,
    names=200,
    members=1000,
)


def _arguments(given: list[str]) -> argparse.Namespace:
    default = [name for name in RELAYS if name != "chatrelay-pure" or has_compiled_parts()]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure chatrelay beside other relays, all of them on this machine.",
        epilog=" ".join(f"({name}) {work}." for name, work in WORKS.items())
        + " What is kept is kept in TMPDIR, which has to be on a disk for that.",
    )
    parser.add_argument("--rounds", type=int, help="how often each relay has its turn [5]")
    parser.add_argument("--seconds", type=float, help="of one measurement, about [1.2]")
    parser.add_argument("--connections", type=int, help="how many are named in (e) [9000]")
    parser.add_argument("--names", type=int, help="how many come back in (h) [5000]")
    parser.add_argument("--quick", action="store_true", help="two short rounds: a first look")
    parser.add_argument("--work", default=",".join(WORKS), help="which [%(default)s]")
    parser.add_argument("--sizes", default="16,64,1024", help="of texts, in bytes [%(default)s]")
    parser.add_argument("--relays", default=",".join(default), help="which [%(default)s]")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'LABEL NAME=VALUE ...'",
        help="chatrelay once more, with these environment variables; PYTHONPATH=/another/checkout"
        " compares two versions; with a label that ends in -tls, over TLS",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it (needs matplotlib)")
    return parser.parse_args(given)


def _relays(arguments: argparse.Namespace, works: set[str]) -> list[Relay]:
    relays = []
    for name in arguments.relays.split(","):
        if name not in RELAYS:
            raise SystemExit(f"no relay {name}; there are {', '.join(RELAYS)}")
        relay = RELAYS[name]
        if relay.works & works and relay.is_missing:
            print(f"{relay.label} is missing; {relay.installed_by} installs it", file=sys.stderr)
        elif relay.works & works:
            relays.append(relay)
    for variant in arguments.variant:
        label, *settings = variant.split()
        relays.insert(1, chatrelay_variant(label, dict(pair.split("=", 1) for pair in settings)))
    return relays


def _extent(arguments: argparse.Namespace) -> Extent:
    extent = vars(_QUICK if arguments.quick else Extent())
    for key in ("rounds", "seconds", "connections", "names"):
        if getattr(arguments, key) is not None:
            extent = {**extent, key: getattr(arguments, key)}
    return Extent(**extent)


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    arguments = _arguments(sys.argv[1:])
    if arguments.figure and find_spec("matplotlib") is None:
        # Not after half an hour of measuring.
        raise SystemExit("--figure needs matplotlib: pip install chatrelay[bench]")
    works = arguments.work.split(",")
    if unknown := set(works) - set(WORKS):
        raise SystemExit(f"no work {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    kind = file_system(data_directory())
    if KEEPING & set(works) and is_in_memory(kind):
        raise SystemExit(
            f"{data_directory()} is on {kind}, where nothing reaches a disk:"
            " set TMPDIR to a directory on one, or leave out " + ", ".join(sorted(KEEPING))
        )
    sizes = [int(size) for size in arguments.sizes.split(",")]
    bench = Bench(
        _relays(arguments, set(works)),
        works,
        sizes,
        _extent(arguments),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    # Ended by whatever means, it leaves no relay running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    results = bench.run()
    print(results.table())
    if arguments.json:
        arguments.json.write_text(json.dumps(results.as_json(), indent=1) + "\n", "utf-8")
    if arguments.figure:
        # Only here: everything else works without matplotlib.
        import_module("bench.figure").draw(results, arguments.figure)


if __name__ == "__main__":
    main()
