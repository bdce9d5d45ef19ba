"""What waits to be written to one client: counted, in pieces, in order."""

from __future__ import annotations

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.flow import Flow, Gate
from chatrelay.limits import Limits
from chatrelay.outbox import PIECE_BYTES, Outbox
from chatrelay.turn import Turn


class Socket(FileDescriptor):
    """A descriptor as TCP's is, whose socket takes what a test says."""

    connected = 1

    def __init__(self) -> None:
        self.room = 0
        self.taken = bytearray()
        self.error: Exception | None = None
        super().__init__(self)

    def writeSomeData(self, data: bytes) -> int | BaseException:
        if self.error is not None:
            return self.error
        size = min(len(data), self.room)
        self.room -= size
        self.taken += data[:size]
        return size

    # Of the reactor, only this.

    def addWriter(self, _descriptor: object) -> None:
        pass

    removeWriter = removeReader = addReader = addWriter  # noqa: N815 - Twisted's names


class Transport:
    """One that is asked for nothing but to write: TLS, or another door's."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producers: list[object] = []

    def registerProducer(self, producer: Outbox, streaming: bool) -> None:
        assert not streaming
        self.producers.append(producer)
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producers.pop()

    def write(self, data: bytes) -> None:
        self.written.append(data)


class OutboxTests(SynchronousTestCase):
    """Through a transport that only buffers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.flow = Flow(Limits(high_water_bytes=1000, low_water_bytes=500), lambda: 0.0)
        self.transport = Transport()
        self.ended = 0
        self.outbox = Outbox(self.transport, self.flow, Turn(self.clock), self)

    def end_slow(self) -> None:
        self.ended += 1

    def test_what_is_written_in_one_turn_is_one_piece(self) -> None:
        self.outbox.write(b"a")
        self.outbox.write(b"b")
        self.assertEqual(self.transport.written, [])
        self.clock.advance(0)
        self.assertEqual(self.transport.written, [b"ab"])

    def test_until_the_transport_is_empty_nothing_more_is_handed_over(self) -> None:
        self.outbox.write(b"a")
        self.clock.advance(0)
        self.outbox.write(b"b")
        self.outbox.write(b"c")
        self.clock.advance(0)
        self.assertEqual(self.transport.written, [b"a"])
        self.assertEqual(self.outbox.unsent_bytes, 3)
        self.outbox.resumeProducing()
        self.assertEqual(self.transport.written, [b"a", b"bc"])
        self.assertEqual(self.outbox.unsent_bytes, 2)
        self.outbox.resumeProducing()
        self.assertEqual(self.outbox.unsent_bytes, 0)

    def test_pieces_are_bounded(self) -> None:
        size = 10_000
        for _ in range(100):
            self.outbox.write(b"x" * size)
        self.clock.advance(0)
        while self.outbox.unsent_bytes:
            self.assertLess(len(self.transport.written[-1]), PIECE_BYTES + size)
            self.outbox.resumeProducing()
        self.assertEqual(sum(map(len, self.transport.written)), 100 * size)

    def test_all_bytes_are_counted_here_and_in_the_flow(self) -> None:
        other = Outbox(Transport(), self.flow, Turn(self.clock), self)
        self.outbox.write(b"abc")
        other.write(b"de")
        self.assertEqual((self.outbox.unsent_bytes, self.outbox.written_bytes), (3, 3))
        self.assertEqual(self.flow.unsent_bytes, 5)
        self.clock.advance(0)
        self.outbox.resumeProducing()
        self.assertEqual((self.outbox.unsent_bytes, self.outbox.written_bytes), (0, 3))
        self.assertEqual(self.outbox.taken_bytes(), 3)
        self.assertEqual(self.flow.unsent_bytes, 2)

    def test_finish_hands_everything_over_and_lets_go(self) -> None:
        self.outbox.write(b"a")
        self.clock.advance(0)
        self.outbox.write(b"b")
        self.outbox.write(b"c")
        ended: list[bool] = []
        self.outbox.finish(lambda: ended.append(True))
        # Until it is sent it is counted, and nothing is closed.
        self.assertEqual((self.flow.unsent_bytes, ended), (3, []))
        self.outbox.resumeProducing()
        self.assertEqual(b"".join(self.transport.written), b"abc")
        self.assertEqual((self.flow.unsent_bytes, ended), (2, []))
        self.outbox.resumeProducing()
        self.assertEqual(self.transport.producers, [])
        self.assertEqual((self.flow.unsent_bytes, ended), (0, [True]))
        self.outbox.finish(lambda: ended.append(False))
        for again in (self.outbox.discard, self.outbox.resumeProducing):
            again()
        self.assertEqual(ended, [True])
        self.outbox.write(b"d")
        self.clock.advance(0)
        self.assertEqual(b"".join(self.transport.written), b"abc")
        self.assertEqual(self.flow.unsent_bytes, 0)

    def test_discard_drops_what_waits(self) -> None:
        for drop in (Outbox.discard, Outbox.stopProducing):
            self.setUp()
            self.outbox.write(b"a")
            drop(self.outbox)
            self.clock.advance(0)
            self.outbox.write(b"b")
            self.outbox.finish(self.fail)
            self.clock.advance(0)
            self.assertEqual(self.transport.written, [])
            self.assertEqual((self.outbox.unsent_bytes, self.flow.unsent_bytes), (0, 0))

    def test_a_gate_is_released_when_enough_was_sent(self) -> None:
        gate = Gate(ReadAlways())
        self.outbox.write(b"x" * 1001)
        self.clock.advance(0)
        self.outbox.write(b"y" * 500)
        self.flow.over_mark(self.outbox, gate)
        self.outbox.resumeProducing()
        self.assertTrue(gate.held)
        self.outbox.resumeProducing()
        self.assertFalse(gate.held)

    def test_a_gate_is_released_when_it_is_finished_or_dropped(self) -> None:
        for leave in (Outbox.discard, lambda outbox: outbox.finish(lambda: None)):
            self.setUp()
            gate = Gate(ReadAlways())
            self.outbox.write(b"x" * 1001)
            self.flow.over_mark(self.outbox, gate)
            leave(self.outbox)
            self.assertFalse(gate.held)

    def test_the_end_of_a_slow_one(self) -> None:
        self.outbox.end_slow()
        self.assertEqual(self.ended, 1)

    def test_one_that_fails_does_not_keep_others_from_being_sent(self) -> None:
        turn = Turn(self.clock)
        bad, good = Transport(), Transport()
        outboxes = [Outbox(transport, self.flow, turn, self) for transport in (bad, good)]
        bad.write = None  # type: ignore[assignment,method-assign]
        for outbox in outboxes:
            outbox.write(b"a")
        self.clock.advance(0)
        self.assertEqual(good.written, [b"a"])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class SocketTests(SynchronousTestCase):
    """Through a descriptor, whose socket is written to at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.flow = Flow(Limits(), lambda: 0.0)
        self.socket = Socket()
        self.outbox = Outbox(self.socket, self.flow, Turn(self.clock), self)

    def end_slow(self) -> None:
        raise AssertionError("nothing here is slow")

    def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.outbox.write(piece)
        self.clock.advance(0)

    def test_what_the_socket_takes_is_sent_without_an_event(self) -> None:
        self.socket.room = 100
        self.write(b"a", b"b")
        self.assertEqual(self.socket.taken, b"ab")
        self.assertEqual(self.flow.unsent_bytes, 0)

    def test_the_rest_waits_for_one(self) -> None:
        self.socket.room = 3
        self.write(b"abcde")
        self.write(b"fg")
        self.assertEqual(self.socket.taken, b"abc")
        self.assertEqual(self.outbox.unsent_bytes, 4)
        self.socket.room = 100
        self.socket.doWrite()
        self.assertEqual(self.socket.taken, b"abcdefg")
        self.assertEqual(self.flow.unsent_bytes, 0)

    def test_more_than_a_piece_in_order(self) -> None:
        self.socket.room = 10**9
        pieces = [b"%08d" % number * 1000 for number in range(60)]
        self.write(*pieces)
        self.assertEqual(self.socket.taken, b"".join(pieces))
        self.assertEqual(self.flow.unsent_bytes, 0)

    def test_whatever_the_socket_takes_order_and_count_are_right(self) -> None:
        written = b""
        for number in range(400):
            self.socket.room = (0, 1, 7, 3000, 50_000)[number * 7 % 5]
            data = b"%d " % number * (number % 50)
            written += data
            self.write(data)
            if number % 3:
                self.socket.doWrite()
                self.clock.advance(0)
            self.assertTrue(written.startswith(self.socket.taken))
            self.assertEqual(self.flow.unsent_bytes, self.outbox.unsent_bytes)
            self.assertGreaterEqual(self.outbox.unsent_bytes, len(written) - len(self.socket.taken))
        self.socket.room = 10**9
        for _ in range(3):
            self.socket.doWrite()
            self.clock.advance(0)
        self.assertEqual(self.socket.taken, written)
        self.assertEqual(self.outbox.unsent_bytes, 0)

    def test_an_error_is_left_to_the_transport(self) -> None:
        self.socket.error = ConnectionLost()
        self.write(b"abc")
        self.assertEqual(self.outbox.unsent_bytes, 3)
        self.assertIs(self.socket.doWrite(), self.socket.error)
        self.socket.connectionLost(self.socket.error)
        self.assertEqual(self.flow.unsent_bytes, 0)

    def test_it_does_not_keep_open_what_something_else_closes(self) -> None:
        self.socket.room = 2
        self.write(b"abc")
        self.socket.loseConnection()
        self.socket.room = 100
        self.assertIsNone(self.socket.doWrite())
        self.assertIsNotNone(self.socket.doWrite())
        self.assertEqual(self.socket.taken, b"abc")
        self.assertEqual((self.flow.unsent_bytes, self.flow._backlogs), (0, set()))

    def test_finish_sends_what_the_socket_did_not_take(self) -> None:
        self.socket.room = 2
        self.write(b"abc")
        self.outbox.write(b"de")
        ended: list[bool] = []
        self.outbox.finish(lambda: ended.append(True))
        self.socket.room = 100
        self.socket.doWrite()
        self.assertEqual((self.socket.taken, ended), (b"abcde", [True]))


class ReadAlways:
    """A connection that has nothing to pause."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
