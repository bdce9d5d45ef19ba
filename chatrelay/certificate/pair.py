"""A certificate and its key, as a server reads them from two files."""

from __future__ import annotations

import datetime
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from chatrelay.certificate.files import default_directory
from chatrelay.certificate.names import names_of, shown_names
from chatrelay.errors import Misuse
from chatrelay.printable import printable
from chatrelay.store.database import StoreError

_MAX_SHOWN_NAMES = 6
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class Pair(NamedTuple):
    """
    A certificate with its key.

    :ivar certificate: the server's own.
    :ivar chain: those that lead from it to one that clients know, in the order of the file.
    :ivar key: the private key; one of `cryptography`'s.
    :ivar is_key_open: whether other users of the machine may read the file of the key.
    """

    certificate: x509.Certificate
    chain: Sequence[x509.Certificate]
    key: Any
    is_key_open: bool

    @property
    def begins(self) -> datetime.datetime:
        """When it becomes valid."""
        return self.certificate.not_valid_before_utc

    @property
    def ends(self) -> datetime.datetime:
        """When it is no longer valid."""
        return self.certificate.not_valid_after_utc

    def is_as(self, other: Pair) -> bool:
        """Whether there is nothing new in it: the same certificates, a key kept as well."""
        return (self.certificate, list(self.chain), self.is_key_open) == (
            other.certificate,
            list(other.chain),
            other.is_key_open,
        )

    def names(self) -> str:
        """Whom it is for, for people."""
        names = shown_names(names_of(self.certificate))
        if not names:
            common_names = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            names = [str(name.value) for name in common_names]
        shown = ", ".join(printable(name.encode()) for name in names[:_MAX_SHOWN_NAMES])
        more = len(names) - _MAX_SHOWN_NAMES
        return f"{shown} and {more} more" if more > 0 else shown or "nobody"


def read_pair(certificate_file: Path, key_file: Path) -> Pair:
    """
    Read a certificate with its chain, and its key, both PEM.

    :param certificate_file: the server's certificate first, then what leads to its authority.
    :raises Misuse: they can not be used; a sentence that names the file and what is wrong.
    """
    chain = _certificates(certificate_file)
    key, is_key_open = _key(key_file)
    fits = [_fits(certificate, key) for certificate in chain]
    if not fits[0]:
        if any(fits):
            raise Misuse(
                f"{certificate_file} has the relay's certificate behind another one; it has to"
                " come first, and its chain after it"
            )
        raise Misuse(f"the key in {key_file} is not that of the certificate in {certificate_file}")
    return Pair(chain[0], chain[1:], key, is_key_open)


def _advice(missing: Path) -> str:
    try:
        is_default = missing.parent == default_directory(os.environ)
    except StoreError:  # without a home there is no default
        is_default = False
    where = "" if is_default else f" --directory {shlex.quote(str(missing.parent))}"
    return f"python -m chatrelay.certificate{where} makes one"


def _certificates(file: Path) -> Sequence[x509.Certificate]:
    contents, _ = _read(file, f"no certificate at {file}; {_advice(file)}")
    try:
        chain = x509.load_pem_x509_certificates(contents)
        # What the rest looks at is parsed only now.
        names_of(chain[0])
        for certificate in chain:
            certificate.public_key()
        # The parser stops without a word at one that is cut short.
        if not contents.count(_BEGIN) == contents.count(_END) == len(chain):
            raise ValueError
    except Exception:  # The parser has a dozen kinds.
        raise Misuse(f"{file} holds no certificate in PEM form, or a broken one") from None
    return chain


def _key(file: Path) -> tuple[Any, bool]:
    contents, mode = _read(file, f"no key at {file}; {_advice(file)}, with its certificate")
    try:
        key: Any = serialization.load_pem_private_key(contents, None)
    except TypeError:
        raise Misuse(
            f"the key in {file} is encrypted, and nobody is there to give the relay its"
            " passphrase: decrypt it with openssl pkey -in ENCRYPTED -out KEY"
        ) from None
    except Exception:
        # Without what the parser says: it is about a secret.
        raise Misuse(f"{file} holds no private key in PEM form, or a broken one") from None
    return key, bool(mode & stat.S_IRWXO)


def _read(file: Path, missing: str) -> tuple[bytes, int]:
    try:
        with file.open("rb") as opened:
            return opened.read(), os.fstat(opened.fileno()).st_mode
    except FileNotFoundError:
        raise Misuse(f"there is {missing}") from None
    except OSError as error:
        raise Misuse(f"{file} can not be read: {error.strerror or error}") from None


def _fits(certificate: x509.Certificate, key: Any) -> bool:  # noqa: ANN401 - as in `Pair`
    return bool(certificate.public_key() == key.public_key())
