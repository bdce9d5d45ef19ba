"""
Bots: named participants that live in the server.

A bot is an object that provides `chatrelay.interfaces.IBot`; subclassing `Bot` is
the short way.  docs/bots.rst shows how to write one, where to put it and how to
choose it.
"""

from chatrelay.bots.api import Bot, BotMessage, BotRelay
from chatrelay.bots.finding import find_bots

__all__ = ["Bot", "BotMessage", "BotRelay", "find_bots"]
