"""Conversations written by hand, from which the fuzzer begins: a little of everything there is."""

from __future__ import annotations

from collections.abc import Iterator

from tests.accounts_harness import SECRET
from tests.fuzzing.session import LAST_ID, LAST_TOKEN, Choice, Step, conversation, step

# A client, and what it writes; a step without a client is the store's or time's.
_Said = tuple[int, bytes] | bytes
_STORED = step(Step.STORE_ALL, 0)
_LATER = step(Step.WAIT, 0, b"\x03")
_OLGA, _OTIS = b"olga " + SECRET, b"otis " + SECRET
_OPERATOR = b"oper " + SECRET

_FREE: list[_Said] = [
    (0, b"ann"),
    (1, b"bob"),
    (1, b"/caps id time echo ping receipts"),
    (0, b"/watch bob cid"),
    (0, b"@ref=1 %bob,ann,cid%hi"),
    (0, b"%bob%a\n%bob%b\n%ann%c\n@ref=2 %BOB%d"),
    (0, b"%reverse%hi"),
    (2, b"cid"),
    (2, b"/name dora"),
    (1, b"/who dora"),
    step(Step.RESET, 2),
    (0, b"/unwatch bob"),
    _LATER,
    (1, b"/quit"),
]
_ROOMS: list[_Said] = [
    *((number, name) for number, name in enumerate((b"ann", b"bob", b"cid"))),
    *((number, b"/join #r") for number in range(3)),
    (0, b"/caps echo id"),
    (0, b"@ref=1 %#R%hi"),
    (1, b"%#r%a\n%#r%b\n%#s%c"),
    (2, b"/who #r"),
    step(Step.STOP_TAKING, 2),
    step(Step.MANY, 0, b"\x3c%#r%" + b"x" * 60),
    (1, b"/leave #r"),
    (1, b"/rooms"),
    step(Step.TAKE, 2),
    step(Step.RESET, 0),
]
_KEPT: list[_Said] = [
    (0, _OLGA),
    _STORED,
    (1, _OTIS),
    _STORED,
    (0, b"/join #r"),
    (0, b"/keep #r members-only"),
    _STORED,
    (0, b"/topic #r hello all"),
    _STORED,
    (0, b"/invite #r otis"),
    _STORED,
    (1, b"/join #r"),
    _STORED,
    step(Step.END, 1),
    _STORED,
    (0, b"@ref=1 %#r%you are away"),
    (0, b"%#r%and this"),
    _STORED,
    (1, _OTIS),
    _STORED,
    (1, b"/history #r 5"),
    _STORED,
    (1, b"/topic #r"),
    (0, b"/remove #r otis"),
    _STORED,
    (0, b"/keep #r open"),
    _STORED,
    (0, b"/unkeep #r"),
    _STORED,
]
_LOGS: list[_Said] = [
    (0, b"ann"),
    (0, b"@ref=1 %olga%one"),
    (0, b"@ref=2 %olga%two\n@ref=3 %otis%three"),
    _STORED,
    (1, b"/caps ack time receipts"),
    (1, _OLGA),
    _STORED,
    (1, b"/ack " + LAST_ID),
    _STORED,
    (1, b"/token"),
    _STORED,
    (2, b"olga " + LAST_TOKEN),
    _STORED,
    (1, b"/history 10 before=" + LAST_ID),
    _STORED,
    (1, b"/block ann"),
    _STORED,
    (0, b"@ref=4 %olga%four"),
    (1, b"/register " + SECRET + b"2 " + SECRET),
    _STORED,
    step(Step.FULL_DISK, 0, b"\x01"),
    (0, b"@ref=5 %otis%five"),
    _STORED,
    step(Step.FULL_DISK, 0),
    (0, b"/register " + SECRET),
    _STORED,
]
_OPERATORS: list[_Said] = [
    (0, _OPERATOR),
    _STORED,
    (1, b"ann"),
    (2, b"bob"),
    (0, b"/clients"),
    (0, b"/stats"),
    (0, b"%*%going down"),
    (0, b"/kick ann rude"),
    (0, b"/ban bob 2h"),
    _STORED,
    (0, b"/ban 192.0.2.0/24 2h"),
    _STORED,
    (2, b"bob"),
    (0, b"/ban"),
    _STORED,
    (0, b"/unban bob"),
    _STORED,
    (1, b"/stats"),
]
_ODD: list[_Said] = [
    (0, b"%bob%hi"),
    (0, b"GET / HTTP/1.1"),
    (1, b"\x16\x03"),
    (2, b"a b c"),
    (2, b"x" * 300),
    (2, b"\xff"),
    (3, _OLGA),
    (4, "жук\r".encode()),
    (4, b"@" + b"t" * 600 + b" /help"),
    (4, b"/help\n/help join\n/nothing"),
    step(Step.BYTES, 4, b"%half"),
    step(Step.RESET, 4),
    step(Step.WAIT, 0, b"\x04"),
]


def beginnings() -> Iterator[bytes]:
    """Each of them as an input, several times: with nothing else, and with all else."""
    for said in (_FREE, _ROOMS, _KEPT, _LOGS, _OPERATORS, _ODD):
        steps = [one if isinstance(one, bytes) else step(Step.LINE, *one) for one in said]
        for choice in (0, Choice.TIME_PASSES, Choice.PUBLIC, sum(Choice) - Choice.HIGH_MARKS):
            yield conversation(choice, steps)
