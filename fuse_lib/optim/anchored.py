"""AnchoredLBFGS: a second phase on batches, their noise taken off by an anchor.

A batch S of the rows gives f_S, whose gradient misses that of all rows, f, by its sampling noise. At an *anchor* x_k
both are known. So within a round not f_S is minimised but

    f_S(x) + (∇f(x_k) − ∇f_S(x_k))ᵀ (x − x_k)

whose gradient at the anchor is exactly ∇f(x_k), and stays near ∇f(x) while x is near: the noise that the two ends of
x − x_k share cancels. It is SVRG's control variate (Johnson & Zhang, NIPS 2013) on one batch for a whole round, and
the local problem of DANE (Shamir, Srebro & Zhang, arXiv 1312.7853). The batch is the same in the whole round, so a
line search has one function to search on, and every pair has y from one batch at both ends.

A round: a few evaluations of L-BFGS on that function, one evaluation on all rows at its end. That one is the safeguard
and the next anchor:

    ρ = (f(x_k) − f(x_{k+1})) / (decrease that the batch promised)

Not lower: back to x_k. ρ < `trust`: the batch was too small to be believed, the next has twice the rows. From three
quarters of the rows on all are taken: full-batch L-BFGS, with the memory of the rounds before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fuse_lib.optim.checks import check, is_integer, is_number
from fuse_lib.optim.lbfgs import LBFGS

BatchClosure = Callable[[Tensor], Tensor]


class Round(NamedTuple):
    """What one call of `AnchoredLBFGS.step` did.

    loss, loss_after: on all rows, at the start and at the end. batch: rows of the round's batch. samples: rows of all
    gradient evaluations. trust: ρ; NaN where all rows were the batch, or nothing was promised.
    accepted: False: the end was no better, and the parameters are back at the start. stop_reason: None, "converged" or
    "no_progress" (on all rows L-BFGS can do no more), "non_finite" (at the start; nothing was moved), "lr_zero".
    """

    loss: float
    loss_after: float
    batch: int
    samples: int
    trust: float
    accepted: bool
    stop_reason: str | None


class AnchoredLBFGS:
    """L-BFGS on growing batches whose gradient is corrected at an anchor. To follow a few passes of Adam.

    Args:
        params: parameters, or groups, whose lr count as for `LBFGS`; weight_decay and maximize have to be left off.
        batch_closure: rows, (b,) long, on the CPU → the mean loss on these rows of the data, a 0-d tensor. It clears
            the gradients, and calls backward. It must be the same function each time, without dropout or batch norm's
            batch statistics.
        rows: N, how many there are.
        share: of the rows in the first batch, 0 < share ≤ 1.
        evals: of a round on its batch, ≥ 2. A round on b rows costs evals·b + N at most. (The evaluation at the
            anchor serves the correction and as the search's start.)
        history_size: m.
        trust: see above; 0 ≤ trust < 1. 0: grows only when a round ends higher.
        seed: of the draws.

    Raises:
        ValueError, TypeError: an argument that is not allowed.

    The gain is large where rows are many beside the parameters and nearly alike; a batch that grows to all rows at once
    has cost its first rounds, no more. See notebook 12.

    >>> x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> y, w = x.sum(1).sign(), torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    >>> def batch_closure(rows):
    ...     w.grad = None
    ...     loss = torch.nn.functional.softplus(-y[rows] * (x[rows] @ w)).mean() + 0.01 * w.square().sum()
    ...     loss.backward()
    ...     return loss
    >>> opt = AnchoredLBFGS([w], batch_closure, 400)
    >>> while opt.step().stop_reason is None:
    ...     pass
    >>> bool(w.grad.norm() < 1e-6)
    True
    """

    def __init__(
        self,
        params,
        batch_closure: BatchClosure,
        rows: int,
        *,
        share: float = 0.125,
        evals: int = 8,
        history_size: int = 100,
        trust: float = 0.7,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("rows", rows, 1), ("evals", evals, 2)):
            check(value, name, f"an integer ≥ {least}", is_integer(value) and value >= least)
        check(seed, "seed", "an integer ≥ 0, below 2⁶⁴", is_integer(seed) and 0 <= seed < 2**64)
        check(share, "share", "0 < share ≤ 1", is_number(share) and 0 < share <= 1)
        check(trust, "trust", "0 ≤ trust < 1", is_number(trust) and 0 <= trust < 1)
        if not callable(batch_closure):
            raise TypeError(f"batch_closure: got {batch_closure!r}; allowed is a function of row numbers")
        self.inner = LBFGS(params, history_size=history_size, scaling="adaptive", inner_steps=evals, max_evals=evals)
        for group in self.inner.param_groups:  # the rounds are judged by the loss as it is
            for name, way in (("weight_decay", "add λ/2·‖x‖² to"), ("maximize", "negate")):
                if group[name]:
                    raise ValueError(
                        f"params: got a group with {name}={group[name]!r}; allowed is {type(group[name])()!r}: "
                        f"{way} the loss of batch_closure"
                    )
        self.params = [p for group in self.inner.param_groups for p in group["params"]]
        self.batch_closure, self.rows, self.trust = batch_closure, rows, float(trust)
        self.batch = self._size(math.ceil(share * rows))
        self.last_step: Round | None = None
        self.samples = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._anchor: _Anchor | None = None
        self._all = torch.arange(rows)

    def _size(self, rows: int) -> int:
        return self.rows if 4 * rows >= 3 * self.rows else rows

    # ---- one round
    def step(self) -> Round:
        """One round. The parameters may have been moved since the last one; then the anchor is taken anew.

        Returns:
            What was done, also in `last_step`.

        Raises:
            RuntimeError: no parameter has a gradient after a call of the closure.
            Whatever the closure raises. The parameters are then where the round began.
        """
        before = self.samples
        if self._anchor is None or not self._anchor.is_here(self.params):
            self._anchor = self._look()
        start = self._anchor
        if not start.finite:
            return self._done(start, before, math.nan, False, "non_finite")
        try:
            return self._full_round(start, before) if self.batch == self.rows else self._round(start, before)
        except BaseException:
            start.restore(self.params)
            raise

    def _round(self, start: _Anchor, before: int) -> Round:
        rows = torch.randperm(self.rows, generator=self._generator)[: self.batch]
        first = self._evaluate(rows).clone()
        shift = [g - p.grad for g, p in zip(start.grads, self.params, strict=True)]
        known = [first]

        def corrected() -> Tensor:
            if known:  # the anchor itself, which has been evaluated
                start.set_grads(self.params)
                return known.pop()
            loss = self._evaluate(rows)
            moved = sum(
                (_real(c) * (_real(p.detach()) - _real(x))).sum()
                for c, p, x in zip(shift, self.params, start.x, strict=True)
            )
            for p, c in zip(self.params, shift, strict=True):
                p.grad.add_(c)
            return (loss.detach().double() + moved).to(loss.dtype)

        self.inner.step(corrected)
        after = self.inner.last_step.loss_after
        promised = float(first) - after if after is not None else 0.0
        end = self._look()
        accepted = end.lower(start)
        ratio = (start.loss - end.loss) / promised if promised > 0 else math.nan
        if accepted:
            self._anchor = end
        else:
            start.restore(self.params)
        done = self._done(start, before, ratio, accepted, None)
        if not (accepted and ratio >= self.trust):
            self.batch = self._size(2 * self.batch)
        return done

    def _full_round(self, start: _Anchor, before: int) -> Round:
        known, lowest = [True], [start]  # several where a coarse loss cannot tell them apart

        def closure() -> Tensor:
            if known:
                known.pop()
                start.set_grads(self.params)
                return start.value
            point = self._look()
            if point.lower(lowest[0]):
                lowest.clear()
            if not lowest or (point.loss == lowest[0].loss and point.finite):
                lowest.append(point)
            return point.value

        self.inner.step(closure)
        reason = self.inner.last_step.stop_reason
        end = next((point for point in lowest if point.is_here(self.params)), start)
        end.restore(self.params)  # moves nothing where L-BFGS is at a lowest point that it has seen, as it is to be
        self._anchor = end
        stop = reason if reason in ("converged", "no_progress", "lr_zero") else None
        return self._done(start, before, math.nan, end is not start, stop)

    def _done(self, start: _Anchor, before: int, ratio: float, accepted: bool, stop: str | None) -> Round:
        self.last_step = Round(
            start.loss, self._anchor.loss, self.batch, self.samples - before, ratio, accepted, stop
        )  # fmt: skip
        return self.last_step

    def _evaluate(self, rows: Tensor) -> Tensor:
        self.samples += len(rows)
        with torch.enable_grad():
            loss = self.batch_closure(rows)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
            raise TypeError(
                f"batch_closure: it returned {loss!r}; allowed is the loss, a one-element tensor of a floating dtype"
            )
        if not any(p.requires_grad and p.grad is not None for p in self.params):
            raise RuntimeError(
                "batch_closure: it left no gradient in any parameter that requires one; allowed is a function that "
                "calls backward, of parameters of which one is not frozen"
            )
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif p.grad.layout != torch.strided:
                p.grad = p.grad.to_dense()  # the shift is dense anyway
        return loss.detach().reshape(())

    def _look(self) -> _Anchor:
        """All rows, here."""
        value = self._evaluate(self._all).clone()
        return _Anchor([p.detach().clone() for p in self.params], [p.grad.detach().clone() for p in self.params], value)

    # ---- state
    def state_dict(self) -> dict[str, object]:
        """Plain tensors and numbers; the parameters themselves are the model's to save."""
        anchor = self._anchor
        return {
            "inner": self.inner.state_dict(), "batch": self.batch, "samples": self.samples, "rows": self.rows,
            "generator": self._generator.get_state(),
            "anchor": None if anchor is None else {"x": anchor.x, "grads": anchor.grads, "value": anchor.value},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on where a saved one was, bit for bit. Load the model's parameters first or after; both will do.

        Raises:
            ValueError: it was of another number of rows, or does not fit. Nothing is changed then.
        """
        rows = state.get("rows") if isinstance(state, dict) else None
        if rows != self.rows:
            raise ValueError(f"rows: got a state of {rows}; allowed is one of {self.rows}")
        try:
            batch, samples, saved = int(state["batch"]), int(state["samples"]), state["anchor"]
            generator = torch.Generator()
            generator.set_state(state["generator"])
            anchor = saved and _Anchor(
                [t.clone() for t in saved["x"]], [t.clone() for t in saved["grads"]], saved["value"].clone()
            )
            shapes = [p.shape for p in self.params]
            fits = not anchor or all([t.shape for t in some] == shapes for some in (anchor.x, anchor.grads))
            if not (fits and 1 <= batch <= self.rows):
                raise ValueError("its anchor has other shapes" if not fits else f"its batch has {batch} rows")
            self.inner.load_state_dict(state["inner"])  # all or nothing, and so the last that can fail
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"state_dict: it is none of AnchoredLBFGS with these parameters ({error!r})") from error
        self.batch, self.samples, self._generator, self._anchor = batch, samples, generator, anchor


class _Anchor(NamedTuple):
    """A point and what all rows say there. x, grads: one tensor a parameter. value: the loss, 0-d."""

    x: list[Tensor]
    grads: list[Tensor]
    value: Tensor

    @property
    def loss(self) -> float:
        return float(self.value)

    @property
    def finite(self) -> bool:
        """Whether a round can start here."""
        return math.isfinite(self.loss) and all(bool(t.isfinite().all()) for t in (*self.x, *self.grads))

    def lower(self, other: _Anchor) -> bool:
        """Whether a round may go from the other one to here: to −inf, or where a gradient is NaN, it would be stuck."""
        return self.loss < other.loss and self.finite

    def is_here(self, params: list[Tensor]) -> bool:
        """Whether the parameters are still those; no longer where the model was cast or moved to another device."""
        pairs = list(zip(params, self.x, strict=True))
        alike = all(p.dtype == x.dtype and p.device == x.device for p, x in pairs)
        return alike and all(torch.equal(p, x) for p, x in pairs)

    def set_grads(self, params: list[Tensor]) -> None:
        for p, g in zip(params, self.grads, strict=True):
            p.grad = g.clone()

    @torch.no_grad()
    def restore(self, params: list[Tensor]) -> None:
        for p, x in zip(params, self.x, strict=True):
            p.copy_(x)


def _real(t: Tensor) -> Tensor:
    """In float64; a complex one as its real and imaginary parts, in which the shift is a linear function."""
    return (torch.view_as_real(t) if t.is_complex() else t).double()
