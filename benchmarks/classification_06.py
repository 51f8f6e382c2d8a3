"""Notebook 06: six optimizers, three models on four data sets and a DenseNet on a fifth, the same budget for each.

    FUSE_DATA=folder python benchmarks/classification_06.py [--workers 2] [--only mnist/linear …]

makes data/results/06_runs.csv (a row a run: its end), 06_curves.csv (a row an evaluation point) and 06_tuning.csv (what
was tried and chosen). Finished runs are kept in build/06/ and not made again, so a killed script goes on where it was.
`--show` prints what the tables say.

The protocol:

- The budget is PASSES over the train rows, in samples of gradient evaluations, for every run.
- Every optimizer is tuned over the same number of settings, FOUR, on the last sixth of the train rows, which the tuned
  runs do not train on: the highest mean accuracy there over two seeds. Adam+SGD and FUSE-PV take the learning rate that
  won for Adam, and have four settings for the rest. "Adam at 1e-3" is not tuned: it is what most people run.
- The report's seeds are others. Initial parameters and the order of the rows follow the seed.
- Batch 512, as in FUSE's reference code, the last partial batch dropped. (KMNIST and USPS: 128; they have an eighth of
  the rows.) Pixels in [0, 1].
- The CNN trains on the first CNN_ROWS rows only, where there are more: the largest scale that two cores allow.
- CIFAR-10 with the DenseNet of FUSE's reference code (depth 5, 4,682 parameters), as in notebook 07: images averaged to
  16x16, the first 16,384 rows, 6 passes, losses with batch norm's means and variances taken anew; the reference's seeds
  0, 1, 2, 42, and 3. Half an hour of one core; 32x32 and all rows would be some 30 core-hours.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import pandas as pd
from small_images import cifar10
from tables import replace

from fuse_lib import lab

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "data" / "results"
KEPT = ROOT / "build" / "06"

DATASETS = {"mnist": 512, "fashion-mnist": 512, "kmnist": 128, "usps": 128, "cifar10-16": 512}  # batch
CELLS = [*itertools.product(("linear", "mlp", "cnn"), ("mnist", "fashion-mnist", "kmnist", "usps")),
         ("densenet", "cifar10-16")]  # fmt: skip
CNN_ROWS = 12_000
ROWS = {"mnist": 60_000, "fashion-mnist": 60_000, "kmnist": 8_000, "usps": 7_291, "cifar10-16": 16_384}
DENSENET = {"passes": 6, "points": 6, "train_rows": ROWS["cifar10-16"], "loss_rows": 4096, "channels_last": True,
            "fresh_norm": True, "model_options": {"depth": 5}}  # fmt: skip
PASSES = 20
POINTS = 20
CURVES = ["dataset", "model", "contestant", "seed", "samples", "seconds", "train_loss", "test_loss", "test_accuracy"]
TUNING, REPORTED, REFERENCE = (100, 101), (0, 1, 2, 3, 4), (0, 1, 2, 42, 3)


def candidates(optimizer: str, model: str) -> list[dict]:
    """What it is tuned over. lr None: Adam's winner. The convex model and the small DenseNet take larger steps."""
    convex = model in ("linear", "densenet")
    if optimizer == "adam":
        return [{"lr": lr} for lr in ((1e-3, 3e-3, 1e-2, 3e-2) if convex else (3e-4, 1e-3, 3e-3, 1e-2))]
    if optimizer == "adam_cosine":
        return [{"lr": lr} for lr in ((3e-3, 1e-2, 3e-2, 1e-1) if convex else (1e-3, 3e-3, 1e-2, 3e-2))]
    sgd = (1e-1, 3e-1, 1.0, 3.0) if convex else (1e-2, 3e-2, 1e-1, 3e-1)
    if optimizer == "sgd_momentum":
        return [{"lr": lr} for lr in sgd]
    if optimizer == "adam_sgd":
        return [{"lr": None, "second_lr": lr} for lr in sgd]
    if optimizer == "lbfgs":
        return [{"batch": batch, "history_size": m} for batch in ("full", 2048) for m in (10, 50)]
    second = ({"second_batch": "full", "handover": "none", "history_size": 50}, {"second_batch": 2048})
    return [{"lr": None, "switchover": f"budget:{share}", **s} for share in (0.5, 0.8) for s in second]


TUNED = ("adam", "adam_cosine", "sgd_momentum", "adam_sgd", "lbfgs", "fuse_pv")
UNTUNED = {"adam at 1e-3": {"optimizer": "adam", "lr": 1e-3}}


def settings(dataset: str, model: str, optimizer: str, seed: int, **given: object) -> lab.Settings:
    rows = CNN_ROWS if model == "cnn" and ROWS[dataset] > CNN_ROWS else None
    common = {"passes": PASSES, "batch": DATASETS[dataset], "points": POINTS, "train_rows": rows}
    common |= DENSENET if model == "densenet" else {}
    return lab.Settings(dataset=dataset, model=model, optimizer=optimizer, seed=seed, **{**common, **given})


def tried(dataset: str, model: str, optimizer: str, adam: dict | None) -> list[tuple[dict, list[lab.Settings]]]:
    """Each candidate with its runs on the held-out rows."""
    held_out = (min(CNN_ROWS, ROWS[dataset]) if model == "cnn" else ROWS[dataset]) // 6
    some = [{**c, "lr": adam["lr"]} if c.get("lr", 0) is None else c for c in candidates(optimizer, model)]
    return [
        (c, [settings(dataset, model, optimizer, seed, holdout=held_out, **_fits(c, dataset)) for seed in TUNING])
        for c in some
    ]


def _fits(candidate: dict, dataset: str) -> dict:
    """Batches of 2048 are a quarter of the small sets; there they are 512."""
    small = ROWS[dataset] < 10_000
    return {k: 512 if v == 2048 and small else v for k, v in candidate.items()}


def tune(dataset: str, model: str, workers: int) -> tuple[dict[str, dict], list[dict]]:
    """The winner of each optimizer, and a table of all that was tried."""
    chosen, table = {}, []
    for first in (True, False):  # Adam's winner is needed by others
        names = [name for name in TUNED if (name == "adam") == first]
        trials = {name: tried(dataset, model, name, chosen.get("adam")) for name in names}
        runs = [run for some in trials.values() for _, seeds in some for run in seeds]
        ends = lab.grid(runs, KEPT, workers=workers).groupby("run_id").tail(1).set_index("run_id")
        ends = ends.fillna({"test_accuracy": 0.0, "test_loss": math.inf})  # of runs that diverged
        for name, some in trials.items():
            scores = [ends.loc[[run.run_id for run in seeds], "test_accuracy"].mean() for _, seeds in some]
            losses = [ends.loc[[run.run_id for run in seeds], "test_loss"].mean() for _, seeds in some]
            best = max(range(len(some)), key=lambda i: (scores[i], -losses[i]))
            chosen[name] = some[best][0]
            table += [
                {"dataset": dataset, "model": model, "optimizer": name, "setting": _said(c),
                 "held_out_accuracy": scores[i], "held_out_loss": losses[i], "chosen": i == best}
                for i, (c, _) in enumerate(some)
            ]  # fmt: skip
    return chosen, table


def _said(setting: dict) -> str:
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in setting.items()
    )


def report(dataset: str, model: str, chosen: dict[str, dict], workers: int) -> pd.DataFrame:
    """All rows of the reported runs, with the contestant's name and setting."""
    contestants = {name: {"optimizer": name, **given} for name, given in chosen.items()} | UNTUNED
    runs, labels = [], []
    for name, given in contestants.items():
        for seed in REFERENCE if model == "densenet" else REPORTED:
            run = settings(dataset, model, seed=seed, **_fits(given, dataset))
            runs.append(run)
            labels.append({"run_id": run.run_id, "contestant": name, "setting": _said(given)})
    rows = lab.grid(runs, KEPT, workers=workers)
    return pd.DataFrame(labels).merge(rows, on="run_id")  # Adam may have won with 1e-3: then its runs serve twice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="dataset/model, …")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    if args.show:
        show()
        return
    for model, dataset in CELLS:
        if args.only and f"{dataset}/{model}" not in args.only:
            continue
        if dataset == "cifar10-16":
            cifar10(16, KEPT)
        chosen, table = tune(dataset, model, args.workers)
        rows = report(dataset, model, chosen, args.workers)
        rows["unofficial"] |= dataset == "cifar10-16"
        about = lab.provenance()
        ends = rows.groupby(["contestant", "run_id"], sort=False).tail(1)  # not last(), which skips NaN
        versions = {name: about[name] for name in ("torch", "fuse_lib", "commit")}
        made = {"tuning": pd.DataFrame(table), "runs": ends.assign(**versions), "curves": rows[CURVES].round(6)}
        for name, new in made.items():
            replace(OUT / f"06_{name}.csv", new, ["dataset", "model"])
        print(f"{dataset}/{model}", *(f"{k}: {v}" for k, v in chosen.items()), sep="\n  ", flush=True)


def show() -> None:
    ends = pd.read_csv(OUT / "06_runs.csv")
    for value in ("test_accuracy", "train_loss", "seconds"):
        print(f"\n{value}\n", ends.pivot_table(value, ["dataset", "model"], "contestant", sort=False).round(4))


if __name__ == "__main__":
    main()
