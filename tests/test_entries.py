"""What a log holds, and how it is written as bytes."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox import entries as module
from chatrelay.mailbox.entries import (
    ENTRY_BYTES,
    DamagedError,
    Kind,
    Run,
    decode,
    encode,
    parted,
    texts_of,
)

# A text has neither LF nor, in a ref, a space; it may have everything else, also what a run is
# written with.
TEXTS = st.one_of(
    st.sampled_from([b"x", b"%", b"a b", b"< 1 1 1 1 1 1 bob", b"\t", "é日👍".encode()]),
    st.binary(min_size=1, max_size=20).filter(lambda text: b"\n" not in text),
)
REFS = st.text("abc=;0", min_size=1, max_size=5).map(str.encode)
NAMES = st.sampled_from([b"bob", b"Bob", "Анна".encode(), b"9", b"a.b-c_d"])


@st.composite
def runs(draw: st.DrawFn, first_id: int = 1) -> Run:
    """A run of up to six entries."""
    texts = draw(st.lists(TEXTS, min_size=1, max_size=6))
    has_refs = draw(st.booleans())
    refs = [draw(REFS) for _ in texts] if has_refs else []
    return Run(
        draw(st.sampled_from(Kind)),
        draw(st.integers(first_id, 1 << 62)),
        len(texts),
        draw(st.integers(0, 1 << 45)),
        draw(NAMES),
        draw(st.integers(-1, 1 << 40)),
        b" ".join(refs),
        b"\n".join(texts),
    )


class ChunkTests(SynchronousTestCase):
    """Runs, written as bytes and read again."""

    @given(st.lists(runs(), max_size=5))
    def test_what_is_written_is_read(self, written: list[Run]) -> None:
        self.assertEqual(decode(encode(written)), written)

    @given(st.lists(runs(), max_size=3), st.lists(runs(), max_size=3))
    def test_chunks_can_be_put_behind_each_other(self, first: list[Run], then: list[Run]) -> None:
        self.assertEqual(decode(encode(first) + encode(then)), first + then)

    @given(st.lists(runs(), min_size=1, max_size=3), st.data())
    def test_one_that_is_cut_off(self, written: list[Run], data: st.DataObject) -> None:
        chunk = encode(written)
        ends, whole = set(), b""
        for run in written:
            ends.add(len(whole))
            whole += encode([run])
        length = data.draw(st.integers(0, len(chunk) - 1).filter(lambda size: size not in ends))
        self.assertRaises(DamagedError, decode, chunk[:length])

    @given(st.binary(max_size=60))
    def test_any_bytes_are_runs_or_damaged(self, chunk: bytes) -> None:
        try:
            found = decode(chunk)
        except DamagedError:
            return
        self.assertEqual(decode(encode(found)), found)

    def test_damage(self) -> None:
        good = encode([Run(Kind.RECEIVED, 255, 2, 7, b"bob", 3, b"r1 r2", b"one\ntwo")])
        self.assertEqual(good, b"<ff 2 7 3 5 7 bob\nr1 r2one\ntwo")
        for damaged in (
            *(b"\n", b"x", good[1:], b"?" + good[1:], good + b"\n", good + b"x"),
            good.replace(b"ff", b"xx"),
            # More entries, or fewer, than texts or refs.
            good.replace(b" 2 7", b" 3 7"),
            good.replace(b" 2 7", b" 1 7"),
            good.replace(b"one\ntwo", b"one two"),
            good.replace(b"r1 r2", b"r1_r2"),
            good.replace(b" 5 7 bob", b" 4 7 bob"),
            good.replace(b" 5 7 bob", b" 5 8 bob"),
            good.replace(b" 5 7 bob", b" 5 7"),
            good.replace(b" 5 7 bob", b" 5 7 bob x"),
        ):
            self.assertRaises(DamagedError, decode, damaged)


class RunTests(SynchronousTestCase):
    """A run, and parts of it."""

    @given(runs(), st.data())
    def test_what_is_not_later_and_what_is(self, run: Run, data: st.DataObject) -> None:
        at = data.draw(st.integers(run.first_id - 2, run.last_id + 2))
        entries = run.entries()
        self.assertEqual(len(entries), run.length)
        later = run.after(at)
        found = [] if later is None else later.entries()
        self.assertEqual(found, [entry for entry in entries if entry[0] > at])
        if at >= run.first_id:
            until = run.until(at)
            self.assertEqual(until.entries(), [entry for entry in entries if entry[0] <= at])
            self.assertEqual(until.last_id, min(at, run.last_id))
        for part in (later, run.until(max(at, run.first_id))):
            if part is not None:
                self.assertEqual(part[3:6], run[3:6])
                self.assertEqual(decode(encode([part])), [part])

    def test_nothing_is_copied_where_nothing_is_passed(self) -> None:
        run = Run(Kind.SENT, 5, 1, 0, b"bob", 0, b"", b"x")
        self.assertIs(run.after(4), run)
        self.assertIsNone(run.after(5))

    @given(runs())
    def test_size(self, run: Run) -> None:
        texts = sum(len(text) for _, _, text in run.entries())
        between = run.length - 1
        self.assertGreaterEqual(run.size_bytes, texts + run.length * ENTRY_BYTES)
        refs = sum(len(ref) for _, ref, _ in run.entries())
        self.assertLessEqual(run.size_bytes, texts + refs + 2 * between + run.length * ENTRY_BYTES)

    @given(st.lists(runs(), max_size=5), st.integers(1, 500))
    def test_they_are_parted(self, written: list[Run], chunk_bytes: int) -> None:
        with mock.patch.object(module, "CHUNK_BYTES", chunk_bytes):
            chunks = list(parted(written))
        entries = [entry for chunk in chunks for run in chunk for entry in run.entries()]
        self.assertEqual(entries, [entry for run in written for entry in run.entries()])
        for chunk in chunks:
            self.assertLess(sum(run.size_bytes for run in chunk[:-1]), chunk_bytes)
        for chunk in chunks[:-1]:
            self.assertGreaterEqual(sum(run.size_bytes for run in chunk), chunk_bytes)

    @given(st.lists(TEXTS, min_size=1, max_size=6), NAMES)
    def test_texts_of_lines(self, texts: list[bytes], sender: bytes) -> None:
        prefix = b"%" + sender + b"%"
        lines = b"".join(prefix + text + b"\n" for text in texts)
        self.assertEqual(texts_of(lines), b"\n".join(texts))
