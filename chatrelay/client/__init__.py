"""
The matching client, as a library: ``from chatrelay.client import connect``.

``python -m chatrelay.client NAME`` runs it as a program (docs/client.rst).
"""

from chatrelay.client.connecting import connect, tls_endpoint
from chatrelay.client.core import (
    Answer,
    Disconnected,
    Message,
    OnlySent,
    Reply,
    TooMuchWaiting,
    Unreachable,
)
from chatrelay.client.library import Client
from chatrelay.client.reconnect import Reconnector, Trouble, stay_connected
from chatrelay.client.rooms import Room

__all__ = [
    "Answer",
    "Client",
    "Disconnected",
    "Message",
    "OnlySent",
    "Reconnector",
    "Reply",
    "Room",
    "TooMuchWaiting",
    "Trouble",
    "Unreachable",
    "connect",
    "stay_connected",
    "tls_endpoint",
]
