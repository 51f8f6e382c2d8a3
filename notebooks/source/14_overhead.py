# %% [markdown]
# # 14 · Overhead: what a step costs in time, memory and waiting
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@repository_path@/blob/@branch@/notebooks/14_overhead.ipynb)
# [![The paper: arXiv 2503.04204](https://img.shields.io/badge/arXiv-2503.04204-b31b1b)](https://arxiv.org/abs/2503.04204)
# [![Text: CC BY 4.0, code: MIT](https://img.shields.io/badge/text-CC%20BY%204.0%20%C2%B7%20code%20MIT-blue)](@repository@)
#
# **You will learn**
#
# - to write the bill of a training step: the closure, the passes over vectors, the waiting,
# - why memory bandwidth, and not arithmetic, limits an optimizer,
# - to count host synchronisations, kernels and memory on any machine, without a clock,
# - from which batch size on the optimizer hardly costs anything beside the closure,
# - whether FUSE-PV is efficient: by the step, by the evaluation, and to a target.
#
# **You need first**: [00 · Start here](00_start_here.ipynb); [02 · L-BFGS](02_lbfgs.ipynb) helps.
#
# **Minutes**: 25 to read, 1 to run. With `profile="full"`: 3, on a busy core.

# %% tags=["install"]
# On Colab: install the course's library, and leave its torch alone. Elsewhere this does nothing.
import importlib.util, os, subprocess, sys

if "google.colab" in sys.modules and importlib.util.find_spec("fuse_lib") is None:
    source = os.environ.get("FUSE_LIB_SOURCE", "git+@repository@@@branch@")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source], check=True)

# %% tags=["parameters"]
hidden: int = 256  # units of the live model's first hidden layer; the second has half as many
largest: int = 2048  # rows of its largest batch; the others are 32, 256, …
history_size: int = 10  # m, pairs that L-BFGS keeps
repeats: int = 7  # timed steps; the median is shown
threads: int = 1  # of the processor; 0: as many as torch takes
profile: str = "quick"  # "full": a live model of 2.4 million parameters
device: str = "auto"  # "cpu", "cuda", … ; "auto" takes a GPU where there is one
out: str = ""  # a CSV file for the one-row summary of this run

# %%
if not (hidden >= 2 and largest >= 32 and history_size >= 1 and repeats >= 1 and threads >= 0 and profile in ("quick", "full")):
    raise ValueError(f"hidden={hidden}, largest={largest}, history_size={history_size}, repeats={repeats}, threads={threads}, "
                     f"profile={profile!r}; allowed are hidden ≥ 2, largest ≥ 32, history_size ≥ 1, repeats ≥ 1, threads ≥ 0, "
                     "and 'quick' or 'full'")
if profile == "full":
    hidden = 1536

# %%
import statistics
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from fuse_lib import LBFGS, FusePV, data, lab, models, plots
from fuse_lib.exercises import check, hint, solution

plots.use_style()
if threads:
    torch.set_num_threads(threads)
if device == "auto":
    device = "cuda" if torch.cuda.is_available() else "cpu"


def wait():
    if device.startswith("cuda"):
        torch.cuda.synchronize()


# %% [markdown]
# ## 1 · The bill
#
# A step is `opt.step(closure)`. It calls the closure (forward and backward) once or more, and around it the optimizer does its own work. Here is the
# whole bill:
#
# | item | costs | for a net of $d$ weights, batch $b$, history $m$ |
# |---|---|---|
# | one evaluation | arithmetic | about $6\,b\,d$ operations: 2 forward, 4 backward, for each weight and row |
# | Adam | passes over vectors | read $x, g, m, v$, write $x, m, v$: at least $7 d$ numbers |
# | an L-BFGS iteration | passes over vectors | read the history of $2m$ vectors twice: at least $2 \cdot 2 m\, d$ numbers |
# | each operation | a start | some microseconds, however short the vectors |
# | each value that the host reads | waiting | on a GPU: until all that was queued is done |
#
# (The *host* is the processor that runs Python. On a GPU the vectors live elsewhere, and the host has to ask for a value.) We see two things without
# any clock. The optimizer's part does not depend on $b$, and the closure's grows with it. And with $m = 10$, L-BFGS moves $40/7 \approx 6$ times as
# many numbers as Adam.
#
# **Quick check 14.1** You double the batch *and* the number of weights. The optimizer's share of the step (large vectors) becomes **(a)** the same;
# **(b)** about half; **(c)** twice as large.

# %%
check("14.1", ...)

# %% [markdown]
# ## 2 · Your machine: bandwidth and arithmetic
#
# Two rates say most about a machine: how many bytes it moves in a second, its *bandwidth*, and how many operations it does. We measure the first by
# copying a vector that does not fit into the cache, and the second by multiplying two matrices.

# %% tags=["nbval-ignore-output"]
def seconds(work, times=5):
    """The least time of some work: whoever else uses the machine can only add to it."""
    told = []
    for _ in range(times + 1):
        wait()
        start = time.perf_counter()
        work()
        wait()
        told.append(time.perf_counter() - start)
    return min(told[1:])


big, other = torch.zeros(16_000_000, device=device), torch.ones(16_000_000, device=device)
square = torch.randn(1024, 1024, device=device)
bandwidth = 8 * len(big) / seconds(lambda: big.copy_(other))  # each number is 4 bytes, read and written
speed = 2 * 1024**3 / seconds(lambda: square @ square)
print(f"{lab.provenance(device)['device']}, {torch.get_num_threads()} thread(s): {bandwidth / 1e9:.0f} GB/s, {speed / 1e9:.0f} GFLOP/s")
print(f"balance: {speed / bandwidth:.1f} operations for each byte moved")

# %% [markdown]
# The last number is the machine's **balance**. The *intensity* of some work is its number of operations for each byte moved. Work of a lower
# intensity than the balance is limited by memory, and the arithmetic units idle. Work of a higher one is limited by arithmetic. The picture of this
# is called the *roofline*: a rising roof (bandwidth times intensity) and a flat one (arithmetic).
#
# One example walks along the whole roof: a matrix times $b$ columns. With one column each weight is fetched for a single multiplication
# and addition. With $b$ columns it is used $b$ times. The first is what L-BFGS does with its history, the others are what a net does
# with a batch.
#
# > **Predict.** How much longer than a product with one column does one with sixteen take? **(a)** sixteen times; **(b)** much less than
# > that; **(c)** the same, to a hair?

# %%
weights = torch.randn(2048, 4096, device=device)
columns = [1, 4, 16, 64, 256]
took = [seconds(lambda b=b: weights @ torch.ones(4096, b, device=device)) for b in columns]
done = [2 * weights.numel() * b / t / 1e9 for b, t in zip(columns, took, strict=True)]

fig, ax = plt.subplots()
intensity = np.geomspace(0.2, 300, 60)
ax.plot(intensity, np.minimum(intensity * bandwidth, speed) / 1e9, color="0.35", label="roofline of the two rates")
ax.plot([b / 2 for b in columns], done, "o", color=plots.style("Adam")["color"], label="matrix times b columns, measured")
for b, x, y in zip(columns, [b / 2 for b in columns], done, strict=True):
    ax.annotate(f"b = {b}", (x, y), xytext=(0, -16), textcoords="offset points", ha="center", size="small")
ax.axvspan(0.25, 0.5, color=plots.style("FUSE-PV")["color"], alpha=0.2, label="Adam, and L-BFGS's history")
ax.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
ax.legend(loc="lower right", fontsize="small")
plots.show(fig, alt="Roofline: attainable speed over operations a byte, rising and then flat. Measured products of a matrix with b columns "
           "climb along it from b = 1 to the flat part; a band at the far left marks Adam and L-BFGS.")

# %% [markdown]
# **What you see.** A single column is at the far left: it uses a small part of the machine's arithmetic. Sixteen columns take a few times as long as
# one, not sixteen times: answer **b**, on most machines. With more columns the points reach the flat roof. Two points may look odd. Four columns lie
# far below the roof, as the library has no good routine for them. And a single column may lie above the rising part: a copy also fetches what it is
# about to overwrite, which we did not count.
#
# Everything an optimizer does lies in the band on the left. It is limited by **bandwidth**, whatever the arithmetic units can do. So we can compute
# its *floor*, the least time it can take: bytes divided by bandwidth.
#
# ## 3 · Counting without a clock
#
# Times depend on the machine and on who else uses it. Counts do not. `lab.Counting` looks on while an optimizer works and counts three things:
#
# - **reads**: values of device tensors that the host waited for, through `item()`, `float()`, an `if`, `tolist()`;
# - **kernels**: operations on device tensors;
# - **peak**: bytes of the tensors that were alive at the same time.
#
# It follows which tensors were computed from parameters and gradients, so on a CPU it counts what a GPU would do. The closure is left out. A
# quadratic of 10,000 variables will do, since reads and kernels do not depend on the size:

# %%
class Quadratic:
    """½ Σ a_i x_i², its gradient written in place."""

    def __init__(self, d=10_000):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.nn.Parameter(torch.randn(d, generator=generator))
        self.x.grad = torch.zeros(d)
        self.a = torch.logspace(-2, 2, d)[torch.randperm(d, generator=generator)]
        self.calls = 0

    @torch.no_grad()
    def __call__(self):
        self.calls += 1
        torch.mul(self.a, self.x, out=self.x.grad)
        return 0.5 * torch.dot(self.x.grad, self.x)


# %%
def torchs(p, m):
    return torch.optim.LBFGS(p, max_iter=1, max_eval=50, history_size=m, line_search_fn="strong_wolfe",
                             tolerance_grad=0, tolerance_change=0)


CONTESTANTS = {
    "Adam, fused": lambda p, m: torch.optim.Adam(p, fused=True),
    "FUSE-PV, first phase": lambda p, m: FusePV(p, switchover="step:1000000", first_order_args={"fused": True}),
    "the same, gradnorm rule": lambda p, m: FusePV(p, switchover="gradnorm:1e-12:50", first_order_args={"fused": True}),
    "L-BFGS phase, full batch": lambda p, m: LBFGS(p, history_size=m, full_batch=True),
    "L-BFGS phase, minibatch": lambda p, m: LBFGS(p, history_size=m),
    "torch's L-BFGS": torchs,
}


# %%
def counts(make, m, steps=5):
    """By step, once the history is full; and the memory's peak in vectors of d numbers."""
    f = Quadratic()
    with lab.Counting([f.x]) as count:
        opt = make([f.x], m)
        for _ in range(m + 3):
            opt.step(count.left_out(f))
        before = f.calls, count.reads, count.kernels
        for _ in range(steps):
            opt.step(count.left_out(f))
    evals, reads, kernels = ((b - a) / steps for a, b in zip(before, (f.calls, count.reads, count.kernels), strict=True))
    return {"m": m, "evaluations": evals, "reads": reads, "kernels": kernels, "peak vectors": count.peak / (4 * f.x.numel())}


# %% [markdown]
# > **Predict.** How many times does torch's L-BFGS make the host wait in one iteration with $m = 10$? **(a)** once or twice; **(b)** about
# > ten times; **(c)** about thirty times. And with $m = 100$?

# %%
rows = [{"optimizer": name} | counts(make, m) for name, make in CONTESTANTS.items() for m in (10, 100) if m == 10 or "L-BFGS" in name]
counted = pd.DataFrame(rows).set_index(["optimizer", "m"])
counted.round(1)

# %% tags=["nbval-check-output"]
mine, theirs = counted.loc["L-BFGS phase, full batch"], counted.loc["torch's L-BFGS"]
print(f"first phase: reads {counted.loc[('FUSE-PV, first phase', 10), 'reads']:.0f}, a rule that reads values: "
      f"{counted.loc[('the same, gradnorm rule', 10), 'reads']:.0f}")
print(f"second phase: reads {mine.reads[10]:.0f} at m = 10, {mine.reads[100]:.0f} at m = 100")
print(f"torch's L-BFGS: reads {theirs.reads[10]:.0f} at m = 10, {theirs.reads[100]:.0f} at m = 100")

# %% [markdown]
# Answer **c**: 29 times, and with $m = 100$ 207 times. torch's two loops take a product, *look at it*, and go on: two reads for each pair, and some
# for the line search. Ours takes all products with the history at once and reads them packed into one small vector. The rest happens on the host,
# with $m \times m$ matrices. That is one read for each trial of the search and one more, whatever $m$ is. The first phase reads nothing, unless its
# rule does.
#
# (One correction for a GPU: where the numbers are at hand, on a CPU, our second phase takes two short cuts. On a GPU a full-batch iteration has 24
# kernels in the place of the table's 19. The reads are the same.)
#
# ### Why waiting matters
#
# A GPU works through a queue. The host only puts operations (*kernels*) into it, some microseconds each, and runs ahead. When the host *reads* a
# value, it has to wait until the queue is empty. Then the GPU has to wait until the host puts in something new. Here is a simple model of one
# iteration. It has $n$ kernels that take 5 µs each to put in, $r$ reads that take 10 µs each to come back, and a bandwidth $B$:
#
# $$t = \max\Big(n \cdot 5\,\mathrm{µs},\ \frac{\mathrm{bytes}}{B}\Big) + r \cdot 10\,\mathrm{µs}$$
#
# **Exercise 14.2** (code) Write it as a function of the kernels, the reads, the bytes, and the bandwidth in bytes a second. It returns seconds.

# %%
def gpu_step(kernels, reads, nbytes, bandwidth):
    return ...


check("14.2", ...)  # check("14.2", gpu_step)

# %% [markdown]
# What the model says of a GPU with 3,000 GB/s, from the counts above ($m = 10$):

# %%
def model_time(kernels, reads, nbytes, rate=3e12):
    return max(5e-6 * kernels, nbytes / rate) + 10e-6 * reads


sizes = np.geomspace(1e4, 1e9, 40)
fig, ax = plt.subplots()
for name, style, passes in (("L-BFGS phase, full batch", "FUSE-PV", 4), ("torch's L-BFGS", "L-BFGS", 10)):
    of = counted.loc[name, 10]
    plots.curve(ax, sizes, [1e3 * model_time(of.kernels, of.reads, 4 * passes * 10 * d) for d in sizes], style, label=name)
ax.plot(sizes, 1e3 * 4 * 4 * 10 * sizes / 3e12, color="0.35", linestyle=":", label="floor: the history, read twice")
ax.set(xscale="log", yscale="log", xlabel="parameters d", ylabel="ms an iteration, by the model", ylim=(0.01, 300))
ax.legend(fontsize="small")
plots.show(fig, alt="Modelled time of an L-BFGS iteration on a GPU over the number of parameters: flat for both up to some millions, "
           "torch's several times higher; then ours rises on the bandwidth floor, and torch's in parallel above it.")

# %% [markdown]
# **What you see.** Below some millions of parameters the lines are flat. Nothing depends on the size there; all is starting and waiting, and torch's
# many small steps cost most. Only larger models come near the floor. **This is a model.** Its microseconds are assumed, and so are torch's ten
# numbers a pair, for two loops on vectors that do not stay in a cache. Measured rows of a GPU will appear in section 5 when somebody records them.
#
# ## 4 · Memory
#
# Look at the column *peak vectors* in the table of section 3. It counts all tensors that were alive at the same time, beyond parameters and
# gradients, in units of one float32 vector of $d$ numbers. Adam keeps two, L-BFGS $2m$ and some. (At $d$ = 10,000 the small matrices on the host are
# part of it, above all at $m = 100$.) The recorded table below, in the same unit, looked from outside, at the process's *resident memory* as the
# system sees it:

# %%
memory = pd.read_csv(data.bundled("results/bench_memory.csv"))
memory.pivot_table(index=["d", "m"], columns="contestant", values="peak", aggfunc="last", sort=False)

# %% [markdown]
# Compare them for $m = 10$. Ours is nearly the same from inside and outside, 28 and 27. torch's L-BFGS holds about 30 vectors alive, and yet the
# process grew by 44. It frees and takes a new vector at almost every line, and an allocator keeps pieces of what was freed. So "memory" has two
# answers, and both are true; the outer one is what your machine runs out of.
#
# Ours keeps one fixed block for the history. A history in bfloat16 halves that block and costs some time: an iteration takes 1.2 to 1.3 times as long
# (`bench_bfloat16.csv`).
#
# **Exercise 14.3** A model has 10 million parameters. How many **megabytes** (10⁶ bytes) does a history of $m = 20$ pairs in bfloat16 take?

# %%
check("14.3", ...)

# %% [markdown]
# ## 5 · Whole training steps
#
# Now the clock. We train a net with two hidden layers on random rows, the same in every step. A stopwatch in the closure takes the closure's own
# time; what is left of the step is the optimizer's. Five contestants take turns, so that a busy moment of the machine hits all of them. The table
# has the medians of their last steps.

# %%
class Timed:
    """A net, its closure with a stopwatch in it, and an optimizer."""

    def __init__(self, make, batch):
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(batch, 784, generator=generator) * torch.logspace(-2, 0, 784)
        self.x, self.y = pixels.view(batch, 1, 28, 28).to(device), torch.randint(10, (batch,), generator=generator).to(device)
        self.net = models.build("mlp", seed=0, hidden=(hidden, hidden // 2), activation=torch.nn.Tanh).to(device)
        self.opt = make(self.net.parameters())

    def closure(self):
        wait()
        start = time.perf_counter()
        self.opt.zero_grad()
        loss = F.cross_entropy(self.net(self.x), self.y, label_smoothing=0.1)
        loss.backward()
        wait()
        self.spent, self.evals = self.spent + time.perf_counter() - start, self.evals + 1
        return loss

    def step(self):
        self.spent, self.evals, start = 0.0, 0, time.perf_counter()
        self.opt.step(self.closure)
        wait()
        return time.perf_counter() - start, self.spent, self.evals


# %%
second = {"switchover": f"step:{history_size + 1}", "history_size": history_size}  # Adam's last steps are the first pairs
STEPS = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "FUSE-PV, first phase": lambda p: FusePV(p, 1e-3, switchover="step:1000000"),
    "FUSE-PV, second phase": lambda p: FusePV(p, 1e-3, full_batch=True, **second),
    "FUSE-PV, second phase, minibatch": lambda p: FusePV(p, 1e-3, **second),
    "torch L-BFGS": lambda p: torchs(p, history_size),
}


def time_steps(batch):
    """In turns, step by step: medians of the last ones."""
    runs, told = {name: Timed(make, batch) for name, make in STEPS.items()}, {name: [] for name in STEPS}
    for _ in range(history_size + 4 + repeats):
        for name, run in runs.items():
            told[name].append(run.step())
    return [{"batch": batch, "contestant": name, "evals": statistics.median(s[2] for s in steps[-repeats:]),
             "step ms": 1e3 * statistics.median(s[0] for s in steps[-repeats:]),
             "optimizer ms": 1e3 * statistics.median(s[0] - s[1] for s in steps[-repeats:])} for name, steps in told.items()]


# %% [markdown]
# > **Predict.** In the second phase with $b = 32$, and then with $b$ = 2048: what share of a step is the optimizer's? **(a)** large, then small;
# > **(b)** small both times; **(c)** the same both times.

# %% tags=["nbval-ignore-output"]
batches = [b for b in (32, 256, 2048, 16384) if b <= largest]
live = pd.DataFrame([row for b in batches for row in time_steps(b)])
live["share %"] = 100 * live["optimizer ms"] / live["step ms"]
live.pivot(index="contestant", columns="batch", values=["step ms", "share %"]).reindex(STEPS).round(1)

# %% tags=["nbval-check-output"]
share = live.pivot(index="contestant", columns="batch", values="share %")
print(f"the optimizer's share falls from the smallest to the largest batch, for all five: {(share[batches[0]] > share[batches[-1]]).all()}")
print("evaluations a step, full batch and minibatch:", *live[live.contestant.str.contains("second")].groupby("contestant").evals.median().astype(int))

# %% [markdown]
# Answer **a**. The minibatch row shows another cost, which is no overhead. Without the promise of a full batch, each step evaluates where it starts,
# and once more along the line. These are two evaluations instead of one, and at large batches they are the price of a step.
#
# ### The recorded rows
#
# `OMP_NUM_THREADS=1 python benchmarks/overhead_14.py` measures three model sizes and five batch sizes on a machine that does
# nothing else, and adds them to the table. Rows of other machines, GPUs above all, are welcome. These are there:

# %%
table = pd.read_csv(data.bundled("results/bench_overhead.csv"))
machine = ["device", "processor", "threads"]
last = table.groupby(machine)["commit"].transform("last")
table = table[table["commit"] == last]
table["share"] = table["optimizer ms"] / table["step ms"]
machines = [(f"{processor if kind == 'cpu' else kind}, {n} thread(s)", rows) for (kind, processor, n), rows in table.groupby(machine)]
for label, rows in machines:
    print(f"{label}: {len(rows)} rows, copy {rows['copy GB/s'].median():.0f} GB/s, commit {rows['commit'].iloc[0]}")

# %%
LOOKS = {"Adam": "Adam", "FUSE-PV, second phase": "FUSE-PV", "torch L-BFGS": "L-BFGS"}
shown = machines[0][1]
fig, axes = plt.subplots(1, shown.d.nunique(), figsize=(10, 4.2), sharey=True)
for ax, (d, rows) in zip(axes, shown.groupby("d"), strict=True):
    for number, (_, of_machine) in enumerate(machines):
        for name, style in LOOKS.items():
            some = of_machine[(of_machine.contestant == name) & (of_machine.d == d)]
            pale = {"alpha": 0.35, "fillstyle": "none"} if number else {"label": name}
            ax.plot(some.batch, 100 * some.share, **pale, **plots.style(style))
    evaluation = rows[rows.contestant == "FUSE-PV, second phase"].set_index("batch")["evaluation ms"]
    floor = rows["floor ms"].iloc[0]
    ax.plot(evaluation.index, 100 * floor / (floor + evaluation), color="0.35", linestyle=":", label="bandwidth floor, m = 10")
    ax.axhline(10, color="0.5", linewidth=1)
    ax.set(xscale="log", yscale="log", title=f"d = {d:,}", xlabel="batch size", xticks=[32, 512, 8192], xticklabels=["32", "512", "8192"])
axes[0].set(ylabel="optimizer's share of a step, %")
axes[0].set_yticks([1, 10, 100], ["1", "10", "100"])
fig.tight_layout(rect=(0, 0, 1, 0.9))
fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=4, fontsize="small")
plots.show(fig, alt="The optimizer's share of a step over the batch size, a panel for each model size, log scales: all curves fall; FUSE-PV's second "
           "phase lies above torch's L-BFGS, Adam and the bandwidth floor, and comes down to the 10 percent line between 2,048 and 8,192 rows.")

# %% [markdown]
# **What you see.** (The first machine of the list is in full colour, with its floor dotted; any others are pale.) Each share falls as the batch
# grows. The second phase's is above Adam's, and several times as large at the largest batches of the larger models. torch's L-BFGS has a smaller
# share only because its steps hold two evaluations. For the small model the second phase lies far above the floor: the fixed cost of starting
# operations counts there, not the bandwidth. For the larger models it runs above the floor, at about twice its time. The grey line marks 10 %.
#
# The next figure has the floor over a wider range of sizes, from recorded iterations alone, without any closure:

# %%
growth = pd.read_csv(data.bundled("results/bench_growth.csv"))
growth = growth[growth["commit"] == growth["commit"].iloc[-1]]
fig, ax = plt.subplots()
for marker, (m, rows) in zip("os^", growth.groupby("m"), strict=True):
    line, = ax.plot(rows.d, rows.ms, marker=marker, label=f"m = {m}")
    ax.plot(rows.d, rows["floor ms"], color=line.get_color(), linestyle=":")
ax.set(xscale="log", yscale="log", xlabel="parameters d", ylabel="ms of an iteration, closure taken off")
ax.legend(title="dotted: floor")
plots.show(fig, alt="Time of an L-BFGS iteration over d for three history sizes with dotted bandwidth floors: flat up to about ten thousand parameters for "
           "the two smaller histories, then rising along the floors, close to them for m = 100 and at more than twice the floor for m = 5.")

# %% [markdown]
# **What you see.** On the left there is a constant cost of 0.3 to 0.4 milliseconds. On the right the lines run along the dotted floors. The longer
# the history, the closer they are: at a million parameters an iteration takes 2.4 times its floor with $m = 5$, 1.7 times with $m = 20$ and 1.1 times
# with $m = 100$. In between the floor itself bends, where the history no longer fits into the cache.
#
# ## 6 · From which batch on does it not matter?
#
# For large vectors, with one evaluation a step, the optimizer's time over the closure's is
#
# $$\frac{16\,m\,d / B}{6\,b\,d / C} = \frac{16\, m}{6\, b}\cdot\frac{C}{B}$$
#
# with $B$ the bandwidth in bytes and $C$ the operations a second. **The size of the model cancels.** What is left is $m$, $b$, and the
# machine's balance $C/B$ of section 2. (A convolution uses each weight at many places: put places times rows for $b$, and the share is smaller.)
#
# **Exercise 14.4** A machine does 60 GFLOP/s and moves 20 GB/s; $m = 10$. From which batch size on is the optimizer's time at most a tenth of the closure's?

# %%
check("14.4", ...)

# %% [markdown]
# **Quick check 14.5** A GPU has a balance $C/B$ twenty times as large as your processor. There the batch from which on the overhead can be neglected is
# **(a)** smaller, a GPU is faster; **(b)** the same; **(c)** larger.

# %%
check("14.5", ...)

# %% [markdown]
# Is the formula any good? Look at the recorded table. First, the smallest of the measured batches at which the optimizer takes at most a tenth of the
# closure's time:

# %%
table["over"] = table["optimizer ms"] / (table["step ms"] - table["optimizer ms"])
small = table[table.over <= 0.1].groupby([*machine, "contestant", "d"]).batch.min().unstack("d")
small.droplevel(["processor"]).map(lambda b: "none" if pd.isna(b) else f"{b:.0f}")

# %% [markdown]
# On one processor core Adam needs 512 to 2,048 rows, the second phase 8,192. "none" means that no measured batch was large enough. A step on
# minibatches holds two evaluations, so that the same overhead is a smaller share of it.
#
# And here, at 2,048 rows, is the second phase's time over the closure's, as measured and as the floor has it:

# %%
at = table[(table.contestant == "FUSE-PV, second phase") & (table.batch == 2048)].set_index(["device", "threads", "d"])
pd.DataFrame({"measured": at["over"], "by the floor": at["floor ms"] / at["evaluation ms"]}).round(2)

# %% [markdown]
# For the two larger models, of sizes that differ by a factor of 4.5, the measured ratio is nearly the same, as the formula says. But it is about
# twice the floor's: **the formula gives the least batch, and you should take about twice as many rows**. For the small model, whose iteration
# is mostly fixed cost, the formula does not hold.
#
# ## 7 · Is it efficient?
#
# The summary asks to measure time and memory "to validate the claimed efficiency gains". There are three questions in it.
#
# **By the step.** The first phase is Adam, and costs what Adam costs. A second-phase step costs more:

# %%
step = table.pivot_table(index=[*machine, "d", "batch"], columns="contestant", values="step ms")
ratio = step.div(step["Adam"], axis=0)[["FUSE-PV, first phase", "FUSE-PV, second phase", "FUSE-PV, second phase, minibatch", "torch L-BFGS"]]
first = pd.read_csv(data.bundled("results/bench_first_phase.csv"))
print(f"first phase / the same torch optimizer, large models, step without closure: {first['fuse / torch'].min():.2f} to {first['fuse / torch'].max():.2f}")
print("a step in Adam's steps, by batch (median over model sizes):")
print(ratio.groupby("batch").median().round(1).to_string())

# %% [markdown]
# **By the evaluation.** Divide by the evaluations of the step:

# %%
evals = table.pivot_table(index=[*machine, "d", "batch"], columns="contestant", values="evals")
each = (step / evals).div(step["Adam"], axis=0)[ratio.columns]
print("time an evaluation, in Adam's steps (median over model sizes):")
print(each.groupby("batch").median().round(1).to_string())

# %% [markdown]
# At the largest batches an evaluation costs about the same, whoever asks for it. Then *counting evaluations*, as all other notebooks do, is a fair
# measure of time. At small batches it flatters L-BFGS, by the factors in the first rows.
#
# **To a target.** This is what counts in the end. `bench_rivals.csv` has the seconds until a full-batch run is near the minimum (to a gap of 1e-4, or
# 1e-2 for the net). There are five starts each, and Adam's learning rate is tuned. The table shows medians; 100 is the history size, and *adaptive*
# means `scaling="adaptive"`, with which the library learns the scale γ of $H_0=\gamma I$ from its line searches:

# %%
rivals = pd.read_csv(data.bundled("results/bench_rivals.csv"))
rivals = rivals[rivals.problem != "fashion, ReLU net"]  # where hardly any run comes within 1e-2
WHO = ["Adam", "torch L-BFGS, 100", "fuse_lib L-BFGS, adaptive, 100", "fuse_lib FUSE-PV, adaptive, 100"]
rivals["wanted_as"] = rivals.wanted.map("{:.0e}".format)
for what in ("evals", "seconds"):
    rivals[what] = [row[f"{what} {row['wanted_as']}"] for _, row in rivals.iterrows()]
ends = rivals.fillna({"evals": np.inf, "seconds": np.inf}).groupby(["problem", "contestant"])[["evals", "seconds"]].median()
reached = ends.loc[(slice(None), WHO), :].unstack("problem").reindex(WHO)
reached.round(2)

# %% [markdown]
# (`inf`: most runs did not arrive within the allowed evaluations.)
#
# **Quick check 14.6** On the digits, logistic regression: whose evaluations are the cheapest, in seconds each, and who arrives first? **(a)** Adam's are
# cheapest, and it is first; **(b)** Adam's are cheapest, and it is last; **(c)** L-BFGS's are cheapest, hence it is first.

# %%
check("14.6", ...)

# %% tags=["nbval-check-output"]
digits = ends.loc["digits, logistic"]
per = 1e3 * digits.seconds / digits.evals
fuse, alone = "fuse_lib FUSE-PV, adaptive, 100", "fuse_lib L-BFGS, adaptive, 100"
print(f"Adam's evaluations are cheaper than FUSE-PV's: {per['Adam'] < per[fuse]}")
print(f"FUSE-PV is there before Adam, by more than five times: {5 * digits.seconds[fuse] < digits.seconds['Adam']}")
print(f"FUSE-PV is before L-BFGS alone, on how many of three problems: {sum(ends.seconds[p, fuse] < ends.seconds[p, alone] for p in ends.index.levels[0])}")

# %% [markdown]
# Five starts are few, and medians hide how they differ. So compare start by start, and take the (geometric) mean of the ratios with its 95 % interval:

# %%
def ratio_of(what, problem, above, below):
    """Geometric mean over the starts of one contestant's cost divided by another's, with its interval."""
    some = rivals[rivals.problem == problem].pivot(index="start", columns="contestant", values=what)
    found = lab.geometric_mean(some[above] / some[below])
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


for problem in rivals.problem.unique():
    print(f"{problem}: FUSE-PV over L-BFGS alone: evaluations {ratio_of('evals', problem, fuse, alone)}, seconds {ratio_of('seconds', problem, fuse, alone)}")
print(f"digits, logistic: Adam over FUSE-PV: seconds {ratio_of('seconds', 'digits, logistic', 'Adam', fuse)}")

# %% [markdown]
# > **Verdict on "efficiency gains": depends on what is counted.**
# >
# > - *By the step*: **no gain.** The first phase costs what Adam costs (0.99 to 1.03 times at large sizes). A second-phase step costs more: about
# >   three times as much on 32 rows, a tenth more on 2,048 (full batch; on minibatches at least twice as much).
# > - *By the evaluation*: **no gain**; on large batches hardly a loss either.
# > - *To a target on a smooth full-batch problem*: **a large gain over tuned Adam**, which takes 11.4 [8.2, 15.9] times as many seconds on the one
# >   problem where it arrives at all. But it is L-BFGS's gain: L-BFGS alone has the lower median on all three problems. In evaluations, FUSE-PV takes
# >   1.38 [1.32, 1.43] times as many on the digits. On Fashion-MNIST, 1.11 [1.00, 1.24], and on the net, 1.22 [0.90, 1.65], it is hardly or not shown.
# > - *Memory*: **a loss**: $2m$ vectors and a few where Adam keeps two.
#
# What this does not say: nothing was measured on a GPU so far. And on minibatches the target may not be reached at all, whatever the step costs
# ([05 · Switchover criteria](05_switchover_criteria.ipynb)).
#
# ## Summary
#
# - **A step costs** evaluations × closure + passes over vectors + starting + waiting. The optimizer's part does not grow with the batch.
# - **Bandwidth sets an optimizer's floor**: it lives at the left end of the roofline. Adam moves at least $7d$ numbers, L-BFGS $4 m d$.
# - **The overhead's share** depends on $m/b$ and on the machine's balance, not on the model's size, once vectors are long. On small models it is
#   fixed cost.
# - **Host synchronisations** (reads) an iteration: none in the first phase, two in the second, 29 in torch's L-BFGS at $m = 10$, and two more for
#   each further pair.
# - **Memory** has an inside and an outside. A history of $m$ pairs is $2m$ vectors; bfloat16 halves them.
# - **FUSE-PV's steps are never cheaper than Adam's.** If it is worth it, then by needing fewer of them.
#
# ## References
#
# - Z. Jiang, et al., *FUSE: First-Order and Second-Order Unified SynthEsis in Stochastic Optimization*, IEEE CAI 2025,
#   [arXiv 2503.04204](https://arxiv.org/abs/2503.04204)
# - S. Williams, A. Waterman, D. Patterson, *Roofline: an Insightful Visual Performance Model*, Comm. ACM 52, 2009,
#   [doi 10.1145/1498765.1498785](https://doi.org/10.1145/1498765.1498785)
# - R. H. Byrd, J. Nocedal, R. B. Schnabel, *Representations of Quasi-Newton Matrices and their Use in Limited Memory Methods*, Math.
#   Programming 63, 1994, [doi 10.1007/BF01582063](https://doi.org/10.1007/BF01582063)
#
# **The course**: the [README](@repository@#the-course) has the map; its section *How fast is it?* has more tables. After it:
# [15 · Curvature: what L-BFGS gains from, and where](15_curvature_on_nonconvex.ipynb).

# %%
effective = {"hidden": hidden, "largest": largest, "history_size": history_size, "repeats": repeats, "threads": threads,
             "profile": profile, "device": device, "out": out}
if out:
    row = effective | {"bandwidth": bandwidth, "speed": speed}
    row |= {f"{r.contestant}, {r.batch}: ms": r["step ms"] for _, r in live.iterrows()}
    pd.DataFrame([row]).to_csv(out, index=False)
print("parameters:", effective)
