"""The bot that ships: it writes back what it was sent, the other way round."""

from __future__ import annotations

from wcwidth import iter_graphemes

from chatrelay.bots.api import Bot, BotMessage


class ReverseBot(Bot):
    """Someone to talk to for whoever is alone on a relay."""

    name = "reverse"
    description = "Writes back what you send it, the other way round."

    def message_received(self, message: BotMessage) -> None:
        """Answer at once: 8192 bytes take well under a millisecond."""
        message.reply(reverse_text(message.text))


def reverse_text(text: str) -> str:
    """
    Reverse what a reader takes for characters.

    Grapheme clusters stay whole, so an accent keeps its letter, and a flag or a
    family of several code points its meaning.
    """
    return "".join(reversed(list(iter_graphemes(text))))
