"""Whom a certificate is for: names and addresses of a machine, as they are written in one."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import idna
from cryptography import x509

from chatrelay.errors import Misuse

MAX_NAME_BYTES = 253
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# Of documentation, RFC 5737 and RFC 3849.  Nothing is sent to them: connecting a UDP socket
# only makes the kernel choose which address of this machine it would send from.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_ANY_PORT = 9


def subject_name(written: str) -> x509.GeneralName:
    """
    Read one name or address.

    :param written: a host name, in Unicode too, ``*.`` and a domain, or an IPv4 or IPv6 address.
    :raises Misuse: it is neither.
    """
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return x509.DNSName(_host_name(written))
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise Misuse(
            f"{written!a} is an address of one network card of one machine, and no certificate"
            " can be for that; use a name or another address"
        )
    return x509.IPAddress(address)


def subject_names(written: Iterable[str]) -> list[x509.GeneralName]:
    """
    Read several, each once.

    :raises Misuse: one of them is neither a name nor an address.
    """
    return list(dict.fromkeys(map(subject_name, written)))


def shown_names(names: Iterable[x509.GeneralName]) -> list[str]:
    """What they are for people: host names and addresses, others left out."""
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def names_of(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    """The names and addresses that a certificate is for, in its own order."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(extension.value)


def names_of_this_machine() -> list[x509.GeneralName]:
    """What clients may call the machine that this runs on, as far as it knows itself."""
    names: list[x509.GeneralName] = []
    for written in ("localhost", *_host_names(), "127.0.0.1", "::1", *_addresses()):
        # What somebody called this machine need not be a name that a certificate can have.
        with suppress(Misuse):
            names.append(subject_name(written))
    return list(dict.fromkeys(names))


def _host_names() -> Iterator[str]:
    name = socket.gethostname()
    yield name
    full_name = socket.getfqdn(name)
    if "." in full_name and not full_name.endswith((".arpa", ".localdomain")):
        yield full_name


def _addresses() -> Iterator[str]:
    for family, elsewhere in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, _ANY_PORT))
            yield str(probe.getsockname()[0])


def _host_name(written: str) -> str:
    wildcard, name = ("*.", written[2:]) if written.startswith("*.") else ("", written)
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            name = ""
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    is_name = all(map(_LABEL.fullmatch, labels)) and len(name) <= MAX_NAME_BYTES
    # 300.1.1.1 is a mistyped address, and no name: a last label has to have a letter.
    if not is_name or labels[-1].isdecimal() or (wildcard and len(labels) < 2):
        raise Misuse(
            f"{written!a} is neither a host name, such as relay.example, nor an IP address,"
            " such as 192.0.2.7"
        )
    return wildcard + name
