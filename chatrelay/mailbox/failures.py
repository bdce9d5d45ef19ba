"""Who asked for a job of the store is told what came of it, and a bug is logged."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.claims import Decided
from chatrelay.errors import Refusal, StoreFailed
from chatrelay.store.jobs import SENTENCE

T = TypeVar("T")

_log = Logger(namespace="chatrelay")


def tell(asked: Deferred[T], decided: Decided[T]) -> None:
    """
    Tell who asked what came of a job.

    :param asked: fires with what he is told, or with why the job failed.
    """
    asked.addCallbacks(decided, lambda failure: decided(refusal_of(failure)))
    asked.addErrback(lambda failure: _log.failure("answering failed", failure))


def refusal_of(failure: Failure) -> Refusal:
    """What a client is told."""
    note(failure)
    if isinstance(failure.value, Refusal):
        return failure.value
    return StoreFailed(sentence=SENTENCE)


def note(failure: Failure) -> None:
    """Log what is no refusal; what is wrong with the disk the store has said."""
    if not failure.check(Refusal):
        _log.failure("a job of the store failed", failure)
