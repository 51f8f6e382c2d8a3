"""Adam's learning rate for notebook 00: which is best for its budget, with and without cosine decay.

    OMP_NUM_THREADS=1 python benchmarks/learning_rates_00.py     writes data/results/00_learning_rates.csv

Each row is one run of the notebook's problem (an MLP on the bundled Fashion-MNIST sample, full batch, a
penalty of 1e-3/2 ‖w‖²) with 300 gradient evaluations. FUSE-PV is run over the same learning rates, with its
switch where the notebook has it, so that nobody is tuned more than the others. L-BFGS alone has no learning
rate to tune; its rows have lr = 1, the first trial step. The last digits depend on the number of threads.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from provenance import provenance

from fuse_lib import LBFGS, FusePV, data, models

RATES = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
SEEDS = range(5)
BUDGET, SWITCH = 300, 100
OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "00_learning_rates.csv"


def run(sample: data.Dataset, optimizer: str, lr: float, seed: int) -> dict:
    model = models.build("mlp", in_shape=sample.in_shape, seed=seed)
    if optimizer == "FUSE-PV":
        opt = FusePV(model.parameters(), lr=lr, switchover=f"step:{SWITCH}", full_batch=True)
    elif optimizer == "L-BFGS":
        opt = LBFGS(model.parameters(), lr=lr, full_batch=True)
    else:
        opt = torch.optim.Adam(model.parameters(), lr=lr)
    cosine = optimizer == "Adam, cosine"
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, BUDGET) if cosine else None
    evals = 0

    def objective() -> torch.Tensor:
        penalty = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(model(sample.x_train), sample.y_train) + 1e-3 / 2 * penalty

    def closure() -> torch.Tensor:
        nonlocal evals
        evals += 1
        opt.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    start = time.perf_counter()
    while evals < BUDGET:
        opt.step(closure)
        if scheduler is not None:
            scheduler.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        accuracy = (model(sample.x_test).argmax(1) == sample.y_test).float().mean().item()
        loss = objective().item()
    return {
        "optimizer": optimizer, "lr": lr, "seed": seed, "evals": evals, "samples": evals * len(sample.x_train),
        "seconds": round(seconds, 2), "train_loss": loss, "test_accuracy": round(accuracy, 4),
    }  # fmt: skip


if __name__ == "__main__":
    sample = data.load("fashion-mnist-sample")
    settings = [(name, lr) for name in ("Adam", "Adam, cosine", "FUSE-PV") for lr in RATES] + [("L-BFGS", 1.0)]
    rows = []
    for optimizer, lr in settings:
        rows += [run(sample, optimizer, lr, seed) for seed in SEEDS]
        print(f"{optimizer} at {lr}: done", flush=True)
    table = pd.DataFrame(rows).assign(**provenance())
    table.to_csv(OUT, index=False)
    print(table.groupby(["optimizer", "lr"])[["train_loss", "test_accuracy", "seconds"]].mean())
