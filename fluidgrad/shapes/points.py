"""Curves made of points: given, or read from a text file, and looked at before they are believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from fluidgrad.errors import InputError
from fluidgrad.files import read_text
from fluidgrad.iteration import traced
from fluidgrad.shapes.curves import Curve, Numbers, number
from fluidgrad.shapes.polygons import refuse_points, self_crossing, simple_polygon
from fluidgrad.shapes.splines import MAX_POINTS


def closed_curve(points: Numbers | str | Path, corners: bool = False) -> Curve:
    """A curve through points: a periodic cubic spline, or a polygon.

    Args:
        points: ``(points, 2)`` [L], in order, or a text file of them, one pair a row; at least 4 (3 for a polygon),
            roughly equally spaced for a spline. A last point that repeats the first is dropped, and a clockwise order is
            reversed, when the points are concrete.
        corners: straight lines between the points. The curve's normal jumps at them.
    """
    if isinstance(points, (str, Path)):
        points = read_points(points)
    points = number(points)
    refuse_points(points)
    if not traced(points):
        points = simple_polygon(np.asarray(points), 3 if corners else 4)
    return Curve({"points": points}, "polygon" if corners else "spline")


def spline(control: Numbers, closed: bool = True, corners: bool = False) -> Curve:
    """A cubic B-spline, round a body or (open) along a wall of a duct.

    Args:
        control: control points, ``(points, 2)`` [L]; in order round a body, at least 4, which the curve does not pass
            through; or from one end to the other of an open curve, which begins and ends at the first and the last. Two
            make a straight line, three a parabola.
        closed: round a body; else open.
        corners: straight lines between the points instead.

    Raises:
        InputError: too few points, two that follow each other in one place, a control polygon that crosses itself.

    Differentiable in ``control``. Where it is traced, its order and its crossings are not looked at.
    """
    if closed and corners:
        return closed_curve(control, corners=True)
    points = number(control)
    refuse_points(points)
    if not traced(points):
        points = simple_polygon(np.asarray(points), 4, "control polygon") if closed else _open(np.asarray(points))
    return Curve({"points": points}, "b-spline" if closed else "polyline" if corners else "open")


def _open(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
    """The points of an open curve, after a look for what cannot be one."""
    if (bad := ~np.isfinite(points).all(1)).any():
        raise InputError(f"control point {bad.argmax() + 1} is {points[bad.argmax()]}", accepted="finite numbers")
    if not 2 <= len(points) <= MAX_POINTS:
        raise InputError(f"an open curve of {len(points)} control points", accepted=f"2 to {MAX_POINTS}; 2 are a straight line")
    if (same := (points[1:] == points[:-1]).all(1)).any():
        raise InputError(f"control points {same.argmax() + 1} and {same.argmax() + 2} of an open curve are the same")
    if (points[0] == points[-1]).all():
        raise InputError("an open curve ends where it begins", accepted="a closed curve round a body, or two ends")
    if (crossing := self_crossing(points, closed=False)) is not None:
        a, b = crossing
        raise InputError(
            f"a control polygon crosses itself between points {a + 1} and {b + 1}, near ({points[a][0]:.4g}, {points[a][1]:.4g})",
            accepted="points in order along a simple curve",
        )
    return points


def read_points(path: str | Path) -> Float[np.ndarray, "points 2"]:
    """Points from a text file: two numbers x, y in a row, separated by commas, semicolons, tabs or spaces.

    A first line that is a title or the columns' names, and lines that start with #, are passed over.

    Raises:
        InputError: not readable; a row that is not two numbers; NaN or infinity, with its row.
    """
    text = read_text(path, "points from", "a text file of rows x, y")
    rows: list[list[float]] = []
    first = True  # which may hold the columns' names
    for place, line in enumerate(text.splitlines(), 1):
        given = line = line.split("#")[0].strip()
        for separator in ",;\t":
            line = line.replace(separator, " ")
        if not (fields := line.split()):
            continue
        try:
            row = [float(f) for f in fields]
        except ValueError:
            if first and _is_heading(given):
                first = False
                continue
            row = []
        first = False
        if len(row) != 2:
            raise InputError(f"row {place} of {str(path)!r} is not two numbers: {line[:40]!r}", accepted="rows x, y")
        if not np.isfinite(row).all():
            raise InputError(f"row {place} of {str(path)!r} holds {line[:40]!r}", accepted="finite numbers")
        rows.append(row)
    if len(rows) < 3:
        raise InputError(f"{str(path)!r} holds {len(rows) or 'no'} point{'s' * (len(rows) != 1)}", accepted="three rows x, y or more")
    return np.array(rows)


def _is_heading(line: str) -> bool:
    """Whether a line is text and no row that was mistyped: it begins with a letter, and no column of it is a number."""
    columns = [c for s in ",;\t" for c in line.split(s) if s in line]
    return line[0].isalpha() and not any(c.strip().startswith(tuple("+-.0123456789")) for c in columns)
