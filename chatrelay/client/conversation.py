"""
A person's conversation: typed lines to messages, messages to lines that are shown.

Who plain lines go to is `chatrelay.client.target`; what was shown before is
`chatrelay.client.reading`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import TypeGuard

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.client import display
from chatrelay.client.core import Disconnected, Event, Message, Outcome, Reply
from chatrelay.client.failures import ignore
from chatrelay.client.library import Client
from chatrelay.client.reading import Reading
from chatrelay.client.registering import Ask, ask_new_secret
from chatrelay.client.target import Choice, Target, is_among
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
MAX_WAITING_LINES = 1000
"""Typed lines that wait for a connection."""


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
        reading: Reading | None = None,
    ) -> None:
        """
        Begin without a connection: `attach` gives one.

        :param show: shows one harmless line; it may hold ANSI colours if `colour` is set.
        :param now: the time, aware.
        :param ask: asks what is not to be shown; ``None`` if there is nothing to ask with.
        :param zone: the time zone to show times in; ``None`` for this machine's.
        :param reading: knows what was shown before; ``None`` shows everything.
        """
        self.names: OrderedDict[str, None] = OrderedDict()
        self.verbs: list[str] = ["help", "quit"]
        self._show = show
        self._now = now
        self._ask = ask
        self._zone = zone
        self._colour = colour
        self._client: Client | None = None
        # The last client, too: what it is given waits for the next connection.
        self._sender: Client | None = None
        self._target = Target(self.tell)
        self._reading = reading
        self._unanswered: str | None = None
        self._waiting = 0
        self._turn = DeferredLock()

    @property
    def target(self) -> str | None:
        """Where plain lines go; ``None`` for nowhere."""
        return self._target.choice.name if self._target.choice is not None else None

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
        if self._client is None and not self._can_wait(typed):
            return True
        # At once, so that a line typed while this one is on its way does not go to
        # the target before.
        before = self._target.choice
        if isinstance(typed, Send) and typed.chooses is not None:
            self._target.choose(typed.chooses)
        elif isinstance(typed, Choose):
            self._target.choose(typed.target)
        choice = self._target.choice
        is_new = choice is not before
        self._waiting += 1
        self._turn.run(lambda: self._guarded(typed, choice, is_new=is_new))
        return True

    def _can_wait(self, typed: Typed) -> bool:
        """Whether a line that was typed without a connection is kept for the next one."""
        if isinstance(typed, RunCommand):
            self._tell_help(typed)
            self.tell("There is no connection now.")
            return False
        if not isinstance(typed, Send) or self._sender is None:
            return True
        quoted = display.shortened(typed.text)
        try:
            self._sender.check_message(typed.targets, typed.text)
        except Misuse as misuse:
            self.tell(f"{misuse} Nothing is sent.")
            return False
        if self._waiting >= MAX_WAITING_LINES:
            self.tell(f"{self._waiting} lines wait for a connection; not sent: {quoted}")
            return False
        self.tell(f"There is no connection now; this goes when there is: {quoted}")
        return True

    def _guarded(self, typed: Typed, choice: Choice | None, *, is_new: bool) -> Deferred[None]:
        doing = ensureDeferred(self._do(typed, choice, is_new=is_new))
        return doing.addErrback(self._log_failure).addCallback(self._done)

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def _log_failure(self, failure: Failure) -> None:
        self.log.failure("a typed line", failure)

    async def _do(self, typed: Typed, choice: Choice | None, *, is_new: bool) -> None:
        try:
            if isinstance(typed, Send):
                await self._send(typed, choice)
            elif isinstance(typed, Choose):
                self._target.settle(choice, await self._target.follow(choice))
            elif isinstance(typed, RunCommand):
                await self._run(typed)
            elif isinstance(typed, Explain):
                self.tell(typed.sentence)
        except Misuse as misuse:
            if is_new:
                self._target.gone(choice)
            self.tell(f"{misuse} Nothing is sent.")
        except Refusal as refusal:
            self.tell(f"{refusal.sentence} ({refusal.code})")
        except ChatrelayError as error:
            self.tell(str(error))

    async def _send(self, typed: Send, choice: Choice | None) -> None:
        quoted = display.shortened(typed.text)
        if self._sender is None:
            return
        is_plain = typed.chooses is None and choice is not None and typed.targets == (choice.name,)
        if is_plain and choice is not None and not choice.here:
            left = display.harmless(typed.targets[0])
            self.tell(f"Plain lines do not go to {left} any more; not sent: {quoted}")
            return
        # The watch goes first: who leaves after it is told of, whatever became of the
        # message.  Both are on their way before either is answered.
        following = None
        if typed.chooses is not None and self._client is not None:
            following = ensureDeferred(self._target.follow(choice))
        sending = self._sender.send_each(typed.targets, typed.text)
        # Shown before it is answered: what the recipient says to it may come first.
        is_shown = self._client is not None
        if is_shown:
            self._show_sent(typed)
        try:
            outcomes = await self._answered(sending, quoted)
        except Disconnected as error:
            fate = "it may or may not have arrived" if error.may_have_arrived else "not sent"
            if typed.chooses is not None:
                self._target.gone(choice)
            self.tell(f"The connection was lost; {fate}: {quoted}")
            return
        if not is_shown and not all(isinstance(outcome, Refusal) for outcome in outcomes):
            self._show_sent(typed)
        for target, outcome in zip(typed.targets, outcomes, strict=False):
            if isinstance(outcome, Refusal):
                self._tell_refusal(target, typed.text, outcome)
            elif outcome.state != "sent":
                self._target.note_owned(outcome.target)
        if typed.chooses is not None:
            self._target.settle(choice, await (following or self._target.follow(choice)))

    async def _answered(self, sending: Deferred[list[Outcome]], quoted: str) -> list[Outcome]:
        self._unanswered = quoted
        try:
            return await sending
        finally:
            self._unanswered = None

    def _show_sent(self, typed: Send) -> None:
        to, now = ", ".join(typed.targets), self._now()
        self._show(display.sent_shown(to, typed.text, now, now, self._zone, colour=self._colour))

    def _tell_refusal(self, target: str, text: str, refusal: Refusal) -> None:
        quoted = display.shortened(text)
        if isinstance(refusal, UnknownName):
            named = refusal.context[0].decode("utf-8", "replace") if refusal.context else target
            self.tell(f"{named} is not here: not delivered: {quoted}")
        else:
            named = target
            self.tell(f"{refusal.sentence} Not delivered: {quoted}")
        if isinstance(refusal, UnknownName) or target.startswith("#"):
            self._target.refused(named)

    async def _run(self, typed: RunCommand) -> None:
        self._tell_help(typed)
        if self._client is None:
            self.tell("There is no connection now.")
            return
        words = typed.line.split()[1:]
        if typed.note:
            self.tell(typed.note)
        events = await self._client.command(typed.line)
        for event in events:
            self._tell_event(event)
        if typed.verb == "watch":
            self._target.watched_by_user.extend(words)
        elif typed.verb == "unwatch":
            self._target.unwatched(words)
        elif typed.verb in ("name", "register"):
            await self._catch_up()

    def _tell_help(self, typed: RunCommand) -> None:
        if typed.verb == "help" and " " not in typed.line:
            for sentence in CLIENT_HELP:
                self.tell(sentence)

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
                await self._catch_up()
        except Misuse as misuse:
            self.tell(f"{misuse} Nothing is changed.")
        except Refusal as refusal:
            self.tell(f"{refusal.sentence} ({refusal.code}) Nothing is changed.")
        except Disconnected as error:
            self.tell(str(error))

    # -- what comes

    def attach(self, client: Client, to: str | None = None) -> Deferred[None]:
        """
        There is a connection.

        :param to: the first target; it is forgotten if it is not here.
        :returns: fires with ``None`` when the target is known to be here, or not, and
            what was missed has been shown.
        """
        self._client = self._sender = client
        self.tell(f"You are {client.name}. /help tells how to write; Ctrl-D leaves.")
        ensureDeferred(self._learn(client)).addErrback(ignore)
        return ensureDeferred(self._begin(client, to))

    async def _begin(self, client: Client, to: str | None) -> None:
        following = ensureDeferred(self._target.attach(client, to))
        await self._catch_up()
        await following

    async def _catch_up(self) -> None:
        if self._client is not None and self._reading is not None:
            await self._reading.catch_up(self._client, self._tell_event, self.tell)

    async def _learn(self, client: Client) -> None:
        watched = self._target.watched_by_user
        if watched:
            for event in await client.command("/watch " + " ".join(watched)):
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
            self.names.pop(event.arguments[0], None)
            self._target.left(event.arguments[0])
        elif _is_presence(event):
            self._target.came(event.arguments[0])

    def show_event(self, event: Event) -> None:
        """Show what came."""
        if _is_presence(event) and event.word == "online":
            self._know(event.arguments[0])
        if _is_presence(event) and not is_among(event.arguments[0], self._target.watched_by_user):
            return  # the target's: told when it arrived
        if not isinstance(event, Message) or self._is_new(event):
            self._tell_event(event)

    def _is_new(self, message: Message) -> bool:
        if self._client is None or self._reading is None:
            return True
        return self._reading.is_new(self._client, message)

    def shown(self) -> None:
        """What was given to `show_event` is on the screen: keep that, and tell the relay."""
        if self._reading is not None:
            self._reading.shown(self._client)

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
        self._target.detach()
        if self._unanswered is not None:
            self.tell(f"Not answered yet; it goes again on the next connection: {self._unanswered}")

    def tell(self, sentence: str) -> None:
        """Show a sentence that is nobody's message."""
        self._show(display.notice_shown(sentence, colour=self._colour))


def _is_presence(event: Event) -> TypeGuard[Reply]:
    return (
        isinstance(event, Reply)
        and event.word in ("online", "offline")
        and len(event.arguments) > 0
    )
