"""
Who reads what is said in rooms: names of several connections that join, leave, speak, come and go
in any order, held against a model that knows nothing but who is in which room.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from chatrelay.limits import Limits
from tests.accounts_harness import SECRET, OwnedWorld
from tests.relay_harness import Client, what_is_left
from tests.rooms_model import check_rooms
from tests.store_harness import Cleanups

OWNED = (b"a", b"b")
NAMES = st.sampled_from([b"a", b"A", b"b", b"c", b"C", b"d"])
ROOMS = st.sampled_from([b"#r", b"#R", b"#s"])
CAPS = st.sampled_from(
    [b"none", b"none", b"id", b"time", b"echo", b"id time", b"echo time", b"ack", b"ack echo"]
)
TAGGED = re.compile(rb"(?:@(\S+) )?(%.*)\Z", re.DOTALL)
SENTENCES = re.compile(rb"\A(!caps|!welcome \S+) .*\Z")
MOST_CLIENTS = 7


class Person:
    """
    One client, as the model knows it.

    :ivar shown: how it writes its name.
    :ivar reads: what it reads next, in order, without ids and times.
    :ivar told: what else it is told, without ids.
    :ivar echoed: what it is shown of what its own name says, where that has no order.
    :ivar accepted: what it said in rooms with a ref, and what it was told then.
    """

    def __init__(self, client: Client, shown: bytes, caps: frozenset[bytes]) -> None:
        self.client = client
        self.shown = shown
        self.caps = caps
        self.reads: list[bytes] = []
        self.told: list[bytes] = []
        self.echoed: list[bytes] = []
        self.accepted: list[tuple[bytes, bytes]] = []

    @property
    def key(self) -> bytes:
        return self.shown.lower()


class Rooms(RuleBasedStateMachine):
    """People, two of whose names are owned, and what each has to read."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.cleanups = Cleanups()
        self.world = OwnedWorld(self.cleanups, Limits(ref_lifetime_s=30.0))
        for name in OWNED:
            self.world.owner(name).end()
        self.world.pass_time(1)
        self.people: list[Person] = []
        # The writing of each room, who keeps it, and its members as they are written.
        self.shown: dict[bytes, bytes] = {}
        self.owner: dict[bytes, bytes] = {}
        self.members: dict[bytes, dict[bytes, bytes]] = {}
        # What waits in the logs.
        self.missed: dict[bytes, list[bytes]] = {name: [] for name in OWNED}
        self.id_of: dict[bytes, bytes] = {}
        self.last_sent = 0

    # The model.

    def any_of(self, number: int) -> Person:
        return self.people[number % len(self.people)]

    def of(self, key: bytes) -> list[Person]:
        """The connections of a name, in the order in which they came."""
        return [person for person in self.people if person.key == key]

    def tell(self, room: bytes, line: bytes, spared: Person | None = None) -> None:
        for member in self.members[room]:
            for person in self.of(member):
                if person is not spared:
                    person.told.append(line)

    def is_read_from_log(self, key: bytes) -> bool:
        return key in OWNED and any(b"ack" in person.caps for person in self.of(key))

    def hand(self, key: bytes, line: bytes) -> bool:
        """A name gets a message; returns whether it is stored for that."""
        for person in self.of(key):
            person.reads.append(line)
        if not self.of(key) and key in OWNED:
            self.missed[key].append(line)
        return (key in OWNED and not self.of(key)) or self.is_read_from_log(key)

    def say(self, person: Person, room: bytes, text: bytes, ref: bytes) -> None:
        key = room.lower()
        if key not in self.members:
            person.told.append(ref + b"!error unknown-room " + room)
            return
        shown = self.shown[key]
        if person.key not in self.members[key]:
            person.told.append(ref + b"!error not-in-room " + shown)
            return
        line = b"%" + shown + b"%" + person.shown + b"%" + text
        is_stored = False
        for member in self.members[key]:
            if member != person.key:
                is_stored = self.hand(member, line) or is_stored
        for device in self.of(person.key):
            if b"echo" in device.caps:
                to = device.echoed if self.is_read_from_log(device.key) else device.reads
                to.append(line)
                self.counted["echo"] += 1
        if ref:
            answer = ref + (b"!stored " if is_stored else b"!sent ") + room
            person.told.append(answer)
            person.accepted.append((ref + b"%" + room + b"%" + text + b"\n", answer))
        self.counted["stored" if is_stored else "said"] += 1

    def write(self, person: Person, name: bytes, text: bytes, ref: bytes) -> None:
        key = name.lower()
        if not self.of(key) and key not in OWNED:
            person.told.append(ref + b"!error unknown-name " + name)
            return
        is_stored = self.hand(key, b"%" + person.shown + b"%" + text)
        if key != person.key:
            for device in self.of(person.key):
                if device is not person and b"echo" in device.caps:
                    device.echoed.append(b"to=" + name + b" %" + person.shown + b"%" + text)
        if ref or is_stored:
            person.told.append(ref + (b"!stored " if is_stored else b"!sent ") + name)

    def go(self, person: Person) -> None:
        """A connection has its name no more."""
        self.people.remove(person)
        if self.of(person.key):
            self.renew(person.key)
            return
        for room in [room for room, members in self.members.items() if person.key in members]:
            if room not in self.owner or person.key not in OWNED:
                del self.members[room][person.key]
                self.tell(room, b"!left " + self.shown[room] + b" " + person.shown)
                self.forget_if_empty(room)

    def renew(self, key: bytes) -> None:
        """A name is written as its first connection writes it."""
        for members in self.members.values():
            if key in members and self.of(key):
                members[key] = self.of(key)[0].shown

    def forget_if_empty(self, room: bytes) -> None:
        if not self.members[room] and room not in self.owner:
            del self.members[room], self.shown[room]

    # What they do.

    @initialize(is_kept=st.booleans(), caps=st.lists(CAPS, min_size=3, max_size=3))
    def begin(self, is_kept: bool, caps: list[bytes]) -> None:
        for name, with_caps in zip((b"a", b"b", b"c"), caps, strict=True):
            self.connect(name, with_caps, crlf=False)
            self.look()
            self.join(-1, b"#r", ref=False)
            self.look()
        if is_kept:
            self.keep(0, b"#r")

    @precondition(lambda self: len(self.people) < MOST_CLIENTS)
    @rule(name=NAMES, caps=CAPS, crlf=st.booleans())
    def connect(self, name: bytes, caps: bytes, crlf: bool) -> None:
        key = name.lower()
        if key not in OWNED and self.of(key):
            return
        client = self.world.connect()
        eol = b"\r\n" if crlf else b"\n"
        secret = b" " + SECRET if key in OWNED else b""
        client.send(b"/caps " + caps + eol + name + secret + eol)
        client.told_first()
        assert client.told_first().startswith(b"!welcome " + name)
        person = Person(client, name, frozenset(caps.split()))
        if key in OWNED:
            person.reads, self.missed[key] = self.missed[key], []
            self.counted["missed"] += len(person.reads)
        self.people.append(person)
        self.renew(key)

    @rule(
        who=st.integers(0, 6),
        how=st.sampled_from([Client.end, Client.reset, lambda client: client.send(b"/quit\n")]),
    )
    def leave_relay(self, who: int, how: Callable[[Client], None]) -> None:
        if len(self.people) > 1:
            person = self.any_of(who)
            self.go(person)
            how(person.client)

    @rule(who=st.integers(0, 6), name=st.sampled_from([b"c", b"C", b"d", b"D", b"e"]))
    def rename(self, who: int, name: bytes) -> None:
        person = self.any_of(who)
        key = name.lower()
        if key != person.key and self.of(key):
            person.told.append(b"!error name-in-use " + name)
        elif key == person.key:
            person.told.append(b"!welcome " + name)
            person.shown = name
            self.renew(key)
        else:
            self.go(person)
            person.accepted.clear()
            person.shown = name
            person.told.append(b"!welcome " + name)
            self.people.append(person)
        person.client.send(b"/name " + name + b"\n")

    @rule(who=st.integers(0, 6), caps=CAPS)
    def set_caps(self, who: int, caps: bytes) -> None:
        person = self.any_of(who)
        person.client.send(b"/caps " + caps + b"\n")
        person.caps = frozenset(caps.split())
        person.told.append(b"!caps")

    @rule(who=st.integers(0, 6), room=ROOMS, ref=st.booleans())
    def join(self, who: int, room: bytes, ref: bool) -> None:
        person = self.any_of(who)
        tag = b"@ref=join " if ref else b""
        self.join_in_model(person, room, tag)
        person.client.send(tag + b"/join " + room + b"\n")

    def join_in_model(self, person: Person, room: bytes, tag: bytes) -> None:
        key = room.lower()
        shown = self.shown.setdefault(key, room)
        members = self.members.setdefault(key, {})
        if person.key not in members:
            members[person.key] = self.of(person.key)[0].shown
            self.tell(key, b"!joined " + shown + b" " + person.shown, person)
        person.told += [
            tag + b"!joined " + shown + b" " + person.shown,
            tag + b"!members " + shown + b" " + b" ".join(members.values()),
            tag + b"!end members %b %d" % (shown, len(members)),
        ]

    @rule(who=st.integers(0, 6), room=ROOMS)
    def leave(self, who: int, room: bytes) -> None:
        person = self.any_of(who)
        key = room.lower()
        person.client.send(b"/leave " + room + b"\n")
        if key not in self.members:
            person.told.append(b"!error unknown-room " + room)
        elif person.key not in self.members[key]:
            person.told.append(b"!error not-in-room " + room)
        else:
            self.tell(key, b"!left " + self.shown[key] + b" " + person.shown)
            del self.members[key][person.key]
            self.forget_if_empty(key)

    @rule(who=st.integers(0, 6), room=ROOMS)
    def keep(self, who: int, room: bytes) -> None:
        person = self.any_of(who)
        key = room.lower()
        if person.key in OWNED and person.key in self.members.get(key, ()):
            if self.owner.setdefault(key, person.key) == person.key:
                self.tell(key, b"!kept " + self.shown[key] + b" owner=" + person.shown)
                self.counted["kept"] += 1
            else:
                person.told.append(b"!error not-allowed " + self.shown[key])
            person.client.send(b"/keep " + room + b"\n")

    @rule(who=st.integers(0, 6), room=ROOMS)
    def unkeep(self, who: int, room: bytes) -> None:
        person = self.any_of(who)
        key = room.lower()
        if self.owner.get(key) == person.key:
            self.tell(key, b"!unkept " + self.shown[key] + b" " + person.shown, person)
            person.told.append(b"!unkept " + self.shown[key] + b" " + person.shown)
            del self.owner[key]
            for member in list(self.members[key]):
                if not self.of(member):
                    del self.members[key][member]
            self.forget_if_empty(key)
            person.client.send(b"/unkeep " + room + b"\n")

    @rule(who=st.integers(0, 6), room=ROOMS, count=st.integers(1, 4), ref=st.booleans())
    def speak_in_one(self, who: int, room: bytes, count: int, ref: bool) -> None:
        self.speak(who, [room] * count, b"@ref=%d " if ref else b"")

    @rule(
        who=st.integers(0, 6),
        to=st.lists(
            st.sampled_from([b"#r", b"#r", b"#R", b"#s", b"a", b"b", b"c"]), min_size=1, max_size=6
        ),
        refs=st.sampled_from([b"", b"", b"@ref=%d ", b"@x=%d "]),
    )
    def speak(self, who: int, to: list[bytes], refs: bytes) -> None:
        person = self.any_of(who)
        block = b""
        for target in to:
            self.last_sent += 1
            tag = refs % self.last_sent if refs else b""
            text = b"%d" % self.last_sent
            ref = tag if refs.startswith(b"@ref") else b""
            if target.startswith(b"#"):
                self.say(person, target, text, ref)
            else:
                self.write(person, target, text, ref)
            block += tag + b"%" + target + b"%" + text + b"\n"
        person.client.send(block)

    @rule(who=st.integers(0, 6), room=ROOMS, name=NAMES)
    def remove(self, who: int, room: bytes, name: bytes) -> None:
        person = self.any_of(who)
        key = room.lower()
        if self.owner.get(key) == person.key and name.lower() in self.members[key]:
            line = b"!removed " + self.shown[key] + b" " + self.members[key][name.lower()]
            self.tell(key, line, person)
            person.told.append(line)
            del self.members[key][name.lower()]
            person.client.send(b"/remove " + room + b" " + name + b"\n")

    @rule()
    def ask_again(self) -> None:
        """What was accepted is answered again, and delivered once."""
        for person in self.people:
            for line, answer in person.accepted:
                person.told.append(answer)
                person.client.send(line)
                self.counted["again"] += 1

    @precondition(lambda self: bool(self.owner))
    @rule()
    def wait(self) -> None:
        """Logs that nobody uses are put away, and known no more."""
        self.world.pass_time(61)
        for person in self.people:
            person.accepted.clear()

    @precondition(lambda self: bool(self.owner))
    @rule(really=st.sampled_from([False, False, False, True]))
    def restart(self, really: bool) -> None:
        """What is kept is there again."""
        if not really:
            return
        self.world = self.world.restarted()
        self.people = []
        for room in list(self.members):
            self.members[room] = {
                key: shown
                for key, shown in self.members[room].items()
                if room in self.owner and key in OWNED
            }
            self.forget_if_empty(room)
        self.id_of = {}
        for room, members in self.members.items():
            # Of who is not here it is known how the account writes the name; who joined first
            # is not kept.
            there = self.world.relay.rooms.find(room)
            assert there is not None
            assert set(there) == set(members)
            self.members[room] = {key: key for key in there}
        self.counted["restarts"] += 1
        for name in (b"c", b"a"):
            self.connect(name, b"none", crlf=False)

    # What has to be so.

    @invariant()
    def everybody_reads_what_he_has_to(self) -> None:
        self.look()

    def look(self) -> None:
        self.world.settle()
        for person in self.people:
            last_id = self.check_lines(person, person.client.told())
            if last_id and b"ack" in person.caps and person.key in OWNED:
                [answer] = person.client.lines(b"/ack " + last_id)
                assert answer == b"!acked " + last_id, answer

    def check_lines(self, person: Person, lines: list[bytes]) -> bytes:
        """What a client got is what it had to get; returns the last id."""
        reads, told, echoed, last_id = [], [], [], b""
        for line in lines:
            match = TAGGED.match(line)
            if match is None:
                told.append(line.partition(b" id=")[0] if b"!stored" in line else line)
                continue
            tags = dict(tag.partition(b"=")[::2] for tag in (match[1] or b"").split(b";"))
            target = tags.pop(b"to", None)
            if target is not None:
                echoed.append(b"to=" + target + b" " + match[2])
            else:
                _, conversation, sender, *_ = match[2].split(b"%")
                is_own = conversation.startswith(b"#") and sender.lower() == person.key
                if is_own and self.is_read_from_log(person.key):
                    # It is in no log of its own, and nothing to be acked.
                    echoed.append(match[2])
                else:
                    reads.append(match[2])
                    last_id = tags.get(b"id", b"")
            self.check_tags(person, tags, match[2])
        expected = [SENTENCES.sub(rb"\1", line) for line in told]
        assert reads == person.reads, (person.shown, reads, person.reads)
        assert sorted(expected) == sorted(person.told), (person.shown, expected, person.told)
        assert sorted(echoed) == sorted(person.echoed), (person.shown, echoed, person.echoed)
        person.reads, person.told, person.echoed = [], [], []
        return last_id

    def check_tags(self, person: Person, tags: dict[bytes, bytes], line: bytes) -> None:
        tags.pop(b"", None)
        caps = person.caps | ({b"id"} if b"ack" in person.caps else set())
        assert set(tags) == caps & {b"id", b"time"}, (person.shown, tags, caps)
        if b"id" in tags:
            text = line.rpartition(b"%")[2]
            assert self.id_of.setdefault(text, tags[b"id"]) == tags[b"id"], "two ids of one message"

    @invariant()
    def the_relay_agrees(self) -> None:
        check_rooms(self.world.relay)
        rooms = {room.name.key: room for room in self.world.relay.rooms}
        assert {key: list(room) for key, room in rooms.items()} == {
            room: list(members) for room, members in self.members.items()
        }
        for key, room in rooms.items():
            assert room.name.shown == self.shown[key]

    def teardown(self) -> None:
        for owner in self.owner.values():
            if not self.of(owner):
                self.connect(owner, b"none", crlf=False)
                self.look()
        for room, owner in self.owner.items():
            self.of(owner)[0].client.send(b"/unkeep " + room + b"\n")
        for person in self.people:
            person.client.end()
        self.world.pass_time(11)
        assert what_is_left(self.world) == {}
        self.cleanups.close()


class AnyOrder(SynchronousTestCase):
    """The same under both runners: trial does not find a machine's own test case."""

    def test_rooms_in_any_order(self) -> None:
        run_state_machine_as_test(
            Rooms,
            settings=settings(
                max_examples=50, stateful_step_count=40, deadline=None, derandomize=True
            ),
        )
        # It has to reach what it is about.
        for what in ("said", "stored", "echo", "missed", "kept", "again", "restarts"):
            self.assertGreater(Rooms.counted[what], 3, Rooms.counted)
