# ruff: noqa: PLC0415  (a peer that is not installed is left out)
"""Other people's solvers on the same problem: each returns values and the gradient in the logits.

Every function takes a problem and returns ``run() -> (values (batch,), gradient (batch, labels))``,
with all that can be prepared once left out of ``run``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.problems import Problem, logit_gradient

Run = Callable[[], tuple[Tensor, Tensor]]
LIMIT = 2000
FIXED = 100


def pot_best(problem: Problem) -> Run:
    """POT's batch solver under no_grad, and the envelope gradient made from its scalings."""
    from ot.batch import solve_batch

    target, epsilon = problem.targets[:, 0], problem.epsilon
    cost = problem.cost.float().expand(len(target), -1, -1)

    def run() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            s = torch.softmax(problem.logits, 1)
            found = solve_batch(
                cost, epsilon, s, target, max_iter=LIMIT, tol=1e-5, method="sinkhorn",
                reg_type="kl", grad="detach",
            )  # fmt: skip
            u, _ = found.potentials
            return found.value, logit_gradient(s, epsilon * (u / s).log())

    return run


def pot_gradient(problem: Problem) -> Run:
    """POT's batch solver with grad="last_step", its one documented gradient that is right here."""
    from ot.batch import solve_batch

    target = problem.targets[:, 0]
    cost = problem.cost.float().expand(len(target), -1, -1)

    def run() -> tuple[Tensor, Tensor]:
        leaf = problem.logits.clone().requires_grad_()
        found = solve_batch(
            cost, problem.epsilon, torch.softmax(leaf, 1), target, max_iter=LIMIT, tol=1e-5,
            method="sinkhorn", reg_type="kl", grad="last_step",
        )  # fmt: skip
        found.value.sum().backward()
        assert leaf.grad is not None
        return found.value.detach(), leaf.grad

    return run


def sinkhorn2_loop(problem: Problem) -> Run:
    """A Python loop of ot.sinkhorn2 on torch tensors, with autograd through its iterations."""
    import ot

    cost, target = problem.cost.float(), problem.targets[:, 0]

    def run() -> tuple[Tensor, Tensor]:
        leaf = problem.logits.clone().requires_grad_()
        values = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for s, b in zip(torch.softmax(leaf, 1), target, strict=True):
                values.append(
                    ot.sinkhorn2(s, b, cost, problem.epsilon, numItermax=LIMIT, stopThr=1e-5)
                )
        total = torch.stack(values)
        total.sum().backward()
        assert leaf.grad is not None
        return total.detach(), leaf.grad

    return run


def linear_programs(problem: Problem) -> Run:
    """A loop of exact linear programs: another objective, so its error says what ε costs."""
    import ot

    cost = problem.cost.numpy()
    a, b = (x.numpy() for x in problem.exact())
    s = torch.as_tensor(a)

    def run() -> tuple[Tensor, Tensor]:
        found = [ot.emd2(x, y, cost, log=True) for x, y in zip(a, b, strict=True)]
        duals = torch.as_tensor(np.stack([log["u"] for _, log in found]))
        return torch.tensor([float(v) for v, _ in found]), logit_gradient(s, duals)

    return run


def geomloss_knot(problem: Problem) -> Run:
    """geomloss as KNOT's published code calls it: blur 1e-3, half a dozen times too few steps."""
    return _geomloss(problem, blur=1e-3, scaling=0.5)


def geomloss_converged(problem: Problem) -> Run:
    """geomloss at our ε, annealed by 1 % a step."""
    return _geomloss(problem, blur=problem.epsilon, scaling=0.99)


def _geomloss(problem: Problem, blur: float, scaling: float) -> Run:
    from geomloss import SamplesLoss

    target = problem.targets[:, 0]
    points = problem.points.expand(len(target), -1, -1).contiguous()
    loss: Any = SamplesLoss(
        "sinkhorn", p=1, blur=blur, scaling=scaling, debias=False, backend="tensorized"
    )

    def run() -> tuple[Tensor, Tensor]:
        leaf = problem.logits.clone().requires_grad_()
        values = loss(torch.softmax(leaf, 1), points, target, points)
        values.sum().backward()
        assert leaf.grad is not None
        return values.detach(), leaf.grad

    return run


def ott_fixed(problem: Problem) -> Run:
    """ott-jax in kernel mode with a fixed number of steps, jitted and mapped over the batch."""
    import jax
    import jax.numpy as jnp
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    cost = jnp.asarray(problem.cost.numpy(), jnp.float32)
    logits = jnp.asarray(problem.logits.numpy())
    target = jnp.asarray(problem.targets[:, 0].numpy())
    solver = Sinkhorn(
        lse_mode=False, threshold=0.0, min_iterations=FIXED, max_iterations=FIXED,
        inner_iterations=FIXED,
    )  # fmt: skip
    geometry = Geometry(cost_matrix=cost, epsilon=problem.epsilon)

    def one(z: Any, b: Any) -> Any:
        s = jax.nn.softmax(z)
        found = solver(LinearProblem(geometry, a=s, b=b))
        f = found.f - problem.epsilon * jnp.log(s)  # its reference measure is 1, not a b
        return found.reg_ot_cost, s * (f - s @ f)

    both = jax.jit(jax.vmap(one))

    def run() -> tuple[Tensor, Tensor]:
        values, gradient = jax.block_until_ready(both(logits, target))
        return torch.as_tensor(np.array(values)), torch.as_tensor(np.array(gradient))

    return run


# Name, solver, and how many numbers of a (batch, labels, labels) tensor it may be given at once.
PEERS: dict[str, tuple[Callable[[Problem], Run], float]] = {
    "POT batch, best use": (pot_best, 1.6e6),
    "POT batch, its gradient": (pot_gradient, 1.6e6),
    "ott-jax kernel, 100 steps": (ott_fixed, 1e9),
    "loop of exact LPs": (linear_programs, 1.6e6),
    "loop of ot.sinkhorn2": (sinkhorn2_loop, 2e5),
    "geomloss as KNOT calls it": (geomloss_knot, 8e5),
    "geomloss, converged": (geomloss_converged, 1e5),
}
