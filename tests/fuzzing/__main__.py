"""
Looks for bytes that chatrelay does not bear, guided by the code that they reach::

    python -m tests.fuzzing --minutes 30
    python -m tests.fuzzing session --minutes 30 --keep
    python -m tests.fuzzing session --input FILE

Each target begins with the inputs that are kept for it.  With --keep those are replaced by the
fewest that reach as much as all that were found.  What fails ends the run with status 1, and is
told with the command that repeats it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.fuzzing import seeds
from tests.fuzzing.beginnings import beginnings

# How much of the time each target has.
_SHARES = {"session": 0.8, "wire": 0.1, "cutting": 0.1}
_MOST_INPUT_BYTES = 2048
# One input takes some milliseconds; libFuzzer ends what takes as long as this, or as much memory.
_MOST_S = 30
_MOST_MIB = 1024


def main(arguments: list[str]) -> int:
    """Run what the command line says; returns the exit status."""
    ours, theirs = _split(arguments)
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("target", nargs="?", choices=sorted(_SHARES), help="all, if not given")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all of them together")
    parser.add_argument("--corpus", type=Path, help="a directory for what is found, kept")
    parser.add_argument("--keep", action="store_true", help="replace the inputs that are kept")
    parser.add_argument("--input", type=Path, help="only this one, as a failed run has left it")
    parser.epilog = "What stands behind -- is libFuzzer's."
    options = parser.parse_args(ours)
    targets = [options.target] if options.target else list(_SHARES)
    if options.input is not None:
        if not options.target:
            parser.error("--input needs a target")
        return _run(options.target, [str(options.input), *theirs])
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="chatrelay-fuzzing-"))
    total = sum(_SHARES[target] for target in targets)
    for target in targets:
        seconds = int(options.minutes * 60 * _SHARES[target] / total)
        if not fuzz(target, corpus / target, seconds, theirs, keeps=options.keep):
            return 1
    if options.corpus is None:
        shutil.rmtree(corpus)
    return 0


def fuzz(target: str, corpus: Path, seconds: int, arguments: list[str], *, keeps: bool) -> bool:
    """
    Fuzz one target.

    :param corpus: where inputs are added to.
    :param arguments: more of libFuzzer's.
    :param keeps: whether to replace the inputs that are kept.
    :returns: whether nothing was found that is wrong.
    """
    found = corpus / "found"
    by_hand = list(beginnings()) if target == "session" else []
    _fill(found, [*seeds.read(target), *by_hand])
    most = f"-max_len={_MOST_INPUT_BYTES}"
    limits = [f"-timeout={_MOST_S}", f"-rss_limit_mb={_MOST_MIB}", most]
    wrong = f"-artifact_prefix={corpus}/"
    status = _run(target, [f"-max_total_time={seconds}", *limits, wrong, *arguments, str(found)])
    if status:
        for path in sorted(corpus.glob("*-*")):
            print(f"to repeat it: python -m tests.fuzzing {target} --input {path}")
        return False
    count = len(list(found.iterdir()))
    print(f"{target}: nothing wrong in {seconds} s; {count} inputs were found", flush=True)
    if keeps:
        fewest = corpus / "fewest"
        shutil.rmtree(fewest, ignore_errors=True)
        fewest.mkdir()
        # In conversations it counts which code is reached, and not how often.
        counts = f"-use_counters={int(target != 'session')}"
        if _run(target, ["-merge=1", counts, most, str(fewest), str(found)]):
            return False
        seeds.write(target, [path.read_bytes() for path in fewest.iterdir()])
        print(f"{target}: {len(seeds.read(target))} inputs are in {seeds.path_of(target)}")
    return True


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _fill(directory: Path, inputs: list[bytes]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / sha256(data).hexdigest()).write_bytes(data)


def _run(target: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "tests.fuzzing.guided", target, *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
