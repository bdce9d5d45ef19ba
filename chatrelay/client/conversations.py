"""
The conversations of a person at a terminal: what is unread in which.

Pure.  A conversation is with a name, or in a room, that something came from or went to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from chatrelay.client.core import name_key

MAX_CONVERSATIONS = 200
MAX_REPEATED = 20
"""Unread lines of a conversation that are shown once more when the user turns to it."""
MAX_REPEATED_CHARS = 200_000
"""And code points of them: 20 lines of the longest kind, unless a relay takes longer ones."""


class Thread:
    """
    One conversation.

    :ivar number: how the user may call it; it stays as long as the conversation is known.
    :ivar name: a name, or a room with its ``#``, as it was last written.
    :ivar unread: how many messages came since the user was there.
    """

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.unread = 0
        self._last: deque[str] = deque(maxlen=MAX_REPEATED)

    def came(self, shown: str) -> None:
        """A message came, and was shown as this line."""
        self.unread += 1
        self._last.append(shown)
        while sum(map(len, self._last)) > MAX_REPEATED_CHARS:
            self._last.popleft()

    def read(self) -> list[str]:
        """The user is there: returns the last lines that were unread."""
        last = list(self._last)
        self._last.clear()
        self.unread = 0
        return last


class Conversations:
    """All conversations; iterated over by their numbers."""

    def __init__(self) -> None:
        # By key, the one that was used last at the end.
        self._threads: dict[bytes, Thread] = {}

    def __iter__(self) -> Iterator[Thread]:
        """Iterate over them by their numbers."""
        return iter(sorted(self._threads.values(), key=lambda thread: thread.number))

    @property
    def unread_count(self) -> int:
        """In how many something is unread."""
        return sum(thread.unread > 0 for thread in self._threads.values())

    @property
    def names(self) -> list[str]:
        """The names and rooms, those that were used last first."""
        return [thread.name for thread in reversed(self._threads.values())]

    def find(self, name: str) -> Thread | None:
        """The conversation with a name or room, in whatever writing."""
        return self._threads.get(name_key(name))

    def numbered(self, written: str) -> Thread | None:
        """The conversation that a user calls by its number."""
        return next((thread for thread in self if str(thread.number) == written), None)

    def used(self, name: str) -> Thread:
        """Something came from a name or room, or went to it."""
        key = name_key(name)
        thread = self._threads.pop(key, None)
        if thread is None:
            self._make_room()
            thread = Thread(_least_free(other.number for other in self._threads.values()), name)
        thread.name = name
        self._threads[key] = thread
        return thread

    def forget(self, name: str) -> None:
        """There is nothing more to say there."""
        self._threads.pop(name_key(name), None)

    def next_unread(self) -> Thread | None:
        """The one with something unread in which the last thing happened longest ago."""
        return next((thread for thread in self._threads.values() if thread.unread), None)

    def _make_room(self) -> None:
        if len(self._threads) < MAX_CONVERSATIONS:
            return
        read = [key for key, thread in self._threads.items() if not thread.unread]
        del self._threads[next(iter(read or self._threads))]


def _least_free(taken: Iterable[int]) -> int:
    numbers = set(taken)
    return next(number for number in range(1, len(numbers) + 2) if number not in numbers)
