"""Topic models on the inline engine, on Ray and on real machines: the same bytes, one student."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedkd.files import read_json, read_json_lines
from fedkd.privacy.compare import check_agreement, compare_ledgers
from fedkd.privacy.ledger import facts
from fedkd.report.topic_run import write_topic_report
from fedkd.run.devices import this_machine
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.remote import run_remote
from fedkd.scenario import Scenario
from tests.system.deployment import deployed
from tests.topics.small_run import small_topics

NAMES = ("party-0", "party-1", "party-2")
UNLIKE = {
    "topics": 5,
    "hidden": [12],
    "epochs": 2,
    "override": [{"parties": [1], "topics": 4, "inputs": "bag"}],
}


def scenario_at(out: Path, actors: int | None = None) -> Scenario:
    """Return three parties, unlike in their models, on Ray with so many actors."""
    run = {"out": str(out), "block_rows": 4096, "backoff": 0.0}
    if actors is not None:
        run |= {"backend": "ray", "resources": {"cpus": this_machine().cores / actors}}
    return small_topics(out, topics={"teacher": UNLIKE}, run=run)


def same(one: RunFolder, two: RunFolder) -> None:
    assert read_json(one.result)["hashes"] == read_json(two.result)["hashes"]
    answers = sorted(p.relative_to(one.intake) for p in one.intake.glob("*/*.npz"))
    assert len(answers) == 3 * len(NAMES)  # words, a summary and one block of each party
    for answer in answers:
        with np.load(one.intake / answer) as mine, np.load(two.intake / answer) as theirs:
            assert mine.files == theirs.files
            assert all(mine[n].tobytes() == theirs[n].tobytes() for n in mine.files)


def test_same_topics_inline_on_ray_and_on_real_machines(tmp_path: Path) -> None:
    inline = run_scenario(scenario_at(tmp_path / "inline")).seeds[0]
    same(inline, run_scenario(scenario_at(tmp_path / "ray", 2)).seeds[0])
    with deployed(tmp_path, scenario_at(tmp_path / "remote"), inline, NAMES) as here:
        (done,) = run_remote(here.scenario, here.address, here.ca)
        run = RunFolder(here.server / Path(done.folder))
        same(inline, run)
        assert write_topic_report(run.root.parent).is_file()
        ledgers = [next(here.party(name).glob("state/*/0/ledger.jsonl")) for name in NAMES]
    check_agreement(compare_ledgers(run.root, ledgers))
    own = [repr(facts(entry)) for ledger in ledgers for entry in read_json_lines(ledger)]
    assert sorted(own) == sorted(repr(facts(entry)) for entry in run.records("ledger"))
    assert not list(here.server.rglob("private.jsonl"))
