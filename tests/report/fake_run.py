"""A configuration's folder as a run leaves it, with figures measured on invented predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.scores import score

STARS = ("one star", "two stars", "three stars", "four stars", "five stars")
PARTIES = ("books", "dvd", "electronics", "kitchen")
METHODS = ("cross-entropy", "knot/sum/size", "knot/mix/size", "logit-average", "barycentre/size")
CONTROL = "sharpness-control/knot/sum/size"

# (how well the student knows the label, how sharp it is, how far its mistakes spread)
_SKILL = {
    "teachers-mean": (1.15, 0.9, 1.0),
    "teachers-geometric-mean": (1.15, 1.1, 1.0),
    "student-transfer-labels": (1.3, 1.2, 1.0),
    "student-pooled": (1.5, 1.3, 0.9),
    "cross-entropy": (1.0, 1.0, 1.0),
    "knot/sum/size": (1.02, 1.45, 0.85),
    "knot/mix/size": (1.01, 1.1, 0.95),
    "logit-average": (1.0, 1.15, 1.0),
    "barycentre/size": (1.0, 1.05, 0.95),
    CONTROL: (1.0, 1.45, 1.0),
}


def write_fake_run(
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    scenario: str = "amazon-stars",
    parties: Sequence[str] = PARTIES,
    labels: Sequence[str] = STARS,
    methods: Sequence[str] = (*METHODS, CONTROL),
    rows: int = 400,
) -> Path:
    """Write seed folders below ``folder`` and return it."""
    for seed in seeds:
        _write_seed(
            folder / str(seed), seed, scenario, tuple(parties), tuple(labels), methods, rows
        )
    return folder


def _write_seed(  # noqa: PLR0917
    folder: Path,
    seed: int,
    scenario: str,
    parties: Sequence[str],
    labels: Sequence[str],
    methods: Sequence[str],
    rows: int,
) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    points = np.arange(len(labels), dtype=np.float64)[:, None]
    cost = np.sqrt(2 + (points - points.T) ** 2) * (1 - np.eye(len(labels)))
    cost /= cost.max()
    prior = generator.dirichlet(np.full(len(labels), 4.0))
    truth = generator.choice(len(labels), size=rows, p=prior)
    party = np.arange(rows) % len(parties)
    noise = generator.normal(size=(rows, len(labels)))
    references = [*(f"teacher/{name}" for name in parties), *list(_SKILL)[:4]]
    probs = {
        name: _predict(name, truth, noise, generator, np.log(prior))
        for name in (*methods, *references)
    }
    np.savez_compressed(
        folder / "predictions.npz",
        truth=truth,
        party=party,
        **{f"probs/{name}": p.astype(np.float16) for name, p in probs.items()},
    )
    measured = {}
    for name, p in probs.items():
        own = {
            other: asdict(score(p[party == i], truth[party == i], cost, points))
            for i, other in enumerate(parties)
        }
        measured[name] = asdict(score(p, truth, cost, points)) | {"parties": own}
    _write_json(
        folder / "result.json",
        {
            "schema": 1,
            "scenario": scenario,
            "seed": seed,
            "labels": list(labels),
            "methods": {name: measured[name] for name in methods},
            "references": {name: measured[name] for name in references},
            "bytes": {p: {"up": 43_100 + 900 * i, "down": 288_000} for i, p in enumerate(parties)},
            "seconds": _seconds(generator),
            "parties": {
                p: {
                    "rows": 1200 // (i + 1),
                    "test_rows": int(np.sum(party == i)),
                    "label_counts": generator.multinomial(1200 // (i + 1), prior).tolist(),
                    "teacher": "bow",
                }
                for i, p in enumerate(parties)
            },
            "hashes": {"intake": "ab" * 32, "student": dict.fromkeys(methods, "cd" * 32)},
            "transfer_rows": 1600,
            "warnings": ["3 transfer rows were also test rows and were left out"]
            + (["teacher/kitchen: 1 label is missing in its rows"] if seed == 1 else []),
        },
    )
    _write_json(
        folder / "labels.json",
        {
            "names": list(labels),
            "geometry": "hybrid",
            "cost": cost.tolist(),
            "coordinates": points.tolist(),
        },
    )
    _write_json(
        folder / "environment.json",
        {"python": "3.11.9", "system": "Linux", "packages": {"fedkd": "0.1.0", "torch": "2.13.0"}},
    )
    (folder / "scenario.toml").write_text(
        'name = "amazon-stars"\nseeds = [0, 1, 2, 3, 4]\n\n[data]\nsource = "amazon_stars"\n',
        encoding="utf-8",
    )


def _predict(
    name: str,
    truth: NDArray[np.int64],
    noise: NDArray[np.float64],
    generator: np.random.Generator,
    log_prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    skill, sharp, spread = _SKILL.get(name, (0.85, 0.9, 1.1))
    count = len(log_prior)
    away = np.abs(np.arange(count)[None, :] - truth[:, None])
    own = 0 if name in ("cross-entropy", CONTROL) else generator.normal(size=noise.shape)
    logits = sharp * (0.7 * log_prior - skill * away / spread + 1.1 * noise + 0.25 * own)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probs


def _seconds(generator: np.random.Generator) -> dict[str, float]:
    stages = {"deal": 0.4, "teachers": 6.1, "answers": 1.2, "distil": 14.0, "measure": 0.9}
    return {stage: t * float(generator.uniform(0.9, 1.1)) for stage, t in stages.items()}


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")
