# %% [markdown]
# # 10 · Soft switchover: blending the two steps
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/10_soft_switchover.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - what general FUSE does in one iteration, in a dozen lines, and what that iteration costs,
# - a proof that it converges for strongly convex, smooth functions, and what the proof asks of Adam's part and of L-BFGS's,
# - what happens where an assumption fails: a run that converges for 800 steps and then comes back,
# - whether a soft θ (a weight between 0 and 1) ever beats a hard switch at equal cost.
#
# **You need first**: [00 · Start here](00_start_here.ipynb), sections 2 and 3 of [03 · FUSE-PV](03_fuse_pv.ipynb); for the proof: convexity, eigenvalues,
# and the gradient of a quadratic.
#
# **Minutes**: 30 to read, 1 to run. With `profile="full"`: 1.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
condition: float = 100.0  # L/μ of the live quadratic
dim: int = 20  # its number of variables
theta: float = 0.9  # the share of Adam's step in the live runs
lr: float = 0.3  # Adam's learning rate there
steps: int = 1200  # of the long runs of section 6
starts: int = 50  # of the live count of section 7
profile: str = "quick"  # "full": 3,000 steps and 200 starts
device: str = "auto"  # "cpu" or "auto"; the problems are too small to gain from a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (condition >= 1 and dim >= 2 and 0 < theta < 1 and lr > 0 and steps >= 100 and starts >= 1 and profile in ("quick", "full")):
    raise ValueError(f"condition={condition}, dim={dim}, theta={theta}, lr={lr}, steps={steps}, starts={starts}, profile={profile!r}; allowed "
                     "are condition ≥ 1, dim ≥ 2, 0 < theta < 1, lr > 0, steps ≥ 100, starts ≥ 1, and the profiles 'quick' and 'full'")
if profile == "full":
    steps, starts = 3000, 200

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from fuse_lib import Fuse, data, lab, plots, problems
from fuse_lib.exercises import check, hint, solution
from fuse_lib.optim.line_search import Sample, search

plots.use_style()
torch.set_num_threads(1)  # as in the recorded tables
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1 · One iteration of general FUSE
#
# Algorithm 3 of the paper computes both steps from the same point and takes a weighted mean:
#
# $$x^A = x_k - \alpha\,\hat m_k / (\sqrt{\hat v_k} + \epsilon), \qquad x^L = x_k + t_k p_k,\quad p_k = -H_k g_k, \qquad
#   \boxed{x_{k+1} = \theta_k\, x^A + (1-\theta_k)\, x^L}$$
#
# ($\hat m$ and $\hat v$ are Adam's moments after bias correction. The paper has that correction in the step size, which changes the effective ε
# only.) $\theta = 1$ is Adam, $\theta = 0$ is L-BFGS, and FUSE-PV is the special case that jumps once from 1 to 0. The paper leaves the analysis of
# the general case as future work: **open question 1** of the summary that this course works from, together with a comparison with the jump. The
# summary gives no schedule for θ; reviews say that it starts near 1 and falls to 0.
#
# The code below has three parts: a function with its gradient, the two-loop recursion of notebook 02, and the library's search for a step length that
# meets Wolfe's conditions (notebook 02):

# %%
Q = torch.diag(torch.logspace(-math.log10(condition), 0, dim))  # ½ xᵀQx: μ = 1/condition, L = 1, and f* = 0
mu, L = 1 / condition, 1.0


def start(seed=0):
    return torch.randn(dim, generator=torch.Generator().manual_seed(seed))


def look(x):
    """f and its gradient at x."""
    return 0.5 * (x @ Q @ x).item(), Q @ x


# %%
def two_loop(g, pairs):
    """p = −Hg from the pairs (s, y), oldest first; −g without any."""
    q, a = -g, []
    for s, y in reversed(pairs):
        a.append(s.dot(q) / s.dot(y))
        q = q - a[-1] * y
    q = q * (pairs[-1][0].dot(pairs[-1][1]) / pairs[-1][1].dot(pairs[-1][1]) if pairs else 1.0)  # H₀ = γI
    for (s, y), a_i in zip(pairs, reversed(a)):
        q = q + (a_i - y.dot(q) / s.dot(y)) * s
    return q


def along(x, p):
    """φ(t) = f(x + tp) with its slope, as the search asks for it."""
    def phi(t):
        f, g = look(x + t * p)
        return Sample(t, f, g.dot(p).item())
    return phi


# %%
def by_hand(x, calls, m=10):
    """General FUSE with a constant θ. At each step: x, g, x^A, x^L, and the next x."""
    w, pairs, (f, g) = torch.nn.Parameter(x.clone()), [], look(x)
    adam = torch.optim.Adam([w], lr=lr)
    for _ in range(calls):
        p = two_loop(g, pairs)
        first = 1.0 if pairs else min(1.0, 1.0 / g.norm().item())
        x_L = x + search(along(x, p), Sample(0.0, f, g.dot(p).item()), first).best.t * p
        w.data, w.grad = x.clone(), g.clone()
        adam.step()  # its moments see the gradients at the blended points
        x_A = w.detach().clone()
        new = theta * x_A + (1 - theta) * x_L
        yield x, g, x_A, x_L, new
        f, g_new = look(new)
        pairs = [*pairs, (new - x, g_new - g)][-m:]
        x, g = new, g_new


# %% [markdown]
# Two details matter. Adam's moments see the gradients **at the blended points**, and the curvature pairs are those of the **blended steps**. So
# neither half ever has a trajectory of its own. The library does the same:

# %%
def blended(x, calls, **options):
    """The same by the library: losses at the start of each call, evaluations, the optimizer and its parameter."""
    w, losses, evals = torch.nn.Parameter(x.clone()), [], 0
    opt = Fuse([w], lr=lr, switchover=f"theta:{theta}", full_batch=True, **options)

    def closure():
        opt.zero_grad()
        loss = 0.5 * w @ Q @ w
        loss.backward()
        return loss

    for _ in range(calls):
        losses.append(opt.step(closure).item())
        evals += opt.last_step.evals
    return losses, evals, opt, w


# %% tags=["nbval-check-output"]
path = list(by_hand(start(), 60))
losses, evals, opt, w = blended(start(), 60)
difference = max(abs(look(step[0])[0] / f - 1) for step, f in zip(path, losses))
print(f"the largest relative difference of the losses at 60 steps is below 1e-6: {difference < 1e-6}")
print(f"evaluations of the 60 calls: {evals}; fallen to below 1e-3 of the start: {losses[-1] < 1e-3 * losses[0]}")

# %% [markdown]
# ## 2 · What it costs
#
# Adam pays one evaluation a step. So does L-BFGS on a full batch, as long as its first trial is accepted: the next step starts at that point, where
# the gradient is already known. The blend ends at a point where nobody has been. So it pays for the search *and* for the blended point. (The library
# calls the closure once more in the first step, to test the promise that `full_batch` makes.) On minibatches it pays a third time, because the pair
# needs the gradient at its end *on the same batch*.
#
# **Quick check 10.1** Full batch. The line search accepts its first trial. A blended step then costs **(a)** one evaluation; **(b)** two; **(c)** three.

# %%
check("10.1", ...)

# %% [markdown]
# ## 3 · Soft against hard at equal cost
#
# So a blended step has to gain as much as two steps of either parent. We compare on seven tasks. Every family but L-BFGS, which has nothing to tune,
# gets the same number of settings to choose from (12: learning rates times the family's own knob). They are chosen on seeds of their own, **for each
# budget separately**, and run again on fresh seeds:
#
# | family | settings | |
# |---|---|---|
# | constant θ | `theta:0.9`, `0.5`, `0.1` | soft |
# | linear, cosine θ | `theta:linear:N`, `theta:cosine:N`, N = 10, 40, 160 calls | soft |
# | aligned θ | `theta:aligned:low:high`, three ranges: the more the two steps agree, the more L-BFGS | soft |
# | hard switch | `step:N`, N = 10, 40, 160 | hard |
# | L-BFGS | `always`; nothing to tune | hard |
# | Adam; Adam, cosine decay | `never`; 12 learning rates, and 6 for each of two budgets | hard |
#
# The tasks are:
#
# - two quadratics in 200 variables, with condition numbers 100 and 10,000,
# - Rosenbrock's valley in ten dimensions,
# - softmax regression with a penalty, on the digits and on the Fashion-MNIST sample,
# - a tanh net on the digits (64-16-10), once with the full batch and once with minibatches of 128.
#
# Cost is counted in passes over the rows. On the full batch we take the lowest loss that was *seen*, trial points of a search included, which
# flatters large θ.
#
# > **Predict.** On the full batch, which family is ahead at the long budget on the convex tasks? **(a)** a soft one: it has the best of both;
# > **(b)** a hard one; **(c)** Adam with cosine decay.

# %%
runs = pd.read_csv(data.bundled("results/10_runs.csv"))
tasks = ["quadratic-100", "quadratic-10000", "rosenbrock", "digits", "fashion", "net", "net-minibatch"]
SOFT = ["constant θ", "linear θ", "cosine θ", "aligned θ"]
decayed = runs[runs.setting.str.startswith("budget:")]
budgets = {name: sorted({float(s.split(":")[1]) for s in decayed[decayed.problem == name].setting}) for name in tasks}


def share(rows, budget):
    """log10 of e/e0 at a budget. What diverged counts as the start, and 1e-13 as zero."""
    return np.log10((rows[f"e {budget:g}"] / rows.e0).fillna(1.0).clip(1e-13, 1.0))


def pick(name, budget, families):
    """The setting that was best on the tuning seeds, and its log10(e/e0) on the reported ones, by seed."""
    rows = runs[(runs.problem == name) & runs.family.isin(families)]
    rows = rows[~rows.setting.str.startswith("budget") | (rows.setting == f"budget:{budget:g}")]
    rows = rows.assign(value=share(rows, budget)).set_index(["family", "setting", "lr"]).sort_index()
    tuned = rows[rows.part == "tuning"].groupby(level=[0, 1, 2]).value.mean().idxmin()
    return tuned, rows[rows.part == "reported"].loc[[tuned]].set_index("seed")


# %%
def shown(i, digits=2):
    return f"{i.mean:.{digits}f} [{i.low:.{digits}f}, {i.high:.{digits}f}]"


families = list(dict.fromkeys(runs.family))
lines = {}
for name in tasks:
    for budget in budgets[name]:
        there = [f for f in families if f in set(runs[runs.problem == name].family)]
        lines[name, f"{budget:g}"] = {f: pick(name, budget, [f])[1].value.mean() for f in there}
ends = pd.DataFrame(lines).T.rename_axis(["task", "passes"])
ends.round(2)

# %% [markdown]
# A cell is the mean of $\log_{10}(e/e_0)$ over the reported seeds. Here $e = f - f^*$ is the gap (for the nets, whose $f^*$ is not known, $e = f$),
# and $e_0$ is the gap at the start. So −2 means that a hundredth is left; lower is better. Now as curves, for the settings of the long budget:

# %%
points = sorted(float(c[2:]) for c in runs if c.startswith("e ") and c != "e0")
LOOKS = {"constant θ": ("C1", "P", "-"), "linear θ": ("C1", "v", "--"), "cosine θ": ("C1", "^", ":"), "aligned θ": ("C1", "x", "-."),
         "hard switch": ("C3", "D", "-"), "L-BFGS": ("C2", "s", "--"), "Adam": ("C0", "o", "-"), "Adam, cosine decay": ("C0", "o", ":")}
fig, axes = plt.subplots(2, 4, figsize=(13, 6.4))
for ax, name in zip(axes.flat, tasks):
    for family, (colour, marker, line) in LOOKS.items():
        rows = pick(name, budgets[name][1], [family])[1]
        seen = [p for p in points if p <= budgets[name][1]]
        ax.plot(seen, [10 ** share(rows, p).mean() for p in seen], color=colour, marker=marker, linestyle=line, markersize=4, label=family)
    ax.set(xscale="log", yscale="log", title=name)
    ax.set_xticks([2.5, 10, 40, 160], ["2.5", "10", "40", "160"])
    ax.minorticks_off()
axes[1, 2].set_yticks([0.02, 0.05, 0.1, 0.2], [0.02, 0.05, 0.1, 0.2])  # this panel spans but one power of ten
for ax in axes[1]:
    ax.set(xlabel="passes")
for ax in axes[:, 0]:
    ax.set(ylabel="e / e₀")
axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), fontsize="small", loc="center")
axes.flat[-1].axis("off")
fig.tight_layout()
plots.show(fig, alt="Seven panels, one a task: the share of the gap that is left over passes, for four soft families, a hard switch, L-BFGS, Adam and "
           "Adam with cosine decay. On the convex tasks L-BFGS and the hard switch are lowest at the end.")

# %% [markdown]
# Answer **b**. **What you see.** L-BFGS alone (green) is lowest in every full-batch panel from about ten passes on (on the net only until all have
# arrived). A hard switch (red diamonds) runs parallel to it, later by the evaluations that Adam took. Among the soft families (orange) those that
# soon reach θ = 0 do the same, later still. **Constant and aligned θ keep a flatter slope to the end.** With minibatches tuned Adam is lowest.
#
# ### The best soft against the best hard
#
# Now everything soft against everything hard. Each side's setting is chosen on the tuning seeds, and we take the paired difference of $\log_{10} e$,
# seed by seed. Positive means that the hard one is ahead; 1 is a factor of ten.

# %%
HARD = [f for f in families if f not in SOFT and f != "hard switch, then all rows"]
lines, differences = {}, {}
for name in tasks:
    for budget in budgets[name]:
        (soft, one), (hard, other) = pick(name, budget, SOFT), pick(name, budget, HARD)
        found = differences[name, budget] = lab.interval(one.value - other.value)
        seconds = np.log(one[f"seconds {budget:g}"] / other[f"seconds {budget:g}"])
        switched = pick(name, budget, ["hard switch"])[1].value
        lines[name, f"{budget:g}"] = {"soft": f"{soft[1]}, lr {soft[2]:g}", "hard": hard[0] if hard[1] == "always" else f"{hard[1]}, lr {hard[2]:g}",
                                      "soft − hard, log10 e": shown(found), "soft − step:N": shown(lab.interval(one.value - switched)),
                                      "seeds": found.n, "seconds, soft/hard": f"{math.exp(seconds.mean()):.1f}"}
pd.DataFrame(lines).T.rename_axis(["task", "passes"])

# %% tags=["nbval-check-output"]
soft_ahead = [key for key, d in differences.items() if d.high < 0]
hard_ahead = [key for key, d in differences.items() if d.low > 0]
print(f"of {len(differences)} comparisons soft is clearly ahead in {len(soft_ahead)}, hard in {len(hard_ahead)}")
print("soft:", ", ".join(f"{name} at {budget:g}" for name, budget in soft_ahead) or "none")

# %% [markdown]
# **Verdict: no.** In none of the 14 comparisons is the best soft setting clearly ahead, and in 12 it is clearly behind. The two others are the net's
# long budget, where everybody has arrived, and the long budget of the Fashion sample (five seeds). Against `step:N` alone (fourth column) it is never
# clearly ahead either, by smaller margins.
#
# Note *which* soft rules win among the soft: in nine of 14 it is one that falls within N = 10 calls, the shortest that we tried. The best soft switch
# is the one that is soon a hard one.
#
# Seconds say the same as evaluations. At equal passes a soft run takes 0.8 to 1.1 times as long as the hard one on the full batch, and about 1.5
# times as long as Adam on minibatches (processor seconds, on a machine that did other things as well). Two of the chosen soft learning rates lie at
# the upper end of their four: Rosenbrock's at 20 passes and the minibatch net's at 40.
#
# Is the blend's *direction* worse, or only its *price*? We give constant θ twice the passes, as if its second evaluation were free, and compare with
# the best hard setting at the short budget:

# %%
free = {}
for name in tasks:
    budget = budgets[name][0]
    one, other = pick(name, budget, ["constant θ"])[1], pick(name, budget, HARD)[1]
    free[name] = {"constant θ at twice the passes − hard": shown(lab.interval(share(one, 2 * budget) - other.value)), "passes": f"{2 * budget:g}, {budget:g}"}
pd.DataFrame(free).T.rename_axis("task")

# %% [markdown]
# **It is the price.** With the second evaluation for nothing, constant θ is level with the best hard setting on the full batch, or ahead, by up to a
# factor of 2.3. (θ = 0.1 was chosen on every full-batch task.) So a blended iteration is worth about as much as one of L-BFGS, and costs two. On
# minibatches it pays three, and is still behind when given twice the passes.
#
# ### Which θ, among the soft ones?

# %%
def pick_in(name, budget, setting):
    """One setting with the learning rate that was best on the tuning seeds: log10(e/e0) of the reported ones."""
    rows = runs[(runs.problem == name) & (runs.setting == setting)].assign(value=lambda r: share(r, budget)).set_index("lr").sort_index()
    best_lr = rows[rows.part == "tuning"].groupby(level=0).value.mean().idxmin()
    return rows[rows.part == "reported"].loc[[best_lr]].set_index("seed").value


constant = pd.DataFrame({(name, f"{b:g}"): {s: pick_in(name, b, s).mean() for s in ("theta:0.9", "theta:0.5", "theta:0.1")}
                         for name in tasks for b in budgets[name]}).T
constant.assign(**{f: ends[f] for f in SOFT[1:]}).round(2)

# %% [markdown]
# On the full batch less Adam is better: constant θ = 0.1 is before 0.5, and 0.5 before 0.9, in each row. On minibatches at the long budget θ = 0.1 is
# the worst of the three: there Adam is what works, and the blend lies between its parents. θ by the angle (`theta:aligned`) does about what a
# constant between 0.1 and 0.5 does.
#
# And a falling θ? At 20 passes a constant θ = 0.1 is as good or better, because ten blended calls cost all of the 20 passes. At the long budgets a
# falling θ wins by two to four powers of ten on the convex tasks and in Rosenbrock's valley, since it ends as L-BFGS.
#
# ## 4 · Does it converge? A proof
#
# **Assumptions.**
#
# 1. $f$ is μ-strongly convex with an $L$-Lipschitz gradient. We write $\kappa = L/\mu$ and $e_k = f(x_k) - f^*$. The gradients are exact.
# 2. *L-BFGS's part*: there are at most $m$ pairs, all of them differences between points of the path (which ones are kept or dropped does not
#    matter). $H_0 = \gamma I$ with $\gamma = s^\top y/y^\top y$ of one of them, or $I$ if there is none. The search ends at a point no higher than
#    one that satisfies Wolfe's conditions with $0 < c_1 < c_2 < 1$.
# 3. *Adam's part*: the condition of one of the Theorems **A** to **D** below.
#
# In practice they may fail in four ways: a search finds nothing lower (the library takes $x^A$ then), a search runs out of evaluations, there is
# rounding, or there are minibatches.
#
# **Lemma 1** (the L-BFGS step takes off a fixed share). *There is a $\rho < 1$ with $f(x^L) - f^* \le \rho\, e_k$, namely*
# $\rho = 1 - 2c_1(1-c_2)\cos^2\varphi/\kappa$ *with* $\cos\varphi \ge 1/\sqrt{K}$, $K = (m+1)^2\kappa^{m+1}$.
#
# *Proof.* For any two points, $s^\top y \ge \mu\lVert s\rVert^2$ (strong convexity) and $\lVert y\rVert^2 \le L\, s^\top y$ (a convex function with
# Lipschitz gradient). So $\gamma \in [1/L, 1/\mu]$.
#
# *The condition of $H$.* One BFGS update of $B = H^{-1}$ subtracts a positive semidefinite matrix and adds $yy^\top/s^\top y$, whose norm is at most
# $L$. So $\lambda_{\max}(B) \le (m+1)L$. One update of $H$ is $V^\top H V + ss^\top/s^\top y$ with $V = I - ys^\top/s^\top y$, where
# $\lVert V\rVert \le \lVert s\rVert\lVert y\rVert/s^\top y \le \sqrt\kappa$ and $\lVert s\rVert^2/s^\top y \le 1/\mu$. So
# $\lambda_{\max}(H) \le (1 + \kappa + \dots + \kappa^m)/\mu \le (m+1)\kappa^m/\mu$. The condition of $H$ is therefore at most $K$. By Kantorovich's
# inequality the angle φ between $-g$ and $p = -Hg$ then has $\cos\varphi \ge 2\sqrt K/(1+K) \ge 1/\sqrt K$. (With no pair, $\cos\varphi = 1$.)
#
# *The length of the step.* Wolfe's curvature condition and the Lipschitz gradient give
# $(1-c_2)\lvert g^\top p\rvert \le (\nabla f(x_k + tp) - g)^\top p \le tL\lVert p\rVert^2$, so $t$ is not too short. Put this into the decrease
# condition: $f(x_k + tp) \le f(x_k) - c_1 t\lvert g^\top p\rvert \le f(x_k) - \frac{c_1(1-c_2)}{L}\cos^2\varphi\,\lVert g\rVert^2$. Finally
# $\lVert g\rVert^2 \ge 2\mu\, e_k$, and $f(x^L)$ is no higher. ∎
#
# **Lemma 2** (the blend). *By convexity* $e_{k+1} \le \theta_k\,(f(x^A) - f^*) + (1-\theta_k)\,(f(x^L) - f^*)$. *Let*
# $\delta_k = \max(0, f(x^A) - f(x_k))$ *be the rise in Adam's step, and* $A_k = (1-\theta_k)(1-\rho)$ *(without index where θ is constant). Then*
#
# $$e_{k+1} \;\le\; (1 - A_k)\, e_k + \theta_k\,\delta_k .$$
#
# **Theorem A** (Adam's rise is bounded). *If $\theta_k = \theta < 1$ and $\delta_k \le \delta$, then*
# $$e_k \;\le\; (1-A)^k e_0 + \frac{\theta\,\delta}{(1-\theta)(1-\rho)} .$$
# *Proof.* Unroll Lemma 2 and sum the geometric series. ∎ In particular, **if $x^A$ never rises ($\delta = 0$), the blend converges linearly, for
# every θ < 1.** A test makes sure of it: take $x^L$ alone where $f(x^A) > f(x_k)$. This costs one more evaluation a step.
#
# **Exercise 10.2** θ = 0.5, ρ = 0.8, and Adam's step raises $f$ by at most δ = 0.01. How large is the neighbourhood that Theorem A leaves?

# %%
check("10.2", ...)

# %% [markdown]
# **Lemma 3** (Adam's step is bounded, whatever the gradients). *If $\beta_1^2 < \beta_2$, no coordinate of Adam's step $a = x^A - x_k$ is longer
# than $R\alpha$,*
# $$R = \frac{1-\beta_1}{\sqrt{(1-\beta_2)(1-\beta_1^2/\beta_2)}}\cdot\max_k\frac{\sqrt{1-\beta_2^k}}{1-\beta_1^k}\,;
#   \qquad\text{7.27 for (0.9, 0.999)}.$$
# *Proof.* $m_k = (1-\beta_1)\sum_j \beta_1^{k-j} g_j$ and $v_k = (1-\beta_2)\sum_j\beta_2^{k-j}g_j^2$. Write $\beta_1^{k-j} g_j =
# (\beta_1/\sqrt{\beta_2})^{k-j} \cdot \sqrt{\beta_2}^{\,k-j} g_j$ and apply Cauchy–Schwarz: $m_k^2 \le
# (1-\beta_1)^2\,\frac{1}{1-\beta_1^2/\beta_2}\cdot\frac{v_k}{1-\beta_2}$. The last factor of $R$ is the bias correction. (For the defaults it is
# below 1: that says $(\beta_2/\beta_1)^k + \beta_1^k \ge 2$, which is an equality at $k = 0$, true at $k = 1$, and convex in $k$.) The ε in the
# denominator only shortens the step. ∎
#
# **Lemma 4.** $f(x_k + a) - f^* \le \big(\sqrt{e_k} + \sqrt{L/2}\,\lVert a\rVert\big)^2$ *for every $a$.* *Proof.* $f(x_k+a) \le f(x_k) + \lVert
# g\rVert\lVert a\rVert + \frac L2\lVert a\rVert^2$ and $\lVert g\rVert^2 \le 2L e_k$. ∎
#
# **Theorem B** (plain Adam, constant α, constant θ < 1). *With $r = \sqrt{L/2}\,R\,\alpha\sqrt d$,*
# $$e_{k+1} \le \theta(\sqrt{e_k} + r)^2 + (1-\theta)\rho\, e_k, \quad e_k \le e_\infty + (1 - A/2)^k\max(0, e_0 - e_\infty), \quad
#   \sqrt{e_\infty} = r\,\frac{\theta + \sqrt{\theta^2 + \theta A}}{A} .$$
# *Proof.* The first is Lemmas 1 to 4. Call its right side $\psi(e_k)$. As a function of $e$ it is increasing and concave, with the one positive fixed
# point $e_\infty$ (a quadratic equation in $\sqrt e$). For $e \ge e_\infty$ concavity gives $\psi(e) - e_\infty \le \psi'(e_\infty)(e - e_\infty)$,
# and $\psi'(e_\infty) = 1 - A + \theta r/\sqrt{e_\infty} \le 1 - A/2$. For $e \le e_\infty$, $\psi(e) \le e_\infty$. ∎ So there is **linear
# convergence, to a neighbourhood of size $O(\alpha^2 d)$** ($d$ is the number of parameters), and no bound on the gradients is assumed.
#
# **Theorem C** (the step or θ fades). *If $\theta_k \le \bar\theta < 1$ and $\theta_k\alpha_k^2 \to 0$, with $\alpha_k$ bounded, then $e_k \to 0$:
# with $A$ for $\bar\theta$ and $\eta_k = \theta_k r_k^2\,(1 + 2\theta_k/A)$,*
# $$e_{k+1} \le (1 - A/2)\, e_k + \eta_k .$$
# *Proof.* Expand Theorem B's first inequality and use $A_k \ge A$ and $2\theta_k r_k\sqrt{e_k} \le \frac A2 e_k + \frac{2\theta_k^2r_k^2}{A}$. A
# linear recursion with a factor below 1 and $\eta_k \to 0$ tends to 0. (If $\eta_k = O(k^{-p})$, so is $e_k$; if the $\eta_k$ are summable, so are
# the $e_k$.) ∎ **If $\theta_k = 0$ from $k = N$ on, as for `theta:linear:N`, `theta:cosine:N` and every hard switch, then $e_{N+j} \le \rho^j e_N$**
# by Lemma 1 alone.
#
# **Theorem D** (clipped steps). *If $\lVert a_k\rVert \le c\,\lVert g_k\rVert$, then $e_{k+1} \le \big[\theta(1+Lc)^2 + (1-\theta)\rho\big]\,e_k$: linear
# convergence to the minimum with constant θ and α, if the bracket is below 1.* *Proof.* In Lemma 4, $\lVert a\rVert \le c\sqrt{2Le_k}$. ∎
#
# **Any θ.** The right sides of A, B and D grow with θ. So they hold with $\bar\theta$ in the place of θ for every sequence
# $\theta_k \le \bar\theta < 1$, however it is chosen. An example is `theta:aligned`, which chooses θ by the angle between the steps and is at most
# 0.95.
#
# **Exercise 10.3** (code) Write `largest_clip(theta, rho, L)`: the bound that $c$ must stay below in Theorem D.

# %%
def largest_clip(theta, rho, L):
    return ...


check("10.3", ...)  # check("10.3", largest_clip)

# %% [markdown]
# ## 5 · Each inequality, checked
#
# A proof may hold a slip, and code may not do what the proof is about. So we compare the left side with the right side at each step of real runs.
# Live, this is the run by hand of section 1:

# %%
R = 0.1 / math.sqrt(0.001 * (1 - 0.81 / 0.999))


def sides(x, g, x_A, x_L, new):
    """Both sides of each inequality at one step; f* = 0."""
    (e, f_A, f_L, end), a, p = [look(z)[0] for z in (x, x_A, x_L, new)], x_A - x, x_L - x
    cos = (-g.dot(p) / g.norm() / p.norm()).item()
    rho = 1 - 2 * 1e-4 * (1 - 0.9) * cos**2 * mu / L
    risen = (math.sqrt(e) + math.sqrt(L / 2) * a.norm().item()) ** 2
    return {"Lemma 1": (f_L, rho * e), "Lemma 2": (end, theta * f_A + (1 - theta) * f_L), "Lemma 3": (a.abs().max().item(), R * lr),
            "Lemma 4": (f_A, risen), "Theorem B": (end, theta * risen + (1 - theta) * rho * e)}


checked = pd.DataFrame([(what, *both) for step in path for what, both in sides(*step).items()], columns=["what", "left", "right"])
broken = (checked.left > checked.right + 1e-15).groupby(checked.what).sum()

# %% tags=["nbval-check-output"]
print(f"R = {R:.2f}; steps: {len(path)}; violations:", broken.to_dict())
contraction = [look(step[3])[0] / look(step[0])[0] for step in path]
print(f"L-BFGS's step takes off at least a twentieth each time: {max(contraction) < 0.95}; Lemma 1 promises at most {2e-5 / condition:.0e}")

# %% [markdown]
# The recorded runs do the same: four convex tasks whose μ and $L$ are known, six rules and five seeds, until $e$ is $10^{-10}$ of its start or 150
# calls are over. `closest` is the largest left side over right side.

# %%
held = pd.read_csv(data.bundled("results/10_inequalities.csv"))
convex = held[held.mu.notna()]
convex.groupby("inequality", sort=False).agg(runs=("steps", "size"), steps=("steps", "sum"), violations=("violations", "sum"),
                                             closest=("closest", "max")).round(4)

# %% tags=["nbval-check-output"]
print(f"violations: {convex.violations.sum()} in {convex.steps.sum():,} comparisons")

# %%
both = pd.read_csv(data.bundled("results/10_steps.csv"))
fig, axes = plt.subplots(1, 4, figsize=(13, 3.6))
for ax, (name, what) in zip(axes, {"convexity": "Lemma 2", "decrease": "Lemma 1", "together": "Theorem B", "theorem": "Theorem A"}.items()):
    for problem, mark in (("quadratic-10000", "o"), ("digits", "s")):
        some = both[(both.inequality == name) & (both.problem == problem)]
        ax.plot(some.right, some.left, mark, markersize=3, alpha=0.6, label=problem)
    low, high = both[both.inequality == name][["left", "right"]].stack().quantile([0, 1])
    ax.plot([low, high], [low, high], color="0.3", linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="right side", title=what)
axes[0].set_ylabel("left side")
axes[0].legend(fontsize="small")
fig.tight_layout()
plots.show(fig, alt="Four panels, one an inequality, left side over right side on log axes: all points lie on or below the diagonal; close to it for Lemma 2, "
           "up to several powers of ten below it for Theorem A.")

# %% [markdown]
# **What you see.** Every point is on or below the diagonal. How far below is the other half of the answer. Lemma 2 is nearly tight. Lemma 1's
# constant is a worst case of no practical value: with $c_1 = 10^{-4}$ and $c_2 = 0.9$ it promises to take off no more than $2\cdot10^{-5}/\kappa$,
# while the runs take off 0.4 to 7 per cent at their worst step, by task. Theorem A, with the run's own ρ and δ, flattens out at its neighbourhood
# while the run goes on falling. **The proof says that the blend converges, and not how fast.**
#
# ## 6 · Where an assumption fails: Adam with a constant learning rate
#
# With plain Adam, Theorem B promises only a neighbourhood of the minimum. Is that a weakness of the proof, or of the method?
#
# > **Predict.** θ = 0.9 and a constant α, on the quadratic of section 1, for 1,200 calls. The loss **(a)** falls to about α² and stays there; **(b)** falls
# > to the rounding floor and stays there; **(c)** falls to practically zero, and comes back.

# %%
class Clipped(torch.optim.Adam):
    """Adam whose step is no longer than c times the gradient (Theorem D)."""

    c = 0.0055  # for θ = 0.9, ρ = 0.9, L = 1: see exercise 10.3

    @torch.no_grad()
    def step(self, closure=None):
        (w,) = self.param_groups[0]["params"]
        before, longest = w.clone(), self.c * w.grad.norm()
        super().step()
        a = w - before
        w.copy_(before + a * min(1.0, (longest / a.norm().clamp(min=1e-300)).item()))


def sharpness(opt, w, k):
    """The largest eigenvalue of α D Q, D = 1/√v̂: what Adam's step makes of the curvature."""
    v = opt.state[w]["exp_avg_sq"] / (1 - 0.999**k)
    return (lr * Q.diagonal() / v.sqrt()).max().item()


# %%
w = torch.nn.Parameter(start())
opt, plain, sharp = Fuse([w], lr=lr, switchover=f"theta:{theta}", full_batch=True), [], []


def closure():
    opt.zero_grad()
    loss = 0.5 * w @ Q @ w
    loss.backward()
    return loss


for k in range(1, steps + 1):
    plain.append(opt.step(closure).item())
    sharp.append(sharpness(opt, w, k))
clipped = blended(start(), steps, first_order=Clipped)[0]
threshold = (1 + theta) * (1 + 0.9) / (theta * (1 - 0.9))

# %%
fig, (top, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True)
top.plot(plain, color="C0", label="plain Adam, θ = 0.9")
top.plot(clipped, color="C2", linestyle="--", label="clipped (Theorem D)")
top.set(yscale="log", ylabel="f", title="general FUSE, constant θ and learning rate")
top.legend()
below.plot(sharp, color="C0")
below.axhline(threshold, color="0.3", linestyle=":", label=f"threshold {threshold:.1f}")
below.set(xlabel="call", ylabel="sharpness that Adam sees")
below.legend()
fig.tight_layout()
plots.show(fig, alt="Above: the loss of general FUSE with plain Adam falls to 1e-70 within 850 calls and then rises again to 1e-2; the clipped variant goes on "
           "falling. Below: the sharpness that Adam sees grows slowly and passes the threshold 40 where the loss turns.")

# %% [markdown]
# **What you see.** Plain Adam's blend falls by seventy powers of ten, turns at about call 850, and is back near 0.01 at call 1,030. Then all begins
# anew. Clipped, the same blend falls as fast and does not turn. The lower panel has the reason: a number that creeps up, and passes the dotted line
# at the turn.

# %% tags=["nbval-check-output"]
low = int(np.argmin(plain))
passed = next((k for k, s in enumerate(sharp) if s > threshold), None)
print(f"plain Adam: below 1e-50: {min(plain) < 1e-50}; afterwards above 1e-4: {max(plain[low:]) > 1e-4}")
print(f"the sharpness passes the threshold within 50 calls of the turn: {passed is not None and abs(passed - low) < 50}")
print(f"clipped: its highest of the last 100 calls is below those of the 100 before: {max(clipped[-100:]) < max(clipped[-200:-100])}")

# %% [markdown]
# Answer **c**. Why? Adam divides by $\sqrt{\hat v}$, which remembers about the last thousand gradients. As long as it remembers the large ones,
# Adam's steps shrink with the gradient, faster than the memory fades, and the blend converges beyond all need. But $\hat v \to 0$ makes the step *per
# gradient*, $\alpha/\sqrt{\hat v}$, grow without bound, until the blend is unstable. To see where, take one variable with curvature $h$, where
# L-BFGS's step is exact ($x^L = x^*$) and $\hat v$ hardly moves. With the *sharpness* $\eta = \alpha h/\sqrt{\hat v}$ the iteration is
#
# $$\begin{pmatrix} x\\ m\end{pmatrix} \leftarrow \begin{pmatrix} \theta(1-\eta(1-\beta_1)) & -\theta\eta\beta_1\\ 1-\beta_1 & \beta_1\end{pmatrix}
#   \begin{pmatrix} x\\ m\end{pmatrix}, \qquad\text{stable for}\quad \eta < \eta_c = \frac{(1+\theta)(1+\beta_1)}{\theta\,(1-\beta_1)}$$
#
# (here $x^* = 0$, $m$ is divided by $h$, and the condition is −trace < 1 + determinant). For θ = 1 this is $2(1+\beta_1)/(1-\beta_1) = 38$, the
# *adaptive edge of stability* of Adam alone (Cohen et al.); for θ = 0.9 it is 40.1. The loss turns where the sharpness passes it. So with constant θ
# and α nothing in plain Adam's part lets the blend end: it *comes near, and bursts*, and Theorem B's neighbourhood is the most that can be promised.
#
# **Proposition** (the neighbourhood is real, and its size right). *Let $\beta_1 = 0$, ε = 0, $f = \frac12 h x^2$ and $x^L = x^*$. Unless some $x_k$
# is exactly 0,* $\limsup\lvert x_k\rvert \ge \alpha\,\theta/(1+\theta)$. *Proof.* $x_{k+1} = \theta\,x_k\,(1 - \alpha h/\sqrt{\hat v_{k}})$. If from
# some $k$ on $\sqrt{\hat v_k} \le (1-\epsilon')\,\alpha h\,\theta/(1+\theta)$, then $\lvert x_{k+1}/x_k\rvert \ge 1 + \epsilon''$ for ever, so
# $\hat v$ cannot stay small: a contradiction. So $\limsup \hat v \ge (\alpha h\theta/(1+\theta))^2$. And $\hat v$ is a weighted mean of $h^2x_j^2$
# whose old terms fade. ∎ In terms of $\lvert x\rvert$ both bounds, this and Theorem B's, are proportional to α. For $\beta_1 > 0$ we have the
# threshold and the measurement, and no proof.
#
# **Exercise 10.4** How large is $\eta_c$ for θ = 0.5 and β₁ = 0.9?

# %%
check("10.4", ...)

# %% [markdown]
# In practice one stops long before that. The blended runs of section 3 have at most 160 calls, and none shows such a burst. Still, it is the reason
# why *"it converged"* in a plot is no proof.
#
# ## 7 · Where convexity fails: the mean of two good points
#
# Only Lemma 2 uses convexity between $x^A$ and $x^L$, and without it the lemma is false. Imagine two valleys with a ridge between them: one step goes
# into one valley, the other into the other, and their mean lies on the ridge. Live, on Rastrigin's function (many minima) and Himmelblau's (four):

# %%
def above_both(f, x, calls=20, theta=0.5, lr=0.1):
    """Blended steps, those whose end is above both x^A and x^L, and of these those above the start."""
    w, twin, count, examples = torch.nn.Parameter(x.clone()), torch.nn.Parameter(x.clone()), 0, []
    opt, adam = Fuse([w], lr=lr, switchover=f"theta:{theta}", full_batch=True), torch.optim.Adam([twin], lr=lr)

    def closure():
        opt.zero_grad()
        loss = f(w)
        loss.backward()
        return loss

    for _ in range(calls):
        twin.data, x = w.detach().clone(), w.detach().clone()
        twin.grad = torch.autograd.grad(f(twin), twin)[0]
        adam.step()
        opt.step(closure)
        x_A, end = twin.detach().clone(), w.detach()
        x_L = (end - theta * x_A) / (1 - theta)
        if opt.last_step.step_length:
            count += 1
            if f(end) > max(f(x_A), f(x_L)) + 1e-9:
                examples.append((f(end) > f(x), x, x_A, x_L))
    return count, examples


# %% tags=["nbval-ignore-output"]
found = {}
for name in ("rastrigin", "himmelblau"):
    f = problems.get(name)
    each = [above_both(f, x) for x in f.sample(starts, seed=0)]
    found[name] = [sum(c for c, _ in each), [e for _, some in each for e in some]]
counts = pd.DataFrame({name: {"blended steps": n, "above both": len(e), "above the start, too": sum(bool(up) for up, *_ in e)}
                       for name, (n, e) in found.items()}).T
counts

# %% tags=["nbval-check-output"]
print(f"Rastrigin: some are above both ends: {counts.loc['rastrigin', 'above both'] > 0}; Himmelblau: {counts.loc['himmelblau', 'above both'] > 0}")
print(f"recorded, Rosenbrock's valley and the net: {held[held.mu.isna()].violations.sum()} of {held[held.mu.isna()].steps.sum():,} steps")

# %%
f = problems.get("rastrigin")
_, x, x_A, x_L = max((e for e in found["rastrigin"][1] if e[0]), key=lambda e: f(0.5 * (e[2] + e[3])) - f(e[1]))
way = torch.linspace(-0.2, 1.2, 200)
fig, ax = plt.subplots(figsize=(6.4, 3.6))
ax.plot(way, [f(x_A + t * (x_L - x_A)).item() for t in way], color="0.4")
for t, label, mark in ((0.0, "$x^A$", "o"), (1.0, "$x^L$", "s"), (0.5, "blend, θ = 0.5", "P")):
    ax.plot(t, f(x_A + t * (x_L - x_A)).item(), mark, markersize=9, label=label)
ax.axhline(f(x).item(), color="0.3", linestyle=":", label="$f(x_k)$")
ax.set(xlabel="from $x^A$ to $x^L$", ylabel="f", title="Rastrigin's function between the two steps")
ax.legend(fontsize="small", loc="upper left")
plots.show(fig, alt="A curve of Rastrigin's function along the line from Adam's point to L-BFGS's: both ends are low, and the blend in the middle lies on a "
           "ridge, higher than the start.")

# %% [markdown]
# **What you see.** Both steps go down, and their mean goes up. A line search guards $x^L$; nobody guards the blend. This is rare even here: one or
# two per cent of the steps on Rastrigin's function, none on Himmelblau's. On Rosenbrock's valley and the net 6 of the 7,234 recorded steps lay above
# the weighted mean of both ends. All six were in the valley with θ by the angle, and by 0.2 % of the bound at most: along a run the two steps mostly
# end in the same bowl. So a non-convex $f$ does not break the blend by itself; a ridge *between the steps* does.
#
# **Quick check 10.5** On a non-convex function, both $x^A$ and $x^L$ are lower than $x_k$. Then the blend **(a)** is lower, too, by the line
# search; **(b)** may be higher, if there is a ridge between the two; **(c)** is always higher.

# %%
check("10.5", ...)

# %% [markdown]
# ## Summary
#
# | question | answer | effect | section |
# |---|---|---|---|
# | Does general FUSE converge (strongly convex, smooth)? | yes, under conditions on Adam's step; with a constant rate to a neighbourhood | all inequalities hold in 100,346 comparisons on recorded runs; Lemma 1's constant is a worst case without practical value | 4, 5 |
# | Is the neighbourhood real? | yes | a run falls below 1e-50 and comes back above 1e-4 when the sharpness passes 40.1 | 6 |
# | Does soft beat hard at equal cost? | no | clearly ahead in 0, clearly behind in 12 of 14 comparisons, at worst by +4.9 [2.6, 7.2] in log10 of the gap (Rosenbrock, 80 passes) | 3 |
# | Why not? | it pays for two evaluations and gains what one is worth | at twice the passes constant θ is level or ahead on the full batch, at best −0.37 [−0.45, −0.30] in log10 of the gap (κ = 100) | 3 |
# | Should θ fall from 1 to 0? | it depends: for high accuracy yes, and fast; at short budgets a small constant θ is as good | falling against constant: clearly lower in 9 of 14, higher in 3; at κ = 100 −4.09 [−4.26, −3.91] in log10 of the gap at 80 passes, +0.37 [0.26, 0.47] at 20 | 3 |
#
# - **Practical.** Use L-BFGS alone on a smooth full-batch problem, Adam on minibatches, or a hard switch. Nothing here asks for a soft θ.
# - **Scale.** There are seven small tasks (10 to 1,970 parameters), with five or ten seeds and one small net. MNIST and larger nets were not run.
# - **What is proved**, for strongly convex, smooth $f$, exact gradients and any $\theta_k \le \bar\theta < 1$: linear convergence if Adam's step is
#   clipped by the gradient, or taken only where it does not rise, or if θ reaches 0; convergence if $\theta_k\alpha_k^2 \to 0$; and with plain Adam
#   and constant α, linear convergence to a neighbourhood of size $O(\alpha^2 d)$. The rates are worst cases, far from what is seen.
# - **What fails.** With constant θ and α a run may fall to $10^{-70}$ and come back to $10^{-2}$, because $\hat v$ forgets. And where a ridge lies
#   between $x^A$ and $x^L$, their mean may be worse than both.
# - **Still open**: stochastic gradients, where Lemma 1 fails (the search sees one batch, and the pairs hold noise); non-convex $f$; non-convergence
#   for $\beta_1 > 0$, which is measured here and proved only for $\beta_1 = 0$; a realistic ρ; and a blend of directions *before* one line search,
#   which would pay once.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - D. C. Liu, J. Nocedal, *On the Limited Memory BFGS Method for Large Scale Optimization*, Mathematical Programming 45, 1989, [doi
#   10.1007/BF01589116](https://doi.org/10.1007/BF01589116)
# - D. P. Kingma, J. Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980)
# - S. Bock, M. Weiß, *Non-convergence and Limit Cycles in the Adam Optimizer*, ICANN 2019, [doi
#   10.1007/978-3-030-30484-3_20](https://doi.org/10.1007/978-3-030-30484-3_20):
#   Adam alone, on quadratics
# - J. Cohen, et al., *Adaptive Gradient Methods at the Edge of Stability*, 2022, [arXiv 2207.14484](https://arxiv.org/abs/2207.14484): the 38
#
# **The course**: the [README](@repository@#the-course) has the map. Before this one:
# [09 · Complexity, and what ζ has to do with ε](09_complexity_and_zeta.ipynb). After it:
# [11 · Other pairs: which half of a pair matters more](11_other_pairs.ipynb).

# %%
effective = {"condition": condition, "dim": dim, "theta": theta, "lr": lr, "steps": steps, "starts": starts, "profile": profile, "device": device,
             "out": out}
if out:
    row = effective | {"lowest": min(plain), "afterwards": max(plain[low:]), "above both": int(counts["above both"].sum())}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
