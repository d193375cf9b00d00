from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedkd.data.corpus import Corpus, load_corpus
from fedkd.data.rows import normal_form
from fedkd.errors import DataError
from fedkd.scenario import Data, Labels


def load(source: object, labels: dict[str, object] | None = None, **data: object) -> Corpus:
    return load_corpus(Data(source=source, **data), Labels(**(labels or {})), 0)  # type: ignore[arg-type]


def named(corpus: Corpus, split: str = "train") -> list[tuple[str, str]]:
    rows = corpus.splits[split]
    return [(t, corpus.labels[n]) for t, n in zip(rows.text, rows.label, strict=True)]


TEST = [("x", "pos"), ("y", "neg")]


def folder(write, name: str, train: list, test: list | None = None, names: str = "") -> str:
    path = write(f"{name}/train.csv", train)
    if test is not None:
        write(f"{name}/test.csv", test)
    if names:
        (path.parent / "labels.json").write_text(names, encoding="utf-8")
    return str(path.parent)


def test_strings_become_sorted_names_and_integers_index_the_sidecar(write) -> None:
    words = load(folder(write, "words", [("a", "pos"), ("b", "neg")], TEST))
    assert words.labels == ("neg", "pos")
    assert named(words) == [("a", "pos"), ("b", "neg")]
    numbers = load(folder(write, "n", [("a", 1), ("b", 0)], [("x", 1)], '["zero", "one"]'))
    assert numbers.labels == ("zero", "one")
    assert named(numbers) == [("a", "one"), ("b", "zero")]
    bare = load(folder(write, "bare", [("a", 10), ("b", 9)], [("x", 9)]))
    assert bare.labels == ("9", "10")


@pytest.mark.parametrize(
    ("train", "names", "words"),
    [
        ([("a", 0), ("b", 2)], '["zero", "one"]', r"row 2 of .*train\.csv=.*0 … 1"),
        ([("a", 0), ("b", -1)], '["zero", "one"]', r"row 2 of .*train\.csv"),
        ([("a", "zero"), ("b", "two")], '["zero", "one"]', r"row 2 .*'two'.*zero, one"),
        ([("a", "zero"), ("b", "")], "", r"row 2 of .*be given"),
    ],
)
def test_an_unknown_label_names_its_row(write, train: list, names: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(folder(write, "a", train, [("x", train[0][1])], names))


def test_a_label_only_in_test_is_an_error_unless_declared(write) -> None:
    train, test = [("a", "neg"), ("b", "pos")], [("x", "pos"), ("y", "pso")]
    with pytest.raises(DataError, match=r"row 2 of .*test\.csv='pso'.*neg, pos"):
        load(folder(write, "a", train, test))
    corpus = load(folder(write, "b", train, test, '["neg", "pos", "pso"]'))
    assert len(corpus.splits["test"]) == 2
    (warning,) = corpus.warnings
    assert warning.startswith("1 rows") and ": 2 (kept)" in warning


def test_rename_comes_before_keep_and_keep_gives_the_order(write) -> None:
    train = [("a", "joy"), ("b", "glee"), ("c", "anger"), ("d", "other")]
    source = folder(write, "a", train, [("x", "joy"), ("y", "other")])
    corpus = load(source, {"rename": {"glee": "joy"}, "keep": ("joy", "anger")})
    assert corpus.labels == ("joy", "anger")
    assert named(corpus) == [("a", "joy"), ("b", "joy"), ("c", "anger")]
    assert named(corpus, "test") == [("x", "joy")]
    assert sum("1 rows" in warning and "labels.keep" in warning for warning in corpus.warnings) == 2
    with pytest.raises(DataError, match=r"labels\.keep='glee'.*anger, joy"):
        load(source, {"rename": {"glee": "joy"}, "keep": ("glee", "anger")})
    with pytest.raises(DataError, match=r"labels\.rename='gle'.*anger, glee"):
        load(source, {"rename": {"gle": "joy"}})
    with pytest.raises(DataError, match="two or more"):
        load(source, {"keep": ("joy",)})


def test_a_union_maps_labels_by_name(write) -> None:
    one = folder(write, "one", [("a", 0), ("b", 1)], [("x", 0)], '["neg", "pos"]')
    two = folder(write, "two", [("c", 0), ("d", 1)], [("y", 0)], '["pos", "neg"]')
    corpus = load([one, two], domain="source")
    assert corpus.labels == ("neg", "pos")
    assert named(corpus) == [("a", "neg"), ("b", "pos"), ("c", "pos"), ("d", "neg")]
    assert named(corpus, "test") == [("x", "neg"), ("y", "pos")]
    assert corpus.splits["train"].domain == ("one", "one", "two", "two")
    three = folder(write, "three", [("e", 0), ("f", 1)], [("z", 1)], '["pos", "mixed"]')
    wider = load([one, three])
    assert wider.labels == ("mixed", "neg", "pos")
    assert named(wider) == [("a", "neg"), ("b", "pos"), ("e", "pos"), ("f", "mixed")]
    same = load([one, three], {"rename": {"mixed": "neg"}})
    assert same.labels == ("neg", "pos")


def test_positions_follow_their_names_through_rename_and_keep(write, tmp_path, monkeypatch) -> None:
    rows = [(f"text {n}", n) for n in range(4)]
    folder(write, "amazon_stars", rows, rows)
    monkeypatch.setenv("FEDKD_DATA", str(tmp_path))
    keep = {"keep": ("best", "1 star"), "rename": {"5 stars": "best"}}
    assert load("amazon_stars", keep).values == (5.0, 1.0)
    merged = load("amazon_stars", {"rename": {"1 star": "bad", "2 stars": "bad"}})
    assert merged.values is None
    assert any("bad" in text and "labels.values" in text for text in merged.warnings)


def test_the_held_out_share_is_stratified_and_shares_no_text(write) -> None:
    train = [(f"row {n}", "abc"[min(n % 10, 2)]) for n in range(500)]
    repeats = [(f" ROW  {n}", "abc"[min(n % 10, 2)]) for n in range(0, 500, 7)]
    path = str(write("all.csv", train + repeats))
    corpus = load(path, test=0.2)
    test, rest = corpus.splits["test"], corpus.splits["train"]
    assert len(test) + len(rest) == len(train) + len(repeats)
    assert not {normal_form(t) for t in test.text} & {normal_form(t) for t in rest.text}
    groups = Counter(
        corpus.labels[n]
        for t, n in {(normal_form(t), int(n)) for t, n in zip(test.text, test.label, strict=True)}
    )
    assert groups == {"a": 10, "b": 10, "c": 80}


def test_hash_choices_do_not_depend_on_the_order_of_rows(write) -> None:
    rows = [(f"row {n}", "ab"[n % 2]) for n in range(200)]
    there = load(str(write("a.csv", rows)), rows=50)
    back = load(str(write("b.csv", rows[::-1])), rows=50)
    for split in ("train", "test"):
        assert set(named(there, split)) == set(named(back, split))
    assert len(there.splits["train"]) == 50
    other = load_corpus(Data(source=str(write("c.csv", rows)), rows=50), Labels(), 1)
    assert set(other.splits["train"].text) != set(there.splits["train"].text)


def test_a_label_with_one_text_stays_in_training(write) -> None:
    rows = [(f"row {n}", "common") for n in range(20)] + [("single", "rare")]
    corpus = load(str(write("a.csv", rows)), test=0.5)
    assert ("single", "rare") in named(corpus)


def test_the_split_of_the_transfer_set_must_be_there(write) -> None:
    source = folder(write, "a", [("a", "pos"), ("b", "neg")], TEST)
    write("a/validation.csv", TEST)
    assert set(load(source, transfer={"from": "validation"}).splits) == {
        "train",
        "test",
        "validation",
    }
    with pytest.raises(DataError, match=r"transfer\.from='extra'.*one of test, train, validation"):
        load(source, transfer={"from": "extra"})


def test_every_real_set_loads(real_data: Path) -> None:
    from fedkd.data.catalogue import catalogue

    for name, entry in catalogue().items():
        if not (real_data / entry.folder).is_dir():
            continue
        corpus = load(name)
        for rows in corpus.splits.values():
            assert len(rows) == len(rows.label) == len(rows.domain) > 0
            assert rows.label.dtype == np.int64
            assert rows.label.min() >= 0 and rows.label.max() < len(corpus.labels)
        assert not any(str(real_data) in warning for warning in corpus.warnings)
