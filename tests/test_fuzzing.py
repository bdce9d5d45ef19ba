"""What a fuzzer has found is tried again, and what it should find is found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import SkipTest, mock

from twisted.trial.unittest import SynchronousTestCase

from chatrelay import console, errors, lines, naming
from chatrelay import session as session_module
from chatrelay import wire as grammar
from chatrelay.lines import LineBuffer
from chatrelay.receiver import Receiver
from chatrelay.refs import AcceptedRefs
from chatrelay.registry import Registry
from chatrelay.rooms.directory import Rooms
from tests.fuzzing import cutting, mutating, seeds, session, wire
from tests.fuzzing.beginnings import beginnings
from tests.fuzzing.session import Choice, Step, conversation, step
from tests.fuzzing.targets import TARGETS
from tests.test_cutting import NOT_COMPILED

ANN, BOB = step(Step.LINE, 0, b"ann"), step(Step.LINE, 1, b"bob")


class SeedTests(SynchronousTestCase):
    """Each input that is kept goes through its target."""

    def try_all(self, target: str) -> None:
        inputs = seeds.read(target)
        self.assertGreater(len(inputs), 20)
        for data in inputs:
            try:
                TARGETS[target](data)
            except Exception as error:
                raise AssertionError(f"{target}: {data!r}") from error

    def test_wire(self) -> None:
        self.try_all("wire")

    def test_session(self) -> None:
        self.try_all("session")

    def test_what_is_written_by_hand(self) -> None:
        for data in beginnings():
            session.check(data)

    def test_cutting(self) -> None:
        if cutting.compiled is None:
            raise SkipTest(NOT_COMPILED)
        self.try_all("cutting")

    def test_they_are_written_as_they_are_read(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="chatrelay-seeds-"))
        self.addCleanup(shutil.rmtree, directory)
        for target in TARGETS:
            with mock.patch.object(seeds, "DIRECTORY", directory):
                inputs = [bytes(range(256)), b"", b"\\x41 \n", target.encode()]
                seeds.write(target, inputs)
                self.assertEqual(seeds.read(target), sorted(inputs))
            self.assertEqual(sorted(seeds.read(target)), sorted(set(seeds.read(target))))


class DetectionTests(SynchronousTestCase):
    """A relay that is broken is found to be, by an input that does not break it otherwise."""

    def check_found(self, data: bytes, owner: Any, name: str, broken: Any, said: str) -> None:
        session.check(data)
        with mock.patch.object(owner, name, broken):
            error = self.assertRaises(AssertionError, session.check, data)
        # A test of trial's would take what was logged for its own failure.
        self.flushLoggedErrors()
        self.assertIn(said, str(error))

    def test_an_exception(self) -> None:
        def fail(*_: object) -> None:
            raise ValueError("out of order")

        data = conversation(0, [ANN, step(Step.LINE, 0, b"%ann%hi\n@ref=1 %ann%hi")])
        self.check_found(data, grammar, "parse_message", fail, "ValueError: out of order")

    def test_what_drives_a_terminal(self) -> None:
        def answer(self: Receiver, line: bytes, _ref: bytes) -> None:
            self.outbox.write(line + b"\x1b[2J" + self.eol)

        data = conversation(0, [ANN, step(Step.LINE, 0, b"/ping")])
        self.check_found(data, Receiver, "answer", answer, "[2J")
        data = conversation(0, [ANN, BOB, step(Step.LINE, 0, b"%cid%\xc2\xadhi")])
        self.check_found(data, console, "printable", bytes.decode, "logged: ")

    def test_a_line_that_is_too_long(self) -> None:
        data = conversation(0, [ANN, step(Step.LINE, 0, b"/ping")])
        greeting = b":" + b"x" * 2000
        self.check_found(data, naming, "_GREETING", greeting, "!welcome")

    def test_a_code_that_is_not_in_the_table(self) -> None:
        data = conversation(0, [ANN, step(Step.LINE, 0, b"%bob%hi")])
        self.check_found(data, errors.UnknownName, "code", "nobody", "!error nobody bob")

    def test_an_answer_too_many(self) -> None:
        answer_sent = Receiver.answer_sent

        def twice(self: Receiver, target: bytes, ref: bytes) -> None:
            answer_sent(self, target, ref)
            answer_sent(self, target.upper(), ref)

        data = conversation(0, [ANN, BOB, step(Step.LINE, 0, b"@ref=1 %ann,bob%hi")])
        self.check_found(data, Receiver, "answer_sent", twice, "Counter")

    def test_what_is_never_forgotten(self) -> None:
        written = b"\n".join(b"@ref=%d %%bob%%hi" % number for number in range(9))
        data = conversation(0, [ANN, BOB, step(Step.LINE, 0, written)])
        self.check_found(data, AcceptedRefs, "_forget_too_many", lambda _: None, "AcceptedRun")
        data = conversation(0, [ANN, step(Step.LINE, 0, b"/watch bob"), step(Step.RESET, 0)])
        self.check_found(data, Registry, "unwatch_all", lambda *_: None, "Session object")
        data = conversation(0, [ANN, step(Step.LINE, 0, b"/join #r"), step(Step.RESET, 0)])
        self.check_found(data, Rooms, "gone", lambda *_: None, "ann")

    def test_a_turn_that_is_all_of_one_client(self) -> None:
        data = conversation(Choice.TIME_PASSES, [ANN, step(Step.MANY, 0, b"\xff/pong")])
        endless = replace(session.LIMITS, turn_s=10.0)
        self.check_found(data, session, "LIMITS", endless, "a turn took")

    def test_a_line_without_end(self) -> None:
        def extend(self: LineBuffer, data: bytes) -> None:
            self._tail += data

        data = conversation(0, [ANN, step(Step.BYTES, 0, b"x" * 300)])
        self.check_found(data, LineBuffer, "_extend_tail", extend, "300")

    def test_more_than_there_may_be(self) -> None:
        rooms = [step(Step.LINE, 0, b"/join #%d" % number) for number in range(5)]
        data = conversation(0, [ANN, *rooms])
        self.check_found(data, Rooms, "check_may_join", lambda *_: None, "Room object")

    def test_a_wrong_loop(self) -> None:
        if cutting.compiled is None:
            raise SkipTest(NOT_COMPILED)
        data = bytes([60, 0]) + b"@ref=1 %b%x\n%b%1\n%b%2\n"
        cutting.check(data)
        for name in cutting.FUNCTIONS:
            wrong = mock.patch.object(cutting.cutting, name, lambda *_: (0, []))
            with wrong:
                self.assertRaises(AssertionError, cutting.check, data)

    def test_a_wrong_grammar(self) -> None:
        data = bytes([4, 2]) + b"@ref=1;a %bob%hi\n#room\nann\n"
        wire.check(data)
        broken: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
            (grammar, "parse_tags", lambda line: ({b"": b""}, line)),
            (grammar, "parse_message", lambda *_: grammar.Message([b"bob"], b"")),
            (lines, "_overlong", lambda line: lines.Overlong(line[1:], line)),
        )
        for owner, name, wrong in broken:
            with mock.patch.object(owner, name, wrong):
                self.assertRaises(AssertionError, wire.check, data + b"y" + b"x" * 600 + b"\n")


class MutationTests(SynchronousTestCase):
    """Inputs are varied into inputs, which reach what a relay has."""

    def test_any(self) -> None:
        data = b""
        for seed in range(300):
            data = mutating.mutate(data, 2048, seed, lambda old, _: old[::-1])
            self.assertLessEqual(len(data), 2048)
        session.check(data)

    def test_every_command_and_every_step_is_tried(self) -> None:
        random = Random(1)
        written = b"\n".join(mutating.new_step(random) for _ in range(4000))
        for verb in session_module.VERBS:
            self.assertIn(b"/" + verb, written)
        heads = {line[0] & 0xF8 for line in written.split(b"\n") if line}
        self.assertLessEqual(set(Step), heads)
