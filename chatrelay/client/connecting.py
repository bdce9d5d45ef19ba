"""How a program gets a `Client`: `connect`."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from chatrelay.client import core
from chatrelay.client.library import Client
from chatrelay.client.protocol import WELCOME_TIMEOUT_S, Claim, open_connection
from chatrelay.errors import Misuse

DEFAULT_CAPS = ("id", "time")


def connect(
    reactor: IReactorTime,
    server: str | IStreamClientEndpoint,
    name: str,
    *,
    caps: Sequence[str] = DEFAULT_CAPS,
    receiving: bool = True,
) -> Deferred[Client]:
    """
    Connect to a relay under a name.

    :param reactor: the reactor, or in tests whatever keeps time.
    :param server: a client endpoint string as ``tcp:localhost:12345``, or an endpoint.
    :param name: the name to take.
    :param caps: what the relay adds to its lines: ``id``, ``time``, ``ping``, ``echo``.
        A ``!ping`` is answered by the client.
    :param receiving: false drops every message, for programs that only send.
    :returns: fires with a `Client` once the relay has granted the name.  Fails with
        `Unreachable`, also when the relay says no welcome in 30 s; or with the
        `Refusal` of the name, as `NameInUse`.  Cancelling drops the connection.
    :raises Misuse: at once: not a name, or not an endpoint.
    """
    claim = Claim(core.check_name(name).shown, tuple(caps))
    endpoint = endpoint_for(reactor, server)
    client = Client(reactor, receiving=receiving)

    async def open_client() -> Client:
        await open_connection(reactor, endpoint, claim, client, WELCOME_TIMEOUT_S)
        return client

    return ensureDeferred(open_client())


def endpoint_for(reactor: object, server: str | IStreamClientEndpoint) -> IStreamClientEndpoint:
    """
    The endpoint that a string describes, or that was given.

    :raises Misuse: the string describes none.
    """
    if not isinstance(server, str):
        return server
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, server)
    except Exception as error:  # plugins of endpoints raise what they like
        raise Misuse(f"This is not a client endpoint: {server!r} ({error}).") from error
    return endpoint
