"""What the second phase knows of one point, and where a search from one ended."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fuse_lib.optim.history import Staged
from fuse_lib.optim.vectors import Gradient


@dataclass
class Point:
    """A point where the closure was evaluated.

    x: parameters, (d,). value: what the closure returned. loss: it as a float or a 0-d tensor.
    gradient: there. f, loss_read, grad_norm, gg: objective, loss, ‖g‖ of the plain gradient and gᵀg in the
        metric's variables on the host, once they were read.
    y_norm_sq: ‖y‖² of the step that ended here, if a search found it.
    look: how many points had been looked at when this one was, itself included; 0 if it was not.
    pair: the staged pair that ends here, if it starts where the last look was.
    """

    x: Tensor
    value: object
    loss: Tensor | float
    gradient: Gradient
    f: float = math.nan
    loss_read: float = math.nan
    grad_norm: float = math.nan
    gg: float = math.nan
    y_norm_sq: float = math.nan
    look: int = 0
    pair: Staged | None = None

    @property
    def finite(self) -> bool:
        """Whether a step can start here. Known once the point was read."""
        return math.isfinite(self.f) and math.isfinite(self.grad_norm)


@dataclass
class Search:
    """Where one line search along p ended. t = 0 and end = start where it found no step."""

    start: Point
    end: Point
    t: float
    stop_reason: str | None
