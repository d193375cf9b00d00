"""How much each teacher counts on each row (Bhardwaj et al., COLING 2022, tag E3)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import ScenarioError, expected

Scheme = Literal["uniform", "size", "confidence", "bias", "norm", "entropy", "variance"]
Floats = NDArray[np.float64]


def teacher_weights(
    scheme: Scheme,
    probs: Floats,
    sizes: Floats,
    bias: Floats | None = None,
    *,
    normalise: bool = True,
    present: NDArray[np.bool_] | None = None,
) -> Floats:
    """Return the weights w_k(x), (teachers, rows) float64.

    ``probs`` is (teachers, rows, labels), strictly positive; ``sizes`` holds n_k (teachers,) and
    ``bias`` b_k (teachers, labels). The schemes, with the letters of the paper's published code:

    - ``uniform`` (A): 1
    - ``size`` (D): n_k / Σ_j n_j
    - ``norm`` (U): ‖p_k(x) − 1/C‖₂
    - ``bias`` (W): ‖p_k(x) − b_k‖₂
    - ``confidence``: max_c p_kc(x)
    - ``entropy``: 1 − H(p_k(x)) / log C
    - ``variance``: Var_c log p_kc(x) (Cho et al., IJCAI 2022)

    With ``normalise`` they sum to one over the teachers of a row; where all are zero there, the
    teachers count equally. A teacher that is not ``present`` (teachers, rows) on a row weighs
    nothing there and the others share. Raises :class:`ScenarioError` for ``bias`` without bias
    vectors.
    """
    there = np.ones(probs.shape[:2]) if present is None else present.astype(np.float64)
    weights = _raw(scheme, probs, np.asarray(sizes, np.float64), bias) * there
    if not normalise:
        return weights
    nobody = weights.sum(axis=0) <= 0
    weights = np.where(nobody, there, weights)
    return np.asarray(weights / weights.sum(axis=0), np.float64)


def _raw(scheme: Scheme, probs: Floats, sizes: Floats, bias: Floats | None) -> Floats:
    teachers, rows, labels = probs.shape
    match scheme:
        case "uniform":
            weights = np.ones((teachers, rows))
        case "size":
            weights = np.repeat((sizes / (sizes.sum() or 1.0))[:, None], rows, axis=1)
        case "norm":
            weights = np.linalg.norm(probs - 1 / labels, axis=2)
        case "bias":
            weights = np.linalg.norm(probs - _bias(bias, teachers, labels), axis=2)
        case "confidence":
            weights = probs.max(axis=2)
        case "entropy":
            entropy = -(probs * np.log(probs)).sum(axis=2)
            weights = np.maximum(1 - entropy / math.log(max(labels, 2)), 0.0)
        case "variance":
            weights = np.log(probs).var(axis=2)
    return np.asarray(weights, np.float64)


def _bias(bias: Floats | None, teachers: int, labels: int) -> Floats:
    if bias is None:
        raise ScenarioError(
            expected(
                "weights",
                "bias",
                "come with a bias vector from every teacher",
                "asking the parties for statistics, or weights = 'norm'",
            )
        )
    if bias.shape != (teachers, labels):
        raise ScenarioError(
            expected(
                "bias.shape", bias.shape, f"be ({teachers}, {labels})", "one vector per teacher"
            )
        )
    return np.asarray(bias[:, None, :], np.float64)
