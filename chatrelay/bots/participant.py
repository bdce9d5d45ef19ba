"""A bot as the registry holds it: a recipient that hands messages to the bot and answers back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay.bots.api import BotMessage, BotRelay
from chatrelay.bots.finding import bot_name
from chatrelay.errors import BadName, BadText, Misuse, Refusal, UnknownName
from chatrelay.interfaces import IBot, Recipient
from chatrelay.limits import Limits
from chatrelay.mailbox.shares import BOTS
from chatrelay.names import Name, parse_name
from chatrelay.stamps import Stamp
from chatrelay.wire import check_text

# A client can make a broken bot fail with every line it sends; the log must not
# take a traceback for each.
_REPORT_INTERVAL_S = 1.0


class BotParticipant:
    """
    Stands for one bot among the clients.

    Nothing that the bot raises leaves it, except to the bot's own calls.
    """

    _log = Logger()

    def __init__(
        self,
        bot: IBot,
        find: Callable[[bytes], Recipient | None],
        seconds: Callable[[], float],
        heard: Callable[[Recipient, Recipient, bytes], None],
        limits: Limits,
    ) -> None:
        """
        Give a bot its place; `start` tells the bot.

        :param find: who holds the name with this key now.
        :param seconds: the time, in seconds since the epoch.
        :param heard: told of each message before the bot is: who wrote it, this
            participant, and the text as it came.  It escapes what it shows.
        :param limits: a reply has ``max_line_bytes`` at most.
        :raises Misuse: the bot's name can not be a bot's name.
        """
        self._bot = bot
        self._name = bot_name(bot.name)
        self._find = find
        self._seconds = seconds
        self._heard = heard
        self._max_text_bytes = limits.max_line_bytes
        self._connected_s = self._last_spoke_s = seconds()
        self._next_report_s = 0.0
        self._unreported = 0

    @property
    def name(self) -> Name:
        """The bot's name."""
        return self._name

    @property
    def account(self) -> int:
        """What stands for the account of all bots."""
        return BOTS

    @property
    def connected_s(self) -> float:
        """Since when it is here, in seconds since the epoch."""
        return self._connected_s

    def idle_s(self) -> float:
        """For how long the bot has written nothing, in seconds."""
        return max(0.0, self._seconds() - self._last_spoke_s)

    def start(self) -> None:
        """Tell the bot that the relay runs; what it raises is logged."""
        relay = BotRelay(self._name.shown.decode("utf-8"), self._send)
        self._guard(lambda: self._bot.started(relay))

    def stop(self) -> None:
        """Tell the bot that the relay stops; what it raises is logged."""
        self._guard(self._bot.stopped)

    def includes(self, other: Recipient) -> bool:
        """Whether another recipient is this bot."""
        return other is self

    def deliver(
        self,
        sender: Recipient,
        text: bytes,
        stamp: Stamp | None = None,  # noqa: ARG002 - bots have no use for it,
        asker: Recipient | None = None,  # noqa: ARG002 - and take everything
    ) -> None:
        """Hand a client's message to the bot; what the bot raises is logged, with its name."""
        self._heard(sender, self, text)

        def reply(answer: str) -> None:
            encoded = self._encode(answer)
            # Another client may have the name by now: the answer is not for that one.
            holder = self._find(sender.name.key)
            if holder is None or not holder.includes(sender):
                raise UnknownName(sender.name.shown)
            self._write(holder, encoded, sender)

        message = BotMessage(sender.name.shown.decode("utf-8"), text.decode("utf-8"), reply)
        self._guard(lambda: self._bot.message_received(message))

    def _send(self, to: str, text: str) -> None:
        encoded = self._encode(text)
        try:
            name = parse_name(to.encode("utf-8"))
        except (BadName, UnicodeEncodeError):
            raise Misuse(f"{to!a} is not a name") from None
        recipient = self._find(name.key)
        if recipient is None:
            raise UnknownName(name.shown)
        if isinstance(recipient, BotParticipant):
            raise Misuse(f"{to!a} is a bot, and bots write to clients only")
        self._write(recipient, encoded, None)

    def _encode(self, text: str) -> bytes:
        try:
            encoded = text.encode("utf-8")
            check_text(encoded)
        except (UnicodeEncodeError, BadText):
            raise Misuse("a text has no surrogate, and no control character but TAB") from None
        if not encoded or b"\n" in encoded:
            raise Misuse("a text is one line, and not empty")
        if len(encoded) > self._max_text_bytes:
            raise Misuse(
                f"a text has {self._max_text_bytes} bytes of UTF-8 at most, not {len(encoded)}"
            )
        return encoded

    def _write(self, recipient: Recipient, text: bytes, asker: Recipient | None) -> None:
        self._last_spoke_s = self._seconds()
        recipient.deliver(self, text, None, asker)

    def _guard(self, call: Callable[[], Awaitable[object] | None]) -> None:
        try:
            result = call()
            if isinstance(result, Coroutine):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                result.addErrback(self._report)
        except Exception:  # Whatever a bot does wrong ends here.
            self._report(Failure())

    def _report(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None:
            return  # Only the bot itself cancels what it waits for.
        now_s = self._seconds()
        if now_s < self._next_report_s:
            self._unreported += 1
            return
        name = self._name.shown.decode("utf-8")
        unreported, self._unreported = self._unreported, 0
        self._next_report_s = now_s + _REPORT_INTERVAL_S
        if failure.check(Refusal) is not None:
            # Somebody left before the answer: no fault of the bot's worth a traceback.
            self._log.warn(
                "Bot {bot}: {refusal!r} ({unreported} more before)",
                bot=name,
                refusal=failure.getErrorMessage(),
                unreported=unreported,
            )
            return
        self._log.failure(
            "Bot {bot} failed ({unreported} more before)",
            failure,
            bot=name,
            unreported=unreported,
        )
