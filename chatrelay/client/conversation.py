"""
A person's conversations: what the lines that are typed do.

What a line means is `chatrelay.client.typed`, who plain lines go to `chatrelay.client.target`,
what comes and is shown `chatrelay.client.incoming`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.client import display
from chatrelay.client.core import (
    EVERYONE,
    Answer,
    Disconnected,
    Outcome,
    is_room,
)
from chatrelay.client.failures import ignore
from chatrelay.client.incoming import Incoming
from chatrelay.client.library import Client
from chatrelay.client.reading import Reading
from chatrelay.client.registering import Ask, register_name
from chatrelay.client.sentences import with_short_lists
from chatrelay.client.target import Choice, WhyNot
from chatrelay.client.typed import (
    CLIENT_HELP,
    Choose,
    Explain,
    Leave,
    Register,
    RunCommand,
    Send,
    Switch,
    Typed,
    read_typed,
)
from chatrelay.errors import ChatrelayError, Misuse, NotInRoom, Refusal, UnknownName, UnknownRoom

MAX_WAITING_LINES = 1000
"""Typed lines that wait for a connection."""


class Conversation(Incoming):
    """What the terminal program does, without the terminal."""

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
        super().__init__(show, now, zone=zone, colour=colour, reading=reading)
        self._ask = ask
        self._unanswered: str | None = None
        self._goes_again = False
        self._waiting = 0
        self._turn = DeferredLock()

    # -- what is typed

    def typed(self, line: str) -> bool:
        """
        Do what a typed line says, after those before it.

        :returns: false if the user leaves.
        """
        return self._take(read_typed(line, self.target))

    def next_unread(self) -> None:
        """Turn to the next conversation with something unread."""
        thread = self.conversations.next_unread()
        if thread is None:
            self.tell("Nothing is unread.")
        else:
            self._take(Choose(thread.name))

    def _take(self, typed: Typed) -> bool:
        if isinstance(typed, Leave):
            return False
        if isinstance(typed, Switch):
            typed = self._switched(typed.to)
        if isinstance(typed, Choose):
            typed = self._turned_to(typed.target)
        if isinstance(typed, Register):
            # At once: until the question is there, an answer typed ahead would be shown.
            ensureDeferred(self._register()).addErrback(self._log_failure)
            return True
        if self._client is None and not self._can_wait(typed):
            return True
        # At once, so that a line typed while this one is on its way does not go to
        # the target before.
        before = self._target.choice
        if isinstance(typed, Send | RunCommand) and typed.chooses is not None:
            self._choose(typed.chooses)
        elif isinstance(typed, Choose):
            self._choose(typed.target)
        choice = self._target.choice
        is_new = choice is not before
        self._waiting += 1
        self._turn.run(lambda: self._guarded(typed, choice, is_new=is_new))
        return True

    def _switched(self, to: str) -> Typed:
        """What ``/switch`` means here."""
        if to:
            thread = self.conversations.numbered(to)
            if thread is None and to.isdecimal() and to not in self.names:
                return Explain(f"There is no conversation {to}; /switch lists them.")
            return Choose(thread.name if thread is not None else to)
        for thread in self.conversations:
            unread = f", {thread.unread} unread" if thread.unread else ""
            is_target = self._is_target(thread.name)
            self.tell(f"{thread.number} {thread.name}{unread}{', plain lines go here' * is_target}")
        return None if list(self.conversations) else Explain("There are no conversations yet.")

    def _turned_to(self, name: str) -> Typed:
        """Show once more what is unread of a conversation that the user turns to."""
        thread = self.conversations.find(name)
        if thread is not None and thread.unread:
            count, last = thread.unread, thread.read()
            only = f", the last {len(last)}" if len(last) < count else ""
            self.tell(f"Unread of {thread.name}: {count}{only}")
            for line in last:
                self._show(line)
        if is_room(name) and not self.rooms.is_joined(name):
            # One was, when what was unread was said, or what was missed.
            self.conversations.forget(name)
            return Explain(f"You are not in {name}: /join {name} enters it.")
        return Choose(thread.name if thread is not None else name)

    def _choose(self, target: str) -> None:
        self._target.choose(target)
        thread = self.conversations.find(target)
        if thread is not None:
            thread.read()

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
                why_not = await self._target.follow(choice)
                has_written = self.conversations.find(typed.target) is not None
                if why_not is not None and has_written and not self._target.is_owned(typed.target):
                    why_not = why_not.or_not_told()
                self._target.settle(choice, why_not)
            elif isinstance(typed, RunCommand):
                await self._run(typed)
            elif isinstance(typed, Explain):
                self.tell(typed.sentence)
        except Misuse as misuse:
            if is_new:
                self._target.gone(choice)
            self.tell(f"{misuse} Nothing is sent.")
        except Refusal as refusal:
            if is_new:
                self._target.gone(choice)
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
        # What is said to many comes back, in its place among what others say.
        is_shown = self._client is not None and not self._comes_back(typed)
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
        is_taken = not all(isinstance(outcome, Refusal) for outcome in outcomes)
        if is_taken and not is_shown:
            self._show_taken(typed, quoted)
        for target, outcome in zip(typed.targets, outcomes, strict=True):
            if isinstance(outcome, Refusal):
                self._tell_refusal(target, typed.text, outcome)
                continue
            if target != EVERYONE:
                self.conversations.used(target)
            if outcome.state != "sent":
                self._target.note_owned(outcome.target)
        if typed.chooses is not None:
            why_not = await (following or self._target.follow(choice))
            await self._settle(choice, why_not, outcomes)

    async def _settle(
        self, choice: Choice | None, why_not: WhyNot | None, outcomes: list[Outcome]
    ) -> None:
        is_sent = any(isinstance(one, Answer) and one.state == "sent" for one in outcomes)
        if is_sent and why_not is not None and why_not.is_absence:
            why_not = await self._target.follow_again(choice)
        self._target.settle(choice, why_not)

    async def _answered(self, sending: Deferred[list[Outcome]], quoted: str) -> list[Outcome]:
        self._unanswered, self._goes_again = quoted, False
        try:
            return await sending
        finally:
            self._unanswered = None

    def _comes_back(self, typed: Send) -> bool:
        """Whether the relay shows a message to its sender, too."""
        echoes = self._client is not None and "echo" in self._client.caps
        return echoes and (is_room(typed.targets[0]) or typed.targets[0] == EVERYONE)

    def _show_sent(self, typed: Send) -> None:
        to, now = ", ".join(typed.targets), self._now()
        self._show(display.sent_shown(to, typed.text, now, now, self._zone, colour=self._colour))

    def _show_taken(self, typed: Send, quoted: str) -> None:
        """Show a message that was not shown when it was written."""
        if not self._comes_back(typed):
            self._show_sent(typed)
        elif self._goes_again:
            # What came back may have been lost with the connection: it is not said again.
            self.tell(f"{typed.targets[0]} has it: {quoted}")

    def _tell_refusal(self, target: str, text: str, refusal: Refusal) -> None:
        quoted = display.shortened(text)
        if isinstance(refusal, UnknownName):
            named = refusal.context[0].decode("utf-8", "replace") if refusal.context else target
            self.tell(f"{named} is not here: not delivered: {quoted}")
        else:
            named = target
            enter = f" /join {target} enters it." if isinstance(refusal, NotInRoom) else ""
            self.tell(f"{refusal.sentence}{enter} Not delivered: {quoted}")
        if isinstance(refusal, UnknownRoom | NotInRoom):
            self.rooms.leave(named)
        if isinstance(refusal, UnknownName | UnknownRoom | NotInRoom):
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
            self._note(event)
        for event in with_short_lists(events):
            self._tell_event(event)
        if typed.verb == "watch":
            self._target.watched_by_user.extend(words)
        elif typed.verb == "unwatch":
            self._target.unwatched(words)
        elif typed.verb == "join":
            self._close_rooms()  # one may have been put out before all of it was answered
        elif typed.verb in ("name", "register"):
            self._close_rooms()
            await self._enter_own_rooms(self._client)
            await self._catch_up()

    def _tell_help(self, typed: RunCommand) -> None:
        if typed.verb == "help" and " " not in typed.line:
            for sentence in CLIENT_HELP:
                self.tell(sentence)

    async def _register(self) -> None:
        if await register_name(lambda: self._client, self._ask, self.tell):
            await self._catch_up()

    # -- connections

    def attach(self, client: Client, to: str | None = None) -> Deferred[None]:
        """
        There is a connection.

        :param to: the first target; it is forgotten if it is not here.
        :returns: fires with ``None`` when the target is known to be here, or not, and
            what was missed has been shown.
        """
        self._client = self._sender = client
        self.tell(f"You are {client.name}. /help tells how to write; Ctrl-D leaves.")
        self._close_rooms()  # what was refused while the last connection was still being shown
        ensureDeferred(self._learn(client)).addErrback(ignore)
        if to is not None and is_room(to):
            self._take(RunCommand("join", f"/join {to}", chooses=to))
            to = None
        return ensureDeferred(self._begin(client, to))

    async def _begin(self, client: Client, to: str | None) -> None:
        following = ensureDeferred(self._target.attach(client, to))
        await self._catch_up()
        await following

    def detach(self) -> None:
        """The connection is lost."""
        self._client = None
        self._target.detach()
        if self._unanswered is not None:
            self._goes_again = True
            self.tell(f"Not answered yet; it goes again on the next connection: {self._unanswered}")
