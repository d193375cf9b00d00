from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedkd.data.corpus import Corpus
from fedkd.data.rows import Rows, normal_form
from fedkd.data.transfer import Chosen, choose_transfer
from fedkd.errors import DataError
from fedkd.scenario import Data

words = st.text("aAbB \u00a0ａ", min_size=1, max_size=4).filter(str.strip)
some = st.lists(st.tuples(words, st.integers(0, 2)), min_size=1, max_size=40)


def rows(pairs: list[tuple[str, int]]) -> Rows:
    return Rows(
        tuple(text for text, _ in pairs),
        np.array([label for _, label in pairs], dtype=np.int64),
        ("",) * len(pairs),
    )


def choose(train: Rows, test: Rows, seed: int = 0, **transfer: object) -> Chosen:
    corpus = Corpus(("x", "y", "z"), {"train": train, "test": test}, None, None, ())
    return choose_transfer(corpus, Data(source="given", transfer=transfer), seed)  # type: ignore[arg-type]


def forms(given: Rows) -> set[str]:
    return {normal_form(text) for text in given.text}


@given(some, some, st.integers(1, 10), st.integers(0, 3), st.randoms(use_true_random=False))
def test_transfer_private_and_test_share_no_text(train, test, size, seed, random) -> None:
    try:
        chosen = choose(rows(train), rows(test), seed, rows=size)
    except DataError:
        fresh = forms(rows(train)) - forms(rows(test))
        assert not fresh or (size >= len(fresh) and forms(rows(train)) == fresh)
        return
    assert not forms(chosen.transfer) & (forms(rows(test)) | forms(chosen.private))
    assert len(forms(chosen.transfer)) == len(chosen.transfer) <= size
    assert forms(chosen.transfer) | forms(chosen.private) == forms(rows(train))
    shuffled = random.sample(train, len(train))
    again = choose(rows(shuffled), rows(test), seed, rows=size)
    assert again.transfer.text == chosen.transfer.text
    assert again.transfer.label.tolist() == chosen.transfer.label.tolist()


def test_a_smaller_transfer_set_is_the_start_of_a_larger_one() -> None:
    train, test = rows([(f"row {n}", n % 3) for n in range(100)]), rows([("t", 0)])
    small, large = (choose(train, test, rows=size).transfer for size in (10, 30))
    assert large.text[:10] == small.text
    assert choose(train, test, seed=1, rows=10).transfer.text != small.text


def test_repeats_of_test_rows_and_missing_rows_are_counted() -> None:
    train = rows([("Hello  World", 0), *((f"row {n}", 1) for n in range(20))])
    chosen = choose(train, rows([("hello world", 0)]), rows=19)
    assert any(text.startswith("1 texts of 'train'") for text in chosen.warnings)
    spare = rows([(f"row {n}", 1) for n in range(5)] * 2)
    with pytest.raises(DataError, match=r"transfer\.rows=9 to leave private rows"):
        choose(spare, rows([("t", 0)]), rows=9)


def test_nothing_left_to_transfer_is_an_error() -> None:
    with pytest.raises(DataError, match="leave transfer rows"):
        choose(rows([("a", 0), ("A", 1)]), rows([(" a ", 0)]))
    with pytest.raises(DataError, match=r"transfer\.from='test'"):
        choose(rows([("a", 0)]), rows([("b", 0)]), **{"from": "test"})


def test_another_source_is_unlabelled_and_leaves_the_private_rows_whole(write) -> None:
    path = write("pool.csv", [("a", 5), ("PRIVATE", 5), ("tested", 5), ("b", 5), ("b", 5)])
    train = rows([("private", 0), ("more", 1)])
    chosen = choose(train, rows([("Tested", 0)]), source=str(path), rows=4)
    assert set(chosen.transfer.text) == {"a", "b"}
    assert chosen.transfer.label.tolist() == [-1, -1]
    assert chosen.private.text == train.text
    assert [text.split()[0] for text in chosen.warnings] == ["1", "1", "4"]
