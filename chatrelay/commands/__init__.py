"""
The table of commands: each verb's form, what it is for, and what answers it.

A command's answer is a sequence of lines without tags and ends.  It may be a generator:
the session takes from it as fast as the client reads, and nothing else that the client
wrote is served before it ends.
"""

from __future__ import annotations

from chatrelay.commands import (
    banning,
    connection,
    kept_rooms,
    mailbox,
    operators,
    owning,
    people,
    rooms,
)
from chatrelay.commands.verb import Verb

VERBS: dict[bytes, Verb] = {
    verb.word: verb
    for verb in (
        *(*connection.VERBS, *owning.VERBS, *mailbox.VERBS, *people.VERBS),
        *(*rooms.VERBS, *kept_rooms.VERBS, *operators.VERBS, *banning.VERBS),
    )
}
"""Every command that this relay has, by its word."""

__all__ = ["VERBS", "Verb"]
