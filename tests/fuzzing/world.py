"""A small relay with a store in memory, for sessions of clients that write anything."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from chatrelay import cutting, lines, protocol, session
from chatrelay.accounts import secrets
from chatrelay.accounts.service import AccountService
from chatrelay.bots.participant import BotParticipant
from chatrelay.bots.reverse import ReverseBot
from chatrelay.flow import Gate
from chatrelay.limits import Limits
from chatrelay.mailbox import mailboxes
from chatrelay.printable import printable
from tests.accounts_harness import SECRET, quick_hash
from tests.fuzzing.cutting import FUNCTIONS
from tests.relay_harness import Client, World
from tests.simulated_store import SimulatedStore, SimulatedThread, new_disk
from tests.store_harness import ImmediateThreadpool, ThreadlessReactor

OPERATOR = b"oper"
OWNED = (b"olga", b"otis", OPERATOR)
# So small that a short input reaches every one of them.
LIMITS = Limits(
    max_line_bytes=256,
    max_targets=4,
    max_watches=3,
    max_rooms_per_client=3,
    max_rooms=4,
    max_kept_rooms=2,
    max_members=4,
    max_refs=6,
    max_clients=5,
    max_devices=2,
    max_unnamed=4,
    max_per_address=2,
    high_water_bytes=2000,
    low_water_bytes=1000,
    max_unsent_bytes=8000,
    max_accounts=5,
    max_mailbox_entries=20,
    max_mailbox_bytes=4000,
    max_store_bytes=1_000_000,
    max_unwritten_bytes=1000,
    max_blocked=3,
    slow_s=3.0,
    stalled_s=10.0,
)
PUBLIC_LIMITS = replace(
    LIMITS,
    connects_per_min=10,
    accounts_per_day=1,
    names_per_min=4,
    lines_per_s=6,
    bytes_per_s=2000,
    burst_s=2,
    idle_timeout_s=30,
)
ADDRESSES = (
    *(IPv4Address("TCP", "127.0.0.1", 1000), IPv4Address("TCP", "127.0.0.1", 1001)),
    *(IPv4Address("TCP", "192.0.2.1", 1002), IPv4Address("TCP", "192.0.2.1", 1003)),
    *(IPv6Address("TCP", "2001:db8::1", 1004), UNIXAddress(None)),
)
# Where secrets are refused.
OPEN_IN_CLEAR = 3
_SHORT_READ_BYTES = 512
_LINES_BETWEEN_CHECKS = 4
_PAGE_BYTES = 600
_MOST_BATCHES = 1000
# Each client has 3 ms of it at most, and ends a line or two later.
_MOST_TURN_S = 0.05
_MOST_LOGGED = 1000


class FuzzedClient(Client):
    """A client of which it is known what it has asked."""

    def __init__(self, world: World, address: Any) -> None:
        super().__init__(world, address)
        self._written = bytearray()
        self._asked: Counter[bytes] = Counter()
        self._counted = 0

    def write(self, data: bytes) -> None:
        """Send one piece, and let nothing happen yet."""
        super().write(data)
        self._written += data

    def write_end(self) -> None:
        """Close the sending side, and let nothing happen yet."""
        self.transport.incoming.append(b"")

    def last_sent(self, beginning: bytes) -> bytes:
        """The last word that it was sent behind `beginning`; empty if there was none."""
        start = self.transport.taken.rfind(beginning)
        if start < 0:
            return b""
        word = bytes(self.transport.taken[start + len(beginning) :])
        return re.split(rb"[; \r\n]", word, maxsplit=1)[0]

    def count_asked(self, ref: bytes) -> int:
        """How many lines were sent with this ref; perhaps more than were read."""
        end = self._written.rfind(b"\n") + 1
        for line in self._written[self._counted : end].split(b"\n"):
            tags = line.partition(b" ")[0].split(b";")
            refs = [tag.partition(b"=")[2] for tag in tags if tag.lstrip(b"@").startswith(b"ref=")]
            self._asked.update(map(bytes, refs[-1:]))
        self._counted = end
        return self._asked[ref]


class FuzzedWorld(World):
    """
    A relay whose log is looked at; a context manager.

    :ivar problems: exceptions that were caught and logged, and what may not be shown.
    :ivar everyone: all clients that ever were.
    :ivar thread: the store's.
    :ivar disk: where it is.
    """

    is_confidential = None

    def __init__(self, limits: Limits, *, is_pure: bool, step_s: float, **options: Any) -> None:
        """
        Prepare it.

        :param is_pure: whether the loops of the quick path are the pure ones.
        :param step_s: what passes between two looks at the relay's clock.
        :param options: more of `tests.relay_harness.World`.
        """
        self.problems: list[str] = []
        self.everyone: list[FuzzedClient] = []
        self._left = ExitStack()
        self._step_s, self._drift_s = step_s, 0.0
        self._limits, self._options = limits, options
        self._is_pure = is_pure
        self._by_number: dict[int, FuzzedClient] = {}

    def __enter__(self) -> FuzzedWorld:
        """Start the relay."""
        patches: list[Any] = [
            mock.patch.object(protocol, "WAITING_READ_BYTES", _SHORT_READ_BYTES),
            mock.patch.object(session, "_LINES_BETWEEN_CHECKS", _LINES_BETWEEN_CHECKS),
            mock.patch.object(mailboxes, "PAGE_BYTES", _PAGE_BYTES),
            mock.patch.object(secrets, "hash_secret", quick_hash),
            mock.patch.object(secrets, "is_right", lambda kept, secret: kept == quick_hash(secret)),
            # Where they stand in memory would be their order in a set.
            mock.patch.object(Gate, "__hash__", _number_of),
        ]
        if self._is_pure:
            patches += [
                mock.patch.object(lines, name, getattr(cutting, name)) for name in FUNCTIONS
            ]
        for patch in patches:
            self._left.enter_context(patch)
        globalLogPublisher.addObserver(self._observe)
        self._left.callback(globalLogPublisher.removeObserver, self._observe)
        self.disk = new_disk(OWNED, quick_hash(SECRET))
        self._left.callback(self.disk.close)
        options = {"operators": [OPERATOR], "seconds": self._seconds, **self._options}
        super().__init__(self._limits, **options)
        self._add_bot()
        self.thread = SimulatedThread()
        reactor = ThreadlessReactor(self.clock)
        self.service = AccountService(
            reactor,
            self.relay,
            Path("simulated"),
            hashing_threads=ImmediateThreadpool(),
            store=SimulatedStore(reactor, self.disk, self.thread),
        )
        self.service.startService()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        self._left.close()

    def client(self, number: int) -> FuzzedClient:
        """The client with this number; one that is not connected connects."""
        client = self._by_number.get(number)
        if client is None or not client.is_connected:
            client = self._by_number[number] = FuzzedClient(self, ADDRESSES[number])
            self.everyone.append(client)
            if client.session is not None:
                client.session.is_confidential = number != OPEN_IN_CLEAR
            self.clients.append(client)
        return client

    def run_store(self, batches: int = _MOST_BATCHES) -> None:
        """Let the store run so many batches, or all, and the reactor what follows from that."""
        self.settle()
        for _ in range(batches):
            if self.thread.is_idle:
                return
            if not self.thread.told:
                self.thread.run()
            self.thread.tell()
            self.settle()
        assert batches < _MOST_BATCHES, "the store is never idle"

    def turn(self) -> bool:
        """One turn of the reactor, in which nobody has more than his share."""
        before_s = self._drift_s
        moved = super().turn()
        took_s = self._drift_s - before_s
        if took_s > _MOST_TURN_S:
            self.problems.append(f"a turn took {took_s:.3f} s")
        return moved

    def _seconds(self) -> float:
        self._drift_s += self._step_s
        return self.clock.seconds() + self._drift_s

    def _add_bot(self) -> None:
        def heard(sender: Any, bot: Any, text: bytes) -> None:
            self.relay.console.bot_received(bot.name.shown, sender.name.shown, text)

        relay = self.relay
        bot = BotParticipant(ReverseBot(), relay.find, relay.wall_clock, heard, relay.limits)
        relay.registry.add_bot(bot)
        bot.start()

    def _observe(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.problems.append(event["log_failure"].getTraceback())
        elif event.get("log_namespace") == "chatrelay":
            shown = formatEvent(event)
            if printable(shown.encode(), len(shown)) != shown or len(shown) > _MOST_LOGGED:
                self.problems.append(f"logged: {shown!a}")


def _number_of(gate: Gate) -> int:
    door: Any = gate._connection
    transport = getattr(door, "transport", None)  # A room has none.
    return 0 if transport is None else ADDRESSES.index(transport.address)
