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
# Adam keeps a mean gradient $\hat m$. If consecutive gradients agree, it is as long as they are; if they are noise, they cancel. With the mean of
# the norms by the same weights,
#
# $$\text{agreement} = \left(\frac{\lVert \hat m\rVert}{\overline{\lVert g\rVert}}\right)^2 = \begin{cases} 1 & \text{all gradients have one direction}\\
# (1-\beta_1)/(1+\beta_1) & \text{noise only.}\end{cases}$$
#
# (Why not $\sum\hat m^2$ over $\sum\hat v$? Because $\hat v$ remembers a thousand steps: a gradient that has shrunk a hundredfold without any noise
# leaves a large $\hat v$ behind, and looks noisy.)
#
# The loss tells something as well: of its way up and down over the last ten calls, which share was *progress*?
#
# $$\text{progress} = \frac{f_{k-10} - f_k}{\sum_i |f_i - f_{i-1}|}.$$
#
# And the path tells the curvature along it, $s^\top y$: where it is negative, L-BFGS has nothing to learn from that step.

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
print("agreement, mean of steps 3 to 8:", {name: round(float(t.agreement[3:8].mean()), 1) for name, t in seen.items()})
print("agreement, mean of the last 30: ", {name: round(float(t.agreement[-30:].mean()), 1) for name, t in seen.items()})
print("steps with negative curvature:  ", {name: f"{(t.curvature[20:] < 0).mean():.0%}" for name, t in seen.items()})

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for ax, kind in zip(axes, ("agreement", "progress")):
    for (name, table), (line, shade) in zip(seen.items(), (("-", "C0"), ("--", "C1"), (":", "C2"))):
        ax.plot(table.index, table[kind], linestyle=line, color=shade, label=name)
    ax.axhline(0.9, color="0.5", linewidth=1)
    ax.set(xlabel="step of Adam", title=kind, ylim=(-0.6, 1.05))
axes[0].axhline(0.1 / 1.9, color="0.5", linestyle=":", linewidth=1)
axes[0].legend()
plots.show(fig, alt="Agreement and progress over Adam's steps for all rows and two minibatch sizes. All begin high; with minibatches both fall, "
           "with all rows they stay higher.")

# %% [markdown]
# **What you see.** Answer **b**: at the start the gradient is large and all batches agree about it. The noise is always there; it is the *signal*
# that shrinks. Later the small batches' agreement is near the dotted line, 0.05, which is noise alone.
#
# Note what the blue line does: without any noise it is at 0.6 for a while, since the path bends. **A high value shows that there is little noise
# beside the gradient; a low one does not show that there is much.** So the signal can forbid a switch on minibatches, and cannot time one on all
# rows. (For $s^\top y$ the two gradients here are of two batches, so that with minibatches its sign is noise too: the rule looks at it on all rows
# only.)
#
# **Quick check 16.1** What is the agreement of pure noise with $\beta_1 = 0.8$?

# %%
check("16.1", ...)

# %% [markdown]
# **Exercise 16.2** Write `progress(losses)`: the fall from the first to the last of a list, over the sum of all moves up and down. (0 where nothing
# moves.)

# %%
def progress(losses):
    return ...


check("16.2", ...)  # check("16.2", progress)

# %% [markdown]
# ## 3 · Try it, and be able to go back
#
# No signal of the first phase says how fast the *second* would be from here. The direct way is to try: ten evaluations of L-BFGS, and look at what
# they gained. That is a bet with a bounded loss, **if** the function is the same at each call: the line search never raises the loss, so that a
# failed trial leaves you where you were or lower.
#
# `switchover="auto"` does that. With `full_batch=True`:
#
# - the loss fell at each of the first 3 steps: try. It is a bowl as far as can be seen, and Adam is in no hurry in it;
# - it rose: wait for the 6th step. If no step so far had $s^\top y < 0$, try: Adam only overshot;
# - it rose *and* there was negative curvature along the path: wait until 20 steps in a row have had none. Here L-BFGS, begun early, creeps along a
#   valley that Adam leaves (section 4);
# - the trial is kept if it lowers the loss. If not, Adam goes on with its moments as they were, and the next one comes after 10 steps, then 20, 40, …

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
plots.show(fig, alt="Loss over evaluations of Adam and of the automatic rule on all rows. After a few steps the automatic rule changes to L-BFGS and falls faster.")

# %% [markdown]
# **What you see.** Three steps of Adam, one trial, and it stays. `opt.last_step.decision` says so at the call, `opt.decisions` keeps the log, and
# both survive a checkpoint.
#
# Now a case that goes back: nearly all rows in each batch, but not quite. The two signals are above 0.9 for a while, so that a trial is made even
# without the promise. There the rule asks one more question, which costs nothing: **of what a step gains on its own batch, how much is found on the
# next one?**

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
plots.show(fig, alt="Loss over evaluations with a shaded stretch in which the second phase runs; after it the first phase goes on.")

# %% [markdown]
# **What you see.** Twenty steps of Adam to measure the signals, ten more that collect curvature pairs on their batches, then the trial: it gained
# several times what ten steps of Adam had. The second phase stays while its gains last, takes the loss down by more than a factor of ten, and is
# left when most of what it gains on one batch is lost on the next. What remains is noise, and Adam's part. (No threshold in the loss's units was
# needed; a *share* of gains that last, one half, was.)
#
# **Exercise 16.3** All trials fail: of ten evaluations each, after 3, 10, 20, 40 and 80 first-order evaluations. Which share of all evaluations up
# to the end of the fifth trial did they take?

# %%
check("16.3", ...)

# %% [markdown]
# ## 4 · Against the best fixed switch point
#
# Twenty-two tasks without noise: softmax and Poisson regression, nets, test functions, a quadratic of condition $10^4$, and six physics-informed
# losses (a net is to satisfy a differential equation; L-BFGS is what people use for them). For each, twenty seeds and the switch after 0, 3, 10, 30 or
# 100 steps of Adam (with the best of five learning rates), Adam alone, and `auto`. The cost is the number of gradient evaluations, trials included, to a
# gap of $10^{-3}$: $(f - f_\text{ref})/(f_0 - f_\text{ref})$, where $f_\text{ref}$ is a value that every fixed switch point reaches within 400
# evaluations. **The best fixed point is chosen for each task after the fact**, so that the comparison is against a rule that nobody has.
#
# One trap is in that yardstick. The lowest of five noisy means is low by luck as well, and no rule could match it. So the best point is chosen on one
# half of the seeds and *charged* on the other half, and the other way round (`lab.best_in_hindsight`).
#
# The rule had two designs. The first tried after three steps whatever the path looked like, on eleven tasks, six of them held out. Mostly that was
# early enough and not too early; on *convection* it cost twice the best (the column `step:3` below shows what it did there). What that task has and
# the others have not, rising losses with negative curvature, made the second design, which was finished on these eleven (on other seeds). The other
# eleven were written afterwards, and run once.
#
# > **Predict.** Where is the best fixed switch point on most of these tasks? **(a)** after 30 or 100 steps of Adam; **(b)** after 0 to 10.

# %%
full = pd.read_csv(data.bundled("results/16_full.csv"))
budget, target = 400, "gap 0.001"
cost = full.assign(cost=full[target].fillna(budget)).pivot_table(index=["held_out", "task", "seed"], columns="rule", values="cost")
points = sorted((c for c in cost if c.startswith("step:")), key=lambda c: int(c[5:]))
means = cost.groupby(["held_out", "task"]).mean()
means.round(0).astype(int).assign(best=means[points].idxmin(axis=1))[[*points, "never", "auto", "best"]]

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
ax.axvline(1.15, color="0.5", linestyle=":")
ax.set_yticks(range(len(tasks)), [task + (" (held out)" if held else "") for held, task in tasks])
ax.set(xscale="log", xlabel="evaluations over those of the best fixed switch point", title="all rows: what the automatic rule costs")
ax.set_xticks([0.7, 1, 1.5, 2, 3, 5, 10], ["0.7", "1", "1.5", "2", "3", "5", "10"])
ax.minorticks_off()
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.show(fig, alt="Cost of the automatic rule over that of the best fixed switch point, task by task with intervals, and of Adam alone, which lies far to the right.")

# %% [markdown]
# **What you see.** Answer **b**, on most: without noise the best point is nearly always at once or after a few steps, as in notebook 09. The exceptions
# are nets that fit a curve or a differential equation, where 10 to 100 steps are better.
#
# `auto` costs **7 % more than the best fixed point in the mean** (1.07 [1.03, 1.12]), 4 % on the tasks of its design and 11 % [2, 20] on those that were
# held out. It is within 15 % on all eleven tasks of its design. *Convection* is among them: there it makes its first trial after 25 to 51 steps, and costs
# less than any fixed point. On the held-out ones it is within 15 % on seven. The other four are of two kinds:
#
# - *beale 2-d* and *powell singular* are solved in 11 and 14 evaluations. Three steps of Adam instead of none are 20 % of that.
# - on *burgers* (1.44 [1.23, 1.68]) and *reaction* (1.20 [0.92, 1.57]) more than half and half of the seeds show no negative curvature within the first
#   six steps, so that it begins then, too early.
#
# So the first goal is met in the mean, and on 18 tasks of 22. On **every** task it is not: on *burgers* the whole interval is above 1.15. (A run that does
# not arrive within 400 evaluations counts as 400. That is so for 5 of 440 runs of `auto`, for none with a fixed point, and for 124 of Adam alone, whose
# ratios are lower bounds.)
#
# But ask another question: *which one rule would you take for all of them?*

# %% tags=["nbval-check-output"]
relative = pd.DataFrame({task: np.log(table).mean() for task, table in over.items()}).T
table = pd.DataFrame({"mean": np.exp(relative.mean()), "held out": np.exp(relative.loc[True].mean()),
                      "worst": np.exp(relative.max()), "worst, held out": np.exp(relative.loc[True].max())})
table.loc[[*points, "never", "auto"]].round(2)

# %% [markdown]
# **What you see.** `auto` has the lowest mean, but not by much: L-BFGS from the start (`step:0`) takes 1.03 [0.95, 1.12] times as many evaluations, so that
# the two cannot be told apart in the mean. What `auto` adds is the worst case: whoever fixes the number of Adam's steps in advance is, on some task, 1.7 to
# 8 times as slow as need be, on the held-out ones as well.
#
# ### Why it does not look back
#
# Where `auto` began too early, could it not return to Adam later? We tried, on the 20 tasks that were not solved by then: from where L-BFGS stood after 40,
# 80 and 160
# evaluations, let it go on, or let Adam take over, with its old moments or with new ones.

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
# **What you see.** In nine cases of ten Adam finds nothing lower within twenty evaluations, on *convection* too, where it would have been faster from
# the start. L-BFGS has gone down into a valley that is narrow across; steps of Adam's length leave it at once,
# and in seven cases of ten not even sixty evaluations bring them back to the same loss. **So the time to be careful is before the switch**; that is what the
# wait in section 3 is for.
#
# (The target of $10^{-3}$ was chosen on two of the design tasks; the table has others. At $10^{-2}$, where tasks take ten to sixty evaluations, three
# steps of Adam weigh more.)
#
# ## 5 · On minibatches
#
# Eight tasks with batches of 64 to 1,024 rows, at equal samples: Adam with the best of five constant learning rates, the same with `auto`, a switch
# when half of the samples are spent (`half`), and Adam with cosine decay, whose learning rate is tuned for itself.

# %%
mini = pd.read_csv(data.bundled("results/16_minibatch.csv"))
loss = mini.pivot_table(index=["held_out", "task", "seed"], columns="rule", values="train_loss")
more = 100 * (loss.div(loss["never"], axis=0) - 1)
stats = {(held, task): {rule: lab.interval(rows_[rule]) for rule in ("auto", "half", "cosine")} for (held, task), rows_ in more.groupby(level=["held_out", "task"])}
trials = mini[mini.rule == "auto"].groupby(["held_out", "task"])[["trials"]].sum()
shown = pd.DataFrame({key: {f"{rule}, %": f"{i.mean:+.1f} [{i.low:+.1f}, {i.high:+.1f}]" for rule, i in s.items()} for key, s in stats.items()}).T
shown.assign(**{"trials of auto": trials.trials})

# %%
fig, ax = plt.subplots(figsize=(9.5, 4.4), layout="constrained")
for i, ((held, task), s) in enumerate(stats.items()):
    for shift, (rule, shade, mark) in zip((-0.2, 0, 0.2), (("auto", "C3", "o"), ("cosine", "C0", "s"), ("half", "0.5", "^"))):
        low, mean, high = np.clip([1 + v / 100 for v in (s[rule].low, s[rule].mean, s[rule].high)], 0.4, 6)
        ax.plot([low, high], [i + shift] * 2, color=shade)
        ax.plot(mean, i + shift, mark, color=shade, label=rule if i == 0 else None)
ax.axvline(1, color="0.5")
ax.axvline(1.01, color="0.5", linestyle=":")
ax.set_yticks(range(len(stats)), [task + (" (held out)" if held else "") for held, task in stats])
ax.set(xscale="log", xlabel="final training loss over Adam's with a constant rate (cut off at 0.4 and 6)", title="minibatches, equal samples")
ax.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
ax.minorticks_off()
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.show(fig, alt="Final training loss beside Adam's in per cent for the automatic rule, cosine decay, and a switch at half of the samples, task by task.")

# %% [markdown]
# **What you see.** `auto` made no trial on any of the eight: with tuned learning rates, the noise or Adam's own swings keep the signals below 0.9,
# and the runs are Adam's bit for bit. The second goal is met in the plainest way: it does no harm, because it does nothing. A blind switch at half
# of the samples ends 17 to 340 % higher on seven of the eight (on two of them with an interval that holds zero), and on one it is a third *better*
# (digits in batches of 720, half of the rows): that gain `auto` leaves lying. In section 3, with a smaller learning rate, it took it. (All are
# compared with a constant rate, which is hard to beat here on the training loss: cosine decay, tuned for itself, is worse on six of the eight.)
#
# **Quick check 16.4** A trial of L-BFGS on one minibatch lowers that batch's loss by half. That shows that **(a)** the second phase pays here;
# **(b)** nothing yet; **(c)** something is wrong.

# %%
check("16.4", ...)

# %% [markdown]
# ## 6 · When it fails
#
# - **No promise, no early trial.** Without `full_batch=True` it waits 20 calls and for two signals of 0.9. A learning rate that makes Adam swing
#   looks like noise to both, and then it never tries. If your closure is one function, say so.
# - **A loop that changes the batch at the switch** (minibatches, then all rows, as in notebook 09) gives it two functions, and it compares the fall
#   of one with the fall of the other. Choose the point by yourself there: `step:K`, with the four passes of notebook 09.
# - **A loose target**: three steps of Adam are a large share of twenty evaluations.
# - **Negative curvature that comes late.** On *burgers* and *reaction* it had often made up its mind before. Where your loss is of that kind (a net that fits a
#   differential equation or a wavy curve), try `step:30` and `step:100` beside it.
# - **It does not look back**: once a trial has been kept on one function, only a search that finds nothing ends the phase.
# - **It needs the pairs** to see the curvature: with `handover="none"` or `"metric"` it waits six steps at most.
# - It is a bet on the training loss alone, as every rule here.
#
# ## 7 · A rule of your own
#
# **Exercise 16.5** No unit, no trial: `stalled(losses)` is True when the last ten steps brought less than a hundredth of what has been won since
# the start (False while there are fewer than eleven losses). Fill it in; the class below makes a rule of it.

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
# | without noise within 15 % of the best fixed point | in the mean yes; not on every task: 18 of 22, 7 of 11 held out | geometric mean 1.07 [1.03, 1.12], held out 1.11 [1.02, 1.20], at worst 1.44 [1.23, 1.68]; any fixed number of steps: at worst 1.68 or more | 4 |
# | on minibatches at most 1 % above Adam at equal samples | holds | no trial on any of eight tasks, so 0 % | 5 |
#
# - `auto` is the library's default all the same: without noise, to a gap of 1e-3, no fixed number of steps has a lower mean (at 1e-2 L-BFGS at once has:
#   1.08 against 1.12), all have a higher worst case, and with noise it is Adam bit for bit. No one threshold of the paper's criteria served all tasks:
#   blindly chosen, 74 % never fired (notebook 13), and the best one of notebook 09 never fired on one of five.
# - A signal of the first phase can tell noise from its absence at best. How fast the second phase is, only the second phase tells.
# - Within 60 evaluations of going back Adam is lower than L-BFGS going on in at most 5 of 273 cases: look before you switch. Whether Adam for longer, and
#   then L-BFGS again, would pay was not tried. On minibatches the question is not what a step gained, but what of
#   it is left on the next batch.
# - **Still open**: a sign of the valleys that Adam leaves and L-BFGS does not, which comes before the sixth step; trials on large batches at tuned
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
