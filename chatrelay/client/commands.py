"""
What a client asks its relay besides sending: its commands, as methods.

Pure but for the Deferreds: how a command is written and answered is `chatrelay.client.library`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from chatrelay.client import core
from chatrelay.client.core import Event, Reply
from chatrelay.client.identity import check_own_secret, check_secret
from chatrelay.errors import ChatrelayError, Misuse


class Commands(ABC):
    """The commands of a `chatrelay.client.library.Client`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name this client has."""

    @abstractmethod
    def command(self, line: str) -> Deferred[list[Event]]:
        """Send any command."""

    def who(self, target: str = "") -> Deferred[list[str]]:
        """Fires with the names that are here, or with `target` alone if it is."""
        return self._command("who", target).addCallback(
            lambda events: [
                event.arguments[0] for event in replies(events, "who") if event.arguments
            ]
        )

    def watch(self, *names: str) -> Deferred[dict[str, bool]]:
        """
        Be told when names come and go, by ``online`` and ``offline`` replies in `events`.

        :returns: fires with whether each of the names is here now.
        """
        return self._command("watch", *names).addCallback(
            lambda events: {
                event.arguments[0]: event.word == "online"
                for event in replies(events, "online", "offline")
                if event.arguments
            }
        )

    def unwatch(self, *names: str) -> Deferred[None]:
        """Be told no more; fires with ``None``."""
        return self._command("unwatch", *names).addCallback(lambda _: None)

    def ping(self) -> Deferred[None]:
        """Fires with ``None`` when the relay has handled everything sent before."""
        return self.command("/ping .").addCallback(lambda _: None)

    def rename(self, name: str, secret: str | None = None) -> Deferred[str]:
        """
        Take another name and leave this one.

        :param secret: the secret of the new name, or a token for it, if somebody owns it.
        :returns: fires with the name as the relay shows it.  Fails with a `Refusal`, as
            `NameInUse`: then nothing changed.
        :raises Misuse: at once: not a name, or not a secret.
        """
        core.check_name(name)
        proof = () if secret is None else (_text(check_secret(secret)),)
        return self._command("name", name, *proof).addCallback(lambda _: self.name)

    def register(self, secret: str, old: str | None = None) -> Deferred[None]:
        """
        Own the name: from then on it is granted only with the secret.

        :param secret: 8 to 128 bytes in UTF-8, without spaces and control characters.
        :param old: the secret until now, to change it; a token does not serve here.
            All tokens are revoked, and other connections of the name closed.
        :returns: fires with ``None``.  Fails with a `Refusal`, as `BadSecret` or
            `Insecure`; or with `Disconnected`, whose `may_have_arrived` says what is known.
        :raises Misuse: at once: one of them can not be a secret.
        """
        secrets = [secret] if old is None else [secret, old]
        words = [_text(check_own_secret(written)) for written in secrets]
        return self._command("register", *words).addCallback(lambda _: None)

    def token(self) -> Deferred[str]:
        """
        Ask for a token, which stands for the secret of the name, for another program.

        It serves for 30 days from its last use, or until the name has another secret.
        What `stay_connected` uses it asks for by itself.

        :returns: fires with the token.  Fails with a `Refusal`, as `NotAllowed` if
            nobody owns the name.
        """
        return self._command("token").addCallback(_only_token)

    def set_caps(self, *caps: str) -> Deferred[list[str]]:
        """Ask the relay to add exactly these to its lines; fires with those it has."""
        return self._command("caps", *(caps or ("none",))).addCallback(
            lambda events: [
                word
                for event in replies(events, "caps")
                for word in event.arguments
                if word != "none"
            ]
        )

    def _command(self, verb: str, *arguments: str) -> Deferred[list[Event]]:
        if any(" " in argument for argument in arguments):
            raise Misuse("An argument of a command holds no space.")
        return self.command(" ".join([f"/{verb}", *filter(None, arguments)]))


def replies(events: Sequence[Event], *words: str) -> list[Reply]:
    """The replies with one of these words."""
    return [event for event in events if isinstance(event, Reply) and event.word in words]


def raise_refusal(events: list[Event]) -> list[Event]:
    """
    Raise what an answer holds of errors.

    :raises Refusal: the first one.
    """
    for error in replies(events, "error"):
        raise core.refusal_from(error)
    return events


def _only_token(events: list[Event]) -> str:
    for reply in replies(events, "token"):
        if reply.arguments:
            return reply.arguments[0]
    raise ChatrelayError("The relay answered with no token.")


def _text(secret: bytes) -> str:
    return secret.decode("utf-8")
