"""A program on a terminal of its own, and what that shows."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 30

# Becomes the leader of a session of its own, with the terminal; then the program.
_RUNNER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
# Whoever started the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def on_terminal(
    test: SynchronousTestCase, arguments: list[str], *typed: bytes, is_input: bool = False
) -> tuple[bytes, bytes, int]:
    """
    Run Python with arguments, and type each line when something ended in ``: `` asks for it.

    :param is_input: whether the terminal is the program's standard input, too.
    :returns: what the terminal showed, what was printed (to a pipe), and the exit status.
    """
    ours, theirs = pty.openpty()
    test.addCleanup(os.close, ours)
    process = subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(theirs), *arguments],
        stdin=theirs if is_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[theirs],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    test.addCleanup(_end, process)
    os.close(theirs)
    shown = b""
    for index, line in enumerate(typed):
        # Typed only when it is asked for: before that the terminal still shows it.
        while shown.count(b": ") <= index:
            piece = _shown(test, ours)
            test.assertTrue(piece, shown)
            shown += piece
        os.write(ours, line)
    printed, _ = process.communicate(timeout=DEADLINE_S)
    while piece := _shown(test, ours):
        shown += piece
    return shown, printed, process.returncode


def _shown(test: SynchronousTestCase, ours: int) -> bytes:
    readable, _, _ = select.select([ours], [], [], DEADLINE_S)
    test.assertTrue(readable, "the terminal shows nothing more")
    try:
        return os.read(ours, 4096)
    except OSError as error:
        test.assertEqual(error.errno, errno.EIO)  # nobody has it open any more
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_S)
