"""``python -m chatrelay.certificate``: the tool as a program."""

from __future__ import annotations

import datetime
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.certificate import authority as authorities
from chatrelay.certificate.authority import Authority
from chatrelay.certificate.files import (
    AUTHORITY_FILE,
    AUTHORITY_KEY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    PUBLIC_MODE,
    SECRET_MODE,
    alone_in,
    default_directory,
    replace,
)
from chatrelay.certificate.names import (
    names_of,
    names_of_this_machine,
    shown_names,
    subject_names,
)
from chatrelay.errors import ChatrelayError, Misuse

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class CertificateOptions(usage.Options):
    """
    The options of the tool.

    ``self["directory"]`` is a path or ``None``, ``self["days"]`` a number, and ``self["names"]``
    a list of `cryptography.x509.GeneralName`.
    """

    synopsis = "python -m chatrelay.certificate [options] [NAME_OR_ADDRESS ...]"
    longdesc = (
        "Make a certificate for a relay's TLS port, for the names and addresses that clients"
        " reach it by, signed by an authority of your own, which is made the first time. Run it"
        " again to renew the certificate. Without names: those it has already, or those that"
        " this machine has."
    )
    optParameters = [  # noqa: N815 - usage.Options' name
        [
            "directory",
            "d",
            None,
            "Where the files are [default: where the relay looks for them].",
        ],
        ["days", None, str(authorities.SERVER_DAYS), "For how many days the certificate is."],
    ]

    def opt_version(self) -> None:
        """Display the versions of chatrelay and Twisted, and exit."""
        print(f"chatrelay {__version__}")
        super().opt_version()

    def parseArgs(self, *names: str) -> None:
        """
        Take the names.

        :raises usage.UsageError: one is neither a name nor an address.
        """
        try:
            self["names"] = subject_names(names)
        except Misuse as error:
            raise usage.UsageError(str(error)) from None

    def postOptions(self) -> None:
        """
        Check the numbers.

        :raises usage.UsageError: there are too few or too many days.
        """
        days = self["days"]
        if not (days.isdecimal() and days.isascii() and 1 <= int(days) <= authorities.MAX_DAYS):
            raise usage.UsageError(
                f"--days {days!a}: it takes a whole number from 1 to {authorities.MAX_DAYS}"
            )
        self["days"] = int(days)


class _Directory:
    """The files of one relay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority_file = path / AUTHORITY_FILE
        self.authority_key_file = path / AUTHORITY_KEY_FILE
        self.certificate_file = path / CERTIFICATE_FILE
        self.key_file = path / KEY_FILE

    def read_authority(self) -> Authority | None:
        """
        The authority there is; ``None`` if there is none.

        :raises Misuse: there is something, and it can not be used.
        """
        has_certificate = self.authority_file.exists()
        if has_certificate != self.authority_key_file.exists():
            there, missing = self.authority_file, self.authority_key_file
            if not has_certificate:
                there, missing = missing, there
            raise Misuse(
                f"{there} is there, but {missing.name} is not. Put that back; or move"
                f" {there.name}, {CERTIFICATE_FILE} and {KEY_FILE} away and a new authority is"
                " made, which every client has to be given"
            )
        if not has_certificate:
            return None
        try:
            return authorities.read_authority(
                self.authority_file.read_bytes(), self.authority_key_file.read_bytes()
            )
        except Misuse as error:
            raise self.unusable_authority(error) from None

    def unusable_authority(self, error: Misuse) -> Misuse:
        """What to do about an authority that can not be used."""
        return Misuse(
            f"the authority in {self.authority_file} can not be used: {error}. Move it and"
            f" {self.authority_key_file.name} away, and a new one is made, which every client has"
            " to be given"
        )

    def read_certificate(self, authority: Authority | None) -> x509.Certificate | None:
        """
        The certificate there is; ``None`` if there is none.

        :raises Misuse: it is none that this tool has made, and so not to be replaced by it.
        """
        if not self.certificate_file.exists():
            if self.key_file.exists():
                raise self._foreign(self.key_file)
            return None
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except ValueError:
            raise self._foreign(self.certificate_file) from None
        if authority is None or not authorities.has_signed(authority, certificate):
            raise self._foreign(self.certificate_file)
        return certificate

    def _foreign(self, file: Path) -> Misuse:
        return Misuse(
            f"{file} is there, and the authority in {self.authority_file} did not sign it. It is"
            " not replaced: move it away, or choose another --directory"
        )


def make(
    path: Path, names: Sequence[x509.GeneralName], days: int, now: datetime.datetime
) -> list[str]:
    """
    Make or renew the certificate in a directory, and its authority if there is none.

    :param names: whom it is for; none for those it has, or those of this machine.
    :param now: with a time zone.
    :returns: what was done, and what to do next, in lines.
    :raises Misuse: something is in the way; nothing was written.
    :raises OSError: something can not be read or written.
    """
    directory = _Directory(path)
    with alone_in(path):
        authority = directory.read_authority()
        before = directory.read_certificate(authority)
        is_new = authority is None
        if authority is None:
            authority = authorities.make_authority(socket.gethostname(), now)
        names = names or (before and names_of(before)) or names_of_this_machine()
        try:
            issued = authorities.issue(authority, names, now, days)
        except Misuse as error:
            raise directory.unusable_authority(error) from None
        files: dict[Path, tuple[bytes, int]] = {}
        if is_new:
            files[directory.authority_key_file] = authority.key_pem, SECRET_MODE
            files[directory.authority_file] = authority.certificate_pem, PUBLIC_MODE
        # Between the two a relay that looks finds a key that does not fit, keeps what it has
        # and looks again.
        files[directory.key_file] = issued.key_pem, SECRET_MODE
        files[directory.certificate_file] = issued.chain_pem, PUBLIC_MODE
        replace(files)
    done = "new" if is_new else "kept, clients that have it need nothing"
    return [
        f"authority ({done}): {directory.authority_file}, until"
        f" {authority.certificate.not_valid_after_utc:%Y-%m-%d}",
        f"certificate ({'renewed' if before else 'new'}): {directory.certificate_file}, until"
        f" {issued.certificate.not_valid_after_utc:%Y-%m-%d}",
        f"it is for: {', '.join(shown_names(names_of(issued.certificate)))}",
        "",
    ]


def advise(path: Path, *, is_default: bool) -> list[str]:
    """
    What to do with the files in a directory, in lines.

    :param is_default: whether the relay finds them by itself.
    """
    directory = _Directory(path)
    port = "tls:12346:interface=0.0.0.0"
    if not is_default:
        certificate, key = (
            quoteStringArgument(str(file.absolute()))
            for file in (directory.certificate_file, directory.key_file)
        )
        port += f":certificate={certificate}:key={key}"
    authority = directory.authority_file.absolute()
    return [
        "Start the relay, open to the network with TLS:",
        f"  twistd -n chatrelay --port 12345 --port {shlex.quote(port)}",
        f"A relay that runs takes a renewed certificate by itself. Give {authority.name}, which is"
        " no secret,",
        "to the clients, and connect:",
        f"  python -m chatrelay.client --tls --ca {shlex.quote(str(authority))} --host HOST"
        " --port 12346 NAME",
        f"Keep {AUTHORITY_KEY_FILE} to yourself: who has it can be anybody to your clients.",
    ]


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the tool; returns the exit status, documented in docs/tls.rst."""
    options = CertificateOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        _say(f"{str(error).rstrip('.')}. Try --help.")
        return EXIT_USAGE
    try:
        default = default_directory(environment)
        path = default if options["directory"] is None else Path(options["directory"])
        done = make(path, options["names"], options["days"], datetime.datetime.now(datetime.UTC))
    except ChatrelayError as error:
        _say(f"{error}.")
        return EXIT_FAILED
    except OSError as error:
        _say(f"{error.filename}: {error.strerror or error}.")
        return EXIT_FAILED
    print("\n".join([*done, *advise(path, is_default=path.absolute() == default)]))
    return EXIT_OK


def _say(sentence: str) -> None:
    print(f"chatrelay.certificate: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
