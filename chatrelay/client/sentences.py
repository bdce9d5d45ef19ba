"""
What the relay tells, as short sentences for a person.

Pure.  Nothing here is harmless yet: `chatrelay.client.display.notice_shown` makes it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, tzinfo

from chatrelay.client.core import Event, Reply, is_room, same_name
from chatrelay.client.rooms import room_from

_MINUTE_S, _HOUR_S = 60, 3600
# No word of a relay's.
_MEMBERS_IN_ALL = "members in all"


def sentence_of(reply: Reply, own_name: str = "", zone: tzinfo | None = None) -> str | None:
    """
    Say what a reply of the relay means.

    :param own_name: the name of who reads it.
    :param zone: the time zone to show times in; ``None`` for this machine's.
    :returns: the sentence; ``None`` for what tells a person nothing.
    """
    if reply.word == "who" and reply.arguments:
        return _who(reply, zone)
    if reply.word == "end" and reply.arguments:
        return _end(reply.arguments)
    if reply.arguments and is_room(reply.arguments[0]):
        about = _about_room(reply, own_name)
        if about is not None:
            return about
    first = reply.arguments[0] if reply.arguments else ""
    sentence = {
        "history": f"From the log of {first}:" if first else "From your log:",
        "online": f"{first} is here.",
        "offline": f"{first} is not here.",
        "welcome": f"You are {first} now.",
        "registered": f"{first} is registered: it is granted only with its secret now.",
        "error": f"{reply.sentence} ({' '.join(reply.arguments)})",
    }.get(reply.word)
    if sentence is not None:
        return sentence
    head = " ".join(reply.arguments)
    if reply.word != "help":
        head = f"{reply.word} {head}".rstrip()
    return f"{head} - {reply.sentence}" if reply.sentence else head


def _who(reply: Reply, zone: tzinfo | None) -> str:
    name, *words = reply.arguments
    said = [name]
    for word in words:
        key, _, value = word.partition("=")
        if key == "since":
            said.append(f"since {_moment(value, zone)}")
        elif key == "idle" and value.isascii() and value.isdigit():
            said.append(f"idle {_duration(int(value[:12]))}")
        elif key == "rooms":
            said += [f"in {value.replace(',', ', ')}"] if value else []
        else:
            said.append(word)
    return ", ".join(said)


def _moment(written: str, zone: tzinfo | None) -> str:
    try:
        return datetime.fromisoformat(written).astimezone(zone).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return written


def _duration(seconds: int) -> str:
    if seconds < 2 * _MINUTE_S:
        return f"{seconds} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    return f"{seconds // _HOUR_S} h"


def _end(words: tuple[str, ...]) -> str | None:
    what, count = words[0], words[-1]
    if what == "members":
        return None  # the names before it say the same
    none, one, many = {
        _MEMBERS_IN_ALL: ("", "", f"… {count} members in all"),
        "who": ("Nobody.", "1 is here.", f"{count} are here."),
        "rooms": ("There are no rooms.", "1 room.", f"{count} rooms."),
        "history": ("Nothing is in it.", "That is all (1).", f"That is all ({count})."),
    }.get(what, (f"end of {' '.join(words)}",) * 3)
    return {"0": none, "1": one}.get(count, many)


# -- rooms


def with_short_lists(events: Sequence[Event]) -> list[Event]:
    """The lines of an answer, but of a long list of members only the first, and how many it has."""
    shown: list[Event] = []
    lines = 0
    for event in events:
        word = event.word if isinstance(event, Reply) else ""
        lines = lines + 1 if word == "members" else lines
        if word == "members" and lines > 1:
            continue
        if word == "end" and lines > 1 and isinstance(event, Reply):
            event = replace(event, arguments=(_MEMBERS_IN_ALL, *event.arguments[1:]))  # noqa: PLW2901
        shown.append(event)
    return shown


def _joined(room: str, name: str, *, is_own: bool) -> str:
    return f"You joined {room}." if is_own else f"{name} joined {room}."


def _left(room: str, name: str, *, is_own: bool) -> str:
    return f"You left {room}." if is_own else f"{name} left {room}."


def _removed(room: str, name: str, *, is_own: bool) -> str:
    return f"You were put out of {room}." if is_own else f"{name} was put out of {room}."


def _invited(room: str, name: str, *, is_own: bool) -> str:
    if is_own:
        return f"You are invited to {room}: /join {room} enters it."
    return f"{name} is invited to {room}."


def _unkept(room: str, name: str, *, is_own: bool) -> str:
    whose = "You do" if is_own else f"{name} does"
    return f"{whose} not keep {room} any more: it ends when all have left."


_OF_A_MEMBER = {
    "joined": _joined,
    "left": _left,
    "removed": _removed,
    "invited": _invited,
    "unkept": _unkept,
}


def _about_room(reply: Reply, own_name: str) -> str | None:
    room, *words = reply.arguments
    if reply.word in _OF_A_MEMBER and words:
        return _OF_A_MEMBER[reply.word](room, words[0], is_own=same_name(words[0], own_name))
    if reply.word == "members":
        return f"In {room}: {', '.join(words)}"
    if reply.word == "topic":
        return (
            f"The topic of {room}: {reply.sentence}" if reply.sentence else f"{room} has no topic."
        )
    if reply.word == "kept":
        return _kept(reply, own_name)
    if reply.word == "room":
        return _listed(reply)
    return None


def _kept(reply: Reply, own_name: str) -> str:
    room, *words = reply.arguments
    owner = reply.value("owner") or "its owner"
    whose = "you keep it" if same_name(owner, own_name) else f"{owner} keeps it"
    who = "only who is invited may join" if "members-only" in words else "everybody may join"
    return f"{room} stays when all have left: {whose}, and {who}."


def _listed(reply: Reply) -> str:
    room = room_from(reply)
    said = [f"{room.member_count} member{'' if room.member_count == 1 else 's'}"]
    said += ["you are in it"] if room.is_joined else []
    said += ["kept"] if room.is_kept else []
    said += ["members only"] if room.is_members_only else []
    topic = f" - {room.topic}" if room.topic else ""
    return f"{room.name}: {', '.join(said)}{topic}"
