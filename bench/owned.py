"""Names that were registered once in a run, for every relay that begins with them anew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.generating import generate
from bench.process import Served
from bench.relay import Relay

_REGISTERING_S = 700.0


class Owned:
    """These names of every relay; `remove` has to be called at the end."""

    def __init__(self, names: Sequence[str]) -> None:
        """
        Prepare.

        :param names: that are to be owned.
        """
        self._names = list(names)
        self._directory = tempfile.TemporaryDirectory(prefix="chatrelay-bench-")
        self._tokens: dict[str, dict[str, str]] = {}

    def remove(self) -> None:
        """Remove what was written."""
        self._directory.cleanup()

    @contextmanager
    def started(
        self, relay: Relay, options: Sequence[tuple[str, str]] = ()
    ) -> Iterator[tuple[Served, dict[str, str]]]:
        """
        A relay that has these names and nothing else; it ends with the context.

        :param options: that it is started with, where it knows them.
        :returns: it, and the token of each name.
        :raises RuntimeError: they could not be registered.
        """
        kept = Path(self._directory.name) / relay.name
        if relay.name not in self._tokens:
            self._tokens[relay.name] = self._register(relay, kept)
        data = kept.with_name(f"{relay.name}.now")
        shutil.copytree(kept, data)
        served = relay.start(data, options)
        try:
            yield served, self._tokens[relay.name]
        finally:
            served.end()
            shutil.rmtree(data)

    def _register(self, relay: Relay, kept: Path) -> dict[str, str]:
        served = relay.start(kept)
        try:
            found: dict[str, Any] = generate(
                relay, served, within_s=_REGISTERING_S, kind="register", names=self._names
            )
        finally:
            served.end()
        if "error" in found:
            raise RuntimeError(found["error"])
        tokens: dict[str, str] = found["tokens"]
        return tokens
