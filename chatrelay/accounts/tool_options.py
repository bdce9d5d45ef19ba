"""What the accounts tool takes on its command line, which is never a secret."""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.python import usage

from chatrelay._version import __version__
from chatrelay.bans import read_target
from chatrelay.errors import BadLine, BadName
from chatrelay.names import parse_name
from chatrelay.private_input import SECRET_VARIABLE

_NEVER_HERE = (
    "a secret is never given on the command line, where everybody on this machine can read it:"
    f" use a terminal, {SECRET_VARIABLE}, --secret-file or --generate"
)


class _ListOptions(usage.Options):
    """No options."""

    longdesc = "List all accounts. Times are UTC."

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments."""
        if arguments:
            raise usage.UsageError("list takes no NAME")


class _BansOptions(usage.Options):
    """No options."""

    longdesc = "List who is banned. Times are UTC."

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments."""
        if arguments:
            raise usage.UsageError("bans takes no NAME")


class _UnbanOptions(usage.Options):
    """What is banned."""

    synopsis = "NAME|ADDRESS|NETWORK"
    longdesc = "What is banned is written as bans shows it."

    def parseArgs(self, *arguments: str) -> None:
        """Take one name, address or network."""
        if len(arguments) != 1:
            raise usage.UsageError("give one name, address or network, as bans shows it")
        try:
            self["target"] = read_target(os.fsencode(arguments[0]))
        except (BadLine, BadName) as error:
            raise usage.UsageError(error.sentence) from None


class _NameOptions(usage.Options):
    """One name."""

    synopsis = "NAME"

    def parseArgs(self, *arguments: str) -> None:
        """Take one name, and repeat nothing else: it may be a secret."""
        if len(arguments) != 1:
            raise usage.UsageError("give one NAME; " + _NEVER_HERE)
        try:
            self["name"] = parse_name(os.fsencode(arguments[0]))
        except BadName as error:
            raise usage.UsageError(f"NAME is none: {error.sentence}") from None


class _SecretOptions(_NameOptions):
    """One name, and where its secret comes from."""

    synopsis = "[--secret-file FILE | --generate] NAME"
    longdesc = (
        f"The secret is the first line of --secret-file, or {SECRET_VARIABLE}, or is typed twice"
        " on the terminal. With --generate it is made, and printed on standard output."
    )
    optFlags = [  # noqa: N815 - Twisted's name
        ["generate", None, "Make a secret, and print it alone."]
    ]
    optParameters = [  # noqa: N815 - Twisted's name
        ["secret-file", None, None, "Read the secret from a file that only you can read."]
    ]

    def opt_secret(self, _secret: str) -> None:
        """Refused: everybody on this machine can read a command line."""
        # Without it, --secret would be taken for a short --secret-file, and repeated.
        raise usage.UsageError(_NEVER_HERE)

    def postOptions(self) -> None:
        """Allow one source."""
        if self["generate"] and self["secret-file"] is not None:
            raise usage.UsageError("--generate and --secret-file exclude each other")


_SUB_COMMANDS: list[tuple[str, None, type[usage.Options], str]] = [
    ("add", None, _SecretOptions, "Register a name."),
    ("list", None, _ListOptions, "List the registered names."),
    ("disable", None, _NameOptions, "Let nobody take a name, and close its connections."),
    ("enable", None, _NameOptions, "Let its owner take a disabled name again."),
    ("remove", None, _NameOptions, "Make a name free, and forget its secret and tokens."),
    ("reset", None, _SecretOptions, "Give a name another secret, and drop its tokens."),
    ("bans", None, _BansOptions, "List whom operators have banned."),
    ("unban", None, _UnbanOptions, "Take a ban back."),
]
_COMMANDS = ", ".join(command for command, *_ in _SUB_COMMANDS)


class ToolOptions(usage.Options):
    """
    The options of the accounts tool.

    After parsing, ``self["data"]`` is a directory or ``None``, `subCommand` one of the commands
    and `subOptions` its options: ``name``, ``generate`` and ``secret-file``, or ``target``.
    """

    synopsis = "python -m chatrelay.accounts [--data DIR]"
    longdesc = (
        "Names that are registered on a chatrelay. Works while the relay runs, and while it does"
        " not; run it as the user who runs the relay."
    )
    optParameters = [  # noqa: N815 - Twisted's name
        [
            "data",
            None,
            None,
            "The relay's data directory [default: chatrelay in $XDG_STATE_HOME or ~/.local/state].",
        ]
    ]
    subCommands = _SUB_COMMANDS  # noqa: N815 - Twisted's name

    def getSynopsis(self) -> str:
        """The first line of the help; that of a command begins with it."""
        synopsis = super().getSynopsis()
        return synopsis if self.subCommand else f"{synopsis} COMMAND [NAME]"

    def opt_version(self) -> None:
        """Display the versions of chatrelay and Twisted, and exit."""
        print(f"chatrelay {__version__}")
        super().opt_version()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        :raises usage.UsageError: with one sentence that repeats nothing that may be a secret.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if str(error).startswith("Unknown command"):
                raise usage.UsageError(f"the commands are {_COMMANDS}") from None
            raise

    def postOptions(self) -> None:
        """Ask for a command, and for a directory."""
        if self.subCommand is None:
            raise usage.UsageError(f"give a command: {_COMMANDS}")
        if self["data"] in ("", "none"):
            raise usage.UsageError("--data takes the directory that holds the accounts")
