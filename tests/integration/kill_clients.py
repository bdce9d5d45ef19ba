"""
Senders and receivers that come and go as chance has it, and tell everything they see.

They are for `tests.integration.kills`: one thread serves them all, nothing waits.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from pathlib import Path
from random import Random
from typing import TextIO

from tests.delivery_checker import Checker
from tests.delivery_history import (
    AckAnswered,
    AckAsked,
    AckRefused,
    AckReported,
    Answered,
    Asked,
    Connected,
    Ended,
    Event,
    HistoryRead,
    Received,
    write_event,
)
from tests.integration.relay_process import Client as BlockingClient

SECRET = "correct-horse-battery"
NOBODY = "nobody"
MARKER = "the last of "
# What a claim may be refused with while the relay still knows of the connection before.
_PASSING_CLAIMS = frozenset({"name-in-use", "busy"})
_READ_BYTES = 65_536
_HISTORY_PAGE = 200


class Recorder:
    """
    Where all clients tell what they see.

    :ivar problems: what is wrong and not the checker's: sentences.
    :ivar last_event_s: when something was seen last.
    """

    def __init__(self, checker: Checker, log_path: Path) -> None:
        self.checker = checker
        self.problems: list[str] = []
        self.last_event_s = time.monotonic()
        self._log: TextIO = log_path.open("w", encoding="utf-8")
        self._began_s = self.last_event_s
        self._number = 0

    def feed(self, event: Event) -> None:
        """Tell the checker, and write it down."""
        self.last_event_s = time.monotonic()
        now_s = self.last_event_s - self._began_s
        self._log.write(write_event(event, now_s) + "\n")
        self.checker.feed(event, now_s)

    def new_label(self, name: str) -> str:
        """A connection's."""
        self._number += 1
        return f"{name}/{self._number}"

    def problem(self, sentence: str) -> None:
        """Note that something is wrong."""
        self.problems.append(sentence)

    def close(self) -> None:
        """Write what is left."""
        self._log.close()


def register(address: tuple[str, int], name: str) -> str:
    """Register a name, and return what its owner claims it with from then on: a token."""
    client = BlockingClient(address, name)
    try:
        client.send(f"/register {SECRET}", "/token")
        client.expect(f"!registered {name}")
        return client.expect("!token ").split()[1]
    finally:
        client.close()


class Client:
    """
    One name, and at most one connection of it.

    :ivar is_ending: whether it comes and stays, for the end of the run.
    :ivar is_ready: whether its name was granted on the present connection.
    """

    caps = ""
    receive_buffer_bytes: int | None = None

    def __init__(self, name: str, token: str | None, recorder: Recorder, chance: Random) -> None:
        self.name = name
        self.is_ending = False
        self.is_ready = False
        self.socket: socket.socket | None = None
        self.label = ""
        self._claim = name if token is None else f"{name} {token}"
        self._recorder = recorder
        self._chance = chance
        self._input = b""
        self._output = b""
        self._relay_is_gone = False
        self._comes_s = 0.0

    # What the loop asks.

    @property
    def wants_to_read(self) -> bool:
        """Whether it would take input now."""
        return True

    @property
    def wants_to_write(self) -> bool:
        """Whether it has unsent output."""
        return bool(self._output)

    def tick(self, now_s: float, address: tuple[str, int] | None) -> None:
        """
        Do what is due.

        :param address: of the relay, if it runs.
        """
        if self.socket is None:
            if address is not None and now_s >= self._comes_s:
                self._connect(address)
        elif self.is_ready:
            self.act(now_s)

    def read(self) -> None:
        """Take what has come."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.input_ended()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if self.socket is not None:
                self._take(line.decode("utf-8").removesuffix("\r"))

    def write(self) -> None:
        """Send what the kernel takes."""
        if self.socket is not None and self._output:
            # What has gone wrong is read, too.
            with contextlib.suppress(OSError):
                sent = self.socket.send(self._output)
                self._output = self._output[sent:]

    def relay_was_killed(self) -> None:
        """Read what it had written, or lose that with the connection, as chance has it."""
        if self.socket is None:
            return
        self._relay_is_gone = True
        if self._chance.random() < 0.5:
            self.socket.setblocking(True)
            with contextlib.suppress(OSError):
                while data := self.socket.recv(_READ_BYTES):
                    *lines, self._input = (self._input + data).split(b"\n")
                    for line in lines:
                        self._take(line.decode("utf-8").removesuffix("\r"))
            # For the checker it ends with the relay.
            self._forget(self._chance.uniform(0.0, 0.1))
        else:
            self.cut(self._chance.uniform(0.0, 0.1))

    def cut(self, away_s: float) -> None:
        """End the connection so that nothing can come through any more."""
        if self.socket is not None:
            reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            label = self.label
            self._forget(away_s)
            self._recorder.feed(Ended(label))

    def close(self) -> None:
        """End the connection, when nobody counts any more."""
        if self.socket is not None:
            self._forget(0.0)

    # What a subclass is.

    def begin(self) -> None:
        """Its name was granted."""

    def act(self, now_s: float) -> None:
        """Do what is due, while it has its name."""

    def take_answer(self, ref: str, word: str, arguments: list[str]) -> None:
        """Take a line of the relay's own with a ref."""

    def take_message(self, tags: dict[str, str], sender: str, text: str) -> None:
        """Take a message."""

    def input_ended(self) -> None:
        """The relay has closed the connection: unasked, in this class."""
        self._recorder.problem(f"{self.label}: the relay closed the connection")
        self.cut(0.1)

    # For subclasses.

    def send(self, line: str) -> None:
        """Send a line."""
        self._output += line.encode() + b"\n"

    def _connect(self, address: tuple[str, int]) -> None:
        connection = socket.socket()
        if self.receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_bytes)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            self._recorder.problem(f"{self.name} could not connect: {error}")
            self._comes_s = time.monotonic() + 0.2
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._relay_is_gone = False
        self.label = self._recorder.new_label(self.name)
        self._recorder.feed(Connected(self.label, self.name))
        if self.caps:
            self.send(f"/caps {self.caps}")
        self.send(self._claim)

    def _forget(self, away_s: float) -> None:
        assert self.socket is not None
        self.socket.close()
        self.socket = None
        self.is_ready = False
        self._input = self._output = b""
        self._comes_s = time.monotonic() + (0.0 if self.is_ending else away_s)

    def _take(self, line: str) -> None:
        tags: dict[str, str] = {}
        if line.startswith("@"):
            written, _, line = line[1:].partition(" ")
            for tag in written.split(";"):
                key, _, value = tag.partition("=")
                tags[key] = value
        if line.startswith("%"):
            _, sender, text = line.split("%", 2)
            self.take_message(tags, sender, text)
            return
        word, *arguments = line.partition(" :")[0].split(" ")
        if word == "!welcome":
            self.is_ready = True
            if not self._relay_is_gone:
                self.begin()
        elif word == "!error" and not self.is_ready:
            if arguments[0] not in _PASSING_CLAIMS:
                self._recorder.problem(f"{self.label}: the name was refused: {line}")
            if not self._relay_is_gone:
                self.cut(0.05)
        elif "ref" in tags:
            self.take_answer(tags["ref"], word, arguments)
        else:
            self.take_own(line, word, arguments)

    def take_own(self, line: str, word: str, _arguments: list[str]) -> None:
        """Take a line of the relay's own without a ref."""
        if word not in {"!caps", "!pong"}:
            self._recorder.problem(f"{self.label}: an unexpected line: {line[:200]}")


class Sender(Client):
    """
    Writes to receivers, in bursts, and asks again what was not answered.

    One whose name nobody owns does not: its refs end with its connection.

    :ivar answers: how many it has read.
    """

    def __init__(
        self,
        name: str,
        token: str | None,
        recorder: Recorder,
        chance: Random,
        receivers: tuple[str, ...],
        *,
        wants_receipts: bool = False,
    ) -> None:
        super().__init__(name, token, recorder, chance)
        self.answers = 0
        self._receivers = receivers
        self._is_owned = token is not None
        self.caps = "receipts" if wants_receipts else ""
        self._numbers = 0
        self._window = 1
        self._pause_s = 1.0
        self._asks_s = 0.0
        self._leaves_s = 0.0
        # By ref and target, in the order of the lines: the text.
        self._unanswered: dict[tuple[str, str], str] = {}
        self._stored: deque[tuple[int, str, str]] = deque(maxlen=200)
        self._refused_markers: list[tuple[str, str, str]] = []

    @property
    def is_answered(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self._unanswered and not self._refused_markers

    def begin(self) -> None:
        now_s = time.monotonic()
        self._window = self._chance.randrange(8, 64)
        self._pause_s = self._chance.choice((0.001, 0.02, 0.06, 0.2))
        self._leaves_s = now_s + self._chance.expovariate(1 / 5.0)
        if not self._is_owned:
            self._unanswered.clear()
        for (ref, target), text in list(self._unanswered.items()):
            self._send(ref, (target,), text)

    def act(self, now_s: float) -> None:
        if self.is_ending:
            # A mailbox that is full is being emptied.
            if self._refused_markers and now_s >= self._asks_s:
                refused, self._refused_markers = self._refused_markers, []
                for ref, target, text in refused:
                    self._send(ref, (target,), text)
                self._asks_s = now_s + 0.05
        elif now_s >= self._leaves_s:
            self.cut(self._chance.uniform(0.0, 0.3))
        elif now_s >= self._asks_s and len(self._unanswered) < self._window:
            for _ in range(self._chance.randrange(1, 25)):
                self._ask_something()
            self._asks_s = now_s + self._chance.expovariate(1 / self._pause_s)

    def ask_marker(self, text: str, receivers: tuple[str, ...]) -> None:
        """Write the same to each of some receivers, until they take it."""
        self._asks_s = 0.0
        self._numbers += 1
        self._send(str(self._numbers), receivers, text)

    def _ask_something(self) -> None:
        dice = self._chance.random()
        if dice < 0.03 and self._is_owned and self._stored:
            self._ask_again(dice < 0.01)
            return
        self._numbers += 1
        count = self._chance.choice((1, 1, 1, 1, 1, 1, 1, 1, 2, 3))
        targets = self._chance.sample(self._receivers, count)
        if dice > 0.99:
            targets.append(NOBODY)
        length = self._chance.choice((0, 20, 60, 60, 200, 2000 if dice > 0.9 else 20))
        self._send(
            str(self._numbers), tuple(targets), f"{self.name}-{self._numbers}" + "." * length
        )

    def _ask_again(self, with_another_text: bool) -> None:
        """Ask for a message that was stored, or use its ref for another."""
        number, target, text = self._chance.choice(self._stored)
        ref = str(number)
        # The relay remembers a thousand; two texts in flight under one ref can not be told apart.
        if self._numbers - number < 900 and (ref, target) not in self._unanswered:
            if with_another_text:
                text = f"{text} or not"
            self._send(ref, (target,), text)

    def _send(self, ref: str, targets: tuple[str, ...], text: str) -> None:
        for target in targets:
            self._recorder.feed(Asked(self.label, ref, target, text))
            self._unanswered[ref, target] = text
        self.send(f"@ref={ref} %{','.join(targets)}%{text}")

    def take_answer(self, ref: str, word: str, arguments: list[str]) -> None:
        if word == "!acked":
            name, id_ = arguments
            id_ = id_.removeprefix("id=")
            self._recorder.feed(AckReported(self.label, ref, name, id_))
            return
        event: Answered
        if word == "!error":
            # A refusal of the whole line names nobody.
            code, target = arguments[0], (arguments[1] if len(arguments) > 1 else None)
            event = Answered(self.label, ref, target, "refused", code)
        elif word == "!sent":
            event = Answered(self.label, ref, arguments[0], "sent")
        elif word == "!stored":
            name, id_ = arguments
            event = Answered(self.label, ref, name, "stored", id_.removeprefix("id="))
        else:
            self._recorder.problem(f"{self.label}: an unexpected answer {word} to {ref}")
            return
        self._recorder.feed(event)
        self.answers += 1
        for target in [name for of, name in self._unanswered if of == ref]:
            if event.target in {None, target}:
                text = self._unanswered.pop((ref, target))
                if event.answer == "refused" and self.is_ending and text.startswith(MARKER):
                    self._refused_markers.append((ref, target, text))
                if event.answer == "stored":
                    self._stored.append((int(ref), target, text))

    def take_message(self, tags: dict[str, str], sender: str, text: str) -> None:
        self._recorder.problem(f"{self.label} received a message: {tags} {sender} {text[:100]}")


class Receiver(Client):
    """
    Comes, reads, perhaps acks, now and then stops reading for a while, and goes.

    :ivar acks: whether it has the cap ``ack``.
    :ivar markers: the senders and texts it waits for, at the very end.
    :ivar history: what ``/history`` has shown so far, oldest first; ``None`` once all is read.
    """

    def __init__(
        self,
        name: str,
        token: str,
        recorder: Recorder,
        chance: Random,
        *,
        caps: str,
        receive_buffer_bytes: int | None,
    ) -> None:
        super().__init__(name, token, recorder, chance)
        self.caps = caps
        self.acks = "ack" in caps.split()
        self.receive_buffer_bytes = receive_buffer_bytes
        self.markers: set[tuple[str, str]] = set()
        self.history: list[tuple[str, str, str]] | None = []
        self.has_ponged = False
        self._page: list[tuple[str, str, str]] | None = None
        self._leaves_s = 0.0
        self._is_leaving = False
        self._has_quit = False
        self._stalls_s = 0.0
        self._stalled_until_s = 0.0
        self._ids: deque[str] = deque(maxlen=10)
        self._unacked = 0
        self._ack_after = 1
        self._acks_waiting: set[str] = set()
        self._refs = 0

    @property
    def wants_to_read(self) -> bool:
        return self.is_ending or time.monotonic() >= self._stalled_until_s

    @property
    def is_settled(self) -> bool:
        """Whether it is here, nothing it waits for is to come, and all is acked."""
        is_acked = not self.acks or not (self._unacked or self._acks_waiting)
        return self.is_ready and not self.markers and is_acked

    def begin(self) -> None:
        now_s = time.monotonic()
        self._leaves_s = now_s + self._chance.expovariate(1 / 1.0)
        self._stalls_s = now_s + self._chance.expovariate(1 / 1.5)
        self._is_leaving = self._has_quit = self.has_ponged = False
        self._ids.clear()
        self._acks_waiting.clear()
        self._unacked = 0
        self._page = None

    def act(self, now_s: float) -> None:
        if self.is_ending and not self._is_leaving:
            # What comes last is acked, too, and makes place for what is to come.
            if self.acks and self._unacked and not self._acks_waiting:
                self._ack(self._ids[-1])
        elif self._is_leaving:
            if not self._acks_waiting and not self._has_quit:
                self.quit()
        elif now_s >= self._leaves_s:
            if self._chance.random() < 0.6:
                self.cut(self._away_s())
            else:
                self._is_leaving = True
                self._stalled_until_s = 0.0
        elif now_s >= self._stalls_s:
            self._stalled_until_s = now_s + self._chance.uniform(0.05, 0.8)
            self._stalls_s = self._stalled_until_s + self._chance.expovariate(1 / 1.5)

    def quit(self) -> None:
        """Leave, and read to the end."""
        self._is_leaving = self._has_quit = True
        self.send("/quit")

    def ping(self) -> None:
        """Ask for a sign that everything before was served."""
        self.has_ponged = False
        self.send("/ping now")

    def read_history(self) -> None:
        """Ask for the newest page of what the relay keeps, and then for all before it."""
        self.history = []
        self._ask_page()

    def take_message(self, tags: dict[str, str], sender: str, text: str) -> None:
        if self._page is not None:
            self._page.append((tags["id"], sender, text))
            return
        self.markers.discard((sender, text))
        id_ = tags.get("id")
        self._recorder.feed(Received(self.label, sender, text, id_, "again" in tags))
        if id_ is None:
            return
        self._ids.append(id_)
        self._unacked += 1
        is_staying = not self._is_leaving and not self._relay_is_gone
        if self.acks and self._unacked >= self._ack_after and is_staying:
            is_old = self._chance.random() < 0.2 and not self.is_ending
            self._ack(self._chance.choice(self._ids) if is_old else id_)

    def take_answer(self, ref: str, word: str, arguments: list[str]) -> None:
        id_ = ref.partition("-")[2]
        self._acks_waiting.discard(ref)
        if word == "!acked" and arguments == [id_]:
            self._recorder.feed(AckAnswered(self.label, id_))
        elif word == "!error":
            self._recorder.feed(AckRefused(self.label, id_, arguments[0]))
        else:
            self._recorder.problem(f"{self.label}: {word} {arguments} answers {ref}")

    def take_own(self, line: str, word: str, arguments: list[str]) -> None:
        if word == "!history" and not arguments:
            self._page = []
        elif word == "!end" and arguments[:1] == ["history"] and self._page is not None:
            self._take_page(int(arguments[1]))
        elif word == "!pong":
            self.has_ponged = True
        elif word != "!bye":
            super().take_own(line, word, arguments)

    def input_ended(self) -> None:
        if self._has_quit and self.socket is not None:
            label = self.label
            self._forget(self._away_s())
            self._recorder.feed(Ended(label, everything_read=True))
        else:
            super().input_ended()

    def _away_s(self) -> float:
        return self._chance.choice((0.0, 0.05, 0.5, 1.5)) * self._chance.uniform(0.2, 1.0)

    def _ack(self, id_: str) -> None:
        self._refs += 1
        ref = f"{self._refs}-{id_}"
        self._unacked = 0 if id_ == self._ids[-1] else 1
        self._ack_after = self._chance.choice((1, 5, 20, 60))
        self._acks_waiting.add(ref)
        self._recorder.feed(AckAsked(self.label, id_))
        self.send(f"@ref={ref} /ack {id_}")

    def _ask_page(self) -> None:
        assert self.history is not None
        before = f" before={self.history[0][0]}" if self.history else ""
        self.send(f"/history {_HISTORY_PAGE}{before}")

    def _take_page(self, count: int) -> None:
        assert self.history is not None
        assert self._page is not None
        if len(self._page) != count:
            self._recorder.problem(f"{self.label}: {len(self._page)} of {count} of the history")
        self.history = self._page + self.history
        self._page = None
        if count == _HISTORY_PAGE:
            self._ask_page()
        else:
            self._recorder.feed(HistoryRead(self.name, tuple(self.history)))
            self.history = None
