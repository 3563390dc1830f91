"""The ring of cells round a body: from points on the body to points on a surrounding curve.

``X(xi, eta)``, ``xi`` round the body and ``eta`` outward, starts from straight rays whose first cells are equally thick
all round. 
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def ring(
    inner: Float[Array, "around 2"], outer: Float[Array, "around 2"], eta: Float[np.ndarray, " layers"], smooth: bool
) -> Float[Array, "layers around 2"]:
    """Points between two closed curves.

    Args:
        inner: points on the body, counter-clockwise.
        outer: the point of the outer curve that each is joined to.
        eta: from 0 on the body to 1 on the outer curve.
        smooth: bend the rays by elliptic smoothing.
    """
    ray = outer - inner
    length = jnp.sqrt(jnp.sum(ray**2, -1))
    # Distance along a ray = mean length * eta + (its length - mean) * eta^2: the first cells are equally thick. Below
    # half the mean length that would turn back, hence the bound.
    first = jnp.minimum(jnp.mean(length) / length, 1.8)[:, None]
    eta = jnp.asarray(eta)[:, None, None]
    return inner + ray * (first * eta + (1 - first) * eta**2)
