"""
How secrets and tokens are made, and how they are kept: as hashes.

A *secret* is chosen by a person and is hashed slowly (argon2id).  A *token* is 256 random bits
of the relay's own, which nobody can guess, and is hashed quickly (SHA-256).
"""

from __future__ import annotations

import secrets
import unicodedata
from hashlib import sha256

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from chatrelay.errors import ChatrelayError
from chatrelay.secret import TOKEN_PREFIX

_TOKEN_RANDOM_BYTES = 32
_MADE_SECRET_RANDOM_BYTES = 18

# 35 ms and 19 MiB a hash: what OWASP's Password Storage Cheat Sheet asks for at least.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)


def make_secret() -> bytes:
    """Make a secret that nobody can guess: 24 letters, digits, ``-`` or ``_``."""
    while True:
        secret = secrets.token_urlsafe(_MADE_SECRET_RANDOM_BYTES).encode("ascii")
        # One that begins like an option, or like a token, would be trouble where it is used.
        if not secret.startswith((b"-", TOKEN_PREFIX)):
            return secret


def make_token() -> bytes:
    """Make a token: ``crt_`` and 43 characters of URL-safe base64, 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_RANDOM_BYTES).encode("ascii")


def token_hash(token: bytes) -> bytes:
    """What is kept of a token: the 32 bytes of its SHA-256."""
    return sha256(token).digest()


def hash_secret(secret: bytes) -> str:
    """
    Hash a secret for keeping, with a salt of its own.

    Takes some 35 ms and 19 MiB, without Python's global lock: for a thread.

    :raises argon2.exceptions.HashingError: memory is short.
    """
    return _hasher.hash(_normalised(secret))


def is_right(secret_hash: str, secret: bytes) -> bool:
    """
    Whether a secret is the one that was hashed; as slow as `hash_secret`.

    :raises ChatrelayError: that can not be told: what is kept was damaged, or memory is short.
    """
    try:
        return _hasher.verify(secret_hash, _normalised(secret))
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        raise ChatrelayError(f"a secret can not be verified: {error}") from None


def _normalised(secret: bytes) -> bytes:
    # Two keyboards may write one "ü" as one code point or as two: RFC 8265, section 4, has
    # passwords compared after NFC.
    try:
        return unicodedata.normalize("NFC", secret.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return secret
