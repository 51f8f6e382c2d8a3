"""The textbook's L-BFGS direction (Nocedal & Wright, *Numerical Optimization*, algorithm 7.4): slow and readable.

The library computes the same direction from inner products alone (`direction.py`). This is what it must agree with.
"""

from __future__ import annotations

from torch import Tensor


def two_loop(pairs: list[tuple[Tensor, Tensor]], g: Tensor) -> Tensor:
    """−Hg, (d,) float64, from the pairs (s, y), oldest first."""
    pairs = [(s.double(), y.double()) for s, y in pairs]
    q = g.double().clone()
    alphas = []
    for s, y in reversed(pairs):
        alpha = s.dot(q) / s.dot(y)
        q -= alpha * y
        alphas.append(alpha)
    if pairs:
        s, y = pairs[-1]
        q *= s.dot(y) / y.dot(y)  # H₀ = γI
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = y.dot(q) / s.dot(y)
        q += (alpha - beta) * s
    return -q
