from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from fedkd.data.generated import moods
from fedkd.data.tables import Columns, Table
from fedkd.errors import DataError

COLUMNS = Columns("text", "label", "domain")


@pytest.fixture(scope="module")
def corpus() -> tuple[dict[str, Table], tuple[str, ...], dict[str, tuple[float, ...]]]:
    return moods(COLUMNS)


def fit(texts: list[str], labels: np.ndarray) -> tuple[HashingVectorizer, LogisticRegression]:
    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**14, alternate_sign=False)
    return words, LogisticRegression(C=10, max_iter=500).fit(words.transform(texts), labels)


def test_the_corpus_is_made_of_its_seed(corpus) -> None:
    tables, names, coordinates = corpus
    again, *_ = moods(COLUMNS)
    other, *_ = moods(COLUMNS, seed=1)
    assert again["train"] == tables["train"] and again["test"] == tables["test"]
    assert other["train"].text != tables["train"].text
    assert set(names) == set(coordinates) and len(names) >= 5
    assert len(set(tables["train"].domain)) >= 4
    texts = [*tables["train"].text, *tables["test"].text]
    assert len(set(texts)) == len(texts) == 5000
    assert not any("{" in text for text in texts)


def test_a_linear_model_is_good_but_not_perfect_and_errs_towards_near_emotions(corpus) -> None:
    tables, names, coordinates = corpus
    train, test = tables["train"], tables["test"]
    words, model = fit(list(train.text[:2000]), np.array(train.label[:2000]))
    truth, said = np.array(test.label), model.predict(words.transform(test.text))
    assert 0.6 < (said == truth).mean() < 0.9
    points = np.array([coordinates[name] for name in names])
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    wrong = said != truth
    of_chance = distance[truth[wrong]].sum(axis=1) / (len(names) - 1)
    assert distance[truth[wrong], said[wrong]].mean() < 0.85 * of_chance.mean()


def test_each_domain_is_best_known_to_its_own_model(corpus) -> None:
    tables, *_ = corpus
    train, test = tables["train"], tables["test"]
    domains = np.array(train.domain)
    for domain in sorted(set(train.domain)):
        mine = np.flatnonzero(domains == domain)
        words, model = fit([train.text[i] for i in mine], np.array(train.label)[mine])
        right = model.predict(words.transform(test.text)) == np.array(test.label)
        at_home = np.array(test.domain) == domain
        assert right[at_home].mean() > right[~at_home].mean() + 0.05


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"data\.label='emotion'.*text, label, domain"):
        moods(Columns("text", "emotion", None))
