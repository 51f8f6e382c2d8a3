"""Figures of the benchmark tables, in build/bench or the folder that is given.

    python benchmarks/plot.py [folder]

Of each table, and each problem in it, the rows of the newest origin (threads, machine, processor, versions, commit) are
drawn. Tables that are not there are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import rivals
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tables import RESULTS, newest, read

from fuse_lib import plots


def of_rivals(table: pd.DataFrame) -> Figure:
    """Every run a point: evaluations above, seconds below, a column a problem."""
    parts = table.contestant.str.extract(r"^(?P<who>.*?)(?:, (?P<m>\d+))?$")
    table = pd.concat([rivals.arrivals(table), parts], axis=1).assign(m=parts.m.fillna("its default, or none"))
    long = table.melt(["problem", "who", "m", "start"], ["evals", "seconds"], "what")
    last = long.groupby(["problem", "what"]).value.transform("max")
    long["missed"] = long.value.isna()
    long["value"] = long.value.fillna(3 * last)
    names = [name for name in dict.fromkeys(table.who) if name.startswith("fuse_lib")]
    names += [name for name in dict.fromkeys(table.who) if name not in names]
    grid = sns.catplot(
        long, x="value", y="who", hue="m", row="what", col="problem", order=names, kind="strip", jitter=False,
        dodge=True, sharex=False, height=4.8, aspect=1.0, size=4, margin_titles=True, legend_out=False,
    )  # fmt: skip
    grid.set(xscale="log", ylabel="", xlabel="")
    for (row, col), ax in zip(((r, c) for r in grid.row_names for c in grid.col_names), grid.axes.flat, strict=True):
        here = long[(long.what == row) & (long.problem == col)]
        if here.missed.any():
            edge = here.value[here.missed].iloc[0]
            ax.axvline(edge / 1.7, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
            ax.annotate("not\nreached", (edge, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", size=8)
        for name, label in zip(names, ax.get_yticklabels(), strict=False):
            label.set_fontweight("bold" if name.startswith("fuse_lib") else "normal")
    gaps = table.groupby("problem").wanted.first()
    grid.set_titles(col_template="{col_name}", row_template="")
    for row, axes in zip(grid.row_names, grid.axes, strict=True):
        for col, ax in zip(grid.col_names, axes, strict=True):
            ax.set_xlabel(f"{'evaluations' if row == 'evals' else 'seconds'} to {gaps[col]:.0e}")
            ax.xaxis.set_minor_formatter(NullFormatter())
    grid.tight_layout(h_pad=2)
    sns.move_legend(grid, "lower center", bbox_to_anchor=(0.5, 1.0), ncol=4, title="history size m", frameon=False)
    return grid.figure


def of_growth(table: pd.DataFrame) -> Figure:
    table = table.assign(size=table.m * table.d, m=table.m.astype(str))
    fig, ax = plt.subplots()
    sns.lineplot(table, x="size", y="ms", hue="m", style="m", markers=True, dashes=False, ax=ax)
    floor = table.sort_values("size")
    ax.plot(floor["size"], floor["floor ms"], color="0.35", linestyle=":", label="floor: two passes over the history")
    ax.set(xscale="log", yscale="log", xlabel="m·d", ylabel="ms an iteration, closure taken off")
    ax.legend(title="history size m", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return fig


def of_first_phase(table: pd.DataFrame) -> Figure:
    fig, ax = plt.subplots()
    table = table.assign(d=table.d.map("{:,}".format))
    sns.pointplot(table, x="first_order", y="fuse / torch", hue="d", markers=["o", "s"], linestyle="none", ax=ax)
    for height, text in ((1.0, "torch alone"), (1.05, "5 % more")):
        ax.axhline(height, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
        ax.annotate(text, (1.01, height), xycoords=("axes fraction", "data"), va="center", color="0.25", size="small")
    low, high = ax.get_ylim()
    ax.set(xlabel="", ylabel="first-phase step / torch's own step", ylim=(min(low, 0.95), max(high, 1.06)))
    ax.legend(title="parameters", loc="upper left", bbox_to_anchor=(1.18, 1.0))
    return fig


def of_memory(table: pd.DataFrame) -> Figure:
    table = table.assign(size=[f"d = {d:,}\nm = {m}" for d, m in zip(table.d, table.m, strict=True)])
    long = table.assign(over=table.peak / (2 * table.m))
    fig, ax = plt.subplots()
    sns.barplot(long, x="size", y="over", hue="contestant", ax=ax)
    ax.axhline(1.0, color="0.35", linewidth=1.2)
    ax.set(xlabel="", ylabel="peak / a float32 history of 2·m·d")
    ax.legend(title="", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return fig


def of_iteration(table: pd.DataFrame) -> Figure:
    """A run of the script is a row of each size; of several the medians are drawn."""
    table = table.groupby(["d", "m"], as_index=False).median(numeric_only=True)
    table = table.assign(size=[f"{d:,}\nm = {m}" for d, m in zip(table.d, table.m, strict=True)])
    long = table.melt(["size"], [f"{name} ms" for name in ("torch", "full batch", "minibatch")], "who", "ms")
    long["floors"] = long.ms / long["size"].map(table.set_index("size")["floor ms"])
    fig, ax = plt.subplots(figsize=(10, 4))
    sns.pointplot(
        long.assign(who=long.who.str.removesuffix(" ms")), x="size", y="floors", hue="who", markers=["o", "D", "s"],
        linestyle="none", dodge=0.4, ax=ax,
    )  # fmt: skip
    ax.axhline(1.0, color="0.35", linewidth=1.2)
    ax.set(xlabel="parameters d", ylabel="time of an iteration / bandwidth floor", yscale="log", ylim=(0.6, None))
    ax.legend(title="", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return fig


FIGURES = {
    "bench_rivals": of_rivals,
    "bench_growth": of_growth,
    "bench_first_phase": of_first_phase,
    "bench_memory": of_memory,
    "bench_iteration": of_iteration,
}


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest origin, of each problem where there are several: they need not be run together."""
    parts = [some for _, some in table.groupby("problem", sort=False)] if "problem" in table else [table]
    return pd.concat([newest(some) for some in parts], ignore_index=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plots.use_style()
    for name, draw in FIGURES.items():
        table = read(RESULTS / f"{name}.csv")
        if len(table):
            draw(latest(table)).savefig(folder / f"{name}.png")
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS.parent.parent / "build" / "bench")
