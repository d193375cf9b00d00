"""A party with a topic model: what it does when it is asked."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.party import Figures, Party
from clients.words import words_cost
from fedkd.errors import DataError, PolicyError, ReleaseError, expected
from fedkd.files import read_json, write_arrays, write_json, write_text
from fedkd.models.determinism import single_thread
from fedkd.models.topic_files import load_topic_model, save_topic_model
from fedkd.models.topic_network import TopicNetwork
from fedkd.models.topic_training import Documents
from fedkd.release import Release, fingerprint
from fedkd.run.wire import Scalar
from fedkd.seeds import seed_for
from fedkd.topics.asking import Arrays, answer_question, load_arrays, predict_words
from fedkd.topics.card import TopicCard, read_topic_card
from fedkd.topics.method import TopicQuestion, check_plain_terms
from fedkd.topics.model import recipe, train_model, vectors_for
from fedkd.topics.vocabulary import Vocabulary, WordNoise, pack_words, tell_words

Fields = dict[str, Scalar]


@dataclass(frozen=True)
class TopicParty:
    """A party whose private texts are words with blanks between them.

    Everything it makes lies under ``topics/`` in its own folder, so that a question asked again
    gets the same bytes.
    """

    party: Party
    card: TopicCard

    def tell_words(self, fields: Fields) -> Release:
        """Release the words that enough of the private documents hold, with their counts.

        Raises :class:`PolicyError` where the policy wants a guarantee that the card does not give.
        """
        settings = self.card.vocabulary
        texts = self.party.texts("private")
        what = f"words in at least {settings.anonymous} private documents"
        noise, cost = None, {}
        wanted = self._word_noise(len(texts))
        if wanted is not None:
            # Other documents or another threshold must never meet the same noise.
            purpose = repr((wanted, settings.anonymous, fingerprint(texts)))
            noise = wanted, self.party.noise_key.stream("vocabulary", purpose)
            least = max(settings.anonymous, wanted.threshold)
            cost = words_cost(wanted.event, **asdict(wanted), threshold=least)
            what = (
                f"words with a noisy count of at least {least:.4g} private documents, Laplace "
                f"noise of scale {wanted.cap / wanted.epsilon:g}"
            )
        told = tell_words(texts, least=settings.anonymous, noise=noise)
        return Release(
            "statistic",
            {
                "words": pack_words(tuple(told)),
                "frequencies": np.array(list(told.values()), np.uint32),
            },
            transfer_id=self._public_id(str(fields["transfer_id"])),
            label_id=self.party.label_id,
            rows=(0, 0),
            mechanism=what,
            account=cost,
        )

    def _word_noise(self, documents: int) -> WordNoise | None:
        settings, cap = self.card.vocabulary, self.party.terms.words_epsilon
        if settings.epsilon is None:
            if cap is not None:
                raise PolicyError(
                    expected("topics.vocabulary.epsilon", None,
                             f"be given under the party's words_epsilon={cap:g}",
                             f"epsilon = {cap:g}")
                )  # fmt: skip
            return None
        if settings.delta * documents >= 1:
            raise PolicyError(
                expected("topics.vocabulary.delta", settings.delta,
                         "be below 1 / documents of the party", "delta = 1e-6")
            )  # fmt: skip
        return WordNoise(settings.epsilon, settings.delta, settings.cap)

    def train(self, fields: Fields) -> Figures:
        """Train the topic model of a round on the agreed vocabulary, unless it is there already.

        Raises :class:`ReleaseError` for a vocabulary that is not the one announced, and
        :class:`DataError` where too few private documents or words are left on it.
        """
        vocabulary = Vocabulary(tuple(str(fields["vocabulary"]).split("\n")))
        if vocabulary.id != fields["vocabulary_id"]:
            raise ReleaseError(
                expected("vocabulary_id", fields["vocabulary_id"], f"equal {vocabulary.id!r}",
                         "sending it again")
            )  # fmt: skip
        home = self._home(vocabulary.id, int(fields["round"]))
        if not (home / "figures.json").is_file():
            with single_thread():
                figures = self._fit(vocabulary, home, fields)
            write_text(home / "figures.json", json.dumps(figures) + "\n")
        found: Figures = json.loads((home / "figures.json").read_text(encoding="utf-8"))
        return found

    def summary(self, fields: Fields) -> Release:
        """Release the mean word distribution, the topics' first words and their shares."""
        summary, _ = self._answers(fields)
        rows = (0, len(self.party.texts("transfer")))
        return self._release("statistic", summary, fields, rows, "means over public documents")

    def answer(self, fields: Fields) -> Release:
        """Release latents and word distributions for a block of the public documents."""
        _, every = self._answers(fields)
        start, stop = int(fields["start"]), int(fields["stop"])
        if not 0 <= start < stop <= len(every["mean"]):
            raise ReleaseError(
                expected(
                    "rows", (start, stop), f"lie in 0..{len(every['mean'])}", "a block of them"
                )
            )
        block = {name: np.ascontiguousarray(array[start:stop]) for name, array in every.items()}
        upload = self.card.upload
        form = "whole" if upload.form == "dense" else f"{upload.keep} words and a common rest"
        what = f"word distributions ({form}) at temperature {fields['temperature']}"
        return self._release("topics", block, fields, (start, stop), what)

    def evaluate(self, fields: Fields) -> Figures:
        """Return how well the model predicts held-out documents, and what encoding its answer cost.

        The held-out documents are everybody's, and the party's own.
        """
        home = self._home(str(fields["vocabulary_id"]), int(fields["round"]))
        network, words, _ = self._model(home)
        error = home / "upload-error.json"
        figures: Figures = read_json(error) if error.is_file() else {}
        for name, prefix in (("test", ""), ("own-test", "own_")):
            texts = self.party.texts(name)
            if texts:
                with single_thread():
                    found = predict_words(network, self._documents(name, texts, Vocabulary(words)))
                figures[f"{prefix}log_likelihood"] = float(found.log_likelihood.sum())
                figures[f"{prefix}words"] = float(found.words.sum())
        return figures

    def _fit(self, vocabulary: Vocabulary, home: Path, fields: Fields) -> Figures:
        texts = self.party.texts("private")
        documents = self._documents("private", texts, vocabulary)
        empty = int((np.diff(documents.bags.indptr) == 0).sum())
        made = recipe(self.card.model, inputs="combined", encoder=self.card.encoder)
        seed = seed_for(self.party.card.seed, self.party.card.name, int(fields["round"]), "topics")
        network, history = train_model(
            made,
            documents.bags,
            documents.vectors,
            seed=seed,
            support=np.asarray(documents.bags.sum(axis=0)) > 0,
            beta=_topics_back(fields, len(vocabulary.words)),
            progress=f"teacher {self.party.card.name}",
        )
        save_topic_model(network, home / "model", vocabulary.words, made.encoder)
        return {
            "rows": len(texts),
            "empty": empty,
            "topics": made.topics,
            "words": int(network.support.sum()),
            **history.epochs[-1],
        }

    def _answers(self, fields: Fields) -> tuple[Arrays, Arrays]:
        self._public_id(str(fields["transfer_id"]))
        home = self._home(str(fields["vocabulary_id"]), int(fields["round"]))
        question = TopicQuestion(
            temperature=float(fields["temperature"]), soft_label=_soft_label(fields)
        )
        files = [home / f"{part}-{question.name}.npz" for part in ("summary", "rows")]
        if not all(file.is_file() for file in files):
            network, words, _ = self._model(home)
            upload = self.card.upload
            with single_thread():
                public = self.party.texts("transfer")
                *parts, error = answer_question(
                    network,
                    self._documents("transfer", public, Vocabulary(words)),
                    question,
                    samples=upload.samples,
                    keep=None if upload.form == "dense" else upload.keep,
                    seed=seed_for(self.party.card.seed, self.party.card.name, 0, question.name),
                )
            for file, arrays in zip(files, parts, strict=True):
                write_arrays(file, arrays)
            write_json(home / "upload-error.json", {f"upload_{k}": v for k, v in error.items()})
        summary, rows = (load_arrays(file) for file in files)
        return summary, rows

    def _release(
        self, kind: str, arrays: Arrays, fields: Fields, rows: tuple[int, int], what: str
    ) -> Release:
        return Release(
            "topics" if kind == "topics" else "statistic",
            arrays,
            transfer_id=str(fields["transfer_id"]),
            label_id=str(fields["vocabulary_id"]),
            rows=rows,
            mechanism=what,
        )

    def _documents(self, name: str, texts: list[str], vocabulary: Vocabulary) -> Documents:
        made = recipe(self.card.model, inputs="combined", encoder=self.card.encoder)
        own = name in ("private", "own-test")
        place = self.party.folder if own else self.party.public_folder
        vectors = vectors_for(made, place, name, texts, self.party.texts("transfer"))
        return Documents(vocabulary.bags(texts), vectors)

    def _model(self, home: Path) -> tuple[TopicNetwork, tuple[str, ...], str]:
        if not (home / "figures.json").is_file():
            raise ReleaseError(
                expected("round", home.name, "be one this party trained for", "train.topics first")
            )
        return load_topic_model(home / "model")

    def _home(self, vocabulary_id: str, round_: int) -> Path:
        if not vocabulary_id.isalnum():
            raise ReleaseError(expected("vocabulary_id", vocabulary_id, "be a digest", "a digest"))
        return self.party.folder / "topics" / f"{vocabulary_id[:12]}-{round_}"

    def _public_id(self, asked: str) -> str:
        own = fingerprint(self.party.texts("transfer"))
        if own != asked:
            raise ReleaseError(
                expected("transfer_id", asked, f"equal {own!r}", "the same public documents")
            )
        return own


def topic_party(party: Party) -> TopicParty:
    """Return the party with its topic card; raises :class:`DataError` where it has none.

    Raises :class:`PolicyError` where the party's policy names a mechanism.
    """
    check_plain_terms(party.terms)
    return TopicParty(party, read_topic_card(party.folder))


def _soft_label(fields: Fields) -> Literal["bn", "repo"]:
    match str(fields["soft_label"]):
        case "bn":
            return "bn"
        case "repo":
            return "repo"
        case other:
            raise ReleaseError(expected("soft_label", other, "be 'bn' or 'repo'", "'bn'"))


def _topics_back(fields: Fields, words: int) -> NDArray[np.float16] | None:
    """Return the student's topics (topics, words) that the server sent back, if it did."""
    if "beta" not in fields:
        return None
    try:
        data = base64.b64decode(str(fields["beta"]), validate=True)
        beta = np.frombuffer(data, np.float16).reshape(-1, words)
    except (binascii.Error, ValueError) as error:
        raise ReleaseError(expected("beta", "bytes", f"be rows of {words}", "again")) from error
    if not np.isfinite(beta).all():
        raise DataError(expected("beta", "values", "be finite", "a student that was trained"))
    return beta
