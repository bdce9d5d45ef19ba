"""
The quick path does nothing for each message: its calls are counted, never its seconds.

A chunk of plain messages that falls back to line by line is relayed all the same, several
times as slowly, and no other test would tell.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FrameType, ModuleType
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from chatrelay import cutting, lines
from chatrelay.limits import Limits
from chatrelay.protocol import WAITING_READ_BYTES
from tests.relay_harness import World
from tests.test_cutting import COMPILED, NOT_COMPILED

MANY = 20
# Twice that is still served as it is read, and is no longer than a line may be.
SHORT_READ_BYTES = 3_500
# Twice that is still one read, and handed to a transport in one piece.
LONG_READ_BYTES = 22_000
# Where reads end, from the end of a line: in a text, in a name, between CR and LF.
CUTS = (9, 4, -1, -6)


class Chunk(NamedTuple):
    """Plain messages with the same text; so many bytes a read, to which their number is fit."""

    what: str
    text: bytes
    read_bytes: int = SHORT_READ_BYTES
    reads: int = 1
    eol: bytes = b"\n"


CHUNKS = [
    Chunk("16 bytes", b"x" * 16),
    Chunk("64 bytes", b"x" * 64),
    Chunk("16 bytes, a long read", b"x" * 16, LONG_READ_BYTES),
    Chunk("64 bytes, a long read", b"x" * 64, LONG_READ_BYTES),
    Chunk("1024 bytes, a long read", b"x" * 1024, LONG_READ_BYTES),
    Chunk("umlauts", "äöü und ß".encode()),
    Chunk("Cyrillic", "Привет, мир".encode()),
    Chunk("Cyrillic, a long read", "Привет, мир".encode(), LONG_READ_BYTES),
    Chunk("CR LF", b"x" * 16, eol=b"\r\n"),
    Chunk("CR LF, a long read", b"x" * 16, LONG_READ_BYTES, eol=b"\r\n"),
    Chunk("cut within lines", b"x" * 17, reads=5),
    Chunk("cut within lines, long reads", b"x" * 17, LONG_READ_BYTES, reads=5),
    Chunk("CR LF, cut within lines", b"x" * 17, reads=5, eol=b"\r\n"),
]
WITH_PERCENT = [
    Chunk("a % in the text", b"100 % of it"),
    Chunk("a % in the text, a long read", b"100 % of it", LONG_READ_BYTES),
]
WITH_COMMAND = [
    Chunk("a command in the middle", b"x" * 16),
    Chunk("a command in the middle, a long read", b"x" * 16, LONG_READ_BYTES),
]


class Bounds(NamedTuple):
    """
    The most calls that one more of something may take.

    :ivar to_one: for a message, all of them to one recipient.
    :ivar to_many: for a message, to twenty recipients.
    :ivar with_percent: for a message with a ``%`` in its text.
    :ivar with_command: for a message of a chunk with a command in its middle.
    :ivar short_recipient: for a recipient of a short read.
    :ivar long_recipient: for a recipient of a read that waits for its turn.
    :ivar window: for half as many bytes as a line may have.
    """

    to_one: float
    to_many: float
    with_percent: float
    with_command: float
    short_recipient: float
    long_recipient: float
    window: float


# Where it is not zero, a quarter more than it was in Python 3.11.
PURE = Bounds(
    to_one=0.01,
    to_many=1.1,  # 1: the append to its recipient's texts
    with_percent=5,  # 4: `Run.cut`
    with_command=1.1,  # as to many
    short_recipient=27.5,  # 22
    long_recipient=31.3,  # 25
    window=1,
)
IN_C = Bounds(
    to_one=0.01,
    to_many=0.01,
    with_percent=0.01,
    with_command=0.01,
    short_recipient=25,  # 20
    long_recipient=28.8,  # 23
    window=0,
)


def count_calls(work: Callable[[], None]) -> int:
    """How many functions are called, in Python and from Python in C."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    # Whoever wants to hear of a collection is called, as hypothesis does.
    collects = gc.isenabled()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count


def message_count(chunk: Chunk) -> int:
    """How many messages make a chunk, so that each read has some to everybody."""
    line_bytes = len(b"%bob00%" + chunk.text + chunk.eol)
    return chunk.reads * chunk.read_bytes // line_bytes // MANY * MANY


def relayed_calls(chunk: Chunk, messages: int, names: Sequence[bytes], odd: bytes = b"") -> int:
    """
    The calls for `messages` of a chunk, from its first read on until nothing is due.

    :param names: the recipients, who all get the same number, in any order.
    :param odd: a line in the middle.
    """
    world = World()
    sender = world.join(b"alice", eol=chunk.eol)
    recipients = [world.join(name) for name in names]
    order = random.Random(12345)
    written: list[bytes] = []
    while len(written) < messages:
        some = order.sample(names, len(names))
        written.extend(b"%" + name + b"%" + chunk.text + chunk.eol for name in some)
    if odd:
        written.insert(messages // 2, odd + chunk.eol)
    stream = b"".join(written)
    ends = [len(stream) * number // chunk.reads for number in range(1, chunk.reads)]
    cuts = [0, *(end + away for end, away in zip(ends, CUTS, strict=False)), len(stream)]
    reads = [stream[start:end] for start, end in pairwise(cuts)]
    assert len(reads) == chunk.reads
    assert not any(read.endswith(b"\n") for read in reads[:-1]), "cut between lines"

    def work() -> None:
        for read in reads:
            sender.protocol.dataReceived(read)
            # What is due now, and what that makes due.
            world.clock.advance(0)

    calls = count_calls(work)
    world.settle()
    for recipient in recipients:
        line = b"%alice%" + chunk.text + b"\n"
        assert recipient.raw() == line * (messages // len(names)), "not all is relayed"
    return calls


class PureWorkTests(SynchronousTestCase):
    """A chunk against one that is twice as long: what both do once is no part of it."""

    implementation: ModuleType | None = cutting
    bounds = PURE

    def setUp(self) -> None:
        assert self.implementation is not None
        self.patch(lines, "cut_whole", self.implementation.cut_whole)
        self.patch(lines, "find_stretch", self.implementation.find_stretch)

    def check(self, chunk: Chunk, recipients: int, most: float, odd: bytes = b"") -> None:
        """Fail if a message of a chunk takes more than so many calls."""
        names = [b"bob%02d" % number for number in range(recipients)]
        messages = message_count(chunk)
        self.assertGreaterEqual(messages, MANY * chunk.reads)
        calls = relayed_calls(chunk, messages, names, odd)
        more_calls = relayed_calls(chunk, 2 * messages, names, odd) - calls
        # Long lines are looked for in every half of one.
        windows = chunk.reads * chunk.read_bytes / (Limits.max_line_bytes // 2)
        allowed = most * messages + self.bounds.window * windows
        self.assertLessEqual(
            more_calls,
            allowed,
            f"{chunk.what}, to {recipients}: {more_calls / messages:.2f} for a message",
        )

    def test_the_reads_are_what_they_are_for(self) -> None:
        self.assertLess(2 * SHORT_READ_BYTES, min(WAITING_READ_BYTES, Limits.max_line_bytes))
        self.assertGreater(LONG_READ_BYTES * 0.9, WAITING_READ_BYTES)

    def test_to_one(self) -> None:
        for chunk in CHUNKS:
            self.check(chunk, 1, self.bounds.to_one)

    def test_to_many(self) -> None:
        for chunk in CHUNKS:
            self.check(chunk, MANY, self.bounds.to_many)

    def test_percent_in_the_text(self) -> None:
        for chunk in WITH_PERCENT:
            self.check(chunk, 1, self.bounds.with_percent)
            self.check(chunk, MANY, self.bounds.with_percent)

    def test_a_command_in_the_middle(self) -> None:
        for chunk in WITH_COMMAND:
            self.check(chunk, 1, self.bounds.with_command, b"/time")
            self.check(chunk, MANY, self.bounds.with_command, b"/time")

    def test_a_recipient_more(self) -> None:
        names = [b"bob%02d" % number for number in range(2 * MANY)]
        for chunk, most in (
            (Chunk("a short read", b"x" * 16), self.bounds.short_recipient),
            (Chunk("a long read", b"x" * 16, LONG_READ_BYTES), self.bounds.long_recipient),
        ):
            messages = message_count(chunk) // len(names) * len(names)
            calls = relayed_calls(chunk, messages, names[:MANY])
            more_calls = relayed_calls(chunk, messages, names) - calls
            self.assertLessEqual(more_calls / MANY, most, chunk.what)

    def test_a_lost_quick_path_is_seen(self) -> None:
        def check_that_all_fail(chunks: Sequence[Chunk]) -> None:
            for chunk in chunks:
                for recipients, most in ((1, self.bounds.to_one), (MANY, self.bounds.to_many)):
                    self.assertRaises(self.failureException, self.check, chunk, recipients, most)

        self.patch(lines, "cut_whole", lambda *_: None)
        check_that_all_fail(CHUNKS)
        self.patch(lines.Block, "cut", lambda *_: [])
        check_that_all_fail([chunk for chunk in CHUNKS if chunk.read_bytes == SHORT_READ_BYTES])
        most = self.bounds.with_percent
        self.assertRaises(self.failureException, self.check, WITH_PERCENT[0], 1, most)


class CompiledWorkTests(PureWorkTests):
    """The same with the loops compiled."""

    implementation = COMPILED
    bounds = IN_C
    if COMPILED is None:
        skip = NOT_COMPILED
