"""Where a peer is, and whether what travels between it and us can be read on the way."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from chatrelay.console import Peer
from chatrelay.interfaces import Door
from chatrelay.networks import parse_address
from chatrelay.sockets import descriptor_of


def peer_of(address: IAddress | None) -> tuple[Peer, bool]:
    """
    Tell where a connection comes from, and whether that is this machine.

    :raises ValueError: its host is no address.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        host = parse_address(address.host)
        return Peer(str(host), address.port), host.is_loopback
    return Peer("a Unix socket", 0), True


def is_local(address: IAddress | None) -> bool:
    """Whether a peer is on this machine: it is reached over loopback or a Unix socket."""
    if isinstance(address, IPv4Address | IPv6Address):
        return parse_address(address.host).is_loopback
    return isinstance(address, UNIXAddress)


def door_of(transport: Any) -> Door:  # noqa: ANN401 - whatever there is
    """
    Which of the relay's ports a connection came to.

    Behind a proxy that is the relay's own port, not the one that the proxy tells of.
    """
    is_tls = ISSLTransport.providedBy(transport)
    try:
        address = (descriptor_of(transport) or transport).getHost()
    except (OSError, AttributeError):
        # Its socket is gone, and the relay has not been told yet.
        return Door("closed", is_tls)
    if isinstance(address, UNIXAddress):
        return Door("unix", is_tls)
    kind = "tls" if is_tls else "proxy" if is_proxied(transport) else "tcp"
    return Door(f"{kind}:{getattr(address, 'port', 0)}", is_tls)


def is_confidential(transport: Any, *, is_local: bool) -> bool:  # noqa: ANN401 - whatever there is
    """
    Whether nobody else reads what travels on a connection: TLS, or what stays on this machine.

    Behind a proxy a peer's address is what the proxy says, and what it was sent over nobody
    knows: only TLS itself and a socket itself are believed, and nothing that is put around them.

    :param is_local: whether its peer's address is.
    """
    if isinstance(transport, FileDescriptor):
        return is_local or ISSLTransport.providedBy(transport)
    return isinstance(transport, TLSMemoryBIOProtocol)


def is_proxied(transport: Any) -> bool:  # noqa: ANN401 - whatever there is
    """Whether a proxy will tell the address of a connection's peer."""
    return isinstance(transport, HAProxyProtocolWrapper)
