"""The page's drawings, each with its caption or the reason why it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.report.folder import LabelFile, Predictions, SeedResult, load_labels, load_predictions
from fedkd.report.party_plots import (
    geometry_plot,
    label_plane,
    partition_plot,
    seconds_plot,
    traffic_plot,
)
from fedkd.report.plots import (
    MOST_NUMBERED,
    comparison_plot,
    confusion_plot,
    reliability_plot,
)
from fedkd.report.summary import Summary
from fedkd.report.wording import CONTROL, is_control, methods_in_order, references_in_order

MOST_TEACHERS = 8
_MOST_PANELS = 12
MOST_PARTIES = 40
_REFERENCE_PANEL = "teachers-mean"


@dataclass(frozen=True)
class Drawing:
    """Inline SVG with its caption; without ``svg`` the caption says what is missing."""

    caption: str
    svg: str | None = None
    wide: bool = True


def drawings(results: tuple[SeedResult, ...], summary: Summary) -> dict[str, Drawing]:
    """Return every drawing of the page by name."""
    labels = next((f for f in (load_labels(r.folder) for r in results) if f is not None), None)
    predictions = _predictions(results, summary, labels)
    return {
        "comparison": _comparison(summary),
        "reliability": _reliability(predictions, summary),
        "confusion": _confusion(predictions, labels),
        "geometry": _geometry(labels),
        "partition": _partition(results[0], labels),
        "traffic": _traffic(results),
        "seconds": _seconds(results),
    }


def mean_traffic(results: Sequence[SeedResult]) -> dict[str, tuple[float, float]]:
    """Return each party's bytes (up, down), the mean over the seeds that counted them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        for party, both in (result.values.get("bytes") or {}).items():
            found.setdefault(party, []).append((both.get("up", 0), both.get("down", 0)))
    return {
        party: (sum(u for u, _ in pairs) / len(pairs), sum(d for _, d in pairs) / len(pairs))
        for party, pairs in found.items()
    }


def _predictions(
    results: tuple[SeedResult, ...], summary: Summary, labels: LabelFile | None
) -> dict[str, Predictions]:
    names = [row.name for row in methods_in_order(summary)][: _MOST_PANELS - 1]
    loaded = {key: load_predictions(results, key) for key in (_REFERENCE_PANEL, *names)}
    return {
        key: rows
        for key, rows in loaded.items()
        if rows is not None and (labels is None or rows.probs.shape[1] == len(labels.names))
    }


def _comparison(summary: Summary) -> Drawing:
    rows = (*references_in_order(summary, MOST_TEACHERS), *methods_in_order(summary))
    spread = (
        "Bars are 95 % intervals over seeds; pale dots are single seeds"
        if len(summary.seeds) > 1
        else "One seed, so there are no intervals"
    )
    control = (
        " Hollow: sharpness controls, which are not methods."
        if any(map(is_control, summary.methods))
        else ""
    )
    return Drawing(
        f"{spread}. Grey: references. Blue: methods.{control} "
        f"The dotted line is {summary.baseline}; arrows point to the better end.",
        comparison_plot(summary, rows),
    )


def _reliability(predictions: Mapping[str, Predictions], summary: Summary) -> Drawing:
    if not predictions:
        return Drawing("Reliability is left out: no seed folder has usable predictions.npz.")
    methods = len(summary.methods)
    cut = f" The first {_MOST_PANELS - 1} of {methods} methods." if methods >= _MOST_PANELS else ""
    return Drawing(
        "How often the most probable label is right (up) when it is given this probability "
        "(across), all parties and seeds pooled. On the dotted line a probability means what it "
        "says; below it the student is too sure. Grey bars are the share of rows, and dots grow "
        f"with it.{cut}",
        reliability_plot(predictions),
    )


def _confusion(predictions: Mapping[str, Predictions], labels: LabelFile | None) -> Drawing:
    if not predictions or labels is None:
        missing = "labels.json" if predictions else "usable predictions.npz"
        return Drawing(f"Confusions are left out: no seed folder has {missing}.")
    few = len(labels.names) <= MOST_NUMBERED
    numbers = " Its number is the share alone, in percent." if few else ""
    return Drawing(
        "Truth down, prediction across. The colour of a cell is the share of that truth's rows "
        "times the ground cost, so that the darkest cells are those that cost most, not those "
        f"that are most frequent.{numbers} All panels share one scale. Sharpness "
        "controls predict the same labels as cross-entropy and are left out.",
        confusion_plot(
            {name: p for name, p in predictions.items() if not name.startswith(CONTROL)}, labels
        ),
    )


def _geometry(labels: LabelFile | None) -> Drawing:
    if labels is None:
        return Drawing("Label geometry is left out: no seed folder has labels.json.")
    plane = label_plane(labels)
    if plane is None:
        return Drawing(
            f"Label geometry ({labels.geometry}) is left out: every two labels cost the same, so "
            "the ground cost carries no semantics."
        )
    caption = f"Where the labels lie: {plane.origin}. Geometry of the cost: {labels.geometry}."
    return Drawing(caption, geometry_plot(labels, plane), wide=False)


def _partition(result: SeedResult, labels: LabelFile | None) -> Drawing:
    parties = result.values.get("parties") or {}
    counts = {name: p["label_counts"] for name, p in parties.items() if p.get("label_counts")}
    if labels is None or not counts or {len(c) for c in counts.values()} != {len(labels.names)}:
        missing = "labels.json" if labels is None else "label counts of parties"
        return Drawing(f"The partition is left out: the run has no {missing}.")
    largest = sorted(counts, key=lambda name: -sum(counts[name]))[:MOST_PARTIES]
    shown = {name: counts[name] for name in counts if name in set(largest)}
    cut = f" The {MOST_PARTIES} largest of {len(counts)}." if len(shown) < len(counts) else ""
    rows = _transfer_rows(result.values)
    transfer = "" if rows is not None else " The run does not say how large its transfer set is."
    return Drawing(
        f"Private training rows of each party by label, as dealt with seed {result.seed}."
        f"{cut}{transfer}",
        partition_plot(shown, labels, rows),
    )


def _traffic(results: Sequence[SeedResult]) -> Drawing:
    traffic = mean_traffic(results)
    if not traffic:
        return Drawing("Traffic is left out: the run counted no bytes.")
    largest = sorted(traffic, key=lambda name: -sum(traffic[name]))[:MOST_PARTIES]
    shown = {name: traffic[name] for name in traffic if name in set(largest)}
    cut = f" The {MOST_PARTIES} largest of {len(traffic)}." if len(shown) < len(traffic) else ""
    caption = f"Bytes that each party sent and was sent, mean over seeds.{cut}"
    return Drawing(caption, traffic_plot(shown), wide=False)


def _seconds(results: Sequence[SeedResult]) -> Drawing:
    found: dict[str, list[float]] = {}
    for result in results:
        for stage, seconds in (result.values.get("seconds") or {}).items():
            found.setdefault(stage, []).append(float(seconds))
    if not found:
        return Drawing("Time is left out: the run measured none.")
    dots = "; dots are single seeds" if len(results) > 1 else ""
    caption = f"Seconds of each stage, mean over seeds{dots}."
    return Drawing(caption, seconds_plot(found), wide=False)


def _transfer_rows(values: Mapping[str, Any]) -> int | None:
    rows = values.get("transfer_rows")
    return None if rows is None else int(rows)
