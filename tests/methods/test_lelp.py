"""Laws of LELP's targets and losses, and of plain distillation beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedkd.errors import ScenarioError
from fedkd.methods import parse_methods
from fedkd.methods.kd import Kd
from fedkd.methods.lelp import Lelp
from fedkd.models.heads import Layout
from fedkd.scenario import Labels, MethodSpec
from fedkd.subclass.landmarks import landmark_grams, landmarks
from fedkd.transport.ground_cost import label_space

ROWS, LABELS, WIDTH = 60, 2, 16


@pytest.fixture
def space():
    return label_space(Labels(), ("no", "yes"))


@pytest.fixture
def answered(make_intake, space):
    """An intake in which every party has answered the questions of a method."""

    def answer(method: Lelp, teachers: int = 2, lost: dict[int, slice] | None = None):
        draw = np.random.default_rng(0)
        intake = make_intake(draw.dirichlet(np.ones(LABELS), (teachers, ROWS)))
        for question in method.questions(intake, space):
            for number, party in enumerate(intake.parties):
                if question.kind == "embeddings":
                    values = draw.normal(size=(ROWS, WIDTH + number))
                elif question.kind == "grams":
                    vectors = draw.normal(size=(ROWS, WIDTH + number))
                    chosen = landmarks(ROWS, question.split.landmarks, question.split.seed)
                    member = question.membership.astype(np.float64)
                    values = landmark_grams(vectors, member, chosen)
                else:
                    values = draw.normal(size=(ROWS, LABELS, method.subclasses))
                if question.kind == "subclasses":
                    values = np.exp(values) / np.exp(values).sum(axis=2, keepdims=True)
                values[(lost or {}).get(number, slice(0, 0))] = np.nan
                np.save(intake.folder / party / f"{question.name}.npy", values.astype(np.float32))
        return intake

    return answer


def outputs(count: int, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, count, generator=draw, dtype=torch.float64).requires_grad_()


def gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, logits)
    return found


@pytest.mark.parametrize("objective", ["joint", "decoupled"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_one_subclass_is_plain_distillation(answered, space, objective, temperature):
    method = Lelp(subclasses=1, objective=objective, temperature=temperature)
    intake, logits, rows = answered(method, 1), outputs(LABELS), torch.arange(ROWS)
    plain = Kd(temperature=temperature)
    ours = method.loss(logits, method.targets(intake, space), rows)
    theirs = plain.loss(logits, plain.targets(intake, space), rows)
    assert abs(ours - theirs).item() < 1e-7
    assert float((gradient(ours, logits) - gradient(theirs, logits)).abs().max()) < 1e-7


def test_at_temperature_one_the_joint_loss_is_the_decoupled_one(answered, space):
    joint = Lelp(objective="joint", temperature=1)
    apart = Lelp(objective="decoupled", temperature=1, balanced=False)
    intake, logits, rows = answered(joint, 1), outputs(LABELS * 5), torch.arange(ROWS)
    first = joint.loss(logits, joint.targets(intake, space), rows)
    second = apart.loss(logits, apart.targets(intake, space), rows)
    assert abs(first - second).item() < 1e-6


def test_subclasses_keep_the_label_probabilities(answered, space):
    method = Lelp(objective="joint")
    targets = method.targets(answered(method, 1), space)
    found = targets.tensors["fine"].sum(dim=(1, 3))
    assert torch.allclose(found, targets.tensors["soft"], atol=1e-6)


def test_the_decoupled_loss_is_the_paper_of_the_federation(answered, space):
    """Written out once more, head by head; ``fine`` is soft · r / heads."""
    method = Lelp(temperature=3, share=0.7, balanced=False)
    intake, rows = answered(method, 3), torch.arange(ROWS)
    targets = method.targets(intake, space)
    logits = outputs(3 * LABELS * 5)
    heads = logits.reshape(ROWS, 3, LABELS, 5)
    soft, fine = (targets.tensors[name].double() for name in ("soft", "fine"))
    label = torch.stack([heads[:, k].logsumexp(dim=2) for k in range(3)]).mean(dim=0)
    expected = -9 * (soft * F.log_softmax(label / 3, dim=1)).sum(dim=1)
    for k in range(3):
        inside = -(fine[:, k] * F.log_softmax(heads[:, k], dim=2)).sum(dim=2)
        expected = expected + 0.7 * inside.sum(dim=1)
    found = method.loss(logits, targets, rows)
    assert abs(found - expected.mean()).item() < 1e-6
    assert torch.allclose(targets.layout.collapse(logits), label)


def test_a_student_of_one_head_answers_with_the_sum_of_subclass_probabilities():
    logits = outputs(LABELS * 5)
    layout = Layout(1, 5)
    fine = torch.softmax(logits, dim=1).reshape(ROWS, LABELS, 5).sum(dim=2)
    assert torch.allclose(torch.softmax(layout.collapse(logits), dim=1), fine)


def test_uniform_subclasses_leave_the_optimum_of_plain_distillation(answered, space):
    method = Lelp(objective="joint", beta=1e9, temperature=1)
    intake, rows = answered(method, 1), torch.arange(ROWS)
    (question,) = method.questions(intake, space)
    flat = np.full((ROWS, LABELS, 5), 0.2, np.float32)
    np.save(intake.folder / intake.parties[0] / f"{question.name}.npy", flat)
    targets = method.targets(intake, space)
    best = (targets.probs.double().log()[:, :, None] + torch.zeros(5)).reshape(ROWS, -1)
    logits = best.clone().requires_grad_()
    assert float(gradient(method.loss(logits, targets, rows), logits).abs().max()) < 1e-7
    answer = torch.softmax(targets.layout.collapse(best), dim=1)
    assert torch.allclose(answer, targets.probs.double(), atol=1e-6)


@pytest.mark.parametrize("design", ["a0", "a1", "a2", "b1", "b2"])
def test_every_design_gives_conditionals_and_bears_lost_rows(answered, space, design):
    method = Lelp(design=design)
    lost = {1: slice(0, 7)}
    for intake in (answered(method, 3), answered(method, 3, lost)):
        targets = method.targets(intake, space)
        heads = 3 if design in ("a1", "b1") else 1
        fine, soft = targets.tensors["fine"], targets.tensors["soft"]
        assert fine.shape == (ROWS, heads, LABELS, 5)
        assert targets.layout == Layout(heads, 5)
        assert torch.allclose(fine.sum(dim=(1, 3))[7:], soft[7:], atol=1e-5)
        if heads == 3:
            assert torch.allclose(fine.sum(dim=(1, 3)), soft, atol=1e-5)
        loss = method.loss(outputs(heads * LABELS * 5), targets, torch.arange(ROWS))
        assert torch.isfinite(loss)


def test_the_average_of_many_teachers_says_nothing_and_one_head_each_does(answered, space):
    """Unaligned conditionals average to the uniform one, which is plain distillation."""
    spread = {}
    for design in ("a0", "a1"):
        method = Lelp(design=design)
        targets = method.targets(answered(method, 40), space)
        fine, soft = targets.tensors["fine"], targets.tensors["soft"]
        heads = fine.shape[1]
        spread[design] = float((fine * heads / soft[:, None, :, None]).std())
    assert spread["a0"] < spread["a1"] / 4


def test_the_label_targets_may_be_a_barycentre(make_intake, space):
    intake = make_intake(np.random.default_rng(0).dirichlet(np.ones(LABELS), (3, ROWS)))
    found = [
        Kd(class_targets=kind, temperature=1).targets(intake, space).probs
        for kind in ("logits", "mean", "knot")
    ]
    for probs in found:
        assert torch.allclose(probs.sum(dim=1), torch.ones(ROWS), atol=1e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_temperature_is_left_to_held_out_rows_unless_given():
    assert [m.temperature for m in Kd().candidates] == [1, 2, 4, 8]
    fixed = Kd(temperature=3)
    assert fixed.candidates == (fixed,)
    assert (Kd().key, fixed.key) == ("kd", "kd/3")


def test_subclasses_never_teach_more_than_the_labels_do(make_intake, space):
    """λ is 1 for sure teachers and falls with their confidence; a share may be tuned as well."""
    draw, found = np.random.default_rng(0), []
    inside = np.eye(5, dtype=np.float32)[draw.integers(5, size=(ROWS, 2))]
    for gap in (0.0, 0.3, 1.0, 40.0):
        logits = gap * np.sign(draw.normal(size=ROWS))
        probs = np.stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))], axis=1)
        intake, method = make_intake(probs[None]), Lelp()
        (question,) = method.questions(intake, space)
        np.save(intake.folder / intake.parties[0] / f"{question.name}.npy", inside)
        found.append(method.targets(intake, space).tensors["share"].item())
        half = Lelp(share=0.5, balanced=False).targets(intake, space)
        assert half.tensors["share"].item() == 0.5
    assert found[0] == pytest.approx(0, abs=1e-6) and found[3] == 1
    assert found[0] < found[1] < found[2] < 1
    # Small gaps: labels teach gap²/8 whatever τ is; five equal subclasses teach about log 5.
    assert found[1] == pytest.approx(0.3**2 / 8 / np.log(5), rel=0.1)
    tuned = Lelp(share="tuned")
    assert [m.share for m in tuned.candidates] == [1, 0.3, 0.1, 0]
    assert tuned.key == "lelp/a1/decoupled/tuned" and Lelp().candidates == (Lelp(),)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"fit_on": "private"}, "mechanism"),
        ({"beta": 0}, "greater than 0"),
        ({"temperature": -1}, "greater than 0"),
        ({"subclasses": 0}, "greater than or equal to 1"),
        ({"rotation": "hadamard"}, "power of 2"),
        ({"splitter": "oracle", "design": "a2"}, "design"),
        ({"splitter": "k-means", "design": "b2"}, "splitter"),
        ({"splitter": "learned", "design": "b1"}, "design"),
        ({"design": "b2", "landmarks": 1}, "greater than or equal to 2"),
        ({"normalise_weights": False}, "normalise_weights"),
    ],
)
def test_what_cannot_be_is_refused(keys, told):
    with pytest.raises(ScenarioError, match=told):
        parse_methods([MethodSpec(name="lelp", **keys)])


def test_the_reference_splitter_needs_fine_labels(make_intake, space):
    method = Lelp(splitter="oracle")
    probs = np.eye(2)[np.arange(ROWS) % 2][None] * 0.8 + 0.1
    intake = make_intake(probs)
    assert method.questions(intake, space) == () and method.asks == ("probabilities",)
    with pytest.raises(ScenarioError, match="fine labels"):
        method.targets(intake, space)
    from dataclasses import replace

    known = replace(intake, fine=np.arange(ROWS) % 6)
    fine = method.targets(known, space).tensors["fine"][:, 0]
    assert fine.shape == (ROWS, 2, 3)
    own = fine[torch.arange(ROWS), torch.arange(ROWS) % 2]
    assert torch.equal((own > 0).sum(dim=1), torch.ones(ROWS, dtype=torch.int64))
