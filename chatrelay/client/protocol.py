"""
One connection to a relay: bytes to lines, the name given, nothing decided.

What the lines mean is for the handler: the library's client, or the pipe program.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from chatrelay.addresses import is_local
from chatrelay.client.core import (
    Disconnected,
    Reply,
    Unreachable,
    WrongServer,
    name_key,
    parse_line,
    refusal_from,
    same_name,
)
from chatrelay.client.failures import describe, describe_unreachable
from chatrelay.client.identity import Identity, Secret
from chatrelay.client.trust import is_tls_refusal, why_tls_failed
from chatrelay.errors import (
    BadSecret,
    ChatrelayError,
    Insecure,
    NameOwned,
    Refusal,
    ShuttingDown,
    SlowConsumer,
    TimedOut,
    UnknownCommand,
)

DEFAULT_MAX_LINE_BYTES = 8192
# A relay that says more would have as much kept of a line that does not end.
MOST_LINE_BYTES = 1024 * 1024
WELCOME_TIMEOUT_S = 30.0
# The relay's own lines are this much longer than a client's.
_EXTRA_BYTES = 1024
_MIN_BUFFER_BYTES = 64 * 1024
# The kernel's defaults find a vanished relay after two hours when all is acknowledged,
# and after a quarter of an hour when something is not; these in a minute, both.
_TCP_OPTIONS = (
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 60_000),
)
_NOT_ASKED = (
    "This name is registered, and its secret is not sent on this connection, where others could"
    " read it: connect over TLS."
)
_NOT_SENT = "The secret is not sent: others could read it on this connection. Connect over TLS."
_SAID_NOTHING = (
    " It has said nothing: if this is a port with TLS, connect with TLS (--tls or --ca FILE)."
)
# What the relay says before it closes.
_ENDING = (ShuttingDown, SlowConsumer, TimedOut)
# What it says just before it closes to one who holds a name no longer; at other times these
# answer what was written.
_TAKEN_AWAY = (BadSecret, NameOwned)


class Claim(NamedTuple):
    """
    What a connection begins with.

    :ivar name: the name it claims, UTF-8.
    :ivar caps: what it asks the relay to add to its lines.
    :ivar secret: the secret or token of the name; its repr does not show it.
    :ivar secret_in_clear: whether secrets are sent where others could read them.
    :ivar is_server_checked: whether what answers under TLS is the relay for sure.
    """

    name: bytes
    caps: Sequence[str] = ()
    secret: Secret | None = None
    secret_in_clear: bool = False
    is_server_checked: bool = True


class OwnedInClear(NameOwned):
    """The name is registered, and its secret would not be sent on this connection."""


class LineHandler(Protocol):
    """What uses a connection."""

    @property
    def asked_to_end(self) -> bool:
        """Whether this side asked the relay to end the connection."""

    def name_granted(self, connection: ClientProtocol) -> None:
        """The name was granted.  Called once, before any line after the welcome."""

    def lines_received(self, lines: list[bytes]) -> None:
        """Lines without their ends, from the first one on, before the welcome too."""

    def connection_lost(self, error: Disconnected, *, clean: bool) -> None:
        """
        The connection ended after it was welcomed.

        :param clean: the relay closed it in order.
        """

    def close(self) -> Deferred[None]:
        """End the connection; fires when it has ended."""


class ClientProtocol(LineReceiver):
    """
    A relay's lines, handed over by the read.

    :ivar name: as the relay shows it; ``/name`` may change it.
    :ivar max_line_bytes: the longest line the relay takes, without its end.
    :ivar identity: who this client is to the relay, kept up to date by what it says.
    :ivar welcomed: fires with ``None`` when the name is granted; fails with the
        `Refusal`, `Unreachable` when the peer is no relay, or `Disconnected`.
    """

    delimiter = b"\n"
    transport: Any  # whatever an endpoint gives: TCP, TLS, a Unix socket

    def __init__(self) -> None:
        self.name = ""
        self.max_line_bytes = DEFAULT_MAX_LINE_BYTES
        self.identity = Identity(b"", None, wants_token=False)
        self.welcomed: Deferred[None] | None = Deferred()
        self._handler: LineHandler | None = None
        self._secret_in_clear = False
        self._is_server_checked = True
        self._has_received = False
        self._unfinished = b""
        self._last_error: Refusal | None = None
        self._abort_reason: str | None = None

    def connectionMade(self) -> None:
        """Set what finds out that the relay is gone, and sends small lines at once."""
        _set_socket_options(self.transport)

    def begin(self, claim: Claim, handler: LineHandler, identity: Identity | None = None) -> None:
        """
        Give the name, and its secret.

        :raises Insecure: others could read the secret; it is not sent.

        Not done when the connection is made: an endpoint may try several addresses
        at once, and only the connection it settles on may take the name.
        """
        self._handler = handler
        self._secret_in_clear = claim.secret_in_clear
        self._is_server_checked = claim.is_server_checked
        if claim.secret is not None:
            self.check_confidential()
        self.identity = identity or Identity(claim.name, claim.secret, wants_token=False)
        if claim.caps:
            self.sendLine(b"/caps " + " ".join(claim.caps).encode("ascii"))
        self.sendLine(claim.name if claim.secret is None else claim.name + b" " + claim.secret)

    @property
    def refs_owner(self) -> bytes | None:
        """The owned name that refs written now belong to; ``None``: to this connection."""
        return name_key(self.name) if self.identity.is_registered else None

    def check_confidential(self) -> None:
        """
        Check that a secret may be sent.

        :raises Insecure: others could read it.
        """
        is_confidential = is_local(self.transport.getPeer()) or (
            self._is_server_checked and ISSLTransport.providedBy(self.transport)
        )
        if not is_confidential and not self._secret_in_clear:
            raise Insecure(sentence=_NOT_SENT)

    def dataReceived(self, data: bytes) -> None:
        """Cut the whole read at once: the base class copies the rest for every line."""
        self._has_received = True
        data = self._unfinished + data
        lines = data.split(b"\n")
        self._unfinished = lines.pop()
        if len(self._unfinished) > max(_MIN_BUFFER_BYTES, self.max_line_bytes + _EXTRA_BYTES):
            self.abort("The server sent a line longer than a relay's.")
            return
        if not lines or self._handler is None:
            return
        lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if self._has_to_look(data):
            lines = [line for line in lines if not self._is_own(line)]
        if self._handler is not None and lines:  # a refused name ends what it is for
            self._handler.lines_received(lines)

    def _has_to_look(self, data: bytes) -> bool:
        # An error without a ref may be the reason for the close that follows it.
        return (
            self.welcomed is not None
            or self._last_error is not None
            or b"!welcome " in data
            or b"!error " in data
            or b"!registered " in data
            or self.identity.is_token_answer_in(data)
            or self.identity.membership.may_be_told_in(data)
        )

    def _is_own(self, line: bytes) -> bool:
        """Look at a line; whether it answers what only this connection asked."""
        event = parse_line(line)
        if isinstance(self._last_error, _TAKEN_AWAY):
            self._last_error = None  # the relay goes on: it was about something else
        if not isinstance(event, Reply):
            if self.welcomed is not None:
                self._fail(WrongServer("What answers there is not a chatrelay."))
        elif self.identity.take_token(event):
            return True
        else:
            self._take_reply(event)
        return False

    def _take_reply(self, event: Reply) -> None:
        self.identity.membership.take(event, self.name)
        if event.word == "welcome" and event.arguments:
            self._take_welcome(event)
        elif event.word == "registered":
            self.identity.registered(event)
            self._ask_token()
        elif event.word == "error":
            self._take_error(event)

    def _take_error(self, reply: Reply) -> None:
        is_answer = self.identity.erred(reply)
        if "ref" in reply.tags:
            return
        error = refusal_from(reply)
        is_own = len(reply.arguments) > 1 and same_name(reply.arguments[1], self.name)
        if isinstance(error, _ENDING) or (
            isinstance(error, _TAKEN_AWAY) and is_own and not is_answer
        ):
            self._last_error = error
        # A relay without /caps is still a relay.
        if self.welcomed is not None and not isinstance(error, UnknownCommand):
            self._fail(error)

    def _take_welcome(self, reply: Reply) -> None:
        self.name = reply.arguments[0]
        for word in reply.arguments[1:]:
            key, _, value = word.partition("=")
            if key == "max-line" and value.isascii() and value.isdigit():
                self.max_line_bytes = min(int(value[:9]), MOST_LINE_BYTES)
        if self.welcomed is not None and self._handler is not None:
            self._last_error = None
            self.identity.granted(self.name)
            self._ask_token()
            # What the handler writes may be meant for them.
            if joining := self.identity.membership.requests():
                self.write_lines(joining)
            welcomed, self.welcomed = self.welcomed, None
            self._handler.name_granted(self)
            welcomed.callback(None)
        else:
            self.identity.renamed(reply)
            self._ask_token()

    def _ask_token(self) -> None:
        if self._handler is None or self._handler.asked_to_end:
            return
        request = self.identity.token_request()
        if request is not None:
            self.write_lines([request])

    def _fail(self, error: ChatrelayError) -> None:
        if self.welcomed is not None:
            welcomed, self.welcomed = self.welcomed, None
            self._handler = None
            welcomed.errback(error)

    def write_lines(self, lines: Sequence[bytes]) -> None:
        """Write lines, each given without its end."""
        self.write(b"\n".join(lines) + b"\n")

    def write(self, data: bytes) -> None:
        """Write whole lines, each with its end."""
        self.identity.written(data)
        self.transport.write(data)

    def abort(self, reason: str) -> None:
        """Drop the connection at once; `reason` is what its user is told."""
        self._abort_reason = reason
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Tell whoever waits."""
        error = cast(BaseException, reason.value)
        why = self._abort_reason or why_tls_failed(self.transport, error) or describe(error)
        if self._last_error is not None:
            why = f"The relay closed the connection: {self._last_error.sentence}"
        handler, self._handler = self._handler, None
        if self.welcomed is not None:
            welcomed, self.welcomed = self.welcomed, None
            why += self._perhaps_tls()
            welcomed.errback(WrongServer(why) if is_tls_refusal(error) else Unreachable(why))
        elif handler is not None:
            clean = reason.check(ConnectionDone) is not None and self._last_error is None
            handler.connection_lost(Disconnected(why), clean=clean)

    def on_timeout(self, _result: object, timeout_s: float) -> None:
        """
        Tell that there was no welcome in time.

        :raises Unreachable: always.
        """
        why = f"The server did not answer as a relay in {timeout_s:.0f} seconds."
        raise Unreachable(why + self._perhaps_tls())

    def _perhaps_tls(self) -> str:
        is_silent = not self._has_received and not ISSLTransport.providedBy(self.transport)
        return _SAID_NOTHING if is_silent else ""


class _ClientFactory(Factory):
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> ClientProtocol:  # noqa: ARG002
        return ClientProtocol()


async def open_connection(
    clock: IReactorTime,
    endpoint: IStreamClientEndpoint,
    claim: Claim,
    handler: LineHandler,
    timeout_s: float = WELCOME_TIMEOUT_S,
    identity: Identity | None = None,
) -> ClientProtocol:
    """
    Connect and take a name.

    :param timeout_s: how long the relay may take for its welcome.
    :param identity: what is to be kept up to date for the following connections.
    :returns: the connection, once the relay has said ``!welcome``.
    :raises Unreachable: no connection, no relay there, or no welcome in time.
    :raises Refusal: the relay refuses the name; `OwnedInClear` if it is registered and its
        secret would not be sent here.
    """
    try:
        connection = cast(ClientProtocol, await endpoint.connect(_ClientFactory()))
    except CancelledError:
        raise
    except Exception as error:
        raise Unreachable(describe_unreachable(endpoint, error)) from error
    try:
        # An endpoint may hand over a connection that is lost already.
        welcomed = connection.welcomed or fail(Unreachable("The connection was lost."))
        connection.begin(claim, handler, identity)
        welcomed.addTimeout(timeout_s, clock, onTimeoutCancel=connection.on_timeout)
        await welcomed
    except NameOwned as owned:
        connection.transport.abortConnection()
        try:
            connection.check_confidential()
        except Insecure:
            raise OwnedInClear(*owned.context, sentence=_NOT_ASKED) from None
        raise
    except BaseException:
        connection.welcomed = None
        connection.transport.abortConnection()
        raise
    return connection


def _set_socket_options(transport: Any) -> None:  # noqa: ANN401 - whatever an endpoint gives
    if hasattr(transport, "setTcpNoDelay"):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
    if isinstance(transport, ProtocolWrapper):
        transport = transport.transport  # the handle of TLS is OpenSSL's, and no socket
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if not isinstance(handle, socket.socket) or handle.family == socket.AF_UNIX:
        return
    for option, value in _TCP_OPTIONS:
        if hasattr(socket, option):
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
