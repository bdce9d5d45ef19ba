"""
What a configuration names and has to be there: ports that mean something, certificates, bots.

Nothing is opened or started.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from chatrelay.bots.finding import bot_name, find_bots
from chatrelay.certificate.files import CERTIFICATES
from chatrelay.configuration import Configuration, Problem
from chatrelay.errors import ChatrelayError
from chatrelay.interfaces import IBot
from chatrelay.listening import Listener, NoSuchSocketError, parse_port
from chatrelay.names import SERVER_NAME

# What each of them is found by.
_LISTENED_BY = ("ports", "interface", "data")
_BOTS_BY = ("bots", "reserved", "operators")


class Parts(NamedTuple):
    """
    What was found.

    :ivar listeners: what to listen on.
    :ivar bots: who lives in the relay.
    """

    listeners: Sequence[Listener] = ()
    bots: Sequence[IBot] = ()


def find_parts(
    configuration: Configuration,
    reactor: Any,  # noqa: ANN401 - several interfaces
    wrong: Collection[str] = (),
    running: Configuration | None = None,
    *,
    is_check: bool = False,
) -> tuple[Parts, list[Problem]]:
    """
    Find what a configuration names.

    :param reactor: what the endpoints will listen with.
    :param wrong: keys that are known to be wrong: what is found by them is not looked for.
    :param running: what a relay runs with: what is found by the same as there is not, either.
    :param is_check: whether nothing will be done with it: sockets that only the relay itself is
        given are not missed.
    :returns: what was found, and everything that was not.
    """

    def is_wanted(keys: Sequence[str]) -> bool:
        is_new = running is None or any(
            getattr(configuration, key) != getattr(running, key) for key in keys
        )
        return is_new and not set(keys) & set(wrong)

    problems: list[Problem] = []
    listeners: list[Listener] = []
    if is_wanted(_LISTENED_BY):
        listeners, wrong_ports = _listeners(configuration, reactor)
        problems += [
            Problem("ports", str(error))
            for error in wrong_ports
            if not (is_check and isinstance(error, NoSuchSocketError))
        ]
    bots = _bots(configuration, problems) if is_wanted(_BOTS_BY) else []
    return Parts(listeners, bots), problems


def _listeners(
    configuration: Configuration,
    reactor: Any,  # noqa: ANN401
) -> tuple[list[Listener], list[ChatrelayError]]:
    data = configuration.data
    certificates = data / CERTIFICATES if data is not None else None
    listeners: list[Listener] = []
    errors: list[ChatrelayError] = []
    for port in configuration.ports:
        try:
            listeners += parse_port(reactor, port, configuration.interface, certificates)
        except ChatrelayError as error:
            errors.append(error)
    return listeners, errors


def _bots(configuration: Configuration, problems: list[Problem]) -> list[IBot]:
    try:
        bots = find_bots(configuration.bots)
    except ChatrelayError as error:
        problems.append(Problem("bots", str(error)))
        return []
    taken = {bot_name(bot.name).key for bot in bots}
    for key, can_not in (("reserved", "be reserved"), ("operators", "be an operator")):
        problems += [
            Problem(key, f"{name.shown.decode('utf-8')!a} can not {can_not}: a bot has that name")
            for name in getattr(configuration, key)
            if name.key in taken
        ]
    problems += [
        Problem(
            "operators",
            f"{name.shown.decode()!a} can not be an operator: it is the relay's own name",
        )
        for name in configuration.operators
        if name.key == SERVER_NAME
    ]
    return bots
