"""The store with its real thread, beside other processes, and killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from threading import current_thread

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database
from chatrelay.store.thread import StoreThread
from tests.store_harness import HASH, NOW_S, name, temporary_directory
from tests.terminal_harness import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ROWS = 150

TOOL = """
import sys
from pathlib import Path
from chatrelay.names import parse_name
from chatrelay.store.accounts import Accounts
from chatrelay.store.database import Database
database = Database.open(Path(sys.argv[1]), exclusive=False)
accounts = Accounts(database.connection)
for number in range(int(sys.argv[2])):
    with database.transaction():
        assert accounts.add(parse_name(b"tool%d" % number), "hash", 0.0)
database.close()
"""

WRITER = """
import os, sys
from pathlib import Path
from chatrelay.names import parse_name
from chatrelay.store.database import Database
from chatrelay.store.jobs import Job, JobRunner

def adds(number):
    return Job(lambda accounts: accounts.add(parse_name(b"n%d" % number), "x" * 200, 0.0), True)

runner = JobRunner(Database.open(Path(sys.argv[1]), exclusive=True))
number = int(sys.argv[2])
while True:
    done = runner.run([adds(number + each) for each in range(7)])
    assert done == ([True] * 7, None), done
    number += 7
    os.write(1, b"%d\\n" % number)
"""


def adds(written: str) -> Callable[[Accounts], bool]:
    return lambda accounts: accounts.add(name(written), HASH, NOW_S)


class ThreadTests(TestCase):
    """In a thread of its own, while the tool writes too."""

    timeout = 100

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.store = StoreThread(reactor, self.directory)
        self.store.open(Accounts.last_revocation)
        self.addCleanup(self.store.close)

    def test_both_write(self) -> Deferred[None]:
        return ensureDeferred(self.both_write())

    async def both_write(self) -> None:
        directory = str(self.directory)
        add = ["-m", "chatrelay.accounts", "--data", directory, "add", "--generate", "carol"]
        tools = gatherResults(
            [
                getProcessOutputAndValue(sys.executable, arguments, ENVIRONMENT)
                for arguments in (["-c", TOOL, directory, str(ROWS)], add)
            ]
        )
        for number in range(ROWS):
            written = self.store.write(adds(f"relay{number}"))
            found = self.store.read(lambda accounts: accounts.find(b"relay0"))
            self.assertTrue(await written)
            self.assertIsNotNone(await found)
        for _, errors, status in await tools:
            self.assertEqual(status, 0, errors)
        count = await self.store.read(Accounts.count)
        self.assertEqual(count, 2 * ROWS + 1)
        revocations = await self.store.read(lambda accounts: accounts.revocations_after(0))
        self.assertEqual(len(revocations), 2 * ROWS + 1)

    def test_a_burst(self) -> Deferred[None]:
        return ensureDeferred(self.burst())

    async def burst(self) -> None:
        writes = gatherResults([self.store.write(adds(f"n{each}")) for each in range(1000)])
        finds = gatherResults(
            [
                self.store.read(lambda accounts, each=each: accounts.find(b"n%d" % each))
                for each in range(1000)
            ]
        )
        self.assertEqual(await writes, [True] * 1000)
        self.assertNotIn(None, await finds)

    def test_in_one_thread_that_ends(self) -> Deferred[None]:
        return ensureDeferred(self.one_thread())

    async def one_thread(self) -> None:
        threads = {await self.store.read(lambda _: current_thread()) for _ in range(3)}
        threads.add(await self.store.write(lambda _: current_thread()))
        [thread] = threads
        self.assertIsNot(thread, current_thread())
        self.assertTrue(thread.daemon)
        last = self.store.write(adds("carol"))
        await self.store.close()
        self.assertTrue(await last)
        self.assertFalse(thread.is_alive())
        Database.open(self.directory, exclusive=True).close()


class KillTests(SynchronousTestCase):
    """kill -9 in the middle of writes loses nothing that was committed."""

    def test_every_committed_row_is_there(self) -> None:
        directory = temporary_directory(self)
        told = 0
        for lines in (1, 20, 3, 50):
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(directory), str(told)],
                stdout=subprocess.PIPE,
                env=ENVIRONMENT,
            )
            assert process.stdout is not None
            with process:
                for _ in range(lines):
                    process.stdout.readline()
                process.kill()
                # What it said before that took effect counts too, and half a line does not.
                rest = re.findall(rb"(\d+)\n", process.stdout.read())
                process.wait(30)
            database = Database.open(directory, exclusive=True)
            keys = {account.key for account in Accounts(database.connection)}
            revoked = Accounts(database.connection).last_revocation()
            database.close()
            told = max(told + 7 * lines, *map(int, rest), 0)
            # What was committed and could not be said any more comes in whole batches.
            self.assertIn(len(keys), (told, told + 7))
            told = len(keys)
            self.assertEqual(keys, {b"n%d" % number for number in range(told)})
            self.assertEqual(revoked, told)
