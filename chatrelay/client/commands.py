"""
What a client asks its relay besides sending: its commands, as methods.

Pure but for the Deferreds: how a command is written and answered is `chatrelay.client.library`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred

from chatrelay.client import core
from chatrelay.client.answers import replies
from chatrelay.client.core import Event, Message
from chatrelay.client.identity import check_own_secret, check_secret
from chatrelay.client.rooms import RoomCommands
from chatrelay.errors import ChatrelayError, Misuse


class Commands(RoomCommands):
    """The commands of a `chatrelay.client.library.Client`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name this client has."""

    @property
    @abstractmethod
    def caps(self) -> tuple[str, ...]:
        """What the relay adds to its lines on this connection."""

    @abstractmethod
    def one_line_command(self, line: str) -> Deferred[list[Event]]:
        """Send a command that is answered by one line, when its effect is kept."""

    def who(self, target: str = "") -> Deferred[list[str]]:
        """
        Fires with the names that are here.

        :param target: of a name: with it alone, if it is here; of a room: with its members that
            are here.
        """
        return self._command("who", target).addCallback(
            # One that shares many rooms has several lines.
            lambda events: list(
                dict.fromkeys(
                    event.arguments[0] for event in replies(events, "who") if event.arguments
                )
            )
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

    def ack(self, message: Message | str) -> Deferred[None]:
        """
        Say that everything up to a message is dealt with, on a connection with the cap ``ack``.

        What is not acked comes again at the next connection of the name.

        :param message: one that this connection was sent, or its id.
        :returns: fires with ``None`` when the relay has kept that.  Fails with a `Refusal`, as
            `BadId`, or with `Disconnected`.
        :raises Misuse: at once: it has no id.
        """
        return self._one_line("ack", _id_of(message))

    def history(
        self,
        target: str = "",
        count: int = 50,
        *,
        before: Message | str | None = None,
        after: Message | str | None = None,
    ) -> Deferred[list[Message]]:
        """
        Read the log of the name, which has to be an owned one, or of a kept room.

        :param target: the other side, to read what was sent to it, too; or a kept room that
            the name is in; else only what was sent to the name.
        :param count: at most so many messages, up to 200.
        :param before: a message or an id: the newest ones before it.
        :param after: a message or an id: the oldest ones after it, or after where it was, if
            it is kept no longer.  Without either the newest ones.
        :returns: fires with messages that have an id and a time, in the order of the log.  Fails
            with a `Refusal`, as `NotAllowed` or `BadId`.
        :raises Misuse: at once: both `before` and `after`, or a message without an id.
        """
        if before is not None and after is not None:
            raise Misuse("History is read before a message or after one, not both.")
        bounds = [
            f"{word}={_id_of(bound)}"
            for word, bound in (("before", before), ("after", after))
            if bound is not None
        ]
        asking = self._command("history", target, str(count), *bounds)
        return asking.addCallback(
            lambda events: [_without_ref(event) for event in events if isinstance(event, Message)]
        )

    def block(self, name: str) -> Deferred[None]:
        """Have the relay refuse what a name sends to this one; fires with ``None``."""
        return self._one_line("block", name)

    def unblock(self, name: str) -> Deferred[None]:
        """Take back `block`; fires with ``None``."""
        return self._one_line("unblock", name)

    def set_caps(self, *caps: str) -> Deferred[list[str]]:
        """
        Ask the relay to add exactly these to its lines.

        :returns: fires with those it has.
        :raises Misuse: at once: one of them is no cap.
        """
        core.check_caps(caps)
        asking = self._command("caps", *(caps or ("none",)))
        return asking.addCallback(lambda _: list(self.caps))

    def _command(self, verb: str, *arguments: str) -> Deferred[list[Event]]:
        return self.command(_written(verb, arguments))

    def _one_line(self, verb: str, argument: str) -> Deferred[None]:
        return self.one_line_command(_written(verb, [argument])).addCallback(lambda _: None)


def _written(verb: str, arguments: Sequence[str]) -> str:
    if any(" " in argument for argument in arguments):
        raise Misuse("An argument of a command holds no space.")
    return " ".join([f"/{verb}", *filter(None, arguments)])


def _without_ref(message: Message) -> Message:
    tags = {key: value for key, value in message.tags.items() if key != "ref"}
    return replace(message, tags=tags)


def _id_of(message: Message | str) -> str:
    if not isinstance(message, Message | str):  # a program need not be type-checked
        raise Misuse(f"A message, or its id as text, is asked for; this is {message!r}.")
    identity = message if isinstance(message, str) else message.id
    if not identity:
        raise Misuse("This message has no id: connect with the cap 'id' or 'ack'.")
    return identity


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
