"""Servers that keep messages, and owned names at live messages: begun anew for each measurement."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

from bench.confirming.mail import CROWDS
from bench.generating import generate, generate_anew
from bench.owned import Owned
from bench.process import Served
from bench.relay import Relay
from bench.traffic import PATTERNS
from bench.works import OWNED

SIZE = 64
# A measurement ends early where this is not enough.
_MOST_MESSAGES = 600_000
_MOST_AT_ONCE_MORE = 1.5
_IN_A_MAILBOX = 10_000
# What a mailbox holds by default would be full at once; others have no bound here either.
_ROOMY = (("--max-mailbox", "1000000"), ("--max-mailbox-bytes", str(1 << 34)))

_MAIL_NAMES = sorted(
    {name for crowd in CROWDS.values() for name in crowd.sender_names + crowd.recipient_names}
)
_LIVE_NAMES = PATTERNS["a"].sender_names + PATTERNS["a"].receiver_names


class Keeping:
    """The names of a run, and what was found so far; `remove` has to be called at the end."""

    def __init__(self, *, seconds: float, verified: int, settle_s: float) -> None:
        """
        Prepare.

        :param seconds: about how long one measurement lasts.
        :param verified: messages whose confirmations are looked at before it.
        :param settle_s: the pause between filling a mailbox and emptying it.
        """
        self._seconds = seconds
        self._verified = verified
        self._settle_s = settle_s
        self._owned = Owned(_MAIL_NAMES)
        self._messages: dict[tuple[str, str], int] = {}

    def remove(self) -> None:
        """Remove what was written."""
        self._owned.remove()

    def measure(self, work: str, relay: Relay) -> dict[str, Any]:
        """
        Measure a server once.

        :returns: what `bench.confirming.measuring` found, or `bench.generator.throughput`.
        """
        if work == "history":
            return self._live(relay)
        if not relay.keeps_messages:
            return {"error": "it keeps no messages"}
        with self._started(relay, is_roomy=work != "catchup") as (served, tokens):
            asked: dict[str, Any] = {
                "crowd": astuple(CROWDS[work]),
                "size": SIZE,
                "tokens": tokens,
            }
            if work == "catchup":
                asked |= {"messages": _IN_A_MAILBOX, "settle_s": self._settle_s}
                return generate(relay, served, kind="catching_up", **asked)
            known = (work, relay.name)
            found = generate(
                relay,
                served,
                kind="confirmed",
                **asked,
                acked=work == "acked",
                verified=self._verified,
                seconds=self._seconds,
                messages=self._messages.get(known, _MOST_MESSAGES),
            )
        if "messages" in found:
            more = int(found["messages"] * _MOST_AT_ONCE_MORE) + self._verified
            self._messages[known] = min(_MOST_MESSAGES, more)
            found["keeps"] = relay.keeps
            if work == "acked":
                found["keeps"] += f"; {relay.keeps_acks}"
        return found

    def _live(self, relay: Relay) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "kind": "throughput",
            "work": "a",
            "size": SIZE,
            "verified": self._verified,
            "seconds": self._seconds,
        }
        if not relay.name.startswith(OWNED):
            return generate_anew(relay, **asked)
        if not relay.has_accounts:
            return {"error": "its names can not be owned"}
        with self._owned.started(relay) as (served, tokens):
            return generate(
                relay,
                served,
                **asked,
                tokens={name: tokens[name] for name in _LIVE_NAMES},
                has_history=relay.has_history,
            )

    @contextmanager
    def _started(self, relay: Relay, *, is_roomy: bool) -> Iterator[tuple[Served, dict[str, str]]]:
        # What the last one has left to be written would be written while this one syncs.
        os.sync()
        if relay.may_have_accounts:
            with self._owned.started(relay, _ROOMY if is_roomy else ()) as owned:
                yield owned
        else:
            served = relay.start()
            try:
                yield served, {}
            finally:
                served.end()
