"""
The inputs that are kept: those by which a fuzzer reached something that it had not, and those of
which something was wrong.

A file for each target, a line for each input, in order and escaped as Python does: a change of
them can be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).parent


def path_of(target: str) -> Path:
    """The file with the inputs of a target."""
    return DIRECTORY / f"{target}.seeds"


def read(target: str) -> list[bytes]:
    """The inputs that are kept for a target."""
    lines = path_of(target).read_text("ascii").splitlines()
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines]


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these inputs, and no others."""
    lines = [data.decode("latin-1").encode("unicode_escape") for data in sorted(set(inputs))]
    path_of(target).write_bytes(b"".join(line + b"\n" for line in lines))
