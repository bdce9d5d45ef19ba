"""
What a typed line means, and how it can be completed.

Pure: the target is a value here; who follows it is `chatrelay.client.conversation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NEEDED_CAPS = ("time", "ping", "echo", "ack")
"""Without them messages would have no time, or be shown twice, or not at all."""
CLIENT_HELP = (
    "%bob%hi sends hi to bob, and plain lines go to bob from then on",
    "%bob% only makes bob the one plain lines go to; %bob,dave%hi sends to both, once",
    "%bob%/hi sends a text that begins with '/' or '%'",
    "/who, /watch bob, /name carol and other commands of the relay: below",
    "/register makes your name yours: it asks for a secret, and does not show it",
    "TAB completes names and commands; arrow up brings back what you typed",
    "/quit or Ctrl-D leaves; Ctrl-C drops the line you are typing",
)


@dataclass(frozen=True, slots=True)
class Send:
    """A message: `chooses` is the name that becomes the target, if one does."""

    targets: tuple[str, ...]
    text: str
    chooses: str | None


@dataclass(frozen=True, slots=True)
class Choose:
    """A target without a message."""

    target: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A command of the relay; `note` says what was changed in it, if that was needed."""

    verb: str
    line: str
    note: str = ""


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


Typed = Send | Choose | RunCommand | Register | Explain | Leave | None

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
        return _read_command(line)
    if target is None:
        return Explain(NO_TARGET)
    return Send((target,), line, None)


def _read_command(line: str) -> Typed:
    verb = line[1:].split(" ", 1)[0].lower()
    if verb == "quit":
        return Leave()
    if verb == "register" and len(line.split()) == 1:
        return Register()
    if verb == "caps" and len(line.split()) > 1:
        return _with_needed_caps(line.split()[1:])
    return RunCommand(verb, line.rstrip())


def _with_needed_caps(asked: list[str]) -> RunCommand:
    words = [word for word in asked if word != "none"]
    missing = [cap for cap in NEEDED_CAPS if cap not in words]
    note = f"This program can not do without {', '.join(NEEDED_CAPS)}: they stay."
    return RunCommand("caps", " ".join(["/caps", *words, *missing]), note if missing else "")


def _read_message(line: str) -> Typed:
    written, percent, text = line[1:].partition("%")
    if not percent or not written:
        return Explain("A message is written %NAME%TEXT, as %bob%hello. Nothing is sent.")
    targets = tuple(written.split(","))
    single = len(targets) == 1 and written != "*"
    if not text:
        if single:
            return Choose(written)
        return Explain("There is no text after the second %. Nothing is sent.")
    return Send(targets, text, written if single else None)


def completions(before: str, names: Iterable[str], verbs: Iterable[str]) -> list[tuple[str, int]]:
    """
    What could stand instead of the end of what is typed.

    :param before: the line up to the cursor.
    :param names: the names that are known.
    :param verbs: the commands, without ``/``.
    :returns: texts, each with how many code points before the cursor it replaces.
    """
    if before.startswith("/") and " " not in before:
        return _beginning_with(before[1:], verbs, "", " ")
    if before.startswith("/"):
        return _beginning_with(before.rpartition(" ")[2], names, "", " ")
    if before.startswith("%") and "%" not in before[1:]:
        return _beginning_with(before[1:].rpartition(",")[2], names, "", "%")
    if before and "%" not in before and " " not in before:
        return _beginning_with(before, names, "%", "%")
    return []


def _beginning_with(
    beginning: str, words: Iterable[str], head: str, tail: str
) -> list[tuple[str, int]]:
    folded = beginning.casefold()
    return [
        (head + word + tail, len(beginning))
        for word in sorted(words, key=str.casefold)
        if word.casefold().startswith(folded)
    ]
