"""
Who plain lines go to: never somebody who took the name of who left.

A target is watched, and forgotten when it leaves and when the connection is lost, unless
it is known that somebody owns its name.  A room is the target as long as the user is in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from chatrelay.client.core import Disconnected, is_room, name_key, same_name
from chatrelay.client.failures import ignore
from chatrelay.client.library import Client
from chatrelay.errors import Misuse, Refusal

MAX_OWNED_NAMES = 2000


class Choice:
    """
    A name or room that plain lines were meant for when they were typed.

    :ivar here: false once the name left, or may have: nothing more goes to it.
    :ivar is_away: whether it is owned, and away: what goes to it is kept.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.here = True
        self.is_away = False


class WhyNot(NamedTuple):
    """
    Why a choice can not be followed.

    :ivar is_absence: whether it is only not here.
    """

    sentence: str
    is_absence: bool = False

    def or_not_told(self) -> WhyNot:
        """The same of somebody who has written: a relay may hide whom one has not answered."""
        if not self.is_absence:
            return self
        return self._replace(sentence=f"{self.sentence}, or you are not told before you answer")


class Target:
    """
    The choice, and those before it until the lines that were typed for them are on their way.

    :ivar choice: who plain lines go to now.
    :ivar watched_by_user: what else is watched.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """
        Begin with nobody.

        :param tell: shows a sentence.
        """
        self.choice: Choice | None = None
        self.watched_by_user: list[str] = []
        self._tell = tell
        self._client: Client | None = None
        self._followed: list[Choice] = []
        self._owned: OrderedDict[bytes, None] = OrderedDict()

    def choose(self, target: str) -> None:
        """Plain lines are meant for a target from now on."""
        if self.choice is None or not same_name(self.choice.name, target):
            self.choice = Choice(target)
            self._followed.append(self.choice)

    def note_owned(self, name: str) -> None:
        """Somebody owns a name: a message to it was stored."""
        self._owned[name_key(name)] = None
        self._owned.move_to_end(name_key(name))
        if len(self._owned) > MAX_OWNED_NAMES:
            self._owned.popitem(last=False)

    def is_owned(self, name: str) -> bool:
        """Whether it is known that somebody owns a name."""
        return name_key(name) in self._owned

    async def follow(self, choice: Choice | None) -> WhyNot | None:
        """Watch a choice, and no more those before it; returns why it can not be one."""
        if choice is None:
            return None
        earlier = self._followed[: self._followed.index(choice)] if choice.here else []
        for previous in earlier:
            self._unfollow(previous)
        return await self._watch(choice)

    async def _watch(self, choice: Choice) -> WhyNot | None:
        if is_room(choice.name):
            return None
        if self._client is None:
            return WhyNot("There is no connection now")
        try:
            watched = await self._client.watch(choice.name)
        except Misuse as misuse:
            why_not = WhyNot(str(misuse).rstrip("."))
        except Refusal as refusal:
            why_not = WhyNot(f"{choice.name} can not be watched ({refusal.code})")
        except Disconnected:
            why_not = WhyNot("The connection was lost")
        else:
            if all(watched.values()):
                return None
            why_not = WhyNot(f"{choice.name} is not here", is_absence=True)
        return why_not

    async def follow_again(self, choice: Choice | None) -> WhyNot | None:
        """
        Follow who was sent a message, and is not told to be here.

        It came just now; or the relay tells who is here only to those who know each other.
        """
        why_not = await self.follow(choice)
        if choice is None or why_not is None or not why_not.is_absence:
            return why_not
        return WhyNot(f"You are not told when {choice.name} leaves, before you have an answer")

    def _unfollow(self, choice: Choice) -> None:
        if choice in self._followed:
            self._followed.remove(choice)
        wanted = [other.name for other in self._followed] + self.watched_by_user
        if self._client is None or is_room(choice.name) or is_among(choice.name, wanted):
            return
        with suppress(Misuse):  # a name that can not be one was never watched
            self._client.unwatch(choice.name).addErrback(ignore)

    def settle(self, choice: Choice | None, why_not: WhyNot | None) -> None:
        """What `follow` returned is known, and what became of the message."""
        # A choice that was refused, or has left meanwhile, has been dealt with.
        if why_not is None or choice is None or not choice.here:
            return
        if why_not.is_absence and self.is_owned(choice.name):
            self._keep(choice, why_not.sentence)
        else:
            self._drop(choice, why_not.sentence)

    def _keep(self, choice: Choice, why: str) -> None:
        if not choice.is_away:
            choice.is_away = True
            self._tell(f"{why}: what you write is kept for them.")

    def gone(self, choice: Choice | None) -> None:
        """Nothing more goes to a choice."""
        if choice is None or not choice.here:
            return
        choice.here = False
        self._unfollow(choice)
        if choice is self.choice:
            self.choice = None

    def _drop(self, choice: Choice, why: str) -> None:
        self.gone(choice)
        self._tell(f"{why}: plain lines go to nobody until you name somebody (%NAME%TEXT).")

    def refused(self, name: str) -> None:
        """A message to a name was refused: it is no target."""
        self._owned.pop(name_key(name), None)
        for choice in self._named(name):
            self.gone(choice)

    def left(self, name: str) -> None:
        """A name left."""
        for choice in self._named(name):
            if choice is not self.choice:
                self.gone(choice)
            elif self.is_owned(name):
                self._keep(choice, f"{name} left")
            else:
                self._drop(choice, f"{name} left")

    def closed(self, room: str) -> None:
        """The user is in a room no more."""
        for choice in self._named(room):
            if choice is self.choice:
                self._drop(choice, f"You are not in {choice.name} now")
            else:
                self.gone(choice)

    def came(self, name: str) -> None:
        """A name is here."""
        for choice in self._named(name):
            if choice.is_away:
                choice.is_away = False
                self._tell(f"{name} is here.")

    def unwatched(self, names: list[str]) -> None:
        """The user does not want names watched any more."""
        self.watched_by_user = [
            watched for watched in self.watched_by_user if not is_among(watched, names)
        ]
        if self.choice is not None and is_among(self.choice.name, names):
            self._drop(self.choice, f"{self.choice.name} is not watched any more")

    def _named(self, name: str) -> list[Choice]:
        return [choice for choice in self._followed if same_name(choice.name, name)]

    # -- connections

    async def attach(self, client: Client, to: str | None) -> None:
        """
        There is a connection: watch the target that is left, or the first.

        :param to: the first target; it is forgotten if it is not here.
        """
        self._client = client
        if to is not None:
            self.choose(to)
        choice = self.choice
        if choice is not None and (to is not None or self.is_owned(choice.name)):
            # Lines may wait that were typed for those before it: they are followed still.
            self.settle(choice, await self._watch(choice))

    def detach(self) -> None:
        """The connection is lost."""
        self._client = None
        # Who has a name that nobody owns after the gap may be somebody else.
        for choice in list(self._followed):
            if is_room(choice.name):
                continue  # it is joined again, before anything goes to it
            if choice is not self.choice:
                self.gone(choice)
            elif not self.is_owned(choice.name):
                self._drop(choice, f"{choice.name} may be somebody else when you are back")


def is_among(name: str, names: Iterable[str]) -> bool:
    """Whether a name is one of several, however they are written."""
    return any(same_name(name, other) for other in names)
