"""
What was shown of what is sent to an owned name: each message once, over connections and runs.

A message comes in three ways: live; again, because the relay does not know that it was shown;
and from the name's log, because another device of the name had it first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime

from chatrelay.client.core import Disconnected, Message, name_key, same_name
from chatrelay.client.failures import ignore
from chatrelay.client.library import Client
from chatrelay.client.place import MAX_IDS, Place, Places, is_id
from chatrelay.errors import BadId, NotAllowed, Refusal, UnknownCommand

MAX_SEEN = 20_000
"""Ids that are remembered in a run: twice what a name's log holds."""
PAGE = 200
"""Messages asked of the log at once; the relay gives no more."""
HISTORY_TIMEOUT_S = 60.0
"""Then what has come live is shown, whatever the log would have given."""
BEGINNING = "While you were away:"
END = "That is all that you missed."

_UNKNOWN = "The relay does not know what was read last here: what was missed is not shown."


class _AnotherNameError(Exception):
    """The client has another name than the one whose log was asked for."""


class Reading:
    """
    What the user of one program has seen, of one name after another.

    Only under an owned name, and of what is in its log: messages to it, to its rooms and to all.
    """

    def __init__(self, clock: IReactorTime, places: Places | None) -> None:
        """
        Begin with nothing seen.

        :param places: where it is kept; ``None``: nowhere.
        """
        self._clock = clock
        self._places = places
        self._key: bytes | None = None
        self._cursor: str | None = None
        self._is_caught_up = False
        self._last_live = ""
        # In the order in which they were shown.
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._unacked: OrderedDict[str, None] = OrderedDict()
        self._to_ack: str | None = None
        self._is_unkept = False
        self._tell: Callable[[str], None] = lambda _: None

    # -- what was missed

    async def catch_up(
        self,
        client: Client,
        show: Callable[[Message], None],
        tell: Callable[[str], None],
    ) -> None:
        """
        Show what came for the name since this user read it last, here.

        A name that is read here for the first time has missed nothing.

        :param show: shows a message.
        :param tell: shows a sentence.
        """
        if not client.is_registered:
            return
        self._tell = tell
        self._enter(client.name)
        self._to_ack = None  # of another connection: this one has not been sent it
        if self._is_caught_up:
            self._move()
        self._is_caught_up = False
        self._last_live = ""  # it is in the log, and what is asked for now goes beyond it
        is_had = True
        try:
            if self._cursor is not None:
                await self._show_missed(client, show)
            if self._cursor is None:
                await self._begin(client)
        except (Disconnected, _AnotherNameError):
            return  # it is asked for again when this name is next connected
        except (NotAllowed, UnknownCommand):
            pass  # there is no log here
        except Refusal as refusal:
            is_had = False
            tell(f"What was missed can not be had now: {refusal.sentence} ({refusal.code})")
        except TimedOut:
            is_had = False
            tell("What was missed can not be had now: the relay takes too long.")
        if is_had or self._cursor is None:
            self._is_caught_up = True
            self._move()
        # Else the cursor stays: it is asked for again on the next connection, or at the next start.
        self._keep()

    def _move(self) -> None:
        """The cursor goes to what was shown last."""
        self._cursor, self._last_live = self._last_live or self._cursor, ""

    def _enter(self, name: str) -> None:
        key = name_key(name)
        if key == self._key:
            return
        place = self._places.read(key) if self._places is not None else None
        self._key = key
        self._cursor = place.cursor if place is not None else None
        self._is_caught_up = False
        self._last_live = ""
        unacked = place.unacked if place is not None else ()
        self._unacked = OrderedDict.fromkeys(unacked)
        self._seen = OrderedDict.fromkeys(unacked)

    async def _begin(self, client: Client) -> None:
        for message in await self._page(client, count=1):
            self._cursor = message.id
        self._cursor = self._cursor or ""

    async def _show_missed(self, client: Client, show: Callable[[Message], None]) -> None:
        is_any = False
        while True:
            was_empty = not self._cursor
            try:
                page = await (self._oldest if was_empty else self._page)(client)
            except BadId:
                self._cursor = None  # the log begins anew, or it is another relay's
                self._tell(_UNKNOWN)
                break
            for message in page:
                identity = message.id or ""
                if identity == self._last_live:
                    self._last_live = ""  # whatever was shown live stands in this page
                if identity not in self._seen:
                    if not is_any:
                        is_any = True
                        self._tell(BEGINNING)
                    show(message)
                    self._see(identity)
                self._cursor = identity
            self._keep()
            # The oldest ones may be less than a page, and others follow them.
            if not page or (len(page) < PAGE and not was_empty):
                break
        if is_any:
            self._tell(END)

    async def _oldest(self, client: Client) -> list[Message]:
        """The first messages of the log: without an id before them the relay gives the last."""
        page = await self._page(client)
        while len(page) == PAGE and (earlier := await self._page(client, before=page[0])):
            page = earlier
        return page

    async def _page(
        self, client: Client, count: int = PAGE, before: Message | None = None
    ) -> list[Message]:
        key = self._key
        asking = client.history(count=count, before=before, after=self._cursor or None)
        asking.addTimeout(HISTORY_TIMEOUT_S, self._clock)
        try:
            page = await asking
        finally:
            # After a /name the relay answers out of another log, or refuses the cursor there.
            if {self._key, name_key(client.name)} != {key}:
                raise _AnotherNameError
        return [message for message in page if is_id(message.id)]

    # -- what comes

    def is_new(self, client: Client, message: Message) -> bool:
        """
        Whether a message that came was not shown before; if so it is going to be.

        `shown` is called when it has been.
        """
        identity = message.id
        # What is said to many is in the logs of those who read it there, not of who said it.
        is_logged = message.to is None and (
            message.room is None or not same_name(message.sender, client.name)
        )
        if not client.is_registered or not is_logged or identity is None or not is_id(identity):
            return True
        self._enter(client.name)
        self._to_ack = identity
        is_new = identity not in self._seen
        if is_new:
            self._see(identity)
        if is_new or self._is_caught_up:
            self._last_live = identity
        return is_new

    def _see(self, identity: str) -> None:
        self._seen[identity] = None
        self._unacked[identity] = None  # from the log, too: it may be about to be delivered
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def shown(self, client: Client | None) -> None:
        """
        What came has been shown: keep that, then tell the relay.

        :param client: the connection that it came on; ``None`` if that is lost.
        """
        if self._to_ack is None:
            return
        identity, self._to_ack = self._to_ack, None
        if self._is_caught_up:
            self._move()
        self._keep()
        if client is not None and "ack" in client.caps:
            client.ack(identity).addCallbacks(lambda _: self._acked(identity), ignore)

    def _acked(self, identity: str) -> None:
        """The relay delivers nothing up to a message again, but may give it out of the log."""
        while self._is_caught_up and identity in self._unacked:
            self._unacked.popitem(last=False)

    def _keep(self) -> None:
        while len(self._unacked) > MAX_IDS:
            self._unacked.popitem(last=False)
        if self._places is None or self._cursor is None or self._key is None:
            return
        try:
            self._places.write(self._key, Place(self._cursor, tuple(self._unacked)))
            self._is_unkept = False
        except OSError as error:
            if not self._is_unkept:
                self._is_unkept = True
                self._tell(
                    f"What you have read can not be kept ({error.strerror}): it may be shown again."
                )
