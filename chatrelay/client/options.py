"""What ``python -m chatrelay.client`` takes, and the exit statuses it ends with."""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.client import core
from chatrelay.client.connecting import endpoint_for, endpoint_trusting
from chatrelay.client.core import Level
from chatrelay.client.identity import Secret, check_secret
from chatrelay.client.protocol import DEFAULT_MAX_LINE_BYTES, Claim
from chatrelay.client.trust import FOR_USERS, ServerTrust
from chatrelay.errors import Misuse
from chatrelay.private_input import SECRET_VARIABLE, secret_from_environment, secret_from_file

EXIT_OK = 0
EXIT_LOST = 1
"""The connection was lost for good after it had been made, or nobody reads the output."""
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
"""No connection could be made; with ``--send``: within ``--timeout``, and nothing was sent."""
EXIT_REFUSED = 4
EXIT_NOT_DELIVERED = 5
"""With ``--send``: a message was refused, or can not be sent."""
EXIT_ONLY_SENT = 6
"""With ``--send``: a message was sent, and was to be stored or acked."""
EXIT_TIMED_OUT = 7
"""With ``--send``: it took longer than ``--timeout``."""
EXIT_INTERRUPTED = 128
"""Plus the number of the signal."""

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 12345
DEFAULT_TIMEOUT_S = 90.0
MAX_TIMEOUT_S = 1e9
STANDARD_INPUT = "-"

_UNCHECKED = "tls-without-checking-the-server"
_WARNING = (
    f"The server is not checked (--{_UNCHECKED}): what is sent is encrypted, but perhaps "
    "for somebody else than the relay."
)


class Task(NamedTuple):
    """
    What ``--send`` asks for.

    :ivar to: a name, a room or ``*``.
    :ivar text: the message; ``None``: each line of standard input is one.
    :ivar wait: what each message has to reach.
    :ivar timeout_s: the seconds in which it has to.
    """

    to: str
    text: str | None
    wait: Level
    timeout_s: float


class ClientOptions(usage.Options):
    """The options of the client program."""

    synopsis = (
        "python -m chatrelay.client [options] NAME\n"
        "       python -m chatrelay.client [options] NAME --send TO TEXT [--wait LEVEL]"
    )
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
        ["to", "t", None, "The name or room that plain lines go to."],
        ["send", None, None, "Send TEXT to a name or room and end; '-': the lines of the input."],
        ["wait", None, None, "With --send: until it is sent, stored or acked [default: sent]."],
        ["timeout", None, None, f"With --send: for S seconds [default: {DEFAULT_TIMEOUT_S:.0f}]."],
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

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line: options may stand behind NAME, and TEXT may be anything.

        :raises usage.UsageError: it can not be read.
        """
        given = list(sys.argv[1:] if options is None else options)
        self._text: str | None = None
        for index, option in enumerate(given):
            if option == "--":
                break
            if option == "--send" or option.startswith("--send="):
                text_at = index + (2 if option == "--send" else 1)
                if len(given) <= text_at:
                    raise usage.UsageError("--send takes two arguments: a name and TEXT.")
                self._text = given.pop(text_at)
                break
        try:
            found, rest = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
        except getopt.error as error:
            raise usage.UsageError(str(error)) from None
        in_front: list[str] = []
        for option, value in found:
            if f"{option[2:]}=" in self.longOpt or f"{option[1:]}:" in self.shortOpt:
                in_front += [option, value]
            else:
                in_front.append(option)
        super().parseOptions([*in_front, "--", *rest])

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
        for option in ("name", "to", "send"):
            if self[option] is not None:
                self._check_name(option)
        self.task = self._read_task()

    @property
    def place(self) -> str:
        """Where the relay is, as far as the command line tells relays from each other."""
        return str(self["server"] or f"{self['host'].lower()}:{self['port']}")

    def _read_task(self) -> Task | None:
        if self["send"] is None:
            for option in ("wait", "timeout"):
                if self[option] is not None:
                    raise usage.UsageError(f"--{option} goes with --send.")
            return None
        if self["to"] is not None:
            raise usage.UsageError("--to is for plain lines; --send names its own recipient.")
        if self._text is None:
            raise usage.UsageError("--send takes two arguments: a name and TEXT.")
        wait = next((level for level in core.LEVELS if level == (self["wait"] or "sent")), None)
        if wait is None:
            raise usage.UsageError(f"--wait is one of {', '.join(core.LEVELS)}.")
        try:
            timeout_s = float(self["timeout"] or DEFAULT_TIMEOUT_S)
        except ValueError:
            timeout_s = 0.0
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise usage.UsageError("--timeout is a number of seconds, more than 0.")
        if not self._text:
            raise usage.UsageError("--send: TEXT is empty.")
        try:
            core.check_level(wait, [self["send"]])
            if self._text != STANDARD_INPUT:
                core.message_line([self["send"]], self._text, DEFAULT_MAX_LINE_BYTES)
        except Misuse as misuse:
            raise usage.UsageError(f"--send: {misuse}") from None
        text = None if self._text == STANDARD_INPUT else self._text
        return Task(self["send"], text, wait, timeout_s)

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
        is_target = option in ("to", "send")
        if is_target and self[option] == core.EVERYONE:
            return
        if is_target and "," in self[option]:
            raise usage.UsageError(f"--{option} takes one name only.")
        try:
            if is_target and core.is_room(self[option]):
                core.check_room(self[option])
            else:
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
