"""
Who is here under which name, who watches whom, and whose message goes where.

The registry knows names and who holds them, not connections.  A name is found by its
key; `Registry.routes` finds it under the exact bytes that senders write, for the quick
path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from chatrelay.errors import NameInUse, NameReserved, TooManyWatches
from chatrelay.interfaces import Recipient, RunRecipient
from chatrelay.names import SERVER_NAME, Name

# The writings of one name, besides its holder's, that the quick path knows: a name of n
# letters has 2**n.
_MAX_OTHER_WRITINGS = 3


class Watcher(Protocol):
    """Whoever is told that a name comes or goes."""

    def presence_changed(self, written: bytes, online: bool) -> None:
        """
        A watched name came or went.

        :param written: the name as the watcher wrote it.
        """


class Registry:
    """
    The names of one relay.

    :ivar routes: for the quick path: who takes whole runs, by the name as written.
    """

    def __init__(self, reserved: Iterable[Name] = (), max_watches: int = 128) -> None:
        """
        Begin with nobody here.

        :param reserved: names that no client may claim, besides the relay's own.
        :param max_watches: names that one watcher may watch.
        """
        self.routes: dict[bytes, RunRecipient] = {}
        self._other_writings: dict[bytes, tuple[bytes, ...]] = {}
        self._holders: dict[bytes, Recipient] = {}
        self._bots: set[bytes] = set()
        self._reserved = {SERVER_NAME, *(name.key for name in reserved)}
        self._max_watches = max_watches
        self._watchers: dict[bytes, dict[Watcher, bytes]] = {}
        self._watched: dict[Watcher, set[bytes]] = {}

    @property
    def client_count(self) -> int:
        """How many names are held by clients; bots do not count."""
        return len(self._holders) - len(self._bots)

    def __iter__(self) -> Iterator[Recipient]:
        """Whoever holds a name, bots too, as of now, in the order of arrival."""
        return iter(list(self._holders.values()))

    def find(self, key: bytes) -> Recipient | None:
        """Who holds the name with this key."""
        return self._holders.get(key)

    def add_bot(self, bot: Recipient) -> None:
        """
        Give a bot its name for as long as the relay runs.

        :raises NameReserved, NameInUse: the name is not free.
        """
        self.check_not_reserved(bot.name)
        if bot.name.key in self._holders:
            raise NameInUse(bot.name.shown)
        self._holders[bot.name.key] = bot
        self._bots.add(bot.name.key)
        self._reserved.add(bot.name.key)

    def check_not_reserved(self, name: Name) -> None:
        """
        Check that clients may claim a name.

        :raises NameReserved: they may not.
        """
        if name.key in self._reserved:
            raise NameReserved(name.shown)

    def claim(self, recipient: Recipient, name: Name, previous: Name | None = None) -> None:
        """
        Give a name to a client, in place of the one it has.

        Watchers are told.  Another writing of one's own name is always granted.

        :param previous: the name that it has and leaves.
        :raises NameReserved, NameInUse: nothing has changed.
        """
        self.check_not_reserved(name)
        holder = self._holders.get(name.key)
        if holder is not None and holder is not recipient:
            raise NameInUse(name.shown)
        if previous is not None and previous.key != name.key:
            self.release(recipient, previous)
        self._holders[name.key] = recipient
        if holder is None:
            self._tell_watchers(name.key, online=True)

    def release(self, recipient: Recipient, name: Name) -> None:
        """Free a name that `recipient` leaves, and tell its watchers."""
        if self._holders.get(name.key) is recipient:
            del self._holders[name.key]
            self.drop_routes(name)
            self._tell_watchers(name.key, online=False)

    def add_routes(self, recipient: RunRecipient) -> None:
        """Let the quick path find `recipient` under the name it holds."""
        self.routes[recipient.name.shown] = recipient

    def note_writing(self, written: bytes, name: Name) -> None:
        """Let the quick path find whom it finds already under another writing of the name."""
        holder = self._holders.get(name.key)
        if holder is None or written in self.routes:
            return
        recipient = self.routes.get(holder.name.shown)
        others = self._other_writings.get(name.key, ())
        if recipient is not None and len(others) < _MAX_OTHER_WRITINGS:
            self.routes[written] = recipient
            self._other_writings[name.key] = (*others, written)

    def drop_routes(self, name: Name) -> None:
        """Hide who holds a name from the quick path."""
        self.routes.pop(name.shown, None)
        for written in self._other_writings.pop(name.key, ()):
            del self.routes[written]

    def watch(self, watcher: Watcher, name: Name, written: bytes) -> bool:
        """
        Tell `watcher` from now on when a name comes or goes.

        :returns: whether somebody holds it now.
        :raises TooManyWatches: the watcher has as many as it may.
        """
        watched = self._watched.setdefault(watcher, set())
        if name.key not in watched:
            if len(watched) >= self._max_watches:
                raise TooManyWatches()
            watched.add(name.key)
        self._watchers.setdefault(name.key, {})[watcher] = written
        return name.key in self._holders

    def unwatch(self, watcher: Watcher, name: Name) -> None:
        """Tell `watcher` of a name no more."""
        watched = self._watched.get(watcher)
        if watched is not None and name.key in watched:
            watched.remove(name.key)
            if not watched:
                del self._watched[watcher]
            self._forget_watcher(watcher, name.key)

    def unwatch_all(self, watcher: Watcher) -> None:
        """The watcher is gone."""
        for key in self._watched.pop(watcher, ()):
            self._forget_watcher(watcher, key)

    def _forget_watcher(self, watcher: Watcher, key: bytes) -> None:
        watchers = self._watchers[key]
        del watchers[watcher]
        if not watchers:
            del self._watchers[key]

    def _tell_watchers(self, key: bytes, *, online: bool) -> None:
        for watcher, written in list(self._watchers.get(key, {}).items()):
            watcher.presence_changed(written, online)
