"""
One target under a fuzzer that is guided by the code of chatrelay that it reaches.

``python -m tests.fuzzing`` starts this; the arguments are a target, and those of libFuzzer.
"""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from typing import Any


def main(target: str, arguments: list[str]) -> None:
    """Fuzz a target; ends the process."""
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.exit("the package atheris is missing: pip install -e '.[fuzz]'")
    # What guides it is seen only in what is imported here.
    with atheris.instrument_imports(include=["chatrelay"]):
        targets = import_module("tests.fuzzing.targets").TARGETS
        mutating = import_module("tests.fuzzing.mutating")
        cutting = import_module("tests.fuzzing.cutting")
    if target == "cutting" and cutting.compiled is None:
        sys.exit("chatrelay._cutting is not built: pip install -e . with gcc and python3-dev")
    options: dict[str, Any] = {}
    if target == "session":

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            return mutating.mutate(data, max_size, seed, atheris.Mutate)

        options["custom_mutator"] = mutate
    # It starts itself anew, through a shell, where inputs are merged.
    command = shlex.join([sys.executable, "-m", "tests.fuzzing.guided", target])
    atheris.Setup([command, *arguments], targets[target], **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
