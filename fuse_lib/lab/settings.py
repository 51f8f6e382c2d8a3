"""The settings of one run, checked when they are made, and its name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fuse_lib.lab.optimizers import CONTESTANTS, SOME_TAKE, in_steps
from fuse_lib.models import MODELS
from fuse_lib.optim.handover import MODES
from fuse_lib.optim.switchover import AtStep, parse

FULL = "full"  # of batch and second_batch: all train rows
SEEDS = 2**63  # torch's generators take twice as many, but a number is added to some
BUDGETS = ("evaluations", "epochs")


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's rows but for `seconds` (on one kind of machine, with one number of threads).

    dataset: a name of `fuse_lib.data`. model: one of `fuse_lib.models`. optimizer: one of `lab.CONTESTANTS`.
    seed: decides the initial parameters and the order of the rows.
    passes: the budget of gradient evaluations, in passes over the train set; no run exceeds it.
    budget_in: what the budget counts: "evaluations", or "epochs": there a minibatch counts once, however often it is
        evaluated, and an epoch has as many whole minibatches as fit. Runs of one budget then differ in cost.
    batch: rows of a gradient evaluation, or "full". What is left of a pass, fewer rows than that, is dropped.
    points: how many evaluation points there are after the start, equally spaced in what the budget counts.

    lr: the learning rate; of lbfgs and torch_lbfgs the first trial step.
    second_lr: of adam_sgd's second half; of adam_lbfgs the first trial step.
    switchover: of fuse_pv and fuse: a string of `fuse_lib.switchover`, or `passes:P` or `budget:F`, a switch after P
        passes or the share F of the budget. Of adam_lbfgs: one of these two, or `step:K`.
    loss_below, latched, reevaluate: of adam_lbfgs: see `AdamThenLBFGS` in optimizers.py.
    handover, history_size, inner_steps, max_evals: as in `fuse_lib.Fuse`.
    second_batch: rows of a gradient evaluation in the second phase, or "full"; None: `batch`. With "full", an iteration
        mostly costs one evaluation where handover is "none" or "metric", or batch is "full", too. Otherwise
        each step evaluates its start anew; inner_steps=10 makes ten iterations of one start.
    options: what else the optimizer's class takes (of adam_lbfgs: L-BFGS's). model_options: what else the model takes.

    l2: λ of a penalty λ/2 ‖w‖² over all parameters, part of the training objective.
    model_seed: of the initial parameters, where they are not to follow `seed`.
    train_rows: only so many of the first train rows. holdout: so many of the last train rows take the place of the test
        part, for choosing settings. None: all, none.
    loss_rows: train_loss and grad_norm are those of so many of the first train rows. None: of all.
    chunk: rows that go through the model at once. A larger batch is summed up in pieces (of which batch norm sees
        each for itself); results differ in the last digits only.
    eval_after: the model is in evaluation mode after so many epochs' minibatches, in training, too; so batch norm's
        means and variances stay as they are. None: in training mode throughout.
    fresh_norm: measure with batch norm's means and variances taken anew over the `loss_rows` at the present parameters.
        The running ones lag behind them, which spoils what is measured where steps are few or long. The training is
        the same.
    channels_last: lay the images out with the channels last; a convolution's output follows its input. The parameters
        stay as they are, for torch's L-BFGS takes no others.

    Settings that an optimizer does not know must be None; those it knows and that are None get its own value.

    Raises:
        ValueError: a value that is not allowed; the message names it.

    >>> run = Settings(dataset="digits", model="linear", optimizer="fuse_pv", lr=1e-2)
    >>> run.run_id, run.switchover, run.history_size
    ('27b711cef873', 'budget:0.5', 10)
    >>> Settings(optimizer="adam", history_size=10)
    Traceback (most recent call last):
    ...
    ValueError: history_size: got 10; adam does not know it. It takes lr
    """

    dataset: str = "fashion-mnist-sample"
    model: str = "mlp"
    optimizer: str = "adam"
    seed: int = 0
    passes: float = 10.0
    batch: int | str = 512
    points: int = 20
    lr: float | None = None
    second_lr: float | None = None
    switchover: str | None = None
    handover: str | None = None
    history_size: int | None = None
    inner_steps: int | None = None
    max_evals: int | None = None
    second_batch: int | str | None = None
    loss_below: float | None = None
    latched: bool | None = None
    reevaluate: bool | None = None
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    model_options: Mapping[str, object] = field(default_factory=dict, hash=False)
    l2: float = 0.0
    model_seed: int | None = None
    train_rows: int | None = None
    holdout: int | None = None
    loss_rows: int | None = 10_000
    chunk: int = 2048
    channels_last: bool = False
    budget_in: str = "evaluations"
    eval_after: float | None = None
    fresh_norm: bool = False

    def __post_init__(self) -> None:
        _one_of("model", self.model, MODELS)
        _one_of("optimizer", self.optimizer, CONTESTANTS)
        takes = CONTESTANTS[self.optimizer].takes
        for name in SOME_TAKE:
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, takes.get(name))
            elif name not in takes:
                raise ValueError(f"{name}: got {value!r}; {self.optimizer} does not know it. It takes "
                                 f"{', '.join(takes)}")  # fmt: skip
        _check(isinstance(self.dataset, str) and self.dataset != "", "dataset", self.dataset, "a name")
        for name, least in (("seed", 0), ("points", 1), ("chunk", 1)):
            _integer(name, getattr(self, name), least)
        for name in ("model_seed", "train_rows", "holdout", "loss_rows", "history_size", "inner_steps", "max_evals"):
            least = {"model_seed": 0, "max_evals": 2}.get(name, 1)
            if getattr(self, name) is not None:
                _integer(name, getattr(self, name), least)
        for name in ("seed", "model_seed"):
            value = getattr(self, name)
            _check(value is None or value < SEEDS, name, value, "an integer ≥ 0, below 2⁶³")
        for name in ("batch", "second_batch"):
            value = getattr(self, name)
            if value is not None and value != FULL:
                _integer(name, value, 1, f" or {FULL!r}")
        for name in ("passes", "lr", "second_lr", "l2", "loss_below", "eval_after"):
            value = getattr(self, name)
            if value is not None:
                _number(name, value, zero=name in ("l2", "eval_after"))
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one run
        for name in ("options", "model_options"):
            _mapping(name, getattr(self, name))
            object.__setattr__(self, name, dict(getattr(self, name)))
        for name in ("channels_last", "fresh_norm", "latched", "reevaluate"):
            value = getattr(self, name)
            _check(isinstance(value, bool) or (value is None and name in SOME_TAKE and name not in takes),
                   name, value, "True or False")  # fmt: skip
        _one_of("budget_in", self.budget_in, BUDGETS)
        if self.latched is False and self.loss_below is None:
            raise ValueError("latched: got False; allowed without loss_below is True")
        if self.handover is not None:
            _one_of("handover", self.handover, MODES)
        if self.switchover is not None:
            _check(isinstance(self.switchover, str), "switchover", self.switchover, "a string")
            rule = parse(in_steps(self.switchover, 1, 1, 1))
            if self.optimizer == "fuse_pv" and not rule.hard:
                raise ValueError(f"switchover: got {self.switchover!r}, which blends; allowed for fuse_pv is a hard "
                                 "rule. Use fuse")  # fmt: skip
            if self.optimizer == "adam_lbfgs" and not isinstance(rule, AtStep):
                raise ValueError(f"switchover: got {self.switchover!r}; allowed for adam_lbfgs is passes:P, budget:F "
                                 "or step:K")  # fmt: skip

    @property
    def run_id(self) -> str:
        """The run's name: twelve hex digits of a hash of all settings that differ from their defaults.

        So a setting that is added later, with a default that means what was done before, renames nothing.
        """
        given = {name: value for name, value in self.as_dict().items() if value != _DEFAULTS[name]}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, object]:
        """All settings by name; `Settings(**…)` makes the same again."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def batch_rows(self, rows: int, phase: str = "first_order") -> int:
        """Rows of a gradient evaluation in that phase, of a train set of so many rows.

        Raises:
            ValueError: the batch is larger than the train set.
        """
        second = phase == "second_order" and self.second_batch is not None
        name, batch = ("second_batch", self.second_batch) if second else ("batch", self.batch)
        if batch == FULL:
            return rows
        _check(batch <= rows, name, batch, f"at most {rows}, the train rows, or {FULL!r}")
        return batch

    def budget(self, rows: int) -> int:
        """The budget in samples, for a train set of so many rows: evaluated, or (`budget_in`) drawn.

        Raises:
            ValueError: it does not pay for one evaluation.
        """
        whole = rows if self.budget_in == "evaluations" else rows - rows % self.batch_rows(rows)
        budget = round(self.passes * whole)
        _check(budget >= self.batch_rows(rows), "passes", self.passes, "a budget of one batch at least")
        return budget

    def steps(self, rows: int) -> int:
        """First-order steps in the budget, for a train set of so many rows."""
        return self.budget(rows) // self.batch_rows(rows)

    def eval_steps(self, rows: int) -> float:
        """Steps after which the model is in evaluation mode, for a train set of so many rows; inf: never."""
        return math.inf if self.eval_after is None else round(self.eval_after * (rows // self.batch_rows(rows)))

    def rule(self, rows: int) -> str:
        """`switchover` as the library knows it, for a train set of so many rows."""
        return in_steps(self.switchover, rows, self.batch_rows(rows), self.steps(rows))


_DEFAULTS = {
    f.name: {} if f.default is dataclasses.MISSING else f.default for f in dataclasses.fields(Settings)
}  # fmt: skip


def from_dict(given: Mapping[str, object]) -> Settings:
    """Settings from a file's keys and values.

    Raises:
        ValueError: an unknown key, or a value that is not allowed.

    >>> from_dict({"optimiser": "adam"})
    Traceback (most recent call last):
    ...
    ValueError: optimiser: no such setting (did you mean 'optimizer'?); allowed is dataset, model, optimizer, ...
    """
    check_keys(given)
    return Settings(**given)


def check_keys(given: Mapping[str, object], others: tuple[str, ...] = ()) -> None:
    """ValueError where a key is neither a setting nor one of `others`."""
    import difflib

    allowed = [*_DEFAULTS, *others]
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"{key}: no such setting{hint}; allowed is {', '.join(allowed)}")


def _one_of(name: str, value: object, allowed: Mapping | tuple) -> None:
    _check(isinstance(value, str) and value in allowed, name, value, f"one of {', '.join(allowed)}")


def _integer(name: str, value: object, least: int, otherwise: str = "") -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _check(ok, name, value, f"an integer ≥ {least}{otherwise}")


def _number(name: str, value: object, zero: bool) -> None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    _check(ok and (zero or value > 0), name, value, f"a finite number {'≥' if zero else '>'} 0")


def _mapping(name: str, value: object) -> None:
    ok = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    try:
        json.dumps(dict(value))
    except (TypeError, ValueError):
        ok = False
    _check(ok, name, value, "a table of names and plain values (numbers, strings, true, false, lists)")


def _check(ok: bool, name: str, got: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name}: got {got!r}; allowed is {allowed}")
