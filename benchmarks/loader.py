"""Rows per second of the lab's loop, where a minibatch is an index, beside a plain DataLoader loop.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/loader.py     appends rows to data/results/bench_loader.csv

MNIST's 60,000 images as float32 tensors, the same model, batch, Adam and closure for both; one pass each in turns, in
one process; medians. The DataLoader is plain: DataLoader(TensorDataset(x, y), batch, shuffle=True, drop_last=True).
"draw" is a pass that fetches the batches and does nothing with them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
from provenance import provenance
from torch.utils.data import DataLoader, TensorDataset

from fuse_lib import data, models
from fuse_lib.lab import Settings, optimizers
from fuse_lib.lab.batches import Batches
from fuse_lib.lab.objective import Objective

OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "bench_loader.csv"
PASSES = 7
CASES = [("linear", 128), ("linear", 512), ("mlp", 128), ("mlp", 512)]


def sources(sets: data.Dataset, batch: int) -> dict[str, Callable[[], Iterable]]:
    """name → a function that returns one pass of batches."""
    batches = Batches(sets.x_train, sets.y_train, seed=0)
    loader = DataLoader(TensorDataset(sets.x_train, sets.y_train), batch, shuffle=True, drop_last=True)
    return {
        "lab": lambda: (batches.draw(batch) for _ in range(len(sets.x_train) // batch)),
        "DataLoader": lambda: loader,
    }


def training(sets: data.Dataset, model: str, batch: int) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A step of the lab on a batch."""
    net = models.build(model, sets.in_shape, 10, seed=0)
    objective = Objective(net, budget=10**12, l2=0.0, chunk=10_000)
    settings = Settings(dataset=sets.name, model=model, optimizer="adam", batch=batch)
    driver = optimizers.make(objective.params, settings, len(sets.x_train))
    return lambda x, y: driver.step(objective.closure(x, y))


def measure(sets: data.Dataset, model: str, batch: int) -> dict[str, float]:
    """Rows per second by name: of the whole loop, and of drawing alone."""
    rows = len(sets.x_train) // batch * batch
    loops = {}
    for name, source in sources(sets, batch).items():
        loops[name] = (source, training(sets, model, batch))
        loops[f"{name}, draw"] = (source, lambda x, y: None)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(1 + PASSES):
        for name, (source, step) in loops.items():
            start = time.perf_counter()
            for x, y in source():
                step(x, y)
            seconds[name].append(time.perf_counter() - start)
    return {name: rows / statistics.median(some[1:]) for name, some in seconds.items()}


def main() -> None:
    sets = data.load("mnist")
    for model, batch in CASES:
        speed = measure(sets, model, batch)
        row = {"dataset": "mnist", "model": model, "batch": batch,
               **{f"{name} rows/s": round(value) for name, value in speed.items()},
               "lab / DataLoader": round(speed["lab"] / speed["DataLoader"], 2),
               "draw: lab / DataLoader": round(speed["lab, draw"] / speed["DataLoader, draw"], 2),
               **provenance()}  # fmt: skip
        pd.DataFrame([row]).to_csv(OUT, mode="a", header=not OUT.exists(), index=False)
        print(row, flush=True)


if __name__ == "__main__":
    main()
