"""Peak memory of L-BFGS beyond parameters and gradients, and what a narrower history costs in time.

    OMP_NUM_THREADS=1 python benchmarks/memory.py     appends rows to bench_memory.csv and bench_bfloat16.csv

Memory: a process of its own for each row, on Linux. It makes parameters (one tensor of d float32), gradients and a
closure that writes into them in place, calls the closure, and notes its resident size; then it makes steps until the
history has been full for three. What its peak lies above the noted size is the optimizer's: history, vectors, and
whatever it needs for a moment. In units of d float32 numbers. "expected" is 2·m·d of the history dtype and 6·d.

Time: as in iteration.py, in turns in one process, an iteration with a history in bfloat16 beside one in float32.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from iteration import measure
from tables import RESULTS, append, origin

from fuse_lib import LBFGS

OUT, TIMES = RESULTS / "bench_memory.csv", RESULTS / "bench_bfloat16.csv"
SIZES = [(1_000_000, 10), (5_000_000, 20)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CONTESTANTS = ["torch, float32", "full batch, float32", "full batch, bfloat16", "minibatch, float32"]
TIMED = [(100_000, 20, 40), (1_000_000, 20, 15), (5_000_000, 20, 7)]


class Closure:
    """½ Σ a_i x_i² and its gradient, which allocate nothing."""

    def __init__(self, d: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.nn.Parameter(torch.randn(d, generator=generator))
        self.x.grad = torch.zeros(d)
        self.a = torch.rand(d, generator=generator).mul_(4).sub_(2).mul_(2.302585).exp_()  # 1e-2 … 1e2

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        torch.mul(self.a, self.x, out=self.x.grad)
        return 0.5 * torch.dot(self.x.grad, self.x.detach())


def optimizer(who: str, x: torch.nn.Parameter, m: int) -> torch.optim.Optimizer:
    kind, dtype = who.split(", ")
    if kind == "torch":
        options = {"max_iter": 1, "max_eval": 50, "line_search_fn": "strong_wolfe"}
        return torch.optim.LBFGS([x], history_size=m, tolerance_grad=0, tolerance_change=0, **options)
    return LBFGS([x], history_size=m, full_batch=kind == "full batch", history_dtype=DTYPES[dtype])


def resident(key: str) -> int:
    """Bytes: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def peak(who: str, d: int, m: int) -> float:
    """Units of d float32 numbers. To be called in a fresh process, whose peak it takes."""
    small = Closure(1000)  # loads what is loaded at first use
    opt = optimizer(who, small.x, m)
    for _ in range(3):
        opt.step(small)
    closure = Closure(d)
    closure()
    before, peak_before = resident("VmRSS"), resident("VmHWM")
    opt = optimizer(who, closure.x, m)
    for _ in range(m + 3):
        opt.step(closure)
    after = resident("VmHWM")
    if after <= peak_before:
        raise RuntimeError(f"d: got {d}; allowed is one whose steps need more than the process had needed before them")
    return (after - before) / (4 * d)


def expected(who: str, m: int) -> float:
    size = DTYPES[who.split(", ")[1]].itemsize / 4
    return 2 * m * size + 6


def memory() -> None:
    for d, m in SIZES:
        for who in CONTESTANTS:
            command = [sys.executable, __file__, "--peak", who, str(d), str(m)]
            units = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            row = {"contestant": who, "d": d, "m": m, "peak": round(units, 2), "expected": expected(who, m),
                   "peak / expected": round(units / expected(who, m), 3)}  # fmt: skip
            append(OUT, [row | origin()])
            print(row, flush=True)


def times() -> None:
    for d, m, repeats in TIMED:
        makers = {name: lambda x, who=f"full batch, {name}", m=m: optimizer(who, x, m) for name in DTYPES}
        ms = measure(d, m, repeats, makers)
        row = {"d": d, "m": m, **{f"{name} ms": round(ms[name], 4) for name in DTYPES},
               "bfloat16 / float32": round(ms["bfloat16"] / ms["float32"], 2)}  # fmt: skip
        append(TIMES, [row | origin()])
        print(row, flush=True)


if __name__ == "__main__":
    if "--peak" in sys.argv:
        print(peak(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        memory()
        times()
