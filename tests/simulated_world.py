"""A relay with accounts on a simulated disk, which can be thrown away at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from chatrelay.accounts.service import AccountService
from chatrelay.limits import Limits
from tests.relay_harness import EPOCH_S, World
from tests.simulated_client import SimulatedClient
from tests.simulated_journal import Journal
from tests.simulated_store import Disk, SimulatedStore, SimulatedThread
from tests.store_harness import ImmediateThreadpool, ThreadlessReactor

_MOST_BATCHES = 1000


class SimulatedWorld(World):
    """
    One life of a relay.

    :ivar thread: the store's.
    :ivar disk: what outlives it.
    """

    clients: list[SimulatedClient]  # type: ignore[assignment]

    def __init__(
        self, limits: Limits, disk: Disk, journal: Journal, clock: Clock, skew_s: float
    ) -> None:
        """
        Start a relay.

        :param clock: goes on from the life before.
        :param skew_s: what the machine's clock is late.
        """
        super().__init__(limits, clock=clock, epoch_s=EPOCH_S - skew_s)
        self.disk = disk
        self.journal = journal
        self.thread = SimulatedThread()
        reactor = ThreadlessReactor(clock)
        store = SimulatedStore(reactor, disk, self.thread)
        self.service = AccountService(
            reactor,
            self.relay,
            Path("simulated"),
            hashing_threads=ImmediateThreadpool(),
            store=store,
        )
        self.service.startService()

    @property
    def mailboxes(self) -> Any:
        """The logs of the relay."""
        return self.relay.mailboxes

    def open_client(self, label: str, name: str, port: int) -> SimulatedClient:
        """Connect a client, and let nothing happen yet."""
        client = SimulatedClient(self, self.journal, label, name, port)
        self.clients.append(client)
        return client

    def turn(self) -> bool:
        """One turn of the reactor."""
        moved = super().turn()
        for client in self.clients:
            client.after_turn()
        return moved

    def settle(self) -> None:
        """Let turns pass until nothing more happens without the store and time."""
        super().settle()
        if self.thread.is_idle:
            self.note_durable()

    def run_store(self) -> None:
        """
        Let the store do everything, and the reactor what follows from that.

        :raises PowerLossError: the disk says so.
        """
        self.settle()
        for _ in range(_MOST_BATCHES):
            if self.thread.is_idle:
                return
            self.step_store()
        self.journal.failed("the store is never idle")

    def step_store(self) -> None:
        """
        Let the store run a batch, and the reactor what follows from that.

        :raises PowerLossError: the disk says so.
        """
        if not self.thread.told:
            self.thread.run()
        self.thread.tell()
        self.settle()

    def crash(self) -> None:
        """The process is killed."""
        for client in self.clients:
            client.transport.connected = False
        self.journal.relay_killed([client for client in self.clients if not client.is_over])
        self.clients = []

    def note_durable(self) -> None:
        """Tell of which names it is on the disk how far they have read."""
        for mailbox in self.mailboxes._mailboxes.values():
            if mailbox.is_loaded and not mailbox.has_unwritten_cursor:
                self.journal.in_flight.durable(mailbox.name.shown.decode())

    def what_is_left(self) -> Iterator[tuple[str, dict[str, int]]]:
        """What is counted as unread, or not written, of the names that it is known of."""
        for mailbox in self.mailboxes._mailboxes.values():
            shares = mailbox._unread
            left = {
                "entries": shares.entries,
                "bytes": shares.size_bytes,
                "uncommitted": len(mailbox.uncommitted()),
            }
            if mailbox.is_loaded and any(left.values()):
                yield mailbox.name.shown.decode(), left
