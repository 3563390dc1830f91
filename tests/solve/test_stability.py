"""Growth rates of small disturbances: closed forms, a cylinder below and above the onset of its vortex street."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.app import commands
from fluidgrad.app.report.summary import result_of
from fluidgrad.errors import InputError
from fluidgrad.solve.stability import growth_rates


def couette(cells, viscosity=0.1, height=1.0):
    """Between two plates of which one moves, periodic along them."""
    mesh = fg.box((0, 0), (1.0, height), cells=cells)
    ends = {"left": fg.Periodic("right", pressure_drop=0.0), "bottom": fg.Wall(), "top": fg.Wall(velocity=(1.0, 0.0))}
    return fg.solve_steady(fg.Flow(mesh, viscosity=viscosity, **ends))


NU, HEIGHT = 0.1, 0.8


@pytest.fixture(scope="module")
def sheared():
    return couette((3, 16), NU, HEIGHT)


def test_what_does_not_vary_along_plates_decays_as_heat_does(sheared):
    """u(y) = sin k pi y / h: -nu (k pi / h)^2, for k = 1, 2, 3."""
    nu, h = NU, HEIGHT
    found = growth_rates(sheared)
    for k in (1, 2, 3):
        exact = -nu * (k * np.pi / h) ** 2
        assert np.min(np.abs(found - exact)) < 0.02 * k**2 * abs(exact)
    assert found[0] == pytest.approx(-nu * (np.pi / h) ** 2, rel=0.01) and (np.diff(found.real) <= 0).all()


@pytest.mark.slow  # every day: the rates of heat, above
def test_the_modes_are_those_of_the_dense_pencil():
    import scipy.linalg

    from fluidgrad.flow.fluxes import discretize
    from fluidgrad.flow.residual import residual

    s = couette((6, 6), 0.01)
    J = np.asarray(jax.jit(jax.jacfwd(lambda q: residual(s.flow, q)))(s.state))
    M = np.zeros(len(s.state))
    M[: 3 * 36] = np.repeat(np.asarray(discretize(s.flow).geometry.V), 3) * np.tile([1, 1, 0], 36)
    exact = scipy.linalg.eigvals(-J, np.diag(M))
    exact = exact[np.isfinite(exact) & (np.abs(exact) < 1e6)]
    found = growth_rates(s)
    assert found[0].real == pytest.approx(exact.real.max(), rel=1e-6)
    assert all(np.min(np.abs(exact - z)) < 2e-3 * (1 + abs(z)) for z in found)


def wake(reynolds, cells):
    """The cylinder in a channel of Schaefer and Turek: steady at Re 20, a vortex street at Re 100."""
    mesh = fg.channel(2.2, 0.41, fg.circle((0.2, 0.2), 0.05), cells=cells)
    inlet = fg.Inflow(fg.parabola(mesh, "inlet", 1.0))
    ends = {"inlet": inlet, "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
    return fg.solve_steady(fg.Flow(mesh, viscosity=0.1 / reynolds, **ends))


@pytest.mark.slow  # every day: a run warns
def test_a_cylinder_in_a_channel_is_stable_at_reynolds_20_and_sheds_vortices_at_100():
    assert growth_rates(wake(20, 1200))[0].real < 0
    assert growth_rates(wake(100, 1200))[0].real > 0


@pytest.mark.slow
def test_the_onset_of_the_vortex_street_of_a_cylinder():
    """Unbounded: Re 46.6 to 46.9, St 0.116 to 0.118 (Kumar and Mittal 2006; Sipp and Lebedev 2007)."""

    def leading(around, reynolds):
        across = round(0.14 * around * np.log(100))
        mesh = fg.o_grid(fg.circle((0, 0), 0.5), 50.0, cells=(around, across), grading=100.0)
        far = fg.FarField(velocity=(1.0, 0.0))
        return growth_rates(fg.solve_steady(fg.Flow(mesh, viscosity=1 / reynolds, body=fg.Wall(), far=far)))[0]

    onset = []
    for around in (96, 128):
        low, high = leading(around, 46), leading(around, 50)
        share = -low.real / (high.real - low.real)
        onset.append([46 + 4 * share, (abs(low.imag) + share * (abs(high.imag) - abs(low.imag))) / (2 * np.pi)])
    coarse, fine = np.array(onset)
    reynolds, strouhal = fine + (fine - coarse) / ((128 / 96) ** 2 - 1)  # the scheme is of second order
    assert 46.3 <= reynolds <= 47.3 and 0.114 <= strouhal <= 0.119, (reynolds, strouhal, onset)


def test_a_run_warns_of_an_unstable_flow(tmp_path, capsys):
    settings = ["mesh.cells=900", "flow.viscosity=2e-4", "design=[]", "output.figures=false"]
    folder = commands.run("cylinder_inflow", settings, root=tmp_path)
    out = capsys.readouterr().out
    assert "warning: this flow is unstable: disturbances of it grow at a rate of " in out and "swing with a frequency of" in out
    assert "(not that of the shedding that they grow into), so it would not be seen" in out
    row = json.loads((folder / "results.json").read_text())["stability"]["flow"]
    assert not row["stable"] and row["growth_rate"] > 0 and row["units"] == "s^-1"
    assert "This flow is unstable:" in (folder / "report.html").read_text()
    assert result_of(folder)["numbers"]["growth_rate"] == row["growth_rate"]


def test_what_has_no_growth_rates_is_refused(sheared):
    s = sheared
    still = replace(s.flow, boundary={**s.flow.boundary, "top": fg.Wall(velocity=(0.0, 0.0))})
    with pytest.raises(InputError, match="growth rates of a fluid at rest; a flow"):
        growth_rates(fg.solve_steady(still))
    with pytest.raises(InputError, match="growth rates of a traced solution"):
        jax.jit(lambda q: growth_rates(fg.Solution(s.flow, q, s.report))[0])(s.state)
