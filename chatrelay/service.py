"""Wiring: from the options to the service that twistd runs."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatrelay import process
from chatrelay.accounts.service import AccountService
from chatrelay.bots.participant import BotParticipant
from chatrelay.errors import ChatrelayError, Misuse, Refusal
from chatrelay.factory import RelayFactory
from chatrelay.interfaces import IBot, Recipient
from chatrelay.listening import (
    Listener,
    describe,
    explain,
    is_loopback,
    is_missing_address,
    is_open_in_clear,
    prepare,
)
from chatrelay.options import Options
from chatrelay.relay import Relay
from chatrelay.reloading import Reloading
from chatrelay.runs import IMPLEMENTATION
from chatrelay.signals import Signals
from chatrelay.tls import is_tls

_log = Logger(namespace="chatrelay")

# Files of the process that are no connections: its own, the log, the reactor's.
_OTHER_FILES = 64


class StartError(SystemExit, Exception):
    """
    Ends twistd with one line and status 1.

    twistd cleans up (its pid file), and tells who started it as a daemon, only after an
    ``Exception``; only a ``SystemExit`` ends it without a traceback.
    """


class RelayService(Service):
    """
    A relay with its ports and bots, started and stopped as one.

    :ivar ports: what it listens on, while it runs.
    """

    def __init__(
        self,
        factory: RelayFactory,
        listeners: Sequence[Listener],
        bots: Sequence[IBot] = (),
        accounts: IService | None = None,
    ) -> None:
        """
        Make the service.

        :param factory: the relay.
        :param listeners: what to listen on.
        :param bots: who lives in it.
        :param accounts: what is started before it and stopped after it, so that its names
            can be owned.
        :raises Misuse: a bot's name is not free.
        """
        self.factory = factory
        self.ports: list[IListeningPort] = []
        self._listeners = listeners
        self._accounts = accounts
        relay = factory.relay
        self._bots = [
            BotParticipant(bot, relay.find, relay.wall_clock, _bot_console(relay), relay.limits)
            for bot in bots
        ]
        for participant in self._bots:
            try:
                relay.registry.add_bot(participant)
            except Refusal:
                name = participant.name.shown.decode("utf-8")
                raise Misuse(f"the name of the bot {name!a} is reserved") from None

    def privilegedStartService(self) -> None:
        """
        Listen, while twistd still may on ports that need privileges.

        :raises StartError: one of the ports can not be had; with one line that says why.
        """
        super().privilegedStartService()
        for listener in self._listeners:
            listening = maybeDeferred(listener.endpoint.listen, self.factory)
            listening.addCallback(self._listens)
            # Raised here and not by an errback: a Deferred keeps what its callbacks raise.
            failures: list[Failure] = []
            listening.addErrback(failures.append)
            for failure in failures:
                self._does_not_listen(failure, listener)
        _log.info("the quick path is {implementation}", implementation=IMPLEMENTATION)
        if self.ports and all(map(is_loopback, self.ports)):
            if any(map(is_tls, self.ports)):
                # --interface would open those without TLS, too.
                _log.info("to open TLS to the network: --port tls:12346:interface=0.0.0.0")
            else:
                _log.info("to open it to the network, add --interface 0.0.0.0 (or :: for IPv6)")
        self._look_over()
        if self.factory.relay.allows_insecure_secrets:
            _log.warn("secrets are taken on any port, where others can read them, too")
        elif self._accounts is not None and any(map(is_open_in_clear, self.ports)):
            _log.info("from other machines secrets are taken with TLS only: --port tls:12346")

    def startService(self) -> None:
        """
        Open the accounts and start the bots.

        :raises StartError: the accounts can not be opened; with one line that says why.
        """
        if not self.ports:
            # Started without twistd, which calls this one alone.
            self.privilegedStartService()
        if self._accounts is not None:
            # Not before twistd is the process, and the user, that it will be.
            try:
                self._accounts.startService()
            except ChatrelayError as error:
                raise StartError(f"chatrelay: {error}") from None
        super().startService()
        self._raise_file_limit()
        for participant in self._bots:
            participant.start()

    def configuration_changed(self) -> None:
        """The relay that runs has taken over another configuration."""
        self._look_over()
        self._raise_file_limit()

    def stopService(self) -> Deferred[None]:
        """
        Take no more connections, tell every client, and close.

        :returns: fires with ``None`` when every port and connection is closed.
        """
        super().stopService()
        for participant in self._bots:
            participant.stop()
        ports, self.ports = self.ports, []
        closing: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in ports]
        closing.append(self.factory.shut_down())
        return gatherResults(closing).addCallback(lambda _: self._stop_accounts())

    def _stop_accounts(self) -> Deferred[None]:
        accounts = self._accounts
        if accounts is None or not accounts.running:
            return succeed(None)
        return maybeDeferred(accounts.stopService).addCallback(lambda _: None)

    def _listens(self, port: IListeningPort) -> None:
        prepare(port)
        self.ports.append(port)
        _log.info("chatrelay listens on {where}", where=describe(port))

    def _does_not_listen(self, failure: Failure, listener: Listener) -> None:
        if listener.is_optional and is_missing_address(failure):
            _log.info("this machine has no IPv6 loopback; IPv4 alone is used")
            return
        raise StartError(f"chatrelay: {explain(listener, failure)}")

    def _look_over(self) -> None:
        """Warn of what was chosen and does not go well together."""
        relay = self.factory.relay
        if relay.is_public and any(map(is_open_in_clear, self.ports)):
            _log.warn("strangers can read what is said on a port without TLS: --port tls:12346")
        if relay.operators and self._accounts is None:
            _log.warn("operators need accounts, and this relay keeps none (--data none)")
        if relay.limits.max_unsent_bytes < relay.limits.high_water_bytes:
            _log.warn("--max-unsent is less than --high-water: who reads slowly is cut off at once")

    def _raise_file_limit(self) -> None:
        limits = self.factory.relay.limits
        wanted = limits.max_clients + limits.max_unnamed + _OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            _log.warn(
                "this process may open {most} files, fewer than --max-clients and --max-unnamed"
                " allow ({wanted}); raise its limit (ulimit -n, LimitNOFILE=)",
                most=most,
                wanted=wanted,
            )


def makeService(options: Options) -> RelayService:
    """Make the service that ``twistd chatrelay`` runs."""
    from twisted.internet import reactor as installed_reactor  # noqa: PLC0415 - twistd chose it

    reactor: Any = installed_reactor
    chosen, parts = options.configuration, options.parts
    relay = Relay(
        # Its own, which changes.
        replace(chosen.limits),
        seconds=reactor.seconds,
        reserved=chosen.reserved,
        operators=chosen.operators,
        allows_insecure_secrets=chosen.allows_insecure_secrets,
        is_public=chosen.is_public,
        verbose=chosen.is_verbose,
    )
    accounts = AccountService(reactor, relay, chosen.data) if chosen.data is not None else None
    service = RelayService(RelayFactory(reactor, relay), parts.listeners, parts.bots, accounts)
    if options.file is not None:
        _log.info("the configuration is read from {file}", file=options.file)
    Signals(reactor, Reloading(options, relay, service.configuration_changed).reread)
    reactor.callWhenRunning(process.prepare)
    return service


def _bot_console(relay: Relay) -> Callable[[Recipient, Recipient, bytes], None]:
    def heard(sender: Recipient, bot: Recipient, text: bytes) -> None:
        relay.console.bot_received(bot.name.shown, sender.name.shown, text)

    return heard
