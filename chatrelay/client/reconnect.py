"""
Connected again and again: one connection after another under one name.

On top of Twisted's `ClientService`, which keeps connecting with growing delays; here
is what may be tried again, for how long, and who is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from chatrelay import errors
from chatrelay.client.connecting import DEFAULT_CAPS, claim_of, endpoint_for
from chatrelay.client.core import Disconnected, Unreachable, WrongServer
from chatrelay.client.identity import Identity
from chatrelay.client.library import Client
from chatrelay.client.outgoing import Outgoing
from chatrelay.client.protocol import Claim, ClientProtocol, LineHandler, open_connection
from chatrelay.errors import ChatrelayError, Refusal

FIRST_DELAY_S = 0.5
DELAY_FACTOR = 1.6
MAX_DELAY_S = 20.0
NAME_PATIENCE_S = 90.0
"""How long one's own old connection may hold the name: the relay gives it up by then."""

# Less is left of the time by rounding only.
_NO_TIME_S = 0.001
# What passes, whoever asks.
_PASSING = (
    errors.Busy,
    errors.RateLimited,
    errors.ShuttingDown,
    errors.StoreFailed,
    errors.TooManyClients,
)
# Everything else that the relay refuses, it will refuse again.
_WORTH_RETRYING = (*_PASSING, errors.NameInUse, errors.SlowConsumer, errors.TimedOut)

H = TypeVar("H", bound=LineHandler)


@dataclass(frozen=True)
class Trouble:
    """
    A connection was lost, or an attempt failed, and another follows.

    :ivar error: why.
    :ivar retry_in_s: seconds until the next attempt.
    :ivar was_connected: whether this is the loss itself.
    """

    error: ChatrelayError
    retry_in_s: float
    was_connected: bool


def retry_delay_s(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """
    The time before an attempt: growing, and different for each client of a relay.

    :param attempt: 1 for the first one after a loss.
    :param jitter: from 0 to 1.
    """
    grown = FIRST_DELAY_S * DELAY_FACTOR ** min(attempt - 1, 50)
    return min(grown, MAX_DELAY_S) * (0.5 + jitter())


class Reconnector(Generic[H]):
    """
    Iterate over connections: ``async for client in stay_connected(…)``.

    Each is given once its name is granted.  The body of the loop runs until it has
    ended, and the next turn of the loop waits for the following one.  Before the first
    welcome nothing is tried again, unless `insists`: the iteration raises `Unreachable` or
    the `Refusal`.
    After it, it raises when `patience_s` have passed without a connection, the name is
    held by somebody for 90 s, or the relay refuses what it would refuse again.  After
    an end that was asked for (`Client.close`, ``/quit``) it stops.

    With a secret each connection asks for a token, which then stands for the secret: a relay
    to which many come back at once has nothing to hash.  A token is kept in memory only; one
    that is refused is dropped, and the secret tried in its place.

    What handles the lines keeps what was sent and not answered, if it is to be sent again.

    :ivar identity: the name, and what proves it, of the next connection.
    :ivar out_of_patience: whether it raised because of the time that had passed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        claim: Claim,
        make_handler: Callable[[], H],
        *,
        patience_s: float | None = None,
        insists: bool = False,
        on_trouble: Callable[[Trouble], None] | None = None,
        on_end: Callable[[Disconnected], None] | None = None,
    ) -> None:
        """
        Use `stay_connected`, unless lines are to be handled by something of one's own.

        :param make_handler: makes what handles the lines of each connection.
        :param patience_s: seconds without a connection after which it gives up;
            ``None``: never.
        :param insists: try again before the first welcome, too: a relay that can not be
            reached, or refuses for now.
        :param on_trouble: called at each loss and each failed attempt.
        :param on_end: called once when there will be no other connection, with the reason.
        """
        self.clock = clock
        self.out_of_patience = False
        self._endpoint = endpoint
        self._claim = claim
        self.identity = Identity(claim.name, claim.secret)
        self._make_handler = make_handler
        self._patience_s = patience_s
        self._insists = insists
        self._on_trouble = on_trouble or (lambda _: None)
        self._on_end = on_end or (lambda _: None)
        self._jitter = random.random
        self._service = ClientService(
            _NamedEndpoint(self), Factory.forProtocol(_Tether), self._retry_delay_s, clock
        )
        self._waiting: Deferred[H] | None = None
        self._ready: H | None = None
        self._given: H | None = None
        self._connection: ClientProtocol | None = None
        self._welcomed_before = False
        self._lost_at_s: float | None = None
        self._name_held_since_s: float | None = None
        self._last_error: ChatrelayError = Disconnected("There is no connection.")
        self._was_connected = False
        self._final: BaseException | None = None
        self._stopping: IDelayedCall | None = None

    def __aiter__(self) -> Reconnector[H]:
        """Iterate over the connections."""
        return self

    async def __anext__(self) -> H:
        """Wait for the next connection; close the last one if it is still open."""
        if self._given is not None:
            given, self._given = self._given, None
            await given.close()
        self._given = await self._next()
        return self._given

    def _next(self) -> Deferred[H]:
        if self._final is not None:
            return fail(self._final)
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return succeed(ready)
        self._waiting = Deferred()
        waiting = self._waiting
        if not self._service.running:
            self._service.startService()
        return waiting

    async def close(self) -> None:
        """End the connection in order, and all attempts; the iteration stops."""
        # Not `_end`, which stops the service before the connection has drained.
        self._final = self._final or StopAsyncIteration()
        for handler in (self._given, self._ready):
            if handler is not None:
                await handler.close()
        self._tell_end()
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(self._final)
        if self._service.running:
            await self._service.stopService()

    # -- what the service tells

    async def attempt(self) -> tuple[ClientProtocol, _Handling[H]]:
        """One attempt to connect and take the name."""
        handler = self._make_handler()
        while True:
            handling = _Handling(handler)
            try:
                connection = await self._open(handling)
            except ChatrelayError as error:
                if isinstance(error, Refusal) and self.identity.refused(error):
                    continue  # there is something else that may open the name
                self._last_error, self._was_connected = error, False
                raise
            break
        self._welcomed_before = True
        self._connection = connection
        self._lost_at_s = self._name_held_since_s = None
        # Given when the service knows of it, in the next turn.
        self.clock.callLater(0, self._give, connection, handler)
        return connection, handling

    async def _open(self, handling: _Handling[H]) -> ClientProtocol:
        identity = self.identity
        claim = self._claim._replace(name=identity.name.encode("utf-8"), secret=identity.proof)
        return await open_connection(self.clock, self._endpoint, claim, handling, identity=identity)

    def _give(self, connection: ClientProtocol, handler: H) -> None:
        if connection is not self._connection:
            return  # lost in between
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(handler)
        else:
            self._ready = handler

    def connection_lost(self, error: Disconnected, *, asked: bool) -> None:
        """
        The connection ended.

        :param asked: this side had asked for it.
        """
        self.identity.lost()
        self._connection = self._ready = None
        self._last_error, self._was_connected = error, True
        self._lost_at_s = self.clock.seconds()
        if asked:
            self._end(StopAsyncIteration())

    def _retry_delay_s(self, attempt: int) -> float:
        """Decide whether there is another attempt: called after each loss and failure."""
        delay_s = retry_delay_s(attempt, self._jitter)
        if self._final is not None:
            return delay_s
        left_s = self._left_s()
        if left_s < _NO_TIME_S:
            self._end(self._last_error)
        else:
            delay_s = min(delay_s, left_s)  # the last attempt is at the very end
            self._on_trouble(Trouble(self._last_error, delay_s, self._was_connected))
        return delay_s

    def _left_s(self) -> float:
        """The seconds in which there may be another attempt."""
        error, now_s = self._last_error, self.clock.seconds()
        if not self._welcomed_before and not (self._insists and _may_pass(error)):
            return 0.0
        left_s = math.inf
        if isinstance(error, errors.NameInUse):
            if self._name_held_since_s is None:
                self._name_held_since_s = now_s
            left_s = self._name_held_since_s + NAME_PATIENCE_S - now_s
        else:
            self._name_held_since_s = None
            if isinstance(error, Refusal) and not isinstance(error, _WORTH_RETRYING):
                return 0.0
        if self._patience_s is not None:
            lost_at_s = now_s if self._lost_at_s is None else self._lost_at_s
            left_s = min(left_s, lost_at_s + self._patience_s - now_s)
        self.out_of_patience = left_s < _NO_TIME_S
        return left_s

    def _end(self, why: BaseException) -> None:
        if self._final is None:
            self._final = why
            # The service is asking for a delay just now: it can not be stopped inside.
            self._stopping = self.clock.callLater(0, self._stop)

    def _tell_end(self) -> None:
        on_end, self._on_end = self._on_end, lambda _: None
        on_end(Disconnected(str(self._last_error)))

    def _stop(self) -> None:
        if self._service.running:
            self._service.stopService()
        if self._waiting is not None and self._final is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(self._final)
        self._tell_end()


def _may_pass(error: ChatrelayError) -> bool:
    is_unreachable = isinstance(error, Unreachable) and not isinstance(error, WrongServer)
    return is_unreachable or isinstance(error, _PASSING)


def stay_connected(
    reactor: IReactorTime,
    server: str | IStreamClientEndpoint,
    name: str,
    *,
    caps: Sequence[str] = DEFAULT_CAPS,
    patience_s: float | None = None,
    on_trouble: Callable[[Trouble], None] | None = None,
    secret: str | None = None,
    secret_in_clear: bool = False,
) -> Reconnector[Client]:
    """
    Connect under a name, again whenever the connection is lost: see `Reconnector`.

    :param server: a client endpoint string, or an endpoint.
    :param name: the name to take; after ``/name`` the new one is taken again.
    :param caps: as in `connect`.
    :param patience_s: seconds without a connection after which it gives up;
        ``None``: never.
    :param on_trouble: called at each loss and each failed attempt.
    :param secret: the secret of the name, or a token for it, if somebody owns it; after
        `Client.register` and `Client.rename` the new one is used.
    :param secret_in_clear: as in `connect`.
    :raises Misuse: at once, as `connect`.

    Rooms that were joined are joined again.  What `Client.send` was given waits for the next
    connection when one is lost, and for its answer there.  Written and not answered, it is
    written again with its ref, if the name is owned; for a name that nobody owns its `Deferred`
    fails with `Disconnected`.
    """
    outgoing = Outgoing(reactor.seconds, keeps=True)
    return Reconnector(
        reactor,
        endpoint_for(reactor, server),
        claim_of(name, caps, secret, secret_in_clear=secret_in_clear),
        lambda: Client(reactor, outgoing=outgoing),
        patience_s=patience_s,
        on_trouble=on_trouble,
        on_end=outgoing.end,
    )


class _Handling(Generic[H]):
    """Hands everything on to the handler, and the loss to the service as well."""

    def __init__(self, handler: H) -> None:
        self.handler = handler
        self.tether: IProtocol | None = None
        self.owner: Reconnector[H] | None = None

    @property
    def asked_to_end(self) -> bool:
        return self.handler.asked_to_end

    def name_granted(self, connection: ClientProtocol) -> None:
        self.handler.name_granted(connection)

    def lines_received(self, lines: list[bytes]) -> None:
        self.handler.lines_received(lines)

    def connection_lost(self, error: Disconnected, *, clean: bool) -> None:
        if self.owner is not None:
            self.owner.connection_lost(error, asked=self.handler.asked_to_end)
        self.handler.connection_lost(error, clean=clean)
        if self.tether is not None:
            reason = ConnectionDone() if clean else ConnectionLost()
            self.tether.connectionLost(Failure(reason))

    def close(self) -> Deferred[None]:
        return self.handler.close()


class _Tether(TwistedProtocol):
    """What `ClientService` takes for the connection: it exists from welcome to loss."""


@implementer(IStreamClientEndpoint)
class _NamedEndpoint:
    """
    An endpoint whose connections have a name.

    A refused name is a failed attempt to the service, and a connection that ends
    before its welcome is none.
    """

    def __init__(self, owner: Reconnector[H]) -> None:
        self._owner = owner

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        async def attempt() -> IProtocol:
            connection, handling = await self._owner.attempt()
            peer = connection.transport.getPeer()
            tether = cast(IProtocol, protocolFactory.buildProtocol(peer))
            tether.makeConnection(connection.transport)
            handling.tether, handling.owner = tether, self._owner
            return tether

        return ensureDeferred(attempt())
