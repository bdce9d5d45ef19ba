"""What the relay listens on: from ``--port`` to an endpoint, and what is said about it."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    _parse,
    _WrapperServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.certificate.files import CERTIFICATE_FILE, KEY_FILE
from chatrelay.configuration import DEFAULT_PORT
from chatrelay.errors import Misuse
from chatrelay.sockets import (
    LISTEN_BACKLOG,
    bound_accepts,
    set_listen_backlog,
    set_listening_options,
)
from chatrelay.tls import RenewableCertificate, TlsEndpoint, is_tls

TLS_PREFIX = "tls"
SYSTEMD_PREFIX = "systemd"
LOOPBACK_INTERFACES = ("127.0.0.1", "::1")
MAX_PORT = 65_535

# What a machine without IPv6 answers.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class NoSuchSocketError(Misuse):
    """A port is to be a socket that systemd has opened, and has not for this process."""


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


def parse_port(
    reactor: Any,  # noqa: ANN401 - several interfaces
    written: str,
    interface: str | None,
    certificate_directory: Path | None = None,
) -> list[Listener]:
    """
    Read one ``--port``.

    :param reactor: what the endpoints will listen with.
    :param written: a number; ``tls:`` and what `_parse_tls` takes; or any other Twisted server
        endpoint string, ``systemd:`` among them.
    :param interface: the address for a number; ``None`` for loopback, IPv4 and IPv6.
    :param certificate_directory: where ``tls:`` finds its certificate and key if it names none;
        ``None`` if it has to.
    :raises Misuse: it is none of these, or the certificate can not be used.
    """
    if written.partition(":")[0].lower() == TLS_PREFIX:
        # Twisted has an endpoint of this name, which does not notice a renewed certificate.
        return _parse_tls(reactor, written, interface, certificate_directory)
    if not written.isdecimal():
        return [Listener(written, _endpoint(reactor, written, written))]
    return [
        Listener(written, endpoint, is_optional=index > 0)
        for index, endpoint in enumerate(_tcp_endpoints(reactor, written, written, interface))
    ]


def _endpoint(
    reactor: Any,  # noqa: ANN401
    written: str,
    description: str,
) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:  # Each kind of endpoint has its own.
        # Behind ``haproxy:``, too.
        if isinstance(error, LookupError) and SYSTEMD_PREFIX in description.split(":"):
            raise NoSuchSocketError(
                f"--port {written!a}: systemd has handed over no such socket; look whether its"
                " .socket unit is started, and what its FileDescriptorName is"
            ) from None
        raise Misuse(
            f"--port {written!a} is neither a number nor a Twisted endpoint string"
            f" such as tcp:{DEFAULT_PORT}: {error}"
        ) from None
    if isinstance(endpoint, _WrapperServerEndpoint):  # of ``haproxy:``
        _check_family(written, endpoint._wrappedEndpoint)
        return ProxiedEndpoint(endpoint)
    _check_family(written, endpoint)
    return endpoint


def _check_family(written: str, endpoint: IStreamServerEndpoint) -> None:
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        family = _family_of_inherited(endpoint.fileno)
        if family != endpoint.addressFamily:
            # Peers would have the addresses that chance put into memory.
            right = family.name.removeprefix("AF_")
            raise Misuse(f"--port {written!a}: that socket is one of domain={right}")


class _ProxiedFactory(Factory):
    """A factory that is not told the addresses from which its connections come."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory) -> None:
        self._wrapped = wrapped

    def startFactory(self) -> None:
        """The port listens."""
        self._wrapped.doStart()

    def stopFactory(self) -> None:
        """The port is closed."""
        self._wrapped.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ANN401, ARG002 - as wrapped
        """Make the protocol of one connection."""
        return self._wrapped.buildProtocol(None)  # type: ignore[arg-type]  # ours takes it


@implementer(IStreamServerEndpoint)
class ProxiedEndpoint:
    """
    Listens as an endpoint for proxies does.

    The proxy's address is nobody's who comes through it: that it was refused something itself
    refuses nothing to them, and Twisted's wrapper would fail with a factory that does.
    """

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; fires with the port, or fails as the other endpoint does."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(_ProxiedFactory(factory))
        return listening


@cache
def _family_of_inherited(number: int) -> socket.AddressFamily:
    # Looked at once: when the relay listens, the number may become another file's.
    with socket.socket(fileno=os.dup(number)) as inherited:
        return socket.AddressFamily(inherited.family)


def prepare(port: IListeningPort) -> None:
    """Set the options of a socket that listens, most of which its connections inherit."""
    bound_accepts(port)
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
    words = f"{host} port {address.port}"
    if is_tls(port):
        words += ", with TLS"
    if is_loopback(port):
        words += ", for this machine only"
    return words


def is_loopback(port: IListeningPort) -> bool:
    """Whether only this machine can connect to a TCP port."""
    host = getattr(port.getHost(), "host", None)
    return host is not None and ipaddress.ip_address(host.partition("%")[0]).is_loopback


def is_open_in_clear(port: IListeningPort) -> bool:
    """Whether other machines can connect to a port without TLS."""
    has_host = getattr(port.getHost(), "host", None) is not None
    return has_host and not is_loopback(port) and not is_tls(port)


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


def _check_address(shown: str, written: str) -> None:
    try:
        ipaddress.ip_address(written.partition("%")[0])
    except ValueError:
        raise Misuse(
            f"{shown} is not an address; 0.0.0.0 is every one of IPv4, :: of IPv6"
        ) from None


def _parse_tls(
    reactor: Any,  # noqa: ANN401
    written: str,
    interface: str | None,
    certificate_directory: Path | None,
) -> list[Listener]:
    """
    ``tls:PORT[:certificate=FILE:key=FILE][:interface=ADDRESS]``, quoted as Twisted's are.

    With ``systemd`` as the port, and what Twisted's endpoint of that name takes instead of an
    interface, it is a socket that systemd has opened.
    """
    try:
        positional, named = _parse(written)
        [_, number] = positional
        certificate_file, key_file = named.pop("certificate", None), named.pop("key", None)
        is_inherited = number == SYSTEMD_PREFIX
        if not is_inherited:
            interface = named.pop("interface", interface)
            if named or not number.isdecimal():
                raise ValueError
        if (certificate_file is None) != (key_file is None):
            raise ValueError
    except Exception:  # A backslash at the end is a RuntimeError.
        raise Misuse(
            f"--port {written!a} is not {TLS_PREFIX}:PORT[:certificate=FILE:key=FILE]"
            "[:interface=ADDRESS]; a colon in a value is written \\:"
        ) from None
    if not is_inherited and interface is not None:
        _check_address(f"interface={interface!a} of --port {written!a}", interface)
    if certificate_file is None:
        if certificate_directory is None:
            raise Misuse(f"--port {written!a} needs certificate=FILE and key=FILE")
        certificate_file = certificate_directory / CERTIFICATE_FILE
        key_file = certificate_directory / KEY_FILE
    try:
        certificate = RenewableCertificate(
            Path(certificate_file).expanduser(), Path(key_file).expanduser(), reactor
        )
    except (Misuse, RuntimeError) as error:  # there is no such user
        raise Misuse(f"--port {written}: {error}") from None
    if is_inherited:
        words = [f"{key}={quoteStringArgument(value)}" for key, value in named.items()]
        endpoints = [_endpoint(reactor, written, ":".join([SYSTEMD_PREFIX, *words]))]
    else:
        endpoints = _tcp_endpoints(reactor, written, number, interface)
    return [
        Listener(written, TlsEndpoint(endpoint, certificate, reactor), is_optional=index > 0)
        for index, endpoint in enumerate(endpoints)
    ]


def _tcp_endpoints(
    reactor: Any,  # noqa: ANN401
    written: str,
    number: str,
    interface: str | None,
) -> list[IStreamServerEndpoint]:
    if int(number) > MAX_PORT:
        raise Misuse(f"--port {written}: a port is a number up to {MAX_PORT}")
    interfaces = LOOPBACK_INTERFACES if interface is None else (interface,)
    return [_tcp(reactor, int(number), address) for address in interfaces]


def _tcp(reactor: Any, number: int, interface: str) -> IStreamServerEndpoint:  # noqa: ANN401
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(
        reactor, number, backlog=LISTEN_BACKLOG, interface=interface
    )
    return endpoint
