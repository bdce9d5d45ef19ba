"""
What a secret may be, and how a token is told from one (docs/protocol.rst, *Owned names*).

The relay, its tools and the client have the same rule.
"""

from __future__ import annotations

import unicodedata

MIN_SECRET_BYTES = 8
MAX_SECRET_BYTES = 128
TOKEN_PREFIX = b"crt_"

# Spaces, line and paragraph separators, controls.
_REFUSED_CATEGORIES = frozenset({"Zs", "Zl", "Zp", "Cc"})


def check_secret(secret: bytes) -> str | None:
    """
    Say what is wrong with a new secret.

    :param secret: UTF-8, as it stands on the wire.
    :returns: a sentence that does not repeat it; ``None`` if nothing is wrong.
    """
    if secret.startswith(TOKEN_PREFIX):
        return "A secret does not begin with 'crt_': tokens do."
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        return f"A secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, and no space."
    try:
        text = secret.decode("utf-8")
    except UnicodeDecodeError:
        return "A secret is UTF-8."
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in text):
        return "A secret has no spaces and no control characters."
    return None


def is_token(secret: bytes) -> bool:
    """Whether what stands in a secret's place is meant as a token; no secret is both."""
    return secret.startswith(TOKEN_PREFIX)
