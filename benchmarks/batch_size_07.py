"""Notebook 07: batch sizes 32, 128, 512 and 2048 with DenseNet on CIFAR-10.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/batch_size_07.py [--only runs variance] [--workers 1]

makes data/results/07_runs.csv (a row a run: its end), 07_curves.csv (a row an evaluation point), 07_tuning.csv (what
was tried and chosen) and 07_variance.csv (how noisy gradients and directions are). What is finished is kept in
build/07/ and not made again, so a killed script goes on where it was. `--show` prints what the tables say.

**The scale.** The net is that of FUSE's reference code: depth 5, which gives no dense layer, 4,682 parameters. On
32x32 images a gradient of 512 rows takes 0.2 to 0.35 s on one core. There were 40 minutes of one core for all, so
the 96 runs could have made some 40 such gradients each, or 10 of 2,048 rows. Instead each image is averaged over 2x2
pixels to 16x16, a quarter of the cost: ROWS train rows, PASSES passes: 192 gradients of 512 rows, 48 of 2,048.
(`--side 32` takes the images as they are; `--rows` and `--passes` set the rest. All stand in the tables.) Training on
16x16 has no published figure to compare with, and CIFAR-10 itself lacks 77 train and 21 test images here: `unofficial`
in each row.

**Runs.** The budget is PASSES over the train rows, in samples of gradient evaluations, at every batch size: larger
batches make fewer steps. Adam, Adam with cosine decay and FUSE-PV are each tuned at each batch size over the same
number of learning rates, by the accuracy on HELD_OUT train rows that they do not train on, with another seed. FUSE-PV
spends half of its budget on Adam and half on L-BFGS on minibatches of the same size (m = 10, Adam's last ten pairs
handed over, at most 4 evaluations a step as in the reference code). Collecting these pairs costs one more evaluation
in each of the ten steps: at 2,048 rows that is a fifth of the budget. Seeds: the reference's 0, 1, 2, 42, and 3.

Losses and accuracies are measured with batch norm's means and variances taken anew (`fresh_norm`): the running ones,
which the reference code and most others use, lag behind the parameters by some ten steps, and at 48 steps a run that
decides the accuracy. Notebook 07 shows both.

**Variance.** For each seed of WATCHED a run of Adam (lr 3e-3, batch 512) is stopped at three points. There:

- the population is its first POPULATION train rows, and the reference gradient g is that of all of them in one batch.
  Minibatches of b rows are drawn from it *with* replacement, so that the variance of a mean over rows is exactly 1/b.
- the displacements s_1 … s_10 are Adam's last ten steps, for all batch sizes the same. A pair's y_i is the difference
  of two gradients of *one* minibatch B_i, at both ends of s_i, each i with a minibatch of its own (as FUSE-PV's
  handover collects them). A pair without positive curvature is left out, as `fuse_lib.optim.history` does. The
  reference direction p = −Hg has all rows in every place.
- `kind` says what is noisy: `gradient`: g itself; `gradient in the direction`: −H g_b, the pairs those of all rows;
  `pairs in the direction`: −H_b g, the gradient that of all rows; `both`: −H_b g_b, what a minibatch L-BFGS step does;
  `two-batch pairs`: as `pairs in the direction`, but y_i is between gradients of two different minibatches, as an
  L-BFGS that is given a new minibatch at each step makes them.
- `error` is the mean of ‖v − v_ref‖² / ‖v_ref‖², `error_median` its median; `variance` is the scatter about the mean
  of the v themselves in the same units (unbiased); what `error` is more than that is bias. Batch norm makes a bias even
  in the gradient, for it takes means and variances of its batch. `cosine` is the mean of cos(v, v_ref), `descent` the
  share of the v along which the loss on all rows falls, vᵀg > 0 of a gradient, vᵀg < 0 of a direction; `kept` the mean
  number of pairs of ten that had sᵀy > 0, `curvature_error` the root mean square of (s_iᵀy_i − ref)/|ref| over pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from small_images import cifar10
from tables import replace
from torch import Tensor

from fuse_lib import data, lab, models
from fuse_lib.lab.batches import Batches
from fuse_lib.lab.records import Folder
from fuse_lib.optim.direction import compact

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "data" / "results"
KEPT = ROOT / "build" / "07"

BATCHES = (32, 128, 512, 2048)
CONTESTANTS = ("adam", "adam_cosine", "fuse_pv")
RATES = {32: (1e-3, 3e-3, 1e-2), 128: (3e-3, 1e-2, 3e-2), 512: (3e-3, 1e-2, 3e-2), 2048: (1e-2, 3e-2, 1e-1)}
SIDE, ROWS, PASSES, HELD_OUT = 16, 16_384, 6, 2_048
TUNING, REPORTED = 100, (0, 1, 2, 42, 3)
M = 10
POPULATION, TRAJECTORY = 4_096, {"lr": 3e-3, "batch": 512}
WATCHED = (0, 1, 2)  # seeds of the trajectories
AT = (24, 64, 128)  # steps of Adam
DRAWS = {32: (32, 8), 128: (32, 8), 512: (24, 6), 2048: (8, 3)}  # gradients, sets of ten pairs; large ones take long
KINDS = ("gradient", "gradient in the direction", "pairs in the direction", "both", "two-batch pairs")


# ---- runs
def settings(args: argparse.Namespace, optimizer: str, batch: int, lr: float, seed: int, tuning: bool) -> lab.Settings:
    given = {"holdout": HELD_OUT, "points": 1, "loss_rows": 512} if tuning else {"points": 4, "loss_rows": 2048}
    if optimizer == "fuse_pv":
        given |= {"switchover": "budget:0.5", "handover": "pairs", "history_size": M, "max_evals": 4}
    return lab.Settings(
        dataset=args.dataset, model="densenet", model_options={"depth": 5}, channels_last=True, fresh_norm=True,
        optimizer=optimizer, batch=batch, lr=lr, seed=seed, train_rows=args.rows, passes=args.passes, **given,
    )  # fmt: skip


def runs(args: argparse.Namespace) -> None:
    """Tune, run what was chosen on the reported seeds, write three tables."""
    size = {"side": args.side, "rows": args.rows, "passes": args.passes}
    cells = [(optimizer, batch) for batch in BATCHES for optimizer in CONTESTANTS]
    tried = {(*cell, lr): settings(args, *cell, lr, TUNING, True) for cell in cells for lr in RATES[cell[1]]}
    ends = lab.grid([*tried.values()], KEPT, workers=args.workers).groupby("run_id").tail(1).set_index("run_id")
    tuning = pd.DataFrame([
        {**size, "batch": batch, "optimizer": optimizer, "lr": lr, "seed": TUNING,
         "held_out_accuracy": ends.loc[run.run_id, "test_accuracy"], "held_out_loss": ends.loc[run.run_id, "test_loss"]}
        for (optimizer, batch, lr), run in tried.items()
    ])  # fmt: skip
    scores = tuning.fillna({"held_out_accuracy": 0.0}).groupby(["batch", "optimizer"])["held_out_accuracy"]
    tuning["chosen"] = tuning.index.isin(scores.idxmax())
    chosen = tuning[tuning["chosen"]].set_index(["optimizer", "batch"])["lr"]
    made = {(*cell, seed): settings(args, *cell, float(chosen[cell]), seed, False) for cell in cells
            for seed in args.seeds}  # fmt: skip
    rows = lab.grid([*made.values()], KEPT, workers=args.workers)
    who = pd.DataFrame([
        {**size, "run_id": run.run_id, "batch": batch, "lr": run.lr} for (_, batch, _), run in made.items()
    ])  # fmt: skip
    rows = who.merge(rows.assign(unofficial=True), on="run_id")
    told = ["run_id", "started", "fuse_lib", "commit", "torch", "python", "machine", "processor", "threads"]
    ends = rows.groupby("run_id", sort=False).tail(1)
    ends = ends.merge(Folder(KEPT).about(ends["run_id"])[told], on="run_id")  # of the run's own time
    curves = ["evals", "samples", "seconds", "phase", "train_loss", "grad_norm", "test_loss", "test_accuracy"]
    replace(OUT / "07_tuning.csv", tuning, [*size])
    replace(OUT / "07_runs.csv", ends, [*size])
    replace(OUT / "07_curves.csv", rows[[*size, "batch", "optimizer", "lr", "seed", *curves]].round(6), [*size])


# ---- variance
class Landscape:
    """Gradients of one net on one set of rows, as vectors."""

    def __init__(self, model: torch.nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.x, self.y = model.train(), x, y
        self.params = [*model.parameters()]

    @property
    def here(self) -> Tensor:
        """The parameters, (d,)."""
        return torch.cat([p.detach().flatten() for p in self.params])

    def gradient(self, at: Tensor, rows: Tensor) -> Tensor:
        """At the parameters `at`, on these rows, the model in training mode, (d,) float64."""
        torch.nn.utils.vector_to_parameters(at, self.params)
        loss = F.cross_entropy(self.model(self.x[rows]), self.y[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.params)]).double()


def trajectory(args: argparse.Namespace, sets: data.Dataset, seed: int) -> dict[int, Tensor]:
    """Step of `args.at` → the last M + 1 points of Adam's path up to it, (M + 1, d)."""
    model = models.build("densenet", sets.in_shape, len(sets.classes), seed=seed, depth=5)
    landscape = Landscape(model, sets.x_train, sets.y_train)
    batches = Batches(sets.x_train, sets.y_train, seed)
    opt = torch.optim.Adam(landscape.params, lr=TRAJECTORY["lr"])
    path = [landscape.here]
    for _ in range(max(args.at)):
        x, y = batches.draw(TRAJECTORY["batch"])
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
        path.append(landscape.here)
    return {step: torch.stack(path[step - M : step + 1]) for step in args.at}


def direction(s: Tensor, y: Tensor, g: Tensor) -> tuple[Tensor, int]:
    """(−Hg, how many pairs had positive curvature). s, y: (m, d), oldest first; g: (d,); all float64."""
    sy = (s * y).sum(1)
    kept = sy > 10 * torch.finfo(torch.float32).eps * s.norm(dim=1) * y.norm(dim=1)
    s, y = s[kept], y[kept]
    if not len(s):
        return -g, 0
    c = compact(s @ y.T, y @ y.T, s @ g, y @ g, float(g @ g))
    return c.s @ s + c.y @ y + c.g * g, len(s)


def noise(landscape: Landscape, points: Tensor, seed: int, batches: dict[int, tuple[int, int]]) -> list[dict]:
    """A row for each batch size and kind, at the last of these points, (M + 1, d)."""
    everything = torch.arange(len(landscape.x))
    s = points.diff(dim=0).double()
    full = torch.stack([landscape.gradient(x, everything) for x in points])  # (M + 1, d)
    g, y = full[-1], full.diff(dim=0)
    p, kept = direction(s, y, g)
    curvature = (s * y).sum(1)
    generator, rows = torch.Generator().manual_seed(seed), []
    for b, (gradients, sets_of_pairs) in batches.items():

        def draw(b: int = b) -> Tensor:
            return torch.randint(len(everything), (b,), generator=generator)

        small = torch.stack([landscape.gradient(points[-1], draw()) for _ in range(gradients)])  # (R, d)
        starts, ends = [], []  # (Q, M, d): the gradients of one minibatch a pair, at its two ends
        for _ in range(sets_of_pairs):
            of = [draw() for _ in range(M)]
            starts.append(torch.stack([landscape.gradient(points[i], r) for i, r in enumerate(of)]))
            ends.append(torch.stack([landscape.gradient(points[i + 1], r) for i, r in enumerate(of)]))
        pairs = [end - start for end, start in zip(ends, starts, strict=True)]
        across = [end - start for end, start in zip(ends, starts[1:] + starts[:1], strict=True)]
        found = {
            "gradient": ([(v, M) for v in small], g),
            "gradient in the direction": ([direction(s, y, v) for v in small], p),
            "pairs in the direction": ([direction(s, some, g) for some in pairs], p),
            "both": ([direction(s, some, v) for some, v in zip(pairs, small, strict=False)], p),
            "two-batch pairs": ([direction(s, some, g) for some in across], p),
        }
        of_curvature = {"pairs in the direction": pairs, "both": pairs, "two-batch pairs": across}
        for kind, (vectors, reference) in found.items():
            row = {"batch": b, "kind": kind, **scatter(torch.stack([v for v, _ in vectors]), reference, g, kind)}
            row["kept"], row["kept_ref"] = float(np.mean([n for _, n in vectors])), kept
            if kind in of_curvature:
                off = torch.stack([(s * some).sum(1) for some in of_curvature[kind]]) / curvature - 1
                row["curvature_error"] = off.square().mean().sqrt().item()
            rows.append({**row, "grad_norm": g.norm().item()})
    return rows


def scatter(v: Tensor, reference: Tensor, g: Tensor, kind: str) -> dict[str, float]:
    """How vectors (n, d) lie about a reference (d,), in its units; see the top of this file."""
    unit = reference.square().sum()
    errors = (v - reference).square().sum(1) / unit
    slope = (v @ g) * (1 if kind == "gradient" else -1)
    return {
        "n": len(v), "error": errors.mean().item(), "error_median": errors.median().item(),
        "variance": (v.var(dim=0).sum() / unit).item(), "norm": (v.norm(dim=1) / reference.norm()).mean().item(),
        "cosine": F.cosine_similarity(v, reference[None]).mean().item(), "descent": (slope > 0).double().mean().item(),
    }  # fmt: skip


def variance(args: argparse.Namespace) -> None:
    """The table of scatters. A trajectory's rows are kept once they are there."""
    sets, kept = None, KEPT / "variance"
    kept.mkdir(parents=True, exist_ok=True)
    about = lab.provenance()
    about = {name: about[name] for name in ("fuse_lib", "commit", "torch", "python", "machine", "processor", "threads")}
    size = {"side": args.side, "rows": args.rows, "population": POPULATION}
    tables = []
    for seed in args.watched:
        path = kept / ("-".join(map(str, (*size.values(), *args.at, seed))) + ".csv")
        if not path.exists():
            if sets is None:
                sets = data.load(args.dataset).take(train=args.rows)
                last = torch.channels_last
                sets = dataclasses.replace(sets, x_train=sets.x_train.to(memory_format=last))
            rows = []
            for step, points in trajectory(args, sets, seed).items():
                model = models.build("densenet", sets.in_shape, len(sets.classes), seed=seed, depth=5)
                landscape = Landscape(model, sets.x_train[:POPULATION], sets.y_train[:POPULATION])
                found = noise(landscape, points, 1000 * seed + step, DRAWS)
                rows += [{**size, "seed": seed, "step": step, "unofficial": True, **row} for row in found]
                print(f"variance: side {args.side}, seed {seed}, step {step} done", flush=True)
            part = path.with_suffix(".part")
            pd.DataFrame(rows).assign(**about).to_csv(part, index=False)
            part.replace(path)
        tables.append(pd.read_csv(path))
    replace(OUT / "07_variance.csv", pd.concat(tables), [*size, "step"])


def show() -> None:
    ends, noisy = pd.read_csv(OUT / "07_runs.csv"), pd.read_csv(OUT / "07_variance.csv")
    where = ["side", "rows", "passes", "batch"]
    for value in ("test_accuracy", "train_loss", "seconds"):
        table = ends.pivot_table(value, where, "optimizer", aggfunc=["mean", "std"], sort=False)
        print(f"\n{value}\n{table.round(4).to_string()}")
    for value in ("error_median", "variance", "cosine", "descent", "kept", "curvature_error"):
        table = noisy.pivot_table(value, ["side", "step", "batch"], "kind", sort=False).reindex(columns=KINDS)
        print(f"\n{value}\n{table.round(3).to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, choices=(16, 32), default=SIDE, help="pixels of an image's side")
    parser.add_argument("--rows", type=int, default=ROWS, help="the first so many train rows")
    parser.add_argument("--passes", type=float, default=PASSES)
    parser.add_argument("--seeds", type=int, nargs="*", default=REPORTED)
    parser.add_argument("--watched", type=int, nargs="*", default=WATCHED, help="seeds of the trajectories")
    parser.add_argument("--at", type=int, nargs="*", default=AT, choices=AT, help="steps where they are looked at")
    parser.add_argument("--only", nargs="*", choices=("runs", "variance"), default=("variance", "runs"))
    parser.add_argument("--workers", type=int, default=2, help="processes of the runs; 0: this one")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    if args.show:
        show()
        return
    lab.keep_memory()
    torch.set_num_threads(1)
    args.dataset = cifar10(args.side, KEPT)
    OUT.mkdir(parents=True, exist_ok=True)
    for part in args.only:
        {"variance": variance, "runs": runs}[part](args)
    if all((OUT / f"07_{name}.csv").exists() for name in ("runs", "variance")):
        show()


if __name__ == "__main__":
    main()
