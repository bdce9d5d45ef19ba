"""The factory: makes one protocol for each connection, and holds the relay with its registry."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from chatrelay.addresses import peer_of
from chatrelay.admission import REFUSED_BEFORE
from chatrelay.networks import network_of
from chatrelay.protocol import RelayProtocol
from chatrelay.registry import Registry
from chatrelay.relay import Relay
from chatrelay.turn import Turn

TICK_S = 1.0

_log = Logger(namespace="chatrelay")


class RelayFactory(Factory):
    """
    Makes the protocols of one relay and holds the registry of its clients.

    Listen with it on any number of stream endpoints; they share one set of names.

    :ivar relay: what all its connections share.
    :ivar is_stopping: whether it closes its connections and takes no more.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, relay: Relay | None = None) -> None:
        """
        Make a relay.

        :param clock: the reactor, or a `twisted.internet.task.Clock` in a test.
        :param relay: one with other than the default limits, names or console.
        """
        self.relay = relay or Relay(seconds=clock.seconds)
        self.is_stopping = False
        self.turn = Turn(clock)
        self._clock = clock
        self._connections: set[RelayProtocol] = set()
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = clock
        self._all_gone: Deferred[None] | None = None

    @property
    def registry(self) -> Registry:
        """Who is here under which name."""
        return self.relay.registry

    def startFactory(self) -> None:
        """The first port listens: begin what happens once a second."""
        if not self._ticker.running:
            self._ticker.start(TICK_S, now=False)

    def stopFactory(self) -> None:
        """The last port is closed; the clock goes on while clients are connected."""
        self._stop_ticker_if_idle()

    def buildProtocol(  # type: ignore[override]  # its protocols know that theirs is this one
        self,
        addr: IAddress | None,
    ) -> RelayProtocol | None:
        """
        Make the protocol of one connection.

        :returns: ``None`` closes it at once: while the relay stops, and if its address was refused
            several times in this second.
        """
        if self.is_stopping or self._was_refused(addr):
            return None
        protocol = RelayProtocol(self.relay, self._clock)
        protocol.factory = self
        self._connections.add(protocol)
        return protocol

    def connection_gone(self, protocol: RelayProtocol) -> None:
        """A connection has ended."""
        self._connections.discard(protocol)
        self._stop_ticker_if_idle()
        if self._all_gone is not None and not self._connections:
            all_gone, self._all_gone = self._all_gone, None
            all_gone.callback(None)

    def shut_down(self) -> Deferred[None]:
        """
        Tell every client that the relay stops, and close its connection.

        :returns: fires with ``None`` when all connections are gone: once they are told,
            or `chatrelay.limits.Limits.close_grace_s` later.
        """
        self.is_stopping = True
        all_gone: Deferred[None] = Deferred()
        self._all_gone = all_gone
        for protocol in list(self._connections):
            protocol.hurry()
        self.relay.shut_down()
        if not self._connections and self._all_gone is not None:
            self._all_gone = None
            all_gone.callback(None)
        return all_gone

    def _was_refused(self, address: IAddress | None) -> bool:
        told = self.relay.admission.told
        if not told or not isinstance(address, IPv4Address | IPv6Address):
            return False
        peer, _ = peer_of(address)
        if not told.is_over(network_of(peer.host)):
            return False
        self.relay.console.turned_away(peer, REFUSED_BEFORE)
        return True

    def _tick(self) -> None:
        try:
            self.relay.tick()
        except Exception:
            # Raised out of here it would be the last tick.
            _log.failure("what is due once a second failed")

    def _stop_ticker_if_idle(self) -> None:
        if self._ticker.running and not self.numPorts and not self._connections:
            self._ticker.stop()
