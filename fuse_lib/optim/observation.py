"""What one evaluation of the closure told the switchover rule.

On a GPU a number that Python wants to see makes the host wait. So an observation starts its life
as a few scalars on the device, and a `Backlog` reads them to the host together, at most once, when
a rule has to decide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Observation(NamedTuple):
    """One evaluation, as a rule sees it.

    iteration: calls of `step()` so far, this one included: 1 at the first.
    loss: the closure's value at the step's start.
    grad_norm_sq: ‖g‖² there, in the objective's units squared per parameter unit squared.
    cosine: of the angle between the first- and second-order step of the last blended call.
    mean_norm_sq: squared norm of the first phase's mean gradient (Adam's m̂) before this call, which is not yet in it.
    curvature: sᵀy of the first-order step that led here, where its pair is collected from one function (full_batch).
    loss_after: the loss where a second-phase call ended, on the same batch.
    evals: closure calls in this call of `step()`.
    theta: θ of this call. stop_reason: of its second-order step (see `StepReport`).
    full_batch, maximize: what the optimizer was told.
    A value that the rule did not ask for (`Rule.reads`), or that does not exist, is NaN.
    """

    iteration: int
    loss: float = math.nan
    grad_norm_sq: float = math.nan
    cosine: float = math.nan
    mean_norm_sq: float = math.nan
    curvature: float = math.nan
    loss_after: float = math.nan
    evals: int = 1
    theta: float = 1.0
    stop_reason: str | None = None
    full_batch: bool = False
    maximize: bool = False


class Backlog:
    """Observations of consecutive calls that are still on the device, oldest first."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        loss: Tensor | float,
        grad_norm_sq: Tensor,
        mean_norm_sq: Tensor | None = None,
        curvature: Tensor | None = None,
    ) -> None:
        """Queue one observation (0-d tensors; a loss may be a float). Nothing is read."""
        wide = torch.float32 if grad_norm_sq.device.type == "mps" else torch.float64
        norm = grad_norm_sq.to(wide)
        loss = loss.to(norm) if isinstance(loss, Tensor) else torch.full_like(norm, loss)
        unknown = torch.full_like(norm, math.nan) if mean_norm_sq is None or curvature is None else norm
        others = [unknown if value is None else value.to(norm) for value in (mean_norm_sq, curvature)]
        self._rows.append(torch.stack([loss, norm, *others]))

    def read(self, last: int, read, full_batch: bool = False, maximize: bool = False) -> list[Observation]:
        """All of them on the host, by one transfer. The newest is of iteration `last`.

        read: ([inner products], [values]) → lists of floats, as `Vectors.read`.
        full_batch, maximize: of the optimizer.
        """
        if not self._rows:
            return []
        losses, norms, means, curvatures = torch.stack(self._rows).unbind(1)
        norms, means, curvatures, losses = read([norms, means, curvatures], [losses])
        self._rows.clear()
        first = last - len(losses) + 1
        rows = zip(losses, norms, means, curvatures, strict=True)
        told = {"full_batch": full_batch, "maximize": maximize}
        return [
            Observation(call, loss, gg, mean_norm_sq=mm, curvature=sy, **told)
            for call, (loss, gg, mm, sy) in enumerate(rows, first)
        ]

    def state(self, size: int) -> Tensor:
        """(size, 4) float64 tensor that begins with what is queued."""
        rows = torch.zeros(size, 4, dtype=torch.float64)
        if self._rows:
            rows[: len(self)] = torch.stack(self._rows)
        return rows

    def load(self, rows: Tensor | None, queued: int) -> None:
        """Take over what `state` gave. (Older states have the first two columns only.)"""
        if rows is not None and rows.shape[1] < 4:
            rows = torch.cat([rows, rows.new_full((len(rows), 4 - rows.shape[1]), math.nan)], 1)
        self._rows = [] if rows is None else list(rows[:queued].clone())
