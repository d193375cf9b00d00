"""The report's part on subclasses: how used, how they lie, and texts that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedkd.report.canvas import INK, MUTED, draw_svg, shorten
from fedkd.report.figures import Drawing
from fedkd.report.folder import SeedResult, read_json

MOST_HEADS = 14
_COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Subclasses:
    """Drawings and example texts of one method; ``examples`` are (label, subclass, texts)."""

    title: str
    usage: Drawing
    plane: Drawing
    examples: tuple[tuple[str, str, tuple[str, ...]], ...]


def subclasses(results: tuple[SeedResult, ...]) -> Subclasses | None:
    """Return the part for the first method with subclasses in the first seed that has one.

    None where no method has them, or what the seed's ``subclasses`` folder holds is broken.
    """
    for result in results:
        files = (read_json(file) for file in sorted((result.folder / "subclasses").glob("*.json")))
        known = {str(f["method"]): f for f in files if isinstance(f, dict) and "method" in f}
        for method in result.values["methods"]:
            if method in known:
                try:
                    return _part(known[method], result.seed)
                except (KeyError, IndexError, TypeError, ValueError):
                    return None
    return None


def _part(facts: dict[str, Any], seed: int) -> Subclasses:
    usage = np.asarray(facts["usage"], np.float64)
    heads, labels = list(facts["heads"])[:MOST_HEADS], list(facts["labels"])
    place = facts["map"]
    cut = f" The first {MOST_HEADS} of {len(usage)}." if len(usage) > MOST_HEADS else ""
    label, head = labels[place["label"]], heads[place["head"]]
    return Subclasses(
        title=f"{facts['method']}, seed {seed}",
        usage=Drawing(
            "Share of each subclass among the transfer rows of its label, for each teacher. Equal "
            f"shares are not the aim, but one subclass alone says nothing.{cut}",
            _usage_plot(usage[: len(heads)], heads, labels),
        ),
        plane=Drawing(
            f"Transfer rows that are likely “{label}”, in the plane where what {head} said of "
            "their subclasses spreads most; the colour is the likeliest subclass, an arrow where "
            "it pulls.",
            _plane_plot(np.asarray(place["points"]), np.asarray(place["arrows"])),
            wide=False,
        ),
        examples=tuple(
            (name, str(number + 1), tuple(shorten(text, 150) for text in texts))
            for name, each in zip(labels, facts["examples"], strict=True)
            for number, texts in enumerate(each)
            if texts
        ),
    )


def _usage_plot(usage: np.ndarray[Any, Any], heads: list[str], labels: list[str]) -> str:
    def draw_one(panel: Axes, label: int) -> None:
        before = np.zeros(len(heads))
        for number in range(usage.shape[2]):
            share = usage[:, label, number]
            colour = _COLOURS[number % len(_COLOURS)]
            panel.barh(range(len(heads)), share, left=before, color=colour, height=0.7, lw=0)
            before += share
        panel.set(xlim=(0, 1), ylim=(len(heads) - 0.5, -0.5))
        panel.set_title(shorten(labels[label], 24), color=INK)
        panel.set_yticks(range(len(heads)), [shorten(name, 24) for name in heads])
        panel.tick_params(length=0)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for panel, label in zip(panels, shown, strict=True):
            draw_one(panel, label)

    shown = range(min(4, len(labels)))
    height = max(1.5, 0.8 + 0.25 * len(heads))
    return draw_svg("subclass-usage", "Use of each subclass", (10, height), draw)


def _plane_plot(points: np.ndarray[Any, Any], arrows: np.ndarray[Any, Any]) -> str:
    reach = float(np.abs(points[:, :2]).max()) or 1.0

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        for number, arrow in enumerate(arrows):
            own = points[points[:, 2] == number]
            colour = _COLOURS[number % len(_COLOURS)]
            panel.scatter(own[:, 0], own[:, 1], s=10, color=colour, alpha=0.6, lw=0)
            x, y = 0.8 * reach * arrow
            panel.annotate(
                "", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6}
            )
            panel.text(1.1 * x, 1.1 * y, str(number + 1), color=INK, ha="center", va="center")
        edge = (-1.15 * reach, 1.15 * reach)
        panel.set(xticks=[], yticks=[], xlim=edge, ylim=edge, aspect="equal")
        panel.set_xlabel("first axis", color=MUTED)
        panel.set_ylabel("second axis", color=MUTED)

    return draw_svg("subclass-plane", "Rows of one label by subclass", (5, 4.4), draw)
