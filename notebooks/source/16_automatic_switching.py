# %% [markdown]
# # 16 · Automatic switching: when do I switch?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/16_automatic_switching.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - which signals cost nothing while Adam runs, and what each of them can be mistaken for,
# - why a trial of the second phase says more than any threshold, and what a way back needs,
# - how `switchover="auto"` decides, and how to read what it decided,
# - how far it is from the best fixed switch point, and where it fails.
#
# **You need first**: [00 · Start here](00_start_here.ipynb), [03 · FUSE-PV](03_fuse_pv.ipynb) and section 2 of
# [05 · Criteria](05_switchover_criteria.ipynb).
#
# **Minutes**: 25 to read, 1 to run. With `profile="full"`: 1.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
rows: int = 600  # digits in the live runs
calls: int = 120  # of step() in the live runs
lr: float = 0.03  # Adam's learning rate there
small: int = 32  # the small minibatch whose signals are drawn
large: int = 256  # the large one
seed: int = 0  # of the nets and of the batches' order
profile: str = "quick"  # "full": all 1,437 digits and three times the calls
device: str = "auto"  # "cpu" or "auto"; the nets are too small to gain from a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (rows >= 100 and calls >= 40 and lr > 0 and 1 <= small <= rows and 1 <= large <= rows and profile in ("quick", "full")):
    raise ValueError(f"rows={rows}, calls={calls}, lr={lr}, small={small}, large={large}, profile={profile!r}; allowed are rows ≥ 100, "
                     "calls ≥ 40, lr > 0, batches of at most `rows`, and the profiles 'quick' and 'full'")
rows, calls = (1437, 3 * calls) if profile == "full" else (rows, calls)

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from fuse_lib import FusePV, data, lab, plots
from fuse_lib.exercises import check, hint, solution
from fuse_lib.switchover import Criterion

plots.use_style()
torch.set_num_threads(1)  # as in the recorded tables
digits = data.load("digits", dtype=torch.float64).take(train=rows)
x, y = digits.x_train, digits.y_train

# %% [markdown]
# ## 1 · The question
#
# Every rule so far has a number to set: `step:500`, `gradnorm:1e-3`, `losschange:1e-4`. The paper's summary names it among its limitations:
# "switchover criteria require careful hyperparameter tuning with no automated selection method provided". Notebook 05 tuned the numbers, and
# notebook 09 found that a ζ does not travel from one problem to the next.
#
# So: *can the optimizer see by itself when to switch?* **What would settle it**, written down before the recorded runs:
#
# - without noise (all rows in each evaluation), the total cost of the automatic rule to a target, trials included, is at most 15 % above the best
#   fixed switch point of a sweep;
# - on minibatches, its final loss at equal samples is at most 1 % above Adam's (the upper end of the 95 % interval of the paired mean);
# - both on at least six tasks and five seeds, half of the tasks not used while the rule was made.
#
# ## 2 · What Adam tells for nothing
#
# Adam keeps a running mean $\hat m$ of the gradients. If consecutive gradients agree, this mean is as long as they are. If they are mostly noise, they
# cancel, and it is short. So compare its length with the mean length of the gradients, taken with the same weights:
#
# $$\text{agreement} = \left(\frac{\lVert \hat m\rVert}{\overline{\lVert g\rVert}}\right)^2 \approx \begin{cases} 1 & \text{all gradients have one
# direction}\\ (1-\beta_1)/(1+\beta_1) & \text{noise only.}\end{cases}$$
#
# With Adam's usual $\beta_1 = 0.9$, noise alone gives 0.1/1.9 = 0.05. (Why not compare with $\hat v$, Adam's mean of squares? Because $\hat v$ remembers
# a thousand steps. A gradient that has shrunk a hundredfold, without any noise, leaves a large $\hat v$ behind and looks noisy.)
#
# The loss tells something as well. Add up its moves over the last ten calls, up and down alike: which share of them was *progress*?
#
# $$\text{progress} = \frac{f_{k-10} - f_k}{\sum_i |f_i - f_{i-1}|}.$$
#
# And the path tells its own curvature: with $s$ the last step and $y$ the change of the gradient over it, that is the sign of $s^\top y$. Where it is
# negative, L-BFGS has nothing to learn from that step.
#
# The cells below make a small net, endless minibatches, and a run of Adam that notes the three signals at each step.

# %%
def net(hidden=16):
    """A tanh net of one hidden layer, or softmax regression where that is 0."""
    torch.manual_seed(seed)
    first = [torch.nn.Linear(64, hidden), torch.nn.Tanh()] if hidden else []
    return torch.nn.Sequential(torch.nn.Flatten(), *first, torch.nn.Linear(hidden or 64, 10)).double()


# %%
def batches(size):
    """Rows of minibatches without end; all rows each time where size = rows."""
    order = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(rows, generator=order)[: rows // size * size].split(size)


# %%
def signals(size):
    """Adam on minibatches of so many rows: agreement, progress and sᵀy at each step."""
    model = net()
    params, found, norm, weight = list(model.parameters()), [], 0.0, 0.0
    opt = torch.optim.Adam(params, lr=lr)
    before, losses, batch = None, [], batches(size)
    for k in range(calls):
        here = next(batch)
        opt.zero_grad()
        loss = cross_entropy(model(x[here]), y[here])
        loss.backward()
        position, g = (torch.cat([v.detach().flatten() for v in some]) for some in (params, [p.grad for p in params]))
        norm, weight, losses = 0.9 * norm + 0.1 * g.norm().item(), 0.9 * weight + 0.1, [*losses[-10:], loss.item()]
        opt.step()
        m = torch.cat([opt.state[p]["exp_avg"].flatten() for p in params]) / (1 - 0.9 ** (k + 1))
        way = sum(abs(b - a) for a, b in zip(losses[:-1], losses[1:]))
        found.append({"agreement": (m.norm().item() / (norm / weight)) ** 2, "progress": (losses[0] - losses[-1]) / way if k >= 10 else math.nan,
                      "curvature": math.nan if before is None else float((position - before[0]) @ (g - before[1]))})
        before = position, g
    return pd.DataFrame(found, index=range(1, calls + 1))


# %% [markdown]
# > **Predict.** The same net and learning rate, on all rows, on minibatches of 256 and of 32. The agreement of 32 rows is, in the *first* steps,
# > **(a)** near 0.05, as small batches are noisy; **(b)** far above, and it falls later.

# %%
sizes = {"all rows": rows, f"b = {large}": large, f"b = {small}": small}
seen = {name: signals(size) for name, size in sizes.items()}

# %% tags=["nbval-check-output"]
print("agreement, mean of steps 3 to 8:", {name: round(float(t.agreement.loc[3:8].mean()), 1) for name, t in seen.items()})
print("agreement, mean of the last 30: ", {name: round(float(t.agreement.iloc[-30:].mean()), 1) for name, t in seen.items()})
print("negative curvature, from step 21:", {name: f"{(t.curvature.loc[21:] < 0).mean():.0%}" for name, t in seen.items()})

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, kind in zip(axes, ("agreement", "progress")):
    for (name, table), (line, shade) in zip(seen.items(), (("-", "C0"), ("--", "C1"), (":", "C2"))):
        ax.plot(table.index, table[kind], linestyle=line, color=shade, label=name)
    ax.axhline(0.9, color="0.5", linewidth=1)
    ax.set(xlabel="step of Adam", ylabel=kind, title=kind, ylim=(-0.02 if kind == "agreement" else -0.4, 1.05))
axes[0].axhline(0.1 / 1.9, color="0.5", linewidth=1)
axes[0].text(0.05 * calls, 0.915, "auto asks for 0.9", fontsize=9, color="0.35")
axes[0].text(calls, 0.14, "noise alone: 0.05", fontsize=9, color="0.35", ha="right")
axes[1].legend(loc="upper right", bbox_to_anchor=(1, 0.86))
plots.show(fig, alt="Two charts over 120 steps of Adam. Agreement: all begin at 1; all rows dip to 0.6 and rise back to 1, minibatches fall to about 0.1 "
           "and below. Progress: all rows stay at 1, both minibatch sizes fall and swing around 0.1.")

# %% [markdown]
# **What you see.** Answer **b**. At the start the gradient is large, and all batches agree about it. (The very first value is always 1: a mean of one.)
# The noise is there all the time; it is the *signal* that shrinks. Later the agreement of 32 rows is near the lower grey line, 0.05, which is noise alone.
# Progress tells the same story. (The upper grey line, 0.9, is what `auto` will ask for in section 3.)
#
# Now look at the blue line on the left. There is no noise in it at all, and yet it is at 0.6 for a while, because the path bends. **A high agreement shows
# that there is little noise beside the gradient; a low one does not show that there is much.** So the signal can forbid a switch on minibatches, but it
# cannot time one on all rows. (The sign of $s^\top y$ is of use on all rows only. Here the two gradients of a minibatch run are of two batches, so that it is
# noise too.)
#
# **Quick check 16.1** What is the agreement of pure noise with $\beta_1 = 0.8$?

# %%
check("16.1", ...)

# %% [markdown]
# **Exercise 16.2** Write `progress(losses)`: the fall from the first loss of a list to the last, over the sum of the sizes of all moves, up and down
# alike. (0 where nothing moves.)

# %%
def progress(losses):
    return ...


check("16.2", ...)  # check("16.2", progress)

# %% [markdown]
# ## 3 · Try it, and be able to go back
#
# No signal of the first phase says how fast the *second* would be from here. The direct way is to try it: ten evaluations of L-BFGS, and a look at what
# they gained. **If** the closure is the same function at each call, little can be lost. The line search never raises the loss, so that a failed trial
# leaves you where you were, or lower.
#
# `switchover="auto"` does that. With `full_batch=True` (notebook 03: your promise that the closure is one and the same function) it goes like this:
#
# - the loss fell at each of the first 3 steps: try now. As far as can be seen it is a bowl, and L-BFGS is good at bowls;
# - the loss rose at one of them: wait for the 6th step. If no step so far had $s^\top y < 0$, Adam has merely overshot: try;
# - it rose *and* there was negative curvature along the path: wait until 20 steps in a row have had none (but no longer than 100 steps). Here L-BFGS,
#   begun early, creeps along a valley that Adam leaves (section 4);
# - a trial is kept if it lowers the loss. If it does not, Adam goes on with its moments as they were. The next trial comes 10 steps later, the one after
#   it 20 steps later, then 40, …
#
# The next cell runs a rule and notes each evaluation. `log` shows the decisions: `call` counts calls of `step()`; the last two columns are by how much the
# loss fell in Adam's last ten calls (or fewer), and in the trial.

# %%
def run(rule, size, hidden=16, promise=False, lr=lr, calls=calls):
    """The loss at each evaluation, the phase it was made in, and the optimizer."""
    model = net(hidden)
    opt, batch, found = FusePV(model.parameters(), lr=lr, switchover=rule, full_batch=promise), batches(size), []
    for _ in range(calls):
        here = slice(None) if size == rows else next(batch)

        def closure():
            opt.zero_grad()
            loss = cross_entropy(model(x[here]), y[here]) + 5e-5 * sum(p.square().sum() for p in model.parameters())
            loss.backward()
            found.append((loss.item(), opt.phase == "second_order"))
            return loss

        opt.step(closure)
    return pd.DataFrame(found, columns=["loss", "second"], index=range(1, len(found) + 1)), opt


def log(opt):
    return pd.DataFrame(opt.decisions).round(3).rename(columns={"first": "fall before", "second": "fall in the trial"})


alone, _ = run("never", rows)
trace, opt = run("auto", rows, promise=True)
log(opt)

# %%
fig, ax = plt.subplots()
ax.plot(alone.index, alone.loss.cummin(), label="Adam", **{k: v for k, v in plots.style("Adam").items() if k in ("color", "linestyle")})
lowest = trace.loss.cummin()
ax.plot(lowest.index, lowest, label="auto", color="C3")
ax.scatter(lowest.index[trace.second], lowest[trace.second], s=10, color="C3", label="its L-BFGS evaluations")
ax.set(xlabel="evaluations", ylabel="lowest loss so far", yscale="log", title="all rows")
ax.legend()
plots.show(fig, alt="Lowest loss over evaluations of Adam and of the automatic rule on all rows. From the fourth evaluation on the automatic rule runs L-BFGS; "
           "after a short flat start it falls faster, and stays lower to the end.")

# %% [markdown]
# **What you see.** Three steps of Adam, one trial, and it stays with L-BFGS. `opt.last_step.decision` tells of a decision at the call that made it,
# `opt.decisions` keeps the log, and both survive a checkpoint.
#
# Now a case that goes back: softmax regression on batches of two thirds of the rows, so that the function changes a little at each call. There can be no
# promise here, and `auto` is more careful:
#
# - it waits for 20 calls, and tries only when agreement *and* progress are at least 0.9;
# - it keeps a trial that gains at least a quarter of what Adam's last ten calls gained;
# - it asks one more question, which costs nothing, as long as the second phase lasts: **of what the steps gain on their own batches, is at least half found
#   on the next ones?**

# %%
back, opt = run("auto", 2 * rows // 3, hidden=0, lr=0.003, calls=2 * calls)
log(opt)

# %% tags=["nbval-check-output"]
print(f"{len(opt.decisions)} decisions:", [d.verdict for d in opt.decisions])

# %%
fig, ax = plt.subplots()
ax.plot(back.index, back.loss, color="C3", linewidth=1, label="loss on the batch at hand")
ax.fill_between(back.index, 0, 1, where=back.second, color="0.85", transform=ax.get_xaxis_transform(), label="second phase")
ax.set(xlabel="evaluations", ylabel="loss", yscale="log", title="batches of two thirds of the rows: there, and back")
ax.legend()
plots.show(fig, alt="Loss on the batch at hand over evaluations, falling slowly at first. In a shaded stretch, where the second phase runs, it falls to "
           "about a twentieth; after it the first phase goes on, and the loss stays level.")

# %% [markdown]
# **What you see.** Twenty steps of Adam measure the signals. Ten more collect curvature pairs, each on one batch, at two evaluations a step. Then comes the
# trial, which gains several times what ten steps of Adam had. The second phase takes the loss down by more than a factor of ten, and is left when most of
# what it gains on one batch is lost on the next. What remains is noise, and that is Adam's part. (The numbers in this rule are *shares*: 0.9, a quarter, a
# half. None is a threshold in the loss's units.)
#
# **Exercise 16.3** All trials fail. Each takes ten evaluations; the first comes after 3 first-order evaluations, the next ones after 10, 20, 40 and 80
# *more*. Which share of all evaluations, up to the end of the fifth trial, did the trials take?

# %%
check("16.3", ...)

# %% [markdown]
# ## 4 · Against the best fixed switch point
#
# Twenty-two tasks without noise: softmax and Poisson regression, nets, test functions, a quadratic of condition $10^4$, and six physics-informed
# losses (a net is to satisfy a differential equation; people often use L-BFGS for them). For each, there are twenty seeds and seven rules: the switch after 0,
# 3, 10, 30 or 100 steps of Adam, Adam alone, and `auto`. Adam's learning rate is the best of five for Adam alone (on 15 tasks that was the largest, 0.1).
#
# The cost is the number of gradient evaluations, trials included, to a gap of $10^{-3}$. The gap is $(f - f_\text{ref})/(f_0 - f_\text{ref})$, where
# $f_\text{ref}$ is a value that every fixed switch point reaches within 400 evaluations. **The best fixed point is chosen for each task after the fact**, so
# the comparison is against a rule that nobody has.
#
# One trap is in that yardstick. The lowest of five noisy means is low by luck as well, and no rule could match it. So the best point is chosen on one
# half of the seeds and *charged* on the other half, and the other way round (`lab.best_in_hindsight`).
#
# The rule had two designs. The first tried after three steps, whatever the path looked like. It was judged on eleven tasks, six of them held out from it.
# Mostly three steps were early enough and not too early; on *convection* they cost nearly twice the best (the column `3` below). What that task has and the
# others have not, rising losses with negative curvature, made the second design, which was finished on these eleven (on other seeds). The other eleven, the
# *held-out* ones below, were written afterwards, and run once.
#
# > **Predict.** Where is the best fixed switch point on most of these tasks? **(a)** after 30 or 100 steps of Adam; **(b)** after 0 to 10.

# %%
full = pd.read_csv(data.bundled("results/16_full.csv"))
budget, target = 400, "gap 0.001"
cost = full.assign(cost=full[target].fillna(budget)).pivot_table(index=["held_out", "task", "seed"], columns="rule", values="cost")
points = sorted((c for c in cost if c.startswith("step:")), key=lambda c: int(c[5:]))
means = cost.groupby(["held_out", "task"]).mean()
names = {point: point[5:] for point in points} | {"never": "Adam"}  # steps of Adam before the switch; Adam: no switch
shown = means[[*points, "never", "auto"]].round(0).astype(int).assign(best=means[points].idxmin(axis=1).map(names)).rename(columns=names)
shown.set_axis([task + held * " *" for held, task in means.index]).rename_axis("* held out", axis=1)

# %%
tasks = list(means.index)
over = {}  # task → a row a seed: cost over that of the best fixed point, which the other half of the seeds has chosen
for task in tasks:
    over[task] = cost.loc[task].div(lab.best_in_hindsight(cost.loc[task][points]), axis=0)

# %% tags=["nbval-check-output"]
found = {task: lab.geometric_mean(table["auto"]) for task, table in over.items()}
for which, some in {"design": [t for t in tasks if not t[0]], "held out": [t for t in tasks if t[0]], "all": tasks}.items():
    every = lab.geometric_mean(found[task].mean for task in some)
    near = sum(found[task].mean <= 1.15 for task in some)
    print(f"{which}: geometric mean {every.mean:.2f} [{every.low:.2f}, {every.high:.2f}], within 1.15 on {near} of {len(some)}")

# %%
fig, ax = plt.subplots(figsize=(9.5, 7.5), layout="constrained")
for i, task in enumerate(tasks):
    ax.plot([found[task].low, found[task].high], [i, i], color="C3")
    ax.plot(found[task].mean, i, "o", color="C3", markerfacecolor="white" if task[0] else "C3", label="auto" if i == 0 else None)
    ax.plot(lab.geometric_mean(over[task]["never"]).mean, i, "^", color=plots.style("Adam")["color"],
            label="Adam alone\n(or budget spent)" if i == 0 else None)
ax.axvline(1, color="0.5")
ax.axvline(1.15, color="0.5", linestyle=":", label="goal: 1.15")
ax.set_yticks(range(len(tasks)), [task + held * " *" for held, task in tasks])
ax.set_ylim(-0.7, len(tasks) - 0.3)
ax.set(xscale="log", xlabel="evaluations over those of the best fixed switch point", title="all rows: what the automatic rule costs (* held out)")
ax.set_xticks([0.7, 1, 1.5, 2, 3, 5, 10], ["0.7", "1", "1.5", "2", "3", "5", "10"])
ax.minorticks_off()
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.show(fig, alt="Cost of the automatic rule over that of the best fixed switch point, task by task with intervals: most are near 1, burgers is at 1.44. "
           "Adam alone lies to the right of it, at 1.1 to 12 and once near 20, but on burgers to the left.")

# %% [markdown]
# **What you see.** Answer **b**, on 19 of the 22. On 16 the best point is at once or after three steps, much as in notebook 09; on the tanh net on the digits,
# *oscillator* and *reaction* it is after 10. Only on *convection*, *burgers* and the net that fits a sine it is after 30 or 100.
#
# **`auto` costs 7 % more than the best fixed point in the mean**: 1.07 [1.03, 1.12] times as many evaluations. On the tasks of its design it is 4 %, on the
# held-out ones 11 % [2, 20].
#
# *The tasks of its design*: it is within 15 % on all eleven. On *convection* the first trial now comes after 25 to 51 steps, and the cost is 0.90 [0.80, 1.01]
# of the best fixed point's.
#
# *The held-out tasks*: it is within 15 % on seven. The other four are of two kinds:
#
# - *beale 2-d* and *powell singular* are solved in 11 and 14 evaluations without Adam. With `auto` it is two more, and that is 20 and 18 % (in the
#   geometric mean over the seeds);
# - on *burgers* (1.44 [1.23, 1.68]) 14 of 20 seeds, and on *reaction* (1.20 [0.92, 1.57]) 10 of 20, show no negative curvature within the first six steps.
#   There `auto` begins at the sixth, too early. On *burgers* even Adam alone is faster.
#
# So the first goal is met in the mean, and on 18 tasks of 22 (on 13 with the whole interval). It is not met on **every** task: on *burgers* the whole
# interval is above 1.15. (A run that does not arrive within 400 evaluations counts as 400. That is so for 5 of 440 runs of `auto`, for none with a fixed
# point, and for 124 of Adam alone, whose ratios are lower bounds.)
#
# But ask another question: *which one rule would you take for all of them?* The table has the geometric mean of the cost over all tasks and over the held-out
# ones, and the worst task of each.

# %% tags=["nbval-check-output"]
relative = pd.DataFrame({task: np.log(table).mean() for task, table in over.items()}).T
table = pd.DataFrame({"mean": np.exp(relative.mean()), "held out": np.exp(relative.loc[True].mean()),
                      "worst": np.exp(relative.max()), "worst, held out": np.exp(relative.loc[True].max())})
table.loc[[*points, "never", "auto"]].round(2)

# %% [markdown]
# **What you see.** `auto` has the lowest mean, but not by much. L-BFGS from the start (`step:0`) takes 1.03 [0.95, 1.12] times as many evaluations, so that
# the two cannot be told apart in the mean. What `auto` adds is a milder worst case. Whoever fixes the number of Adam's steps in advance is, on some task, 1.7
# to 7.7 times as slow as need be, and on the held-out ones as well.
#
# ### Why it does not look back
#
# Where `auto` began too early, could it not return to Adam later? We stopped L-BFGS after 40, 80 and 160 evaluations, and from there either let it go on, or
# let Adam take over, with its old moments or as a new Adam, at the same learning rate. (20 tasks: on the other two L-BFGS has come to its end by then.)

# %%
way = pd.read_csv(data.bundled("results/16_back.csv"))
rows_ = []
for n in (10, 20, 40, 60):
    lowest = way.pivot_table(index=["task", "evals", "seed"], columns="how", values=f"lowest {n}").dropna()
    lower = lowest[["adam", "new adam"]].lt(lowest["second phase"] - 1e-12 * lowest["second phase"].abs(), axis=0)
    rows_.append({"evaluations more": n, "cases": len(lowest), "Adam lower": lower["adam"].sum(), "a new Adam lower": lower["new adam"].sum()})
pd.DataFrame(rows_).set_index("evaluations more")

# %% tags=["nbval-check-output"]
lowest = way.pivot_table(index=["task", "evals", "seed"], columns="how", values=["start", "lowest 20"]).dropna()
nothing = (lowest["lowest 20", "adam"] >= lowest["start", "adam"]).mean()
print(f"cases in which 20 evaluations of Adam found nothing lower than where it began: {nothing:.0%}")

# %% [markdown]
# **What you see.** Adam is almost never lower. In nine cases of ten it finds nothing below its starting point within twenty evaluations, on *convection* too,
# where Adam alone from the start is faster than `step:3`. L-BFGS has gone down into a valley that is narrow across. Steps of Adam's length leave it at once,
# and in seven cases of ten not even sixty evaluations bring them back to the same loss. **So the time to be careful is before the switch**; that is what the
# wait in section 3 is for.
#
# There is one exception. Most of the 273 cases are of tasks on which L-BFGS is not too early. The few in which Adam is lower are on *reaction*, *oscillator*
# and *three normals*. On *reaction*, from 40 evaluations on, one of the two Adams is lower at some line of the table on four of the five seeds (on two of
# them at the last line). So a way back may pay there, and nobody knows beforehand which Adam it is.
#
# (The target of $10^{-3}$ was chosen on two of the design tasks; the file has others. At $10^{-2}$ half of the tasks take fewer than 40 evaluations, and
# three steps of Adam weigh more.)
#
# ## 5 · On minibatches
#
# Eight tasks with batches of 64 to 1,024 rows, at equal samples. Four rules: Adam with the best of five constant learning rates; the same with `auto`; the
# same with a switch when half of the samples are spent (`half`); and Adam with cosine decay, whose learning rate is tuned for itself. The table has the final
# training loss over that of Adam with the constant rate: the geometric mean of five seeds, with its interval.

# %%
mini = pd.read_csv(data.bundled("results/16_minibatch.csv"))
loss = mini.pivot_table(index=["held_out", "task", "seed"], columns="rule", values="train_loss")
over_adam = loss.div(loss["never"], axis=0)
stats = {task + held * " *": {rule: lab.geometric_mean(some[rule]) for rule in ("auto", "half", "cosine")}
         for (held, task), some in over_adam.groupby(level=["held_out", "task"])}
trials = mini[mini.rule == "auto"].groupby(["held_out", "task"]).trials.sum()
shown = pd.DataFrame({task: {rule: f"{i.mean:.2f} [{i.low:.2f}, {i.high:.2f}]" for rule, i in s.items()} for task, s in stats.items()}).T
shown.assign(trials=trials.to_numpy()).rename_axis("* held out", axis=1)

# %%
fig, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
for i, s in enumerate(stats.values()):
    for shift, (rule, shade, mark) in zip((-0.2, 0, 0.2), (("auto", "C3", "o"), ("cosine", "C0", "s"), ("half", "0.5", "^"))):
        ax.plot([s[rule].low, s[rule].high], [i + shift] * 2, color=shade)
        ax.plot(s[rule].mean, i + shift, mark, color=shade, label=rule if i == 0 else None)
ax.axvline(1, color="0.5")
ax.set_yticks(range(len(stats)), [task.replace("fashion-mnist-sample", "fashion") for task in stats])
ax.set(xscale="log", xlabel="final training loss over Adam's with a constant rate", title="minibatches, equal samples (* held out)")
ax.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
ax.minorticks_off()
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.show(fig, alt="Final training loss over Adam's on eight tasks: the automatic rule is at 1 on all. A switch at half of the samples is above 1 on seven, "
           "with two intervals that reach below it, and at 0.7 on one; cosine decay is above 1 on six.")

# %% [markdown]
# **What you see.** `auto` made no trial on any of the eight. With tuned learning rates, the noise or Adam's own swings keep the signals below 0.9, and the
# runs are Adam's bit for bit. The second goal is met in the plainest way: it does no harm, because it does nothing.
#
# A blind switch at half of the samples ends 1.17 to 3.2 times as high on seven of the eight (on two of them the interval reaches below 1). On one, the digits
# in batches of 720, half of the rows, it ends *lower*: 0.69 [0.61, 0.76]. That gain `auto` leaves lying. In section 3, on a similar task with a much smaller
# learning rate, it took it.
#
# The constant rate is hard to beat on the training loss: cosine decay is worse on six of the eight (on one of them with an interval that reaches below 1). It
# might do better with larger rates: on four of the tasks, the linear ones, the largest of its five was the best (as it was for the constant rate on three).
#
# **Quick check 16.4** A trial of L-BFGS on one minibatch lowers that batch's loss by half. That shows that **(a)** the second phase pays here;
# **(b)** nothing yet; **(c)** something is wrong.

# %%
check("16.4", ...)

# %% [markdown]
# ## 6 · When it fails
#
# - **No promise, no early trial.** Without `full_batch=True` it waits for 20 calls and for both signals to reach 0.9. A learning rate that makes Adam
#   swing looks like noise to both, and then it never tries. If your closure is one function, say so.
# - **A loop that changes the batch at the switch** (minibatches, then all rows, as in notebook 09) gives it two functions, and it compares the fall
#   of one with the fall of the other. Choose the point by yourself there: `step:K`, with K worth four passes, as in notebook 09.
# - **A loose target.** Three steps of Adam are a large share of twenty evaluations.
# - **Negative curvature that comes late.** On *burgers* and *reaction* `auto` had often made up its mind before. If your loss is of that kind (a net that
#   fits a differential equation or a wavy curve), try `step:30` and `step:100` beside it.
# - **It does not look back.** Once a trial has been kept on one function, only line searches that find nothing, twice in a row, end the phase.
# - **It needs the pairs** that are handed over to see the curvature: with `handover="none"` or `"metric"` it waits six steps at most.
# - It is a bet on the training loss alone, as every rule here.
#
# ## 7 · A rule of your own
#
# **Exercise 16.5** Here is a rule without a unit, and without a trial: `stalled(losses)` is True when the last ten steps brought less than a hundredth of
# all that has been won since the start (False while there are fewer than eleven losses). Fill it in; the class below makes a rule of it. It keeps the
# first loss and the last eleven, and hands them to your function as one list of twelve.

# %%
def stalled(losses):
    return False


check("16.5", ...)  # check("16.5", stalled)

# %%
class Stalled(Criterion):
    """Switch when the loss has stalled. The memory is saved with the optimizer, so that its lists have a fixed length."""

    reads = ("loss",)

    def memory(self):
        return super().memory() | {"first": math.nan, "last": [math.nan] * 11}

    def met(self, seen, memory):
        memory["first"] = seen.loss if math.isnan(memory["first"]) else memory["first"]
        memory["last"] = [*memory["last"][1:], seen.loss]
        return not math.isnan(memory["last"][0]) and bool(stalled([memory["first"], *memory["last"]]))


own, opt = run(Stalled(), rows, promise=True)
print(f"your rule: loss {own.loss.iloc[-1]:.3f} after {len(own)} evaluations, {int(own.second.sum())} of them L-BFGS; auto: {trace.loss.iloc[-1]:.3f} after {len(trace)}")

# %% [markdown]
# A rule that goes back sets `returns = True` and is then asked in the second phase as well: `fuse_lib/optim/auto.py` is one, in some 200
# lines.
#
# ## Summary
#
# | goal, written down before | verdict | effect | section |
# |---|---|---|---|
# | without noise at most 15 % above the best fixed point | **in the mean yes, on every task no**: on 18 of 22, on 7 of 11 held out | geometric mean 1.07 [1.03, 1.12], held out 1.11 [1.02, 1.20]; at worst 1.44 [1.23, 1.68] | 4 |
# | on minibatches at most 1 % above Adam at equal samples | **holds** | no trial on any of eight tasks, so 0 % | 5 |
#
# - **Why it is the library's default.** Without noise no fixed number of steps has a lower mean, and each has a worse worst case (1.68 or more). With noise
#   it is Adam bit for bit. For looser targets L-BFGS at once has the lower mean (at a gap of $10^{-2}$: 1.08 against 1.12).
# - **A threshold of the paper's kind did not serve all tasks.** Chosen blindly, 74 % never fired (notebook 13), and the best one of notebook 09 never fired on
#   one of five.
# - **Signals have limits.** A signal of the first phase can tell noise from its absence at best. How fast the second phase is, only the second phase tells.
#   On minibatches the question is not what a step gained, but what of it is left on the next batch.
# - **Look before you switch.** Within 60 evaluations of going back, Adam is lower than L-BFGS going on in at most 5 of 273 cases, most of them on
#   *reaction*. (Whether it pays to run Adam for longer, or at a smaller rate, and then L-BFGS again, was not tried.)
# - **Still open**: a sign of the valleys that Adam leaves and L-BFGS does not, and that comes before the sixth step; trials on large batches at tuned
#   learning rates.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - L. Balles, P. Hennig, *Dissecting Adam: The Sign, Magnitude and Variance of Stochastic Gradients*, ICML 2018, [arXiv
#   1705.07774](https://arxiv.org/abs/1705.07774)
# - L. Bottou, F. E. Curtis, J. Nocedal, *Optimization Methods for Large-Scale Machine Learning*, SIAM Review 60, 2018, [arXiv
#   1606.04838](https://arxiv.org/abs/1606.04838)
#
# **The course**: the [README](@repository@#the-course) has the map. Before this one:
# [15 · Curvature: what L-BFGS gains from, and where](15_curvature_on_nonconvex.ipynb).

# %%
effective = {"rows": rows, "calls": calls, "lr": lr, "small": small, "large": large, "seed": seed, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {"auto": trace.loss.iloc[-1], "Adam": alone.loss.iloc[-1], "evaluations": len(trace)}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
