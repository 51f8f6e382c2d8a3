"""The L-BFGS direction −Hg from inner products alone: the compact form.

L-BFGS never stores H, its approximation of the inverse Hessian. It keeps m pairs s_i = x_{i+1} − x_i
and y_i = g_{i+1} − g_i and rebuilds H from γI by one BFGS update a pair. The textbook way is the
two-loop recursion: 4m dot products and updates, one after another. Byrd, Nocedal & Schnabel
(*Math. Programming* 63, 1994, eq. 3.1) wrote the same H as one formula:

    H = γI + [S γY] [ R⁻ᵀ(D + γYᵀY)R⁻¹   −R⁻ᵀ ] [ Sᵀ ]       R_ij = s_iᵀy_j for i ≤ j, else 0
                    [ −R⁻¹                  0  ] [γYᵀ ]       D = diag(s_iᵀy_i)

so −Hg = S c_s + Y c_y + c_g g, a combination of vectors whose coefficients need inner products
only. This file computes the coefficients. It never sees a vector of length d: what it works on
are m × m matrices.

This is the readable form, to learn from and to test against. The optimizer uses the one in `gram.py`, which is the
same for a memory that changes by one pair at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Direction(NamedTuple):
    """−Hg = Σ s[i] s_i + Σ y[i] y_i + g·(the gradient), and its slope gᵀ(−Hg).

    s, y: coefficients, (n,) float64. g, slope: floats.
    """

    s: Tensor
    y: Tensor
    g: float
    slope: float


def compact(sy: Tensor, yy: Tensor, sg: Tensor, yg: Tensor, gg: float) -> Direction:
    """Coefficients of the L-BFGS direction on the basis [S, Y, g].

    Args:
        sy: (n, n) float64, sy[i, j] = s_iᵀy_j, pairs from oldest to newest. Only i ≤ j is read.
        yy: (n, n) float64, yy[i, j] = y_iᵀy_j.
        sg, yg: (n,) float64, s_iᵀg and y_iᵀg for the present gradient g.
        gg: gᵀg.

    The initial matrix is γI with γ = sᵀy/yᵀy of the newest pair (Nocedal & Wright, eq. 7.20).

    >>> one = torch.ones(1, 1, dtype=torch.float64)  # f = x², x: 1 → 0.5, so s = −0.5, y = −1, g = 1
    >>> compact(0.5 * one, one, -0.5 * one[0], -one[0], 1.0).slope  # −g²/f'' = −1/2
    -0.5
    """
    gamma = float(sy[-1, -1]) / float(yy[-1, -1])
    u = _solve(sy, sg, transposed=False)  # R⁻¹ Sᵀg
    inner = torch.addmv(yg, yy, u, beta=-gamma, alpha=gamma)  # γ (YᵀY u − Yᵀg)
    c_s = _solve(sy, inner.addcmul_(sy.diagonal(), u), transposed=True)
    slope = -(gamma * gg + float(torch.dot(c_s, sg)) - gamma * float(torch.dot(u, yg)))
    return Direction(-c_s, gamma * u, -gamma, slope)


def _solve(upper: Tensor, b: Tensor, transposed: bool) -> Tensor:
    """R⁻¹b or R⁻ᵀb. What lies below the diagonal of `upper` is not read."""
    matrix = upper.T if transposed else upper
    return torch.linalg.solve_triangular(matrix, b.unsqueeze(1), upper=not transposed).squeeze(1)
