"""Which lines of a pipe are written again."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.client import repeating
from chatrelay.client.answers import ASK_AGAIN_WITHIN_S
from chatrelay.client.repeating import RepeatableLines


class RepeatableLinesTests(SynchronousTestCase):
    """`RepeatableLines`."""

    def setUp(self) -> None:
        self.lines = RepeatableLines()

    def write(self, *lines: bytes, owner: bytes | None = b"carol", now_s: float = 0.0) -> None:
        self.lines.written(b"".join(line + b"\n" for line in lines), owner, now_s)

    def again(self, owner: bytes | None = b"carol", now_s: float = 1.0) -> list[bytes]:
        return self.lines.again(owner, now_s).splitlines()

    def test_kept(self) -> None:
        """A message with a ref, as it was; nothing else."""
        for line, is_kept in [
            (b"@ref=1 %bob%hi", True),
            (b"@x;ref=1 %bob,dave%hi\r", True),
            (b"@ref=1 %#ops%hi", True),
            (b"@ref=1 %*%hi", True),
            (b"%bob%@ref=1 %bob%hi", False),
            (b"@x %bob%hi", False),
            (b"@ref=1 /who", False),
            (b"@ref=1 %bob", False),
            (b"@ref=1 %bob%", False),
            (b"@ref= %bob%hi", False),
            (b"@ref=1 %b\xff%hi", False),
            (b"@\xff", False),
            (b"", False),
        ]:
            self.setUp()
            self.write(b"%first%line", line, b"%last%line")
            self.assertEqual(self.again(), [line.rstrip(b"\r")] if is_kept else [], line)

    def test_answers(self) -> None:
        """What has had all its answers is not written again."""
        line = b"@ref=7 %bob,Dave%hi"
        for answers, is_kept in [
            ([b"@ref=7 !sent bob"], True),
            ([b"@ref=7 !sent bob", b"@ref=7 !stored Dave id=1"], False),
            ([b"@ref=7 !error mailbox-full dave :Full.", b"@ref=7 !sent BOB"], False),
            ([b"@ref=7 !sent bob", b"@ref=7 !sent bob"], True),
            ([b"@ref=7 !error bad-text :No."], False),
            ([b"@ref=7 !error bad-name x :No."], False),
            ([b"@ref=8 !error bad-text :No."], True),
            ([b"@ref=7 !acked bob id=1", b"@ref=7 !acked dave id=1"], True),
            ([b"@ref=7 %bob%hi", b"!sent bob", b"@ref=7 !pong"], True),
        ]:
            self.setUp()
            self.write(line)
            self.lines.answered(answers)
            self.assertEqual(self.again(), [line] if is_kept else [], answers)
            self.assertEqual(len(self.lines), int(is_kept))

    def test_owner(self) -> None:
        """Only under the owned name under which it was written."""
        for owner, next_owner, is_kept in [
            (b"carol", b"carol", True),
            (b"carol", b"karl", False),
            (b"carol", None, False),
            (None, b"carol", False),
            (None, None, False),
        ]:
            self.setUp()
            self.write(b"@ref=1 %bob%hi", owner=owner)
            self.lines.lost(0.5)
            self.assertEqual(bool(self.again(next_owner)), is_kept, (owner, next_owner))
            self.assertEqual(len(self.lines), int(is_kept))

    def test_time(self) -> None:
        """Not when the relay may have forgotten the ref."""
        self.write(b"@ref=1 %bob%hi", now_s=10.0)
        self.assertEqual(len(self.again(now_s=9.9 + ASK_AGAIN_WITHIN_S)), 1)
        self.assertEqual(self.again(now_s=10 + ASK_AGAIN_WITHIN_S), [])

    def test_order(self) -> None:
        """In the order of the lines, whatever their refs."""
        lines = [b"@ref=1 %a%1", b"@ref=2 %a%2", b"@ref=1 %b%3", b"@ref=0 %a%4"]
        self.write(*lines)
        self.assertEqual(self.again(), lines)
        self.assertEqual(self.again(), lines)

    def test_full(self) -> None:
        """In bytes, and in lines from the first that waits on, one read less than may be."""
        self.patch(repeating, "MAX_LINES", repeating.LINES_IN_A_READ + 3)
        self.write(b"@ref=1 %a%1")
        self.write(b"@ref=1 %a%1")
        self.write(b"@ref=2 %a%1")
        self.assertFalse(self.lines.is_full)
        self.write(b"@ref=3 %a%1")
        self.assertTrue(self.lines.is_full)
        self.lines.answered([b"@ref=3 !sent a"])
        self.assertTrue(self.lines.is_full)
        self.lines.answered([b"@ref=1 !sent a"])
        self.assertFalse(self.lines.is_full)
        self.patch(repeating, "MAX_BYTES", 22)
        self.write(b"@ref=4 %a%1")
        self.assertTrue(self.lines.is_full)

    def test_forgotten(self) -> None:
        """Only the last lines: the relay remembers no more refs of a name."""
        self.patch(repeating, "MAX_LINES", 3)
        self.write(*(b"@ref=%d %%a%%x" % number for number in range(5)))
        self.lines.answered([b"@ref=4 !sent a"])
        self.assertEqual(self.again(), [b"@ref=2 %a%x", b"@ref=3 %a%x"])

    def test_twice(self) -> None:
        """The relay's time begins with the first of two lines that are the same."""
        self.write(b"@ref=1 %a%x", now_s=0.0)
        self.write(b"@ref=1 %a%x", now_s=100.0)
        self.assertEqual(self.again(now_s=ASK_AGAIN_WITHIN_S), [])

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"@ref=1 %a%x",
                    b"@ref=1 %b%x",
                    b"@ref=2 %a,b%x",
                    b"@ref=1 !sent a",
                    b"@ref=1 !error busy b :No.",
                    b"@ref=2 !stored a id=1",
                    b"@ref=2 !error busy :No.",
                ]
            )
            | st.binary(max_size=20).map(lambda data: b"@" + data.replace(b"\n", b"")),
            max_size=20,
        )
    )
    def test_counts(self, lines: list[bytes]) -> None:
        """What is counted is what is there, whatever comes."""
        for line in lines:
            if b"!" in line:
                self.lines.answered([line])
            else:
                self.write(line)
        again = self.again()
        self.assertEqual(len(self.lines), len(again))
        self.assertEqual(self.lines._size_bytes, sum(map(len, again)))
        self.again(b"karl")
        self.assertEqual((len(self.lines), self.lines._size_bytes, self.lines._lines), (0, 0, {}))
