"""The incomplete input of one client: docs/protocol.rst, *Lines*."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.lines import Block, LineBuffer, Overlong
from chatrelay.runs import Run
from chatrelay.wire import MAX_TAGS_BYTES, is_clean

MAX_LINE_BYTES = 24
KEPT_END_BYTES = 32
# Nobody is here: whatever a block offers as a run is taken line by line.
NOBODY: dict[bytes, str] = {}


def take_all(buffer: LineBuffer) -> list[bytes | Overlong]:
    """What there is, each line as it comes, cutting before each."""
    taken: list[bytes | Overlong] = []
    while (part := buffer.take()) is not None:
        if isinstance(part, Block):
            part.cut(b"%alice%", NOBODY)
            part = part.take_line()
        taken.append(part)
    return taken


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[start:end] for start, end in pairwise(edges)]


def lines_of(pieces: list[bytes], max_line_bytes: int = MAX_LINE_BYTES) -> list[bytes | Overlong]:
    buffer = LineBuffer(max_line_bytes)
    taken: list[bytes | Overlong] = []
    for piece in pieces:
        buffer.append(piece)
        taken += take_all(buffer)
    return taken


def reference(stream: bytes, max_line_bytes: int = MAX_LINE_BYTES) -> list[bytes | Overlong]:
    """The same, as simply as it can be said."""
    lines: list[bytes | Overlong] = []
    for ended in stream.split(b"\n")[:-1]:
        line = ended.removesuffix(b"\r")
        if len(line) > max_line_bytes:
            lines.append(Overlong(line[: MAX_TAGS_BYTES + 1], line[-KEPT_END_BYTES:]))
        else:
            lines.append(line)
    return lines


def shape(lines: list[bytes | Overlong]) -> list[bytes | None]:
    """Lines, with ``None`` for what was too long, whatever was kept of that."""
    return [None if isinstance(line, Overlong) else line for line in lines]


# Long enough to be over the bound, with what runs and line ends are made of.
STREAMS = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"\r", b"\r\n", b"%", b"%bob%hi", b"%a%b\n", b"%a%b\r\n", b"/who\n"),
            *(b"@ref=1 ", b"\xff", b"\x1b", "é".encode(), "\u2028".encode()),
            *(b"x" * 7, b"%" * 11, b"y" * 30),
        ]
    ),
    max_size=24,
).map(b"".join)
PLACES = st.lists(st.integers(0, 200), max_size=12)


class CutProperties(SynchronousTestCase):
    """Wherever a stream is cut, the same lines come out."""

    @given(STREAMS, PLACES)
    @example(b"%a%b\r\n%c%d\r\n", [5])
    @example(b"y" * 25 + b"\r\n", [25])
    @example(b"y" * 24 + b"\r\n", [24, 25])
    @example(b"y" * 25 + b"\n", [25])
    def test_cut_anywhere(self, stream: bytes, places: list[int]) -> None:
        expected = shape(reference(stream))
        self.assertEqual(shape(lines_of([stream])), expected)
        self.assertEqual(shape(lines_of(cut(stream, places))), expected)
        self.assertEqual(
            shape(lines_of([stream[at : at + 1] for at in range(len(stream))])), expected
        )

    @given(st.binary(max_size=120), PLACES)
    def test_any_bytes(self, stream: bytes, places: list[int]) -> None:
        self.assertEqual(shape(lines_of(cut(stream, places))), shape(reference(stream)))

    @given(st.integers(600, 700), PLACES, st.sampled_from([b"\n", b"\r\n"]))
    def test_what_is_kept_of_an_overlong_line(
        self, length: int, places: list[int], ending: bytes
    ) -> None:
        line = b"@ref=1 " + bytes(32 + at % 90 for at in range(length))
        stream = b"me\n" + line + ending + b"%a%b\n"
        for pieces in ([stream], cut(stream, [3 * place for place in places])):
            _, overlong, _ = lines_of(pieces, 600)
            assert isinstance(overlong, Overlong)
            self.assertEqual(overlong.head, line[: MAX_TAGS_BYTES + 1])
            # The last byte of what is kept may have been a CR, which is no part of the line.
            self.assertTrue(line.endswith(overlong.end))
            self.assertIn(len(overlong.end), (KEPT_END_BYTES - 1, KEPT_END_BYTES))

    @given(STREAMS, PLACES)
    def test_lines_wait_until_they_are_taken(self, stream: bytes, places: list[int]) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        for piece in cut(stream, places):
            buffer.append(piece)
        self.assertEqual(shape(take_all(buffer)), shape(reference(stream)))
        self.assertIsNone(buffer.take())

    @given(STREAMS, PLACES)
    @example(b"%a%b\n%a%b\n/who\n%a%b\n", [])
    def test_what_is_cut_is_clean_and_within_the_bound(
        self, stream: bytes, places: list[int]
    ) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        relayed: list[bytes] = []
        left: list[bytes | Overlong] = []
        for piece in cut(stream, places):
            buffer.append(piece)
            while (part := buffer.take()) is not None:
                if isinstance(part, Block):
                    for target, lines, count in part.cut(b"%alice%", {b"a": b"a", b"b": b"b"}):
                        self.assertEqual(lines.count(b"\n"), count)
                        for line in lines.split(b"\n")[:-1]:
                            self.assertTrue(line.startswith(b"%alice%"))
                            relayed.append(b"%" + target + line.removeprefix(b"%alice"))
                    if part.is_empty:
                        continue
                    part = part.take_line()
                left.append(part)
        for line in relayed:
            self.assertTrue(is_clean(line))
            self.assertLessEqual(len(line), MAX_LINE_BYTES)
        self.assertEqual(Counter(relayed + shape(left)), Counter(shape(reference(stream))))

    @given(STREAMS, PLACES)
    @example(b"y" * 30 + b"\r\n", [31])
    def test_the_ending_of_the_first_line(self, stream: bytes, places: list[int]) -> None:
        first, ended, _ = stream.partition(b"\n")
        expected = (b"\r\n" if first.endswith(b"\r") else b"\n") if ended else b""
        for pieces in (
            [stream],
            cut(stream, places),
            [stream[at : at + 1] for at in range(len(stream))],
        ):
            buffer = LineBuffer(MAX_LINE_BYTES)
            for piece in pieces:
                buffer.append(piece)
            self.assertEqual(buffer.ending, expected)

    @given(STREAMS, PLACES)
    def test_a_block_comes_until_it_is_empty(self, stream: bytes, places: list[int]) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        taken: list[bytes | Overlong] = []
        for piece in cut(stream, places):
            buffer.append(piece)
            # Held after one line of each read: what was not served must come first, once.
            part = buffer.take()
            if isinstance(part, Block):
                self.assertIs(buffer.take(), part)
                part = part.take_line()
            if part is not None:
                taken.append(part)
        self.assertEqual(shape(taken + take_all(buffer)), shape(reference(stream)))


class LineTests(SynchronousTestCase):
    """The rules one by one."""

    def test_streams(self) -> None:
        for stream, expected in [
            (b"", []),
            (b"me", []),
            (b"me\n", [b"me"]),
            (b"me\r\n", [b"me"]),
            (b"me\r\r\n", [b"me\r"]),
            (b"m\re\n", [b"m\re"]),
            (b"\n", [b""]),
            (b"\r\n", [b""]),
            (b"me\n%a%x\n%b%y\n", [b"me", b"%a%x", b"%b%y"]),
            (b"%a%x\r\n%b%y\r\n", [b"%a%x", b"%b%y"]),
            (b"%a%x\r\n%b%y\n", [b"%a%x", b"%b%y"]),
            (b"%a%x\n\n%b%y\n", [b"%a%x", b"", b"%b%y"]),
            (b"%a%x\n%b%\x1b\n", [b"%a%x", b"%b%\x1b"]),
            (b"%a%x\r\ry\n", [b"%a%x\r\ry"]),
            (b"%\n%%\n", [b"%", b"%%"]),
            (b"%a%x\n%b%unfinished", [b"%a%x"]),
        ]:
            buffer = LineBuffer(MAX_LINE_BYTES)
            buffer.append(stream)
            self.assertEqual(take_all(buffer), expected, stream)

    def test_below_at_and_above_the_bound(self) -> None:
        for ending in (b"\n", b"\r\n"):
            for first in (b"%", b"/"):
                for bound in (MAX_LINE_BYTES, 8192):
                    for length, fits in [(bound - 1, True), (bound, True), (bound + 1, False)]:
                        line = first + b"x" * (length - 1)
                        stream = line + ending
                        for pieces in ([stream], cut(stream, [bound]), cut(stream, [bound + 1])):
                            lines = lines_of(pieces, bound)
                            self.assertEqual(shape(lines), [line if fits else None])

    def test_a_long_line_among_short_ones(self) -> None:
        short, long = b"%a%b", b"%" + b"x" * MAX_LINE_BYTES
        stream = b"\n".join([short] * 9 + [long] + [short] * 9) + b"\n"
        self.assertEqual(shape(lines_of([stream])), [short] * 9 + [None] + [short] * 9)

    def test_a_line_that_never_ends_costs_bounded_memory(self) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        for _ in range(1000):
            buffer.append(b"x" * 1000)
            self.assertIsNone(buffer.take())
            self.assertLess(kept_bytes(buffer), 1000)
        buffer.append(b"GET / HTTP/1.1\r\nme\n")
        overlong, line = take_all(buffer)
        assert isinstance(overlong, Overlong)
        self.assertTrue(overlong.end.endswith(b" HTTP/1.1"))
        self.assertEqual(line, b"me")

    def test_what_was_taken_is_not_kept(self) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        for _ in range(1000):
            buffer.append(b"%a%x\n/who\n%b%y\n/pa")
            take_all(buffer)
            buffer.append(b"rt\n")
            take_all(buffer)
        self.assertLess(kept_bytes(buffer), 64)

    def test_the_first_line_ends_cut_anywhere(self) -> None:
        for stream, ending in [(b"me\r\nx\n", b"\r\n"), (b"me\nx\r\n", b"\n"), (b"\r\n", b"\r\n")]:
            for place in range(len(stream) + 1):
                buffer = LineBuffer(MAX_LINE_BYTES)
                buffer.append(stream[:place])
                buffer.append(stream[place:])
                self.assertEqual(buffer.ending, ending)

    def test_no_line_no_ending(self) -> None:
        buffer = LineBuffer(MAX_LINE_BYTES)
        buffer.append(b"me\r")
        self.assertEqual(buffer.ending, b"")

    def test_clear_forgets_all_but_the_ending(self) -> None:
        for stream in (b"a\r\n%b%c\n/who\npart", b"a\r\n" + b"x" * 100):
            buffer = LineBuffer(MAX_LINE_BYTES)
            buffer.append(stream)
            buffer.take()
            buffer.clear()
            self.assertIsNone(buffer.take())
            buffer.append(b"me\n")
            self.assertEqual(take_all(buffer), [b"me"])
            self.assertEqual(buffer.ending, b"\r\n")


def kept_bytes(buffer: LineBuffer) -> int:
    """What a buffer holds on to, counted in the bytes of all that it refers to."""

    def size(value: object) -> int:
        if isinstance(value, bytes):
            return len(value)
        if isinstance(value, list | tuple):
            return sum(map(size, value))
        if isinstance(value, Block | Run | LineBuffer):
            return sum(size(getattr(value, slot)) for slot in value.__slots__)
        return 0

    return size(buffer)
