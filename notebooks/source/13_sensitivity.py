# %% [markdown]
# # 13 · Sensitivity: how much hangs on the threshold?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/13_sensitivity.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - how to vary several settings at once, so that few runs say something about each of them,
# - to read a partial rank correlation and a main effect, and what each is blind to,
# - how much FUSE-PV's result depends on the switch step, ζ, σ, the learning rate and the history size,
# - which ranges are safe on tasks that had no part in choosing them, and why a number for ζ does not travel.
#
# **You need first**: [00 · Start here](00_start_here.ipynb) and [05 · Switchover criteria](05_switchover_criteria.ipynb); what a correlation is.
#
# **Minutes**: 25 to read, 1 to run. With `profile="full"`: 3 on a busy core.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
points: int = 10  # of the design that are run live, on the digits
passes: float = 40.0  # the live runs' budget; the recorded ones' is 40
profile: str = "quick"  # "full": all hundred points live
device: str = "auto"  # "cpu" or "auto"; the models are too small to gain from a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (1 <= points <= 100 and passes >= 1 and profile in ("quick", "full")):
    raise ValueError(f"points={points}, passes={passes}, profile={profile!r}; allowed are 1 to 100 points, passes ≥ 1, and the "
                     "profiles 'quick' and 'full'")
points = 100 if profile == "full" else points

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from scipy.stats import binomtest, qmc, rankdata

from fuse_lib import data, lab, plots
from fuse_lib.exercises import check, hint, solution

plots.use_style()
torch.set_num_threads(1)  # as in the recorded table; models of this size gain nothing from more

# %% [markdown]
# ## 1 · Many settings at once
#
# FUSE-PV asks its user for a rule with a threshold, for Adam's learning rate and for L-BFGS's history size. The summary of the paper lists as a
# limitation that *switchover criteria require careful tuning*. The first thing to check, it says, is how robust the thresholds are. It gives no
# numbers.
#
# You could vary one setting at a time and hold the others fixed. But then the answer is only valid for those fixed values. You could take a grid:
# three settings with five values each are 125 runs, and yet you learn about five values of each only. A **Latin hypercube** does better: cut each
# setting's range into as many slices as there are runs, and use every slice once.

# %%
factors = {"lr": (1e-4, 1e-1), "m": (3, 100), "K": (0.003, 1.0), "ζ": (1e-6, 10.0), "σ": (1e-5, 1.0)}


def on_log_scale(name, u):
    """A setting from its share u of the range, 0 … 1."""
    low, high = factors[name]
    return low * (high / low) ** u


design = pd.DataFrame(qmc.LatinHypercube(d=3, rng=0, optimization="random-cd").random(100), columns=["threshold", "lr", "m"])
grid = np.stack(np.meshgrid(*[np.linspace(0.1, 0.9, 5)] * 3), axis=-1).reshape(-1, 3)

# %%
fig, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(7, 3.4))
for ax, some, title in zip(axes, (grid, design.to_numpy()), ("a grid of 125", "a Latin hypercube of 100")):
    ax.scatter(some[:, 0], some[:, 1], s=14, color="C0")
    ax.scatter(some[:, 0], np.full(len(some), -0.06), marker="|", s=60, color="C1", clip_on=False)
    ax.set(title=title, xlabel="threshold, share of its range")
axes[0].set(ylabel="lr, share of its range", ylim=(-0.1, 1.02))
plots.show(fig, alt="Two designs seen from above. The grid shows 25 points, five dots below them; the hypercube shows 100 scattered points and "
           "a hundred evenly spread marks below.")

# %% [markdown]
# **What you see.** Each blue dot is a run, at its values of two of the three settings. The orange marks below are the values that one of them takes.
# The 125 runs of the grid fall on 25 points and five values. The 100 of the hypercube are 100 different points with 100 different values.
#
# **Quick check 13.1** Twenty runs, four settings, a Latin hypercube. How many different learning rates are tried?

# %%
check("13.1", ...)

# %% [markdown]
# ## 2 · What is compared
#
# The hundred points were run on seven tasks, each point under four rules. The four runs of a point share the learning rate, the seed (which decides
# the initial parameters and the order of the rows) and the budget of gradient evaluations, counted in samples:
#
# - *never*: Adam alone, the run that the three others are compared with;
# - `step:K`: switch after K steps, from 0.3 % to all of the steps that the budget pays for;
# - `gradnorm:ζ:50`: switch when the mean of $\lVert g\rVert^2$ over the last 50 steps is at most ζ, from 1e-6 to 10;
# - `losschange:σ:50`: switch when the mean of $|f_k-f_{k-1}|$ over the last 50 steps is at most σ, from 1e-5 to 1.
#
# The learning rate goes from 1e-4 to 0.1, the history size m from 3 to 100. All of these are even on a log scale. So this is no contest of tuned
# optimizers. It asks what happens to somebody who *did not tune*.

# %%
tasks = pd.read_csv(data.bundled("results/13_tasks.csv"), index_col="task")
runs = pd.read_csv(data.bundled("results/13_runs.csv"))
tasks

# %% [markdown]
# Four tasks are for finding out. Three are held out until section 8. The last one was added after that. The second phase is L-BFGS on the full batch,
# with one exception: on `fashion-mlp-minibatch` it runs on minibatches of 500.
#
# The **effect** of a run compares its end with that of its own run of Adam:
#
# $$e = \log_{10}\frac{f_\text{end}-f^*}{f_\text{Adam}-f^*}$$
#
# With $e = -1$ FUSE-PV ends at a tenth of Adam's gap. With $e = 0$ they end alike, as always when the rule never fires. We call a run **worse** if
# its gap is more than 10 % above Adam's: $e > \log_{10} 1.1$. ($f^*$, the column `least` above, is known on the convex tasks and the test functions;
# on nets it is taken as 0. A gap counts as at least $10^{-12}$ of the start's.)

# %%
runs["least"] = runs.task.map(tasks.least)
runs["gap"] = np.maximum(runs.loss - runs.least, 1e-12 * (runs.loss_start - runs.least))
adam = runs[runs.rule == "never"].set_index(["task", "point"]).gap
fuse = runs[runs.rule != "never"].join(adam.rename("adam"), on=["task", "point"])
fuse["e"] = np.log10(fuse.gap / fuse.adam)
fuse["worse"], fuse["fired"] = fuse.e > math.log10(1.1), fuse.switched.notna()
fuse = fuse.join(design.add_prefix("u_"), on="point")
KNOWN = list(tasks.index[tasks.role == "known"])
known = fuse[fuse.task.map(tasks.role) == "known"]

# %% [markdown]
# Here are a few points live, to see that the table is what it says: softmax regression on the digits, under `step:K`.

# %%
def live(point, switchover):
    """One run of the design: softmax regression on the digits."""
    row = runs[(runs.task == "digits-softmax") & (runs.point == point) & (runs.rule == "step")].iloc[0]
    common = {"dataset": "digits", "model": "linear", "batch": 50, "l2": 1e-4, "passes": passes, "points": 1, "seed": int(row.seed), "lr": row.lr}
    if switchover == "never":
        return lab.run(lab.Settings(optimizer="adam", **common)).rows[-1]["train_loss"]
    ours = {"optimizer": "fuse_pv", "switchover": switchover, "second_batch": "full", "handover": "none", "history_size": int(row.m)}
    return lab.run(lab.Settings(**ours, **common)).rows[-1]["train_loss"]


steps = tasks.steps["digits-softmax"]
step_runs = runs[(runs.task == "digits-softmax") & (runs.rule == "step")].set_index("point")
rules = {p: f"step:{max(1, round(step_runs.threshold[p] * steps))}" for p in range(points)}
found = pd.DataFrame({"lr": step_runs.lr[:points], "m": step_runs.m[:points], "rule": rules, "Adam": {p: live(p, "never") for p in rules},
                      "FUSE-PV": {p: live(p, rule) for p, rule in rules.items()}, "recorded": step_runs.loss[:points]})
found.round({"lr": 5, "Adam": 3, "FUSE-PV": 3, "recorded": 3})

# %% tags=["nbval-check-output"]
if passes == 40:
    print(f"the live runs end where the recorded ones do, to 1 %: {bool((abs(found['FUSE-PV'] / found.recorded - 1) < 0.01).all())}")

# %% [markdown]
# ## 3 · What happened to somebody who did not tune
#
# > **Predict.** A hundred points with a learning rate from 1e-4 to 0.1, and a switch anywhere between 0.3 % of the budget and its end. On which of
# > the four tasks does FUSE-PV under `step:K` end *worse* than its own run of Adam in more than one run in ten? **(a)** on all; **(b)** on the two
# > nets; **(c)** only on the one with minibatches in the second phase.

# %%
def summary(some):
    return pd.Series({"fired": some.fired.mean(), "worse": some.worse.mean(), "median e": some.e.median(), "median e where fired": some.e[some.fired].median()})


known.groupby(["task", "rule"], sort=False)[["fired", "worse", "e"]].apply(summary).round(2)

# %%
RULES = {"step": "step:K", "gradnorm": "gradnorm:ζ:50", "losschange": "losschange:σ:50"}
fig, axes = plt.subplots(2, 2, figsize=(8.6, 5), sharex=True, sharey=True)
rng = np.random.default_rng(0)
for ax, task in zip(axes.flat, KNOWN):
    for at, rule in enumerate(RULES):
        some = known[(known.task == task) & (known.rule == rule)]
        height = at + rng.uniform(-0.28, 0.28, len(some))
        for fired, look in ((False, {"facecolors": "none", "edgecolors": "0.6"}), (True, {"color": f"C{at}"})):
            chosen = some.fired.to_numpy() == fired
            ax.scatter(np.maximum(some.e[chosen], -4), height[chosen], s=12, linewidths=0.7, **look)
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set_title(task, fontsize="small")
    ax.set_yticks(range(3), RULES.values(), fontsize="small")
fig.supxlabel("effect e: log10 of FUSE-PV's gap over Adam's (−4: that or lower)", fontsize="medium")
fig.tight_layout()
plots.show(fig, alt="Four tasks, three rules, a dot for each of a hundred runs over its effect. On the digits with softmax regression nearly all dots that are "
           "filled lie left of zero, on Rosenbrock all; on the net on the digits most; on the net with minibatches most lie right of it. Many dots of the two "
           "value rules are hollow and at zero.")

# %% [markdown]
# **What you see.** Filled dots are runs in which the rule fired, hollow ones at zero those in which it did not. The answer is **b**. On softmax
# regression and on Rosenbrock's function none of 200 runs is worse; the median run ends about 30 times lower than Adam on the one and five billion
# times lower on the other. On the net on the digits 20 of a hundred are worse, and on the net with minibatches in both phases 85.
#
# The value rules `gradnorm` and `losschange` look harmless. The hollow dots say why: over most of the ranges of ζ and σ **they never fire**. A
# threshold that is picked blindly mostly leaves you with Adam. (On Rosenbrock, `gradnorm` fires in 4 of 100 runs.) Where they fire, they are no safer
# than a step: on the net with minibatches, 20 of the 25 runs in which `losschange` fires end worse, and 8 of 14 with `gradnorm`.
#
# ## 4 · The response surface
#
# The rule `step:K` nearly always fires, so its two settings K and lr span a surface. Each of the 25 cells below shows a median effect, of some four
# runs.

# %%
BINS = 5
middles = [(i + 0.5) / BINS for i in range(BINS)]
labels = {"u_threshold": [f"{on_log_scale('K', u):.2g}" for u in middles], "u_lr": [f"{on_log_scale('lr', u):.1e}" for u in middles]}


def cells(some, value="e"):
    """Medians over bins of lr (rows, the largest on top) and of the threshold (columns)."""
    bins = [np.minimum((some[name] * BINS).astype(int), BINS - 1) for name in ("u_lr", "u_threshold")]
    return some.groupby(bins)[value].median().unstack().reindex(index=range(BINS), columns=range(BINS)).iloc[::-1]


fig, axes = plt.subplots(2, 2, figsize=(8.6, 6), sharex=True, sharey=True)
for ax, task in zip(axes.flat, KNOWN):
    some = known[(known.task == task) & (known.rule == "step")]
    sns.heatmap(cells(some), ax=ax, vmin=-1.5, vmax=1.5, cmap="vlag", annot=True, fmt=".1f", annot_kws={"fontsize": 8}, cbar=False,
                xticklabels=labels["u_threshold"], yticklabels=labels["u_lr"][::-1])
    ax.set_title(task, fontsize="small")
    ax.set(xlabel="", ylabel="")
fig.supxlabel("switch after this share of the budget's steps", fontsize="medium")
fig.supylabel("Adam's learning rate", fontsize="medium")
fig.tight_layout()
plots.show(fig, alt="Heat maps of the median effect over learning rate and switch point for four tasks. Softmax regression and Rosenbrock are negative "
           "everywhere. The net on the digits is positive for early switches at middling learning rates and negative elsewhere. The net with "
           "minibatches is positive nearly everywhere but in the last column.")

# %% [markdown]
# **What you see.** Blue is better than Adam, red is worse; the colours end at ±1.5. There are three landscapes.
#
# - *Softmax regression, Rosenbrock*: blue everywhere. Mostly, an earlier switch gains more. So does a smaller learning rate, as Adam then does not
#   arrive by itself.
# - *The net on the digits*: with a good learning rate (the rows of 3.2e-3 and 1.3e-2) and an early switch, L-BFGS ends in a poorer minimum than Adam.
#   These are the red cells at the left. With a poor rate, too small or too large, the switch mends it.
# - *Minibatches*: red nearly everywhere, and darkest where the switch is early. The longer L-BFGS runs, the more it costs.
#
# So "tune the switch" means another thing on each of them.
#
# ## 5 · Which setting matters?
#
# Two numbers say how much a setting matters. The first is the **partial rank correlation**, between −1 and 1. Replace all values by their ranks. Take
# the setting's ranks and the response's, and subtract from both what the *other* settings explain. Correlate what is left.

# %%
def residuals(a, others):
    """What a least-squares fit by the others leaves of a."""
    a, others = a - a.mean(), others - others.mean(axis=0)
    return a - others @ np.linalg.lstsq(others, a, rcond=None)[0]


def partial(x, y):
    """x: (n, k) settings, y: n responses → k partial rank correlations."""
    x, y = rankdata(x, axis=0), rankdata(y)
    return [np.corrcoef(residuals(x[:, i], np.delete(x, i, 1)), residuals(y, np.delete(x, i, 1)))[0, 1] for i in range(x.shape[1])]


SETTINGS = {"u_threshold": "threshold", "u_lr": "lr", "u_m": "m"}
one = known[(known.task == "digits-softmax") & (known.rule == "step")]
print(dict(zip(SETTINGS.values(), np.round(partial(one[list(SETTINGS)].to_numpy(), np.log10(one.gap)), 2).tolist())))

# %% [markdown]
# **Exercise 13.2** (code) With two settings only, the same number follows from three plain correlations. Write `partial_of_two(r_xy, r_xz, r_yz)`: the
# correlation of x and y with the part of z taken out of both. (The residual of a standardised x is $x - r_{xz} z$.)

# %%
def partial_of_two(r_xy, r_xz, r_yz):
    return ...


check("13.2", ...)  # check("13.2", partial_of_two)

# %% [markdown]
# The second is the **main effect**: cut the setting's range into five bins with equally many runs. The main effect is the share of the response's
# variance that lies between the means of these bins, less what chance alone puts there. About 0: the bins do not differ. 1: the bins explain
# everything. Unlike the correlation, it does not ask for a direction.
#
# From here on, the response is where the run *ends*, $\log_{10}$ of its gap: what a user wants low. The library has both measures, and the
# correlation's interval, from a bootstrap over the hundred points:

# %%
rows = []
for (task, rule), some in known.groupby(["task", "rule"], sort=False):
    for name, r in lab.partial_rank_correlations(some[list(SETTINGS)], np.log10(some.gap), draws=300).items():
        rows.append((task, rule, SETTINGS[name], *r, lab.main_effect(some[name], np.log10(some.gap))))
measures = pd.DataFrame(rows, columns=["task", "rule", "setting", "r", "low", "high", "n", "main effect"])

# %%
measures.pivot(index=["task", "rule"], columns="setting", values="main effect")[list(SETTINGS.values())].loc[KNOWN].round(2)

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 4.6), sharey=True)
for ax, rule in zip(axes, RULES):
    for i, setting in enumerate(SETTINGS.values()):
        some = measures[(measures.rule == rule) & (measures.setting == setting)].reset_index(drop=True)
        at = -(np.arange(len(some)) + 0.22 * (i - 1))
        ax.errorbar(some.r, at, xerr=[some.r - some.low, some.high - some.r], fmt="osD"[i], color=f"C{i}", markersize=5, capsize=2, label=setting)
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set(title=RULES[rule], xlim=(-1.05, 1.05))
    ax.title.set_fontsize("small")
axes[0].set_yticks(-np.arange(len(KNOWN)), KNOWN, fontsize="small")
axes[1].set_xlabel("partial rank correlation with the end's log gap (left: a larger value ends lower)")
fig.tight_layout()
fig.legend(*axes[0].get_legend_handles_labels(), fontsize="small", loc="upper center", bbox_to_anchor=(0.55, 0.02), ncols=3)
plots.show(fig, alt="Partial rank correlations with intervals for three settings on four tasks under three rules. Signs differ from task to task for the "
           "threshold; the history size is at or left of zero; under the value rules the learning rate is left of zero, on Rosenbrock almost at −1.")

# %% [markdown]
# **What you see.** The *threshold* matters under `step:K` on all four tasks, and **its sign changes from task to task**. A later switch ends higher
# on softmax regression and Rosenbrock, and lower on the two nets. There is no direction to recommend. Under the value rules a larger threshold fires
# sooner, or at all. With a full batch that ends lower, and with minibatches higher, wherever anything is shown; `gradnorm` shows nothing on two of
# the four tasks.
#
# The *history size* m matters under `step:K` on softmax regression, where its correlation is the strongest of the three (−0.72 [−0.82, −0.63]), and
# on the net on the digits (−0.31 [−0.48, −0.10]): more pairs end lower. Elsewhere its intervals mostly hold zero.
#
# The *learning rate* has the largest main effect on three tasks of four under the value rules, which mostly leave Adam alone. Under `step:K` the
# threshold has it, on all but the net on the digits.
#
# On that net the two measures seem to disagree: the interval of the learning rate's correlation holds zero, and yet its main effect is the largest.
# The reason is that the best rate is in the middle (section 6).
#
# **Quick check 13.3** A setting has a partial rank correlation of 0.02 [−0.2, 0.2] and a main effect of 0.5. What does the response look like over
# it? **(a)** it does not depend on it; **(b)** it has a best or a worst value somewhere in the middle; **(c)** it depends on it only in combination
# with others.

# %%
check("13.3", ...)

# %% [markdown]
# ## 6 · Adam's learning rate: does it matter less?
#
# > **Predict.** Adam alone ends very differently for learning rates a thousandfold apart. With a full-batch second phase after it, is the spread
# > **(a)** as large; **(b)** smaller; **(c)** larger, as there is one more thing to go wrong?
# > (FUSE-PV here: the runs that switch after 3 to 31 % of the budget's steps.)

# %%
def by_rate(some):
    """Median of the end's log gap for each fifth of the learning rates, with the quartiles."""
    return np.log10(some.gap).groupby(np.minimum((some.u_lr * BINS).astype(int), BINS - 1)).quantile([0.25, 0.5, 0.75]).unstack()


alone = runs[runs.rule == "never"].join(design.add_prefix("u_"), on="point")
early = fuse[(fuse.rule == "step") & fuse.u_threshold.between(0.4, 0.8)]  # switches after 3 to 31 % of the budget's steps


# %%
spread = {task: {name: float(np.ptp(by_rate(some[some.task == task])[0.5])) for name, some in (("Adam", alone), ("FUSE-PV", early))} for task in KNOWN}
pd.DataFrame(spread).T.round(1).rename_axis("largest minus smallest median log10 gap over the five bins")

# %%
fig, axes = plt.subplots(2, 2, figsize=(8.6, 5.2), sharex=True)
x = [on_log_scale("lr", u) for u in middles]
for ax, task in zip(axes.flat, KNOWN):
    for name, some in (("Adam", alone[alone.task == task]), ("FUSE-PV", early[early.task == task])):
        curve = by_rate(some).clip(lower=-9)
        ax.plot(x, curve[0.5], label=name, **plots.style(name))
        ax.fill_between(x, curve[0.25], curve[0.75], color=plots.style(name)["color"], alpha=0.15, linewidth=0)
    ax.set_title(task, fontsize="small")
    ax.set(xscale="log")
axes[0, 0].legend(fontsize="small")
fig.supxlabel("Adam's learning rate", fontsize="medium")
fig.supylabel("log10 of the gap at the end", fontsize="medium")
fig.tight_layout()
plots.show(fig, alt="The end's log gap over the learning rate. Adam's falls steeply with the rate on softmax regression and Rosenbrock and has a valley on the "
           "nets; FUSE-PV's is flat on softmax regression and Rosenbrock, flatter than Adam's on the net on the digits, and above Adam's on the "
           "net with minibatches.")

# %% [markdown]
# **What you see.** Answer **b**, where the second phase has a full batch. On softmax regression Adam's medians spread over two powers of ten,
# FUSE-PV's over half of one. On Rosenbrock FUSE-PV arrives from every rate. On the net on the digits the spread is about half of Adam's, and at
# Adam's best rates the two end alike. **This may be the most useful thing that FUSE-PV does for somebody who does not tune**: it forgives the
# learning rate. With minibatches in the second phase it does not: there FUSE-PV is above Adam at each rate.
#
# The other side of it: compared with Adam *at a good rate* the advantage shrinks (see notebooks 05 and 06, where everybody is tuned).
#
# ## 7 · Does a threshold travel?
#
# ζ and σ have units: ζ those of the squared gradient, σ those of the loss. At which threshold does the rule fire in half of the runs? And would it be
# the same everywhere if we measured in units of the start's value, $\zeta/\lVert\nabla f_0\rVert^2$ and $\sigma/f_0$? (NaN: it hardly ever fires.)

# %%
def half(task, rule, unit):
    """log10 of the threshold at which half of the runs fire (a logistic curve, fitted)."""
    some = fuse[(fuse.task == task) & (fuse.rule == rule)]
    return lab.fired_at_half(some.threshold / (some[unit] if unit else 1.0), some.fired)


halves = pd.DataFrame({task: {f"{symbol}{', in units of the start' if u else ''}": half(task, rule, u)
                              for rule, symbol, unit in (("gradnorm", "ζ", "norm_sq_start"), ("losschange", "σ", "loss_start")) for u in (None, unit)}
                       for task in tasks.index[tasks.role != "afterwards"]}).T
halves.round(1).rename_axis("log10 of the threshold at which half of the runs fire")

# %%
# The share of runs that fire, over the threshold, and on the right over the threshold in units of the start.
def share(x, y, bins):
    """Mean of y in bins of log10 x: (centres, means); bins with fewer than five runs are left out."""
    groups = y.groupby(pd.cut(np.log10(x), bins), observed=True)
    some = groups.mean()[groups.size() >= 5]
    return [interval.mid for interval in some.index], some


fig, axes = plt.subplots(2, 2, figsize=(8.6, 5.4), sharey=True)
for row, (rule, symbol, unit) in enumerate((("gradnorm", "ζ", "norm_sq_start"), ("losschange", "σ", "loss_start"))):
    for task in KNOWN:
        some = known[(known.task == task) & (known.rule == rule)]
        mark = "osD^"[KNOWN.index(task)]
        axes[row, 0].plot(*share(some.threshold, some.fired, 8), marker=mark, label=task)
        axes[row, 1].plot(*share(some.threshold / some[unit], some.fired, 8), marker=mark)
    axes[row, 0].set(xlabel=f"log10 {symbol}", ylabel="share that fires")
    axes[row, 1].set(xlabel=f"log10 {symbol} in units of the start")
axes[0, 0].legend(fontsize="x-small")
fig.tight_layout()
plots.show(fig, alt="Share of runs in which the rule fires, over the threshold, one line for each task: rising lines that lie decades apart, for both rules and "
           "in both units.")

# %% [markdown]
# **What you see.** On one task, the rule goes from never to nearly always while its threshold grows by one to five powers of ten. (On Rosenbrock it
# does not get there within the range that was tried.) Between tasks the places differ:
#
# - *ζ*: half of the runs fire at values that lie **three decades apart**, and on Rosenbrock beyond the range that was tried. In units of the start it
#   is worse, nearly seven decades: a test function's gradient falls by many powers of ten, while a minibatch's has a floor (notebook 05).
# - *σ* does better in its own units: at 0.005 to 0.06 half of the runs have switched, on all seven tasks. But that it *fires* is not that it *pays*:
#   on the nets with minibatches or a short budget, most of these runs ended worse.
#
# A rule that is to travel has to look at more than a size: at what Adam gains and what L-BFGS would.
#
# **Exercise 13.4** You multiply your loss by 100, because your boss likes percent. Adam's path stays the same (but for its ε). By what factor must
# you multiply ζ so that the rule fires at the same step?

# %%
check("13.4", ...)

# %% [markdown]
# ## 8 · Safe ranges, and a check on tasks that had no part in them
#
# Where is `step:K` safe with a *full-batch* second phase? Cut the range of K into six bins and count, in each, the share of runs that end worse than
# Adam, on the three known full-batch tasks. A bin is **safe** if that share is at most one in ten on each of them. Then we try the safe bins on the
# three tasks that were held out.

# %%
SIXTHS = 6


def worse_by_bin(table):
    bins = np.minimum((table.u_threshold * SIXTHS).astype(int), SIXTHS - 1)
    found = table.groupby(["task", bins])
    return found.worse.mean().unstack(0)[list(table.task.unique())], found.e.median().unstack(0)[list(table.task.unique())]


FULL = list(tasks.index[(tasks.second_phase == "full batch") & (tasks.role != "afterwards")])
full = fuse[(fuse.rule == "step") & fuse.task.isin(FULL)]
edges = [on_log_scale("K", i / SIXTHS) for i in range(SIXTHS + 1)]
bad, median = worse_by_bin(full[full.task.isin(KNOWN)])
safe = (bad <= 0.1).all(axis=1)
table = pd.concat({"share worse": bad, "median e": median}, axis=1)
table.index = [f"{a:.1%} to {b:.1%}{', safe' if ok else ''}" for a, b, ok in zip(edges, edges[1:], safe)]
table.rename_axis("switch after").round(2)

# %%
inside = safe.to_numpy()[np.minimum((full.u_threshold * SIXTHS).astype(int), SIXTHS - 1)]
lines = {}
for task in FULL:
    for where, chosen in (("in the safe range", inside), ("outside", ~inside)):
        some = full[(full.task == task).to_numpy() & chosen]
        low, high = binomtest(int(some.worse.sum()), len(some)).proportion_ci(method="wilson")
        lines[task, where] = {"role": tasks.role[task], "runs": len(some), "worse": int(some.worse.sum()), "share": some.worse.mean(), "low": low, "high": high,
                              "median e": some.e.median()}
checked = pd.DataFrame(lines).T
checked.astype({"share": float, "low": float, "high": float, "median e": float}).round(2)

# %% tags=["nbval-check-output"]
out_of_sample = checked[checked.role == "held out"].xs("in the safe range", level=1)
n, k = int(out_of_sample.runs.sum()), int(out_of_sample.worse.sum())
low, high = binomtest(k, n).proportion_ci(method="wilson")
print(f"the safe range on the held-out tasks: {k} of {n} runs end worse than Adam: {k / n:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# **What you see.** On the known tasks three of six bins are safe: a switch after 5.5 % of the steps or later. **On the tasks that had no part in it
# the range is not safe.** On the valley it is. But on Fashion-MNIST with softmax regression 10 of 50 runs end worse, and on USPS with the net 32 of
# 50. Altogether these are 42 of 150, where one in ten had been promised. (The interval holds for runs on these three tasks. How much other tasks
# differ, three cannot say.) Had we asked only the tasks that the range was made from, we should have recommended it.
#
# What is different? We can only explain after the fact. On USPS the budget is short: 15 passes of 73 steps each, against 40 to 60 passes of 29 steps
# on the digits. That makes few full gradients, each of which costs many steps of Adam. Then one should look at the *number of full gradients*, not at
# the share of the budget.
#
# On Fashion-MNIST the budget was 40 passes, so this cannot be the reason there. Look at the history size:

# %%
fashion = fuse[(fuse.task == "fashion-softmax") & (fuse.rule == "step")]
for where, some in (("all", fashion), ("safe range", fashion[fashion.u_threshold >= 0.5])):
    few, many = some[some.m <= 12].worse, some[some.m > 12].worse
    print(f"{where}: with up to 12 pairs {few.sum()} of {len(few)} runs are worse, with more {many.sum()} of {len(many)}")

# %% [markdown]
# On this problem **too short a history was the trouble**, as section 5 found on the digits with the same model. The limit of 12 was
# picked after looking, so take it as a hint. The other explanation can be tested:
#
# ### Afterwards
#
# > **Predict.** USPS once more, with four times the budget, at points of the safe range. Does the share of worse runs **(a)** stay; **(b)** fall?

# %%
after = fuse[fuse.task == "usps-mlp-60"]
before = fuse[(fuse.task == "usps-mlp") & (fuse.rule == "step") & fuse.point.isin(after.point)]
lines = {}
for budget, some in (("15 passes", before), ("60 passes", after)):
    low, high = binomtest(int(some.worse.sum()), len(some)).proportion_ci(method="wilson")
    lines[budget] = {"runs": len(some), "worse": int(some.worse.sum()), "share": some.worse.mean(), "low": low, "high": high, "median e": some.e.median()}
pd.DataFrame(lines).T.round(2)

# %% [markdown]
# Answer **b**: 14 of 26 are worse with 15 passes, 3 of 26 with 60, and the intervals do not meet. So it is not the data set alone, and a share of the
# budget was the wrong unit. This is 26 points and one data set: a hint with an interval, no law. A rule of thumb that agrees with it: *count the full
# gradients that are left after the switch, and want dozens*.
#
# **Exercise 13.5** On your task you try the rule 60 times, and none of the runs is worse than Adam. What is the largest share of bad runs that is
# still compatible with that, at 95 %? (Solve $(1-p)^{60} = 0.05$; two digits are enough.)

# %%
check("13.5", ...)

# %% [markdown]
# ## Summary
#
# | question | answer | effect | section |
# |---|---|---|---|
# | must the switch be tuned? | **depends on the task and on the second phase's batches** | blind runs that end worse than Adam at the same learning rate: softmax regression (digits) and both test functions 0 of 100 each [0, 4 %], net on the digits 20 % [13, 29], net on USPS 79 % [70, 86], minibatches 85 % [77, 91] | 3, 4, 8 |
# | which setting matters? | **the threshold, with a sign that changes**; then the learning rate; m on softmax regression | correlation of K with the end: +0.65 [0.53, 0.75] on softmax regression, −0.73 [−0.85, −0.56] on the net with minibatches; of m: −0.72 [−0.82, −0.63] on softmax regression | 5 |
# | does FUSE-PV forgive the learning rate? | **yes, with a full-batch second phase** | spread of the medians over the rates, in powers of ten, Adam and FUSE-PV: 2.2 and 0.5, 1.1 and 0.6, 2.5 and 0.1; with minibatches 0.4 and 0.3, and above Adam throughout | 6 |
# | does a threshold carry over? | **ζ no; σ roughly**, but firing is not paying | half of the runs fire at ζ three decades apart, at σ one decade | 7 |
# | is a safe range of K safe elsewhere? | **no** | on three held-out tasks 42 of 150 runs end worse, 0.28 [0.21, 0.36], where 0.10 was promised | 8 |
#
# - Vary all settings together; a Latin hypercube gives each of them as many values as there are runs.
# - A rank correlation sees a direction, a main effect sees a best value in the middle. Look at both.
# - **Practical**, without tuning: take a full-batch second phase, a history of more than a dozen pairs, and a budget that leaves dozens of full
#   gradients after the switch. Do not switch too early: on the net on the digits 18 of the 50 runs that switched before 5.5 % of the steps ended
#   worse, with 56 of 60 passes left, and 2 of the 50 others. Adam's rate then matters less. If the budget does not pay for that, stay with Adam (and
#   give it a decay).
# - **Hold a task out before you recommend a range.** Ours looked good on the tasks that it came from.
# - **Still open**: windows other than 50, interactions beyond the heat maps, larger nets, and a rule without a threshold.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - M. D. McKay, R. J. Beckman, W. J. Conover, *A Comparison of Three Methods for Selecting Values of Input Variables in the Analysis of Output from a
#   Computer Code*, Technometrics 21, 1979, [doi 10.2307/1268522](https://doi.org/10.2307/1268522)
# - R. L. Iman, W. J. Conover, *A distribution-free approach to inducing rank correlation among input variables*, Communications in Statistics 11, 1982,
#   [doi 10.1080/03610918208812265](https://doi.org/10.1080/03610918208812265)
# - A. Saltelli, et al., *Global Sensitivity Analysis: The Primer*, Wiley, 2008, [doi 10.1002/9780470725184](https://doi.org/10.1002/9780470725184)
#
# **The course**: the [README](@repository@#the-course) has the map. Before this one:
# [12 · Less noise without larger batches?](12_variance_reduction.ipynb). After it:
# [14 · Overhead: what a step costs in time, memory and waiting](14_overhead.ipynb).

# %%
effective = {"points": points, "passes": passes, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"median effect, {task}": known[(known.task == task) & (known.rule == "step")].e.median() for task in KNOWN}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
