"""The far end of one simulated connection: what its network has, and what it reads of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost

from tests.delivery_in_flight import Reader
from tests.relay_harness import Client, without_sentence

if TYPE_CHECKING:
    from tests.simulated_journal import Journal
    from tests.simulated_world import SimulatedWorld


class SimulatedClient(Client):
    """
    A client whose network takes what the relay writes, as far as `transport.room` goes, and
    that reads of it what it is told to.

    :ivar label: that of its connection, never used again.
    :ivar reads_at_once: whether it reads in every turn.
    :ivar joins_lines: whether the network joins what it writes.
    :ivar is_named: whether it was told that it has its name.
    :ivar is_dead: whether it will never read or write again; the relay does not know.
    :ivar is_leaving: whether it said that it leaves, or closed its sending side.
    :ivar is_over: whether its end was told.
    :ivar shows_all: whether a history that it is shown has everything that anybody has read.
    :ivar last_id: of the last message it has read.
    :ivar acked_id: what it has asked to have acked.
    :ivar received_ids: the ids of what it has read, and whether that had a ref.
    :ivar covered: by what it has asked to have acked, the last of these with a ref.
    """

    def __init__(
        self, world: SimulatedWorld, journal: Journal, label: str, name: str, port: int
    ) -> None:
        super().__init__(world, IPv4Address("TCP", "127.0.0.1", port))
        self.label = label
        self.name = name
        self.journal = journal
        self.reads_at_once = True
        self.joins_lines = False
        self.is_named = False
        self.is_dead = False
        self.is_leaving = False
        self.is_over = False
        self.shows_all = False
        self.last_id: str | None = None
        self.acked_id: str | None = None
        self.received_ids: list[tuple[str, bool]] = []
        self.covered: dict[str, str | None] = {}
        self.reader = Reader(label, name, journal.event)
        self._read = 0
        self._known = 0
        self._history: list[tuple[str, str, str]] | None = None

    def write_line(self, line: str, ref: str = "") -> None:
        """Send one line, and let nothing happen yet."""
        tag = f"@ref={ref} " if ref else ""
        incoming = self.transport.incoming
        data = (tag + line + "\n").encode()
        if self.joins_lines and incoming and incoming[-1]:
            incoming[-1] += data
        else:
            self.write(data)

    @property
    def in_network(self) -> bytes:
        """What it could read."""
        return bytes(self.transport.taken[self._read :])

    @property
    def has_everything(self) -> bool:
        """Whether the relay's last byte was read."""
        return self.transport.ended and self._read == len(self.transport.taken)

    def read(self, most_lines: int | None = None) -> int:
        """Read some of what the network has; returns how many lines."""
        taken = self.transport.taken
        count = 0
        while most_lines is None or count < most_lines:
            end = taken.find(b"\n", self._read)
            if end < 0:
                break
            line = bytes(taken[self._read : end])
            self._read = end + 1
            count += 1
            self._understand(without_sentence(line).decode())
        return count

    def cut(self) -> None:
        """The connection breaks, and the relay sees that."""
        self.transport.lose(ConnectionLost())

    def after_turn(self) -> None:
        """A turn of the relay is over."""
        if self.reads_at_once and not self.is_dead:
            self.read()
        transport = self.transport
        taken = transport.taken
        if len(taken) > self._known and transport.connected and not transport._unsent:
            session = self.session
            if session is not None and not session.outbox.unsent_bytes:
                self._note_known(bytes(taken[self._known :]))
                self._known = len(taken)
        if not transport.connected and not self.is_over:
            self.over()

    def over(self) -> None:
        """Tell that the connection is gone, and what is lost with it."""
        if not self.is_dead and not self.transport.aborted:
            self.read()
        self.is_over = True
        # Who has no name may be sent away with what it has written.
        everything = self.is_leaving and self.is_named and not self.is_dead
        everything = everything and self.has_everything
        self.journal.ended(self, everything_read=everything)

    def _note_known(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            _, _, message = line.partition(b"%") if not line.startswith(b"@ref=h") else (0, 0, b"")
            if message and not line.startswith(b"!"):
                text = message.partition(b"%")[2]
                if message.startswith(b"#"):
                    text = text.partition(b"%")[2]
                self.journal.known(self, text.decode())

    def _understand(self, line: str) -> None:
        self.journal.trace("    %s < %s", self.label, line[:100])
        tags: dict[str, str] = {}
        if line.startswith("@"):
            written, _, line = line.partition(" ")
            for tag in written[1:].split(";"):
                key, _, value = tag.partition("=")
                tags[key] = value
        ref = tags.get("ref", "")
        if line.startswith("%"):
            _, sender, text = line.split("%", 2)
            if sender.startswith("#"):
                sender, _, text = text.partition("%")
            if ref.startswith("h"):
                assert self._history is not None, line
                self._history.append((tags["id"], sender, text))
                return
            id_ = tags.get("id")
            self.journal.received(self, sender, text, id_, is_again="again" in tags)
            if id_ is not None:
                self.last_id = id_
            return
        word, *rest = line[1:].split(" ")
        self._told(word, rest, ref)

    def _told(self, word: str, rest: list[str], ref: str) -> None:
        journal = self.journal
        if word == "welcome":
            self.is_named = True
        elif word == "sent":
            journal.answered(self, ref, rest[0], "sent", "")
        elif word == "stored":
            id_ = rest[1].removeprefix("id=")
            if ref:
                journal.answered(self, ref, rest[0], "stored", id_)
            else:
                journal.stored_without_ref(rest[0], id_)
        elif word == "error":
            code, *context = rest
            if code == "shutting-down":
                # It is the relay that may have closed first.
                self.is_leaving = False
            if ref.startswith("k"):
                journal.ack_refused(self, ref[1:], code)
            elif ref.startswith("m"):
                journal.answered(self, ref, context[0] if context else None, "refused", code)
        elif word == "acked":
            if len(rest) == 2:
                journal.ack_reported(self, ref, rest[0], rest[1].removeprefix("id="))
            else:
                journal.ack_answered(self, rest[0])
        elif word == "history":
            self._history = []
        elif word == "end" and rest[0] == "history":
            assert self._history is not None
            if self.shows_all:
                journal.history(self, self._history)
            self._history = None
