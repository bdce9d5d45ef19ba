"""What becomes of a job of the store that failed: who asked is told, and a bug is logged."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.errors import Refusal, StoreFailed
from chatrelay.store.jobs import SENTENCE

_log = Logger(namespace="chatrelay")


def refusal_of(failure: Failure) -> Refusal:
    """What a client is told."""
    note(failure)
    if isinstance(failure.value, Refusal):
        return failure.value
    return StoreFailed(sentence=SENTENCE)


def note(failure: Failure) -> None:
    """Log what is no refusal; what is wrong with the disk the store has said."""
    if not failure.check(Refusal):
        _log.failure("the logs of names failed", failure)
