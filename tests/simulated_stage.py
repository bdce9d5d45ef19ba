"""
What a simulation happens on: one relay after another on the same disk, its clients, and what
watches that nothing happens that may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from chatrelay.accounts import secrets
from chatrelay.flow import Gate
from chatrelay.limits import Limits
from chatrelay.mailbox import mailboxes
from chatrelay.rooms.audience import MajorityGate
from tests.accounts_harness import SECRET, quick_hash
from tests.simulated_client import SimulatedClient
from tests.simulated_journal import ROOM, Journal
from tests.simulated_store import new_disk
from tests.simulated_world import SimulatedWorld

_DRAIN_ROUNDS = 12


class Stage:
    """
    A relay, its store and its clients; a context manager.

    :ivar names: the owned names.
    :ivar acking: those of them whose connections all have the cap ``ack``; the others' have not.
    :ivar journal: what happened, and what should not have.
    :ivar disk: where the store is.
    :ivar clock: the time.
    :ivar skew_s: how far the machine's clock is behind it.
    :ivar world: the relay of now.
    """

    world: SimulatedWorld

    def __init__(
        self,
        names: Sequence[str],
        *,
        acking: Iterable[str] = (),
        free: Iterable[str] = (),
        limits: Limits | None = None,
        page_bytes: int = mailboxes.PAGE_BYTES,
        has_slow_devices: bool = False,
        has_room: bool = False,
        refuses_at_times: bool = False,
        verbose: bool = False,
    ) -> None:
        """
        Prepare it.

        :param free: names that nobody owns.
        :param page_bytes: what is read of a log at once.
        :param has_slow_devices: whether of several connections of a name that does not ack
            some take less than others; what is judged by what clients see alone is judged
            less strictly then.
        :param has_room: whether all owned names belong to a kept room, `ROOM`.
        :param refuses_at_times: as for `tests.delivery_checker.Checker`.
        """
        self.names = tuple(names)
        self.acking = frozenset(acking)
        self.limits = limits or Limits()
        self.has_slow_devices = has_slow_devices
        self.journal = Journal(
            self.acking,
            frozenset(names) - self.acking,
            frozenset(free),
            members=self.names if has_room else (),
            has_slow_devices=has_slow_devices,
            refuses_at_times=refuses_at_times,
            verbose=verbose,
        )
        self.has_room = has_room
        written = [name.encode() for name in names]
        self.disk = new_disk(written, quick_hash(SECRET), ROOM.encode() if has_room else b"")
        self.clock = Clock()
        self.skew_s = 0.0
        self._page_bytes = page_bytes
        self._labels = 0
        self._cleanups = ExitStack()

    def __enter__(self) -> Stage:
        """Start the first relay."""
        patches = (
            mock.patch.object(mailboxes, "PAGE_BYTES", self._page_bytes),
            mock.patch.object(secrets, "hash_secret", quick_hash),
            mock.patch.object(secrets, "is_right", lambda kept, secret: kept == quick_hash(secret)),
            # Where they stand in memory would be their order in a set.
            mock.patch.object(Gate, "__hash__", _port_of),
        )
        for patch in patches:
            self._cleanups.enter_context(patch)
        globalLogPublisher.addObserver(self._observe)
        self._cleanups.callback(globalLogPublisher.removeObserver, self._observe)
        self._cleanups.callback(self.disk.close)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        self._cleanups.close()

    # The machine.

    def start(self) -> None:
        """Start a relay."""
        self.disk.repair()
        self.world = SimulatedWorld(self.limits, self.disk, self.journal, self.clock, self.skew_s)

    def crash(self, reads_first: Callable[[], bool] = lambda: True) -> None:
        """
        Kill the relay, and start it again.

        :param reads_first: whether a client reads what its network has.
        """
        for client in self.world.clients:
            if not client.is_dead and not client.is_over and reads_first():
                client.read()
        self.world.crash()
        self.clock = Clock()
        self.clock.rightNow = self.world.clock.seconds()
        self.start()

    def stop(self) -> None:
        """Stop the relay in order, and start it again."""
        self.disk.repair()
        world = self.world
        gone = world.factory.shut_down()
        for _ in range(_DRAIN_ROUNDS):
            world.run_store()
            if gone.called:
                break
            self.pass_time(1.0)
        if not gone.called:
            self.journal.failed("the relay does not stop")
        stopped = world.service.stopService()
        while not world.thread.is_idle:
            if not world.thread.told:
                world.thread.run()
            world.thread.tell()
        if not stopped.called:
            self.journal.failed("the store does not stop")
        world.note_durable()
        self.crash()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.world.pass_time(seconds)
        self.journal.now_s = self.clock.seconds()

    def fail_store(self, statements: int | None = None) -> None:
        """
        Let the store run what it was given on a disk that fails.

        :param statements: it is full after so many that write; ``None`` if nothing can be
            read, either.
        """
        self.disk.is_unreadable = statements is None
        self.disk.statements_until_full = statements
        thread = self.world.thread
        if thread.given and not thread.told:
            thread.run()
        self.disk.repair()

    # The clients.

    def connect(self, name: str, *caps: str) -> SimulatedClient:
        """Connect a client, that will have a name and caps; ``ack`` if its name acks."""
        self._labels += 1
        label = f"{name}-{self._labels}"
        self.journal.connected(label, name)
        client = self.world.open_client(label, name, 20_000 + self._labels)
        if name in self.acking:
            caps = (*caps, "ack")
        if caps:
            client.write_line("/caps " + " ".join(caps))
        client.write_line(f"{name} {SECRET.decode()}" if name in self.names else name)
        self.journal.trace("    %s with %s", label, caps)
        return client

    def join(self, name: str, *caps: str) -> SimulatedClient:
        """Connect a client, and let it have its name."""
        client = self.connect(name, *caps)
        self.world.run_store()
        return client

    def clients(self) -> list[SimulatedClient]:
        """Those whose connections are there."""
        return [client for client in self.world.clients if not client.is_over]

    def write(self, client: SimulatedClient, ref: str, targets: list[str], text: str) -> None:
        """
        Write a message; nothing else happens yet.

        :param ref: none if empty; begins with ``m``.
        :param text: one that was not written by anybody else, or under another ref.
        """
        self.journal.asked(client, ref, targets, text)
        self.journal.trace("    %s > %s to %s: %s", client.label, ref, targets, text[:40])
        client.write_line(f"%{','.join(targets)}%{text}", ref)

    def ack(self, client: SimulatedClient, id_: str) -> None:
        """Write an ack of what was read; nothing else happens yet."""
        self.journal.trace("    %s acks %s", client.label, id_)
        self.journal.ack_asked(client, id_)
        client.acked_id = id_
        client.write_line(f"/ack {id_}", "k" + id_)

    def cut(self, client: SimulatedClient) -> None:
        """Break a connection, that is not read any more."""
        client.is_dead = True
        client.cut()

    def quit(self, client: SimulatedClient) -> None:
        """Let a client say that it leaves."""
        client.is_leaving = True
        client.write_line("/quit")

    # The end.

    def finish(self) -> list[str]:
        """
        Let everybody come back, read everything and ack it: nothing may be left.

        :returns: what should not have been.
        """
        self.disk.repair()
        for client in self.clients():
            client.transport.room = None
            if client.is_dead:
                client.cut()
            else:
                client.reads_at_once = True
                client.read()
        self._come_to_rest()
        for name in self.names:
            self.journal.trace("  %s comes back", name)
            self._come_back(name)
            self._check_nothing_comes_again(name)
        self._come_to_rest()
        self._check_empty()
        if not self.journal.violations:
            self.journal.finish()
        return self.journal.violations

    def _come_back(self, name: str) -> None:
        self._all_quit(name)
        client = self.connect(name, "receipts")
        for _ in range(_DRAIN_ROUNDS):
            self._come_to_rest()
            if client.last_id is None or client.last_id == client.acked_id:
                break
            if name in self.acking:
                self.ack(client, client.last_id)
        if self.limits.history_s:
            client.shows_all = True
            client.write_line(f"/history {ROOM} 200" if self.has_room else "/history 200", "h")
        self._come_to_rest()

    def _check_nothing_comes_again(self, name: str) -> None:
        self._all_quit(name)
        client = self.connect(name)
        self._come_to_rest()
        if client.reader.texts:
            self.journal.failed(f"{name} had read everything, and got {[*client.reader.texts]}")

    def _all_quit(self, name: str) -> None:
        for client in self.clients():
            if client.name == name:
                client.read()
                self.quit(client)
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        # What takes a second, or its time to be closed, has it.
        for _ in range(2):
            self.world.run_store()
            self.pass_time(1.0)
        self.world.run_store()

    def _check_empty(self) -> None:
        for name, left in self.world.what_is_left():
            self.journal.failed(f"{name} has read everything, and there is left: {left}")
        for client in self.clients():
            session = client.session
            if session is not None and session.gate.held:
                self.journal.failed(f"{client.label} is held for ever: {session.gate._holders}")

    def _observe(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.journal.failed("it was logged: " + event["log_failure"].getTraceback())


def _port_of(gate: Gate) -> int:
    if isinstance(gate, MajorityGate):
        return 0
    port: int = gate._connection.transport.address.port  # type: ignore[attr-defined]
    return port
