"""
What an operator does with accounts: add, list, disable, enable, remove, reset; and with bans where
he can not come in to do it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.python import usage
from wcwidth import wcswidth

from chatrelay.accounts.secrets import hash_secret, make_secret
from chatrelay.accounts.tool_options import ToolOptions
from chatrelay.bans import Target, shown
from chatrelay.errors import ChatrelayError, Misuse
from chatrelay.names import SERVER_NAME, Name
from chatrelay.printable import printable
from chatrelay.private_input import (
    SECRET_VARIABLE,
    choose_secret,
    secret_from_environment,
    secret_from_file,
)
from chatrelay.secret import check_secret
from chatrelay.store.accounts import Account, Accounts
from chatrelay.store.database import Database, default_directory, explain
from chatrelay.store.files import shown_path

EXIT_OK = 0
EXIT_CANNOT = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# How often the relay looks for revocations.
_WITHIN = "within 5 seconds"


class _CannotError(ChatrelayError):
    """What was asked can not be done; one sentence."""


def main(
    arguments: Sequence[str], environment: Mapping[str, str], seconds: Callable[[], float]
) -> int:
    """
    Run the tool on the standard files of this process.

    :param seconds: the time, in seconds since the epoch.
    :returns: the exit status: 0 it is done, 1 it can not be done, 2 it was asked wrongly, 130
        interrupted.  Of all but 0 one sentence stands on standard error.
    """
    status = EXIT_CANNOT
    try:
        options = ToolOptions()
        options.parseOptions(arguments)
        _run(options, environment, seconds)
        sys.stdout.flush()
    except usage.UsageError as error:
        status, sentence = EXIT_USAGE, f"{_without_stop(error)}. Try --help."
    except Misuse as error:
        status, sentence = EXIT_USAGE, f"{_without_stop(error)}."
    except ChatrelayError as error:
        sentence = f"{_without_stop(error)}."
    except sqlite3.Error as error:
        sentence = f"the accounts can not be read or written: {explain(error)}."
    except BrokenPipeError:
        sentence = "nobody reads the output."
        # Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        status, sentence = EXIT_INTERRUPTED, "interrupted."
    else:
        return EXIT_OK
    print(f"chatrelay.accounts: {sentence}", file=sys.stderr)
    return status


def _without_stop(error: Exception) -> str:
    return str(error).rstrip(".")


def _run(
    options: ToolOptions, environment: Mapping[str, str], seconds: Callable[[], float]
) -> None:
    command = options.subCommand
    chosen = options["data"]
    directory = Path(chosen) if chosen is not None else default_directory(environment)
    # A directory that was mistyped has no accounts to be listed or removed.
    database = Database.open(directory, exclusive=False, create=command == "add")
    try:
        tool = _Tool(database, options.subOptions, environment, seconds)
        commands: dict[str | None, Callable[[], None]] = {
            "add": tool.add,
            "list": tool.list,
            "disable": tool.disable,
            "enable": tool.enable,
            "remove": tool.remove,
            "reset": tool.reset,
            "bans": tool.bans,
            "unban": tool.unban,
        }
        commands[command]()
    finally:
        database.close()


class _Tool:
    """The commands, on an open database."""

    def __init__(
        self,
        database: Database,
        options: Any,  # noqa: ANN401 - usage.Options is a dictionary of anything
        environment: Mapping[str, str],
        seconds: Callable[[], float],
    ) -> None:
        self._database = database
        self._accounts = Accounts(database.connection)
        self._options = options
        self._environment = environment
        self._seconds = seconds

    def add(self) -> None:
        name: Name = self._options["name"]
        if name.key == SERVER_NAME:
            raise _CannotError(f"{_shown(name)} is the relay's own name")
        exists = f"{_shown(name)} is registered already; reset gives it another secret"
        # Before anybody has to think of a secret.
        if self._accounts.find(name.key) is not None:
            raise _CannotError(exists)
        secret, secret_hash = self._new_secret()
        with self._database.transaction():
            if not self._accounts.add(name, secret_hash, self._seconds()):
                raise _CannotError(exists)
        self._tell(
            secret,
            f"{_shown(name)} is registered; whoever has it without the secret is disconnected"
            f" {_WITHIN}.",
        )

    def reset(self) -> None:
        self._account()
        secret, secret_hash = self._new_secret()
        # Looked for again: it may have been removed while the secret was typed.
        with self._changing() as account:
            self._accounts.set_secret(account.number, secret_hash, self._seconds())
        self._tell(
            secret,
            f"{_shown(account)} has another secret; its tokens are gone, and its open connections"
            f" are closed {_WITHIN}.",
        )

    def disable(self) -> None:
        with self._changing() as account:
            self._accounts.set_disabled(account.number, True, self._seconds())
        print(f"{_shown(account)} is disabled; its open connections are closed {_WITHIN}.")

    def enable(self) -> None:
        with self._changing() as account:
            self._accounts.set_disabled(account.number, False, self._seconds())
        print(f"{_shown(account)} is enabled; its secret and its tokens are what they were.")

    def remove(self) -> None:
        with self._changing() as account:
            self._accounts.remove(account.number, self._seconds())
        print(
            f"{_shown(account)} is removed, and free for everybody; its open connections are"
            f" closed {_WITHIN}."
        )

    def list(self) -> None:
        rows = [("name", "state", "created", "last login")]
        for account in self._accounts:
            state = "disabled" if account.is_disabled else "active"
            times = _utc(account.created_s), _utc(account.last_login_s)
            rows.append((_shown(account), state, *times))
        self._print_table(rows, "accounts")

    def bans(self) -> None:
        rows = [("banned", "until", "since", "by", "why")]
        now_s = self._seconds()
        for ban in self._accounts.bans.all():
            if not ban.has_ended(now_s):
                until = "for good" if ban.until_s is None else _utc(ban.until_s)
                said = printable(ban.made_by), printable(ban.why)
                rows.append((printable(shown(ban.target)), until, _utc(ban.made_s), *said))
        self._print_table(rows, "bans")

    def unban(self) -> None:
        target: Target = self._options["target"]
        with self._database.transaction():
            if not self._accounts.bans.remove(target):
                raise _CannotError(
                    f"there is no ban of {printable(shown(target))}; bans lists them"
                )
            self._accounts.bans.note_change(self._seconds())
        print(f"{printable(shown(target))} is not banned any more, {_WITHIN}.")

    def _print_table(self, rows: Sequence[Sequence[str]], what: str) -> None:
        """Print rows below the first one, which is the heading."""
        if len(rows) == 1:
            print(f"There are no {what} in {shown_path(self._database.directory)}.")
            return
        widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            padded = map(_padded, row, widths)
            print("  ".join(padded).rstrip())

    def _account(self) -> Account:
        name: Name = self._options["name"]
        account = self._accounts.find(name.key)
        if account is None:
            raise _CannotError(f"there is no account {_shown(name)}")
        return account

    @contextmanager
    def _changing(self) -> Iterator[Account]:
        with self._database.transaction():
            yield self._account()

    def _new_secret(self) -> tuple[bytes, str]:
        secret = self._secret()
        wrong = check_secret(secret)
        if wrong is not None:
            raise Misuse(wrong)
        return secret, hash_secret(secret)

    def _secret(self) -> bytes:
        if self._options["generate"]:
            return make_secret()
        if self._options["secret-file"] is not None:
            return secret_from_file(self._options["secret-file"])
        secret = secret_from_environment(self._environment)
        if secret is not None:
            return secret
        if not sys.stdin.isatty():
            raise Misuse(
                "there is no terminal to type a secret on:"
                f" use {SECRET_VARIABLE}, --secret-file or --generate"
            )
        return choose_secret(f"Secret for {_shown(self._options['name'])}: ")

    def _tell(self, secret: bytes, sentence: str) -> None:
        if self._options["generate"]:
            print(secret.decode("ascii"))
            print(sentence, file=sys.stderr)
        else:
            print(sentence)


def _shown(named: Name | Account) -> str:
    return printable(named.shown)


def _utc(time_s: float | None) -> str:
    return "never" if time_s is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_s))


def _padded(cell: str, columns: int) -> str:
    return cell + " " * (columns - _columns(cell))


def _columns(cell: str) -> int:
    # Less than 0 for what can not be shown, of which `printable` leaves nothing.
    return max(wcswidth(cell), 0)
