"""What the relay listens on: from ``--port`` to an endpoint, and what is said about it."""

from __future__ import annotations

import errno
import ipaddress
import os
from typing import Any, NamedTuple

from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure

from chatrelay.errors import Misuse
from chatrelay.sockets import LISTEN_BACKLOG, set_listen_backlog, set_listening_options

DEFAULT_PORT = "12345"
LOOPBACK_INTERFACES = ("127.0.0.1", "::1")
MAX_PORT = 65_535

# What a machine without IPv6 answers.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listener(NamedTuple):
    """
    Something to listen on.

    :ivar written: what the operator wrote, for error messages.
    :ivar endpoint: what that means.
    :ivar is_optional: whether a machine that does not have its address does without.
    """

    written: str
    endpoint: IStreamServerEndpoint
    is_optional: bool = False


def parse_port(reactor: Any, written: str, interface: str | None) -> list[Listener]:  # noqa: ANN401
    """
    Read one ``--port``.

    :param reactor: what the endpoints will listen with.
    :param written: a number, or any Twisted server endpoint string.
    :param interface: the address for a number; ``None`` for loopback, IPv4 and IPv6.
    :raises Misuse: it is neither, or the interface is no address.
    """
    if not written.isdecimal():
        try:
            return [Listener(written, serverFromString(reactor, written))]
        except Exception as error:  # Each kind of endpoint has its own.
            raise Misuse(
                f"--port {written!a} is neither a number nor a Twisted endpoint string"
                f" such as tcp:{DEFAULT_PORT}: {error}"
            ) from None
    number = int(written)
    if number > MAX_PORT:
        raise Misuse(f"--port {written}: a port is a number up to {MAX_PORT}")
    interfaces = LOOPBACK_INTERFACES if interface is None else (interface,)
    return [
        Listener(written, _tcp(reactor, number, address), is_optional=index > 0)
        for index, address in enumerate(interfaces)
    ]


def check_interface(written: str) -> str:
    """
    Check an ``--interface``.

    :raises Misuse: it is no IPv4 or IPv6 address.
    """
    try:
        ipaddress.ip_address(written.partition("%")[0])
    except ValueError:
        raise Misuse(
            f"--interface {written!a} is not an address; 0.0.0.0 is every one of IPv4, :: of IPv6"
        ) from None
    return written


def prepare(port: IListeningPort) -> None:
    """Set the options of a socket that listens, which its connections inherit."""
    listening = getattr(port, "socket", None)
    if listening is not None:
        set_listening_options(listening)
        set_listen_backlog(listening)


def describe(port: IListeningPort) -> str:
    """Where a port listens, for people."""
    address: Any = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        path = getattr(address, "name", None)
        return f"the Unix socket {os.fsdecode(path)}" if path else str(address)
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return f"{host} port {address.port}, for this machine only"
    return f"{host} port {address.port}"


def is_loopback(port: IListeningPort) -> bool:
    """Whether only this machine can connect to a TCP port."""
    host = getattr(port.getHost(), "host", None)
    return host is not None and ipaddress.ip_address(host.partition("%")[0]).is_loopback


def is_missing_address(failure: Failure) -> bool:
    """Whether listening failed because this machine does not have such an address."""
    error = failure.value
    return (
        isinstance(error, CannotListenError)
        and getattr(error.socketError, "errno", None) in _NO_SUCH_ADDRESS
    )


def explain(listener: Listener, failure: Failure) -> str:
    """Why the relay can not listen, one line for the person who started it."""
    error = failure.value
    if not isinstance(error, CannotListenError):
        return f"can not listen on --port {listener.written}: {failure.getErrorMessage()}"
    number = getattr(error.socketError, "errno", None)
    reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
    where = f"--port {listener.written}"
    if error.interface:
        where += f" at {error.interface}"
    advice = {
        errno.EADDRINUSE: "; stop what listens there, or choose another port with --port",
        errno.EACCES: "; ports below 1024 need privileges",
        errno.EADDRNOTAVAIL: "; this machine does not have that address",
    }.get(number or 0, "")
    return f"can not listen on {where}: {reason}{advice}"


def _tcp(reactor: Any, number: int, interface: str) -> IStreamServerEndpoint:  # noqa: ANN401
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(
        reactor, number, backlog=LISTEN_BACKLOG, interface=interface
    )
    return endpoint
