"""Connections over TLS, for a generator that must not be what is measured."""

from __future__ import annotations

import socket
import ssl
from typing import Any

# So much is read or sent in one system call.
_PIECE_BYTES = 256 * 1024
# More than the longest record with what stands around it: so much of one may be left of a read.
_RECORD_BYTES = 17 * 1024

_ciphertext = memoryview(bytearray(_PIECE_BYTES - _RECORD_BYTES))


def client_context(certificate: str) -> ssl.SSLContext:
    """
    What a client uses who trusts this certificate alone, with Python's defaults.

    :param certificate: a file.
    """
    return ssl.create_default_context(cafile=certificate)


class Secured:
    """
    A connection over TLS, which takes the place of its socket.

    OpenSSL is given memory and not the socket.  One system call then moves a piece and not a
    record of 16 KiB, and all that came is decrypted at once: nothing that could be read is left
    where epoll does not see it.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        """
        Prepare; `handshake` begins.

        :param plain: connected or connecting, and not blocking.
        """
        self.fileno, self.setsockopt, self.close = plain.fileno, plain.setsockopt, plain.close
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._unsent = memoryview(b"")
        self._taken_bytes = 0

    @property
    def agreed(self) -> str:
        """The version of TLS and the cipher that both sides chose."""
        cipher = self._tls.cipher()
        return f"{self._tls.version()} {cipher[0] if cipher else ''}"

    def handshake(self) -> bool:
        """Begin, or go on with what has come; return whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            is_done = False
        else:
            is_done = True
        finally:
            # Some hundred bytes, or why the other side is not trusted.
            if self._outgoing.pending:
                self._plain.send(self._outgoing.read())
        return is_done

    def feed(self) -> bool:
        """Read what has come for the handshake; return whether the other side has not closed."""
        count = self._plain.recv_into(_ciphertext)
        self._incoming.write(_ciphertext[:count])
        return count > 0

    def recv_into(self, buffer: bytearray | memoryview) -> int | None:
        """
        Read once.

        :param buffer: of 256 KiB at least.
        :returns: the size of what came; 0 if the connection is closed, ``None`` if there was
            nothing to be read but a part of a record, or what TLS says for itself.
        """
        if not self.feed():
            return 0
        view, count = memoryview(buffer), 0
        read: Any = self._tls.read  # into a buffer, it returns a number
        try:
            while size := read(_RECORD_BYTES, view[count:]):
                count += size
        except ssl.SSLWantReadError:
            return count or None
        return count

    def recv(self, size: int) -> bytes | None:
        """Like `recv_into`, of 256 KiB at least."""
        buffer = bytearray(size)
        count = self.recv_into(buffer)
        return None if count is None else bytes(buffer[:count])

    def send(self, data: bytes | memoryview) -> int:
        """
        Send a piece: all of it, or nothing yet.

        :returns: 0 until it has gone whole, and it must be given again.
        :raises BlockingIOError: it is of another size than the one that is underway.
        """
        if not self._unsent:
            self._tls.write(data)
            self._taken_bytes = len(data)
            self._unsent = memoryview(self._outgoing.read())
        elif len(data) != self._taken_bytes:
            raise BlockingIOError
        self._unsent = self._unsent[self._plain.send(self._unsent) :]
        return 0 if self._unsent else self._taken_bytes
