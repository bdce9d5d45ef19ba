"""What relays are measured at, and which figures that gives."""

from __future__ import annotations

from dataclasses import dataclass

BASE = "nats"
LIMIT = "forward"
# What is compared with in "history".
BARE = "chatrelay-no-data"
# Whose names begin with this has all of them owned in "history".
OWNED = "chatrelay-owned"
# What the names of those end in that are spoken to over TLS; before it is who they are without.
SECURED = "-tls"

WORKS = {
    "a": "4 senders to 4 receivers, one each",
    "b": "20 senders to 20 receivers at random",
    "c": "50 senders to 1000 receivers at random",
    "d": "round trip of one line each way",
    "e": "connections accepted and named, and their memory",
    "f": "(a) forwarded by Twisted without looking at it",
    "g": "logins to names that are owned",
    "h": "all clients come back: owned names with tokens, beside as many free ones",
    "stored": "50 senders, each with 32 messages underway, to 10 mailboxes whose owners are away",
    "singly": "200 senders, each with one message underway, to 10 mailboxes whose owners are away",
    "acked": "50 senders, each with 32 messages underway, to 10 mailboxes whose owners ack them",
    "history": "(a) to and from names that are owned, with a history, and free",
    "catchup": "the owner of a mailbox with 10,000 messages comes back",
    "fanout10": "a room of 10 members, 4 of whom say something that the others hear",
    "fanout100": "a room of 100 members, 4 of whom say something that the others hear",
    "fanout1000": "a room of 1000 members, 4 of whom say something that the others hear",
    "single100": "as fanout100, one message of each at a time",
    "single1000": "as fanout1000, one message of each at a time",
    "quiet": "one line at a time to the 100 others in a room",
    "deaf": "a line every 4 ms to 100 others, beside one who does not read",
    "rooms": "10,000 members in rooms of 5, and in one room",
}
# What only servers that keep messages are measured at.
KEEPING = frozenset({"stored", "singly", "acked", "catchup"})
# What only relays that have rooms are measured at, and what chatrelay alone is.
FAN_OUT = frozenset({"fanout10", "fanout100", "fanout1000", "single100", "single1000", "quiet"})
ROOMS = FAN_OUT | {"deaf", "rooms"}
# Where the best of the others is what one is compared with.
AGAINST_THE_BEST = frozenset({"stored", "singly", "acked"})


@dataclass(frozen=True)
class Measure:
    """
    One figure of a work.

    :ivar key: in what the generator found.
    :ivar title: for people.
    :ivar scale: what it is divided by to be shown.
    :ivar unit: of it then.
    """

    key: str
    title: str
    scale: float
    unit: str


THROUGHPUT = Measure("rate", "messages", 1000.0, "k/s")
CONFIRMED = Measure("rate", "messages confirmed", 1000.0, "k/s")
DELIVERED = Measure("rate", "deliveries", 1000.0, "k/s")
LIVE = Measure("rate", "messages live", 1000.0, "k/s")
MEASURES: dict[str, tuple[Measure, ...]] = {
    "a": (THROUGHPUT,),
    "b": (THROUGHPUT,),
    "c": (THROUGHPUT,),
    "d": (
        Measure("idle_p50_us", "idle, p50", 1.0, "us"),
        Measure("idle_p99_us", "idle, p99", 1.0, "us"),
        Measure("loaded_p50_us", "under load (b), p50", 1000.0, "ms"),
        Measure("loaded_p99_us", "under load (b), p99", 1000.0, "ms"),
    ),
    "e": (
        Measure("rate", "connections", 1000.0, "k/s"),
        Measure("kib_per_connection", "memory of one", 1.0, "KiB"),
    ),
    "g": (
        Measure("secret_rate", "with a secret", 1.0, "/s"),
        Measure("token_rate", "with a token", 1000.0, "k/s"),
    ),
    "h": (
        Measure("owned_s", "owned names, until all are named", 1.0, "s"),
        Measure("free_s", "free names, until all are named", 1.0, "s"),
        Measure("ratio", "ratio of the two", 1.0, "times"),
        Measure("cpu_ratio", "ratio of the relay's processor time", 1.0, "times"),
    ),
    "stored": (CONFIRMED,),
    "singly": (CONFIRMED,),
    "acked": (Measure("rate", "messages confirmed and acked", 1000.0, "k/s"),),
    "history": (LIVE,),
    "catchup": (
        Measure("acked_s", "until the last is read, by one that acks", 1.0, "s"),
        Measure("read_s", "until the last is read, by one that does not", 1.0, "s"),
    ),
    "fanout10": (DELIVERED,),
    "fanout100": (DELIVERED,),
    "fanout1000": (DELIVERED,),
    "single100": (DELIVERED,),
    "single1000": (DELIVERED,),
    "quiet": (
        Measure("last_p50_us", "until the last has heard it, p50", 1.0, "us"),
        Measure("last_p99_us", "until the last has heard it, p99", 1.0, "us"),
    ),
    "deaf": (
        Measure("without_p50_us", "until heard, all of them reading, p50", 1.0, "us"),
        Measure("beside_p50_us", "until heard by those who read, p50", 1.0, "us"),
        Measure("without_p99_us", "until heard, all of them reading, p99", 1.0, "us"),
        Measure("beside_p99_us", "until heard by those who read, p99", 1.0, "us"),
        Measure("ratio", "ratio of the two p99", 1.0, "times"),
    ),
    "rooms": (
        Measure("large_cpu_s_per_million", "processor time of a delivery, one room", 1.0, "us"),
        Measure("smaller_cpu_s_per_million", "the same, rooms of 5", 1.0, "us"),
        Measure("ratio", "ratio of the two", 1.0, "times"),
        Measure("written_ratio", "the same, without reading what is delivered", 1.0, "times"),
    ),
}
