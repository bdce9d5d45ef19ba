"""
The documents say what is true: their transcripts run, their tables match the code, their
links lead somewhere.  tests/transcripts.py tells how a transcript is written.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatrelay.client.options import ClientOptions
from chatrelay.commands import VERBS
from chatrelay.errors import REFUSALS
from chatrelay.limits import PUBLIC_LIMITS, Limits
from chatrelay.options import BOUNDS, Options
from chatrelay.wire import MAX_REF_BYTES, MAX_TAGS_BYTES
from tests.integration.relay_process import RelayTestCase
from tests.transcripts import (
    ROOT,
    Block,
    Document,
    TranscriptError,
    Workshop,
    line_matches,
    lines_match,
    missing_program,
    read_document,
    run_console,
    run_session,
)

PATHS = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
DOCUMENTS = {path.relative_to(ROOT).as_posix(): read_document(path) for path in PATHS}
# Written by tests/test_bots.py's own runner.
_SEEN_TO_ELSEWHERE = {"docs/bots.rst"}


class TranscriptTests(RelayTestCase):
    """Each transcript is a test of a subclass for its document, made below."""

    document: Document

    def play(self, block: Block) -> None:
        reason = missing_program(block)
        if reason:
            raise SkipTest(reason)
        directory = Path(tempfile.mkdtemp(prefix="chatrelay-docs-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        port = str(self.relay().address()[1])
        workshop = Workshop(directory, self.document.files, port)
        run = run_session if block.classes & {"session", "exchange"} else run_console
        run(block, workshop, port)


def _is_transcript(block: Block) -> bool:
    if "not-run" in block.classes:
        return False
    return block.language == "console" or bool(block.classes & {"session", "exchange"})


def _with_what_it_continues(document: Document) -> list[Block]:
    """The blocks, a continued one with the commands of those before it."""
    blocks: list[Block] = []
    before = ""
    for block in document.blocks:
        if block.language == "console" and _is_transcript(block) and "session" not in block.classes:
            text = before + block.text if "continued" in block.classes else block.text
            block = block._replace(text=text)  # noqa: PLW2901
            before = text
        blocks.append(block)
    return blocks


def _transcript_test(block: Block) -> Callable[[TranscriptTests], None]:
    def test(self: TranscriptTests) -> None:
        self.play(block)

    test.__doc__ = f"{block.where} is what happens."
    return test


for _name, _document in DOCUMENTS.items():
    _transcripts = filter(_is_transcript, _with_what_it_continues(_document))
    _tests: dict[str, Any] = {
        f"test_{_index:02}": _transcript_test(_block)
        for _index, _block in enumerate(_transcripts, 1)
    }
    if _tests:
        _class = re.sub(r"\W", "", Path(_name).stem.title()) + "TranscriptTests"
        globals()[_class] = type(
            _class,
            (TranscriptTests,),
            {"document": _document, "__module__": __name__, "__qualname__": _class, **_tests},
        )


class DocumentTests(SynchronousTestCase):
    """What holds for every document."""

    def test_docutils_has_no_complaint(self) -> None:
        for name, document in DOCUMENTS.items():
            self.assertEqual(document.complaints, "", name)

    def test_links_between_documents_lead_somewhere(self) -> None:
        ids = {document.path: document.tree.ids for document in DOCUMENTS.values()}
        for name, document in DOCUMENTS.items():
            for link in document.links:
                path, _, fragment = link.partition("#")
                target = (document.path.parent / path).resolve()
                self.assertTrue(target.is_file(), f"{name} links {link}")
                if fragment:
                    self.assertIn(fragment, ids[target], f"{name} links {link}")

    def test_the_code_names_sections_that_there_are(self) -> None:
        named = 0
        for folder in ("chatrelay", "bench", "tests"):
            for path in sorted((ROOT / folder).rglob("*.py")):
                text = re.sub(r"\s+(?:# )?", " ", path.read_text(encoding="utf-8"))
                for name, title in re.findall(r"(docs/\w+\.rst), \*([^*]+)\*", text):
                    named += 1
                    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
                    self.assertIn(title, lines, path)
        self.assertGreater(named, 10)

    def test_python_blocks_compile(self) -> None:
        for document in DOCUMENTS.values():
            for block in document.blocks:
                if block.language == "python":
                    compile(block.text, block.where, "exec")

    def test_every_block_of_commands_is_run_or_says_that_it_is_not(self) -> None:
        for name, document in DOCUMENTS.items():
            for block in document.blocks:
                if name in _SEEN_TO_ELSEWHERE or _is_transcript(block):
                    continue
                if "not-run" not in block.classes:
                    self.assertNotIn("\n$ ", "\n" + block.text, block.where)

    def test_the_readme_links_every_document(self) -> None:
        linked = set(DOCUMENTS["README.rst"].links)
        self.assertEqual({name for name in DOCUMENTS if name != "README.rst"} - linked, set())

    def test_no_document_names_a_path_of_the_machine_it_was_written_on(self) -> None:
        for name in DOCUMENTS:
            text = (ROOT / name).read_text(encoding="utf-8")
            self.assertNotRegex(text, r"/(?:work|opt|home|tmp)/", name)


def _source_of_the_relay() -> str:
    """What it runs, without the table of error codes and without docstrings."""
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "chatrelay").rglob("*.py"))
        if "client" not in path.relative_to(ROOT).parts and path.name != "errors.py"
    )
    return re.sub(r'"""[\s\S]*?"""', "", source)


class ProtocolTableTests(SynchronousTestCase):
    """docs/protocol.rst has the same tables as the code."""

    def setUp(self) -> None:
        self.document = DOCUMENTS["docs/protocol.rst"]

    def test_error_codes(self) -> None:
        written = {code: sentence for code, sentence, _ in self.document.table("Error codes")}
        self.assertEqual(written, {code: kind.sentence for code, kind in REFUSALS.items()})

    def test_codes_that_are_seen_today_are_those_that_the_relay_raises(self) -> None:
        source = _source_of_the_relay()
        for code, _, today in self.document.table("Error codes"):
            raised = re.search(rf"(?<!isinstance\(refusal, )\b{REFUSALS[code].__name__}\(", source)
            raised = raised or re.search(rf"\braise {REFUSALS[code].__name__}\b", source)
            self.assertEqual(today == "yes", bool(raised), code)

    def test_limits(self) -> None:
        limits = Limits()
        inside_the_relay = {"max_console_lines_per_s", "max_undelivered_lines_per_s", "turn_s"}
        expected = {
            field.name: getattr(limits, field.name)
            for field in fields(Limits)
            if field.name not in inside_the_relay
        }
        expected |= {"max_tags_bytes": MAX_TAGS_BYTES, "max_ref_bytes": MAX_REF_BYTES}
        written = {name: number for name, number, _ in self.document.table("Limits")}
        self.assertEqual(
            {name: float(number.replace(",", "")) for name, number in written.items()},
            {name: float(number) for name, number in expected.items()},
        )

    def test_the_grammar_has_every_line_of_the_relay(self) -> None:
        [grammar] = [block.text for block in self.document.blocks if block.language == "abnf"]
        source = _source_of_the_relay()
        for word in set(re.findall(r'b?f?"(![a-z]+[a-z-]*)', source)):
            self.assertIn(f'%s"{word}"', grammar)
        [end] = re.findall(r"\n *end +=(.*?)\n *help +=", grammar, re.DOTALL)
        for word in set(re.findall(r'b?f?"!end ([a-z]+)', source)):
            self.assertIn(f'%s"{word}"', end)

    def test_every_command_has_its_section(self) -> None:
        text = self.document.path.read_text(encoding="utf-8")
        for verb in VERBS.values():
            self.assertIn(f"\n``{verb.form}``\n", text)


class OptionTests(SynchronousTestCase):
    """The options that are documented are those that there are, with their defaults."""

    def test_options_of_the_relay(self) -> None:
        options = Options()
        names = {*options.longOpt} - {"help=", "version"}
        written = {row[0]: row[1] for row in DOCUMENTS["docs/running.rst"].table("Options")}
        documented = {form.split()[0].rstrip(",") for form in written}
        there_are = {"--" + name.rstrip("=") for name in names} - {"--help", "--version"}
        self.assertEqual(documented, there_are)
        for name, default in options.defaults.items():
            if isinstance(default, int) and not isinstance(default, bool) and default:
                [shown] = [
                    value for form, value in written.items() if form.startswith(f"--{name} ")
                ]
                self.assertEqual(shown.replace(",", ""), str(default), name)

    def test_limits_for_a_team_and_for_the_internet(self) -> None:
        written = {row[0]: row[1:3] for row in DOCUMENTS["docs/operations.rst"].table("Limits")}
        expected = {
            f"--{option}": [
                f"{value:,g}" if value < 1_000_000 else f"{value:,}"
                for value in (
                    getattr(Limits(), field),
                    PUBLIC_LIMITS.get(field, getattr(Limits(), field)),
                )
            ]
            for option, field, *_ in BOUNDS
        }
        self.assertEqual(written, expected)

    def test_options_of_the_client_are_documented(self) -> None:
        text = (ROOT / "docs" / "client.rst").read_text(encoding="utf-8")
        for name in {*ClientOptions().longOpt} - {"help", "version"}:
            self.assertIn("--" + name.rstrip("="), text)


class WarningTests(SynchronousTestCase):
    """docs/operations.rst tells what each line means that wants something from the operator."""

    def test_every_warning_of_the_relay(self) -> None:
        documented = " ".join(
            cell
            for row in DOCUMENTS["docs/operations.rst"].table("What the log says")
            for cell in row
        )
        sentences = [
            sentence
            for path in sorted((ROOT / "chatrelay").rglob("*.py"))
            if "client" not in path.relative_to(ROOT).parts
            for sentence in _warnings(ast.parse(path.read_text(encoding="utf-8")))
        ]
        self.assertGreater(len(sentences), 8)
        for sentence in sentences:
            fixed = re.split(r"\{[^}]*\}|[:;()]", sentence)
            self.assertIn(max(fixed, key=len).strip(), documented)


def _warnings(tree: ast.AST) -> Iterator[str]:
    """The sentences that are logged with the levels ``warn`` and ``error``."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        assigned = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign)]
        for call in ast.walk(function):
            if (
                isinstance(call, ast.Call)
                and re.fullmatch(r"(self\.)?_log\.(warn|error)", ast.unparse(call.func))
                and call.args
            ):
                # Some functions choose a sentence first.
                said = assigned if isinstance(call.args[0], ast.Name) else [call.args[0]]
                for node in said:
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield node.value


class RunnerTests(SynchronousTestCase):
    """The runner of the transcripts can fail."""

    def test_lines(self) -> None:
        self.assertTrue(line_matches("!welcome alice ...", "!welcome alice version=1 :Hello"))
        self.assertFalse(line_matches("!welcome bob ...", "!welcome alice version=1 :Hello"))
        self.assertFalse(line_matches("%alice%hello", "%alice%hello "))

    def test_what_varies_is_not_compared(self) -> None:
        for documented, actual in (
            ("since=2026-11-22T10:00:00.000Z idle=3", "since=2027-01-01T23:59:59.999Z idle=0"),
            ("@id=5d0c3f1e9a27-1c", "@id=416dcf156474-2"),
            ("@id=65bfeda25e002", "@id=416dcf156474f"),
            ("from 127.0.0.1 port 50312;", "from ::1 port 2;"),
            ("left after 3 min 12 s: it quit", "left after 0 s: it quit"),
        ):
            self.assertTrue(line_matches(documented, actual), documented)
        self.assertFalse(line_matches("at 10.0.0.1 port 1", "at 10.0.0.2 port 1"))

    def test_any_lines(self) -> None:
        self.assertTrue(lines_match(["a", "...", "d"], ["a", "b", "c", "d"]))
        self.assertTrue(lines_match(["..."], []))
        self.assertFalse(lines_match(["a", "...", "d"], ["a", "b"]))
        self.assertFalse(lines_match([], ["a"]))


class BrokenTranscriptTests(TranscriptTests):
    """A transcript that says what is not so fails."""

    document = DOCUMENTS["README.rst"]

    def _assert_fails(self, classes: str, text: str) -> None:
        block = Block("here", "text", frozenset(classes.split()), "", text)
        self.assertRaises(TranscriptError, self.play, block)

    def test_another_line(self) -> None:
        self._assert_fails("exchange", "alice > %alice%hello\nalice < %alice%hallo\n")

    def test_a_line_that_is_left_out(self) -> None:
        self._assert_fails("exchange", "alice > %alice%hello\n")

    def test_an_id_that_is_another(self) -> None:
        self._assert_fails(
            "exchange",
            "alice > /caps id\nalice < !caps id\n"
            "alice > %alice%1\nalice < @id=65bfeda25e002 %alice%1\n"
            "alice > %alice%2\nalice < @id=65bfeda25e002 %alice%2\n",
        )
        self._assert_fails(
            "exchange",
            "alice > /caps id\nalice < !caps id\n"
            "alice > %alice%1\nalice < @id=65bfeda25e002 %alice%1\n"
            "alice > /ping 65bfeda25e002\nalice < !pong 65bfeda25e003\n",
        )

    def test_a_connection_that_stays_open(self) -> None:
        self._assert_fails("exchange", "alice > /ping\nalice < [closed]\n")

    def test_no_step(self) -> None:
        self._assert_fails("exchange", "alice says hello\n")

    def test_a_command_that_prints_something_else(self) -> None:
        self._assert_fails("", "$ echo hello\nhallo\n")

    def test_a_program_that_ends_otherwise(self) -> None:
        self._assert_fails("session", "alice $ false\nalice < [exit status 0]\n")


class ReliabilityTests(SynchronousTestCase):
    """docs/reliability.rst names tests, and they are there."""

    def test_every_test_that_is_named(self) -> None:
        text = (ROOT / "docs" / "reliability.rst").read_text("utf-8")
        promises = text[text.index("The promises") : text.index("How it is tested\n===")]
        named = re.findall(r"``(tests\.[\w.]+)``", promises)
        self.assertGreaterEqual(len(named), 10)
        for name in named:
            self.assertGreater(TestLoader().loadByName(name).countTestCases(), 0, name)

    def test_every_promise_says_what_it_is_not_and_which_test_holds_it(self) -> None:
        text = (ROOT / "docs" / "reliability.rst").read_text("utf-8")
        promises = text[text.index("The promises") : text.index("How it is tested\n===")]
        counts = {
            words: promises.count(words)
            for words in ("**Promised.**", "**Not promised.**", "*Held by*")
        }
        self.assertEqual(set(counts.values()), {len(re.findall(r"\n---+\n", promises))}, counts)
