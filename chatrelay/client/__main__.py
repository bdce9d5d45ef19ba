"""``python -m chatrelay.client NAME``: the client as a program."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python import usage
from twisted.python.failure import Failure

from chatrelay.client.options import EXIT_INTERRUPTED, EXIT_USAGE, ClientOptions, Task
from chatrelay.client.protocol import Claim

_BRACKETED_PASTE_OFF = b"\x1b[?2004l"


class _Run:
    """The reactor's run, and what it ended with."""

    def __init__(self, reactor: Any) -> None:  # noqa: ANN401 - several interfaces
        self._reactor = reactor
        self._status = 0
        self._has_ended = False
        self._failure: Failure | None = None

    def until_ended(
        self, options: ClientOptions, endpoint: IStreamClientEndpoint, claim: Claim
    ) -> int:
        """Run the program that fits where it was started; returns its exit status."""
        self._reactor.callWhenRunning(self._start, options, endpoint, claim)
        self._reactor.run()
        if self._failure is not None:
            self._failure.raiseException()
        return self._status

    def _start(self, options: ClientOptions, endpoint: IStreamClientEndpoint, claim: Claim) -> None:
        # Here, because the reactor has its own handlers when it runs.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)
        program = _terminal_program if _is_on_terminal() else _pipe_program
        if options.task is not None:
            program = partial(_send_program, options.task)
        running = ensureDeferred(program(self._reactor, options, endpoint, claim, self._say))
        running.addCallbacks(self._ended, self._failed)

    def _interrupted(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._ended, EXIT_INTERRUPTED + number)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._ended(1)

    def _ended(self, status: int) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._status = status
            self._reactor.stop()

    def _say(self, sentence: str) -> None:
        # A stopping reactor drops all connections: that is no news.
        if not self._has_ended:
            _say(sentence)


async def _pipe_program(
    reactor: Any,  # noqa: ANN401 - several interfaces
    options: ClientOptions,
    endpoint: IStreamClientEndpoint,
    claim: Claim,
    say: Callable[[str], None],
) -> int:
    from twisted.internet.stdio import StandardIO  # noqa: PLC0415 - imports the reactor

    from chatrelay.client.pipe import PipeProgram  # noqa: PLC0415 - not on a terminal

    program = PipeProgram(reactor, endpoint, claim, options["to"], say)
    program.escape_output = os.isatty(1)
    StandardIO(program, reactor=reactor)
    return await program.run()


async def _send_program(
    task: Task,
    reactor: Any,  # noqa: ANN401 - several interfaces
    _options: ClientOptions,
    endpoint: IStreamClientEndpoint,
    claim: Claim,
    say: Callable[[str], None],
) -> int:
    from twisted.internet.stdio import StandardIO  # noqa: PLC0415 - imports the reactor

    from chatrelay.client.sending import SendProgram  # noqa: PLC0415 - only for this

    program = SendProgram(reactor, endpoint, claim, task, say)
    reactor.addSystemEventTrigger("before", "shutdown", program.interrupted)
    if task.text is None:
        StandardIO(program, reactor=reactor)
    return await program.run()


async def _terminal_program(
    reactor: Any,  # noqa: ANN401 - several interfaces
    options: ClientOptions,
    endpoint: IStreamClientEndpoint,
    claim: Claim,
    say: Callable[[str], None],
) -> int:
    from chatrelay.client.place import Places, places_directory  # noqa: PLC0415 - only here
    from chatrelay.client.terminal import TerminalProgram  # noqa: PLC0415 - slow to import

    directory = places_directory(os.environ)
    places = Places(directory, options.place) if directory is not None else None
    program = TerminalProgram(reactor, endpoint, claim, options["to"], say, places)
    return await program.run()


def _is_on_terminal() -> bool:
    return os.isatty(0) and os.isatty(1)


@contextmanager
def _terminal_restored() -> Iterator[None]:
    # A signal ends the program in the middle of a prompt, which then does not do it.
    modes = termios.tcgetattr(0)
    try:
        yield
    finally:
        with suppress(OSError, termios.error):
            # In the background the terminal is the shell's, and changing it would stop us.
            if os.tcgetpgrp(0) == os.getpgrp():
                termios.tcsetattr(0, termios.TCSANOW, modes)
                os.write(1, _BRACKETED_PASTE_OFF)


def _say(sentence: str) -> None:
    from chatrelay.client.display import harmless  # noqa: PLC0415

    # Nobody may read it, or it may be full: there is no other place to say so.
    with suppress(OSError):
        line = f"chatrelay.client: {harmless(sentence)}\n"
        os.write(2, line.encode("utf-8", "backslashreplace"))  # an argument need not be UTF-8


def _open_missing_descriptors() -> None:
    # With one of them closed, the next socket would get its number and be taken for it.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main(arguments: list[str]) -> int:
    """Run the client; returns the exit status, documented in docs/client.rst."""
    _open_missing_descriptors()
    # Twisted makes them non-blocking, for whoever shares them too: the shell, say.
    flags = {descriptor: fcntl.fcntl(descriptor, fcntl.F_GETFL) for descriptor in (0, 1, 2)}
    options = ClientOptions()
    try:
        options.parseOptions(arguments)
        claim = options.claim(os.environ)
        if _is_on_terminal():
            from twisted.internet import asyncioreactor  # noqa: PLC0415 - prompt_toolkit's loop

            asyncioreactor.install()
        from twisted.internet import reactor  # noqa: PLC0415 - chosen only now

        endpoint = options.endpoint(reactor)
        with _terminal_restored() if _is_on_terminal() else nullcontext():
            return _Run(reactor).until_ended(options, endpoint, claim)
    except usage.UsageError as error:
        _say(f"{str(error).rstrip('.')}. Try --help.")
        return EXIT_USAGE
    finally:
        for descriptor, flag in flags.items():
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flag)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
