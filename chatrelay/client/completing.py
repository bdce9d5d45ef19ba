"""
What TAB offers: names, rooms and commands, where they can stand.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import nsmallest
from unicodedata import normalize

MAX_OFFERED = 200
"""Of more than these nobody looks for one in a list; the terminal would be busy showing them."""


class _Kind(Enum):
    """What a word after a command can be."""

    ROOM_TO_JOIN = "a room that one is not in"
    OWN_ROOM = "a room that one is in"
    NAME = "a name"
    MEMBER = "a member of the room before it"
    ANYBODY = "a name, or a room that one is in"
    CONVERSATION = "where something came from or went to"
    VERB = "a command"


# After other commands there are names.
_ARGUMENTS: dict[str, tuple[_Kind, ...]] = {
    "join": (_Kind.ROOM_TO_JOIN,),
    "leave": (_Kind.OWN_ROOM,),
    "topic": (_Kind.OWN_ROOM,),
    "keep": (_Kind.OWN_ROOM,),
    "unkeep": (_Kind.OWN_ROOM,),
    "invite": (_Kind.OWN_ROOM, _Kind.NAME),
    "remove": (_Kind.OWN_ROOM, _Kind.MEMBER),
    "who": (_Kind.ANYBODY,),
    "history": (_Kind.ANYBODY,),
    "switch": (_Kind.CONVERSATION,),
    "help": (_Kind.VERB,),
    "rooms": (),
    "quit": (),
}


def _nobody(_room: str) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Known:
    """
    What there is to complete.

    :ivar names: the names that are known.
    :ivar verbs: the commands, without ``/``.
    :ivar rooms: the rooms that are known, each with its ``#``.
    :ivar joined: those that one is in.
    :ivar conversations: where something came from or went to.
    :ivar target: where plain lines go; empty if that is nowhere.
    :ivar members_of: who is in a room.
    """

    names: Collection[str] = ()
    verbs: Collection[str] = ()
    rooms: Collection[str] = ()
    joined: Collection[str] = ()
    conversations: Collection[str] = ()
    target: str = ""
    members_of: Callable[[str], Collection[str]] = _nobody


def completions(before: str, known: Known) -> list[tuple[str, int]]:
    """
    What could stand instead of the end of what is typed.

    :param before: the line up to the cursor.
    :returns: texts, each with how many code points before the cursor it replaces; of more than
        `MAX_OFFERED` the first ones and the last.
    """
    if before.startswith("/") and " " not in before:
        return _beginning_with(before[1:], known.verbs, "", " ")
    word = before.rpartition(" ")[2]
    if before.startswith("/"):
        return _beginning_with(word, _arguments(before, known), "", " ")
    if before.startswith("%") and "%" not in before[1:]:
        here = known.members_of(known.target)
        targets = [*known.names, *here, *known.conversations, *known.joined]
        return _beginning_with(before[1:].rpartition(",")[2], targets, "", "%")
    if not word or "%" in before:
        return []
    is_first = word == before
    members = known.members_of(known.target)
    addressed = _beginning_with(word, members, "", ": " if is_first else " ")
    if addressed or not is_first:
        return addressed
    return _beginning_with(word, [*known.names, *known.joined], "%", "%")


def _arguments(before: str, known: Known) -> Collection[str]:
    verb, *words = before[1:].split(" ")
    kinds = _ARGUMENTS.get(verb.lower())
    if kinds is None:
        return known.names
    if len(words) > len(kinds):
        return ()
    kind = kinds[len(words) - 1]
    if kind is _Kind.MEMBER:
        return known.members_of(words[0])
    if kind is _Kind.ROOM_TO_JOIN:
        return set(known.rooms).difference(known.joined)
    return {
        _Kind.OWN_ROOM: known.joined,
        _Kind.NAME: known.names,
        _Kind.ANYBODY: [*known.names, *known.joined],
        _Kind.CONVERSATION: [*known.conversations, *known.joined],
        _Kind.VERB: known.verbs,
    }[kind]


def _beginning_with(
    beginning: str, words: Iterable[str], head: str, tail: str
) -> list[tuple[str, int]]:
    folded = normalize("NFC", beginning).casefold()  # as names are
    # The "#" of a room may be left out.
    beginnings = (folded, f"#{folded}")
    found = {word for word in words if word.casefold().startswith(beginnings)}
    offered = nsmallest(MAX_OFFERED, found, key=str.casefold)
    if len(found) > MAX_OFFERED:
        # A terminal fills in what all that is offered begins with: that is what all begin with.
        offered[-1] = max(found, key=str.casefold)
    return [(head + word + tail, len(beginning)) for word in offered]
