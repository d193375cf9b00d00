"""Secure sums in whole runs: the same students, no single answer, parties that fall silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clients.app import app as client_app
from clients.faults import PartyCrashError
from fedkd.errors import QuorumError, ScenarioError
from fedkd.files import read_json, read_json_lines
from fedkd.intake import FLOOR
from fedkd.methods import parse_methods
from fedkd.methods.method import weighted_sum
from fedkd.methods.summed import secure_weights
from fedkd.methods.weights import teacher_weights
from fedkd.privacy.compare import check_agreement, compare_ledgers
from fedkd.privacy.ledger import facts as entry_facts
from fedkd.run.audit import audit_seed
from fedkd.run.engine import run_scenario
from fedkd.run.plan import make_plan
from tests.system.small import small

SECURE = {"secure_sum": True}
WEIGHTS = "confidence"
METHODS = [
    {"name": "cross-entropy", "weights": WEIGHTS},
    {"name": "knot", "objective": "mixture", "weights": WEIGHTS},
]


class Silent:
    """The parties' app, of which some parties do not answer some messages, or only so often."""

    def __init__(self, silent: dict[tuple[int, str], int]):
        self.silent, self.seen = silent, {}

    def __call__(self, message, context):
        key = (int(context.node_config["partition-id"]), message.metadata.message_type)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] > self.silent.get(key, 10**9):
            raise PartyCrashError("silent")
        return client_app(message, context)


def ten(out: Path, **changes):
    transfer = {"from": "train", "rows": 150}
    values = {
        "data": {"source": "generated:moods", "transfer": transfer, "rows": 550},
        "parties": {"count": 10, "partition": {"by": "dirichlet", "alpha": 0.3}, "quorum": 6},
        "teacher": {"model": "bow", "epochs": 2},
        "student": {"model": "bow", "epochs": 1},
        "method": METHODS,
        "run": {"out": str(out), "block_rows": 64, "retries": 0},
    }
    return small(out, **values | changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_scenario(ten(tmp_path_factory.mktemp("plain"))).seeds[0]


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    scenario = ten(tmp_path_factory.mktemp("secure"), privacy=SECURE)
    messages = []
    tap = lambda way, message, data: messages.append((way, message.metadata, data))  # noqa: E731
    return run_scenario(scenario, tap=tap).seeds[0], messages, scenario


def mixture_of(folder, names):
    """Return what the unmasked run's intake makes of some parties."""
    raw = [np.load(folder.intake / name / "probs.npy").astype(np.float64) for name in names]
    probs = np.stack(raw) + FLOOR
    probs /= probs.sum(axis=-1, keepdims=True)
    return weighted_sum(teacher_weights(WEIGHTS, probs, np.ones(len(names))), probs)


def summed(folder):
    stored = np.load(folder.intake / "sum" / "probs.npy").astype(np.float64) + FLOOR
    return stored / stored.sum(axis=1, keepdims=True)


def facts(folder):
    (found,) = [
        e
        for e in read_json_lines(folder.root / "events.jsonl")
        if e["event"] == "secure sum" and e["set"] == "transfer"
    ]
    return found


def test_sum_equals_the_plain_run(plain, secure):
    folder, *_ = secure
    names = sorted(read_json(plain.result)["parties"])
    error = facts(folder)["rounding_error"] + 1e-7  # float32 of the store
    assert error < 1e-6
    assert np.abs(summed(folder) - mixture_of(plain, names)).max() <= error
    ours, theirs = read_json(folder.result), read_json(plain.result)
    assert set(ours["methods"]) == set(theirs["methods"])
    for key, scores in ours["methods"].items():
        assert scores["nll"] == pytest.approx(theirs["methods"][key]["nll"], abs=1e-3)
        assert scores["accuracy"] == pytest.approx(theirs["methods"][key]["accuracy"], abs=0.01)
    assert ours["references"]["teachers-mean"]["nll"] == pytest.approx(
        theirs["references"]["teachers-mean"]["nll"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("silent", "gone"),
    [
        ({(2, "query.masked"): 0}, 1),  # dies with its mask in everybody's shares
        ({(2, "query.masked"): 1, (5, "query.masked"): 2}, 2),  # die between blocks
        ({(2, "query.unmask"): 0, (5, "query.unmask"): 0}, 0),  # die once they are in the sum
        ({(4, "query.shares"): 0}, 1),  # never in it
    ],
)
def test_sum_is_right_though_parties_fall_silent(plain, tmp_path, silent, gone):
    app = Silent(silent | {(0, "query.none"): 0})
    folder = run_scenario(ten(tmp_path, privacy=SECURE), client_app=app).seeds[0]
    there = facts(folder)["parties"]
    assert len(there) == 10 - gone
    lost = {index for (index, kind) in silent if kind != "query.unmask"}
    assert not any(f"party-{index}" in there for index in lost)
    wanted = mixture_of(plain, there)
    assert np.abs(summed(folder) - wanted).max() <= facts(folder)["rounding_error"] + 1e-7
    shared = not any(kind in ("query.shares", "query.unmask") for _, kind in silent)
    assert shared == any("is without" in w for w in read_json(folder.result)["warnings"])


def test_no_answer_of_one_party_crosses(secure, plain):
    folder, messages, _ = secure
    assert [p.name for p in folder.intake.iterdir()] == ["sum"]
    assert [p.name for p in folder.evaluation.iterdir()] == ["sum"]
    kinds = {node.message_type for _, node, _ in messages}
    assert kinds == {
        "query.describe", "train.teacher", "query.keys", "query.shares", "query.masked",
        "query.unmask",
    }  # fmt: skip
    stream = b"\0".join(data for _, _, data in messages)
    for index in range(10):
        for file in (folder.party(index) / "answers").glob("*.npy"):
            assert np.load(file)[:4].tobytes() not in stream
        secrets = folder.party(index) / "secure" / _session(folder) / "secrets.json"
        assert secrets.stat().st_mode & 0o077 == 0
        for secret in read_json(secrets).values():
            assert secret.encode() not in stream and bytes.fromhex(secret) not in stream
    ours = {e["request"]: entry_facts(e) for e in folder.records("ledger")}
    own = {
        e["request"]: entry_facts(e)
        for i in range(10)
        for e in read_json_lines(folder.party(i) / "ledger.jsonl")
    }
    assert ours == own
    kinds = {"describe", "train", "keys", "shares", "masked", "unmask"}
    assert {e["kind"] for e in own.values()} == kinds
    check_agreement(compare_ledgers(folder.root))


def _session(folder):
    return next(p.name for p in (folder.root / "secure").iterdir() if p.name[:2] == "tr")


def test_single_questions_are_refused_by_the_party(secure):
    from clients.party import open_party
    from clients.secure import give_shares, masked_answer, refuse_single, share_secrets
    from fedkd.errors import ReleaseError

    folder, messages, _ = secure
    party = open_party(folder.party(0))
    for action in ("answer", "bias", "further", "evaluate"):
        with pytest.raises(ReleaseError, match="sum over parties"):
            refuse_single(party, action)
    fields = {}
    for way, node, data in messages:
        if way == "down" and node.dst_node_id == 10:
            from fedkd.run.wire import decode_content, request_fields

            asked = request_fields(decode_content(data))
            if str(asked.get("session", "")).startswith("transfer"):
                fields.setdefault(node.message_type, asked)
    # Asked again it says the same; asked for something else under the same mask it refuses.
    one = masked_answer(party, fields["query.masked"])
    two = masked_answer(party, fields["query.masked"])
    assert (one.arrays["masked"] == two.arrays["masked"]).all()
    assert share_secrets(party, fields["query.shares"]) == share_secrets(
        party, fields["query.shares"]
    )
    names = json.loads(fields["query.masked"]["sharers"])
    for change in ({"weights": "uniform"}, {"sharers": json.dumps(names[:-1])}):
        with pytest.raises(ReleaseError, match="stay what it was"):
            masked_answer(party, fields["query.masked"] | change)
    with pytest.raises(ReleaseError, match="at least"):
        masked_answer(party, fields["query.masked"] | {"sharers": json.dumps(names[:2])})
    with pytest.raises(ReleaseError, match="stay what it was"):
        give_shares(party, fields["query.unmask"] | {"alive": json.dumps(names[:-1])})
    sealed = json.loads(fields["query.unmask"]["sealed"])
    sealed.pop(next(iter(sealed)))
    with pytest.raises(ReleaseError, match="sealed share of"):
        give_shares(party, fields["query.unmask"] | {"sealed": json.dumps(sealed)})
    bent = {name: share[:-2] + "00" for name, share in sealed.items()}
    with pytest.raises(ReleaseError, match=r"sealed"):
        give_shares(party, fields["query.unmask"] | {"sealed": json.dumps(bent)})


def test_too_few_to_open_the_sum_then_resumed(plain, tmp_path):
    """A run that lacks shares stops with the reason, and goes on once the parties are back."""
    scenario = ten(tmp_path, privacy=SECURE)
    silent = {(index, "query.unmask"): 0 for index in range(5)}
    with pytest.raises(QuorumError, match="shares of the mask"):
        run_scenario(scenario, client_app=Silent(silent))
    folder = run_scenario(scenario).seeds[0]
    names = sorted(read_json(plain.result)["parties"])
    error = facts(folder)["rounding_error"] + 1e-7
    assert np.abs(summed(folder) - mixture_of(plain, names)).max() <= error
    fresh = run_scenario(ten(tmp_path / "again", privacy=SECURE)).seeds[0]
    # Fresh keys, another history, the same bytes in the intake and the same students.
    assert read_json(fresh.result)["hashes"] == read_json(folder.result)["hashes"]
    with pytest.raises(QuorumError, match="masked answers"):
        silent = {(index, "query.masked"): 1 for index in range(5)}
        run_scenario(ten(tmp_path / "few", privacy=SECURE), client_app=Silent(silent))


def test_faults_change_nothing(secure, tmp_path):
    folder, *_ = secure
    faults = {"rate": 0.3, "seed": 3, "stages": ["answer"], "delay": 0.0}
    faults["kinds"] = ["drop", "crash-before", "crash-after", "corrupt", "nan", "oversize"]
    run = {"out": str(tmp_path), "block_rows": 64, "retries": 6, "backoff": 0}
    hit = run_scenario(ten(tmp_path, privacy=SECURE, faults=faults, run=run)).seeds[0]
    events = list(read_json_lines(hit.root / "events.jsonl"))
    assert sum(e["event"] == "unusable reply" for e in events) > 20
    assert read_json(hit.result)["hashes"] == read_json(folder.result)["hashes"]


def test_attacks_on_single_parties_fail_on_the_sum(secure, plain):
    """No guess that is the same for all parties has a lower mean KL than the population's."""
    folder, *_ = secure
    masked, bare = audit_seed(folder, 60), audit_seed(plain, 60)

    def mean(found, key):
        return np.mean([own[key] for own in found["label_inference"].values()])

    assert masked["seen"] == "sum" and bare["seen"] == "parties"
    assert mean(masked, "kl") >= mean(masked, "constant_kl")
    assert mean(masked, "tv") >= mean(masked, "constant_tv") - 0.01
    assert mean(bare, "kl") < mean(bare, "constant_kl")
    assert mean(bare, "tv") < mean(masked, "tv")
    assert "reason" in masked["identification"]
    assert "linked" in bare["identification"]
    assert all("cooperative-lira" not in own for own in masked["membership"].values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": [{"name": "knot"}]}, "each teacher"),
        ({"method": [{"name": "knot", "objective": "barycentre"}]}, "each teacher"),
        ({"method": [{"name": "logit-average"}]}, "each teacher"),
        ({"method": [{"name": "symmetric-kl"}]}, "each teacher"),
        ({"method": [{"name": "kd"}]}, "each teacher"),
        ({"method": [{"name": "cross-entropy", "normalise_weights": False}]}, "normalise_weights"),
        ({"method": [METHODS[0], {"name": "knot", "objective": "mixture"}]}, "several sums"),
        ({"parties": {"count": 2}}, "at least 3"),
    ],
)
def test_impossible_combinations_are_refused_before_any_work(tmp_path, change, reason):
    scenario = ten(tmp_path, privacy=SECURE, **change)
    with pytest.raises(ScenarioError, match=reason):
        make_plan(scenario)
    with pytest.raises(ScenarioError, match=reason):
        run_scenario(scenario)
    assert not scenario.folder().exists()


def test_possible_combinations(tmp_path):
    possible = [
        {"name": "cross-entropy"},
        {"name": "sharpened-average"},
        {"name": "knot", "objective": "mixture"},
        {"name": "kd", "class_targets": "mean", "weights": "size"},
    ]
    scenario = ten(tmp_path, privacy=SECURE, method=possible)
    assert secure_weights(scenario, parse_methods(scenario.method)) == "size"
    without = ten(tmp_path, method=[{"name": "knot"}])
    assert secure_weights(without, parse_methods(without.method)) is None
    assert ten(tmp_path).config_hash != ten(tmp_path, privacy=SECURE).config_hash


def test_plan_foretells_the_masked_bytes(secure):
    _, messages, scenario = secure
    plan = make_plan(scenario)
    sent = sum(
        len(data)
        for way, node, data in messages
        if way == "up" and node.message_type == "query.masked" and node.src_node_id == 10
    )
    told = plan.answer_bytes + plan.evaluation_bytes + plan.bias_bytes
    assert abs(sent - told) <= 0.05 * sent
