"""
The terminal program: a prompt that stays whole while messages come.

It needs the asyncio reactor, whose loop prompt_toolkit uses; `chatrelay.client.__main__`
installs it.  What it decides is in `chatrelay.client.conversation`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.patch_stdout import patch_stdout
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.task import deferLater

from chatrelay.client.completing import completions
from chatrelay.client.conversation import Conversation
from chatrelay.client.display import harmless
from chatrelay.client.identity import check_secret
from chatrelay.client.library import Client
from chatrelay.client.options import (
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
)
from chatrelay.client.outgoing import Outgoing
from chatrelay.client.place import Places
from chatrelay.client.prompt import Prompt, ask_once, nothing_echoed
from chatrelay.client.protocol import Claim, OwnedInClear
from chatrelay.client.reading import Reading
from chatrelay.client.reconnect import Reconnector, Trouble
from chatrelay.client.refused import Proof, what_the_relay_says, why_refused
from chatrelay.client.typed import NEEDED_CAPS
from chatrelay.errors import BadSecret, ChatrelayError, Misuse, NameOwned, Refusal

MAX_SECRET_TRIES = 3
# A flood is shown at the pace at which a terminal takes it; what waits is bounded by
# the client, which then stops reading.
_BATCH_LINES = 200
_BATCH_PAUSE_S = 0.2
# What is written stands on the screen by then; and one ack and one file are for many messages.
_SHOWN_AFTER_S = 0.4


class _DroppedError(Exception):
    """The user was asked for a secret, and left instead."""


class TerminalProgram:
    """One run of the program."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401 - several interfaces
        endpoint: IStreamClientEndpoint,
        claim: Claim,
        to: str | None,
        complain: Callable[[str], None],
        places: Places | None = None,
    ) -> None:
        """
        Begin with `run`.

        :param claim: the name, with its secret or a token; without one the secret of a name
            that is registered is asked for.
        :param to: the first target of plain lines.
        :param complain: shows the user one sentence, on standard error.
        :param places: where it is kept what was read; ``None``: nowhere.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._claim = claim._replace(caps=NEEDED_CAPS)
        self._proof = Proof.NONE if claim.secret is None else Proof.GIVEN
        self._to = to
        self._complain = complain
        self._client: Client | None = None
        self._prompt = Prompt(self.prompt, self.typed, self.completions, self.next_unread)
        self._conversation = Conversation(
            _show,
            lambda: datetime.now(UTC),
            ask=self._prompt.ask,
            colour="NO_COLOR" not in os.environ,
            reading=Reading(reactor, places),
        )
        self._keeping: IDelayedCall | None = None
        self._reconnector = self._make_reconnector()
        self._final: ChatrelayError | None = None

    async def run(self) -> int:
        """Run until the user leaves; returns the exit status."""
        try:
            client = await self._first_client()
        except _DroppedError:
            return EXIT_INTERRUPTED + signal.SIGINT
        except ChatrelayError as error:
            self._complain(self._sentence(error))
            return EXIT_REFUSED if isinstance(error, Refusal) else EXIT_UNREACHABLE
        with patch_stdout(raw=True):
            following = ensureDeferred(self._follow(client))
            self._reactor.addSystemEventTrigger("before", "shutdown", self._keep)
            await self._prompt.run()
            self._keep()
            await self._reconnector.close()
            await DeferredList([following], consumeErrors=False)
        if self._final is not None:
            self._complain(self._sentence(self._final))
            return EXIT_LOST
        return EXIT_OK

    def prompt(self) -> FormattedText:
        """The prompt: who one is, where plain lines go, and in how many others is news."""
        target = self._conversation.target
        name = harmless(self._client.name if self._client is not None else "")
        count = self._conversation.conversations.unread_count
        unread = f" [{count} unread]" if count else ""
        if target is None:
            return FormattedText([("", f"{name}{unread}> ")])
        shown = harmless(target)
        return FormattedText([("", f"{name} to "), ("bold", shown), ("", f"{unread}> ")])

    def typed(self, line: str) -> bool:
        """Do what a line says; false if the user leaves."""
        return self._conversation.typed(line)

    def next_unread(self) -> None:
        """Turn to the next conversation with something unread."""
        self._conversation.next_unread()

    def completions(self, before: str) -> list[tuple[str, int]]:
        """What TAB offers."""
        return completions(before, self._conversation.known)

    async def _first_client(self) -> Client:
        """Wait for the first connection, asking for the secret of a name that has one."""
        try:
            return await self._reconnector.__anext__()
        except OwnedInClear:
            raise  # what would be typed could not be sent
        except NameOwned as owned:
            with nothing_echoed():
                return await self._client_with_secret(owned)

    async def _client_with_secret(self, refusal: Refusal) -> Client:
        name = self._claim.name.decode("utf-8")
        self._proof = Proof.TYPED
        for tries_left in reversed(range(MAX_SECRET_TRIES)):
            written = await ask_once(f"Secret of {name}: ")
            if written is None:
                raise _DroppedError
            try:
                self._claim = self._claim._replace(secret=check_secret(written))
                self._reconnector = self._make_reconnector()
                return await self._reconnector.__anext__()
            except Misuse:
                refusal = BadSecret(self._claim.name)  # no name has such a one
            except BadSecret as bad:
                refusal = bad
            if tries_left:
                self._complain(f"This secret does not open {name}.{what_the_relay_says(refusal)}")
        raise refusal

    def _make_reconnector(self) -> Reconnector[Client]:
        self._outgoing = Outgoing(self._reactor.seconds, keeps=True)
        return Reconnector(
            self._reactor,
            self._endpoint,
            self._claim,
            self._make_client,
            on_trouble=self._on_trouble,
            on_end=self._outgoing.end,
        )

    def _make_client(self) -> Client:
        return Client(self._reactor, on_arrival=self._conversation.arrived, outgoing=self._outgoing)

    async def _follow(self, client: Client) -> None:
        """Show what comes, over one connection after another."""
        to = self._to
        try:
            while True:
                self._client = client
                await self._conversation.attach(client, to)
                to = None
                await self._show_all(client)
                self._keep()
                if not client.asked_to_end:
                    self._conversation.detach()
                client = await self._reconnector.__anext__()
        except StopAsyncIteration:
            pass
        except ChatrelayError as error:
            self._final = error
        finally:
            self._prompt.end()

    async def _show_all(self, client: Client) -> None:
        shown = 0
        self._prompt.refresh()
        async for event in client.events():
            self._conversation.show_event(event)
            self._keep_soon()
            self._prompt.refresh()
            shown += 1
            if shown % _BATCH_LINES == 0:
                await deferLater(self._reactor, _BATCH_PAUSE_S)

    def _keep_soon(self) -> None:
        if self._keeping is None or not self._keeping.active():
            self._keeping = self._reactor.callLater(_SHOWN_AFTER_S, self._keep)

    def _keep(self) -> None:
        if self._keeping is not None and self._keeping.active():
            self._keeping.cancel()
        self._conversation.shown()

    def _sentence(self, error: ChatrelayError) -> str:
        if not isinstance(error, Refusal):
            return str(error)
        name = self._reconnector.identity.name
        return why_refused(error, name, self._proof, was_connected=self._client is not None)

    def _on_trouble(self, trouble: Trouble) -> None:
        self._conversation.tell(f"{trouble.error} Connecting again in {trouble.retry_in_s:.1f} s.")


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
