# %% [markdown]
# # 01 · Adam, taken apart
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/01_adam.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - to write Adam in six lines, and what each of them is for,
# - where the bias correction comes from, and what happens without it,
# - how far Adam moves a parameter whose gradient is large, small, or noisy,
# - that $\epsilon$ stands in three different places in different texts, and which one you have,
# - why Adam is quick at first and then *saturates*, that is, stops getting better: slow directions, bursts, a floor of noise.
#
# **You need first**: [00 · Start here](00_start_here.ipynb); what a gradient, a mean and a variance are; from section 5 on, eigenvectors.
#
# **Minutes**: 18 to read, 1 to run. With `profile="full"`: 1.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
dim: int = 20  # variables of the quadratic
condition: float = 1000.0  # its largest curvature over its smallest
steps: int = 4000  # of each run on the quadratic
noise: float = 0.1  # standard deviation of the noise on each gradient component, in the last part
seeds: int = 10  # runs with different noise
profile: str = "quick"  # "full": five times as many steps and runs
device: str = "auto"  # "auto" is "cpu" here: twenty variables are no work for a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (dim >= 2 and condition > 1 and steps >= 400 and noise > 0 and seeds >= 2 and profile in ("quick", "full")):
    raise ValueError(f"dim={dim}, condition={condition}, steps={steps}, noise={noise}, seeds={seeds}, profile={profile!r}; "
                     "allowed are dim ≥ 2, condition > 1, steps ≥ 400, noise > 0, seeds ≥ 2, and the profiles 'quick' and 'full'")

# %%
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch

import fuse_lib
from fuse_lib import FusePV, plots, widgets
from fuse_lib.exercises import check, hint, solution

plots.use_style()
torch.set_default_dtype(torch.float64)  # so that what we see is Adam and not rounding
torch.set_num_threads(1)  # the vectors are so short that a second thread costs more than it brings
device = "cpu" if device == "auto" else device
if profile == "full":
    steps, seeds = 5 * steps, 5 * seeds
colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
print(f"fuse_lib {fuse_lib.__version__}, torch {torch.__version__}, device {device}")

# %% [markdown]
# ## 1 · Adam in six lines
#
# Gradient descent moves the parameters $x$ by $-\alpha\,g_k$, where $g_k$ is the gradient at step $k$ and $\alpha$ the
# learning rate. Adam (Kingma & Ba 2015, Algorithm 1) keeps two running averages, the *moments*: $m$ of the gradient
# and $v$ of its square. It then replaces $g_k$ by a ratio of the two. Every parameter has its own $m$ and $v$: all
# products, roots and quotients below are taken component by component.
#
# $$m_k = \beta_1 m_{k-1} + (1-\beta_1)\,g_k \qquad\qquad v_k = \beta_2 v_{k-1} + (1-\beta_2)\,g_k^2$$
#
# $$\hat m_k = \frac{m_k}{1-\beta_1^k} \qquad \hat v_k = \frac{v_k}{1-\beta_2^k} \qquad x_k = x_{k-1} - \alpha\,\frac{\hat m_k}{\sqrt{\hat v_k} + \epsilon}$$
#
# - $m$, the **first moment**, says where the gradient has pointed lately: over about the last $1/(1-\beta_1) = 10$ steps.
# - $v$, the **second moment**, says how large it has been: over about the last $1/(1-\beta_2) = 1000$ steps.
# - The hats are the **bias correction** (section 2), the ratio is the **effective step** (section 3), and the small number
#   $\epsilon$ keeps the division safe (section 4).
#
# The usual settings are $\beta_1 = 0.9$, $\beta_2 = 0.999$ and $\epsilon = 10^{-8}$. The six lines of the function's body:

# %%
def adam_step(x, g, memory, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """The next x. `memory` holds k, m and v; any shape."""
    memory["k"] += 1
    memory["m"] = beta1 * memory["m"] + (1 - beta1) * g
    memory["v"] = beta2 * memory["v"] + (1 - beta2) * g * g
    m_hat = memory["m"] / (1 - beta1 ** memory["k"])
    v_hat = memory["v"] / (1 - beta2 ** memory["k"])
    return x - lr * m_hat / (v_hat.sqrt() + eps)


# %% [markdown]
# Is that really Adam? Let us walk 500 steps down a valley with this function and with `torch.optim.Adam`, from the same point:

# %%
def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def gradient_of(f, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


ours = torch.tensor([-1.2, 1.0])
theirs = ours.clone().requires_grad_()
memory = {"k": 0, "m": 0.0, "v": 0.0}
torchs = torch.optim.Adam([theirs], lr=0.01)
apart = 0.0
for k in range(500):
    ours = adam_step(ours, gradient_of(rosenbrock, ours), memory, lr=0.01)
    theirs.grad = gradient_of(rosenbrock, theirs)
    torchs.step()
    apart = max(apart, (ours - theirs).abs().max().item())

# %% tags=["nbval-check-output"]
print(f"largest difference from torch.optim.Adam over 500 steps below 1e-12: {apart < 1e-12}")

# %% [markdown]
# They agree to rounding. (In the rest of the course the first phase *is* torch's own Adam; this one is for looking inside.)
#
# ## 2 · The bias correction
#
# Both moments start at 0, so at first they are too small. By how much? Write the recursion out as a sum,
#
# $$m_k = (1-\beta_1)\sum_{i=1}^{k} \beta_1^{\,k-i}\,g_i,$$
#
# and suppose that the gradient has the same mean at every step, $\mathrm{E}[g_i] = \mathrm{E}[g]$. (E stands for the mean,
# here over the noise in the gradient.) The weights form a geometric series:
#
# $$\mathrm{E}[m_k] = \mathrm{E}[g]\,(1-\beta_1)\sum_{i=1}^{k}\beta_1^{\,k-i} = (1-\beta_1^k)\,\mathrm{E}[g], \qquad \mathrm{E}[v_k] = (1-\beta_2^k)\,\mathrm{E}[g^2].$$
#
# Dividing by the brackets $1-\beta^k$ removes the bias. Do we see it? We run two thousand copies of the averages for two
# hundred steps. Their gradients are noisy, with mean 1 and variance 1, so that $\mathrm{E}[g^2] = 1 + 1 = 2$:

# %%
g = 1 + torch.randn(200, 2000, generator=torch.Generator().manual_seed(0))  # (steps, runs)
m = v = torch.zeros(2000)
mean_m, mean_v = [], []
for gradient in g:
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    mean_m.append(m.mean().item())
    mean_v.append(v.mean().item())
k = torch.arange(1, 201)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2))
for ax, name, seen, beta, goal in zip(axes, "mv", (mean_m, mean_v), (0.9, 0.999), (1.0, 2.0)):
    bracket = 1 - beta**k
    ax.axhline(goal, color="0.35", linestyle=":", label="what it should be")
    ax.plot(k, torch.tensor(seen) / bracket, color=colours[2], linestyle="--", label=rf"$\hat {name}_k$: corrected")
    ax.plot(k, seen, color=colours[0], marker="o", markevery=20, label=f"${name}_k$ as it is")
    ax.plot(k, goal * bracket, color="black", linewidth=0.9, label=rf"$(1-\beta^k)\cdot{goal:g}$")
    ax.set(xlabel="step k", title=rf"mean of ${name}_k$, $\beta$ = {beta}", ylim=(0, 1.3 * goal))
axes[0].legend(loc="lower right")
fig.tight_layout()
plots.show(fig, alt="Two panels over 200 steps. Left: the mean of m rises from 0.1 to 1 within thirty steps, along the curve "
           "1 minus beta to the k; corrected, it is near 1 from the start. Right: the mean of v has reached only a fifth of "
           "its goal, 2, after 200 steps; corrected, it is near 2 from the start.")

# %% [markdown]
# **What you see.** The averages lie on the derived curve (thin, black). The corrected ones lie on the dotted line from the
# first step on. $m$ has caught up after some thirty steps. $v$, with its long memory, has not reached even a fifth of its
# goal after two hundred.
#
# > **Predict.** Leave both corrections out. Is the first step then **(a)** too short, as $m$ starts too small;
# > **(b)** too long; **(c)** right, since the two errors cancel?
#
# To see it, take a constant gradient and measure steps in units of $\alpha$. Both corrections together are one factor, $c_k$:
#
# $$x_k = x_{k-1} - \alpha\;\underbrace{\frac{\sqrt{1-\beta_2^k}}{1-\beta_1^k}}_{c_k}\;\frac{m_k}{\sqrt{v_k}} \qquad (\epsilon = 0)$$

# %%
k = torch.arange(1, 3001).double()
m, root_v = 1 - 0.9**k, (1 - 0.999**k).sqrt()  # of a gradient that is always 1
factors = {
    "no correction": torch.ones_like(k),
    r"$\sqrt{1-\beta_2^k}\,/\,(1-\beta_1^k)$": root_v / m,
    r"$\sqrt{1-\beta_2^k}\,/\sqrt{1-\beta_1^k}$": root_v / m.sqrt(),
}
fig, ax = plt.subplots()
for (name, c), line, colour in zip(factors.items(), (":", "-", "--"), (colours[3], colours[0], colours[1])):
    ax.plot(k, c * m / root_v, linestyle=line, color=colour, label=name)
ax.set(xscale="log", xlabel="step k", ylabel=r"step length, in units of $\alpha$", ylim=(0, 7.5),
       title="Steps of Adam on a constant gradient")
ax.legend(title="factor $c_k$")
plots.show(fig, alt="Step length over the step number on a logarithmic axis. Without correction it is 3.2 at first, 6.6 near step 12 and falls "
           "towards 1 over three thousand steps. With Adam's factor it is always 1. With a root in the denominator it starts at 0.3 and is 1 after thirty steps.")

# %% [markdown]
# **What you see.** Answer **(b)**, the first step is too long. Both moments are too small at first, but $\sqrt v$ more so than
# $m$, and it is $\sqrt v$ that we divide by. Without correction the first step is $(1-\beta_1)/\sqrt{1-\beta_2} = 3.2$ times too
# long and the twelfth 6.6 times. After a thousand steps it is still a quarter too long. With Adam's factor the
# first step is exactly $\alpha$. So the correction is a brake. It acts much like a *warm-up*, a learning rate that starts small.
#
# **A note on the formula.** This course started from a reader's summary of the FUSE paper, which writes the factor as
# $\sqrt{1-\beta_2^k}/\sqrt{1-\beta_1^k}$. Kingma & Ba, and the paper's own Algorithm 3, have **no root in the denominator**, as
# we derived above. We take the root for a slip of the pen. The dashed line shows what it would do: the first step is only
# $\sqrt{1-\beta_1} = 0.32$ times $\alpha$. That is harmless and over after thirty steps, but it does not remove the bias.
#
# (Algorithm 3 pairs the exponent $k$ with $m_{k+1}$. If its $k$ counts from 0, the exponent has to be $k+1$: with exponent 0
# the first factor would be 0/0.)

# %% [markdown]
# **Exercise 01.1** (code) Write the factor $c_k$ as a function. `k` is 1 at the first step.

# %%
def bias_factor(k, beta1=0.9, beta2=0.999):
    return ...


check("01.1", ...)  # check("01.1", bias_factor)

# %% [markdown]
# **Exercise 01.2** Somebody sets $\beta_1 = 0.9$ and $\beta_2 = 0.9999$, and forgets the bias correction. How long is the first
# step, in units of $\alpha$?

# %%
check("01.2", ...)

# %% [markdown]
# ## 3 · The effective step
#
# How far does a parameter move in one step, $\alpha\,\hat m/(\sqrt{\hat v}+\epsilon)$?
#
# > **Predict.** Three parameters have constant gradients of 100, 1 and 0.01. After fifty steps of Adam, which of them
# > has gone farthest: **(a)** the first, 10,000 times as far as the third; **(b)** the third; **(c)** all went equally far?

# %%
g = torch.tensor([100.0, 1.0, 0.01])
x, memory, path = torch.zeros(3), {"k": 0, "m": 0.0, "v": 0.0}, []
for k in range(50):
    x = adam_step(x, g, memory, lr=0.01)
    path.append(-x)
path = torch.stack(path)

# %% [markdown]
# Gradients are rarely so constant. Let them have a mean $\mu$ and noise of standard deviation $\sigma$. In the long run
# $\hat m$ is $\mu$ on average, and $\hat v \approx \mathrm{E}[g^2] = \mu^2 + \sigma^2$. So the step should be, on average,
#
# $$\frac{\text{step}}{\alpha} \approx \frac{\mu}{\sqrt{\mu^2+\sigma^2}}$$

# %%
ratios = torch.logspace(-2, 1, 10)  # μ/σ: signal to noise
generator = torch.Generator().manual_seed(1)
x, memory = torch.zeros(10, 200), {"k": 0, "m": 0.0, "v": 0.0}  # 200 runs of each ratio
for k in range(1000):
    g = ratios[:, None] + torch.randn(10, 200, generator=generator)
    x = adam_step(x, g, memory, lr=1.0)
measured = -x.mean(1) / 1000  # mean step in units of α

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
for i, (size, line) in enumerate(zip((100, 1, 0.01), ("-", "--", ":"))):
    left.plot(range(1, 51), path[:, i], linestyle=line, linewidth=4 - i, color=colours[(0, 1, 3)[i]], label=f"gradient {size:g}")
left.set(xlabel="step k", ylabel="distance gone", title=r"constant gradients, $\alpha$ = 0.01")
left.legend()
right.loglog(ratios, ratios / (1 + ratios**2).sqrt(), color="black", label=r"$\mu/\sqrt{\mu^2+\sigma^2}$")
right.loglog(ratios, measured, "o", color=colours[0], markersize=8, label="measured")
right.set(xlabel=r"signal to noise, $\mu/\sigma$", ylabel=r"mean step, in units of $\alpha$", title="noisy gradients")
right.legend()
fig.tight_layout()
plots.show(fig, alt="Left: the distances gone by three parameters with gradients 100, 1 and 0.01 lie on one straight line. Right: the mean step "
           "against the ratio of mean to noise, on logarithmic axes: proportional to it below 1, and level at alpha above; measured points lie on the formula's curve.")

# %% [markdown]
# **What you see.** Left, answer **(c)**: three lines on top of each other. Adam divides each gradient by its own size. So a
# *consistent* gradient moves its parameter by $\alpha$ a step, whatever its size. Right: what counts is consistency. A gradient
# that is ten times smaller than its noise moves its parameter by $\alpha/10$ on average. (The leftmost point is a little high:
# with so much noise, 200 runs do not measure the mean any better.)
#
# Both halves matter for FUSE. Far from a minimum gradients are consistent. There Adam walks at full speed, in all parameters
# alike, and needs to know nothing about curvature. Near a minimum the mean gradient goes to zero and the noise stays. There Adam
# slows down by itself, but does not come to rest.
#
# **Quick check 01.3** One parameter has consistently large gradients, another consistently small ones. How do Adam's effective
# steps compare? **(a)** The large gradients get the larger step. **(b)** Both get about $\alpha$. **(c)** The large gradients get
# the smaller step.

# %%
check("01.3", ...)

# %% [markdown]
# **Exercise 01.4** A gradient component has mean 3 and noise of standard deviation 4. What is the mean step of Adam, in units of $\alpha$?

# %%
check("01.4", ...)

# %% [markdown]
# ## 4 · Three places for $\epsilon$
#
# $\epsilon$ keeps the division safe when the gradient is almost zero. It stands in different places in different texts. (The
# FUSE paper calls it $a$.)
#
# | | step / $\alpha$ | who |
# |---|---|---|
# | after the correction | $\hat m_k\,/\,(\sqrt{\hat v_k} + \epsilon)$ | Kingma & Ba's Algorithm 1, torch |
# | before it | $c_k\,m_k\,/\,(\sqrt{v_k} + a)$ | the FUSE paper's Algorithm 3; Kingma & Ba's faster form, end of their section 2 |
# | inside the root | $\hat m_k\,/\sqrt{\hat v_k + \epsilon}$ | seen in other codes |
#
# The second form is the first with another $\epsilon$. Divide numerator and denominator by $\sqrt{1-\beta_2^k}$:
#
# $$c_k\,\frac{m_k}{\sqrt{v_k}+a} = \frac{\hat m_k}{\sqrt{\hat v_k} + a/\sqrt{1-\beta_2^k}}, \qquad \epsilon_{\text{effective}} = \frac{a}{\sqrt{1-\beta_2^k}}$$

# %%
size = torch.logspace(-11, -1, 200)  # of a constant gradient
eps, c1, c2 = 1e-8, 1 - 0.9, 1 - 0.999  # at the first step, k = 1
places = {
    "after the correction (torch)": size / (size + eps),
    "before it (the paper)": math.sqrt(c2) / c1 * (c1 * size) / ((c2 * size**2).sqrt() + eps),
    "inside the root": size / (size**2 + eps).sqrt(),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
for (name, step), line, colour in zip(places.items(), ("-", "--", ":"), (colours[0], colours[1], colours[3])):
    left.semilogx(size, step, linestyle=line, color=colour, label=name)
left.set(xlabel="size of the gradient", ylabel=r"first step, in units of $\alpha$", ylim=(-0.03, 1.42), title=r"$\epsilon$ = $a$ = 1e-8")
left.legend(fontsize="small", loc="upper left")
k = torch.arange(1, 10_001).double()
right.loglog(k, eps / (1 - 0.999**k).sqrt(), linestyle="--", color=colours[1], label=r"$a/\sqrt{1-\beta_2^k}$ (the paper)")
right.axhline(eps, color=colours[0], label=r"$\epsilon$ (torch)")
right.set(xlabel="step k", ylabel=r"effective $\epsilon$", ylim=(5e-9, 2e-6), title=r"how long the two differ, $\beta_2$ = 0.999")
right.legend(fontsize="small")
fig.tight_layout()
plots.show(fig, alt="Left: the first step against the size of the gradient. All three go from 0 to alpha; half is reached at 1e-8 with epsilon after the "
           "correction, at 3e-7 before it, near 6e-5 inside the root. Right: the effective epsilon of the second form falls from 3e-7 to 1e-8 in some thousand steps.")

# %% [markdown]
# **What you see.** Each form has a threshold. A gradient well above it moves its parameter by $\alpha$. Well below it the step is
# proportional to the gradient, as in gradient descent. The thresholds differ:
#
# - torch's is $10^{-8}$;
# - the paper's is 32 times that at the first step, and comes down to the same within one or two thousand steps;
# - inside the root it is $\sqrt{\epsilon} = 10^{-4}$, ten thousand times torch's, and stays there.

# %% tags=["nbval-check-output"]
for k in (1, 10, 100, 1000):
    print(f"step {k:>4}: effective eps of the paper's form = {1 / math.sqrt(1 - 0.999**k):.2f} a")

# %% [markdown]
# On ordinary gradients ($10^{-3}$ or more) you cannot tell the first two apart. The difference matters where gradients are tiny:
# in dead units, with a loss in other units, for the last digits of a fit. `fuse_lib` uses torch's Adam as it is, so in this course
# you have the first row.
#
# **Quick check 01.5** A parameter's gradient is $10^{-8}$ and $\epsilon = a = 10^{-8}$. Which form moves it farthest in the first step?
# **(a)** torch's; **(b)** the paper's; **(c)** inside the root.

# %%
check("01.5", ...)

# %% [markdown]
# **Exercise 01.6** You want the paper's form to have an effective $\epsilon$ of $10^{-8}$ *at the first step* ($\beta_2 = 0.999$).
# Which $a$ do you choose?

# %%
check("01.6", ...)

# %% [markdown]
# ## 5 · Slow directions
#
# Close to a minimum, a smooth function looks like a quadratic, $f(x) = \tfrac12\,x^\top A x$: a bowl, or a long valley. The
# eigenvectors of $A$ are the directions of this valley, and the eigenvalues are their curvatures: large where it is steep, small
# where it is flat. We take twenty curvatures from $1/\kappa$ to 1, evenly spread on a logarithmic scale. $\kappa = 1000$ is the
# *condition number*, the steepest curvature over the flattest. The steepest direction limits the step of gradient descent, and
# with so short a step the flattest takes some $\kappa$ steps.
#
# Adam rescales each *coordinate*. So we give it the same valley twice: once with its directions along the coordinate axes, and
# once turned, with its directions slanting across them.

# %%
curvature = torch.logspace(-math.log10(condition), 0, dim)
random = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0))
turn = {"along the axes": torch.eye(dim), "turned": torch.linalg.qr(random)[0]}  # columns: eigenvectors
hessian = {name: (Q * curvature @ Q.T).to(device) for name, Q in turn.items()}
begin = {name: Q.sum(1).to(device) for name, Q in turn.items()}  # 1 in each eigenvector's direction


def value(name, x):
    """f of each row of x, (…, dim)."""
    return 0.5 * ((x @ hessian[name]) * x).sum(-1)


# %%
def run_adam(name, lr, steps, sigma=0.0, cosine=False, x=None, seed=0, **options):
    """All points of a run, (steps + 1, …, dim). sigma: noise on each gradient component."""
    x = begin[name] if x is None else x
    generator = torch.Generator().manual_seed(seed)
    memory, path = {"k": 0, "m": 0.0, "v": 0.0}, [x]
    for k in range(steps):
        g = x @ hessian[name]
        if sigma > 0:
            g = g + sigma * torch.randn(g.shape, generator=generator).to(device)
        share = 0.5 * (1 + math.cos(math.pi * k / steps)) if cosine else 1.0
        x = adam_step(x, g, memory, share * lr, **options)
        path.append(x)
    return torch.stack(path)


# %% [markdown]
# > **Predict.** Both valleys have the same curvatures, and the start is equally far away. Where does Adam come down faster:
# > **(a)** along the axes; **(b)** turned; **(c)** no difference? What would gradient descent do?

# %%
lr, short, look = 0.03, 400, 100
paths = {name: run_adam(name, lr, short).cpu() for name in turn}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
for name, line, colour, marker in zip(turn, ("-", "--"), (colours[0], colours[3]), "os"):
    f = value(name, paths[name].to(device)).cpu()
    left.semilogy(f, linestyle=line, color=colour, label=name)
    left_over = (paths[name][look] @ turn[name]).abs()  # component along each eigenvector
    right.loglog(curvature, left_over, line, marker=marker, color=colour, label=name)
left.axvline(look, color="0.35", linestyle=":")
left.set(xlabel="gradient evaluations", ylabel="f", ylim=(1e-12, 10), title=rf"Adam, $\alpha$ = {lr}")
right.axhline(1, color="0.35", linestyle=":")
right.set(xlabel="curvature of the direction", ylabel="distance left", ylim=(1e-3, 3), title=f"after {look} steps (dotted: at the start)")
left.legend()
fig.tight_layout()
plots.show(fig, alt="Left: f over evaluations. Along the axes it falls below 1e-10 within 250; turned it is above 1e-3 after 400. Right: distance left "
           "after 100 steps by curvature of the direction. Along the axes it is the same in all; turned, it is below 1e-2 in the steepest and about 1 in the flattest.")

# %% [markdown]
# **What you see.** Answer **(a)**, by a wide margin. Along the axes, each gradient component belongs to one direction of the
# valley. Dividing it by its own size makes all directions equally fast. In the turned valley each component is a mixture of steep
# and flat directions. There the division helps little, and Adam goes down the steep directions first, as gradient descent does.
# The right panel shows what is left: the *flat directions*. (Gradient descent knows no axes. It would be equally slow in both.)
#
# Real problems are turned. To do better, a method has to know how the coordinates hang together: the entries of $A$ off its
# diagonal. L-BFGS learns about them in [notebook 02](02_lbfgs.ipynb).
#
# Was it just the wrong learning rate? Let us count the evaluations until $f < 10^{-6}$ for each of four:

# %%
def evaluations_to(f, target):
    """How many until f is below the target for the first time; None if never."""
    below = (f < target).nonzero()
    return int(below[0]) if len(below) else None


rates = (0.3, 0.1, 0.03, 0.01)  # in the table, NaN: not within the given steps
counts = {name: [evaluations_to(value(name, run_adam(name, rate, steps)), 1e-6) for rate in rates] for name in turn}
needed = pd.DataFrame(counts, index=pd.Index([f"{rate:g}" for rate in rates], name="α"))
needed

# %% tags=["nbval-check-output"]
best = needed.min()
print(f"evaluations to f < 1e-6, best learning rate of each: turned at least three times as many: {best['turned'] > 3 * best['along the axes']}")

# %% [markdown]
# The learning rate was not at fault: even with the best of the four, the turned valley takes more than four times as many
# evaluations.
#
# ## 6 · Saturation without noise: bursts
#
# Is it a matter of patience, then? Let Adam run on in the turned valley, with a *constant* $\alpha$ and exact gradients.
#
# > **Predict.** After thousands of steps the loss **(a)** goes to zero; **(b)** settles at a level that depends on $\alpha$;
# > **(c)** falls very low and then jumps up again, by many orders of magnitude.

# %% tags=["nbval-ignore-output"]
def draw(beta2: float, lr: float):
    fig, ax = plt.subplots()
    rates = torch.tensor([[lr], [lr / 10]])  # both at once
    both = begin["turned"].expand(2, dim)
    f = value("turned", run_adam("turned", rates.to(device), steps, x=both, beta2=beta2)).cpu()
    for i, line in enumerate(("-", "--")):
        ax.semilogy(f[:, i].clamp(min=1e-30), line, color=colours[3 * i], linewidth=1.2, label=rf"$\alpha$ = {rates[i, 0]:g}")
    ax.set(xlabel="gradient evaluations", ylabel="f", ylim=(1e-22, 50), title=rf"Adam on the turned quadratic, $\beta_2$ = {beta2}")
    ax.legend(loc="lower left")
    return fig


widgets.explore(draw, beta2=widgets.choice([0.9, 0.99, 0.999], 0.999, label="β2"), lr=widgets.choice([1.0, 0.3, 0.1, 0.03], 0.3, label="α"))

# %%
plots.show(draw(beta2=0.999, lr=0.3), alt="f over evaluations with beta 2 = 0.999. For alpha 0.3 it falls below 1e-20 and jumps back to about 1e-2, again and again. "
           "For alpha 0.03 it falls smoothly to a very low value.")

# %% [markdown]
# **What you see.** Answer **(c)** for $\alpha = 0.3$ and Adam's default $\beta_2$: $f$ falls to almost nothing, and soon it
# is back at $10^{-2}$. Again and again. Let us call such a jump a *burst*. For $\alpha = 0.03$ the first burst is still to
# come: give it more steps, or a larger $\alpha$, and you will see it. If $v$ has a shorter memory, a smaller $\beta_2$, the
# bursts come so often that they merge (choose another $\beta_2$ above, or look here):

# %%
plots.show(draw(beta2=0.99, lr=0.3), alt="The same with beta 2 = 0.99. Both curves fall and after a few hundred to a thousand evaluations swing irregularly about a level, "
           "near 2e-4 for alpha 0.3, and near 2e-6 for alpha 0.03.")

# %% [markdown]
# **What you see.** Now it is answer **(b)**: each curve swings about a level of its own. For an $\alpha$ ten times smaller the
# level is about a hundred times lower:

# %% tags=["nbval-check-output"]
rates = torch.tensor([[0.3], [0.03]]).to(device)
f = value("turned", run_adam("turned", rates, steps, x=begin["turned"].expand(2, dim), beta2=0.99)).cpu()
levels = f[steps // 2 :].median(0).values
print(f"ratio of the two levels (median over the second half) between 50 and 200: {bool(50 < levels[0] / levels[1] < 200)}")

# %% [markdown]
# **Why the bursts?** Once the gradients have become small, $\sqrt{\hat v}$ still remembers the larger ones. It fades slowly, by a
# factor of $\sqrt{\beta_2}$ a step. Meanwhile Adam is gradient descent with momentum, and its step $\alpha/\sqrt{\hat v}$ *grows*.
# On a curvature $\lambda$ such a method is stable only while
#
# $$\frac{\alpha\,\lambda}{\sqrt{\hat v}} < \frac{2\,(1+\beta_1)}{1-\beta_1} = 38 \qquad (\beta_1 = 0.9)$$
#
# (Cohen et al. 2022 find that deep nets train at this very edge). Beyond it $x$ swings ever more widely, until the large gradients
# have filled $v$ again. Let us watch it with one variable and $\lambda = 1$:

# %%
x, memory, f, sharpness = torch.tensor(1.0), {"k": 0, "m": 0.0, "v": 0.0}, [], []
for k in range(1, 1501):
    x = adam_step(x, x, memory, lr=0.1, beta2=0.99)  # f = x²/2, so the gradient is x
    f.append(0.5 * x.item() ** 2)
    sharpness.append(0.1 / (memory["v"] / (1 - 0.99**k)).sqrt().item())

# %%
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5.6), sharex=True)
top.semilogy(f, color=colours[0], linewidth=1.2)
top.set(ylabel="f", ylim=(1e-48, 100), title=r"one variable, $\alpha$ = 0.1, $\beta_2$ = 0.99")
bottom.semilogy(sharpness, color=colours[1])
bottom.axhline(38, color="0.25", linestyle="--")
bottom.annotate("38: unstable above", (0, 38), xytext=(4, 4), textcoords="offset points")
bottom.set(xlabel="gradient evaluations", ylabel=r"$\alpha\lambda/\sqrt{\hat v}$", ylim=(0.05, 900))
fig.tight_layout()
plots.show(fig, alt="Two panels over 1500 steps. Top: f falls to 1e-40 and jumps up to about 1e-4; later it falls less far, and jumps more often. Bottom: "
           "alpha lambda over root v grows exponentially, crosses the line at 38 at the beginning of each jump, and drops at its end.")

# %% [markdown]
# **What you see.** $f$ falls as long as the lower curve is below 38. Once it is above, $f$ grows, ever faster: by
# more than thirty orders of magnitude within a hundred steps. Then the fresh, large gradients raise $v$, the lower curve
# drops, and the next round begins.

# %% tags=["nbval-check-output"]
sharpness, f = torch.as_tensor(sharpness), torch.as_tensor(f)
crossed = int((sharpness > 38).nonzero()[0])
print(f"f falls for a hundred steps before the threshold is first crossed: {bool(f[crossed] < f[crossed - 100])}")
print(f"and has risen a millionfold within three hundred steps after it: {bool(f[crossed : crossed + 300].max() > 1e6 * f[crossed])}")

# %% [markdown]
# **Why a hundred times lower?** Adam does not care how large gradients are. So on a quadratic, if you multiply both $\alpha$ and
# the start $x$ by 10, all steps become ten times as long (while $\epsilon$ does not matter), and the path keeps its shape. The
# bursts then have a height proportional to $\alpha$ in $x$, and to $\alpha^2$ in $f$.
#
# ## 7 · Saturation with noise: a floor
#
# In training, gradients are noisy. Near the minimum there is little else than noise. If its standard deviation is $\sigma$, then
# $\sqrt{\hat v} \approx \sigma$. This does not fade, so there are no bursts, and Adam is stochastic gradient descent with step
# $\eta = \alpha/\sigma$. In a direction of curvature $\lambda$, each step multiplies $x$ by $1-\eta\lambda$ and adds noise of variance
# $\eta^2\sigma^2$. The variance of $x$ no longer changes when the two balance:
#
# $$\operatorname{Var}x = (1-\eta\lambda)^2\operatorname{Var}x + \eta^2\sigma^2 \quad\Rightarrow\quad \operatorname{Var}x \approx \frac{\eta\,\sigma^2}{2\lambda},
# \qquad \mathrm{E}f = \sum_{i=1}^{d} \tfrac12\lambda_i\operatorname{Var}x_i \approx \frac{d\,\alpha\,\sigma}{4}.$$
#
# (This is for $\eta\lambda \ll 1$; momentum does not change it to this order.) The result is what matters: the mean of $f$ stays
# on a **floor** proportional to $\alpha$, and the curvatures have dropped out.
#
# > **Predict.** You have 4,000 evaluations. What gives the lowest loss in the end: **(a)** the smallest constant $\alpha$;
# > **(b)** a middling constant $\alpha$; **(c)** a larger $\alpha$ that falls to zero along a cosine?

# %%
def end(rate, sigma, cosine=False):
    """Mean f at the end of each run: over the last tenth of it, or at the last point where α has come down."""
    start = begin["turned"].expand(seeds, dim)
    f = value("turned", run_adam("turned", rate, steps, sigma, cosine, x=start, seed=1))
    return f[-1] if cosine else f[-(steps // 10) :].mean(0)


rows = []
for rate in (0.3, 0.1, 0.03, 0.01, 0.003):
    for schedule in ("Adam", "Adam, cosine"):
        f = end(rate, noise, cosine=schedule != "Adam")
        rows += [{"lr": rate, "optimizer": schedule, "seed": i, "f": v} for i, v in enumerate(f.tolist())]
floors = pd.DataFrame(rows)

# %%
mean = floors.groupby(["optimizer", "lr"]).f.agg(["mean", "sem"]).reset_index()
fig, ax = plt.subplots()
for name, run in mean.groupby("optimizer"):
    plots.curve(ax, run["lr"], run["mean"], name, markers=99)
    ax.fill_between(run["lr"], run["mean"] - 2 * run["sem"], run["mean"] + 2 * run["sem"], color=plots.style(name)["color"], alpha=0.2)
rates = torch.logspace(-3, -0.5, 20)
ax.plot(rates, dim * rates * noise / 4, color="black", linewidth=1, linestyle=":", label=r"$d\,\alpha\,\sigma/4$")
ax.set(xscale="log", yscale="log", xlabel=r"learning rate $\alpha$ (cosine: at the start)", ylabel="f at the end", title=f"{steps:,} noisy gradients, turned quadratic")
ax.legend()
plots.show(fig, alt="Final f against the learning rate, logarithmic axes. Constant Adam: a V, lowest near 0.01; to the right it lies on the line d alpha sigma over 4. "
           "With cosine decay the right side is much lower, and the best value is about half of the best constant one, near 0.03.")

# %% [markdown]
# **What you see** (means over the runs; the bands reach two standard errors of the mean up and down). The curve of constant
# $\alpha$ is a **V**. On its right arm the runs have arrived and sit on their floor, close to the dotted line. On its left arm
# they are still on their way down the flat directions of section 5. Cosine decay covers the distance fast and then lowers
# the floor: answer **(c)**. Its best value is about half of the best constant one. Perhaps more important: it is
# good over a wide range of $\alpha$.

# %% tags=["nbval-check-output"]
table = mean.pivot(index="lr", columns="optimizer", values="mean")
print(f"constant α = 0.1: within 25 % of d α σ / 4: {abs(table['Adam'][0.1] / (dim * 0.1 * noise / 4) - 1) < 0.25}")
print(f"cosine decay ends lower than the same constant α at 0.3, 0.1 and 0.03: {bool((table['Adam, cosine'] < table['Adam']).loc[[0.03, 0.1, 0.3]].all())}")
print(f"and higher at 0.003, where it stops before it has arrived: {table['Adam, cosine'][0.003] > table['Adam'][0.003]}")

# %% [markdown]
# Both arms of the V are the subject of this course. The right arm is *noise*. L-BFGS does not remove it; larger batches and
# a falling $\alpha$ do. The left arm is *conditioning*, the flat directions, and there L-BFGS can help.
#
# **Quick check 01.7** Adam sits on its floor, with noisy gradients and constant $\alpha$. You divide $\alpha$ by ten
# and wait long enough. The mean loss above the minimum falls by a factor of about **(a)** 1; **(b)** 10; **(c)** 100.

# %%
check("01.7", ...)

# %% [markdown]
# ## 8 · What comes after
#
# Back to exact gradients and the turned valley, with 600 evaluations. Adam has the best learning rate of the table in section 5.
# FUSE-PV takes 100 steps of the same Adam and goes on with L-BFGS, which remembers the last 20 steps (`history_size`) instead
# of its usual ten.
#
# > **Predict.** After the switch, how many evaluations to $f < 10^{-20}$: **(a)** about 20, as there are twenty variables;
# > **(b)** some 150; **(c)** more than 500, as many as Adam takes?

# %%
def run_torch(make, evaluations):
    """f at each step of an optimizer on the turned quadratic, and the evaluations spent before it."""
    x = begin["turned"].clone().requires_grad_()
    opt, spent, f = make([x]), [0], []

    def closure():
        opt.zero_grad()
        loss = value("turned", x)
        loss.backward()
        spent.append(spent[-1] + 1)
        return loss

    at = []
    while spent[-1] < evaluations:
        at.append(spent[-1])
        f.append(float(opt.step(closure).detach()))
        if f[-1] < 1e-25:
            break  # there is nothing left to minimise
    return at, f


# %%
fig, ax = plt.subplots()
for name, make in {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.3),
    "FUSE-PV": lambda p: FusePV(p, lr=0.3, switchover="step:100", full_batch=True, history_size=20),
}.items():
    at, f = run_torch(make, 600)
    seen = sum(v > 1e-20 for v in f)  # after that it is rounding
    plots.curve(ax, at[:seen], f[:seen], name)
plots.mark_switch(ax, 100)
ax.set(yscale="log", xlabel="gradient evaluations", ylabel="f", ylim=(1e-20, 10), title="turned quadratic, exact gradients")
ax.legend()
plots.show(fig, alt="f over evaluations. Adam is near 1e-11 after 600 evaluations. FUSE-PV follows it for 100 evaluations, then falls to 1e-20 within about 150 more.")

# %% [markdown]
# **What you see.** Up to the dotted line both are the same Adam. From there FUSE-PV needs some 150 evaluations to the end of
# the scale (answer **b**): the flat directions are no obstacle to it. Adam is near $10^{-11}$ after all 600. A quadratic
# without noise is L-BFGS's home ground. [Notebook 02](02_lbfgs.ipynb) shows how it does it, and notebooks 03, 05 and 16 when
# to switch.
#
# ## Summary
#
# - Adam's step is $\alpha\,\hat m/(\sqrt{\hat v}+\epsilon)$: a mean gradient over its typical size.
# - The bias correction $\sqrt{1-\beta_2^k}/(1-\beta_1^k)$ makes the first step $\alpha$ instead of $3.2\,\alpha$.
# - A consistent gradient moves its parameter by $\alpha$ a step, whatever its size. Noise shortens that to
#   $\alpha\,\mu/\sqrt{\mu^2+\sigma^2}$ on average.
# - With $a$ before the correction, as in the paper's Algorithm 3, the effective $\epsilon$ is $a/\sqrt{1-\beta_2^k}$: 32 times as
#   large at first.
# - Adam scales coordinates. It copes with a valley along the axes; in a turned one the flat directions stay slow.
# - With constant $\alpha$ it saturates: without noise in bursts whose height grows like $\alpha^2$, with noise at a floor
#   proportional to $\alpha$. A falling $\alpha$ lowers the floor, but does not make the flat directions any faster.
#
# ## References
#
# - D. P. Kingma, J. Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980)
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - J. M. Cohen, et al., *Adaptive Gradient Methods at the Edge of Stability*, 2022, [arXiv 2207.14484](https://arxiv.org/abs/2207.14484)
#
# **Read next**: `fuse_lib/optim/first_order.py`, about a hundred lines in which torch's own Adam becomes the first phase.
#
# **Next notebook**: [02 · L-BFGS: learning curvature from gradients](02_lbfgs.ipynb).

# %%
effective = {"dim": dim, "condition": condition, "steps": steps, "noise": noise, "seeds": seeds, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"f {name} {rate:g}": f for name, column in table.items() for rate, f in column.items()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
