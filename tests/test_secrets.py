"""What a secret may be, what a token is, and how both are kept."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts import secrets
from chatrelay.accounts.secrets import (
    hash_secret,
    is_right,
    make_secret,
    make_token,
    token_hash,
)
from chatrelay.errors import ChatrelayError
from chatrelay.secret import check_secret, is_token


class CheckTests(SynchronousTestCase):
    """8 to 128 bytes of UTF-8 without space and control characters, and no token."""

    def test_good_ones(self) -> None:
        for secret in (
            b"x" * 8,
            b"x" * 128,
            "grün-blau".encode(),
            "\U0001f511\U0001f511".encode(),
            b"%bob%hunter2",
            b"crt-crt-",
            b"acrt_crt_",
        ):
            self.assertIsNone(check_secret(secret), secret)

    def test_bad_ones(self) -> None:
        for secret, word in [
            (b"", "8 to 128"),
            (b"x" * 7, "8 to 128"),
            (b"x" * 129, "8 to 128"),
            (("ü" * 65).encode(), "8 to 128"),
            (b"hunter2-\xff", "UTF-8"),
            (b"hunter2 hunter2", "no spaces"),
            (b"hunter2\thunter2", "control"),
            (b"hunter2\x00hunter2", "control"),
            (b"hunter2\x7fhunter2", "control"),
            ("hunter2\u0085hunter2".encode(), "control"),
            ("hunter2\u00a0hunter2".encode(), "no spaces"),
            ("hunter2\u2028hunter2".encode(), "no spaces"),
            (b"crt_hunter2", "crt_"),
            (b"crt_", "crt_"),
        ]:
            sentence = check_secret(secret)
            assert sentence is not None, secret
            self.assertIn(word, sentence)
            self.assertRegex(sentence, r"\AA [^\n]*\.\Z")
            self.assertNotIn("hunter2", sentence)

    @given(st.binary(max_size=140))
    def test_no_secret_has_what_the_wire_uses(self, secret: bytes) -> None:
        if check_secret(secret) is None:
            self.assertEqual(len(secret.split()), 1)
            self.assertFalse(is_token(secret))

    def test_made_ones_are_good(self) -> None:
        made = [make_secret() for _ in range(300)]
        self.assertEqual(len(set(made)), 300)
        for secret in made:
            self.assertIsNone(check_secret(secret))
            self.assertFalse(secret.startswith(b"-"))


class TokenTests(SynchronousTestCase):
    """256 random bits, of which only a hash is kept."""

    def test_what_one_looks_like(self) -> None:
        for _ in range(100):
            self.assertRegex(make_token(), rb"\Acrt_[A-Za-z0-9_-]{43}\Z")
        self.assertNotEqual(make_token(), make_token())

    def test_tokens_and_secrets(self) -> None:
        self.assertTrue(is_token(make_token()))
        self.assertTrue(is_token(b"crt_"))
        self.assertFalse(is_token(b"CRT_hunter2"))

    def test_the_hash_that_is_kept(self) -> None:
        # Of FIPS 180-2, appendix B.1: what is kept has to be found again by later versions.
        self.assertEqual(token_hash(b"abc").hex()[:16], "ba7816bf8f01cfea")
        self.assertEqual(len(token_hash(make_token())), 32)


class HashTests(SynchronousTestCase):
    """argon2id at 19 MiB, t=2, p=1."""

    def test_right_and_wrong(self) -> None:
        secret_hash = hash_secret(b"hunter2-hunter2")
        self.assertTrue(is_right(secret_hash, b"hunter2-hunter2"))
        for wrong in (b"", b"hunter2-hunter", b"hunter2-hunter2 ", b"\xff", secret_hash.encode()):
            self.assertFalse(is_right(secret_hash, wrong), wrong)

    def test_parameters(self) -> None:
        self.assertRegex(hash_secret(b"hunter2-hunter2"), r"\A\$argon2id\$v=19\$m=19456,t=2,p=1\$")
        self.assertEqual(secrets._hasher.salt_len, 16)
        self.assertEqual(secrets._hasher.hash_len, 32)

    def test_each_has_its_own_salt(self) -> None:
        self.assertNotEqual(hash_secret(b"hunter2-hunter2"), hash_secret(b"hunter2-hunter2"))

    def test_other_parameters_are_still_verified(self) -> None:
        earlier = secrets.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        self.assertTrue(is_right(earlier.hash(b"hunter2-hunter2"), b"hunter2-hunter2"))

    def test_a_damaged_hash_is_no_wrong_secret(self) -> None:
        for damaged in ("", "x", "$argon2id$"):
            self.assertRaises(ChatrelayError, is_right, damaged, b"hunter2-hunter2")

    @settings(max_examples=10, deadline=None)
    @given(st.text(alphabet="aüéñ각", min_size=4, max_size=8))
    def test_one_text_in_two_writings_is_one_secret(self, text: str) -> None:
        composed = unicodedata.normalize("NFC", text).encode()
        decomposed = unicodedata.normalize("NFD", text).encode()
        self.assertTrue(is_right(hash_secret(decomposed), composed))
        self.assertTrue(is_right(hash_secret(composed), decomposed))
