# %% [markdown]
# # 00 · Start here: FUSE in five minutes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/00_start_here.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - what FUSE does, in one sentence and one picture,
# - how to put it into a training loop: another line for the optimizer, and a closure,
# - how to read what it did, and what it is *not* good for.
#
# **You need first**: a little PyTorch (a model, a loss, `backward`). No theory.
#
# **Minutes**: 10 to read, 1 to run. With `profile="full"` about 35 on one processor core (an estimate from ten
# evaluations; nobody has run it to its end).

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
dataset: str = "fashion-mnist-sample"  # bundled; or "fashion-mnist", "mnist", … (see data/README.md)
seeds: int = 5  # runs of each optimizer, from different initial weights
budget: int = 300  # gradient evaluations in a run, each over all training images
switch: int = 100  # after how many steps of Adam FUSE-PV goes over to L-BFGS
lr: float = 0.003  # of Adam and of FUSE-PV's first phase
lr_cosine: float = 0.01  # of Adam with cosine decay, which can afford more
profile: str = "quick"  # "full": all 60,000 training images of Fashion-MNIST, which you need to have
device: str = "auto"  # "cpu", "cuda", … ; "auto" takes a GPU where there is one
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (seeds >= 1 and 1 <= switch < budget and profile in ("quick", "full")):
    raise ValueError(f"seeds={seeds}, switch={switch}, budget={budget}, profile={profile!r}; allowed are seeds ≥ 1, "
                     "1 ≤ switch < budget, and the profiles 'quick' and 'full'")

# %% [markdown]
# ## 1 · The idea
#
# Training is walking downhill on a landscape: the parameters are the place where you stand, and the loss is the height.
#
# **Adam** walks fast through rough country. Each step costs one gradient. It divides each coordinate of the gradient by
# that coordinate's recent size, so it needs little care. Near a minimum it slows down: it knows how steep the
# ground is, but not how the valley *curves*.
#
# **L-BFGS** learns the curvature from its last few steps. Say a step $s$ changed the gradient by $y$. Then the matrix $B$
# of second derivatives (the *Hessian*, which says how the gradient changes) must satisfy $B s \approx y$. Such a
# *curvature pair* $(s, y)$ costs nothing extra. With a few of them L-BFGS jumps towards the bottom of the valley
# instead of zig-zagging down. Far from a minimum, or on noisy gradients, this knowledge may be worth little.
#
# > **FUSE-PV: start with Adam, finish with L-BFGS.** A rule decides when to switch.
#
# The *general* FUSE takes a weighted mean of where Adam would go, $x^A$, and where L-BFGS would go, $x^L$:
# $x_{k+1} = \theta\,x^{A} + (1-\theta)\,x^{L}$. FUSE-PV is the case where $\theta$ jumps from 1 to 0.
# Later notebooks take all of this apart. Here we just use it.

# %%
import time

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullFormatter
import torch
import torch.nn.functional as F

import fuse_lib
from fuse_lib import LBFGS, FusePV, data, models, plots

plots.use_style()
if device == "auto":
    device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"fuse_lib {fuse_lib.__version__}, torch {torch.__version__}, device {device}")

# %% [markdown]
# ## 2 · Real images
#
# We use Fashion-MNIST: grey images of 28 × 28 pixels, of ten kinds of clothing. The course brings a sample of it along,
# with equally many images of each kind, so nothing has to be downloaded.

# %%
if profile == "full":
    dataset = "fashion-mnist"
images = data.load(dataset, device=device)
print(images)

# %%
fig, axes = plt.subplots(2, 5, figsize=(7, 3.4))
for label, ax in enumerate(axes.flat):
    first = int((images.y_train == label).nonzero()[0])
    ax.imshow(images.x_train[first, 0].cpu(), cmap="gray_r")
    ax.set(title=images.classes[label], xticks=[], yticks=[])
plots.show(fig, alt=f"Ten small grey images, one of each class of {images.name}: {', '.join(images.classes)}.")

# %% [markdown]
# One image of each class. Shirts, coats and pullovers look alike, so do not expect 100 %.
#
# ## 3 · A small net and its objective
#
# The model is a small net with two hidden layers (784 inputs, then 64, 32 and 10 units). What we minimise is its
# *objective* $f$: the cross-entropy over **all** $n$ training images at once, plus a small penalty on large weights $w$.
# (Without the penalty the weights could grow for ever.)
#
# $$f(w) = \frac{1}{n}\sum_{i=1}^n \mathrm{CE}\big(\mathrm{net}_w(x_i), y_i\big) + \frac{10^{-3}}{2}\,\|w\|^2$$

# %%
def objective(model):
    penalty = sum(p.square().sum() for p in model.parameters())
    return F.cross_entropy(model(images.x_train), images.y_train) + 1e-3 / 2 * penalty


def accuracy(model):
    with torch.no_grad():
        return (model(images.x_test).argmax(1) == images.y_test).float().mean().item()


# %%
example = models.build("mlp", in_shape=images.in_shape, classes=len(images.classes), seed=0).to(device)
print(f"{models.num_parameters(example):,} parameters, objective at the start {objective(example).item():.2f}")

# %% [markdown]
# ## 4 · The loop
#
# An L-BFGS step may need the loss and its gradient at more than one point. So it does not want *a gradient* but *a
# function that computes one*: the **closure**. It clears the gradients, computes the loss, calls `backward` and returns
# the loss. Adam takes the same closure and calls it once.
#
# Your loop changes in two places: the line that makes the optimizer, and `loss = opt.step(closure)`.
#
# We count cost in **gradient evaluations**, that is, in calls of the closure. A step may take more than one.

# %%
def train(model, opt, scheduler=None):
    """Train until the budget is spent. Returns a table with a row for each step."""
    rows, evals, seconds = [], 0, 0.0

    def closure():
        nonlocal evals
        evals += 1  # one gradient evaluation: what we count as cost
        opt.zero_grad()
        loss = objective(model)
        loss.backward()
        return loss

    while evals < budget:
        start, at = time.perf_counter(), evals
        loss = opt.step(closure)  # the loss where the step started
        seconds += time.perf_counter() - start
        rows.append({"evals": at, "loss": float(loss.detach()), "seconds": seconds, "accuracy": accuracy(model)})
        if scheduler is not None:
            scheduler.step()
    rows.append({"evals": evals, "loss": objective(model).item(), "seconds": seconds, "accuracy": accuracy(model)})
    return pd.DataFrame(rows)


# %% [markdown]
# Four optimizers start from the same nets, with the same budget of evaluations:
#
# - **Adam**, with a constant learning rate;
# - **Adam, cosine**: its learning rate falls to zero along a cosine curve, as a careful user would let it;
# - **L-BFGS** alone, from the first step;
# - **FUSE-PV**: the same Adam for the first 100 steps, then the same L-BFGS.
#
# `full_batch=True` is your promise that the closure is the same function each time. In return most L-BFGS steps cost
# *one* evaluation.

# %%
def adam(params):
    return torch.optim.Adam(params, lr=lr), None


def adam_cosine(params):
    opt = torch.optim.Adam(params, lr=lr_cosine)
    return opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, budget)


def fuse_pv(params):
    return FusePV(params, lr=lr, switchover=f"step:{switch}", full_batch=True), None


def l_bfgs(params):
    return LBFGS(params, full_batch=True), None


contestants = {"Adam": adam, "Adam, cosine": adam_cosine, "L-BFGS": l_bfgs, "FUSE-PV": fuse_pv}

# %% [markdown]
# > **Predict.** After 100 evaluations FUSE-PV stops being Adam. What will its curve of the objective do there: **(a)** jump
# > up, because L-BFGS has to learn the curvature first; **(b)** bend downwards; **(c)** nothing for a while?
# > And who will have the best *test accuracy* in the end? Decide before you run the next cell.

# %%
runs = []
for seed in range(seeds):
    for name, make in contestants.items():  # in turns, so that a busy machine slows all of them alike
        model = models.build("mlp", in_shape=images.in_shape, classes=len(images.classes), seed=seed).to(device)
        opt, scheduler = make(model.parameters())
        runs.append(train(model, opt, scheduler).assign(optimizer=name, seed=seed))
    print(f"seed {seed}: {len(contestants)} runs of {budget} evaluations done")
table = pd.concat(runs, ignore_index=True)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
for name in contestants:
    for seed, run in table[table.optimizer == name].groupby("seed"):
        look = {} if seed == 0 else {"label": None, "marker": "", "alpha": 0.35, "linewidth": 1.0}
        plots.curve(left, run.evals, run.loss, name, **look)
        plots.curve(right, run.evals, run.accuracy, name, **look)
for ax in (left, right):
    plots.mark_switch(ax, switch)
    ax.set(xlabel=f"gradient evaluations (each over {len(images.y_train):,} images)")
left.set(yscale="log", title="training objective")
left.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
left.yaxis.set_minor_formatter(NullFormatter())
right.set(title="test accuracy", ylim=(table.accuracy.max() - 0.1, table.accuracy.max() + 0.01))
left.legend()
fig.tight_layout()
plots.show(fig, alt=f"Two panels over gradient evaluations. Left: the training objective on a log scale of "
           f"{', '.join(contestants)}; FUSE-PV is on Adam's curve until its switch at {switch}. Right: test accuracy, "
           "which rises steeply and is highest near evaluation 100; then it stays level or falls a little.")

# %% [markdown]
# **What you see**, with the default parameters. Each optimizer has one bold line, for its first run; its other runs are
# thin. Up to the dotted line FUSE-PV *is* Adam, so their curves lie on one another. Then FUSE-PV bends downwards
# (answer **b**). It does not start from nothing: Adam's last steps have left it some curvature pairs. From evaluation 180
# on it is below both Adams in all five runs. The spikes belong to Adam: its step does not shrink, so it overshoots now
# and then.
#
# **Would L-BFGS alone have done it?** Almost, here. Without any Adam it ends at 0.115 on average, FUSE-PV at 0.099. These
# nets start from a good place. What Adam's first steps are good for from a bad start is the subject of notebook 03.
#
# **And the right panel?** The better minimiser is not the better classifier. The best mean accuracy in the end is that of
# Adam with cosine decay, 81.0 %; FUSE-PV has 79.6 %. Most runs are at their best near evaluation 100. From there on
# they fit the 2,000 training images ever more closely, and new images no better. FUSE minimises. Whether a lower minimum
# is what you need is another question, and this course asks it again and again.

# %% tags=["nbval-ignore-output"]
last = table.groupby(["optimizer", "seed"], sort=False).last()
summary = last.groupby("optimizer", sort=False).agg(
    loss=("loss", "mean"), loss_std=("loss", "std"), accuracy=("accuracy", "mean"), accuracy_std=("accuracy", "std"),
    median_seconds=("seconds", "median"))
summary.round(3)

# %% tags=["nbval-check-output"]
means = last.loss.groupby("optimizer", sort=False).mean()
paired = last.loss.unstack("seed")
best_adam = paired.loc[["Adam", "Adam, cosine"]].min()
print(f"runs in which FUSE-PV ends below the better Adam: {(paired.loc['FUSE-PV'] < best_adam).sum()} of {seeds}")
print(f"FUSE-PV's mean objective below 0.8 times the better Adam's: {means['FUSE-PV'] < 0.8 * means[:2].min()}")

# %% [markdown]
# **Is the comparison fair?** We tried five learning rates. Each Adam got the one that is best for *this* budget. FUSE-PV
# just takes over Adam's, 0.003. Its own best would be 0.01, and would end lower by a ninth. The next table has the mean
# objective at the end, over 5 seeds. (L-BFGS has no learning rate; its lr = 1 is the first step length that it tries.
# `OMP_NUM_THREADS=1 python benchmarks/learning_rates_00.py` makes the table again.)

# %%
recorded = pd.read_csv(data.bundled("results/00_learning_rates.csv"))
recorded.pivot_table(index="lr", columns="optimizer", values="train_loss").round(3)

# %% [markdown]
# ## 5 · What did it do?
#
# After each step `opt.last_step` holds a report. Let us look at three steps of a FUSE-PV run: the last of Adam, the first
# of L-BFGS, and one well after the switch.

# %% tags=["nbval-ignore-output"]
model = models.build("mlp", in_shape=images.in_shape, classes=len(images.classes), seed=0).to(device)
opt, _ = fuse_pv(model.parameters())


def closure():
    opt.zero_grad()
    loss = objective(model)
    loss.backward()
    return loss


reports = []
for step in range(switch + 40):
    opt.step(closure)  # returns the loss where the step started
    reports.append(opt.last_step)
print("the last of Adam:      ", reports[switch - 1])
print("the first of L-BFGS:   ", reports[switch])
print("forty steps later:     ", reports[-1])

# %% [markdown]
# The second line, field by field:
#
# - `theta=0`: a second-order step, with no share of Adam.
# - `loss` is the objective where the step began, `loss_after` where it ended.
# - `evals` counts the closure calls: one to know where it stands, one to test that the closure really is the same
#   function each time, and the rest to find out how far to go.
# - `step_length` is how far it went along its direction, where 1 is the full step.
# - `handed_over=(9, 9)`: nine curvature pairs came from Adam's last steps, and all nine were of use. (Nine, because
#   ten points have nine gaps between them.)
#
# The third line is the normal case: one evaluation, step length 1. That is why L-BFGS here takes hardly more evaluations a
# step than Adam, and only a little more time (last column of the first table above).

# %% tags=["nbval-check-output"]
cheap = sum(report.evals == 1 for report in reports[switch + 1 :])
print(f"phase of step {switch}: {reports[switch - 1].phase}, of step {switch + 1}: {reports[switch].phase}")
print(f"at least three of four L-BFGS steps cost one evaluation: {cheap >= 0.75 * 39}")

# %% [markdown]
# ## 6 · When to leave it alone
#
# - **Small, noisy minibatches.** A minibatch is a small random part of the data, so its gradient is noisy. L-BFGS learns
#   from *differences* of gradients, and takes the noise in them for curvature. A well-tuned Adam is hard to beat there.
# - **A loss that is not the point.** If test accuracy has stopped rising, do not expect a lower training loss to raise it
#   (see the right panel above).
# - **Too early.** On a plateau, or while the loss still halves every few steps, stay with Adam for now.
#
# It pays where the *minimum itself* is wanted: regression and inverse problems, physics-informed nets, small and
# medium models on data that fit into one batch, the last digits of a fit.
#
# **And which rule do I take?** Here we chose `step:100` by hand. If you name no rule, you get `switchover="auto"`. With
# `full_batch=True` it tries L-BFGS out, for the first time after a few steps of Adam, and stays with it if the trial lowers the
# loss. On noisy minibatches it stays with Adam. Notebook 16 shows how well that works, and where it fails.

# %% [markdown]
# ## 7 · Exercises
#
# Put your answer in place of the dots and run the cell. `hint("00.1")` gives a hint, `solution("00.1")` the solution.
# Nothing breaks if you leave them alone.

# %%
from fuse_lib.exercises import check, hint, solution

# %% [markdown]
# **Quick check 00.1** Why does `step` want a closure for L-BFGS? **(a)** it needs second derivatives; **(b)** it may need
# the loss and gradient at more than one point; **(c)** to call `backward` itself.

# %%
check("00.1", ...)

# %% [markdown]
# **Quick check 00.2** What is the trouble with L-BFGS on small minibatches? **(a)** an evaluation costs too much;
# **(b)** its memory does not fit; **(c)** the noise in the gradients passes for curvature.

# %%
check("00.2", ...)

# %% [markdown]
# **Exercise 00.3** FUSE-PV takes 100 steps of Adam and 100 of L-BFGS. Of the L-BFGS steps, 80 take one evaluation each and
# 20 take four each. How many gradient evaluations did the run cost?

# %%
check("00.3", ...)

# %% [markdown]
# **Exercise 00.4** (code) Write a function that takes the list of reports of a run (as in section 5) and returns how many
# gradient evaluations the run took.

# %%
def cost(reports):
    return ...


check("00.4", ...)  # check("00.4", cost)

# %% [markdown]
# **Exercise 00.5** You want the best test accuracy on this data, and you have 300 evaluations. What does the right panel of
# section 4 suggest? **(a)** Stop early, or change the data or the model; a better minimiser is no help. **(b)** Switch to
# L-BFGS earlier. **(c)** Stay with Adam, because L-BFGS's steps cost too much. *Think*: what would change your mind?

# %%
check("00.5", ...)

# %% [markdown]
# ## Summary
#
# - FUSE-PV is Adam, then L-BFGS. A rule says when: `step:100`, `gradnorm:1e-3:50` (notebook 05), or `auto`, the default.
# - Cost is counted in gradient evaluations: an L-BFGS step takes one or more.
# - Here, at equal cost, it reached a clearly lower training objective than Adam with tuned learning rates (0.099 against
#   0.138), a little lower than L-BFGS alone (0.115), and no better test accuracy (the means are between 78.6 and 81.0 %).
# - `opt.last_step` tells what happened, and `stop_reason` in it why a step stopped.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - D. P. Kingma, J. Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980)
# - D. C. Liu, J. Nocedal, *On the Limited Memory BFGS Method for Large Scale Optimization*, Math. Programming 45, 1989,
#   [doi 10.1007/BF01589116](https://doi.org/10.1007/BF01589116)
# - H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, [arXiv 1708.07747](https://arxiv.org/abs/1708.07747)
#
# **Next**: [01 · Adam, taken apart](01_adam.ipynb). The [README](@repository@#the-course) has the map of what follows:
# Adam and L-BFGS taken apart, the switch and its rules, test functions, data sets, and the questions that the paper
# leaves open.

# %%
effective = {"dataset": dataset, "seeds": seeds, "budget": budget, "switch": switch, "lr": lr, "lr_cosine": lr_cosine,
             "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"loss {name}": loss for name, loss in means.items()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
