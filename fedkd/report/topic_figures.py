"""What the report of a topic run shows, and its drawings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedkd.errors import DataError, expected
from fedkd.report.canvas import INK, METHOD, MUTED, PAPER, REFERENCE, draw_svg, shorten

Floats = NDArray[np.float64]
Kind = Literal["reference", "teacher", "student"]
MOST_NUMBERED, MOST_PANELS = 16, 12
_LIKENESS = LinearSegmentedColormap.from_list("likeness", ["#eef2f6", "#8fb6dc", "#1f5c99"])


@dataclass(frozen=True)
class TopicMeasure:
    """A column of the table: ``title``, the better end (None: neither) and its decimals."""

    key: str
    title: str
    higher_is_better: bool | None = True
    decimals: int = 3


@dataclass(frozen=True)
class TopicModelRow:
    """A model's line: ``values`` by measure key, one a seed, None where it was not measured."""

    name: str
    kind: Kind
    values: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class PartyTopics:
    """A party's topics beside the student's.

    ``words`` hold each topic's top words, best first; ``likeness`` (student topics, party topics)
    lies in [0, 1], 1 for the same topic; ``coherence`` (party topics,) may be None.
    """

    name: str
    words: tuple[tuple[str, ...], ...]
    likeness: Floats
    coherence: Floats | None = None


@dataclass(frozen=True)
class TopicReport:
    """All that the section on topics needs; nothing in it is read from a file.

    ``models`` have as many values a measure as there are ``seeds``; differences are taken from
    ``baseline``, where it names one of them. ``words``, ``coherence`` (topics,) and ``parties``
    belong to one student, ``student``, of one seed, ``shown_seed``. ``likeness`` and
    ``coherence_name`` say in words what was measured.
    """

    seeds: tuple[int, ...]
    measures: tuple[TopicMeasure, ...]
    models: tuple[TopicModelRow, ...]
    student: str
    shown_seed: int
    words: tuple[tuple[str, ...], ...]
    coherence: Floats
    parties: tuple[PartyTopics, ...] = ()
    baseline: str | None = None
    coherence_name: str = "NPMI"
    likeness: str = "share of mass that two word distributions have in common"
    notes: tuple[str, ...] = ()


def check_report(report: TopicReport) -> None:
    """Raise :class:`DataError` where shapes do not belong together."""
    topics = len(report.words)
    if topics == 0 or report.coherence.shape != (topics,):
        raise DataError(
            expected("coherence.shape", report.coherence.shape, f"be ({topics},) with a topic",
                     "one value a topic")
        )  # fmt: skip
    for party in report.parties:
        shape = (topics, len(party.words))
        if party.likeness.shape != shape or not len(party.words):
            raise DataError(
                expected(f"likeness of {party.name}", party.likeness.shape, f"be {shape}",
                         "one row a topic of the student")
            )  # fmt: skip
    for model in report.models:
        for key, values in model.values.items():
            if len(values) != len(report.seeds):
                raise DataError(
                    expected(f"{key} of {model.name}", len(values),
                             f"be one value a seed, {len(report.seeds)}", "None for a missing one")
                )  # fmt: skip


def topic_order(report: TopicReport) -> NDArray[np.int64]:
    """Return the student's topics, most coherent first; topics without a value last."""
    order: NDArray[np.int64] = np.argsort(-np.nan_to_num(report.coherence, nan=-np.inf))
    return order


def coherence_plot(report: TopicReport) -> str:
    """Draw each topic's coherence as a bar, with that of the parties' most alike topics as dots."""
    order = topic_order(report)
    names = [_name(report.words[topic], topic) for topic in order]
    dots = [
        [
            float(party.coherence[party.likeness[topic].argmax()])
            for party in report.parties
            if party.coherence is not None
        ]
        for topic in order
    ]

    def draw(figure: Figure) -> None:
        panel = figure.subplots()
        places = np.arange(len(order))
        panel.barh(places, np.nan_to_num(report.coherence[order]), height=0.62, color=METHOD, lw=0)
        for place, values in enumerate(dots):
            panel.scatter(values, [place] * len(values), s=13, color=PAPER, edgecolor=INK, lw=0.8,
                          zorder=3)  # fmt: skip
        panel.axvline(0, color=MUTED, lw=0.9)
        mean = float(np.nanmean(report.coherence)) if np.isfinite(report.coherence).any() else 0.0
        panel.axvline(mean, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        panel.set_yticks(places, names)
        panel.set_ylim(len(order) - 0.4, -0.6)
        panel.set_xlabel(report.coherence_name)
        panel.tick_params(length=0)
        panel.spines["left"].set_visible(False)
        panel.grid(axis="x")

    height = 0.8 + 0.2 * len(order)
    return draw_svg("topic-coherence", "Coherence of each topic", (8.4, height), draw)


def alignment_plot(report: TopicReport) -> str:
    """Draw how alike the student's topics and each party's are, one panel a party.

    A party's topics are put in the order in which they best follow the student's, so that a good
    alignment shows as a diagonal. At most the first twelve parties.
    """
    order = topic_order(report)
    parties = report.parties[:MOST_PANELS]
    widths = [len(party.words) for party in parties]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(
            1, len(widths), sharey=True, squeeze=False, width_ratios=widths
        )[0]  # fmt: skip
        for panel, party in zip(panels, parties, strict=True):
            _align(panel, report, party, order)
        panels[0].set_yticks(
            np.arange(len(order)) + 0.5, [_name(report.words[topic], topic) for topic in order]
        )
        figure.colorbar(panels[-1].collections[0], ax=panels.tolist(), shrink=0.6, aspect=25)

    width = min(16.0, 3.4 + 0.2 * sum(widths))
    height = 1.1 + 0.2 * len(order)
    return draw_svg("topic-alignment", "Topics of student and parties", (width, height), draw)


def _align(panel: Axes, report: TopicReport, party: PartyTopics, order: NDArray[np.int64]) -> None:
    likeness = party.likeness[order]
    columns = np.lexsort((-likeness.max(axis=0), likeness.argmax(axis=0)))
    top = max(float(p.likeness.max()) for p in report.parties) or 1.0
    mesh = panel.pcolormesh(likeness[:, columns], cmap=_LIKENESS, vmin=0, vmax=top)
    mesh.set(edgecolor=PAPER, linewidth=0.5 if len(columns) <= MOST_NUMBERED else 0)
    mesh.set_rasterized(len(columns) * len(order) > MOST_NUMBERED**2)
    for row, column in enumerate(likeness[:, columns].argmax(axis=1)):
        panel.plot(column + 0.5, row + 0.5, "o", ms=2.6, color=PAPER, mec=INK, mew=0.6)
    panel.set(xlim=(0, len(columns)), ylim=(len(order), 0))
    panel.set_title(shorten(party.name, 18), size=8)
    if len(columns) <= MOST_NUMBERED:
        panel.set_xticks(np.arange(len(columns)) + 0.5, [str(c + 1) for c in columns])
    else:
        panel.set_xticks([])
    panel.tick_params(length=0, labelsize=7)
    panel.tick_params(axis="x", labelcolor=REFERENCE)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _name(words: tuple[str, ...], topic: int) -> str:
    return f"{shorten(', '.join(words[:3]), 34)} · {topic + 1}"
