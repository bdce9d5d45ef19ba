"""What a bot is given, and the class that a bot is most easily made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.plugin import IPlugin
from zope.interface import implementer

from chatrelay.interfaces import IBot


@dataclass(frozen=True)
class BotMessage:
    """
    One message that a client wrote to a bot.

    :ivar sender: the client's name, as the client shows it.
    :ivar text: what it wrote: not empty, no control character but TAB, no line end.
    :ivar reply: takes a text and writes it to the client.  It may be called at
        once, later, several times, or never.  It raises
        `chatrelay.errors.UnknownName` when the client has left or another now has
        its name, and `chatrelay.errors.Misuse` for a text that can not be sent:
        empty, with a line end or a control character other than TAB, or longer
        than a line may be (8192 bytes of UTF-8 unless the relay was told otherwise).
        An answer is *sent*, not acknowledged: it is lost if the connection breaks.
    """

    sender: str
    text: str
    reply: Callable[[str], None]


@dataclass(frozen=True)
class BotRelay:
    """
    The relay as one bot sees it.

    :ivar name: the name that the bot has here.
    :ivar send: takes the name of a client and a text and writes it to the client
        unasked.  It raises `chatrelay.errors.UnknownName` when no client has the
        name, and `chatrelay.errors.Misuse` for a text that `BotMessage.reply`
        would not take, for what can not be a name, and for the name of a bot:
        bots write to clients only, so that two of them never answer each other.
    """

    name: str
    send: Callable[[str, str], None]


@implementer(IBot, IPlugin)
class Bot(ABC):
    """
    A bot that keeps its `BotRelay` and needs nothing when the relay stops.

    :cvar name: the name it is reached under; a subclass sets it.
    :cvar description: what it does, one line for the list of bots.
    :ivar relay: the relay, from `started` on.
    """

    name: str = ""
    description: str = ""
    relay: BotRelay

    def started(self, relay: BotRelay) -> None:
        """Keep `relay`; a subclass that overrides this calls it."""
        self.relay = relay

    @abstractmethod
    def message_received(self, message: BotMessage) -> Awaitable[object] | None:
        """
        Answer `message`, or do not.

        A Deferred or a coroutine that is returned is followed: its failure is
        logged with the bot's name, as what is raised here is.
        """

    def stopped(self) -> None:  # noqa: B027 - most have nothing to cancel
        """Do nothing; a subclass cancels here what it has waiting."""
