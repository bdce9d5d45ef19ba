"""Finding the bots that were asked for among those that are installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.plugin import getPlugins

from chatrelay.errors import BadName, Misuse
from chatrelay.interfaces import IBot
from chatrelay.names import SERVER_NAME, Name, parse_name


def find_bots(names: Sequence[str], available: Iterable[IBot] | None = None) -> list[IBot]:
    """
    Find bots by name, in the order asked for.

    :param names: the names, each once; upper and lower case are the same.
    :param available: where to look; ``None`` for every provider of `IBot` in the
        modules below ``twisted/plugins/`` along ``sys.path``.  A module there that
        can not be imported is logged by Twisted and left out.
    :raises Misuse: something asked for is no name, is asked for twice, is not
        there, or is there more than once.  The message is one line for a person.
    """
    by_key: dict[bytes, list[IBot]] = {}
    unusable: list[str] = []
    if names:
        for bot in getPlugins(IBot) if available is None else available:
            written = getattr(bot, "name", None)
            try:
                by_key.setdefault(bot_name(written).key, []).append(bot)
            except Misuse:
                unusable.append(f"{type(bot).__module__}.{type(bot).__qualname__} ({written!a})")
    found: dict[bytes, IBot] = {}
    for name in names:
        key = bot_name(name).key
        if key in found:
            raise Misuse(f"the bot {name!a} is asked for twice")
        candidates = by_key.get(key, [])
        if not candidates:
            raise Misuse(_missing(name, by_key, unusable))
        if len(candidates) > 1:
            where = ", ".join(type(bot).__module__ for bot in candidates)
            raise Misuse(f"there are {len(candidates)} bots named {name!a}, in {where}")
        found[key] = candidates[0]
    return list(found.values())


def bot_name(written: object) -> Name:
    """
    Read the name of a bot.

    :raises Misuse: it is no string, no valid name, or the relay's own name.
    """
    try:
        if isinstance(written, str):
            name = parse_name(written.encode("utf-8"))
            if name.key != SERVER_NAME:
                return name
    except (BadName, UnicodeEncodeError):
        pass
    raise Misuse(f"{written!a} can not be the name of a bot: {BadName.sentence}")


def _missing(name: str, by_key: dict[bytes, list[IBot]], unusable: list[str]) -> str:
    names = sorted(str(bots[0].name) for bots in by_key.values())
    message = f"there is no bot {name!a}; there are: {', '.join(names) or 'none'}"
    if unusable:
        message += f"; left out for what they are named: {', '.join(sorted(unusable))}"
    return message
