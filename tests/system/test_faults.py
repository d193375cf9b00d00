"""Bad replies are rejected with a reason and recorded; the round goes on with a quorum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.app import app
from fedkd.errors import QuorumError
from fedkd.files import read_json
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from tests.system.small import small

Corruption = Callable[[Message], None]
BAD_NODE = 1  # the second party


class Faulty(ClientApp):
    """The real app, with one party's answers spoilt."""

    def __init__(self, corrupt: Corruption, attempts: int | None = None) -> None:
        super().__init__()
        self._corrupt = corrupt
        self._attempts = attempts
        self.told: list[str] = []

    def __call__(self, message: Message, context: Context) -> Message:
        reply = app(message, context)
        bad = context.node_config["partition-id"] == BAD_NODE
        if bad and message.metadata.message_type == "query.answer":
            request = message.content.config_records["request"]
            self.told.append(str(request.get("rejected", "")))
            if self._attempts is None or int(str(request["attempt"])) < self._attempts:
                self._corrupt(reply)
        return reply


def probs(change: Callable[[np.ndarray], np.ndarray]) -> Corruption:
    def corrupt(reply: Message) -> None:
        old = reply.content.array_records["release.arrays"]["probs"].numpy().copy()
        reply.content["release.arrays"] = ArrayRecord({"probs": Array(change(old))})

    return corrupt


def fact(name: str, value: str | int) -> Corruption:
    def corrupt(reply: Message) -> None:
        reply.content.config_records["release.facts"][name] = value

    return corrupt


def nan(array: np.ndarray) -> np.ndarray:
    array[0, 0] = np.nan
    return array


def negative(array: np.ndarray) -> np.ndarray:
    array[0, 0] -= 2
    array[0, 1] += 2
    return array


def stray_record(reply: Message) -> None:
    reply.content["extra"] = ArrayRecord({"weights": Array(np.zeros(3))})


def explode(reply: Message) -> None:
    raise RuntimeError("a teacher fell over")


FAULTS: dict[str, tuple[Corruption, str]] = {
    "nan": (probs(nan), "non-finite"),
    "shape": (probs(lambda a: a[:, :-1]), "probs.shape"),
    "too large": (probs(lambda a: np.concatenate([a, a])), "probs.shape"),
    "dtype": (probs(lambda a: a.astype(np.float64)), "probs.dtype"),
    "off the simplex": (probs(lambda a: a * 2), "simplex"),
    "negative": (probs(negative), "simplex"),
    "transfer fingerprint": (fact("transfer_id", "0" * 64), "transfer_id"),
    "label fingerprint": (fact("label_id", "0" * 64), "label_id"),
    "other rows": (fact("start", 1), "rows"),
    "replay": (fact("request_id", "answer/transfer/x/0-1"), "request_id"),
    "schema": (fact("schema", 99), "schema"),
    "garbled": (fact("start", "many"), "release"),
    "stray record": (stray_record, "records"),
    "exception": (explode, "RuntimeError"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return run_scenario(small(tmp_path_factory.mktemp("whole"))).seeds[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_quorum_goes_on_without_the_bad_party(fault, whole, tmp_path):
    corrupt, told = FAULTS[fault]
    scenario = small(
        tmp_path,
        parties={"count": 4, "partition": {"by": "domain"}, "quorum": 3},
        method=[{"name": "cross-entropy"}],
    )
    client = Faulty(corrupt)
    folder = run_scenario(scenario, client_app=client).seeds[0]
    events = [e for e in folder.records("events") if e["event"] == "unusable reply"]
    assert events and all(told in event["reason"] for event in events)
    bad = events[0]["party"]
    assert {event["party"] for event in events} == {bad}
    assert any(told in reason for reason in client.told), "the party was told why"
    assert not (folder.intake / bad / "received.jsonl").exists()
    for party in read_json(whole.result)["parties"]:
        if party != bad:
            good = (whole.intake / party / "probs.npy").read_bytes()
            assert (folder.intake / party / "probs.npy").read_bytes() == good
    references = read_json(folder.result)["references"]
    assert f"teacher/{bad}" not in references
    assert sum(name.startswith("teacher/") for name in references) == 3


def test_a_passing_fault_costs_a_retry_and_nothing_else(whole, tmp_path):
    scenario = small(tmp_path)
    folder = run_scenario(scenario, client_app=Faulty(probs(nan), attempts=1)).seeds[0]
    one, two = read_json(whole.result), read_json(folder.result)
    assert one["hashes"] == two["hashes"]
    assert one["methods"] == two["methods"]
    assert any(event["event"] == "unusable reply" for event in folder.records("events"))


def test_lost_quorum_says_so_and_keeps_what_came(whole, tmp_path):
    scenario = small(tmp_path)
    with pytest.raises(QuorumError, match="quorum=4"):
        run_scenario(scenario, client_app=Faulty(probs(nan)))
    folder = RunFolder(scenario.folder(0))
    assert len(list(folder.intake.glob("*/received.jsonl"))) == 3
    assert not folder.done
    mended = run_scenario(scenario).seeds[0]
    assert read_json(mended.result)["hashes"] == read_json(whole.result)["hashes"]
