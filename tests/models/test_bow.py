"""Laws of the bag of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from fedkd.errors import ModelError
from fedkd.models import classifier, training
from fedkd.models.bow import SparseRows, TfIdf, build_bow, load_bow
from fedkd.models.defaults import defaults
from fedkd.scenario import Model

from .conftest import LABELS, make, sentences

TEXTS, TRUTH = sentences(80)


def dense(rows: SparseRows, columns: int) -> np.ndarray:
    return sparse.csr_array(
        (rows.values, rows.columns, rows.ragged.start), shape=(len(rows), columns)
    ).toarray()


def test_features_are_those_of_tfidf_where_no_words_collide():
    features = TfIdf.fit(TEXTS, 2**20)
    peer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    ours, theirs = dense(features.rows(TEXTS), len(features.buckets)), peer.fit_transform(TEXTS)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours @ ours.T, (theirs @ theirs.T).toarray(), atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("features", [1, 16, 2**18])
def test_the_sparse_product_equals_the_dense_one(hidden: int, features: int):
    model = Model(hidden=hidden, features=features)
    built = build_bow(defaults(model), 3, seed=0, fit_text=TEXTS)
    training.fit(built, TEXTS, training.hard_labels(TRUTH), model, seed=0)
    inputs = built.inputs(["", *TEXTS])
    state = {name: tensor.double().numpy() for name, tensor in built.module.state_dict().items()}
    logits = dense(inputs, len(built.features.buckets)) @ state["weight"] + state["bias"]
    if hidden:
        logits = np.maximum(logits, 0) @ state["out.weight"].T + state["out.bias"]
    found = built.logits(inputs, np.arange(len(inputs))).detach().numpy()
    np.testing.assert_allclose(found, logits, atol=1e-4)


def test_order_and_batch_size_change_no_bit():
    built = make(Model(), TEXTS)
    training.fit(built, TEXTS, training.hard_labels(TRUTH), Model(), seed=0)
    probs = training.predict(built, TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.array_equal(training.predict(built, [TEXTS[i] for i in order], 3), probs[order])


def test_rows_have_norm_one_or_zero():
    rows = TfIdf.fit(TEXTS, 2**18).rows([*TEXTS, "", "unheard-of"])
    norms = np.linalg.norm(dense(rows, 2**18), axis=1)
    np.testing.assert_allclose(norms, [1] * len(TEXTS) + [0, 0], atol=1e-6)


def test_the_number_of_threads_changes_no_bit():
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            built = make(Model(), TEXTS)
            training.fit(built, TEXTS, training.hard_labels(TRUTH), Model(), seed=0)
            found.append(training.predict(built, TEXTS))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*found)


def test_embeddings_are_what_the_last_layer_stands_on(tmp_path: Path):
    built = build_bow(defaults(Model(hidden=8)), 3, seed=0, fit_text=TEXTS)
    built.save(tmp_path, LABELS)
    inputs, rows = built.inputs(TEXTS), np.array([4, 0])
    embeddings = load_bow(tmp_path).embeddings(inputs, rows)
    assert embeddings.shape == (2, 8)
    assert torch.equal(built.module.out(embeddings), built.logits(inputs, rows))
    linear = build_bow(defaults(Model()), 3, seed=0, fit_text=TEXTS)
    with pytest.raises(ModelError, match="hidden=0 to be > 0"):
        linear.embeddings(inputs, rows)


def test_the_idf_is_that_of_the_fit_text_alone():
    known = make(Model(), ["red red", "red apple", "apple tree", "tree"])
    assert training.predict(known, ["blue sky"]).tolist() == [[1 / 3] * 3]
    assert not len(known.inputs(["blue sky"]).columns)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"hold fedkd\.json"):
        classifier.load(tmp_path)
    (tmp_path / "fedkd.json").write_text('{"schema": 1, "kind": "tree", "labels": []}')
    with pytest.raises(ModelError, match="one of bow, encoder, transformer"):
        classifier.load(tmp_path)
    (tmp_path / "fedkd.json").write_text("nonsense")
    with pytest.raises(ModelError, match="describe a model"):
        classifier.load(tmp_path)
    make(Model(), TEXTS).save(tmp_path, LABELS)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="be a safetensors file"):
        classifier.load(tmp_path)
