"""The files around the database: their directory, who may read them, and who holds them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chatrelay.errors import ChatrelayError
from chatrelay.printable import printable

LOCK_NAME = "chatrelay.lock"

_MAX_SHOWN_PATH_CODE_POINTS = 200
_MAX_PROCESS_ID_DIGITS = 20
_MAKING_TIMEOUT_S = 5.0
_MAKING_POLL_S = 0.02


class HeldError(ChatrelayError):
    """
    Another process holds a directory.

    :ivar holder: a few words for it, with its number if it has left that.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"held by {holder}")


def shown_path(path: Path) -> str:
    """A path as a person may be shown it."""
    return printable(os.fsencode(path), _MAX_SHOWN_PATH_CODE_POINTS)


def make_private(path: Path) -> None:
    """
    Make an empty file that only its owner may read.

    :raises OSError: it can not be made, or is there already.
    """
    os.close(_open_private(path, os.O_EXCL))


def _open_private(path: Path, flags: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        # An operator who is root makes it for the relay, which is somebody else.
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(descriptor, directory.st_uid, directory.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def making(directory: Path) -> Iterator[None]:
    """
    Be the only one who makes something in a directory, for a moment.

    :raises HeldError: somebody else was at it for 5 s.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline_s = time.monotonic() + _MAKING_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                raise HeldError("another process")
            time.sleep(_MAKING_POLL_S)
        yield
    finally:
        os.close(descriptor)


class Lock:
    """
    The right to be the relay of a directory.

    It is the kernel's: it stays with a daemon that forks, and goes with the process, however
    that ends.
    """

    def __init__(self, directory: Path) -> None:
        """
        Take it.

        :raises HeldError: another process has it.
        :raises OSError: the file can not be opened.
        """
        self._descriptor = _open_private(directory / LOCK_NAME, 0)
        try:
            if not _try_lock(self._descriptor):
                raise HeldError(self._holder())
            self.note_process()
        except BaseException:
            os.close(self._descriptor)
            raise

    def note_process(self) -> None:
        """Write this process's number into it, which a daemon has only after its fork."""
        # The lock is what counts, and that is held whether or not the disk is full.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give it back."""
        os.close(self._descriptor)

    def _holder(self) -> str:
        written = os.pread(self._descriptor, _MAX_PROCESS_ID_DIGITS, 0).strip()
        return f"process {int(written)}" if written.isdigit() else "another process"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
