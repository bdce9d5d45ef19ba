"""Owned names that all come back at once, as after a restart of the relay."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.generating import generate
from bench.relays import Relay

_REGISTERING_S = 700.0


class Returning:
    """
    The names of a run, registered once for each relay; each measurement begins with them anew.

    It is a context, which at its end removes what it has written.
    """

    def __init__(self, count: int) -> None:
        """
        Prepare.

        :param count: how many names.
        """
        self._count = count
        self._directory = tempfile.TemporaryDirectory(prefix="chatrelay-bench-")
        self._tokens: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Returning:
        """Nothing is done before it is asked for."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what was written."""
        self._directory.cleanup()

    def measure(self, relay: Relay, *, owned_first: bool, settle_s: float) -> dict[str, Any]:
        """
        Let all of them come back with their tokens, and as many names that nobody owns.

        :param owned_first: who begins.
        :param settle_s: the pause between the two.
        :returns: what `bench.logins.return_of_all` found.
        """
        kept = Path(self._directory.name) / relay.name
        if relay.name not in self._tokens:
            found = self._register(relay, kept)
            if "error" in found:
                return found
            self._tokens[relay.name] = found["tokens"]
        data = kept.with_name(f"{relay.name}.now")
        shutil.copytree(kept, data)
        served = relay.start(data)
        try:
            return generate(
                relay,
                served,
                kind="return_of_all",
                tokens=self._tokens[relay.name],
                owned_first=owned_first,
                at_once=relay.at_once,
                settle_s=settle_s,
            )
        finally:
            served.end()
            shutil.rmtree(data)

    def _register(self, relay: Relay, kept: Path) -> dict[str, Any]:
        served = relay.start(kept)
        try:
            return generate(
                relay, served, within_s=_REGISTERING_S, kind="register", count=self._count
            )
        finally:
            served.end()
