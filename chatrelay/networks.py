"""What counts as one address where addresses are counted."""

from __future__ import annotations

import ipaddress

# Of an IPv6 address: less than that one customer has all to himself.
_IPV6_NETWORK_BITS = 64


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one, else what it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
