"""What logging in costs: names that are owned, secrets, tokens, and all of them coming back."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from bench.dialects import Dialect, Step
from bench.naming import BrokenTrafficError, Door, close_all, name_all
from bench.process import Used

SECRET = b"correct-horse-battery-staple"

# A relay hashes for each address one secret at a time.
_ADDRESSES = [f"127.0.0.{number}" for number in range(1, 17)]
_REGISTERING_S = 600.0
_HISTORY_S = 30.0
# How many are underway, and how many are tried first.  Tokens cost no hashing, and are what
# hundreds come back with at the same moment.
_AT_ONCE = {"secret": 8, "token": 64}
_FIRST_TRY = {"secret": 16, "token": 500}
# All of them stay connected until they are counted; a name has 32 connections at most.
_MOST_OF_A_NAME = 30
_TOKEN = re.compile(rb"^!welcome (\S+) .*^!token (\S+)", re.DOTALL | re.MULTILINE)


class _Registering(Dialect):
    """
    A client that makes its name its own, and asks for a token.

    :ivar tokens: of all names, so far.
    """

    refusal = b"!error "

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name, and keeps it."""
        return [
            *super().steps(name),
            Step(b"/register %b\n" % SECRET, b"!registered "),
            Step(b"/token\n", b"!token "),
        ]

    def named(self, answers: bytes) -> None:
        """Learn a token."""
        if found := _TOKEN.search(answers):
            self.tokens[found[1].decode()] = found[2].decode()


class Claiming(Dialect):
    """A client that has a secret or a token for its name."""

    refusal = b"!error "

    def __init__(self, proofs: Mapping[str, bytes]) -> None:
        self._proofs = proofs

    def steps(self, name: str) -> list[Step]:
        """How a client gets its name."""
        return [Step(b"%b %b\n" % (name.encode(), self._proofs[name]), b"!welcome ")]


def register(_: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """Register ``names``; tell the token of each."""
    return {"tokens": _register(door, task["names"])}


def logins(_: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Log in with secrets, and then with tokens, as fast as it is answered.

    Each takes about ``seconds``, with several underway from different addresses, to ``count``
    names that are registered first.
    """
    tokens = _register(door, owned_names(task["count"]))
    door = door.seen_from(_ADDRESSES)
    found: dict[str, Any] = {"count": len(tokens)}
    most = _MOST_OF_A_NAME * len(tokens)
    for kind, proofs in (
        ("secret", dict.fromkeys(tokens, SECRET)),
        ("token", {name: token.encode() for name, token in tokens.items()}),
    ):
        claiming, count = Claiming(proofs), min(most, _FIRST_TRY[kind])
        while True:
            names = list(islice(cycle(tokens), count))
            used, began_s = Used(task["pid"]), time.perf_counter()
            clients = name_all(door, claiming, names, _AT_ONCE[kind])
            took_s = time.perf_counter() - began_s
            server_s, shares = used.since(took_s)
            close_all(clients)
            if took_s > task["seconds"] / 2 or count == most:
                break
            count = min(most, int(count * min(10.0, 1.1 * task["seconds"] / took_s)))
        found |= {f"{kind}_{key}": value for key, value in shares.items()}
        found[f"{kind}_rate"] = count / took_s
        found[f"{kind}_cpu_s_per_million"] = server_s / count * 1e6
    return found


def return_of_all(dialect: Dialect, door: Door, task: dict[str, Any]) -> dict[str, Any]:
    """
    Let all names of ``tokens`` come back, ``at_once`` underway, and as many that nobody owns.

    ``owned_first`` says who begins.
    """
    owned = {name: token.encode() for name, token in task["tokens"].items()}
    # Of one length, as the others are: what is sent and kept for them is the same.
    free = [name.replace("o", "f") for name in owned]
    # The first ones bring in what a relay loads when it is needed.
    warming = [*name_all(door, dialect, [f"w{index:05d}" for index in range(50)])]
    turns: list[tuple[str, Dialect, list[str]]] = [
        ("owned", Claiming(owned), list(owned)),
        ("free", dialect, free),
    ]
    found: dict[str, Any] = {"count": len(owned)}
    for kind, how, names in turns if task["owned_first"] else reversed(turns):
        used, began_s = Used(task["pid"]), time.perf_counter()
        clients = name_all(door, how, names, task["at_once"])
        found[f"{kind}_s"] = time.perf_counter() - began_s
        server_s, shares = used.since(found[f"{kind}_s"])
        found |= {f"{kind}_{key}": value for key, value in shares.items()}
        found[f"{kind}_cpu_us"] = server_s / len(names) * 1e6
        close_all(clients)
        time.sleep(task["settle_s"])
    close_all(warming)
    found["ratio"] = found["owned_s"] / found["free_s"]
    if found["free_cpu_us"]:  # of few names it can not be seen
        found["cpu_ratio"] = found["owned_cpu_us"] / found["free_cpu_us"]
    return found


def check_history(client: socket.socket) -> None:
    """
    See that something of what a client was sent is in its history.

    :raises BrokenTrafficError: nothing is.
    """
    client.settimeout(_HISTORY_S)
    client.sendall(b"/history 1\n")
    answer = b""
    while b"!end history" not in answer and not answer.startswith(b"!error"):
        more = client.recv(65_536)
        if not more:
            break
        answer += more
    if b"!end history 1\n" not in answer:
        raise BrokenTrafficError(f"asked for its history, the relay says {answer[:200]!r}")


def owned_names(count: int) -> list[str]:
    """So many names of one length, for those who own one."""
    return [f"o{index:05d}" for index in range(count)]


def _register(door: Door, names: Sequence[str]) -> dict[str, str]:
    registering = _Registering()
    door = door.seen_from(_ADDRESSES)
    close_all(name_all(door, registering, names, len(_ADDRESSES), within_s=_REGISTERING_S))
    return registering.tokens
