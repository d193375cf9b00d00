"""Real machines that die: a node in mid-answer, then the server between intake and distillation."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.app import app
from clients.faults import draw_fault
from fedkd.deploy import lifecycle
from fedkd.deploy.control import control_of
from fedkd.errors import DeployError
from fedkd.fault_scenario import Faults
from fedkd.files import read_json, read_json_lines
from fedkd.party_card import read_card
from fedkd.run.engine import run_scenario
from fedkd.run.folder import RunFolder
from fedkd.run.remote import run_remote
from fedkd.scenario import Scenario
from tests.system.deployment import PARTIES, Deployment, bring_up, deployed
from tests.system.small import small

LOST, SLOW = "work", "travel"
BLOCKS = ((0, 500), (500, 600))
REQUESTS = [f"answer/transfer/{{}}/{start}-{stop}" for start, stop in BLOCKS]
TEST_BLOCKS = ((0, 500), (500, 1000))
DELAY = 110.0  # longer than it takes to notice a dead node and let it in again
PATIENCE = 240.0


class LosesOneBlock(ClientApp):
    """The real app, where the lost party's first answer never gets out."""

    def __call__(self, message: Message, context: Context) -> Message:
        fields = message.content.config_records["request"]
        if fields["request_id"] == REQUESTS[0].format(LOST):
            raise RuntimeError("lost")
        return app(message, context)


def slow_first_block(folder: RunFolder, scenario: Scenario) -> int:
    """Return the seed of faults that delays the first answers of two parties and no other."""
    cards = {name: read_card(folder.party(PARTIES.index(name))) for name in (LOST, SLOW)}
    tests = [f"answer/test/{{}}/{start}-{stop}" for start, stop in TEST_BLOCKS]

    def hits(seed: int, name: str, request: str) -> bool:
        faults = Faults(seed=seed, **scenario.faults.model_dump(exclude={"seed"}))
        card = type(cards[name])(**(vars(cards[name]) | {"faults": faults}))
        fields = {"request_id": request.format(name), "attempt": 0}
        return draw_fault(card, "answer", fields) is not None

    for seed in range(10_000):
        if all(
            hits(seed, name, request) == (request == REQUESTS[0])
            for name in cards
            for request in (*REQUESTS, *tests)
        ):
            return seed
    raise AssertionError("no such seed")


def wait_for(what: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def kill(folder: Path) -> None:
    """End a folder's process and all it started as a power cut does."""
    process = lifecycle.daemon_of(folder).process()
    assert process is not None
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=30)


def node_status(here: Deployment, name: str) -> str:
    record = read_json(here.server / "state" / "nodes.json")
    with control_of(here.address, here.ca) as control:
        return {n.identifier: n.status for n in control.nodes()}[record[name]["node"]]


def test_node_and_server_die_and_nothing_is_lost(tmp_path: Path) -> None:
    scenario = small(
        tmp_path / "runs",
        data={"source": "generated:moods", "domain": "domain", "rows": 1600,
              "transfer": {"from": "train", "rows": BLOCKS[-1][1]}},
        parties={"count": 4, "partition": {"by": "domain"}, "quorum": 3},
        run={"out": str(tmp_path / "runs"), "block_rows": BLOCKS[0][1], "retries": 0,
             "deadline": PATIENCE},
        faults={"rate": 0.5, "kinds": ["delay"], "stages": ["answer"], "parties": [LOST, SLOW],
                "delay": DELAY},
    )  # fmt: skip
    quick = scenario.model_copy(update={"faults": Faults()})
    expected = run_scenario(
        quick.model_copy(update={"name": "expected"}), client_app=LosesOneBlock()
    ).seeds[0]
    seed = slow_first_block(expected, scenario)
    faults = Faults(seed=seed, **scenario.faults.model_dump(exclude={"seed"}))
    slowed = scenario.model_copy(update={"faults": faults})
    with deployed(tmp_path, slowed, private=expected) as here:
        (home,) = (here.server / "work").glob("runs/small/*/0")
        folder = RunFolder(home)
        told: list[BaseException] = []

        def submit() -> None:
            try:
                run_remote(here.scenario, here.address, here.ca)
            except DeployError as error:
                told.append(error)

        run = threading.Thread(target=submit)
        run.start()
        own = here.party(LOST)
        # The party has written its ledger and sleeps before it sends: the middle of an answer.
        request = REQUESTS[0].format(LOST)
        wait_for(lambda: any(request in f.read_text() for f in own.glob("state/*/0/ledger.jsonl")))
        kill(own)
        wait_for(lambda: node_status(here, LOST) == "offline")
        bring_up(own)
        # The round is over and distillation has not begun.
        wait_for(folder.sealed.is_file)
        kill(here.server)
        run.join(PATIENCE)
        assert told and not folder.done
        assert {p.name for p in folder.intake.iterdir()} == set(PARTIES)
        bring_up(here.server)
        wait_for(lambda: all(node_status(here, name) == "online" for name in PARTIES))
        before = len(list(folder.records("wire")))
        run_remote(here.scenario, here.address, here.ca)
        assert folder.done
        assert len(list(folder.records("wire"))) == before, "nobody was asked again"
        check_against(folder, expected, own)


def check_against(folder: RunFolder, expected: RunFolder, lost: Path) -> None:
    """The run equals the one without the lost reply, and the ledgers tell of everything."""
    one, two = read_json(folder.result), read_json(expected.result)
    assert one["hashes"] == two["hashes"]
    delivered = [e["rows"] for e in read_json_lines(folder.intake / LOST / "received.jsonl")]
    assert delivered == [list(BLOCKS[1])], "it came back for the next block"
    (ledger,) = lost.glob("state/*/0/ledger.jsonl")
    requests = [entry["request"] for entry in read_json_lines(ledger)]
    assert len(requests) == len(set(requests)) == ledger.read_text().count("\n")
    taken = {entry["request"] for entry in folder.records("ledger") if entry["party"] == LOST}
    assert set(requests) - taken == {REQUESTS[0].format(LOST)}
    reasons = [e for e in folder.records("events") if e["event"] == "unusable reply"]
    assert {(e["party"], e["request"]) for e in reasons} == {(LOST, REQUESTS[0].format(LOST))}
