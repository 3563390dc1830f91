"""Values and gradients of a study's functionals at a design.

An evaluation is one primal solve and, for each functional that depends on the flow, one transposed solve with the factor
that the primal left behind. It is a pure function of the design and of the state that the solve starts from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fluidgrad.derivatives import derivative
from fluidgrad.design.study import Functional, Study, name_of
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.solution import Solution
from fluidgrad.solve.steady import solve_steady


@dataclass(frozen=True)
class EvaluationReport:
    """How an evaluation went: ``primal_residual`` net over gross flux; for each functional its adjoint's relative
    residual and the products it took (0 where the functional does not depend on the flow). Of several flows the worst
    residual and all steps and products."""

    primal_residual: float
    newton_steps: int
    adjoint_residuals: list[float]
    adjoint_products: list[int]


@dataclass(frozen=True)
class Evaluation:
    """The functionals of a study at a design: ``values`` ``(1 + m,)``, ``gradients`` pytrees like the design, the
    ``state`` of the flow (of several one after the other), and how it went."""

    values: Float[np.ndarray, " functionals"]
    gradients: list[Any]
    state: Array
    report: EvaluationReport


def evaluate(study: Study, design: Any, start: Array | None = None) -> Evaluation:
    """Values and gradients of a study's functionals at a design, by one primal solve for each of its flows and one
    transposed solve for each functional that depends on one.

    Args:
        study: what to evaluate.
        design: a pytree like ``study.start``.
        start: a state to start from (``Evaluation.state`` of another design); rest if left out.

    Raises:
        NotConverged: the primal or an adjoint solve failed, or a functional is not finite.
        InputError: the design gives no valid flow: a tangled mesh, a negative viscosity.
    """
    design = jax.tree.map(jnp.asarray, design)
    count = len(study.flows)
    starts = [None] * count if start is None else jnp.split(jnp.asarray(start), count)
    rows = [[0, *(i for i, c in enumerate(study.constraints, 1) if c.condition == k)] for k in range(count)]
    found = [
        _evaluate_one(study, flow, tuple(study.functionals[i] for i in own), [study.names[i] for i in own], design, begin)
        for flow, own, begin in zip(study.flows, rows, starts, strict=True)
    ]
    values, residuals = np.zeros(len(study.names)), np.zeros(len(study.names))
    products, gradients = [0] * len(study.names), [jax.tree.map(np.zeros_like, design)] * len(study.names)
    for one, own, weight in zip(found, rows, study.weights or [1.0] * count, strict=True):
        for k, i in enumerate(own):
            w = weight if i == 0 else 1.0
            values[i] += w * one.values[k]
            gradients[i] = jax.tree.map(lambda a, b, w=w: a + w * b, gradients[i], one.gradients[k])
            residuals[i] = max(residuals[i], one.report.adjoint_residuals[k])
            products[i] += one.report.adjoint_products[k]
    report = EvaluationReport(
        primal_residual=max(one.report.primal_residual for one in found),
        newton_steps=sum(one.report.newton_steps for one in found),
        adjoint_residuals=residuals.tolist(),
        adjoint_products=products,
    )
    return Evaluation(values, gradients, jnp.concatenate([one.state for one in found]) if count > 1 else found[0].state, report)


def _evaluate_one(
    study: Study, flow_of: Callable[[Any], Flow], functionals: tuple[Functional, ...], names: list[str], design: Any, start: Array | None
) -> Evaluation:
    """The functionals of one flow."""

    def solved(design: Any) -> tuple[list[Array], Array, Array]:
        flow = _flow(flow_of, design)
        solution = solve_steady(flow, start, **study.options)
        return _values(functionals, flow, solution.state), solution.state, solution.report.iterations

    (values, state, steps), pull_back = derivative.vjp(solved, design)
    for name, value in zip(names, values, strict=True):
        if not np.isfinite(value):
            raise NotConverged(f"{name} is {float(value)}")
    gradients, adjoints, nothing = [], [], (jnp.zeros_like(state), jnp.zeros_like(steps))
    for name, unit in zip(names, np.eye(len(names)), strict=True):
        try:
            gradient, report = pull_back(([jnp.asarray(x) for x in unit], *nothing))
        except NotConverged as error:
            raise NotConverged(f"{name}: {error}", error.report, error.solution) from None
        gradients.append(jax.tree.map(np.asarray, gradient))
        adjoints.append(report)
        if not all(np.isfinite(g).all() for g in jax.tree.leaves(gradients[-1])):
            raise NotConverged(f"the gradient of {name} is not finite", report)
    report = EvaluationReport(
        primal_residual=adjoints[0].primal_residual,
        newton_steps=int(steps),
        adjoint_residuals=[r.adjoint_residual for r in adjoints],
        adjoint_products=[r.adjoint_products for r in adjoints],
    )
    return Evaluation(np.array(values, float), gradients, state, report)


# Compiled apart from the solve, which is a loop of the host.


@partial(jax.jit, static_argnums=0)
def _flow(flow: Callable[[Any], Flow], design: Any) -> Flow:
    return flow(design)


@partial(jax.jit, static_argnums=0)
def _values(functionals: tuple[Functional, ...], flow: Flow, state: Array) -> list[Array]:
    def scalar(f: Functional) -> Array:
        value = f(Solution(flow, state, None))  # pyright: ignore[reportArgumentType]  (how it was solved is no part of it)
        if jnp.shape(value) != ():
            raise InputError(f"{name_of(f) or 'a functional'} has shape {jnp.shape(value)}", accepted="one number")
        if jnp.iscomplexobj(value):
            raise InputError(f"{name_of(f) or 'a functional'} is complex", accepted="a real number: the real part of it, or its size")
        return jnp.asarray(value, state.dtype)

    return [scalar(f) for f in functionals]
