"""The plan: what a scenario would do, in figures, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedkd.coding import code
from fedkd.data.federation import Federation, split_federation
from fedkd.methods import Method, parse_methods
from fedkd.methods.summed import secure_weights
from fedkd.models.defaults import defaults, embedding_width
from fedkd.privacy.settings import Terms
from fedkd.release import WIDEST_EMBEDDING, Release
from fedkd.run.arms import arms_of
from fedkd.run.devices import Placement, place
from fedkd.run.prepare import check_models, policies, summarise
from fedkd.run.space import spaces_for
from fedkd.run.wire import content_bytes, release_content
from fedkd.scenario import Scenario
from fedkd.subclass.question import columns


@dataclass(frozen=True)
class Plan:
    """A scenario in figures. ``answer_bytes`` is what each party's answers take on the wire.

    ``further_bytes`` are those of subclasses, scores, Grams and embeddings, of the widest party;
    ``policies`` pairs terms of privacy with the parties that hold them, or with a sweep's arm.
    """

    scenario: Scenario
    placement: Placement
    federation: dict[str, Any]
    test_rows: int
    answer_bytes: int
    evaluation_bytes: int
    bias_bytes: int
    further_bytes: int
    methods: tuple[tuple[str, str], ...]
    policies: tuple[tuple[str, Terms], ...]
    warnings: tuple[str, ...]


def make_plan(scenario: Scenario) -> Plan:
    """Load and split the data of the first seed and say what would happen.

    Raises a :class:`~fedkd.errors.FedkdError` for everything that can be known to be impossible.
    """
    methods = parse_methods(scenario.method)
    summed = secure_weights(scenario, methods)
    placement = place(scenario)
    federation = split_federation(scenario, scenario.seeds[0])
    check_models(scenario, federation)
    facts = summarise(scenario, federation)
    spaces = spaces_for(scenario, methods, facts, None)
    test_rows = sum(len(party.test) for party in federation.parties)
    labels = len(federation.labels)
    biased = summed is None and any(method.weights == "bias" for method in methods)
    space_warnings = [w for space in spaces.values() for w in space.warnings]
    own_policies = _policies(scenario, federation)
    measured = any("measure" in terms.allowed for _, terms in own_policies)
    return Plan(
        scenario=scenario,
        placement=placement,
        federation=facts,
        test_rows=test_rows,
        answer_bytes=_answer_bytes(scenario, len(federation.transfer), labels),
        evaluation_bytes=_answer_bytes(scenario, test_rows, labels) if measured else 0,
        bias_bytes=_bias_bytes(labels) if biased else 0,
        further_bytes=_further_bytes(scenario, methods, federation),
        methods=tuple((method.key, _gets(method, summed)) for method in methods),
        policies=own_policies,
        warnings=tuple(federation.warnings) + tuple(dict.fromkeys(space_warnings)),
    )


def _policies(scenario: Scenario, federation: Federation) -> tuple[tuple[str, Terms], ...]:
    if scenario.privacy is None:
        return (("every party", Terms()),)
    arms = arms_of(scenario)
    found = []
    for name, arm in arms or (("", scenario),):
        holders: dict[Terms, list[str]] = {}
        for party, terms in policies(arm, federation).items():
            holders.setdefault(terms, []).append(party)
        for terms, parties in holders.items():
            who = "every party" if len(holders) == 1 else ", ".join(parties)
            found.append((f"{name}, {who}" if name else who, terms))
    return tuple(found)


def _answer_bytes(scenario: Scenario, rows: int, labels: int) -> int:
    step = scenario.run.block_rows
    sizes = [min(step, rows - start) for start in range(0, rows, step)]
    if scenario.privacy is not None and scenario.privacy.secure_sum:
        masked = (np.zeros((size, labels + 1), np.uint32) for size in sizes)
        return sum(_release_bytes({"masked": block}) for block in masked)
    kept = scenario.release.encoding, scenario.release.top
    arrays = (code(np.zeros((size, labels)), *kept) for size in sizes)
    return sum(_release_bytes(block) for block in arrays)


def _further_bytes(scenario: Scenario, methods: Sequence[Method], federation: Federation) -> int:
    rows, labels = len(federation.transfer), len(federation.labels)
    names = [party.name for party in federation.parties]
    models = (scenario.teacher.for_party(index, name) for index, name in enumerate(names))
    width = max(embedding_width(defaults(model)) or WIDEST_EMBEDDING for model in models)
    dtype = np.float32 if scenario.release.encoding == "float32" else np.float16
    total = 0
    asked = {(kind, split, m.weights) for m in methods for kind, split in m.splits}
    for kind, split, _ in asked:
        for start in range(0, rows, scenario.run.block_rows):
            size = min(scenario.run.block_rows, rows - start)
            if kind == "embeddings":
                total += _release_bytes({"embeddings": np.zeros((size, width + labels), dtype)})
            else:
                block = np.zeros((size, labels, columns(kind, split, rows)), dtype)
                total += _release_bytes({kind: block})
    return total


def _bias_bytes(labels: int) -> int:
    return _release_bytes({"bias": np.zeros(labels, np.float32)})


def _release_bytes(arrays: Mapping[str, np.ndarray[Any, Any]]) -> int:
    rows = max(len(array) for array in arrays.values())
    release = Release("probabilities", arrays, "0" * 64, "0" * 64, (0, rows))
    return content_bytes(release_content(release, "answer/transfer/party/0-0"))


def _gets(method: Any, summed: str | None) -> str:
    if summed is not None:
        return f"the sum of all teachers' probabilities, each weighed by its party ({summed})"
    asks = " and ".join(method.asks)
    extra = ", bias vectors" if method.weights == "bias" else ""
    return f"{asks} of every teacher{extra}, weights by {method.weights}"
