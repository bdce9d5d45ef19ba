"""What was written to the connections of a name and is not read, against a list."""

from __future__ import annotations

from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox.entries import Kind, Run
from chatrelay.mailbox.in_flight import Header, InFlight

_PARTIES = (b"alice", b"bob")


def run(first_id: int, length: int, *, party: bytes = b"alice", has_refs: bool = True) -> Run:
    ids = range(first_id, first_id + length)
    refs = b" ".join(b"r%d" % number for number in ids) if has_refs else b""
    texts = b"\n".join(b"text %d" % number for number in ids)
    return Run(Kind.RECEIVED, first_id, length, 0, party, len(party), refs, texts)


def flat(headers: list[Header]) -> list[tuple[int, bytes, int, bytes]]:
    """Each entry's id, who wrote it, and its ref."""
    found = []
    for header in headers:
        refs = {number: ref for ref, number in header.refs_and_ids()}
        found += [
            (number, header.party, header.account, refs.get(number, b""))
            for number in range(header.first_id, header.first_id + header.length)
        ]
    return found


ADDED = st.tuples(
    st.just("add"), st.integers(0, 5), st.integers(1, 4), st.sampled_from(_PARTIES), st.booleans()
)
TAKEN = st.tuples(st.sampled_from(["take", "clear"]), st.integers(0, 60))


class InFlightTests(SynchronousTestCase):
    @given(st.lists(st.one_of(ADDED, ADDED, TAKEN), max_size=40))
    @example([("add", 0, 4, b"alice", True), ("take", 1), ("take", 3)])
    def test_against_a_list(self, steps: list[tuple[object, ...]]) -> None:
        in_flight = InFlight()
        entries: list[tuple[int, bytes, int, bytes]] = []
        last_id = 0
        size_bytes = 0
        for step in steps:
            if step[0] == "add":
                # Some of it may have been written to another connection already.
                _, back, length, party, has_refs = step
                first_id = max(1, last_id + 1 - int(str(back)))
                one = run(first_id, int(str(length)), party=bytes(party), has_refs=bool(has_refs))
                later = one.after(last_id)
                in_flight.add(one)
                if later is not None:
                    size_bytes += later.size_bytes
                    entries += [
                        (number, one.party, one.account, ref) for number, ref, _ in later.entries()
                    ]
                    last_id = later.last_id
            elif step[0] == "clear":
                # They will be written again.
                in_flight.clear(last_id)
                entries, size_bytes = [], 0
            else:
                until = int(str(step[1]))
                taken = in_flight.take(until)
                self.assertEqual(flat(taken), [entry for entry in entries if entry[0] <= until])
                entries = [entry for entry in entries if entry[0] > until]
                size_bytes -= sum(header.size_bytes for header in taken)
            self.assertEqual(bool(in_flight), bool(entries))
        rest = in_flight.take(1 << 60)
        self.assertEqual(flat(rest), entries)
        # Nothing of the bytes is lost when a run is taken in parts.
        self.assertEqual(sum(header.size_bytes for header in rest), size_bytes)

    def test_who_said_something_in_a_room_is_not_told_who_acked_it(self) -> None:
        in_flight = InFlight()
        in_flight.add(run(1, 2, party=b"#ops%alice"))
        in_flight.add(run(3, 1, party=b"alice"))
        told = [header.refs_and_ids() for header in in_flight.take(9)]
        self.assertEqual([[number for _, number in refs] for refs in told], [[], [3]])

    def test_what_is_cleared_is_added_again(self) -> None:
        in_flight = InFlight()
        in_flight.add(run(1, 5))
        in_flight.clear(2)
        self.assertFalse(in_flight)
        in_flight.add(run(1, 5))
        self.assertEqual([entry[0] for entry in flat(in_flight.take(9))], [3, 4, 5])

    def test_what_could_not_be_kept_is_gone_whether_or_not_some_of_it_was_read(self) -> None:
        for read_id, has_refs in product(range(8), (True, False)):
            with self.subTest(read_id=read_id, has_refs=has_refs):
                in_flight = InFlight()
                for first_id in (1, 3, 6):
                    in_flight.add(run(first_id, 2 + (first_id == 3), has_refs=has_refs))
                in_flight.take(read_id)
                in_flight.remove(max(3, read_id + 1), 5)
                left = [entry[0] for entry in flat(in_flight.take(9))]
                self.assertEqual(left, [n for n in (1, 2, 6, 7) if n > read_id])

    def test_a_flood_of_short_messages_is_one(self) -> None:
        in_flight = InFlight()
        for number in range(1, 1001):
            in_flight.add(run(number, 1, has_refs=False))
        self.assertEqual(len(in_flight._headers), 1)
        for other in (run(1001, 1), run(1002, 1, party=b"bob", has_refs=False)):
            in_flight.add(other)
        self.assertEqual(len(in_flight._headers), 3)
        long = run(1003, 1, party=b"bob", has_refs=False)._replace(texts=b"x" * 1000)
        in_flight.add(long)
        self.assertEqual(len(in_flight._headers), 4)
