"""The contestants, by name, each as the loop drives it.

    adam           torch.optim.Adam
    adam_cosine    the same, its learning rate falling to 0 along a cosine over the budget
    sgd            torch.optim.SGD, without momentum as in FUSE's reference code
    sgd_momentum   the same with momentum 0.9
    adam_sgd       Adam for half of the budget, then SGD with `second_lr`
    lbfgs          fuse_lib.LBFGS
    torch_lbfgs    torch.optim.LBFGS as the reference code sets it: history 10, max_iter 20, max_eval 4, strong Wolfe
    adam_lbfgs     Adam, from `switchover` on torch_lbfgs on the same minibatches, with nothing handed over. Its further
                   settings make it the rule that the reference code runs
    fuse_pv        fuse_lib.FusePV
    fuse           fuse_lib.Fuse, for θ schedules

Learning rates without a value are those of the reference code. They are no tuned ones: whoever compares tunes each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from fuse_lib.optim import LBFGS, Fuse, FusePV

if TYPE_CHECKING:
    from fuse_lib.lab.settings import Settings

Closure = Callable[[], Tensor]


class Driver:
    """A torch optimizer as the loop sees it.

    phase, theta: of the coming step. stop_reason: why the last one says that going on is of no use, or None.
    """

    stop_reason: str | None = None

    def __init__(self, opt: Optimizer, scheduler: object = None, phase: str = "first_order") -> None:
        self.opt, self.scheduler, self.phase = opt, scheduler, phase
        self.theta = 1.0 if phase == "first_order" else 0.0

    def step(self, closure: Closure) -> Tensor:
        """One step. Returns the closure's value at its start."""
        loss = self.opt.step(closure)
        if self.scheduler is not None:
            self.scheduler.step()
        return loss


class OneAfterTheOther(Driver):
    """The first optimizer for `steps` steps, then the second, which starts knowing nothing."""

    def __init__(self, first: Optimizer, second: Optimizer, steps: int) -> None:
        super().__init__(first)
        self.second, self.left = second, steps

    def step(self, closure: Closure) -> Tensor:
        if self.left == 0:
            self.opt = self.second
        self.left -= 1
        return super().step(closure)


class TorchLBFGS(Driver):
    """torch's L-BFGS. Where a closure raises, torch leaves the parameters anywhere; here they go back to the start."""

    def __init__(self, opt: torch.optim.LBFGS) -> None:
        super().__init__(opt, phase="second_order")

    def step(self, closure: Closure) -> Tensor:
        params = [p for group in self.opt.param_groups for p in group["params"]]
        start = [p.detach().clone() for p in params]
        try:
            return super().step(closure)
        except BaseException:
            with torch.no_grad():
                torch._foreach_copy_(params, start)
            raise


class AdamThenLBFGS(Driver):
    """`steps` steps of Adam; then L-BFGS, or with `loss_below` L-BFGS whenever the last minibatch's loss is below it.

    latched: once L-BFGS, always L-BFGS. Otherwise each step decides anew, and Adam goes on where it was.
    reevaluate: after a step of L-BFGS the closure is called once more, and that value is the minibatch's loss. Else the
        loss is the one at the step's start, as in Adam's steps.
    """

    def __init__(
        self, adam: Optimizer, lbfgs: TorchLBFGS, steps: int, loss_below: float | None, latched: bool, reevaluate: bool
    ) -> None:
        super().__init__(adam)
        self.lbfgs, self.left, self.loss_below = lbfgs, steps, loss_below
        self.latched, self.reevaluate = latched, reevaluate
        self._decide(math.inf)

    def step(self, closure: Closure) -> Tensor:
        if self.phase == "first_order":
            loss = super().step(closure)
        else:
            loss = self.lbfgs.step(closure)
            if self.reevaluate:
                loss = closure()
        self.left -= 1
        self._decide(loss)
        return loss

    def _decide(self, loss: Tensor | float) -> None:
        if self.left > 0 or (self.latched and self.phase == "second_order"):
            return
        second = self.loss_below is None or bool(loss < self.loss_below)  # NaN is not below
        self.phase, self.theta = ("second_order", 0.0) if second else ("first_order", 1.0)


class Ours(Driver):
    """Fuse, FusePV or LBFGS of this library, which know their phase.

    A stop reason on a minibatch speaks of that batch only, so it is passed on for a full batch alone.
    """

    def __init__(self, opt: Fuse, full_batch: bool) -> None:
        self.opt, self.full_batch = opt, full_batch

    @property
    def phase(self) -> str:
        return self.opt.phase

    @property
    def theta(self) -> float:
        return self.opt.theta

    @property
    def stop_reason(self) -> str | None:
        report = self.opt.last_step
        if not self.full_batch or report is None or report.phase != "second_order":
            return None
        final = report.stop_reason in ("converged", "no_progress", "non_finite") or report.evals == 0
        return report.stop_reason if final else None

    def step(self, closure: Closure) -> Tensor:
        return self.opt.step(closure)


@dataclass(frozen=True)
class Contestant:
    """One optimizer.

    make: (parameters, settings, train rows) → Driver.
    takes: the settings that only some optimizers know, with their values where none is given.
    """

    make: Callable[[list, Settings, int], Driver]
    takes: Mapping[str, object] = field(default_factory=dict)


def _adam(params: list, s: Settings, rows: int) -> Driver:
    return Driver(torch.optim.Adam(params, lr=s.lr, **s.options))


def _adam_cosine(params: list, s: Settings, rows: int) -> Driver:
    opt = torch.optim.Adam(params, lr=s.lr, **s.options)
    return Driver(opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, s.steps(rows)))


def _sgd(params: list, s: Settings, rows: int) -> Driver:
    return Driver(torch.optim.SGD(params, lr=s.lr, **s.options))


def _sgd_momentum(params: list, s: Settings, rows: int) -> Driver:
    return Driver(torch.optim.SGD(params, lr=s.lr, **{"momentum": 0.9, **s.options}))


def _adam_sgd(params: list, s: Settings, rows: int) -> Driver:
    adam = torch.optim.Adam(params, lr=s.lr, **s.options)
    return OneAfterTheOther(adam, torch.optim.SGD(params, lr=s.second_lr), s.steps(rows) // 2)


def _lbfgs(params: list, s: Settings, rows: int) -> Driver:
    full = s.batch_rows(rows) == rows
    return Ours(LBFGS(params, lr=s.lr, full_batch=full, **_second_phase(s), **s.options), full)


def _torch_lbfgs(params: list, s: Settings, rows: int) -> Driver:
    given = {"max_iter": 20, "max_eval": 4, "line_search_fn": "strong_wolfe", **s.options}
    return TorchLBFGS(torch.optim.LBFGS(params, lr=s.lr, history_size=s.history_size, **given))


def _adam_lbfgs(params: list, s: Settings, rows: int) -> Driver:
    kind, _, steps = s.rule(rows).partition(":")
    assert kind == "step", s.switchover  # Settings allows no other
    adam = torch.optim.Adam(params, lr=s.lr)
    lbfgs = _torch_lbfgs(params, dataclasses.replace(s, lr=s.second_lr), rows)
    return AdamThenLBFGS(adam, lbfgs, int(steps), s.loss_below, s.latched, s.reevaluate)


def _fuse(kind: type[Fuse]) -> Callable[[list, Settings, int], Driver]:
    def make(params: list, s: Settings, rows: int) -> Driver:
        # The promise is about the second phase. But pairs are collected in the first one, and under the promise
        # they would be taken between different minibatches; so with minibatches there, it is given without pairs only.
        full = s.batch_rows(rows, "second_order") == rows
        full = full and (s.batch_rows(rows) == rows or s.handover in ("none", "metric"))
        given = {"switchover": s.rule(rows), "handover": s.handover, **_second_phase(s), **s.options}
        return Ours(kind(params, lr=s.lr, full_batch=full, **given), full)

    return make


def _second_phase(s: Settings) -> dict[str, object]:
    return {"history_size": s.history_size, "inner_steps": s.inner_steps, "max_evals": s.max_evals}


_SECOND = {"history_size": 10, "inner_steps": 1, "max_evals": 25}
_FUSE = {"lr": 1e-3, "switchover": "budget:0.5", "handover": "pairs", **_SECOND, "second_batch": None}
_ADAM_LBFGS = {"lr": 1e-3, "second_lr": 1.0, "switchover": "budget:0.5", "history_size": 10, "loss_below": None,
               "latched": True, "reevaluate": False}  # fmt: skip

CONTESTANTS: dict[str, Contestant] = {
    "adam": Contestant(_adam, {"lr": 1e-3}),
    "adam_cosine": Contestant(_adam_cosine, {"lr": 1e-3}),
    "sgd": Contestant(_sgd, {"lr": 1e-2}),
    "sgd_momentum": Contestant(_sgd_momentum, {"lr": 1e-2}),
    "adam_sgd": Contestant(_adam_sgd, {"lr": 1e-3, "second_lr": 1e-2}),
    "lbfgs": Contestant(_lbfgs, {"lr": 1.0, **_SECOND}),
    "torch_lbfgs": Contestant(_torch_lbfgs, {"lr": 1.0, "history_size": 10}),
    "adam_lbfgs": Contestant(_adam_lbfgs, _ADAM_LBFGS),
    "fuse_pv": Contestant(_fuse(FusePV), _FUSE),
    "fuse": Contestant(_fuse(Fuse), _FUSE),
}
SOME_TAKE = (
    "lr", "second_lr", "switchover", "handover", "history_size", "inner_steps", "max_evals", "second_batch",
    "loss_below", "latched", "reevaluate",
)  # fmt: skip


def in_steps(switchover: str, rows: int, batch: int, steps: int) -> str:
    """A switchover string of the lab as one of the library.

    `passes:P` is `step:K` with the K of P passes over the train set, `budget:F` that of the share F of the budget.
    Any other is the library's own.

    rows: of the train set. batch: rows of a first-phase step. steps: first-phase steps in the whole budget.

    Raises:
        ValueError: the number is none, or out of range.

    >>> in_steps("passes:3", rows=1000, batch=100, steps=200), in_steps("budget:0.5", rows=1000, batch=100, steps=200)
    ('step:30', 'step:100')
    """
    kind, _, number = switchover.partition(":")
    if kind not in ("passes", "budget"):
        return switchover
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    most = 1.0 if kind == "budget" else math.inf
    if not (0.0 <= value <= most and value < math.inf):
        allowed = "budget:F with 0 ≤ F ≤ 1" if kind == "budget" else "passes:P with P ≥ 0"
        raise ValueError(f"switchover: got {switchover!r}; allowed is {allowed}")
    return f"step:{round(value * (steps if kind == 'budget' else rows // batch))}"


def make(params: Iterable, settings: Settings, rows: int) -> Driver:
    """The settings' optimizer on these parameters, for a train set of so many rows.

    Raises:
        TypeError, ValueError: of the optimizer's own, for an option it does not know or allow.
    """
    return CONTESTANTS[settings.optimizer].make(list(params), settings, rows)
