"""
Flow with real processes and real kernels: whoever reads slowly slows only those who
write to it, and costs bounded memory.

The figures that a run measures are in its log (``-s`` with pytest, ``_trial_temp/test.log``
with trial).
"""

from __future__ import annotations

import hashlib
import random
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from twisted.python import log

from tests.integration.relay_process import DEADLINE_S, Client, RelayTestCase, eventually

KIB = 1024
MIB = 1024 * KIB
MBIT_PER_S = 1_000_000 // 8


class Numbered:
    """
    A long stream of lines of 1 to 8 KiB, each with a number: as it is sent and as it arrives.

    :ivar size_bytes: of the whole stream; sent and arriving lines are of one length.
    """

    _NUMBER = b"########"

    def __init__(self, sender: str, recipient: str, least_bytes: int) -> None:
        assert len(sender) == len(recipient)
        chance = random.Random(1)
        texts = []
        for _ in range(64):
            words = chance.randbytes(chance.randrange(500, 4000)).hex().encode()
            texts.append(self._NUMBER + b" " + words)
        self._sent = b"".join(b"%%%b%%%b\n" % (recipient.encode(), text) for text in texts)
        self._arriving = b"".join(b"%%%b%%%b\n" % (sender.encode(), text) for text in texts)
        self._count = -(-least_bytes // len(self._sent))
        self.size_bytes = self._count * len(self._sent)

    def sent(self) -> Iterator[bytes]:
        """What is sent, in pieces."""
        for number in range(self._count):
            yield self._sent.replace(self._NUMBER, b"%08d" % number)

    def digest_on_arrival(self) -> str:
        """The digest of what has to arrive."""
        digest = hashlib.blake2b()
        for number in range(self._count):
            digest.update(self._arriving.replace(self._NUMBER, b"%08d" % number))
        return digest.hexdigest()


class Sending(threading.Thread):
    """
    A client that sends for as long as it is let.

    :ivar sent_bytes: how much it could send so far.
    :ivar ended: set at the end.
    """

    def __init__(self, client: Client, pieces: Iterator[bytes]) -> None:
        super().__init__(daemon=True)
        self.sent_bytes = 0
        self.ended = threading.Event()
        self._client = client
        self._pieces = pieces
        self.start()

    def run(self) -> None:
        """Send everything, or up to a broken connection."""
        try:
            for piece in self._pieces:
                view = memoryview(piece)
                while view:
                    sent = self._client.socket.send(view)
                    self.sent_bytes += sent
                    view = view[sent:]
        except OSError:
            pass  # The test is over, or it sees what is missing.
        finally:
            self.ended.set()


class Reading:
    """A client that reads at a pace, and remembers how much and the digest of it."""

    def __init__(self, client: Client) -> None:
        self.size_bytes = 0
        self.digest = hashlib.blake2b()
        self._client = client

    def steadily(self, bytes_per_s: float, is_enough: Callable[[], bool]) -> None:
        """Read small pieces, each when it is due."""
        began_s = time.monotonic()
        read = 0
        while not is_enough():
            due = int((time.monotonic() - began_s) * bytes_per_s) - read
            if due < bytes_per_s / 20:
                select.select([], [], [], 0.02)
                continue
            read += self._read(due)

    def fast(self, size_bytes: int) -> None:
        """Read as fast as possible up to this size altogether."""
        while self.size_bytes < size_bytes:
            self._read(min(MIB, size_bytes - self.size_bytes))

    def _read(self, most: int) -> int:
        data = self._client.socket.recv(most)
        if not data:
            raise EOFError(f"closed after {self.size_bytes} bytes")
        self.digest.update(data)
        self.size_bytes += len(data)
        return len(data)


def repeat(line: str) -> Iterator[bytes]:
    """One line without end, in pieces of about 64 KiB."""
    piece = (line + "\n").encode() * (1 + 64 * KIB // len(line))
    while True:
        yield piece


def percentile(figures: list[float], percent: float) -> float:
    """The figure that so many of a hundred do not exceed."""
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * percent / 100))]


class SlowReaders(RelayTestCase):
    """Readers that are slow for a while, slow for ever, and dead."""

    is_executed = True

    def test_500_mb_to_a_reader_that_sleeps_and_is_slow(self) -> None:
        relay = self.relay()
        address = relay.address()
        alice = self.connect(address, "alice")
        robin = self.connect(address, "robin")
        stream = Numbered("alice", "robin", 500_000_000)
        memory_before = relay.memory_bytes()
        sending = Sending(alice, stream.sent())
        # The reader does not read for 8 s: no more can be sent than is buffered on the way.
        self.assertFalse(sending.ended.wait(8.0))
        sent_while_asleep = sending.sent_bytes
        self.assertLess(sent_while_asleep, 100_000_000)
        self.assertGreater(sent_while_asleep, MIB)
        reading = Reading(robin)
        slow_until_s = time.monotonic() + 4.0
        reading.steadily(20 * MBIT_PER_S, lambda: time.monotonic() > slow_until_s)
        self.assertFalse(sending.ended.is_set())
        began_s, fast_from_bytes = time.monotonic(), reading.size_bytes
        reading.fast(stream.size_bytes)
        rate = (reading.size_bytes - fast_from_bytes) / (time.monotonic() - began_s)
        self.assertTrue(sending.ended.wait(DEADLINE_S))
        self.assertEqual(reading.digest.hexdigest(), stream.digest_on_arrival())
        alice.ping()
        robin.ping()
        most = relay.memory_bytes("VmHWM")
        log.msg(
            f"500 MB: {sent_while_asleep / 1e6:.1f} MB sent while the reader slept, then"
            f" {rate / 1e6:.0f} MB/s; the relay had {memory_before / MIB:.0f} MiB before"
            f" and {most / MIB:.0f} MiB at most"
        )
        self.assertLess(most, 150 * MIB)
        self.assertNotIn("slow-consumer", relay.output)

    def test_one_that_never_reads_is_aborted_and_steady_ones_stay(self) -> None:
        relay = self.relay()
        address = relay.address()
        # A second and a half of its pace is the least that kernels let a reader buffer;
        # by default they let it buffer a minute's.
        steady = {
            "steady-small": self.connect(address, "steady-small", receive_buffer_bytes=16 * KIB),
            "steady-large": self.connect(address, "steady-large"),
        }
        dead = self.connect(address, "dead", receive_buffer_bytes=16 * KIB)
        senders = {name: self.connect(address, f"to-{name}") for name in [*steady, "dead"]}
        ann, ben = self.connect(address, "ann"), self.connect(address, "ben")
        sending = {
            name: Sending(client, repeat(f"%{name}%" + 4000 * "x"))
            for name, client in senders.items()
            if name != "dead"
        }
        to_dead = senders["dead"]
        began_s = time.monotonic()
        is_over = threading.Event()
        failures: list[BaseException] = []

        def read(client: Client) -> None:
            try:
                Reading(client).steadily(100 * KIB, is_over.is_set)
            except BaseException as error:
                failures.append(error)

        readers = [
            threading.Thread(target=read, args=[client], daemon=True) for client in steady.values()
        ]
        for reader in readers:
            reader.start()
        to_dead.socket.settimeout(1.0)
        with self.assertRaises(TimeoutError):
            for piece in repeat("%dead%" + 4000 * "x"):
                to_dead.send_bytes(piece)
        to_dead.socket.settimeout(DEADLINE_S)
        # Nobody else waits for those who are held.
        round_trips = []
        while time.monotonic() < began_s + 24.0:
            sent_s = time.perf_counter()
            ann.send("%ben%ping")
            ben.expect("%ann%ping")
            ben.send("%ann%pong")
            ann.expect("%ben%pong")
            round_trips.append(time.perf_counter() - sent_s)
            # A hundred a second see it as well as thousands, and leave the machine to others.
            self.assertFalse(sending["steady-small"].ended.wait(0.01))
        relay.wait_for_log("^dead at .* left after .*slow-consumer")
        # Its sender goes on: what it has still to say is answered.
        to_dead.send_bytes(b"x\n")  # the end of the line that could not be sent whole
        to_dead.expect("!error unknown-name dead ")
        to_dead.ping()
        dead.rest()
        for name, thread in sending.items():
            self.assertFalse(thread.ended.is_set(), name)
        is_over.set()
        for reader in readers:
            reader.join(DEADLINE_S)
        self.assertEqual(failures, [])
        self.assertEqual(relay.output.count("slow-consumer"), 1)
        log.msg(
            f"beside held senders: {len(round_trips)} exchanges,"
            f" p50 {percentile(round_trips, 50) * 1e3:.2f} ms,"
            f" p99 {percentile(round_trips, 99) * 1e3:.2f} ms,"
            f" longest {max(round_trips) * 1e3:.1f} ms;"
            f" {relay.memory_bytes('VmHWM') / MIB:.0f} MiB at most"
        )
        self.assertLess(relay.memory_bytes("VmHWM"), 150 * MIB)

    def test_all_backlogs_together_are_bounded_and_the_fullest_goes(self) -> None:
        relay = self.relay("--max-unsent", str(16 * MIB), "--high-water", str(1024 * MIB))
        address = relay.address()
        lesser = self.connect(address, "lesser", receive_buffer_bytes=16 * KIB)
        fuller = self.connect(address, "fuller", receive_buffer_bytes=16 * KIB)
        sender = self.connect(address, "sender")
        sender.send(*(f"%lesser%{number} " + 1000 * "x" for number in range(8 * KIB)))
        sender.ping()
        # Kernels take some MiB of this, too.
        sender.send(*(f"%fuller%{number} " + 1000 * "x" for number in range(24 * KIB)))
        relay.wait_for_log("^fuller at .* left .*slow-consumer")
        sender.expect("!error unknown-name fuller ")
        for number in range(8 * KIB):
            self.assertEqual(lesser.line(), f"%sender%{number} " + 1000 * "x")
        fuller.rest()
        self.assertEqual(relay.output.count("slow-consumer"), 1)
        self.assertLess(relay.memory_bytes("VmHWM"), 150 * MIB)


class Busy(RelayTestCase):
    """Clients that ask for more work than there is time for."""

    is_executed = True

    def test_lines_are_not_read_faster_than_they_are_served(self) -> None:
        relay = self.relay()
        address = relay.address()
        busy = [self.connect(address, f"busy{index}") for index in range(16)]
        ann = self.connect(address, "ann")
        before = relay.memory_bytes()
        for client in busy:
            Sending(client, repeat("/pong"))
        round_trips = []
        ends_s = time.monotonic() + 3.0
        while time.monotonic() < ends_s:
            round_trips.append(ann.ping())
        for client in busy:
            client.reset()
        grown = relay.memory_bytes("VmHWM") - before
        log.msg(
            f"16 busy clients: the relay grew by {grown / MIB:.1f} MiB; another's round trip"
            f" p50 {percentile(round_trips, 50) * 1e3:.1f} ms,"
            f" longest {max(round_trips) * 1e3:.1f} ms"
        )
        self.assertLess(grown, 12 * MIB)


class Crowds(RelayTestCase):
    """A thousand clients."""

    is_executed = True

    COUNT = 1000

    def crowd(self, address: tuple[str, int]) -> list[Client]:
        self.allow_files(self.COUNT + 200)
        clients = [self.connect(address) for _ in range(self.COUNT)]
        for index, client in enumerate(clients):
            client.send(f"crowd{index}")
        for client in clients:
            client.expect("!welcome ")
        return clients

    def test_64_kib_of_who_from_one_that_does_not_read(self) -> None:
        relay = self.relay()
        address = relay.address()
        self.crowd(address)
        ann = self.connect(address, "ann")
        ann.send("/who")
        ann.expect("!end who 1002")
        idle = [ann.ping() for _ in range(200)]
        before = relay.memory_bytes()
        asking = self.connect(address, "asking")
        asking.send_bytes(b"/who\n" * (64 * KIB // 5))
        while_it_asks = []
        ends_s = time.monotonic() + 3.0
        while time.monotonic() < ends_s:
            while_it_asks.append(ann.ping())
        grown = relay.memory_bytes("VmHWM") - before
        log.msg(
            f"64 KiB of /who, 1,000 clients: another's round trip"
            f" p50 {percentile(while_it_asks, 50) * 1e3:.2f} ms,"
            f" p99 {percentile(while_it_asks, 99) * 1e3:.2f} ms,"
            f" longest {max(while_it_asks) * 1e3:.1f} ms"
            f" (p50 {percentile(idle, 50) * 1e3:.2f} ms when idle);"
            f" the relay grew by {grown / MIB:.1f} MiB"
        )
        self.assertLess(max(while_it_asks), 1.0)
        self.assertLess(grown, 32 * MIB)
        # Held, not forgotten: whoever reads gets every answer.
        for _ in range(20):
            asking.expect("!end who 100")

    def test_a_thousand_send_at_once_to_one(self) -> None:
        relay = self.relay()
        address = relay.address()
        crowd = self.crowd(address)
        robin = self.connect(address, "robin", receive_buffer_bytes=16 * KIB)
        ann = self.connect(address, "ann")
        before = relay.memory_bytes()
        lines_each = 100
        load = (b"%robin%" + 4000 * b"x" + b"\n") * lines_each
        remaining = {client.socket: memoryview(load) for client in crowd}
        is_over = threading.Event()

        def send_all() -> None:
            with selectors.DefaultSelector() as selector:
                for sending in remaining:
                    # What kernels take on the way is not what the relay holds back.
                    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
                    sending.setblocking(False)
                    selector.register(sending, selectors.EVENT_WRITE)
                while remaining and not is_over.is_set():
                    for key, _ in selector.select(0.1):
                        sending = key.fileobj
                        assert isinstance(sending, socket.socket)
                        remaining[sending] = remaining[sending][sending.send(remaining[sending]) :]
                        if not remaining[sending]:
                            selector.unregister(sending)
                            del remaining[sending]

        thread = threading.Thread(target=send_all, daemon=True)
        thread.start()
        self.addCleanup(thread.join, DEADLINE_S)
        self.addCleanup(is_over.set)
        # While it does not read they are held, and everybody else is served.
        round_trips = []
        ends_s = time.monotonic() + 4.0
        while time.monotonic() < ends_s:
            round_trips.append(ann.ping())
        grown = relay.memory_bytes("VmHWM") - before
        self.assertGreater(len(remaining), self.COUNT / 2)
        log.msg(
            f"1,000 senders to one: the relay grew by {grown / MIB:.0f} MiB; another's round trip"
            f" p50 {percentile(round_trips, 50) * 1e3:.2f} ms,"
            f" p99 {percentile(round_trips, 99) * 1e3:.2f} ms,"
            f" longest {max(round_trips) * 1e3:.1f} ms"
        )
        # One read of each, of all the 400 MB.
        self.assertLess(grown, 200 * MIB)
        counts: dict[str, int] = {}
        for _ in range(self.COUNT * lines_each):
            name = robin.expect("%crowd").split("%")[1]
            counts[name] = counts.get(name, 0) + 1
        self.assertEqual(set(counts.values()), {lines_each})
        self.assertEqual(len(counts), self.COUNT)
        eventually("all is sent", lambda: not remaining)
