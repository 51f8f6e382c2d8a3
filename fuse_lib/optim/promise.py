"""full_batch=True is a promise: the closure is one and the same function each time. It is tested here."""

from __future__ import annotations

import math

from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Vectors


class BrokenPromise(RuntimeError):
    """full_batch=True was promised, but two calls of the closure at one point gave different losses or gradients."""


def check(vectors: Vectors, one: Point, other: Point, eps: float, what: str) -> bool:
    """Compare two evaluations at the same parameters.

    eps: the rounding error of the loss. what: which two calls these were, for the message.

    Returns: whether they could be compared. Points that differ, or are not finite, tell nothing.

    Raises:
        BrokenPromise: the losses or the gradients differ.
    """
    g, off = one.gradient.vector, other.gradient.vector - one.gradient.vector
    (off,), (size,), (moved,), (f1,), (f2,) = vectors.read(
        [vectors.dot(off, off), vectors.dot(g, g), (other.x != one.x).any()], [one.loss, other.loss]
    )
    if moved or not (math.isfinite(f1) and math.isfinite(size)):
        return False
    tolerance = min(1e3 * eps, 0.05)  # the latter for losses in half precision
    same_loss = abs(f2 - f1) <= tolerance * max(abs(f1), abs(f2))
    same_gradient = off <= min(1e3 * tolerance, 0.1) ** 2 * size
    if not (same_loss and same_gradient):  # NaN is not the same
        raise BrokenPromise(
            f"full_batch=True: {what} gave {_gave(f1, f2, same_loss)} at the same parameters. The closure must "
            "be the same function each time: no dropout (call model.eval(), or fix the mask), no batch norm whose "
            "statistics move, no resampling of the batch or of collocation points, inside the closure or from one "
            "step to the next. Otherwise leave full_batch=False"
        )
    return True


def _gave(f1: float, f2: float, same_loss: bool) -> str:
    """What the two calls gave. Gradients that are not cleared leave the loss as it is, to the last bit."""
    if f1 == f2:
        return f"the same loss {f1!r} but other gradients (does the closure clear them before backward?)"
    if same_loss:
        return f"nearly the same losses {f1!r} and {f2!r}, but other gradients"
    return f"the losses {f1!r} and {f2!r}"
