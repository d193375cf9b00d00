"""The audit of runs with mechanisms: what is undone, what is promised, what suspects are told."""

from __future__ import annotations

import numpy as np
import pytest

from fedkd.run.audit import audit_seed
from fedkd.run.engine import run_scenario
from tests.system.small import small


def audited(tmp_path, **privacy):
    scenario = small(
        tmp_path,
        parties={"count": 3, "partition": {"by": "dirichlet", "alpha": 0.5}},
        teacher={"model": "bow", "steps": 80},
        student={"model": "bow", "epochs": 2},
        method=[{"name": "cross-entropy"}],
        privacy=privacy,
    )
    folder = run_scenario(scenario).seeds[0]
    found = audit_seed(folder, 100)
    with np.load(folder.root / "audit" / "probes.npz") as arrays:
        told = np.concatenate([arrays[n] for n in arrays.files if n.startswith("answer/")])
    return found, told


def mean(found, key):
    return np.mean([own[key] for own in found["label_inference"].values()])


def test_temperature_buys_nothing_from_who_knows_it(tmp_path):
    found, _ = audited(tmp_path, mechanism={"name": "temperature", "temperature": 4})
    plain, _ = audited(tmp_path / "plain", mechanism={"name": "none"})
    assert mean(found, "tv") > mean(found, "tv_inverted") + 0.02
    assert mean(found, "tv_inverted") == pytest.approx(mean(plain, "tv"), abs=0.02)
    auc = [f["membership_pooled"]["confidence"]["auc"] for f in (found, plain)]
    assert auc[0] == pytest.approx(auc[1], abs=0.03)


def test_suspects_are_told_what_a_release_would_tell(tmp_path):
    _, told = audited(tmp_path, mechanism={"name": "argmax"})
    assert set(np.unique(told)) == {0.0, 1.0}


def test_privately_trained_teachers_keep_their_promise(tmp_path):
    found, _ = audited(tmp_path, epsilon=3, mechanism={"name": "dp-sgd"})
    assert found["broken_promises"] == []
    for attacks in found["membership"].values():
        for own in attacks.values():
            assert own["epsilon_lower"] <= own["epsilon_upper"] <= 3
    own = found["membership_pooled"]["confidence"]
    assert own["low"] < 0.55
