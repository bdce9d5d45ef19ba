"""
Varies inputs of the session's target by what they mean: other steps, lines that the protocol has.

Bytes alone are long in finding a command with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from chatrelay.commands import VERBS
from tests.accounts_harness import SECRET
from tests.fuzzing.session import BETWEEN, LAST_ID, LAST_TOKEN, Step
from tests.fuzzing.world import ADDRESSES, LIMITS, OWNED

_NAMES = (*OWNED, b"ann", b"bob", b"Ann", "ж".encode(), b"reverse", b"server", b"root")
_ROOMS = (b"#r", b"#s", b"#R", b"#\xd0\xb6")
_TEXTS = (b"hi", b"100 % %", b"x" * 100, b"y" * 240, b"z" * 300, b"\xff", b"\x1b", b"\xc2\x85", b"")
_WORDS = (
    *(SECRET, SECRET + b"2", LAST_TOKEN, LAST_ID, b"before=" + LAST_ID, b"after=" + LAST_ID),
    *(b"id", b"time", b"ack", b"echo", b"ping", b"receipts", b"none", b"3", b"1", b"2h"),
    *(b"members-only", b"open", b"topic", b"127.0.0.1", b"192.0.2.0/24", b"x" * 200),
)
_TAGS = (
    b"@a ",
    b"@a=b;c ",
    b"@ref= ",
    b"@;",
    b"@" + b"t" * 520 + b" ",
    b"@ref=" + b"r" * 65 + b" ",
)
# Most of what happens is that somebody writes.
_STEPS = (*[Step.LINE] * 12, Step.WITHOUT_TURN, Step.MANY, Step.BYTES, *Step)


def mutate(data: bytes, max_size: int, seed: int, by_bytes: Callable[[bytes, int], bytes]) -> bytes:
    """
    Vary an input.

    :param by_bytes: varies it without knowing what it means.
    """
    random = Random(seed)
    if random.random() < 0.25:
        return by_bytes(data, max_size)
    choices, *steps = data.split(BETWEEN)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(_MUTATIONS)(random, steps)
    if random.random() < 0.1:
        choices = bytes([random.randrange(128)])
    while steps and len(choices) + sum(map(len, steps)) + len(steps) > max_size:
        del steps[random.randrange(len(steps))]
    return BETWEEN.join([choices, *steps])[:max_size]


def new_step(random: Random) -> bytes:
    """Any step."""
    what = random.choice(_STEPS)
    head = bytes([what | random.randrange(len(ADDRESSES))])
    if what in (Step.LINE, Step.WITHOUT_TURN, Step.BYTES):
        return head + new_line(random)
    if what is Step.MANY:
        return head + bytes([random.choice((2, 8, 60))]) + new_line(random)
    return head + random.choice((b"", bytes([random.randrange(250)])))


def new_line(random: Random) -> bytes:
    """A line that the protocol has, mostly."""
    dice = random.random()
    line = b""
    if dice < 0.3:
        line = random.choice(_NAMES)
        if line in OWNED or random.random() < 0.1:
            line += b" " + random.choice((SECRET, SECRET, LAST_TOKEN, b"wrong-secret"))
        return line
    if random.random() < 0.4:
        line = b"@ref=%d " % random.randrange(8)
    elif random.random() < 0.05:
        line = random.choice(_TAGS)
    if dice < 0.6:
        targets = random.choices(_NAMES, k=random.choice((1, 1, 1, 2, LIMITS.max_targets + 1)))
        if random.random() < 0.3:
            targets = [random.choice((*_ROOMS, b"*"))]
        return line + b"%" + b",".join(targets) + b"%" + random.choice(_TEXTS)
    verb = random.choice(sorted(VERBS))
    words = [random.choice(random.choice((_NAMES, _ROOMS, _WORDS))) for _ in range(4)]
    return line + b" ".join([b"/" + verb, *words[: random.choice((0, 1, 1, 1, 2, 4))]])


def _insert(random: Random, steps: list[bytes]) -> None:
    steps.insert(random.randint(0, len(steps)), new_step(random))


def _add(random: Random, steps: list[bytes]) -> None:
    steps.append(new_step(random))


def _replace(random: Random, steps: list[bytes]) -> None:
    if steps:
        steps[random.randrange(len(steps))] = new_step(random)


def _remove(random: Random, steps: list[bytes]) -> None:
    if steps:
        start = random.randrange(len(steps))
        del steps[start : start + random.choice((1, 1, 3))]


def _repeat(random: Random, steps: list[bytes]) -> None:
    if steps:
        start = random.randrange(len(steps))
        again = steps[start : start + random.choice((1, 2, 4))]
        to = random.randint(0, len(steps))
        steps[to:to] = again


def _move(random: Random, steps: list[bytes]) -> None:
    if steps:
        steps.insert(random.randrange(len(steps)), steps.pop(random.randrange(len(steps))))


def _change_step(random: Random, steps: list[bytes]) -> None:
    """The same by somebody else, or something else by the same one."""
    if steps:
        number = random.randrange(len(steps))
        head, rest = steps[number][:1], steps[number][1:]
        if head:
            what = random.choice((head[0] & 0xF8, random.choice(_STEPS)))
            steps[number] = bytes([what | random.randrange(len(ADDRESSES))]) + rest


_MUTATIONS = (_insert, _insert, _add, _add, _replace, _remove, _repeat, _move, _change_step)
