"""The inner products of the stored pairs, and the direction's coefficients from them.

`direction.compact` is the formula as it is in the literature, from matrices in order of age. This is the same
formula for a memory in which one pair comes and one goes at a time. Two things make it cheap:

*Rows instead of ages.* All matrices are in the order of the memory's rows, so that nothing is moved when the oldest
pair goes. A row that is not in use has zeros in R⁻¹ and so takes no part, whatever the other matrices hold there.

*R⁻¹ instead of R.* With a new pair R gets one more column, and R⁻¹ as well:

    [ R  r ]⁻¹     [ R⁻¹  −R⁻¹r/ρ ]
    [ 0  ρ ]    =  [ 0      1/ρ   ]        r_i = s_iᵀy of the older pairs,  ρ = sᵀy > 0

When the oldest pair goes, its row and column go; for an upper triangular matrix, what is left is the inverse of what
is left of R. So a direction needs three products of small matrices with vectors, and no triangular solve.

**The scale of H₀ = γI.** Where line searches are exact and steps conjugate, γ only decides how long the step is along
the part of the gradient that the pairs do not explain. The textbooks' γ = sᵀy/yᵀy of the newest pair is the shortest
that this pair speaks for, the longest being sᵀs/sᵀy (Barzilai & Borwein, *IMA J. Numer. Anal.* 8, 1988): the stiffest
directions in s decide it, which a long memory knows anyway. The line search tells what would have been right. By its
slopes φ'(0) and φ'(t) the minimum along the last step was near

    t* = t φ'(0) / (φ'(0) − φ'(t))

so that γ should have been t* times as large. `adapted` takes half of that, on a logarithmic scale, over to the next
step, and stays between the two bounds of the newest pair.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

import torch
from torch import Tensor

HOST = {"dtype": torch.float64, "device": "cpu"}  # of the small matrices, whatever the defaults are


def host_tensor(numbers: Sequence[float]) -> Tensor:
    """Floats as a float64 tensor on the host. (`torch.tensor` takes three times as long to look at each one's type.)"""
    return torch.frombuffer(array("d", numbers), dtype=torch.float64)


class Weights(NamedTuple):
    """−Hg = Σ c[2i] s_i + Σ c[2i + 1] y_i + g·(the gradient), pairs i by row, and its slope gᵀ(−Hg)."""

    c: list[float]
    g: float
    slope: float


class Gram:
    """Products of up to `rows` pairs, each known by its row.

    Attributes:
        sy: (rows, rows) float64, sy[j, i] = s_iᵀy_j, where pair i is not newer than pair j; the rest is not kept up.
        yy: (rows, rows) float64, y_iᵀy_j.
        inverse: R⁻ᵀ, (rows, rows) float64, zero in the rows and columns that are not in use.
        gamma: the scale γ of H₀ = γI.

    sy and inverse are transposed, so that what comes with a pair is its row of each, which lies in one piece.
    """

    def __init__(self, rows: int) -> None:
        self.__setstate__((torch.zeros(3, rows, rows, **HOST), 1.0))

    def __getstate__(self) -> tuple[Tensor, float]:
        return self._all, self.gamma

    def __setstate__(self, state: tuple[Tensor, float]) -> None:
        self._all, self.gamma = state
        self.sy, self.yy, self.inverse = self._all.unbind()
        # Views are made once: to make one takes as long as to use it.
        self._diagonal, self._r_inverse = self.sy.diagonal(), self.inverse.T
        self._of_row, self._yy_rows = self._all.unbind(1), self.yy.unbind()
        self._yy_columns, self._inverse_columns = self.yy.unbind(1), self.inverse.unbind(1)

    def add(self, row: int, of_y: list[float], sy: float, yy: float, gamma: float | None = None) -> None:
        """A new pair lies in `row`.

        of_y: s_iᵀy and y_iᵀy of the stored pairs i with the new pair's y, alternating, by row.
        sy, yy: sᵀy > 0 and yᵀy of the new pair. gamma: the scale from now on; None: sᵀy/yᵀy.
        """
        r, y = of_y[0::2], of_y[1::2]
        r[row], y[row] = sy, yy
        column = [-x / sy for x in torch.mv(self._r_inverse, host_tensor(r)).tolist()]
        column[row] = 1.0 / sy
        self._of_row[row].copy_(host_tensor(r + y + column).view(3, -1))
        self._yy_columns[row].copy_(self._yy_rows[row])
        self.gamma = sy / yy if gamma is None else gamma

    def drop(self, row: int) -> None:
        """The oldest pair, in `row`, goes. (Its column of R⁻¹ is zero already: no older pair is left.)"""
        self._inverse_columns[row].zero_()

    def clear(self) -> None:
        self.inverse.zero_()
        self.gamma = 1.0

    def rebuild(self, slots: list[int], sy: Tensor, yy: Tensor) -> None:
        """Start anew with pairs in the rows `slots`, oldest first.

        sy, yy: s_iᵀy_j and y_iᵀy_j, (n, n) float64 in that order; below the diagonal sy is not read.
        """
        self.clear()
        rows = len(self.sy)
        of_y = torch.zeros(len(slots), rows, 2, **HOST)
        of_y[:, slots] = torch.stack([sy.triu(), yy], 2).transpose(0, 1)
        for age, (row, products) in enumerate(zip(slots, of_y.view(len(slots), 2 * rows).tolist(), strict=True)):
            self.add(row, products, float(sy[age, age]), float(yy[age, age]))

    def adapted(self, minimum: float, ss: float, sy: float, yy: float) -> float:
        """The scale γ after a step whose minimum lay at t* = `minimum`, with the products of its pair, sᵀy > 0."""
        return min(max(self.gamma * math.sqrt(min(max(minimum, 0.1), 10.0)), sy / yy), ss / sy)

    def direction(self, of_g: Sequence[float], gg: float) -> Weights:
        """The weights of −Hg, as `direction.compact` has them.

        of_g: s_iᵀg and y_iᵀg of the present gradient g, alternating, by row; finite also where no pair is. gg: gᵀg.
        """
        gamma = self.gamma
        sg, yg = host_tensor(of_g[0::2]), host_tensor(of_g[1::2])
        u = torch.mv(self._r_inverse, sg)
        inner = torch.addmv(yg, self.yy, u, beta=-gamma, alpha=gamma).addcmul_(self._diagonal, u)
        c = [0.0] * len(of_g)
        c[0::2] = [-x for x in torch.mv(self.inverse, inner).tolist()]
        c[1::2] = [gamma * x for x in u.tolist()]
        slope = sum(map(mul, c, of_g))
        return Weights(c, -gamma, slope - gamma * gg)
