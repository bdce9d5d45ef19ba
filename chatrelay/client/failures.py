"""Why a connection could not be made, or has ended: one sentence for a person, or none."""

from __future__ import annotations

import os

from twisted.internet.error import ConnectionDone, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimedOut
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from chatrelay.errors import ChatrelayError


def ignore(failure: Failure) -> None:
    """Go on after what was asked on the side: that a connection is lost is told otherwise."""
    failure.trap(ChatrelayError)


def describe(error: BaseException) -> str:
    """One sentence about why a connection ended."""
    if isinstance(error, ConnectionDone):
        return "The relay closed the connection."
    words = str(error).strip().rstrip(".") or type(error).__name__
    return f"{words}."


def describe_unreachable(endpoint: IStreamClientEndpoint, error: BaseException) -> str:
    """One sentence about why no connection could be made, and where to."""
    # Twisted's keeps the number of the error apart, or has none.
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    if isinstance(error, DNSLookupError):
        why = "there is no such host"
    elif isinstance(number, int):
        why = os.strerror(number)
        why = why[:1].lower() + why[1:]
    elif isinstance(error, ConnectTimedOut):
        why = "it does not answer"
    else:
        why = describe(error).rstrip(".")
    return f"No relay{_place(endpoint)}: {why}."


def _place(endpoint: IStreamClientEndpoint) -> str:
    # Endpoints have no way to ask them: what is not one of Twisted's is not described.
    endpoint = getattr(endpoint, "_wrappedEndpoint", endpoint)  # what TLS is put around
    path = getattr(endpoint, "_path", None)
    if path is not None:
        return f" at {path}"
    host = getattr(endpoint, "_hostText", None) or getattr(endpoint, "_host", None)
    port = getattr(endpoint, "_port", None)
    return f" at {host} port {port}" if host and port else ""
