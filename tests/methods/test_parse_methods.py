"""From ``[[method]]`` tables to methods, and every table that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedkd.methods
from fedkd.errors import ScenarioError
from fedkd.methods import known_methods, parse_methods
from fedkd.methods.knot import Knot
from fedkd.run.schema_text import schema_text
from fedkd.scenario import MethodSpec


def specs(*tables: dict[str, Any]) -> list[MethodSpec]:
    return [MethodSpec(**table) for table in tables]


def test_the_known_methods() -> None:
    assert set(known_methods()) == {
        "crd",
        "cross-entropy",
        "dist",
        "dkd",
        "embedding-distillation",
        "fitnet",
        "kd",
        "knot",
        "lelp",
        "logit-average",
        "rkd",
        "sharpened-average",
        "symmetric-kl",
        "vid",
    }


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"name": "knot"}, "knot/sum/size"),
        ({"name": "knot", "objective": "mixture", "weights": "bias"}, "knot/mixture/bias"),
        ({"name": "knot", "geometry": "onehot"}, "knot/sum/size/onehot"),
        (
            {"name": "knot", "geometry": "hybrid", "solver": "geomloss_compat"},
            "knot/sum/size/hybrid/geomloss",
        ),
        ({"name": "cross-entropy"}, "cross-entropy"),
        ({"name": "cross-entropy", "weights": "uniform"}, "cross-entropy/uniform"),
        ({"name": "logit-average"}, "logit-average"),
        ({"name": "knot", "label": "mine"}, "mine"),
    ],
)
def test_keys_name_what_differs(table: dict[str, Any], key: str) -> None:
    (method,) = parse_methods(specs(table))
    assert method.key == key


def test_methods_keep_their_order_and_values() -> None:
    first, second = parse_methods(
        specs({"name": "cross-entropy"}, {"name": "knot", "epsilon": 0.1, "cross_entropy": 1})
    )
    assert first.name == "cross-entropy"
    assert isinstance(second, Knot)
    assert (second.epsilon, second.cross_entropy) == (0.1, 1.0)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([{"name": "knott"}], ["method.0.name='knott'", "cross-entropy, "]),
        ([{"name": "knot", "epsilo": 1}], ["method.0.epsilo=1", "epsilon"]),
        ([{"name": "knot", "epsilon": 0}], ["method.0.epsilon=0", "greater than 0"]),
        ([{"name": "knot", "epsilon": "big"}], ["method.0.epsilon='big'"]),
        ([{"name": "knot", "weights": "sizes"}], ["method.0.weights='sizes'", "'size'"]),
        ([{"name": "knot", "objective": "max"}], ["method.0.objective='max'", "'mixture'"]),
        ([{"name": "cross-entropy", "epsilon": 1}], ["method.0.epsilon=1", "one of: name"]),
        ([{"name": "logit-average", "temperature": -1}], ["method.0.temperature=-1"]),
        (
            [{"name": "knot", "objective": "mixture", "normalise_weights": False}],
            ["normalise_weights=False", "objective = 'sum'"],
        ),
        (
            [{"name": "knot", "objective": "barycentre", "solver": "geomloss_compat"}],
            ["solver='geomloss_compat'"],
        ),
        ([{"name": "sharpened-average", "normalise_weights": False}], ["normalise_weights"]),
        (
            [{"name": "knot"}, {"name": "knot", "epsilon": 0.1}],
            ["method.1='knot/sum/size'", "Try label = "],
        ),
        (
            [{"name": "knot", "label": "a"}, {"name": "cross-entropy", "label": "a"}],
            ["method.1='a'", "Try label = "],
        ),
    ],
)
def test_tables_that_are_no_method_are_refused(
    tables: list[dict[str, Any]], words: list[str]
) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse_methods(specs(*tables))
    assert "Expected " in str(refused.value)
    assert "Try " in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_a_label_tells_two_equal_keys_apart() -> None:
    methods = parse_methods(specs({"name": "knot"}, {"name": "knot", "label": "again"}))
    assert [method.key for method in methods] == ["knot/sum/size", "again"]


def test_a_new_method_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "majority.py").write_text(
        "from typing import Literal\n"
        "from fedkd.methods.baselines import CrossEntropy\n"
        "class Majority(CrossEntropy):\n"
        "    name: Literal['majority'] = 'majority'\n"
        "    smoothing: float = 0.1\n"
    )
    monkeypatch.setattr(fedkd.methods, "__path__", [*fedkd.methods.__path__, str(tmp_path)])
    (method,) = parse_methods(specs({"name": "majority", "smoothing": 0.2}))
    assert method.key == "majority"
    assert type(method).__name__ == "Majority"
    assert known_methods()["cross-entropy"].__name__ == "CrossEntropy"
    assert "smoothing" in schema_text()
