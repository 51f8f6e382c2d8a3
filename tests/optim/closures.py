"""Random closures: functions of any few parameters, nice and nasty, and what may go wrong in a call of one.

A `Closure` is deterministic: what it does in its n-th call at given parameters depends on nothing else. So a
run can be repeated from a checkpoint, with noise, faults and all, and has to give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

INF, NAN, HUGE, TINY = math.inf, math.nan, 1e38, 1e-38


class Stop(Exception):
    """What a closure raises."""


def ramp(v: Tensor, condition: float) -> Tensor:
    return torch.logspace(0, math.log10(condition), v.numel(), dtype=v.dtype)


# ---- functions of one vector, float32 or float64
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": lambda v: ((v - 1) ** 2).sum(),
    "ill-conditioned": lambda v: (ramp(v, 1e8) * (v - 1) ** 2).sum(),
    "rosenbrock": lambda v: (100 * (v[1:] - v[:-1] ** 2) ** 2).sum() + ((1 - v) ** 2).sum(),
    "quartic": lambda v: ((v - 1) ** 4).sum(),
    "logcosh": lambda v: torch.log(torch.cosh(v - 1)).sum(),
    "waves": lambda v: torch.sin(3 * v).sum() + 0.1 * (v**2).sum(),
    "saddle": lambda v: (v**4).sum() - (v**2).sum(),
    "exp": lambda v: torch.exp(40 * v).sum(),
    "root": lambda v: v.abs().sqrt().sum(),
    "kink": lambda v: v.abs().sum(),
    "max": lambda v: torch.cat([v, v.new_zeros(1)]).max() + 0.1 * v.abs().sum(),
    "relu": lambda v: torch.relu(v - 0.3).sum(),
    "jump": lambda v: (v**2).sum() + torch.where(v < 0.5, 5.0, 0.0).sum(),
    "stairs": lambda v: torch.floor(3 * v).sum() + 0.1 * v.sum(),
    "hash": lambda v: (1e4 * torch.sin(1e4 * v)).frac().sum(),
    "wall of nan": lambda v: torch.where(v < 0.5, NAN, v**2).sum(),
    "wall of inf": lambda v: torch.where(v < 0.5, INF, v**2).sum(),
    "hole of -inf": lambda v: torch.where(v < 0.5, -INF, v**2).sum(),
    "log": lambda v: v.sum() - torch.log(v).sum(),
    "constant": lambda v: 0.0 * v.sum() + 3.0,
    "zero": lambda v: 0.0 * v.sum(),
    "flat": lambda v: torch.tanh(1e-6 * v).sum() + 1.0,
    "saturated": lambda v: torch.sigmoid(100 * v).sum(),
    "linear": lambda v: 1e3 * v.sum(),
    "faint": lambda v: 1e-12 * v.sum(),
    "concave": lambda v: -(v**2).sum(),
    "1e30": lambda v: 1e30 * ((v - 1) ** 2).sum(),
    "1e38": lambda v: HUGE * torch.tanh(v).mean(),
    "1e-30": lambda v: 1e-30 * ((v - 1) ** 2).sum(),
    "1e-38": lambda v: TINY * ((v - 1) ** 2).sum(),
    "far": lambda v: 1e-30 * ((v - 1e20) ** 2).sum(),
    "offset": lambda v: 1e10 + ((v - 1) ** 2).sum(),
    "nan": lambda v: NAN * v.sum(),
    "-inf": lambda v: -INF * (v**2).sum(),
}


# ---- what is done to the gradients in every call: (closure, gradients that are there)
def lies(closure, grads):
    for g in grads:
        g.neg_()


def noisy(closure, grads):
    for g in grads:
        g += torch.randn(g.shape, generator=closure.random(), dtype=g.dtype)


def random(closure, grads):
    for g in grads:
        g.copy_(torch.randn(g.shape, generator=closure.random(), dtype=g.dtype))


def times(factor):
    def scale(closure, grads):
        for g in grads:
            g.mul_(factor)

    return scale


def first_is_missing(closure, grads):
    closure.params[0].grad = None


def only_first(closure, grads):
    for p in closure.params[1:]:
        p.grad = None


def alternating(closure, grads):
    closure.params[closure.calls % len(closure.params)].grad = None


def none_at_all(closure, grads):
    for p in closure.params:
        p.grad = None


def another_layout(closure, grads):
    """Not contiguous, as a gradient of a transposed product is."""
    for p in closure.params:
        if p.grad is not None and p.dim() > 1:
            p.grad = p.grad.t().contiguous().t()


GRADIENTS = {
    "true": lambda closure, grads: None, "lies": lies, "noisy": noisy, "random": random,
    "times 1e3": times(1e3), "times 1e-3": times(1e-3), "times 0": times(0.0), "times 1e30": times(1e30),
    "first is missing": first_is_missing, "only first": only_first, "alternating": alternating,
    "none at all": none_at_all, "another layout": another_layout,
}  # fmt: skip


# ---- what happens in one call: (closure, loss, gradients) → what is returned
def one_entry(value):
    def fault(closure, loss, grads):
        for g in grads[:1]:
            if g.numel():
                g[(0,) * g.dim()] = value
        return loss

    return fault


def every_entry(value):
    def fault(closure, loss, grads):
        for g in grads:
            g.fill_(value)
        return loss

    return fault


def raising(error):
    def fault(closure, loss, grads):
        raise error("from the closure")

    return fault


def dropped(closure, loss, grads):
    none_at_all(closure, grads)
    return loss


FAULTS = {
    "raise": raising(Stop), "interrupt": raising(KeyboardInterrupt), "string": lambda c, loss, g: "loss",
    "nan": lambda c, loss, g: loss * NAN, "inf": lambda c, loss, g: loss.new_tensor(INF),
    "-inf": lambda c, loss, g: -INF, "huge": lambda c, loss, g: loss.new_tensor(HUGE),
    "-huge": lambda c, loss, g: loss.new_tensor(-HUGE), "float huge": lambda c, loss, g: 1e300,
    "tiny": lambda c, loss, g: loss * TINY, "zero": lambda c, loss, g: 0.0,
    "one nan": one_entry(NAN), "one inf": one_entry(-INF), "nan gradient": every_entry(NAN),
    "huge gradient": every_entry(HUGE), "tiny gradient": every_entry(TINY), "zero gradient": every_entry(0.0),
    "no gradient": dropped,
}  # fmt: skip

RETURNED: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda loss: loss,
    "detached": lambda loss: loss.detach(),
    "float": lambda loss: loss.item(),
    "1-element": lambda loss: loss.reshape(1),
    "bfloat16": lambda loss: loss.bfloat16(),
}


@dataclass
class Closure:
    """A closure over `params`.

    function, gradients, returned: names in the tables above. fault, at: in call number `at` (from 1) this goes
    wrong; at = 0: in every call. amplitude: of noise that is added to the loss. set_to_none: how .grad is cleared.
    wide: whether the loss is computed in float64.
    calls, seen: how often it was called, and (parameters, the loss returned) of each call that returned one.
    """

    params: list[Tensor]
    function: str
    gradients: str = "true"
    returned: str = "tensor"
    fault: str | None = None
    at: int = 0
    amplitude: float = 0.0
    set_to_none: bool = True
    wide: bool = True
    seed: int = 0
    calls: int = 0
    seen: list[tuple[list[Tensor], float]] = field(default_factory=list)

    def honest(self) -> bool:
        """Whether it is one function of the parameters, and its gradients are that function's."""
        true = self.gradients in ("true", "another layout") and self.returned != "bfloat16"
        return true and self.fault is None and not self.amplitude

    def over(self, params: list[Tensor]) -> Closure:
        """The same over other parameters."""
        return replace(self, params=params, calls=0, seen=[])

    def random(self) -> torch.Generator:
        """A generator for the present call."""
        return torch.Generator().manual_seed(1000 * self.seed + self.calls)

    def value(self) -> Tensor:
        """The loss without faults and noise, 0-d."""
        dtype = torch.float64 if self.wide else torch.float32
        pieces = [torch.view_as_real(p) if p.is_complex() else p for p in self.params]
        return FUNCTIONS[self.function](torch.cat([1.0 * p.reshape(-1).to(dtype) for p in pieces]))

    def __call__(self) -> object:
        self.calls += 1
        for p in self.params:
            if self.set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = torch.zeros_like(p.grad)
        loss = self.value()
        if loss.requires_grad:
            loss.backward()
        grads = [p.grad for p in self.params if p.grad is not None]
        if self.amplitude:
            loss = loss + self.amplitude * torch.randn((), generator=self.random(), dtype=loss.dtype)
        GRADIENTS[self.gradients](self, grads)
        value = RETURNED[self.returned](loss)
        if self.fault is not None and self.at in (0, self.calls):
            grads = [p.grad for p in self.params if p.grad is not None]
            value = FAULTS[self.fault](self, loss.detach(), grads)
        if not isinstance(value, str):
            value_read = value.detach() if isinstance(value, Tensor) else value
            self.seen.append((position(self.params), float(value_read)))
        return value


def position(params: list[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def finite(a: list[Tensor]) -> bool:
    return all(bool(p.isfinite().all()) for p in a)
