"""What a command is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from chatrelay.errors import BadLine

if TYPE_CHECKING:
    from chatrelay.session import Session

Answer = Callable[["Session", list[bytes], bytes], Iterable[bytes]]
"""
Serve a command: of this session, with these words after the verb, and the ref that a
later answer carries.  It may raise a `chatrelay.errors.Refusal`.  The lines that it returns are
those of `chatrelay.session.Session.begin_answer`.
"""


class Verb(NamedTuple):
    """
    A command.

    :ivar word: what stands after the ``/``.
    :ivar form: how it is written, with its arguments.
    :ivar purpose: what it is for, a few words.
    :ivar answer: what answers it.
    :ivar before_naming: whether it needs no name.
    :ivar for_operators: whether others may not use it.
    """

    word: bytes
    form: str
    purpose: str
    answer: Answer
    before_naming: bool = False
    for_operators: bool = False


def wrong_form(form: str) -> BadLine:
    """The refusal of a command with other arguments than it has."""
    return BadLine(sentence="It is written " + form)
