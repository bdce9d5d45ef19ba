"""A small relay in threads, for client programs: names with secrets, and what it was sent."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

WELCOME = "!welcome {} version=1 max-line=8192 :Hello."


class FakeRelay:
    """
    Listens on a free port of 127.0.0.1.

    :ivar secrets: of the names that are owned; the tests change it.
    :ivar tokens: those that serve, with their names.
    :ivar first_lines: what claimed a name, in order.
    """

    def __init__(self, secrets: dict[str, str] | None = None) -> None:
        self.secrets = dict(secrets or {})
        self.tokens: dict[str, str] = {}
        self.first_lines: list[str] = []
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, *lines: str) -> None:
        """Write lines to everybody who is connected."""
        for connected in self._sockets:
            with suppress(OSError):
                connected.sendall("".join(f"{line}\n" for line in lines).encode())

    def drop(self) -> None:
        """End all connections."""
        for connected in self._sockets:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Stop listening, and end all connections."""
        self._listening.close()
        self.drop()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connected = self._listening.accept()[0]
                self._sockets.append(connected)
                threading.Thread(target=self._serve, args=[connected], daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        name = ""
        with suppress(OSError), connected, connected.makefile(encoding="utf-8") as lines:
            for line in lines:
                words = line.split()
                tags = words.pop(0) + " " if words and words[0].startswith("@") else ""
                if not words:
                    continue
                verb, *arguments = words
                if not name and not verb.startswith("/"):
                    self.first_lines.append(line.rstrip("\n"))
                    name, answer = self._claim("", words)
                elif verb == "/name":
                    name, answer = self._claim(name, arguments)
                elif verb == "/quit":
                    connected.sendall(f"{tags}!bye\n".encode())
                    return
                else:
                    answer = self._answer(name, verb, arguments)
                if answer:
                    connected.sendall(f"{tags}{answer}\n".encode())

    def _claim(self, name: str, words: list[str]) -> tuple[str, str]:
        new, *secret = words
        if new in self.secrets:
            if not secret:
                return name, f"!error name-owned {new} :It is registered."
            if secret != [self.secrets[new]] and self.tokens.get(secret[0]) != new:
                return name, f"!error bad-secret {new} :That is not its secret."
        return new, WELCOME.format(new)

    def _answer(self, name: str, verb: str, arguments: list[str]) -> str:
        if verb == "/register":
            if arguments[1:] != ([self.secrets[name]] if name in self.secrets else []):
                return f"!error bad-secret {name} :That is not its secret."
            self.secrets[name] = arguments[0]
            self.tokens.clear()
            return f"!registered {name} :It is yours."
        if verb == "/token":
            token = f"crt_{len(self.tokens):043}"
            self.tokens[token] = name
            return f"!token {token}"
        fixed = {"/ping": "!pong .", "/caps": "!caps time ping", "/who": f"!who {name}"}
        return fixed.get(verb, "" if verb.startswith("%") else "!error unknown-command :No.")
