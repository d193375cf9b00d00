"""One scenario of real reviews and unlike teachers: the same bits on every engine."""

from __future__ import annotations

from pathlib import Path

from fedkd.files import read_json
from fedkd.run.devices import this_machine
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.remote import run_remote
from fedkd.scenario import Scenario
from fedkd.scenario_file import parse_scenario
from tests.system.deployment import deployed

UNLIKE = [
    {"parties": [1], "hidden": 8},
    {"parties": [2], "features": 4096, "epochs": 3},
    {"parties": [3], "model": "transformer", "layers": 1, "width": 16, "heads": 2,
     "vocabulary": 300, "max_tokens": 32, "epochs": 1},
]  # fmt: skip


def reviews(out: Path, actors: int | None = None) -> Scenario:
    """Return four product domains with star ratings, on Ray with so many actors."""
    run = {"out": str(out), "block_rows": 4096}
    if actors is not None:
        run |= {"backend": "ray", "resources": {"cpus": this_machine().cores / actors}}
    return parse_scenario(
        {
            "name": "reviews",
            "seeds": [0],
            "data": {
                "source": "amazon_stars",
                "domain": "domain",
                "rows": 1500,
                "transfer": {"from": "train", "rows": 300},
            },
            "labels": {"geometry": "ordinal", "values": [-2, -1, 1, 2]},
            "parties": {"count": 4, "partition": {"by": "domain"}},
            "teacher": {"model": "bow", "epochs": 4, "override": UNLIKE},
            "student": {"model": "bow", "epochs": 4},
            "method": [{"name": "knot"}, {"name": "cross-entropy"}],
            "run": run,
        }
    )


def same(one: RunFolder, two: RunFolder) -> None:
    assert read_json(one.result)["hashes"] == read_json(two.result)["hashes"]
    answers = sorted(p.relative_to(one.intake) for p in one.intake.glob("*/*.npy"))
    assert len(answers) == 4
    for answer in answers:
        assert (one.intake / answer).read_bytes() == (two.intake / answer).read_bytes()


def test_same_bits_inline_on_ray_and_on_real_machines(real_data: Path, tmp_path: Path) -> None:
    inline = run_scenario(reviews(tmp_path / "inline")).seeds[0]
    names = tuple(read_json(inline.result)["parties"])
    for actors in (1, 2):
        on_ray = run_scenario(reviews(tmp_path / f"ray{actors}", actors)).seeds[0]
        same(inline, on_ray)
    with deployed(tmp_path, reviews(tmp_path / "remote"), inline, names) as here:
        (done,) = run_remote(here.scenario, here.address, here.ca)
        same(inline, RunFolder(here.server / Path(done.folder)))
