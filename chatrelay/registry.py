"""
Who is here under which name, who watches whom, and whose message goes where.

The registry knows names and who holds them, not connections.  A name is found by its
key; `Registry.routes` finds it under the exact bytes that senders write, for the quick
path.  An owned name may have several holders; they are found as one recipient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from chatrelay.devices import Devices
from chatrelay.errors import NameInUse, NameReserved, TooManyClients, TooManyWatches
from chatrelay.interfaces import Device, Recipient, RunRecipient
from chatrelay.limits import Limits
from chatrelay.names import SERVER_NAME, Name

if TYPE_CHECKING:
    from chatrelay.mailbox.mailbox import Mailbox
    from chatrelay.rooms.room import Room

# The writings of one name, besides its holder's, that the quick path knows: a name of n
# letters has 2**n.
_MAX_OTHER_WRITINGS = 3
_TOO_MANY_DEVICES = "This name has as many connections as it may; close one."


class LoggedRecipient(RunRecipient, Protocol):
    """A name with a log."""

    @property
    def needs_runs(self) -> bool:
        """Whether it has to see the runs that go to its connections."""


class Watcher(Protocol):
    """Whoever is told that a name comes or goes."""

    def presence_changed(self, key: bytes, written: bytes, online: bool) -> None:
        """
        A watched name came or went.

        :param key: what the name is compared by.
        :param written: as the watcher wrote it.
        """


class Follower(Protocol):
    """Whoever has to know of every name that is here."""

    def renewed(self, key: bytes) -> None:
        """The connections of a name, or what they are written, have changed."""

    def gone(self, name: Name) -> None:
        """Nobody has a name any more."""


class Registry:
    """
    The names of one relay.

    :ivar routes: for the quick path: who takes whole runs, by the name as written.
    :ivar logs: the same for messages with refs: the logs that they go into.
    """

    def __init__(self, reserved: Iterable[Name] = (), limits: Limits | None = None) -> None:
        """
        Begin with nobody here.

        :param reserved: names that no client may have without proof that it owns them.
        :param limits: names that one watcher may watch, connections that one name may have.
        """
        self.routes: dict[bytes, RunRecipient | Room] = {}
        self.logs: dict[bytes, Mailbox] = {}
        self._other_writings: dict[bytes, tuple[bytes, ...]] = {}
        self._holders: dict[bytes, Device | Devices] = {}
        self._bots: dict[bytes, Recipient] = {}
        self._reserved = {name.key for name in reserved}
        self._limits = limits or Limits()
        self._watchers: dict[bytes, dict[Watcher, bytes]] = {}
        self._watched: dict[Watcher, set[bytes]] = {}
        self._client_count = 0
        # Who sees the runs that go to an owned name.
        self.mailbox_of: Callable[[bytes], LoggedRecipient | None] = lambda _key: None
        self.follower: Follower | None = None

    @property
    def client_count(self) -> int:
        """How many clients hold a name; bots do not count, each connection of a name does."""
        return self._client_count

    @property
    def name_count(self) -> int:
        """How many names clients hold."""
        return len(self._holders)

    def __iter__(self) -> Iterator[Recipient]:
        """Whoever holds a name, bots first, as of now, in the order of arrival."""
        return iter([*self._bots.values(), *self._holders.values()])

    def held(self) -> Iterator[tuple[bytes, list[Device]]]:
        """The keys of the names that clients hold, as of now, and the connections that do."""
        for key in list(self._holders):
            yield key, self.devices(key)

    def find(self, key: bytes) -> Recipient | None:
        """Who holds the name with this key."""
        return self._holders.get(key) or self._bots.get(key)

    def is_bot(self, key: bytes) -> bool:
        """Whether the name with this key is a bot's."""
        return key in self._bots

    def devices(self, key: bytes) -> list[Device]:
        """The connections that hold the name with this key."""
        holder = self._holders.get(key)
        if holder is None:
            return []
        return list(holder) if isinstance(holder, Devices) else [holder]

    def reserve(self, names: Iterable[Name]) -> list[Device]:
        """
        Keep back these names from now on, and no others.

        :returns: whoever holds one of them.
        """
        self._reserved = {name.key for name in names}
        return [device for key in self._reserved for device in self.devices(key)]

    def add_bot(self, bot: Recipient) -> None:
        """
        Give a bot its name for as long as the relay runs.

        :raises NameReserved, NameInUse: the name is not free.
        """
        self.check_not_reserved(bot.name)
        if bot.name.key in self._holders:
            raise NameInUse(bot.name.shown)
        self._bots[bot.name.key] = bot

    def check_not_taken_for_good(self, name: Name) -> None:
        """
        Check that a name is neither the relay's own nor a bot's.

        :raises NameReserved: it is.
        """
        if name.key == SERVER_NAME or name.key in self._bots:
            raise NameReserved(name.shown)

    def check_not_reserved(self, name: Name) -> None:
        """
        Check that a name may be had, or registered, by whoever comes first.

        :raises NameReserved: it may not.
        """
        self.check_not_taken_for_good(name)
        if name.key in self._reserved:
            raise NameReserved(name.shown)

    def claim(
        self, device: Device, name: Name, previous: Name | None = None, *, is_proven: bool = False
    ) -> None:
        """
        Give a name to a client, in place of the one it has.

        Watchers are told.  Another writing of one's own name is always granted.

        :param previous: the name that it has and leaves.
        :param is_proven: whether the client owns the name.  Whoever holds it without proof
            gives it up then; the others go on holding it, too.
        :raises NameReserved, NameInUse, TooManyClients: nothing has changed.
        """
        if is_proven:
            self.check_not_taken_for_good(name)
            self._have_given_up(device, name.key)
        else:
            self.check_not_reserved(name)
        holder = self._holders.get(name.key)
        if holder is not None and not is_proven and not holder.includes(device):
            raise NameInUse(name.shown)
        is_one_more = isinstance(holder, Devices) and not holder.includes(device)
        if is_one_more and len(self.devices(name.key)) >= self._limits.max_devices:
            raise TooManyClients(sentence=_TOO_MANY_DEVICES)
        if previous is not None and previous.key != name.key:
            self.release(device, previous)
        if holder is None:
            self._holders[name.key] = device
        elif holder.includes(device):
            # It will be found under the new writing, once it has it.
            self._drop_routes(name.key, holder.name.shown)
            return
        elif isinstance(holder, Devices):
            holder.add(device)
        else:
            self._holders[name.key] = Devices(holder, device)
        self._client_count += 1
        if holder is None:
            self._tell_watchers(name.key, online=True)

    def _have_given_up(self, device: Device, key: bytes) -> None:
        for other in self.devices(key):
            if other is not device:
                other.give_up_unproven()

    def release(self, device: Device, name: Name) -> None:
        """Take a name from a client that leaves it; its watchers are told if nobody else has it."""
        holder = self._holders.get(name.key)
        if holder is None or not holder.includes(device):
            return
        self._client_count -= 1
        self._drop_routes(name.key, holder.name.shown)
        if isinstance(holder, Devices):
            holder.remove(device)
            if len(holder) == 1:
                [self._holders[name.key]] = holder
            self.renew_routes(name.key)
        else:
            del self._holders[name.key]
            self._tell_watchers(name.key, online=False)
            if self.follower is not None:
                self.follower.gone(holder.name)

    def renew_routes(self, key: bytes) -> None:
        """Let the quick path find who holds a name, or not, by what they take now."""
        holder = self._holders.get(key)
        if holder is not None:
            self._renew_routes(key, holder)
        if self.follower is not None:
            self.follower.renewed(key)

    def _renew_routes(self, key: bytes, holder: Device | Devices) -> None:
        if isinstance(holder, Devices):
            holder.renew()
        self._drop_routes(key, holder.name.shown)
        mailbox = self.mailbox_of(key)
        if mailbox is None:
            if holder.takes_runs:
                self.routes[holder.name.shown] = holder
        elif mailbox.takes_runs:
            self.routes[holder.name.shown] = mailbox if mailbox.needs_runs else holder

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

    def _drop_routes(self, key: bytes, shown: bytes) -> None:
        self.routes.pop(shown, None)
        for written in self._other_writings.pop(key, ()):
            del self.routes[written]

    def watch(self, watcher: Watcher, name: Name, written: bytes) -> bool:
        """
        Tell `watcher` from now on when a name comes or goes.

        :returns: whether somebody holds it now.
        :raises TooManyWatches: the watcher has as many as it may.
        """
        watched = self._watched.setdefault(watcher, set())
        if name.key not in watched:
            if len(watched) >= self._limits.max_watches:
                raise TooManyWatches()
            watched.add(name.key)
        self._watchers.setdefault(name.key, {})[watcher] = written
        return self.find(name.key) is not None

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
            watcher.presence_changed(key, written, online)
