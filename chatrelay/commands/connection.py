"""The commands about one's own connection; all but ``/name`` work before naming."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import UnknownCommand
from chatrelay.naming import claim

if TYPE_CHECKING:
    from chatrelay.session import Session

CAPS = (b"id", b"time", b"echo", b"ping", b"ack", b"receipts")
"""What a client may ask to have added to what it is sent."""


def _help(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    # The table is made of the modules of this package, this one too.
    from chatrelay.commands import VERBS  # noqa: PLC0415

    verbs: Iterable[Verb] = VERBS.values()
    if words:
        verb = VERBS.get(words[0].removeprefix(b"/").lower())
        if verb is None:
            raise UnknownCommand
        verbs = [verb]
    else:
        yield b"!help %NAME%TEXT :send TEXT to NAME; %NAME,NAME%TEXT to several"
    for verb in verbs:
        if words or session.is_operator or not verb.for_operators:
            purpose = f"operators: {verb.purpose}" if verb.for_operators else verb.purpose
            yield f"!help {verb.form} :{purpose}".encode()
    yield b"!end help"


def _name(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) not in (1, 2):
        raise wrong_form("/name NEW [SECRET]")
    claim(session, words[0], words[1] if len(words) > 1 else None, ref)
    return ()


def _caps(session: Session, words: list[bytes], _ref: bytes) -> Iterator[bytes]:
    if not words:
        yield b"!caps-available " + b" ".join(CAPS)
        return
    caps = frozenset(words).intersection(CAPS)
    if b"ack" in caps:
        # What is to be acked has an id.
        caps |= {b"id"}
    yield b"!caps " + (b" ".join(cap for cap in CAPS if cap in caps) or b"none")
    # Behind the answer: what has waited may be written at once, with these.
    session.set_caps(caps)


def _ping(_session: Session, words: list[bytes], _ref: bytes) -> Iterable[bytes]:
    return [b" ".join([b"!pong", *words])]


def _pong(_session: Session, _words: list[bytes], _ref: bytes) -> Iterable[bytes]:
    # Whatever a client sends proves that it is there; this is for sending something.
    return ()


def _quit(session: Session, _words: list[bytes], ref: bytes) -> Iterable[bytes]:
    def leave() -> None:
        session.answer(b"!bye", ref)
        session.close("it quit")

    session.when_answered(leave)
    return ()


VERBS = (
    Verb(b"help", "/help [VERB]", "this list", _help, before_naming=True),
    Verb(b"name", "/name NEW [SECRET]", "take another name", _name),
    Verb(
        b"caps",
        "/caps [id] [time] [echo] [ping] [ack] [receipts] or none",
        "what is added to what you are sent; alone it tells what there is",
        _caps,
        before_naming=True,
    ),
    Verb(b"ping", "/ping [TOKEN]", "the relay answers !pong TOKEN", _ping, before_naming=True),
    Verb(b"pong", "/pong [TOKEN]", "answers the relay's !ping", _pong, before_naming=True),
    Verb(b"quit", "/quit", "leave", _quit, before_naming=True),
)
