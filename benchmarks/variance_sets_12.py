"""The five sets of notebook 12 as `Softmax` problems, and their minima from float64."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from tables import RESULTS, append, origin, read

from fuse_lib import LBFGS, data
from fuse_lib.recipes import Softmax, Spent

MINIMA = RESULTS / "12_minima.csv"
# Design was done on the first two only.
SETS = ("usps", "mnist", "kmnist", "fashion-mnist", "cifar10")
BATCH = {"usps": 32, "kmnist": 32, "fashion-mnist-sample": 32}  # else 128: some 230 to 470 steps a pass
TOLERANCE = 1e-7
# Of the train rows the first so many, which is what the time allowed; an empty dict takes all of them.
ROWS = {"fashion-mnist": 20_000, "cifar10": 20_000}


def batch(name: str) -> int:
    return BATCH.get(name, 128)


@functools.lru_cache(maxsize=1)
def rows(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y): pixels in [0, 1], flat. CIFAR-10 is averaged over 2x2 pixels to 16x16: a quarter of the cost."""
    some = data.load(name).take(train=ROWS.get(name))
    x = some.x_train
    if name == "cifar10":
        x = F.avg_pool2d(x.add(1).div(2), 2)
    return x.flatten(1).contiguous(), some.y_train


def problem(name: str, passes: float = math.inf, least: float = 1e-5) -> Softmax:
    return Softmax(*rows(name), minimum(name), passes=passes, least=least)


def minimum(name: str) -> float:
    """f*, of a float64 run of L-BFGS until ‖∇f‖²/(2λ), which bounds the gap where the bias is at its best, is below
    TOLERANCE · f."""
    known = read(MINIMA)
    if not len(known) or name not in set(known.dataset):
        x, y = rows(name)
        f = Softmax(x.double(), y, passes=6000)
        opt, bound = LBFGS(f.params, history_size=100, scaling="adaptive", full_batch=True), math.inf
        loss = 0.0
        try:
            while bound > TOLERANCE * loss and opt.step(f.batch_closure) is not None:
                loss, bound = opt.last_step.loss, opt.last_step.grad_norm**2 / (2 * f.penalty)
                if opt.last_step.stop_reason in ("converged", "no_progress"):
                    break
        except Spent:
            pass
        append(MINIMA, [{"dataset": name, "rows": f.rows, "d": x.shape[1], "minimum": loss, "bound": bound,
                         "evaluations": f.samples // f.rows, **origin()}])  # fmt: skip
        known = read(MINIMA)
    return float(known.minimum[known.dataset == name].iloc[-1])
