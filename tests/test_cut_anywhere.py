"""
Any stream of lines, cut anywhere, through the quick path and line by line, gives the same
output on every connection and the same registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count, cycle, pairwise
from typing import NamedTuple
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.plugins.chatrelay_bots import reverse
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.bots.participant import BotParticipant
from chatrelay.ids import Ids
from chatrelay.limits import Limits
from chatrelay.rooms.audience import Writing
from chatrelay.session import Session
from tests.relay_harness import Client, World, what_is_left

# Small enough that streams of a few lines reach every bound.
LIMITS = Limits(max_line_bytes=64, max_targets=4, max_watches=3, max_refs=3, max_rooms_per_client=2)
# Held again and again: one's own answers and everybody's messages are over these marks.
LOW_MARKS = replace(LIMITS, high_water_bytes=150, low_water_bytes=75)


class Outcome(NamedTuple):
    """What can be seen of a relay from outside, and what it keeps."""

    written: list[bytes]
    connected: list[bool]
    names: list[bytes]
    counters: list[tuple[bytes, int, int]]
    watches: list[tuple[bytes, int, bytes]]
    caps: list[list[bytes]]
    rooms: list[tuple[bytes, list[bytes], list[tuple[Writing, list[int]]]]]
    routes: list[tuple[bytes, bytes]]


TARGETS = st.sampled_from(
    [
        *(b"bob", b"dave", b"me", b"BOB", b"Me", b"you", b"nobody", b"reverse", b"Reverse"),
        *("Анна".encode(), "аннА".encode(), b"server", b"#ops", b"*", b"a b", b""),
        *(b"#Ops", b"#b", b"#nobody", b"#a b", b"#", b"##"),
    ]
)
MOSTLY_PLAIN = st.sampled_from(
    [b"bob", b"bob", b"bob", b"dave", b"me", b"BOB", b"nobody", b"#ops", b"#ops", b"#OPS", b"#b"]
)
TEXTS = st.sampled_from(
    [
        *(
            b"x",
            b"y",
            b"hello",
            b"a%b",
            b"%",
            b"100%%",
            b"%bob%x",
            b" ",
            b"\t",
            b"/quit",
            b"@ref=1",
        ),
        *("é日👍".encode(), b"", b"\xff", b"a\x1bb", b"a\rb", "\x85".encode(), "\u2028".encode()),
        *(b"z" * 40, b"z" * 59, b"z" * 60, b"z" * 61, b"z" * 200, b"\xc3", b"\xe2\x80"),
    ]
)
TAGS = st.sampled_from(
    [b"", b"", b"", b"@a=b ", b"@ref=1 ", b"@ref=2 ", b"@ref=3 ", b"@ref=4 ", b"@ref= ", b"@ "]
)
COMMANDS = st.sampled_from(
    [
        *(b"/ping 1", b"/ping", b"/pong", b"/help", b"/help who", b"/nosuch secret", b"/"),
        *(b"/who", b"/who bob", b"/who nobody", b"/who #ops", b"/caps", b"/caps id time"),
        *(b"/caps none", b"/caps ping", b"/watch bob you me", b"/watch nobody BOB", b"/watch"),
        *(b"/unwatch me bob", b"/unwatch you", b"/name you", b"/name ME", b"/name bob"),
        *(b"/name me", b"/name server", b"/name a,b", b"/name you secret", b"/PING \xff"),
        *(b"/join #ops", b"/join #OPS", b"/join #b", b"/join #new", b"/join #\xff", b"/join ops"),
        *(b"/leave #ops", b"/leave #Ops", b"/leave #b", b"/leave #nobody", b"/rooms"),
        *(b"/caps echo", b"/caps echo id", b"/name ME2"),
    ]
)
PLAIN = st.builds(lambda target, text: b"%" + target + b"%" + text, MOSTLY_PLAIN, TEXTS)
# Of those that are here and clean, so that there are runs: to one, and to several in turn.
RUNS = st.builds(
    lambda targets, texts: b"\n".join(
        b"%" + target + b"%" + text for target, text in zip(cycle(targets), texts, strict=False)
    ),
    st.lists(
        st.sampled_from([b"bob", b"#ops", "Анна".encode(), b"#OPS", b"me", b"#b"]),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.sampled_from([b"x", b"y", b"zz", b"a%b"]), min_size=2, max_size=8),
)
MESSAGES = st.builds(
    lambda tags, targets, text: tags + b"%" + b",".join(targets) + b"%" + text,
    TAGS,
    st.lists(TARGETS, min_size=1, max_size=5),
    TEXTS,
)
ODD = st.sampled_from([b"", b"\r", b"hello", b"%", b"%%", b"%bob", b"@ref=1", b"\xff", b"!sent x"])
LINES = st.one_of(PLAIN, PLAIN, RUNS, MESSAGES, st.builds(bytes.__add__, TAGS, COMMANDS), ODD)
ENDED_LINES = st.builds(bytes.__add__, LINES, st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
BEFORE_NAMING = st.sampled_from(
    [*(b"", b"", b"", b"\r\n", b"-\n", b"/caps id\n", b"/caps time\r\n", b"%bob%x\n", b"bob\n")]
)
STREAMS = st.builds(
    lambda before, first, joins, lines, quit_at, tail: (
        b"".join(
            [
                *before,
                first,
                *joins,
                *lines[:quit_at],
                *([b"/quit\n"] if quit_at < 30 else []),
                *lines[quit_at:],
            ]
        )
        + tail
    ),
    st.lists(BEFORE_NAMING, max_size=3),
    st.sampled_from([b"me\n", b"me\r\n", b"Me\n", b"@ref=1 me\n", b"bob\nme\n"]),
    st.sampled_from([[b"/join #ops\n", b"@ref=7 /join #B\n"], [b"/join #ops\n"], []]),
    st.lists(ENDED_LINES, max_size=30),
    st.sampled_from([30, 30, 30, 30, 30, 20, 5, 0]),
    st.sampled_from([b"", b"%bob%unfinished", b"\r", b"@ref=1 %bob"]),
)
PLACES = st.lists(st.integers(0, 800), max_size=16)


def play(
    pieces: Iterable[bytes],
    limits: Limits,
    *,
    line_by_line: bool,
    ends: bool,
    creeps: bool = False,
) -> Outcome:
    """Send a stream, in these pieces, to a relay where some others are."""
    world = World(limits)
    relay = world.relay
    if creeps:
        # Looking at the clock takes time, so that a few lines are a client's share.
        looks = count()
        relay.seconds = lambda: world.clock.seconds() + 0.0002 * next(looks)
    # Without the word that makes the ids of each run different.
    relay.ids = Ids(1)
    relay.registry.add_bot(
        BotParticipant(
            reverse, relay.registry.find, relay.wall_clock, lambda *_: None, relay.limits
        )
    )
    bob = world.join(b"bob", eol=b"\r\n")
    bob.lines(b"/watch me you")
    anna = world.join("Анна".encode())
    dave = world.join(b"Dave", caps=b"id time")
    for member, room in ((bob, b"#ops"), (anna, b"#ops"), (dave, b"#ops"), (dave, b"#b")):
        member.lines(b"/join " + room)
    me = world.connect()
    clients = [bob, anna, dave, me]
    # Of a connection that is gone the protocol has none any more.
    sessions = [client.session for client in clients]
    quick = Session.run_received
    with mock.patch.object(Session, "run_received", (lambda *_: 0) if line_by_line else quick):
        for piece in pieces:
            me.send(piece)
        if ends:
            me.end()
    outcome = Outcome(
        written=[bytes(client.transport.taken) for client in clients],
        connected=[client.is_connected for client in clients],
        names=[recipient.name.shown for recipient in relay.registry],
        counters=[
            (session._name.shown, session.messages_in, session.messages_out)
            for session in sessions
            if session._name is not None
        ],
        watches=watches(world, clients),
        caps=[sorted(session.caps) for session in sessions],
        rooms=[
            (
                room.name.shown,
                [member.name.shown for member in room.members()],
                sorted(
                    (writing, sorted(map(sessions.index, devices)))
                    for writing, devices in room._audience._groups.items()
                ),
            )
            for room in relay.rooms
        ],
        routes=sorted(
            (written, taker.name.shown) for written, taker in relay.registry.routes.items()
        ),
    )
    for client in clients:
        client.end()
    left = what_is_left(world)
    assert not left, left
    return outcome


def watches(world: World, clients: list[Client]) -> list[tuple[bytes, int, bytes]]:
    sessions = [client.session for client in clients]
    return sorted(
        (key, sessions.index(watcher), written)
        for key, watchers in world.relay.registry._watchers.items()
        for watcher, written in watchers.items()
    )


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[start:end] for start, end in pairwise(edges)]


class CutAnywhere(SynchronousTestCase):
    """One set of semantics, whatever one read brings."""

    def check(
        self,
        stream: bytes,
        places: list[int],
        limits: Limits,
        *,
        ends: bool,
        creeps: bool = False,
    ) -> None:
        whole = play([stream], limits, line_by_line=False, ends=ends)
        byte_by_byte = cut(stream, range(len(stream)))
        for pieces in ([stream], cut(stream, places), byte_by_byte):
            for line_by_line in (False, True):
                outcome = play(pieces, limits, line_by_line=line_by_line, ends=ends, creeps=creeps)
                for field, expected, got in zip(Outcome._fields, whole, outcome, strict=True):
                    self.assertEqual(got, expected, (field, stream, line_by_line))

    @settings(max_examples=120)
    @given(STREAMS, PLACES, st.booleans())
    @example(b"me\n/join #ops\n" + b"%#ops%x\n" * 9 + b"%#OPS%y\n" * 3, [20, 60, 90], True)
    @example(b"me\n%bob%1\n%BOB%2\n%bob%3\n%nobody%4\n%bob%5\n", [5, 17], True)
    @example(b"me\n%BOB%0\n%bob%1\n%BOB%2\n%bob%3\n", [], False)
    @example(b"me\n%me%1\n/name you\n%me%2\n%you%3\n/caps id\n%you%4\n%YOU%5\n", [], False)
    @example(
        b"me\n/join #ops\n%bob%1\n%#ops%2\n%#OPS%3\n@ref=1 %#Ops%4\n%dave%5\n%#b%6\n%#b%7\n",
        [20, 28],
        True,
    )
    @example(b"me\n%#ops%1\n%#ops%2\n%#no%3\n/join #ops\n/caps echo\n%#ops%4\n", [14], True)
    @example(b"me\n%bob%" + b"z" * 59 + b"\n%bob%" + b"z" * 60 + b"\r\n%bob%1\n", [9, 70], True)
    def test_the_same_output_and_the_same_registry(
        self, stream: bytes, places: list[int], ends: bool
    ) -> None:
        self.check(stream, places, LIMITS, ends=ends)

    @settings(max_examples=40)
    @given(STREAMS, PLACES)
    def test_also_when_it_is_held_again_and_again(self, stream: bytes, places: list[int]) -> None:
        self.check(stream, places, LOW_MARKS, ends=True)

    @settings(max_examples=40)
    @given(STREAMS, PLACES)
    def test_also_when_its_turn_ends_again_and_again(
        self, stream: bytes, places: list[int]
    ) -> None:
        self.check(stream, places, replace(LIMITS, turn_s=0.0005), ends=True, creeps=True)

    def test_the_streams_reach_what_they_are_for(self) -> None:
        """A property over streams that are all refused would prove little."""
        stream = (
            b"me\n%bob%1\n%dave%2\n%BOB,me,dave%3\n@ref=1 %bob%4\n%reverse%ab\n%nobody%x\n"
            b"/watch bob\n/name you\n%#ops%5\n/join #Ops\n%#ops%6\n@ref=2 %#OPS%7\n/quit\n"
        )
        outcome = play([stream], LIMITS, line_by_line=False, ends=False)
        bob, _, dave, me = outcome.written
        self.assertEqual(bob.count(b"%me%"), 3)
        self.assertIn(b"!online me\r\n%me%1\r\n", bob)
        self.assertTrue(
            bob.endswith(
                b"!offline me\r\n!online you\r\n!joined #ops you\r\n%#ops%you%6\r\n"
                b"%#ops%you%7\r\n!offline you\r\n!left #ops you\r\n"
            ),
            bob,
        )
        self.assertEqual(dave.count(b"@id="), 4)
        for line in (
            *(b"%me%3", b"@ref=1 !sent bob", b"%reverse%ba", b"!error unknown-name nobody"),
            *(b"!error not-in-room #ops", b"!end members #ops 4", b"@ref=2 !sent #OPS"),
        ):
            self.assertIn(b"\n" + line, me)
        self.assertEqual(outcome.counters[-1], (b"you", 9, 2))

    def test_the_quick_path_is_taken_and_can_be_left(self) -> None:
        for line_by_line, odd_lines in ((False, 0), (True, 3)):
            with mock.patch.object(
                Session, "line_received", autospec=True, side_effect=Session.line_received
            ) as seen:
                play(
                    [b"me\n", b"%bob%1\n%bob%2\n%bob%3\n"],
                    LIMITS,
                    line_by_line=line_by_line,
                    ends=False,
                )
            lines = [call.args[1] for call in seen.mock_calls if call.args[1].startswith(b"%")]
            self.assertEqual(len(lines), odd_lines)
