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

from fuse_lib.optim.checks import group_lrs
from fuse_lib.optim.closure import Counted, scalar
from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.point import Point
from fuse_lib.optim.second_order import SecondOrder
from fuse_lib.optim.switchover import Never, Rule
from fuse_lib.optim.vectors import Vectors

MODES = ("none", "pairs", "metric", "both")
DAMPING = 0.1


def wants_pairs(mode: str) -> bool:
    return mode in ("pairs", "both")


def wants_metric(mode: str) -> bool:
    return mode in ("metric", "both")


def usable(mode: str, inherits: tuple[str, ...]) -> str:
    """What of a mode a method can inherit: the mode that asks for just that. inherits: of "pairs" and "metric"."""
    pairs, scale = wants_pairs(mode) and "pairs" in inherits, wants_metric(mode) and "metric" in inherits
    return {(True, True): "both", (True, False): "pairs", (False, True): "metric", (False, False): "none"}[pairs, scale]


def lr_ratios(groups: list[dict]) -> list[float]:
    """Each group's lr over the largest; where all are 0, as at a schedule's end, of the initial ones."""
    lrs = group_lrs(groups)
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
        ones = torch.ones_like(d)
        nothing = (torch.full_like(p, torch.nan) for p in vectors.params)
        root = vectors.flat([n if v is None else v for n, v in zip(nothing, moments, strict=True)]).sqrt_()
        known = root.isfinite()  # a gradient of 1e20 in float32 leaves an infinite moment behind
        root = root.where(known, torch.zeros_like(root))
        (total,), (count,) = vectors.read([vectors.dot(root, ones), vectors.dot(known.to(ones), ones)])
        mean = max(total / max(count, 1.0), torch.finfo(root.dtype).tiny)
        d = torch.where(known, 1.0 / (root / mean + DAMPING), d)
    lr = vectors.spread([r for g, r in zip(groups, ratios, strict=True) for _ in g["params"]])
    return (d * lr).sqrt_()


class Collector:
    """When curvature pairs of the first phase are collected, and how.

    A pair needs both gradients of one step from one function. Under full_batch two consecutive closure
    calls give them for nothing. On minibatches the closure is called once more, at the step's end on the
    same batch; so that is done in m steps only: the last ones before a switch that is known in advance,
    or m more after a rule fired.

    left: first-order steps still to go after the rule fired.
    """

    def __init__(self, mode: str, size: int, full_batch: bool, rule: Rule) -> None:
        self.size, self.full_batch = size, full_batch
        self.active = wants_pairs(mode) and rule.hard and not isinstance(rule, Never)
        self.switch_step = rule.switch_step()
        self.left = 0

    def wants(self, calls: int) -> bool:
        """Whether the coming first-order step's pair is wanted, after `calls` steps."""
        if not self.active:
            return False
        if self.switch_step is not None:
            return calls >= self.switch_step - self.size
        return self.full_batch or self.left > 0

    def delay(self) -> int:
        """How many first-order steps follow a rule that fires."""
        foreseen = self.switch_step is not None or self.full_batch
        return self.size if self.active and not foreseen else 0

    def before(self, second: SecondOrder, value: object) -> Point:
        """Take note of where a first-order step starts; the closure has just returned `value` there."""
        start = second.here(value, scalar(value))
        if self.full_batch:
            known = second.last_known()
            if known is not None:
                second.method.collect(known, start)
            second.stay(start, here=False)
        return start

    def after(self, second: SecondOrder, run: Counted, start: Point) -> Tensor | float | None:
        """Complete the pair at the step's end. Returns the loss there, where it was evaluated."""
        if self.full_batch:
            return None  # the next call's evaluation will do it
        end = second.here(*run())
        second.method.collect(start, end)
        return second.loss_of(end)
