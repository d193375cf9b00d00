"""Teachers of every kind in one federation, and parties that hold too little."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedkd.errors import FedkdError, ModelError
from fedkd.files import read_json
from fedkd.run.engine import run_scenario
from fedkd.run.plan import make_plan
from fedkd.scenario_file import load_scenario
from tests.system.small import small
from tests.tiny_bert import write_tiny_bert

TINY = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "max_tokens": 24}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"), ["the day was long and calm"] * 20)


def test_bow_encoder_and_transformer_teach_one_student(bert, tmp_path):
    teacher = {
        "model": "bow",
        "epochs": 2,
        "override": [
            {"parties": [1], "model": "encoder", "name": bert, "hidden": 8},
            {"parties": [2], "model": "transformer", **TINY},
            {"parties": ["work"], "model": "transformer", "name": bert, "max_tokens": 24},
        ],
    }
    student = {"model": "transformer", "epochs": 2, **TINY}
    method = [{"name": "knot", "weights": "confidence"}, {"name": "cross-entropy"}]
    scenario = small(tmp_path, teacher=teacher, student=student, method=method)
    folder = run_scenario(scenario).seeds[0]
    result = read_json(folder.result)
    kinds = [party["teacher"] for party in result["parties"].values()]
    assert kinds == ["bow", "encoder", "transformer", "transformer"]
    assert set(result["methods"]) == {
        "knot/sum/confidence", "cross-entropy", "sharpness-control/knot/sum/confidence",
    }  # fmt: skip
    plain = AutoModelForSequenceClassification.from_pretrained(folder.root / "student")
    assert AutoTokenizer.from_pretrained(folder.root / "student")
    assert list(plain.config.id2label.values()) == result["labels"]


@pytest.mark.parametrize("student", ["encoder", "transformer"])
def test_two_runs_of_heavier_students_give_the_same_bits(student, bert, tmp_path):
    model = {"model": student, "epochs": 2} | ({"name": bert} if student == "encoder" else TINY)
    runs = [
        run_scenario(small(tmp_path / str(i), student=model, method=[{"name": "knot"}])).seeds[0]
        for i in range(2)
    ]
    hashes = [read_json(run.result)["hashes"] for run in runs]
    assert hashes[0] == hashes[1]


def test_missing_tokenizer_is_told_before_any_work(bert, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(bert, copy, ignore=shutil.ignore_patterns("tokenizer*"))
    scenario = small(tmp_path, teacher={"model": "encoder", "name": str(copy)})
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        run_scenario(scenario)
    assert not list(scenario.folder().rglob("private.jsonl"))


def table(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    file = folder / "own.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label", "domain"), *rows])
    return file


def test_one_class_and_tiny_parties_are_warned_of_and_take_part(tmp_path):
    names = ("angry", "calm", "joyful", "sad")
    rows = [(f"a {names[i % 4]} day number {i} of many", names[i % 4], "mixed") for i in range(400)]
    rows += [(f"{text} indeed", "calm", "calm only") for text, _, _ in rows[:40]]
    rows += [(f"{text} again", names[i % 2], "tiny") for i, (text, _, _) in enumerate(rows[:3])]
    file = table(tmp_path, rows)
    scenario = small(
        tmp_path / "runs",
        data={"source": str(file), "domain": "domain", "transfer": {"rows": 60}},
        labels={"geometry": "onehot"},
        parties={"count": 3, "partition": {"by": "domain"}},
    )
    result = read_json(run_scenario(scenario).seeds[0].result)
    told = "\n".join(result["warnings"])
    assert "calm only" in told and "tiny" in told
    assert "no semantics" in told
    assert set(result["parties"]) == {"calm only", "mixed", "tiny"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": {"geometry": "ordinal", "values": [1, 2]}}, "values"),
        ({"labels": {"geometry": "coordinates", "coordinates": {"joy": [0, 1]}}}, "coordinates"),
        ({"labels": {"geometry": "matrix"}}, "matrix"),
        ({"labels": {"geometry": "embedding"}}, "encoder"),
        ({"parties": {"count": 5000}}, "count"),
        ({"data": {"source": "no/such/file.csv", "domain": "domain"}}, "no/such/file.csv"),
        ({"data": {"source": "generated:moods", "domain": "domain", "text": "body"}}, "body"),
        ({"method": [{"name": "knot", "weights": "best"}]}, "weights"),
        ({"method": [{"name": "knots"}]}, "knots"),
        ({"method": [{"name": "knot"}, {"name": "knot"}]}, "label"),
    ],
)
def test_what_cannot_be_is_refused_before_work(changes, told, tmp_path):
    with pytest.raises(FedkdError) as caught:
        make_plan(small(tmp_path, **changes))
    assert told in str(caught.value) and "Try" in str(caught.value)
    with pytest.raises(FedkdError):
        run_scenario(small(tmp_path, **changes))
    assert not list(tmp_path.rglob("private.jsonl"))


def test_shipped_scenario_mixes_three_kinds_of_teacher(bert, tmp_path):
    file = Path(__file__).parents[2] / "scenarios" / "mixed-teachers.toml"
    changes = [
        f"run.out={tmp_path}", f"teacher.override.0.name={bert}", "teacher.epochs=2",
        "data.rows=900",
        "data.transfer.rows=200",
    ]  # fmt: skip
    result = read_json(run_scenario(load_scenario(file, changes)).seeds[0].result)
    kinds = {party["teacher"] for party in result["parties"].values()}
    assert kinds == {"bow", "encoder", "transformer"}
    chance = 1 / len(result["labels"])
    assert result["methods"]["knot/sum/confidence"]["accuracy"] > chance
