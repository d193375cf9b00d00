"""The command line, as a user meets it: another process, its output and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = """
name = "tiny"
seeds = [0, 1]
[data]
source = "generated:moods"
domain = "domain"
rows = 500
transfer = { rows = 100 }
[labels]
geometry = "coordinates"
[parties]
count = 4
partition = { by = "domain" }
[teacher]
epochs = 2
[student]
epochs = 2
[[method]]
name = "knot"
[[method]]
name = "cross-entropy"
"""


def fedkd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "FEDKD_DATA"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "fedkd"), *arguments],
        cwd=cwd,
        env=environment | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.toml").write_text(SCENARIO)
    done = fedkd("run", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "output.txt").write_text(done.stdout)
    return folder


def test_run_prints_the_table_and_writes_report_and_results(home):
    output = (home / "output.txt").read_text()
    assert "knot/sum/size" in output and "cross-entropy" in output
    assert len(list(home.glob("runs/tiny/*/*/result.json"))) == 2
    assert len(list(home.glob("runs/tiny/*/summary.json"))) == 1
    page = (home / "runs/tiny/report.html").read_text()
    assert "knot/sum/size" in page and "<svg" in page


def test_result_has_the_promised_keys(home):
    (file, *_) = sorted(home.glob("runs/tiny/*/0/result.json"))
    result = json.loads(file.read_text())
    assert {
        "schema", "scenario", "seed", "methods", "references", "bytes", "seconds", "parties",
        "hashes",
    } <= set(result)  # fmt: skip
    measures = {"accuracy", "macro_f1", "semantic_distance", "w1", "nll", "ece"}
    for row in (*result["methods"].values(), *result["references"].values()):
        assert measures <= set(row)
    names = {f"teacher/{party}" for party in result["parties"]}
    assert set(result["references"]) == names | {
        "teachers-mean", "teachers-geometric-mean", "student-transfer-labels", "student-pooled",
    }  # fmt: skip
    assert set(result["hashes"]["student"]) == {"knot/sum/size", "cross-entropy"}
    assert all(set(count) == {"up", "down"} for count in result["bytes"].values())
    assert {p.name for p in file.parent.iterdir()} >= {
        "scenario.toml", "environment.json", "metrics.jsonl", "ledger.jsonl", "events.jsonl",
        "intake", "student", "DONE",
    }  # fmt: skip


def test_check_tells_the_plan_and_touches_nothing(tmp_path):
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    done = fedkd("check", "tiny.toml", "--set", "method.0.weights=bias", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("knot/sum/bias", "travel", "kB", "bias vector", "transfer"):
        assert word in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.toml"]


def test_schema_lists_keys_with_defaults(tmp_path):
    done = fedkd("check", "--schema", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("[data.transfer]", "[[method]]", "epsilon = 0.05", "quorum", "alpha"):
        assert word in done.stdout


def test_predict_names_a_label_for_each_text(home):
    done = fedkd("predict", "runs/tiny", "so glad", "so sad", cwd=home)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2 and lines[0].endswith("so glad")
    other = fedkd("predict", "runs/tiny", "so glad", "--method", "cross-entropy", cwd=home)
    assert other.returncode == 0, other.stderr
    wrong = fedkd("predict", "runs/tiny", "so glad", "--method", "magic", cwd=home)
    assert wrong.returncode == 2 and "cross-entropy" in wrong.stderr


def test_report_can_be_written_again(home):
    page = home / "runs/tiny/report.html"
    before = page.read_bytes()
    page.unlink()
    done = fedkd("report", "runs/tiny", cwd=home)
    assert done.returncode == 0, done.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "absent.toml"), "absent.toml"),
        (("run", "tiny.toml", "--set", "labels.geometri=1"), "geometry"),
        (("run", "tiny.toml", "--set", "data.source=no.csv"), "no.csv"),
        (("check", "tiny.toml", "--set", "method.0.epsilon=0"), "epsilon"),
        (("predict", "nowhere", "text"), "nowhere"),
        (("check",), "scenario file"),
    ],
)
def test_mistakes_are_one_message_without_traceback(arguments, told, tmp_path):
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    done = fedkd(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr and "Try" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys, fedkd.cli\n"
        "heavy = {'torch', 'numpy', 'flwr', 'transformers', 'datasets', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
