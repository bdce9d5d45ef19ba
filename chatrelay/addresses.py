"""Where a peer is, and whether what travels between it and us can be read on the way."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from chatrelay.console import Peer


def host_of(address: IPv4Address | IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """
    The host of an address; an IPv4 one that was mapped into IPv6 is an IPv4 one.

    :raises ValueError: it is none.
    """
    host = ipaddress.ip_address(address.host.partition("%")[0])
    return getattr(host, "ipv4_mapped", None) or host


def peer_of(address: IAddress | None) -> tuple[Peer, bool]:
    """
    Tell where a connection comes from, and whether that is this machine.

    :raises ValueError: its host is no address.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        host = host_of(address)
        return Peer(str(host), address.port), host.is_loopback
    return Peer("a Unix socket", 0), True


def is_local(address: IAddress | None) -> bool:
    """Whether a peer is on this machine: it is reached over loopback or a Unix socket."""
    if isinstance(address, IPv4Address | IPv6Address):
        return host_of(address).is_loopback
    return isinstance(address, UNIXAddress)


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
