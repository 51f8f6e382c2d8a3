"""How a run is made and kept: one run as a function, and grids of many.

    from fuse_lib import lab
    settings = lab.Settings(dataset="digits", model="linear", optimizer="fuse_pv", lr=1e-2, switchover="budget:0.5")
    rows, about = lab.run(settings)                       # rows: a list of dicts, one for each evaluation point
    table = lab.grid([settings, …], "out")                # on all processors; a DataFrame; kept in out/

or from the command line, with the settings in a file,

    python -m fuse_lib grid plan.toml -o out --workers 2
    python -m fuse_lib grid plan.toml -o out --scheduler tcp://host:8786

where plan.toml may be

    dataset = ["digits", "fashion-mnist-sample"]  # a list: each of these; both are bundled
    model = "mlp"
    seed = [0, 1, 2, 3, 4]
    passes = 20                        # the budget: gradient evaluations on so many times the train rows

    [[contestants]]
    optimizer = "adam_cosine"
    lr = [1e-3, 3e-3, 1e-2]

    [[contestants]]
    optimizer = "fuse_pv"
    lr = 1e-3
    switchover = ["budget:0.5", "gradnorm:1e-3:50"]
    second_batch = "full"
    handover = "metric"

The rules of the experiments:

- The cost is counted in samples of gradient evaluations: a closure call on b rows costs b, whatever the optimizer
  wants it for. The budget is the same for all, in passes over the train set, and nobody exceeds it. (Only
  `budget_in="epochs"`, which is there to repeat others' experiments, counts minibatches; samples are recorded all the
  same.)
- The same settings and seed give the same rows but for `seconds`, in this process or on any worker, so long as the
  number of threads and the kind of processor are the same.
- What is measured at an evaluation point costs nothing, neither samples nor seconds.
- A run that diverges is a result and ends with a row that says so.
- Settings are chosen on a `holdout` of the train rows, not on the test part.
- On a CPU, call `lab.keep_memory()` first where a model is large (see memory.py); `grid`'s own workers do.
- A data set whose split is not the publisher's is `unofficial` in each of its rows.
- Two optimizers are compared seed by seed: `lab.paired` gives the mean difference and its interval.

Read the files in this order: optimizers, settings, batches, objective, provenance, loop,
records, plan, memory, counting, grid; statistics and sensitivity stand by themselves.
"""

from __future__ import annotations

from fuse_lib.lab.counting import Counting
from fuse_lib.lab.grid import RunsFailed, grid
from fuse_lib.lab.loop import COLUMNS, Result, run
from fuse_lib.lab.memory import keep_memory
from fuse_lib.lab.optimizers import CONTESTANTS
from fuse_lib.lab.plan import expand, read
from fuse_lib.lab.provenance import provenance
from fuse_lib.lab.sensitivity import fired_at_half, main_effect, partial_rank_correlations
from fuse_lib.lab.settings import Settings
from fuse_lib.lab.statistics import (
    Interval,
    Ratio,
    best_in_hindsight,
    geometric_mean,
    interval,
    paired,
    sign_test,
    variance_ratio,
    variance_shares,
)

__all__ = [
    "COLUMNS",
    "CONTESTANTS",
    "Counting",
    "Interval",
    "Ratio",
    "Result",
    "RunsFailed",
    "Settings",
    "best_in_hindsight",
    "expand",
    "fired_at_half",
    "geometric_mean",
    "grid",
    "interval",
    "keep_memory",
    "main_effect",
    "paired",
    "partial_rank_correlations",
    "provenance",
    "read",
    "run",
    "sign_test",
    "variance_ratio",
    "variance_shares",
]
