"""Drawings of what the methods reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedkd.metrics.calibration import reliability
from fedkd.report.canvas import (
    CONTROL,
    INK,
    METHOD,
    MUTED,
    PAPER,
    REFERENCE,
    RULE,
    draw_svg,
    shorten,
)
from fedkd.report.folder import LabelFile, Predictions
from fedkd.report.summary import Row, Summary
from fedkd.report.wording import CONTROL as CONTROL_PREFIX
from fedkd.report.wording import WORDINGS, is_control

_COMPARED = ("accuracy", "semantic_distance", "w1", "nll")
_COST_COLOURS = LinearSegmentedColormap.from_list("cost", ["#eef2f6", "#f6c58a", "#d0542f"])
MOST_NUMBERED = 12


def comparison_plot(summary: Summary, rows: Sequence[Row]) -> str:
    """Draw each row's mean, 95 % interval and seeds for accuracy, Semantic Distance, W1 and NLL."""
    measures = [m for m in _COMPARED if any(row.measures[m].interval for row in rows)]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for panel, measure in zip(panels, measures, strict=True):
            _compare(panel, summary, rows, measure)
        panels[0].set_yticks(range(len(rows)), [shorten(row.name, 34) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)

    height = 0.75 + 0.25 * len(rows)
    return draw_svg("comparison", "Methods and references compared", (10, height), draw)


def _compare(panel: Axes, summary: Summary, rows: Sequence[Row], measure: str) -> None:
    wording = WORDINGS[measure]
    panel.set_title(f"{wording.title} {wording.arrow}")
    panel.grid(axis="x")
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)
    panel.locator_params(axis="x", nbins=4)
    for place, row in enumerate(rows):
        measured = row.measures[measure]
        if row.name == summary.baseline and measured.interval:
            panel.axvline(measured.interval.mean, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        if measured.interval is None:
            continue
        control = is_control(row)
        colour = CONTROL if control else METHOD if row in summary.methods else REFERENCE
        seeds = [v for v in measured.values if v is not None]
        panel.scatter(seeds, [place] * len(seeds), s=9, color=colour, alpha=0.3, lw=0, zorder=2)
        if measured.interval.bounds:
            panel.plot(measured.interval.bounds, [place] * 2, color=colour, lw=1.8, zorder=3)
        panel.scatter(
            measured.interval.mean,
            place,
            s=30,
            color=PAPER if control else colour,
            edgecolor=colour,
            lw=1.4,
            zorder=4,
        )


def reliability_plot(predictions: Mapping[str, Predictions]) -> str:
    """Draw top-label confidence against accuracy for each named row, rows' share beneath."""

    def draw_one(panel: Axes, name: str) -> None:
        rows = predictions[name]
        bins = reliability(rows.probs, rows.truth)
        used = bins.rows > 0
        panel.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (2, 2)))
        width = bins.edges[1] - bins.edges[0]
        share = bins.rows / bins.rows.sum()
        panel.bar(bins.edges[:-1], share, width=width, align="edge", color=RULE, lw=0)
        panel.plot(bins.confidence[used], bins.accuracy[used], color=METHOD, lw=1.2)
        size = 6 + 60 * np.sqrt(share[used])
        panel.scatter(bins.confidence[used], bins.accuracy[used], s=size, color=METHOD, lw=0)
        panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        panel.set_xticks([0, 0.5, 1])
        panel.set_yticks([0, 0.5, 1])
        panel.grid()

    return _panels("reliability", "Reliability of each method", list(predictions), draw_one)


def confusion_plot(predictions: Mapping[str, Predictions], labels: LabelFile) -> str:
    """Draw for each named row which label is taken for which, coloured by what that costs.

    A cell's number is the share, in percent, of that truth's rows; its colour that share times
    the ground cost between the two labels.
    """
    shares = {name: _confusion(rows, len(labels.names)) for name, rows in predictions.items()}
    costs = {name: share * labels.cost.T for name, share in shares.items()}
    top = max((float(c.max()) for c in costs.values()), default=0.0) or 1.0
    names = [shorten(name, 12) for name in labels.names]

    def draw_one(panel: Axes, name: str) -> None:
        count = len(names)
        mesh = panel.pcolormesh(costs[name], cmap=_COST_COLOURS, vmin=0, vmax=top)
        mesh.set(edgecolor=PAPER, linewidth=1 if count <= MOST_NUMBERED else 0)
        mesh.set_rasterized(count > MOST_NUMBERED)
        panel.set(aspect="equal", xlim=(0, count), ylim=(count, 0))
        shown = np.arange(0, count, math.ceil(count / MOST_NUMBERED))
        panel.set_xticks(shown + 0.5, [names[i] for i in shown], rotation=45, ha="right")
        panel.set_yticks(shown + 0.5, [names[i] for i in shown])
        panel.tick_params(length=0, labelsize=7)
        for spine in panel.spines.values():
            spine.set_visible(False)
        if count <= MOST_NUMBERED:
            for (i, j), share in np.ndenumerate(shares[name]):
                text = f"{100 * share:.0f}" if np.isfinite(share) else ""
                size = 7.5 if count <= 7 else 6
                panel.text(
                    j + 0.5, i + 0.5, text, ha="center", va="center", size=size, color="#111"
                )

    return _panels("confusion", "Confusions weighted by their cost", list(predictions), draw_one)


def _confusion(rows: Predictions, labels: int) -> NDArray[np.float64]:
    flat = np.bincount(rows.truth * labels + rows.probs.argmax(axis=1), minlength=labels * labels)
    counts = flat.reshape(labels, labels).astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _panels(
    name: str, title: str, rows: Sequence[str], draw_one: Callable[[Axes, str], None]
) -> str:
    columns = min(4, len(rows))
    lines = math.ceil(len(rows) / columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, squeeze=False)
        for place, panel in enumerate(grid.flat):
            if place < len(rows):
                title = rows[place].replace(CONTROL_PREFIX, "CE^γ of ")
                panel.set_title(shorten(title, 28), color=INK, size=8)
                panel.tick_params(axis="y", labelcolor=MUTED)
                draw_one(panel, rows[place])
            else:
                panel.set_visible(False)

    return draw_svg(name, title, (2.5 * columns, 2.6 * lines), draw)
