"""What distillation from embeddings adds to plain distillation, term by term."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedkd.methods import parse_methods
from fedkd.methods.contrast import TEMPERATURE, Contrast
from fedkd.methods.embedding_companions import (
    Crd,
    EmbeddingDistillation,
    FitNet,
    Mean,
    Regression,
    Relations,
    Rkd,
    Variational,
    Vid,
    angles,
    distances,
    standardised,
)
from fedkd.methods.kd import Kd
from fedkd.models.classifier import build
from fedkd.models.tapped import Tapped
from fedkd.models.training import fit
from fedkd.scenario import Labels, MethodSpec, Model
from fedkd.transport.ground_cost import label_space
from server.teaching import Lesson, teach

ROWS, WIDTH, WIDE = 12, 4, 6
KINDS = [EmbeddingDistillation, FitNet, Vid, Rkd, Crd]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def terms(teacher: torch.Tensor):
    torch.manual_seed(0)
    return [
        Regression(WIDTH, teacher).double(),
        Variational(WIDTH, teacher).double(),
        Relations(teacher, 25.0, 50.0).double(),
        Contrast(WIDTH, teacher).double(),
    ]


@pytest.mark.parametrize("number", range(4))
def test_gradients_are_those_of_finite_differences(number):
    term = terms(normal(ROWS, WIDE))[number]
    rows, hidden = torch.arange(0, 10, 2), normal(5, WIDTH, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: term(h, rows), hidden, atol=1e-6)


@pytest.mark.parametrize("number", range(4))
def test_rows_that_a_teacher_did_not_deliver_count_for_nothing(number):
    teacher = normal(ROWS, WIDE)
    teacher[[2, 5]] = torch.nan
    term, hidden = terms(teacher)[number], normal(6, WIDTH, seed=1)
    rows, kept = torch.tensor([0, 2, 4, 5, 7, 9]), torch.tensor([0, 2, 4, 5])
    whole, known = term(hidden, rows), term(hidden[kept], rows[kept])
    there = torch.tensor([0, 2, 4, 5])
    assert torch.isfinite(whole)
    assert whole.item() == pytest.approx(term(hidden[there], rows[there]).item())
    alone = term(hidden[:0], rows[:0])
    assert alone.item() == 0 and torch.isfinite(known)


def test_a_student_that_spells_the_teacher_out_has_no_error():
    hidden, turn = normal(ROWS, WIDTH), normal(WIDE, WIDTH, seed=3)
    term = Regression(WIDTH, hidden @ turn.T + 1).double()
    with torch.no_grad():
        term.map.weight.copy_(turn)
        term.map.bias.fill_(1)
    assert term(hidden, torch.arange(ROWS)).item() < 1e-20


def test_a_channels_best_variance_is_its_mean_squared_error():
    term = Variational(WIDTH, normal(ROWS, WIDE)).double()
    hidden, rows = normal(ROWS, WIDTH, seed=1), torch.arange(ROWS)
    assert torch.nn.functional.softplus(term.raw)[0].item() == pytest.approx(5, abs=1e-4)
    error = (term.map(hidden) - term.teacher).square().mean(dim=0).detach()
    with torch.no_grad():
        term.raw.copy_(torch.expm1(error - 1e-5).log())
    loss = term(hidden, rows)
    assert loss.item() == pytest.approx(((1 + error.log()) / 2).mean().item())
    (slope,) = torch.autograd.grad(loss, term.raw)
    assert abs(slope).max().item() < 1e-12


def test_relations_see_neither_position_nor_scale_nor_rotation():
    teacher = normal(ROWS, WIDTH)
    turn = torch.linalg.qr(normal(WIDTH, WIDTH, seed=4))[0]
    term, rows = Relations(teacher, 25.0, 50.0).double(), torch.arange(ROWS)
    assert term(3 * teacher @ turn + 2, rows).item() < 1e-20
    assert term(normal(ROWS, WIDTH, seed=1), rows).item() > 0.1


def test_distances_and_angles_are_those_written_out():
    points = normal(5, 3)
    far, cosine = distances(points), angles(points)
    plain = torch.cdist(points, points)
    torch.testing.assert_close(far, plain / plain[plain > 0].mean())
    first, second = points[0] - points[2], points[4] - points[2]
    wanted = first @ second / (first.norm() * second.norm())
    torch.testing.assert_close(cosine[2, 0, 4], wanted)
    same = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(distances(same).sum() + angles(same).sum(), same)
    assert torch.isfinite(slope).all()


def test_the_contrast_is_the_estimate_of_the_paper():
    """Written out row by row: −log h of the pair, −log(1 − h) of all others."""
    teacher, hidden = normal(ROWS, WIDE), normal(4, WIDTH, seed=1)
    term, rows = Contrast(WIDTH, teacher).double(), torch.tensor([1, 4, 6, 7])
    unit = torch.nn.functional.normalize
    s = unit(term.student_map(hidden), dim=1)
    t = unit(term.teacher_map(teacher), dim=1)

    def share(score, negatives):
        odds = (score / TEMPERATURE).exp()
        return odds / (odds + negatives / ROWS)

    total = 0.0
    for i, row in enumerate(rows.tolist()):
        m = ROWS - 1
        total -= share(s[i] @ t[row], m).log()
        total -= sum((1 - share(s[i] @ t[j], m)).log() for j in range(ROWS) if j != row)
        m = len(rows) - 1
        total -= share(s[i] @ t[row], m).log()
        total -= sum((1 - share(s[j] @ t[row], m)).log() for j in range(4) if j != i)
    assert term(hidden, rows).item() == pytest.approx((total / 4).item(), rel=1e-9)


def test_teachers_count_alike_and_their_scale_does_not_matter():
    first, second = normal(ROWS, WIDE), normal(ROWS, 3, seed=2)
    parts = [Regression(WIDTH, first).double(), Regression(WIDTH, second).double()]
    hidden, rows = normal(ROWS, WIDTH, seed=1), torch.arange(ROWS)
    wanted = 0.5 * (parts[0](hidden, rows) + parts[1](hidden, rows))
    assert Mean(parts, 1.0)(hidden, rows).item() == pytest.approx(wanted.item())
    values = 40 * first.numpy() + 7
    values[3] = np.nan
    known = standardised(values)
    there = torch.arange(ROWS) != 3
    assert known[3].isnan().all()
    assert known[there].mean(dim=0).abs().max() < 1e-6
    assert known[there].square().mean().item() == pytest.approx(1, abs=1e-6)


@pytest.fixture
def lesson(make_intake):
    def make(method):
        draw = np.random.default_rng(0)
        texts = [" ".join(map(str, row)) for row in draw.normal(size=(60, 5)).round(3)]
        intake = make_intake(draw.dirichlet(np.ones(2), (2, 60)))
        space = label_space(Labels(), ("no", "yes"))
        for question in method.questions(intake, space):
            for number, party in enumerate(intake.parties):
                values = draw.normal(size=(60, WIDE + number)).astype(np.float32)
                np.save(intake.folder / party / f"{question.name}.npy", values)
        model = Model(model="mlp", widths=(8,), epochs=3, patience=3)
        student = build(model, 2, seed=0, public_text=texts, fit_text=texts)
        known = student.inputs(texts)
        return Lesson(method, method.targets(intake, space), intake, space), student, known, model

    return make


def weights(student) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in student.module.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_share_all_are_plain_distillation_and_with_one_none_is(lesson, kind):
    found = []
    for method in (Kd(temperature=4), kind(hint_share=0), kind()):
        given, student, inputs, model = lesson(method)
        if method.hints_first and not method.hint_share:
            continue  # a stage of zeros is one of the optimiser's decay alone
        teach(student, inputs, given, model, 0)
        found.append(weights(student))
    assert set(found[0]) == set(found[-1])
    if len(found) == 3:
        assert max(float(abs(found[0][n] - found[1][n]).max()) for n in found[0]) < 1e-6
    apart = max(float(abs(found[0][n] - found[-1][n]).max()) for n in found[0])
    assert apart > 1e-3


def test_hints_first_is_two_trainings_one_after_the_other(lesson):
    given, student, inputs, model = lesson(FitNet())
    teach(student, inputs, given, model, 0)
    again, other, inputs, model = lesson(FitNet())
    from fedkd.models.determinism import forked_generator
    from fedkd.seeds import seed_for

    with forked_generator(seed_for(0, "", 0, "beside")):
        beside = again.method.beside(again.intake, again.space, other)
    tapped = Tapped(other, beside)
    fit(tapped, inputs, tapped.hint, model, seed=0)
    fit(other, inputs, again.loss, model, seed=0)
    first, second = weights(student), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_the_last_layer_reads_comes_beside_the_logits(lesson):
    _, student, inputs, _ = lesson(Kd(temperature=4))
    tapped, rows = Tapped(student, Mean([], 1.0)), torch.arange(7)
    outputs = tapped.logits(inputs, rows)
    assert outputs.shape == (7, 2 + 8)
    torch.testing.assert_close(student.module.out(outputs[:, 2:]), outputs[:, :2])
    assert tapped.hint(outputs, rows).item() == 0


def test_they_are_found_by_name():
    names = ["embedding-distillation", "fitnet", "vid", "rkd", "crd"]
    methods = parse_methods([MethodSpec(name=name) for name in names])
    assert [m.name for m in methods] == names
    assert all(m.asks == ("probabilities", "embeddings") for m in methods)
