"""The transfer set: public text that no party keeps and no test row repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedkd import scenario
from fedkd.data.corpus import Corpus, load_unlabelled
from fedkd.data.rows import Rows, digests, normal_form
from fedkd.errors import DataError, expected


@dataclass(frozen=True)
class Chosen:
    """The transfer rows, the training rows left private, and what was counted on the way.

    ``transfer.label`` holds true labels where the source has them (for a reference bound only),
    otherwise -1.
    """

    transfer: Rows
    private: Rows
    warnings: tuple[str, ...]


def choose_transfer(corpus: Corpus, data: scenario.Data, seed: int) -> Chosen:
    """Choose the transfer set of a corpus.

    Texts are the same if their normal forms are. The ``rows`` different texts with the smallest
    sha256(seed_for(seed, "", 0, "transfer") + text) are taken in that order, so the choice does
    not depend on the order of rows or sources; private rows with one of these texts leave. Texts
    of test rows, and of private rows where the set comes from another source, are left out and
    counted. Raises :class:`DataError` where nothing is left to transfer or to train on.
    """
    train, asked = corpus.splits["train"], data.transfer
    if asked.source is not None:
        candidates, texts = load_unlabelled(asked.source, data.text)
        origin, warnings = repr(asked.source), list(texts)
    elif asked.from_ == "test":
        raise DataError(
            expected("data.transfer.from", "test", "be a split not tested on", "from = 'train'")
        )
    else:
        candidates, origin, warnings = corpus.splits[asked.from_], repr(asked.from_), []
    keys = [normal_form(text) for text in candidates.text]
    banned = [("the test set", _forms(corpus.splits["test"]))]
    if asked.source is not None:
        banned.append(("the private rows", _forms(train)))
    for owner, forms in banned:
        repeated = len(set(keys) & forms)
        if repeated:
            warnings.append(f"{repeated} texts of {origin} are in {owner} (not transferred)")
    pool = _first_of_each(candidates, keys, seed, set().union(*(forms for _, forms in banned)))
    if not pool:
        raise DataError(
            expected(
                "data.transfer",
                origin,
                f"leave transfer rows (of {len(candidates)} none is new)",
                "another split, or transfer = { source = '…' }",
            )
        )
    if asked.rows is not None and asked.rows > len(pool):
        warnings.append(
            f"{asked.rows} transfer rows were asked for and {len(pool)} different texts are there"
        )
    transfer = candidates.take(pool[: asked.rows])
    private = _without(train, _forms(transfer))
    if candidates is not train and len(private) < len(train):
        warnings.append(
            f"{len(train) - len(private)} private rows have the text of a transfer row (dropped)"
        )
    if not len(private):
        raise DataError(
            expected(
                "data.transfer.rows",
                asked.rows,
                f"leave private rows (all {len(train)} training rows would be transferred)",
                f"rows = {max(1, len(pool) // 4)} under [data.transfer]",
            )
        )
    return Chosen(transfer, private, tuple(warnings))


def _forms(rows: Rows) -> set[str]:
    return {normal_form(text) for text in rows.text}


def _first_of_each(rows: Rows, keys: list[str], seed: int, banned: set[str]) -> list[int]:
    """Return one row of each normal form that is not banned, in hash order."""
    digest = digests(rows.text, seed, "transfer")
    first: dict[str, int] = {}
    for row in sorted(
        range(len(rows)), key=lambda r: (digest[r], rows.label[r], rows.domain[r], r)
    ):
        if keys[row] not in banned:
            first.setdefault(keys[row], row)
    return list(first.values())


def _without(rows: Rows, forms: set[str]) -> Rows:
    kept = [row for row, text in enumerate(rows.text) if normal_form(text) not in forms]
    return rows.take(np.array(kept, dtype=np.int64))
