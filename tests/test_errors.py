"""The table of error codes: complete, unique, and never saying what a peer wrote."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from chatrelay import errors
from chatrelay.errors import REFUSALS, ChatrelayError, Misuse, Refusal, UnknownName
from chatrelay.wire import check_text, error_line

# docs/protocol.rst, *Errors*: codes are never reused, so none may go from here.
PUBLISHED_CODES = {
    "bad-id",
    "bad-line",
    "bad-name",
    "bad-room",
    "bad-secret",
    "bad-tags",
    "bad-text",
    "bad-utf8",
    "blocked",
    "busy",
    "empty-text",
    "insecure",
    "line-too-long",
    "mailbox-full",
    "name-in-use",
    "name-owned",
    "name-reserved",
    "not-allowed",
    "not-in-room",
    "not-named",
    "rate-limited",
    "ref-reused",
    "shutting-down",
    "slow-consumer",
    "store-failed",
    "timeout",
    "too-many-clients",
    "too-many-rooms",
    "too-many-targets",
    "too-many-watches",
    "unknown-command",
    "unknown-name",
    "unknown-room",
}


class CodeTests(SynchronousTestCase):
    """Codes are for programs, sentences for people."""

    def test_every_published_code_has_its_exception(self) -> None:
        self.assertEqual(set(REFUSALS), PUBLISHED_CODES)

    def test_every_refusal_of_the_module_is_a_row(self) -> None:
        kinds = {
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
        }
        self.assertEqual(set(REFUSALS.values()), kinds)
        self.assertEqual(len(kinds), len({kind.code for kind in kinds}))

    def test_codes_are_words_of_small_letters(self) -> None:
        for code in REFUSALS:
            self.assertRegex(code, r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")

    def test_a_code_follows_from_its_class(self) -> None:
        for code, kind in REFUSALS.items():
            written = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind.__name__).lower()
            self.assertEqual({"timed-out": "timeout"}.get(written, written), code)

    def test_every_code_has_a_sentence_of_its_own(self) -> None:
        sentences = [kind.sentence for kind in REFUSALS.values()]
        self.assertEqual(len(sentences), len(set(sentences)))
        for sentence in sentences:
            self.assertRegex(sentence, r"\A[A-Z].*\.\Z")

    def test_every_refusal_is_one_clean_line(self) -> None:
        for code, kind in REFUSALS.items():
            line = error_line(kind(b"carol"))
            check_text(line)
            self.assertNotIn(b"\n", line)
            self.assertLess(len(line), 1024)
            expected = b"!error " + code.encode() + b" carol :" + kind.sentence.encode()
            self.assertEqual(line, expected)

    def test_a_refusal_without_context(self) -> None:
        self.assertEqual(
            error_line(errors.EmptyText()),
            b"!error empty-text :Write something after the second '%'.",
        )

    def test_a_sentence_of_its_own_leaves_the_others_alone(self) -> None:
        self.assertEqual(
            error_line(errors.NotAllowed(sentence="Not here.")), b"!error not-allowed :Not here."
        )
        self.assertEqual(errors.NotAllowed().sentence, errors.NotAllowed.sentence)


class TreeTests(SynchronousTestCase):
    """One tree: our misuse is not the peer's."""

    def test_one_root(self) -> None:
        for kind in [Misuse, Refusal, *REFUSALS.values()]:
            self.assertTrue(issubclass(kind, ChatrelayError), kind)

    def test_misuse_is_no_refusal(self) -> None:
        self.assertFalse(issubclass(Misuse, Refusal))
        self.assertTrue(issubclass(Misuse, ValueError))

    def test_what_a_person_reads(self) -> None:
        self.assertEqual(str(UnknownName(b"bob")), "unknown-name bob: Nobody has this name now.")

    def test_context_that_is_not_utf8_can_be_read(self) -> None:
        self.assertEqual(
            str(UnknownName(b"b\xff")), "unknown-name b\\xff: Nobody has this name now."
        )
