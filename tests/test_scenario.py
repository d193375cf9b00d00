"""The scenario file: what it accepts, and what its refusals say."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from fedkd.errors import ScenarioError
from fedkd.scenario_file import load_scenario, parse_scenario

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios").glob("*.toml"))
PLAIN = """
name = "plain"
[data]
source = "generated:moods"
[parties]
count = 4
[[method]]
name = "knot"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "scenario.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_shipped_scenarios_load_and_say_what_they_show(file):
    scenario = load_scenario(file)
    assert scenario.name == file.stem
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_effective_scenario_reads_back_unchanged(tmp_path):
    scenario = load_scenario(write(tmp_path, PLAIN), ["teacher.hidden=8", "seeds=[3,4]"])
    assert scenario.teacher.hidden == 8 and scenario.seeds == (3, 4)
    values = json.loads(scenario.model_dump_json(by_alias=True, exclude_unset=True))
    again = parse_scenario(values)
    assert again == scenario
    assert again.config_hash == scenario.config_hash


def test_hash_ignores_where_and_which_seeds_but_not_what(tmp_path):
    base = load_scenario(write(tmp_path, PLAIN))
    same = load_scenario(tmp_path / "scenario.toml", ["run.out=elsewhere", "seeds=[7]"])
    other = load_scenario(tmp_path / "scenario.toml", ["method.0.objective=mixture"])
    assert base.config_hash == same.config_hash != other.config_hash


def test_overrides_reach_lists_and_keep_types(tmp_path):
    file = write(tmp_path, PLAIN)
    scenario = load_scenario(file, ["method.0.weights=uniform", "labels.normalise=false"])
    assert scenario.method[0].model_extra == {"weights": "uniform"}
    assert scenario.labels.normalise is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('[labels]\ngeometri = "ordinal"', ["scenario.toml:", "labels.geometri", "geometry"]),
        ('[labels]\ngeometry = "round"', ["labels.geometry", "'round'", "onehot"]),
        ("[run]\nblock_rows = 0", ["run.block_rows", "0", "greater than or equal to 1"]),
        ('seeds = ["a"]', ["seeds", "'a'", "integer"]),
        ("seeds = [1, 1]", ["seeds", "differ"]),
        ("seeds = []", ["seeds", "at least 1"]),
        ('[parties.partition]\nby = "dirichlet"', ["alpha", "Try alpha = 0.5"]),
        ('[parties.partition]\nby = "dirichlet"\nalpha = 0', ["alpha=0", "> 0"]),
        ('[parties.partition]\nby = "dirichlet"\nalpha = -1.0', ["alpha=-1", "> 0"]),
        ('[parties.partition]\nby = "iid"\nalpha = 1.0', ["alpha", "dirichlet"]),
        ('[parties.partition]\nby = "domain"', ["data.domain", "Try domain"]),
        ("[[teacher.override]]\nparties = [4]", ["parties", "4", "count=4"]),
        ('[[teacher.override]]\nparties = [1]\nmodel = "magic"', ["model", "'magic'", "bow"]),
    ],
)
def test_impossible_scenarios_name_key_value_and_remedy(tmp_path, change, told):
    head, sep, tail = PLAIN.partition("[data]")
    if change.startswith("["):
        text = PLAIN + change
        if "[parties." in change:
            text = PLAIN.replace("count = 4", f"count = 4\n{change}")
    else:
        text = f"{head}{change}\n{sep}{tail}"
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(tmp_path, text))
    message = str(caught.value)
    assert "Try" in message
    for part in told:
        assert part in message


def test_quorum_above_count_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="quorum=5 to be at most count=4"):
        load_scenario(write(tmp_path, PLAIN), ["parties.quorum=5"])


def test_missing_keys_and_files_are_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"Expected data\.source to be given"):
        load_scenario(write(tmp_path, PLAIN.replace('source = "generated:moods"', "")))
    with pytest.raises(ScenarioError, match="to be a file"):
        load_scenario(tmp_path / "absent.toml")
    with pytest.raises(ScenarioError, match="line 3"):
        load_scenario(write(tmp_path, "a = 1\nb = 2\nc = = 3\n"))
    with pytest.raises(ScenarioError, match="key=value"):
        load_scenario(write(tmp_path, PLAIN), ["seeds"])
    with pytest.raises(ScenarioError, match="number one of 1 entries"):
        load_scenario(write(tmp_path, PLAIN), ["method.3.weights=size"])


def test_shipped_scenarios_hold_no_path():
    for file in SCENARIOS:
        source = tomllib.loads(file.read_text(encoding="utf-8"))["data"]["source"]
        for name in [source] if isinstance(source, str) else source:
            assert "/" not in name
