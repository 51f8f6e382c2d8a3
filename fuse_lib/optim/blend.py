"""The blended step of general FUSE (Algorithm 3): x_{k+1} = θ x^A + (1 − θ) x^L, both from x_k.

x^A is the first-order optimizer's step, x^L an iteration of the second-order method, and both see the same gradient.
"""

from __future__ import annotations

import math

import torch

from fuse_lib.optim.closure import Counted
from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.point import Point
from fuse_lib.optim.report import StepReport
from fuse_lib.optim.second_order import SecondOrder


def blend(theta: float, first: FirstOrder, second: SecondOrder, start: Point, run: Counted, report: StepReport) -> None:
    """One step, 0 < θ < 1; x^A alone where the search fails. .grad must be the start's.

    The report gets the cosine of the angle between the two steps, where both were made.
    """
    vectors = second.vectors
    grads = vectors.grads()  # the search will leave those of its last trial
    found = second.iterate(start, run, run.left - (not second.full_batch))  # one is kept for y
    report.set(step_length=found.t, stop_reason=found.stop_reason)
    vectors.restore(start.x)
    vectors.set_grads(grads)
    first.step()
    x_first = vectors.position()
    a, b = x_first - start.x, found.end.x - start.x
    lost = (~x_first.isfinite()).sum().to(a)
    dots = [vectors.dot(a, b), vectors.dot(a, a), vectors.dot(b, b), lost]
    ((ab, aa, bb, lost),) = vectors.read([torch.stack(dots)])
    if lost:  # the first-order step overflowed: what is left is the other, or none
        x = found.end.x
        report.set(stop_reason="non_finite")
    elif found.t == 0.0:
        x = x_first
    else:
        x = theta * x_first + (1.0 - theta) * found.end.x
        report.set(cosine=ab / math.sqrt(aa * bb) if aa * bb > 0 else math.nan)
    vectors.restore(start.x)  # for what is frozen but has a gradient, torch's step has moved it
    vectors.place(x)
    if second.full_batch:
        second.stay(start, here=False)  # the next call's evaluation completes the pair
    elif run.left:
        end = second.evaluate(run)
        second.method.remember(start, end)
        report.set(loss_after=second.loss_of(end), pair=second.method.pair_verdict())
