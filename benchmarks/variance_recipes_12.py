"""Notebook 12: recipes against the noise at equal samples, how noisy their directions are, and nets.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/variance_recipes_12.py [--only race scatter nets] [--seeds 0 …]

makes 12_recipes.csv, 12_directions.csv and 12_nets.csv in data/results; what is there is not made again.

race       softmax regression as in variance_12.py on USPS and KMNIST, batch 32. Adam for 3 passes, then a recipe for
           SECOND more; the gap at the end. A recipe's learning rate is the best of RATES on USPS, seed 100, which is
           not reported; KMNIST has the same one, so it is held out. Beside them Adam with cosine decay for all 10
           passes (its rate the best of five, chosen in the same way), full-batch L-BFGS, growing batches by the norm
           test, and `AnchoredLBFGS`, all after the same 3 passes of Adam.
scatter    directions at one point of USPS, after Adam's 3 passes: each recipe takes the same displacements (Adam's
           last ten steps; for averaged iterates the means of ten by ten), draws its minibatches DRAWS times, and its
           −Hg is compared with the one that has all rows in every place: error = mean ‖p − p_ref‖²/‖p_ref‖², cosine =
           mean cos. `direction` has both the gradient and the pairs drawn, `pairs` only the pairs. SVRG's anchor is
           half a pass of Adam before. The anchored one has a batch of an eighth of the rows, its anchor ten steps
           before.
nets       a MLP and a small CNN, USPS, batch 64, PASSES passes: mean cross-entropy + 1e-4/2 ‖W‖² on all train rows at
           the end. Adam with cosine decay; 4 passes of it and then full-batch L-BFGS, `AnchoredLBFGS`, or L-BFGS on
           minibatches with same-batch pairs (each lr the best of the same number of candidates on seed 100).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import time

import torch
import torch.nn.functional as F
from tables import RESULTS, append, origin, read
from variance_12 import FIRST, anchored, lbfgs, rate, there
from variance_sets_12 import batch, problem, rows

from fuse_lib import models
from fuse_lib.recipes import Softmax, Spent, adam, minibatches, norm_test, stochastic
from fuse_lib.recipes.stochastic import RECIPES, Vectors, direction, judged

RACE, SCATTER, NETS = (RESULTS / f"12_{name}.csv" for name in ("recipes", "directions", "nets"))
PASSES, SECOND, TUNING = 10, 7, 100
RATES = (0.1, 0.3, 1.0)
DRAWS = 10


# ---- race
def race(seeds) -> None:
    for name in ("usps", "kmnist"):
        for recipe in [*RECIPES, "norm test", "full-batch L-BFGS", "anchored", "Adam, cosine"]:
            for seed in seeds:
                if there(RACE, dataset=name, recipe=recipe, seed=seed, chosen=True):
                    continue
                lr = chosen(recipe)
                racing(name, recipe, lr, seed, True)


def chosen(recipe: str) -> float:
    if recipe not in RECIPES and recipe != "Adam, cosine":
        return math.nan
    if not there(RACE, dataset="usps", recipe=recipe, chosen=False):
        for lr in RATES if recipe in RECIPES else (1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
            racing("usps", recipe, lr, TUNING, False)
    tried = read(RACE)
    tried = tried[(tried.recipe == recipe) & ~tried.chosen]
    return float(tried.lr[tried.gap.fillna(math.inf).idxmin()])


def racing(name: str, recipe: str, lr: float, seed: int, final: bool) -> None:
    f, size, begun = problem(name, passes=PASSES, least=-1.0), batch(name), time.process_time()
    with contextlib.suppress(Spent):
        if recipe == "Adam, cosine":
            adam(f, lr, PASSES, size, seed)
        else:
            first = adam(f, rate(name), FIRST, size, seed)
            second(f, recipe, lr, size, seed, first)
    with contextlib.suppress(Spent):
        f.measure()
    gap, best = f.curve[-1][1], min((g for _, g in f.curve), default=math.nan)
    append(RACE, [{"dataset": name, "recipe": recipe, "lr": lr, "seed": seed, "chosen": final, "batch": size,
                   "gap": gap, "best": best, "after_adam": f.curve[0][1], "spent": round(f.passes_spent, 3),
                   "cpu_seconds": round(time.process_time() - begun, 2), **origin()}])  # fmt: skip
    print(name, recipe, lr, seed, f"{gap:.3g}", flush=True)


def second(f: Softmax, recipe: str, lr: float, size: int, seed: int, first: torch.optim.Adam) -> None:
    if recipe == "norm test":
        norm_test.run(f, 8 * size, seed)
    elif recipe == "full-batch L-BFGS":
        lbfgs(f, lr, size, seed)
    elif recipe == "anchored":
        anchored(f, lr, size, seed, first=0)
    else:
        metric = torch.cat([first.state[p]["exp_avg_sq"].flatten() for p in f.params])
        stochastic.run(f, RECIPES[recipe], lr, SECOND, size, seed + 1, metric)


# ---- scatter
def path(f: Softmax, lr: float, size: int, seed: int, steps: int):
    """The last `steps` + 1 points of FIRST passes of Adam, (steps + 1, d), and Adam's v̂, (d,)."""
    opt, total, v, points = torch.optim.Adam(f.params, lr), FIRST * (f.rows // size), Vectors(f), []
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, round(1.5 * total))  # so that the last steps are steps
    for t, some in enumerate(minibatches(f.rows, size, total, seed)):
        if t >= total - steps:
            points.append(v.x())
        opt.step(lambda some=some: f.batch_closure(some))
        schedule.step()
    return torch.stack([*points, v.x()]), torch.cat([opt.state[p]["exp_avg_sq"].flatten() for p in f.params])


def scatter(seeds) -> None:
    for seed in seeds:
        if not there(SCATTER, seed=seed):
            append(SCATTER, [{"dataset": "usps", "seed": seed, **row, **origin()} for row in directions("usps", seed)])
            print("directions", seed, flush=True)


def directions(name: str, seed: int, draws: int = DRAWS) -> list[dict]:
    size = batch(name)
    f = problem(name, least=-1.0)
    points, second_moment = path(f, rate(name), size, seed, f.rows // size // 2 + 110)
    v, x = Vectors(f), points[-1]
    generator = torch.Generator().manual_seed(seed)

    def draw(b: int):
        return torch.randint(f.rows, (b,), generator=generator)

    ends = points[-11:]
    means = points[-110:].unflatten(0, (11, 10)).mean(1)
    full = {"steps": [v.gradient(p, None) for p in ends], "means": [v.gradient(p, None) for p in means]}
    g_full, g_past = full["steps"][-1], v.gradient(points[-1 - f.rows // size // 2], None)
    eighth = f.rows // 8
    rows_of = []
    for recipe, setting in [*RECIPES.items(), ("norm test, grown 8 times", None), ("anchored", None)]:
        wide = {"norm test, grown 8 times": 8 * size, "anchored": eighth}.get(recipe, size)
        kind = "means" if setting and setting.pairs == "average" else "steps"
        at = means if kind == "means" else ends
        inverse = 1.0
        if setting and setting.metric:
            inverse = 1 / (second_moment.sqrt() / second_moment.sqrt().mean() + 0.1)
        damped = bool(setting and setting.damped)

        def pairs(ys, at=at, damped=damped, mean=bool(setting and setting.pairs == "mean")):
            kept, mean_s, mean_y = [], 0.0, 0.0
            for s, y in zip(at.diff(dim=0), ys, strict=True):
                if mean:
                    mean_s, mean_y = 0.9 * mean_s + 0.1 * s, 0.9 * mean_y + 0.1 * y
                    s, y = mean_s, mean_y
                pair = judged(s, y, kept, damped)
                kept += [pair] if pair else []
            return kept

        p_ref = direction(g_full, pairs([b - a for a, b in itertools.pairwise(full[kind])]), inverse)
        found, only_pairs = [], []
        for _ in range(draws):
            if setting and setting.pairs == "two":
                gs = [v.gradient(p, draw(size)) for p in at]
                ys = [b - a for a, b in itertools.pairwise(gs)]
            else:
                b = {"overlap": size // 2, "average": stochastic.WIDE * size}.get(
                    setting.pairs if setting else "", wide
                )
                ys = []
                same = draw(b) if recipe == "anchored" else None  # one batch a round
                for one, two in itertools.pairwise(at):
                    some = draw(b) if same is None else same
                    ys.append(v.gradient(two, some) - v.gradient(one, some))
            some = draw(wide) if recipe != "anchored" else same
            g = v.gradient(x, some)
            if setting and setting.gradient == "svrg":
                g = g - v.gradient(points[-1 - f.rows // size // 2], some) + g_past
            elif recipe == "anchored":
                g = g - v.gradient(ends[0], some) + full["steps"][0]
            kept = pairs(ys)
            found.append((g, direction(g, kept, inverse)))
            only_pairs.append(direction(g_full, kept, inverse))
        for what, vectors, reference in (
            ("gradient", [g for g, _ in found], g_full),
            ("direction", [p for _, p in found], p_ref),
            ("pairs", only_pairs, p_ref),
        ):
            errors = [float((p - reference).square().sum() / reference.square().sum()) for p in vectors]
            cosines = [float(F.cosine_similarity(p, reference, dim=0)) for p in vectors]
            falls = [float(p @ g_full) * (1 if what == "gradient" else -1) > 0 for p in vectors]
            rows_of.append({"recipe": recipe, "what": what, "batch": wide, "draws": draws,
                            "error": sum(errors) / draws, "error_median": sorted(errors)[draws // 2],
                            "cosine": sum(cosines) / draws, "descent": sum(falls) / draws})  # fmt: skip
    return rows_of


# ---- nets
NET = ("mlp", "cnn")
NET_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
NET_FIRST, NET_PASSES, NET_BATCH = 4, 12, 64
NET_RECIPES = ("Adam, cosine", "Adam, then full-batch L-BFGS", "Adam, then anchored", "Adam, then minibatch L-BFGS")


def net(kind: str, seed: int) -> Softmax:
    return Softmax(*rows("usps"), passes=NET_PASSES, least=-1, model=_model(kind, seed))


def _model(kind: str, seed: int) -> torch.nn.Module:
    """256-64-10 with ReLU; or 3x3 convolutions of 8 and 16 channels, each with ReLU and pooling, and a linear layer."""
    if kind == "mlp":
        return models.build("mlp", (1, 16, 16), seed=seed, hidden=(64,))
    torch.manual_seed(seed)
    layers = [torch.nn.Unflatten(1, (1, 16, 16))]
    for a, b in ((1, 8), (8, 16)):
        layers += [torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(256, 10))


def train_net(kind: str, recipe: str, lr: float, seed: int, final: bool) -> None:
    f, begun = net(kind, seed), time.process_time()
    with contextlib.suppress(Spent):
        adam(f, lr, NET_PASSES if recipe == "Adam, cosine" else NET_FIRST, NET_BATCH, seed)
        after = f.curve[-1][1]
        if recipe == "Adam, then full-batch L-BFGS":
            lbfgs(f, lr, NET_BATCH, seed)
        elif recipe == "Adam, then anchored":
            anchored(f, lr, NET_BATCH, seed, first=0)
        elif recipe == "Adam, then minibatch L-BFGS":
            stochastic.run(f, RECIPES["same-batch pairs"], 0.1, NET_PASSES - NET_FIRST, NET_BATCH, seed + 1)
    with contextlib.suppress(Spent):
        f.measure()
    append(NETS, [{"dataset": "usps", "net": kind, "recipe": recipe, "lr": lr, "seed": seed, "chosen": final,
                   "batch": NET_BATCH, "train_loss": f.curve[-1][1], "after_adam": after, "spent": f.passes_spent,
                   "cpu_seconds": round(time.process_time() - begun, 2), **origin()}])  # fmt: skip
    print(kind, recipe, lr, seed, f"{f.curve[-1][1]:.4g}", flush=True)


def nets(seeds) -> None:
    for kind in NET:
        for recipe in NET_RECIPES:
            for lr in NET_RATES:
                if not there(NETS, net=kind, recipe=recipe, lr=lr, chosen=False):
                    train_net(kind, recipe, lr, TUNING, False)
            tried = read(NETS)
            tried = tried[(tried.net == kind) & (tried.recipe == recipe) & ~tried.chosen]
            lr = float(tried.lr[tried.train_loss.fillna(math.inf).idxmin()])
            for seed in seeds:
                if not there(NETS, net=kind, recipe=recipe, seed=seed, chosen=True):
                    train_net(kind, recipe, lr, seed, True)


PARTS = {"race": race, "scatter": scatter, "nets": nets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for part in args.only:
        PARTS[part](args.seeds)


if __name__ == "__main__":
    main()
