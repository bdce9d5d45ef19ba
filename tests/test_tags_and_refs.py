"""Tags, and answers one can rely on: docs/protocol.rst, *Tags, refs and answers*."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import RefReused
from chatrelay.limits import Limits
from chatrelay.refs import AcceptedRefs, AcceptedRun
from tests.relay_harness import World


class TagTests(SynchronousTestCase):
    """A line may start with tags; unknown ones are ignored and never relayed."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_tags_that_are_no_ref_change_nothing(self) -> None:
        for tags in (
            b"@a",
            b"@a=",
            b"@a=b",
            b"@a=b;c;d=e",
            b"@a==",
            b"@x=%bob%",
            b"@" + "ключ=значение".encode(),
            b"@" + b"k" * 511,
        ):
            self.assertEqual(self.alice.lines(tags + b" %bob%hi"), [], tags)
            self.assertEqual(self.bob.raw(), b"%alice%hi\n", tags)

    def test_bad_tags(self) -> None:
        for tags in (
            *(b"@", b"@;", b"@a;", b"@;a", b"@=b", b"@ref", b"@ref=", b"@a;;b"),
            *(b"@" + b"k" * 512, b"@ref=" + b"r" * 65, b"@a=\xff", b"@a=\x1b", b"@a=b\tc"),
            "@a=\u2028".encode(),
        ):
            self.assertEqual(self.alice.lines(tags + b" %bob%hi"), [b"!error bad-tags"], tags)
            self.assertEqual(self.bob.told(), [], tags)

    def test_one_space_ends_them(self) -> None:
        self.assertEqual(
            self.alice.lines(b"@ref=1  %bob%hi", b"@ref=2", b"@ref=3 "),
            [b"@ref=1 !error bad-line", b"@ref=2 !error bad-line", b"@ref=3 !error bad-line"],
        )

    def test_the_last_of_a_repeated_tag_counts(self) -> None:
        self.assertEqual(self.alice.lines(b"@ref=1;ref=2 /ping"), [b"@ref=2 !pong"])

    def test_tags_before_a_command_and_before_nothing(self) -> None:
        self.assertEqual(self.alice.lines(b"@a=b /ping x"), [b"!pong x"])
        self.assertEqual(self.alice.lines(b"@a=b"), [b"!error bad-line"])


class RefTests(SynchronousTestCase):
    """Any line may carry a ref; every answer to it carries it back."""

    def setUp(self) -> None:
        self.world = World()
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_a_ref_of_1_64_and_65_bytes(self) -> None:
        for ref in (b"r", b"r" * 64, "ж".encode() * 32, b"a=b", b"%", b"!@#$"):
            self.assertEqual(
                self.alice.lines(b"@ref=" + ref + b" %bob%x"), [b"@ref=" + ref + b" !sent bob"]
            )
        self.assertEqual(self.alice.lines(b"@ref=" + b"r" * 65 + b" %bob%x"), [b"!error bad-tags"])

    def test_every_answer_carries_it(self) -> None:
        for line in (b"/help", b"/who", b"/watch a b", b"/caps", b"/caps id", b"/caps none"):
            told = self.alice.lines(b"@ref=42 " + line)
            self.assertTrue(told)
            for answer in told:
                self.assertTrue(answer.startswith(b"@ref=42 !"), answer)

    def test_what_is_no_answer_does_not(self) -> None:
        self.alice.lines(b"@ref=42 /watch carol")
        self.world.join(b"carol")
        self.assertEqual(self.alice.told(), [b"!online carol"])
        self.assertEqual(
            self.alice.lines(b"@ref=43 %alice%x"), [b"%alice%x", b"@ref=43 !sent alice"]
        )

    def test_one_answer_for_each_target_in_their_order(self) -> None:
        told = self.alice.lines(b"@ref=1 %nobody,bob,alice,none%x")
        self.assertEqual(
            told,
            [
                b"@ref=1 !error unknown-name nobody",
                b"@ref=1 !sent bob",
                b"%alice%x",
                b"@ref=1 !sent alice",
                b"@ref=1 !error unknown-name none",
            ],
        )

    def test_a_refusal_of_the_whole_line_is_one_error_without_a_name(self) -> None:
        for line, code in [
            (b"%bob,alice%", b"empty-text"),
            (b"%bob,a b%x", b"bad-name"),
            (b"%bob,alice%\x1b", b"bad-text"),
            (b"%bob,alice%\xff", b"bad-utf8"),
            (b"%bob,#ops%x", b"bad-line"),
        ]:
            self.assertEqual(self.alice.lines(b"@ref=1 " + line), [b"@ref=1 !error " + code])
        self.assertEqual(self.bob.told(), [])

    def test_answers_keep_the_order_of_the_lines(self) -> None:
        lines, expected = [], []
        for number in range(100):
            name = (b"bob", b"nobody")[number % 2]
            lines += [b"@ref=%d %%%b%%x" % (number, name), b"/ping %d" % number]
            answer = (b"!sent bob", b"!error unknown-name nobody")[number % 2]
            expected += [b"@ref=%d " % number + answer, b"!pong %d" % number]
        self.assertEqual(self.alice.lines(*lines), expected)


class RepetitionTests(SynchronousTestCase):
    """Asking again is safe."""

    def setUp(self) -> None:
        self.world = World(Limits(max_refs=5))
        self.alice = self.world.join(b"alice")
        self.bob = self.world.join(b"bob")

    def test_a_ref_repeated_is_answered_again_and_not_delivered_again(self) -> None:
        for _ in range(3):
            self.assertEqual(self.alice.lines(b"@ref=1 %bob%hi"), [b"@ref=1 !sent bob"])
        self.assertEqual(self.alice.lines(b"@ref=1 %BOB%hi"), [b"@ref=1 !sent BOB"])
        self.assertEqual(self.bob.told(), [b"%alice%hi"])

    def test_also_when_the_recipient_has_left_or_is_another(self) -> None:
        self.alice.lines(b"@ref=1 %bob%hi")
        self.bob.end()
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%hi"), [b"@ref=1 !sent bob"])
        second = self.world.join(b"bob")
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%hi"), [b"@ref=1 !sent bob"])
        self.assertEqual(second.told(), [])

    def test_another_text_under_a_used_ref(self) -> None:
        self.alice.lines(b"@ref=1 %bob%hi")
        told = self.alice.lines(b"@ref=1 %BOB,alice%ho")
        self.assertEqual(
            told, [b"@ref=1 !error ref-reused BOB", b"%alice%ho", b"@ref=1 !sent alice"]
        )
        self.assertEqual(self.bob.told(), [b"%alice%hi"])
        # And the first one still stands.
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%hi"), [b"@ref=1 !sent bob"])

    def test_it_is_remembered_for_each_recipient(self) -> None:
        carol = self.world.join(b"carol")
        self.alice.lines(b"@ref=1 %bob%hi")
        told = self.alice.lines(b"@ref=1 %bob,carol%hi")
        self.assertEqual(told, [b"@ref=1 !sent bob", b"@ref=1 !sent carol"])
        self.assertEqual((self.bob.told(), carol.told()), ([b"%alice%hi"], [b"%alice%hi"]))

    def test_refusals_are_not_remembered(self) -> None:
        unknown = b"@ref=1 !error unknown-name carol"
        self.assertEqual(self.alice.lines(b"@ref=1 %carol%hi"), [unknown])
        carol = self.world.join(b"carol")
        self.assertEqual(self.alice.lines(b"@ref=1 %carol%hey"), [b"@ref=1 !sent carol"])
        self.assertEqual(carol.told(), [b"%alice%hey"])

    def test_what_failed_in_part_can_be_sent_again(self) -> None:
        self.alice.lines(b"@ref=1 %bob,carol%hi")
        carol = self.world.join(b"carol")
        told = self.alice.lines(b"@ref=1 %bob,carol%hi")
        self.assertEqual(told, [b"@ref=1 !sent bob", b"@ref=1 !sent carol"])
        self.assertEqual((self.bob.told(), carol.told()), ([b"%alice%hi"], [b"%alice%hi"]))

    def test_for_10_minutes(self) -> None:
        self.alice.lines(b"@ref=1 %bob%hi")
        self.world.pass_time(599)
        self.alice.lines(b"@ref=1 %bob%hi")
        self.assertEqual(self.bob.told(), [b"%alice%hi"])
        self.world.pass_time(2)
        self.assertEqual(self.alice.lines(b"@ref=1 %bob%ho"), [b"@ref=1 !sent bob"])
        self.assertEqual(self.bob.told(), [b"%alice%ho"])

    def test_or_the_last_refs(self) -> None:
        for ref in range(6):
            self.alice.lines(b"@ref=%d %%bob%%hi" % ref)
        self.bob.told()
        self.alice.lines(b"@ref=1 %bob%hi", b"@ref=5 %bob%hi")
        self.assertEqual(self.bob.told(), [])
        self.alice.lines(b"@ref=0 %bob%hi")
        self.assertEqual(self.bob.told(), [b"%alice%hi"])

    def test_each_sender_has_its_own_and_they_end_with_its_connection(self) -> None:
        carol = self.world.join(b"carol")
        self.alice.lines(b"@ref=1 %bob%hi")
        self.assertEqual(carol.lines(b"@ref=1 %bob%other"), [b"@ref=1 !sent bob"])
        self.alice.end()
        alice = self.world.join(b"alice")
        self.assertEqual(alice.lines(b"@ref=1 %bob%new"), [b"@ref=1 !sent bob"])
        self.assertEqual(self.bob.told(), [b"%alice%hi", b"%carol%other", b"%alice%new"])

    def test_the_defaults_are_1000_refs_and_10_minutes(self) -> None:
        self.assertEqual((Limits().max_refs, Limits().ref_lifetime_s), (1000, 600.0))
        world = World()
        alice, bob = world.join(b"alice"), world.join(b"bob")
        alice.lines(*[b"@ref=%d %%bob%%x" % ref for ref in range(1000)])
        self.assertEqual(len(bob.told()), 1000)
        alice.lines(b"@ref=0 %bob%x")
        self.assertEqual(bob.told(), [])
        alice.lines(b"@ref=1000 %bob%x", b"@ref=0 %bob%x")
        self.assertEqual(len(bob.told()), 2)


ASKED = st.tuples(
    st.sampled_from([b"1", b"2", b"3"]),
    st.sampled_from([b"bob", b"carol"]),
    st.sampled_from([b"x", b"y"]),
    st.integers(0, 60),
)


def has_text(
    refs: AcceptedRefs, ref: bytes, recipient: bytes, text: bytes, now_s: float
) -> bool | None:
    """Whether this text was accepted under a ref; ``None`` if none was."""
    try:
        return True if refs.find_same(ref, recipient, text, now_s) is not None else None
    except RefReused:
        return False


def accept(refs: AcceptedRefs, ref: bytes, recipient: bytes, text: bytes, now_s: float) -> None:
    refs.accept(AcceptedRun(recipient, (ref,), text, now_s))


class AcceptedRefsProperties(SynchronousTestCase):
    """What is remembered, against the rule as simply as it can be said."""

    @given(st.lists(ASKED, max_size=60))
    def test_while_there_are_few_refs(self, asked: list[tuple[bytes, bytes, bytes, int]]) -> None:
        limits = Limits(ref_lifetime_s=100.0)
        accepted = AcceptedRefs(limits)
        texts: dict[tuple[bytes, bytes], tuple[bytes, float]] = {}
        now_s = 0.0
        for ref, recipient, text, later_s in asked:
            now_s += later_s
            known_text, since_s = texts.get((ref, recipient), (b"", -1000.0))
            expected = None if now_s - since_s >= limits.ref_lifetime_s else known_text == text
            self.assertIs(has_text(accepted, ref, recipient, text, now_s), expected)
            if expected is None:
                accept(accepted, ref, recipient, text, now_s)
                texts[ref, recipient] = (text, now_s)

    @given(st.lists(st.integers(0, 8), max_size=60))
    def test_no_more_refs_than_the_bound(self, refs: list[int]) -> None:
        accepted = AcceptedRefs(Limits(max_refs=3))
        order: list[bytes] = []
        for number in refs:
            ref = b"%d" % number
            known = True if ref in order else None
            self.assertIs(has_text(accepted, ref, b"bob", b"x", 0.0), known)
            if known is None:
                accept(accepted, ref, b"bob", b"x", 0.0)
                order = [*order, ref][-3:]

    @given(st.lists(st.integers(0, 8), max_size=60))
    def test_no_more_recipients_of_one_ref_than_one_message_has(
        self, recipients: list[int]
    ) -> None:
        accepted = AcceptedRefs(Limits(max_targets=3))
        order: list[bytes] = []
        for number in recipients:
            recipient = b"%d" % number
            known = True if recipient in order else None
            self.assertIs(has_text(accepted, b"1", recipient, b"x", 0.0), known)
            if known is None:
                accept(accepted, b"1", recipient, b"x", 0.0)
                order = [*order, recipient][-3:]
