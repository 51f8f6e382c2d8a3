# %% [markdown]
# # 02 · L-BFGS: learning curvature from gradients
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/02_lbfgs.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - how two gradients tell the curvature between them, and what a Hessian would cost instead,
# - to write BFGS, the two-loop recursion and the compact form: three ways to the same direction,
# - why L-BFGS looks before it steps (the Wolfe conditions), and what happens if it does not,
# - how much memory is worth having, and which starts are bad for it.
#
# **You need first**: [00 · Start here](00_start_here.ipynb); some linear algebra (matrix, transpose, inverse, eigenvalue).
# [01 · Adam](01_adam.ipynb) helps.
#
# **Minutes**: 20 to read, 1 to run. With `profile="full"`: 3.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
dim: int = 100  # variables of the quadratic
condition: float = 1000.0  # its largest curvature over its smallest
starts: int = 5  # runs of each setting, from different points
budget: int = 150  # gradient evaluations of each run on the small net, in the last part
profile: str = "quick"  # "full": four times as many starts, and a condition number of 100,000
device: str = "auto"  # "auto" is "cpu" here: problems this small are no work for a GPU
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (dim >= 10 and condition > 1 and starts >= 2 and budget >= 60 and profile in ("quick", "full")):
    raise ValueError(f"dim={dim}, condition={condition}, starts={starts}, budget={budget}, profile={profile!r}; allowed are "
                     "dim ≥ 10, condition > 1, starts ≥ 2, budget ≥ 60, and the profiles 'quick' and 'full'")

# %%
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F

import fuse_lib
from fuse_lib import LBFGS, FusePV, data, models, plots, widgets
from fuse_lib.exercises import check, hint, solution
from fuse_lib.optim import direction

plots.use_style()
torch.set_num_threads(1)  # the problems are so small that a second thread costs more than it brings
torch.set_default_dtype(torch.float64)
device = "cpu" if device == "auto" else device
torch.set_default_device(device)
if profile == "full":
    starts, condition = 4 * starts, 1e5
colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
print(f"fuse_lib {fuse_lib.__version__}, torch {torch.__version__}, device {device}")

# %% [markdown]
# ## 1 · Two gradients hold a curvature
#
# Newton's method jumps to the minimum of the quadratic that fits the loss best where it stands. For that it needs the
# *Hessian* $\nabla^2 f$, the matrix of second derivatives: it says how the gradient changes when you move. L-BFGS wants
# the same jump without that matrix. Here is where it gets its knowledge from.
#
# Take a step $s = x_{k+1} - x_k$ and look how the gradient changed: $y = g_{k+1} - g_k$. Adding up the changes along the step,
#
# $$y = \bar H s, \qquad \bar H = \int_0^1 \nabla^2 f(x_k + \tau s)\,\mathrm{d}\tau,$$
#
# where $\bar H$ is the Hessian averaged along the step. So each step tells, for free, what the average Hessian does to *one*
# vector. A matrix $B$ that stands for the Hessian should know as much: $B s = y$. This is the **secant condition** (Nocedal &
# Wright, eq. 6.6).
#
# How well does $y$ match the Hessian at the step's start? We test it on a real function: logistic regression on
# scikit-learn's digits (8 × 8 pixels, ten classes), with a small penalty on large weights.

# %%
digits = data.load("digits")
pixels, labels = digits.x_train.flatten(1).to(device), digits.y_train.to(device)
d = 10 * (pixels.shape[1] + 1)  # 650 weights and biases in one vector


def logistic(w):
    """f(w), computed in the dtype of w."""
    w = w.view(10, -1)
    scores = pixels.to(w.dtype) @ w[:, :-1].T + w[:, -1]
    return F.cross_entropy(scores, labels) + 1e-3 / 2 * w.square().sum()


def value_and_gradient(f, x):
    x = x.detach().requires_grad_()
    value = f(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.item(), gradient


# %%
rows = []
generator = torch.Generator(device).manual_seed(0)
w, way = 0.1 * torch.randn(2, d, generator=generator)
way = way / way.norm()
_, curved = torch.autograd.functional.hvp(logistic, w, way)  # ∇²f(w) · way, exactly
for dtype in (torch.float64, torch.float32):
    for length in torch.logspace(-10, 2, 25):
        s = (length * way).to(dtype)
        y = value_and_gradient(logistic, w.to(dtype) + s)[1] - value_and_gradient(logistic, w.to(dtype))[1]
        rows.append({"dtype": str(dtype)[6:], "length": length.item(), "error": ((y.double() / length - curved).norm() / curved.norm()).item()})
secant = pd.DataFrame(rows)

# %%
fig, ax = plt.subplots()
for (dtype, run), line, colour in zip(secant.groupby("dtype"), ("--", "-"), (colours[3], colours[0])):
    ax.loglog(run.length, run.error, line, marker="o", markersize=4, color=colour, label=dtype)
ax.set(xlabel="length of the step s", ylabel=r"relative error of $y/\|s\|$", ylim=(1e-9, 1e3), title="Difference of gradients against exact Hessian times s")
ax.legend()
plots.show(fig, alt="Relative error against the length of the step, logarithmic axes. A V for each dtype: the error falls with shorter steps until rounding "
           "takes over, in float64 near length 3e-7 with error 3e-8, in float32 near 1e-2 with error 1e-3.")

# %% [markdown]
# **What you see.** Each curve is a **V**. On its right arm the step is so long that the Hessian changes along it. There
# the error is proportional to the length, as $y$ holds the *average* curvature. On the left arm the two gradients
# are so alike that their difference is mostly rounding. In between $y$ is right to several digits. In float32 it is at best
# right to three: one reason why the last digits of a minimum are hard to get there.
#
# **Why not compute the Hessian itself?** Because of its size and its cost. Compare it with ten pairs $(s, y)$:

# %%
sizes = {"logistic regression above": d, "the paper's MLP, 784-64-32-10": 52_650, "a million parameters": 10**6, "a billion": 10**9}
costs = [{"": name, "parameters d": f"{n:,}", "Hessian, MB": f"{4e-6 * n**2:,.1f}", "10 pairs, MB": f"{4e-6 * 20 * n:,.2f}"} for name, n in sizes.items()]
pd.DataFrame(costs).set_index("")  # float32: 4 bytes a number

# %% [markdown]
# With $d$ parameters a Hessian has $d^2$ entries. Automatic differentiation gives one column at a time, by a
# *Hessian-vector product* that costs as much as a gradient or two. Then a linear system of size $d$ has to be solved, which
# takes some $d^3$ operations. The pairs, on the other hand, are a by-product of gradients that were computed anyway. $m$ pairs
# fill $2\,m\,d$ numbers.
#
# **Quick check 02.1** Why does L-BFGS keep a history of differences (of gradients and of parameters) and not compute the
# Hessian? **(a)** Differences are more accurate. **(b)** The Hessian needs $d^2$ numbers and $d$ further products, the
# history $2md$ numbers and no product. **(c)** The Hessian does not exist for networks.

# %%
check("02.1", ...)

# %% [markdown]
# **Exercise 02.2** A model has a million parameters. How many megabytes ($10^6$ bytes) does the history take for $m = 10$ in float32?

# %%
check("02.2", ...)

# %% [markdown]
# **Exercise 02.3** In one dimension: as $x$ went from 4 to 3, the gradient went from 10 to 6. Assume that the curvature stays as
# it is. At which $x$ is the gradient zero?

# %%
check("02.3", ...)

# %% [markdown]
# ## 2 · BFGS: one pair after another
#
# Newton's step is $p = -(\nabla^2 f)^{-1} g$. So we want a matrix $H$ that is close to the *inverse* Hessian. Each new pair
# says what it should do to one vector: $H y = s$, the secant condition turned round. BFGS (named after Broyden, Fletcher,
# Goldfarb and Shanno) takes the present $H$ and changes it as little as possible, in a certain norm, so that
# this holds and $H$ stays symmetric (Nocedal & Wright, eq. 6.17):
#
# $$H_{k+1} = (I - \rho\,s y^\top)\,H_k\,(I - \rho\,y s^\top) + \rho\,s s^\top, \qquad \rho = \frac{1}{s^\top y}.$$
#
# It needs $s^\top y > 0$: along the step, the function must have curved *upwards*. Then $H$ stays positive definite as well, so
# that $-Hg$ always points downhill.

# %%
def bfgs_update(H, s, y):
    rho = 1 / (s @ y)
    V = torch.eye(len(s)) - rho * torch.outer(y, s)
    return V.T @ H @ V + rho * torch.outer(s, s)


# %% [markdown]
# > **Predict.** Take a quadratic in ten variables with curvatures from 1 to 1000. BFGS starts from $H = I$, and each step goes
# > to the lowest point along its direction. After how many pairs is $H$ the inverse Hessian: **(a)** one; **(b)** ten;
# > **(c)** never exactly?
#
# Call the Hessian $A$. If $H = A^{-1}$, then all eigenvalues of $HA$ are 1. Let us look at them after each pair:

# %%
generator = torch.Generator(device).manual_seed(1)
Q = torch.linalg.qr(torch.randn(10, 10, generator=generator))[0]
A = Q * torch.logspace(0, 3, 10) @ Q.T
x, H, spectra = torch.randn(10, generator=generator), torch.eye(10), []
for k in range(11):
    spectra.append(torch.linalg.eigvals(H @ A).real.sort().values)
    g = A @ x
    p = -H @ g
    s = -(g @ p) / (p @ A @ p) * p  # to the minimum along p
    H, x = bfgs_update(H, s, A @ s), x + s
spectra = torch.stack(spectra).cpu()

# %%
fig, ax = plt.subplots()
ax.semilogy(spectra, color="0.8", linewidth=1)
ax.semilogy(spectra, "o", color=colours[2], markersize=5)
ax.axhline(1, color="0.25", linestyle=":")
ax.set(xlabel="curvature pairs learnt", ylabel="eigenvalues of H A", title="BFGS on a quadratic in ten variables", xticks=range(11))
plots.show(fig, alt="The ten eigenvalues of H A after 0 to 10 pairs. They start between 1 and 1000; with each pair one more arrives at 1, and after ten pairs all are 1.")

# %% [markdown]
# **What you see.** Answer **(b)**. Each pair brings one eigenvalue to 1 and spoils none that is there already. After ten
# pairs BFGS knows the whole Hessian, without ever having seen it. (The theorem needs a quadratic and steps to the exact
# lowest point: Nocedal & Wright, theorem 6.4. Elsewhere $H$ comes close in the directions where BFGS has been.)

# %% tags=["nbval-check-output"]
print(f"largest |eigenvalue − 1| after ten pairs below 1e-6: {bool((spectra[10] - 1).abs().max() < 1e-6)}")
print(f"the secant condition H y = s holds: {torch.allclose(H @ (A @ s), s)}")

# %% [markdown]
# ## 3 · L-BFGS: keep the pairs, forget the matrix
#
# $H$ is $d \times d$ again, too large to keep. But it was built from pairs. So we keep the last $m$ of them and, whenever we
# need $-Hg$, apply their updates to the *vector* $g$. The L stands for *limited memory* (Liu & Nocedal 1989).
#
# Two loops do it (Nocedal & Wright, algorithm 7.4). The first goes backwards, from the newest pair to the oldest, and applies the
# factors $I - \rho\,y s^\top$. Then comes the matrix that we start from, $H_0 = \gamma I$, where $\gamma = s^\top y / y^\top y$
# of the newest pair is a guess of the inverse curvature. The second loop goes forwards and applies the rest:

# %%
def two_loop(pairs, g):
    """−Hg from the pairs (s, y), oldest first."""
    q, alphas = g.clone(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    q = (s @ y) / (y @ y) * q  # H₀ = γI with the newest pair's γ
    for (s, y), alpha in zip(pairs, reversed(alphas)):
        q = q + (alpha - (y @ q) / (s @ y)) * s
    return -q


# %% [markdown]
# That takes about $4m$ operations on vectors of length $d$, and each has to wait for the one before. Byrd, Nocedal & Schnabel
# (1994, eq. 3.1) wrote the same $H$ in one formula, the **compact form**. (You may skip it: nothing later needs it.) Put the
# pairs into the columns of $S$ and $Y$; let $R$ be the upper triangle of $S^\top Y$, and $D$ its diagonal:
#
# $$H = \gamma I + \begin{bmatrix} S & \gamma Y\end{bmatrix} \begin{bmatrix} R^{-\top}(D + \gamma\,Y^\top Y)R^{-1} & -R^{-\top} \\ -R^{-1} & 0\end{bmatrix}
# \begin{bmatrix} S^\top \\ \gamma Y^\top\end{bmatrix}$$

# %%
def compact_form(pairs, g):
    """−Hg by the compact form: two thin matrices and a small one in the middle."""
    S, Y = (torch.stack(columns, 1) for columns in zip(*pairs))  # (d, m) each
    s, y = pairs[-1]
    gamma = (s @ y) / (y @ y)
    R = (S.T @ Y).triu()
    inverse, D = torch.linalg.inv(R), R.diag().diag()
    middle = torch.cat([torch.cat([inverse.T @ (D + gamma * Y.T @ Y) @ inverse, -inverse.T], 1),
                        torch.cat([-inverse, torch.zeros_like(R)], 1)])  # (2m, 2m)
    W = torch.cat([S, gamma * Y], 1)  # (d, 2m)
    return -(gamma * g + W @ (middle @ (W.T @ g)))


# %% [markdown]
# The library does it this way, from the inner products of the vectors alone (`fuse_lib/optim/direction.py`). They are matrix
# products, which a GPU is good at; and several processes that share the parameters can add them up.
#
# So we have four ways to one vector: the BFGS matrix, the two loops, the compact form and the library. Do they agree? We try
# them on pairs of the logistic regression:

# %%
generator = torch.Generator(device).manual_seed(2)
pairs, w = [], 0.1 * torch.randn(d, generator=generator)
for _ in range(8):
    s = 0.1 * torch.randn(d, generator=generator)
    pairs.append((s, value_and_gradient(logistic, w + s)[1] - value_and_gradient(logistic, w)[1]))
    w = w + s
g = value_and_gradient(logistic, w)[1]

s, y = pairs[-1]
H = (s @ y) / (y @ y) * torch.eye(d)
for pair in pairs:
    H = bfgs_update(H, *pair)  # 650 × 650
S, Y = (torch.stack(columns) for columns in zip(*pairs))
c = direction.compact(*(v.cpu() for v in (S @ Y.T, Y @ Y.T, S @ g, Y @ g)), (g @ g).item())

# %% tags=["nbval-check-output"]
exact = -H @ g
for name, p in {"two loops": two_loop(pairs, g), "compact form": compact_form(pairs, g),
                "fuse_lib": c.s.to(g) @ S + c.y.to(g) @ Y + c.g * g}.items():
    print(f"{name}: equal to the BFGS matrix times −g to 1e-10: {bool((p - exact).norm() < 1e-10 * exact.norm())}")

# %% [markdown]
# ## 4 · How far? The Wolfe conditions
#
# A direction $p$ is not yet a step. How far should we go along it? Along $p$ the loss is a function of one variable,
# $\varphi(t) = f(x + t\,p)$, whose slope at 0 is $\varphi'(0) = g^\top p < 0$. To try a few values of $t$ is called a *line
# search*. A step $t$ is good enough if it satisfies the **strong Wolfe conditions** (Nocedal & Wright, eq. 3.7):
#
# $$\underbrace{\varphi(t) \le \varphi(0) + c_1\,t\,\varphi'(0)}_{\text{sufficient decrease: it earned its length}} \qquad
# \underbrace{|\varphi'(t)| \le c_2\,|\varphi'(0)|}_{\text{curvature: the slope has flattened}} \qquad 0 < c_1 < c_2 < 1$$
#
# The second condition brings L-BFGS a present. As $s = t\,p$ and $y = g(x + tp) - g(x)$,
#
# $$s^\top y = t\,\big(\varphi'(t) - \varphi'(0)\big) \ge t\,(1 - c_2)\,|\varphi'(0)| > 0.$$
#
# In words: **a step that satisfies Wolfe gives a valid pair**, even where the function is not convex (bowl-shaped).
#
# > **Predict.** L-BFGS uses $c_1 = 10^{-4}$ and $c_2 = 0.9$. On a wavy curve, which steps will be accepted: **(a)** only
# > those close to the lowest minimum; **(b)** wide stretches around each minimum that lies low enough; **(c)** all that end
# > lower than they started?

# %%
def phi(t):
    """A wavy curve, made for this figure, and its slope."""
    return 0.3 * (t - 2.2) ** 2 + 0.25 * torch.cos(4 * t), 0.6 * (t - 2.2) - torch.sin(4 * t)


def is_wolfe(t, c1, c2):
    (f0, slope0), (f, slope) = phi(torch.zeros(())), phi(t)
    return (f <= f0 + c1 * t * slope0) & (slope.abs() <= c2 * slope0.abs())


# %% tags=["nbval-ignore-output"]
def draw(c1: float, c2: float):
    t = torch.linspace(0, 5, 1000)
    f, _ = phi(t)
    f0, slope0 = phi(torch.zeros(()))
    fig, ax = plt.subplots()
    ax.plot(t.cpu(), f.cpu(), color=colours[0], label=r"$\varphi(t)$")
    ax.plot(t.cpu(), (f0 + c1 * t * slope0).cpu(), "--", color=colours[3], label=r"$\varphi(0) + c_1\,t\,\varphi'(0)$")
    ax.fill_between(t.cpu(), 0, 1, where=is_wolfe(t, c1, c2).cpu(), transform=ax.get_xaxis_transform(), color=colours[2], alpha=0.25, label="accepted")
    ax.set(xlabel="step t", ylabel="loss", ylim=(-0.4, 2.6), title=rf"strong Wolfe with $c_1$ = {c1:g}, $c_2$ = {c2:g}")
    ax.legend(loc="upper center", ncol=3, fontsize="small")
    return fig


widgets.explore(draw, c1=widgets.choice([1e-4, 0.1, 0.3, 0.45], 1e-4, label="c1"), c2=widgets.choice([0.9, 0.5, 0.3, 0.1], 0.9, label="c2"))

# %%
plots.show(draw(c1=1e-4, c2=0.9), alt="A wavy curve falling from 1.7 to a low of about minus 0.2 and rising again, with the almost level line of sufficient decrease. "
           "Accepted steps are shaded: wide stretches around each valley below the line; steep flanks and everything above the line are left out.")

# %% [markdown]
# **What you see.** Answer **(b)**. A larger $c_1$ tilts the dashed line downwards: a step above it has not earned its length.
# A smaller $c_2$ narrows the shaded stretches around the places of slope zero. (The conditions ask for flat, not for
# lowest: even the top of the hump at 1.5 passes.) With the usual values 59 % of this line passes. So L-BFGS's first trial,
# $t = 1$, mostly is its last. Set $c_2$ to 0.1, and only 9 % passes: now L-BFGS would have to search.

# %% tags=["nbval-check-output"]
t = torch.linspace(0.001, 5, 5000)
for c1, c2 in ((1e-4, 0.9), (0.3, 0.9), (1e-4, 0.1)):
    print(f"c1 = {c1:g}, c2 = {c2:g}: share of [0, 5] accepted {is_wolfe(t, c1, c2).double().mean():.2f}")
print(f"sᵀy > 0 at every accepted step: {bool((phi(t)[1] > phi(torch.zeros(()))[1])[is_wolfe(t, 1e-4, 0.9)].all())}")

# %% [markdown]
# **Exercise 02.4** (code) Write the test. It returns True if a step satisfies the strong Wolfe conditions, else False.

# %%
def accepted(t, f0, slope0, f, slope, c1=1e-4, c2=0.9):
    """f0, slope0: φ(0) and φ'(0) < 0. f, slope: φ(t) and φ'(t)."""
    return ...


check("02.4", ...)  # check("02.4", accepted)

# %% [markdown]
# **Exercise 02.5** $\varphi'(0) = -8$, and at the accepted step $t = 0.5$ the slope is $-2$. What is $s^\top y$ of the new pair?
# (You need no vector.)

# %%
check("02.5", ...)

# %% [markdown]
# ## 5 · Why not a fixed step, like Adam?
#
# A search for such a step is a short program. It keeps a bracket: `low` is too short, `high` is too long. If a trial step is
# too long, it tries the middle of the bracket; if it is too short and no `high` is known yet, it doubles it:

# %%
def search(phi, c1=1e-4, c2=0.9):
    """(t, evaluations): a step that satisfies the strong Wolfe conditions. phi: t → φ(t), φ'(t)."""
    f0, slope0 = phi(0.0)  # known already, so it is not counted
    low, high, t = 0.0, math.inf, 1.0
    for evals in range(1, 31):
        f, slope = phi(t)
        if not f <= f0 + c1 * t * slope0 or slope > -c2 * slope0:
            high = t  # too long (NaN, too)
        elif slope < c2 * slope0:
            low = t  # too short: it still falls steeply
        else:
            break
        t = (low + high) / 2 if high < math.inf else 2 * t
    return t, evals


# %% [markdown]
# And here is the whole of L-BFGS. `length` decides how far to go: by our search, or by a fixed number. The first direction,
# when there are no pairs yet, is the negative gradient, shortened if it is long.

# %%
def minimise(f, x, length, m=10, budget=200):
    """A row for each point: evaluations, f, and how many pairs were dropped for lack of positive curvature."""
    (value, g), pairs, rows, evals, dropped = value_and_gradient(f, x), [], [], 1, 0
    while evals < budget and abs(value) < 1e12:  # beyond, it has run away
        rows.append((evals, value, dropped))
        p = two_loop(pairs, g) if pairs else -g / max(1.0, g.abs().sum().item())

        def phi(t):
            value, gradient = value_and_gradient(f, x + t * p)
            return value, (gradient @ p).item()

        t, cost = length(phi)
        new = x + t * p
        value, g_new = value_and_gradient(f, new)  # a better program keeps what phi has computed there
        s, y = new - x, g_new - g
        curved = s @ y > 1e-12 * s.norm() * y.norm()
        pairs, dropped = ([*pairs, (s, y)][-m:], dropped) if curved else (pairs, dropped + 1)
        x, g, evals = new, g_new, evals + cost
    return pd.DataFrame([*rows, (evals, value, dropped)], columns=["evals", "f", "dropped"])


# %% [markdown]
# The function to minimise is a sum of twenty bowls $\lambda_i(\sqrt{1 + z_i^2} - 1)$, where $z$ is $x$ in a turned basis. It is
# convex and round at the bottom. Far out it is *straight* like a funnel: its curvature is nearly zero there, and a Newton step
# far too long.
#
# > **Predict.** We start at a distance of 3, and of 10, in each direction, with fixed steps $t$ = 1, 0.1, 0.01 and with the search.
# > **(a)** $t = 1$ works from both starts. **(b)** Some fixed step works from both, and as fast as the search. **(c)** Each fixed
# > step runs away, or crawls, from at least one of them.

# %%
generator = torch.Generator(device).manual_seed(0)
basis = torch.linalg.qr(torch.randn(20, 20, generator=generator))[0]
weight = torch.logspace(-2, 0, 20)


def bowls(x):
    return (weight * ((1 + (basis.T @ x) ** 2).sqrt() - 1)).sum()


lengths = {"t = 1": lambda phi: (1.0, 1), "t = 0.1": lambda phi: (0.1, 1), "t = 0.01": lambda phi: (0.01, 1), "Wolfe": search}
runs = {(far, name): minimise(bowls, far * basis.sum(1), length) for far in (3, 10) for name, length in lengths.items()}

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
for ax, far in zip(axes, (3, 10)):
    for (name, _), line, colour in zip(lengths.items(), (":", "-.", (0, (5, 1)), "--"), (colours[3], colours[1], colours[4], colours[2])):
        run = runs[far, name]
        ax.semilogy(run.evals, run.f, linestyle=line, color=colour, label=name)
    ax.set(xlabel="gradient evaluations", title=f"start at a distance of {far}", ylim=(1e-10, 1e8))
axes[0].set_ylabel("f")
axes[1].legend(loc="lower left")
fig.tight_layout()
plots.show(fig, alt="f over evaluations from two starts. Near start: step 1 leaves the top of the panel at once, 0.1 comes down, 0.01 crawls, the Wolfe search is fastest. "
           "Far start: steps 1 and 0.1 both leave the panel, 0.01 crawls, the Wolfe search comes down.")

# %% [markdown]
# **What you see.** Answer **(c)**. Even from the near start $t = 1$ is thrown out to where the bowls are straight. There it
# measures almost no curvature, so its next step is longer still. $t = 0.1$ does well from the near start, and runs away from the
# far one. $t = 0.01$ is safe, and crawls. With the search, which costs an extra evaluation now and then, both starts arrive:

# %% tags=["nbval-check-output"]
for name in lengths:
    last = [runs[far, name].f.iloc[-1] for far in (3, 10)]
    ends = ["ends below 1e-4" if f < 1e-4 else "does not arrive" if f < 1e6 else "runs away" for f in last]
    print(f"{name:>8}: from 3 it {ends[0]}; from 10 it {ends[1]}")

# %% [markdown]
# Adam's fixed $\alpha$ is another matter. It is a *length*: as a rule no component moves by much more than $\alpha$ in a step,
# however wrong the gradient ([01](01_adam.ipynb), section 3). L-BFGS's step $-Hg$ has a length of its own, gradient over
# curvature. Where the curvature is small, or wrongly learnt, nothing limits it. Somebody has to look before the step is taken.
#
# **Quick check 02.6** Why can't L-BFGS simply use a fixed learning rate like Adam? **(a)** $-Hg$ is only as good as what it knows
# of the curvature: unchecked it may overshoot without limit, and give pairs with $s^\top y \le 0$. **(b)** It could, with a small
# enough one, at the same speed. **(c)** The two-loop recursion needs $\varphi(t)$.

# %%
check("02.6", ...)

# %% [markdown]
# ## 6 · The library's L-BFGS, and the last digits
#
# From here on we use `fuse_lib.LBFGS`. Its search is cleverer than ours: it fits a cubic to what it has seen, and mostly needs
# one evaluation a step. But its direction should be the one that we have written. Let us check that. We follow it on the
# logistic regression, and compute each step's direction ourselves from the points it went through:

# %%
w = torch.zeros(d, requires_grad=True)
opt = LBFGS([w], full_batch=True)


def closure():
    opt.zero_grad()
    loss = logistic(w)
    loss.backward()
    return loss


x, g, pairs, apart, gain = w.detach().clone(), value_and_gradient(logistic, w)[1], [], 0.0, 1.0
while gain > 1e-9 and len(pairs) < 300:
    opt.step(closure)
    s = w.detach() - x
    if pairs:
        ours = opt.last_step.step_length * two_loop(pairs[-10:], g)
        apart = max(apart, ((s - ours).norm() / s.norm()).item())
    x, g_new = w.detach().clone(), value_and_gradient(logistic, w)[1]
    pairs, g = [*pairs, (s, g_new - g)], g_new
    gain = -0.5 * (g @ two_loop(pairs[-10:], g)).item()  # what a Newton step would still gain

# %% tags=["nbval-check-output"]
print(f"at least 40 steps, each equal to ours to 1e-6: {len(pairs) >= 40 and apart < 1e-6}")

# %% [markdown]
# We are now so near the minimum that the next step can lower the loss, 0.264, only by about $10^{-9}$. In float32 the loss has
# some seven digits. What does a line search see there?

# %%
p = two_loop(pairs[-10:], g)
ts = torch.linspace(0, 2, 81)
looks = {}
for dtype in (torch.float32, torch.float64):
    seen = [value_and_gradient(logistic, (x + t * p).to(dtype)) for t in ts]
    values, slopes = zip(*[(f, (gradient.double() @ p).item()) for f, gradient in seen])
    looks[dtype] = torch.tensor(values) - values[0], torch.tensor(slopes) / abs(slopes[0])

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2))
for ax, which, scale in zip(axes, (0, 1), (1e8, 1)):
    ax.plot(ts.cpu(), scale * looks[torch.float32][which].cpu(), ".", color=colours[3], label="float32")
    ax.plot(ts.cpu(), scale * looks[torch.float64][which].cpu(), color=colours[0], label="float64")
    ax.axhline(0, color="0.35", linestyle=":")
    ax.set(xlabel="step t")
axes[0].set(title=r"$\varphi(t) - \varphi(0)$, in units of $10^{-8}$")
axes[1].set(title=r"slope $\varphi'(t)\,/\,|\varphi'(0)|$")
axes[0].legend()
fig.tight_layout()
plots.show(fig, alt="Left: the change of the loss along the line. In float64 a parabola a tenth of a unit deep; in float32 points scattered over three levels, three units apart. "
           "Right: the slope rises from minus 1 through 0 near t = 1.4, and float32 and float64 agree.")

# %% [markdown]
# **What you see.** Left: float32 knows only one value every $3\cdot10^{-8}$, and jumps between three of them. Whether
# $\varphi(t) < \varphi(0)$ is a matter of luck, and a search that insists on decrease may reject the best step.
# Right: the slopes still tell the truth. They cross zero where they should. So near the rounding floor `fuse_lib` also
# accepts steps by the **approximate Wolfe** test (Hager & Zhang 2005), as long as $\varphi(t)$ is not above $\varphi(0)$. It
# looks at slopes only:
#
# $$(2c_1 - 1)\,\varphi'(0) \ge \varphi'(t) \ge c_2\,\varphi'(0)$$
#
# ## 7 · How much memory?
#
# We minimise two functions with $m$ = 1, 3, 10, 30 and 100 pairs: a quadratic in 100 variables, whose largest curvature is 1000
# times its smallest, and the logistic regression.
#
# > **Predict.** From $m = 1$ to $m = 100$, the number of evaluations falls **(a)** to about a hundredth; **(b)** to about a half;
# > **(c)** not at all beyond $m = 10$.

# %%
def evaluations(f, start, m, target, limit=2000):
    """Gradient evaluations until f(x) ≤ target, by fuse_lib.LBFGS."""
    x = start.clone().requires_grad_()
    opt, count = LBFGS([x], history_size=m, full_batch=True), 0

    def closure():
        nonlocal count
        count += 1
        opt.zero_grad()
        loss = f(x)
        loss.backward()
        return loss

    while count < limit:
        opt.step(closure)
        if opt.last_step.loss_after <= target:
            return count
        if opt.last_step.stop_reason in ("converged", "no_progress"):
            break
    return math.nan


# %%
curvature = torch.logspace(-math.log10(condition), 0, dim)
lowest = value_and_gradient(logistic, x)[0] - gain  # f* of the logistic regression, from section 6
problems = {"quadratic": (lambda x: 0.5 * (curvature * x * x).sum(), dim, 1.0, 1e-8), "logistic regression": (logistic, d, 0.1, lowest * (1 + 1e-5))}
rows = []
for name, (f, n, scale, target) in problems.items():
    for m in (1, 3, 10, 30, 100):
        for seed in range(starts):
            start = scale * torch.randn(n, generator=torch.Generator(device).manual_seed(seed))
            rows.append({"problem": name, "m": m, "seed": seed, "evals": evaluations(f, start, m, target)})
memory = pd.DataFrame(rows)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2))
for ax, (name, run) in zip(axes, memory.groupby("problem", sort=False)):
    by = run.groupby("m").evals
    ax.fill_between(by.min().index, by.min(), by.max(), color=plots.style("L-BFGS")["color"], alpha=0.2)
    plots.curve(ax, by.median().index, by.median(), "L-BFGS", markers=99)
    ax.set(xscale="log", xlabel="history size m", title=name, ylim=(0, 1.15 * run.evals.max()), xticks=(1, 3, 10, 30, 100), xticklabels=(1, 3, 10, 30, 100))
axes[0].set_ylabel("gradient evaluations to the target")
fig.tight_layout()
middle = {name: run.groupby("m").evals.median() for name, run in memory.groupby("problem", sort=False)}
plots.show(fig, alt="Evaluations to a fixed target against history size, two panels. Both fall slowly and steadily: " + ", ".join(
    f"the {name} from {by[1]:.0f} at m = 1 to {by[100]:.0f} at m = 100" for name, by in middle.items()) + ".")

# %% [markdown]
# **What you see** (medians; the bands go from the best to the worst start). Answer **(b)**: a hundred times the
# memory, half the evaluations. Even one pair helps a lot: on such a quadratic gradient descent would need thousands of
# evaluations. More pairs help a little more each time, and there is no sharp end. The usual choice is $m$ between 5 and 20; the
# default here is 10. Where evaluations are expensive and $d$ is moderate, try 50 or 100. A direction takes some $4md$
# multiplications, which is little beside a gradient over many images.

# %% tags=["nbval-check-output"]
median = memory.groupby(["problem", "m"], sort=False).evals.median().unstack("problem")
for name in problems:
    print(f"{name}: each larger m needs fewer evaluations: {bool((median[name].diff().dropna() < 0).all())}, "
          f"m = 100 less than 0.7 times those of m = 1: {median[name][100] < 0.7 * median[name][1]}")

# %% [markdown]
# ## 8 · Bad starts
#
# **A plateau.** $f(x) = 1 - \exp(-\tfrac12 x^\top\!Ax)$ is a well in a wide plain. Inside its rim it curves upwards, like a bowl.
# Outside, on the way in, it curves *downwards*, like the top of a hill. What do pairs look like that are collected there?

# %%
steepness = torch.tensor([1.0, 0.1])


def well(x):
    return 1 - torch.exp(-0.5 * (steepness * x * x).sum())


far = torch.tensor([4.0, 4.0])
for name in ("t = 1", "Wolfe"):
    run = minimise(well, far, lengths[name], budget=100)
    print(f"{name:>6}: {len(run) - 1:>3} steps, {run.dropped.iloc[-1]:>3} pairs dropped, f from {run.f.iloc[0]:.4f} to {run.f.min():.4f}")

# %% [markdown]
# With $t = 1$ *no pair is of use*: each has $s^\top y \le 0$. They are all dropped, and without pairs L-BFGS is gradient
# descent, on a plain where the gradient is tiny. The Wolfe search goes on until the slope has flattened, so its pairs are valid by
# construction (section 4). It gets across.
#
# FUSE-PV is in another position. The pairs that it hands to L-BFGS come from *Adam's* path, and no Wolfe search was made
# there. `handed_over` counts how many of them are of use:

# %%
rows = []
for switch in (5, 10, 20, 30, 40, 50, 60, 80):
    x = far.clone().requires_grad_()
    opt = FusePV([x], lr=0.1, switchover=f"step:{switch}", full_batch=True)

    def closure():
        opt.zero_grad()
        loss = well(x)
        loss.backward()
        return loss

    for _ in range(switch + 1):
        loss = opt.step(closure).item()
    kept, collected = opt.last_step.handed_over
    rows.append({"switch": switch, "f": loss, "kept": kept, "collected": collected})
handed = pd.DataFrame(rows)

# %%
r = torch.linspace(0, 5, 200)
profile_ = 1 - torch.exp(-0.5 * r**2)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
left.plot(r.cpu(), profile_.cpu(), color=colours[0])
left.fill_between(r.cpu(), 0, 1, where=(r > 1).cpu(), color=colours[3], alpha=0.15, label="curves downwards")
left.set(xlabel="distance from the bottom (steep direction)", ylabel="f", title="the well")
left.legend(loc="lower right")
right.bar([str(k) for k in handed.switch], handed.collected, color="0.88", label="collected")
right.bar([str(k) for k in handed.switch], handed.kept, color=plots.style("FUSE-PV")["color"], label="of use")
right.set(xlabel="switch after so many steps of Adam", ylabel="pairs", title="handed over by FUSE-PV", ylim=(0, 12.5))
right.legend(loc="upper left", ncol=2)
fig.tight_layout()
plots.show(fig, alt="Left: the profile of the well, flat beyond a distance of three; beyond 1 it curves downwards. Right: pairs collected and of use against the switch step: "
           "none of use for early switches, all nine for late ones.")

# %% [markdown]
# **What you see.** As long as Adam is on the plain, none of its pairs is of use. It is too early to switch, and the
# optimizer can tell. Once Adam is inside the rim, all pairs are of use.

# %% tags=["nbval-check-output"]
print(handed[["switch", "kept", "collected"]].to_string(index=False))

# %% [markdown]
# **A bad initialisation.** Now we train a small net (64-16-16-10, tanh) on 500 digits, with the same penalty: once from ordinary
# initial weights, once from the same weights times 0.01. If all weights are close to zero, so are all activations, and so are
# the gradients. The net starts close to a *saddle*, a flat place that is no minimum.
#
# > **Predict.** What happens in 150 evaluations from the tiny weights? **(a)** L-BFGS wins, as it knows the curvature. **(b)**
# > L-BFGS stops at once, and Adam gets away. **(c)** Both are stuck.

# %%
def small_net(seed, scale, dtype=torch.float32):
    torch.manual_seed(seed)
    sizes = (64, 16, 16, 10)
    layers = [torch.nn.Linear(a, b, dtype=dtype) for a, b in zip(sizes, sizes[1:])]
    with torch.no_grad():
        for layer in layers:
            layer.weight *= scale
            layer.bias *= scale
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])


makers = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.03),
    "L-BFGS": lambda p: LBFGS(p, full_batch=True),
    "FUSE-PV": lambda p: FusePV(p, lr=0.03, switchover="step:50", full_batch=True),
}


# %%
def train(net, make):
    """Objective over evaluations, and why it stopped."""
    opt, rows, evals, reason = make(net.parameters()), [], 0, None
    images = pixels[:500].to(net[0].weight.dtype)

    def closure():
        nonlocal evals
        evals += 1
        opt.zero_grad()
        penalty = sum(p.square().sum() for p in net.parameters())
        loss = F.cross_entropy(net(images), labels[:500]) + 1e-3 / 2 * penalty
        loss.backward()
        return loss

    while evals < budget and reason not in ("converged", "no_progress"):
        at = evals
        rows.append((at, opt.step(closure).item()))
        if hasattr(opt, "last_step"):
            reason = opt.last_step.stop_reason
    return pd.DataFrame([*rows, (evals, rows[-1][1])], columns=["evals", "loss"]), reason


# %%
results = {}
for scale in (1.0, 0.01):
    for name, make in makers.items():
        results[scale, name] = [train(small_net(seed, scale), make) for seed in range(starts)]

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
for ax, scale in zip(axes, (1.0, 0.01)):
    for name in makers:
        for seed, (run, _) in enumerate(results[scale, name]):
            look = {} if seed == 0 else {"label": None, "marker": "", "alpha": 0.35, "linewidth": 1.0}
            plots.curve(ax, run.evals, run.loss, name, markers=8 if len(run) > 20 else 1, **look)
    ax.set(xlabel="gradient evaluations", title="ordinary initial weights" if scale == 1 else "the same, times 0.01")
axes[0].set(ylabel="training objective", yscale="log")
axes[0].set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
axes[0].minorticks_off()
axes[1].annotate("L-BFGS ends here", (results[0.01, "L-BFGS"][0][0].evals.iloc[-1], 2.3), xytext=(12, -2), textcoords="offset points", va="center")
axes[0].legend()
fig.tight_layout()
plots.show(fig, alt="Training objective over evaluations, two panels. Ordinary weights: L-BFGS is lowest from early on, FUSE-PV catches up with it, Adam is a little above. "
           "Tiny weights: L-BFGS stays at 2.3 and ends after a few evaluations; Adam leaves the plateau and FUSE-PV ends lowest.")

# %% [markdown]
# **What you see.** From ordinary weights L-BFGS needs no help. From tiny ones, answer **(b)**: it ends within a dozen
# evaluations, at the value of a net that knows nothing, and reports `converged`. It has a reason: the gradient is
# tiny, and the loss no longer changes within its seven digits. But *Adam divides by the size of the gradient*, however tiny that
# is ([01](01_adam.ipynb), section 3), and walks away at full speed. FUSE-PV starts as Adam and ends as L-BFGS, and gets the
# best of both. (Adam's learning rate is not tuned here. The figure is about where L-BFGS gets away and where it does not.)
#
# So there is a case for a first-order phase. But two questions remain. Is this just because of float32? And are weights that
# are too *large* as bad for L-BFGS?

# %% tags=["nbval-ignore-output"]
double = [train(small_net(seed, 0.01, torch.float64), makers["L-BFGS"])[0] for seed in range(starts)]
print("L-BFGS in float64, weights times 0.01: ends at", [f"{run.loss.iloc[-1]:.2f}" for run in double], "after", [int(run.evals.iloc[-1]) for run in double])
large = [train(small_net(seed, 10.0), makers["L-BFGS"])[0].loss for seed in range(starts)]
print("L-BFGS, weights times 10: from", [f"{loss.iloc[0]:.1f}" for loss in large], "to", [f"{loss.iloc[-1]:.2f}" for loss in large])

# %% [markdown]
# In float64 L-BFGS can tell smaller changes apart. It holds out longer, and one of the five runs gets away. The other four
# end on the plateau all the same. Weights that are too large are no such trap: from a far higher loss L-BFGS comes down nearly as
# low as from ordinary ones, to about 0.1. It is not *any* bad start that stops L-BFGS, but a flat one.

# %% tags=["nbval-check-output"]
for scale in (1.0, 0.01):
    ends = {name: [run.loss.iloc[-1] for run, _ in results[scale, name]] for name in makers}
    stuck = sum(loss > 2.2 for loss in ends["L-BFGS"])
    lower = sum(a < b for a, b in zip(ends["FUSE-PV"], ends["Adam"]))
    print(f"weights times {scale:g}: L-BFGS stuck in {stuck} of {starts} runs; FUSE-PV ends below Adam in {lower} of {starts}")
print("reasons L-BFGS gives on tiny weights:", sorted({str(reason) for _, reason in results[0.01, "L-BFGS"]}))

# %% [markdown]
# **Quick check 02.7** `opt.last_step.handed_over` says (0, 9) at the switch. What does that tell you? **(a)** The
# history is too short. **(b)** Adam's learning rate was too small to collect pairs. **(c)** Adam was still where the
# function curves downwards: switch later.

# %%
check("02.7", ...)

# %% [markdown]
# ## Summary
#
# - A step $s$ and the change $y$ of the gradient along it hold the curvature in between, $y = \bar H s$, for free. A Hessian takes
#   $d^2$ numbers and $d$ products.
# - BFGS builds an inverse Hessian from pairs. L-BFGS keeps the last $m$ pairs and applies them to $g$, by two loops or by the
#   compact form. All three give the same vector.
# - The Wolfe conditions make sure that a step is worth its length and that $s^\top y > 0$. Fixed steps run away or crawl.
# - Near the rounding floor slopes can be trusted where values cannot: the approximate Wolfe test.
# - A hundred times the memory halved the evaluations; $m = 10$ is a fair default.
# - From a flat start L-BFGS can end before it has begun. Adam gets away from there: a reason for FUSE.
#
# ## References
#
# - D. C. Liu, J. Nocedal, *On the Limited Memory BFGS Method for Large Scale Optimization*, Math. Programming 45, 1989,
#   [doi 10.1007/BF01589116](https://doi.org/10.1007/BF01589116)
# - R. H. Byrd, J. Nocedal, R. B. Schnabel, *Representations of Quasi-Newton Matrices and their Use in Limited Memory Methods*, Math. Programming 63, 1994,
#   [doi 10.1007/BF01582063](https://doi.org/10.1007/BF01582063)
# - J. Nocedal, S. J. Wright, *Numerical Optimization*, 2nd ed., Springer 2006, [doi 10.1007/978-0-387-40065-5](https://doi.org/10.1007/978-0-387-40065-5)
# - W. W. Hager, H. Zhang, *A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search*, SIAM J. Optim. 16, 2005,
#   [doi 10.1137/030601880](https://doi.org/10.1137/030601880)
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
#
# **Read next**: `fuse_lib/optim/direction.py` (60 lines, the compact form) and `fuse_lib/optim/line_search.py` (the
# search, on plain numbers); you have now written both.
#
# **Next notebook**: [03 · FUSE-PV, step by step](03_fuse_pv.ipynb).

# %%
effective = {"dim": dim, "condition": condition, "starts": starts, "budget": budget, "profile": profile, "device": device, "out": out}
if out:
    row = effective | {f"evals {name} m={m}": value for name, column in median.items() for m, value in column.items()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
