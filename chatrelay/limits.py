"""
Every bound of the relay, with its unit and its default, in one place.

The options of ``twistd chatrelay`` read their defaults here; docs/protocol.rst,
*Limits*, is the same table for people.

They may change while a relay runs: who keeps the limits reads a bound where it is needed, and
never keeps the number; only those in `FIXED` stay what they were when the relay started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """
    What one relay allows.

    :ivar max_line_bytes: longest line taken from a client, without its end.
    :ivar max_targets: names in one message.
    :ivar max_watches: names that one connection watches.
    :ivar max_rooms_per_client: rooms that one name is in.
    :ivar max_rooms: rooms in all.
    :ivar max_kept_rooms: rooms that one owner keeps.
    :ivar max_members: members of one room.
    :ivar max_refs: accepted refs remembered for one connection.
    :ivar ref_lifetime_s: how long an accepted ref is remembered.
    :ivar max_refused_first_lines: the refused line before a name that closes.
    :ivar max_clients: named clients.
    :ivar max_devices: connections of one owned name; each gets all that is sent to it.
    :ivar max_unnamed: connections without a name; over it the longest unnamed is closed.
    :ivar max_per_address: connections from one address; loopback has no bound.
    :ivar connects_per_min: new connections from one address in a minute; 0 for any number.
    :ivar accounts_per_day: names registered from one address in a day; 0 for any number.
    :ivar addresses_per_site: an IPv6 /48 counts as so many addresses, for each of the three; 0 for
        any number.
    :ivar max_counted_addresses: addresses of which these are counted, for each of both.
    :ivar names_per_min: other names that one connection asks for in a minute; 0 for any number.
    :ivar hint_after_s: silence before a name after which the relay speaks.
    :ivar naming_timeout_s: time for giving a name.
    :ivar lines_per_s: lines that are taken from one client in a second; 0 for any number.
    :ivar bytes_per_s: bytes; 0 for any number.
    :ivar burst_s: seconds for which it may not have used that, to use it at once.
    :ivar idle_timeout_s: time in which a client with a name may send nothing; 0 for any.
    :ivar ping_after_s: silence after which a client with the cap ``ping`` is asked.
    :ivar ping_timeout_s: time for its answer.
    :ivar high_water_bytes: unsent bytes of one client above which those who send to it are held.
    :ivar low_water_bytes: unsent bytes below which they are read again.
    :ivar max_unsent_bytes: unsent bytes of all clients together.
    :ivar slow_bytes_per_s: a client over its mark that takes less than this is slow.
    :ivar slow_s: seconds of slowness within the window that end it.
    :ivar slow_window_s: that window.
    :ivar close_grace_s: time for writing what is left when the relay closes.
    :ivar end_of_input_grace_s: the same after the client closed its sending side.
    :ivar max_accounts: registered names.
    :ivar max_running_hashes: secrets that are hashed at the same time, one for each address.
    :ivar max_waiting_hashes: secrets that wait for that.
    :ivar free_wrong_secrets: wrong secrets after which the next attempt has to wait.
    :ivar first_wait_s: for how long; each wrong one more doubles it.
    :ivar longest_address_wait_s: at most, for one address.
    :ivar longest_name_wait_s: at most, for one name.
    :ivar wrong_secrets_forgotten_s: time without a wrong one after which they do not count.
    :ivar max_counted_guessers: addresses and names whose wrong secrets are counted.
    :ivar max_mailbox_entries: messages in the log of one owned name, read ones too.
    :ivar max_mailbox_bytes: their size.
    :ivar max_store_bytes: size of everything that is kept, of all names.
    :ivar free_share: part of a log that all senders without an account may fill unread.
    :ivar owner_share: part that one sender with an account may.
    :ivar history_s: for how long read and sent messages are kept; 0 for not at all.
    :ivar unread_lifetime_s: for how long unread ones are.
    :ivar max_unwritten_bytes: messages on their way to the store above which senders are held.
    :ivar stalled_s: time without taking anything after which the only connection of an owned
        name is cut off.
    :ivar max_blocked: names that one name takes nothing from.
    :ivar turn_s: time for one client's lines off the quick path in one turn.
    :ivar max_console_lines_per_s: console lines of one kind; the rest is summed up.
    :ivar max_undelivered_lines_per_s: the same for the undeliverable messages of one connection.
    """

    max_line_bytes: int = 8192
    max_targets: int = 32
    max_watches: int = 128
    max_rooms_per_client: int = 64
    max_rooms: int = 10_000
    max_kept_rooms: int = 32
    max_members: int = 10_000
    max_refs: int = 1000
    ref_lifetime_s: float = 600.0
    max_refused_first_lines: int = 3
    max_clients: int = 20_000
    max_devices: int = 32
    max_unnamed: int = 2_000
    max_per_address: int = 64
    connects_per_min: int = 600
    accounts_per_day: int = 1_000
    addresses_per_site: int = 0
    max_counted_addresses: int = 65_536
    names_per_min: int = 60
    hint_after_s: float = 3.0
    naming_timeout_s: float = 30.0
    lines_per_s: int = 0
    bytes_per_s: int = 0
    burst_s: int = 10
    idle_timeout_s: float = 0.0
    ping_after_s: float = 60.0
    ping_timeout_s: float = 30.0
    high_water_bytes: int = 1 * MIB
    low_water_bytes: int = 512 * KIB
    max_unsent_bytes: int = 512 * MIB
    slow_bytes_per_s: int = 64 * KIB
    slow_s: float = 10.0
    slow_window_s: float = 60.0
    close_grace_s: float = 5.0
    end_of_input_grace_s: float = 10.0
    max_accounts: int = 100_000
    max_running_hashes: int = 2
    max_waiting_hashes: int = 100
    free_wrong_secrets: int = 5
    first_wait_s: float = 1.0
    longest_address_wait_s: float = 900.0
    longest_name_wait_s: float = 60.0
    wrong_secrets_forgotten_s: float = 3600.0
    max_counted_guessers: int = 65_536
    max_mailbox_entries: int = 10_000
    max_mailbox_bytes: int = 64 * MIB
    max_store_bytes: int = 10_240 * MIB
    free_share: float = 0.10
    owner_share: float = 0.25
    history_s: float = 30 * 86_400.0
    unread_lifetime_s: float = 30 * 86_400.0
    max_unwritten_bytes: int = 16 * MIB
    stalled_s: float = 60.0
    max_blocked: int = 1000
    turn_s: float = 0.003
    max_console_lines_per_s: int = 50
    max_undelivered_lines_per_s: int = 10

    @property
    def keeps_history(self) -> bool:
        """Whether anything is kept that was read or sent."""
        return self.history_s > 0

    def fixed(self, others: Limits) -> set[str]:
        """Tell in which ways a running relay with these limits can not become like others."""
        names = {name for name in FIXED if getattr(self, name) != getattr(others, name)}
        if self.keeps_history != others.keeps_history:
            # What goes past the logs of owned names was chosen by it.
            names.add("history_s")
        return names

    def change_to(self, others: Limits) -> None:
        """Become like other limits for everybody who has these, but for what `fixed` tells."""
        fixed = self.fixed(others)
        for field in fields(self):
            if field.name not in fixed:
                object.__setattr__(self, field.name, getattr(others, field.name))


FIXED = frozenset(
    {
        # Its clients were told.
        "max_line_bytes",
        # Threads, and what is counted for a while.
        "max_running_hashes",
        "ref_lifetime_s",
        "slow_window_s",
        "max_unwritten_bytes",
    }
)
"""The names of the limits that a relay has for as long as it runs."""

PUBLIC_LIMITS: Mapping[str, int | float] = MappingProxyType(
    {
        # How many: it takes 300 addresses to fill the relay, and memory for the worst of them.
        "max_clients": 5_000,
        "max_unnamed": 1_000,
        "max_per_address": 16,
        "connects_per_min": 30,
        "accounts_per_day": 20,
        "addresses_per_site": 16,
        # How much of each.
        "max_targets": 8,
        "max_refs": 200,
        "max_rooms_per_client": 32,
        "max_kept_rooms": 8,
        # A line to so many who are away takes the reactor some 25 ms.
        "max_members": 1_000,
        # An address registers twenty names a day: with the logs of a team it has filled all that
        # may be kept in eight.
        "max_mailbox_entries": 1_000,
        "max_mailbox_bytes": 8 * MIB,
        "names_per_min": 10,
        "lines_per_s": 10,
        "bytes_per_s": 16 * KIB,
        "idle_timeout_s": 1800,
        "high_water_bytes": 256 * KIB,
        "low_water_bytes": 128 * KIB,
        "max_unsent_bytes": 256 * MIB,
        # On the disk, what one address can have written there is 2.7 GB a day otherwise.
        "max_console_lines_per_s": 5,
    }
)
"""
What ``--public`` has other defaults for, by the names of the limits: right for strangers.

Each of these can still be given by its option, which then holds; the low-water mark is half of the
high one.
"""
