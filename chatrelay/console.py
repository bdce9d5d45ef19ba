"""
What the person who runs the relay reads on its console: who comes and goes, what could
not be delivered and why, one line each, at a bounded rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.logger import Logger

from chatrelay.errors import Refusal
from chatrelay.limits import Limits
from chatrelay.printable import printable
from chatrelay.refusals import Refusals

# A target, a time, and all that may be said about them.
_MAX_SHOWN_OF_OPERATORS = 400
# Whatever strangers do: who of several operators did what is not to be left out.
_MAX_OPERATOR_LINES_PER_S = 50

_log = Logger(namespace="chatrelay")


class Peer(NamedTuple):
    """
    Where a connection comes from.

    :ivar host: its IP address, or what stands for one.
    :ivar port: its port; 0 where there is none.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}" if self.port else self.host


class RateBound:
    """So many lines from one tick to the next; the others are counted."""

    __slots__ = ("_admitted", "_most", "_suppressed")

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._admitted = 0
        self._suppressed = 0

    def admits(self) -> bool:
        """Whether one more line may be written now."""
        if self._admitted < self._most():
            self._admitted += 1
            return True
        self._suppressed += 1
        return False

    def tick(self) -> int:
        """Begin anew, and return how many lines were not written."""
        suppressed, self._suppressed, self._admitted = self._suppressed, 0, 0
        return suppressed


class Console:
    """
    The console of one relay.

    :ivar verbose: whether every relayed message gets a line of its own.
    """

    def __init__(self, limits: Limits, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self._limits = limits
        self._arrivals = RateBound(self._most_of_a_kind)
        self._departures = RateBound(self._most_of_a_kind)
        self._refusals = Refusals()
        self._account_lines = RateBound(self._most_of_a_kind)
        self._operator_lines = RateBound(lambda: _MAX_OPERATOR_LINES_PER_S)
        self._bot_lines = RateBound(self._most_of_a_kind)
        self._undelivered = RateBound(self._most_of_a_kind)
        self._summaries = RateBound(self._most_of_a_kind)
        self._undelivered_of: dict[bytes, RateBound] = {}

    def arrived(self, name: bytes, peer: Peer, client_count: int) -> None:
        """A client has its name."""
        if self._arrivals.admits():
            _log.info(
                "{name} arrived from {peer}; {count} here",
                name=printable(name),
                peer=peer,
                count=client_count,
            )

    def renamed(self, name: bytes, previous: bytes, peer: Peer) -> None:
        """A client has another name."""
        # Its bound goes with it: renaming buys no more lines.
        bound = self._undelivered_of.pop(previous, None)
        if bound is not None:
            self._undelivered_of[name] = bound
        if self._arrivals.admits():
            _log.info(
                "{previous} at {peer} is now {name}",
                name=printable(name),
                previous=printable(previous),
                peer=peer,
            )

    def departed(self, name: bytes, peer: Peer, stayed_s: float, why: str) -> None:
        """A client is gone."""
        self._undelivered_summary(name)
        if self._departures.admits():
            _log.info(
                "{name} at {peer} left after {stayed}: {why}",
                name=printable(name),
                peer=peer,
                stayed=duration(stayed_s),
                why=why,
            )

    def turned_away(self, peer: Peer, why: str) -> None:
        """A connection ended before it had a name, and not by itself."""
        if self._refusals.add(why, peer.host):
            _log.info("a connection from {peer} was closed: {why}", peer=peer, why=why)

    def refused(self, peer: Peer, why: str) -> None:
        """A client was refused what it asked for, as others are, and stays."""
        if self._refusals.add(why, peer.host):
            _log.info("refused to {peer}: {why}", peer=peer, why=why)

    def registered(self, name: bytes, peer: Peer, *, is_new: bool) -> None:
        """A name has an owner, or its owner another secret."""
        if self._account_lines.admits():
            what = "is registered now" if is_new else "has another secret now"
            _log.info("{name} {what}, from {peer}", name=printable(name), what=what, peer=peer)

    def wrong_secret(self, name: bytes, host: str) -> None:
        """Somebody did not know the secret of a name."""
        if self._account_lines.admits():
            _log.info("a wrong secret for {name} from {host}", name=printable(name), host=host)

    def operator_did(self, name: bytes, peer: Peer, what: bytes) -> None:
        """An operator has used what only operators may."""
        if self._operator_lines.admits():
            _log.info(
                "operator {name} at {peer}: {what}",
                name=printable(name),
                peer=peer,
                what=printable(what, _MAX_SHOWN_OF_OPERATORS),
            )

    def undelivered(self, sender: bytes, target: bytes, text: bytes, refusal: Refusal) -> None:
        """A message could not be delivered."""
        bound = self._undelivered_of.get(sender)
        if bound is None:
            bound = self._undelivered_of[sender] = RateBound(self._most_of_a_sender)
        if bound.admits() and self._undelivered.admits():
            _log.info(
                "not delivered, {code}: {sender} to {target}: {text}",
                code=refusal.code,
                sender=printable(sender),
                target=printable(target),
                text=printable(text),
            )

    def relayed(self, sender: bytes, recipient: bytes, text: bytes) -> None:
        """A message was delivered; a line only if the console is verbose."""
        if self.verbose:
            _log.info(
                "{sender} to {recipient}: {text}",
                sender=printable(sender),
                recipient=printable(recipient),
                text=printable(text),
            )

    def bot_received(self, bot: bytes, sender: bytes, text: bytes) -> None:
        """A bot was sent a message."""
        if self._bot_lines.admits():
            _log.info(
                "{bot} was sent by {sender}: {text}",
                bot=printable(bot),
                sender=printable(sender),
                text=printable(text),
            )

    def tick(self) -> None:
        """Once a second: say how much was left out, and let as much through again."""
        for sender in list(self._undelivered_of):
            self._undelivered_summary(sender)
        for what, bound in (
            ("arrivals", self._arrivals),
            ("departures", self._departures),
            ("wrong secrets and registrations", self._account_lines),
            ("commands of operators", self._operator_lines),
            ("messages to bots", self._bot_lines),
            ("messages not delivered", self._undelivered),
            ("senders of messages not delivered", self._summaries),
        ):
            suppressed = bound.tick()
            if suppressed:
                _log.info("… and {count} more {what}", count=suppressed, what=what)
        self._sum_up(self._refusals.tick())

    def shut_down(self) -> None:
        """The relay stops: say what was left out until now."""
        self._sum_up(self._refusals.summary())

    def _most_of_a_kind(self) -> int:
        return self._limits.max_console_lines_per_s

    def _most_of_a_sender(self) -> int:
        return self._limits.max_undelivered_lines_per_s

    @staticmethod
    def _sum_up(summary: str) -> None:
        if summary:
            _log.info("{summary}", summary=summary)

    def _undelivered_summary(self, sender: bytes) -> None:
        bound = self._undelivered_of.pop(sender, None)
        suppressed = bound.tick() if bound is not None else 0
        if suppressed and self._summaries.admits():
            _log.info(
                "… and {count} more messages of {sender} not delivered",
                count=suppressed,
                sender=printable(sender),
            )


def duration(seconds: float) -> str:
    """How long somebody stayed, for a person: ``48 s``, ``3 min 12 s``, ``2 h 5 min``."""
    minutes, rest_s = divmod(int(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    if days:
        return f"{days} d {rest_h} h"
    if hours:
        return f"{hours} h {rest_min} min"
    if minutes:
        return f"{minutes} min {rest_s} s"
    return f"{rest_s} s"
