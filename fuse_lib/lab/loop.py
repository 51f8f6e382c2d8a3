"""One run: settings → rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from fuse_lib import data, models
from fuse_lib.lab import optimizers
from fuse_lib.lab.batches import Batches
from fuse_lib.lab.objective import Objective, Spent
from fuse_lib.lab.provenance import provenance
from fuse_lib.lab.settings import Settings

Row = dict[str, object]
COLUMNS = (
    "run_id", "dataset", "unofficial", "model", "optimizer", "seed", "evals", "samples", "seconds", "phase", "theta",
    "train_loss", "grad_norm", "test_loss", "test_accuracy", "test_accuracy_500",
    "status",
)  # fmt: skip


class Result(NamedTuple):
    """A run's rows, keys as in COLUMNS, and about: its settings, its machine, its versions, its speed."""

    rows: list[Row]
    about: dict[str, object]


def run(
    settings: Settings,
    *,
    dataset: data.Dataset | None = None,
    device: str | torch.device = "cpu",
    on_row: Callable[[list[Row]], object] | None = None,
) -> Result:
    """Train once.

    dataset: in the place of the one that the settings name, already loaded; train_rows and holdout are applied to it.
    device: "auto" is a GPU where there is one.
    on_row: called with all rows so far after each new one.

    A row tells, at an evaluation point, counted from the start:
        evals, samples    gradient evaluations, and the rows they were on: the cost
        seconds           of the steps; what the evaluation point itself takes is not counted
        phase, theta      of the last step (in the first row: of the coming one)
        train_loss        the objective, penalty included, on `loss_rows` train rows, the model in evaluation mode
        grad_norm         ‖·‖ of its gradient
        test_loss, test_accuracy    mean cross-entropy, and share of right answers, on the whole test part
        test_accuracy_500           the share on the first 500 test rows, which is what FUSE's reference code reports
        status            "running"; in the last row "spent" (the budget), "diverged" (the train loss is not finite),
                          "converged" or "no_progress" (full batch: the second phase can do no more)

    Raises:
        ValueError: settings that do not fit the data or the optimizer.
        DataNotFound, DataDamaged: of `fuse_lib.data.load`.

    >>> rows, about = run(Settings(dataset="digits", model="linear", optimizer="adam", lr=1e-2, batch=100, passes=5))
    >>> rows[-1]["samples"], rows[-1]["status"], rows[0]["train_loss"] > rows[-1]["train_loss"]
    (7100, 'spent', True)
    """
    device = _device(device)
    sets = _prepared(dataset or _loaded(settings.dataset, os.environ.get("FUSE_DATA"), str(device)), settings)
    rows_of_train = len(sets.x_train)
    seed = settings.seed if settings.model_seed is None else settings.model_seed
    model = models.build(settings.model, sets.in_shape, len(sets.classes), seed=seed, **settings.model_options)
    model = model.to(device).train()
    budget = settings.budget(rows_of_train) if settings.budget_in == "evaluations" else math.inf
    objective = Objective(model, budget, settings.l2, settings.chunk)
    driver = optimizers.make(objective.params, settings, rows_of_train)

    started, training = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), _Training(objective, driver, settings, sets)
    who = {"run_id": settings.run_id, "dataset": settings.dataset, "unofficial": sets.unofficial,
           "model": settings.model, "optimizer": settings.optimizer, "seed": settings.seed}  # fmt: skip
    rows: list[Row] = []
    for point in training.points():
        rows.append({**who, **point})
        if on_row is not None:
            on_row(rows)
    about = {
        "run_id": settings.run_id, "status": rows[-1]["status"], "settings": settings.as_dict(),
        "parameters": models.num_parameters(model), "rows_train": rows_of_train, "rows_test": len(sets.x_test),
        "unofficial": sets.unofficial, "source": sets.source, "started": started, "seconds": rows[-1]["seconds"],
        "rows_per_second": objective.samples / rows[-1]["seconds"] if rows[-1]["seconds"] else None,
        **provenance(device),
    }  # fmt: skip
    return Result(rows, about)


class _Training:
    """The loop. `points` yields what is measured at each evaluation point."""

    def __init__(self, objective: Objective, driver: optimizers.Driver, settings: Settings, sets: data.Dataset) -> None:
        self.objective, self.driver, self.settings, self.sets = objective, driver, settings, sets
        self.batches = Batches(sets.x_train, sets.y_train, settings.seed)
        self.seconds, self.budget = 0.0, settings.budget(len(sets.x_train))
        self.steps = self.drawn = 0  # minibatches so far, and the rows in them
        self.eval_steps = settings.eval_steps(len(sets.x_train))
        self.last = {"phase": driver.phase, "theta": driver.theta}

    def points(self) -> Iterator[Row]:
        status = "running"
        yield self.measure(status)
        while status == "running":
            status = self.until_next_point()
            point = self.measure(status)
            status = point["status"]
            yield point

    def until_next_point(self) -> str:
        """Steps until the next evaluation point is reached, or the end. Returns the run's status."""
        points = self.settings.points
        due = self.spent * points // self.budget + 1  # the number of the next point
        _wait(self.device)
        start = time.perf_counter()
        try:
            while self.spent * points < due * self.budget:
                if not self.affordable():
                    return "spent"
                self.step()
                if self.driver.stop_reason is not None:
                    return _END.get(self.driver.stop_reason, self.driver.stop_reason)
        except Spent:  # in the middle of a step; the optimizers then put the parameters back
            return "spent"
        finally:
            _wait(self.device)
            self.seconds += time.perf_counter() - start
        return "running" if self.affordable() else "spent"

    def affordable(self) -> bool:
        """Whether the budget pays for one more evaluation, or minibatch."""
        return self.spent + self.batch_rows() <= self.budget

    @property
    def spent(self) -> int:
        """How much of the budget, in samples."""
        return self.objective.samples if self.settings.budget_in == "evaluations" else self.drawn

    def batch_rows(self) -> int:
        return self.settings.batch_rows(len(self.sets.x_train), self.driver.phase)

    def step(self) -> None:
        self.last = {"phase": self.driver.phase, "theta": self.driver.theta}
        if self.steps == self.eval_steps:
            self.objective.model.eval()
        x, y = self.batches.draw(self.batch_rows())
        self.driver.step(self.objective.closure(x, y))
        self.steps, self.drawn = self.steps + 1, self.drawn + len(x)

    def measure(self, status: str) -> Row:
        few = slice(self.settings.loss_rows)
        x, y = self.sets.x_train[few], self.sets.y_train[few]
        with self.objective.fresh_norm(x) if self.settings.fresh_norm else contextlib.nullcontext():
            train_loss, grad_norm = self.objective.train_loss(x, y)
            test_loss, accuracy, accuracy_500 = self.objective.test(self.sets.x_test, self.sets.y_test)
        return {
            "evals": self.objective.evals, "samples": self.objective.samples, "seconds": round(self.seconds, 6),
            **self.last, "train_loss": train_loss, "grad_norm": grad_norm, "test_loss": test_loss,
            "test_accuracy": accuracy, "test_accuracy_500": accuracy_500,
            "status": status if math.isfinite(train_loss) else "diverged",
        }  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.sets.x_train.device


_END = {"non_finite": "diverged"}


@functools.lru_cache(maxsize=2)
def _loaded(name: str, folder: str | None, device: str) -> data.Dataset:
    """A data set, kept for the next run. folder: FUSE_DATA, which decides what is found."""
    return data.load(name, device=device)


def _prepared(sets: data.Dataset, s: Settings) -> data.Dataset:
    """The rows that the settings want, in their layout."""
    if s.holdout is not None:
        sets = sets.holdout(s.holdout)
    if s.train_rows is not None:
        sets = sets.take(train=s.train_rows)
    if s.channels_last:
        wanted = {name: getattr(sets, name).to(memory_format=torch.channels_last) for name in ("x_train", "x_test")}
        sets = dataclasses.replace(sets, **wanted)
    return sets


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given: before the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
