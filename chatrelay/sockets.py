"""What the relay asks of the kernel: options of its sockets, what a socket still has to send."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.protocols.policies import ProtocolWrapper

KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3
UNACKNOWLEDGED_TIMEOUT_S = 60
LISTEN_BACKLOG = 4096
# Connections of one port that are accepted in one turn: a millisecond, in which nobody else is
# served.  Twisted accepts twenty more in each turn of a flood than in the one before.
ACCEPTS_PER_TURN = 10
# What a read asks for, and what it asks for behind one that was as large.  With large reads
# each recipient is written more at once (1000 of them: 1.9 times as fast); but every read
# allocates what it asks for, and of a client that is held that much may wait.
READ_BYTES = 64 * 1024
MAX_READ_BYTES = 256 * 1024
# Of a client that may send so much in a second only.
PACED_READ_BYTES = 16 * 1024

_INT = struct.Struct("i")


def set_listening_options(listening: socket.socket) -> None:
    """
    Set what every accepted connection inherits: no delay of small writes, and dead
    peers found in about a minute.

    Nothing happens for a socket that is not TCP.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
            (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
            (socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_TIMEOUT_S * 1000),
        ):
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def set_listen_backlog(listening: socket.socket) -> None:
    """Let a burst of connections wait in the kernel instead of being told to come again."""
    listening.listen(LISTEN_BACKLOG)


def bound_accepts(port: Any) -> None:  # noqa: ANN401 - whatever listens
    """Have a port of Twisted's accept `ACCEPTS_PER_TURN` connections in a turn at most."""
    if not hasattr(port, "numberAccepts"):
        return
    accept = port.doRead

    def accept_some() -> object:
        port.numberAccepts = min(port.numberAccepts, ACCEPTS_PER_TURN)
        return accept()

    # The reactor asks the port itself for it.
    port.doRead = accept_some


def descriptor_of(transport: Any) -> FileDescriptor | None:  # noqa: ANN401 - likewise
    """
    What a transport sends through in the end: itself, or what is under TLS or a proxy's protocol.

    :returns: ``None`` where there is nothing of the kind.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport if isinstance(transport, FileDescriptor) else None


def queued_bytes(transport: Any) -> int:  # noqa: ANN401 - whatever a door's transport is
    """
    What the kernel took and the peer did not acknowledge; 0 where that can not be known.

    A slow peer's socket counts as writable only when a third of its buffer, often a
    megabyte, is free again: seen from outside nothing moves for seconds, seen here it does.
    """
    descriptor = descriptor_of(transport)
    if descriptor is None or sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(descriptor.fileno(), termios.TIOCOUTQ, _INT.pack(0))
    except (OSError, ValueError, AttributeError):
        return 0
    queued: int = _INT.unpack(answer)[0]
    return queued


def set_read_size(
    transport: Any,  # noqa: ANN401 - likewise
    last_read_bytes: int,
    *,
    is_paced: bool = False,
) -> None:
    """
    Choose how much the next read may bring.

    Nothing happens where a transport does not read from a socket itself; TLS chooses for itself.

    :param last_read_bytes: what the last one brought; 0 for a client that is held.
    :param is_paced: whether it may send so much in a second only.
    """
    if isinstance(transport, FileDescriptor):
        size = MAX_READ_BYTES if last_read_bytes >= READ_BYTES else READ_BYTES
        if is_paced:
            size = PACED_READ_BYTES
        if transport.bufferSize != size:
            transport.bufferSize = size
