"""What several seeds say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedkd.errors import DataError, expected

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % Student-t interval; no half width for one seed."""

    mean: float
    half_width: float | None
    seeds: int

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends, or None for one seed."""
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width


@dataclass(frozen=True)
class PairedDifference:
    """The difference from a baseline, seed by seed.

    ``lower`` and ``higher`` count the seeds on which the value is below and above the baseline's.
    """

    interval: Interval
    lower: int
    higher: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero; never so for one seed."""
        bounds = self.interval.bounds
        return bounds is not None and (bounds[0] > 0 or bounds[1] < 0)


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of ``values``, one a seed, and its 95 % Student-t interval.

    Raises :class:`DataError` where there is no value.
    """
    count = len(values)
    if count == 0:
        raise DataError(expected("seeds", 0, "be at least 1", "`fedkd run` first"))
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, None, 1)
    error = float(np.std(np.asarray(values, np.float64), ddof=1)) / math.sqrt(count)
    return Interval(mean, float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error, count)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """Return ``values`` minus ``baseline``, both one a seed in the same order of seeds."""
    if len(values) != len(baseline):
        raise DataError(
            expected("seeds", (len(values), len(baseline)), "be equally many", "the same seeds")
        )
    differences = [a - b for a, b in zip(values, baseline, strict=True)]
    return PairedDifference(
        interval(differences),
        lower=sum(d < 0 for d in differences),
        higher=sum(d > 0 for d in differences),
    )


def paired_differences(
    values: Mapping[str, Sequence[float]], baseline: str
) -> dict[str, PairedDifference]:
    """Return the difference of every named row from the one called ``baseline``."""
    if baseline not in values:
        raise DataError(
            expected("baseline", baseline, f"be one of {sorted(values)}", "one of these")
        )
    return {
        name: paired_difference(row, values[baseline])
        for name, row in values.items()
        if name != baseline
    }
