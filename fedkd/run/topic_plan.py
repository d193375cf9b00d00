"""What a scenario with topic models would do, in figures, without doing it."""

from __future__ import annotations

import numpy as np

from fedkd.data.bags import TopicCorpus
from fedkd.data.federation import Federation
from fedkd.run.checks import check_deployable, check_methods, companion_notes
from fedkd.run.devices import place
from fedkd.run.topic_layout import choose_public, read_corpus, topic_federation
from fedkd.scenario import Scenario
from fedkd.topic_scenario import Topics, TopicVocabulary
from fedkd.topics.method import TopicMethod, parse_topic_methods
from fedkd.topics.model import recipe
from fedkd.topics.release import Announced
from fedkd.topics.vocabulary import WordNoise


def topic_plan_lines(scenario: Scenario) -> list[str]:
    """Load and deal the first seed's documents and say what would happen.

    On real machines nothing is dealt: the parties have documents and models of their own. Raises a
    :class:`~fedkd.errors.FedkdError` for everything that can be known to be impossible.
    """
    topics = scenario.topics
    if topics is None:
        raise ValueError("no topics")
    check_methods(scenario)
    placement, seed = place(scenario), scenario.seeds[0]
    corpus = read_corpus(scenario, seed)
    remote = scenario.run.backend == "remote"
    if remote:
        check_deployable(scenario)
        chosen = choose_public(scenario, corpus, seed)
        public, held_out = len(chosen.public), len(chosen.held_out)
        own, warnings = _own_lines(scenario, topics), corpus.warnings
    else:
        federation = topic_federation(scenario, corpus, seed)
        public = len(federation.transfer)
        held_out = sum(len(party.test) for party in federation.parties)
        own, warnings = _dealt_lines(topics, corpus, federation), federation.warnings
    methods = parse_topic_methods(scenario.method)
    questions = {method.question.name for method in methods}
    return [
        f"scenario {scenario.name}, seeds {list(scenario.seeds)}, folder {scenario.folder()}",
        f"engine {scenario.run.backend}: {placement.text}",
        f"{len(corpus.texts):,} documents, {len(corpus.vocabulary):,} words, {public:,} public, "
        f"{held_out:,} held out",
        *own,
        *_words_lines(topics.vocabulary),
        *(f"student {method.key}: {_gets(method)}" for method in methods),
        f"{topics.rounds} round(s), {len(questions)} question(s) each",
        *(f"warning: {w}" for w in (*warnings, *(companion_notes(topics) if remote else ()))),
    ]


def _own_lines(scenario: Scenario, topics: Topics) -> list[str]:
    made = recipe(topics.teacher, inputs="combined", encoder=topics.encoder)
    return [
        f"{scenario.parties.count} parties with documents of their own; the rest of the source is "
        "nobody's",
        f"models as each party.toml says; by the scenario {made.inputs} with {made.topics} topics",
    ]


def _dealt_lines(topics: Topics, corpus: TopicCorpus, federation: Federation) -> list[str]:
    lines, public = [], len(federation.transfer)
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
    return lines


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
