"""A relay with a thread for each client and blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

BACKLOG = 4096

_clients: dict[bytes, tuple[socket.socket, threading.Lock]] = {}


def serve(client: socket.socket) -> None:
    """Serve one client until it is gone."""
    lines = client.makefile("rb")
    name = lines.readline().rstrip()
    try:
        _clients[name] = (client, threading.Lock())
        client.sendall(b"!welcome %b\n" % name)
        for line in lines:
            _, target, text = line.split(b"%", 2)
            recipient = _clients.get(target)
            if recipient is not None:
                connection, writing = recipient
                # One that is gone takes nothing; its own thread forgets it.
                with writing, contextlib.suppress(OSError):
                    connection.sendall(b"%" + name + b"%" + text)
    except (OSError, ValueError):
        pass
    finally:
        _clients.pop(name, None)
        client.close()


def main() -> None:
    """Listen on the port given."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG) as listening:
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
