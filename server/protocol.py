"""The talk with the parties: who is there, train, answer, measure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from flwr.app import RecordDict

from fedkd.errors import ReleaseError, expected
from fedkd.intake import Intake
from fedkd.progress import Progress
from fedkd.release import fingerprint
from fedkd.run.folder import RunFolder
from fedkd.run.wire import Scalar, content_release, description_facts, metrics_figures
from server.intake import Receiver
from server.received import Rows
from server.rounds import Request, Rounds, require_quorum, wait_for_nodes

Figures = dict[str, float]
MOST_ROWS = 10**12


@dataclass(frozen=True)
class Terms:
    """What a round asks for, from the scenario."""

    parties: int
    quorum: int
    labels: tuple[str, ...]
    block_rows: int
    bias_inputs: int | None
    deliver: bool = False


@dataclass(frozen=True)
class Answers:
    """What a round brought in: answers on both public sets, and each teacher's own figures.

    ``sizes`` holds the private rows of every party that stayed to the end.
    """

    transfer: Intake
    test: Intake
    teachers: dict[str, Figures]
    sizes: dict[str, int]


@dataclass(frozen=True)
class Ready:
    """Parties whose teachers are trained, their row counts, and what will store their answers."""

    active: list[str]
    sizes: dict[str, int]
    answering: Receiver
    measuring: Receiver


def run_protocol(
    rounds: Rounds, terms: Terms, transfer: Sequence[str], test: Sequence[str]
) -> Answers:
    """Carry out one round with all parties and return their checked answers.

    A party that fails on a block is missing on its rows alone and is asked again for the next.
    Raises :class:`~fedkd.errors.QuorumError` where too few parties answer for training or for a
    block of the transfer set; what was accepted until then stays in the intake, and the same run
    asks only for what is missing. Answers on the test set serve the references and need no quorum.
    """
    ready = prepare_parties(rounds, terms, transfer, test)
    active, sizes = ready.active, ready.sizes
    answering, measuring = ready.answering, ready.measuring
    _collect(rounds, answering, active, "transfer", terms.quorum)
    _collect(rounds, measuring, active, "test", 0)
    if terms.bias_inputs is not None:
        active = _collect_bias(rounds, answering, active, terms.bias_inputs)
        require_quorum("bias", len(active), terms.quorum)
    for party in active:
        answering.describe(party, sizes[party])
    return Answers(
        transfer=answering.close(active, sizes, bias=terms.bias_inputs is not None),
        test=measuring.close(active, sizes, bias=False),
        teachers=_evaluate(rounds, active),
        sizes={party: sizes[party] for party in active},
    )


def prepare_parties(
    rounds: Rounds, terms: Terms, transfer: Sequence[str], test: Sequence[str]
) -> Ready:
    """Learn who is there, send the public texts where that is agreed, and have teachers trained."""
    facts = describe(rounds, terms, fingerprint(terms.labels))
    sizes = {party: int(own["rows"]) for party, own in facts.items()}
    answering = receiver_for(rounds.folder, "transfer", terms, transfer)
    measuring = receiver_for(rounds.folder, "test", terms, test)
    active = sorted(facts)
    if terms.deliver:
        active = deliver(rounds, answering, "transfer", transfer, active)
        active = deliver(rounds, measuring, "test", test, active)
    active = _train(rounds, active)
    require_quorum("train", len(active), terms.quorum)
    return Ready(active, sizes, answering, measuring)


def describe(rounds: Rounds, terms: Terms, label_id: str) -> dict[str, dict[str, Scalar]]:
    """Learn the parties' names and sizes, and remember which node is which party."""
    found: dict[str, dict[str, Scalar]] = {}
    there = wait_for_nodes(rounds.grid, terms.parties, terms.quorum)
    nodes = {f"node-{node}": node for node in there}
    rounds.nodes.update(nodes)

    def accept(request: Request, content: RecordDict) -> None:
        facts = _description(content, label_id)
        name = str(facts["party"])
        if name in found:
            raise ReleaseError(expected("party", name, "be one node's name", "another name"))
        found[name] = facts
        rounds.nodes[name] = nodes[request.party]
        rounds.folder.log("wire", {"alias": request.party, "party": name})

    # Numbered, not named by Flower's random node, so that a request is the same on every engine.
    requests = [
        Request(node, "query.describe", f"describe/{number}") for number, node in enumerate(nodes)
    ]
    rounds.ask(requests, accept)
    require_quorum("describe", len(found), terms.quorum)
    return found


def wire_totals(folder: RunFolder) -> dict[str, dict[str, int]]:
    """Return the bytes of message contents per party, ``up`` and ``down``, as counted."""
    totals: dict[str, dict[str, int]] = {}
    for record in folder.records("wire"):
        party = record["party"]
        if "alias" in record:
            unnamed = totals.pop(record["alias"], {"up": 0, "down": 0})
            for direction, count in unnamed.items():
                totals.setdefault(party, {"up": 0, "down": 0})[direction] += count
        else:
            totals.setdefault(party, {"up": 0, "down": 0})[record["direction"]] += record["bytes"]
    return dict(sorted(totals.items()))


def _description(content: RecordDict, label_id: str) -> dict[str, Scalar]:
    facts = description_facts(content)
    if not {"party", "rows", "label_id", "teacher"} <= set(facts):
        raise ReleaseError(expected("description", sorted(facts), "be whole", "this version"))
    name = str(facts["party"])
    if not name or PurePath(name).name != name or name.startswith("."):
        raise ReleaseError(expected("party", name, "be usable as a folder name", "plain letters"))
    rows = facts["rows"]
    if not isinstance(rows, int) or not 0 <= rows <= MOST_ROWS:
        raise ReleaseError(
            expected("rows", rows, f"be a whole number up to {MOST_ROWS:,}", "counting them")
        )
    if facts["label_id"] != label_id:
        raise ReleaseError(
            expected(
                "label_id", facts["label_id"], f"equal {label_id!r}", "the scenario's label list"
            )
        )
    return facts


def _train(rounds: Rounds, parties: Sequence[str]) -> list[str]:
    requests = [Request(party, "train.teacher", f"train/{party}") for party in parties]
    return ask_each(rounds, requests, only_figures, "training teachers")


def only_figures(request: Request, content: RecordDict) -> None:
    """Take a reply that holds figures and nothing else."""
    metrics_figures(content)


def _evaluate(rounds: Rounds, parties: Sequence[str]) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}

    def accept(request: Request, content: RecordDict) -> None:
        figures[request.party] = metrics_figures(content)

    requests = [Request(party, "evaluate.teacher", f"evaluate/{party}") for party in parties]
    ask_each(rounds, requests, accept, "measuring teachers")
    return figures


def receiver_for(folder: RunFolder, name: str, terms: Terms, texts: Sequence[str]) -> Receiver:
    """Return what stores the answers for a public set, ``transfer`` or ``test``."""
    return Receiver(
        folder=folder.intake if name == "transfer" else folder.evaluation,
        transfer_id=fingerprint(texts),
        label_id=fingerprint(terms.labels),
        rows=len(texts),
        labels=len(terms.labels),
        block_rows=terms.block_rows,
    )


def deliver(
    rounds: Rounds, receiver: Receiver, name: str, texts: Sequence[str], parties: Sequence[str]
) -> list[str]:
    """Send the public texts in blocks; return the parties that took all of them."""
    active = list(parties)
    for start, stop in receiver.blocks:
        fields: dict[str, Scalar] = {
            "set": name,
            "start": start,
            "rows": len(texts),
            "texts": json.dumps(list(texts[start:stop]), ensure_ascii=False),
            "transfer_id": receiver.transfer_id,
        }
        requests = [
            Request(party, "query.receive", f"receive/{name}/{party}/{start}-{stop}", fields)
            for party in active
        ]
        active = ask_each(rounds, requests, only_figures, f"sending {name} rows {start}–{stop}")
    return active


def _collect(
    rounds: Rounds, receiver: Receiver, parties: Sequence[str], name: str, quorum: int
) -> None:
    for block in receiver.blocks:
        requests = [
            Request(
                party,
                "query.answer",
                f"answer/{name}/{party}/{block[0]}-{block[1]}",
                {
                    "set": name,
                    "start": block[0],
                    "stop": block[1],
                    "transfer_id": receiver.transfer_id,
                },
                limit=receiver.block_bytes(block),
            )
            for party in parties
            if block in receiver.missing(party)
        ]
        title = f"answers for {name} rows {block[0]}–{block[1]}"
        ask_each(rounds, requests, _storing(rounds, receiver, block), title)
        there = sum(block not in receiver.missing(party) for party in parties)
        require_quorum(title, there, quorum)


def _storing(
    rounds: Rounds, receiver: Receiver, block: Rows
) -> Callable[[Request, RecordDict], None]:
    def accept(request: Request, content: RecordDict) -> None:
        release = content_release(content, request.identifier)
        receiver.accept(request.party, release, block, lambda: rounds.enter(request, content))

    return accept


def _collect_bias(
    rounds: Rounds, receiver: Receiver, parties: Sequence[str], inputs: int
) -> list[str]:
    def accept(request: Request, content: RecordDict) -> None:
        release = content_release(content, request.identifier)
        receiver.accept_bias(request.party, release, inputs, lambda: rounds.enter(request, content))

    waiting = [party for party in parties if not receiver.has_bias(party)]
    fields: dict[str, Scalar] = {"transfer_id": receiver.transfer_id}
    requests = [Request(party, "query.bias", f"bias/{party}", fields) for party in waiting]
    given = set(ask_each(rounds, requests, accept, "bias vectors"))
    return [party for party in parties if party in given or party not in waiting]


def ask_each(
    rounds: Rounds,
    requests: Sequence[Request],
    accept: Callable[[Request, RecordDict], None],
    title: str,
) -> list[str]:
    """Ask and return the parties that gave a usable reply, in name order."""
    done: list[str] = []
    with Progress(title, len(requests)) as bar:

        def count(request: Request, content: RecordDict) -> None:
            accept(request, content)
            done.append(request.party)
            bar.advance(note=request.party)

        rounds.ask(requests, count)
    return sorted(done)
