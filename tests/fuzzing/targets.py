"""What can be fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzzing import cutting, session, wire

TARGETS: dict[str, Callable[[bytes], None]] = {
    "cutting": cutting.check,
    "session": session.check,
    "wire": wire.check,
}
