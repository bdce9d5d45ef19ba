"""Bounds that change while a relay runs: there is one place where each of them stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, fields

from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import FIXED, PUBLIC_LIMITS, Limits
from chatrelay.options import BOUNDS
from tests.relay_harness import World
from tests.test_structure import TREES

NAMES = {field.name for field in fields(Limits)}
# What keeps the words of the limits, and not the number of a running relay.
_NOT_A_RELAY = ("chatrelay.client", "chatrelay.limits", "chatrelay.options")


# Made anew for each use.
_PASSING = {"Bounds"}


def is_class(callee: str) -> bool:
    name = callee.rsplit(".", maxsplit=1)[-1]
    return name[:1].isupper() and name not in _PASSING


def kept_limits(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """
    The limits whose numbers some object keeps, and the lines where it gets them.

    That is what is read of any limits in a constructor, or handed to one of a class.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            where: list[ast.AST] = [*node.body]
        elif isinstance(node, ast.Call) and is_class(ast.unparse(node.func)):
            where = [*node.args, *node.keywords]
        else:
            continue
        for part in where:
            for read in ast.walk(part):
                if isinstance(read, ast.Attribute) and read.attr in NAMES:
                    owner = ast.unparse(read.value).split(".")[-1].lstrip("_")
                    if owner == "limits":
                        yield read.attr, read.lineno


class ChangingTests(SynchronousTestCase):
    def test_all_change_but_those_that_are_fixed(self) -> None:
        old, other = Limits(), Limits(**dict.fromkeys(NAMES, 7))  # type: ignore[arg-type]
        kept = asdict(old)
        old.change_to(other)
        for name, value in asdict(old).items():
            self.assertEqual(value, kept[name] if name in FIXED else 7, name)

    def test_a_history_does_not_begin_or_end_meanwhile(self) -> None:
        for old_s, new_s, then_s in [(1.0, 2.0, 2.0), (1.0, 0.0, 1.0), (0.0, 1.0, 0.0)]:
            limits = Limits(history_s=old_s)
            limits.change_to(Limits(history_s=new_s, max_clients=1))
            self.assertEqual((limits.history_s, limits.max_clients), (then_s, 1))

    def test_the_names_are_those_of_limits(self) -> None:
        self.assertLessEqual(FIXED, NAMES)
        self.assertLessEqual(set(PUBLIC_LIMITS), NAMES)

    def test_what_is_public_is_an_option_and_stricter(self) -> None:
        options = {field: (least, most) for _, field, least, most, _ in BOUNDS}
        limits = Limits()
        self.assertEqual(set(PUBLIC_LIMITS) - set(options), {"low_water_bytes"})
        self.assertEqual(PUBLIC_LIMITS["low_water_bytes"], PUBLIC_LIMITS["high_water_bytes"] // 2)
        for field, value in PUBLIC_LIMITS.items():
            self.assertLess(value, getattr(limits, field) or value + 1, field)
            least, most = options.get(field, (value, value))
            self.assertTrue(least <= value <= most, field)

    def test_the_walk_sees_what_it_is_for(self) -> None:
        tree = ast.parse(
            "class A:\n"
            " def __init__(self, limits):\n  self._most = limits.max_clients\n"
            " def f(self):\n"
            "  B(self._limits.max_rooms, x=relay.limits.slow_s)\n"
            "  if self._limits.turn_s: g(limits.max_refs, self.max_refs)\n"
        )
        self.assertEqual(
            {name for name, _ in kept_limits(tree)}, {"max_clients", "max_rooms", "slow_s"}
        )

    def test_nobody_keeps_the_number_of_one_that_changes(self) -> None:
        """Each limit, by what the code does with it: it is fixed, or read where it is needed."""
        for name, tree in TREES.items():
            if not name.startswith(_NOT_A_RELAY):
                for limit, line in kept_limits(tree):
                    self.assertIn(limit, FIXED, f"{name}:{line}")

    def test_everything_in_a_relay_has_the_same_limits(self) -> None:
        relay = World(Limits()).relay
        for part in (relay.registry, relay.flow, relay.admission):
            self.assertIs(part._limits, relay.limits)
