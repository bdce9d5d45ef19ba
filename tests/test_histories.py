"""Histories are read in pieces, one at a time: `chatrelay.mailbox.histories`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.mailbox.histories import Asked, Histories
from chatrelay.mailbox.log import Entry, Piece


def entry(number: int) -> Entry:
    return Entry(number, 0, False, b"alice", b"hi")


class HistoriesTests(SynchronousTestCase):
    """A long one does not have the store for itself."""

    def setUp(self) -> None:
        self.given: list[tuple[Asked, Deferred[Piece]]] = []
        store: Any = self
        self.histories = Histories(store)

    def read(self, job: Any) -> Deferred[Piece]:
        """As the store: nothing is done before a test says so."""
        self.given.append((job.__self__, Deferred()))
        return self.given[-1][1]

    def ask(self, count: int = 200, **bounds: int) -> tuple[Asked, list[Any]]:
        asked = Asked(1, None, count, **bounds)
        answers: list[Any] = []
        asked.answer.addBoth(answers.append)
        self.histories.ask(asked)
        return asked, answers

    def answer(self, piece: Piece) -> None:
        self.given[-1][1].callback(piece)

    def test_pieces_take_turns(self) -> None:
        long, long_answers = self.ask()
        short, short_answers = self.ask()
        self.assertEqual([asked for asked, _ in self.given], [long])
        self.answer(Piece([entry(9)], 9))
        self.assertEqual([asked for asked, _ in self.given], [long, short])
        self.answer(Piece([entry(5)], 0))
        self.assertEqual(short_answers, [[entry(5)]])
        self.answer(Piece([entry(7), entry(8)], 7))
        self.answer(Piece([], 0))
        self.assertEqual(long_answers, [[entry(7), entry(8), entry(9)]])
        self.assertEqual([asked for asked, _ in self.given], [long, short, long, long])

    def test_forward(self) -> None:
        _, answers = self.ask(3, after_id=0)
        self.answer(Piece([entry(1)], 4))
        self.answer(Piece([entry(5), entry(6)], 6))
        self.assertEqual(answers, [[entry(1), entry(5), entry(6)]])

    def test_one_that_fails(self) -> None:
        _, failures = self.ask()
        _, answers = self.ask()
        self.given[-1][1].errback(ValueError("the disk"))
        failures[0].trap(ValueError)
        self.answer(Piece([], 0))
        self.assertEqual(answers, [[]])
