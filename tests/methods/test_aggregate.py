"""Streaming aggregation: equal to the direct sums for every stored form, whatever the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedkd import aggregate
from fedkd.aggregate import geometric_mean, mixture, robust_mean
from fedkd.encoding import decode, encode_roots, encode_top
from fedkd.intake import Intake

SIZES = np.array([100.0, 300.0, 50.0, 7.0, 80.0])
CODES = {
    "float32": lambda p: p.astype(np.float32),
    "float16": lambda p: p.astype(np.float16),
    "uint8": encode_roots,
    "top": lambda p: encode_top(p, 3),
}


def stored(folder: Path, code: str, rows: int, labels: int) -> tuple[Intake, NDArray[Any]]:
    """Return an intake and what its files say, (teachers, rows, labels)."""
    draw = np.random.default_rng(labels)
    probs = draw.dirichlet(np.full(labels, 0.4), (len(SIZES), rows))
    names = tuple(f"party-{k}" for k in range(len(SIZES)))
    said = []
    for name, answers in zip(names, probs, strict=True):
        (folder / name).mkdir()
        coded = CODES[code](answers)
        np.save(folder / name / "probs.npy", coded)
        said.append(decode(coded, labels))
    floored = np.stack(said).astype(np.float64) + 1e-6
    intake = Intake(folder, names, rows, labels, SIZES)
    return intake, floored / floored.sum(axis=2, keepdims=True)


@pytest.fixture(params=["compiled", "numpy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(aggregate, "mixing", None)
    monkeypatch.setattr(aggregate, "NUMBERS_IN_CACHE", 150)
    monkeypatch.setattr(aggregate, "NUMBERS_AT_ONCE", 1000)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("labels", [3, 16, 21, 48])
def test_the_mixture_equals_its_sum(code: str, labels: int, tmp_path: Path) -> None:
    intake, probs = stored(tmp_path, code, 30, labels)
    for scheme, shares in (("size", SIZES / SIZES.sum()), ("uniform", np.full(5, 0.2))):
        expected = np.einsum("t,trk->rk", shares, probs)
        np.testing.assert_allclose(mixture(intake, scheme), expected, atol=2e-6)  # type: ignore[arg-type]


@pytest.mark.usefixtures("either")
def test_weights_that_depend_on_the_row_and_absent_teachers(tmp_path: Path) -> None:
    intake, probs = stored(tmp_path, "float16", 30, 6)
    surest = probs.max(axis=2)
    expected = np.einsum("tr,trk->rk", surest / surest.sum(axis=0), probs)
    np.testing.assert_allclose(mixture(intake, "confidence"), expected, atol=1e-6)
    there = np.ones((5, 30), bool)
    there[1, 10:] = False
    partial = Intake(tmp_path, intake.parties, 30, 6, SIZES, present=there)
    weights = np.where(there, SIZES[:, None], 0)
    expected = np.einsum("tr,trk->rk", weights / weights.sum(axis=0), probs)
    np.testing.assert_allclose(mixture(partial), expected, atol=1e-6)


def test_other_means_are_as_defined(tmp_path: Path) -> None:
    intake, probs = stored(tmp_path, "float32", 30, 6)

    def normalised(rows: NDArray[Any]) -> NDArray[Any]:
        return rows / rows.sum(axis=1, keepdims=True)

    product = np.prod(probs ** (SIZES / SIZES.sum())[:, None, None], axis=0)
    np.testing.assert_allclose(geometric_mean(intake), normalised(product), atol=1e-6)
    middle = normalised(np.median(probs, axis=0))
    np.testing.assert_allclose(robust_mean(intake, "median"), middle, atol=1e-6)
    inner = normalised(np.sort(probs, axis=0)[1:4].mean(axis=0))
    np.testing.assert_allclose(robust_mean(intake, "trimmed-mean"), inner, atol=1e-6)
    with pytest.raises(ValueError, match="trim"):
        robust_mean(intake, "trimmed-mean", trim=0.5)


def test_a_teacher_far_off_moves_the_median_no_further_than_its_neighbours(tmp_path: Path) -> None:
    intake, probs = stored(tmp_path, "float32", 20, 4)
    liar = np.zeros((20, 4), np.float32)
    liar[np.arange(20), probs.mean(axis=0).argmin(axis=1)] = 1
    np.save(intake.path("party-0"), liar)
    honest = np.sort(probs[1:], axis=0)
    median = np.median(np.concatenate([liar[None], probs[1:]]), axis=0)
    assert bool(((median >= honest[1] - 1e-6) & (median <= honest[2] + 1e-6)).all())
    expected = median / median.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(robust_mean(intake, "median"), expected, atol=1e-5)


def test_codes_lose_little() -> None:
    probs = np.random.default_rng(0).dirichlet(np.full(20, 0.2), 500)
    assert np.abs(decode(encode_roots(probs), 20) - probs).max() <= 1 / 255 + 1e-6
    top = decode(encode_top(probs, 20), 20)
    np.testing.assert_array_equal(top, decode(encode_roots(probs), 20))
    few = decode(encode_top(probs, 5), 20)
    chosen = np.take_along_axis(probs, few.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen, probs.max(axis=1), atol=1 / 255)
    np.testing.assert_allclose(few.sum(axis=1), 1, atol=0.05)


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    intake, _ = stored(tmp_path, "float16", 30, 6)
    file = intake.path("party-2")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises((EOFError, ValueError)):
        mixture(intake)
