"""What the accountants promised, as the ledger of a run tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# In order: what a party has spent in all, or else what single releases say.
TOTALS = ("epsilon_pld", "epsilon_rdp", "epsilon", "epsilon_total", "epsilon_spent")


def promised(entries: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return each party's upper bound on epsilon, None where nothing is promised.

    ``entries`` are the ledger's, in order; a party's running epsilon only grows, so the largest
    counts. One release without a promise voids those of all others.
    """
    found: dict[str, float | None] = {}
    for entry in entries:
        if not entry.get("arrays"):
            continue
        party = str(entry["party"])
        values = [entry[key] for key in TOTALS if entry.get(key) is not None]
        own = float(values[0]) if values else None
        before = found.get(party, 0.0)
        found[party] = None if own is None or before is None else max(own, before)
    return found


def mechanisms(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the ledger says was done to each party's label probabilities."""
    return {
        str(entry["party"]): f"{entry.get('mechanism', 'none')} {entry.get('parameters') or ''}"
        for entry in entries
        if entry.get("kind") == "probabilities"
    }
