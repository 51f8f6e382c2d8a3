"""What the second phase inherits from the first.

*Pairs*: the last m curvature pairs along the first-order path (the paper's Algorithm 4 stores them).

*Metric*: a diagonal D for the change of variables z = D^(−1/2) x in which the second phase then works.
In exact arithmetic L-BFGS with H₀ = γI in z is L-BFGS with H₀ = γD in x. D is made of

    1 / (sqrt(v̂_i) / mean(sqrt(v̂)) + 0.1)     v̂: the first phase's bias-corrected second moments;
                                               0.1 keeps flat coordinates from running away

where moments are handed over, times the ratio of each group's learning rate to the largest: groups that
learned slowly go on doing so, and a group with lr = 0 is frozen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.vectors import Vectors

MODES = ("none", "pairs", "metric", "both")
DAMPING = 0.1


def wants_pairs(mode: str) -> bool:
    return mode in ("pairs", "both")


def wants_metric(mode: str) -> bool:
    return mode in ("metric", "both")


def lr_ratios(groups: list[dict]) -> list[float]:
    """Each group's lr over the largest; where all are 0, as at a schedule's end, of the initial ones."""
    lrs = [float(group["lr"]) for group in groups]
    if not any(lrs):
        lrs = [float(group.get("initial_lr", 1.0)) for group in groups]
    largest = max(lrs)
    return [lr / largest if largest and lr / largest > 1e-30 else 0.0 for lr in lrs]


def metric(vectors: Vectors, groups: list[dict], first: FirstOrder | None) -> Tensor | None:
    """D^(1/2) as a (d,) tensor, or None for the identity.

    first: whose second moments to use, or None to use learning rates only.
    """
    ratios = lr_ratios(groups)
    moments = [None if first is None else first.second_moment(p, g) for g in groups for p in g["params"]]
    if all(v is None for v in moments) and all(r == 1.0 for r in ratios):
        return None
    d = torch.ones(vectors.numel, dtype=vectors.dtype, device=vectors.device)
    if any(v is not None for v in moments):
        known = vectors.spread([float(v is not None) for v in moments])
        zeros = (torch.zeros_like(p) for p in vectors.params)
        root = vectors.flat([z if v is None else v for z, v in zip(zeros, moments, strict=True)]).sqrt_()
        mean = (root.sum() / known.sum()).clamp(min=torch.finfo(root.dtype).tiny)
        d = torch.where(known > 0, 1.0 / (root / mean + DAMPING), d)
    lr = vectors.spread([r for g, r in zip(groups, ratios, strict=True) for _ in g["params"]])
    return (d * lr).sqrt_()
