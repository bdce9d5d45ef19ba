"""The options of the client program."""

import re
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatrelay._version import __version__
from chatrelay.client.identity import Secret
from chatrelay.client.options import DEFAULT_TIMEOUT_S, ClientOptions, Task


class ClientOptionsTests(SynchronousTestCase):
    """What ``python -m chatrelay.client`` takes."""

    def parse(self, *arguments: str) -> ClientOptions:
        options = ClientOptions()
        options.parseOptions(list(arguments))
        return options

    def test_defaults(self) -> None:
        """A name is enough."""
        options = self.parse("carol")
        self.assertEqual(
            [options[key] for key in ("name", "host", "port", "to")],
            ["carol", "localhost", 12345, None],
        )
        self.assertIsInstance(options.endpoint(MemoryReactorClock()), HostnameEndpoint)

    def test_given(self) -> None:
        """Everything may be said."""
        options = self.parse("--host", "::1", "--port", "1", "--to", "bob", "carol")
        self.assertEqual((options["host"], options["port"], options["to"]), ("::1", 1, "bob"))
        self.parse("--to", "#ops", "carol")
        self.parse("--port", "65535", "carol")

    def test_server(self) -> None:
        """An endpoint string stands instead of host and port."""
        options = self.parse("--server", "unix:/run/relay", "carol")
        self.assertIsInstance(options.endpoint(MemoryReactorClock()), UNIXClientEndpoint)
        with self.assertRaises(UsageError):
            self.parse("--server", "nonsense:x", "carol").endpoint(MemoryReactorClock())

    def test_version(self) -> None:
        """It tells the version of chatrelay, too."""
        printed = StringIO()
        with redirect_stdout(printed), self.assertRaises(SystemExit):
            self.parse("--version")
        self.assertIn(f"chatrelay {__version__}\n", printed.getvalue())
        self.assertIn("Twisted", printed.getvalue())

    def test_help(self) -> None:
        """The example of an endpoint is one that there is."""
        [example] = re.findall(r"unix:\S+\w", str(self.parse("carol")))
        options = self.parse("--server", example, "carol")
        self.assertIsInstance(options.endpoint(MemoryReactorClock()), UNIXClientEndpoint)

    def test_wrong(self) -> None:
        """Each mistake is one sentence."""
        for arguments in [
            (),
            ("carol", "dave"),
            ("a b",),
            ("",),
            ("--to", "b%b", "carol"),
            ("--to", "#", "carol"),
            ("--to", "#a,#b", "carol"),
            ("--port", "0", "carol"),
            ("--port", "65536", "carol"),
            ("--port", "x", "carol"),
            ("--port", "-1", "carol"),
            ("--server", "tcp:x:1", "--port", "1", "carol"),
            ("--server", "tcp:x:1", "--host", "x", "carol"),
        ]:
            with self.assertRaises(UsageError, msg=repr(arguments)) as raised:
                self.parse(*arguments)
            self.assertEqual(str(raised.exception).count("\n"), 0)


class SendTests(SynchronousTestCase):
    """``--send TO TEXT``."""

    parse = ClientOptionsTests.parse

    def test_task(self) -> None:
        """It may stand before NAME or behind it; TEXT may be anything."""
        for arguments, task in [
            (("carol", "--send", "bob", "hi"), Task("bob", "hi", "sent", DEFAULT_TIMEOUT_S)),
            (("--send", "bob", "--to x", "carol"), Task("bob", "--to x", "sent", 90.0)),
            (("--send=#ops", "--", "carol"), Task("#ops", "--", "sent", 90.0)),
            (("carol", "--send", "bob", "-", "--wait", "stored"), Task("bob", None, "stored", 90)),
            (
                ("carol", "--timeout", "0.5", "--send", "*", "--send", "--wait", "stored"),
                Task("*", "--send", "stored", 0.5),
            ),
        ]:
            options = self.parse(*arguments)
            self.assertEqual((options.task, options["name"]), (task, "carol"))
        self.assertIsNone(self.parse("carol").task)
        self.assertEqual(self.parse("carol", "-t", "bob")["to"], "bob")

    def test_wrong_task(self) -> None:
        """Each mistake is one sentence."""
        for arguments in [
            ("carol", "--send"),
            ("carol", "--send", "bob"),
            ("--send", "bob", "carol"),
            ("carol", "--send", "b b", "hi"),
            ("carol", "--send", "bob", ""),
            ("carol", "--send", "bob", "two\nlines"),
            ("carol", "--send", "bob", "x" * 9000),
            ("carol", "--send", "bob", "hi", "dave"),
            ("carol", "--send", "bob", "hi", "--to", "dave"),
            ("carol", "--send", "bob", "hi", "--wait", "read"),
            ("carol", "--send", "#ops", "hi", "--wait", "acked"),
            ("carol", "--send", "*", "-", "--wait", "acked"),
            ("carol", "--send", "#o ps", "hi"),
            ("carol", "--send", "bob", "hi", "--timeout", "0"),
            ("carol", "--send", "bob", "hi", "--timeout", "nan"),
            ("carol", "--send", "bob", "hi", "--timeout", "soon"),
            ("carol", "--wait", "sent"),
            ("carol", "--timeout", "5"),
            ("carol", "--to", ""),
        ]:
            with self.assertRaises(UsageError, msg=repr(arguments)) as raised:
                self.parse(*arguments)
            self.assertEqual(str(raised.exception).count("\n"), 0)
        for arguments, said in [
            (("bob", ""), "--send: TEXT is empty."),
            (("bob,dave", "hi"), "--send takes one name only."),
        ]:
            with self.assertRaises(UsageError) as raised:
                self.parse("carol", "--send", *arguments)
            self.assertEqual(str(raised.exception), said)


class SecretTests(SynchronousTestCase):
    """Where the secret comes from: never the command line."""

    def secret(self, environment: dict[str, str], *arguments: str) -> Secret | None:
        options = ClientOptions()
        options.parseOptions([*arguments, "carol"])
        secret = options.secret(environment)
        self.assertNotIn("CHATRELAY_SECRET", environment)
        self.assertNotIn("-secret-", repr(dict(options)))
        return secret

    def file(self, content: bytes, mode: int = 0o600) -> str:
        directory = tempfile.TemporaryDirectory(prefix="chatrelay-test-")
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "secret"
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def test_sources(self) -> None:
        """The file, then the environment, which is left without it."""
        environment = {"CHATRELAY_SECRET": "environment-secret-1", "HOME": "/"}
        file = self.file(b"file-secret-1\nmore\n")
        self.assertEqual(self.secret(environment, "--secret-file", file), b"file-secret-1")
        self.assertEqual(environment, {"HOME": "/"})
        environment = {"CHATRELAY_SECRET": "environment-secret-1"}
        self.assertEqual(self.secret(environment), b"environment-secret-1")
        self.assertIsNone(self.secret({}))
        self.assertTrue(self.secret({"CHATRELAY_SECRET": "crt_" + "x" * 43}).is_token)

    def test_wrong(self) -> None:
        """Each mistake is one sentence that names the source, and not the secret."""
        good = "environment-secret-1"
        for environment, arguments, source in [
            ({"CHATRELAY_SECRET": ""}, (), "CHATRELAY_SECRET: "),
            ({"CHATRELAY_SECRET": "x-secret-"[:7]}, (), "CHATRELAY_SECRET: "),
            ({"CHATRELAY_SECRET": "two-secret- words"}, (), "CHATRELAY_SECRET: "),
            ({"CHATRELAY_SECRET": "lone-secret-\udcff"}, (), "CHATRELAY_SECRET: "),
            ({"CHATRELAY_SECRET": good}, ("--secret-file", "/nowhere"), "--secret-file: "),
            ({}, ("--secret-file", self.file(b"two-secret- words\n")), "--secret-file: "),
            ({}, ("--secret-file", self.file(b"others-secret-1\n", 0o644)), "--secret-file: "),
        ]:
            with self.assertRaises(UsageError, msg=repr(arguments)) as raised:
                self.secret(environment, *arguments)
            self.assertEqual(environment, {})
            sentence = str(raised.exception)
            self.assertTrue(sentence.startswith(source), sentence)
            self.assertEqual(sentence.count("\n"), 0)
            self.assertNotIn("-secret-", sentence.removeprefix(source))
