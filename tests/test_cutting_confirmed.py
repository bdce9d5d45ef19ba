"""`cut_confirmed`, pure and compiled, against the rules and against each other."""

from __future__ import annotations

from unittest import SkipTest

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import cutting
from chatrelay.cutting import Confirmed
from chatrelay.wire import is_clean
from tests.test_cutting import COMPILED, NOT_COMPILED

IMPLEMENTATIONS = (cutting, *([COMPILED] if COMPILED else ()))
# Two writings of one name lead to one log.
ROUTES = {b"bob": "bob", b"BOB": "bob", b"dave": "dave", "Анна".encode(): "Анна"}
KNOWN = {b"known": None}
MAX_LINE_BYTES = 90
PLAIN = [b"@ref=%d %%bob%%hi" % number for number in range(6)]
ODD = [
    *(b"%bob%hi", b"@ref= %bob%x", b"@ref=known %bob%x", b"@ref=a;b %bob%x", b"@ref=a\t %bob%x"),
    *(b"@ref=a=b %dave%100 % %", b"@ref=c  %bob%x", b"@ref=c %bob%", b"@ref=c %bob", b"@ref=c %"),
    *(b"@ref=c ", b"@ref=c", b"@ref=", b"@ref", b"@", b"", b"@id=1;ref=c %bob%x", b"@ref=d %%x"),
    *(b"@ref=e %BOB%x", b"@ref=e %bob,dave%x", b"@ref=e %eve%x", b"@ref=e %bob%\x1b"),
    *(b"@ref=e %bob%\xff", "@ref=e %bob%\u2028".encode(), "@ref=ж %Анна%ö".encode()),
    *(b"@ref=" + b"r" * 64 + b" %bob%x", b"@ref=" + b"r" * 65 + b" %bob%x"),
    *(b"@ref=f %bob%" + b"y" * 78, b"@ref=f %bob%" + b"y" * 79, b"@ref=g /who", b"@ref=1 %dave%x"),
]
LINES = st.one_of(
    st.sampled_from([*PLAIN, *ODD]),
    st.lists(st.sampled_from([b"@ref=", b"%", b" ", b"bob", b"\t", b"\xff", b";", b"x"])).map(
        b"".join
    ),
)
BLOCKS = st.lists(LINES, min_size=1, max_size=12)


def cut_slowly(lines: list[bytes]) -> tuple[int, Confirmed[str]]:
    """The same as the rules say it: where it ends, and what goes to whom."""
    groups: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    seen: set[bytes] = set()
    size = 0
    for line in lines:
        tags, space, message = line.partition(b" ")
        ref = tags.removeprefix(b"@ref=")
        parts = message.split(b"%", 2)
        is_plain = tags.startswith(b"@ref=") and space and len(parts) == 3 and not parts[0]
        if not is_plain or not parts[2] or not is_clean(line) or len(line) > MAX_LINE_BYTES:
            break
        if not 1 <= len(ref) <= 64 or b";" in ref or b"\t" in ref or ref in seen or ref in KNOWN:
            break
        others = {ROUTES[target] for target in groups if target != parts[1]}
        if parts[1] not in ROUTES or ROUTES[parts[1]] in others:
            break
        refs, texts = groups.setdefault(parts[1], ([], []))
        seen.add(ref)
        refs.append(ref)
        texts.append(parts[2])
        size += len(line) + 1
    return size, [
        (ROUTES[target], target, refs, b"\n".join(texts))
        for target, (refs, texts) in groups.items()
    ]


class Recipient:
    """One that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Recipient.compared += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


class CutConfirmedTests(SynchronousTestCase):
    """Each of the two is what the rules say."""

    def check(self, lines: list[bytes], before: bytes) -> None:
        block = before + b"".join(line + b"\n" for line in lines)
        expected = cut_slowly(lines)
        for by in IMPLEMENTATIONS:
            end, cut = by.cut_confirmed(block, len(before), MAX_LINE_BYTES, ROUTES, KNOWN)
            self.assertEqual((end - len(before), cut), expected, (by, lines))

    def test_each_odd_line(self) -> None:
        for line in ODD:
            for before in (b"", b"%bob%before\n"):
                self.check([*PLAIN[:2], line, *PLAIN[2:4]], before)
                self.check([line], before)

    @given(BLOCKS)
    def test_any_lines(self, lines: list[bytes]) -> None:
        self.check(lines, b"")

    def test_many_recipients_are_not_compared_with_each_other(self) -> None:
        routes = {b"n%d" % number: Recipient() for number in range(500)}
        block = b"".join(b"@ref=%b %%%b%%x\n" % (name, name) for name in routes)
        for by in IMPLEMENTATIONS:
            Recipient.compared = 0
            end, cut = by.cut_confirmed(block, 0, MAX_LINE_BYTES, routes, {})
            self.assertEqual((end, len(cut)), (len(block), 500))
            self.assertLess(Recipient.compared, 500, by)

    def test_it_is_compiled(self) -> None:
        if COMPILED is None:
            raise SkipTest(NOT_COMPILED)
