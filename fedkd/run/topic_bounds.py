"""Models to set beside the students: LDA, ProdLDA, and what pooled private documents would give.

They need what no server has, so the simulation makes them, outside the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.files import read_json, read_rows, write_json
from fedkd.metrics.topics.diversity import top_words
from fedkd.metrics.topics.quality import perplexity
from fedkd.models.determinism import single_thread
from fedkd.models.lda import fit_lda, fold_in
from fedkd.models.topic_network import TopicNetwork
from fedkd.models.topic_training import (
    Documents,
    Objective,
    elbo,
    posterior,
    topic_words,
    word_shares,
)
from fedkd.run.folder import RunFolder
from fedkd.scenario import Scenario
from fedkd.seeds import seed_for
from fedkd.topic_scenario import Companion, Topics
from fedkd.topics.asking import Prediction, predict_words, prediction
from fedkd.topics.judge import TopicJudge
from fedkd.topics.method import TopicMethod, parse_topic_methods
from fedkd.topics.model import Recipe, count_parameters, recipe, train_model, vectors_for
from fedkd.topics.objective import Distillation, TopicTargets
from fedkd.topics.vocabulary import Vocabulary


def add_topic_bounds(scenario: Scenario, seed: int, folder: RunFolder) -> None:
    """Make each companion that is not there yet, and add it to the result of a finished seed."""
    topics = scenario.topics
    if topics is None or has_topic_bounds(scenario, folder):
        return
    methods = parse_topic_methods(scenario.method)
    with single_thread():
        room = _open_room(topics, seed, folder)
        for companion in topics.companions:
            file = folder.bounds / f"{companion}.json"
            if not file.is_file():
                write_json(file, _make(room, companion, methods))
    found = {c: read_json(folder.bounds / f"{c}.json") for c in topics.companions}
    sides = read_json(folder.root / "topics.json")
    sides["topics"] |= {name: one["topics"] for name, one in found.items()}
    sides["npmi"] |= {name: one["npmi_by_topic"] for name, one in found.items()}
    write_json(folder.root / "topics.json", sides)
    result = read_json(folder.result)
    result["references"] |= found
    write_json(folder.result, result)


def has_topic_bounds(scenario: Scenario, folder: RunFolder) -> bool:
    """Whether the result of this seed holds every companion."""
    wanted = set(scenario.topics.companions) if scenario.topics else set()
    return folder.result.is_file() and wanted <= set(read_json(folder.result)["references"])


@dataclass(frozen=True)
class Room:
    """All private documents together, and what they are measured on."""

    topics: Topics
    seed: int
    folder: RunFolder
    vocabulary: Vocabulary
    judge: TopicJudge
    private: list[str]
    public: list[str]
    test: list[str]

    def documents(self, made: Recipe, name: str) -> Documents:
        """Return the 'private', 'transfer' or 'test' documents with their vectors."""
        public_folder = self.folder.public
        if name == "private":
            parties = sorted(self.folder.parties.iterdir())
            texts = [read_rows(p / "private.jsonl")["text"] for p in parties]
            parts = [
                vectors_for(made, p, "private", t, self.public)
                for p, t in zip(parties, texts, strict=True)
            ]
            known = [part for part in parts if part is not None]
            vectors = np.concatenate(known) if known else None
            return Documents(self.vocabulary.bags(self.private), vectors)
        texts_ = self.public if name == "transfer" else self.test
        found = vectors_for(made, public_folder, name, texts_, self.public)
        return Documents(self.vocabulary.bags(texts_), found)


def _open_room(topics: Topics, seed: int, folder: RunFolder) -> Room:
    public, test = (
        read_rows(folder.public / f"{name}.jsonl")["text"] for name in ("transfer", "test")
    )
    parties = sorted(folder.parties.iterdir())
    private = [text for p in parties for text in read_rows(p / "private.jsonl")["text"]]
    vocabulary = Vocabulary(tuple(read_json(folder.topics_sealed(topics.rounds - 1))["vocabulary"]))
    reference = read_rows(folder.root / "reference.jsonl")["text"]
    judge = TopicJudge.of(reference, vocabulary.words)
    return Room(topics, seed, folder, vocabulary, judge, private, public, test)


def _make(room: Room, companion: Companion, methods: tuple[TopicMethod, ...]) -> dict[str, Any]:
    if companion == "lda":
        return _lda(room)
    if companion == "prodlda":
        fields = room.topics.student.model_copy(update={"inputs": "bag", "hidden": None})
        made = recipe(fields, inputs="bag", encoder=room.topics.encoder)
        return _measured(room, made, _train(room, made, "prodlda", "private"))
    made = recipe(room.topics.teacher, inputs="combined", encoder=room.topics.encoder)
    network = _train(room, made, "pooled", "private")
    if companion == "teacher-pooled":
        return _measured(room, made, network)
    method = next((m for m in methods if m.alpha), None) or TopicMethod()
    mean, log_variance = posterior(network, room.documents(made, "transfer"))
    words = word_shares(
        network, mean, log_variance, samples=room.topics.upload.samples, seed=room.seed,
        temperature=method.temperature, normalised=method.soft_label == "bn",
    )  # fmt: skip
    loss = Distillation(
        TopicTargets(torch.from_numpy(words)), alpha=method.alpha, temperature=method.temperature,
        latent=0.0,
    )  # fmt: skip
    student = recipe(room.topics.student, inputs="zero-shot", encoder=room.topics.encoder)
    found = _train(room, student, "topic student", "transfer", loss)
    return _measured(room, student, found)


def _train(
    room: Room, made: Recipe, purpose: str, on: str, objective: Objective = elbo
) -> TopicNetwork:
    documents = room.documents(made, on)
    network, _ = train_model(
        made, documents.bags, documents.vectors, seed=seed_for(room.seed, "server", 0, purpose),
        objective=objective, progress=purpose,
    )  # fmt: skip
    return network


def _measured(room: Room, made: Recipe, network: TopicNetwork) -> dict[str, Any]:
    found = predict_words(network, room.documents(made, "test"))
    return {
        **room.judge.measure(top_words(topic_words(network))),
        "perplexity": _perplexity(found),
        "parameters": count_parameters(made, network.shape, room.public),
    }


def _lda(room: Room) -> dict[str, Any]:
    bags = room.vocabulary.bags(room.private)
    count = room.topics.student.topics or 20
    lda = fit_lda(bags, count, seed=seed_for(room.seed, "server", 0, "lda"))
    test = room.vocabulary.bags(room.test)
    words: NDArray[np.float64] = fold_in(test, lda.topics, lda.alpha) @ lda.topics
    return {
        **room.judge.measure(top_words(lda.topics)),
        "perplexity": _perplexity(prediction(words, test)),
    }


def _perplexity(found: Prediction) -> float:
    return perplexity(float(found.log_likelihood.sum()), float(found.words.sum()))
