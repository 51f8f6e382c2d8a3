# %% [markdown]
# # 15 · Curvature: what L-BFGS gains from, and where
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/15_curvature_on_nonconvex.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - how to build non-convex functions whose Hessian is known, and to check that it is,
# - how to take L-BFGS apart: shuffled pairs, identity pairs, a line search alone, the exact Hessian,
# - which share of its gain over Adam comes from curvature, which from the line search, and which from larger batches,
# - where curvature does not help: ripples, noise; and what L-BFGS does at a saddle.
#
# **You need first**: [02 · L-BFGS](02_lbfgs.ipynb); eigenvalues of a symmetric matrix. [03 · FUSE-PV](03_fuse_pv.ipynb) and [07 · Batch
# size](07_batch_size.ipynb) help.
#
# **Minutes**: 30 to read, 1 to run. With `profile="full"`: 1.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
condition: float = 1000.0  # κ of the live valley
dim: int = 20  # its number of variables
evaluations: int = 200  # budget of a live run
live: int = 3  # starts of the live comparison
profile: str = "quick"  # "full": ten live starts
device: str = "auto"  # "cpu" or "auto"; the problems are too small to gain from a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (condition >= 1 and dim >= 2 and evaluations >= 20 and live >= 1 and profile in ("quick", "full")):
    raise ValueError(f"condition={condition}, dim={dim}, evaluations={evaluations}, live={live}, profile={profile!r}; allowed are "
                     "condition ≥ 1, dim ≥ 2, evaluations ≥ 20, live ≥ 1, and the profiles 'quick' and 'full'")
live = 10 if profile == "full" else live

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from fuse_lib import LBFGS, data, lab, plots, problems
from fuse_lib.claims.c15 import STEPS, batch_of, cases, gain, ladder, log_gaps, reported
from fuse_lib.exercises import check, hint, solution
from fuse_lib.optim.line_search import Sample, search

plots.use_style()
torch.set_num_threads(1)  # as in the recorded table
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1 · The question
#
# The summary that this course works from asks for one more check of FUSE-PV: on "synthetic non-convex functions with known curvature properties",
# whether L-BFGS "provides benefits beyond simple noise reduction, isolating curvature exploitation effects". That is hard to see from a plain race,
# because an L-BFGS step differs from an Adam step in more than curvature:
#
# - It has a **line search**, so that its steps are neither too long nor too short.
# - The newest pair gives it a **scale**: one number, $\gamma = s^\top y/y^\top y$, even if everything else were lost.
# - On noisy gradients it is usually given **larger batches** (or several evaluations on one batch), so that it *averages*.
# - And it has the **directions**: along which $s$ the gradient changes by which $y$. Only this is curvature in the full sense.
#
# **How to settle it**: run from the same starts at the same cost, and add these one after the other, like the steps of a ladder. If the last step,
# the directions, takes nothing off the gap, then L-BFGS gains from something else. If it takes most, it gains from curvature.
#
# ## 2 · Landscapes of known curvature
#
# `fuse_lib.problems` has six of them. Each is simple along axes of its own, and is then turned by a random rotation. (Along the coordinate axes it
# would be too easy for Adam, whose step size for each coordinate can undo any condition number.) Each documents the spectrum of its Hessian, the list
# of its eigenvalues, by a formula:
#
# | landscape | Hessian, with $\Lambda = \mathrm{diag}(\lambda)$, λ from 1 to κ |
# |---|---|
# | `bent_valley` | along its floor, a parabola: λ, but for two eigenvalues whose product stays κ and whose quotient grows with the bend |
# | `saddle` | −λ (n₋ times) and +λ (n₊ times) at 0; everywhere in closed form |
# | `plateau` | λ at the minimum; fades to zero far out, with one negative eigenvalue on the way |
# | `ripples` | a bowl λ plus many sinusoids, whose Hessian has eigenvalues between −ρ and ρ |
# | `linear_net` | $\tfrac12\lVert W_2W_1-A\rVert^2$: ±σ at the saddle 0, $\sigma_i+\sigma_j$ and zeros at the balanced minimum (σ: the singular values of $A$; balanced: both layers have the singular values $\sqrt\sigma$) |
# | `tanh_net` | 25 parameters: $J^\top J/n + \sum_k r_k H_k/n$, computed exactly from the Jacobian $J$ of the outputs, their Hessians $H_k$ and the residuals $r_k$ |

# %%
landscapes = {"bent valley": problems.bent_valley(condition, dim), "saddle": problems.saddle(5, 15, condition=100.0),
              "plateau": problems.plateau(100.0, dim), "ripples": problems.ripples(100.0, dim),
              "linear net": problems.linear_net(5), "tanh net": problems.tanh_net()[0]}
rows = []
for name, f in landscapes.items():
    for point in f.points:
        said, found = f.spectrum(f.at(point)), torch.linalg.eigvalsh(f.hessian(f.at(point)))
        rows.append({"landscape": name, "point": point, "d": f.dim, "lowest": found[0].item(), "highest": found[-1].item(),
                     "negative": int((found < -1e-9).sum()), "agrees": torch.allclose(said, found, atol=1e-7, rtol=1e-7)})
spectra = pd.DataFrame(rows).round(3)
spectra

# %% tags=["nbval-check-output"]
print(f"autograd's Hessian has the documented spectrum at {spectra.agrees.sum()} of {len(spectra)} points")

# %% [markdown]
# **Exercise 15.1** A linear net learns a 2×2 matrix with singular values 1 and 0.1. By the formula above, what is the quotient of the largest and the
# smallest *non-zero* eigenvalue of its Hessian at the balanced minimum?

# %%
check("15.1", ...)

# %% [markdown]
# Before any statistics, let us look. Here are two variables, Adam (lr 0.1, blue) and the library's L-BFGS (green), with 60 evaluations each. Light is
# low, and a star is a minimum:

# %%
def path(f, start, make, budget):
    """Points after each step, and the evaluations used by then."""
    x, used, points = torch.nn.Parameter(start.clone()), 0, [(0, start)]
    opt = make([x])

    def closure():
        nonlocal used
        used += 1
        opt.zero_grad()
        loss = f(x)
        loss.backward()
        return loss

    while used < budget and len(points) < 2 * budget:
        opt.step(closure)
        points.append((used, x.detach().clone()))
    return points


# %%
MAKE = {"Adam": lambda p: torch.optim.Adam(p, lr=0.1), "L-BFGS": lambda p: LBFGS(p, full_batch=True)}
plane = {"bent valley, κ = 100": (problems.bent_valley(100.0, bend=0.5), (-1.7, 0.3)), "saddle": (problems.saddle(condition=4.0), (0.02, 1.6)),
         "plateau": (problems.plateau(10.0), (4.5, 1.5)), "ripples, ρ/κ = 12": (problems.ripples(5.0, strength=12.0, wavelength=0.6), (1.5, 1.2))}
fig, axes = plt.subplots(1, 4, figsize=(15, 4.0))
for ax, (name, (f, w)) in zip(axes, plane.items(), strict=True):
    plots.landscape(ax, f, points=220)
    start = f.from_axes(torch.tensor(w))
    for who, make in MAKE.items():
        x, y = torch.stack([p for _, p in path(f, start, make, 60)]).T
        ax.plot(x, y, **plots.style(who) | {"markersize": 3.5, "linewidth": 1.2}, label=who)
    ax.plot(*start, "o", color="black", markersize=7)
    ax.set(title=name, xlabel="", ylabel="")
axes[0].legend(fontsize="small", loc="lower left")
fig.tight_layout()
plots.show(fig, alt="Contours of four functions of two variables with the paths of Adam and L-BFGS from a black dot: a bent valley, a saddle between "
           "two minima, a pit in a plain, and a bowl full of ripples, in which L-BFGS stops in an early dip and Adam in a later one.")

# %% [markdown]
# **What you see.** In the *valley* L-BFGS follows the floor in long steps, while Adam swings across it. At the *saddle* (in the middle) both first go
# *towards* it; L-BFGS comes nearer, and leaves by one long step. In the pit of the *plateau* there is little between them. Among the *ripples*
# L-BFGS's line search is content with the first dip that is low enough. Adam's steps are about 0.1 long at first, whatever the slope is. It walks
# over several dips before one holds it, too.
#
# ### The spectrum along the path
#
# Now 20 variables. At each step of the same two methods, we compute the lowest and the highest eigenvalue of the Hessian. A negative one means that
# the function bends down in some direction.

# %%
def extremes(f, points):
    """(evaluations, lowest, highest eigenvalue) along a path, at up to 60 of its points."""
    some = points[:: max(1, len(points) // 60)]
    values = [torch.linalg.eigvalsh(f.hessian(x)) for _, x in some]
    return [u for u, _ in some], [v[0].item() for v in values], [v[-1].item() for v in values]


fig, axes = plt.subplots(1, 4, figsize=(15, 4))
lowest = {}
for ax, name in zip(axes, ("bent valley", "saddle", "plateau", "ripples"), strict=True):
    f = landscapes[name]
    for who, make in MAKE.items():
        used, low, high = extremes(f, path(f, f.x0(), make, 120))
        lowest[name, who] = low
        plots.curve(ax, used, low, who, label=f"{who}, lowest")
        plots.curve(ax, used, high, who, label=f"{who}, highest", linewidth=0.8, markersize=3)
    ax.set(title=name, xlabel="evaluations", yscale="symlog")
    ax.axhline(0.0, color="black", linewidth=0.8)
axes[0].set_ylabel("eigenvalues of the Hessian")
fig.tight_layout()
fig.legend(*axes[0].get_legend_handles_labels(), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4)
plots.show(fig, alt="Lowest and highest Hessian eigenvalue over the evaluations of Adam and L-BFGS on four landscapes of 20 variables. In the valley "
           "the lowest changes sign again and again, at the saddle it climbs by stairs, on the plateau it dips below zero, among the ripples it jumps once.")

# %% [markdown]
# **What you see.** Look at the thick lines, the lowest eigenvalues.
#
# - *Bent valley*: off the floor the curvature is negative, and Adam swings through such places again and again.
# - *Saddle*: five directions lead down, with curvatures from −1 to −100. The staircase is L-BFGS falling off along one after the other.
# - *Plateau*: at first there is no curvature at all, then a negative one, and the minimum's spectrum only at the end.
# - *Ripples*: the lowest eigenvalue is about −300 everywhere. It jumps up where the method is caught in a dip: L-BFGS after some 45 evaluations, Adam
#   after 105.
#
# ## 3 · Taking L-BFGS apart
#
# We now run L-BFGS with altered pairs. All variants, or *arms*, share the direction formula, the line search and the start. They differ in what they
# store.

# %%
def two_loop(pairs, g):
    """−Hg from the pairs (s, y), oldest first (Nocedal & Wright, algorithm 7.4)."""
    q, alphas = g.clone(), []
    for s, y in reversed(pairs):
        alphas.append(s.dot(q) / s.dot(y))
        q -= alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q *= s.dot(y) / y.dot(y)  # the scale γ
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - y.dot(q) / s.dot(y)) * s
    return -q


# %% [markdown]
# - **true**: $(s, y)$ as they are.
# - **shuffled**: each $s$ beside the $y$ of another step. To be fair, the wrong $y$ may only differ in its *direction across s*: it is turned so that
#   $\lVert y\rVert$ and $s^\top y$ stay what they were. So the pair is as admissible as before, and γ is the same.
# - **identity**: one pair, with $y \leftarrow s/\gamma$ and the γ of the true pair. Then $-Hg$ is $-\gamma g$: gradient descent with the scale of
#   L-BFGS.
# - **steepest** (in the recorded runs): $-g$ and the line search, without even that number.
# - **exact**: $-\lvert H\rvert^{-1}g$ from the true Hessian, which is given for nothing. It shows what all the curvature at the point would give.
#   (Where $f$ is not convex it is no upper bound, as section 4 shows.)
#
# **Exercise 15.2** (code) Write `shuffled(s, y, wrong)`: $y$ with its part across $s$ turned to where `wrong` has its own.

# %%
def shuffled(s, y, wrong):
    return ...


check("15.2", ...)  # check("15.2", shuffled)

# %%
def turned(s, y, wrong):
    """y, with its part across s along that of `wrong`: ‖y‖ and sᵀy stay."""
    along = s / s.norm()
    across = wrong - along * along.dot(wrong)
    part = along.dot(y)
    return part * along + (y.dot(y) - part * part).clamp(min=0).sqrt() * across / across.norm()


draw = torch.Generator().manual_seed(0)
PAIR = {  # what is stored for (s, y), given the true y of earlier steps
    "true": lambda s, y, earlier: y,
    "shuffled": lambda s, y, earlier: turned(s, y, earlier[int(torch.randint(len(earlier), (), generator=draw))]) if earlier else y,
    "identity": lambda s, y, earlier: s * (y.dot(y) / s.dot(y)),
    "exact": lambda s, y, earlier: y,
}


def newton(f, x, g):
    """−|H|⁻¹g, |λ| at least a millionth of the largest."""
    values, axes = torch.linalg.eigh(f.hessian(x))
    return -axes @ ((axes.T @ g) / values.abs().clamp(min=1e-6 * values.abs().max()))


# %%
def descend(f, x, arm, budget):
    """(evaluations, gap) after each step. A plain twin of the library's LBFGS(full_batch=True, history_size=10)."""
    both, first = torch.func.grad_and_value(f.function), f(x) - f.least
    g, value = both(x)
    pairs, earlier, used, rows = [], [], 1, [(1, 1.0)]
    while used < budget and rows[-1][1] > 1e-12:
        p = newton(f, x, g) if arm == "exact" else two_loop(pairs[-1:] if arm == "identity" else pairs[-10:], g)
        trials = {}

        def phi(t):
            trials[t], f_t = both(x + t * p)
            return Sample(t, f_t.item(), trials[t].dot(p).item())

        trial = 1.0 if pairs or arm == "exact" else min(1.0, 1.0 / g.norm().item())
        found = search(phi, Sample(0.0, value.item(), g.dot(p).item()), trial, max_evals=min(25, budget - used))
        used += found.evals
        if found.status == "failed":
            break
        s, y = found.best.t * p, trials[found.best.t] - g
        if s.dot(y) > 0:
            pairs.append((s, PAIR[arm](s, y, earlier[-10:])))
            earlier.append(y)
        x, g, value = x + s, trials[found.best.t], torch.tensor(found.best.f)
        rows.append((used, ((value - f.least) / first).item()))
    return rows


# %% [markdown]
# > **Predict.** The bent valley, κ = 1000, 20 variables, no noise. Rank the arms by their gap after 200 evaluations. The history of *shuffled* is as
# > full and as long as the true one. Where does it end? **(a)** near *true*; **(b)** between *true* and *identity*; **(c)** near *identity*, or
# > worse.

# %%
f = landscapes["bent valley"]
starts = f.from_axes(torch.randn(live, dim, generator=torch.Generator().manual_seed(15)))
runs_live = {arm: [descend(f, x, arm, evaluations) for x in starts] for arm in PAIR}
ends = pd.DataFrame({arm: [math.log10(max(run[-1][1], 1e-12)) for run in some] for arm, some in runs_live.items()})
SHADE, LINE = (dict(zip(PAIR, some, strict=True)) for some in (["C2", "C1", "C7", "C4"], ["-", "--", "-.", ":"]))
fig, ax = plt.subplots()
for arm, some in runs_live.items():
    for i, run in enumerate(some):
        ax.plot(*zip(*run), color=SHADE[arm], linewidth=1.3, linestyle=LINE[arm], label=arm if i == 0 else None)
ax.set(yscale="log", xlabel="evaluations", ylabel="gap", title=f"bent valley, κ = {condition:g}, {dim} variables, {live} starts")
ax.legend()
plots.show(fig, alt="Gap over evaluations on the bent valley, a line a start: exact pairs and true pairs fall quickly, identity and shuffled pairs slowly.")

# %% [markdown]
# **What you see.** Answer **c**. The shuffled history is worse than *identity*, which keeps a single number. So a full memory as such is worth
# nothing; it has to hold the right $y$ beside the right $s$. The exact Hessian, if we got it for nothing, would be about ten times as quick again.
# With ten pairs in twenty variables, L-BFGS knows the Hessian only in part.

# %% tags=["nbval-check-output"]
print(ends.mean().round(0).astype(int).to_dict())

# %% [markdown]
# ## 4 · The ladder, without noise
#
# Now the recorded runs: thirteen landscapes of 20 to 50 variables, with ten starts each. They use the library's own L-BFGS, whose stored pairs are
# altered. Adam is tuned on four other starts: it gets the best of eight learning rates, constant or with cosine decay, *for each budget*. The ladder
# from Adam to L-BFGS has four steps. A step's gain is measured in powers of ten of the gap at equal evaluations, so that the gains add up:
#
# | step | from | to |
# |---|---|---|
# | averaging | Adam, single batches | Adam, with L-BFGS's batch (none without noise) |
# | line search | Adam | steepest descent with the line search |
# | one number | steepest descent | identity pairs |
# | directions | identity pairs | true pairs |

# %%
runs = pd.read_csv(data.bundled("results/15_runs.csv"))
COLOURS = dict(zip(STEPS, ["C5", "C7", "C1", "C2"], strict=True))


def shown(i, digits=1):
    return f"{i.mean:+.{digits}f} [{i.low:+.{digits}f}, {i.high:+.{digits}f}]"


def bars(ax, some, budget):
    """The steps of the ladder with their 95 % intervals, a group a case (problem, noise)."""
    for row, case in enumerate(some):
        steps = ladder(runs, *case, budget)
        for k, step in enumerate(STEPS):
            i = lab.interval(steps[step])
            ax.barh(row + 0.2 * (k - 1.5), i.mean, 0.19, color=COLOURS[step], label=step if row == 0 else None)
            ax.plot([i.low, i.high], [row + 0.2 * (k - 1.5)] * 2, color="black", linewidth=1.2)
    ax.axvline(0.0, color="black", linewidth=0.8)
    names = [p if n == "none" else f"{p}, {n}\n(batch {batch_of(runs, p, n, 'true', budget)})" for p, n in some]
    ax.set_yticks(range(len(some)), names, fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel="powers of ten off the gap", title=f"after {budget} evaluations")


# %% [markdown]
# > **Predict.** Without noise, on the valleys: which step takes most off the gap in 100 evaluations? **(a)** the line search; **(b)** the one number;
# > **(c)** the directions.

# %%
exact = [case for case in cases(runs) if case[1] == "none"]
fig, ax = plt.subplots(figsize=(9, 9))
bars(ax, exact, 100)
ax.legend(*[entries[1:] for entries in ax.get_legend_handles_labels()], fontsize="small", loc="lower right")
ax.set_xlim(right=9.5)
plots.show(fig, alt="Horizontal bars, a group a landscape: what line search, one number and directions take off the gap within 100 evaluations without noise. "
           "The line search alone has a long bar on the easiest valley only; one number is longest at κ = 100, on the plateau and on the linear net; "
           "directions are longest at κ = 1000 and 10000, on two saddles and on the tanh net; all bars are short among the ripples.")

# %% [markdown]
# **What you see.** It depends on how ill-conditioned the landscape is. (*saddle 0.1*: the start's distance from the saddle, along the five directions
# down. *ripples 3, 0.05*: ρ/κ and the wavelength. Gaps below $10^{-12}$ count as $10^{-12}$.)
#
# - κ = 10: steepest descent with the line search is at the floor after 100 evaluations, and nothing is left to gain.
# - κ = 100, plateau, linear net: *one number* takes most. The scale that a single pair gives is Barzilai and Borwein's step.
# - κ ≥ 1000, two of the saddles, tanh net: the *directions* take most. So each of the three answers is right on some valley.
# - Ripples: nobody gains much, and in none of the three is the whole clearly positive.
# - The *line search* alone gains nothing over a tuned Adam, but on the easiest valley. On nine of thirteen landscapes it is a loss.
#
# Here are the same numbers (powers of ten, means over ten starts with 95 % intervals), their sum, and two controls:

# %%
def line(case, budget):
    """What the notebook's tables say of a case."""
    steps, noisy = ladder(runs, *case, budget), case[1] != "none"
    found = {step: lab.interval(steps[step]) for step in (*STEPS[0 if noisy else 1:], "total")}
    batch = batch_of(runs, *case, "true", budget)
    by = {arm: reported(log_gaps(runs, *case, arm, batch, budget)) for arm in ("identity", "shuffled", "true", "exact")}
    controls = {"shuffled for identity": by["identity"] - by["shuffled"], "exact for true": (by["true"] - by["exact"]).dropna()}
    return {name: shown(i) for name, i in found.items()} | {name: shown(lab.interval(d)) for name, d in controls.items()}


pd.DataFrame({case[0]: line(case, 100) for case in exact}).T

# %% [markdown]
# **What you see.** **At κ = 1000 the directions take 4.4 [4.1, 4.7] of 5.3 powers of ten.** On nine of thirteen landscapes their step is clearly
# positive and on none clearly negative. Where the true pairs have reached the floor, it is a lower bound.
#
# The controls are in the last two columns:
#
# - *shuffled for identity*: ten pairs of wrong direction in place of one number. On nine landscapes that is clearly a loss, of up to 6.5 powers of
#   ten. So the gain is not in having a memory; wrong curvature is worse than none. (Among strong ripples of short wavelength, where all curvature is
#   wrong anyway, it is a small gain.)
# - *exact for true*: what the Hessian would add if it were free. At κ = 10,000 and next to the saddle that is a lot, 7 and 9 powers of ten. Among the
#   strong ripples of short wavelength it is a loss.
#
# The floor hides some of the differences. So let us also count evaluations to a gap of $10^{-4}$. For true pairs the table has their mean. For the
# others it has the ratio to the true pairs (geometric mean and interval), where both arrive from all ten starts:

# %%
def to_level(problem, arm, column="to 0.0001"):
    """Evaluations to a level, by start; for Adam with the setting, of the two that were tuned for a budget, that is quicker on average."""
    some = runs[(runs.problem == problem) & (runs.noise == "none") & (runs.arm == arm) & (runs.start >= 4)]
    settings = [rows.set_index("start")[column] for _, rows in some.groupby(some.budget.fillna(0))]
    return min(settings, key=lambda times: (times.isna().sum(), times.mean()))


def ratio(problem, arm):
    logs = np.log(to_level(problem, arm) / to_level(problem, "true"))
    arrived = to_level(problem, arm).notna().sum()
    if arrived < 10 or to_level(problem, "true").isna().any():
        return f"{arrived} of 10 arrive"
    i = lab.interval(logs)
    return f"{math.exp(i.mean):.2f} [{math.exp(i.low):.2f}, {math.exp(i.high):.2f}]"


arms = ["Adam", "steepest", "identity", "shuffled", "exact", "FUSE-PV"]
there = [p for p, _ in exact if not p.startswith("ripples")]
own = {p: to_level(p, "true") for p in there}
own = {p: f"{e.mean():.0f} evaluations" if e.notna().all() else f"{e.notna().sum()} of 10 arrive" for p, e in own.items()}
pd.DataFrame({p: {"true": own[p]} | {arm: ratio(p, arm) for arm in arms} for p in there}).T

# %% [markdown]
# **What you see.** A single number of curvature needs 1.25, 1.87 and 3.26 times the evaluations of true pairs at κ = 10, 100 and 1000: **the more
# ill-conditioned, the more the directions are worth**. On the plateau and on the linear net they are worth nothing that could be shown (1.05 [0.97,
# 1.15] and 1.34 [0.97, 1.85]). There the scale is enough to a gap of $10^{-4}$; below it the directions take 3.7 powers of ten more on the plateau,
# by the table above.
#
# Shuffled pairs always need more than identity. Adam needs 6.9 times as many as L-BFGS on the easiest valley, and only 0.68 times as many from the
# start next to the saddle (section 6). FUSE-PV mostly needs about as many as Adam, as these places lie before its switch.
#
# **Exercise 15.3** $\log_{10}$ of the gap after the same number of evaluations: Adam −2.0; Adam on larger batches −1.2; steepest descent on these
# −2.1; identity pairs −2.8; true pairs −4.0. Which share of L-BFGS's gain over Adam is due to the directions?

# %%
check("15.3", ...)

# %% [markdown]
# ## 5 · With noise
#
# Each evaluation is now on a batch. There are three kinds of noise:
#
# - *held σ*: the function is tilted, $f + \xi^\top x$, with $\lVert\xi\rVert$ about σ times the gradient at the standard start. ξ is drawn anew for
#   each step and held within it, as a minibatch is. So $y$ is exact: the noise cancels in it.
# - *fresh σ*: ξ is added to the gradient only, drawn anew at each evaluation. So $y$ is noisy, while the loss is exact.
# - *rows 16*: 16 random rows of the tanh net's 512, drawn anew for each step.
#
# A batch 4 or 16 times as large costs 4 or 16 evaluations, and its noise is 2 or 4 times smaller.
#
# **Quick check 15.4** An *exact* Newton step on $f + \xi^\top x$, $f = \tfrac12 x^\top Hx$. It lands where the gap of $f$ is **(a)** 0; **(b)**
# $\tfrac12\lVert\xi\rVert^2$; **(c)** $\tfrac12\xi^\top H^{-1}\xi$.

# %%
check("15.4", ...)

# %% [markdown]
# > **Predict.** Valley of κ = 100, held noise of 10 %, 500 evaluations, each arm on the batch that suits it best. Who ends lowest? **(a)** L-BFGS;
# > **(b)** tuned Adam; **(c)** the exact Newton step.

# %%
noisy = [case for case in cases(runs) if case[1] != "none"]
names = ["Adam", "steepest", "identity", "shuffled", "true", "FUSE-PV"]


def at_best(case, arm, budget=500, table=runs):
    """log₁₀ gap on the arm's own best batch, chosen on other starts, as text."""
    batch = batch_of(table, *case, arm, budget)
    return f"{reported(log_gaps(table, *case, arm, batch, budget)).mean():.1f} ({batch})"


pd.DataFrame({", ".join(case): {arm: at_best(case, arm) for arm in names} for case in noisy}).T

# %% [markdown]
# (Mean $\log_{10}$ of the gap after 500 evaluations over six starts, and in brackets the batch. *exact* was run from five starts only, none of them
# for tuning; it is in the next figure.)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(14, 7.5), width_ratios=(3, 2))
bars(left, noisy, 500)
left.legend(fontsize="small")
ARMS = (("Adam", "C0", "o"), ("steepest", "C7", "X"), ("identity", "C1", "^"), ("true", "C2", "s"), ("exact", "C4", "*"))
for k, (arm, shade, mark) in enumerate(ARMS):
    gaps = [lab.interval(reported(log_gaps(runs, "valley 100", "held 0.1", arm, b, 500))) for b in (1, 4, 16)]
    at = [b * 1.06 ** (k - 2) for b in (1, 4, 16)]
    right.errorbar(at, [g.mean for g in gaps], [g.high - g.mean for g in gaps], color=shade, marker=mark, capsize=3, label=arm)
right.set(xscale="log", xlabel="batch (evaluations at equal cost: 500 / batch)", ylabel="$\\log_{10}$ gap", title="valley of κ = 100, held noise of 10 %")
right.set_xticks([1, 4, 16], ["1", "4", "16"])
right.minorticks_off()
right.legend(fontsize="small")
fig.tight_layout()
plots.show(fig, alt="Left: bars of the four steps of the ladder for nine noisy cases; averaging and line search are mostly losses, directions are clearly "
           "positive in five. Right: gap over batch size for five arms on one valley with noise; Adam on single batches is lowest of all.")

# %% [markdown]
# **What you see.** (Six starts.) On the left, look at the brown bars first: the batch that L-BFGS wants costs Adam up to 1.4 powers of ten at equal
# cost. The green bars are still positive in five of nine cases: *on those larger batches* the directions do help. But they do not pay back what the
# batch cost, nor what steepest descent (grey) gives up because it has no decay.
#
# On the right is the reason. On single batches (left end) the order is turned round: **the better the curvature, the worse the end**. Steepest
# descent ends at −2.3, true pairs at −1.5, the exact Hessian at −1.1. That is exercise 15.4. A good step on one batch goes to the minimum of *that
# batch's* function, $H^{-1}\xi$ away from the right one, and so the noise is divided by the smallest eigenvalues. With larger batches L-BFGS and the
# exact step get better, while Adam, which then makes fewer steps, gets worse. Steepest descent and the one number are best at 4. Adam on single
# batches (answer **b**) is below all.
#
# The next table compares them pair by pair, in powers of ten, each arm on its own best batch:

# %%
pd.DataFrame({", ".join(case): {"L-BFGS below tuned Adam": shown(gain(runs, *case, "Adam", "true", 500)),
                                "true below steepest": shown(gain(runs, *case, "steepest", "true", 500)),
                                "true below identity": shown(gain(runs, *case, "identity", "true", 500)),
                                "true below shuffled": shown(gain(runs, *case, "shuffled", "true", 500))} for case in noisy}).T

# %% [markdown]
# **What you see.** In eight of nine cases **tuned Adam is clearly ahead of L-BFGS**, by 0.7 to 1.6 powers of ten; the interval of the κ = 10,000
# valley only just ends below zero. On the tanh net's minibatches nothing is shown.
#
# With *held* noise, true pairs are nowhere clearly ahead of steepest descent, and three times behind. With *fresh* noise they are ahead, by 0.3 and
# 2.4: there the loss is exact, and a line search can tell a good step from a bad one. (On the plateau the noise is 10 % of a very small gradient, so
# it is weak at the minimum.)
#
# Is Adam's lead the averaging of its decaying steps? The tuning table has both schedules (mean $\log_{10}$ of the gap over the four tuning starts,
# best learning rate each):

# %%
tuning = pd.read_csv(data.bundled("results/15_tuning.csv"))
tuning = tuning[(tuning.noise != "none") & (tuning.budget == 500) & (tuning.batch == 1)]
lowest_gap = tuning.assign(log=np.log10(tuning.gap)).groupby(["problem", "noise", "schedule"], sort=False).log.min()
lowest_gap.unstack().round(1)

# %% [markdown]
# Yes, to a large part. With a constant rate Adam loses 0.2 to 1.2 powers of ten, and on the plateau 5. Then it would be behind L-BFGS on the plateau,
# and level with it on the valley with 1 % noise. Small steps average *over time*, a large batch averages at one point. At equal cost, the first is
# the better bargain here.
#
# ### A larger budget
#
# With 4,000 evaluations one can afford batches of 64 and 256. Here are four of the cases again. Everybody runs on the best of 16, 64 and 256, and
# Adam on single batches, tuned for this budget:

# %%
long = pd.read_csv(data.bundled("results/15_long.csv"))
BIG = ["Adam", "steepest", "identity", "true", "FUSE-PV"]
lines = {}
for case in cases(long):
    lines[", ".join(case)] = {arm: at_best(case, arm, 4000, long) for arm in BIG}
    for one, other in (("Adam", "true"), ("steepest", "true"), ("Adam", "FUSE-PV")):
        lines[", ".join(case)][f"{other} below {one}"] = shown(gain(long, *case, one, other, 4000))
pd.DataFrame(lines).T

# %% [markdown]
# **What you see.** It does not turn. **L-BFGS is clearly behind tuned Adam in all four**, by 0.5 to 2.4 powers of ten, and true pairs are nowhere
# clearly below steepest descent. The larger budget serves both sides: a larger batch here, a longer decay there. FUSE-PV, whose first phase is cheap,
# can afford batches of 64 and 256. It is 0.4 to 0.8 behind Adam, and on the saddle and the linear net closer to it than any other. (Batches below 16
# were not tried at this budget.)
#
# ## 6 · At a saddle
#
# The saddle has 5 of 20 directions down. Along those, the starts are at a distance of $10^{-1}$, $10^{-3}$ or $10^{-6}$ from it; along the others, at
# about 1. So the gradient first leads *towards* the saddle. The linear net starts near its saddle, too. How many evaluations does it take until half
# of the way from the saddle's value down to the minimum is done? (The steepest of the five directions alone is two thirds of that way.)
#
# **Quick check 15.5** Is L-BFGS attracted by a saddle, as Newton's method is? **(a)** yes; **(b)** no: pairs with $s^\top y \le 0$ are not kept, so
# $H$ is positive definite; **(c)** only if it starts exactly there, and then it leaves at once.

# %%
check("15.5", ...)

# %%
def escape(problem, noise, arm, batch=1):
    some = runs[(runs.problem == problem) & (runs.noise == noise) & (runs.arm == arm) & (runs.batch == batch) & (runs.start >= 4)]
    times = some[some.budget.isna() | (some.budget == 500)].set_index("start").escape
    return f"{times.notna().sum()} of {len(times)}" if times.isna().any() else shown(lab.interval(times), 0).replace("+", "")


saddles = [(p, n) for p, n in cases(runs) if p.startswith("saddle") or p == "linear net"]
escapes = {case: {arm: escape(*case, arm) for arm in (*names[:5], "exact", "FUSE-PV")} for case in saddles}
pd.DataFrame({", ".join(case): row for case, row in escapes.items()}).T

# %% [markdown]
# **What you see** (evaluations, mean and 95 % interval): **nobody is caught.** All arms are on their way down after 3 to 26 evaluations. L-BFGS needs
# 7, 11 and 18 from $10^{-1}$, $10^{-3}$ and $10^{-6}$. The nearer the start, the longer it takes, as each step multiplies what it has of the way down
# by some factor. Adam needs 11 at all three distances, because its first steps have the same length whatever the gradient is.
#
# So the nearer the saddle, the better Adam is by comparison. To a gap of $10^{-4}$ all five directions have to be left. L-BFGS takes 41, 80, and 129
# evaluations for that, and Adam 2.2, 1.1 and 0.68 times as many (section 4). Noise pushes everybody off, and changes little.
#
# (Adam's rate is tuned for the gap after 500 evaluations and not for leaving. On the linear net it is 0.01; with 0.1, as in FUSE-PV, 3 evaluations
# are enough.)
#
# For comparison, here is Newton's method itself, which keeps the signs of the eigenvalues:

# %%
f = landscapes["saddle"]
x = f.from_axes(torch.tensor([1e-1] * 5 + [0.5] * 15))
for _ in range(6):
    x = x - torch.linalg.solve(f.hessian(x), torch.func.grad(f.function)(x))
print(f"after six Newton steps: gradient {torch.func.grad(f.function)(x).norm():.0e}, f {f(x).item():.1f} (minimum {f.least:.1f}), "
      f"negative eigenvalues {int((f.spectrum(x) < 0).sum())}")

# %% [markdown]
# It goes *to* the saddle: the gradient vanishes, and five eigenvalues are negative. That is the attraction people warn of; L-BFGS does not share it.
#
# ## 7 · Adam first?
#
# FUSE-PV spends a fifth of its 500 evaluations on Adam (on single batches, with the constant learning rate that is best for 100 evaluations), and the
# rest on L-BFGS. Compare it with L-BFGS at once, each on its own best batch:

# %%
first = {case: gain(runs, *case, "true", "FUSE-PV", 500) for case in [*exact, *noisy]}
against = {case: gain(runs, *case, "Adam", "FUSE-PV", 500) for case in first}
pd.DataFrame({", ".join(case): {"FUSE-PV below L-BFGS": shown(first[case]), "FUSE-PV below tuned Adam": shown(against[case])} for case in first}).T

# %% [markdown]
# **What you see.** *Without noise* a first phase mostly makes no difference after 500 evaluations, since both have reached the floor. (To a gap of
# $10^{-4}$, in section 4, it is slower than L-BFGS at once, except from next to the saddle.) On the weak ripples it decides everything, 6.4 [4.0,
# 8.9] powers of ten: Adam walks over the dips and ends in the right one, while L-BFGS at once is caught early. Adam alone gets there as well.
#
# *With noise* FUSE-PV is clearly ahead of L-BFGS at once in three cases of nine, and behind in none. But it is clearly behind tuned Adam in eight. So
# a first phase of Adam helps L-BFGS, and what it brings is not curvature: it walks over dips, and it is cheap on single batches.

# %% tags=["nbval-check-output"]
def clear(found):
    return f"lower on {sum(i.low > 0 for i in found)} and higher on {sum(i.high < 0 for i in found)} of {len(found)}"


curvature = {case: lab.interval(ladder(runs, *case, 100 if case[1] == "none" else 500).directions) for case in first}
for label, some in (("without noise", exact), ("with noise", noisy)):
    print(f"{label}: the directions make the gap {clear([curvature[c] for c in some])}")
    print(f"{label}: FUSE-PV against L-BFGS at once {clear([first[c] for c in some])}, against tuned Adam {clear([against[c] for c in some])}")

# %% [markdown]
# ## Summary
#
# | question | verdict | effect, with 95 % intervals | section |
# |---|---|---|---|
# | does L-BFGS gain from curvature, beyond line search, scale and batch? | **without noise yes**, the more so the worse the condition | κ = 1000, 100 evaluations: the directions take 4.4 [4.1, 4.7] of 5.3 powers of ten; clearly positive on 9 of 13 landscapes, negative on none | 4 |
# | is it just the memory, or the scale? | **not the memory**; at κ ≤ 100 mostly the scale | shuffled pairs are clearly worse than one number on 9 of 13; identity pairs need 1.25 [1.16, 1.35], 1.87 [1.68, 2.07], 3.26 [2.80, 3.79] times the evaluations at κ = 10, 100, 1000 | 4 |
# | is it the line search? | **no** | alone it is clearly behind tuned Adam on 9 of 13 | 4 |
# | with noise? | **no**: the directions help on larger batches, which cost more than that | directions positive in 5 of 9, negative in 1. Against tuned Adam L-BFGS is clearly behind in 8 of 9: −0.8 [−1.0, −0.7] on the valley of κ = 100; with 4,000 evaluations and batches up to 256 in 4 of 4 | 5 |
# | chaotic? | **no clear advantage** over tuned Adam | three kinds of ripples: −0.5 [−0.6, −0.3], −0.1 [−0.2, +0.0], +0.4 [−1.4, +2.2] | 4 |
# | flat? | **a large one**, mostly by its scale | plateau: +7.1 [+6.7, +7.5] | 4 |
# | saddles? | **not attracted**; Adam leaves sooner from very near | from $10^{-6}$: 18 [17, 20] evaluations, Adam 11 [8, 14] | 6 |
# | Adam first? | **helps** among weak ripples and with noise, for reasons other than curvature | +6.4 [+4.0, +8.9] powers of ten on weak ripples | 7 |
#
# - So the answer to the summary's check is **yes without noise, and on the whole no with it**. Where gradients are exact, L-BFGS exploits curvature.
#   With noisy ones the directions only help on batches that cost more than they bring, at these budgets.
# - **Practical**: before you reach for L-BFGS on an easy problem, try one number (Barzilai–Borwein) and a line search. On an ill-conditioned one,
#   nothing short of the directions helps. With minibatches, average first.
# - **Reservations**: the ladder's steps depend on its order (from Adam to the line search the metric changes as well: Adam has one scale a
#   coordinate). Adam's settings are tuned and L-BFGS's are not, but for the batch. 20 to 50 variables; 500 evaluations; ten pairs; six starts with
#   noise, and noise of one size everywhere along the path. Cost is in evaluations: on functions as cheap as these, seconds measure Python.
# - **Still open**: batches that grow as the gap falls; variance reduction in the place of batches; averaged iterates for L-BFGS, which would give it
#   the decay that Adam has; whether the spectrum of real nets, with its few large eigenvalues, is a case of κ = 1000 or of ripples.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - Y. Dauphin, et al., *Identifying and attacking the saddle point problem in high-dimensional non-convex optimization*, NeurIPS 2014,
#   [arXiv 1406.2572](https://arxiv.org/abs/1406.2572)
# - A. Saxe, J. McClelland, S. Ganguli, *Exact solutions to the nonlinear dynamics of learning in deep linear neural networks*, ICLR 2014,
#   [arXiv 1312.6120](https://arxiv.org/abs/1312.6120)
# - J. Barzilai, J. Borwein, *Two-point step size gradient methods*, IMA Journal of Numerical Analysis 8, 1988, [doi
#   10.1093/imanum/8.1.141](https://doi.org/10.1093/imanum/8.1.141)
# - J. Nocedal, S. Wright, *Numerical Optimization*, 2006, [doi 10.1007/978-0-387-40065-5](https://doi.org/10.1007/978-0-387-40065-5)
#
# **The course**: the [README](@repository@#the-course) has the map. Before this one:
# [14 · Overhead: what a step costs in time, memory and waiting](14_overhead.ipynb). After it:
# [16 · Automatic switching: when do I switch?](16_automatic_switching.ipynb)

# %%
effective = {"condition": condition, "dim": dim, "evaluations": evaluations, "live": live, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"log10 gap, {arm}": v for arm, v in ends.mean().items()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
