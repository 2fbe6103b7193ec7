"""Exact means over a polygon of functions that depend on one linear coordinate."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.simulation.spectra import FloatArray

_ORDER = 12


def gradient_nodes(shape: BaseGeometry, gradient: tuple[float, float, float]) -> tuple[FloatArray, FloatArray]:
    """Return nodes s and weights w (sum 1) so that the mean of f(s) over the shape is sum(w * f(s)).

    With s = gx * x + gy * y + g0 the mean is the integral of f(s) * width(s), where the width of a polygon across the
    gradient is linear between the s of neighbouring corners; Gauss-Legendre on each such slab is exact to rounding for
    the smooth f we have. A zero gradient gives the one node 0.
    """
    gx, gy, g0 = gradient
    if gx == 0.0 and gy == 0.0:
        return np.zeros(1), np.ones(1)
    along = shapely.transform(shape, lambda xy: np.column_stack([xy @ (gx, gy) + g0, xy @ (-gy, gx)]))
    edges = _edges(along)
    corners = np.unique(edges[:, 0, 0])
    points, weights = np.polynomial.legendre.leggauss(_ORDER)
    half = np.diff(corners) / 2
    nodes = ((corners[:-1] + corners[1:]) / 2)[:, None] + half[:, None] * points
    width = np.array([[_width(edges, s) for s in slab] for slab in nodes])
    w = (width * half[:, None] * weights).ravel()
    return nodes.ravel(), w / w.sum()


def _edges(shape: BaseGeometry) -> FloatArray:
    """Return (edges, 2, 2) start and end points of all rings."""
    rings = [ring for part in shapely.get_parts(shape).tolist() for ring in (part.exterior, *part.interiors)]
    return np.concatenate([np.stack([xy[:-1], xy[1:]], axis=1) for xy in map(shapely.get_coordinates, rings)])


def _width(edges: FloatArray, s: float) -> float:
    """Return the total length of the line at `s` inside the shape: crossings in order, inside between odd and even."""
    start, end = edges[:, 0], edges[:, 1]
    crossed = (start[:, 0] < s) != (end[:, 0] < s)
    a, b = start[crossed], end[crossed]
    heights = np.sort(a[:, 1] + (s - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))
    return float((heights[1::2] - heights[::2]).sum())
