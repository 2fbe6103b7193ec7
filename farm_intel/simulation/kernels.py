"""Compiled inner loops: means over pixel footprints, and digital numbers with sensor noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt

SUB = 4
"""Each 10 m pixel is counted at 4 x 4 points, 2.5 m apart."""
MIXED = -1


def _compiled[F: Callable[..., Any]](function: F) -> F:
    """Compile without the interpreter lock, so that rendering overlaps with GDAL's writing."""
    return cast("F", numba.njit(nogil=True, cache=True)(function))


@_compiled
def uniform_values(sub: npt.NDArray[Any], out: npt.NDArray[np.int16]) -> None:
    """Set out (n, n) to the common value of each 4 x 4 block of sub (4n, 4n), or MIXED."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            first = sub[r * SUB, c * SUB]
            same = True
            for i in range(SUB):
                for j in range(SUB):
                    same &= sub[r * SUB + i, c * SUB + j] == first
            out[r, c] = first if same else MIXED


@_compiled
def paint_ellipses(shapes: npt.NDArray[np.float64], step: float, sub: npt.NDArray[np.uint8]) -> None:
    """Or each ellipse's bit into the cells of sub whose centre it holds.

    Shapes are rows (x, y, px, py, qx, qy, bit) with x to the right and y down from the array's corner, in metres;
    each row of cells is cut by solving the ellipse's quadratic once.
    """
    rows, cols = sub.shape
    for k in range(shapes.shape[0]):
        cx, cy, px, py, qx, qy = shapes[k, 0], shapes[k, 1], shapes[k, 2], shapes[k, 3], shapes[k, 4], shapes[k, 5]
        bit = np.uint8(shapes[k, 6])
        det = px * qy - py * qx
        a = qy * qy + py * py
        for r in range(rows):
            dy = (r + 0.5) * step - cy
            b = -(qy * qx + py * px) * dy
            rest = (qx * qx + px * px) * dy * dy - det * det
            root = b * b - a * rest
            if root >= 0.0:
                low = (-b - np.sqrt(root)) / a + cx
                high = (-b + np.sqrt(root)) / a + cx
                first = max(int(np.ceil(low / step - 0.5)), 0)
                last = min(int(np.floor(high / step - 0.5)), cols - 1)
                for c in range(first, last + 1):
                    sub[r, c] |= bit


@_compiled
def mean_reflectance(
    covers: tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]],
    sky: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]],
    gradients: npt.NDArray[np.float64],
    ground: npt.NDArray[np.float64],
    effects: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """Set out (n, n) to the mean reflectance of one band over each 10 m pixel.

    Args:
        covers: cover numbers (4n, 4n), and (n, n) the pixel's one cover, else MIXED.
        sky: sky codes likewise.
        gradients: (covers, 3) coordinate s = g[0] * column + g[1] * row + g[2], in pixels from the upper-left corner.
        ground: (covers, 2) mean and slope of the band.
        effects: (32, 2) gain and path reflectance of the band per sky code.
        out: result.

    """
    labels, pure = covers
    codes, pure_code = sky
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            k, code = pure[r, c], pure_code[r, c]
            if min(k, code) > MIXED:
                s = gradients[k, 0] * (c + 0.5) + gradients[k, 1] * (r + 0.5) + gradients[k, 2]
                out[r, c] = effects[code, 0] * (ground[k, 0] + ground[k, 1] * s) + effects[code, 1]
                continue
            total = 0.0
            for i in range(SUB):
                for j in range(SUB):
                    k, code = labels[r * SUB + i, c * SUB + j], codes[r * SUB + i, c * SUB + j]
                    x, y = c + (j + 0.5) / SUB, r + (i + 0.5) / SUB
                    s = gradients[k, 0] * x + gradients[k, 1] * y + gradients[k, 2]
                    total += effects[code, 0] * (ground[k, 0] + ground[k, 1] * s) + effects[code, 1]
            out[r, c] = total / (SUB * SUB)


@_compiled
def _mix(value: np.uint64) -> np.uint64:
    """Return a well-mixed 64-bit hash (splitmix64; Steele, Lea and Flood 2014)."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_compiled
def _draw(key: np.uint64, r: int, c: int) -> float:
    """Return a pixel's draw of mean 0 and standard deviation 1: the sum of four uniforms of its own hash."""
    bits = _mix(key ^ _mix(np.uint64(r) * np.uint64(1_000_003) + np.uint64(c)))
    total = 0.0
    for shift in range(4):
        total += float((bits >> np.uint64(16 * shift)) & np.uint64(0xFFFF))
    return (total / 65535.0 - 2.0) * 1.7320508075688772


@_compiled
def add_noise(reflectance: npt.NDArray[np.float32], key: np.uint64, noise: float) -> None:
    """Add to reflectance (rows, cols) in place the sensor noise that `digital_numbers` describes."""
    for r in range(reflectance.shape[0]):
        for c in range(reflectance.shape[1]):
            rho = float(reflectance[r, c])
            spread = max(noise * np.sqrt(max(rho, 0.0) * 4.0), 0.2 * noise)
            reflectance[r, c] = rho + spread * _draw(key, r, c)


@_compiled
def pixel_draws(key: np.uint64, out: npt.NDArray[np.float64]) -> None:
    """Set out (rows, cols) to each pixel's draw for this key."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[r, c] = _draw(key, r, c)


@_compiled
def digital_numbers(
    reflectance: npt.NDArray[np.float32],
    no_data: npt.NDArray[np.bool_],
    key: np.uint64,
    noise: float,
    dn_offset: int,
    out: npt.NDArray[np.uint16],
) -> None:
    """Set out (n, n) to round(10000 * (rho + noise)) + dn_offset, at least 1; 0 where there is no data.

    Noise follows the photon count: its standard deviation is noise * sqrt(rho / 0.25), not below a fifth of `noise`.
    With noise = 0.002 that is the MSI's specified signal-to-noise ratio of 100 to 170 at its reference radiances. Each
    pixel's draw is the sum of four 16-bit uniforms of its own hash, so it depends on nothing but key and position.
    """
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            if no_data[r, c]:
                out[r, c] = 0
                continue
            rho = float(reflectance[r, c])
            spread = max(noise * np.sqrt(max(rho, 0.0) * 4.0), 0.2 * noise)
            number = np.rint(10_000.0 * (rho + spread * _draw(key, r, c))) + dn_offset
            out[r, c] = np.uint16(min(max(number, 1.0), 65535.0))
