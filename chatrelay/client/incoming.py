"""
What comes to a person at a terminal: learned from, counted and shown.

What is unread where is `chatrelay.client.conversations`; what was shown before is
`chatrelay.client.reading`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, tzinfo
from typing import TypeGuard

from twisted.internet.defer import ensureDeferred

from chatrelay.client import display
from chatrelay.client.answers import replies
from chatrelay.client.completing import Known
from chatrelay.client.conversations import Conversations
from chatrelay.client.core import (
    EVERYONE,
    Event,
    Message,
    Reply,
    distinct,
    is_room,
    is_short,
    not_among,
    refusal_from,
    same_name,
)
from chatrelay.client.failures import ignore
from chatrelay.client.known_rooms import KnownRooms
from chatrelay.client.library import Client
from chatrelay.client.membership import is_joined_again
from chatrelay.client.reading import Reading
from chatrelay.client.sentences import sentence_of
from chatrelay.client.target import Target, is_among
from chatrelay.errors import Refusal

MAX_KNOWN_NAMES = 2000
MAX_ASKING = 64
"""Rooms whose members are asked for at once; a relay may tell of joining without end."""
NAMES_IN_A_LINE = 30
"""Of a command: the longest take 128 bytes each, and a relay's lines may be short."""


class Incoming:
    """
    What comes, and what is known by it.

    :ivar names: the names seen lately, for completion.
    :ivar verbs: the relay's commands, for completion.
    :ivar rooms: the rooms that are known, and who is in them.
    :ivar conversations: where something came from or went to.
    """

    def __init__(
        self,
        show: Callable[[str], None],
        now: Callable[[], datetime],
        *,
        zone: tzinfo | None,
        colour: bool,
        reading: Reading | None,
    ) -> None:
        """Begin without a connection; the arguments are those of `Conversation`."""
        self.names: OrderedDict[str, None] = OrderedDict()
        self.verbs: list[str] = ["help", "quit", "switch"]
        self.rooms = KnownRooms()
        self.conversations = Conversations()
        self._show = show
        self._now = now
        self._zone = zone
        self._colour = colour
        self._client: Client | None = None
        # The last client, too: what it is given waits for the next connection.
        self._sender: Client | None = None
        self._target = Target(self.tell)
        self._reading = reading
        self._asking = 0

    @property
    def target(self) -> str | None:
        """Where plain lines go; ``None`` for nowhere."""
        return self._target.choice.name if self._target.choice is not None else None

    @property
    def known(self) -> Known:
        """What TAB may offer."""
        return Known(
            names=self.names,
            verbs=self.verbs,
            rooms=self.rooms.names,
            joined=self.rooms.joined,
            conversations=self.conversations.names,
            target=self.target or "",
            members_of=self.rooms.members,
        )

    @property
    def _own_name(self) -> str:
        return self._sender.name if self._sender is not None else ""

    def _is_target(self, name: str) -> bool:
        return self.target is not None and same_name(self.target, name)

    # -- what is asked when there is a connection

    async def _catch_up(self) -> None:
        if self._client is not None and self._reading is not None:
            await self._reading.catch_up(self._client, self._show_news, self.tell)

    async def _learn(self, client: Client) -> None:
        steps = (self._watch_again, self._learn_names, self._enter_own_rooms, self._learn_verbs)
        for step in steps:
            with suppress(Refusal):  # of one, be it for now: the others are of as much use
                await step(client)

    async def _watch_again(self, client: Client) -> None:
        watched = distinct(self._target.watched_by_user)
        for start in range(0, len(watched), NAMES_IN_A_LINE):
            names = " ".join(watched[start : start + NAMES_IN_A_LINE])
            try:
                for event in await client.command(f"/watch {names}"):
                    self._tell_event(event)
            except Refusal as refusal:
                self.tell(f"Not watched any more: {names}. {refusal.sentence} ({refusal.code})")

    async def _learn_names(self, client: Client) -> None:
        for name in await client.who():
            self._know(name)

    async def _learn_verbs(self, client: Client) -> None:
        for event in replies(await client.command("/help"), "help"):
            form = event.arguments[0] if event.arguments else ""
            if form.startswith("/") and form[1:] not in self.verbs:
                self.verbs.append(form[1:])

    async def _enter_own_rooms(self, client: Client) -> None:
        """Learn of the rooms that the name is in already: it is owned, or has other devices."""
        asked = await client.command(f"/who {client.name}")
        told = (reply.value("rooms") or "" for reply in replies(asked, "who"))
        rooms = [room for some in told for room in some.split(",") if is_room(room)]
        unknown = not_among(rooms, client.joined)
        for room in unknown:
            with suppress(Refusal):
                for event in await client.command(f"/join {room}"):
                    self._note(event)
        if unknown:
            self.tell(f"You are in {', '.join(rooms)}.")

    def _know(self, name: str) -> None:
        if not is_short(name):
            return
        self.names[name] = None
        self.names.move_to_end(name)
        if len(self.names) > MAX_KNOWN_NAMES:
            self.names.popitem(last=False)

    # -- what comes

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
        else:
            self._note(event)
            if self._has_joined_elsewhere(event) and self._client is not None:
                ensureDeferred(self._learn_members(self._client, event)).addErrback(ignore)

    def _has_joined_elsewhere(self, event: Event) -> TypeGuard[Reply]:
        """Whether another device of the name has joined a room, and was told who is in it."""
        return (
            isinstance(event, Reply)
            and event.word == "joined"
            and len(event.arguments) > 1
            and same_name(event.arguments[1], self._own_name)
            and not is_joined_again(event)
        )

    async def _learn_members(self, client: Client, joined: Reply) -> None:
        if self._asking >= MAX_ASKING:
            return
        self._asking += 1
        try:
            room = joined.arguments[0]
            self._note(Reply("members", (room, *await client.who(room))))
        finally:
            self._asking -= 1

    def _note(self, event: Event) -> None:
        """Learn what a reply tells of rooms."""
        if not isinstance(event, Reply):
            return
        closed = self.rooms.take(event, self._own_name)
        if closed is not None:
            self._close_room(closed)
        elif event.word in ("joined", "members") and event.arguments:
            for name in event.arguments[1:]:
                self._know(name)
            if self.rooms.is_joined(event.arguments[0]):
                self.conversations.used(event.arguments[0])
        elif event.word == "error" and is_joined_again(event):
            self._close_rooms()

    def _close_rooms(self) -> None:
        """Some of the rooms may have been lost: after another name, or a connection."""
        if self._client is None:
            return
        for room in not_among(self.rooms.joined, self._client.joined):
            self.rooms.leave(room)
            self._close_room(room)

    def _close_room(self, room: str) -> None:
        self.conversations.forget(room)
        self._target.closed(room)

    def show_event(self, event: Event) -> None:
        """Show what came."""
        if _is_presence(event) and event.word == "online":
            self._know(event.arguments[0])
        if _is_presence(event) and not is_among(event.arguments[0], self._target.watched_by_user):
            return  # the target's: told when it arrived
        if isinstance(event, Reply) and is_joined_again(event):
            if event.word == "error":  # else nothing is new in it
                self._tell_shut(refusal_from(event))
            return
        if isinstance(event, Message):
            if self._is_new(event):
                self._show_news(event)
        else:
            self._tell_event(event)

    def _tell_shut(self, refusal: Refusal) -> None:
        room = next((word.decode("utf-8") for word in refusal.context), "One of your rooms")
        self.tell(f"{room} can not be joined again: {refusal.sentence} ({refusal.code})")

    def _is_new(self, message: Message) -> bool:
        if self._client is None or self._reading is None:
            return True
        return self._reading.is_new(self._client, message)

    def shown(self) -> None:
        """What was given to `show_event` is on the screen: keep that, and tell the relay."""
        if self._reading is not None:
            self._reading.shown(self._client)

    def _show_news(self, message: Message) -> None:
        """Show a message that was not shown before."""
        shown = self._show_message(message)
        is_own = message.to is not None or same_name(message.sender, self._own_name)
        if is_own and message.room == EVERYONE:
            return
        thread = self.conversations.used(message.conversation)
        if not is_own and not self._is_target(thread.name):
            thread.came(shown)

    def _show_message(self, message: Message) -> str:
        self._know(message.to if message.to is not None else message.sender)
        shown = display.message_shown(message, self._now(), self._zone, colour=self._colour)
        self._show(shown)
        return shown

    def _tell_event(self, event: Event) -> None:
        if isinstance(event, Message):
            self._show_message(event)
        elif isinstance(event, Reply):
            sentence = sentence_of(event, self._own_name, self._zone)
            if sentence is not None:
                self.tell(sentence)

    def tell(self, sentence: str) -> None:
        """Show a sentence that is nobody's message."""
        self._show(display.notice_shown(sentence, colour=self._colour))


def _is_presence(event: Event) -> TypeGuard[Reply]:
    return (
        isinstance(event, Reply)
        and event.word in ("online", "offline")
        and len(event.arguments) > 0
    )
