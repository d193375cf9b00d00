"""What a scenario with topic models would do, in figures, without doing it."""

from __future__ import annotations

import numpy as np

from fedkd.run.topic_layout import read_corpus, topic_federation
from fedkd.scenario import Scenario
from fedkd.topic_scenario import TopicVocabulary
from fedkd.topics.method import parse_topic_methods
from fedkd.topics.model import recipe
from fedkd.topics.release import Announced
from fedkd.topics.vocabulary import WordNoise


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
    lines = [
        f"scenario {scenario.name}, seeds {list(scenario.seeds)}, folder {scenario.folder()}",
        f"{len(corpus.texts):,} documents, {len(corpus.vocabulary):,} words, {public:,} public",
    ]
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
    lines += _words_lines(topics.vocabulary)
    for method in methods:
        gets = (
            "public documents alone" if not method.alpha else f"answers to {method.question.name}"
        )
        lines.append(f"student {method.key}: {gets}")
    questions = {method.question.name for method in methods}
    lines.append(f"{topics.rounds} round(s), {len(questions)} question(s) each")
    return [*lines, *(f"warning: {w}" for w in federation.warnings)]


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
