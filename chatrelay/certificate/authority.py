"""A private authority, and the certificates that it signs for a relay."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chatrelay.certificate.names import shown_names
from chatrelay.errors import Misuse

AUTHORITY_DAYS = 3653
SERVER_DAYS = 397
MAX_DAYS = AUTHORITY_DAYS
# Of machines whose clocks are late, devices that have just started among them.
_CLOCK_SKEW = datetime.timedelta(hours=1)
# X.520 allows no more in a common name.
_MAX_COMMON_NAME = 64


class Authority(NamedTuple):
    """
    Who signs certificates.

    :ivar certificate: what clients are given, to know them by.
    :ivar key: what nobody is given.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """Its certificate, as a file's contents."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Its key, as a file's contents."""
        return _key_pem(self.key)


class Issued(NamedTuple):
    """
    A certificate that an authority has signed.

    :ivar chain_pem: the certificate and its authority's, as a file's contents.
    :ivar key_pem: its key, likewise.
    """

    certificate: x509.Certificate
    chain_pem: bytes
    key_pem: bytes


def make_authority(host: str, now: datetime.datetime) -> Authority:
    """
    Make an authority with a new key.

    :param host: the machine it is made on, for whoever looks at it later.
    :param now: with a time zone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one machine are told apart by their dates.
    subject = _common_name(f"chatrelay authority {now:%Y-%m-%d}, {host}")
    certificate = (
        _builder(subject, subject, key.public_key(), now, now + _days(AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def read_authority(certificate_pem: bytes, key_pem: bytes) -> Authority:
    """
    Read back what `make_authority` made.

    :raises Misuse: these are not an authority and its key; with what is wrong with it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise Misuse(f"it can not be read ({_first_line(error)})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Misuse("its key is not one that this tool makes")
    if certificate.public_key() != key.public_key():
        raise Misuse("its key is not the one of its certificate")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        raise Misuse("it is not an authority's") from None
    if not constraints.value.ca:
        raise Misuse("it is not an authority's")
    return Authority(certificate, key)


def issue(
    authority: Authority,
    names: Sequence[x509.GeneralName],
    now: datetime.datetime,
    days: int = SERVER_DAYS,
) -> Issued:
    """
    Sign a certificate for a server, with a new key.

    :param names: the names and addresses it is for; one at least.
    :param now: with a time zone.
    :param days: for how long, if the authority lasts as long.
    :raises Misuse: the authority is not valid any more.
    """
    ends = min(now + _days(days), authority.certificate.not_valid_after_utc)
    if ends <= now:
        raise Misuse(f"it ended on {ends:%Y-%m-%d}")
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key()
    identifier = authority.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    # Clients go by the alternative names; the common name is for people.
    subject = _common_name(shown_names(names)[0])
    certificate = (
        _builder(subject, authority.certificate.subject, public_key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    chain_pem = certificate.public_bytes(serialization.Encoding.PEM) + authority.certificate_pem
    return Issued(certificate, chain_pem, _key_pem(key))


def has_signed(authority: Authority, certificate: x509.Certificate) -> bool:
    """Whether a certificate is one of an authority's."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # Each kind of signature has its own.
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(ends)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_MAX_COMMON_NAME])])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _days(days: int) -> datetime.timedelta:
    return datetime.timedelta(days=days)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
