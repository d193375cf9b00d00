"""Drawings of the audit: what labels a server infers, and how well it tells members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedkd.report.canvas import CONTROL, METHOD, MUTED, REFERENCE, draw_svg, shorten

MOST_SHOWN = 20
ATTACKS = {
    "confidence": (METHOD, "confidence"),
    "cooperative-lira": (CONTROL, "co-operative LiRA"),
    "distilled-lira": ("#7d5ba6", "distilled LiRA"),
}
_GUESSES = {
    "tv": (METHOD, "o", "releases"),
    "tv_inverted": (CONTROL, "o", "mechanism undone"),
    "constant_tv": (REFERENCE, "|", "best single guess"),
    "uniform_tv": (REFERENCE, "x", "uniform guess"),
}


def label_plot(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Draw each party's total variation: releases, mechanism undone, and the two blind guesses."""
    names = list(dict.fromkeys(party for seed in seeds for party in seed))[:MOST_SHOWN]

    def draw(figure: Figure) -> None:
        panel = _panel(figure, names)
        for key, (colour, marker, text) in _GUESSES.items():
            for row, party in enumerate(names):
                place = row + 0.16 * (key == "tv_inverted")
                values = [seed[party][key] for seed in seeds if party in seed]
                told = text if row == 0 else None
                _dots(panel, values, place, colour=colour, marker=marker, text=told)
        panel.set_xlabel("total variation to the true label distribution")
        panel.set_xlim(left=0)
        _legend(figure, panel)

    return draw_svg("audit-labels", "Label-distribution inference", _size(len(names)), draw)


def membership_plot(seeds: Sequence[Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> str:
    """Draw each party's AUC under each attack, with the first seed's interval."""
    names = list(dict.fromkeys(party for seed in seeds for party in seed))[:MOST_SHOWN]

    def draw(figure: Figure) -> None:
        panel = _panel(figure, names)
        panel.axvline(0.5, color=MUTED, lw=0.9, ls=(0, (2, 2)))
        for step, (attack, (colour, text)) in enumerate(ATTACKS.items()):
            told = False
            for row, party in enumerate(names):
                found = [s[party][attack] for s in seeds if attack in s.get(party, {})]
                if not found:
                    continue
                place = row + 0.24 * (step - 1)
                panel.plot([found[0]["low"], found[0]["high"]], [place] * 2, color=colour, lw=1.6)
                values = [own["auc"] for own in found]
                told_text = None if told else text
                _dots(panel, values, place, colour=colour, marker="o", text=told_text)
                told = True
        panel.set_xlabel("AUC")
        _legend(figure, panel)

    return draw_svg("audit-members", "Membership inference", _size(len(names)), draw)


def _panel(figure: Figure, names: Sequence[str]) -> Axes:
    panel = figure.subplots()
    panel.set_yticks(range(len(names)), [shorten(name) for name in names])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(axis="x")
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)
    return panel


def _dots(
    panel: Axes,
    values: Sequence[float],
    place: float,
    *,
    colour: str,
    marker: str,
    text: str | None,
) -> None:
    if len(values) > 1:
        panel.scatter(values, [place] * len(values), s=9, color=colour, alpha=0.3, marker=marker)
    mean = float(np.mean(values))
    panel.scatter(mean, place, s=34, color=colour, marker=marker, label=text, zorder=3)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, texts = panel.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=max(1, len(texts)))


def _size(rows: int) -> tuple[float, float]:
    return (8.4, 1.3 + 0.34 * rows)
