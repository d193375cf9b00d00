"""The drawing of a sweep: utility against epsilon and against measured leakage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fedkd.metrics.intervals import Interval
from fedkd.report.canvas import CONTROL, METHOD, MUTED, PAPER, REFERENCE, draw_svg

if TYPE_CHECKING:
    from fedkd.report.frontier import ArmResult

_AXES = {
    "epsilon_rdp": "epsilon, proved (RDP)",
    "label_tv": "label inference: TV of the guess (right: safer)",
    "member_auc": "membership AUC (left: safer)",
    "accuracy": "accuracy",
    "semantic_distance": "Semantic Distance (lower is better)",
}
_COLOURS = {"record": METHOD, "party": CONTROL, None: REFERENCE}
_BEYOND = 4.0
_APART = 1.12


def frontier_plot(arms: Sequence[ArmResult]) -> str:
    """Draw accuracy and Semantic Distance (down) against epsilon and leakages (across)."""
    across = [c for c in ("epsilon_rdp", "label_tv", "member_auc") if _there(arms, c)] or [
        "epsilon_rdp"
    ]
    down = [c for c in ("accuracy", "semantic_distance") if _there(arms, c)]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(down), len(across), squeeze=False)
        for row, measure in enumerate(down):
            for column, cost in enumerate(across):
                _panel(panels[row][column], arms, cost, measure)

    size = (4.2 * len(across) + 1, 3.4 * len(down))
    return draw_svg("frontier", "Utility against epsilon and measured leakage", size, draw)


def _panel(panel: Axes, arms: Sequence[ArmResult], across: str, down: str) -> None:
    panel.set(xlabel=_AXES[across], ylabel=_AXES[down])
    panel.grid()
    bounded = [a.measured[across] for a in arms if a.measured[across] is not None]
    most = max((found.mean for found in bounded if found), default=1.0)
    if across == "epsilon_rdp":
        panel.set_xscale("log")
        edge = most * _BEYOND / _APART
        panel.axvline(edge, color=MUTED, lw=0.9, ls=(0, (2, 2)))
        panel.annotate("no guarantee", (edge / 1.08, 0.03),
                       xycoords=("data", "axes fraction"), ha="right", va="bottom", rotation=90,
                       color=MUTED, size=7.5)  # fmt: skip
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v < edge else ""))
        panel.xaxis.set_minor_locator(NullLocator())
    places: dict[float, int] = {}
    for number, arm in enumerate(arms, 1):
        found, value = arm.measured[across], arm.measured[down]
        if value is None or (found is None and across != "epsilon_rdp"):
            continue
        x = most * _BEYOND if found is None else found.mean
        if across == "epsilon_rdp":
            # Arms of one budget stand side by side.
            place = round(x, 1)
            places[place] = places.get(place, -1) + 1
            x *= _APART ** places[place]
        colour = _COLOURS[arm.unit]
        if value.bounds:
            panel.plot([x, x], value.bounds, color=colour, lw=1.3, alpha=0.6)
        if found is not None and found.bounds and found.half_width:
            panel.plot(found.bounds, [value.mean] * 2, color=colour, lw=1.3, alpha=0.6)
        panel.scatter(
            x, value.mean, s=34, marker="s" if arm.unit == "party" else "o", lw=1.4, zorder=3,
            color=PAPER if arm.unit is None else colour, edgecolor=colour,
        )  # fmt: skip
        panel.annotate(
            str(number), (x, value.mean), xytext=(5, 4), textcoords="offset points", size=7
        )


def _there(arms: Sequence[ArmResult], column: str) -> bool:
    found: list[Interval | None] = [arm.measured[column] for arm in arms]
    return any(one is not None for one in found)
