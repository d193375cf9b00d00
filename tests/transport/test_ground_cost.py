"""Ground costs: each geometry against its definition, and every input that makes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkd.errors import ScenarioError
from fedkd.scenario import Labels
from fedkd.transport.ground_cost import LabelSpace, label_space

NAMES = ("anger", "joy", "sadness")
PLACES = {"anger": (-0.4, 0.8), "joy": (0.9, 0.2), "sadness": (-0.9, -0.4)}


def space(names: tuple[str, ...] = NAMES, *, given: Any = None, **keys: Any) -> LabelSpace:
    return label_space(Labels(**keys), names, **(given or {}))


def distances(points: Any) -> np.ndarray:
    points = np.asarray(points, float)
    return np.array([[np.sqrt(((p - q) ** 2).sum()) for q in points] for p in points])


def test_one_hot_labels_are_root_two_apart() -> None:
    found = space(geometry="onehot", normalise=False)
    np.testing.assert_allclose(found.cost, np.sqrt(2) * (1 - np.eye(3)))
    assert found.coordinates is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_ordinal_cost_is_the_distance_to_the_power(power: float) -> None:
    found = space(geometry="ordinal", values=(0, 1, 3), power=power, normalise=False)
    np.testing.assert_allclose(found.cost[0], (0, 1, 3**power))
    np.testing.assert_array_equal(found.coordinates, [[0], [1], [3]])


def test_coordinates_by_name_do_not_depend_on_the_order_they_are_written_in() -> None:
    backwards = dict(reversed(PLACES.items()))
    listed = tuple(PLACES.values())
    costs = [
        space(geometry="coordinates", coordinates=given, normalise=False).cost
        for given in (PLACES, backwards, listed)
    ]
    for cost in costs:
        np.testing.assert_allclose(cost, distances(listed))


def test_hybrid_adds_the_squared_distances() -> None:
    found = space(geometry="hybrid", coordinates=PLACES, normalise=False)
    both = distances(tuple(PLACES.values())) ** 2 + 2 * (1 - np.eye(3))
    np.testing.assert_allclose(found.cost**2, both)
    np.testing.assert_array_equal(found.coordinates, list(PLACES.values()))


def test_embeddings_are_scaled_to_unit_length() -> None:
    vectors = np.array([[3.0, 0.0], [0.0, 5.0], [-2.0, 0.0]])
    found = space(given={"embed": lambda names: vectors}, geometry="embedding", normalise=False)
    np.testing.assert_allclose(found.cost[0], (0, np.sqrt(2), 2))
    np.testing.assert_allclose(np.linalg.norm(found.coordinates, axis=1), 1)


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_matrix_is_read_relative_to_the_current_directory(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cost = np.array([[0, 1, 2.0], [1, 0, 4], [2, 4, 0]])
    if suffix == "npy":
        np.save("cost.npy", cost)
    else:
        np.savetxt("cost.csv", cost, delimiter=",")
    found = space(geometry="matrix", matrix=f"cost.{suffix}", values=(0, 1, 2))
    np.testing.assert_allclose(found.cost, cost / 4)
    np.testing.assert_array_equal(found.coordinates, [[0], [1], [2]])
    assert found.points is None


@pytest.mark.parametrize("geometry", ["onehot", "ordinal", "coordinates", "hybrid"])
def test_normalised_cost_has_largest_entry_one_and_points_in_its_unit(geometry: str) -> None:
    given = {"values": (5, 9, 1), "coordinates": PLACES}
    found = space(geometry=geometry, given=given)
    assert found.cost.max() == pytest.approx(1)
    np.testing.assert_allclose(found.cost, distances(found.points), atol=1e-12)


def test_the_scenario_outranks_the_catalogue() -> None:
    own = space(geometry="ordinal", values=(0, 1, 2), given={"values": (5, 9, 1)})
    np.testing.assert_array_equal(own.coordinates, [[0], [1], [2]])
    fallen = space(geometry="onehot", given={"coordinates": PLACES | {"fear": (0, 1)}})
    np.testing.assert_array_equal(fallen.coordinates, list(PLACES.values()))


def test_the_geometry_of_a_method_outranks_the_scenario() -> None:
    found = space(geometry="onehot", values=(0, 1, 2), given={"geometry": "ordinal"})
    assert found.geometry == "ordinal"
    assert found.cost[0, 2] == 2 * found.cost[0, 1]


def test_a_cost_without_semantics_is_warned_about() -> None:
    assert space(geometry="onehot").warnings[0].startswith("the ground cost carries no semantics: ")
    triangle = {"anger": (0.0, 0.0), "joy": (1.0, 0.0), "sadness": (0.5, 0.75**0.5)}
    assert space(geometry="coordinates", coordinates=triangle).warnings
    assert space(geometry="coordinates", coordinates=PLACES).warnings == ()


@pytest.mark.parametrize("geometry", ["onehot", "ordinal", "hybrid"])
def test_a_single_label_costs_nothing(geometry: str) -> None:
    found = space(("only",), geometry=geometry, values=(3,))
    np.testing.assert_array_equal(found.cost, [[0]])


NAN = float("nan")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"geometry": "ordinal"}, ["labels.values", "'anger', 'joy', 'sadness'"]),
        ({"geometry": "coordinates", "values": (0, 1, 2)}, ["labels.coordinates"]),
        ({"geometry": "hybrid"}, ["labels.values"]),
        ({"geometry": "embedding"}, ["labels.encoder"]),
        ({"geometry": "matrix"}, ["labels.matrix"]),
        ({"geometry": "ordinal", "values": (0, 1)}, ["3 labels, not 2", "missing: 'sadness'"]),
        ({"geometry": "ordinal", "values": (0, 1, 2, 3)}, ["3 labels, not 4"]),
        ({"geometry": "ordinal", "values": (0, NAN, 1)}, ["labels.values['joy']", "finite"]),
        ({"geometry": "ordinal", "values": (1, 1, 1)}, ["differ from 0"]),
        (
            {"geometry": "coordinates", "coordinates": {"anger": (0.0,), "joy": (1.0,)}},
            ["all 3 labels", "missing: 'sadness'"],
        ),
        ({"geometry": "coordinates", "coordinates": ((0.0,), (1.0,))}, ["3 labels, not 2"]),
        (
            {"geometry": "coordinates", "coordinates": ((0.0,), (1.0, 2.0), (1.0, 1.0))},
            ["[1, 2, 2]", "the same for every label"],
        ),
        (
            {"geometry": "coordinates", "coordinates": ((0.0,), (float("inf"),), (1.0,))},
            ["labels.coordinates['joy']"],
        ),
    ],
)
def test_positions_that_make_no_cost_are_refused(keys: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as refused:
        space(**keys)
    assert str(refused.value).startswith("Expected ")
    assert "Try " in str(refused.value)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("cost", "word"),
    [
        (np.zeros((3, 3)), "differ from 0"),
        (np.ones((3, 3)) - np.eye(3) * 0.5, "be 0 on the diagonal"),
        (np.array([[0, 1, 2.0], [1, 0, 3], [9, 3, 0]]), "be symmetric"),
        (np.array([[0, -1, 2.0], [-1, 0, 3], [2, 3, 0]]), "be at least 0"),
        (np.array([[0, NAN, 2], [NAN, 0, 3], [2, 3, 0]]), "be finite"),
        (np.ones((2, 2)) - np.eye(2), "(3, 3)"),
        (np.ones((3, 4)), "(3, 3)"),
    ],
)
def test_matrices_that_are_no_cost_are_refused(cost: np.ndarray, word: str, tmp_path: Path) -> None:
    np.save(tmp_path / "cost.npy", cost)
    with pytest.raises(ScenarioError, match="ground cost") as refused:
        space(geometry="matrix", matrix=str(tmp_path / "cost.npy"))
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"), [("cost.csv", "a,b\nc,d\n"), ("cost.npy", "no array"), ("cost.txt", "0")]
)
def test_files_that_hold_no_matrix_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    for file in (tmp_path / name, tmp_path / "absent.csv"):
        with pytest.raises(ScenarioError, match=r"labels\.matrix"):
            space(geometry="matrix", matrix=str(file))


def test_a_power_does_not_apply_to_a_matrix(tmp_path: Path) -> None:
    np.save(tmp_path / "cost.npy", np.ones((3, 3)) - np.eye(3))
    with pytest.raises(ScenarioError, match=r"labels\.power"):
        space(geometry="matrix", matrix=str(tmp_path / "cost.npy"), power=2)


@pytest.mark.parametrize(
    "vectors", [np.zeros((3, 4)), np.ones((2, 4)), np.ones(3), np.full((3, 2), NAN)]
)
def test_embeddings_that_are_no_points_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ScenarioError, match=r"labels\.encoder"):
        space(geometry="embedding", given={"embed": lambda names: vectors})
