"""Releases of probabilities in fewer bytes: coded by the party, checked and stored by the server.

``uint8`` sends round(255 √p) of every label, which is off by at most 0.004 a label; ``top-k`` the
codes of the most likely labels alone, and the others share what is missing evenly. What arrives is
decoded and made to sum to one wherever the intake is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.encoding import LEVELS, Encoding, Stored, encode_roots, encode_top, top_dtype
from fedkd.errors import ReleaseError, expected

Array = NDArray[Any]
SLACK = 5e-3  # what came as float16 before it was coded
LOSSY = {
    "uint8": "coded as square roots in bytes: at most 0.004 off a label",
    "top-k": "cut to its {} most likely labels, coded as square roots in bytes: what they lack is "
    "spread evenly",
}


def stored_dtype(encoding: Encoding) -> str:
    """Return the dtype in which a party keeps its answers before they are coded."""
    return "float16" if encoding == "float16" else "float32"


def wide_dtype(encoding: Encoding) -> str:
    """Return the dtype of answers that are not probabilities, which codes cannot carry."""
    return "float32" if encoding == "float32" else "float16"


def said(mechanism: str, encoding: Encoding, top: int) -> str:
    """Return what was done to the values, with what a lossy encoding does to them."""
    if encoding not in LOSSY:
        return mechanism
    what = LOSSY[encoding].format(top)
    return what if mechanism == "none" else f"{mechanism}; {what}"


def code(probs: Stored, encoding: Encoding, top: int) -> dict[str, Array]:
    """Return the arrays by name that carry ``probs`` (rows, labels)."""
    if encoding == "uint8":
        return {"probs": encode_roots(probs)}
    if encoding == "top-k":
        rows = encode_top(probs, min(top, probs.shape[1]))
        return {"probs": rows["code"].copy(), "top": rows["label"].copy()}
    return {"probs": probs.astype(encoding)}


def is_coded(arrays: Mapping[str, Array]) -> bool:
    """Whether the probabilities are codes."""
    return "top" in arrays or ("probs" in arrays and arrays["probs"].dtype == np.uint8)


def check_coded(arrays: Mapping[str, Array], rows: int, labels: int) -> None:
    """Raise :class:`ReleaseError` unless the codes are those of ``rows`` distributions."""
    codes, top = arrays["probs"], arrays.get("top")
    width = labels if top is None else min(codes.shape[-1], labels)
    facts = [("probs", codes, "uint8")] + ([] if top is None else [("top", top, "uint16")])
    for name, array, dtype in facts:
        if array.dtype.name != dtype or array.shape != (rows, width):
            got = (array.dtype.name, array.shape)
            want = f"be {dtype} of shape {(rows, width)}"
            raise ReleaseError(expected(name, got, want, "one of the encodings"))
    roots = codes.astype(np.float64) / LEVELS
    mass = (roots * roots).sum(axis=1)
    half = 0.5 / LEVELS
    off = 2 * half * np.sqrt(width) + width * half**2 + SLACK
    low = 1 - off if top is None else 0.0
    if mass.size and not (low <= mass.min() and mass.max() <= 1 + off):
        raise ReleaseError(
            expected("probs: decoded sums", (float(mass.min()), float(mass.max())),
                     f"lie in [{low:.3f}, {1 + off:.3f}]", "coding a softmax")
        )  # fmt: skip
    if top is not None and top.size:
        ordered = np.sort(top, axis=1)
        if int(ordered.max()) >= labels or bool((ordered[:, 1:] == ordered[:, :-1]).any()):
            raise ReleaseError(
                expected("top", int(ordered.max()), f"name labels below {labels}, each once",
                         "the largest of a row")
            )  # fmt: skip


def as_stored(arrays: Mapping[str, Array]) -> Stored:
    """Return the probabilities of a checked release as the intake keeps them."""
    codes, top = arrays["probs"], arrays.get("top")
    if top is None:
        return codes
    rows = np.empty(len(codes), top_dtype(codes.shape[1]))
    rows["code"], rows["label"] = codes, top
    return rows
