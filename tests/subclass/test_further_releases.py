"""What a server accepts of subclasses, scores and embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedkd.errors import ReleaseError
from fedkd.release import WIDEST_EMBEDDING, Release, check_release
from fedkd.subclass.question import Question, pack, question_name, unpack
from fedkd.subclass.split import Split
from server.intake import Receiver
from server.questions import Gathering

ROWS, LABELS, S = 6, 2, 3
FINE = np.full((ROWS, LABELS, S), 1 / S, np.float32)
PROBS = np.full((ROWS, LABELS), 1 / LABELS, np.float32)


def release(kind: str, **arrays: np.ndarray) -> Release:
    return Release(kind, arrays, "t", "l", (0, ROWS))  # type: ignore[arg-type]


def check(given: Release) -> None:
    check_release(
        given, kind=given.kind, transfer_id="t", label_id="l", rows=(0, ROWS), labels=LABELS,
        subclasses=S,
    )  # fmt: skip


def test_honest_releases_pass():
    check(release("subclasses", subclasses=FINE))
    check(release("scores", scores=FINE - 2))
    check(release("grams", grams=FINE - 2))
    check(release("embeddings", embeddings=np.ones((ROWS, 7), np.float16), probs=PROBS))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (release("subclasses", subclasses=FINE[:, :, :2]), "shape"),
        (release("subclasses", subclasses=FINE[:4]), "shape"),
        (release("subclasses", subclasses=FINE * 2), "simplex"),
        (release("subclasses", subclasses=FINE.astype(np.float64)), "dtype"),
        (release("subclasses", scores=FINE), "arrays"),
        (release("scores", scores=FINE * np.inf), "non-finite"),
        (release("grams", grams=FINE[:, :, :2]), "shape"),
        (release("embeddings", embeddings=FINE, probs=PROBS), "shape"),
        (release("embeddings", embeddings=np.ones((ROWS, 7), np.float32)), "arrays"),
        (
            release(
                "embeddings",
                embeddings=np.ones((ROWS, WIDEST_EMBEDDING + 1), np.float16),
                probs=PROBS,
            ),
            "shape",
        ),
    ],
)
def test_others_are_rejected_with_the_reason(given, told):
    with pytest.raises(ReleaseError, match=told):
        check(given)


def nothing() -> None:
    """Record nothing in a ledger."""


def gathering(folder, kind: str = "subclasses") -> Gathering:
    receiver = Receiver(folder, "t", "l", 2 * ROWS, LABELS, ROWS)
    member = np.full((2 * ROWS, LABELS), 0.5, np.float16)
    return Gathering(Question(kind, Split(subclasses=S), member), receiver)  # type: ignore[arg-type]


def test_blocks_are_stored_once_and_rows_that_never_came_stay_unknown(tmp_path):
    store = gathering(tmp_path)
    given = release("subclasses", subclasses=FINE)
    store.accept("a", given, (0, ROWS), nothing)
    assert store.missing("a") == ((ROWS, 2 * ROWS),)
    with pytest.raises(ReleaseError, match="answering each block once"):
        store.accept("a", given, (0, ROWS), nothing)
    again = gathering(tmp_path)
    assert again.missing("a") == ((ROWS, 2 * ROWS),)
    stored = np.load(tmp_path / "a" / f"{store.question.name}.npy")
    np.testing.assert_array_equal(stored[:ROWS], FINE)
    assert np.isnan(stored[ROWS:]).all()


def test_a_party_may_not_change_the_width_between_blocks(tmp_path):
    store = gathering(tmp_path, "embeddings")
    store.accept(
        "a",
        release("embeddings", embeddings=np.ones((ROWS, 7), np.float32), probs=PROBS),
        (0, ROWS),
        nothing,
    )
    wider = release("embeddings", embeddings=np.ones((ROWS, 8), np.float32), probs=PROBS)
    with pytest.raises(ReleaseError, match="one answer for all blocks"):
        store.accept("a", replace(wider, rows=(ROWS, 2 * ROWS)), (ROWS, 2 * ROWS), nothing)


def test_consensus_survives_the_way_and_names_the_question():
    member = np.random.default_rng(0).random((5, LABELS)).astype(np.float16)
    np.testing.assert_array_equal(unpack(pack(member), LABELS), member)
    for broken in ("?", pack(member)[:-4]):
        with pytest.raises(ReleaseError, match="membership"):
            unpack(broken, LABELS)
    name = question_name("subclasses", Split(), member)
    assert name != question_name("subclasses", Split(beta=0.5), member)
    assert name != question_name("subclasses", Split(), member + np.float16(0.1))
