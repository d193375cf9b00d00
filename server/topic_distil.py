"""From the parties' answers to topic students."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.files import slug, write_json
from fedkd.models.determinism import single_thread
from fedkd.models.text_space import TextSpace, fit_space
from fedkd.models.topic_files import load_topic_model, save_topic_model
from fedkd.models.topic_network import TopicNetwork
from fedkd.models.topic_training import Documents, Objective, elbo, topic_words
from fedkd.run.folder import RunFolder
from fedkd.seeds import numpy_generator, seed_for
from fedkd.topic_scenario import TopicFields, Topics
from fedkd.topics.aggregate import TopicAggregator
from fedkd.topics.alignment import (
    AlignCost,
    Alignment,
    TopicFeatures,
    align,
    carry,
    hellinger,
    standardise,
    topic_features,
)
from fedkd.topics.follow import Follower, Latents
from fedkd.topics.method import TopicMethod, TopicQuestion
from fedkd.topics.model import Recipe, recipe, train_model, vectors_for
from fedkd.topics.objective import Distillation, TopicTargets
from fedkd.topics.vocabulary import Vocabulary
from fedkd.topics.weights import document_weights
from server.topic_intake import TopicAnswers, TopicStore, place_of

Floats = NDArray[np.float64]
EachEpoch = Callable[[int, TopicNetwork], None]


@dataclass(frozen=True)
class TopicIntake:
    """The answers of one round: whose, on which words, and to what they answer."""

    store: TopicStore
    vocabulary: Vocabulary
    round_: int
    parties: Mapping[str, Mapping[str, float]]
    questions: tuple[TopicQuestion, ...]

    def question(self, method: TopicMethod) -> TopicQuestion:
        """Return a method's question, or the first for a method that asked none."""
        return method.question if method.question in self.questions else self.questions[0]

    def read(self, party: str, method: TopicMethod) -> TopicAnswers:
        """Return a party's answer to a method's question."""
        return self.store.read(party, place_of(self.round_, self.question(method)))


@dataclass(frozen=True)
class TopicStudent:
    """A student as it was saved."""

    folder: Path
    network: TopicNetwork

    @property
    def topics(self) -> Floats:
        """Scores by which each topic's words rank (topics, words)."""
        scores = topic_words(self.network)
        return np.asarray(np.where(np.isfinite(scores), scores, -1e9), np.float64)


@dataclass(frozen=True)
class TopicWorks:
    """Makes the students of one seed; a student that is there is not made again."""

    folder: RunFolder
    topics: Topics
    seed: int
    intake: TopicIntake
    texts: tuple[Sequence[str], Sequence[str]]
    _documents: dict[str, Documents] = field(default_factory=dict)
    _spaces: dict[str, TextSpace] = field(default_factory=dict)

    def student(self, method: TopicMethod) -> Recipe:
        """Return what the student of a method is."""
        model: TopicFields = self.topics.student
        if method.hidden is not None:
            model = model.model_copy(update={"hidden": method.hidden})
        return recipe(model, inputs="zero-shot", encoder=self.topics.encoder)

    def documents(self, name: str, made: Recipe) -> Documents:
        """Return the public ('transfer') or the held-out ('test') documents on the agreed words."""
        if name not in self._documents:
            public, test = self.texts
            texts = list(public if name == "transfer" else test)
            vectors = vectors_for(made, self.folder.public, name, texts, list(public))
            bags = self.intake.vocabulary.bags(texts)
            self._documents[name] = Documents(bags, vectors)
        return self._documents[name]

    def distil(self, method: TopicMethod) -> TopicStudent:
        """Return the student of a method; what its loss came to is kept beside it."""
        made = self.student(method)
        home = self._home(method)
        if not (home / "fedkd.json").is_file():
            with single_thread():
                public = self.documents("transfer", made)
                objective, each_epoch = self._objective(method, made, public)
                network, history = train_model(
                    made,
                    public.bags,
                    public.vectors,
                    seed=seed_for(self.seed, "server", self.intake.round_, "topic student"),
                    objective=objective,
                    each_epoch=each_epoch,
                    progress=f"student {method.key}",
                )
                space = self._space(made)
            write_json(home / "history.json", history.epochs)
            save_topic_model(network, home, self.intake.vocabulary.words, made.encoder, space)
        return TopicStudent(home, load_topic_model(home)[0])

    def features(self, method: TopicMethod) -> dict[str, TopicFeatures]:
        """Return what each party's topics look like from outside."""
        found = {}
        for party in self.intake.parties:
            answers = self.intake.read(party, method)
            found[party] = topic_features(answers.mean, answers.words, self._places(method))
        return found

    def _space(self, made: Recipe) -> TextSpace | None:
        """Return how this student reads texts, so that its folder is enough to use it."""
        if made.inputs == "bag":
            return None
        if made.encoder not in self._spaces:
            self._spaces[made.encoder] = fit_space(made.encoder, self.texts[0])
        return self._spaces[made.encoder]

    @cached_property
    def _sizes(self) -> dict[str, float]:
        return {party: float(own["rows"]) for party, own in self.intake.parties.items()}

    def _home(self, method: TopicMethod) -> Path:
        if self.intake.round_ == self.topics.rounds - 1:
            return self.folder.student(method.key)
        return self.folder.root / "rounds" / str(self.intake.round_) / slug(method.key)

    def _objective(
        self, method: TopicMethod, made: Recipe, public: Documents
    ) -> tuple[Objective, EachEpoch | None]:
        if not method.alpha:
            return elbo, None
        follows = method.align == "student" and method.latents
        alignment = None
        if method.latents and not follows:
            alignment = self._align(method, made)
        targets, parties = self._targets(method, made, public, alignment)
        loss = Distillation(
            TopicTargets(**{k: _tensor(v) for k, v in targets.items()}),
            alpha=method.alpha,
            temperature=method.temperature,
            latent=0.0 if follows else method.latent,
            proportions=method.proportions,
            epsilon=method.epsilon,
            words=method.words,
        )
        if not follows:
            return loss, None
        follower = Follower(
            loss, parties, public, _cost(method),
            latent=method.latent, refresh=method.refresh, limit=method.new_slot,
            kappa=method.emphasis, standardise=method.standardise,
        )  # fmt: skip
        return follower, follower.each_epoch

    def _align(self, method: TopicMethod, made: Recipe) -> Alignment:
        features = self.features(method)
        plan = "permutation" if method.align == "student" else method.align
        return align(
            list(features.values()),
            topics=made.topics,
            plan=plan,
            cost=_cost(method),
            new_slot=method.new_slot,
            weights=[self._sizes[party] for party in features],
        )

    def _targets(
        self, method: TopicMethod, made: Recipe, public: Documents, alignment: Alignment | None
    ) -> tuple[dict[str, Any], list[Latents]]:
        """Stream the parties' answers into what the student learns from."""
        rows, words = len(public), len(self.intake.vocabulary.words)
        gathered = TopicAggregator(rows, words, made.topics)
        followed: list[Latents] = []
        for number, party in enumerate(self.intake.parties):
            answers = self.intake.read(party, method)
            weight = document_weights(
                method.weights, answers.words, public.bags,
                size=self._sizes[party], tau=method.tau,
            )  # fmt: skip
            mean, log_variance = answers.mean, answers.log_variance
            if method.standardise:
                mean, log_variance = standardise(mean, log_variance)
            spread = np.exp(0.5 * log_variance)
            if alignment is None:
                gathered.add(weight, answers.words)
                if method.align == "student" and method.latents:
                    places = self._places(method)
                    features = topic_features(answers.mean, answers.words, places)
                    followed.append(Latents(mean, spread, features, weight))
                continue
            chart = _padded(alignment.maps[number], made.topics)
            carried = carry(mean, spread, chart)
            gathered.add(weight, answers.words, *carried, covered=chart.sum(axis=0) > 0)
        found = gathered.close()
        targets: dict[str, Any] = {"words": self._controlled(method, found.words)}
        if alignment is not None:
            taught = found.standardised() if method.standardise else found
            targets |= {"mean": taught.mean, "spread": taught.spread, "covered": found.covered}
            if method.emphasis is not None:
                targets["emphasis"] = found.emphasis(method.emphasis)
            if method.proportions:
                use = np.exp(found.mean - found.mean.max(axis=1, keepdims=True))
                targets["shares"] = use / use.sum(axis=1, keepdims=True)
                targets["cost"] = _topic_distances(alignment, made.topics)
        return targets, followed

    def _places(self, method: TopicMethod) -> Floats | None:
        """Return the public documents' vectors where topics are matched by them."""
        vectors = self.documents("transfer", self.student(method)).vectors
        return (
            np.asarray(vectors, np.float64) if method.cost.places and vectors is not None else None
        )

    def _controlled(self, method: TopicMethod, words: Floats) -> Floats:
        """Return the words, or what a control puts in their place.

        Soft labels smooth, whatever they say; what teachers know is what is left beyond that.
        """
        if method.control == "uniform":
            return np.full_like(words, 1 / words.shape[1])
        if method.control == "shuffled":
            draw = numpy_generator(self.seed, "server", 0, "shuffled answers")
            return words[draw.permutation(len(words))]
        return words


def _cost(method: TopicMethod) -> AlignCost:
    return AlignCost(method.cost.activity, method.cost.words, method.cost.places)


def _padded(chart: Floats, topics: int) -> Floats:
    """Return the map with as many columns as the student has topics."""
    wide = np.zeros((len(chart), topics))
    count = min(topics, chart.shape[1])
    wide[:, :count] = chart[:, :count]
    return wide


def _topic_distances(alignment: Alignment, topics: int) -> Floats:
    """Return the Hellinger distance between common topics, 1 to those that nobody has."""
    common = alignment.common.words
    cost = 1 - np.eye(topics)
    count = min(topics, len(common))
    cost[:count, :count] = hellinger(common, common)[:count, :count]
    np.fill_diagonal(cost, 0)
    return cost


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    array = values if values.dtype == np.bool_ else values.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array))
