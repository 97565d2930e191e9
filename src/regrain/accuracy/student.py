"""Quantiles of Student's t distribution, without SciPy."""

from __future__ import annotations

import math
from statistics import NormalDist


def t_quantile(confidence: float, df: int) -> float:
    """The value a t variable with `df` >= 1 degrees of freedom stays below with probability `confidence`, 0.5 to 1.

    G. W. Hill, "Algorithm 396: Student's t-quantiles", CACM 13 (1970), whose names these are; exact for df 1 and 2.
    The relative error is below 1e-5 for df = 3 and 4, and below 2e-6 above, for confidences from 0.51 to 0.9999.
    """
    if not 0.5 <= confidence < 1.0:
        raise ValueError(f"confidence must be from 0.5 to below 1, not {confidence!r}")
    if df < 1:
        raise ValueError(f"df must be 1 or more, not {df!r}")
    if confidence == 0.5:
        return 0.0
    p = 2.0 * (1.0 - confidence)  # of both tails
    if df == 1:
        return 1.0 / math.tan(p * math.pi / 2.0)
    if df == 2:
        return math.sqrt(2.0 / (p * (2.0 - p)) - 2.0)
    return math.sqrt(df * _hill(p, df))


def _hill(p: float, n: int) -> float:
    """t^2 / n for n >= 3."""
    a = 1.0 / (n - 0.5)
    b = 48.0 / (a * a)
    c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36
    d = ((94.5 / (b + c) - 3.0) / b + 1.0) * math.sqrt(a * math.pi / 2.0) * n
    y: float = (d * p) ** (2.0 / n)
    if y <= 0.05 + a:  # far out in the tail
        tail = 1.0 / (((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0) + 0.5 / (n + 4.0)
        return (tail * y - 1.0) * (n + 1.0) / (n + 2.0) + 1.0 / y
    x = NormalDist().inv_cdf(p / 2.0)
    y = x * x
    if n < 5:
        c += 0.3 * (n - 4.5) * (x + 0.6)
    c += (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b
    y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x
    return math.expm1(a * y * y)
