"""
The pipe program: standard input to the relay, the relay to standard output.

Lines go as they are, in both directions; each side is read only as fast as the other
takes it.  See docs/client.rst.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay.client import core
from chatrelay.client.core import Disconnected
from chatrelay.client.display import harmless_bytes
from chatrelay.client.framing import MAX_LINE_BYTES, InputLines
from chatrelay.client.library import CLOSE_TIMEOUT_S
from chatrelay.client.membership import as_untagged
from chatrelay.client.options import EXIT_LOST, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE
from chatrelay.client.protocol import Claim, ClientProtocol
from chatrelay.client.reconnect import Reconnector, Trouble
from chatrelay.client.refused import Proof, why_refused
from chatrelay.client.repeating import RepeatableLines
from chatrelay.errors import ChatrelayError, Refusal

PATIENCE_S = 90.0
_BYE = b"!bye"
# Asks the relay under TLS whether all is answered; no line of the user's has this ref.
_LAST_REF = b"@ref=" + token_hex(12).encode("ascii") + b" "
# Tells a relay that closes idle connections that this one is used; its answer is not printed.
_ALIVE_REF = b"@ref=" + token_hex(12).encode("ascii") + b" "
ALIVE_AFTER_S = 50.0
"""Seconds in which nothing was written."""
_MAY_BE_LOST = "Lines sent just before may not have arrived."
_OTHERS = "other lines sent just before may not have arrived."


@implementer(IHalfCloseableProtocol)
class PipeProgram(Protocol):
    """
    One run of the program; the protocol of standard input and output.

    It handles the lines of each connection as well: there is one at a time.

    Messages with a ref that an owned name's lost connection has left unanswered are written
    again on the next one.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        claim: Claim,
        to: str | None,
        say: Callable[[str], None],
    ) -> None:
        """
        Begin with `run`.

        :param claim: the name, with its secret or a token if it is registered.
        :param to: where plain lines go; without it every line is the protocol's.  A room is
            joined.
        :param say: shows the user one sentence, on standard error.
        """
        self._asked_to_end = False
        self.escape_output = False
        self._clock = clock
        self._claim = claim
        self._say = say
        self._input = InputLines(to)
        self._unsent = b""
        self._input_ended = False
        self._awaits_last_answer = False
        self._is_drained = False
        self._has_quit = False
        self._is_leaving = False
        self._connection_full = False
        self._repeatable = RepeatableLines()
        self._output_full = False
        self._output_closed: Deferred[None] | None = Deferred()
        self._connection: ClientProtocol | None = None
        self._lost: Deferred[None] = Deferred()
        self._was_connected = False
        self._status = EXIT_OK
        self._close_timer: IDelayedCall | None = None
        self._reconnector = Reconnector(
            clock,
            endpoint,
            claim,
            lambda: self,
            patience_s=PATIENCE_S,
            on_trouble=self._on_trouble,
        )
        if to is not None and core.is_room(to):
            self._reconnector.identity.membership.enter(to)
        self._alive_timer: IDelayedCall | None = None

    @property
    def asked_to_end(self) -> bool:
        """Whether the end of the next connection is the end of the program."""
        return self._asked_to_end and (self._is_leaving or not self._will_repeat)

    @property
    def _will_repeat(self) -> bool:
        connection = self._connection
        return (
            connection is not None
            and connection.refs_owner is not None
            and (len(self._repeatable) > 0)
        )

    async def run(self) -> int:
        """Run to the end, once there is a transport; returns the exit status."""
        try:
            async for _ in self._reconnector:
                await self._lost
        except Refusal as refusal:
            proof = Proof.NONE if self._claim.secret is None else Proof.GIVEN
            name = self._reconnector.identity.name
            why = why_refused(refusal, name, proof, was_connected=self._was_connected)
            self._say(f"{why}{self._giving_up()}")
            self._status = EXIT_LOST if self._was_connected else EXIT_REFUSED
        except ChatrelayError as error:
            self._say(f"{error}{self._giving_up()}")
            self._status = EXIT_LOST if self._was_connected else EXIT_UNREACHABLE
        flushing = self._output_closed
        if flushing is not None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            await flushing
        return self._status

    def _giving_up(self) -> str:
        if not self._reconnector.out_of_patience:
            return ""
        return f" No connection for {PATIENCE_S:.0f} s; giving up."

    # -- standard input and output

    def connectionMade(self) -> None:
        """Standard input is not read before the welcome."""
        self.transport.pauseProducing()
        self.transport.registerProducer(_Valve(self._output_is_full), True)

    def dataReceived(self, data: bytes) -> None:
        """Something was read from standard input."""
        dropped = self._input.dropped
        self._unsent += self._input.feed(data)
        if self._input.dropped > dropped:
            self._say(f"A line of input is longer than {MAX_LINE_BYTES} bytes: it is not sent.")
        self._send()

    def readConnectionLost(self) -> None:
        """Standard input has ended: send the rest and drain."""
        self._unsent += self._input.finish()
        self._input_ended = True
        self._send()

    def writeConnectionLost(self) -> None:
        """Nobody reads standard output: there is nothing to go on for."""
        self._output_closed = None
        self._status = EXIT_LOST
        if self._connection is None:
            ensureDeferred(self._reconnector.close())
        else:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Standard output has been flushed and closed."""
        if self._output_closed is not None:
            closed, self._output_closed = self._output_closed, None
            closed.callback(None)

    def _output_is_full(self, full: bool) -> None:
        self._output_full = full
        if self._connection is not None:
            if full:
                self._connection.transport.pauseProducing()
            else:
                self._connection.transport.resumeProducing()

    # -- the connection

    def name_granted(self, connection: ClientProtocol) -> None:
        """The name was granted: go on with what was not answered, and with what was read."""
        self._was_connected = True
        self._connection = connection
        self._lost = Deferred()
        connection.transport.registerProducer(_Valve(self._connection_is_full), True)
        if self._output_full:
            connection.transport.pauseProducing()
        unanswered = len(self._repeatable)
        again = self._repeatable.again(connection.refs_owner, self._clock.seconds())
        if again:
            connection.write(again)
        self._stay_alive()
        self._give_up(unanswered - len(self._repeatable))
        self._send()

    def _give_up(self, count: int) -> None:
        """So many lines are not sent again: told when the answers to the last ones are awaited."""
        if count and self._input_ended and self._status == EXIT_OK:
            self._say(f"What was not answered is not sent again: it is too late. {_MAY_BE_LOST}")
            self._status = EXIT_LOST

    def _connection_is_full(self, full: bool) -> None:
        self._connection_full = full
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Read standard input while what is read can be sent."""
        if self._connection is None or self._connection_full or self._repeatable.is_full:
            self.transport.pauseProducing()
        elif not self._input_ended:
            self.transport.resumeProducing()

    def _send(self) -> None:
        if self._connection is None:
            return
        unsent, self._unsent = self._unsent, b""
        connection = self._connection
        if unsent:
            self._repeatable.written(unsent, connection.refs_owner, self._clock.seconds())
            connection.write(unsent)
            self._stay_alive()
        if self._input_ended and not self._asked_to_end:
            self._asked_to_end = True
            self._stay_alive()
            connection.transport.unregisterProducer()
            if ISSLTransport.providedBy(connection.transport):
                # TLS has no half-close; what it would close is the whole connection.  And
                # after a /quit the relay waits 5 s for who reads: first everything is read.
                connection.transport.write(_LAST_REF + b"/ping .\n")
                self._awaits_last_answer = True
            else:
                connection.transport.loseWriteConnection()
        self._read_or_not()

    def _stay_alive(self) -> None:
        """Something was written: no sign of life is due for a while, at the end of input none."""
        _stop(self._alive_timer)
        if self._connection is not None and not self._asked_to_end:
            self._alive_timer = self._clock.callLater(ALIVE_AFTER_S, self._show_alive)

    def _show_alive(self) -> None:
        if self._connection is not None:
            self._connection.transport.write(_ALIVE_REF + b"/ping .\n")
            self._stay_alive()

    def lines_received(self, lines: list[bytes]) -> None:
        """Print what came."""
        self._repeatable.answered(lines)
        lines = [as_untagged(line) for line in lines if not line.startswith(_ALIVE_REF)]
        # It carries back the ref of a /quit that had one.
        if any(line.endswith(_BYE) and core.is_bye(core.parse_line(line)) for line in lines):
            self._asked_to_end = self._is_leaving = True
            # The user's own /quit: the relay answers nothing that was written after it.
            self._awaits_last_answer = False
        if self._awaits_last_answer or self._has_quit or self._is_drained:
            lines = self._without_last_answers(lines)
        if self.escape_output:
            lines = [harmless_bytes(line) for line in lines]
        if lines and self._output_closed is not None:
            self.transport.write(b"\n".join(lines) + b"\n")
        self._read_or_not()

    def _without_last_answers(self, lines: list[bytes]) -> list[bytes]:
        """What the user asked for; the answer to the last question ends the connection."""
        asked_for = [line for line in lines if not line.startswith(_LAST_REF)]
        if len(asked_for) < len(lines) and self._awaits_last_answer:
            self._awaits_last_answer, self._is_drained = False, True
            self._close_timer = self._clock.callLater(CLOSE_TIMEOUT_S, self._quit)
        # A message is stored later than lines behind it are answered.
        if self._is_drained and not self._repeatable:
            self._quit()
        return asked_for

    def _quit(self) -> None:
        self._is_drained, self._has_quit = False, True
        self._stop_timer()
        if self._connection is not None:
            self._connection.write_lines([_LAST_REF + b"/quit"])

    def connection_lost(self, error: Disconnected, *, clean: bool) -> None:
        """The connection ended: for good if it was asked to, else there will be another."""
        is_final = self.asked_to_end
        self._stop_timer()
        _stop(self._alive_timer)
        is_answered = clean and not self._awaits_last_answer and not self._repeatable
        if is_final and not is_answered and self._status == EXIT_OK:
            self._say(f"{error} {_MAY_BE_LOST}")
            self._status = EXIT_LOST
        unanswered = len(self._repeatable)
        self._repeatable.lost(self._clock.seconds())
        self._give_up(unanswered - len(self._repeatable))
        self._connection = None
        self._asked_to_end = is_final
        self._awaits_last_answer = self._is_drained = self._has_quit = False
        self._connection_full = False
        self._read_or_not()
        lost, self._lost = self._lost, Deferred()
        lost.callback(None)

    def _stop_timer(self) -> None:
        _stop(self._close_timer)
        self._close_timer = None

    def close(self) -> Deferred[None]:
        """End the connection in order; fires when it has ended."""
        if self._connection is None:
            return succeed(None)
        connection = self._connection
        self._asked_to_end = self._is_leaving = True
        connection.transport.unregisterProducer()
        connection.transport.resumeProducing()
        self._connection_is_full(True)
        connection.write_lines([b"/quit"])
        if self._close_timer is None:
            self._close_timer = self._clock.callLater(
                CLOSE_TIMEOUT_S, connection.abort, "The relay did not end the connection."
            )
        return self._lost

    def _on_trouble(self, trouble: Trouble) -> None:
        lost = f" {_MAY_BE_LOST}" if trouble.was_connected else ""
        if trouble.was_connected and self._repeatable:
            count = len(self._repeatable)
            messages = f"{count} message{'s' if count > 1 else ''}"
            lost = f" What has a ref and no answer goes again ({messages}); {_OTHERS}"
        self._say(f"{trouble.error}{lost} Connecting again in {trouble.retry_in_s:.1f} s.")


def _stop(timer: IDelayedCall | None) -> None:
    if timer is not None:
        with suppress(AlreadyCalled, AlreadyCancelled):
            timer.cancel()


@implementer(IPushProducer)
class _Valve:
    """Tells one side that the other is full, or takes again."""

    def __init__(self, set_full: Callable[[bool], None]) -> None:
        self._set_full = set_full

    def pauseProducing(self) -> None:
        self._set_full(True)

    def resumeProducing(self) -> None:
        self._set_full(False)

    def stopProducing(self) -> None:
        """The consumer is gone; its loss is told otherwise."""
