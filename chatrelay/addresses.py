"""Where a peer is, and whether what travels between it and us can be read on the way."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ISSLTransport


def host_of(address: IPv4Address | IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """
    The host of an address; an IPv4 one that was mapped into IPv6 is an IPv4 one.

    :raises ValueError: it is none.
    """
    host = ipaddress.ip_address(address.host.partition("%")[0])
    return getattr(host, "ipv4_mapped", None) or host


def is_local(address: IAddress | None) -> bool:
    """Whether a peer is on this machine: it comes over loopback or a Unix socket."""
    if isinstance(address, IPv4Address | IPv6Address):
        return host_of(address).is_loopback
    return address is None or isinstance(address, UNIXAddress)


def is_confidential(transport: Any, *, is_local: bool) -> bool:  # noqa: ANN401 - whatever there is
    """
    Whether nobody else reads what travels on a connection: TLS, or what stays on this machine.

    Behind a proxy a peer's address is what the proxy says, and what it was sent over nobody
    knows: only what is itself a socket is believed to be local.

    :param is_local: whether its peer's address is.
    """
    return ISSLTransport.providedBy(transport) or (
        is_local and isinstance(transport, FileDescriptor)
    )
