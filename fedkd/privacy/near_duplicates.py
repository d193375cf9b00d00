"""Public rows that nearly repeat private ones: a way to ask whether a record was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from fedkd.files import read_json, read_rows, write_json
from fedkd.release import fingerprint

SIMILAR = 0.8
_BLOCK = 1024


def near_duplicates(public: Sequence[str], private: Sequence[str]) -> int:
    """Return how many public texts share four fifths of their words and pairs with a private one.

    Jaccard similarity of the sets of word uni- and bigrams, hashed, of 0.8 or more.
    """
    if not public or not private:
        return 0
    hashing = HashingVectorizer(ngram_range=(1, 2), binary=True, norm=None, alternate_sign=False)
    asked = sparse.csr_matrix(hashing.transform(list(public)))
    own = sparse.csr_matrix(hashing.transform(list(private)))
    own_sizes = np.asarray(own.sum(axis=1)).ravel()
    found = 0
    for start in range(0, asked.shape[0], _BLOCK):
        block = asked[start : start + _BLOCK]
        common = (block @ own.T).tocoo()
        sizes = np.asarray(block.sum(axis=1)).ravel()
        union = sizes[common.row] + own_sizes[common.col] - common.data
        found += len(np.unique(common.row[common.data >= SIMILAR * union]))
    return found


def share_of_near_duplicates(folder: Path, public: Sequence[str]) -> float:
    """Return the share for a party's folder, computed once for a public set."""
    private = read_rows(folder / "private.jsonl")["text"]
    name = hashlib.sha256((fingerprint(public) + fingerprint(private)).encode()).hexdigest()[:16]
    file = folder / "cache" / f"near-duplicates-{name}.json"
    if not file.is_file():
        write_json(file, near_duplicates(public, private) / max(len(public), 1))
    return float(read_json(file))
