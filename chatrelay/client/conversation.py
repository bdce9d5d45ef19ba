"""
A person's conversation: typed lines to messages, messages to lines that are shown.

It decides where plain lines go.  A line meant for somebody who left must not reach
whoever takes the name next, so the target is watched, and forgotten when it leaves and
when the connection is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, tzinfo
from typing import TypeGuard

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.client import display
from chatrelay.client.core import Disconnected, Event, Message, Reply, same_name
from chatrelay.client.library import Client
from chatrelay.client.registering import Ask, ask_new_secret
from chatrelay.client.typed import (
    CLIENT_HELP,
    Choose,
    Explain,
    Leave,
    Register,
    RunCommand,
    Send,
    Typed,
    read_typed,
)
from chatrelay.errors import ChatrelayError, Misuse, Refusal, UnknownName

MAX_KNOWN_NAMES = 2000


class _Choice:
    """
    A name that plain lines were meant for when they were typed.

    :ivar here: false once the name left, or may have: nothing more goes to it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.here = True


class Conversation:
    """
    What the terminal program does, without the terminal.

    :ivar names: the names seen lately, for completion.
    :ivar verbs: the relay's commands, for completion.
    """

    log = Logger(namespace="chatrelay.client")

    def __init__(
        self,
        show: Callable[[str], None],
        now: Callable[[], datetime],
        *,
        ask: Ask | None = None,
        zone: tzinfo | None = None,
        colour: bool = False,
    ) -> None:
        """
        Begin without a connection: `attach` gives one.

        :param show: shows one harmless line; it may hold ANSI colours if `colour` is set.
        :param now: the time, aware.
        :param ask: asks what is not to be shown; ``None`` if there is nothing to ask with.
        :param zone: the time zone to show times in; ``None`` for this machine's.
        """
        self.names: OrderedDict[str, None] = OrderedDict()
        self.verbs: list[str] = ["help", "quit"]
        self._show = show
        self._now = now
        self._ask = ask
        self._zone = zone
        self._colour = colour
        self._client: Client | None = None
        self._choice: _Choice | None = None
        # What is watched: the choice, and those before it until the lines that were
        # typed for them are on their way.
        self._followed: list[_Choice] = []
        self._watched_by_user: list[str] = []
        self._turn = DeferredLock()

    @property
    def target(self) -> str | None:
        """Where plain lines go; ``None`` for nowhere."""
        return self._choice.name if self._choice is not None else None

    # -- what is typed

    def typed(self, line: str) -> bool:
        """
        Do what a typed line says, after those before it.

        :returns: false if the user leaves.
        """
        typed = read_typed(line, self.target)
        if isinstance(typed, Leave):
            return False
        if isinstance(typed, Register):
            # At once: until the question is there, an answer typed ahead would be shown.
            ensureDeferred(self._register()).addErrback(self._log_failure)
            return True
        # At once, so that a line typed while this one is on its way does not go to
        # the target before.
        before = self._choice
        if isinstance(typed, Send) and typed.chooses is not None:
            self._choose(typed.chooses)
        elif isinstance(typed, Choose):
            self._choose(typed.target)
        choice = self._choice
        is_new = choice is not before
        self._turn.run(lambda: self._guarded(typed, choice, is_new=is_new))
        return True

    def _guarded(self, typed: Typed, choice: _Choice | None, *, is_new: bool) -> Deferred[None]:
        doing = ensureDeferred(self._do(typed, choice, is_new=is_new))
        return doing.addErrback(self._log_failure)

    def _log_failure(self, failure: Failure) -> None:
        self.log.failure("a typed line", failure)

    async def _do(self, typed: Typed, choice: _Choice | None, *, is_new: bool) -> None:
        try:
            if isinstance(typed, Send):
                await self._send(typed, choice)
            elif isinstance(typed, Choose):
                self._settle(choice, await self._follow(choice))
            elif isinstance(typed, RunCommand):
                await self._run(typed)
            elif isinstance(typed, Explain):
                self.tell(typed.sentence)
        except Misuse as misuse:
            if is_new:
                self._gone(choice)
            self.tell(f"{misuse} Nothing is sent.")
        except Refusal as refusal:
            self.tell(f"{refusal.sentence} ({refusal.code})")
        except ChatrelayError as error:
            self.tell(str(error))

    async def _send(self, typed: Send, choice: _Choice | None) -> None:
        quoted = display.shortened(typed.text)
        client = self._client
        if client is None:
            if typed.chooses is not None:
                self._gone(choice)
            self.tell(f"There is no connection now; not sent: {quoted}")
            return
        is_plain = typed.chooses is None and choice is not None and typed.targets == (choice.name,)
        if is_plain and choice is not None and not choice.here:
            left = display.harmless(typed.targets[0])
            self.tell(f"Plain lines do not go to {left} any more; not sent: {quoted}")
            return
        # The watch goes first: who leaves after it is told of, whatever became of the
        # message.  Both are on their way before either is answered.
        following = None
        if typed.chooses is not None:
            following = ensureDeferred(self._follow(choice))
        sending = client.send_each(typed.targets, typed.text)
        # Shown before it is answered: what the recipient says to it may come first.
        to = ", ".join(typed.targets)
        self._show(display.sent_shown(to, typed.text, self._now(), self._zone, colour=self._colour))
        try:
            outcomes = await sending
        except Disconnected as error:
            fate = "it may or may not have arrived" if error.may_have_arrived else "not sent"
            self.tell(f"The connection was lost; {fate}: {quoted}")
            return
        for target, outcome in zip(typed.targets, outcomes, strict=False):
            if isinstance(outcome, Refusal):
                self._tell_refusal(target, typed.text, outcome)
        if following is not None:
            self._settle(choice, await following)

    def _tell_refusal(self, target: str, text: str, refusal: Refusal) -> None:
        quoted = display.shortened(text)
        if isinstance(refusal, UnknownName):
            named = refusal.context[0].decode("utf-8", "replace") if refusal.context else target
            self.tell(f"{named} is not here: not delivered: {quoted}")
        else:
            named = target
            self.tell(f"{refusal.sentence} Not delivered: {quoted}")
        if isinstance(refusal, UnknownName) or target.startswith("#"):
            for choice in [one for one in self._followed if same_name(one.name, named)]:
                self._gone(choice)

    async def _run(self, typed: RunCommand) -> None:
        if typed.verb == "help" and " " not in typed.line:
            for sentence in CLIENT_HELP:
                self.tell(sentence)
        if self._client is None:
            self.tell("There is no connection now.")
            return
        words = typed.line.split()[1:]
        events = await self._client.command(typed.line)
        for event in events:
            self._tell_event(event)
        if typed.verb == "watch":
            self._watched_by_user.extend(words)
        elif typed.verb == "unwatch":
            self._watched_by_user = [
                name for name in self._watched_by_user if not _is_among(name, words)
            ]
            if self._choice is not None and _is_among(self._choice.name, words):
                self._drop(self._choice, f"{self._choice.name} is not watched any more")

    async def _register(self) -> None:
        try:
            if self._client is None or self._ask is None:
                raise Misuse("A name can not be registered now.")
            # Before it is asked for.
            self._client.check_confidential()
            was_registered = self._client.is_registered
            secrets = await ask_new_secret(
                self._ask, self._client.name, is_registered=was_registered
            )
            if secrets is None:
                raise Misuse("No secret was typed.")
            if self._client is None:
                raise Misuse("The connection was lost.")
            await self._client.register(*secrets)
            if was_registered:
                name = self._client.name
                self.tell(f"{name} has another secret now; its other connections are closed.")
            else:
                self.tell(display.reply_shown(Reply("registered", (self._client.name,))))
        except Misuse as misuse:
            self.tell(f"{misuse} Nothing is changed.")
        except Refusal as refusal:
            self.tell(f"{refusal.sentence} ({refusal.code}) Nothing is changed.")
        except Disconnected as error:
            self.tell(str(error))

    # -- the target

    def _choose(self, target: str) -> None:
        if self._choice is None or not same_name(self._choice.name, target):
            self._choice = _Choice(target)
            self._followed.append(self._choice)

    async def _follow(self, choice: _Choice | None) -> str | None:
        """Watch a choice, and no more those before it; returns why it can not be one."""
        if choice is None or choice.name.startswith("#"):
            return None
        if self._client is None:
            return "There is no connection now"
        earlier = self._followed[: self._followed.index(choice)] if choice.here else []
        for previous in earlier:
            self._unfollow(previous)
        try:
            watched = await self._client.watch(choice.name)
        except Misuse as misuse:
            return str(misuse).rstrip(".")
        except Refusal as refusal:
            return f"{choice.name} can not be watched ({refusal.code})"
        except Disconnected:
            return "The connection was lost"
        return None if all(watched.values()) else f"{choice.name} is not here"

    def _unfollow(self, choice: _Choice) -> None:
        if choice in self._followed:
            self._followed.remove(choice)
        wanted = [other.name for other in self._followed] + self._watched_by_user
        if self._client is None or choice.name.startswith("#") or _is_among(choice.name, wanted):
            return
        with suppress(Misuse):  # a name that can not be one was never watched
            self._client.unwatch(choice.name).addErrback(_ignore)

    def _gone(self, choice: _Choice | None) -> None:
        if choice is None or not choice.here:
            return
        choice.here = False
        self._unfollow(choice)
        if choice is self._choice:
            self._choice = None

    def _settle(self, choice: _Choice | None, why_not: str | None) -> None:
        # A choice that was refused, or has left meanwhile, has been dealt with.
        if why_not is not None and choice is not None and choice.here:
            self._drop(choice, why_not)

    def _drop(self, choice: _Choice, why: str) -> None:
        self._gone(choice)
        self.tell(f"{why}: plain lines go to nobody until you name somebody (%NAME%TEXT).")

    # -- what comes

    def attach(self, client: Client, to: str | None = None) -> Deferred[None]:
        """
        There is a connection.

        :param to: the first target; it is forgotten if it is not here.
        :returns: fires with ``None`` when the target is known to be here, or not.
        """
        self._client = client
        self.tell(f"You are {client.name}. /help tells how to write; Ctrl-D leaves.")
        ensureDeferred(self._learn(client)).addErrback(_ignore)
        return ensureDeferred(self._begin(to))

    async def _begin(self, to: str | None) -> None:
        if to is not None:
            self._choose(to)
            choice = self._choice
            self._settle(choice, await self._follow(choice))

    async def _learn(self, client: Client) -> None:
        if self._watched_by_user:
            for event in await client.command("/watch " + " ".join(self._watched_by_user)):
                self._tell_event(event)
        for name in await client.who():
            self._know(name)
        for event in await client.command("/help"):
            if isinstance(event, Reply) and event.word == "help" and event.arguments:
                form = event.arguments[0]
                if form.startswith("/") and form[1:] not in self.verbs:
                    self.verbs.append(form[1:])

    def _know(self, name: str) -> None:
        self.names[name] = None
        self.names.move_to_end(name)
        if len(self.names) > MAX_KNOWN_NAMES:
            self.names.popitem(last=False)

    def arrived(self, event: Event) -> None:
        """
        Something arrived, perhaps long before it is shown.

        Who left is known at once, however much there is to show before.
        """
        if _is_presence(event) and event.word == "offline":
            name = event.arguments[0]
            self.names.pop(name, None)
            for choice in [one for one in self._followed if same_name(one.name, name)]:
                if choice is self._choice:
                    self._drop(choice, f"{name} left")
                else:
                    self._gone(choice)

    def show_event(self, event: Event) -> None:
        """Show what came."""
        if _is_presence(event) and event.word == "online":
            self._know(event.arguments[0])
        if _is_presence(event) and not _is_among(event.arguments[0], self._watched_by_user):
            return  # the target's: told when it arrived
        self._tell_event(event)

    def _tell_event(self, event: Event) -> None:
        if isinstance(event, Message):
            self._know(event.conversation if event.to is not None else event.sender)
            shown = display.message_shown(event, self._now(), self._zone, colour=self._colour)
            self._show(shown)
        elif isinstance(event, Reply):
            self.tell(display.reply_shown(event))

    def detach(self) -> None:
        """The connection is lost."""
        self._client = None
        # Who has the name after the gap may be somebody else.
        for choice in list(self._followed):
            if choice is self._choice:
                self._drop(choice, f"{choice.name} may be somebody else when you are back")
            else:
                self._gone(choice)

    def tell(self, sentence: str) -> None:
        """Show a sentence that is nobody's message."""
        self._show(display.notice_shown(sentence, colour=self._colour))


def _is_presence(event: Event) -> TypeGuard[Reply]:
    return (
        isinstance(event, Reply)
        and event.word in ("online", "offline")
        and len(event.arguments) > 0
    )


def _is_among(name: str, names: list[str]) -> bool:
    return any(same_name(name, other) for other in names)


def _ignore(failure: Failure) -> None:
    # Asked on the side; that the connection is lost is told otherwise.
    failure.trap(ChatrelayError)
