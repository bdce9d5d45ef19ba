"""What a host's address is, and what counts as one address where addresses are counted."""

from __future__ import annotations

import ipaddress

# Of an IPv6 address: less than that one customer has all to himself.
_IPV6_NETWORK_BITS = 64
# Of a site: as much as anybody is given for the asking, 65,536 of those.
_IPV6_SITE_BITS = 48

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(host: str) -> Address:
    """
    The address that a host is, without its zone; one of IPv4 where it was mapped into IPv6.

    :raises ValueError: it is none.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one, else what it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))


def site_of(network: str) -> str:
    """
    Which addresses may well be one customer's, too: of a /64 of IPv6 its /48.

    :param network: as `network_of` has it.
    :returns: nothing for all others.
    """
    if ":" not in network:
        return ""
    return str(ipaddress.IPv6Network(network).supernet(new_prefix=_IPV6_SITE_BITS))
