"""What a party lets out under its policy: refusals leave nothing, retries cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from clients.app import app
from clients.party import open_party
from fedkd.files import read_json, read_rows, write_json
from fedkd.privacy.accountant import Event, epsilon_rdp
from fedkd.privacy.ledger import read_ledger
from fedkd.privacy.near_duplicates import near_duplicates
from fedkd.privacy.policy import write_policy
from fedkd.privacy.settings import Terms
from fedkd.release import Release, fingerprint
from fedkd.run.folder import RunFolder
from fedkd.run.grid import InlineGrid
from fedkd.run.prepare import prepare_run
from fedkd.run.wire import content_release, encode_content, refusal_reason, request_content
from tests.system.small import small

Ask = Callable[..., RecordDict]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    teacher = {"model": "bow", "epochs": 1}
    return prepare_run(small(tmp_path, teacher=teacher, method=[{"name": "cross-entropy"}]), 0)


@pytest.fixture
def ask(folder: RunFolder) -> Ask:
    """Send one message to the first party and return the reply's content."""
    texts = read_rows(folder.public / "transfer.jsonl")["text"]

    def send(kind: str, request: str = "", **fields: Any) -> RecordDict:
        grid = InlineGrid(app, 1, {"seed": 0, "run-folder": str(folder.root.resolve())})
        (node,) = grid.get_node_ids()
        values = {
            "request_id": request or kind, "attempt": 0, "set": "transfer",
            "transfer_id": fingerprint(texts), "start": 0, "stop": 50, **fields,
        }  # fmt: skip
        message = grid.create_message(request_content(values), kind, node, "")
        (reply,) = grid.send_and_receive([message])
        return reply.content

    return send


def policy(folder: RunFolder, **terms: Any) -> None:
    write_policy(folder.party(0), Terms(**terms))


def entries(folder: RunFolder) -> list[dict[str, Any]]:
    return read_ledger(folder.party(0) / "ledger.jsonl")


def released(content: RecordDict, request: str) -> Release:
    assert refusal_reason(content) is None
    return content_release(content, request)


def test_without_a_policy_answers_are_as_they_are(folder, ask):
    release = released(ask("query.answer"), "query.answer")
    assert release.mechanism == "none" and release.epsilon_spent is None
    (entry,) = entries(folder)
    assert entry["event"] is None and "no guarantee" in entry["plain"]
    assert entry["wire_bytes"] == len(encode_content(ask("query.answer")))
    assert len(entries(folder)) == 1


REFUSED = {
    "kind": ({"requests": ("describe",)}, "be one of describe"),
    "rows": ({"most_rows": 49}, "most_rows=49"),
    "bytes": ({"most_bytes": 100}, "at most 100"),
    "small party": ({"minimum_rows": 10_000}, "minimum_rows=10000"),
    "delta": ({"epsilon": 3, "delta": 0.2, "mechanism": {"name": "dp-sgd"}}, "1 / rows"),
    "no mechanism": ({"epsilon": 3}, "bound epsilon"),
    "cap": ({"epsilon": 0.1, "mechanism": {"name": "gaussian", "noise": 5}}, "BudgetError"),
    "private cap": ({"epsilon": 0.1, "mechanism": {"name": "dp-sgd", "noise": 1}}, "BudgetError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_policy_forbids_is_refused_and_nothing_leaves(name, folder, ask):
    terms, told = REFUSED[name]
    policy(folder, **terms)
    content = ask("query.answer")
    reason = refusal_reason(content)
    assert reason is not None and told in reason
    assert ("BudgetError" if "cap" in name else "PolicyError") in reason
    assert list(content.keys()) == ["refusal"]
    assert not (folder.party(0) / "ledger.jsonl").exists()


@pytest.mark.parametrize("kind", ["query.describe", "train.teacher", "query.answer", "query.bias"])
def test_a_policy_that_does_not_parse_answers_nothing(kind, folder, ask):
    (folder.party(0) / "policy.toml").write_text("unit = 'record'\nepsilon = \n")
    reason = refusal_reason(ask(kind))
    assert reason is not None and "line 2" in reason
    assert not (folder.party(0) / "teacher.json").exists()


def test_a_changed_ledger_stops_the_party(folder, ask):
    released(ask("query.answer"), "query.answer")
    file = folder.party(0) / "ledger.jsonl"
    file.write_text(file.read_text().replace('"rows": [0, 50]', '"rows": [0, 5]'))
    before = file.read_bytes()
    from fedkd.privacy import ledger

    ledger.open_ledger.cache_clear()
    reason = refusal_reason(ask("query.answer", "other", start=50, stop=100))
    assert reason is not None and "entry 0" in reason and "query.answer" in reason
    assert file.read_bytes() == before


NOISED = {
    "gaussian": {"name": "gaussian", "noise": 20.0},
    "laplace": {"name": "laplace", "noise": 20.0},
    "randomised-response": {"name": "randomised-response", "epsilon_each": 0.2},
    "pate": {"name": "pate", "noise": 20.0, "teachers": 4},
}


@pytest.mark.parametrize("name", NOISED)
def test_a_retry_is_the_same_bytes_and_spends_nothing(name, folder, ask):
    policy(folder, epsilon=100, mechanism=NOISED[name])
    first = ask("query.answer", "one")
    release = released(first, "one")
    probs = np.asarray(release.arrays["probs"], np.float64)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=4e-3)
    later = ask("query.answer", "two", start=50, stop=100)
    assert released(later, "two").epsilon_spent > release.epsilon_spent > 0
    assert encode_content(ask("query.answer", "one")) == encode_content(first)
    assert len(entries(folder)) == 2
    again = released(ask("query.answer", "three"), "three")
    np.testing.assert_array_equal(again.arrays["probs"], release.arrays["probs"])
    last = entries(folder)[-1]
    assert last["event"] is None and "nothing new" in last["plain"]
    assert last["epsilon_rdp"] == entries(folder)[1]["epsilon_rdp"]


def test_noise_is_new_for_other_rows_and_gone_for_none(folder, ask):
    clean = released(ask("query.answer"), "query.answer").arrays["probs"]
    (folder.party(0) / "ledger.jsonl").unlink()
    policy(folder, mechanism={"name": "gaussian", "noise": 1.0})
    one = released(ask("query.answer", "a"), "a").arrays["probs"]
    two = released(ask("query.answer", "b", start=50, stop=100), "b").arrays["probs"]
    assert np.abs(one - clean).max() > 0.1
    assert not np.array_equal(one, two)


def test_rows_asked_in_another_block_or_under_other_noise_are_refused(folder, ask):
    policy(folder, mechanism={"name": "gaussian", "noise": 1.0})
    released(ask("query.answer", "a"), "a")
    reason = refusal_reason(ask("query.answer", "b", start=25, stop=75))
    assert reason is not None and "asked once" in reason
    policy(folder, mechanism={"name": "gaussian", "noise": 9.0})
    reason = refusal_reason(ask("query.answer", "a"))
    assert reason is not None and "asked once" in reason
    assert len(entries(folder)) == 1


def test_a_cap_refuses_at_the_right_request_and_still_repeats_what_was_paid(folder, ask):
    noise = 20.0
    policy(folder, epsilon=3, mechanism={"name": "gaussian", "noise": noise})
    costs = [epsilon_rdp([Event("gaussian", noise / 2**0.5, 30 * (n + 1))], 1e-5) for n in range(5)]
    allowed = sum(cost <= 3 for cost in costs)
    assert 0 < allowed < 5
    for number in range(5):
        rows = {"start": 30 * number, "stop": 30 * number + 30}
        reason = refusal_reason(ask("query.answer", f"n{number}", **rows))
        assert (reason is None) == (number < allowed)
        assert reason is None or "BudgetError" in reason
    assert entries(folder)[-1]["epsilon_rdp"] == pytest.approx(costs[allowed - 1])
    assert entries(folder)[-1]["epsilon_rdp"] <= 3
    policy(folder, epsilon=0.5, mechanism={"name": "gaussian", "noise": noise})
    spent = refusal_reason(ask("query.answer", "n9", start=149, stop=150))
    assert spent is not None and "BudgetError" in spent, "a cap that is already spent"
    assert refusal_reason(ask("query.answer", "n0", start=0, stop=30)) is None
    assert len(entries(folder)) == allowed


def test_private_training_is_paid_once_and_covers_all_answers(folder, ask):
    policy(folder, epsilon=3, mechanism={"name": "dp-sgd", "steps": 5})
    content = ask("train.teacher")
    assert set(content.metric_records["metrics"]) == {"rows"}, "epochs would tell about the data"
    for number in range(3):
        rows = {"start": 50 * number, "stop": 50 * number + 50}
        released(ask("query.answer", f"n{number}", **rows), f"n{number}")
    released(ask("query.bias", "bias"), "bias")
    events = [entry["event"] for entry in entries(folder)]
    assert [event is not None for event in events] == [False, True, False, False, False]
    totals = {entry["epsilon_rdp"] for entry in entries(folder)[1:]}
    assert len(totals) == 1 and 2.9 < totals.pop() <= 3
    assert "PolicyError" in (refusal_reason(ask("evaluate.teacher")) or "")
    assert (folder.party(0) / "teacher" / "privacy.json").is_file()


def test_a_teacher_trained_without_noise_is_not_passed_off_as_private(folder, ask):
    ask("train.teacher")
    policy(folder, epsilon=3, mechanism={"name": "dp-sgd"})
    reason = refusal_reason(ask("query.answer"))
    assert reason is not None and "trained without noise" in reason


def test_exact_averages_leave_only_without_a_guarantee(folder, ask):
    assert refusal_reason(ask("evaluate.teacher")) is None
    policy(folder, mechanism=NOISED["gaussian"])
    for kind in ("evaluate.teacher", "query.further", "query.agree"):
        assert "PolicyError" in (refusal_reason(ask(kind)) or "")
    assert "PolicyError" in (refusal_reason(ask("query.answer", set="test")) or "")
    assert set(ask("train.teacher").metric_records["metrics"]) == {"rows"}


def test_a_bias_vector_is_a_release_with_its_own_price(folder, ask):
    policy(folder, mechanism=NOISED["gaussian"])
    release = released(ask("query.bias", "bias"), "bias")
    (entry,) = entries(folder)
    assert entry["event"]["count"] == 1 and entry["kind"] == "statistic"
    assert "label counts" in entry["plain"]
    assert float(np.asarray(release.arrays["bias"], np.float64).sum()) == pytest.approx(1, abs=1e-3)
    policy(folder, mechanism=NOISED["randomised-response"])
    assert "PolicyError" in (refusal_reason(ask("query.bias", "again")) or "")


def test_public_rows_that_repeat_private_ones_are_noticed(folder, ask):
    policy(folder, near_duplicates=0.02)
    assert refusal_reason(ask("query.answer")) is None
    own = read_rows(folder.party(0) / "private.jsonl")["text"]
    asked = read_rows(folder.public / "transfer.jsonl")["text"]
    smuggled = [f"{text} indeed" for text in own[:20]] + asked[20:]
    assert near_duplicates(smuggled, own) >= 15
    (folder.public / "transfer.jsonl").unlink()
    from fedkd.files import write_rows

    write_rows(folder.public / "transfer.jsonl", {"text": smuggled})
    reason = refusal_reason(ask("query.answer", "again", transfer_id=fingerprint(smuggled)))
    assert reason is not None and "near_duplicates" in reason
    assert not any(text in reason for text in own[:20])


def test_votes_leave_a_note_for_the_partys_own_eyes(folder, ask):
    policy(folder, mechanism=NOISED["pate"])
    released(ask("query.answer"), "query.answer")
    note = read_json(folder.party(0) / "not-publishable.json")
    assert "NOT PUBLISHABLE" in note["warning"]
    assert "data_dependent" not in str(entries(folder))
    assert len(list((folder.party(0) / "teacher").glob("[0-9]*"))) == 4


def test_a_deployed_party_adds_up_its_runs_and_draws_secret_noise(folder, ask, tmp_path):
    home = folder.party(0)
    card = read_json(home / "party.json")
    write_json(home / "party.json", card | {"deployed": True})
    policy(folder, epsilon=3, mechanism={"name": "gaussian", "noise": 40.0})
    alone = released(ask("query.answer", "a"), "a")
    party = open_party(home)
    assert len(party.noise_key.secret) == 32
    assert (
        replace(party.noise_key, secret=b"").stream("", "").key
        != party.noise_key.stream("", "").key
    )
    # Another configuration of the same party, side by side with this one.
    import shutil

    other = home.parent.parent / "other" / home.name
    shutil.copytree(home, other)
    from clients.gate import gate_of

    both = gate_of(party)._before()
    assert sum(event.count for event in both) == 100
    assert epsilon_rdp(both, 1e-5) > alone.epsilon_spent
