"""The curvature memory of L-BFGS: the last m pairs (s, y) and their inner products.

s is a step, y the change of the gradient along it. The secant condition B s = y is what an
approximate Hessian B learns from the pair; it can only be positive definite if sᵀy > 0.

The pairs lie in one buffer of m + 1 rows. m of them are the memory; the one to spare holds the newest pair
until it is judged: then it belongs to the memory, and the oldest pair's row is the one to spare. So
a pair is written once and never copied, and one product of the buffer with the gradient gives the new
pair's inner products along with all the others.

The inner products that a direction needs lie beside it in small float64 matrices on the host (`gram.py`). A direction
then costs two passes over the buffer and little else of length d: one for the products SᵀG and
YᵀG with the new gradient, one to add the chosen combination up. (A third, for the products with y, where y
is not the difference of two gradients whose products are known.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fuse_lib.optim.blocks import in_blocks
from fuse_lib.optim.gram import HOST, Gram, Weights, host_tensor

CHUNK = 1 << 15  # columns widened at a time where the history dtype is narrower: 5 MB of 40 rows; on a GPU 16 times


class Verdict(NamedTuple):
    """What becomes of a pair. reason: "kept", "damped" or why it is not kept. tau: Powell's mixing weight."""

    keep: bool
    reason: str
    tau: float = 1.0


class Staged:
    """A pair that waits for its judgement.

    dots: sᵀs, sᵀy and yᵀy, 0-d each on the device, where they are known. minimum: t* of the line search that made it
    (see gram.py); 0 where none did. reason: what became of it, None until then.
    """

    def __init__(self, dots: Sequence[Tensor] | None = None, minimum: float = 0.0) -> None:
        self.dots, self.minimum = dots, minimum
        self.reason: str | None = None


class History:
    """A ring of at most `size` pairs.

    Args:
        size: m ≥ 1.
        numel: d.
        dtype: of the vectors that come in and go out.
        device: of everything of length d.
        history_dtype: of the buffer; products are accumulated in `dtype`.
        damped: mend a pair of too little curvature (Powell) instead of leaving it out.
        adaptive: learn the scale of H₀ from line searches (see gram.py).
        weights: what each coordinate counts in an inner product, (d,), or None for 1. (Less than 1 where
            several processes hold the same coordinate; see processes.py.)

    Attributes:
        slots: rows of the pairs in the memory, from the oldest to the newest.
        spare: the row that the next pair goes to: the one to spare, or the first unused one.
        gram: the inner products of the pairs, and R⁻¹.
        staged: the pair in that row, while it waits for its judgement; else None.
    """

    def __init__(
        self, size, numel, dtype, device, history_dtype=None, damped=False, weights=None, adaptive=False
    ) -> None:
        self.size, self.numel, self.dtype, self.device = size, numel, dtype, device
        self.history_dtype = history_dtype or dtype
        self.damped, self.adaptive = damped, adaptive
        self.weights = weights
        self.gram = Gram(size + 1)
        self._hold(None)
        self.staged: Staged | None = None
        self._set_slots([])

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
        """(n, n) float64: s_iᵀy_j, pairs from oldest to newest, where i ≤ j; below it is zero."""
        return self.gram.sy.T[self.slots][:, self.slots].triu()

    @property
    def yy(self) -> Tensor:
        """(n, n) float64: y_iᵀy_j, pairs from oldest to newest."""
        return self.gram.yy[self.slots][:, self.slots]

    def allocate(self) -> None:
        if self._buffer is None:
            shape = (self.size + 1, 2, self.numel)
            self._hold(torch.zeros(shape, dtype=self.history_dtype, device=self.device))

    def clear(self) -> None:
        self._set_slots([])
        self.gram.clear()
        self._settle("the history was cleared")

    # ---- a new pair
    @property
    def free(self) -> tuple[Tensor, Tensor] | None:
        """The row to spare as (s, y), (d,) each, to write the next pair to; None where it is of a narrower dtype."""
        if self.history_dtype != self.dtype:
            return None
        self.allocate()
        return self._pairs[self.spare]

    def stage(self, s: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Staged:
        """Write a pair into the row to spare, each of its vectors the first minus the second of two, (d,) each."""
        self.allocate()
        for row, (end, start) in zip(self._pairs[self.spare], (s, y), strict=True):
            in_blocks(_write_difference, row, end, start)
        return self.written()

    def written(self, dots: Sequence[Tensor] | None = None, minimum: float = 0.0) -> Staged:
        """The row to spare holds a pair now. dots: what `dots` would give, where it is known. minimum: see `Staged`."""
        self.staged = Staged(dots, minimum)
        self._rows = max(self._end, self.spare + 1)
        return self.staged

    def staged_vectors(self) -> tuple[Tensor, Tensor]:
        """The staged pair as it is stored, (d,) each, widened."""
        s, y = self._pairs[self.spare]
        return s.to(self.dtype), y.to(self.dtype)

    def dots(self) -> Sequence[Tensor]:
        """sᵀs, sᵀy and yᵀy of the staged pair, 0-d each, on the device."""
        if self.staged.dots is None:
            self.staged.dots = self._dots()
        return self.staged.dots

    def _dots(self) -> Sequence[Tensor]:
        def sums(s: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            s, y = s.to(self.dtype), y.to(self.dtype)
            return self.dot(s, s), self.dot(s, y), self.dot(y, y)

        return in_blocks(sums, *self._pairs[self.spare], whole=self.weights is not None)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """aᵀb (this process's share of it), 0-d on the device."""
        return torch.dot(a if self.weights is None else a * self.weights, b)

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

    def add(
        self, dots: Sequence[float], of_g: list[float], of_y: list[float], of_s: list[float] | None = None
    ) -> Verdict:
        """Take the staged pair into the memory, if `judge` keeps it.

        Args:
            dots: `dots()`, read to the host.
            of_g, of_y, of_s: `padded` products of the rows with the present gradient, with the pair's y, and, where
                pairs are mended, with its s. In of_g the entries of a mended pair are corrected, and those of the row
                that is then to spare are made zero.
        """
        ss, sy, yy = dots
        verdict, minimum = self.judge(ss, sy, yy), self.staged.minimum
        self._settle(verdict.reason)
        row = self.spare
        if verdict.keep:
            if verdict.tau < 1.0:  # y ← τ y + (1 − τ) s/γ, and every product with it
                tau, rest = verdict.tau, (1.0 - verdict.tau) / self._gamma(ss, sy)
                s, y = self._pairs[row]
                y.copy_(y.to(self.dtype).mul(tau).add_(s.to(self.dtype), alpha=rest))
                of_y = [tau * a + rest * b for a, b in zip(of_y, of_s, strict=True)]
                yy = tau * tau * yy + 2 * tau * rest * sy + rest * rest * ss
                sy = tau * sy + rest * ss
                of_g[2 * row + 1] = tau * of_g[2 * row + 1] + rest * of_g[2 * row]
            learned = self.adaptive and bool(self.slots) and minimum > 0.0
            gamma = self.gram.adapted(minimum, ss, sy, yy) if learned else None
            self._take_row()
            self.gram.add(row, of_y, sy, yy, gamma)
        elif verdict.reason == "not finite":  # 0 · NaN is NaN: the row has a part in products, with the weight 0
            self._buffer[row].zero_()
        of_g[2 * self.spare] = of_g[2 * self.spare + 1] = 0.0
        return verdict

    def _take_row(self) -> None:
        """The row to spare is now the newest pair's; if the memory is full, the oldest pair goes."""
        row, full = self.spare, len(self.slots) == self.size
        if full:
            self.gram.drop(self.slots[0])
        self._set_slots([*self.slots[full:], row])

    def keep_unmeasured(self) -> None:
        """Take the staged pair, of the first phase, into the memory; `measure` computes all products later."""
        self._take_row()
        self._settle("collected")

    def measure(self, read=None) -> tuple[int, int]:
        """Compute all inner products anew and drop the pairs that `judge` does not keep.

        read: how a list of tensors comes to the host as lists of floats (`Vectors.read`); None for one process.

        Returns: (pairs kept, pairs there were). One host synchronisation.
        """
        stored = len(self.slots)
        if stored == 0:
            return 0, 0
        pairs = [[v.to(self.dtype) for v in self._pairs[i]] for i in self.slots]
        lengths = torch.stack([self.dot(s, s) for s, _ in pairs])
        columns = torch.stack([self.times(y) for _, y in pairs])
        read = read or (lambda tensors: [t.reshape(-1).tolist() for t in tensors])
        lengths, columns = read([lengths, columns])
        of_y = torch.tensor(columns, **HOST).view(stored, -1, 2)[:, self.slots].transpose(0, 1)
        sy, yy = of_y.unbind(2)
        damped, self.damped = self.damped, False  # mending needs the pairs one by one
        good = [i for i in range(stored) if self.judge(lengths[i], float(sy[i, i]), float(yy[i, i])).keep]
        self.damped = damped
        kept = [self.slots[i] for i in good]
        for row in {*self.slots, self.spare} - set(kept):  # what is dropped may not be finite, and 0 · NaN is NaN
            self._buffer[row].zero_()
        self._set_slots(kept)
        self.gram.rebuild(kept, sy[good][:, good], yy[good][:, good])
        return len(good), stored

    # ---- products, and the direction
    def times(self, v: Tensor) -> Tensor:
        """s_iᵀv and y_iᵀv in turn, (2 · rows in use,) on the device; the staged pair's row is one of them."""
        n = self._rows
        return _rows_times(self._flat(n), v if self.weights is None else v * self.weights) if n else v.new_zeros(0)

    def padded(self, numbers: list[float]) -> list[float]:
        """What `times` gave, read to the host, with zeros up to 2 (m + 1) numbers."""
        return numbers + [0.0] * (2 * (self.size + 1) - len(numbers))

    def direction(self, of_g: list[float], gg: float) -> Weights:
        """The weights of −Hg (see gram.py), from the products of g with the rows, as `add` left them, and gᵀg."""
        return self.gram.direction(of_g, gg)

    def combine(self, weights: Weights, g: Tensor, out: Tensor | None = None) -> Tensor:
        """Σ c_s s + Σ c_y y + c_g g, (d,), written to `out` if it is given."""
        n = self._end
        c = host_tensor(weights.c[: 2 * n]).to(self.device, self.dtype)
        out = torch.empty_like(g) if out is None else out

        def block(out: Tensor, g: Tensor, rows: Tensor) -> tuple[()]:
            _combined(rows, c, out).add_(g, alpha=weights.g)
            return ()

        in_blocks(block, out, g, self._flat(n))
        return out

    # ---- checkpoints
    def state(self) -> dict[str, Tensor]:
        """The small tensors: slots (m,) int64, −1 where unused; sy, yy (m, m) float64, by age; scale_and_minimum (2,)
        float64, γ and the staged pair's t*."""
        slots = self.slots + [-1] * (self.size - len(self.slots))
        n = len(self.slots)
        sy, yy = torch.zeros(2, self.size, self.size, **HOST).unbind()
        sy[:n, :n], yy[:n, :n] = self.sy, self.yy
        scale = torch.tensor([self.gram.gamma, self.staged.minimum if self.staged else 0.0], **HOST)
        return {"slots": torch.tensor(slots, device="cpu"), "sy": sy, "yy": yy, "scale_and_minimum": scale}

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
        n = len(slots)
        self._set_slots(slots)
        sy, yy = (state[name][:n, :n].to(**HOST) for name in ("sy", "yy"))
        if bool((sy.diagonal() > 0).all()):  # else they wait for `measure`
            self.gram.rebuild(slots, sy, yy)
        else:
            self.gram.clear()
        self._hold(None)
        self.staged, minimum = None, 0.0
        if "scale_and_minimum" in state:  # older states have none; they are of pairs whose scale is the newest one's
            self.gram.gamma, minimum = state["scale_and_minimum"].tolist()
        if staged and S is not None:
            self.written(minimum=minimum)
        if S is not None:
            self.allocate()
            self.S.copy_(S)
            self.Y.copy_(Y)

    # ---- pickle and deepcopy
    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_pairs", "_all_rows")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._hold(self._buffer)  # its views, to which pickle would give memory of their own

    # ---- inside
    def _hold(self, buffer: Tensor | None) -> None:
        """Keep the pairs in this buffer, (m + 1, 2, d), s beside y, or in one to be allocated with the first pair.

        Its views are made once: to make one takes as long as a product of short vectors.
        """
        self._buffer = buffer
        self._pairs = [] if buffer is None else [pair.unbind() for pair in buffer.unbind()]
        self._all_rows = None if buffer is None else buffer.view(2 * (self.size + 1), self.numel)

    def _settle(self, reason: str) -> None:
        """The staged pair, if there is one, waits no longer."""
        if self.staged:
            self.staged.reason, self.staged = reason, None
            self._rows = self._end

    def _set_slots(self, slots: list[int]) -> None:
        """slots: the rows of the pairs. _end: rows up to the last of them. _rows: up to the staged pair's, too."""
        self.slots = slots
        self._end = self._rows = max(slots, default=-1) + 1
        self.spare = min(set(range(self._end)).difference(slots), default=self._end)

    def _flat(self, end: int) -> Tensor:
        """The vectors of the first rows below one another, (2 · rows, d): s, y, s, y, …"""
        return self._all_rows if end > self.size else self._all_rows[: 2 * end]

    def _gamma(self, ss: float, sy: float) -> float:
        """The scale γ of H₀ = γI, before a pair with these products is added."""
        if self.slots:
            return self.gram.gamma
        return ss / abs(sy) if sy else 1.0


def _write_difference(row: Tensor, end: Tensor, start: Tensor) -> tuple[()]:
    """row ← end − start, whatever the row's dtype."""
    if row.dtype == end.dtype:
        torch.sub(end, start, out=row)
    else:
        row.copy_(end - start)
    return ()


def _rows_times(rows: Tensor, v: Tensor) -> Tensor:
    if rows.dtype == v.dtype:
        return torch.mv(rows, v)
    total = v.new_zeros(rows.shape[0])
    for some, of_v in _chunks(rows, v):
        total += torch.mv(some.to(v.dtype), of_v)
    return total


def _combined(rows: Tensor, c: Tensor, out: Tensor) -> Tensor:
    """out ← rowsᵀ c."""
    if rows.dtype == out.dtype:
        return torch.mv(rows.T, c, out=out)
    for some, of_out in _chunks(rows, out):
        torch.mv(some.to(out.dtype).T, c, out=of_out)
    return out


def _chunks(rows: Tensor, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some columns of the rows, and the same entries of v."""
    size = CHUNK if v.device.type == "cpu" else 16 * CHUNK
    return zip(rows.split(size, 1), v.split(size), strict=True)
