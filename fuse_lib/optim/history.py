"""The curvature memory of L-BFGS: the last m pairs (s, y) and their inner products.

s is a step, y the change of the gradient along it. The secant condition B s = y is what an
approximate Hessian B learns from the pair; it can only be positive definite if sᵀy > 0.

The pairs lie in one buffer of m + 1 rows. m of them are the memory; the one to spare holds the newest pair
until it is judged: then it belongs to the memory, and the oldest pair's row is the one to spare. So
a pair is written once and never copied, and one product of the buffer with the gradient gives the new
pair's inner products along with all the others.

The inner products that a direction needs lie beside it in small float64 matrices on the host. A direction
then costs two passes over the buffer and little else of length d: one for the products SᵀG and
YᵀG with the new gradient, one to add the chosen combination up. (A third, for the products with y, where y
is not the difference of two gradients whose products are known.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fuse_lib.optim.direction import Direction, compact

HOST = {"dtype": torch.float64, "device": "cpu"}  # of the small matrices, whatever the defaults are
CHUNK = 1 << 18  # columns that are widened at a time when the history dtype is narrower


class Verdict(NamedTuple):
    """What becomes of a pair. reason: "kept", "damped" or why it is not kept. tau: Powell's mixing weight."""

    keep: bool
    reason: str
    tau: float = 1.0


class Staged:
    """A pair that waits for its judgement. reason: what became of it, None until then."""

    reason: str | None = None


class History:
    """A ring of at most `size` pairs.

    Args:
        size: m ≥ 1.
        numel: d.
        dtype: of the vectors that come in and go out.
        device: of everything of length d.
        history_dtype: of the buffer; products are accumulated in `dtype`.
        damped: mend a pair of too little curvature (Powell) instead of leaving it out.
        weights: what each coordinate counts in an inner product, (d,), or None for 1. (Less than 1 where
            several processes hold the same coordinate; see processes.py.)

    Attributes:
        slots: rows of the pairs in the memory, from the oldest to the newest.
        spare: the row that the next pair goes to: the one to spare, or the first unused one.
        staged: the pair in that row, while it waits for its judgement; else None.
    """

    def __init__(self, size, numel, dtype, device, history_dtype=None, damped=False, weights=None) -> None:
        self.size, self.numel, self.dtype, self.device = size, numel, dtype, device
        self.history_dtype = history_dtype or dtype
        self.damped = damped
        self.weights = weights
        self._buffer: Tensor | None = None  # (m + 1, 2, d), s beside y; allocated with the first pair
        self.staged: Staged | None = None
        self._set_slots([])
        self._gram = torch.zeros(size, size, 2, **HOST)  # s_iᵀy_j and y_iᵀy_j by age

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def S(self) -> Tensor | None:
        """(m + 1, d), or None before the first pair."""
        return None if self._buffer is None else self._buffer[:, 0]

    @property
    def Y(self) -> Tensor | None:
        """(m + 1, d), or None before the first pair."""
        return None if self._buffer is None else self._buffer[:, 1]

    @property
    def sy(self) -> Tensor:
        """(n, n) float64: s_iᵀy_j, pairs from oldest to newest, where i ≤ j; the rest is not kept up."""
        n = len(self.slots)
        return self._gram[:n, :n, 0]

    @property
    def yy(self) -> Tensor:
        """(n, n) float64: y_iᵀy_j, pairs from oldest to newest."""
        n = len(self.slots)
        return self._gram[:n, :n, 1]

    def allocate(self) -> None:
        if self._buffer is None:
            shape = (self.size + 1, 2, self.numel)
            self._buffer = torch.zeros(shape, dtype=self.history_dtype, device=self.device)

    def clear(self) -> None:
        self._set_slots([])
        self._settle("the history was cleared")

    # ---- a new pair
    def stage(self, s: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Staged:
        """Write a pair into the row to spare, each of its vectors the first minus the second of two, (d,) each."""
        self.allocate()
        for row, (end, start) in zip(self._buffer[self.spare].unbind(), (s, y), strict=True):
            if row.dtype == end.dtype:
                torch.sub(end, start, out=row)
            else:
                row.copy_(end - start)
        self.staged = Staged()
        return self.staged

    def dots(self) -> list[Tensor]:
        """sᵀs, sᵀy and yᵀy of the staged pair, 0-d each, on the device."""
        s, y = (v.to(self.dtype) for v in self._buffer[self.spare].unbind())
        ws, wy = self._weighted(s), self._weighted(y)
        return [torch.dot(ws, s), torch.dot(ws, y), torch.dot(wy, y)]

    def of_staged(self, with_y: bool) -> dict[str, Tensor]:
        """What `add` needs to know of the staged pair, on the device: its `dots`, "of_y" if asked for, and
        "of_s" if pairs are mended."""
        s, y = self._buffer[self.spare].unbind()
        wanted = dict(zip(("ss", "sy", "yy"), self.dots(), strict=True))
        if with_y:
            wanted["of_y"] = self.times(y.to(self.dtype))
        if self.damped:
            wanted["of_s"] = self.times(s.to(self.dtype))
        return wanted

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

    def add(self, dots: list[float], of_g: Tensor, of_y: Tensor, of_s: Tensor | None = None) -> Verdict:
        """Take the staged pair into the memory, if `judge` keeps it.

        Args:
            dots: `dots()`, read to the host.
            of_g, of_y, of_s: `products` of the rows with the present gradient, with the pair's y, and, where pairs
                are mended, with its s. Of a mended pair the entry in of_g is corrected.
        """
        ss, sy, yy = dots
        verdict = self.judge(ss, sy, yy)
        self._settle(verdict.reason)
        if not verdict.keep:
            return verdict
        row = self.spare
        if verdict.tau < 1.0:  # y ← τ y + (1 − τ) s/γ, and every product with it
            tau, rest = verdict.tau, (1.0 - verdict.tau) / self._gamma(ss, sy)
            s, y = self._buffer[row].unbind()
            y.copy_(y.to(self.dtype).mul(tau).add_(s.to(self.dtype), alpha=rest))
            of_y = tau * of_y + rest * of_s[: len(of_y)]
            yy = tau * tau * yy + 2 * tau * rest * sy + rest * rest * ss
            sy = tau * sy + rest * ss
            of_g[row, 1] = tau * of_g[row, 1] + rest * of_g[row, 0]
        gram, full = self._gram, len(self.slots) == self.size
        if full:  # the oldest goes
            gram[:-1, :-1] = gram[1:, 1:].clone()
        n = len(self.slots) - full
        gram[:n, n] = of_y.index_select(0, self._order[full:])
        gram[n, :n, 1] = gram[:n, n, 1]
        gram[n, n] = torch.tensor([sy, yy], **HOST)
        self._set_slots([*self.slots[full:], row])
        return verdict

    def keep_unmeasured(self) -> None:
        """Take the staged pair, of the first phase, into the memory; `measure` computes all products later."""
        row, full = self.spare, len(self.slots) == self.size
        self._set_slots([*self.slots[full:], row])
        self._settle("collected")

    def measure(self, read=None) -> tuple[int, int]:
        """Compute all inner products anew and drop the pairs that `judge` does not keep.

        read: how a list of tensors comes to the host as lists of floats (`Vectors.read`); None for one process.

        Returns: (pairs kept, pairs there were). One host synchronisation.
        """
        stored = len(self.slots)
        if stored == 0:
            return 0, 0
        pairs = [[v.to(self.dtype) for v in self._buffer[i].unbind()] for i in self.slots]
        lengths = torch.stack([torch.dot(self._weighted(s), s) for s, _ in pairs])
        columns = torch.stack([self.times(y) for _, y in pairs])
        read = read or (lambda tensors: [t.reshape(-1).tolist() for t in tensors])
        lengths, columns = read([lengths, columns])
        gram = torch.tensor(columns, **HOST).view(stored, self.rows, 2)[:, self._order].transpose(0, 1)
        sy, yy = gram.unbind(2)
        damped, self.damped = self.damped, False  # mending needs the pairs one by one
        good = [i for i in range(stored) if self.judge(lengths[i], float(sy[i, i]), float(yy[i, i])).keep]
        self.damped = damped
        for i in set(range(stored)) - set(good):  # what was dropped may not be finite, and 0 · NaN is NaN
            self._buffer[self.slots[i]].zero_()
        self._set_slots([self.slots[i] for i in good])
        self._gram[: len(good), : len(good)] = gram[good][:, good]
        return len(good), stored

    # ---- products, and the direction
    @property
    def rows(self) -> int:
        """How many rows of the buffer are in use, the staged pair's among them."""
        used = [*self.slots, self.spare] if self.staged else self.slots
        return max(used, default=-1) + 1

    def times(self, v: Tensor) -> Tensor:
        """s_iᵀv and y_iᵀv in turn, (2 · rows,) on the device."""
        n = self.rows
        return _rows_times(self._flat(0, n), self._weighted(v)) if n else v.new_zeros(0)

    @staticmethod
    def products(numbers: list[float]) -> Tensor:
        """What `times` gave, read to the host: s_iᵀv and y_iᵀv by row, (rows, 2) float64."""
        return torch.tensor(numbers, **HOST).view(-1, 2)

    def direction(self, of_g: Tensor, gg: float) -> Direction:
        """Coefficients of −Hg (see direction.py), from the products of g with the rows."""
        sg, yg = of_g.index_select(0, self._order).unbind(1)
        return compact(self.sy, self.yy, sg, yg, gg)

    def combine(self, direction: Direction, g: Tensor) -> Tensor:
        """S c_s + Y c_y + c_g g, (d,). If the row to spare has its dtype, it lies there until the next pair comes."""
        row, end = self.spare, max(self.slots) + 1
        c = torch.zeros(end, 2, **HOST)
        c[self._order] = torch.stack([direction.s, direction.y], 1)
        c = c.to(device=self.device, dtype=self.dtype).view(-1)
        # The row to spare is left out: the result goes there, and what lies there may not be finite.
        parts = [(a, b) for a, b in ((0, min(row, end)), (row + 1, end)) if a < b]
        out = self._buffer[row, 0] if self.history_dtype == self.dtype else torch.empty_like(g)
        for number, (a, b) in enumerate(parts):
            _add_rows(out, self._flat(a, b), c[2 * a : 2 * b], fresh=number == 0)
        return out.add_(g, alpha=direction.g)

    # ---- checkpoints
    def state(self) -> dict[str, Tensor]:
        """The small tensors: slots (m,) int64, −1 where unused; sy and yy (m, m) float64, by age."""
        slots = self.slots + [-1] * (self.size - len(self.slots))
        n = len(self.slots)
        sy, yy = torch.zeros(2, self.size, self.size, **HOST).unbind()
        sy[:n, :n], yy[:n, :n] = self.sy, self.yy
        return {"slots": torch.tensor(slots, device="cpu"), "sy": sy, "yy": yy}

    def load(self, state: dict[str, Tensor], S: Tensor | None, Y: Tensor | None, staged: bool = False) -> None:
        """Take over small tensors and rows, (m + 1, d) each, by copying them.

        staged: whether the row to spare holds a pair that waits.

        Raises:
            ValueError: they are of another history_size or number of parameters; nothing is changed.
        """
        square, rows = (self.size, self.size), (self.size + 1, self.numel)
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
        if len(set(slots)) < len(slots) or any(not 0 <= i <= self.size for i in slots) or (slots and S is None):
            raise ValueError(
                f"state_dict: its history has the rows {slots}; allowed are different ones up to {self.size}"
            )
        self._set_slots(slots)
        self._gram.copy_(torch.stack([state["sy"], state["yy"]], 2))
        self.staged = Staged() if staged and S is not None else None
        self._buffer = None
        if S is not None:
            self.allocate()
            self.S.copy_(S)
            self.Y.copy_(Y)

    # ---- inside
    def _settle(self, reason: str) -> None:
        """The staged pair, if there is one, waits no longer."""
        if self.staged:
            self.staged.reason, self.staged = reason, None

    def _set_slots(self, slots: list[int]) -> None:
        self.slots, used = slots, set(slots)
        self.spare = next(row for row in range(self.size + 1) if row not in used)
        self._order = torch.tensor(slots, dtype=torch.int64, device="cpu")

    def _flat(self, first: int, end: int) -> Tensor:
        """The vectors of some rows below one another, (2 · rows, d): s, y, s, y, …"""
        return self._buffer[first:end].view(2 * (end - first), self.numel)

    def _gamma(self, ss: float, sy: float) -> float:
        """The scale γ of H₀ = γI, before a pair with these products is added."""
        if not self.slots:
            return ss / abs(sy) if sy else 1.0
        newest = len(self.slots) - 1
        sy, yy = self._gram[newest, newest].tolist()
        return sy / yy

    def _weighted(self, v: Tensor) -> Tensor:
        return v if self.weights is None else v * self.weights


def _rows_times(rows: Tensor, v: Tensor) -> Tensor:
    if rows.dtype == v.dtype:
        return torch.mv(rows, v)
    total = v.new_zeros(rows.shape[0])
    for a in range(0, v.numel(), CHUNK):
        total += torch.mv(rows[:, a : a + CHUNK].to(v.dtype), v[a : a + CHUNK])
    return total


def _add_rows(total: Tensor, rows: Tensor, c: Tensor, fresh: bool) -> None:
    """total ← rowsᵀ c, added to what is there unless fresh."""
    if rows.dtype == total.dtype:
        torch.mv(rows.T, c, out=total) if fresh else total.addmv_(rows.T, c)
        return
    if fresh:
        total.zero_()
    for a in range(0, total.numel(), CHUNK):
        total[a : a + CHUNK].addmv_(rows[:, a : a + CHUNK].T.to(total.dtype), c)
