"""How a program gets a `Client`: `connect`, and `tls_endpoint` for connecting over TLS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, wrapClientTLS
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from chatrelay.client import core
from chatrelay.client.identity import check_secret
from chatrelay.client.library import Client
from chatrelay.client.protocol import WELCOME_TIMEOUT_S, Claim, open_connection
from chatrelay.client.trust import ServerTrust
from chatrelay.errors import Misuse

# With "ping" no connection is idle for long, however little is said: a relay may close those.
DEFAULT_CAPS = ("id", "time", "ping")


def connect(
    reactor: IReactorTime,
    server: str | IStreamClientEndpoint,
    name: str,
    *,
    caps: Sequence[str] = DEFAULT_CAPS,
    receiving: bool = True,
    secret: str | None = None,
    secret_in_clear: bool = False,
) -> Deferred[Client]:
    """
    Connect to a relay under a name.

    :param reactor: the reactor, or in tests whatever keeps time.
    :param server: a client endpoint string as ``tcp:localhost:12345``, or an endpoint,
        as `tls_endpoint` makes one.
    :param name: the name to take.
    :param caps: what the relay adds to its lines: ``id``, ``time``, ``ping``, ``echo``,
        ``ack``, ``receipts``.  A ``!ping`` is answered by the client; an ack is the program's.
    :param secret: the secret of the name, or a token for it, if somebody owns it.
    :param secret_in_clear: send secrets where others could read them, too: to another
        machine without TLS.
    :param receiving: false drops every message, for programs that only send.  They ask for
        the cap ``ack`` as well, so that what is dropped comes again to who reads it.
    :returns: fires with a `Client` once the relay has granted the name.  Fails with
        `Unreachable`, also when the relay says no welcome in 30 s; or with the
        `Refusal` of the name, as `NameInUse`, `NameOwned` or `BadSecret`; with
        `Insecure` for a secret that others could read and that is not sent.  Cancelling
        drops the connection.
    :raises Misuse: at once: not a name, not a secret, not an endpoint, or a cap that there is not.
    """
    if not receiving and secret is not None and "ack" not in caps:
        caps = (*core.check_caps(caps), "ack")
    claim = claim_of(name, caps, secret, secret_in_clear=secret_in_clear)
    endpoint = endpoint_for(reactor, server)
    client = Client(reactor, receiving=receiving)

    async def open_client() -> Client:
        await open_connection(reactor, endpoint, claim, client, WELCOME_TIMEOUT_S)
        return client

    return ensureDeferred(open_client())


def tls_endpoint(
    reactor: Any,  # noqa: ANN401 - several interfaces
    host: str,
    port: int,
    *,
    ca_file: str | None = None,
) -> IStreamClientEndpoint:
    """
    Where a relay is that speaks TLS: what `connect` and `stay_connected` take as server.

    Whoever connects to it fails with `Unreachable`, and a sentence that says why, if the
    server's certificate is not for `host`, not valid now, or not trusted; nothing is
    sent to that server.  TLS 1.2 is the least that is spoken.

    :param host: a name or an IP address; the certificate has to be for it.
    :param port: the relay's port for TLS.
    :param ca_file: a file with one or more CA certificates in PEM that are trusted
        instead of the system's.  It is read now, once.
    :raises Misuse: the host can not be one, or the file holds no certificate.
    """
    return endpoint_trusting(reactor, ServerTrust(host, port, ca_file=ca_file))


def endpoint_trusting(
    reactor: Any,  # noqa: ANN401 - several interfaces
    trust: ServerTrust,
) -> IStreamClientEndpoint:
    """The endpoint for the server that `trust` is about."""
    # Tries IPv6 and IPv4 side by side.
    tcp = HostnameEndpoint(reactor, trust.host, trust.port)
    return wrapClientTLS(trust, tcp, clock=reactor)


def claim_of(name: str, caps: Sequence[str], secret: str | None, *, secret_in_clear: bool) -> Claim:
    """
    Read what a connection is to begin with.

    :raises Misuse: not a name, not a secret, or a cap that there is not.
    """
    proof = None if secret is None else check_secret(secret)
    return Claim(core.check_name(name).shown, core.check_caps(caps), proof, secret_in_clear)


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
