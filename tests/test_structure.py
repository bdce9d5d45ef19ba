"""The rules that the tree itself has to keep: CONTRIBUTING.rst, *Rules*."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "twisted" / "plugins"
MAX_MODULE_LINES = 400
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


def described(text: str) -> dict[str, bool]:
    """
    Read the tree of CONTRIBUTING.rst, *Where a change belongs*.

    :param text: of the document, or one with a tree of the same shape.
    :returns: for each path below the checkout, whether it is marked as pure; a package ends with
        a slash.
    :raises ValueError: a path stands in the tree twice.
    """
    _, _, tree = text.partition("\n\n    chatrelay/\n")
    found: dict[str, bool] = {}
    above = [(4, "chatrelay/")]
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent <= above[0][0]:
            break
        entry = _ENTRY.match(line)
        if entry is None:  # The text of the entry before it goes on.
            continue
        while above[-1][0] >= indent:
            above.pop()
        for name in entry["names"].split(", "):
            path = above[-1][1] + name
            if path in found:
                raise ValueError(f"{path} stands there twice")
            found[path] = bool(entry["pure"])
        if path.endswith("/"):
            above.append((indent, path))
    return found


_ENTRY = re.compile(r" +(?P<names>\w+(?:\.py|/)(?:, \w+(?:\.py|/))*)(?: +(?P<pure>pure))?(?: |\Z)")
DESCRIBED = described((ROOT / "CONTRIBUTING.rst").read_text("utf-8"))


def description(name: str) -> str | None:
    """
    The path in that tree that speaks of a module: its own, or that of its package if nothing in
    the package has one.
    """
    path = MODULES[name].relative_to(ROOT)
    package = path.parent.as_posix() + "/"
    if path.as_posix() in DESCRIBED:
        return path.as_posix()
    has_its_own = any(other != package and other.startswith(package) for other in DESCRIBED)
    if package in DESCRIBED and (path.name == "__init__.py" or not has_its_own):
        return package
    return None


def is_pure(name: str) -> bool:
    return DESCRIBED.get(description(name) or "", False)


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


class DescribedTests(SynchronousTestCase):
    """CONTRIBUTING.rst says where everything is, and what is pure."""

    def test_a_tree_is_read(self) -> None:
        text = (
            "Where\n\n::\n\n    chatrelay/\n      a.py  pure  a thing\n      b/    pure  more\n"
            "      c/          a package, and\n                  its text\n"
            "        d.py, e_f.py    two\n        g/\n          h.py pure it\n      i.py   pure\n"
            "    tests/    no\n\nThe rest.\n"
        )
        self.assertEqual(
            described(text),
            {
                "chatrelay/a.py": True,
                "chatrelay/b/": True,
                "chatrelay/c/": False,
                "chatrelay/c/d.py": False,
                "chatrelay/c/e_f.py": False,
                "chatrelay/c/g/": False,
                "chatrelay/c/g/h.py": True,
                "chatrelay/i.py": True,
            },
        )
        self.assertRaises(ValueError, described, text.replace("i.py", "a.py"))

    def test_every_module_stands_there(self) -> None:
        missing = [name for name in MODULES if name != "chatrelay" and description(name) is None]
        self.assertEqual(missing, [])

    def test_everything_that_stands_there_is_there(self) -> None:
        self.assertEqual([path for path in DESCRIBED if not (ROOT / path).exists()], [])

    def test_much_is_pure(self) -> None:
        self.assertGreater(len([*filter(is_pure, MODULES)]), 80)


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
