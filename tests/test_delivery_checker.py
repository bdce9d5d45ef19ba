"""The checker of deliveries finds what is wrong, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.delivery_checker import Checker
from tests.delivery_history import (
    AckAnswered,
    AckAsked,
    AckRefused,
    AckReported,
    Answered,
    Asked,
    Connected,
    Ended,
    Event,
    HistoryRead,
    Received,
    RelayKilled,
    read_event,
    write_event,
)
from tests.delivery_model import ACKING, FAULTS, FREE_SENDER, READING, Model

SETTINGS = settings(max_examples=150, deadline=None)
SEEDS = 200
STEPS = 400


def check(
    events: Iterable[Event],
    *,
    seconds_each: float = 1.0,
    in_flight_s: float = math.inf,
    refuses_at_times: bool = False,
    noticed_after: int = 0,
    settled_after: int = 1,
) -> Checker:
    """Feed a whole history, an event after the other."""
    checker = Checker(
        acking=ACKING,
        reading=READING,
        free=[FREE_SENDER],
        in_flight_s=in_flight_s,
        refuses_at_times=refuses_at_times,
        noticed_after=noticed_after,
        settled_after=settled_after,
    )
    for number, event in enumerate(events):
        checker.feed(event, number * seconds_each)
    checker.finish()
    return checker


class ModelTests(SynchronousTestCase):
    """Histories of a simple relay: a valid one, and one for each fault."""

    @given(st.randoms(use_true_random=False), st.integers(0, 300))
    @SETTINGS
    def test_what_is_valid_passes(self, chance: Random, steps: int) -> None:
        model = Model(chance)
        checker = check(model.run(steps), refuses_at_times=model.refuses_at_times)
        self.assertEqual(checker.violations, [])

    def test_valid_histories_have_everything_in_them(self) -> None:
        counts: dict[str, int] = {}
        for seed in range(20):
            model = Model(Random(seed))
            checker = check(model.run(STEPS), refuses_at_times=model.refuses_at_times)
            self.assertEqual(checker.violations, [], seed)
            for kind, count in checker.counts.items():
                counts[kind] = counts.get(kind, 0) + count
        for kind in (
            *("kills", "messages", "asked again", "sent", "stored", "refused", "received"),
            *("repeats marked", "repeats unmarked", "marked again, not seen before", "missing"),
            *("copies", "acks", "acks reported", "refused: ref-reused", "refused: mailbox-full"),
        ):
            self.assertGreater(counts.get(kind, 0), 0, kind)

    def test_each_fault_is_found(self) -> None:
        for fault, words in FAULTS.items():
            with self.subTest(fault):
                in_flight_s = 50.0 if fault == "forgets what was read long ago" else math.inf
                self.assertTrue(
                    any(
                        words in violation
                        for seed in range(SEEDS)
                        for violation in self.violations(seed, fault, in_flight_s)
                    )
                )

    def violations(self, seed: int, fault: str, in_flight_s: float) -> list[str]:
        model = Model(Random(seed), fault)
        events = model.run(STEPS)
        refuses = model.refuses_at_times
        return check(events, in_flight_s=in_flight_s, refuses_at_times=refuses).violations

    def test_a_history_can_be_written_down(self) -> None:
        for number, event in enumerate(Model(Random(1)).run(STEPS)):
            line = write_event(event, number / 8)
            self.assertNotIn("\n", line)
            self.assertEqual(read_event(line), (event, number / 8))


def comes(name: str, number: int = 1) -> Connected:
    return Connected(f"{name}/{number}", name)


def asks(target: str, text: str, ref: str | None = None, number: int = 1) -> Asked:
    return Asked(f"alice/{number}", ref or text, target, text)


def told(target: str | None, ref: str, answer: str, detail: str = "", number: int = 1) -> Answered:
    return Answered(f"alice/{number}", ref, target, answer, detail)  # type: ignore[arg-type]


def gets(
    name: str, text: str, id_: str | None = None, *, again: bool = False, number: int = 1
) -> Received:
    return Received(f"{name}/{number}", "alice", text, id_, again)


def stores(target: str, text: str, id_: str, number: int = 1) -> list[Event]:
    """A message that is answered."""
    return [asks(target, text, number=number), told(target, text, "stored", id_, number)]


BEGINNING: list[Event] = [comes("alice"), comes("bob")]
READ: list[Event] = [
    comes("alice"),
    comes("dora"),
    *stores("dora", "x", "1"),
    gets("dora", "x", "1"),
]
AWAY: list[Event] = [comes("dora"), Ended("dora/1"), comes("alice")]
DEVICES: list[Event] = [
    *BEGINNING,
    comes("bob", 2),
    *stores("bob", "x", "1"),
    gets("bob", "x", "1"),
]
# Of each: what is seen, and words of the one sentence about it; none if all is well.
TABLE: dict[str, tuple[list[Event], str]] = {
    "nothing": ([], ""),
    "stored and received": ([*BEGINNING, *stores("bob", "x", "1"), gets("bob", "x", "1")], ""),
    "stored and not received": ([*BEGINNING, *stores("bob", "x", "1")], "never arrived"),
    "received before the answer is read": (
        [*BEGINNING, asks("bob", "x"), gets("bob", "x", "1"), told("bob", "x", "stored", "1")],
        "",
    ),
    "received under another id": (
        [*BEGINNING, *stores("bob", "x", "1"), gets("bob", "x", "2")],
        "stored as 1 and never arrived|made 2 messages: 1, 2",
    ),
    "received without an id": (
        [*BEGINNING, asks("bob", "x"), told("bob", "x", "refused", "busy"), gets("bob", "x")],
        "without an id|was refused and arrived",
    ),
    "received, though refused by its line": (
        [*BEGINNING, asks("bob", "x"), told(None, "x", "refused", "busy"), gets("bob", "x", "1")],
        "was refused and arrived",
    ),
    "refused, asked again, and received": (
        [
            *BEGINNING,
            asks("bob", "x"),
            told("bob", "x", "refused", "busy"),
            *stores("bob", "x", "1"),
            gets("bob", "x", "1"),
        ],
        "",
    ),
    "received by a name of which nothing is promised": (
        [comes("alice"), comes("carol"), asks("carol", "x"), gets("carol", "x")],
        "was never answered",
    ),
    "a refusal of a line is one of each target": (
        [comes("alice"), asks("bob", "x"), asks("dora", "x"), told(None, "x", "refused", "busy")],
        "",
    ),
    "a refusal that is a lie": (
        [comes("alice"), asks("bob", "x"), told("bob", "x", "refused", "ref-reused")],
        "no other text had that ref",
    ),
    "sent, and refused when asked again": (
        [
            comes("alice"),
            comes("dora"),
            *(asks("dora", "x"), told("dora", "x", "sent"), gets("dora", "x", "1")),
            *(asks("dora", "x"), told("dora", "x", "refused", "busy")),
        ],
        "was answered sent, and later refused: busy",
    ),
    "sent, and refused by the next relay": (
        [
            comes("alice"),
            comes("dora"),
            *(asks("dora", "x"), told("dora", "x", "sent"), gets("dora", "x", "1"), RelayKilled()),
            *(comes("alice", 2), asks("dora", "x", number=2)),
            told("dora", "x", "refused", "mailbox-full", 2),
        ],
        "",
    ),
    "sent to one who left": (
        [*AWAY, asks("dora", "x"), told("dora", "x", "sent")],
        "was away|never arrived",
    ),
    "stored under two ids": (
        [comes("alice"), *stores("carol", "x", "1"), *stores("carol", "x", "2")],
        "was stored as 1, and again as 2",
    ),
    "two texts under one ref": (
        [
            comes("alice"),
            *stores("carol", "x", "1"),
            *(asks("carol", "y", "x"), told("carol", "x", "refused", "ref-reused")),
        ],
        "",
    ),
    "never answered before the end of a connection": (
        [comes("alice"), asks("bob", "x"), Ended("alice/1")],
        "",
    ),
    "never answered by one that was read to its end": (
        [comes("alice"), asks("bob", "x"), Ended("alice/1", everything_read=True)],
        "was never answered",
    ),
    "acked, and not again": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1")),
            *(AckAsked("bob/1", "1"), AckAnswered("bob/1", "1"), Ended("bob/1"), comes("bob", 2)),
        ],
        "",
    ),
    "an ack that may not have been heard": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), AckAsked("bob/1", "1")),
            *(RelayKilled(), comes("bob", 2), gets("bob", "x", "1", again=True, number=2)),
        ],
        "",
    ),
    "acked, and again": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1")),
            *(AckAsked("bob/1", "1"), AckAnswered("bob/1", "1"), Ended("bob/1")),
            *(comes("bob", 2), gets("bob", "x", "1", again=True, number=2)),
        ],
        "though it was acked",
    ),
    "not acked, and not again": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), Ended("bob/1"), comes("bob", 2)),
        ],
        "did not come again",
    ),
    "not acked, and again in another order": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1")),
            *(*stores("bob", "y", "2"), gets("bob", "y", "2"), Ended("bob/1"), comes("bob", 2)),
            gets("bob", "y", "2", again=True, number=2),
            gets("bob", "x", "1", again=True, number=2),
        ],
        "which came earlier and was not acked|out of order on bob/2|did not come again",
    ),
    "an ack that is refused": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1")),
            *(AckAsked("bob/1", "1"), AckRefused("bob/1", "1", "bad-id")),
        ],
        "/ack 1 was refused: bad-id",
    ),
    "an ack that can not be kept": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1")),
            *(AckAsked("bob/1", "1"), AckRefused("bob/1", "1", "store-failed")),
        ],
        "",
    ),
    "an ack that is not answered": (
        [*BEGINNING, *stores("bob", "x", "1"), gets("bob", "x", "1"), AckAsked("bob/1", "1")],
        "/ack 1 of bob/1 was never answered",
    ),
    "an answer without an ack": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), AckAnswered("bob/1", "1")),
        ],
        "did not ask that",
    ),
    "a report": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), AckAsked("bob/1", "1")),
            *(AckReported("alice/1", "x", "bob", "1"), AckAnswered("bob/1", "1")),
        ],
        "",
    ),
    "a report under another ref": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), AckAsked("bob/1", "1")),
            *(AckReported("alice/1", "y", "bob", "1"), AckAnswered("bob/1", "1")),
        ],
        "not what it sent under the ref y",
    ),
    "a report of one that never acks": (
        [*READ, AckReported("alice/1", "x", "dora", "1")],
        "who did not",
    ),
    "a mark for one that has no ack": (
        [
            comes("alice"),
            comes("dora"),
            *stores("dora", "x", "1"),
            gets("dora", "x", "1", again=True),
        ],
        "has no ack",
    ),
    "two connections, each gets it": ([*DEVICES, gets("bob", "x", "1", number=2)], ""),
    "two connections, the later is given it again": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), comes("bob", 2)),
            gets("bob", "x", "1", again=True, number=2),
        ],
        "",
    ),
    "two connections, and no mark": (
        [
            *BEGINNING,
            *(*stores("bob", "x", "1"), gets("bob", "x", "1"), comes("bob", 2)),
            gets("bob", "x", "1", number=2),
        ],
        "came again on bob/2 without the mark",
    ),
    "two connections, one acks what the other need not get": (
        [
            *DEVICES,
            *(AckAsked("bob/1", "1"), AckAnswered("bob/1", "1")),
            *(*stores("bob", "y", "2"), gets("bob", "y", "2"), gets("bob", "y", "2", number=2)),
        ],
        "",
    ),
    "read to its end, and again": (
        [
            *READ,
            Ended("dora/1", everything_read=True),
            comes("dora", 2),
            gets("dora", "x", "1", number=2),
        ],
        "though it was not in flight",
    ),
    "cut, and again": (
        [*READ, Ended("dora/1"), comes("dora", 2), gets("dora", "x", "1", number=2)],
        "",
    ),
    "cut, and again, and again": (
        [
            *(*READ, Ended("dora/1"), comes("dora", 2), gets("dora", "x", "1", number=2)),
            *(Ended("dora/2"), comes("dora", 3), gets("dora", "x", "1", number=3)),
        ],
        "",
    ),
    "read to its end before a kill, and again": (
        [
            *(*READ, Ended("dora/1", everything_read=True), RelayKilled()),
            *(comes("dora", 2), gets("dora", "x", "1", number=2)),
        ],
        "",
    ),
    "stored, and lost at a cut": (
        [
            comes("alice"),
            comes("dora"),
            *stores("dora", "x", "1"),
            Ended("dora/1"),
            comes("dora", 2),
        ],
        "",
    ),
    "stored, and lost before a later one on the same connection": (
        [
            *(comes("alice"), comes("dora"), *stores("dora", "x", "1")),
            *(*stores("dora", "y", "2"), gets("dora", "y", "2"), Ended("dora/1")),
        ],
        "was accepted, was not in flight at an end, and never arrived",
    ),
    "stored for one who is away, and lost": (
        [*AWAY, *stores("dora", "x", "1"), comes("dora", 2)],
        "was accepted, was not in flight at an end, and never arrived",
    ),
    "stored for one who is away, and lost by the next relay": (
        [*AWAY, *stores("dora", "x", "1"), RelayKilled(), comes("dora", 2)],
        "was accepted, was not in flight at an end, and never arrived",
    ),
    "a history of another order": (
        [
            *(comes("alice"), *stores("dora", "x", "1"), *stores("dora", "y", "2")),
            *(comes("dora"), gets("dora", "x", "1"), gets("dora", "y", "2")),
            HistoryRead("dora", (("2", "alice", "y"), ("1", "alice", "x"))),
        ],
        "the history of dora: alice's message 'y'",
    ),
    "a history of another order than was received": (
        [
            *(*BEGINNING, comes("anna"), asks("bob", "x"), Asked("anna/1", "y", "bob", "y")),
            *(gets("bob", "x", "1"), Received("bob/1", "anna", "y", "2")),
            HistoryRead("bob", (("2", "anna", "y"), ("1", "alice", "x"))),
            *(told("bob", "x", "stored", "1"), Answered("anna/1", "y", "bob", "stored", "2")),
        ],
        "the history of bob has another order than was received",
    ),
    "a history that shows one twice": (
        [*READ, HistoryRead("dora", (("1", "alice", "x"), ("1", "alice", "x")))],
        "shows an id twice",
    ),
    "a history with what nobody wrote": (
        [*READ, HistoryRead("dora", (("1", "alice", "x"), ("2", "alice", "y")))],
        "who did not write that",
    ),
}


def forgotten(refs: int, seconds_each: float) -> Checker:
    """A message that is made anew after so many others."""
    events: list[Event] = [*BEGINNING, *stores("bob", "x", "1"), gets("bob", "x", "1")]
    for number in range(refs):
        events += stores("carol", f"other {number}", f"{number + 3}")
    events += [*stores("bob", "x", "2"), gets("bob", "x", "2")]
    return check(events, seconds_each=seconds_each)


class TableTests(SynchronousTestCase):
    """Histories that are short enough to be read."""

    def test_each(self) -> None:
        for what, (events, words) in TABLE.items():
            with self.subTest(what):
                violations = check(events).violations
                expected = words.split("|") if words else []
                self.assertEqual(len(violations), len(expected), (what, violations))
                for violation, part in zip(violations, expected, strict=True):
                    self.assertIn(part, violation)

    def test_a_violation_says_which_event_showed_it(self) -> None:
        (violation,) = check(TABLE["stored under two ids"][0]).violations
        self.assertEqual(
            violation,
            "event 5: alice's message 'x' to carol (ref x) was stored as 1, and again as 2.",
        )

    def test_how_long_something_is_in_flight(self) -> None:
        for how in ("cut, and again", "read to its end before a kill, and again"):
            events = TABLE[how][0]
            seconds = events.index(comes("dora", 2)) - 1 - events.index(gets("dora", "x", "1"))
            self.assertEqual(check(events, in_flight_s=seconds).violations, [])
            self.assertEqual(len(check(events, in_flight_s=seconds - 0.1).violations), 1)

    def test_what_shows_that_the_relay_has_kept_how_far_one_has_read(self) -> None:
        for stored in range(4):
            events: list[Event] = [
                *READ,
                asks("bob", "before"),
                Ended("dora/1", everything_read=True),
            ]
            events += [event for n in range(stored) for event in stores("carol", f"{n}", f"c{n}")]
            # What was sent before does not count.
            events += [told("bob", "before", "stored", "2"), RelayKilled(), comes("bob")]
            events += [
                gets("bob", "before", "2"),
                comes("dora", 2),
                gets("dora", "x", "1", number=2),
            ]
            violations = check(events, settled_after=3).violations
            self.assertEqual(len(violations), int(stored >= 3), violations)

    def test_what_shows_that_a_relay_knows_of_a_cut(self) -> None:
        lost: list[Event] = [asks("dora", "x"), told("dora", "x", "sent")]
        for answers in range(5):
            others = [event for n in range(answers) for event in stores("carol", f"{n}", f"c{n}")]
            early = asks("carol", "early")
            events = [comes("alice"), comes("dora"), early, Ended("dora/1")]
            events += [told("carol", "early", "stored", "c"), *others, *lost]
            violations = check(events, noticed_after=3).violations
            self.assertEqual(len(violations), 2 * int(answers >= 3), violations)
        # A relay that is started later knows of none.
        events = [comes("alice"), comes("dora"), Ended("dora/1"), RelayKilled(), comes("alice", 2)]
        events += [asks("dora", "x", number=2), told("dora", "x", "sent", number=2)]
        self.assertEqual(len(check(events, noticed_after=3).violations), 2)

    def test_a_ref_is_remembered_for_a_thousand_others(self) -> None:
        self.assertEqual(len(forgotten(999, 0.0).violations), 2)
        self.assertEqual(forgotten(1000, 0.0).violations, [])

    def test_a_ref_is_remembered_for_ten_minutes(self) -> None:
        # The first is asked in the third event, and answered anew in the last but one.
        self.assertEqual(len(forgotten(3, 599.9 / 10).violations), 2)
        self.assertEqual(forgotten(3, 60.0).violations, [])

    def test_the_order_of_what_was_asked_again(self) -> None:
        """The first may have been refused, and the answer lost."""
        events: list[Event] = [
            *(comes("alice"), comes("bob"), asks("bob", "x"), asks("bob", "y"), Ended("alice/1")),
            *(comes("alice", 2), *stores("bob", "x", "2", 2), *stores("bob", "y", "1", 2)),
            *(gets("bob", "y", "1"), gets("bob", "x", "2")),
        ]
        self.assertEqual(len(check(events).violations), 1)
        self.assertEqual(check(events, refuses_at_times=True).violations, [])

    def test_what_can_not_be_is_no_history(self) -> None:
        for events in (
            [comes("bob"), comes("bob")],
            [asks("bob", "x")],
            [Ended("bob/1")],
            [comes("bob"), Ended("bob/1"), gets("bob", "x", "1")],
            [comes("alice"), asks("bob", "x", "1"), asks("bob", "x", "2")],
            [comes("alice"), asks("bob", "x", "1"), asks("bob", "y", "1")],
        ):
            self.assertRaises(ValueError, check, events)

    def test_finishing_twice_is_once(self) -> None:
        checker = check(TABLE["stored and not received"][0])
        self.assertEqual(len(checker.finish()), 1)
