"""The report's part on subclasses, from what a server writes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_run import write_fake_run

from fedkd.files import read_json, write_json
from fedkd.methods.method import Targets
from fedkd.models.heads import Layout
from fedkd.report.folder import load_results
from fedkd.report.page import render_page
from fedkd.report.subclasses import _plane_plot, subclasses
from fedkd.run.folder import RunFolder
from fedkd.scenario import Labels
from fedkd.transport.ground_cost import label_space
from server.subclasses import examples, plane, usage, write_subclasses

ROWS, HEADS, S = 90, 2, 3
TEXTS = [f"public text <{row}>" for row in range(ROWS)]


def targets(heads: int = HEADS) -> Targets:
    """Rows of two labels; head 0 puts row i into subclass i mod 3, head 1 is blind."""
    probs = np.where(np.arange(ROWS)[:, None] % 2 == [0, 1], 0.9, 0.1)
    inside = np.full((ROWS, heads, 2, S), 1 / S)
    inside[:, 0] = 0.04
    inside[np.arange(ROWS), 0, :, np.arange(ROWS) % 3] = 0.92
    fine = probs[:, None, :, None] * inside / heads
    return Targets(
        torch.from_numpy(probs.astype(np.float32)),
        torch.ones(ROWS, heads),
        label_space(Labels(), ("no", "yes")),
        tensors={"fine": torch.from_numpy(fine.astype(np.float32))},
        layout=Layout(heads, S),
    )


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, str]:
    folder = write_fake_run(tmp_path / "0123456789ab")
    method = next(iter(load_results(folder)[0].values["methods"]))
    for seed in load_results(folder):
        write_subclasses(RunFolder(seed.folder), method, targets(), ("one", "two"), TEXTS)
    return folder, method


def test_use_is_the_mean_over_the_rows_of_a_label():
    found = targets()
    fine = found.tensors["fine"].numpy()
    inside = fine / fine.sum(axis=3, keepdims=True)
    shares = usage(inside.astype(np.float64), found.probs.numpy().astype(np.float64))
    np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(shares[1], 1 / S, atol=1e-6)
    np.testing.assert_allclose(shares[0], 1 / S, atol=0.02)


def test_examples_are_the_rows_that_lie_furthest_and_are_likely_of_the_label():
    share = np.where(np.arange(ROWS) < 60, 0.9, 0.2)
    inside = np.full((ROWS, S), 0.3)
    inside[[5, 70], 1] = 0.6, 0.9
    found = examples(inside, share, TEXTS)
    assert found[1][0] == TEXTS[5] and len(found[1]) == 3
    assert TEXTS[70] not in found[1]


def test_rows_lie_where_their_subclass_pulls():
    inside = np.full((ROWS, S), 0.01)
    inside[np.arange(ROWS), np.arange(ROWS) % S] = 0.98
    found = plane(inside, np.ones(ROWS))
    for x, y, subclass in found["points"]:
        pulls = np.asarray(found["arrows"]) @ [x, y]
        assert pulls.argmax() == subclass


def test_the_page_shows_what_the_server_wrote(run):
    folder, method = run
    facts = read_json(next((folder / "0" / "subclasses").glob("*.json")))
    assert facts["heads"] == ["one", "two"] and facts["labels"] == ["no", "yes"]
    page = render_page(load_results(folder))
    assert "<h2>Subclasses</h2>" in page and f"{method}, seed" in page
    assert "public text &lt;0&gt;" in page and "public text <0>" not in page
    assert 'aria-label="Use of each subclass"' in page


def test_no_subclasses_or_broken_ones_leave_the_page_as_it_was(run, tmp_path):
    folder, _ = run
    for file in folder.glob("*/subclasses/*.json"):
        write_json(file, {"method": read_json(file)["method"], "usage": "none"})
    assert subclasses(load_results(folder)) is None
    assert "<h2>Subclasses</h2>" not in render_page(load_results(folder))
    plain = Targets(*(torch.ones(3, 2), torch.ones(3, 1)), targets().space)
    write_subclasses(RunFolder(tmp_path), "kd", plain, ("one",), TEXTS)
    assert not (tmp_path / "subclasses").exists()


def test_vectors_are_no_examples(tmp_path):
    write_subclasses(RunFolder(tmp_path), "lelp", targets(1), ("one", "two"), [])
    facts = read_json(tmp_path / "subclasses" / "lelp.json")
    assert facts["heads"] == ["all teachers"] and facts["examples"] == [[], []]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spread", [1.0, 1e-9, 0.0])
def test_the_plane_is_drawn_however_little_the_rows_differ(spread):
    points = np.column_stack([spread * np.eye(2)[[0, 1, 0]], [0, 1, 2]])
    assert "<svg" in _plane_plot(points, np.eye(3)[:, :2])
