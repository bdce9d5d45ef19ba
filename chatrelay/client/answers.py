"""
Which lines wait for an answer, and what answers them.

Pure.  What waits, and on which connection it is written, is `chatrelay.client.outgoing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chatrelay.client.core import (
    LEVELS,
    Answer,
    Event,
    Level,
    Outcome,
    Reply,
    Unreadable,
    is_bye,
    refusal_from,
    same_name,
)
from chatrelay.errors import Refusal
from chatrelay.wire import with_tags

ASK_AGAIN_WITHIN_S = 540.0
"""The relay remembers a ref for 600 s; after that a repeated line could be another message."""
MAX_ANSWER_LINES = 100_000
"""Lines kept of the answer to one command; a relay that writes more is cut short."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""And bytes of them; 200 messages of the longest kind are less than 2 MiB."""


@dataclass(slots=True, eq=False)
class AskedMessage:
    """
    A message and its answers.

    :ivar line: as it is written, with its ref, without its end.
    :ivar targets: those that are asked about, in order.
    :ivar wait: how much is waited for.
    :ivar answered: called when each target has had its answer, each time that is asked.
    :ivar done: called once with an outcome for each target, when nothing more is waited for.
    :ivar outcomes: those that are known, by target.
    :ivar unanswered: the targets that have had no answer since the line was written last.
    """

    line: bytes
    ref: str
    targets: list[str]
    wait: Level
    answered: Callable[[], None]
    done: Callable[[list[Outcome]], None]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether each target has had an answer, on whatever connection."""
        return len(self.outcomes) == len(self.targets)

    @property
    def is_done(self) -> bool:
        """Whether no target can still become what is waited for."""
        return all(map(self.is_final, self.targets))

    def is_final(self, target: str) -> bool:
        """Whether a target can not still become what is waited for."""
        outcome = self.outcomes.get(target)
        # What was only sent is never stored later.
        return outcome is not None and (
            isinstance(outcome, Refusal)
            or outcome.state == "sent"
            or LEVELS.index(outcome.state) >= LEVELS.index(self.wait)
        )

    def take(self, target: str, outcome: Outcome) -> None:
        """An answer for a target came; it does not take back what is known."""
        if target in self.unanswered:
            self.unanswered.remove(target)
        known = self.outcomes.get(target)
        if isinstance(known, Answer) and (isinstance(outcome, Refusal) or known.state == "acked"):
            return
        self.outcomes[target] = outcome

    def target_named(self, name: str) -> str | None:
        """The target that an answer names: the relay repeats it as it was written."""
        if name in self.targets:
            return name
        return next((target for target in self.targets if same_name(target, name)), None)

    def next_unanswered(self) -> str | None:
        """The first target without an answer."""
        return next(iter(self.unanswered), None)


@dataclass(slots=True)
class _AskedCommand:
    done: Callable[[list[Event]], None]
    is_one_line: bool = False
    events: list[Event] = field(default_factory=list)
    size_bytes: int = 0

    def take(self, event: Event, size_bytes: int) -> None:
        """Keep a line of the answer, if there is room for it."""
        self.size_bytes += size_bytes
        if len(self.events) < MAX_ANSWER_LINES and self.size_bytes <= MAX_ANSWER_BYTES:
            self.events.append(event)


class Answers:
    """
    Which lines wait for an answer, and what answers them.

    A message has one answer for each target, which names it, or one error without a name.
    ``!stored`` and ``!acked`` come when they are true, later than the answers to later lines.

    A command is followed by a ``/ping`` with a ref of its own: other answers keep the order
    of the lines, so that one's answer ends the command's, whatever the command is.
    """

    def __init__(self, prefix: bytes) -> None:
        """
        Begin with nothing asked.

        :param prefix: makes the refs different from those of all other programs of the
            name: at most 32 bytes, without space, ``;`` and controls.
        """
        self._prefix = prefix.decode("ascii")
        self._next = 0
        self._messages: dict[str, AskedMessage] = {}
        self._commands: dict[str, _AskedCommand] = {}
        self._fences: dict[str, str] = {}

    def ask_message(
        self,
        line: bytes,
        targets: list[str],
        done: Callable[[list[Outcome]], None],
        wait: Level = "sent",
        answered: Callable[[], None] = lambda: None,
    ) -> AskedMessage:
        """
        Expect the answers to a message.

        :param line: the line without its tags and end.
        """
        ref = self._new_ref()
        asked = AskedMessage(_with_ref(ref, line), ref, targets, wait, answered, done)
        asked.unanswered = list(targets)
        self._messages[ref] = asked
        return asked

    def ask_again(self, asked: AskedMessage) -> bytes:
        """
        Expect the answers to a message on another connection.

        :returns: the line to write once more, to those for whom something is still awaited:
            under its ref it is not delivered again.
        """
        # A refusal is not remembered by the relay, nor, once it is restarted, what was sent.
        asked.unanswered = [target for target in asked.targets if not asked.is_final(target)]
        tags, _, text = asked.line.split(b"%", 2)
        return b"%".join((tags, ",".join(asked.unanswered).encode("utf-8"), text))

    def ask_command(self, line: bytes, done: Callable[[list[Event]], None]) -> list[bytes]:
        """
        Expect the answer to a command.

        :param done: called once with the lines of the answer.
        :returns: the lines to write, each without its end.
        """
        ref, fence = self._new_ref(), self._new_ref()
        self._commands[ref] = _AskedCommand(done)
        self._fences[fence] = ref
        return [_with_ref(ref, line), _with_ref(fence, b"/ping .")]

    def ask_one_line(self, line: bytes, done: Callable[[list[Event]], None]) -> list[bytes]:
        """
        Expect one line as the answer to a command that is answered when its effect is kept.

        :param done: called once with that line.
        :returns: the line to write, without its end, in a list.
        """
        ref = self._new_ref()
        self._commands[ref] = _AskedCommand(done, is_one_line=True)
        return [_with_ref(ref, line)]

    def take(self, event: Event, size_bytes: int = 0) -> bool:
        """
        Whether a line was an answer to something asked here; its asker is told.

        :param size_bytes: of the line.
        """
        if isinstance(event, Unreadable) or "ref" not in event.tags:
            return False
        ref = event.tags["ref"]
        if ref in self._messages and isinstance(event, Reply):
            return self._take_outcome(self._messages[ref], event)
        if ref in self._commands:
            asked = self._commands[ref]
            asked.take(event, size_bytes)
            if asked.is_one_line or is_bye(event):  # nothing follows a bye, no fence either
                self._end_command(ref)
            return True
        if ref in self._fences:
            self._end_command(self._fences.pop(ref))
            return True
        # What was asked again may be answered twice: for its first line, too.
        return (
            isinstance(event, Reply)
            and event.word in ("sent", "stored", "error")
            and self._is_own(ref)
        )

    def _is_own(self, ref: str) -> bool:
        number = ref.removeprefix(self._prefix)
        return (
            ref.startswith(self._prefix)
            and number.isdecimal()
            and len(number) <= len(str(self._next))
            and 0 < int(number) <= self._next
        )

    def _end_command(self, ref: str) -> None:
        if ref in self._commands:
            asked = self._commands.pop(ref)
            asked.done(asked.events)

    def forget(self, asked: AskedMessage) -> None:
        """Wait for a message's answers no more."""
        self._messages.pop(asked.ref, None)

    def forget_commands(self) -> None:
        """Drop the commands that wait: the connection has ended."""
        self._commands.clear()
        self._fences.clear()

    def _take_outcome(self, asked: AskedMessage, reply: Reply) -> bool:
        was_answered = not asked.unanswered
        if reply.word in LEVELS:
            if not self._take_answer(asked, reply):
                return False
        elif reply.word == "error":
            _take_refusal(asked, reply)
        else:
            return False
        if not asked.unanswered and not was_answered:
            asked.answered()
        if asked.is_done:
            self.forget(asked)
            asked.done([asked.outcomes[target] for target in asked.targets])
        return True

    def _take_answer(self, asked: AskedMessage, reply: Reply) -> bool:
        named = asked.target_named(reply.arguments[0]) if reply.arguments else None
        state: Level = next(level for level in LEVELS if level == reply.word)
        if state == "acked" and (named is None or asked.wait != "acked"):
            return False  # nobody waits for it: it is news
        target = named if named is not None else asked.next_unanswered()
        if target is None:
            return True
        asked.take(target, Answer(target, state, reply.value("id")))
        return True

    def _new_ref(self) -> str:
        self._next += 1
        return f"{self._prefix}{self._next}"


def replies(events: Sequence[Event], *words: str) -> list[Reply]:
    """Of the lines of an answer the replies with one of these words."""
    return [event for event in events if isinstance(event, Reply) and event.word in words]


def _take_refusal(asked: AskedMessage, reply: Reply) -> None:
    refusal = refusal_from(reply)
    if len(reply.arguments) < 2:  # without a name it refuses the whole line
        for target in list(asked.unanswered):
            asked.take(target, refusal)
        return
    named = asked.target_named(reply.arguments[1]) or asked.next_unanswered()
    if named is not None:
        asked.take(named, refusal)


def _with_ref(ref: str, line: bytes) -> bytes:
    return with_tags({b"ref": ref.encode("ascii")}, line)
