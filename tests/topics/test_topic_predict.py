"""A topic student answers for raw texts from its folder alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedkd.cli import app
from fedkd.data.bags import load_topics, vectoriser
from fedkd.errors import ModelError
from fedkd.files import read_json, read_rows
from fedkd.models.determinism import single_thread
from fedkd.models.lsa import NUMBERS
from fedkd.models.text_space import fit_space
from fedkd.models.topic_files import load_text_space, load_topic_model, save_topic_model
from fedkd.models.topic_network import build_network
from fedkd.run.engine import run_scenario
from fedkd.run.student import label_texts
from fedkd.topic_scenario import Preprocessing, TopicFields
from fedkd.topics.model import recipe, train_model
from fedkd.topics.serving import ask_topics, known_words
from fedkd.topics.vocabulary import Vocabulary
from server.distil import student_digest
from tests.tiny_bert import write_tiny_bert
from tests.topics.small_run import small_topics
from tests.topics.small_topics import shape

TOPICS = 10


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """A student of the generated corpus alone; without dropout a topic stands for itself."""
    corpus = load_topics("generated:topics", seed=0)
    texts, vocabulary = corpus.texts[:1400], Vocabulary(tuple(sorted(corpus.vocabulary)))
    fields = TopicFields(topics=TOPICS, hidden=(50,), epochs=60, dropout=0.0)
    made = recipe(fields, inputs="zero-shot", encoder="lsa:64")
    space = fit_space(made.encoder, texts)
    with single_thread():
        network, _ = train_model(made, vocabulary.bags(texts), space.vectors(texts), seed=0)
    folder = tmp_path_factory.mktemp("student")
    save_topic_model(network, folder, vocabulary.words, made.encoder, space)
    return folder


def test_the_first_words_of_a_topic_are_mostly_about_it(student):
    words = ask_topics(student, [""]).words
    asked = ask_topics(student, [" ".join(row).upper() + ", indeed." for row in words])
    assert (asked.shares.argmax(axis=1) == np.arange(TOPICS)).sum() >= 8
    np.testing.assert_allclose(asked.shares.sum(axis=1), 1)
    assert (asked.shares > 0).all() and asked.known.all()


def test_a_copied_folder_and_a_text_alone_get_the_same_answer(student, tmp_path):
    texts = [" ".join(row) for row in ask_topics(student, [""]).words]
    asked = ask_topics(student, texts)
    copied = shutil.copytree(student, tmp_path / "elsewhere")
    np.testing.assert_array_equal(ask_topics(copied, texts).shares, asked.shares)
    for text, row in zip(texts, asked.shares, strict=True):
        alone = ask_topics(student, ["zzz", text])
        np.testing.assert_allclose(alone.shares[1], row, atol=1e-5)
        assert not alone.known[0] and np.isnan(alone.shares[0]).all()


def test_no_word_is_known_and_no_text_at_all(student):
    asked = ask_topics(student, ["", "42 !!"])
    assert not asked.known.any() and np.isnan(asked.shares).all()
    assert ask_topics(student, []).shares.shape == (0, TOPICS)
    (line,) = label_texts(student, ["xyzzy"])
    assert "no word that the student knows" in line and line.endswith("| xyzzy")


def test_words_are_cut_as_the_corpus_was():
    raw = "Café naïve's rock'n'roll, the MOON_base (moon)\tnot-only x2 ab Straße."
    analyser = vectoriser(Preprocessing(stop_words=False)).build_analyzer()
    assert known_words([raw], frozenset(analyser(raw))) == [analyser(raw)]
    octis = frozenset({"x2", "not-only", "system", "DNA", "t"})
    assert known_words(["X2 not-only DNA t dna, System! other"], octis) == [
        ["x2", "not-only", "DNA", "t", "system"]
    ]


def test_a_run_s_student_is_enough_without_the_run(tmp_path):
    methods = [{"name": "topics"}, {"name": "topics", "alpha": 0.0}]
    done = run_scenario(small_topics(tmp_path / "runs", method=methods))
    folder = done.seeds[0]
    test = read_rows(folder.public / "test.jsonl")["text"]
    (file,) = folder.public.glob("test-*.npy")
    served = load_text_space(folder.root / "student").vectors(test)
    np.testing.assert_allclose(served.astype(float), np.load(file).astype(float), atol=1e-3)
    lines = label_texts(done.folder, [test[0], "none"], "student-alone")
    assert len(lines) == 4 and lines[0].split()[1] == "topic"
    shares = [float(line.split()[0]) for line in lines[:3]]
    assert shares == sorted(shares, reverse=True)
    said = CliRunner().invoke(app, ["predict", str(done.folder), test[0]])
    assert said.exit_code == 0 and said.output.count("topic ") == 3
    with pytest.raises(ModelError, match="student-alone"):
        label_texts(done.folder, ["text"], "knot")
    digests = read_json(folder.result)["hashes"]["student"]
    assert digests["topics/size"] == student_digest(folder, "topics/size")
    alone = shutil.copytree(folder.student("student-alone"), tmp_path / "alone")
    shutil.rmtree(tmp_path / "runs")
    assert label_texts(alone, [test[0], "none"]) == lines


def test_a_folder_that_is_not_whole_says_what_to_do(student, tmp_path):
    broken = shutil.copytree(student, tmp_path / "broken")
    (broken / NUMBERS).write_bytes(b"short")
    with pytest.raises(ModelError, match="--fresh"):
        ask_topics(broken, ["moon"])
    (broken / NUMBERS).unlink()
    with pytest.raises(ModelError, match="--fresh"):
        label_texts(broken, ["moon"])


def test_another_sentence_encoder_is_refused(tmp_path):
    names, encoder = (
        tuple(f"word{i}" for i in range(40)),
        write_tiny_bert(tmp_path / "bert", ["a word3 here", "word7"]),
    )
    network = build_network(shape(vectors=32), 0).eval()
    space = fit_space(str(encoder), [])
    save_topic_model(network, tmp_path / "student", names, space.encoder, space)
    text = ["Word3 word7 unseen"]
    asked = ask_topics(tmp_path / "student", text)
    assert asked.known.all() and load_topic_model(tmp_path / "student")[2] == str(encoder)
    shutil.move(encoder, tmp_path / "student" / "encoder")
    np.testing.assert_array_equal(ask_topics(tmp_path / "student", text).shares, asked.shares)
    shutil.rmtree(tmp_path / "student" / "encoder")
    write_tiny_bert(tmp_path / "student" / "encoder", ["other texts", "than before"])
    from fedkd.models.encoder import load_sentence_encoder

    load_sentence_encoder.cache_clear()
    with pytest.raises(ModelError, match="trained with"):
        ask_topics(tmp_path / "student", text)
