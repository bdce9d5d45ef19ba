"""Where a client's conversation is."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a session is."""

    UNNAMED = "not yet named"
    NAMED = "named"
    CLOSED = "closed"
