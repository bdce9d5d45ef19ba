"""Clients that join, leave, rename, talk and die as a seed says, and watch what they are told."""

from __future__ import annotations

import contextlib
import re
import socket
from collections import Counter
from random import Random

# Nobody is refused anything else.
_EXPECTED_ERRORS = {"name-in-use", "unknown-name", "unknown-room", "not-in-room"}
_SAID = re.compile(rb"%(?:(#[^%]+)%)?([^%]+)%(\d+) (\d+)\Z")
_ANSWERED = b"!pong answered"
_RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"
_READ_BYTES = 256 * 1024


class Talker:
    """
    One connection.

    :ivar socket: its end.
    :ivar number: tells it from all others that ever were.
    :ivar is_over: whether it is gone, or waits only for the relay to close.
    """

    def __init__(
        self,
        address: tuple[str, int],
        number: int,
        random: Random,
        counts: Counter[str],
        problems: list[str],
    ) -> None:
        """
        Connect.

        :param random: chooses what it does.
        :param counts: of what all of them did and were told; added to.
        :param problems: what should not have been; added to.
        """
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)
        self.number = number
        self.is_over = False
        self._random = random
        self._counts = counts
        self._problems = problems
        self._unsent = b""
        self._unread = b""
        self._said = 0
        self._joined: list[str] = []
        self._is_named = self._is_leaving = self._is_waiting = False
        # The last that each other one has said, in a room or to it alone.
        self._heard: dict[tuple[bytes, int], int] = {}
        counts["connections"] += 1

    def act(self, names: int, rooms: int) -> None:
        """
        Do something.

        :param names: how many different ones there are.
        :param rooms: likewise.
        """
        random = self._random
        name = f"n{random.randrange(names)}"
        # Few are large, many are small.
        room = f"#r{int(rooms * random.random() ** 2)}"
        joined = random.choice(self._joined) if self._joined and random.random() < 0.9 else room
        if not self._is_named:
            self._write("connecting", name)
            return
        dice = random.random()
        if dice < 0.25:
            self._say("to rooms", joined)
        elif dice < 0.45:
            self._say("to names", name)
        elif dice < 0.65:
            self._joined.append(room)
            self._write("joins", f"/join {room}")
        elif dice < 0.80:
            self._joined = [room for room in self._joined if room != joined]
            self._write("leaves", f"/leave {joined}")
        elif dice < 0.87:
            self._write("renamings", f"/name {name}")
        elif dice < 0.92:
            self._write("watches", f"/watch {name}", f"/unwatch n{random.randrange(names)}")
        elif dice < 0.95:
            self._write("questions", f"/who {name}", "/caps time")
        else:
            self.die()

    def die(self) -> None:
        """Leave in one of the ways that there are."""
        how = self._random.choice(("reset", "closed", "mid-line", "quit", "end of input"))
        self._counts[f"deaths: {how}"] += 1
        if how == "mid-line":
            self._send(b"%n1%this is not a li")
        if how == "quit":
            self._send(b"/quit\n")
        elif how == "end of input" and self._is_named:
            self._said += 1
            self._send(f"%n1%{self.number} {self._said}\n".encode())
        if how == "end of input":
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        elif how != "quit":
            if how == "reset":
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.is_over = True
        self._is_leaving = True

    @property
    def is_leaving(self) -> bool:
        """Whether it said that it leaves, and does nothing more."""
        return self._is_leaving

    @property
    def is_ready(self) -> bool:
        """Whether it was answered all that it has done, and may do something else."""
        return not (self._is_leaving or self._is_waiting)

    def read(self) -> None:
        """Take what there is."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            if not self._is_leaving:
                self._problems.append(f"connection {self.number}: {error}")
        if not data:
            self.is_over = True
            if not self._is_leaving:
                self._problems.append(f"connection {self.number} was closed by the relay")
            return
        if self._unsent:
            self._send(b"")
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._counts["lines read"] += len(lines)
        for line in lines:
            self._look_at(line)

    def _look_at(self, line: bytes) -> None:
        if line.startswith(b"@"):
            line = line.partition(b" ")[2]
        said = _SAID.match(line)
        if said is not None:
            room, _, speaker, count = said.groups()
            key = (room or b"", int(speaker))
            if self._heard.get(key, 0) >= int(count):
                self._problems.append(f"connection {self.number} read {line!a} too late, or again")
            self._heard[key] = int(count)
        elif line == _ANSWERED:
            self._is_waiting = False
        elif line.startswith(b"!welcome "):
            self._is_named, self._joined = True, []
        elif line.startswith(b"!error "):
            code = line.split()[1].decode()
            self._counts[f"refusals: {code}"] += 1
            if code not in _EXPECTED_ERRORS:
                self._problems.append(f"connection {self.number} was told {line!a}")
        elif not line.startswith(b"!"):
            self._problems.append(f"connection {self.number} was told {line!a}")

    def _say(self, kind: str, target: str) -> None:
        self._said += 1
        self._write(kind, f"%{target}%{self.number} {self._said}")

    def _write(self, kind: str, *lines: str) -> None:
        self._counts[kind] += 1
        self._is_waiting = True
        self._send("".join(f"{line}\n" for line in (*lines, "/ping answered")).encode())

    def _send(self, data: bytes) -> None:
        self._unsent += data
        with contextlib.suppress(OSError):  # One that is broken is seen by reading.
            sent = self.socket.send(self._unsent)
            self._unsent = self._unsent[sent:]
