"""
Where a secret is read from: a file, the environment, or a terminal that does not show it.

Never from the command line, which everybody on the machine can read.  What a secret may be is
`chatrelay.secret`; here it is any line of bytes that is not empty.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping
from getpass import GetPassWarning, getpass

from chatrelay.errors import Misuse
from chatrelay.printable import printable

SECRET_VARIABLE = "CHATRELAY_SECRET"  # noqa: S105 - the name of a variable
"""The environment variable that holds a secret."""

MAX_FILE_LINE_BYTES = 1024
"""More than any secret has; what is longer is some other file, given by mistake."""

_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
_MAX_SHOWN_PATH_CODE_POINTS = 200


def secret_from_file(path: str) -> bytes:
    """
    Read the first line of a file, without its end (LF or CRLF).

    :raises Misuse: the file is not there, is a directory, can be read by its group or by
        others, or its first line is empty or over `MAX_FILE_LINE_BYTES`.
    """
    shown = printable(os.fsencode(path), _MAX_SHOWN_PATH_CODE_POINTS)
    try:
        with open(path, "rb") as file:
            # Of what was opened, and not of what has that path by now.
            mode = os.fstat(file.fileno()).st_mode
            if mode & _READABLE_BY_OTHERS:
                raise Misuse(f"others can read the secret in {shown}: chmod 600 {shown}")
            line = file.readline(MAX_FILE_LINE_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, Misuse):
            raise
        why = error.strerror if isinstance(error, OSError) else "that is not a path"
        raise Misuse(f"the secret can not be read from {shown}: {why}") from None
    if len(line) > MAX_FILE_LINE_BYTES:
        raise Misuse(
            f"the first line of {shown} has more than {MAX_FILE_LINE_BYTES} bytes: it is no secret"
        )
    secret = line.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise Misuse(f"the first line of {shown} is empty; it has to be the secret")
    return secret


def secret_from_environment(environment: Mapping[str, str]) -> bytes | None:
    """
    Read ``CHATRELAY_SECRET``.

    :param environment: usually ``os.environ``.
    :returns: its bytes; ``None`` if it is not set.
    :raises Misuse: it is set, and empty.
    """
    value = environment.get(SECRET_VARIABLE)
    if value is None:
        return None
    if not value:
        raise Misuse(f"{SECRET_VARIABLE} is set, but empty")
    return os.fsencode(value)


def prompt_secret(prompt: str) -> bytes:
    """
    Ask for a secret on the terminal, without showing what is typed.

    :param prompt: what to write before it; the caller's own words.
    :returns: what was typed, as UTF-8.
    :raises Misuse: there is no terminal, or nothing was typed.
    :raises KeyboardInterrupt: Ctrl-C was typed.
    """
    try:
        with warnings.catch_warnings():
            # It would go on and show what is typed, or read a pipe.
            warnings.simplefilter("error", GetPassWarning)
            typed = getpass(prompt)
    except GetPassWarning:
        raise Misuse("there is no terminal to type a secret on") from None
    except UnicodeError:
        raise Misuse("what was typed is no text in this terminal's encoding") from None
    except EOFError:
        typed = ""
    if not typed:
        raise Misuse("no secret was typed")
    return typed.encode("utf-8", "surrogateescape")


def choose_secret(prompt: str) -> bytes:
    """
    Ask for a new secret twice, so that a slip is noticed.

    :param prompt: as for `prompt_secret`.
    :raises Misuse: as `prompt_secret`, or the two are not the same.
    """
    secret = prompt_secret(prompt)
    if prompt_secret("The same again: ") != secret:
        raise Misuse("the two are not the same; nothing was changed")
    return secret
