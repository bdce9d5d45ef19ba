"""The rules that the tree itself has to keep: CONTRIBUTING.rst, *Rules*."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "twisted" / "plugins"
MAX_MODULE_LINES = 400
# Time is an argument to these, and a socket is somebody else's.
PURE = [
    *("chatrelay.errors", "chatrelay.interfaces", "chatrelay.limits", "chatrelay.lines"),
    *("chatrelay.names", "chatrelay.wire", "chatrelay.registry", "chatrelay.session"),
    *("chatrelay.flow", "chatrelay.refs", "chatrelay.claims", "chatrelay.admission"),
    *("chatrelay.naming", "chatrelay.sending", "chatrelay.runs", "chatrelay.liveness"),
    *("chatrelay.printable", "chatrelay.console", "chatrelay.commands.", "chatrelay.client.core"),
    *("chatrelay.client.display", "chatrelay.client.typed", "chatrelay.client.framing"),
    *("chatrelay.bots.reverse", "chatrelay.receiver", "chatrelay.cutting", "chatrelay.stamps"),
    *("chatrelay.devices", "chatrelay.pending", "chatrelay.accounts.guessing"),
    *("chatrelay.accounts.hashing", "chatrelay.accounts.secrets", "chatrelay.secret"),
    *("chatrelay.networks", "chatrelay.ids", "chatrelay.log_holder", "chatrelay.leaving"),
    *("chatrelay.mailbox.entries", "chatrelay.mailbox.in_flight", "chatrelay.mailbox.log"),
    *("chatrelay.mailbox.mailbox", "chatrelay.mailbox.reader", "chatrelay.mailbox.reading"),
    *("chatrelay.mailbox.seams", "chatrelay.mailbox.sent", "chatrelay.mailbox.shares"),
    *(
        "chatrelay.mailbox.waiting",
        "chatrelay.state",
        "chatrelay.rates",
        "chatrelay.rooms.audience",
    ),
    *("chatrelay.bans", "chatrelay.statistics", "chatrelay.rooms.everyone"),
    *("chatrelay.rooms.room", "chatrelay.rooms.directory", "chatrelay.rooms.log"),
    *(
        "chatrelay.acquaintances",
        "chatrelay.rooms.kept",
        "chatrelay.saying",
        "chatrelay.outcomes",
        "chatrelay.mailbox.receipts",
    ),
    *("chatrelay.client.identity", "chatrelay.client.registering", "chatrelay.client.refused"),
    *("chatrelay.configuration", "chatrelay.configuration_file"),
    *("chatrelay.client.membership",),
    *("chatrelay.client.membership", "chatrelay.client.conversations"),
    *("chatrelay.client.known_rooms", "chatrelay.client.completing"),
    *("chatrelay.client.rooms", "chatrelay.client.sentences"),
    *(
        "chatrelay.client.answers",
        "chatrelay.client.repeating",
    ),
]
# What touches a reactor, a socket or a thread; twisted.logger and twisted.python do not.
IMPURE_PACKAGES = (
    *("twisted.internet", "twisted.protocols", "twisted.application", "twisted.web"),
    *("asyncio", "select", "selectors", "socket", "subprocess", "threading"),
)
CLOCKS = {"time.time", "time.monotonic", "time.perf_counter", "time.sleep", "datetime.now"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "chatrelay").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


def is_below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def is_pure(name: str) -> bool:
    return any(name == pure or (pure[-1] == "." and name.startswith(pure)) for pure in PURE)


def imported(tree: ast.AST) -> Iterator[str]:
    """Everything that is imported anywhere, ``a.b`` for ``from a import b`` too, but for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imported(other)
        else:
            yield from imported(node)


def reactor_imports(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """The names of the functions that import the reactor; empty for the module itself."""
    for node in ast.iter_child_nodes(tree):
        name = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = set(imported(ast.Module([node], [])))
            if "twisted.internet.reactor" in found:
                yield inside
        else:
            yield from reactor_imports(node, name)


class PureTests(SynchronousTestCase):
    """Pure modules import nothing of ``twisted.internet``, and nothing that does."""

    def test_the_walk_sees_what_it_is_for(self) -> None:
        tree = ast.parse(
            "import a.b\nfrom c import d\nif TYPE_CHECKING:\n import e\n"
            "def f():\n from twisted.internet import reactor\n"
        )
        self.assertEqual(
            list(imported(tree)),
            ["a.b", "c", "c.d", "twisted.internet", "twisted.internet.reactor"],
        )
        self.assertEqual(list(reactor_imports(tree)), ["f"])
        self.assertEqual(list(reactor_imports(ast.parse("import twisted.internet.reactor"))), [""])

    def test_every_pure_module_is_there(self) -> None:
        for pure in PURE:
            self.assertTrue(
                [name for name in MODULES if name == pure or name.startswith(pure)], pure
            )

    def test_pure_modules(self) -> None:
        for name in filter(is_pure, MODULES):
            self.assertEqual(self.ways_to_impurity(name), [], name)

    def ways_to_impurity(self, start: str) -> list[str]:
        """Each import, direct or through other modules of ours, that a pure module may not have."""
        ways: list[str] = []
        seen = {start}
        waiting = [(start, start)]
        while waiting:
            name, way = waiting.pop()
            for target in sorted(set(imported(TREES[name]))):
                if is_below(target, IMPURE_PACKAGES):
                    ways.append(f"{way} > {target}")
                elif target in TREES and target not in seen:
                    seen.add(target)
                    waiting.append((target, f"{way} > {target}"))
        return ways

    def test_time_is_an_argument(self) -> None:
        for name in filter(is_pure, MODULES):
            for node in ast.walk(TREES[name]):
                if isinstance(node, ast.Attribute):
                    self.assertNotIn(ast.unparse(node), CLOCKS, f"{name}:{node.lineno}")


# What twistd calls once it has chosen the reactor.
_BY_TWISTD = {
    "chatrelay.service": {"makeService"},
    "chatrelay.options": {"_installed_reactor"},
}


class ReactorTests(SynchronousTestCase):
    """Whatever touches the reactor takes it as a parameter."""

    def test_nobody_imports_it(self) -> None:
        for name, tree in TREES.items():
            if not name.endswith("__main__"):
                self.assertLessEqual(set(reactor_imports(tree)), _BY_TWISTD.get(name, set()), name)


class ModuleTests(SynchronousTestCase):
    """Each module is one thing, and says which."""

    def test_every_module_begins_with_a_docstring(self) -> None:
        for name, tree in TREES.items():
            self.assertTrue(ast.get_docstring(tree), name)

    def test_no_module_is_long(self) -> None:
        for name, path in MODULES.items():
            lines = len(path.read_text("utf-8").splitlines())
            self.assertLessEqual(lines, MAX_MODULE_LINES, name)

    def test_the_package_is_typed(self) -> None:
        self.assertTrue((ROOT / "chatrelay" / "py.typed").exists())


class PluginTests(SynchronousTestCase):
    """``twisted.plugins`` is shared with Twisted and with everybody's plugins."""

    def test_twisted_is_not_hidden(self) -> None:
        for directory in (PLUGINS.parent, PLUGINS):
            self.assertFalse((directory / "__init__.py").exists(), directory)

    def test_the_service_plugin_is_one_service_maker(self) -> None:
        tree = ast.parse((PLUGINS / "chatrelay_plugin.py").read_text("utf-8"))
        # A failing import there would become "Unknown command".
        modules = {name for name in imported(tree) if not name.startswith("twisted.")}
        self.assertEqual(modules - {"__future__", "__future__.annotations"}, set())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        self.assertEqual([ast.unparse(call.func) for call in calls], ["ServiceMaker"])

    def test_plugins_import_no_reactor(self) -> None:
        for path in PLUGINS.glob("chatrelay_*.py"):
            self.assertEqual(list(reactor_imports(ast.parse(path.read_text("utf-8")))), [], path)
