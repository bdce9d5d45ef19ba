"""
Which server is trusted under TLS, and what is said when one is not.

OpenSSL checks the chain of certificates and their dates, `service_identity` the host;
here is which of them are asked, that any doubt is a no, and the sentence for the user.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from chatrelay.client.display import shortened
from chatrelay.errors import Misuse

# OpenSSL's numbers (x509_vfy.h) of what is wrong with a chain of certificates.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = 18
# Its issuer is not there; or one of the same name is, with another key.
_UNKNOWN_ISSUER = (2, 7, 19, 20, 21)
_MAX_NAMES_SHOWN = 3
# How OpenSSL names an answer that is not TLS.
_NOT_TLS = ("http request", "packet length too long", "wrong version number")


class Advice(NamedTuple):
    """
    How a user is told to do something about it.

    :ivar trust: names what takes the certificate of a CA.
    :ivar plain: says how to connect without TLS.
    """

    trust: str
    plain: str


FOR_PROGRAMS = Advice("ca_file", "connect without TLS")
FOR_USERS = Advice("--ca FILE", "leave out --tls")


@implementer(IOpenSSLClientConnectionCreator)
class ServerTrust:
    """
    Makes TLS connections to one server, which go on only if it is the right one.

    Nothing that is written to such a connection leaves before its server is checked.
    Twisted's own check of the host lets a certificate pass that it can not read the
    names of, or that has none; this one does not.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ca_file: str | None = None,
        is_checked: bool = True,
        advice: Advice = FOR_PROGRAMS,
    ) -> None:
        """
        Read what is trusted, once.

        :param host: the name or address that the certificate has to be for.
        :param port: for what is said.
        :param ca_file: PEM with the certificates that are trusted instead of the
            system's.
        :param is_checked: false trusts whoever answers.
        :raises Misuse: the host can not be one, or there is no certificate in the file.
        """
        self.host = host
        self.port = port
        self.place = f"{host} port {port}"
        self.advice = advice
        self._ca_file = ca_file
        self._is_checked = is_checked
        # Neither is part of what a certificate is for: the root's dot, an address' interface.
        self._checked_host = host.removesuffix(".").partition("%")[0]
        trusted = platformTrust() if ca_file is None else _trust_root(ca_file)
        try:
            self._creator = optionsForClientTLS(
                self._checked_host,
                trustRoot=trusted,
                extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
            )
        except UnicodeError as error:
            raise Misuse(f"This is not the name of a host: {shortened(host)} ({error}).") from None

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the TLS side of one connection."""
        connection = self._creator.clientConnectionForTLS(protocol)
        attempt = _attempts[connection] = _Attempt(self)
        # Not VERIFY_NONE without a callback: OpenSSL would go on to call Twisted's.
        connection.set_verify(
            SSL.VERIFY_PEER, attempt.is_good if self._is_checked else _whoever_it_is
        )
        return connection

    def objection(self, certificate: crypto.X509, error: int, depth: int) -> str | None:
        """
        Why a certificate is not accepted.

        :param error: OpenSSL's number for what is wrong with it; 0 for nothing.
        :param depth: 0 for the server's own, more for those that it rests on.
        :returns: a sentence; ``None`` if it is accepted.
        """
        if error:
            return self._chain_objection(certificate.to_cryptography(), error, depth)
        # Only now: the names in a certificate that nobody vouches for mean nothing.
        return self._host_objection(certificate.to_cryptography()) if depth == 0 else None

    def _chain_objection(self, certificate: x509.Certificate, error: int, depth: int) -> str:
        which = f"The certificate of {self.place}"
        if depth and error in (_EXPIRED, _NOT_YET_VALID):
            which = f"The CA certificate {_name(certificate.subject)} behind that of {self.place}"
        if error == _EXPIRED:
            when = _moment(certificate.not_valid_after_utc)
            return f"{which} expired on {when}: it has to be renewed, or this clock is wrong."
        if error == _NOT_YET_VALID:
            when = _moment(certificate.not_valid_before_utc)
            return f"{which} is valid only from {when}: is the clock of this machine right?"
        if error == _SELF_SIGNED:
            return (
                f"{which} is self-signed, and not trusted: get it from who runs the relay,"
                f" and give it with {self.advice.trust}."
            )
        if error in _UNKNOWN_ISSUER:
            known = "trusted" if self._ca_file is None else f"in {shortened(self._ca_file)}"
            return (
                f"{which} is signed by {_name(certificate.issuer)}, which is not {known}:"
                f" give the certificate of its CA with {self.advice.trust}."
            )
        return f"{which} is not accepted: OpenSSL's verification error {error} at depth {depth}."

    def _host_objection(self, certificate: x509.Certificate) -> str | None:
        which, host = f"The certificate of {self.place}", self._checked_host
        try:
            if _is_address(host):
                verify_certificate_ip_address(certificate, host)
            else:
                verify_certificate_hostname(certificate, host)
        except VerificationError:
            hosts = _hosts(certificate)
            return (
                f"{which} is for {hosts}, not for {host}: this may be another server, or its"
                " certificate is to be made for that, too."
            )
        except CertificateError:
            return f"{which} names no host that can be checked: a subjectAltName has to be {host}."
        return None


class _Attempt:
    """One handshake, and what was found out in it."""

    def __init__(self, trust: ServerTrust) -> None:
        self.trust = trust
        self.objection: str | None = None

    def is_good(
        self,
        _connection: SSL.Connection,
        certificate: crypto.X509,
        error: int,
        depth: int,
        is_valid: int,
    ) -> bool:
        """Answer OpenSSL, which asks about each certificate, the server's own last."""
        try:
            objection = self.trust.objection(certificate, 0 if is_valid else error or -1, depth)
        except Exception:  # whatever a library finds too odd to read is not to be trusted
            objection = f"The certificate of {self.trust.place} can not be read."
        self.objection = self.objection or objection
        return self.objection is None


# Lives as long as its connection, whose own place for such things Twisted uses.
_attempts: WeakKeyDictionary[SSL.Connection, _Attempt] = WeakKeyDictionary()


def _whoever_it_is(*_: object) -> bool:
    return True


def why_tls_failed(transport: object, error: BaseException) -> str | None:
    """
    One sentence about a connection that ended because of TLS.

    :param transport: of the connection, in its `connectionLost`.
    :param error: what that was told.
    :returns: ``None`` if TLS has nothing to do with it.
    """
    # Others have no handle any more when they are lost.
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return None
    connection = transport.getHandle()
    attempt = _attempts.get(connection)
    if attempt is not None:
        return attempt.objection or _why_handshake_failed(connection, attempt.trust, error)
    # From an endpoint string: Twisted checked it, and where it goes is not known here.
    if isinstance(error, VerificationError):
        return "The certificate of the server is for another host."
    reason = _reason(error)
    return None if reason is None else f"TLS with the server failed: {reason}."


def is_tls_refusal(error: BaseException) -> bool:
    """Whether a connection ended because the two sides of TLS do not agree, as on a certificate."""
    return isinstance(error, SSL.Error | VerificationError)


def _why_handshake_failed(
    connection: SSL.Connection, trust: ServerTrust, error: BaseException
) -> str | None:
    reason = _reason(error)
    plain = f"{trust.advice.plain}, or is it another port?"
    if reason in _NOT_TLS:
        return f"{trust.place} does not speak TLS: {plain}"
    if reason is not None:
        return f"TLS with {trust.place} failed: {reason}."
    if connection.get_peer_finished() is None:
        return f"{trust.place} closed the connection instead of answering in TLS: {plain}"
    return None


def _reason(error: BaseException) -> str | None:
    """OpenSSL's own words for an error of it; nothing that the peer sent."""
    if not isinstance(error, SSL.Error):
        return None
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return type(error).__name__


def _trust_root(ca_file: str) -> Any:  # noqa: ANN401 - Twisted has no public name for it
    which = f"The file of CA certificates, {shortened(ca_file)},"
    try:
        found = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
    except OSError as error:
        raise Misuse(f"{which} can not be read: {error.strerror}.") from None
    except ValueError:
        raise Misuse(f"{which} holds no certificate in PEM, or a broken one.") from None
    return trustRootFromCertificates(
        [Certificate(crypto.X509.from_cryptography(certificate)) for certificate in found]
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hosts(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    shown = [shortened(host)[1:-1] for host in hosts[:_MAX_NAMES_SHOWN]]
    if len(hosts) > len(shown):
        shown.append(f"{len(hosts) - len(shown)} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]])) or "no host"


def _name(name: x509.Name) -> str:
    """What people call the one who is named in a certificate; anybody may have written it."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return shortened(str(attribute.value))
    return shortened(name.rfc4514_string())


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d at %H:%M} UTC"
