"""
The line being typed, and questions whose answers are not shown.

It needs a running asyncio loop, which prompt_toolkit uses.
"""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.clipboard import InMemoryClipboard
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import AnyFormattedText, FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from twisted.internet.defer import Deferred, succeed

from chatrelay.client.display import harmless
from chatrelay.client.identity import holds_secret

# They would fetch an earlier line as an answer, or search with what is typed in sight.
_KEYS_OF_HISTORY = ("up", "down", "c-p", "c-n", "c-r", "c-s")


class Prompt(Completer):
    """
    The line being typed, for as long as the program runs.

    One session of prompt_toolkit takes all lines: between two of them the terminal would
    echo by itself.  A question is therefore a mode of it.
    """

    def __init__(
        self,
        text: Callable[[], AnyFormattedText],
        typed: Callable[[str], bool],
        completions: Callable[[str], Iterable[tuple[str, int]]],
        next_unread: Callable[[], None],
    ) -> None:
        """
        Begin with `run`.

        :param text: what stands before the line.
        :param typed: called with each line; false if it was the last.
        :param completions: what TAB offers for what stands before the cursor.
        :param next_unread: called for Alt-N, which a terminal sends as Esc and N.
        """
        self._text = text
        self._typed = typed
        self._completions = completions
        self._next_unread = next_unread
        self._ended = False
        self._question = ""
        self._answer: Deferred[str | None] | None = None
        is_asking = Condition(lambda: self._answer is not None)
        self._session: PromptSession[str] = PromptSession(
            self._shown_text,
            completer=self,
            complete_while_typing=False,
            is_password=is_asking,
            history=InMemoryHistory(),
            key_bindings=self._key_bindings(is_asking),
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
        self._ended = True
        self._give_answer(None)

    def end(self) -> None:
        """There is nothing more to type for."""
        self._ended = True
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit(exception=EOFError())

    def refresh(self) -> None:
        """What stands before the line may have changed."""
        self._session.app.invalidate()

    def ask(self, question: str) -> Deferred[str | None]:
        """
        Ask something, from the next key on, and do not show what is typed.

        :param question: shown as it is.
        :returns: fires with what was typed; with ``None`` when the user drops it with
            Ctrl-C or leaves.
        """
        if self._ended:
            return succeed(None)
        self._give_answer(None)  # there is one question at a time
        self._question = question
        self._answer = Deferred()
        self.refresh()
        return self._answer

    def _give_answer(self, text: str | None) -> None:
        if self._answer is not None:
            answer, self._answer = self._answer, None
            # What was cut out of it (Ctrl-U) could be brought back in sight.
            self._session.clipboard = InMemoryClipboard()
            self.refresh()
            answer.callback(text)

    def _shown_text(self) -> AnyFormattedText:
        if self._answer is not None:
            return FormattedText([("", harmless(self._question))])
        return self._text()

    def _accept(self, buffer: Buffer) -> bool:
        # A paste is one text with several lines.
        lines = buffer.text.split("\n")
        is_private = any(map(holds_secret, lines))
        if len(lines) > 1:
            lines = [line for line in lines if line]
        for line in lines:
            if self._answer is not None:
                is_private = True
                self._give_answer(line)
            elif not self._typed(line):
                self.end()
                break
        if is_private:
            buffer.reset()  # so that there is nothing to keep in the history
        return False

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002 - prompt_toolkit's signature
    ) -> Iterator[Completion]:
        """What TAB offers here."""
        if self._answer is not None:
            return
        for text, replaced in self._completions(document.text_before_cursor):
            yield Completion(text, start_position=-replaced, display=harmless(text))

    def _key_bindings(self, is_asking: Condition) -> KeyBindings:
        bindings = _leaving()

        @bindings.add("c-c", filter=is_asking)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.reset()
            self._give_answer(None)

        @bindings.add("escape", "n", filter=~is_asking)
        def _(event: KeyPressEvent) -> None:
            self._next_unread()
            event.app.invalidate()

        for key in _KEYS_OF_HISTORY:
            bindings.add(key, filter=is_asking)(lambda _event: None)
        return bindings


async def ask_once(question: str) -> str | None:
    """
    Ask something, without a `Prompt`, and do not show what is typed.

    :returns: what was typed; ``None`` when the user leaves instead: Ctrl-C or Ctrl-D.
    """
    session: PromptSession[str] = PromptSession(
        harmless(question),
        is_password=True,
        key_bindings=_leaving(),
        erase_when_done=True,
        reserve_space_for_menu=0,
    )
    typing = asyncio.ensure_future(session.prompt_async(handle_sigint=False))
    try:
        return await Deferred.fromFuture(typing)
    except EOFError:
        return None


@contextmanager
def nothing_echoed() -> Iterator[None]:
    """Between two calls of `ask_once`: what is typed ahead is not shown either."""
    modes = termios.tcgetattr(sys.stdin)
    silent = termios.tcgetattr(sys.stdin)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)


def _leaving() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError())

    return bindings
