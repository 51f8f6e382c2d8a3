"""What the second phase knows of one point, and where a search from one ended."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fuse_lib.optim.history import Staged
from fuse_lib.optim.vectors import Gradient


@dataclass
class Point:
    """A point where the closure was evaluated, or, if only x is known, where a step without a search ended.

    x: parameters, (d,). value: what the closure returned. loss: it as a float or a 0-d tensor.
    gradient: there. f, loss_read, grad_norm, gg: objective, loss, ‖g‖ of the plain gradient and gᵀg in the
        metric's variables on the host, once they were read.
    yy: ‖y‖² of the step that ended here, 0-d on the device, and yy_read, it on the host, if a search found them.
    for_noise: what is to be read for the noise (see noise.py), 0-d on the device, where it is known.
    look: how many points had been looked at when this one was, itself included; 0 if it was not.
    pair: the staged pair that ends here, if it starts where the last look was.
    """

    x: Tensor
    value: object = None
    loss: Tensor | float = math.nan
    gradient: Gradient | None = None
    f: float = math.nan
    loss_read: float = math.nan
    grad_norm: float = math.nan
    gg: float = math.nan
    yy: Tensor | None = None
    yy_read: float = math.nan
    for_noise: Tensor | None = None
    look: int = 0
    pair: Staged | None = None

    @property
    def evaluated(self) -> bool:
        return self.gradient is not None

    @property
    def finite(self) -> bool:
        """Whether a step can start here. Known once the point was read."""
        return math.isfinite(self.f) and math.isfinite(self.grad_norm)


@dataclass
class Search:
    """Where one iteration along p ended. t = 0 and end = start where it found no step.

    y: the gradient's change, (d,), where a search found a step. minimum: where the slopes at 0 and t see the minimum, 0
        where they see none. slope: gᵀp at the start.
    """

    start: Point
    end: Point
    t: float
    stop_reason: str | None
    y: Tensor | None = None
    minimum: float = 0.0
    slope: float = math.nan
