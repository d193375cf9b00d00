"""Probabilities in fewer bytes: coded by the party, checked, stored and read as they came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkd.coding import as_stored, code
from fedkd.encoding import Encoding, decode
from fedkd.errors import ReleaseError
from fedkd.release import Release, check_release
from fedkd.run.engine import run_scenario
from tests.system.small import small

ROWS, LABELS = 40, 9
FACTS: Any = {"kind": "probabilities", "transfer_id": "t", "label_id": "l", "rows": (0, ROWS)}


def probs() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).dirichlet(np.full(LABELS, 0.2), ROWS)


def released(arrays: dict[str, Any]) -> None:
    check_release(Release(arrays=arrays, **FACTS), labels=LABELS, **FACTS)


@pytest.mark.parametrize("encoding", ["float16", "float32", "uint8", "top-k"])
def test_what_is_coded_passes_the_check_and_decodes_within_the_stated_error(
    encoding: Encoding,
) -> None:
    arrays = code(probs(), encoding, 4)
    released(arrays)
    back = decode(as_stored(arrays), LABELS)
    if encoding == "top-k":
        order = np.argsort(-probs(), axis=1)
        kept = np.take_along_axis(probs(), order[:, :4], axis=1)
        np.testing.assert_allclose(np.take_along_axis(back, order[:, :4], axis=1), kept, atol=4e-3)
        lost = np.take_along_axis(back, order[:, 4:], axis=1)
        np.testing.assert_allclose(lost.sum(axis=1), 1 - kept.sum(axis=1), atol=2e-2)
    else:
        assert np.abs(back - probs()).max() <= 4e-3


def spoilt(encoding: Encoding, name: str, change: Any) -> dict[str, Any]:
    arrays = code(probs(), encoding, 4)
    arrays[name] = change(arrays[name])
    return arrays


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        (spoilt("uint8", "probs", lambda x: x[:, :-1]), "probs"),
        (spoilt("uint8", "probs", lambda x: x // 2), "decoded sums"),
        (spoilt("uint8", "probs", lambda x: np.full_like(x, 255)), "decoded sums"),
        (spoilt("top-k", "probs", lambda x: np.full_like(x, 255)), "decoded sums"),
        (spoilt("top-k", "probs", lambda x: x.astype(np.float16)), "probs"),
        (spoilt("top-k", "top", lambda x: x.astype(np.int64)), "top"),
        (spoilt("top-k", "top", lambda x: x * 0), "each once"),
        (spoilt("top-k", "top", lambda x: x + LABELS), "each once"),
        (spoilt("top-k", "top", lambda x: x[:, :2]), "top"),
        (code(probs(), "float32", 4) | {"top": np.zeros((ROWS, 4), np.uint16)}, "probs"),
    ],
)
def test_codes_of_something_else_are_refused(arrays: dict[str, Any], word: str) -> None:
    with pytest.raises(ReleaseError, match=r"Expected .* Try ") as refused:
        released(arrays)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("encoding", "dtype", "said"),
    [("uint8", "|u1", "square roots"), ("top-k", "", "3 most likely")],
)
def test_a_run_with_codes_gives_nearly_the_student_of_a_run_without(
    encoding: str, dtype: str, said: str, tmp_path: Path
) -> None:
    results = []
    for name in ("float32", encoding):
        release = {"encoding": name, "top": 3}
        finished = run_scenario(small(tmp_path / name, release=release)).seeds[0]
        results.append(json.loads(finished.result.read_text()))
    stored = list((tmp_path / encoding).rglob("probs.npy"))
    kinds = {np.load(file, mmap_mode="r").dtype for file in stored}
    assert len(kinds) == 1
    assert all(kind.str == dtype if dtype else kind.names for kind in kinds)
    ledgers = list((tmp_path / encoding).rglob("ledger.jsonl"))
    assert any(said in file.read_text() for file in ledgers)
    sent = [sum(party["up"] for party in result["bytes"].values()) for result in results]
    assert sent[1] < sent[0]
    for method, scores in results[0]["methods"].items():
        assert results[1]["methods"][method]["accuracy"] == pytest.approx(
            scores["accuracy"], abs=0.05
        )
