"""The time of one L-BFGS iteration beside torch's, and beside what the memory's bandwidth allows.

    python benchmarks/iteration.py [--threads N]     appends rows to data/results/bench_iteration.csv

f = ½ Σ a_i x_i² in float32, its gradient written by hand; the closure's own time is taken off. History full. torch's
LBFGS does one iteration a step (max_iter=1, strong Wolfe). In turns, in one process; medians. "full batch" is
`LBFGS(full_batch=True)`, "minibatch" without it: then the products with y need a third pass over the history. The
floor is two matrix-vector products with a (2m, d) matrix.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from tables import RESULTS, append, origin

from fuse_lib import LBFGS

OUT = RESULTS / "bench_iteration.csv"
SIZES = [
    (10_000, 10, 60),
    (10_000, 20, 60),
    (10_000, 50, 40),
    (10_000, 100, 30),
    (100_000, 10, 30),
    (100_000, 20, 30),
    (100_000, 100, 15),
    (1_000_000, 20, 11),
    (5_000_000, 20, 7),
]


class Closure:
    """The quadratic, with its own time and calls counted."""

    def __init__(self, d: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.nn.Parameter(torch.randn(d, generator=generator))
        self.a = torch.logspace(-2, 2, d)[torch.randperm(d, generator=generator)]
        self.calls, self.seconds = 0, 0.0

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        start = time.perf_counter()
        x = self.x.detach()
        self.x.grad = self.a * x
        loss = 0.5 * torch.dot(self.x.grad, x)
        self.calls, self.seconds = self.calls + 1, self.seconds + time.perf_counter() - start
        return loss


def contestants(m: int) -> dict:
    torchs = {"max_iter": 1, "max_eval": 50, "history_size": m, "line_search_fn": "strong_wolfe"}
    return {
        "torch": lambda x: torch.optim.LBFGS([x], **torchs, tolerance_grad=0, tolerance_change=0),
        "full batch": lambda x: LBFGS([x], history_size=m, full_batch=True),
        "minibatch": lambda x: LBFGS([x], history_size=m),
    }


def measure(d: int, m: int, repeats: int, makers: dict) -> dict[str, float]:
    """Milliseconds by contestant, and of the floor. makers: the parameter → an optimizer of it, by name."""
    runs = {}
    for name, make in makers.items():
        closure = Closure(d)
        runs[name] = (make(closure.x), closure)
    times: dict[str, list[float]] = {name: [] for name in [*runs, "floor"]}
    rows, v, c, out = torch.randn(2 * m, d), torch.randn(d), torch.randn(2 * m), torch.empty(d)
    for repeat in range(m + 3 + repeats):
        for name, (opt, closure) in runs.items():
            closure.seconds, start = 0.0, time.perf_counter()
            opt.step(closure)
            times[name].append(1e3 * (time.perf_counter() - start - closure.seconds))
            report = getattr(opt, "last_step", None)
            if report is not None and report.stop_reason:
                raise RuntimeError(f"d = {d}, m = {m}: {name} stopped ({report.stop_reason}); take fewer repeats")
        if repeat >= m + 3:
            start = time.perf_counter()
            torch.mv(rows, v)
            torch.mv(rows.T, c, out=out)
            times["floor"].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(some[-repeats:]) for name, some in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    for d, m, repeats in SIZES:
        ms = measure(d, m, repeats, contestants(m))
        row = {"d": d, "m": m, **{f"{name} ms": round(value, 4) for name, value in ms.items()},
               "torch / full batch": round(ms["torch"] / ms["full batch"], 2),
               "full batch / floor": round(ms["full batch"] / ms["floor"], 2)}  # fmt: skip
        append(OUT, [row | origin()])
        print(row, flush=True)


if __name__ == "__main__":
    main()
