"""Who is here under which name, who watches whom, whom the quick path finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.errors import NameInUse, NameReserved, TooManyWatches
from chatrelay.limits import Limits
from chatrelay.names import Name, parse_name
from chatrelay.registry import Registry

ANN, BOB, OPS = (parse_name(name) for name in (b"Ann", b"bob", b"Ops"))


class Person:
    """A recipient and a watcher."""

    connected_s = 0.0
    takes_runs = True
    wants_echo = False
    is_echoed = False

    def __init__(self, name: Name) -> None:
        self.name = name
        self.told: list[tuple[bytes, bool]] = []

    def idle_s(self) -> float:
        return 0.0

    def includes(self, other: object) -> bool:
        return other is self

    def deliver(self, *_message: object) -> None:
        raise AssertionError("a registry delivers nothing")

    def deliver_run(self, *_run: object) -> None:
        raise AssertionError("a registry delivers nothing")

    def presence_changed(self, _key: bytes, written: bytes, online: bool) -> None:
        self.told.append((written, online))


class RegistryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry([OPS], Limits(max_watches=2))
        self.ann, self.bob = Person(ANN), Person(BOB)

    def test_claim_find_release(self) -> None:
        self.registry.claim(self.ann, ANN)
        self.assertIs(self.registry.find(b"ann"), self.ann)
        self.assertEqual((self.registry.client_count, list(self.registry)), (1, [self.ann]))
        self.registry.release(self.ann, ANN)
        self.assertIsNone(self.registry.find(b"ann"))
        self.assertEqual((self.registry.client_count, list(self.registry)), (0, []))

    def test_a_held_name_is_in_use_and_nothing_has_changed(self) -> None:
        self.registry.claim(self.ann, ANN)
        self.registry.claim(self.bob, BOB)
        refusal = self.assertRaises(
            NameInUse, self.registry.claim, self.bob, Name(b"ANN", b"ann"), BOB
        )
        self.assertEqual(refusal.context, (b"ANN",))
        self.assertIs(self.registry.find(b"ann"), self.ann)
        self.assertIs(self.registry.find(b"bob"), self.bob)

    def test_only_the_holder_releases(self) -> None:
        self.registry.claim(self.ann, ANN)
        self.registry.release(self.bob, ANN)
        self.assertIs(self.registry.find(b"ann"), self.ann)

    def test_reserved_names(self) -> None:
        for name in (b"ops", b"OPS", b"server", b"Server"):
            self.assertRaises(NameReserved, self.registry.claim, self.ann, parse_name(name))

    def test_bots(self) -> None:
        self.registry.add_bot(self.bob)
        self.assertIs(self.registry.find(b"bob"), self.bob)
        self.assertEqual((self.registry.client_count, list(self.registry)), (0, [self.bob]))
        self.assertRaises(NameReserved, self.registry.claim, self.ann, BOB)
        self.assertRaises(NameReserved, self.registry.add_bot, Person(BOB))
        self.assertRaises(NameReserved, self.registry.add_bot, Person(OPS))
        self.registry.claim(self.ann, ANN)
        self.assertRaises(NameInUse, self.registry.add_bot, Person(ANN))

    def test_routes(self) -> None:
        registry = self.registry
        registry.claim(self.ann, ANN)
        registry.note_writing(b"ann", ANN)
        self.assertEqual(registry.routes, {})
        registry.renew_routes(b"ann")
        registry.note_writing(b"ann", ANN)
        registry.note_writing(b"ann", ANN)
        self.assertEqual(registry.routes, {b"Ann": self.ann, b"ann": self.ann})
        for writing in (b"ANN", b"aNN", b"anN", b"aNn"):
            registry.note_writing(writing, ANN)
        self.assertEqual(len(registry.routes), 4)
        registry.release(self.ann, ANN)
        self.assertEqual((registry.routes, registry._other_writings), ({}, {}))

    def test_watching(self) -> None:
        registry = self.registry
        self.assertFalse(registry.watch(self.bob, ANN, b"ann"))
        registry.claim(self.ann, ANN)
        self.assertTrue(registry.watch(self.bob, ANN, b"ANN"))
        registry.claim(self.ann, Name(b"aNN", b"ann"), ANN)
        registry.claim(self.ann, parse_name(b"eve"), ANN)
        registry.unwatch(self.bob, ANN)
        registry.unwatch(self.bob, ANN)
        registry.claim(self.ann, ANN, parse_name(b"eve"))
        self.assertEqual(self.bob.told, [(b"ann", True), (b"ANN", False)])

    def test_the_bound_of_watches(self) -> None:
        for name in (b"a", b"b", b"A"):
            self.registry.watch(self.bob, parse_name(name), name)
        self.assertRaises(TooManyWatches, self.registry.watch, self.bob, OPS, b"ops")
        self.registry.unwatch_all(self.bob)
        self.registry.unwatch_all(self.bob)
        self.assertEqual((self.registry._watched, self.registry._watchers), ({}, {}))

    def test_a_refused_first_watch_leaves_nothing(self) -> None:
        registry = Registry(limits=Limits(max_watches=0))
        self.assertRaises(TooManyWatches, registry.watch, self.bob, ANN, b"ann")
        registry.unwatch_all(self.bob)
        self.assertEqual((registry._watched, registry._watchers), ({}, {}))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["claim", "release", "watch", "unwatch", "gone"]),
                st.integers(0, 2),
                st.sampled_from([b"a", b"A", b"b"]),
            ),
            max_size=40,
        )
    )
    def test_whoever_watches_knows_who_is_here(self, actions: list[tuple[str, int, bytes]]) -> None:
        """What a watcher was told last is what is true."""
        registry = Registry(limits=Limits(max_watches=9))
        people = [Person(ANN) for _ in range(3)]
        believed: list[dict[bytes, bool]] = [{} for _ in people]
        for action, number, written in actions:
            person, name = people[number], parse_name(written)
            if action == "claim" and registry.find(name.key) is None:
                registry.claim(person, name)
            elif action == "release":
                registry.release(person, name)
            elif action == "watch":
                believed[number][name.key] = registry.watch(person, name, written)
            elif action == "unwatch":
                registry.unwatch(person, name)
                believed[number].pop(name.key, None)
            elif action == "gone":
                registry.unwatch_all(person)
                believed[number].clear()
            for watcher, beliefs in zip(people, believed, strict=True):
                for told, online in watcher.told:
                    self.assertNotEqual(beliefs[parse_name(told).key], online)
                    beliefs[parse_name(told).key] = online
                watcher.told.clear()
                for key, online in beliefs.items():
                    self.assertEqual(registry.find(key) is not None, online)
