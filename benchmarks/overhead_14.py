"""The time of a whole training step, and how much of it is the optimizer's, over batch size and model size.

    OMP_NUM_THREADS=1 python benchmarks/overhead_14.py     appends rows to data/results/bench_overhead.csv

A step is closure (forward and backward) and optimizer. The model is an MLP with tanh units, 784 inputs and 10 classes;
the rows are random and the same at every step, so that each contestant's function stays the same and line searches do
what they do in training. Loss: cross-entropy with smoothed labels, which has a minimum to go to.

Contestants: Adam; FUSE-PV before and after its switch (Adam's last M steps are the pairs it begins with), with
`full_batch=True` and, "minibatch", without; torch's L-BFGS, one iteration a step, strong Wolfe. History full.
In turns, step by step, in one process, each with a model of its own; medians of REPEATS steps.

The closure's time is taken inside the step, on a GPU by events, which do not make the host wait; what is left of the
step is the optimizer's. "floor ms": two matrix-vector products with a (2·M, d) matrix. "copy GB/s": read and written
by a copy of 64 million bytes or more. Sizes that would take too long (a closure above SLOW seconds) or too much memory
are left out. On the device that there is: the GPU, or else the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from tables import RESULTS, append, origin

from fuse_lib import FusePV, lab, models

OUT = RESULTS / "bench_overhead.csv"
M, REPEATS, SLOW = 10, 7, 0.45
BATCHES = (32, 128, 512, 2048, 8192)
HIDDEN = ((64, 32), (512, 256), (1536, 768))  # 0.05, 0.5 and 2.4 million parameters
ON_GPU = ((4096, 4096), (8192, 8192))  # and 20 and 74 million
SECOND = {"switchover": f"step:{M + 1}", "history_size": M}
TORCHS = {"max_iter": 1, "max_eval": 50, "line_search_fn": "strong_wolfe", "tolerance_grad": 0, "tolerance_change": 0}
CONTESTANTS: dict[str, Callable] = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "FUSE-PV, first phase": lambda p: FusePV(p, 1e-3, switchover="step:1000000"),
    "FUSE-PV, second phase": lambda p: FusePV(p, 1e-3, full_batch=True, **SECOND),
    "FUSE-PV, second phase, minibatch": lambda p: FusePV(p, 1e-3, **SECOND),
    "torch L-BFGS": lambda p: torch.optim.LBFGS(p, history_size=M, **TORCHS),
}
WARM_UP = M + 4  # steps of each: then the history is full


class Watch:
    """Seconds of pieces of work on a device. On a GPU they are read at the end, so that nobody waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device.type == "cuda"
        self.pieces: list[tuple] = []

    def now(self):
        if not self.gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def add(self, start, end) -> None:
        self.pieces.append((start, end))

    def take(self) -> float:
        """The seconds since the last call, added up. The device has to be done."""
        pieces, self.pieces = self.pieces, []
        return sum(1e-3 * a.elapsed_time(b) if self.gpu else b - a for a, b in pieces)


class Run:
    """One contestant with its model. step() → (seconds of a step, of the closures in it, their number)."""

    def __init__(self, make: Callable, hidden: tuple[int, ...], x: torch.Tensor, y: torch.Tensor) -> None:
        self.model = models.build("mlp", seed=0, hidden=hidden, activation=torch.nn.Tanh).to(x.device)
        self.opt = make(self.model.parameters())
        self.x, self.y, self.watch, self.evals = x, y, Watch(x.device), 0

    def closure(self) -> torch.Tensor:
        start = self.watch.now()
        self.opt.zero_grad()
        loss = F.cross_entropy(self.model(self.x), self.y, label_smoothing=0.1)
        loss.backward()
        self.watch.add(start, self.watch.now())
        self.evals += 1
        return loss

    def step(self) -> tuple[float, float, int]:
        wait(self.x.device)
        self.evals, start = 0, time.perf_counter()
        self.opt.step(self.closure)
        wait(self.x.device)
        seconds = time.perf_counter() - start
        report = getattr(self.opt, "last_step", None)
        if report is not None and report.stop_reason:
            raise RuntimeError(f"a step of the second phase ended early ({report.stop_reason}); take fewer repeats")
        return seconds, self.watch.take(), self.evals


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rows(batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(batch, 1, 28, 28) inputs, some pixels a hundred times weaker than others, and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 784, generator=generator) * torch.logspace(-2, 0, 784)
    y = torch.randint(10, (batch,), generator=generator)
    return x.view(batch, 1, 28, 28).to(device), y.to(device)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """The median time of some work on a device."""
    times = []
    for _ in range(repeats + 2):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def rates(d: int, device: torch.device) -> dict[str, float]:
    """What the device's memory allows: GB/s of a copy, and the floor of an L-BFGS iteration in ms."""
    size = max(d, 16_000_000)
    copy = seconds(partial(torch.zeros(size, device=device).copy_, torch.zeros(size, device=device)), device)
    pairs, v, c = (torch.randn(*shape, device=device) for shape in ((2 * M, d), (d,), (2 * M,)))
    out = torch.empty(d, device=device)
    floor = seconds(lambda: (torch.mv(pairs, v), torch.mv(pairs.T, c, out=out)), device)
    return {"floor ms": round(1e3 * floor, 4), "copy GB/s": round(8e-9 * size / copy, 2)}


def measure(hidden: tuple[int, ...], batch: int, device: torch.device, repeats: int = REPEATS) -> list[dict]:
    """A row for each contestant."""
    x, y = rows(batch, device)
    runs = {name: Run(make, hidden, x, y) for name, make in CONTESTANTS.items()}
    told: dict[str, list[tuple]] = {name: [] for name in runs}
    for repeat in range(WARM_UP + repeats):
        for name in list(runs)[:: 1 if repeat % 2 else -1]:
            told[name].append(runs[name].step())
    d, found = models.num_parameters(runs["Adam"].model), []
    for name, steps in told.items():
        steps = steps[-repeats:]
        step, closure, optimizer = (
            statistics.median(1e3 * take(s) for s in steps)
            for take in (lambda s: s[0], lambda s: s[1] / s[2], lambda s: s[0] - s[1])
        )
        found.append({"d": d, "batch": batch, "m": M, "contestant": name, "step ms": round(step, 4),
                      "evaluation ms": round(closure, 4), "optimizer ms": round(optimizer, 4),
                      "evals": statistics.median(s[2] for s in steps)})  # fmt: skip
    return found


def fits(d: int, device: torch.device) -> bool:
    """Whether all contestants' memory, about 100 vectors at M = 10, is at most half of what is free on a GPU."""
    return device.type != "cuda" or 4 * d * 100 <= torch.cuda.mem_get_info(device)[0] / 2


def peak(name: str, hidden: tuple[int, ...], device: torch.device) -> float | None:
    """On a GPU: the most memory of an optimizer's steps beyond the closure's, in vectors of d float32 numbers."""
    if device.type != "cuda":
        return None
    x, y = rows(32, device)
    run = Run(CONTESTANTS[name], hidden, x, y)
    run.closure()
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(WARM_UP):
        run.step()
    return round((torch.cuda.max_memory_allocated(device) - before) / (4 * models.num_parameters(run.model)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    about = origin() | {"device": lab.provenance(device)["device"]}
    for hidden in HIDDEN + (ON_GPU if device.type == "cuda" else ()):
        d = models.num_parameters(models.build("mlp", hidden=hidden))
        if not fits(d, device):
            print(f"d = {d:,}: left out, it needs too much memory", flush=True)
            continue
        floor = rates(d, device)
        peaks = {name: peak(name, hidden, device) for name in CONTESTANTS}
        for batch in BATCHES:
            probe = Run(CONTESTANTS["Adam"], hidden, *rows(batch, device))
            probe.step()
            if (evaluation := probe.step()[1]) > SLOW:
                print(f"d = {d:,}, batch = {batch}: left out, a closure takes {evaluation:.2f} s", flush=True)
                break
            found = [row | floor | {"peak vectors": peaks[row["contestant"]]} for row in measure(hidden, batch, device)]
            append(OUT, [row | about for row in found])
            for row in found:
                print({key: row[key] for key in ("d", "batch", "contestant", "step ms", "optimizer ms", "evals")},
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
