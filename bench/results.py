"""What was measured: medians, spreads and ratios, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from bench.works import (
    AGAINST_THE_BEST,
    BARE,
    BASE,
    DELIVERED,
    LIMIT,
    MEASURES,
    SECURED,
    THROUGHPUT,
    WORKS,
    Measure,
)

# A generator that is this busy may be what is measured.
_BUSY_SHARE = 0.95
# Other programs that take more of a core change what the relays get.
_DISTURBING_SHARE = 0.25


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of these values; ``None`` of none."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Entry:
    """
    One relay at one work with one size of text.

    :ivar found: what the generator found in each round.
    """

    work: str
    size: int
    relay: str
    label: str
    found: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is a chatrelay, or a variant of it."""
        return self.relay.startswith("chatrelay") or self.label == self.relay

    def values(self, key: str) -> dict[int, float]:
        """One figure, by round."""
        return {number: found[key] for number, found in self.found.items() if key in found}

    def spread(self, key: str) -> Spread | None:
        """One figure over the rounds."""
        return Spread.of(list(self.values(key).values()))

    def ratio(self, to: Entry, key: str) -> Spread | None:
        """One figure as a ratio to another relay's in the same round."""
        own, other = self.values(key), to.values(key)
        return Spread.of([own[number] / other[number] for number in own if other.get(number)])

    def keeps(self) -> str:
        """What is on the disk when a message is confirmed, where that was told."""
        told = {str(found["keeps"]) for found in self.found.values() if "keeps" in found}
        return "; ".join(sorted(told))

    def remarks(self) -> list[str]:
        """What to know before reading the figures."""
        remarks = sorted({found["error"] for found in self.found.values() if "error" in found})
        own, server = self.spread("generator_share"), self.spread("server_share")
        if own is not None and own.median >= _BUSY_SHARE:
            remarks.append("the generator is the bottleneck")
        elif own is not None and server is not None:
            cores = os.cpu_count() or 1
            if own.median + server.median >= _BUSY_SHARE * cores:
                remarks.append(f"all {cores} cores busy")
        others = self.spread("others_share")
        if others is not None and others.most >= _DISTURBING_SHARE:
            remarks.append(f"other programs took up to {others.most:.0%} of a core")
        agreed = {str(found["tls"]) for found in self.found.values() if "tls" in found}
        remarks += sorted(agreed)
        loaded = sorted({str(found.get("loaded_error", "")) for found in self.found.values()})
        return remarks + [f"under load: {error}" for error in loaded if error]


class Results:
    """Everything that one run has found."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int, str], Entry] = {}
        self._syncs: dict[int, tuple[float, float]] = {}
        self._file_system = ""

    def add(
        self, work: str, size: int, relay: str, label: str, number: int, found: dict[str, Any]
    ) -> None:
        """Note what one measurement found in a round."""
        entry = self.entries.setdefault((work, size, relay), Entry(work, size, relay, label))
        entry.found[number] = found

    def note_disk(self, number: int, file_system: str, median_us: float, most_us: float) -> None:
        """
        Note where servers keep what they confirm, and what a sync takes there in a round.

        :param median_us: microseconds of a sync after 64 bytes were appended.
        :param most_us: their 99th percentile.
        """
        self._file_system = file_system
        self._syncs[number] = (median_us, most_us)

    def in_words(self, work: str, found: dict[str, Any]) -> str:
        """One measurement in a few words."""
        return ", ".join(
            f"{measure.title} {_figure(found[measure.key] / measure.scale)} {measure.unit}"
            for measure in MEASURES[work]
            if measure.key in found
        )

    def groups(self) -> list[tuple[str, int]]:
        """Which works with which sizes there are."""
        return sorted({(work, size) for work, size, _ in self.entries})

    def group(self, work: str, size: int) -> list[Entry]:
        """The relays at one work with one size."""
        return [
            entry for entry in self.entries.values() if (entry.work, entry.size) == (work, size)
        ]

    def beside(self, entry: Entry, relay: str) -> Entry | None:
        """
        What one entry is compared with: another relay at the same work and size.

        Over TLS it is the other relay over TLS.
        """
        suffix = SECURED if entry.relay.endswith(SECURED) else ""
        return self.entries.get((entry.work, entry.size, relay + suffix))

    def compared(self, entry: Entry) -> tuple[str, Entry | None]:
        """What the table compares an entry with: how that is called there, and its figures."""
        if entry.work in AGAINST_THE_BEST:
            return "to the best other", self._best_other(entry)
        if entry.work == "history":
            return "to no data", self.beside(entry, BARE)
        base = self.beside(entry, BASE)
        return "to nats-server" if base else "", base

    def _best_other(self, entry: Entry) -> Entry:
        """In each round whoever confirmed most, ourselves aside."""
        best = Entry(entry.work, entry.size, "best", "the best other")
        for other in self.group(entry.work, entry.size):
            for number, rate in other.values("rate").items():
                if not other.is_ours and rate > best.values("rate").get(number, 0.0):
                    best.found[number] = other.found[number]
        return best

    def unsecured(self, entry: Entry) -> Entry | None:
        """The same relay without TLS; ``None`` of one that has none, or was not measured so."""
        plain = entry.relay.removesuffix(SECURED)
        if plain == entry.relay:
            return None
        return self.entries.get((entry.work, entry.size, plain))

    def table(self) -> str:
        """Everything as text."""
        lines = []
        for work, size in self.groups():
            entries = self.group(work, size)
            texts = f", {size}-byte texts" if size else ""
            for measure in MEASURES[work]:
                lines.append(f"({work}) {WORKS[work]}{texts}: {measure.title}, {measure.unit}")
                lines.extend(self._rows(entries, measure))
                lines.append("")
            lines.extend(_durability(entries))
        lines += self._disk()
        for measure in (THROUGHPUT, DELIVERED):
            lines += self._matrix(measure)
        return "\n".join(lines)

    def _rows(self, entries: Sequence[Entry], measure: Measure) -> list[str]:
        has_cpu = measure.key.endswith("rate")
        heads = f"{'CPU s/M':>9}{'server':>8}{'generator':>11}{'others':>8}" if has_cpu else ""
        compared_with = self.compared(entries[0])[0]
        lines = [f"  {'':20}{'median':>9}  {'least..most':19}{compared_with:22}{heads}"]
        for entry in entries:
            spread = entry.spread(measure.key)
            remarks = "; ".join(self._remarks(entry, measure))
            if spread is None:
                if remarks:
                    lines.append(f"  {entry.label:20}{'-':>9}  {remarks}")
                continue
            scale = measure.scale
            median, least, most = (
                _figure(value / scale) for value in (spread.median, spread.least, spread.most)
            )
            _, base = self.compared(entry)
            ratio = _shown(entry.ratio(base, measure.key)) if base else ""
            line = f"  {entry.label:20}{median:>9}  {f'{least}..{most}':19}{ratio:22}"
            if has_cpu:
                line += _cpu(entry, measure.key.removesuffix("rate"))
            lines.append(f"{line}  {remarks}".rstrip())
        return lines

    def _remarks(self, entry: Entry, measure: Measure) -> list[str]:
        plain = self.unsecured(entry)
        ratio = entry.ratio(plain, measure.key) if plain else None
        return [f"{_shown(ratio)} of that without TLS"] * bool(ratio) + entry.remarks()

    def _disk(self) -> list[str]:
        if not self._syncs:
            return []
        medians, most = zip(*self._syncs.values(), strict=True)
        return [
            f"On {self._file_system}, 64 bytes appended are synced in"
            f" {statistics.median(medians):.0f} microseconds"
            f" ({min(medians):.0f}..{max(medians):.0f} in the rounds),"
            f" one of a hundred in {statistics.median(most):.0f}.",
            "",
        ]

    def _matrix(self, measure: Measure) -> list[str]:
        """One figure of ours as a ratio to everybody's, at one glance."""
        lines: list[str] = []
        groups = [(work, size) for work, size in self.groups() if measure in MEASURES[work]]
        if not groups:
            return lines
        ours = sorted({name for _, _, name in self.entries if name.startswith("chatrelay")})
        for our in ours:
            others = {
                entry.relay: entry.label for entry in self.entries.values() if entry.relay != our
            }
            lines.append(f"{our}: {measure.title} a second, as a ratio to each other relay")
            widths = {other: max(20, len(label) + 2) for other, label in others.items()}
            heads = (f"{label:>{widths[other]}}" for other, label in others.items())
            lines.append(f"  {'':24}" + "".join(heads))
            for work, size in groups:
                own = self.entries.get((work, size, our))
                if own is None:
                    continue
                line = f"  {f'({work}) {size} bytes':24}"
                for other in others:
                    entry = self.entries.get((work, size, other))
                    ratio = own.ratio(entry, measure.key) if entry else None
                    line += f"{_shown(ratio):>{widths[other]}}"
                lines.append(line)
            lines.append("")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON: where it was measured, every round, medians and ratios."""
        rows = []
        for entry in self.entries.values():
            base, limit = self.beside(entry, BASE), self.beside(entry, LIMIT)
            plain, (_, compared) = self.unsecured(entry), self.compared(entry)
            figures = {}
            for measure in MEASURES[entry.work]:
                figures[measure.key] = {
                    "spread": _plain(entry.spread(measure.key)),
                    "to_nats": _plain(entry.ratio(base, measure.key) if base else None),
                    "to_compared": _plain(entry.ratio(compared, measure.key) if compared else None),
                    "to_unparsed": _plain(entry.ratio(limit, measure.key) if limit else None),
                    "to_unsecured": _plain(entry.ratio(plain, measure.key) if plain else None),
                }
            rows.append(
                {
                    "work": entry.work,
                    "size": entry.size,
                    "relay": entry.relay,
                    "label": entry.label,
                    "figures": figures,
                    "remarks": entry.remarks(),
                    "rounds": entry.found,
                }
            )
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "twisted": version("twisted"),
        }
        disk = {"file_system": self._file_system, "sync_us": self._syncs}
        return {"machine": machine, "disk": disk, "rows": rows}


def _durability(entries: Sequence[Entry]) -> list[str]:
    """What of a message is on the disk once it is confirmed, which figures say nothing about."""
    told = [f"    {entry.label:18}{entry.keeps()}" for entry in entries if entry.keeps()]
    return ["  When a sender reads the confirmation, the message is", *told, ""] if told else []


def _cpu(entry: Entry, which: str) -> str:
    """The columns of what was used, for the figure whose key begins like this."""
    per_million = entry.spread(f"{which}cpu_s_per_million")
    line = f"{per_million.median:>9.3g}" if per_million else f"{'-':>9}"
    for key, width in (("server_share", 8), ("generator_share", 11), ("others_share", 8)):
        share = entry.spread(which + key)
        line += f"{f'{share.median:.0%}' if share else '-':>{width}}"
    return line


def _figure(value: float) -> str:
    """A figure with as many digits as one can take seriously."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _shown(ratio: Spread | None) -> str:
    if ratio is None:
        return "-"
    median, least, most = (
        f"{value:.2f}" if value < 10 else _figure(value)
        for value in (ratio.median, ratio.least, ratio.most)
    )
    return f"{median} ({least}..{most})"


def _plain(spread: Spread | None) -> dict[str, float] | None:
    return vars(spread) if spread else None
