"""The commands of operators that keep somebody out, and let him in again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chatrelay.bans import Ban, Target, banned, includes, is_loopback, read_target, shown
from chatrelay.claims import Decided
from chatrelay.commands.operators import close, connections_of, note, read_why
from chatrelay.commands.verb import Verb, wrong_form
from chatrelay.errors import BadLine, NotAllowed, Refusal, UnknownName
from chatrelay.names import SERVER_NAME, Name
from chatrelay.pending import await_decision

if TYPE_CHECKING:
    from chatrelay.relay import Relay
    from chatrelay.session import Session

_BAN_FORM = "/ban [NAME or ADDRESS or NETWORK] [TIME] [WHY]"
_UNBAN_FORM = "/unban NAME or ADDRESS or NETWORK"
_TIME = re.compile(rb"([1-9][0-9]{0,8})([smhd])\Z")
# What was meant as one, and would be taken for a reason to ban for good: 90min, 1w, 2 hours.
_LIKE_TIME = re.compile(rb"[0-9]+[A-Za-z]*\Z")
_UNITS_S = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86_400}
_MAX_S = 36_500 * 86_400
_NO_TIME = "A time is written like 30s, 10m, 2h or 7d; why is said in words that begin otherwise."
_TOO_LONG = "A ban is for 36500d at most; without a time it is for good."
_OWN_NAME = "This is your own name."
_NO_CLIENT = "This name is the relay's own, or a bot's."
_OWN_MACHINE = "These are addresses of the relay's own machine, which is never kept out."
_OWN_ADDRESS = "You are connected from there yourself."
_NO_BAN = "There is no ban of this; /ban lists them."


def _ban(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if not words:
        note(session, b"/ban")
        return _list(session.relay)
    relay = session.relay
    target = read_target(words[0])
    _check_not_oneself(session, target)
    made_s = relay.wall_clock()
    time_s = _read_time(words[1]) if len(words) > 1 else None
    why = read_why(words[1:] if time_s is None else words[2:])
    until_s = None if time_s is None else made_s + time_s
    ban = Ban(target, made_s, until_s, session.name.shown, why)

    def add(decided: Decided[int]) -> None:
        def added(refusal: Refusal | None) -> None:
            if refusal is not None:
                decided(refusal)
                return
            # Here, so that it is done also if the operator has gone meanwhile.
            note(session, b"/ban", *words)
            decided(_close_banned(relay, ban))

        relay.bans.add(ban, added)

    def tell(count: int) -> None:
        words = (b"!banned", shown(target), b"until=" + _until(relay, ban))
        session.answer(b" ".join((*words, b"connections=%d" % count)), ref)

    await_decision(session, add, tell, ref)
    return ()


def _close_banned(relay: Relay, ban: Ban) -> int:
    context = [ban.target.shown] if isinstance(ban.target, Name) else []
    clients = connections_of(relay, ban.target)
    return close(clients, "an operator banned it", banned(ban, *context))


def _check_not_oneself(session: Session, target: Target) -> None:
    """
    Check that an operator who errs keeps out neither himself nor the relay's own.

    :raises NotAllowed: he would.
    """
    relay, own = session.relay, session.name
    if isinstance(target, Name):
        if target.key == own.key:
            raise NotAllowed(sentence=_OWN_NAME)
        if target.key == SERVER_NAME or relay.registry.is_bot(target.key):
            raise NotAllowed(sentence=_NO_CLIENT)
        return
    if is_loopback(target):
        raise NotAllowed(sentence=_OWN_MACHINE)
    if any(includes(target, client.peer.host) for client in connections_of(relay, own)):
        raise NotAllowed(sentence=_OWN_ADDRESS)


def _read_time(word: bytes) -> int | None:
    """
    Read how long a ban is for, in seconds; ``None`` if a word is no time.

    :raises BadLine: it is too long, or only looks like one.
    """
    match = _TIME.match(word)
    if match is None:
        if _LIKE_TIME.match(word):
            raise BadLine(sentence=_NO_TIME)
        return None
    time_s = int(match[1]) * _UNITS_S[match[2]]
    if time_s > _MAX_S:
        raise BadLine(sentence=_TOO_LONG)
    return time_s


def _until(relay: Relay, ban: Ban) -> bytes:
    return b"never" if ban.until_s is None else relay.timestamp(int(ban.until_s * 1000))


def _list(relay: Relay) -> Iterator[bytes]:
    listed = 0
    for ban in relay.bans:
        line = b"!ban %b until=%b since=%b by=%b" % (
            shown(ban.target),
            _until(relay, ban),
            relay.timestamp(int(ban.made_s * 1000)),
            ban.made_by,
        )
        yield line + b" :" + ban.why if ban.why else line
        listed += 1
    yield b"!end ban %d" % listed


def _unban(session: Session, words: list[bytes], ref: bytes) -> Iterable[bytes]:
    if len(words) != 1:
        raise wrong_form(_UNBAN_FORM)
    bans, target = session.relay.bans, read_target(words[0])
    if not bans.has(target):
        raise UnknownName(shown(target), sentence=_why_there_is_none(session.relay, target))

    def remove(decided: Decided[None]) -> None:
        def removed(refusal: Refusal | None) -> None:
            if refusal is None:
                note(session, b"/unban", shown(target))
            decided(refusal)

        bans.remove(target, removed)

    answer = b"!unbanned " + shown(target)
    await_decision(session, remove, lambda _: session.answer(answer, ref), ref)
    return ()


def _why_there_is_none(relay: Relay, target: Target) -> str:
    wider = None if isinstance(target, Name) else relay.bans.of_network(target)
    if wider is None:
        return _NO_BAN
    return f"Not this is banned, but {shown(wider.target).decode()}: /unban that."


VERBS = (
    Verb(
        b"ban",
        _BAN_FORM,
        "keep out for a time, as 30s, 10m, 2h or 7d, or for good; alone it lists the bans",
        _ban,
        for_operators=True,
    ),
    Verb(b"unban", _UNBAN_FORM, "let in again", _unban, for_operators=True),
)
