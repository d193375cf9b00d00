"""The figures of one seed with topic models: students, teachers and companions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.errors import DataError
from fedkd.files import read_json, read_rows, write_json
from fedkd.metrics.topics.diversity import top_words
from fedkd.metrics.topics.quality import alignment_quality, downstream_accuracy, perplexity
from fedkd.models.topic_training import Documents, posterior, word_shares
from fedkd.run.folder import RunFolder
from fedkd.run.topic_layout import true_topics
from fedkd.topics.alignment import AlignCost, hellinger, topic_cost, topic_features, transport_plan
from fedkd.topics.asking import predict_words, topic_shares
from fedkd.topics.judge import TopicJudge, perplexities
from fedkd.topics.method import TopicMethod
from fedkd.topics.model import count_parameters
from server.distil import student_digest
from server.protocol import Figures, wire_totals
from server.result import stage_seconds
from server.topic_distil import TopicStudent, TopicWorks

SCHEMA = 1


@dataclass(frozen=True)
class TopicOutcome:
    """What a seed came to, before it is measured."""

    folder: RunFolder
    methods: Sequence[TopicMethod]
    works: TopicWorks
    teachers: Mapping[str, Figures]
    students: Mapping[str, TopicStudent]


@dataclass(frozen=True)
class Truth:
    """What a simulation knows of the documents: classes, and whose a held-out one is."""

    public: NDArray[np.int64]
    test: NDArray[np.int64]
    owner: NDArray[np.int64]
    parties: tuple[str, ...]


def write_topic_result(outcome: TopicOutcome, scenario: str, seed: int) -> None:
    """Measure everything and write ``result.json`` and ``topics.json``."""
    folder, works = outcome.folder, outcome.works
    federation = read_json(folder.root / "federation.json")
    with np.load(folder.truth, allow_pickle=False) as arrays:
        parties = tuple(federation["parties"])
        truth = Truth(arrays["transfer"], arrays["test"], arrays["party"], parties)
    judge = TopicJudge.of(
        read_rows(folder.root / "reference.jsonl")["text"], works.intake.vocabulary.words
    )
    students = {method.key: _student(outcome, method, judge, truth) for method in outcome.methods}
    references = {f"teacher/{p}": _teacher(outcome, p, judge) for p in works.intake.parties}
    for party, own in works.intake.parties.items():
        shown = federation["parties"][party]
        shown |= {k: own[k] for k in ("rows", "topics", "words", "empty")} | {"teacher": "topics"}
        said = outcome.teachers.get(party, {})
        shown["upload_error"] = {k: v for k, v in said.items() if k.startswith("upload_")}
    result = {
        "schema": SCHEMA,
        "kind": "topics",
        "scenario": scenario,
        "seed": seed,
        "labels": federation["labels"],
        "methods": students,
        "references": references,
        "bytes": wire_totals(folder),
        "seconds": stage_seconds(folder),
        "parties": federation["parties"],
        "hashes": {
            "vocabulary": works.intake.vocabulary.id,
            "intake": works.intake.store.digest(list(works.intake.parties)),
            "student": {m.key: student_digest(folder, m.key) for m in outcome.methods},
        },
        "words": len(works.intake.vocabulary.words),
        "rounds": works.topics.rounds,
        "transfer_rows": federation["transfer_rows"],
        "warnings": federation["warnings"] + folder.warnings(),
    }
    write_json(folder.result, result)
    write_json(folder.root / "topics.json", _side_by_side(outcome, students, references))


def _student(
    outcome: TopicOutcome, method: TopicMethod, judge: TopicJudge, truth: Truth
) -> dict[str, Any]:
    works, student = outcome.works, outcome.students[method.key]
    made = works.student(method)
    public, test = (works.documents(name, made) for name in ("transfer", "test"))
    measured = judge.measure(top_words(student.topics))
    whole, own = perplexities(predict_words(student.network, test), truth.owner, truth.parties)
    measured |= {"perplexity": whole, "parties": {p: {"perplexity": v} for p, v in own.items()}}
    measured["accuracy"] = _accuracy(student, public, test, truth)
    measured["parameters"] = count_parameters(made, student.network.shape, works.texts[0])
    history = read_json(student.folder / "history.json")
    measured["loss"] = history[-1] if history else {}
    known = true_topics(outcome.folder, works.intake.vocabulary.words)
    if known is not None:
        scores = np.exp(student.topics - student.topics.max(axis=1, keepdims=True))
        found = alignment_quality(scores / scores.sum(axis=1, keepdims=True), known)
        measured["true_topics"] = {
            "overlap": found.mean_overlap,
            "top_overlap": found.mean_top_overlap,
        }
    return measured


def _accuracy(
    student: TopicStudent, public: Documents, test: Documents, truth: Truth
) -> float | None:
    """Return how well a linear classifier names the class of a held-out document from θ."""
    theta = np.concatenate([topic_shares(student.network, d) for d in (public, test)])
    splits = np.repeat(["train", "test"], [len(public), len(test)])
    try:
        return downstream_accuracy(theta, np.concatenate([truth.public, truth.test]), splits)
    except DataError:
        return None


def _teacher(outcome: TopicOutcome, party: str, judge: TopicJudge) -> dict[str, Any]:
    works, own = outcome.works, outcome.teachers.get(party, {})
    answers = works.intake.read(party, outcome.methods[0])
    measured = judge.measure(answers.top_words)
    for key, prefix in (("perplexity", ""), ("own", "own_")):
        if own.get(f"{prefix}words"):
            value = perplexity(own[f"{prefix}log_likelihood"], own[f"{prefix}words"])
            if key == "own":
                measured["parties"] = {party: {"perplexity": value}}
            else:
                measured[key] = value
    return measured


def _side_by_side(
    outcome: TopicOutcome, students: Mapping[str, Any], references: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the words of every topic, and which of each party's topics matches a student's.

    ``matches[student][party]`` holds ``likeness`` (student's topics, party's topics), 1 less the
    Hellinger distance of their words, and for every topic of the student the number of the
    party's topic that matches it best, one to one (None where there is none).
    """
    works = outcome.works
    matches: dict[str, Any] = {}
    for method in outcome.methods:
        student = outcome.students[method.key]
        public = works.documents("transfer", works.student(method))
        asked = works.intake.question(method)
        mean, log_variance = posterior(student.network, public)
        words = word_shares(
            student.network, mean, log_variance, samples=1, seed=0, temperature=asked.temperature
        )
        mine = topic_features(np.asarray(mean, np.float64), words)
        matches[method.key] = {}
        for party, theirs in works.features(method).items():
            cost = topic_cost(theirs, mine, AlignCost())
            plan = transport_plan(cost, theirs.mass, mine.mass, "permutation")
            alike = 1 - hellinger(mine.words, theirs.words)
            matches[method.key][party] = {
                "likeness": np.round(alike, 4).tolist(),
                "match": [int(c.argmax()) if c.any() else None for c in plan.T],
            }
    everyone = {**students, **references}
    return {
        "vocabulary_id": works.intake.vocabulary.id,
        "topics": {name: one["topics"] for name, one in everyone.items()},
        "npmi": {name: one["npmi_by_topic"] for name, one in everyone.items()},
        "matches": matches,
    }
