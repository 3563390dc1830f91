"""A flow whose mesh has points in float32 is computed in float32 throughout: nothing on the way is wider."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import JACOBIANS, random_state

import fluidgrad as fg
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.residual import imbalance, residual, tangent
from fluidgrad.linear.jacobian import assemble, pattern
from fluidgrad.mesh.mesh import Mesh


def float32(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def wide(function, *arguments):
    """What a program of ``function`` computes in float64, as operations and shapes; not Python's numbers, which take the type of
    what they meet."""
    found, todo = set(), [jax.make_jaxpr(function)(*arguments).jaxpr]
    while todo:
        for equation in todo.pop().eqns:
            outs = (x.aval for x in equation.outvars)
            found |= {(equation.primitive.name, x.shape) for x in outs if x.dtype == jnp.float64 and not x.weak_type}
            todo += [getattr(p, "jaxpr", p) for p in jax.tree.leaves(list(equation.params.values())) if hasattr(p, "eqns")]
    return found


def derivatives(flow, q):
    """Residual, gross fluxes, JVP and VJP in flow and state, products with one linearization, both Jacobians."""
    d = discretize(flow)
    R, pull_back = jax.vjp(lambda flow, q: residual(flow, q), flow, q)
    along = jax.jvp(lambda flow, q: residual(flow, q), (flow, q), (flow, q))
    matrices = [assemble(d, pattern(flow, compact).places, q) for compact in (False, True)]
    return imbalance(d, q), along, pull_back(R), tangent(d, q)(q), matrices


@pytest.mark.parametrize("name", ["inlets", "driven", "3d"])
def test_a_flow_in_float32_is_so_throughout(name):
    flow = JACOBIANS[name]()
    q = random_state(flow)
    assert wide(derivatives, float32(flow), float32(q)) == set()


def test_what_is_wider_is_found():
    wider = wide(jax.jit(lambda x: x * np.ones(2)), jnp.ones(2, jnp.float32))
    assert ("mul", (2,)) in wider


def test_a_solve_refuses_it():
    flow = float32(JACOBIANS["open"]())
    with pytest.raises(fg.InputError, match="in float32, whose round-off.* points in float64"):
        fg.solve_steady(flow)


def test_what_a_flow_is_given_takes_the_type_of_its_points():
    m = fg.box(cells=(3, 3))
    flow = fg.Flow(
        Mesh(m.points.astype(jnp.float32), m.topology), viscosity=np.float64(0.1), porosity=np.ones(9), force=(0.0, 1.0),
        left=fg.Inflow(np.ones(3)), right=fg.Outflow(0.5), bottom=fg.Wall(), top=fg.FarField((1.0, 0.1)), reference=(1.0, 2.0),
    )  # fmt: skip
    assert {x.dtype for x in jax.tree.leaves(flow)} == {np.dtype(np.float32)}
