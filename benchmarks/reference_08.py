"""Notebook 08: the protocol of FUSE's public reference code, rebuilt, and mended one switch at a time.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/reference_08.py [--epochs 100] [--rows 0] [--only ladder …]

makes data/results/08_runs.csv (a row for each rung, contestant and seed: how the run ended) and 08_curves.csv (a row an
evaluation point of each run). A run that serves on several rungs is made once and stands in 08_runs.csv on each of
them, under the same run_id. Finished runs are kept in build/08/ and not made again, so a killed script goes on where
it was. `--estimate` says how many core-hours are left, from a timing of a few batches; `--show` prints what the table
says. CIFAR-10 comes from data/make_cifar10.py: it lacks 77 train and 21 test images, none of them among the first 500
test images.

What is known of the reference code (github.com/zahid-isu/fuse at 57a6bbc). Its authors made it public; without that
no one could repeat their experiment. The code here is our own, written from these facts:

- CIFAR-10 through (x − 0.5)/0.5, no augmentation, batch 512, the last partial batch dropped, 100 epochs. Adam at 1e-3.
  torch's L-BFGS with lr 1, history 10, max_iter 20, max_eval 4, strong Wolfe.
- DenseNet of growth 32, reduction 0.5 and depth 5, which gives no dense layer: 4,682 parameters.
- The rule that runs: three epochs of Adam; then L-BFGS on each minibatch whenever the last minibatch's loss is below
  2.0, else Adam. Nothing is handed over. After a step of L-BFGS the loss is evaluated once more.
- Accuracy is that of the first 500 test images.
- Batch norm is in evaluation mode from the second epoch on.
- The seeds 0, 1, 2, 42 shuffle the rows; all start from one initial model.

What is our reading, where the facts leave a choice:

- "The last minibatch's loss" is, after a step of Adam, the loss at the step's start; after one of L-BFGS the one that
  is evaluated once more, which we charge as a gradient evaluation.
- The two optimizers keep what they know while the other is at work.
- The one initial model is ours with seed 0, not theirs; initial weights are He et al.'s for the convolutions.
- torch's search keeps to max_eval only since a correction (its pull request 135026); before, a search could take 25
  evaluations. Which torch the authors had is not known, so FUSE may have had more evaluations there than here.
- The pooling between the blocks comes before the 1x1 convolution: the same function but for rounding, and cheaper.
- Whether the paper's table was made with this code and these settings is plausible, not known. Nor does the summary
  that we have of the paper say after how many epochs its rule switches; here it is three, as in the reference code.

The ladder. Each rung has all changes of those before it, and one more:

    0 as it stands      accuracy on 500 images
    1 all images        the same runs; accuracy on all test images
    2 equal cost        FUSE has Adam's number of gradient evaluations, not its number of minibatches
    3 epoch rule        L-BFGS for good after the Adam epochs, as in the paper; nothing is evaluated once more
    4 batch norm        in training mode throughout
    5 initial models    each seed has its own
    6 one-batch pairs   L-BFGS is fuse_lib's, whose pairs (s, y) are of one minibatch; torch's y spans two
    7 handover          the pairs of Adam's last steps go into L-BFGS, as in the paper
    8 dense layers      LAYERS in each block, one: depth 7, the least that has any. "5 layers" may as well mean five in
                        each block (--layers 5): 799,162 parameters in the place of 54,842

Adam has no rule, pairs or handover, and a minibatch costs it one evaluation, so rungs 2, 3, 6 and 7 repeat its runs.
`alone/…` is rung 0 with one change: which change does what by itself. Rungs 6 and 7 have no such run, for fuse_lib's
FUSE-PV always has the paper's rule. Adam's learning rate is tuned nowhere here; that is notebook 06's matter.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tables import replace

from fuse_lib import data, lab, models
from fuse_lib.lab.objective import MEASURED, Objective
from fuse_lib.lab.records import Folder

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "data" / "results"
KEPT = ROOT / "build" / "08"

SEEDS = (0, 1, 2, 42, 3)  # the reference's, and one more
CONTESTANTS = ("adam", "fuse")
BATCH, LOSS_ROWS = 512, 2560
CHANGES = ("all images", "equal cost", "epoch rule", "batch norm", "initial models", "one-batch pairs", "handover",
           "dense layers")  # fmt: skip
NEED_THE_RULE = ("one-batch pairs", "handover")
EVALS = 5  # at most, of a step of L-BFGS; the reference's has one more
KEY = ["dataset", "rows", "epochs", "adam_epochs", "layers", "part", "rung", "contestant", "seed"]


@dataclass(frozen=True)
class Scale:
    """dataset: its name. rows: of the train set that are used. epochs: of a run. adam_epochs: before L-BFGS begins.
    layers: in each block, where the net is dense. points: evaluation points of a run."""

    dataset: str
    rows: int
    epochs: int
    adam_epochs: float
    layers: int
    points: int = 20

    @property
    def batches(self) -> int:
        """Minibatches in a run's epochs."""
        return self.epochs * (self.rows // BATCH)


@dataclass(frozen=True)
class Place:
    """A rung for one contestant. part: "ladder" or "alone". changes: those of CHANGES that it has."""

    part: str
    rung: int
    name: str
    contestant: str
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.part}/{self.name}/{self.contestant}"

    @property
    def accuracy(self) -> str:
        """The column that this rung calls accuracy."""
        return "test_accuracy" if "all images" in self.changes else "test_accuracy_500"


def places(only: list[str] | None = None) -> list[Place]:
    """The ladder, then each change alone. only: those whose name contains one of these."""
    ladder = [("ladder", k, name, CHANGES[:k]) for k, name in enumerate(("as it stands", *CHANGES))]
    alone = [("alone", k, name, (name,)) for k, name in enumerate(CHANGES, 1) if name not in NEED_THE_RULE]
    found = [Place(*where, contestant, changes) for *where, changes in ladder + alone for contestant in CONTESTANTS]
    return [place for place in found if not only or any(part in str(place) for part in only)]


def settings(place: Place, seed: int, scale: Scale) -> lab.Settings:
    """The run of a contestant with these changes. What does not concern it changes nothing, so runs are shared."""
    has = place.changes.__contains__
    given = {
        "dataset": scale.dataset, "train_rows": scale.rows, "batch": BATCH, "points": scale.points,
        "loss_rows": LOSS_ROWS, "channels_last": True, "model": "densenet", "lr": 1e-3, "seed": seed,
        "passes": scale.epochs, "budget_in": "epochs", "eval_after": None if has("batch norm") else 1,
        "model_seed": None if has("initial models") else 0,
        "model_options": {"layers": scale.layers} if has("dense layers") else {"depth": 5},
    }  # fmt: skip
    if place.contestant == "adam":
        return lab.Settings(optimizer="adam", **given)
    if has("equal cost"):
        given |= {"budget_in": "evaluations", "passes": scale.batches * BATCH / scale.rows}
    given["switchover"] = f"passes:{scale.adam_epochs:g}"
    if has("one-batch pairs"):
        handover = "pairs" if has("handover") else "none"
        return lab.Settings(optimizer="fuse_pv", handover=handover, max_evals=4, **given)
    if not has("epoch rule"):
        given |= {"loss_below": 2.0, "latched": False, "reevaluate": True}
    return lab.Settings(optimizer="adam_lbfgs", **given)


def make(chosen: list[Place], seeds: list[int], scale: Scale, out: Path, **how: object) -> None:
    """The runs, and the two tables."""
    where = [(place, seed, settings(place, seed, scale)) for place in chosen for seed in seeds]
    runs = [run for _, _, run in where]
    rows = lab.grid(runs, KEPT, **how)
    about = Folder(KEPT).about(dict.fromkeys(run.run_id for run in runs)).set_index("run_id")
    ends = rows.groupby("run_id").tail(1).set_index("run_id")  # last() would look for values that are no NaN
    size = {"dataset": scale.dataset, "unofficial": bool(ends["unofficial"].any()), "rows": scale.rows,
            "epochs": scale.epochs, "adam_epochs": float(scale.adam_epochs), "layers": scale.layers,
            "points": scale.points}  # fmt: skip
    measured = ["test_accuracy", "test_accuracy_500", "train_loss", "grad_norm", "test_loss", "evals", "samples",
                "seconds", "phase", "status"]  # fmt: skip
    told = ["optimizer", "lr", "second_lr", "passes", "budget_in", "batch", "switchover", "loss_below", "latched",
            "reevaluate", "handover", "history_size", "max_evals", "eval_after", "model_seed", "model_options",
            "parameters", "rows_test", "started", "fuse_lib", "commit", "torch", "python", "machine", "processor",
            "device", "threads"]  # fmt: skip
    table = pd.DataFrame([
        {**size, "part": place.part, "rung": place.rung, "name": place.name, "contestant": place.contestant,
         "seed": seed, "run_id": run.run_id, "accuracy": ends.loc[run.run_id, place.accuracy],
         **ends.loc[run.run_id, measured], **about.loc[run.run_id, told]}
        for place, seed, run in where
    ])  # fmt: skip
    curves = rows[["run_id", "optimizer", "seed", "evals", *measured[6:9], *measured[:5]]].round(6)
    out.mkdir(parents=True, exist_ok=True)
    replace(out / "08_runs.csv", table, KEY, order=True)
    replace(out / "08_curves.csv", curves, ["run_id", "samples"], order=True)


def estimate(chosen: list[Place], seeds: list[int], scale: Scale, sets: data.Dataset) -> None:
    """Core-hours of the runs that are not made yet, with L-BFGS in all epochs after Adam's: the most it can be."""
    folder, totals, seen = Folder(KEPT), {}, set()
    seconds = {layers: _seconds(layers, sets) for layers in (0, scale.layers)}
    for layers, (evaluation, measuring) in seconds.items():
        print(
            f"{layers} dense layers a block: {evaluation:.2f} s a batch of {BATCH}, {measuring:.1f} s a point measured"
        )
    for place in chosen:
        evaluation, measuring = seconds[scale.layers if "dense layers" in place.changes else 0]
        evals = scale.batches
        if place.contestant == "fuse" and "equal cost" not in place.changes:
            share = max(0.0, 1 - scale.adam_epochs / scale.epochs)
            evals *= 1 - share + share * (EVALS + ("epoch rule" not in place.changes))
        for seed in seeds:
            run_id = settings(place, seed, scale).run_id
            if run_id not in seen and not folder.done(run_id):
                hours = (evals * evaluation + (scale.points + 1) * measuring) / 3600
                totals[str(place)] = totals.get(str(place), 0.0) + hours
            seen.add(run_id)
    print(pd.Series(totals, name="core-hours", dtype=float).round(2).to_string())
    for part in ("ladder", "alone"):
        print(f"{part}: {sum(h for name, h in totals.items() if name.startswith(part)):.2f} core-hours")
    print(f"in all: {sum(totals.values()):.2f} core-hours")


def _seconds(layers: int, sets: data.Dataset) -> tuple[float, float]:
    """(of a gradient evaluation on a batch, of an evaluation point), processor time of this process at its best."""
    few = sets.take(train=BATCH)
    model = models.build("densenet", few.in_shape, len(few.classes), seed=0, layers=layers)
    last = torch.channels_last
    x, test = few.x_train.to(memory_format=last), few.x_test[:MEASURED].to(memory_format=last)
    objective = Objective(model, float("inf"), 0.0, BATCH)
    closure, found = objective.closure(x, few.y_train), []
    closure()  # the first one asks for memory
    for call in [closure] * 5 + [lambda: objective.test(test, few.y_test[:MEASURED])] * 3:
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    evaluation, forward = min(found[:5]), min(found[5:])  # others on the machine make it slower, by up to three times
    return evaluation, LOSS_ROWS / BATCH * evaluation + len(sets.x_test) / len(test) * forward


def show(out: Path) -> None:
    """Mean accuracies in percent, and FUSE's less Adam's, seed by seed: mean and standard deviation."""
    table = pd.read_csv(out / "08_runs.csv")
    table["accuracy"] *= 100
    where = [*KEY[:-2], "name"]
    by_seed = table.pivot_table("accuracy", [*where, "seed"], "contestant", sort=False).reindex(columns=CONTESTANTS)
    by_seed["difference"] = by_seed["fuse"] - by_seed["adam"]
    groups = by_seed.groupby(where, sort=False)
    print(groups.mean().assign(deviation=groups["difference"].std(), seeds=groups.size()).round(2).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=0, help="the first so many train rows; 0: all")
    parser.add_argument("--adam-epochs", type=float, default=3, help="before L-BFGS begins")
    parser.add_argument("--layers", type=int, default=1, help="in each block, on the rung of the dense net")
    parser.add_argument("--points", type=int, default=20, help="evaluation points of a run, which take time, too")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--only", nargs="*", help="parts of part/name/contestant: ladder 'alone/epoch rule' fuse …")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0: this one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    if args.show:
        show(args.out)
        return
    sets = data.load(args.dataset)
    scale = Scale(args.dataset, args.rows or len(sets.x_train), args.epochs, args.adam_epochs, args.layers, args.points)
    chosen = places(args.only)
    if not chosen:
        parser.error(f"only: got {args.only}; allowed are parts of {', '.join(map(str, places()))}")
    lab.keep_memory()
    if args.estimate:
        estimate(chosen, args.seeds, scale, sets)
    else:
        del sets  # the workers load their own
        make(chosen, args.seeds, scale, args.out, workers=args.workers, device=args.device)
        show(args.out)


if __name__ == "__main__":
    main()
