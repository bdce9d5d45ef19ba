"""
What the benchmark counts in rooms is what their members heard.

No figure is looked at: these tests hold on a machine of any speed.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench.dialects import Step
from bench.generating import generate_anew
from bench.naming import BrokenTrafficError
from bench.relay import Relay
from bench.relays import RELAYS
from bench.results import Results
from bench.rooms.dialects import ROOM_DIALECTS, Lines, RoomDialect
from bench.rooms.joining import take_steps
from bench.rooms.paced import Paced
from bench.rooms.party import (
    FAN_OUT,
    Party,
    burst_of,
    delivered_bytes,
    in_rooms_of,
    verify,
)
from bench.rooms.starting import measure_rooms
from bench.rooms.waves import Waves

SIZE = 64
PARTY = Party(rooms=2, members=3, senders=2, burst=4)


def heard(dialect: RoomDialect, party: Party) -> list[list[tuple[int, bytes]]]:
    """Who said what each member hears of one burst of each sender, and the bytes of it."""
    names, texts = party.names, dict[int, list[bytes]]()
    for sender in filter(party.is_sender, range(len(names))):
        data = burst_of(party, dialect, sender, SIZE)
        texts[sender] = [text for _, text in messages(dialect, data, party.room_of(sender))]
    return [
        [
            (sender, dialect.delivered(names[sender], party.room_of(sender), text))
            for number in range(party.burst)
            for sender in texts
            if sender != member and party.room_of(sender) == party.room_of(member)
            for text in [texts[sender][number]]
        ]
        for member in range(len(names))
    ]


def messages(dialect: RoomDialect, data: bytes, room: str) -> Iterator[tuple[int, bytes]]:
    """The number and the text of each message that a sender sends."""
    size = len(data) // data.count(b">")
    empty = dialect.message(room, b"")
    for number, at in enumerate(range(0, len(data), size)):
        message = data[at : at + size]
        # Sizes that stand before a text are longer than before none.
        start = message.index(b">") - 3
        end = start + SIZE
        assert len(message) >= len(empty) + SIZE
        yield number, message[start:end]


class PartyTests(SynchronousTestCase):
    """Who hears what, and what is wrong with what was heard, in every dialect."""

    def test_counts(self) -> None:
        for party, deliveries in (
            (Party(1, 10, 4, 3), 4 * 3 * 9),
            (Party(1, 2, 2, 1), 2),
            (Party(20, 5, 1, 2), 20 * 2 * 4),
            (PARTY, 2 * 2 * 4 * 2),
        ):
            members = range(len(party.names))
            self.assertEqual(party.deliveries, deliveries)
            self.assertEqual(sum(map(party.heard_by, members)), deliveries)

    def test_as_many_members_in_rooms_of_both_sizes(self) -> None:
        large, small = in_rooms_of(10_000, 10_000), in_rooms_of(5, 10_000)
        self.assertEqual((large.rooms, large.members), (1, 10_000))
        self.assertEqual((small.rooms, small.members), (2_000, 5))

    def test_sizes_are_alike(self) -> None:
        for dialect_type in ROOM_DIALECTS.values():
            for party in (FAN_OUT["fanout10"], Party(30, 5, 1, 2), PARTY):
                dialect = dialect_type()
                each = delivered_bytes(party, dialect, SIZE)
                for member, came in enumerate(heard(dialect, party)):
                    self.assertEqual({len(data) for _, data in came} | {each}, {each})
                    self.assertEqual(len(came), party.heard_by(member))

    def verified(self, harm: Callable[[list[tuple[int, bytes]]], None] | None = None) -> None:
        """Each dialect, with one member's part changed."""
        for dialect_type in ROOM_DIALECTS.values():
            dialect = dialect_type()
            all_heard = heard(dialect, PARTY)
            if harm is None:
                verify(PARTY, dialect, SIZE, [joined(came) for came in all_heard])
                continue
            harm(all_heard[1])
            with self.assertRaises(ValueError, msg=harm.__name__):
                verify(PARTY, dialect, SIZE, [joined(came) for came in all_heard])

    def test_all_well(self) -> None:
        self.verified()

    def test_wrong(self) -> None:
        def lost(came: list[tuple[int, bytes]]) -> None:
            del came[-1]

        def twice(came: list[tuple[int, bytes]]) -> None:
            came.append(came[-1])

        def changed(came: list[tuple[int, bytes]]) -> None:
            came[2] = (came[2][0], came[2][1].replace(b"#000", b"$000"))

        def out_of_order(came: list[tuple[int, bytes]]) -> None:
            came[0], came[1] = came[1], came[0]

        for harm in (lost, twice, changed, out_of_order):
            self.verified(harm)

    def test_one_hears_oneself(self) -> None:
        dialect = Lines()
        all_heard = heard(dialect, PARTY)
        all_heard[0] = all_heard[2]
        with self.assertRaisesRegex(ValueError, "m00000 got what m00000 said"):
            verify(PARTY, dialect, SIZE, [joined(came) for came in all_heard])

    def test_another_room(self) -> None:
        dialect = Lines()
        all_heard = heard(dialect, PARTY)
        all_heard[2] = all_heard[5]
        with self.assertRaisesRegex(ValueError, "a member of r0000 got what was for #r0001"):
            verify(PARTY, dialect, SIZE, [joined(came) for came in all_heard])


def joined(came: list[tuple[int, bytes]]) -> bytes:
    return b"".join(data for _, data in came)


class Pairs(SynchronousTestCase):
    """Members whose relay is the test."""

    def setUp(self) -> None:
        self.ours: list[socket.socket] = []
        self.theirs: list[socket.socket] = []

    def pair_all(self, party: Party) -> None:
        for _ in party.names:
            listening = socket.create_server(("127.0.0.1", 0))
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
            listening.close()
            ours.setblocking(False)
            self.ours.append(ours)
            self.theirs.append(theirs)
            self.addCleanup(ours.close)
            self.addCleanup(theirs.close)

    def relay(self, serve: Callable[[], None]) -> None:
        """Have something done meanwhile; the members' connections end with the test."""
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 20.0)


class WavesTests(Pairs):
    """The pace, and what is wrong with what comes."""

    party = Party(1, 3, 1, 4)

    def waves(self, underway: int = 2) -> Waves:
        self.pair_all(self.party)
        waves = Waves(Lines(), self.party, self.ours, SIZE, underway)
        self.addCleanup(waves.close)
        return waves

    def deliver(self, waves: int, more: bytes = b"") -> None:
        """Be the relay for so many waves, and say something more to the second member."""
        burst = burst_of(self.party, Lines(), 0, SIZE)
        data = b"".join(data for _, data in heard(Lines(), self.party)[1])
        for _ in range(waves):
            left = len(burst)
            while left:
                left -= len(self.theirs[0].recv(left))
            # In pieces that are not messages.
            for member in self.theirs[1:]:
                member.sendall(data[:50])
                member.sendall(data[50:])
        self.theirs[1].sendall(more)

    def test_counted(self) -> None:
        waves = self.waves()
        self.relay(lambda: self.deliver(4))
        count, _ = waves.run(keep=True)
        self.assertEqual(count, 1)
        verify(self.party, Lines(), SIZE, [bytes(data) for data in waves.heard])
        count, took_s = waves.run(least=3)
        self.assertEqual((count, waves.heard), (3, []))
        self.assertGreater(took_s, 0)

    def underway(self, count: int) -> None:
        waves = self.waves(count)
        size = len(burst_of(self.party, Lines(), 0, SIZE))

        def serve() -> None:
            left = count * size
            while left:
                left -= len(self.theirs[0].recv(left))
            self.theirs[0].shutdown(socket.SHUT_WR)

        self.relay(serve)
        with self.assertRaises(BrokenTrafficError):
            waves.run(least=3)
        # All that was sent before it saw the end is there.
        self.theirs[0].setblocking(False)
        self.assertRaises(BlockingIOError, self.theirs[0].recv, 1)

    def test_one_is_underway(self) -> None:
        self.underway(1)

    def test_two_are_underway(self) -> None:
        self.underway(2)

    def test_a_byte_too_many(self) -> None:
        waves = self.waves()
        self.relay(lambda: self.deliver(1, b"!"))
        with self.assertRaisesRegex(BrokenTrafficError, "1 bytes too many"):
            waves.run()

    def test_closed(self) -> None:
        waves = self.waves()
        self.theirs[2].close()
        with self.assertRaisesRegex(BrokenTrafficError, "closed"):
            waves.run()


class PacedTests(Pairs):
    """How late lines are."""

    party = Party(1, 3, 1, 1)

    def test_each_and_the_last(self) -> None:
        self.pair_all(self.party)
        line = burst_of(self.party, Lines(), 0, SIZE)
        data = joined(heard(Lines(), self.party)[1])

        def serve() -> None:
            for _ in range(5):
                self.theirs[0].recv(len(line), socket.MSG_WAITALL)
                for member in self.theirs[1:]:
                    member.sendall(data)

        self.relay(serve)
        lateness = Paced(Lines(), self.party, self.ours, SIZE).say(5, 0.001)
        self.assertEqual((len(lateness.each), len(lateness.last)), (10, 5))
        self.assertEqual(list(lateness.each), sorted(lateness.each))
        self.assertEqual(lateness.each[-1], lateness.last[-1])
        self.assertGreater(lateness.each[0], 0)

    def test_something_else_came(self) -> None:
        self.pair_all(self.party)
        data = joined(heard(Lines(), self.party)[1])

        def serve() -> None:
            self.theirs[0].recv(1)
            self.theirs[1].sendall(data + b"!")
            self.theirs[2].sendall(data)

        self.relay(serve)
        with self.assertRaisesRegex(BrokenTrafficError, "something else"):
            Paced(Lines(), self.party, self.ours, SIZE).say(1, 0.0)


class StepsTests(Pairs):
    """Answers that come in pieces, between other things, or not at all."""

    party = Party(1, 2, 1, 1)

    def test_in_pieces(self) -> None:
        self.pair_all(self.party)

        def serve() -> None:
            for member in self.theirs:
                member.recv(5, socket.MSG_WAITALL)
                for piece in (b"!joined #r a\n!en", b"d mem", b"bers\n"):
                    member.sendall(piece)

        self.relay(serve)
        take_steps(self.ours, lambda _: Step(b"/join", b"!end members"), 1)

    def test_refused(self) -> None:
        self.pair_all(self.party)
        self.theirs[0].sendall(b"!error too-many-rooms #r :x\n")
        with self.assertRaisesRegex(BrokenTrafficError, "was told .*too-many-rooms"):
            take_steps(self.ours, lambda _: Step(b"/join", b"!end members"), 1)


class ServerTests(SynchronousTestCase):
    """The generator against real servers, those that are installed."""

    def there(self) -> Iterator[Relay]:
        for name in ("chatrelay", "nats", "ngircd", "mosquitto"):
            if not RELAYS[name].is_missing:
                yield RELAYS[name]

    def measured(self, relay: Relay, party: Party, **task: Any) -> dict[str, Any]:
        return generate_anew(relay, party=astuple(party), size=SIZE, at_once=relay.at_once, **task)

    def test_fan_out(self) -> None:
        for relay in self.there():
            found = self.measured(relay, PARTY, kind="fan_out", seconds=0.0, underway=2)
            self.assertIsNone(found.get("error"), relay.label)
            self.assertEqual((found["waves"], found["verified"]), (3, 32), relay.label)
            self.assertEqual(found["deliveries"], 96)
            self.assertGreater(found["rate"], 0)

    def test_quiet(self) -> None:
        for relay in self.there():
            party = Party(1, 4, 1, 1)
            found = self.measured(relay, party, kind="quiet", lines=5, every_s=0.001)
            self.assertEqual((found.get("error"), found["lines"]), (None, 5), relay.label)
            self.assertLessEqual(found["last_p50_us"], found["last_p99_us"])

    def test_beside_a_deaf_one(self) -> None:
        for deaf_first in (True, False):
            found = self.measured(
                RELAYS["chatrelay"], Party(1, 4, 1, 1),
                kind="beside_a_deaf_one", lines=5, every_s=0.001, turns=1, deaf_first=deaf_first,
            )  # fmt: skip
            self.assertEqual((found.get("error"), found["heard"]), (None, 15))

    def test_rooms_of_both_sizes(self) -> None:
        for number in (0, 1):
            # Clock ticks have to be used for there to be a ratio.
            found = measure_rooms("rooms", RELAYS["chatrelay"], number, seconds=0.4, members=20)
            self.assertIsNone(found.get("error"))
            self.assertEqual(found["large_verified"], 19 * 64)
            self.assertEqual(found["small_verified"], 18 * 64)
            self.assertEqual(found["smaller_verified"], 16 * 64)
            cost = "cpu_s_per_million"
            self.assertEqual(found["ratio"], found[f"smaller_{cost}"] / found[f"large_{cost}"])


class ResultsTests(SynchronousTestCase):
    """What is shown of it."""

    def test_fan_out_stands_beside_each_other_relay(self) -> None:
        results = Results()
        for number, (ours, nats, irc) in enumerate([(8e6, 4e6, 1e6), (9e6, 3e6, 1e6)]):
            results.add("fanout100", 64, "chatrelay", "chatrelay", number, {"rate": ours})
            results.add("fanout100", 64, "nats", "nats-server", number, {"rate": nats})
            results.add("fanout100", 64, "ngircd", "ngIRCd", number, {"rate": irc})
        table = results.table()
        self.assertIn("2.50 (2.00..3.00)", table)
        self.assertRegex(table, r"\(fanout100\) 64 bytes +2\.50 \(2\.00\.\.3\.00\) +8\.50")
