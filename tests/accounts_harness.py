"""
A relay in one process whose names can be owned: a real store, without threads.

Hashing is quick, and is done at once, or when a test says so.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.accounts import secrets
from chatrelay.accounts.service import AccountService
from chatrelay.limits import Limits
from chatrelay.names import Name, parse_name
from chatrelay.store.accounts import Account, Accounts
from chatrelay.store.thread import StoreThread
from tests.relay_harness import Client, World
from tests.store_harness import (
    Cleanups,
    ImmediateThreadpool,
    ManualThreadpool,
    ThreadlessReactor,
    temporary_directory,
)

SECRET = b"correct-horse"
OTHER_SECRET = b"battery-staple"


class OwnedWorld(World):
    """
    A relay with accounts.

    :ivar directory: where they are.
    :ivar store: what they are reached by.
    :ivar hashing: what runs the hashes.
    :ivar storing: what runs the store's jobs.
    """

    def __init__(
        self,
        test: SynchronousTestCase | Cleanups,
        *arguments: Any,
        hashing: ImmediateThreadpool | None = None,
        storing: ImmediateThreadpool | None = None,
        directory: Path | None = None,
        **options: Any,
    ) -> None:
        """
        Start it.

        :param directory: where another one had its accounts; a new one if ``None``.
        """
        super().__init__(*arguments, **options)
        quick = (
            mock.patch.object(secrets, "hash_secret", quick_hash),
            mock.patch.object(secrets, "is_right", lambda kept, secret: kept == quick_hash(secret)),
        )
        for patch in quick:
            patch.start()
            test.addCleanup(patch.stop)
        self.hashing = hashing or ImmediateThreadpool()
        self.storing = storing or ImmediateThreadpool()
        reactor = ThreadlessReactor(self.clock)
        directory = self.directory = directory or temporary_directory(test)
        self._test = test
        self._begun_with = (arguments, options)
        self._is_stopped = False
        self.store = StoreThread(reactor, directory, threadpool=self.storing)
        self.service = AccountService(
            reactor, self.relay, directory, hashing_threads=self.hashing, store=self.store
        )
        self.service.startService()
        test.addCleanup(self._stop)

    def owner(self, name: bytes, secret: bytes = SECRET, host: str = "127.0.0.1") -> Client:
        """
        Connect a client that has registered its name, or logged in.

        What waits for the name has not been read.
        """
        client = self.connect(host)
        client.send(name + b" " + secret + b"\n")
        told = client.told_first()
        if told.startswith(b"!error bad-secret "):
            client.lines(name)
            (told,) = client.lines(b"/register " + secret)
        assert told.startswith((b"!registered ", b"!welcome ")), told
        return client

    def account(self, name: bytes) -> Account | None:
        """What is kept of a name."""
        return self.in_store(lambda accounts: accounts.find(parse_name(name).key))

    def in_store(self, job: Any) -> Any:
        """Do what the accounts tool would do beside the relay."""
        results: list[Any] = []
        self.store.write(job).addBoth(results.append)
        if isinstance(self.storing, ManualThreadpool):
            self.storing.run_all()
        return results[0]

    def add(self, name: bytes, secret: bytes = SECRET) -> None:
        """Make an account as the tool does."""
        owned: Name = parse_name(name)

        def job(accounts: Accounts) -> None:
            accounts.add(owned, quick_hash(secret), self.relay.wall_clock())

        self.in_store(job)

    def look(self) -> None:
        """Let the relay see, as it does once a second, what was changed beside it."""
        self.relay.tick()
        if isinstance(self.storing, ManualThreadpool):
            self.storing.run_all()
        self.settle()

    def settle_all(self) -> None:
        """Let turns pass, and the store do what it was given, until nothing more happens."""
        self.settle()
        while isinstance(self.storing, ManualThreadpool) and self.storing.pending:
            self.storing.run_all()
            self.settle()

    def log_in(self, line: bytes, *, caps: bytes = b"none") -> Client:
        """
        Connect a client that has its name.

        What waits for the name has not been read.

        :param line: its first one: the name, and the secret of an owned one.
        """
        client = self.connect()
        client.send(b"/caps " + caps + b"\n" + line + b"\n")
        self.settle_all()
        assert client.told_first().startswith(b"!caps"), client.raw()
        assert client.told_first().startswith(b"!welcome"), client.raw()
        return client

    def restarted(
        self,
        limits: Limits | None = None,
        *,
        is_killed: bool = False,
        storing: ImmediateThreadpool | None = None,
    ) -> OwnedWorld:
        """
        Stop this relay, and start another one with what it has kept, a second later.

        :param limits: other ones than before.
        :param is_killed: what its store was not given yet, and what that has not done, is lost.
        :param storing: what runs the next one's jobs; at once if ``None``.
        """
        if is_killed:
            self.kill()
        else:
            for client in self.clients:
                client.take()
            stopping = self.factory.shut_down()
            self.settle()
            assert stopping.called
            self._stop()
        arguments, options = self._begun_with
        return OwnedWorld(
            self._test,
            *([limits] if limits is not None else arguments),
            directory=self.directory,
            storing=storing,
            **{**options, "epoch_s": self.relay.wall_clock() + 1},
        )

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self._is_stopped = True
        if isinstance(self.storing, ManualThreadpool):
            self.storing.pending.clear()
        assert self.store._runner is not None
        assert self.store._database is not None
        self.store._runner.close()
        self.store._database.close()

    def _stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        stopped = self.service.stopService()
        if isinstance(self.storing, ManualThreadpool):
            self.storing.run_all()
        assert stopped.called


def quick_hash(secret: bytes) -> str:
    """What stands for a slow hash."""
    return sha256(secret).hexdigest()
