"""The first phase: one of torch's own optimizers, adopted.

`Fuse` does not write Adam again. It makes an instance of the class it was given and shares its
parameter groups and state with it: what a scheduler, a checkpoint or the user changes in one is
changed in the other, and the update is torch's, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from fuse_lib.optim.vectors import Vectors

# Classes whose weight decay is decoupled without a flag in their groups that says so.
_DECOUPLED = ("Adafactor", "AdamW", "Muon")  # AdamW before torch 2.7


class FirstOrder:
    """An instance of `cls` that lives on another optimizer's groups and state.

    Raises:
        TypeError: cls is no subclass of torch.optim.Optimizer, does not take one of `args`, or is one
            that needs a closure.
    """

    def __init__(self, cls: type, params, lr, args: dict) -> None:
        if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
            raise TypeError(f"first_order: got {cls!r}; allowed is a class such as torch.optim.Adam")
        if issubclass(cls, torch.optim.LBFGS):
            raise TypeError("first_order: got torch.optim.LBFGS; allowed is a class whose step() needs no closure")
        if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
            raise TypeError(f"first_order_args: got {args!r}; allowed is a dict from the names of options to values")
        try:
            self.optimizer = cls(params, lr=lr, **args)
        except TypeError as error:
            if "keyword argument" not in str(error) and "argument 'params'" not in str(error):
                raise
            raise TypeError(f"first_order_args: got {args!r}; allowed is what {cls.__name__} takes: {error}") from error

    @property
    def name(self) -> str:
        return type(self.optimizer).__name__

    def link(self, owner: torch.optim.Optimizer) -> None:
        """Share the owner's groups and state from now on, whatever objects they are."""
        shared = {"defaults": owner.defaults, "state": owner.state, "param_groups": owner.param_groups}
        self.optimizer.__setstate__(shared)  # which also mends the states of older versions of torch

    def step(self) -> None:
        """One update from the gradients. Hooks are the owner's business, so the unhooked step is called."""
        step = type(self.optimizer).step
        while getattr(step, "hooked", False):
            step = step.__wrapped__
        step(self.optimizer)

    def has_second_moments(self) -> bool:
        """Whether the class keeps a mean of squared gradients, as far as can be told before a step."""
        defaults = self.optimizer.defaults
        return ("betas" in defaults and "eps" in defaults and self.name != "Adamax") or self.name == "RMSprop"

    def second_moment(self, p: Tensor, group: dict) -> Tensor | None:
        """The bias-corrected mean of g², like p, or None. (A complex p: of each part by itself.)"""
        state = self.optimizer.state.get(p, {})
        if "square_avg" in state:  # RMSprop
            return state["square_avg"]
        if "exp_avg_sq" not in state or "betas" not in group:
            return None
        step = float(state.get("step", 0))
        correction = 1.0 - float(group["betas"][1]) ** step
        return state.get("max_exp_avg_sq", state["exp_avg_sq"]) / (correction or 1.0)

    def mean_gradient(self, p: Tensor, group: dict) -> tuple[Tensor, float | Tensor] | None:
        """The exponential mean of the gradients so far, like p, and the factor that corrects its bias, or None.

        Adam's and its kin's m, 1/(1 − β₁ᵏ); SGD's momentum buffer, (1 − μ)/(1 − dampening), which is one after some
        1/(1 − μ) steps.
        """
        state = self.optimizer.state.get(p, {})
        if "exp_avg" in state and "betas" in group:
            beta, step = float(group["betas"][0]), state.get("step", 1.0)
            if isinstance(step, Tensor) and step.device.type != "cpu":  # fused: reading it would make the host wait
                return state["exp_avg"], 1.0 / (1.0 - beta**step).clamp_min(1.0 - beta)
            return state["exp_avg"], 1.0 / max(1.0 - beta ** float(step), 1.0 - beta)
        buffer = state.get("momentum_buffer") if self.name == "SGD" else None
        if buffer is None:
            return None
        return buffer, (1.0 - group["momentum"]) / ((1.0 - group["dampening"]) or 1.0)

    def mean_norm_sq(self, vectors: Vectors) -> Tensor | None:
        """‖m̂‖² of the mean gradients of all parameters, 0-d, or None where there are none."""
        groups = self.optimizer.param_groups
        means = [self.mean_gradient(p, group) for group in groups for p in group["params"]]
        known = [mean for mean in means if mean is not None]
        if not known:
            return None
        if vectors.processes.alone and vectors.weights is None and all(isinstance(f, float) for _, f in known):
            alike: dict[float, list[Tensor]] = {}  # without a copy of them all
            for m, factor in known:
                alike.setdefault(factor, []).append(m)
            return sum((factor * get_total_norm(some)).square() for factor, some in alike.items())
        zeros = (torch.zeros_like(p) for p in vectors.params)
        flat = vectors.flat([z if mean is None else mean[0] * mean[1] for z, mean in zip(zeros, means, strict=True)])
        return vectors.dot(flat, flat)

    def decoupled(self) -> bool:
        """Whether weight decay acts on the parameters directly and is no part of the objective."""
        return bool(self.optimizer.defaults.get("decoupled_weight_decay", self.name in _DECOUPLED))
