"""The audit of finished runs: generated text, real text, broken promises, missing folders."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from fedkd.cli import app
from fedkd.errors import AuditError, DataError
from fedkd.files import read_json, read_json_lines
from fedkd.report.page import write_report
from fedkd.run.audit import audit_run, audit_seed, finished_seeds, require_kept_promises
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from tests.system.small import small

MEMBERSHIP = {
    "auc", "low", "high", "tpr_at_1pct", "tpr_at_1pct_low", "tpr_at_1pct_high", "tpr_at_0.1pct",
    "n", "members", "nonmembers", "delta", "epsilon_lower", "epsilon_upper",
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    teacher = {"model": "bow", "hidden": 32, "steps": 150}
    out = tmp_path_factory.mktemp("audit")
    methods = [{"name": "cross-entropy"}, {"name": "lelp", "design": "b1", "subclasses": 2}]
    finished = run_scenario(small(out, teacher=teacher, method=methods))
    before = sorted((p, p.stat().st_mtime_ns) for p in finished.seeds[0].intake.rglob("*"))
    result = CliRunner().invoke(app, ["audit", str(finished.folder.parent), "--suspects", "120"])
    assert result.exit_code == 0, result.output
    after = sorted((p, p.stat().st_mtime_ns) for p in finished.seeds[0].intake.rglob("*"))
    assert before == after
    return finished, result.output


def test_every_party_and_attack_has_its_figures(audited):
    finished, output = audited
    folder = finished.seeds[0]
    found = read_json(folder.root / "audit.json")
    parties = set(read_json(folder.result)["parties"])
    assert set(found["label_inference"]) == set(found["membership"]) == parties
    for own in found["label_inference"].values():
        assert {"tv", "kl", "uniform_tv", "constant_tv", "tv_inverted"} <= set(own)
    for attacks in found["membership"].values():
        assert set(attacks) == {"confidence", "cooperative-lira", "distilled-lira"}
        for own in attacks.values():
            assert set(own) >= MEMBERSHIP
            assert own["low"] <= own["auc"] <= own["high"]
            assert own["epsilon_upper"] is None
    assert found["broken_promises"] == []
    for word in ("cooperative-lira", "tv_inverted", *parties):
        assert word in output


def test_released_embeddings_are_compared_with_held_out_rows(audited):
    finished, output = audited
    found = read_json(finished.seeds[0].root / "audit.json")["embeddings"]
    assert len(found) == 4
    for own in found.values():
        assert own["low"] <= own["nearest_is_private"] <= own["high"]
        assert own["private_distance"] > 0 and own["n"] == 150
    assert "nearest row is private" in output


def test_probes_are_marked_and_hold_no_text(audited):
    finished, _ = audited
    home = finished.seeds[0].root / "audit"
    assert "crossed the wire" in (home / "README.txt").read_text()
    with np.load(home / "probes.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "if" for name in arrays)
    wire = {record.get("kind") for record in read_json_lines(finished.seeds[0].root / "wire.jsonl")}
    assert not any("probe" in str(kind) for kind in wire)


def test_page_shows_the_audit_and_is_silent_without_one(audited):
    finished, _ = audited
    page = (finished.folder / "report.html").read_text()
    assert "What the releases give away" in page and "audit-members" in page
    file = finished.seeds[0].root / "audit.json"
    kept = file.read_bytes()
    file.unlink()
    assert "What the releases give away" not in write_report(finished.folder).read_text()
    file.write_bytes(kept)


def test_same_run_gives_the_same_audit(audited):
    finished, _ = audited
    known = read_json(finished.seeds[0].root / "audit.json")
    assert json.loads(json.dumps(audit_seed(finished.seeds[0], 120))) == known


def test_promise_that_an_attack_exceeds_fails_loudly(audited, tmp_path):
    finished, _ = audited
    folder = tmp_path / "runs" / "x" / "0"
    shutil.copytree(finished.seeds[0].root, folder, symlinks=True)
    ledger = folder / "ledger.jsonl"
    lines = [entry | {"epsilon_spent": 1e-4} for entry in read_json_lines(ledger)]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ((_, found),) = audit_run(folder, most=120)
    assert found["broken_promises"]
    with pytest.raises(AuditError, match="promised at most"):
        require_kept_promises([found])
    result = CliRunner().invoke(app, ["audit", str(folder), "--suspects", "120"])
    assert isinstance(result.exception, AuditError) and result.exit_code != 0
    assert "BROKEN PROMISE" in result.output


def test_without_party_folders_only_the_releases_are_attacked(audited, tmp_path):
    finished, _ = audited
    folder = tmp_path / "0"
    shutil.copytree(finished.seeds[0].root, folder, symlinks=True)
    shutil.rmtree(folder / "parties")
    found = audit_seed(RunFolder(folder))
    assert found["label_inference"] and found["membership"] == {}
    assert any("membership cannot be measured" in note for note in found["notes"])


def test_unfinished_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="finished run"):
        finished_seeds(tmp_path)


def test_overfitted_teachers_on_real_text_are_found_out(real_data, tmp_path):
    """Stars of real reviews, teachers that know their rows by heart, no protection."""
    scenario = small(
        tmp_path,
        data={"source": "amazon_stars", "transfer": {"rows": 200}, "rows": 1200},
        labels={"geometry": "ordinal", "values": [-2, -1, 1, 2]},
        parties={"count": 2},
        teacher={"model": "bow", "hidden": 32, "steps": 300},
        method=[{"name": "cross-entropy"}],
    )
    finished = run_scenario(scenario)
    ((_, found),) = audit_run(finished.folder, most=400)
    assert min(own["confidence"]["low"] for own in found["membership"].values()) > 0.6
    assert min(own["cooperative-lira"]["low"] for own in found["membership"].values()) > 0.6
