"""The result in a few sentences, each made from figures."""

from __future__ import annotations

from fedkd.metrics.intervals import PairedDifference
from fedkd.report.sharpness import controls
from fedkd.report.summary import Row, Summary
from fedkd.report.wording import WORDINGS, interval_text, is_control, number

_SPACE = "\N{NO-BREAK SPACE}"


def primary_measure(summary: Summary) -> str:
    """Return the measure that ranks the methods: Semantic Distance, or W1 without coordinates."""
    have = [row.measures["semantic_distance"].interval for row in summary.methods]
    return "semantic_distance" if have and all(have) else "w1"


def headline(summary: Summary) -> tuple[str, ...]:
    """Return the headline: the best method, its difference from the baseline, and what limits it.

    Sharpness controls take no part in the ranking, for they are not methods.
    """
    measure = primary_measure(summary)
    rows = [r for r in summary.methods if not is_control(r) and r.measures[measure].interval]
    if not rows:
        return ("No method has finished.",)
    best = min(rows, key=lambda row: _mean(row, measure))
    noun = WORDINGS[measure].noun
    value = interval_text(best.measures[measure].interval)
    seeds = "on one seed" if len(summary.seeds) == 1 else f"over {len(summary.seeds)} seeds"
    if len(rows) > 1:
        first = f"Of {len(rows)} methods, {best.name} has the lowest {noun} {seeds}: {value}."
    else:
        first = f"{best.name} has a {noun} of {value} {seeds}."
    if best.name == summary.baseline:
        others = "No other method improves on it." if len(rows) > 1 else ""
        return tuple(s for s in (first, others) if s)
    difference = best.paired.get(measure)
    if difference is None:
        return (first,)
    return (
        first,
        _difference(difference, summary.baseline),
        *_accuracy(best, summary.baseline),
        *_sharpness(summary, best, measure),
    )


def _difference(difference: PairedDifference, baseline: str) -> str:
    found = difference.interval
    size = number(abs(found.mean))
    way = "lower" if found.mean < 0 else "higher"
    if found.bounds is None:
        return f"That is {size} {way} than {baseline}; one seed gives no interval."
    count = difference.lower if found.mean < 0 else difference.higher
    low, high = (number(end, signed=True) for end in found.bounds)
    seeds = f"95{_SPACE}% interval {low} to {high}; {way} on {count} of {found.seeds} seeds"
    if difference.excludes_zero:
        return f"That is {size} {way} than {baseline} ({seeds})."
    return f"These seeds do not tell it from {baseline}: {size} {way} ({seeds})."


def _accuracy(best: Row, baseline: str) -> tuple[str, ...]:
    difference = best.paired.get("accuracy")
    if difference is None:
        return ()
    change = interval_text(difference.interval, signed=True)
    return (f"Its accuracy differs from that of {baseline} by {change}.",)


def _sharpness(summary: Summary, best: Row, measure: str) -> tuple[str, ...]:
    for control in controls(summary):
        share = control.recovered.get(measure)
        if control.row.name == best.name and share is not None:
            return (
                "A cross-entropy student sharpened to the same entropy, which knows nothing of "
                f"label meaning, reaches {100 * share:.0f}{_SPACE}% of this gain.",
            )
    return ()


def _mean(row: Row, measure: str) -> float:
    found = row.measures[measure].interval
    return float("inf") if found is None else found.mean
