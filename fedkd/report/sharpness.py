"""How much of a gain is meaning and how much is only confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedkd.metrics.intervals import PairedDifference
from fedkd.report.summary import Row, Summary, compare
from fedkd.report.wording import CONTROL, is_control


@dataclass(frozen=True)
class Control:
    """A method beside the cross-entropy student sharpened to the method's own mean entropy.

    ``beyond`` is method minus control, seed by seed: what sharpness does not explain. ``recovered``
    is (baseline - control) / (baseline - method) of the means, the share of the method's gain that
    sharpening alone brings; a measure is absent where the method has no gain that the seeds
    tell from zero.
    """

    row: Row
    control: Row
    baseline: Row
    beyond: Mapping[str, PairedDifference]
    recovered: Mapping[str, float]


def controls(summary: Summary) -> tuple[Control, ...]:
    """Return every method of the summary that has a sharpness control."""
    baseline = summary.row(summary.baseline)
    if baseline is None:
        return ()
    found = []
    for control in filter(is_control, summary.methods):
        row = summary.row(control.name.removeprefix(CONTROL))
        if row is not None:
            found.append(
                Control(
                    row,
                    control,
                    baseline,
                    beyond=compare(row.measures, control.measures),
                    recovered=_recovered(row, control, len(summary.seeds)),
                )
            )
    return tuple(found)


def _recovered(row: Row, control: Row, seeds: int) -> dict[str, float]:
    shares = {}
    for measure in ("semantic_distance", "w1"):
        gain, sharpened = row.paired.get(measure), control.paired.get(measure)
        if gain is None or sharpened is None or gain.interval.mean >= 0:
            continue
        if gain.excludes_zero or seeds == 1:
            shares[measure] = sharpened.interval.mean / gain.interval.mean
    return shares
