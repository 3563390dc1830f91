"""Figures of a study: the design before and after, the history of the search, and the check of its derivatives.

Every function draws one figure into one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.plots.interpolation import geometry
from fluidgrad.plots.style import UNNAMED, WIDTH, Labels, figure, new, plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.mesh.mesh import Mesh


@figure
def outlines(before: Mesh, after: Mesh, moved: Sequence[str], walls: Sequence[str], labels: Labels = UNNAMED, title: str = "") -> Figure:
    """The walls before and after, near to those that moved; in 3D seen from the three sides."""
    t = before.topology
    at = np.unique(np.concatenate([t.face_points[t.faces_of(w)].ravel() for w in moved]))
    both = np.concatenate([np.asarray(m.points)[at] for m in (before, after)])
    views = [(0, 1)] if t.dim == 2 else [(0, 1), (0, 2), (1, 2)]
    low, high = both.min(0), both.max(0)
    aspect = [float(np.clip((high - low)[b] / (high - low)[a], 0.25, 1.6)) for a, b in views]
    fig, all_axes = new(5.8 if t.dim == 2 else WIDTH, max(5.0 / len(views) * a for a in aspect) + 1.0, 1, len(views), squeeze=False)
    for axes, (a, b) in zip(all_axes[0], views, strict=True):
        pad = 0.12 * max(high[a] - low[a], high[b] - low[b])
        for mesh, name, style in ((before, "start", {"color": "0.6"}), (after, "optimum", {"color": "C0"})):
            label: str | None = name
            for wall in walls:
                faces = t.face_points[t.faces_of(wall)]
                corners = faces[:, :2] if t.dim == 2 else np.concatenate([faces, faces[:, :1]], 1)
                lines = np.asarray(mesh.points)[corners][..., [a, b]]
                gaps = np.concatenate([lines, np.full((len(lines), 1, 2), np.nan)], 1).reshape(-1, 2)
                axes.plot(*gaps.T, lw=1.2 if t.dim == 2 else 0.4, label=label, **style)
                label = None
        plane(axes, (low[a] - pad, high[a] + pad), (low[b] - pad, high[b] + pad), labels)
        axes.set_xlabel(labels("xyz"[a], "L"))
        axes.set_ylabel(labels("xyz"[b], "L"))
    fig.legend(*all_axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    fig.suptitle(title)
    return fig


@figure
def profiles(
    before: Mapping[str, tuple[np.ndarray, np.ndarray]], after: Mapping[str, tuple[np.ndarray, np.ndarray]],
    bounds: Mapping[str, Sequence[float]] | None = None, labels: Labels = UNNAMED, title: str = "",
) -> Figure:  # fmt: skip
    """Speeds along patches before and after: for each patch, arc length and speed; and the bounds of the speeds."""
    fig, all_axes = new(min(WIDTH, 4.6 * len(before)), 3.8, 1, len(before), squeeze=False)
    for axes, patch in zip(all_axes[0], before, strict=True):
        for (s, u), name, style in ((before[patch], "start", {"ls": "--", "color": "0.45"}), (after[patch], "optimum", {})):
            axes.plot(u, s, label=name, **style)
        for bound in (bounds or {}).get(patch, ()):
            axes.axvline(bound, color="0.75", lw=0.7, ls=":", zorder=0)
        axes.set_xlabel(labels("speed", "L T^-1"))
        axes.set_ylabel(labels(f"along the {patch}", "L"))
        axes.margins(y=0)
        axes.legend()
    fig.suptitle(title)
    return fig


def profile(flow: Any, patch: str, zero_ends: bool) -> tuple[np.ndarray, np.ndarray]:
    """Arc length and speed along an inflow of a 2D flow, face by face, and at the ends of a profile that is zero there."""
    from fluidgrad.flow.profiles import spans

    a, b = (np.asarray(s) for s in spans(flow.mesh, patch))
    S = geometry(flow.mesh).S[flow.mesh.topology.faces_of(patch)]
    speed = np.asarray(flow.boundary[patch].speed)
    u = -np.sum(speed * S, 1) / np.linalg.norm(S, axis=1) if speed.ndim == 2 else np.broadcast_to(speed, a.shape)
    order = np.argsort(a)
    s, u = (0.5 * (a + b))[order], u[order]
    if zero_ends:
        s, u = np.concatenate([[0.0], s, [1.0]]), np.concatenate([[0.0], u, [0.0]])
    return s * np.linalg.norm(S, axis=1).sum(), u


@figure
def values(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], bounds: Mapping[str, Any] | None = None, title: str = ""
) -> Figure:
    """Any design before and after, between its bounds: lists of numbers each in a panel, single numbers in one together."""
    single = [path for path in before if np.size(before[path]) == 1]
    lists = [path for path in before if path not in single]
    heights = [1.7] * len(lists) + [0.5 + 0.34 * len(single)] * bool(single)
    fig, all_axes = new(WIDTH * 0.8, 0.9 + sum(heights), len(heights), 1, squeeze=False, height_ratios=heights)
    for axes, path in zip(all_axes[:, 0], lists, strict=False):
        a, b = np.ravel(before[path]), np.ravel(after[path])
        k = np.arange(1, len(a) + 1)
        for bound in (bounds or {}).get(path, ()):
            edge = np.broadcast_to(bound, np.shape(before[path])).ravel()
            axes.hlines(edge, k - 0.4, k + 0.4, color="0.6", lw=0.8)
        axes.plot(k, a, "o", ms=4, mfc="none", color="0.35", label="start")
        axes.plot(k, b, "o", ms=4, label="optimum")
        axes.set_title(path + (" (gray: bounds)" if bounds else ""), loc="left")
        axes.set_xlim(0.4, len(a) + 0.6)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set_xlabel("number" if path == lists[-1] else "")
    if single:
        _between_bounds(
            all_axes[-1, 0], {path: (float(np.ravel(before[path])[0]), float(np.ravel(after[path])[0])) for path in single}, bounds or {}
        )
    fig.suptitle(title)
    return fig


def _between_bounds(axes: Axes, numbers: Mapping[str, tuple[float, float]], bounds: Mapping[str, Any]) -> None:
    """Single numbers before and after, a row each, from its lower bound to its upper; from one to the other without bounds."""
    for row, (path, (a, b)) in enumerate(numbers.items()):
        low, high = (float(np.ravel(bound)[0]) for bound in bounds.get(path, (-np.inf, np.inf)))
        ends = [f"{v:.4g}" if np.isfinite(v) else "" for v in (low, high)]
        reach = max(abs(b - a), 1e-300)
        low, high = low if np.isfinite(low) else min(a, b) - reach, high if np.isfinite(high) else max(a, b) + reach
        at = [(v - low) / max(high - low, 1e-300) for v in (a, b)]
        axes.plot([0, 1], [row, row], color="0.75", lw=3, solid_capstyle="butt", zorder=1)
        axes.annotate("", (at[1], row), (at[0], row), arrowprops={"arrowstyle": "-", "color": "C0", "lw": 1.6}, zorder=2)
        axes.plot(at[0], row, "o", ms=5, mfc="white", color="0.35", label=None if row else "start", zorder=3)
        axes.plot(at[1], row, "o", ms=5, color="C0", label=None if row else "optimum", zorder=3)
        for x, text, side in ((-0.015, ends[0], "right"), (1.015, ends[1], "left")):
            axes.annotate(text, (x, row), ha=side, va="center", fontsize=7, color="0.4", annotation_clip=False)
        axes.annotate(f"{a:.4g} → {b:.4g}", (0.5, row), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=7.5)
    axes.set_yticks(range(len(numbers)), list(numbers))
    axes.tick_params(axis="y", length=0, pad=34)
    axes.set_ylim(len(numbers) - 0.5, -0.6)
    axes.set_xlim(-0.005, 1.005)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)


@figure
def history(
    evaluation: Sequence[int], objective: Sequence[float], violations: Mapping[str, Sequence[float]], label: str, title: str = ""
) -> Figure:
    """The objective over the evaluations, and the violation of each constraint, relative."""
    if not violations:
        fig, bottom = new(5.6, 3.0)
        top = bottom
    else:
        fig, (top, bottom) = new(5.6, 4.4, 2, 1, sharex=True, height_ratios=[1.5, 1])
    k = np.asarray(evaluation)
    top.plot(k, objective, ".-", ms=4)
    top.set_ylabel(label)
    floor = 1e-10
    for i, (name, violation) in enumerate(violations.items()):
        v = np.asarray(violation, float)
        bottom.semilogy(k, np.maximum(v, floor), "os^vD"[i % 5] + "-", ms=3, lw=0.9, color=f"C{(i + 1) % 7}", label=name)
    if violations:
        bottom.set_ylabel("violation, relative")
        bottom.axhline(floor, color="0.6", lw=0.7, ls=":")
        bottom.annotate(
            "none, or less", (1, floor), (0, 4), ("axes fraction", "data"), "offset points", ha="right", fontsize=7, color="0.4"
        )
        fig.legend(loc="outside lower center", ncols=2, fontsize=7)
    bottom.set_xlabel("evaluation")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(title)
    return fig


@figure
def check(curves: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Taylor remainders, which must fall with the square of the step, and differences against the derivative: the V-curve,
    down with the fourth power of the step, then up with round-off, the floor between them named.

    Each curve: name, remainders over taylor_steps (divided by the value), errors over steps.
    """
    fig, (left, right) = new(WIDTH, 3.9, 1, 2)
    floors = []
    for i, c in enumerate(curves):
        style = {"ms": 4, "color": f"C{i % 7}", "marker": "os^v"[i // 7 % 4], "lw": 1.0}
        left.loglog(c["taylor_steps"], np.maximum(c["remainders"], 1e-17), label=c["name"], **style)
        right.loglog(c["steps"], np.maximum(c["errors"], 1e-17), **style)
        floors.append(float(np.min(c["errors"])))
    first = np.asarray(curves[0]["taylor_steps"], float)
    top = max(float(np.max(c["remainders"])) for c in curves)
    left.loglog(first, top * 2 * (first / first.max()) ** 2, color="0.5", lw=0.8, ls=":", label="slope 2")
    left.set_xlabel("step, relative to the design")
    left.set_ylabel("Taylor remainder, relative")
    right.set_xlabel("step, relative to the design")
    right.set_ylabel("error of differences, relative")
    right.axhline(max(floors), color="0.5", lw=0.8, ls=":")
    right.annotate(f"floor {max(floors):.1e}", (0.98, max(floors)), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                   xytext=(0, 2), textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
    fig.legend(loc="outside lower center", ncols=min(len(curves) + 1, 3))
    fig.suptitle(title)
    return fig


@figure
def sweep(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> Figure:
    """A value over the first key of a sweep, a line for each combination of the others."""
    fig, axes = new(5.8, 3.6)
    for i, (label, (along, value)) in enumerate(lines.items()):
        order = np.argsort(along)
        style = {"marker": "os^vD"[i // 7 % 5], "ms": 4, "color": f"C{i % 7}"}
        axes.plot(np.asarray(along)[order], np.asarray(value)[order], label=label or None, **style)
    everywhere = np.concatenate([np.asarray(a) for a, _ in lines.values()])
    if everywhere.min() > 0 and everywhere.max() > 30 * everywhere.min():
        axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if len(lines) > 1:
        axes.legend() if len(lines) <= 6 else fig.legend(loc="outside right upper", fontsize=7)
    return fig
