"""The time of a first-phase step beside the same torch optimizer alone.

    OMP_NUM_THREADS=1 python benchmarks/first_phase.py     appends rows to data/results/bench_first_phase.csv

`Fuse(switchover="step:1000000", handover="both")`: a rule that reads no values, far from its switch. 100 tensors,
gradients preset, a closure that returns a constant tensor. In turns, step by step, in one process, each with parameters
of its own; medians.
"""

from __future__ import annotations

import statistics
import time

import torch
from tables import RESULTS, append, origin

from fuse_lib import Fuse

OUT = RESULTS / "bench_first_phase.csv"
TENSORS = 100
SIZES = [(1_000_000, 400), (10_000_000, 60)]
FIRST_ORDER = {
    "Adam": (torch.optim.Adam, {}),
    "Adam, foreach": (torch.optim.Adam, {"foreach": True}),
    "Adam, fused": (torch.optim.Adam, {"fused": True}),
    "SGD, momentum": (torch.optim.SGD, {"momentum": 0.9}),
}


def parameters(d: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    found = [torch.nn.Parameter(torch.randn(d // TENSORS, generator=generator)) for _ in range(TENSORS)]
    for p in found:
        p.grad = torch.randn(d // TENSORS, generator=generator)
    return found


def measure(name: str, d: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a step: of torch's optimizer alone, and of Fuse's first phase with it."""
    cls, options = FIRST_ORDER[name]
    loss = torch.tensor(1.0)
    optimizers = {
        "torch": cls(parameters(d), lr=1e-3, **options),
        "fuse": Fuse(parameters(d), 1e-3, switchover="step:1000000", first_order=cls, first_order_args=options,
                     handover="both"),
    }  # fmt: skip
    times: dict[str, list[float]] = {who: [] for who in optimizers}
    for repeat in range(5 + repeats):
        for who in list(optimizers)[:: 1 if repeat % 2 else -1]:
            start = time.perf_counter()
            optimizers[who].step(lambda: loss)
            times[who].append(1e3 * (time.perf_counter() - start))
    return {who: statistics.median(some[5:]) for who, some in times.items()}


def main() -> None:
    for d, repeats in SIZES:
        for name in FIRST_ORDER:
            ms = measure(name, d, repeats)
            row = {"first_order": name, "d": d, "tensors": TENSORS, "torch ms": round(ms["torch"], 4),
                   "fuse ms": round(ms["fuse"], 4), "fuse / torch": round(ms["fuse"] / ms["torch"], 3)}  # fmt: skip
            append(OUT, [row | origin()])
            print(row, flush=True)


if __name__ == "__main__":
    main()
