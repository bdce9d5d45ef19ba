"""
The terminal program: a prompt that stays whole while messages come.

It needs the asyncio reactor, whose loop prompt_toolkit uses; `chatrelay.client.__main__`
installs it.  What it decides is in `chatrelay.client.conversation`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater

from chatrelay.client import core
from chatrelay.client.conversation import Conversation
from chatrelay.client.display import harmless
from chatrelay.client.library import Client
from chatrelay.client.options import EXIT_LOST, EXIT_OK, EXIT_REFUSED, EXIT_UNREACHABLE
from chatrelay.client.protocol import Claim
from chatrelay.client.reconnect import Reconnector, Trouble
from chatrelay.client.typed import completions
from chatrelay.errors import ChatrelayError, Refusal

CAPS = ("time", "ping")
# A flood is shown at the pace at which a terminal takes it; what waits is bounded by
# the client, which then stops reading.
_BATCH_LINES = 200
_BATCH_PAUSE_S = 0.2


class TerminalProgram:
    """One run of the program."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401 - several interfaces
        endpoint: IStreamClientEndpoint,
        name: str,
        to: str | None,
        complain: Callable[[str], None],
    ) -> None:
        """
        Begin with `run`.

        :param to: the first target of plain lines.
        :param complain: shows the user one sentence, on standard error.
        """
        self._reactor = reactor
        self._to = to
        self._complain = complain
        self._client: Client | None = None
        self._conversation = Conversation(
            _show, lambda: datetime.now(UTC), colour="NO_COLOR" not in os.environ
        )
        self._reconnector = Reconnector(
            reactor,
            endpoint,
            Claim(core.check_name(name).shown, CAPS),
            self._make_client,
            on_trouble=self._on_trouble,
        )
        self._final: ChatrelayError | None = None

    async def run(self) -> int:
        """Run until the user leaves; returns the exit status."""
        try:
            client = await self._reconnector.__anext__()
        except ChatrelayError as error:
            self._complain(_sentence(error))
            return EXIT_REFUSED if isinstance(error, Refusal) else EXIT_UNREACHABLE
        prompt = _Prompt(self)
        with patch_stdout(raw=True):
            following = ensureDeferred(self._follow(client, prompt))
            await prompt.run()
            await self._reconnector.close()
            await DeferredList([following], consumeErrors=False)
        if self._final is not None:
            self._complain(_sentence(self._final))
            return EXIT_LOST
        return EXIT_OK

    def prompt(self) -> FormattedText:
        """The prompt: who one is, and where plain lines go."""
        target = self._conversation.target
        name = harmless(self._client.name if self._client is not None else "")
        if target is None:
            return FormattedText([("", f"{name}> ")])
        return FormattedText([("", f"{name} to "), ("bold", harmless(target)), ("", "> ")])

    def typed(self, line: str) -> bool:
        """Do what a line says; false if the user leaves."""
        return self._conversation.typed(line)

    def completions(self, before: str) -> list[tuple[str, int]]:
        """What TAB offers."""
        return completions(before, self._conversation.names, self._conversation.verbs)

    def _make_client(self) -> Client:
        return Client(self._reactor, on_arrival=self._conversation.arrived)

    async def _follow(self, client: Client, prompt: _Prompt) -> None:
        """Show what comes, over one connection after another."""
        to = self._to
        try:
            while True:
                self._client = client
                await self._conversation.attach(client, to)
                to = None
                await self._show_all(client, prompt)
                if not client.asked_to_end:
                    self._conversation.detach()
                client = await self._reconnector.__anext__()
        except StopAsyncIteration:
            pass
        except ChatrelayError as error:
            self._final = error
        finally:
            prompt.end()

    async def _show_all(self, client: Client, prompt: _Prompt) -> None:
        shown = 0
        prompt.refresh()
        async for event in client.events():
            self._conversation.show_event(event)
            prompt.refresh()
            shown += 1
            if shown % _BATCH_LINES == 0:
                await deferLater(self._reactor, _BATCH_PAUSE_S)

    def _on_trouble(self, trouble: Trouble) -> None:
        self._conversation.tell(f"{trouble.error} Connecting again in {trouble.retry_in_s:.1f} s.")


class _Prompt(Completer):
    """The line being typed."""

    def __init__(self, program: TerminalProgram) -> None:
        self._program = program
        self._ended = False
        self._session: PromptSession[str] = PromptSession(
            program.prompt,
            completer=self,
            complete_while_typing=False,
            history=InMemoryHistory(),
            key_bindings=_key_bindings(),
            erase_when_done=True,
        )
        self._session.default_buffer.accept_handler = self._accept

    async def run(self) -> None:
        """Read lines until the user leaves, or `end`."""
        if self._ended:
            return
        typing = asyncio.ensure_future(self._session.prompt_async(handle_sigint=False))
        with suppress(EOFError):
            await Deferred.fromFuture(typing)

    def end(self) -> None:
        """There is nothing more to type for."""
        self._ended = True
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit(exception=EOFError())

    def _accept(self, buffer: Buffer) -> bool:
        # One prompt for all lines: between two of them the terminal would echo by itself.
        # A paste is one text with several lines.
        for line in buffer.text.split("\n"):
            if not self._program.typed(line):
                self.end()
                break
        return False

    def refresh(self) -> None:
        """The target may have changed."""
        self._session.app.invalidate()

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002 - prompt_toolkit's signature
    ) -> Iterator[Completion]:
        """What TAB offers here."""
        for text, replaced in self._program.completions(document.text_before_cursor):
            yield Completion(text, start_position=-replaced, display=harmless(text))


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError())

    return bindings


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")


def _sentence(error: ChatrelayError) -> str:
    return f"{error.sentence} ({error.code})" if isinstance(error, Refusal) else str(error)
