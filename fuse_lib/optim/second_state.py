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
    held = second.history.S is not None or second.known is not None
    return held or second.failures > 0 or second.promise_checked or second.vectors.scale is not None


def state(second: SecondOrder) -> tuple[dict[str, object], dict[str, Tensor]]:
    """(numbers and small tensors, vectors by name). The names depend on the settings only."""
    history, known = second.history, second.known
    chained = history.staged is not None and known is not None and known.pair is history.staged
    of_g = torch.zeros(history.size + 1, 2, **HOST)
    if second.of_g is not None:
        of_g = torch.tensor(second.of_g, **HOST).view(-1, 2)
    numbers = {
        **history.state(),
        **second.vectors.state(),
        "failures": second.failures,
        "promise_checked": second.promise_checked,
        "has_pair": history.staged is not None,
        "chained": chained,
        "of_g": of_g,
    }
    vectors = {}
    if history.S is not None:
        vectors |= {"S": history.S, "Y": history.Y}
    if second.vectors.scale is not None:
        vectors["scale"] = second.vectors.scale
    if second.full_batch:
        loss = 0.0 if known is None else known.loss
        as_tensor = isinstance(loss, Tensor)  # a float is no tensor of the parameters' dtype; see _eps
        numbers |= {"has_known": known is not None, "at_known": second.at_known, "loss_is_tensor": as_tensor}
        numbers["loss"] = loss if as_tensor else torch.tensor(loss, **HOST)
        numbers["grad_norm"] = math.nan if known is None else known.grad_norm
        numbers["gg"] = math.nan if known is None else known.gg
        vectors["x"] = _nothing(second) if known is None else known.x
        vectors["g"] = _nothing(second) if known is None else known.gradient.vector
    return numbers, vectors


def _nothing(second: SecondOrder) -> Tensor:
    """A place to load a vector into: a tensor of its own each time, for it may be filled in place."""
    return torch.zeros(second.vectors.numel, dtype=second.vectors.dtype, device=second.vectors.device)


def load(second: SecondOrder, numbers: dict, vectors: dict[str, Tensor]) -> None:
    """Take over a state, by copying. ValueError where it does not fit; then nothing is changed."""
    of_g = numbers["of_g"]
    if tuple(of_g.shape) != (second.history.size + 1, 2):
        raise ValueError(f"state_dict: its of_g has shape {tuple(of_g.shape)}; allowed is (history_size + 1, 2)")
    second.history.load(numbers, vectors.get("S"), vectors.get("Y"), bool(int(numbers["has_pair"])))
    like = {"dtype": second.vectors.dtype, "device": second.vectors.device}
    own = {name: v.to(**like, copy=True) for name, v in vectors.items() if name not in ("S", "Y")}
    second.vectors.load(numbers)
    second.failures = int(numbers["failures"])
    second.promise_checked = bool(int(numbers["promise_checked"]))
    second.vectors.scale = own.get("scale")
    second.known, second.at_known = None, bool(int(numbers.get("at_known", 0)))
    second.of_g = of_g.to(**HOST).reshape(-1).tolist()
    second.looks = 0
    if second.full_batch and int(numbers.get("has_known", 0)):
        loss = numbers["loss"].clone() if numbers["loss_is_tensor"] else float(numbers["loss"])
        norm_sq = None if second.vectors.scale is None else second.vectors.dot(own["g"], own["g"])
        gradient = Gradient(own["g"], norm_sq)
        norms = {name: float(numbers[name]) for name in ("grad_norm", "gg")}
        second.known = Point(own["x"], loss, loss, gradient, **norms)
        second.known.pair = second.history.staged if int(numbers["chained"]) else None
