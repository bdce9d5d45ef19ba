"""Which answers belong to which line."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay import errors
from chatrelay.client import answers
from chatrelay.client.answers import Answers
from chatrelay.client.core import Answer, parse_line
from chatrelay.errors import Refusal, UnknownName


class AnswersTests(SynchronousTestCase):
    """Which answers belong to which line."""

    def setUp(self) -> None:
        self.answers = Answers(b"p-")
        self.done: list[object] = []
        self.answered: list[str] = []

    def ask(self, *targets: str, wait: str = "sent", text: bytes = b"hi") -> str:
        line = b"%" + ",".join(targets).encode() + b"%" + text
        self.asked = self.answers.ask_message(
            line, list(targets), self.done.append, wait, lambda: self.answered.append(targets[0])
        )
        head, _, rest = self.asked.line.partition(b" ")
        self.assertEqual(rest, line)
        return head.decode()

    def take(self, line: str) -> bool:
        return self.answers.take(parse_line(line.encode()), len(line))

    def test_sent(self) -> None:
        """One target, one answer, and then none is waited for."""
        ref = self.ask("bob")
        self.assertEqual(len(self.answers._messages), 1)
        self.assertTrue(self.take(f"{ref} !sent bob"))
        self.assertEqual(self.done, [[Answer("bob", "sent")]])
        self.assertEqual(len(self.answers._messages), 0)
        self.assertEqual(self.answered, ["bob"])

    def test_answered_twice(self) -> None:
        """What was asked again may be answered once more: that is nobody's news."""
        ref = self.ask("bob")
        self.take(f"{ref} !sent bob")
        for line in (f"{ref} !sent bob", f"{ref} !stored bob id=1", f"{ref} !error busy bob :No."):
            self.assertTrue(self.take(line), line)
        self.assertFalse(self.take(f"{ref} !acked bob id=1"))
        self.assertEqual(len(self.done), 1)

    def test_stored(self) -> None:
        """A stored message has an id."""
        self.take(f"{self.ask('bob')} !stored bob id=x7")
        self.assertEqual(self.done, [[Answer("bob", "stored", "x7")]])

    def test_several_targets(self) -> None:
        """Each target has its own answer, in their order."""
        ref = self.ask("bob", "dave", "erin")
        self.take(f"{ref} !sent bob")
        self.take(f"{ref} !error unknown-name dave :Nobody.")
        self.assertEqual(self.done, [])
        self.take(f"{ref} !sent erin")
        [[bob, dave, erin]] = self.done
        self.assertEqual((bob, erin), (Answer("bob", "sent"), Answer("erin", "sent")))
        self.assertIsInstance(dave, UnknownName)

    def test_whole_line_refused(self) -> None:
        """One error without a name answers for all targets."""
        self.take(f"{self.ask('bob', 'dave')} !error bad-text :No.")
        [outcomes] = self.done
        self.assertEqual([type(outcome) for outcome in outcomes], [errors.BadText] * 2)

    def test_interleaved(self) -> None:
        """Answers that come late, as !stored does, find their line by its ref."""
        first, second = self.ask("bob"), self.ask("dave")
        self.take(f"{second} !sent dave")
        self.take(f"{first} !stored bob id=1")
        self.assertEqual(self.done, [[Answer("dave", "sent")], [Answer("bob", "stored", "1")]])

    def test_levels(self) -> None:
        """Which answers end the waiting for which level, and what becomes of the message."""
        sent, stored = Answer("bob", "sent"), Answer("bob", "stored", "1")
        acked = Answer("bob", "acked", "1")
        for wait, said, expected in [
            ("sent", ["sent bob"], sent),
            ("sent", ["stored bob id=1"], stored),
            ("stored", ["sent bob"], sent),
            ("stored", ["stored bob id=1"], stored),
            ("acked", ["sent bob"], sent),
            ("acked", ["stored bob id=1"], None),
            ("acked", ["stored bob id=1", "acked bob id=1"], acked),
            ("acked", ["acked bob id=1", "stored bob id=1"], acked),
            ("acked", ["acked dave id=2"], None),
        ]:
            self.setUp()
            ref = self.ask("bob", wait=wait)
            for line in said:
                self.take(f"{ref} !{line}")
            self.assertEqual(self.done, [] if expected is None else [[expected]], (wait, said))

    def test_answered_before_done(self) -> None:
        """That all targets are answered is told at once, an ack later."""
        ref = self.ask("bob", "dave", wait="acked")
        self.take(f"{ref} !stored bob id=1")
        self.take(f"{ref} !acked bob id=1")
        self.assertEqual(self.answered, [])
        self.take(f"{ref} !stored dave id=2")
        self.assertEqual((self.answered, self.done), (["bob"], []))
        self.take(f"{ref} !acked dave id=2")
        self.assertEqual(self.done, [[Answer("bob", "acked", "1"), Answer("dave", "acked", "2")]])

    def test_any_order(self) -> None:
        """An answer belongs to the target it names, in whatever order they come."""
        ref = self.ask("bob", "Dave", "erin")
        self.take(f"{ref} !error mailbox-full erin :Full.")
        self.take(f"{ref} !sent bob")
        self.take(f"{ref} !stored dave id=1")
        [[bob, dave, erin]] = self.done
        self.assertEqual((bob, dave), (Answer("bob", "sent"), Answer("Dave", "stored", "1")))
        self.assertIsInstance(erin, errors.MailboxFull)

    def test_refused_after_an_answer(self) -> None:
        """An error without a name answers for those that have no answer yet."""
        ref = self.ask("bob", "dave")
        self.take(f"{ref} !sent bob")
        self.take(f"{ref} !error store-failed :No.")
        [[bob, dave]] = self.done
        self.assertEqual(bob, Answer("bob", "sent"))
        self.assertIsInstance(dave, errors.StoreFailed)

    def test_again(self) -> None:
        """Only those are asked again for whom something is awaited; the ref is the same."""
        ref = self.ask("bob", "dave", "Érin", "gus", wait="acked", text=b"50% off")
        self.take(f"{ref} !error mailbox-full bob :Full.")
        self.take(f"{ref} !sent gus")
        self.take(f"{ref} !stored Érin id=1")
        self.assertEqual(self.answers.ask_again(self.asked).decode(), f"{ref} %dave,Érin%50% off")
        self.take(f"{ref} !sent dave")
        self.assertFalse(self.answered)
        self.take(f"{ref} !error mailbox-full Érin :Full.")
        self.assertTrue(self.answered)
        self.assertEqual(self.done, [])
        self.take(f"{ref} !acked Érin id=1")
        [[bob, *others]] = self.done
        self.assertIsInstance(bob, errors.MailboxFull)
        self.assertEqual(
            others,
            [Answer("dave", "sent"), Answer("Érin", "acked", "1"), Answer("gus", "sent")],
        )

    def test_too_long(self) -> None:
        """The answer to a command has bounds in lines and in bytes: what is beyond is dropped."""
        for bound, most in [("MAX_ANSWER_LINES", 3), ("MAX_ANSWER_BYTES", 3 * len("@ref=p-1 !x"))]:
            self.setUp()
            patch = self.patch(answers, bound, most)
            self.answers.ask_command(b"/anything", self.done.append)
            for line in ["@ref=p-1 !x"] * 5 + ["@ref=p-2 !pong ."]:
                self.assertTrue(self.take(line))
            self.assertEqual([len(events) for events in self.done], [3])
            patch.restore()

    def test_one_line(self) -> None:
        """A command that is answered when its effect is kept has no fence."""
        [line] = self.answers.ask_one_line(b"/ack x1", self.done.append)
        self.assertEqual(line, b"@ref=p-1 /ack x1")
        self.assertTrue(self.take("@ref=p-1 !acked x1"))
        self.assertEqual([event.word for event in self.done[0]], ["acked"])

    def test_not_an_answer(self) -> None:
        """Lines without a ref, or with somebody else's, are events."""
        self.ask("bob")
        for line in (
            "!sent bob",
            "@ref=other !sent bob",
            "%bob%hi",
            "@ref=p-9 %bob%x",
            "@ref=p-9 !sent bob",
            "junk",
        ):
            self.assertFalse(self.take(line), line)

    def test_acked_is_not_the_answer(self) -> None:
        """What comes under the ref but answers nothing is left alone."""
        self.assertFalse(self.take(f"{self.ask('bob')} !acked bob id=1"))
        self.assertEqual(self.done, [])

    def test_command(self) -> None:
        """A command's answer is what comes under its ref until its fence is answered."""
        lines = self.answers.ask_command(b"/who", self.done.append)
        self.assertEqual(lines, [b"@ref=p-1 /who", b"@ref=p-2 /ping ."])
        for line in ("@ref=p-1 !who bob", "@ref=p-1 !end who 1"):
            self.assertTrue(self.take(line))
        self.assertFalse(self.take("%bob%hi"))
        self.assertEqual(self.done, [])
        self.assertTrue(self.take("@ref=p-2 !pong ."))
        self.assertEqual([event.word for event in self.done[0]], ["who", "end"])

    def test_fence_refused(self) -> None:
        """Whatever answers the fence ends the command."""
        self.answers.ask_command(b"/pong", self.done.append)
        self.take("@ref=p-2 !error rate-limited :Slowly.")
        self.assertEqual(self.done, [[]])

    @given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=8), st.randoms())
    def test_any_interleaving(self, lines: list[list[bool]], random) -> None:
        """However the answers of several lines are interleaved, each gets its own."""
        answers = Answers(b"")
        results: dict[int, list[object]] = {}
        waiting = []
        for number, fates in enumerate(lines):
            targets = [f"n{number}-{index}" for index in range(len(fates))]
            answers.ask_message(
                b"x", targets, lambda got, number=number: results.update({number: got})
            )
            waiting.append(
                [
                    (f"{number + 1}", target, fate)
                    for target, fate in zip(targets, fates, strict=True)
                ]
            )
        while any(waiting):
            line = random.choice([one for one in waiting if one])
            ref, target, fate = line.pop(random.randrange(len(line)))
            said = f"!sent {target}" if fate else f"!error unknown-name {target} :No."
            self.assertTrue(answers.take(parse_line(f"@ref={ref} {said}".encode())))
        for number, fates in enumerate(lines):
            self.assertEqual([not isinstance(one, Refusal) for one in results[number]], fates)
