"""How measures, rows and figures are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedkd.metrics.intervals import Interval, PairedDifference
from fedkd.report.summary import Row, Summary

CONTROL = "sharpness-control/"
TEACHER = "teacher/"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Wording:
    """A measure's title, its name inside a sentence and which way is better."""

    title: str
    short: str
    noun: str
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        """An arrow that points to the better end."""
        return "↑" if self.higher_is_better else "↓"


WORDINGS = {
    "accuracy": Wording("Accuracy", "acc", "accuracy", True),
    "macro_f1": Wording("Macro-F1", "F1", "macro-F1", True),
    "semantic_distance": Wording("Semantic distance", "SD", "semantic distance", False),
    "w1": Wording("W1 to truth", "W1", "transport cost to the truth (W1)", False),
    "nll": Wording("NLL", "NLL", "negative log-likelihood", False),
    "ece": Wording("ECE", "ECE", "calibration error", False),
}


def number(value: float, *, signed: bool = False) -> str:
    """Return three decimals with a true minus sign, never a negative zero."""
    text = f"{value:{'+' if signed else ''}.3f}"
    if float(text) == 0:
        text = "0.000"
    return text.replace("-", MINUS)


def interval_text(found: Interval | None, *, signed: bool = False) -> str:
    """Return ``mean ± half width``, the mean alone for one seed, or a dash for nothing."""
    if found is None:
        return "–"
    mean = number(found.mean, signed=signed)
    return mean if found.half_width is None else f"{mean} ± {number(found.half_width)}"


def better(measure: str, difference: PairedDifference) -> bool | None:
    """Tell whether a difference is an improvement; None where its interval holds zero."""
    if not difference.excludes_zero:
        return None
    return (difference.interval.mean > 0) == WORDINGS[measure].higher_is_better


def is_control(row: Row) -> bool:
    """Tell whether the row is a cross-entropy student sharpened to match another row."""
    return row.name.startswith(CONTROL)


def methods_in_order(summary: Summary) -> tuple[Row, ...]:
    """Return the methods with each sharpness control straight after the row it matches."""
    ordered: list[Row] = []
    for row in summary.methods:
        if not is_control(row):
            ordered.append(row)
            ordered.extend(r for r in summary.methods if r.name == CONTROL + row.name)
    return (*ordered, *(r for r in summary.methods if r not in ordered))


def references_in_order(summary: Summary, most_teachers: int) -> tuple[Row, ...]:
    """Return the references; of more than ``most_teachers`` teachers only the most accurate."""
    teachers = [row for row in summary.references if row.name.startswith(TEACHER)]
    if len(teachers) <= most_teachers:
        return summary.references
    best = max(teachers, key=_mean_accuracy)
    return (best, *(row for row in summary.references if row not in teachers))


def listed(items: Iterable[object]) -> str:
    """Return ``a, b and c``."""
    *head, last = [str(item) for item in items] or [""]
    return f"{', '.join(head)} and {last}" if head else last


def byte_text(count: float) -> str:
    """Return a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _mean_accuracy(row: Row) -> float:
    found = row.measures["accuracy"].interval
    return -1.0 if found is None else found.mean
