"""What a scenario with topic models would do, in figures, without doing it."""

from __future__ import annotations

import numpy as np

from fedkd.data.bags import TopicCorpus, check_topics
from fedkd.data.federation import Federation
from fedkd.data.rows import Rows
from fedkd.errors import QuorumError, ScenarioError, expected
from fedkd.run.checks import check_deployable, check_methods, companion_notes
from fedkd.run.devices import place
from fedkd.run.topic_layout import choose_public, read_corpus, topic_federation
from fedkd.scenario import Scenario
from fedkd.topic_scenario import Topics, TopicVocabulary
from fedkd.topics.method import TopicMethod, asked, parse_topic_methods
from fedkd.topics.model import Recipe, recipe
from fedkd.topics.release import Announced
from fedkd.topics.vocabulary import WordNoise


def topic_plan_lines(scenario: Scenario) -> list[str]:
    """Load the first seed's documents and say what would happen; dealt unless on real machines.

    Raises a :class:`~fedkd.errors.FedkdError` for everything that can be known to be impossible.
    """
    topics = scenario.topics
    if topics is None:
        raise ValueError("no topics")
    check_methods(scenario)
    placement, seed = place(scenario), scenario.seeds[0]
    corpus = read_corpus(scenario, seed)
    if scenario.run.backend == "remote":
        check_deployable(scenario)
        own = _own_lines(scenario, topics)
        warnings = (*corpus.warnings, *companion_notes(topics))
    else:
        federation = topic_federation(scenario, corpus, seed)
        own, left_out = _dealt_lines(scenario, topics, corpus, federation)
        warnings = (*federation.warnings, *left_out)
    chosen = choose_public(scenario, corpus, seed)
    _check_student(topics, corpus, len(chosen.public))
    methods = parse_topic_methods(scenario.method)
    return [
        f"scenario {scenario.name}, seeds {list(scenario.seeds)}, folder {scenario.folder()}",
        f"engine {scenario.run.backend}: {placement.text}",
        f"{len(corpus.texts):,} documents, {len(corpus.vocabulary):,} words, "
        f"{len(chosen.public):,} public, {len(chosen.held_out):,} held out",
        *own,
        *_words_lines(topics.vocabulary),
        *(f"student {method.key}: {_gets(method)}" for method in methods),
        f"{topics.rounds} round(s), {len(asked(methods))} question(s) each",
        *(f"warning: {w}" for w in warnings),
    ]


def _check_student(topics: Topics, corpus: TopicCorpus, public: int) -> None:
    student = recipe(topics.student, inputs="zero-shot", encoder=topics.encoder)
    check_topics(student.topics, corpus, "topics.student.topics")
    if public < student.topics:
        raise ScenarioError(
            expected("public documents", public, f"be at least topics={student.topics}",
                     "a larger topics.public, or fewer topics")
        )  # fmt: skip


def _own_lines(scenario: Scenario, topics: Topics) -> list[str]:
    made = recipe(topics.teacher, inputs="combined", encoder=topics.encoder)
    return [
        f"{scenario.parties.count} parties with documents of their own; the rest of the source is "
        "nobody's",
        f"models as each party.toml says; by the scenario {made.inputs} with {made.topics} topics",
    ]


def _dealt_lines(
    scenario: Scenario, topics: Topics, corpus: TopicCorpus, federation: Federation
) -> tuple[list[str], list[str]]:
    """Return a line a party, and why some could not take part; QuorumError for too many."""
    lines, left_out, public = [], [], len(federation.transfer)
    keep = None if topics.upload.form == "dense" else topics.upload.keep
    for index, party in enumerate(federation.parties):
        made = recipe(
            topics.teacher.for_party(index, party.name), inputs="combined", encoder=topics.encoder
        )
        known = Announced("", "", len(corpus.vocabulary), made.topics, keep)
        classes = np.bincount(party.train.label, minlength=len(federation.labels)).tolist()
        lines.append(
            f"{party.name}: {len(party.train):,} documents {classes}, {made.inputs} with "
            f"{made.topics} topics, at most {public * known.row_bytes():,} bytes up a question"
        )
        reason = _too_few(party.train, made, len(corpus.vocabulary))
        if reason is not None:
            left_out.append(f"{party.name} would be left out: {reason}")
    quorum = scenario.parties.quorum or scenario.parties.count
    if len(federation.parties) - len(left_out) < quorum:
        raise QuorumError("\n".join(left_out))
    return lines, left_out


def _too_few(own: Rows, made: Recipe, words: int) -> str | None:
    """Return why a party could not train so many topics, None where it could."""
    there = {word for text in own.text for word in text.split()}
    for name, count in (("documents", len(own)), ("words of its own", min(len(there), words))):
        if count < made.topics:
            remedy = "fewer topics for it in topics.teacher.override, or a smaller quorum"
            return expected(name, count, f"be at least topics={made.topics}", remedy)
    return None


def _gets(method: TopicMethod) -> str:
    return f"answers to {method.question.name}" if method.alpha else "public documents alone"


def _words_lines(settings: TopicVocabulary) -> list[str]:
    """Return when a word leaves a party, and what is guaranteed to whom."""
    least = f"{settings.anonymous} of its documents"
    told = "nothing is guaranteed"
    if settings.epsilon is not None:
        noise = WordNoise(settings.epsilon, settings.delta, settings.cap)
        least = f"{max(noise.threshold, settings.anonymous):.0f} of its documents, by noisy count"
        told = (
            f"epsilon {noise.epsilon:g} at delta {noise.delta:g} for one document and the words "
            "alone; nothing is guaranteed of what topics answer"
        )
    return [f"a word leaves a party that is held by {least}: {told}"]
