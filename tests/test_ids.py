"""Numbers that are never given twice."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.ids import SET_ASIDE, Ids


class WithoutAStoreTests(SynchronousTestCase):
    """A random word makes them different from those of any other run."""

    def test_two_runs(self) -> None:
        one, another = Ids(), Ids()
        written = [ids.write(ids.take()) for ids in (one, another) for _ in range(3)]
        self.assertEqual(len(set(written)), 6)
        for word in written:
            self.assertRegex(word, rb"\A[0-9a-f]{12}-[123]\Z")

    def test_they_are_none_for_a_log(self) -> None:
        ids = Ids()
        self.assertIsNone(ids.read(ids.write(ids.take())))
        self.assertFalse(ids.is_running_out)


class WithAStoreTests(SynchronousTestCase):
    """They follow each other from what was set aside."""

    def test_they_follow_each_other(self) -> None:
        ids = Ids(1000)
        self.assertEqual([ids.take(), ids.take(3), ids.take()], [1000, 1001, 1004])
        self.assertEqual(ids.last, 1004)

    def test_what_is_written_is_read(self) -> None:
        ids = Ids(0x65BFEDA25E000)
        number = ids.take(2)
        self.assertEqual(ids.write(number), b"65bfeda25e000")
        for written, expected in [
            (b"65bfeda25e000", number),
            (b"65bfeda25e001", number + 1),
            # Given by an earlier run, or to somebody else: who asks with it decides.
            (b"1", 1),
            (b"0", 0),
            (b"65bfeda25e002", None),
            (b"ffffffffffffffff", None),
            (b"10000000000000000", None),
            (b"65BFEDA25E000", None),
            *((word, None) for word in (b"", b"-1", b" 1", b"1\n", b"x", b"1.0", b"1-1")),
        ]:
            self.assertEqual(ids.read(written), expected, written)

    def test_they_run_out(self) -> None:
        ids = Ids(1)
        ids.take(SET_ASIDE // 2)
        self.assertFalse(ids.is_running_out)
        ids.take(2)
        # Half of them are left to be given while the store sets others aside.
        self.assertTrue(ids.is_running_out)
        ids.renew(SET_ASIDE + 1)
        self.assertFalse(ids.is_running_out)
        self.assertEqual(ids.take(), SET_ASIDE // 2 + 3)
