"""The user's closure during one step: called with autograd on, counted, its value made a number."""

from __future__ import annotations

import numbers
from collections.abc import Callable

import torch
from torch import Tensor


class Counted:
    """A closure and how often it was called.

    most: the most calls this step may make.
    """

    def __init__(self, closure: Callable[[], object], most: int) -> None:
        self.closure, self.most, self.calls = closure, most, 0

    @property
    def left(self) -> int:
        return self.most - self.calls

    def value(self) -> object:
        """Call it. Returns what it returned."""
        with torch.enable_grad():
            value = self.closure()
        self.calls += 1
        return value

    def __call__(self) -> tuple[object, Tensor | float]:
        """Call it. Returns what it returned, and the same as a scalar."""
        value = self.value()
        return value, scalar(value)


def scalar(value: object) -> Tensor | float:
    """A closure's value as a 0-d tensor without history, or a float.

    Raises:
        TypeError, ValueError: it is no real number.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ValueError(
                f"closure: it returned a {value.dtype} tensor of shape {tuple(value.shape)}; allowed is one real number"
            )
        one = value.detach() if value.dim() == 0 else value.detach().reshape(())
        return one.clone()  # the closure may write its next value to the same memory
    if isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"closure: it returned {value!r}; allowed is a number that a float can hold") from None
    raise TypeError(f"closure: it returned {value!r}; allowed is the loss, a float or a one-element tensor")


def scalar_or_none(value: object) -> Tensor | float | None:
    """The same for phases in which any value will do."""
    try:
        return scalar(value)
    except (TypeError, ValueError):
        return None
