"""Topic corpora: what is counted, what is left out, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedkd.data.bags import check_topics, count_words, load_topics
from fedkd.data.documents import Documents
from fedkd.errors import DataError, ScenarioError
from fedkd.run.topic_layout import read_corpus
from fedkd.scenario_file import parse_scenario
from fedkd.topic_scenario import Preprocessing


def write_octis(folder: Path, corpus: str, vocabulary: str = "cat\ndog\nfish\n") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.tsv").write_text(corpus, encoding="utf-8")
    (folder / "vocabulary.txt").write_text(vocabulary, encoding="utf-8")
    return str(folder)


def test_an_octis_folder_is_counted_as_it_stands(tmp_path: Path) -> None:
    source = write_octis(tmp_path, "dog cat dog\ttrain\tb\nfish\tval\ta\ncat\ttest\t\n")
    corpus = load_topics(source)
    np.testing.assert_array_equal(corpus.bags.toarray(), [[1, 2, 0], [0, 0, 1], [1, 0, 0]])
    assert corpus.bags.dtype == np.float32
    assert corpus.bags.has_sorted_indices
    assert corpus.texts == ("dog cat dog", "fish", "cat")
    assert corpus.label_names == ("a", "b")
    assert corpus.labels is not None
    assert corpus.labels.tolist() == [1, 0, -1]
    assert corpus.splits.tolist() == ["train", "val", "test"]
    assert corpus.warnings == ()


def test_integers_index_the_declared_names_in_numeric_order(tmp_path: Path) -> None:
    source = write_octis(tmp_path, "dog\ttrain\t10\ncat\ttrain\t9\n")
    assert load_topics(source).label_names == ("9", "10")
    (tmp_path / "labels.json").write_text(json.dumps([f"name {i}" for i in range(11)]))
    corpus = load_topics(source)
    assert corpus.labels is not None
    assert [corpus.label_names[i] for i in corpus.labels] == ["name 10", "name 9"]


def test_documents_and_words_that_are_lost_are_counted_with_their_rows(tmp_path: Path) -> None:
    corpus = load_topics(write_octis(tmp_path, "dog\nzebra\n\nzebra cat\n"))
    assert corpus.texts == ("dog", "cat")
    assert corpus.labels is None
    lost, unseen = corpus.warnings
    assert lost.startswith("2 documents of ")
    assert "rows 2, 3 (dropped)" in lost
    assert unseen.startswith("1 words of the vocabulary")


@pytest.mark.parametrize(
    ("corpus", "vocabulary", "words"),
    [
        ("dog\tnowhere\ta\n", "dog\n", "row 1"),
        ("dog\n", "dog\ncat\ndog\n", "'dog' to be there once"),
        ("", "dog\n", "hold lines"),
        ("zebra\n", "dog\n", "with a word of the vocabulary=0"),
    ],
)
def test_a_folder_that_cannot_be_read_says_where(
    tmp_path: Path, corpus: str, vocabulary: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load_topics(write_octis(tmp_path, corpus, vocabulary))


def test_a_class_outside_the_declared_ones_names_its_row(tmp_path: Path) -> None:
    source = write_octis(tmp_path, "dog\ttrain\t0\ncat\ttrain\t2\n")
    (tmp_path / "labels.json").write_text('["a", "b"]')
    with pytest.raises(DataError, match="label of row 2"):
        load_topics(source)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "corpus.tsv").write_text("dog\n")
    with pytest.raises(DataError, match=r"vocabulary\.txt"):
        load_topics(str(tmp_path))


def test_raw_texts_go_through_the_documented_steps(tmp_path: Path) -> None:
    rows = ["The café and a DOG!", "dogs, Dog; cafe 12 ab", "a dog on the isle", "the and of it"]
    lines = ["text,label", *(f'"{row}",{i % 2}' for i, row in enumerate(rows))]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text('text,label\n"cafe unseen dog",1\n', encoding="utf-8")
    corpus = load_topics(str(tmp_path), preprocessing=Preprocessing(min_df=2, max_df=1.0))
    assert corpus.vocabulary == ("cafe", "dog")
    assert corpus.texts == ("cafe dog", "dog cafe", "dog", "cafe dog")
    assert corpus.splits.tolist() == ["train", "train", "train", "test"]
    assert any("rows 4 (dropped)" in text for text in corpus.warnings)
    none_left = Preprocessing(min_df=2, max_df=1.0, min_words=2)
    assert len(load_topics(str(tmp_path), preprocessing=none_left)) == 3
    unlabelled = load_topics(str(tmp_path), label=None, preprocessing=Preprocessing(min_df=1))
    assert unlabelled.labels is None


@pytest.mark.parametrize(("label", "known"), [("label", True), ("topic", False)])
def test_classes_are_there_only_where_a_column_has_them(tmp_path, label, known) -> None:
    rows = [f"{word} {word} plain,{word}" for word in ("alpha", "beta")] * 3
    (tmp_path / "train.csv").write_text(f"text,{label}\n" + "\n".join(rows), encoding="utf-8")
    values = {
        "name": "raw",
        "data": {"source": str(tmp_path)},
        "parties": {"count": 2},
        "topics": {"preprocessing": {"min_df": 2, "max_df": 1.0}},
        "method": [{"name": "topics"}],
    }
    corpus = read_corpus(parse_scenario(values), 0)
    assert corpus.vocabulary == ("alpha", "beta", "plain")
    assert corpus.label_names == (("alpha", "beta") if known else ())
    common = {"preprocessing": {"min_df": 2, "max_df": 3}}
    assert read_corpus(parse_scenario(values | {"topics": common}), 0).vocabulary == (
        "alpha",
        "beta",
    )
    with pytest.raises(DataError, match=r"data\.label='genre'"):
        named = {"source": str(tmp_path), "label": "genre"}
        read_corpus(parse_scenario(values | {"data": named}), 0)
    with pytest.raises(ScenarioError, match=r"topics\.preprocessing\.min_df=0 to be"):
        parse_scenario(values | {"topics": {"preprocessing": {"min_df": 0}}})


def test_a_vocabulary_that_vanishes_says_what_to_try(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\nalpha\nbeta\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"smaller topics\.preprocessing\.min_df"):
        load_topics(str(tmp_path), label=None)


def test_the_generated_corpus_follows_its_seed_and_its_topics() -> None:
    one, same, other = (load_topics("generated:topics", seed=seed) for seed in (1, 1, 2))
    assert one.texts == same.texts
    assert one.texts != other.texts
    assert one.topics is not None
    assert one.labels is not None
    np.testing.assert_allclose(one.topics.sum(axis=1), 1, atol=1e-12)
    # A class's words are those of its two topics: its counts lie closer to them than to others.
    for label in range(len(one.label_names)):
        counts = np.asarray(one.bags[np.flatnonzero(one.labels == label)].sum(axis=0)).ravel()
        nearest = np.argsort(-(one.topics @ counts))[:2]
        assert set(nearest) == {2 * label, 2 * label + 1}


def test_taking_documents_keeps_every_field_aligned() -> None:
    corpus = load_topics("generated:topics")
    held = corpus.part("test")
    assert len(held) == 300
    assert set(held.splits.tolist()) == {"test"}
    place = {word: index for index, word in enumerate(corpus.vocabulary)}
    for row in (0, 17, 299):
        counts = np.bincount([place[w] for w in held.texts[row].split()], minlength=220)
        np.testing.assert_array_equal(held.bags[[row]].toarray()[0], counts)


def test_the_number_of_topics_must_be_learnable() -> None:
    tokens = (("cat", "dog"), ("dog",), ("fish",))
    places = tuple(("here", row) for row in (1, 2, 3))
    documents = Documents(tokens, ("train",) * 3, places, None, ())
    small = count_words(documents, ("cat", "dog", "fish", "owl"))
    for topics, words in ((1, "at least 2"), (4, "documents, 3"), (5, "words, 4")):
        with pytest.raises(DataError, match=words):
            check_topics(topics, small)
    check_topics(3, small)


@pytest.mark.parametrize(
    ("name", "documents", "words", "mean"),
    [("m10", 8355, 1696, 5.91), ("20newsgroups", 16309, 1612, 48.29)],
)
def test_the_papers_corpora_have_the_published_size(
    real_data: Path, name: str, documents: int, words: int, mean: float
) -> None:
    if not (real_data / name / "corpus.tsv").is_file():
        pytest.skip(f"{name} has no corpus.tsv")
    corpus = load_topics(name)
    assert corpus.bags.shape == (documents, words)
    assert corpus.bags.sum() / documents == pytest.approx(mean, abs=0.005)
    assert int(np.sum(corpus.splits == "train")) == {"m10": 5847, "20newsgroups": 11415}[name]
    assert corpus.labels is not None
    assert corpus.labels.min() == 0
    assert corpus.warnings == ()
