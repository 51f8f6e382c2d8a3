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
    A value that the rule did not ask for (`Rule.reads`), or that does not exist, is NaN.
    """

    iteration: int
    loss: float = math.nan
    grad_norm_sq: float = math.nan
    cosine: float = math.nan


class Backlog:
    """Observations of consecutive calls that are still on the device, oldest first."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, loss: Tensor | float, grad_norm_sq: Tensor) -> None:
        """Queue one observation (0-d tensors; a loss may be a float). Nothing is read."""
        wide = torch.float32 if grad_norm_sq.device.type == "mps" else torch.float64
        norm = grad_norm_sq.to(wide)
        loss = loss.to(norm) if isinstance(loss, Tensor) else torch.full_like(norm, loss)
        self._rows.append(torch.stack([loss, norm]))

    def read(self, last: int, read) -> list[Observation]:
        """All of them on the host, by one transfer. The newest is of iteration `last`.

        read: ([inner products], [values]) → lists of floats, as `Vectors.read`.
        """
        if not self._rows:
            return []
        losses, norms = torch.stack(self._rows).unbind(1)
        norms, losses = read([norms], [losses])
        self._rows.clear()
        first = last - len(losses) + 1
        return [Observation(first + i, *row) for i, row in enumerate(zip(losses, norms, strict=True))]

    def state(self, size: int) -> Tensor:
        """(size, 2) float64 tensor that begins with what is queued."""
        rows = torch.zeros(size, 2, dtype=torch.float64)
        if self._rows:
            rows[: len(self)] = torch.stack(self._rows)
        return rows

    def load(self, rows: Tensor | None, queued: int) -> None:
        self._rows = [] if rows is None else list(rows[:queued].clone())
