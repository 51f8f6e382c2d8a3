"""The settings of an optimizer, checked when it is made."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

import torch

from fuse_lib.optim import handover as handovers
from fuse_lib.optim import methods

P = ParamSpec("P")


@dataclass(frozen=True)
class Options:
    """What the constructor of `Fuse` takes beside its parameters, its first phase and its rule.

    Raises:
        ValueError, TypeError: a value that is not allowed; the message names it.
    """

    handover: str = "pairs"
    history_size: int = 10
    line_search: str = "strong_wolfe"
    inner_steps: int = 1
    max_evals: int = 25
    full_batch: bool = False
    skip_nonfinite: bool = False
    check_every: int = 1
    history_dtype: torch.dtype | None = None
    process_group: object = None
    damped: bool = False
    scaling: str = "newest"
    second_order: str = "lbfgs"
    second_order_args: dict | None = None

    def __post_init__(self) -> None:
        _one_of("handover", self.handover, handovers.MODES)
        _one_of("line_search", self.line_search, ("strong_wolfe",))
        _one_of("scaling", self.scaling, ("newest", "adaptive"))
        _integer("history_size", self.history_size, 1)
        _integer("inner_steps", self.inner_steps, 1)
        _integer("max_evals", self.max_evals, 2)
        _integer("check_every", self.check_every, 1)
        for name in ("full_batch", "skip_nonfinite", "damped"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}: got {getattr(self, name)!r}; allowed is True or False")
        dtype = self.history_dtype
        if dtype not in (None, torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise TypeError(
                f"history_dtype: got {dtype!r}; allowed is None, torch.float64, float32, bfloat16 or float16"
            )
        if self.process_group is not None and not _is_process_group(self.process_group):
            raise TypeError(
                f"process_group: got {self.process_group!r}; allowed is None or an initialised "
                "torch.distributed process group, such as torch.distributed.group.WORLD after init_process_group"
            )
        methods.check(self.second_order, self.second_order_args, self.handover, self.of_history)

    @property
    def of_history(self) -> dict:
        """The options of the curvature memory, by name."""
        return {name: getattr(self, name) for name in methods.HISTORY}


def _is_process_group(group: object) -> bool:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    return isinstance(group, torch.distributed.ProcessGroup)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed is {', '.join(map(repr, allowed))}")


def _integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: got {value!r}; allowed is an integer ≥ {least}")


def check_lr(lr: object) -> None:
    """lr: a number ≥ 0 or a one-element tensor, as torch's own optimizers take it."""
    if isinstance(lr, torch.Tensor):
        if lr.numel() != 1:
            raise ValueError(f"Tensor lr must be 1-element: got shape {tuple(lr.shape)}; allowed is one number")
        lr = float(lr)
    if not isinstance(lr, int | float) or isinstance(lr, bool) or not 0.0 <= lr < float("inf"):
        raise ValueError(f"lr: got {lr!r}; allowed is a finite number ≥ 0")


def names_checked(init: Callable[P, None]) -> Callable[P, None]:
    """A constructor that says of an unknown keyword which ones there are. Its signature stays as it is.

    (Python's own error names the keyword alone, and the constructors of torch's optimizers take others than ours.)
    """
    allowed = list(inspect.signature(init).parameters)[1:]  # after self

    @functools.wraps(init)
    def checked(self, *args: P.args, **given: P.kwargs) -> None:
        unknown = {name: value for name, value in given.items() if name not in allowed}
        if unknown:
            named, whose = ", ".join(unknown), type(self).__name__
            hint = f"; options of the first phase go into first_order_args={unknown!r}"
            raise TypeError(f"{named}: not an argument of {whose}; allowed is any of {', '.join(allowed)}"
                            + (hint if "first_order_args" in allowed else ""))  # fmt: skip
        init(self, *args, **given)

    return checked
