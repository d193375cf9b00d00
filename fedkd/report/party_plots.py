"""Drawings of the labels, the parties and what the run took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from fedkd.report.canvas import INK, METHOD, MUTED, REFERENCE, RULE, draw_svg, shorten
from fedkd.report.folder import LabelFile
from fedkd.report.wording import byte_text

Colour = tuple[float, float, float]
_MOST_IN_LEGEND = 30


@dataclass(frozen=True)
class LabelPlane:
    """Where labels are drawn: ``points`` (labels, 1 or 2) and in words where they come from."""

    points: NDArray[np.float64]
    origin: str


def label_plane(labels: LabelFile) -> LabelPlane | None:
    """Return the labels' own coordinates where these are 1-d or 2-d, else a map of their cost.

    The map is classical multidimensional scaling (Torgerson 1952) of the ground cost. None where
    every pair of labels costs the same, since a map would show an order that is not there.
    """
    if labels.coordinates is not None and labels.coordinates.shape[1] <= 2:
        return LabelPlane(labels.coordinates, "the labels' own coordinates")
    off = labels.cost[~np.eye(len(labels.names), dtype=bool)]
    if off.size == 0 or np.ptp(off) <= 1e-9 * max(1.0, float(off.max())):
        return None
    squared = ((labels.cost + labels.cost.T) / 2) ** 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    top = np.argsort(values)[::-1][:2]
    kept = np.maximum(values[top], 0)
    share = kept.sum() / np.abs(values).sum()
    return LabelPlane(
        vectors[:, top] * np.sqrt(kept),
        f"classical scaling of the ground cost, {100 * share:.0f} % of its spread in this plane",
    )


def label_colours(labels: LabelFile) -> list[Colour]:
    """Return one colour a label: along a scale where labels lie on a line or are many."""
    count = len(labels.names)
    line = labels.coordinates is not None and labels.coordinates.shape[1] == 1
    if line or count > 10:
        order = (
            np.argsort(np.argsort(labels.coordinates[:, 0]))
            if line and labels.coordinates is not None
            else np.arange(count)
        )
        scale = mpl.colormaps["viridis"](0.06 + 0.88 * order / max(1, count - 1))
    else:
        scale = mpl.colormaps["tab10"](np.arange(count))
    return [(float(r), float(g), float(b)) for r, g, b, _ in scale]


def geometry_plot(labels: LabelFile, plane: LabelPlane) -> str:
    """Draw the labels on their line or in their plane, coloured as in the partition."""
    colours = label_colours(labels)
    line = plane.points.shape[1] == 1

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        x = plane.points[:, 0]
        y = np.zeros_like(x) if line else plane.points[:, 1]
        if line:
            panel.axhline(0, color=RULE, lw=1)
            panel.set_ylim(-1, 1)
            panel.set_yticks([])
            panel.spines["left"].set_visible(False)
        else:
            panel.axhline(0, color=RULE, lw=0.6)
            panel.axvline(0, color=RULE, lw=0.6)
            panel.set_aspect("equal", adjustable="datalim")
        panel.scatter(x, y, s=46, c=colours, zorder=3)
        for place, index in enumerate(np.argsort(x)):
            above = place % 2 == 0
            panel.annotate(
                shorten(labels.names[index], 22),
                (x[index], y[index]),
                xytext=(0, 8 if above else -8),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                size=8,
            )
        panel.margins(0.14)

    return draw_svg("geometry", "Where the labels lie", (4.9, 1.5 if line else 3.9), draw)


def partition_plot(
    counts: Mapping[str, Sequence[int]], labels: LabelFile, transfer_rows: int | None
) -> str:
    """Draw each party's private rows stacked by label, and the unlabelled transfer set."""
    colours = label_colours(labels)
    names = [shorten(name) for name in counts]
    lines = math.ceil(len(labels.names) / 7)
    columns = math.ceil(len(labels.names) / lines)
    table = np.asarray([list(c) for c in counts.values()], np.int64)

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        left = np.zeros(len(names))
        for index, label in enumerate(labels.names):
            panel.barh(
                range(len(names)),
                table[:, index],
                left=left,
                height=0.72,
                color=colours[index],
                label=shorten(label, 24),
            )
            left += table[:, index]
        rows = list(names)
        if transfer_rows is not None:
            panel.barh(len(rows), transfer_rows, height=0.72, color=REFERENCE)
            rows.append("transfer set (public)")
        _bars(panel, rows)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.set_xlabel("rows")
        if len(labels.names) <= _MOST_IN_LEGEND:
            figure.legend(
                loc="outside lower center", ncols=columns, handlelength=1, columnspacing=1.4
            )

    bars = len(names) + (transfer_rows is not None)
    legend = 0.2 * min(lines, 5)
    return draw_svg(
        "partition", "Rows of each party by label", (10, 0.7 + 0.26 * bars + legend), draw
    )


def traffic_plot(traffic: Mapping[str, tuple[float, float]]) -> str:
    """Draw the bytes (up, down) of each party: what it sent and what it was sent."""

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        places = np.arange(len(traffic))
        for offset, index, colour, label in (
            (-0.19, 0, METHOD, "up: party to server"),
            (0.19, 1, REFERENCE, "down: server to party"),
        ):
            sizes = [both[index] for both in traffic.values()]
            panel.barh(places + offset, sizes, height=0.34, color=colour, label=label)
        _bars(panel, [shorten(name) for name in traffic])
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: byte_text(value)))
        figure.legend(loc="outside lower center", ncols=2, handlelength=1)

    return draw_svg("traffic", "Bytes of each party", (4.9, 0.9 + 0.3 * len(traffic)), draw)


def seconds_plot(seconds: Mapping[str, Sequence[float]]) -> str:
    """Draw the mean seconds of each stage, with its seeds as dots."""

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        for place, values in enumerate(seconds.values()):
            panel.barh(place, float(np.mean(values)), height=0.6, color=METHOD, alpha=0.75)
            if len(values) > 1:
                panel.scatter(values, [place] * len(values), s=10, color=INK, alpha=0.5, lw=0)
        _bars(panel, [shorten(name) for name in seconds])
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.set_xlabel("seconds")

    return draw_svg("seconds", "Seconds of each stage", (4.9, 0.8 + 0.24 * len(seconds)), draw)


def _bars(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)
    panel.grid(axis="x")
    panel.xaxis.label.set_color(MUTED)
