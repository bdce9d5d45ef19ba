"""The options of the client program."""

import re
from contextlib import redirect_stdout
from io import StringIO

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatrelay._version import __version__
from chatrelay.client.options import ClientOptions


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
