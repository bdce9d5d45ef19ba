"""The loops of the quick path, pure and compiled, against the rules."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import cutting
from chatrelay.cutting import Cut
from chatrelay.wire import is_clean

try:
    COMPILED: ModuleType | None = import_module("chatrelay._cutting")
except ImportError:
    COMPILED = None
NOT_COMPILED = "chatrelay._cutting is not built: Debian's packages gcc and python3-dev are needed"

PREFIX = b"%alice%"
ROUTES = frozenset({b"bob", b"dave", "Анна".encode(), b"x" * 32})
PARTS = st.sampled_from(
    [
        *(b"%", b"%", b"\n", b"\n%", b"bob", b"dave", b"eve", "Анна".encode(), b"x" * 32, b"hi"),
        *(b"\t", b"\x1b", b"\x7f", b"\xff", b"\xc2\x85", "é\u2028".encode(), b"\r", b"\x00"),
        *(b"%bob%hi\n", b"%dave%100 %\n", b"%bob%\n", b"z" * 40),
    ]
)
BLOCKS = st.one_of(
    st.lists(PARTS, max_size=30).map(b"".join),
    st.lists(st.sampled_from([b"%bob%hi", b"%dave%" + b"y" * 30, b"%bob%a%b"]), max_size=200).map(
        lambda lines: b"".join(line + b"\n" for line in lines)
    ),
    st.binary(max_size=200),
).map(lambda block: b"%" + block + b"\n")


def find_slowly(block: bytes, start: int, max_line_bytes: int) -> tuple[int, bool]:
    """The same line by line."""
    end = start
    while block[end : end + 1] == b"%":
        end = block.index(b"\n", end) + 1
    stretch = block[start:end]
    fits = all(len(line) <= max_line_bytes for line in stretch.split(b"\n"))
    return end, fits and is_clean(stretch)


def cut_slowly(stretch: bytes) -> Cut | None:
    """The same with a regular expression."""
    cut: Cut = {}
    for line in stretch.split(b"\n")[:-1]:
        match = re.fullmatch(rb"%([^%]*)%(.+)", line, re.DOTALL)
        if match is None or match[1] not in ROUTES:
            return None
        written, count = cut.get(match[1], (b"", 0))
        cut[match[1]] = (written + PREFIX + match[2] + b"\n", count + 1)
    return cut


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

    @settings(max_examples=300)
    @given(BLOCKS)
    @example(b"%bob\n%bob%a%b\n")
    @example(b"%bob%a%b\n%bob\n")
    @example(b"%bob%hello %dave%x\n%\n%\n")
    @example(b"%bob%\n")
    @example(b"%bob%%\n")
    def test_cut_whole(self, block: bytes) -> None:
        end, is_run = find_slowly(block, 0, 8192)
        if not is_run:
            return
        stretch = block[:end]
        expected = cut_slowly(stretch)
        for implementation in self.implementations:
            cut = implementation.cut_whole(stretch, PREFIX, ROUTES)
            if (
                cut is None
                and implementation is cutting
                and stretch.count(b"%") != 2 * (stretch.count(b"\n"))
            ):
                continue  # The pure one leaves texts with "%" to be cut line by line.
            self.assertEqual(cut, expected, implementation.IMPLEMENTATION)
            self.assertEqual(list(cut or ()), list(expected or ()))


class CompiledCuttingTests(SynchronousTestCase):
    """The compiled functions with what they are not for."""

    if COMPILED is None:
        skip = NOT_COMPILED

    def test_any_bytes_at_all(self) -> None:
        @given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))
        def check(data: bytes, start: int, max_line_bytes: int) -> None:
            assert COMPILED is not None
            COMPILED.cut_whole(data, data[:start], ROUTES)
            if start <= len(data):
                end, _ = COMPILED.find_stretch(data, start, max_line_bytes)
                self.assertTrue(start <= end <= len(data))
            else:
                self.assertRaises(ValueError, COMPILED.find_stretch, data, start, max_line_bytes)

        check()

    def test_what_a_route_raises_is_raised(self) -> None:
        class Routes:
            def __contains__(self, target: object) -> bool:
                raise ZeroDivisionError

        assert COMPILED is not None
        self.assertRaises(ZeroDivisionError, COMPILED.cut_whole, b"%bob%x\n", PREFIX, Routes())
        self.assertRaises(TypeError, COMPILED.cut_whole, None, PREFIX, Routes())
