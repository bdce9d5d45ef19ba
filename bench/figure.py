"""The figure of the documentation: bars with spread, one panel for each work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Entry, Results, Spread
from bench.works import MEASURES, SECURED, WORKS, Measure

_OURS, _NATS, _OTHERS, _LIMIT = "#1f5fa8", "#6b6b6b", "#b9b9b9", "#e3d9c0"
_PREFERRED_SIZE = 64
_COLUMNS = 2
# Round trips differ by that much; on one scale all but the worst would be invisible.
_LOGARITHMIC = 30
_IN_TURN = ("a", "b", "c", "d", "e")

mpl.rcParams["svg.hashsalt"] = "chatrelay"  # the same figures give the same file
mpl.rcParams["svg.fonttype"] = "none"  # letters instead of their outlines, a fifth of the size


def draw(results: Results, path: Path) -> None:
    """
    Draw one run.

    :param path: where to; its ending says in which format.
    """
    panels = list(_panels(results))
    rows = (len(panels) + _COLUMNS - 1) // _COLUMNS
    figure = Figure(figsize=(11, 2.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis, (title, measure, entries) in zip(axes, panels, strict=False):
        _bars(axis, title, measure, entries)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle("Bars: the median of the rounds. Lines: the least and the most.", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panels(results: Results) -> list[tuple[str, Measure, list[Entry]]]:
    panels = []
    for work in _IN_TURN:
        sizes = [size for found, size in results.groups() if found == work]
        if not sizes:
            continue
        size = _PREFERRED_SIZE if _PREFERRED_SIZE in sizes else sizes[0]
        texts = f", {size} bytes" if size else ""
        for measure in MEASURES[work]:
            entries = [entry for entry in results.group(work, size) if entry.spread(measure.key)]
            what = {"d": "round trip", "e": "idle clients"}.get(work, WORKS[work])
            better = "more is better" if measure.key == "rate" else "less is better"
            title = f"({work}) {what}{texts}\n{measure.title}, {measure.unit}; {better}"
            if entries:
                panels.append((title, measure, entries))
    return panels


def _bars(axis: Any, title: str, measure: Measure, entries: Sequence[Entry]) -> None:  # noqa: ANN401
    spreads = [_scaled(entry.spread(measure.key), measure.scale) for entry in entries]
    medians = [spread.median for spread in spreads]
    axis.barh(
        range(len(entries)),
        medians,
        color=[_color(entry) for entry in entries],
        xerr=[
            [spread.median - spread.least for spread in spreads],
            [spread.most - spread.median for spread in spreads],
        ],
        error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2},
    )
    for place, spread in enumerate(spreads):
        axis.annotate(
            f" {spread.median:,.3g}" if spread.median < 1000 else f" {spread.median:,.0f}",
            (spread.most, place),
            va="center",
            fontsize=7,
        )
    axis.set_yticks(range(len(entries)), [entry.label for entry in entries], fontsize=8)
    axis.invert_yaxis()
    most, least = max(spread.most for spread in spreads), min(spread.least for spread in spreads)
    if most > _LOGARITHMIC * least and measure.key != "rate":
        axis.set_xscale("log")
        axis.set_xlim(least / 2, most * 4)
    else:
        axis.set_xlim(0, most * 1.15)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(title, fontsize=8, loc="left")
    axis.spines[["top", "right"]].set_visible(False)


def _scaled(spread: Spread | None, scale: float) -> Spread:
    if spread is None:
        raise ValueError("a bar needs a value")
    return Spread(spread.median / scale, spread.least / scale, spread.most / scale)


def _color(entry: Entry) -> str:
    if entry.is_ours:
        return _OURS
    return {"nats": _NATS, "forward": _LIMIT}.get(entry.relay.removesuffix(SECURED), _OTHERS)
