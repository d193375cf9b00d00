"""What a scenario with topic models would do, in figures, without doing it."""

from __future__ import annotations

import numpy as np

from fedkd.data.bags import check_topics
from fedkd.data.rows import Rows
from fedkd.errors import QuorumError, ScenarioError, expected
from fedkd.run.topic_layout import read_corpus, topic_federation
from fedkd.scenario import Scenario
from fedkd.topics.method import parse_topic_methods
from fedkd.topics.model import Recipe, recipe
from fedkd.topics.release import Announced


def topic_plan_lines(scenario: Scenario) -> list[str]:
    """Load and deal the first seed's documents and say what would happen.

    Raises a :class:`~fedkd.errors.FedkdError` for everything that can be known to be impossible.
    """
    topics = scenario.topics
    if topics is None:
        raise ValueError("no topics")
    methods = parse_topic_methods(scenario.method)
    seed = scenario.seeds[0]
    corpus = read_corpus(scenario, seed)
    federation = topic_federation(scenario, corpus, seed)
    public = len(federation.transfer)
    student = recipe(topics.student, inputs="zero-shot", encoder=topics.encoder)
    lines = [
        f"scenario {scenario.name}, seeds {list(scenario.seeds)}, folder {scenario.folder()}",
        f"{len(corpus.texts):,} documents, {len(corpus.vocabulary):,} words, {public:,} public",
    ]
    check_topics(student.topics, corpus, "topics.student.topics")
    if public < student.topics:
        raise ScenarioError(
            expected("public documents", public, f"be at least topics={student.topics}",
                     "a larger topics.public, or fewer topics")
        )  # fmt: skip
    left_out: list[str] = []
    keep = None if topics.upload.form == "dense" else topics.upload.keep
    for index, party in enumerate(federation.parties):
        made = recipe(
            topics.teacher.for_party(index, party.name), inputs="combined", encoder=topics.encoder
        )
        reason = _too_few(party.train, made, len(corpus.vocabulary))
        if reason is not None:
            left_out.append(f"{party.name} would be left out: {reason}")
        known = Announced("", "", len(corpus.vocabulary), made.topics, keep)
        classes = np.bincount(party.train.label, minlength=len(federation.labels)).tolist()
        lines.append(
            f"{party.name}: {len(party.train):,} documents {classes}, {made.inputs} with "
            f"{made.topics} topics, at most {public * known.row_bytes():,} bytes up a question"
        )
    quorum = scenario.parties.quorum or scenario.parties.count
    if len(federation.parties) - len(left_out) < quorum:
        raise QuorumError("\n".join(left_out))
    for method in methods:
        gets = (
            "public documents alone" if not method.alpha else f"answers to {method.question.name}"
        )
        lines.append(f"student {method.key}: {gets}")
    questions = {method.question.name for method in methods}
    lines.append(f"{topics.rounds} round(s), {len(questions)} question(s) each")
    return [*lines, *(f"warning: {w}" for w in (*federation.warnings, *left_out))]


def _too_few(own: Rows, made: Recipe, words: int) -> str | None:
    """Return why a party could not train so many topics, None where it could."""
    there = {word for text in own.text for word in text.split()}
    for name, count in (("documents", len(own)), ("words of its own", min(len(there), words))):
        if count < made.topics:
            remedy = "fewer topics for it in topics.teacher.override, or a smaller quorum"
            return expected(name, count, f"be at least topics={made.topics}", remedy)
    return None
