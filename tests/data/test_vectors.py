"""Sets of vectors: generated ones, and npz files."""

from __future__ import annotations

import numpy as np
import pytest

from fedkd.data.tables import Columns
from fedkd.data.vectors import NAMES, read_vectors, vectors
from fedkd.errors import DataError

ALL = Columns("text", "label", "domain")


@pytest.mark.parametrize("name", NAMES)
def test_generated_sets_depend_on_name_and_seed_alone(name):
    first, again, other = (vectors(name, ALL, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["train"].text != other["train"].text
    for table in first.values():
        assert [int(d) % 2 for d in table.domain] == list(table.label)
    texts = [text for table in first.values() for text in table.text]
    assert len(set(texts)) == len(texts)


def test_the_axes_of_the_two_cluster_sets_differ_as_told():
    for name, norm, uneven in (("clusters", 3.2, True), ("round-clusters", 4.4, False)):
        table = vectors(name, ALL, 0)["train"]
        rows = np.array([text.split() for text in table.text], float)
        fine = np.array(table.domain)
        centres = np.stack([rows[fine == own].mean(axis=0) for own in np.unique(fine)])
        assert np.linalg.norm(centres, axis=1).mean() == pytest.approx(norm, rel=0.03)
        values = np.linalg.eigvalsh(np.cov(rows.T))
        assert (values[-1] / values[0] > 10) == uneven


def test_columns_that_are_not_there_are_told():
    with pytest.raises(DataError, match=r"data\.label"):
        vectors("digits", Columns("text", "stars", None), 0)


def test_npz_files_are_read_and_bad_rows_counted(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows[2, 1] = np.nan
    np.savez(tmp_path / "train.npz", x=rows, y=np.array(["a", "b", "a", "b"]))
    table, notes = read_vectors(tmp_path / "train.npz", "own", Columns("text", "label", None))
    assert table.text == ("0 1 2", "3 4 5", "9 10 11") and table.label == ("a", "b", "b")
    assert len(notes) == 1 and notes[0].startswith("1 rows of own")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.zeros(3)}, "hold numbers x"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "hold numbers x"),
        ({"x": np.zeros((3, 2))}, "hold y"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, "hold y"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3)}, "hold domain"),
    ],
)
def test_npz_files_that_lack_something_are_told(arrays, told, tmp_path):
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(DataError, match=told):
        read_vectors(tmp_path / "train.npz", "own", ALL)


def test_a_file_that_is_no_npz_is_told(tmp_path):
    (tmp_path / "train.npz").write_text("x,y\n")
    with pytest.raises(DataError, match="be readable"):
        read_vectors(tmp_path / "train.npz", "own", ALL)
