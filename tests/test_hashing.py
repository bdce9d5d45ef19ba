"""Who may hash when: two at a time, one for each address, a hundred waiting, all in turn."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts.hashing import HashQueue, Work
from chatrelay.errors import Busy, RateLimited
from chatrelay.limits import Limits

LIMITS = Limits(max_running_hashes=2, max_waiting_hashes=6)


class Hashing:
    """
    A queue whose hashes end when a test says so.

    :ivar running: the addresses that hash now.
    :ivar ended: what came of each, by its label.
    """

    def __init__(self) -> None:
        self.queue: HashQueue[str] = HashQueue(LIMITS, self._run)
        self.running: list[str] = []
        self.ended: dict[str, object] = {}
        self._done: dict[str, tuple[Callable[[], str], Callable[[object], None]]] = {}

    def add(self, label: str, *, is_known: bool = False, check: object = None) -> None:
        """
        Hash for the address that the label begins with, as ``a1`` for ``a``, and for the name
        that comes then, as ``ab1`` for ``b``.
        """
        self.queue.add(
            Work(
                label[0],
                label[1:2].encode() if label[1].isalpha() else b"",
                is_known,
                check or (lambda: None),  # type: ignore[arg-type]
                lambda: label,
                lambda result: self.ended.__setitem__(label, result),
            )
        )

    def end(self, label: str) -> None:
        """One has been hashed."""
        work, done = self._done.pop(label)
        self.running.remove(label)
        done(work())

    def _run(self, work: Callable[[], str], done: Callable[[object], None]) -> None:
        label = work()
        self.running.append(label)
        self._done[label] = (work, done)

    def busy(self) -> set[str]:
        return {label for label, result in self.ended.items() if isinstance(result, Busy)}


class HashQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.hashing = Hashing()

    def add(self, *labels: str, is_known: bool = False) -> None:
        for label in labels:
            self.hashing.add(label, is_known=is_known)

    def test_two_at_a_time_and_one_for_each_address(self) -> None:
        self.add("a1", "a2", "b1", "c1")
        self.assertEqual(self.hashing.running, ["a1", "b1"])
        self.hashing.end("a1")
        self.assertEqual(self.hashing.ended["a1"], "a1")
        self.assertEqual(self.hashing.running, ["b1", "c1"])
        self.hashing.end("b1")
        self.assertEqual(self.hashing.running, ["c1", "a2"])

    def test_each_address_has_its_turn(self) -> None:
        self.add("a1", "b1", "c1", "c2", "c3", "d1", "e1")
        order = []
        while self.hashing.running:
            order.append(self.hashing.running[0])
            self.hashing.end(self.hashing.running[0])
        self.assertEqual(order, ["a1", "b1", "c1", "d1", "e1", "c2", "c3"])

    def test_each_name_of_an_address_has_its_turn(self) -> None:
        self.add("ax1", "ax2", "ax3", "ay1", "ax4")
        order = []
        while self.hashing.running:
            order.append(self.hashing.running[0])
            self.hashing.end(self.hashing.running[0])
        self.assertEqual(order, ["ax1", "ay1", "ax2", "ax3", "ax4"])

    def test_who_asks_seldom_is_not_kept_out_by_many_who_ask_always(self) -> None:
        busy = "abcdefgh"
        self.add(*(f"{network}1" for network in busy))
        for _ in range(20):
            ended = self.hashing.running[0]
            self.hashing.end(ended)
            self.add(f"{ended[0]}{len(self.hashing.ended)}")
        self.assertEqual(self.hashing.busy(), set())
        self.assertEqual(self.hashing.queue.waiting_count, 6)
        self.add("z1")
        self.assertEqual(len(self.hashing.busy()), 1)
        self.assertNotIn("z1", self.hashing.busy())
        self.hashing.end(self.hashing.running[0])
        self.assertIn("z1", self.hashing.running)

    def test_an_owner_is_not_kept_out_by_other_names_of_his_address(self) -> None:
        self.add("ax1", "ax2", "ax3", "ax4", "ax5", "ax6", "ax7", is_known=True)
        self.add("ao1", is_known=True)
        self.assertEqual(self.hashing.busy(), {"ax7"})
        self.hashing.end("ax1")
        self.assertEqual(self.hashing.running, ["ao1"])

    def test_when_no_thread_is_to_be_had(self) -> None:
        run, self.hashing.queue._run = self.hashing.queue._run, None
        self.add("a1", "b1")
        self.assertIsInstance(self.hashing.ended["a1"], TypeError)
        self.hashing.queue._run = run
        self.add("a2", "b2")
        self.assertEqual(self.hashing.running, ["a2", "b2"])

    def test_the_next_has_his_turn_whatever_the_last_one_did(self) -> None:
        def fail(_: object) -> None:
            raise ValueError

        self.hashing.queue.add(Work("a", b"", False, lambda: None, lambda: "a1", fail))
        self.add("a2")
        self.assertRaises(ValueError, self.hashing.end, "a1")
        self.assertEqual(self.hashing.running, ["a2"])

    def test_too_many(self) -> None:
        self.add("a1", "b1", *(f"c{number}" for number in range(6)))
        self.assertEqual(self.hashing.busy(), set())
        self.add("c6")
        self.assertEqual(self.hashing.busy(), {"c6"})
        # Whoever asks often loses to who asks seldom.
        self.add("d1", "d2", "e1")
        self.assertEqual(self.hashing.busy(), {"c3", "c4", "c5", "c6"})
        self.assertEqual(self.hashing.queue.waiting_count, 6)

    def test_a_stranger_loses_to_who_was_right_before(self) -> None:
        self.add("a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1")
        self.add("i1")
        self.assertEqual(self.hashing.busy(), {"i1"})
        self.add("x1", is_known=True)
        self.assertEqual(len(self.hashing.busy()), 2)
        self.hashing.end("a1")
        self.assertIn("x1", self.hashing.running)

    def test_neither_keeps_the_other_from_its_turn(self) -> None:
        self.add("a1", "b1")
        self.add("k1", "l1", "m1", is_known=True)
        self.add("c1", "d1", "e1")
        order = []
        while self.hashing.running:
            order.append(self.hashing.running[0])
            self.hashing.end(self.hashing.running[0])
        kinds = ["k" if label[0] in "klm" else "s" for label in order[2:]]
        self.assertEqual(kinds, ["k", "s", "k", "s", "k", "s"])

    def test_what_is_not_to_be_done_any_more(self) -> None:
        def refuse() -> None:
            raise RateLimited(b"carol")

        self.add("a1", "b1")
        self.hashing.add("c1", check=refuse)
        self.add("d1")
        self.hashing.end("a1")
        self.assertIsInstance(self.hashing.ended["c1"], RateLimited)
        self.assertEqual(self.hashing.running, ["b1", "d1"])

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), st.sampled_from("abcdefgh"), st.booleans()),
                st.tuples(st.just("end"), st.integers(0, 1), st.none()),
            ),
            max_size=60,
        )
    )
    def test_nothing_is_lost_and_everything_is_bounded(self, actions: list[tuple]) -> None:
        hashing = Hashing()
        asked = []
        for action, what, is_known in actions:
            if action == "add":
                label = f"{what}{len(asked)}"
                asked.append(label)
                hashing.add(label, is_known=is_known)
            elif hashing.running:
                hashing.end(hashing.running[what % len(hashing.running)])
            self.assertLessEqual(len(hashing.running), 2)
            networks = [label[0] for label in hashing.running]
            self.assertEqual(len(set(networks)), len(networks))
            self.assertLessEqual(hashing.queue.waiting_count, 6)
            self.assertEqual(
                len(asked),
                len(hashing.ended) + len(hashing.running) + hashing.queue.waiting_count,
            )
        while hashing.running:
            hashing.end(hashing.running[0])
        self.assertEqual(set(hashing.ended), set(asked))
