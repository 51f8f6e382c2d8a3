# %% [markdown]
# # 11 · Other pairs: which half of a pair matters more
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/11_other_pairs.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - how to put any first-order optimizer before any of four second phases: `Fuse(…, first_order=…, second_order=…)`,
# - how to multiply with a Hessian that is never formed, and what a redrawn batch does to that,
# - how to split a variance among two choices, and what such a share does not say,
# - how fast each method converges near a minimum, beside what theory says of it.
#
# **You need first**: [00 · Start here](00_start_here.ipynb), [02 · L-BFGS](02_lbfgs.ipynb) up to section 3, and section 4 of
# [09 · Complexity](09_complexity_and_zeta.ipynb) for the condition number κ.
#
# **Minutes**: 25 to read, 1 to run. With `profile="full"`: 1.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
condition: float = 1000.0  # κ of the live quadratic
dim: int = 100  # its number of variables
budget: int = 200  # closure calls of each live run
switch: int = 20  # of them for the first phase
live: int = 2  # seeds of the live pairs
profile: str = "quick"  # "full": ten live seeds
device: str = "auto"  # "cpu" or "auto"; the problems are too small to gain from a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (condition >= 1 and dim >= 2 and 1 <= switch < budget and live >= 1 and profile in ("quick", "full")):
    raise ValueError(f"condition={condition}, dim={dim}, switch={switch}, budget={budget}, live={live}, profile={profile!r}; allowed are "
                     "condition ≥ 1, dim ≥ 2, 1 ≤ switch < budget, live ≥ 1, and the profiles 'quick' and 'full'")
live = 10 if profile == "full" else live

# %%
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from fuse_lib import Fuse, data, lab, plots
from fuse_lib.exercises import check, hint, solution

plots.use_style()
torch.set_num_threads(1)  # as in the recorded tables
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1 · The question
#
# The paper pairs Adam with L-BFGS. It leaves open what other pairs would do (its question 3). Here there are five first phases, all of them torch's
# own: **Adam, AdamW, SGD** with momentum 0.9, **RMSprop** and **NAdam**. AdamW is Adam with weight decay, NAdam is Adam with Nesterov's momentum, and
# RMSprop is much like Adam without momentum. There are four second phases, with $g=\nabla f$ and the last step $s$:
#
# | `second_order=` | direction | remembers | closure calls an iteration, on a full batch |
# |---|---|---|---|
# | `"lbfgs"` | $-Hg$ from the last $m$ pairs | $2m$ vectors | 1, now and then 2 |
# | `"cg"` | non-linear conjugate gradients (CG): $-g+\beta s$, with β by Hager and Zhang's formula | 2 vectors | 2: the line search has to be nearly exact |
# | `"newton-cg"` | $z$ with $\nabla^2\!f\,z\approx-g$, solved by linear CG in some *inner* steps | nothing | 1, and one more for each product $\nabla^2\!f\,v$ |
# | `"adahessian"` | $-\hat m/(\sqrt{\hat v}+\epsilon)$: Adam, but $v$ averages squares of the Hessian's diagonal, which is estimated | 2 vectors | 2, and **no line search** |
#
# How can the question be settled? Run all 20 pairs on several problems, tune everything in the same way, and let each spend the same. Then compute
# how much of the differences comes from the first phase and how much from the second. This notebook does that on four problems. The cost is counted
# in **closure calls**, and a product with the Hessian counts as one. Every call takes all rows; minibatches would be a different question (section 2
# says why).
#
# The first three second phases share one line search and one contract. The loss never goes up, `max_evals` bounds the calls of a step, and a saved
# run goes on bit for bit. AdaHessian has no line search, by definition. Its loss may rise, and you have to tune its learning rate.
#
# First the ingredients of a live run: a quadratic whose Hessian we know, and a loop that notes the loss after each step.

# %%
def quadratic(seed=0):
    """½ wᵀAw with eigenvalues from 1/condition to 1, even on a log scale, and a start."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)))[0]
    A = Q @ torch.diag(torch.logspace(-math.log10(condition), 0, dim)) @ Q.T
    return (lambda w: 0.5 * w @ A @ w), torch.randn(dim, generator=generator)


# %%
def descend(f, start, calls, **options):
    """Rows (closure calls, f) of the accepted points of one run."""
    w = torch.nn.Parameter(start.clone())
    opt = Fuse([w], full_batch=True, max_evals=100, **options)
    rows = [(0, f(start).item())]

    def closure():
        opt.zero_grad()
        loss = f(w)
        loss.backward()
        return loss

    while rows[-1][0] < calls:
        opt.step(closure)
        rows.append((rows[-1][0] + opt.last_step.evals, f(w.detach()).item()))
        if opt.phase != "first_order" and opt.last_step.stop_reason:
            break
    return rows


# %%
f, start = quadratic()
alone = {name: descend(f, start, budget, switchover="always", second_order=name) for name in ("lbfgs", "cg", "newton-cg", "adahessian")}

# %% [markdown]
# > **Predict.** A quadratic of κ = 1000 in 100 variables, 200 closure calls for each method, without a first phase. How many *iterations* does each of
# > the four make, and which is lowest at the end?

# %% tags=["nbval-check-output"]
for name, rows in alone.items():
    within = [value for calls, value in rows if calls <= budget]
    print(f"{name:10}  iterations {len(within) - 1:4}   log10 of the gap after at most {budget} calls: {math.log10(within[-1] / within[0]):6.1f}")

# %%
STYLE = {"L-BFGS": ("C2", "s", "--"), "CG": ("C4", "o", "-"), "Newton-CG": ("C3", "D", "-."), "AdaHessian": ("C5", "^", ":")}
NAMES = dict(zip(alone, STYLE))
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for name, rows in alone.items():
    color, marker, line = STYLE[NAMES[name]]
    gaps = np.array([value for _, value in rows]) / rows[0][1]
    look = {"color": color, "marker": marker, "linestyle": line, "markevery": max(1, len(rows) // 8), "label": NAMES[name]}
    axes[0].plot([calls for calls, _ in rows], gaps, **look)
    axes[1].plot(range(len(rows)), gaps, **look)
axes[0].set(yscale="log", ylim=(1e-16, 3), xlim=(0, budget), xlabel="closure calls", ylabel="(f − f*)/(f₀ − f*)", title="Over what it costs")
axes[1].set(xlabel="iterations", xlim=(0, budget), title="Over iterations")
axes[1].legend()
plots.show(fig, alt="The relative gap of four second phases on a quadratic, on the left over closure calls, on the right over iterations. "
           "Over iterations Newton-CG falls almost straight down; over closure calls it is only a little below L-BFGS.")

# %% [markdown]
# **What you see.** Over iterations Newton–CG is in a class of its own: five iterations, each gaining more than the one before. But each holds many
# products with the Hessian, about thirty on average. Over closure calls it is only a little ahead of L-BFGS, and within 200 calls they end nearly
# level (its sixth iteration would go beyond them). CG makes half as many iterations as L-BFGS, since each costs two calls, and it ends three decades
# higher. AdaHessian, here at its default learning rate, only knows the diagonal of the Hessian, and this Hessian is rotated. **Compare over closure
# calls**; iterations are for theory.
#
# **Quick check 11.1** A Newton–CG iteration solves its system with 12 inner steps of conjugate gradients, and the search takes its first trial. The
# start's gradient is known. How many closure calls is that? **(a)** 1; **(b)** 26; **(c)** 13.

# %%
check("11.1", ...)

# %% [markdown]
# ## 2 · A product with the Hessian costs one gradient
#
# $\nabla^2\!f(x)$ has $d^2$ entries. Newton–CG and AdaHessian only ever need it *times a vector*:
#
# $$\nabla^2\!f(x)\,v \;\approx\; \frac{\nabla f(x+hv)-\nabla f(x)}{h}.$$
#
# $h$ must not be too large (then the third derivative shows) nor too small (then rounding does). The library takes
# $h = 2\sqrt{\varepsilon}\,(1+\lVert x\rVert)/\lVert v\rVert$, where ε is the rounding error of the dtype (Nocedal and Wright, section 8.1). Autograd
# could compute the product exactly, with a second backward pass. A difference needs nothing of the model but its closure, and its cost is plain: one
# call.
#
# **Exercise 11.2** (code) Write `product(gradient, x, v)`, where `gradient(x)` gives $\nabla f(x)$.

# %%
def product(gradient, x, v, h=1e-6):
    return ...


check("11.2", ...)  # check("11.2", product)

# %% [markdown]
# How accurate it is, over $h$, at a random point of a softmax regression on the digits (650 parameters):

# %%
digits = data.load("digits")
X = torch.cat([digits.x_train.double().flatten(1), torch.ones(len(digits.x_train), 1)], dim=1)
y = digits.y_train


def softmax(w, rows=slice(None)):
    """Softmax regression with a small penalty, the problem of the recorded runs."""
    return torch.nn.functional.cross_entropy(X[rows] @ w.view(X.shape[1], 10), y[rows]) + 5e-4 * w.square().sum()


def gradient(w, rows=slice(None)):
    w = w.detach().requires_grad_()
    return torch.autograd.grad(softmax(w, rows), w)[0]


generator = torch.Generator().manual_seed(0)
x, v = 0.1 * torch.randn(650, generator=generator), torch.randn(650, generator=generator)
exact = torch.autograd.functional.hvp(softmax, x, v)[1]

# %% [markdown]
# > **Predict.** Now the closure draws a new minibatch of 128 rows in each call, so that the two gradients are of different rows. With $h=10^{-4}$, the
# > product is **(a)** noisier by a factor of about 3; **(b)** wrong by a factor of hundreds or more; **(c)** still right on average, so it does not matter.

# %%
lengths = 10.0 ** np.arange(-13, 1)
errors = {"same rows": [], "redrawn rows": []}
for h in lengths:
    rows = [torch.randint(len(y), (128,), generator=generator) for _ in range(2)]
    for name, ends in (("same rows", (slice(None), slice(None))), ("redrawn rows", rows)):
        found = (gradient(x + h * v, ends[0]) - gradient(x, ends[1])) / h
        errors[name].append(((found - exact).norm() / exact.norm()).item())
fig, ax = plt.subplots()
for name, marker in (("same rows", "o"), ("redrawn rows", "X")):
    ax.plot(lengths, errors[name], marker=marker, label=name)
ax.axvline(2 * math.sqrt(2.2e-16) * (1 + x.norm()) / v.norm(), color="0.4", linestyle=":", label="the library's h")
ax.axhline(1.0, color="0.7", linewidth=1)
ax.set(xscale="log", yscale="log", xlabel="h", ylabel="relative error of the product", title="A Hessian-vector product by differences")
ax.legend()
plots.show(fig, alt="Relative error of a Hessian-vector product over the length h. With the same rows in both gradients it is lowest in the middle, "
           "about 1e-8; with redrawn rows it is above one everywhere below h of about 0.1 and grows as h shrinks.")

# %% [markdown]
# **What you see.** With the same rows there is a valley. At its bottom seven to eight digits are correct, in float64, and the library's $h$ lies
# close to it. With redrawn rows, the difference between two batches is divided by a small number: the answer is **(b)**.
#
# So `newton-cg` and `adahessian` need a closure that stays with one batch (and one dropout mask) for all calls *within* a step. L-BFGS's search needs
# that too. One batch a step is fine; a batch a call is not. With `full_batch=True` the library tests it; with minibatches it cannot, and must trust
# your closure.

# %% tags=["nbval-check-output"]
print(f"same rows: the best error is below 1e-7: {min(errors['same rows']) < 1e-7}")
print(f"redrawn rows, h = 1e-4: the error is above 100: {errors['redrawn rows'][9] > 100}")

# %% [markdown]
# ## 3 · Twenty pairs, live
#
# One rule for all: after `switch` first-order steps the second phase begins. The learning rates are round numbers here; the recorded runs tune them.

# %%
FIRST = {"Adam": (torch.optim.Adam, 0.1, {}), "AdamW": (torch.optim.AdamW, 0.1, {}), "SGD": (torch.optim.SGD, 0.3, {"momentum": 0.9}),
         "RMSprop": (torch.optim.RMSprop, 0.03, {}), "NAdam": (torch.optim.NAdam, 0.1, {})}
SECOND = {shown: name for name, shown in NAMES.items()}


def pair(f, start, first, second, switchover):
    """log10 of the relative gap within the budget."""
    cls, lr, args = FIRST[first]
    rows = descend(f, start, budget, lr=lr, first_order=cls, first_order_args=args, second_order=SECOND[second], switchover=switchover)
    return math.log10(max([value for calls, value in rows if calls <= budget][-1] / rows[0][1], 1e-14))


warnings.filterwarnings("ignore", message="AdamW's decoupled weight decay")  # it is left out of the second phase, which is meant here
rows = []
for seed in range(live):
    f, start = quadratic(seed)
    rows += [(first, second, seed, pair(f, start, first, second, f"step:{switch}")) for first in FIRST for second in SECOND]
pairs = pd.DataFrame(rows, columns=["first", "second", "seed", "log10 gap"])
pairs.pivot_table(index="first", columns="second", values="log10 gap").loc[list(FIRST), list(SECOND)].round(1)

# %% [markdown]
# **What you see.** Go down a column: little changes. Go along a row: everything does. Still, one quadratic and two starts prove nothing. So let us
# look at the recorded runs.
#
# ## 4 · Twenty pairs, recorded
#
# Four problems, each from five random starts, 400 closure calls for each run:
#
# | problem | d | |
# |---|---:|---|
# | quadratic | 200 | κ = 10⁴, eigenvalues even on a log scale |
# | Rosenbrock-20 | 20 | a curved valley, uniform starts; it has a second, local minimum |
# | softmax regression | 650 | on the bundled digits, 1,437 rows, penalty 10⁻³; convex, f* known |
# | tanh net | 1,210 | 64-16-10 on the digits, penalty 10⁻⁴; not convex |
#
# *One switch rule*: 40 first-order steps, a tenth of the budget.
#
# *Tuning*: each first phase tries seven or eight learning rates on three other seeds. As half of a pair it takes the one that is best at the switch;
# alone, the one that is best at the end. AdaHessian tries five, alone. Newton–CG, CG and L-BFGS have nothing to tune.
#
# *Result* of a run: $\log_{10}$ of its relative gap at the last accepted point within the budget. A difference of one is called a *decade*, a factor
# of ten. The net has no one known minimum; 0.99 of the lowest value of any run stands in for it.
#
# > **Predict.** What decides the result more: which of the five first phases, or which of the four second ones?

# %%
runs = pd.read_csv(data.bundled("results/11_runs.csv"))
FIRSTS, PROBLEMS = [*FIRST, "none"], list(dict.fromkeys(runs.problem))
FLOOR = 1e-12  # of the gap: below it a run counts as solved


def result(table, calls=400):
    """log10 of the relative gap after so many calls, not below the floor."""
    return np.log10(table[f"gap {calls}"].clip(FLOOR, 10.0))


grid = runs[runs.part == "grid"].assign(result=result)
fig, axes = plt.subplots(2, 2, figsize=(12, 7.5))
for ax, name in zip(axes.flat, PROBLEMS, strict=True):
    cells = grid[grid.problem == name].pivot_table(index="first", columns="second", values="result")
    sns.heatmap(cells.reindex(FIRSTS)[[*SECOND, "none"]], annot=True, fmt=".1f", cmap="viridis", cbar=False, ax=ax)
    ax.set(title=f"{name}: log10 of the gap", xlabel="second phase" if ax in axes[1] else "", ylabel="first phase" if ax in axes[:, 0] else "")
    ax.tick_params(axis="both", rotation=0, labelsize="small")
    ax.grid(False)
fig.tight_layout()
plots.show(fig, alt="Four heat maps, one a problem, of the mean log10 gap after 400 closure calls for five first phases and none, and four second phases "
           "and none. Among the pairs the columns differ far more than the rows.")

# %% [markdown]
# **What you see.** Darker is better. Among the pairs the columns differ, and the rows hardly do. With L-BFGS second, the quadratic ends at −8.5 to
# −8.8, whichever the first phase is; with AdaHessian at −2.4 to −3.0. L-BFGS is the darkest column of three problems. On the fourth, softmax, L-BFGS,
# CG and Newton–CG are all done: they are at the floor of −12 (section 5 looks there earlier). CG is behind L-BFGS, as its search costs twice as much.
# Newton–CG is good where the Hessian is the same everywhere, or nearly so. It is poor in Rosenbrock's curved valley (about −3.5), where the solution
# of a system is only good for a short step.
#
# There are two traps in the column of first phases *alone* (second phase "none").
#
# - AdamW ends three decades below Adam on the quadratic. Its weight decay (0.01, torch's default) pulls to zero, which is where this minimum lies. On
#   the softmax regression the minimum lies elsewhere, and AdamW stays at −4.7, where Adam reaches −8.7.
# - SGD solves the softmax regression. It does so at a learning rate of 3, far beyond those in common use: tuning found it.
#
# Do equal calls also mean equal time?

# %%
grid[grid["first"] != "none"].pivot_table(index="problem", columns="second", values="seconds").loc[PROBLEMS, list(SECOND)].round(2)

# %% [markdown]
# These are seconds on one core for a run, with the evaluations that only measure included. Equal calls take nearly equal seconds, as the closure is
# most of the work. There are two exceptions: a run that is done stops earlier, and on the quadratic, whose closure is tiny, the optimizer's own work
# shows.
#
# ## 5 · What matters more? Shares of variance
#
# Let $y_{ijk}$ be the result of first phase $i$, second phase $j$ and start $k$, and let a bar with fewer indices mean the average over the missing
# ones. The deviation from the mean of all splits into four parts. Every pair has run from every start, so the mean squares of these parts add up (a
# two-way analysis of variance):
#
# $$y_{ijk}-\bar y=\underbrace{(\bar y_i-\bar y)}_{\text{first}}+\underbrace{(\bar y_j-\bar y)}_{\text{second}}+\underbrace{(\bar y_{ij}-\bar y_i-\bar
# y_j+\bar y)}_{\text{both together}}+\underbrace{(y_{ijk}-\bar y_{ij})}_{\text{the start}}$$
#
# Divided by the whole, they are shares. A large share of *both together* would say that pairs have to be chosen as pairs. The intervals come from a
# bootstrap: draw five starts out of the five with replacement, compute the shares again, repeat 2,000 times, and keep the middle 95 % of the values.
#
# **Exercise 11.3** (code) Write `share_of_columns(table)`, for one start: rows are first phases, columns are second phases. Which share of the
# variance do the columns' means explain?

# %%
def share_of_columns(table):
    return ...


check("11.3", ...)  # check("11.3", share_of_columns)

# %%
def shares(name, calls=400, without=(), after=40):
    """Shares of variance of the balanced pairs of a problem, with intervals; None where most runs are solved."""
    some = runs[(runs.problem == name) & (runs.switch == after) & (runs["first"] != "none") & ~runs.second.isin([*without, "none"])]
    some = some.assign(result=result(some, calls))
    if (some.result <= math.log10(FLOOR)).mean() > 0.5:
        return None
    return lab.variance_shares(some, "result", ("first", "second"))


def brief(i):
    return f"{i.mean:.2f} [{i.low:.2f}, {i.high:.2f}]"


LABELS = {"first": "first phase", "second": "second phase", "both": "both together", "rest": "start"}
lines = {}
for without in ((), ("AdaHessian",)):
    for name in PROBLEMS:
        for calls in (100, 200, 400):
            found = shares(name, calls, without)
            key = (name, "without AdaHessian" if without else "all four", calls)
            lines[key] = {LABELS[part]: "solved" if found is None else brief(found[part]) for part in LABELS}
pd.DataFrame(lines).T.rename_axis(["problem", "second phases", "calls"])

# %%
budget_of = {name: max(c for c in (100, 200, 400) if shares(name, c, ("AdaHessian",))) for name in PROBLEMS}  # the largest that is not solved
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4), sharey=True)
for ax, without in zip(axes, ((), ("AdaHessian",)), strict=True):
    left = np.zeros(len(PROBLEMS))
    found = {name: shares(name, c, without) for name, c in budget_of.items()}
    for (part, label), color, hatch in zip(LABELS.items(), ("C0", "C1", "C2", "0.75"), ("//", "", "xx", ""), strict=True):
        width = np.array([found[name][part].mean for name in PROBLEMS])
        ax.barh([f"{name}, {c} calls" for name, c in budget_of.items()], width, left=left, color=color, hatch=hatch, label=label)
        left += width
    ax.set(xlim=(0, 1), xlabel="share of the variance of log10 gap", title="without AdaHessian" if without else "all four second phases")
axes[0].invert_yaxis()
fig.tight_layout()
fig.legend(*axes[1].get_legend_handles_labels(), fontsize="small", loc="upper center", bbox_to_anchor=(0.55, 0.02), ncols=4)
plots.show(fig, alt="Stacked bars of the shares of variance for four problems. With all four second phases the second phase has 0.7 to 1.0 of it; "
           "without AdaHessian 0.6 to 0.95, and the start most of the rest. The first phase's bars are slivers.")

# %% [markdown]
# **What you see.** With all four candidates the second phase has 0.88 to 0.99 of the variance on three problems, and 0.71 on Rosenbrock-20. On those
# three most of that is due to AdaHessian, which is behind everywhere. So look at the bars without it:
#
# - **The second phase still has most**: 0.95 [0.94, 0.96] on the quadratic, 0.73 [0.68, 0.84] on the softmax regression, 0.77 [0.74, 0.82] on the net
#   and 0.62 [0.44, 0.90] on Rosenbrock-20.
# - **The first phase has 0.01 to 0.02** on all four problems. Earlier in a run it has a little more, up to 0.07 after 100 calls on the quadratic.
# - *Both together* has 0.01 to 0.05: pairs need not be chosen as pairs.
# - On Rosenbrock-20 the start has a third, for it decides which of two minima a run finds.
#
# The intervals are rough. Five starts drawn with replacement are rarely five different ones, and so the share of the start comes out too low in them.
# That is why a mean may lie at the edge of its interval.
#
# **Quick check 11.4** The second phase has 0.99 of the variance on the quadratic. That says **(a)** a first phase is useless; **(b)** among these
# candidates, tuned as they were, the choice of the second moved the result, that of the first hardly; **(c)** L-BFGS is the best second phase.

# %%
check("11.4", ...)

# %% [markdown]
# ### Does a first phase help at all?
#
# Compare each pair with its own second phase alone, start by start. The table has the mean difference of $\log_{10}$ gap over the five first phases
# and the starts, at the largest budget at which the problem is not yet solved. Negative: the first phase helped.

# %%
def helped(name, second):
    """Per start: mean over the first phases of the result minus that of the second phase alone."""
    some = grid[(grid.problem == name) & (grid.second == second)]
    some = some.assign(result=result(some, budget_of[name])).pivot_table(index="seed", columns="first", values="result")
    return lab.interval(some[list(FIRST)].mean(axis=1) - some["none"])


def shown(i, digits=2):
    return f"{i.mean:+.{digits}f} [{i.low:+.{digits}f}, {i.high:+.{digits}f}]".replace("-", "−")


pd.DataFrame({f"{name}, {budget_of[name]} calls": {second: shown(helped(name, second)) for second in SECOND} for name in PROBLEMS})

# %% [markdown]
# **What you see.** Without noise, **a first phase before L-BFGS does not pay here.** It costs 0.4 [0.3, 0.5] decades on the quadratic. On the softmax
# regression it costs 2.4 [2.1, 2.7] after 100 calls, 40 of which were the first phase's own. On the net no difference is shown. On Rosenbrock-20 it
# is luck: of five starts, L-BFGS alone ends in the local minimum from two, after SGD from none, and after the others from one or two.
#
# AdaHessian, the slowest, does gain from a first phase: 1.1 [0.6, 1.6] decades on the quadratic and 0.7 [0.2, 1.1] on the net.
#
# This agrees with notebook [09](09_complexity_and_zeta.ipynb). Without noise, a first phase can help against a bad start ([03](03_fuse_pv.ipynb)) or
# over dips in the landscape ([04](04_test_functions.ipynb), [15](15_curvature_on_nonconvex.ipynb)). These four problems have neither.
#
# ### How much hangs on the switch?
#
# The same pairs once more, with a switch after 10 and after 160 of the 400 calls. There are three starts, and the learning rates are tuned for those
# points. The shares are without AdaHessian (at 40 steps they are those of all five starts).

# %%
lines = {}
for name in PROBLEMS:
    for after in sorted({40, *runs[runs.part == "sensitivity"].switch}):
        for calls in (200, 400):
            some = runs[(runs.problem == name) & (runs.switch == after) & runs.second.isin(list(SECOND)) & (runs["first"] != "none") & (runs.seed < 3)]
            values = some.assign(result=result(some, calls)).groupby("second").result.mean().round(1)
            found = shares(name, calls, ("AdaHessian",), after)
            both = {part: "solved" if found is None else brief(found[part]) for part in ("first", "second")}
            lines[name, f"{after} steps", calls] = values.to_dict() | {f"share of the {part}": both[part] for part in both}
pd.DataFrame(lines).T[[*SECOND, "share of the first", "share of the second"]].rename_axis(["problem", "switch after", "calls"])

# %% [markdown]
# **What you see.** Between 10 and 40 steps the verdict is the same: the second phase has the variance. **A late switch turns the answer round.**
# After 160 steps, the first phase has 0.64 [0.64, 0.67] of the variance on the quadratic after 400 calls. On the softmax regression it has 0.91
# [0.90, 0.92] after 200 calls, 40 calls after the switch. Good second phases that begin at good and bad places end where they were put. (NAdam and
# RMSprop, with a constant learning rate, put them in bad ones.) On the net and on Rosenbrock-20 the second phase keeps the larger part once it has
# had 240 calls. (Three starts drawn with replacement make very rough intervals.)
#
# The late switch has its own price: after L-BFGS, 0.5 [0.4, 0.7] decades on the quadratic against the switch after 40 steps. On Rosenbrock-20 and on
# the net no difference is shown.
#
# So the answer to the question of section 1 has a condition. With an early switch, choose the second phase with care and the first as you like. If
# you switch late, tune the first phase well.
#
# ## 6 · How fast does each converge?
#
# *Local rates*: near a minimum, by which factor does the error $e_k=\sqrt{(f_k-f^*)/(f_0-f^*)}$ fall in an iteration? *Linear* convergence means by
# about the same factor in each iteration (*R-linear*: on average). *Superlinear* means that the factor itself goes to zero. This is what is known,
# with $\kappa = L/\mu$ at the minimum, the largest eigenvalue of the Hessian over the smallest:
#
# | method | theory |
# |---|---|
# | gradient method, step $2/(L+\mu)$ | linear, factor $(\kappa-1)/(\kappa+1)$ |
# | heavy ball (momentum), best step and momentum | linear, $(\sqrt\kappa-1)/(\sqrt\kappa+1)$ |
# | conjugate gradients, exact search, quadratic | error at most $2\left(\frac{\sqrt\kappa-1}{\sqrt\kappa+1}\right)^k$; without rounding, done after $d$ iterations |
# | L-BFGS | R-linear, without a useful constant |
# | Newton–CG, if it solves its systems ever more exactly | superlinear, in *outer* iterations |
# | AdaHessian, Adam, RMSprop | at best like a preconditioned gradient method with momentum; with a constant step no limit of zero is promised |
#
# **Exercise 11.5** At κ = 10⁴, how many iterations does the bound for conjugate gradients allow for six decades of error? (Leave the leading 2 out.)

# %%
check("11.5", ...)

# %%
rates = pd.read_csv(data.bundled("results/11_rates.csv"))
traces = pd.read_csv(data.bundled("results/11_traces.csv"))
LOOK = STYLE | {"gradient, 2/(L+μ)": ("0.3", "", "-"), "heavy ball": ("0.3", "", "--"), "Adam": ("C0", "v", "-"), "SGD": ("C7", "X", "-")}
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
for ax, name in zip(axes, ("quadratic", "softmax"), strict=True):
    for method, (color, marker, line) in LOOK.items():
        some = traces[(traces.problem == name) & (traces.method == method) & (traces.error > 0) & (traces.iteration > 0)]
        ax.plot(some.iteration, some.error, color=color, marker=marker, linestyle=line, markevery=8, markersize=5, label=method)
    kappa = (rates[rates.problem == name].L / rates[rates.problem == name].mu).iloc[0]
    ax.set(xscale="log", yscale="log", ylim=(1e-9, 2), xlabel="iterations", title=f"{name}, κ = {kappa:,.0f}")
axes[0].set_ylabel("error")
fig.tight_layout()
fig.legend(*axes[0].get_legend_handles_labels(), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4)
plots.show(fig, alt="Error over iterations on log axes for eight methods on the quadratic and on softmax regression, start 0. Newton-CG falls first and ever "
           "faster, then L-BFGS and conjugate gradients; the gradient method and Adam are slowest.")

# %% [markdown]
# **What you see.** Newton–CG falls first; then come CG and L-BFGS, side by side. Remember that this is per *iteration*. Heavy ball rises for long
# before it falls. Adam falls, and then jumps. (Both axes are logarithmic, so that linear convergence is a curve that bends down.)
#
# The table has the factors. They are fitted where the error is between $10^{-2}$ and $10^{-8}$ ($3\cdot10^{-7}$ on the softmax regression), or over
# the last half of the iterations where it does not get there:

# %%
lines = {}
for (name, method), some in rates.groupby(["problem", "method"], sort=False):
    rate, theory = some.rate.dropna(), some.theory.iloc[0]
    factor = "—" if len(rate) < 3 else "does not fall" if rate.mean() > 0.99985 else f"{rate.mean():.4f}"
    lines[name, method] = {
        "factor an iteration": factor,
        "theory": f"{theory:.4f}" if math.isfinite(theory) else "",
        "smallest factor": f"{some['best factor'].median():.2g}",
        "calls to error 1e-5": f"{some['calls to 1e-5'].mean():.0f}" if some["calls to 1e-5"].notna().all() else "not reached",
        "error at the end": f"{some.end.median():.0e}",
    }
pd.DataFrame(lines).T.rename_axis(["problem", "method"])

# %% tags=["nbval-check-output"]
for name in ("quadratic", "softmax"):
    errors = traces[(traces.problem == name) & (traces.method == "Newton-CG")].error
    errors = errors[errors > 1e-8].to_numpy()
    print(f"Newton-CG, {name}, factor of each outer iteration:", *np.round(errors[1:] / errors[:-1], 3))

# %% [markdown]
# **What you see.** Where theory gives a number, the runs agree with it or beat its bound. The one exception is heavy ball on the softmax regression.
#
# - *Quadratic, κ = 10⁴.* Heavy ball with its best constants has 0.9814, where theory says 0.9802. CG has 0.9789, below its bound of 0.9802. **L-BFGS
#   with ten pairs falls at the same √κ rate, 0.9815, without being told κ.** An iteration costs it one call, where CG's costs two: 466 calls against
#   806 to an error of $10^{-5}$. In theory CG is done after 200 iterations, one for each variable. A search that is not quite exact loses this
#   property; with few distinct eigenvalues it is there, as the library's tests check.
# - *Softmax regression, κ = 460.* The gradient method has 0.9956, where theory says 0.9957. CG (0.897) and L-BFGS (0.902) are faster than 0.911,
#   which is for the worst spectrum. Heavy ball has 0.933, slower than its limit: its errors fall like $k\rho^k$ at first, and the fit sees only the
#   beginning.
# - *Newton–CG, softmax regression.* From the second to the seventh outer iteration its factor shrinks from 0.86 to 0.005. That is what superlinear
#   means. On the quadratic it shows no such trend and stays between 0.07 and 0.4, but once: a system of κ = 10⁴ is not solved well enough within
#   `max_evals` (100 calls here), and so the budget, not the theory, sets the rate.
# - *Newton–CG in calls.* *Alone*, it reaches an error of $10^{-5}$ before L-BFGS on both problems, with 426 against 466 calls and 98 against 114.
#   These are 0.91 [0.86, 0.97] and 0.86 [0.75, 0.99] of L-BFGS's calls. In section 4, a first phase had had its calls before.
# - *Constant learning rates.* Adam, AdamW, RMSprop and NAdam stop falling on the quadratic. AdaHessian's factor there is 0.9997, like the plain
#   gradient method's, since the diagonal of a rotated Hessian says nothing. On the softmax regression it is 0.984, which is 3.6 times as fast as the
#   gradient method per iteration (and an iteration costs two calls).
#
# ## Summary
#
# | claim | verdict | effect, with its 95 % interval (five starts) | section |
# |---|---|---|---|
# | the choice of the second phase matters more than that of the first (question 3) | **yes with an early switch, no with a late one** | share of variance, switch after a tenth of the calls, quadratic: second phase 0.95 [0.94, 0.96], first 0.01 [0.00, 0.02]. After four tenths (three starts): 0.27 [0.26, 0.29] and 0.64 [0.64, 0.67] | 5 |
# | another second phase does better than L-BFGS after a first one | **does not hold**, at equal closure calls | how far the best other one is behind: quadratic 0.4 [0.2, 0.5] decades, net 0.4 [0.3, 0.5], Rosenbrock-20 4.5 [3.3, 5.7]; softmax regression not shown, 0.2 [−0.3, 0.8] | 4 |
# | a first phase before L-BFGS pays without noise, from ordinary starts | **does not hold** | decades lost against L-BFGS alone: quadratic 0.4 [0.3, 0.5], softmax regression 2.4 [2.1, 2.7] (100 calls); not shown on the net and on Rosenbrock-20 | 5 |
# | each converges as theory says | **yes, where theory gives a number** (but heavy ball on the softmax regression) | factor an iteration, quadratic: heavy ball 0.9814 (theory 0.9802), CG 0.9789 (at most 0.9802), gradient method 0.9998 (0.9998) | 6 |
# | Newton–CG alone needs fewer calls than L-BFGS alone | **yes, on two convex problems** | calls to $10^{-5}$, as a part of L-BFGS's: quadratic 0.91 [0.86, 0.97], softmax regression 0.86 [0.75, 0.99] | 6 |
#
# - **Practical**: on a full batch take L-BFGS second, switch early, and do not spend time on the choice of the first phase. Newton–CG comes close
#   where the Hessian changes little, and it remembers nothing. CG is for those who can store two vectors only.
# - A share of variance belongs to the candidates, the budget and the switch rule that were compared. One bad candidate makes its column look
#   important: look without it.
# - **Still open**: the same on minibatches, where L-BFGS is not the natural winner and which AdaHessian was made for; AdaHessian with a decaying
#   learning rate or averaged over blocks (its rate was chosen for the end of the budget, alone); larger nets, where memory decides; a preconditioner
#   for CG and Newton–CG from Adam's second moments (`handover="metric"`).
# - **A limit**: several tuned learning rates lie at the upper edge of their grids (1 and 3), most of them of methods that ran alone. With larger ones
#   these might do better.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - W. W. Hager, H. Zhang, *A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search*, SIAM J. Optim. 16, 2005,
#   [doi 10.1137/030601880](https://doi.org/10.1137/030601880)
# - S. C. Eisenstat, H. F. Walker, *Choosing the Forcing Terms in an Inexact Newton Method*, SIAM J. Sci. Comput. 17, 1996,
#   [doi 10.1137/0917003](https://doi.org/10.1137/0917003)
# - Z. Yao, A. Gholami, S. Shen, M. Mustafa, K. Keutzer, M. W. Mahoney, *ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning*, AAAI 2021,
#   [arXiv 2006.00719](https://arxiv.org/abs/2006.00719)
# - J. Nocedal, S. J. Wright, *Numerical Optimization*, 2nd ed., Springer 2006, chapters 5, 7 and 8, [doi
#   10.1007/978-0-387-40065-5](https://doi.org/10.1007/978-0-387-40065-5)
#
# **The course**: the [README](@repository@#the-course) has the map. Before this one:
# [10 · Soft switchover: blending the two steps](10_soft_switchover.ipynb). After it:
# [12 · Less noise without larger batches?](12_variance_reduction.ipynb).

# %%
effective = {"condition": condition, "dim": dim, "budget": budget, "switch": switch, "live": live, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"{a} + {b}": v for (a, b), v in pairs.groupby(["first", "second"])["log10 gap"].mean().items()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
