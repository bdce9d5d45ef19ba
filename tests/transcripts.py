r"""
Runs the transcripts of README.rst and docs/*.rst against a real relay.

What a document may hold, in ``.. code-block::`` directives:

``console``
    Lines that begin with ``$`` and a space are typed into a shell (``>`` and a space
    continues one), the lines after them are what it prints.  The shell of a block runs
    in an empty directory that holds the document's named files.
``console`` with ``:class: continued``
    The same, in the directory and with the relay in which the ``console`` block before it has just
    been typed, with what that continues.
``console`` or ``text`` with ``:class: session``
    Several people, in the order in which things happen::

        alice $ nc localhost 12345            she starts a program in her terminal
        alice > alice                         she types a line
        alice < !welcome alice ...            she reads a line
        alice > [end of input]                she closes her sending side (Ctrl-D)
        alice > [Ctrl-C]                      she interrupts the program
        alice < [closed]                      the connection, or the program, ends
        alice < [exit status 0]               the program ends with this status

    Whoever starts no program is a plain TCP connection.  Everybody must have read
    everything when the block ends.  A ``twistd`` that is started in a block is the
    relay of that block.
``:class: session terminal``
    A session whose ``python`` programs run on a terminal; lines with their prompt are skipped.
``text`` with ``:class: exchange``
    The same, among people who have given the names that stand at the left already.
any language with ``:name: FILE``
    Is saved as FILE for the other blocks of its document.
``:class: not-run``
    Is not run here: it installs something or needs another machine.

``...`` within an expected line stands for anything, alone on a line for any lines.
Times, ids, ephemeral ports and durations are not compared, `_VARIABLE` says how.  The
documented port 12345 is replaced by the one that the test's relay has, 12346 by a free one;
a client that is started without ``--port`` is told.  Where there is no ``micropython``
Python stands in for it.  The home directory is an empty one.  An id that somebody has read may be
written in the same session, and is the same one wherever it stands again.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.core import publish_doctree

from tests.integration.relay_process import DEADLINE_S, eventually, free_port

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTED_PORT = "12345"
DOCUMENTED_TLS_PORT = "12346"

_VARIABLE = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}Z|[+-]\d{4})"), "<time>"),
    (re.compile(r"\b[0-9a-f]{12}(?:-[0-9a-f]+|[0-9a-f]{1,4})\b"), "<id>"),
    (re.compile(r"^\d\d:\d\d:\d\d "), "<time> "),
    (re.compile(r"\bidle=\d+"), "idle=<seconds>"),
    (re.compile(r"(?:127\.0\.0\.1|::1) port \d+"), "<loopback> port <port>"),
    (re.compile(r"\bafter (?:\d+ min )?\d+ s\b"), "after <duration>"),
    (re.compile(r"\bin \d+\.\d s\b"), "in <duration>"),
]
_ID = _VARIABLE[1][0]
_STEP = re.compile(r"(?P<who>\S+) +(?P<what>[$<>])(?: (?P<line>.*))?\Z")
_OVER = b"/ping the-transcript-is-over"


class TranscriptError(AssertionError):
    """What happened is not what the document says."""


class Block(NamedTuple):
    """
    One code block.

    :ivar where: document and line, for people.
    :ivar file_name: what it is saved as; empty for most.
    """

    where: str
    language: str
    classes: frozenset[str]
    file_name: str
    text: str


class Document(NamedTuple):
    """
    One document, parsed.

    :ivar complaints: what docutils warns about.
    :ivar links: targets of links to other documents.
    """

    path: Path
    tree: nodes.document
    complaints: str
    blocks: list[Block]
    links: list[str]

    @property
    def files(self) -> dict[str, str]:
        """The named blocks."""
        return {block.file_name: block.text for block in self.blocks if block.file_name}

    def table(self, title: str) -> list[list[str]]:
        """The rows, without the head, of the table in the section with a title."""
        for section in self.tree.findall(nodes.section):
            if section.next_node(nodes.title).astext() == title:
                body = section.next_node(nodes.tbody)
                return [
                    [" ".join(entry.astext().split()) for entry in row.findall(nodes.entry)]
                    for row in body.findall(nodes.row)
                ]
        raise TranscriptError(f"{self.path.name} has no section {title!r}")


def read_document(path: Path) -> Document:
    """Parse one document."""
    complaints = StringIO()
    tree = publish_doctree(
        path.read_text(encoding="utf-8"),
        source_path=str(path),
        settings_overrides={
            "warning_stream": complaints,
            "report_level": 1,
            "halt_level": 5,
            "syntax_highlight": "none",
            # Units of systemd stand in files of their own, and in the document that explains them.
            "file_insertion_enabled": True,
            "_disable_config": True,
        },
    )
    # A directive's line is known only roughly: look for the text itself.
    source = path.read_text(encoding="utf-8")
    blocks = []
    for block in tree.findall(nodes.literal_block):
        text = block.astext()
        before = source.find(text.partition("\n")[0].strip())
        classes = [name for name in block["classes"] if name != "code"]
        line = block.line or source.count("\n", 0, before) + 1
        name = _raw_name(block)
        blocks.append(
            Block(
                f"{path.name} line {line}",
                classes[0] if classes else "",
                frozenset(classes[1:]),
                name,
                text + "\n",
            )
        )
    links = [
        str(reference["refuri"])
        for reference in tree.findall(nodes.reference)
        if "refuri" in reference and not re.match(r"[a-z]+:", str(reference["refuri"]))
    ]
    return Document(path, tree, complaints.getvalue(), blocks, links)


def _raw_name(block: nodes.literal_block) -> str:
    return str(block["names"][0]) if block["names"] else ""


def line_matches(expected: str, actual: str) -> bool:
    """Whether a line is the expected one, but for what may vary."""
    pattern = ".*".join(re.escape(_without_variables(part)) for part in expected.split("..."))
    return re.fullmatch(pattern, _without_variables(actual)) is not None


def lines_match(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Whether lines are the expected ones; ``...`` alone stands for any number of them."""
    if not expected:
        return not actual
    if expected[0] == "...":
        return any(lines_match(expected[1:], actual[skip:]) for skip in range(len(actual) + 1))
    return (
        bool(actual)
        and line_matches(expected[0], actual[0])
        and lines_match(expected[1:], actual[1:])
    )


def _without_variables(text: str) -> str:
    for pattern, placeholder in _VARIABLE:
        text = pattern.sub(placeholder, text)
    return text


# -- where commands run


class Workshop:
    """A directory with the files of a document, and the environment of its commands."""

    def __init__(self, directory: Path, files: dict[str, str], port: str) -> None:
        self.directory = directory / "work"
        self.directory.mkdir()
        self._files = [self.directory / name for name in files]
        for path, text in zip(self._files, files.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        self.change_port(DOCUMENTED_PORT, port)
        home = directory / "home"
        home.mkdir()
        programs = directory / "bin"
        programs.mkdir()
        _install(programs / "python", "")
        _install(programs / "twistd", " -c 'from twisted.scripts.twistd import run; run()'")
        if shutil.which("micropython") is None:
            # Debian 12 has no package of it; what is for it has to run under Python, too.
            _install(programs / "micropython", "")
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath))),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "XDG_STATE_HOME": str(directory / "state"),
            "LC_ALL": "C.UTF-8",
            "HOME": str(home),
        }
        self.environment.pop("XDG_STATE_HOME", None)

    def change_port(self, old: str, new: str) -> None:
        """Let the files of the document be about another port."""
        for path in self._files:
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(old, new), encoding="utf-8")

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; the leader is it, not a shell."""
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )


def _install(program: Path, arguments: str) -> None:
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def missing_program(block: Block) -> str:
    """The reason why a block can not be run on this machine; empty if it can."""
    if "terminal" in block.classes and shutil.which("tmux") is None:
        return "there is no tmux; Debian's package is tmux"
    if re.search(r"\bnc\b", block.text) and shutil.which("nc") is None:
        return "there is no nc; Debian's package is netcat-openbsd"
    if re.search(r"\bopenssl\b", block.text) and shutil.which("openssl") is None:
        return "there is no openssl; Debian's package is openssl"
    return ""


# -- who takes part


class Party(ABC):
    """Somebody in a session: a connection, or a program with its input and output."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.ended = False

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send."""

    @abstractmethod
    def end_input(self) -> None:
        """Send nothing more."""

    @abstractmethod
    def read_line(self) -> str | None:
        """The next line, without its end; ``None`` for the end of everything."""

    @abstractmethod
    def close(self) -> None:
        """Go, and leave nothing behind."""

    def expect(self, expected: str) -> str:
        """Read what is expected, and nothing else; returns what came."""
        actual = self.read_line()
        if actual is None or not line_matches(expected, actual):
            raise TranscriptError(f"{self.who} reads\n  {actual}\nand not\n  {expected}")
        return actual

    def expect_after_any(self, expected: str) -> str:
        """Read until what is expected comes, and return it."""
        seen = []
        while (actual := self.read_line()) is not None:
            if line_matches(expected, actual):
                return actual
            seen.append(actual)
        raise TranscriptError(f"{self.who} never reads\n  {expected}\nbut\n  " + "\n  ".join(seen))

    def expect_end(self) -> None:
        """See the connection or the output end."""
        actual = self.read_line()
        if actual is not None:
            raise TranscriptError(f"{self.who} reads\n  {actual}\nand not the end")


class Stream(Party):
    """A party that is read from a file descriptor."""

    def __init__(self, who: str) -> None:
        super().__init__(who)
        self._buffer = b""

    @abstractmethod
    def fileno(self) -> int:
        """What is read from."""

    def read_line(self) -> str | None:
        deadline_s = time.monotonic() + DEADLINE_S
        while b"\n" not in self._buffer and not self.ended:
            ready, _, _ = select.select([self], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise TranscriptError(
                    f"{self.who} reads nothing more; unfinished: {self._buffer!r}"
                )
            try:
                data = os.read(self.fileno(), 65536)
            except ConnectionResetError:
                data = b""
            self.ended = not data
            self._buffer += data
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")


class Connected(Stream):
    """A TCP connection."""

    def __init__(self, who: str, port: str) -> None:
        super().__init__(who)
        self._socket = socket.create_connection(("localhost", int(port)), DEADLINE_S)

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end_input(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


class Program(Stream):
    """A program that somebody started."""

    def __init__(self, who: str, workshop: Workshop, command: str) -> None:
        super().__init__(who)
        self.command = command
        self.process = workshop.start(command)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout

    @property
    def is_relay(self) -> bool:
        return self.command.startswith("twistd")

    def fileno(self) -> int:
        return self._stdout.fileno()

    def write(self, data: bytes) -> None:
        self._stdin.write(data)

    def end_input(self) -> None:
        self._stdin.close()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def expect_status(self, status: int) -> None:
        actual = self.process.wait(DEADLINE_S)
        if actual != status:
            raise TranscriptError(f"{self.who}: exit status {actual}, and not {status}")

    def close(self) -> None:
        # The group: a script that ends leaves the programs that it started.
        self._signal_group(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._signal_group(signal.SIGKILL)
            self.process.wait(DEADLINE_S)
        self._stdin.close()
        self._stdout.close()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class OnTerminal(Party):
    """A program on a terminal, which is a tmux of its own."""

    _PROMPT = re.compile(r"\S+(?: to \S+)?(?: \[\d+ unread\])?>(?: |\Z)")

    def __init__(self, who: str, workshop: Workshop, command: str) -> None:
        super().__init__(who)
        self._tmux = ["tmux", "-S", str(workshop.directory.parent / f"tmux-{who}"), "-f/dev/null"]
        self._seen = 0
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", "160", "-y", "50", f"exec {command}"],
            cwd=workshop.directory,
            env={**workshop.environment, "TERM": "screen"},
            check=True,
        )

    def write(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            self._run("send-keys", "-l", "--", line)
            self._run("send-keys", "Enter")

    def end_input(self) -> None:
        self._run("send-keys", "C-d")

    def read_line(self) -> str | None:
        eventually(f"{self.who} reads something", lambda: len(self._lines()) > self._seen)
        self._seen += 1
        return self._lines()[self._seen - 1]

    def _lines(self) -> list[str]:
        shown = self._run("capture-pane", "-p", "-S", "-").rstrip().splitlines()
        return [line.rstrip() for line in shown if not self._PROMPT.match(line)]

    def _run(self, *command: str) -> str:
        ran = subprocess.run([*self._tmux, *command], check=True, capture_output=True)
        return ran.stdout.decode()

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, stderr=subprocess.DEVNULL)


# -- the two kinds of transcript


def run_session(block: Block, workshop: Workshop, port: str) -> None:
    """
    Play a session or an exchange.

    :raises TranscriptError: something else happened.
    """
    parties: dict[str, Party] = {}
    pending_any: set[str] = set()
    ids = _Ids()
    tls_port = str(free_port())
    try:
        for written in block.text.splitlines():
            if not written.strip():
                continue
            step = _STEP.match(written)
            if step is None:
                raise TranscriptError(f"{block.where}: not a step of a session: {written}")
            who, what, line = step["who"], step["what"], step["line"] or ""
            line = line.replace(DOCUMENTED_PORT, port).replace(DOCUMENTED_TLS_PORT, tls_port)
            if what == "$":
                if line.startswith("twistd"):
                    line = line.replace(port, own_port := str(free_port()))
                    workshop.change_port(port, own_port)
                    port = own_port
                kind: type[Program | OnTerminal] = Program
                if "terminal" in block.classes and line.startswith("python "):
                    kind = OnTerminal
                line = _with_port(line, port)
                parties[who] = kind(who, workshop, line)
                continue
            if who not in parties:
                parties[who] = Connected(who, port)
                if "exchange" in block.classes:
                    parties[who].write(who.encode() + b"\n")
                    parties[who].expect("!welcome ...")
            if what == ">":
                _do(parties[who], ids.written(line))
            elif line == "...":
                pending_any.add(who)
            else:
                actual = _see(parties[who], line, after_any=who in pending_any)
                ids.read(line, actual)
                pending_any.discard(who)
        for who, party in parties.items():
            if who not in pending_any:
                _expect_nothing_more(party)
    except TranscriptError as error:
        raise TranscriptError(f"{block.where}: {error}") from None
    finally:
        for party in reversed(parties.values()):
            party.close()


def _with_port(command: str, port: str) -> str:
    if "--port" in command or "--server" in command:
        return command
    return command.replace("-m chatrelay.client ", f"-m chatrelay.client --port {port} ")


class _Ids:
    """The ids of a session: what each that is documented stands for."""

    def __init__(self) -> None:
        self._actual: dict[str, str] = {}

    def read(self, expected: str, actual: str) -> None:
        """Note the ids in a line, or see that they are those that were read before."""
        documented_ids, read_ids = _ID.findall(expected), _ID.findall(actual)
        if len(documented_ids) != len(read_ids):
            return  # Some are left out.
        for documented, read in zip(documented_ids, read_ids, strict=True):
            known = self._actual.setdefault(documented, read)
            others = {one for one in self._actual if self._actual[one] == read}
            if known != read or others != {documented}:
                raise TranscriptError(f"the id in {actual} is another than {documented} was")

    def written(self, line: str) -> str:
        """A line with the ids that are meant."""
        return _ID.sub(lambda found: self._actual.get(found[0], found[0]), line)


def _do(party: Party, line: str) -> None:
    if line == "[end of input]":
        party.end_input()
    elif line == "[Ctrl-C]":
        assert isinstance(party, Program)
        party.interrupt()
    else:
        party.write(line.encode() + b"\n")


def _see(party: Party, line: str, *, after_any: bool) -> str:
    status = re.fullmatch(r"\[exit status (\d+)\]", line)
    if status is not None:
        assert isinstance(party, Program)
        if after_any:
            while party.read_line() is not None:
                pass
        party.expect_status(int(status[1]))
    elif line == "[closed]":
        party.expect_end()
    elif after_any:
        return party.expect_after_any(line)
    else:
        return party.expect(line)
    return ""


def _expect_nothing_more(party: Party) -> None:
    if party.ended or isinstance(party, OnTerminal):
        return
    if isinstance(party, Program):
        if party.process.poll() is not None:
            party.expect_end()
            return
        if not party.command.startswith("nc "):
            return
    party.write(_OVER + b"\n")
    party.expect(_OVER.replace(b"/ping", b"!pong").decode())


def run_console(block: Block, workshop: Workshop, port: str) -> None:
    """
    Type a block's commands into one shell.

    :raises TranscriptError: something else was printed.
    """
    commands: list[tuple[str, list[str]]] = []
    text = block.text.replace(DOCUMENTED_PORT, port)
    for written in text.replace(DOCUMENTED_TLS_PORT, str(free_port())).splitlines():
        if written.startswith("$ "):
            commands.append((written[2:], []))
        elif written.startswith("> ") and commands and not commands[-1][1]:
            commands[-1] = (commands[-1][0] + "\n" + written[2:], [])
        elif commands:
            commands[-1][1].append(written)
        else:
            raise TranscriptError(f"{block.where}: this follows no command: {written}")
    mark = "-- the end of a command --"
    script = "".join(
        f"{_with_port(command, port)}\nstatus=$?; echo '{mark}'; (exit $status)\n"
        for command, _ in commands
    )
    printed = _run_script(script, workshop, block.where).split(f"{mark}\n")
    for (command, expected), output in zip(commands, printed, strict=False):
        actual = output.replace("\r\n", "\n").splitlines()
        if not lines_match(expected, actual):
            raise TranscriptError(
                f"{block.where}: $ {command}\nprints\n"
                + _indented(actual)
                + "\nand not\n"
                + _indented(expected)
            )


def _run_script(script: str, workshop: Workshop, where: str) -> str:
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=workshop.directory,
        env=workshop.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise TranscriptError(f"{where}: it did not end, and printed\n{output!r}") from None
    return output.decode("utf-8", "backslashreplace")


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
