"""The second phase's state as plain numbers and tensors, and back. What becomes of them is checkpoint.py's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.gram import HOST
from fuse_lib.optim.point import Point
from fuse_lib.optim.second_order import SecondOrder
from fuse_lib.optim.vectors import Gradient


def in_use(second: SecondOrder) -> bool:
    """Whether there is anything to save."""
    held = second.method.in_use() or second.method.allocated or second.known is not None
    return held or second.failures > 0 or second.promise_checked or second.vectors.scale is not None


def state(second: SecondOrder) -> tuple[dict[str, object], dict[str, Tensor]]:
    """(numbers and small tensors, vectors by name). The names depend on the settings only."""
    known = second.known
    numbers, vectors = second.method.state(known)
    numbers |= {
        **second.vectors.state(),
        "failures": second.failures,
        "promise_checked": second.promise_checked,
    }
    if second.vectors.scale is not None:
        vectors["scale"] = second.vectors.scale
    if second.full_batch:
        loss = 0.0 if known is None else known.loss
        as_tensor = isinstance(loss, Tensor)  # a float is no tensor of the parameters' dtype; see _eps
        numbers |= {"has_known": known is not None, "at_known": second.at_known, "loss_is_tensor": as_tensor}
        numbers["loss"] = loss if as_tensor else torch.tensor(loss, **HOST)
        numbers["grad_norm"] = math.nan if known is None else known.grad_norm
        numbers["gg"] = math.nan if known is None else known.gg
        vectors["x"] = second.vectors.zeros() if known is None else known.x
        vectors["g"] = second.vectors.zeros() if known is None else known.gradient.vector
    return numbers, vectors


def load(second: SecondOrder, numbers: dict, vectors: dict[str, Tensor]) -> None:
    """Take over a state, by copying, into a second phase that was just made. ValueError where it does not fit."""
    like = {"dtype": second.vectors.dtype, "device": second.vectors.device}
    own = {name: vectors[name].to(**like, copy=True) for name in ("scale", "x", "g") if name in vectors}
    known = None
    if second.full_batch and int(numbers.get("has_known", 0)):
        loss = numbers["loss"].clone() if numbers["loss_is_tensor"] else float(numbers["loss"])
        norm_sq = None if "scale" not in own else second.vectors.dot(own["g"], own["g"])
        norms = {name: float(numbers[name]) for name in ("grad_norm", "gg")}
        known = Point(own["x"], loss, loss, Gradient(own["g"], norm_sq), **norms)
    second.method.load(numbers, vectors, known)
    second.vectors.load(numbers)
    second.vectors.scale = own.get("scale")
    second.failures = int(numbers["failures"])
    second.promise_checked = bool(int(numbers["promise_checked"]))
    second.known, second.at_known = known, bool(int(numbers.get("at_known", 0)))
