"""
What a typed line means.

Pure: the target is a value here; who follows it is `chatrelay.client.target`.
"""

from __future__ import annotations

from dataclasses import dataclass

from chatrelay.client.core import EVERYONE, distinct, is_room

NEEDED_CAPS = ("time", "ping", "echo", "ack")
"""Without them messages would have no time, or be shown twice, or not at all."""
CLIENT_HELP = (
    "%bob%hi sends hi to bob, and plain lines go to bob from then on",
    "%bob% only makes bob the one plain lines go to; %bob,dave%hi sends to both, once",
    "%bob%/hi sends a text that begins with '/' or '%'",
    "/join #ops enters a room, and plain lines go there from then on; /leave #ops leaves it",
    "/switch lists your conversations; /switch bob, /switch #ops or /switch 2 turns to one",
    "Alt-N, or Esc and N, turns to the next one with something unread",
    "/who, /rooms, /watch bob, /name carol and other commands of the relay: below",
    "/register makes your name yours: it asks for a secret, and does not show it",
    "TAB completes names, rooms and commands; arrow up brings back what you typed",
    "/quit or Ctrl-D leaves; Ctrl-C drops the line you are typing",
)


@dataclass(frozen=True, slots=True)
class Send:
    """
    A message.

    :ivar targets: each once.
    :ivar chooses: the name that becomes the target, if one does.
    """

    targets: tuple[str, ...]
    text: str
    chooses: str | None


@dataclass(frozen=True, slots=True)
class Choose:
    """A target without a message."""

    target: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """
    A command of the relay.

    :ivar note: what was changed in it, if that was needed.
    :ivar chooses: the room that becomes the target, if one does.
    """

    verb: str
    line: str
    note: str = ""
    chooses: str | None = None


@dataclass(frozen=True, slots=True)
class Switch:
    """Another conversation is to be the target; `to` is empty if they are to be listed."""

    to: str


@dataclass(frozen=True, slots=True)
class Register:
    """The name is to be registered, and the secret asked for."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Nothing is done, and why."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The user leaves."""


Typed = Send | Choose | Switch | RunCommand | Register | Explain | Leave | None

NO_TARGET = "This line would go to nobody, so it is not sent. Name somebody first: %NAME%TEXT"


def read_typed(line: str, target: str | None) -> Typed:
    """
    Read what the user typed.

    :param target: where plain lines go now.
    :returns: what to do; ``None`` for an empty line.
    """
    if not line.strip():
        return None
    if line.startswith("%"):
        return _read_message(line)
    if line.startswith("/"):
        return _read_command(line, target)
    if target is None:
        return Explain(NO_TARGET)
    return Send((target,), line, None)


def _read_command(line: str, target: str | None) -> Typed:
    verb = line[1:].split(" ", 1)[0].lower()
    words = line.split()[1:]
    if verb == "quit":
        return Leave()
    if verb == "register" and not words:
        return Register()
    if verb == "caps" and words:
        return _with_needed_caps(words)
    if verb == "switch":
        return Switch(" ".join(words))
    chooses = words[0] if verb == "join" and len(words) == 1 and is_room(words[0]) else None
    if verb == "leave" and not words and target is not None and is_room(target):
        line = f"/leave {target}"
    return RunCommand(verb, line.rstrip(), chooses=chooses)


def _with_needed_caps(asked: list[str]) -> RunCommand:
    words = [word for word in asked if word != "none"]
    missing = [cap for cap in NEEDED_CAPS if cap not in words]
    note = f"This program can not do without {', '.join(NEEDED_CAPS)}: they stay."
    return RunCommand("caps", " ".join(["/caps", *words, *missing]), note if missing else "")


def _read_message(line: str) -> Typed:
    written, percent, text = line[1:].partition("%")
    targets = tuple(distinct(written.split(",")))
    if not percent or "" in targets:
        return Explain("A message is written %NAME%TEXT, as %bob%hello. Nothing is sent.")
    chooses = targets[0] if len(targets) == 1 and targets[0] != EVERYONE else None
    if text:
        return Send(targets, text, chooses)
    if chooses is not None:
        return Choose(chooses)
    return Explain("There is no text after the second %. Nothing is sent.")
