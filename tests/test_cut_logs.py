"""
Any stream of messages to owned names, cut anywhere, through the quick paths and line by line, has
the same outcome: what each is told, what comes to whom, and what the logs hold.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from chatrelay.session import Session
from tests.accounts_harness import OwnedWorld
from tests.relay_harness import without_sentence
from tests.store_harness import Cleanups
from tests.test_cut_anywhere import cut

PARTIES = (b"", b" bob", b" carol", b" dave", b" erin", b" frank", b" grace")
LIMITS = Limits(max_line_bytes=64, max_refs=4, max_mailbox_entries=40, max_targets=3)
ID = re.compile(rb"\bid=[0-9a-f]+|(?<=!acked )[0-9a-f]+")

# Here and read, away, here with ack, free, here and blocking, with ack and blocking, nobody.
TARGETS = st.sampled_from(
    [
        *(b"bob", b"carol", b"dave", b"erin", b"frank", b"grace", b"me"),
        *(b"Carol", b"DAVE", b"nobody", b"carol,dave"),
    ]
)
TEXTS = st.sampled_from(
    [*(b"x", b"y", b"a%b", b"@ref=1", b"z" * 40, b"z" * 70), *(b"", b"\x1b", b"\xff")]
)
TAGS = st.sampled_from(
    [b"", b"", b"@ref=1 ", b"@ref=2 ", b"@ref=3 ", b"@ref=4 ", b"@a=b ", b"@ref=5;a "]
)
MESSAGES = st.tuples(TAGS, TARGETS, TEXTS).map(lambda parts: b"%b%%%b%%%b" % parts)
# Of the same kind, so that there are runs of them.
RUNS = st.builds(
    lambda target, texts, refs: [
        (b"@ref=%d " % number if refs else b"") + b"%" + target + b"%" + text
        for number, text in enumerate(texts, refs)
    ],
    st.sampled_from([b"bob", b"carol", b"dave", b"erin", b"frank", b"grace"]),
    st.lists(st.sampled_from([b"x", b"y", b"zz"]), min_size=2, max_size=8),
    st.integers(0, 9),
)
COMMANDS = st.sampled_from([b"/ping", b"/history", b"/history carol 5", b"/caps receipts", b""])
STREAMS = st.lists(
    st.one_of(RUNS, st.one_of(MESSAGES, MESSAGES, MESSAGES, COMMANDS).map(lambda line: [line])),
    max_size=12,
).map(lambda lists: b"".join(line + b"\n" for lines in lists for line in lines))
PLACES = st.lists(st.integers(1, 400), max_size=4)


class Outcome(NamedTuple):
    """What can be seen of a relay from outside, and what it keeps."""

    answers: list[bytes]
    stored: list[bytes]
    came: dict[bytes, list[bytes]]
    histories: dict[bytes, list[bytes]]
    waits: list[bytes]
    unread: dict[bytes, tuple[int, dict[int, int]]]


def play(pieces: list[bytes], *, is_owned: bool, line_by_line: bool) -> Outcome:
    """Send a stream, in these pieces, to a relay where some others are."""
    with Cleanups() as cleanups:
        world = OwnedWorld(cleanups, LIMITS)
        others = {}
        for name in (b"bob", b"carol", b"dave", b"frank", b"grace"):
            others[name] = world.owner(name)
        others[b"dave"].lines(b"/caps ack")
        others[b"frank"].lines(b"/block me")
        others[b"grace"].lines(b"/block me", b"/caps ack")
        others.pop(b"carol").end()
        others[b"erin"] = world.join(b"erin")
        me = world.owner(b"me") if is_owned else world.join(b"me")
        quick = Session.run_received
        with mock.patch.object(Session, "run_received", (lambda *_: 0) if line_by_line else quick):
            for piece in pieces:
                me.send(piece)
        told = [ID.sub(b"id=", line) for line in me.told()]
        return Outcome(
            [line for line in told if b"!stored" not in line and not line.startswith(b"%me%")],
            sorted(line for line in told if b"!stored" in line),
            {
                name: [ID.sub(b"id=", line) for line in client.told()]
                for name, client in others.items()
            }
            | {b"me": [line for line in told if line.startswith(b"%me%")]},
            {
                name: [
                    ID.sub(b"id=", line)
                    for party in (PARTIES if name == b"me" else (b"", b" me"))
                    for line in world.owner(name).lines(b"/history%b 200" % party)
                ]
                for name in (b"bob", b"dave", b"frank", b"grace", *([b"me"] if is_owned else []))
            },
            [without_sentence(line) for line in world.owner(b"carol").told()],
            {
                name: (
                    mailbox._kept.entries,
                    {who: n for who, (n, _) in mailbox._unread._of.items()},
                )
                for name in (b"bob", b"dave", b"frank", b"grace")
                for mailbox in [world.relay.find(name)]
            },
        )


class CutLogs(SynchronousTestCase):
    def check(self, stream: bytes, places: list[int], *, is_owned: bool) -> None:
        whole = play([stream], is_owned=is_owned, line_by_line=False)
        for pieces in ([stream], cut(stream, places), cut(stream, range(len(stream)))):
            for line_by_line in (False, True):
                outcome = play(pieces, is_owned=is_owned, line_by_line=line_by_line)
                for field, expected, got in zip(Outcome._fields, whole, outcome, strict=True):
                    self.assertEqual(got, expected, (field, stream, line_by_line, len(pieces)))

    @settings(max_examples=8, deadline=None)
    @given(STREAMS, PLACES, st.booleans())
    @example(b"@ref=1 %carol%x\n@ref=2 %carol%y\n@ref=1 %carol%x\n@ref=2 %carol%z\n", [20], False)
    @example(b"%carol%x\n@ref=1 %carol%1\n@ref=2 %dave%2\n@ref=3 %bob%3\n%dave%4\n", [], True)
    @example(b"%frank%1\n%frank%2\n@ref=1 %frank%3\n%bob%4\n%frank%5\n", [12], True)
    @example(b"".join(b"@ref=%d %%carol%%%d\n" % (n, n) for n in range(12)), [90], False)
    @example(b"@ref=1 %grace%1\n@ref=2 %grace%2\n%bob%3\n%bob%4\n%erin%5\n", [], True)
    @example(b"%me%1\n%me%2\n@ref=1 %me%3\n/history\n", [], True)
    def test_the_same_outcome(self, stream: bytes, places: list[int], is_owned: bool) -> None:
        self.check(stream, places, is_owned=is_owned)

    def test_the_streams_reach_what_they_are_for(self) -> None:
        stream = (
            b"%bob%1\n%bob%2\n@ref=1 %carol%3\n@ref=2 %carol%4\n@ref=3 %dave%5\n%frank%6\n"
            b"%erin%7\n@ref=1 %carol%3\n@ref=4 %bob%8\n"
        )
        outcome = play([stream], is_owned=True, line_by_line=False)
        self.assertEqual(len(outcome.stored), 4)
        self.assertEqual(outcome.answers, [b"!error blocked frank", b"@ref=4 !sent bob"])
        self.assertEqual(outcome.waits, [b"%me%3", b"%me%4"])
        self.assertEqual(outcome.came[b"bob"], [b"%me%1", b"%me%2", b"%me%8"])
        self.assertEqual(outcome.came[b"dave"], [b"@id= %me%5"])
        self.assertEqual(outcome.unread[b"dave"][0], 1)
        with mock.patch.object(
            Session, "line_received", autospec=True, side_effect=Session.line_received
        ) as seen:
            play([b"@ref=1 %carol%3\n@ref=2 %carol%4\n"], is_owned=True, line_by_line=False)
        lines = [call.args[1] for call in seen.mock_calls]
        self.assertEqual([line for line in lines if line.startswith(b"@")], [])
