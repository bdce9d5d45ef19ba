"""
What a name may be, and when two are the same.

A name is 1 to 32 code points after NFC: first a letter or a digit, then letters,
marks, digits, ``_``, ``-`` or ``.``, in any script, with Latin, Greek and Cyrillic
not mixed.  Two names are the same when RFC 8265's UsernameCaseMapped profile maps
them to the same string (docs/protocol.rst, *Names*).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from precis_i18n import get_profile

from chatrelay.errors import BadName, BadRoom

MAX_NAME_CODE_POINTS = 32
MAX_NAME_BYTES = 4 * MAX_NAME_CODE_POINTS
SERVER_NAME = b"server"
"""The relay's own name, which nobody can claim."""

_ASCII_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
_PUNCTUATION = frozenset("_-.")
_EXCLUSIVE_SCRIPTS = frozenset({"LATIN", "GREEK", "CYRILLIC"})
# One entry is about 400 bytes: the cache stays under 2 MB, and a name in any
# script costs its 16 µs of PRECIS once and not with every message.
_CACHED_NAMES = 4096
# NFC of 32 code points comes from at most this many: canonical decompositions
# have up to 4 code points, and nothing longer needs to be looked at.
_MAX_UNNORMALISED_BYTES = 4 * MAX_NAME_BYTES

_case_mapped = get_profile("UsernameCaseMapped")


class Name(NamedTuple):
    """
    A valid name.

    :ivar shown: the name as its holder wrote it, after NFC, UTF-8.
    :ivar key: what is compared: equal for two writings of one name.
    """

    shown: bytes
    key: bytes


def parse_name(written: bytes) -> Name:
    """
    Read a name that a peer wrote.

    :param written: the bytes of the name, without anything around them.
    :raises BadName: outside the rules, or not UTF-8.
    """
    if _ASCII_NAME.match(written):
        return Name(written, written.lower())
    if written.isascii() or len(written) > _MAX_UNNORMALISED_BYTES:
        raise BadName()
    name = _parse_international(written)
    if name is None:
        raise BadName()
    return name


def parse_room(written: bytes) -> Name:
    """
    Read the name of a room that a peer wrote: ``#`` and a name.

    :returns: it with its ``#``.
    :raises BadRoom: it is none.
    """
    if not is_room(written):
        raise BadRoom
    try:
        shown, key = parse_name(written[1:])
    except BadName:
        raise BadRoom from None
    return Name(b"#" + shown, b"#" + key)


def is_room(written: bytes) -> bool:
    """Whether something is written as the name of a room."""
    return written.startswith(b"#")


def key_of_party(party: bytes) -> bytes:
    """
    What the other side of a message is compared by.

    :param party: a name, ``#ROOM``, ``#ROOM%NAME``, ``*`` or ``*%NAME``, where each name is valid.
    :returns: the same with the key of each name.
    :raises BadName: one is not.
    """
    conversation, percent, sender = party.partition(b"%")
    if conversation.startswith(b"#"):
        key = b"#" + parse_name(conversation[1:]).key
    else:
        key = conversation if conversation == b"*" else parse_name(conversation).key
    return key + percent + parse_name(sender).key if percent else key


@lru_cache(maxsize=_CACHED_NAMES)
def _parse_international(written: bytes) -> Name | None:
    # None instead of an exception, so that the cache remembers refusals too.
    try:
        shown = unicodedata.normalize("NFC", written.decode("utf-8"))
        if not _is_allowed(shown):
            return None
        mapped = _case_mapped.enforce(shown)
        # The mapping makes full-width letters usual ones: only then are they "LATIN".
        if len(_EXCLUSIVE_SCRIPTS.intersection(map(_script_word, mapped))) > 1:
            return None
        return Name(shown.encode("utf-8"), mapped.encode("utf-8"))
    except UnicodeError:
        return None


def _is_allowed(name: str) -> bool:
    return (
        1 <= len(name) <= MAX_NAME_CODE_POINTS
        and _is_letter_or_digit(name[0])
        and all(character in _PUNCTUATION or _is_name_part(character) for character in name)
    )


def _is_letter_or_digit(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "L" or category == "Nd"


def _is_name_part(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd"


def _script_word(character: str) -> str:
    # The standard library has no script property; for the three scripts that
    # look alike, the first word of a letter's Unicode name is its script.
    return unicodedata.name(character, "").partition(" ")[0]
