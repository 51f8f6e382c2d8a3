"""LBFGS: the second phase alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.checks import group_lrs
from fuse_lib.optim.fuse import Fuse
from fuse_lib.optim.options import Options, check_lr, names_checked
from fuse_lib.optim.switchover import Always


class LBFGS(Fuse):
    """The second phase alone: L-BFGS with the same history, line search and state as `Fuse`.

    Args:
        lr: the first trial step of each line search (1 is right for a quasi-Newton direction).
        weight_decay: λ adds λ/2 ‖x‖² to what is minimised.
        maximize: the closure's loss is to be made large.
        The others as for `Fuse`.
    """

    @names_checked
    def __init__(
        self,
        params,
        lr: float | Tensor = 1,
        *,
        history_size: int = 10,
        line_search: str = "strong_wolfe",
        inner_steps: int = 1,
        max_evals: int = 25,
        full_batch: bool = False,
        history_dtype: torch.dtype | None = None,
        weight_decay: float = 0.0,
        maximize: bool = False,
        process_group: object = None,
        damped: bool = False,
        scaling: str = "newest",
    ) -> None:
        check_lr(lr)
        number = isinstance(weight_decay, int | float) and not isinstance(weight_decay, bool)
        if not number or not 0.0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay: got {weight_decay!r}; allowed is a finite number ≥ 0")
        if not isinstance(maximize, bool):
            raise TypeError(f"maximize: got {maximize!r}; allowed is True or False")
        options = Options(
            handover="none", history_size=history_size, line_search=line_search, inner_steps=inner_steps,
            max_evals=max_evals, full_batch=full_batch, history_dtype=history_dtype,
            process_group=process_group, damped=damped, scaling=scaling,
        )  # fmt: skip
        defaults = {"lr": lr, "weight_decay": weight_decay, "maximize": maximize}
        self._setup(params, defaults, None, Always(), options)

    def _first_trial(self) -> float:
        return max(group_lrs(self.param_groups))
