"""
What is said in a room is encoded once for all who are written alike, and each is written once.

Calls are counted, never seconds.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.rooms.audience import Writing
from tests.relay_harness import World
from tests.test_quick_path_work import count_calls

LINE = b"%#ops%" + b"x" * 64 + b"\n"
# A quarter more than it was: a member's outbox takes the run, and its transport.
CALLS_FOR_A_MEMBER = 25


def calls(messages: int, members: int, *, caps: bytes = b"none") -> int:
    """From the read on until nothing is due."""
    world = World()
    listeners = [world.join(b"bob%d" % number, caps=caps) for number in range(members)]
    alice = world.join(b"alice")
    for client in (*listeners, alice):
        client.send(b"/join #ops\n")
    for client in listeners:
        client.raw()

    def work() -> None:
        alice.protocol.dataReceived(LINE * messages)
        world.clock.advance(0)

    counted = count_calls(work)
    world.settle()
    for client in listeners:
        assert client.raw().count(b"%#ops%alice%x") == messages, "not all is said"
    return counted


class RoomWorkTests(SynchronousTestCase):
    """A run, and one that is twice as long; a room, and one with more members."""

    def test_a_message_more(self) -> None:
        for messages, members in ((20, 10), (200, 10), (20, 50)):
            more = calls(2 * messages, members) - calls(messages, members)
            self.assertLessEqual(more / messages, 0.3, (messages, members))

    def test_a_member_more(self) -> None:
        for messages in (1, 20):
            more = calls(messages, 60) - calls(messages, 20)
            self.assertLessEqual(more / 40, CALLS_FOR_A_MEMBER, messages)

    def test_one_encoding_for_all_who_are_written_alike(self) -> None:
        encoded: list[Writing] = []
        encode = Writing.encode

        def counted(self: Writing, *arguments: object) -> bytes:
            encoded.append(self)
            return encode(self, *arguments)  # type: ignore[arg-type]

        self.patch(Writing, "encode", counted)
        world = World()
        for number, (caps, eol) in enumerate(
            [(b"none", b"\n"), (b"ping", b"\n"), (b"id", b"\n"), (b"none", b"\r\n")] * 5
        ):
            world.join(b"bob%d" % number, caps=caps, eol=eol).send(b"/join #ops" + eol)
        alice = world.join(b"alice", caps=b"time")
        alice.send(b"/join #ops\n")
        encoded.clear()
        alice.send(LINE * 10)
        self.assertEqual(
            sorted(encoded),
            sorted(
                [
                    Writing(b"\n", has_id=False, has_time=False),
                    Writing(b"\n", has_id=True, has_time=False),
                    Writing(b"\r\n", has_id=False, has_time=False),
                    # The speaker's own, who is spared.
                    Writing(b"\n", has_id=False, has_time=True),
                ]
            ),
        )

    def test_one_write_for_a_member_and_turn(self) -> None:
        world = World()
        bob = world.join(b"bob")
        speakers = [world.join(b"alice%d" % number) for number in range(5)]
        for client in (bob, *speakers):
            client.send(b"/join #ops\n")
        bob.raw()
        written: list[bytes] = []
        write = bob.transport.write

        def counted(data: bytes) -> None:
            written.append(data)
            write(data)

        bob.transport.write = counted  # type: ignore[method-assign]
        for speaker in speakers:
            speaker.transport.incoming.append(LINE * 3)
        world.settle()
        self.assertEqual(sum(data.count(b"\n") for data in written), 15)
        self.assertLessEqual(len(written), 2)
