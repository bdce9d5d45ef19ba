"""What ``python -m chatrelay.client`` takes, and the exit statuses it ends with."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.client import core
from chatrelay.client.connecting import endpoint_for, endpoint_trusting
from chatrelay.client.identity import Secret, check_secret
from chatrelay.client.protocol import Claim
from chatrelay.client.trust import FOR_USERS, ServerTrust
from chatrelay.errors import Misuse
from chatrelay.private_input import SECRET_VARIABLE, secret_from_environment, secret_from_file

EXIT_OK = 0
EXIT_LOST = 1
"""The connection was lost for good after it had been made, or nobody reads the output."""
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
EXIT_INTERRUPTED = 128
"""Plus the number of the signal."""

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 12345

_UNCHECKED = "tls-without-checking-the-server"
_WARNING = (
    f"The server is not checked (--{_UNCHECKED}): what is sent is encrypted, but perhaps "
    "for somebody else than the relay."
)


class ClientOptions(usage.Options):
    """The options of the client program."""

    synopsis = "python -m chatrelay.client [options] NAME"
    longdesc = (
        "Take NAME on a chatrelay and talk. On a terminal it is a chat program; otherwise "
        "each line of standard input is sent and each line received is printed. The secret of a "
        f"registered NAME is read from --secret-file or from the environment ({SECRET_VARIABLE}); "
        "on a terminal you are asked for it."
    )
    optParameters = [  # noqa: N815 - usage.Options' name
        ["host", None, None, f"The relay's host, IPv4 or IPv6 [default: {DEFAULT_HOST}]."],
        ["port", "p", None, f"Its port [default: {DEFAULT_PORT}]."],
        ["server", "s", None, "A Twisted client endpoint instead, as unix:/run/chatrelay.sock."],
        ["to", "t", None, "The name that plain lines go to."],
        ["secret-file", None, None, "A file with NAME's secret, which only you can read."],
        ["ca", None, None, "A file with the CA certificates to trust; means --tls."],
    ]
    optFlags = [  # noqa: N815 - usage.Options' name
        ["tls", None, "Connect over TLS, and check that the server is the right one."],
        [_UNCHECKED, None, "Connect over TLS to whoever answers."],
        ["secret-in-clear", None, "Send the secret also where others could read it."],
    ]

    def opt_version(self) -> None:
        """Display the versions of chatrelay and Twisted, and exit."""
        print(f"chatrelay {__version__}")
        super().opt_version()

    def parseArgs(self, *names: str) -> None:
        """
        Take the name.

        :raises usage.UsageError: there is none, or more than one.
        """
        if len(names) != 1:
            raise usage.UsageError("Give one NAME, the one to take.")
        [self["name"]] = names

    def postOptions(self) -> None:
        """
        Check what was given.

        :raises usage.UsageError: with one sentence.
        """
        if self["server"] is not None and (self["host"] or self["port"]) is not None:
            raise usage.UsageError("--server stands instead of --host and --port.")
        self._check_tls()
        port = self["port"] if self["port"] is not None else str(DEFAULT_PORT)
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise usage.UsageError("--port is a number from 1 to 65535.")
        self["port"] = int(port)
        self["host"] = self["host"] if self["host"] is not None else DEFAULT_HOST
        for option in ("name", "to"):
            if self[option] is not None:
                self._check_name(option)

    def claim(self, environment: MutableMapping[str, str]) -> Claim:
        """
        What a connection begins with.

        :param environment: as for `secret`.
        :raises usage.UsageError: as `secret` does.
        """
        return Claim(
            core.check_name(self["name"]).shown,
            secret=self.secret(environment),
            secret_in_clear=bool(self["secret-in-clear"]),
            is_server_checked=not self[_UNCHECKED],
        )

    def secret(self, environment: MutableMapping[str, str]) -> Secret | None:
        """
        What proves that the name is one's own; ``None`` if nothing was given.

        It is not kept here, and taken out of the environment, which children inherit.

        :param environment: usually ``os.environ``.
        :raises usage.UsageError: it can not be read, or can not be a secret.
        """
        inherited = {SECRET_VARIABLE: environment.pop(SECRET_VARIABLE, None)}
        source = SECRET_VARIABLE if self["secret-file"] is None else "--secret-file"
        try:
            if self["secret-file"] is not None:
                written: bytes | None = secret_from_file(self["secret-file"])
            else:
                written = secret_from_environment(
                    {name: value for name, value in inherited.items() if value is not None}
                )
            return None if written is None else check_secret(written)
        except Misuse as misuse:
            raise usage.UsageError(f"{source}: {misuse}") from None

    def _check_name(self, option: str) -> None:
        if option == "to" and (self["to"] == "*" or self["to"].startswith("#")):
            return
        try:
            core.check_name(self[option])
        except Misuse as misuse:
            label = "NAME" if option == "name" else f"--{option}"
            raise usage.UsageError(f"{label}: {misuse}") from None

    def _check_tls(self) -> None:
        asked = [option for option in ("tls", "ca", _UNCHECKED) if self[option] not in (None, 0)]
        if asked and self["server"] is not None:
            raise usage.UsageError(f"--{asked[0]} goes with --host and --port, not with --server.")
        if self[_UNCHECKED] and self["ca"] is not None:
            raise usage.UsageError(f"--ca is for checking the server, which --{_UNCHECKED} skips.")
        self["tls"] = bool(asked)

    def _tls_endpoint(self, reactor: Any) -> IStreamClientEndpoint:  # noqa: ANN401
        is_checked = not self[_UNCHECKED]
        try:
            trust = ServerTrust(
                self["host"],
                self["port"],
                ca_file=self["ca"],
                is_checked=is_checked,
                advice=FOR_USERS,
            )
        except Misuse as misuse:
            raise usage.UsageError(str(misuse)) from None
        if not is_checked:
            with suppress(OSError):
                os.write(2, f"chatrelay.client: {_WARNING}\n".encode())
        return endpoint_trusting(reactor, trust)

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:  # noqa: ANN401 - several interfaces
        """
        Where the relay is; it is called once, and warns of a server that is not checked.

        :raises usage.UsageError: ``--server`` is no client endpoint, ``--ca`` no file with
            certificates, or ``--host`` can not be in a certificate.
        """
        if self["tls"]:
            return self._tls_endpoint(reactor)
        if self["server"] is None:
            # Tries IPv6 and IPv4 side by side, so that "localhost" is whichever answers.
            return HostnameEndpoint(reactor, self["host"], self["port"])
        try:
            return endpoint_for(reactor, self["server"])
        except Misuse as misuse:
            raise usage.UsageError(f"--server: {misuse}") from None
