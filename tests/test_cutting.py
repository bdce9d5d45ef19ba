"""The loops of the quick path, pure and compiled, against the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from types import ModuleType

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import cutting
from chatrelay.cutting import Cut
from chatrelay.runs import Run
from chatrelay.wire import is_clean

try:
    COMPILED: ModuleType | None = import_module("chatrelay._cutting")
except ImportError:
    COMPILED = None
NOT_COMPILED = "chatrelay._cutting is not built: Debian's packages gcc and python3-dev are needed"

PREFIX = b"%alice%"
# Two writings of one name lead to one recipient, and two of one room to that.
ROUTES = {
    b"bob": "bob",
    b"BOB": "bob",
    b"dave": "dave",
    "Анна".encode(): "Анна",
    b"x" * 32: "x",
    b"#ops": "#ops",
    b"#OPS": "#ops",
    b"#b": "#b",
}
# Who reads what is said in a room.
MEMBERS = {"#ops": ["bob", "dave"], "#b": ["dave", "Анна"]}
MAX_LINE_BYTES = 60
PARTS = st.sampled_from(
    [
        *(
            b"%",
            b"%",
            b"\n",
            b"\n%",
            b"bob",
            b"BOB",
            b"dave",
            b"eve",
            "Анна".encode(),
            b"x" * 32,
            b"hi",
            b"#ops",
            b"#OPS",
            b"#",
        ),
        *(b"\t", b"\x1b", b"\x7f", b"\xff", b"\xc2\x85", "é\u2028".encode(), b"\r", b"\x00"),
        *(b"%bob%hi\n", b"%dave%100 %\n", b"%bob%\n", b"z" * 40),
        *(b"%#ops%hi\n", b"%#b%x\n", b"%#OPS%x\n", b"%#%x\n", b"%##ops%x\n"),
    ]
)
PLAIN_LINES = [b"%bob%hi", b"%dave%" + b"y" * 30, "%Анна%ö".encode(), b"%#ops%x"]
BLOCKS = st.one_of(
    st.lists(PARTS, max_size=30).map(b"".join),
    # Blocks of plain messages, most of them to one, with perhaps another line among them.
    st.builds(
        lambda lines, count, odd: b"\n".join([*lines, *lines[:1] * count, *odd, *lines]),
        st.lists(st.sampled_from(PLAIN_LINES), min_size=1, max_size=9),
        st.integers(0, 20),
        st.lists(
            st.sampled_from(
                [
                    *(b"%bob%a%b", b"%bob%", b"%bob", b"bob%hi%x", b"%eve%x", b"%BOB%x", b"%%x"),
                    *(b"", b"/who", b"%bob%\x1b", b"%bob%\xff", b"%bob%" + b"y" * 60),
                    *(b"%#ops%hi", b"%#OPS%hi", b"%#b%hi", b"%#%x", b"%##%x", b"%#ops", b"%#ops%"),
                ]
            ),
            max_size=1,
        ),
    ).map(lambda block: block[1:]),
    st.binary(max_size=200),
).map(lambda block: b"%" + block + b"\n")
NUMBERED = st.lists(st.sampled_from([*ROUTES, b"#", b"##", b"eve"]), min_size=1, max_size=12).map(
    lambda targets: [b"%%%b%%%d" % numbered for numbered in zip(targets, count(), strict=False)]
)


def find_slowly(block: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
    """The same line by line."""
    end = start
    while block[end : end + 1] == b"%":
        end = block.index(b"\n", end) + 1
    stretch = block[start:end]
    fits = all(len(line) <= max_line_bytes for line in stretch.split(b"\n"))
    return end, fits and is_clean(stretch)


def cut_slowly(block: bytes) -> Cut[str] | None:
    """The same with a regular expression."""
    cut: Cut[str] = []
    written: dict[bytes, list[bytes]] = {}
    for line in block.split(b"\n")[:-1]:
        match = re.fullmatch(rb"%([^%]*)%(.+)", line, re.DOTALL)
        if (
            match is None
            or match[1] not in ROUTES
            or len(line) > MAX_LINE_BYTES
            or not is_clean(line)
        ):
            return None
        written.setdefault(match[1], []).append(PREFIX + match[2] + b"\n")
    cut = [(ROUTES[target], b"".join(lines), len(lines)) for target, lines in written.items()]
    if len(cut) > 1 and any(recipient.startswith("#") for recipient, _, _ in cut):
        return None
    return cut if len({recipient for recipient, _, _ in cut}) == len(cut) else None


def reads_of(recipient: str, texts: bytes) -> dict[str, list[bytes]]:
    """Who reads these lines, and which; a room has all its members read them."""
    return {who: texts.splitlines() for who in MEMBERS.get(recipient, [recipient])}


class CuttingTests(SynchronousTestCase):
    """Any bytes, as far as they are what the functions are for."""

    implementations = [cutting] if COMPILED is None else [cutting, COMPILED]

    @settings(max_examples=300)
    @given(BLOCKS, st.integers(1, 40))
    @example(b"%bob%" + b"x" * 9000 + b"\n", 8192)
    @example(b"%" + b"x" * 5000 + "é".encode() + b"\n%a\n", 8192)
    def test_find_stretch(self, block: bytes, max_line_bytes: int) -> None:
        starts = [0, *(match.end() for match in re.finditer(rb"\n(?=%)", block))]
        for implementation in self.implementations:
            for start in starts[:5]:
                self.assertEqual(
                    implementation.find_stretch(block, start, max_line_bytes),
                    find_slowly(block, start, max_line_bytes),
                    (implementation.IMPLEMENTATION, start),
                )

    @settings(max_examples=600)
    @given(BLOCKS)
    @example(b"%bob\n%bob%a%b\n")
    @example(b"%bob%a%b\n%bob\n")
    @example(b"%bob%hello %dave%x\n%\n%\n")
    @example(b"%bob%\n")
    @example(b"%bob%x\n%bob%\n")
    @example(b"%bob%\n%bob%x\n")
    @example(b"%bob%%\n")
    @example(b"%bob%x\nbob%dave%x\n")
    @example(b"%bob%x\n%BOB%x\n")
    @example(b"%%x\n")
    @example(b"%#ops%x\n%#ops%y\n")
    @example(b"%#ops%x\n%#OPS%y\n")
    @example(b"%#ops%x\n%#b%y\n")
    @example(b"%bob%x\n%#ops%y\n%bob%z\n")
    @example(b"bob%x%\n")
    @example(b"%" + b"x" * 32 + b"%" + b"x" * 26 + b"\n")
    @example(b"%" + b"x" * 32 + b"%" + b"x" * 27 + b"\n")
    @example(b"")
    def test_cut_whole(self, block: bytes) -> None:
        expected = cut_slowly(block) or None
        for implementation in self.implementations:
            cut = implementation.cut_whole(block, MAX_LINE_BYTES, PREFIX, ROUTES)
            if (
                cut is None
                and implementation is cutting
                and block.count(b"%") != 2 * block.count(b"\n")
            ):
                continue  # The pure one leaves texts with "%" to be cut line by line.
            self.assertEqual(cut, expected, implementation.IMPLEMENTATION)

    @settings(max_examples=300)
    @given(NUMBERED)
    @example([b"%bob%1", b"%#ops%2", b"%bob%3"])
    @example([b"%#ops%1", b"%#b%2", b"%#ops%3"])
    @example([b"%#ops%1", b"%#OPS%2", b"%#ops%3"])
    def test_everybody_reads_in_the_order_sent(self, lines: list[bytes]) -> None:
        expected: dict[str, list[bytes]] = {}
        for line in lines:
            _, target, text = line.split(b"%")
            for who, texts in reads_of(ROUTES.get(target, ""), PREFIX + text).items():
                expected.setdefault(who, []).extend(texts)
        block = b"".join(line + b"\n" for line in lines)
        for implementation in self.implementations:
            read: dict[str, list[bytes]] = {}
            for recipient, texts, _ in self.cuts(block, implementation):
                for who, some in reads_of(recipient, texts).items():
                    read.setdefault(who, []).extend(some)
            self.assertEqual(read, expected, implementation.IMPLEMENTATION)

    def cuts(self, block: bytes, implementation: ModuleType) -> Iterator[tuple[str, bytes, int]]:
        """Everything that is sent, and what goes nowhere as if to nobody."""
        whole = implementation.cut_whole(block, MAX_LINE_BYTES, PREFIX, ROUTES)
        if whole is not None:
            yield from whole
            return
        run = Run(block)
        while not run.is_empty:
            cut = run.cut(PREFIX, ROUTES)
            yield from cut
            if not cut:
                yield "", PREFIX + run.take_line().split(b"%")[2], 1


class CompiledCuttingTests(SynchronousTestCase):
    """The compiled functions with what they are not for."""

    if COMPILED is None:
        skip = NOT_COMPILED

    def test_any_bytes_at_all(self) -> None:
        @given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))
        def check(data: bytes, start: int, max_line_bytes: int) -> None:
            assert COMPILED is not None
            COMPILED.cut_whole(data, max_line_bytes, data[:start], ROUTES)
            if start <= len(data):
                end, _ = COMPILED.find_stretch(data, start, max_line_bytes)
                self.assertTrue(start <= end <= len(data))
            else:
                self.assertRaises(ValueError, COMPILED.find_stretch, data, start, max_line_bytes)

        check()

    def test_what_a_recipient_raises_is_raised(self) -> None:
        class Unhashable:
            def __hash__(self) -> int:
                raise ZeroDivisionError

        routes = {b"bob": Unhashable(), b"dave": Unhashable()}
        lines = b"%bob%x\n%dave%y\n"
        assert COMPILED is not None
        self.assertRaises(ZeroDivisionError, COMPILED.cut_whole, lines, 60, PREFIX, routes)
        self.assertRaises(TypeError, COMPILED.cut_whole, None, 60, PREFIX, routes)
        self.assertRaises(TypeError, COMPILED.cut_whole, lines, 60, PREFIX, None)
