"""The curvature memory of L-BFGS: the last m pairs (s, y) and their inner products.

s is a step, y the change of the gradient along it. The secant condition B s = y is what an
approximate Hessian B learns from the pair; it can only be positive definite if sᵀy > 0.

The pairs lie in two (m, d) buffers, a ring: a new pair overwrites the oldest. Their inner products
lie beside them in small float64 matrices on the host, so that a direction costs two passes over the
buffers and nothing else of length d: one for SᵀG and YᵀG products with the new gradient, one to add
the chosen combination up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fuse_lib.optim.direction import Direction, compact

HOST = {"dtype": torch.float64, "device": "cpu"}  # of the small matrices, whatever the defaults are
CHUNK = 1 << 18  # columns that are widened at a time when the history dtype is narrower


class Pair(NamedTuple):
    """A pair that is not in the ring yet: s and y, (d,) each."""

    s: Tensor
    y: Tensor


class Verdict(NamedTuple):
    """What becomes of a pair. reason: "kept", "damped" or why it is not kept. tau: Powell's mixing weight."""

    keep: bool
    reason: str
    tau: float = 1.0


class History:
    """A ring of at most `size` pairs.

    Args:
        size: m ≥ 1.
        numel: d.
        dtype: of the vectors that come in and go out.
        device: of everything of length d.
        history_dtype: of the two buffers; products are accumulated in `dtype`.
        damped: mend a pair of too little curvature (Powell) instead of leaving it out.
        weights: what each coordinate counts in an inner product, (d,), or None for 1. (Less than 1 where
            several processes hold the same coordinate; see processes.py.)
    """

    def __init__(self, size, numel, dtype, device, history_dtype=None, damped=False, weights=None) -> None:
        self.size, self.numel, self.dtype, self.device = size, numel, dtype, device
        self.history_dtype = history_dtype or dtype
        self.damped = damped
        self.weights = weights
        self._buffer: Tensor | None = None  # S above Y, (2, m, d), allocated with the first pair
        self.slots: list[int] = []  # rows in use, from the oldest pair to the newest
        self._gram = torch.zeros(2, size, size, **HOST)

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def S(self) -> Tensor | None:
        """(m, d), or None before the first pair."""
        return None if self._buffer is None else self._buffer[0]

    @property
    def Y(self) -> Tensor | None:
        """(m, d), or None before the first pair."""
        return None if self._buffer is None else self._buffer[1]

    @property
    def sy(self) -> Tensor:
        """(m, m) float64: s_iᵀy_j where pair i is not younger than j; the rest is not kept up."""
        return self._gram[0]

    @property
    def yy(self) -> Tensor:
        """(m, m) float64: y_iᵀy_j."""
        return self._gram[1]

    @property
    def rows(self) -> int:
        """How many rows of the buffers hold anything."""
        return max(self.slots, default=-1) + 1

    def allocate(self) -> None:
        if self._buffer is None:
            shape = (2, self.size, self.numel)
            self._buffer = torch.zeros(shape, dtype=self.history_dtype, device=self.device)

    def clear(self) -> None:
        self.slots.clear()

    def rounded(self, s: Tensor, y: Tensor) -> Pair:
        """The pair as the buffers will hold it, so that its products are those of what is stored."""
        if self.history_dtype == self.dtype:
            return Pair(s, y)
        return Pair(s.to(self.history_dtype).to(self.dtype), y.to(self.history_dtype).to(self.dtype))

    # ---- products with the stored rows
    def times(self, v: Tensor) -> list[Tensor]:
        """[S v, Y v], (rows,) each, on the device; empty where there is no pair."""
        n = self.rows
        if n == 0:
            return [v.new_zeros(0), v.new_zeros(0)]
        v = self._weighted(v)
        if n == self.size:  # one pass over both
            return list(_rows_times(self._buffer.view(2 * n, -1), v).split(n))
        return [_rows_times(self.S[:n], v), _rows_times(self.Y[:n], v)]

    def combine(self, direction: Direction, g: Tensor) -> Tensor:
        """S c_s + Y c_y + c_g g, (d,)."""
        n = self.rows
        coefficients = torch.zeros(2, n, **HOST)
        coefficients[:, self._order()] = torch.stack([direction.s, direction.y])
        coefficients = coefficients.to(device=self.device, dtype=self.dtype)
        total = g * direction.g
        if n == self.size:
            _add_rows(total, self._buffer.view(2 * n, -1), coefficients.view(-1))
        else:
            _add_rows(total, self.S[:n], coefficients[0])
            _add_rows(total, self.Y[:n], coefficients[1])
        return total

    # ---- pairs
    def products(self, pair: Pair) -> list[Tensor]:
        """What `add` needs to know of a pair, still on the device: (sᵀs, sᵀy, yᵀy), S y, Y y [, S s, Y s]."""
        return [self.dots(pair), *self.times(pair.y), *(self.times(pair.s) if self.damped else ())]

    def dots(self, pair: Pair) -> Tensor:
        """sᵀs, sᵀy, yᵀy, (3,)."""
        s, y = self._weighted(pair.s), self._weighted(pair.y)
        return torch.stack([torch.dot(s, pair.s), torch.dot(s, pair.y), torch.dot(y, pair.y)])

    def judge(self, ss: float, sy: float, yy: float) -> Verdict:
        """Whether a pair has enough curvature, whatever the scales of f and x.

        Kept when cos(s, y) = sᵀy/(‖s‖‖y‖) is above the rounding error of the dtype: along the step the
        gradient has to change in the direction of the step. With damping the bound is Powell's
        sᵀy ≥ 0.2 sᵀBs (Nocedal & Wright, procedure 18.2) with B = I/γ, and a pair that misses it is moved
        towards Bs until it holds.
        """
        if not (math.isfinite(ss) and math.isfinite(sy) and math.isfinite(yy)):
            return Verdict(False, "not finite")
        if ss == 0.0 or yy == 0.0:
            return Verdict(False, "no step" if ss == 0.0 else "gradient did not change")
        if self.damped:
            bss = ss / self._gamma(ss, sy)
            if sy < 0.2 * bss:
                return Verdict(True, "damped", 0.8 * bss / (bss - sy))
        floor = 10.0 * torch.finfo(self.dtype).eps
        if sy <= floor * math.sqrt(ss) * math.sqrt(yy):
            return Verdict(False, "no positive curvature")
        return Verdict(True, "kept")

    def add(self, pair: Pair, numbers: list[list[float]], sg: Tensor, yg: Tensor, with_g: list[float]) -> Verdict:
        """Put a pair into the ring, if `judge` keeps it.

        Args:
            pair: as `rounded`.
            numbers: `products(pair)`, read to the host.
            sg, yg: (m,) float64, s_iᵀg and y_iᵀg by row; the new pair's entries are filled in.
            with_g: sᵀg and yᵀg.
        """
        (ss, sy, yy), s_y, y_y, *damping = numbers
        verdict = self.judge(ss, sy, yy)
        if not verdict.keep:
            return verdict
        s, y = pair
        s_with_g, y_with_g = with_g
        if verdict.tau < 1.0:  # y ← τ y + (1 − τ) s/γ, and every product with it
            tau, rest = verdict.tau, (1.0 - verdict.tau) / self._gamma(ss, sy)
            y = y.mul(tau).add_(s, alpha=rest)
            s_y, y_y = (_mix(tau, a, rest, b) for a, b in zip((s_y, y_y), damping, strict=True))
            yy = tau * tau * yy + 2 * tau * rest * sy + rest * rest * ss
            sy = tau * sy + rest * ss
            y_with_g = tau * y_with_g + rest * s_with_g
        row = self._free_row()
        n = len(s_y)
        self.sy[:n, row] = torch.tensor(s_y, **HOST)
        self.yy[:n, row] = torch.tensor(y_y, **HOST)
        self.yy[row, :n] = self.yy[:n, row]
        self.sy[row, row], self.yy[row, row] = sy, yy
        sg[row], yg[row] = s_with_g, y_with_g
        self.S[row].copy_(s)
        self.Y[row].copy_(y)
        self.slots.append(row)
        return verdict

    def append_unmeasured(self, s: Tensor, y: Tensor) -> None:
        """Store a pair of the first phase; `measure` computes the products of all of them later."""
        row = self._free_row()
        self.S[row].copy_(s)
        self.Y[row].copy_(y)
        self.slots.append(row)

    def measure(self, read=None) -> tuple[int, int]:
        """Compute all inner products anew and drop the pairs that `judge` does not keep.

        read: how a list of tensors comes to the host as lists of floats (`Vectors.read`); None for one process.

        Returns: (pairs kept, pairs there were). One host synchronisation.
        """
        stored = len(self.slots)
        if stored == 0:
            return 0, 0
        n = self.rows
        columns = [torch.stack(self.times(row.to(self.dtype))) for row in self.Y[:n]]
        lengths = torch.stack([torch.dot(self._weighted(r), r) for r in (row.to(self.dtype) for row in self.S[:n])])
        read = read or (lambda tensors: [t.reshape(-1).tolist() for t in tensors])
        products, lengths = read([torch.stack(columns), lengths])
        table = torch.tensor(products, **HOST).reshape(n, 2, n)
        self.sy[:n, :n], self.yy[:n, :n] = table[:, 0].T, table[:, 1].T
        damped, self.damped = self.damped, False  # mending needs the pairs one by one
        self.slots = [i for i in self.slots if self.judge(lengths[i], float(self.sy[i, i]), float(self.yy[i, i])).keep]
        self.damped = damped
        for row in set(range(n)) - set(self.slots):  # what was dropped may not be finite, and 0 · NaN is NaN
            self.S[row].zero_()
            self.Y[row].zero_()
        return len(self.slots), stored

    def direction(self, sg: Tensor, yg: Tensor, gg: float) -> Direction:
        """Coefficients of −Hg (see direction.py), from the products of g with the rows."""
        order = self._order()
        sy, yy = self._gram[:, order[:, None], order]
        return compact(sy, yy, sg[order], yg[order], gg)

    # ---- checkpoints
    def state(self) -> dict[str, Tensor]:
        """The small tensors: slots (m,) int64, −1 where unused; sy and yy (m, m) float64."""
        slots = self.slots + [-1] * (self.size - len(self.slots))
        return {"slots": torch.tensor(slots, device="cpu"), "sy": self.sy.clone(), "yy": self.yy.clone()}

    def load(self, state: dict[str, Tensor], S: Tensor | None, Y: Tensor | None) -> None:
        """Take over small tensors and buffers, (m, d) each, by copying them.

        Raises:
            ValueError: they are of another history_size or number of parameters; nothing is changed.
        """
        square, rows = (self.size, self.size), (self.size, self.numel)
        for name, tensor, shape in (
            ("sy", state["sy"], square),
            ("yy", state["yy"], square),
            ("S", S, rows),
            ("Y", Y, rows),
        ):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(
                    f"state_dict: its history ({name}) has shape {tuple(tensor.shape)}; allowed is {shape}, which "
                    "this optimizer's history_size and parameters give"
                )
        slots = [int(i) for i in state["slots"].tolist() if i != -1]
        if len(set(slots)) < len(slots) or any(not 0 <= i < self.size for i in slots) or (slots and S is None):
            raise ValueError(
                f"state_dict: its history has the rows {slots}; allowed are different ones below {self.size}"
            )
        self.slots = slots
        self.sy.copy_(state["sy"])
        self.yy.copy_(state["yy"])
        self._buffer = None
        if S is not None:
            self.allocate()
            self.S.copy_(S)
            self.Y.copy_(Y)

    # ---- inside
    def _order(self) -> Tensor:
        """The rows in use from the oldest pair to the newest, as an index."""
        return torch.tensor(self.slots, device="cpu")

    def _gamma(self, ss: float, sy: float) -> float:
        """The scale γ of H₀ = γI, before a pair with these products is added."""
        if not self.slots:
            return ss / abs(sy) if sy else 1.0
        newest = self.slots[-1]
        return float(self.sy[newest, newest] / self.yy[newest, newest])

    def _free_row(self) -> int:
        self.allocate()
        if len(self.slots) == self.size:
            return self.slots.pop(0)
        return next(row for row in range(self.size) if row not in self.slots)

    def _weighted(self, v: Tensor) -> Tensor:
        return v if self.weights is None else v * self.weights


def _mix(a: float, x: list[float], b: float, y: list[float]) -> list[float]:
    return [a * p + b * q for p, q in zip(x, y, strict=True)]


def _rows_times(buffer: Tensor, v: Tensor) -> Tensor:
    if buffer.dtype == v.dtype:
        return torch.mv(buffer, v)
    total = v.new_zeros(buffer.shape[0])
    for a in range(0, v.numel(), CHUNK):
        total += torch.mv(buffer[:, a : a + CHUNK].to(v.dtype), v[a : a + CHUNK])
    return total


def _add_rows(total: Tensor, buffer: Tensor, c: Tensor) -> None:
    """total += bufferᵀ c."""
    if buffer.dtype == total.dtype:
        total.addmv_(buffer.T, c)
        return
    for a in range(0, total.numel(), CHUNK):
        total[a : a + CHUNK].addmv_(buffer[:, a : a + CHUNK].T.to(total.dtype), c)
