"""Growing batches by the norm test: the library's L-BFGS on one batch a step, twice as large whenever noise rules it.

Byrd, Chin, Nocedal & Wu, *Sample size selection in optimization methods for machine learning*, Math. Programming 134,
2012; with L-BFGS: Bollapragada, Mudigere, Nocedal, Shi & Tang, arXiv 1802.05374. The batch is fit to go on with if the
variance of its mean gradient is at most θ² of that gradient's squared norm. Two halves of the batch estimate it:
‖g₁ − g₂‖²/4. Where the first evaluation of a step is made of the halves it costs nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fuse_lib import LBFGS
from fuse_lib.recipes.softmax import Softmax

THETA = 0.9


def run(f: Softmax, batch: int, seed: int, theta: float = THETA, memory: int = 100) -> None:
    """From where f is, until f's budget is spent or its least gap reached."""
    opt = LBFGS(f.params, history_size=memory, scaling="adaptive", inner_steps=1, max_evals=5)
    generator, idle = torch.Generator().manual_seed(seed), 0
    while batch < f.rows:
        rows = torch.randperm(f.rows, generator=generator)[:batch]
        tested: list[float] = []
        opt.step(lambda rows=rows, tested=tested: halves(f, rows, tested))
        f.measure()
        if tested[0] > theta**2:
            batch = 2 * batch
    while idle < 5:  # all rows
        opt.step(f.batch_closure)
        idle = idle + 1 if opt.last_step.stop_reason in ("converged", "no_progress") else 0


def halves(f: Softmax, rows: Tensor, tested: list[float]) -> Tensor:
    """f on these rows; the first call in a step also tells variance/‖g‖², appended to `tested`."""
    if tested:
        return f.batch_closure(rows)
    loss, grads = 0.0, []
    for half in rows.chunk(2):
        loss = loss + f.batch_closure(half) * (len(half) / len(rows))
        grads.append([p.grad for p in f.params])
    a, b = (len(half) / len(rows) for half in rows.chunk(2))
    for p, one, two in zip(f.params, *grads, strict=True):
        p.grad = a * one + b * two
    off = sum(float((one - two).square().sum()) for one, two in zip(*grads, strict=True)) / 4
    tested.append(off / max(sum(float(p.grad.square().sum()) for p in f.params), 1e-30))
    return loss
