"""
The TCP door: Twisted's transports and turns for one session, and no policy.

`RelayProtocol` brings what one read brought to its session, as runs and lines.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.addresses import door_of, is_confidential, is_proxied, peer_of
from chatrelay.admission import NotAdmitted
from chatrelay.console import Peer
from chatrelay.interfaces import Door
from chatrelay.lines import Block, LineBuffer, Overlong
from chatrelay.networks import network_of
from chatrelay.outbox import Outbox
from chatrelay.pace import Pacer
from chatrelay.relay import Relay
from chatrelay.session import Session
from chatrelay.sockets import set_read_size
from chatrelay.state import State
from chatrelay.wire import TLS_FIRST_BYTE, error_line

if TYPE_CHECKING:
    from chatrelay.factory import RelayFactory

# When the relay stops: time for discarding what a busy client has already sent, so that
# it reads why before its connection is reset.
STOP_LINGER_S = 0.3

# Who sends so much at once waits for its turn; 16 KiB take a tenth of a millisecond.
WAITING_READ_BYTES = 16 * 1024

_log = Logger(namespace="chatrelay")


@implementer(IHalfCloseableProtocol)
class RelayProtocol(LineReceiver):
    """
    One connection.

    It is a `LineReceiver`: `lineReceived` is the way of every line that is not part of a
    run of plain messages, and `delimiter` is how its client ends lines.  What it does
    not do is look for lines one by one: `dataReceived` cuts a whole read at once, which
    for short lines takes a tenth of the time.

    :ivar session: the client's conversation; ``None`` for a connection that was refused or is
        gone.
    :ivar is_waiting: whether it waits for its turn, and is not read.
    :ivar counted_network: what counts as its address; ``None`` if it is not counted.
    :ivar pacer: counts what comes; ``None`` if its client may send as much as it likes, or closes.
    """

    factory: RelayFactory
    session: Session | None = None
    _wrapped_address: IAddress | None = None

    def __init__(self, relay: Relay, clock: IReactorTime) -> None:
        """
        Serve one connection.

        :param relay: what it takes part in.
        :param clock: the reactor, for time-outs and turns.
        """
        self.relay = relay
        self._clock = clock
        self._lines = LineBuffer(relay.limits.max_line_bytes)
        self._ended = False
        self._has_ended_writing = self._is_lost = False
        self.is_waiting = False
        self._timeout: IDelayedCall | None = None
        self.counted_network: str | None = None
        self._outbox: Outbox | None = None
        self.pacer: Pacer | None = None

    def connectionMade(self) -> None:
        """Begin the conversation, if one more connection from this address may be."""
        transport: Any = self.transport
        address = transport.getPeer()
        if not isinstance(transport, FileDescriptor):
            self._wrapped_address = address
        peer, is_local = peer_of(address)
        if not self._admit(peer, exempt=is_local or is_proxied(transport)):
            return
        self._outbox = Outbox(transport, self.relay.flow, self.factory.turn, self)
        self.session = Session(
            self.relay,
            self,
            self._outbox,
            peer,
            is_confidential=is_confidential(transport, is_local=is_local),
        )
        self._timeout = self._clock.callLater(self.relay.limits.hint_after_s, self._hint)
        self._pace(self.session, 0)

    def dataReceived(self, data: bytes) -> None:
        """Serve what one read brought."""
        session = self.session
        if session is None or session.state is State.CLOSED:
            return
        if not session.bytes_in and not self._first_bytes(session, data):
            return
        turn, limits = self.factory.turn, self.relay.limits
        session.turn_begins(len(data), turn.share_s(limits.turn_s))
        self._lines.append(data)
        if limits.lines_per_s or limits.bytes_per_s or self.pacer is not None:
            self._pace(session, len(data))
        else:
            set_read_size(self.transport, len(data))
        if len(data) >= WAITING_READ_BYTES:
            self.wait_for_turn()
        elif not self.paused:
            turn.begin_read()
            try:
                self._work(session)
            finally:
                turn.end_read(session.served_s if self.is_waiting else None)

    def lineReceived(self, line: bytes) -> None:
        """Serve one line that is not part of a run."""
        if self.session is not None:
            self.session.line_received(line)

    def readConnectionLost(self) -> None:
        """The client sends nothing more: serve what is complete, then free the name."""
        self._ended = True
        if self.session is None or self.session.state is State.CLOSED:
            self._end_writing(lingers=False)
        elif not self.paused:
            self._work(self.session)

    def writeConnectionLost(self) -> None:
        """The relay sends nothing more; the client has not closed yet."""
        if self.factory.is_stopping:
            self._hurry()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The connection is gone, with everything that was not sent."""
        if self.session is not None and self.is_waiting and not self.session.gate.held:
            # What was read before it was lost waits only for its turns, and is served in them.
            self._is_lost = True
        else:
            self._be_gone()

    # What the session asks for.

    def pause_reading(self) -> None:
        """Take nothing more from the peer."""
        self.pauseProducing()
        set_read_size(self.transport, 0, is_paced=self.pacer is not None)

    def resume_reading(self) -> None:
        """Go on, with what is buffered first, when it has a turn."""
        self.wait_for_turn()

    @property
    def door(self) -> Door:
        """The port that it came to."""
        return door_of(self.transport)

    def named(self) -> None:
        """The client has a name; nothing more has to time out."""
        self._cancel_timeout()

    def wait_for_turn(self) -> None:
        """Take nothing more from the peer in this turn."""
        if not self.is_waiting:
            self.is_waiting = True
            self.pauseProducing()
            self.factory.turn.wait(self._take_turn)

    def close(self, grace_s: float, *, lingers: bool = True) -> None:
        """Close once everything is written, or after `grace_s` all the same."""
        self._stop_conversation()
        self._timeout = self._clock.callLater(grace_s, self.abort)
        end_writing = partial(self._end_writing, lingers=lingers and not self._ended)
        if self._outbox is not None:
            self._outbox.finish(end_writing)
        else:
            end_writing()

    def abort(self) -> None:
        """Close now, whatever is not written."""
        self._stop_conversation()
        if self._outbox is not None:
            self._outbox.discard()
        transport: Any = self.transport
        transport.abortConnection()

    def give_way(self) -> None:
        """It waits for its peer to close, and there are too many without a name."""
        self.abort()

    def end_slow(self) -> None:
        """It takes too little for too long."""
        if self.session is not None:
            self.session.end_slow()

    def cut(self) -> None:
        """All together have too much, and this one has most of it."""
        if self.session is not None:
            self.session.cut()

    def hurry(self) -> None:
        """The relay stops: a connection that closes already does not wait for its peer."""
        if self._has_ended_writing:
            self._hurry()

    # How it does it.

    def _be_gone(self) -> None:
        if self.counted_network is not None:
            self.relay.admission.disconnected(self.counted_network)
        try:
            if self.session is not None:
                self.session.connection_lost("the connection was closed")
                self._lines.clear()
        finally:
            self._stop_timers()
            self.relay.admission.remove_unnamed(self)
            self.factory.connection_gone(self)
            # They know this protocol too: left in a ring they would wait for the collector.
            self.session = self._outbox = None

    def _pace(self, session: Session, received_bytes: int) -> None:
        limits = self.relay.limits
        if limits.lines_per_s or limits.bytes_per_s:
            self.pacer = self.pacer or Pacer(self.relay, self._clock, session.gate)
            self.pacer.received(received_bytes)
        elif self.pacer is not None and not self.pacer.is_holding:
            self.pacer = None
        set_read_size(self.transport, received_bytes, is_paced=self.pacer is not None)

    def _work(self, session: Session) -> None:
        if (pacer := self.pacer) is not None:
            pacer.begins(is_answering=session.is_answering)
        try:
            while not self.paused and session.state is not State.CLOSED:
                if session.is_answering:
                    session.go_on()
                    continue
                part = self._lines.take()
                if part is None or (pacer is not None and not pacer.admits(self._lines, part)):
                    break
                self._serve(session, part)
            if self._ended and not self.paused:
                session.end_of_input()
            if pacer is not None:
                pacer.ends()
            self.relay.flow.shed()
        except Exception:
            _log.failure("serving {peer} failed; its connection is closed", peer=session.peer)
            session.failed()

    def _serve(self, session: Session, part: Block | Overlong) -> None:
        if session.eol != self._lines.ending:
            session.eol = self.delimiter = self._lines.ending
        if isinstance(part, Block):
            if session.run_received(part):
                return
            line = part.take_line()
            if isinstance(line, bytes):
                self.lineReceived(line)
                return
            part = line
        session.overlong_received(part)

    def _take_turn(self) -> None:
        self.is_waiting = False
        session = self.session
        if session is not None and session.state is not State.CLOSED and not session.gate.held:
            self.paused = False
            session.turn_begins(0, self.relay.limits.turn_s)
            self._work(session)
            self._read_on(session)
        if self._is_lost and not self.is_waiting:
            self._be_gone()

    def _read_on(self, session: Session) -> None:
        # Only once everything that was read is served: a client whose lines take more than
        # its share of each turn would be read faster than it is served, without bound.
        if session.state is not State.CLOSED and not (self.paused or self._ended or self._is_lost):
            transport: Any = self.transport
            transport.resumeProducing()

    def _first_bytes(self, session: Session, data: bytes) -> bool:
        if data[0] == TLS_FIRST_BYTE:
            session.close_unanswered()
            return False
        # Behind a proxy the address is known only now, and whoever reaches the proxy's
        # port can claim any: none is trusted to be this machine.
        if isinstance(self.transport, FileDescriptor):
            return True
        transport: Any = self.transport
        address = transport.getPeer()
        if address == self._wrapped_address:
            return True
        try:
            peer, _ = peer_of(address)
        except ValueError:
            session.close_unanswered()
            return False
        if self.counted_network is not None:
            self.relay.admission.disconnected(self.counted_network)
            self.counted_network = None
        session.peer = peer
        return self._admit(peer, exempt=False)

    def _admit(self, peer: Peer, *, exempt: bool) -> bool:
        refused = self.relay.admission.connected(peer.host, exempt=exempt)
        if refused is not None:
            self._turn_away(peer, refused)
            return False
        if not exempt:
            self.counted_network = network_of(peer.host)
        return True

    def _turn_away(self, peer: Peer, refused: NotAdmitted) -> None:
        if self.session is not None:
            self.session.close(refused.why, refused.refusal, lingers=False)
            return
        if not self.relay.turned_away(peer, refused):
            self.abort()
            return
        transport: Any = self.transport
        transport.write(error_line(refused.refusal) + self.delimiter)
        self.close(self.relay.limits.close_grace_s, lingers=False)

    def _hint(self) -> None:
        limits = self.relay.limits
        remaining_s = limits.naming_timeout_s - limits.hint_after_s
        self._timeout = self._clock.callLater(remaining_s, self._naming_timed_out)
        if self.session is not None:
            self.session.hint()

    def _naming_timed_out(self) -> None:
        session = self.session
        if session is not None and session.awaits_decision:
            # It has given one, and waits for us.
            remaining_s = self.relay.limits.naming_timeout_s
            self._timeout = self._clock.callLater(remaining_s, self._naming_timed_out)
            return
        self._timeout = None
        if session is not None:
            session.naming_timed_out()

    def _stop_conversation(self) -> None:
        self._stop_timers()
        self._lines.clear()
        self.paused = False

    def _stop_timers(self) -> None:
        self._cancel_timeout()
        pacer, self.pacer = self.pacer, None
        if pacer is not None:
            pacer.stop()

    def _cancel_timeout(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None and timeout.active():
            timeout.cancel()

    def _end_writing(self, *, lingers: bool) -> None:
        transport: Any = self.transport
        # Under TLS there is only one end for both directions.
        is_tls = ISSLTransport.providedBy(transport)
        self._has_ended_writing = lingers and not is_tls
        if self._has_ended_writing:
            # A socket closed with something unread in it is reset, and what was written to
            # it last may never be seen: say that this is all, and read until the peer closes.
            transport.loseWriteConnection()
        else:
            transport.loseConnection()
        # Whether the peer has closed, too, is seen by reading.
        transport.resumeProducing()
        if lingers or is_tls:
            self.relay.admission.add_closing(self)

    def _hurry(self) -> None:
        self._cancel_timeout()
        transport: Any = self.transport
        self._timeout = self._clock.callLater(STOP_LINGER_S, transport.loseConnection)
