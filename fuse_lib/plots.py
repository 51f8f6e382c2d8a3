"""How the course's figures look: one colour, marker and line style an optimizer, in every notebook.

    plots.use_style()
    fig, ax = plt.subplots()
    plots.curve(ax, table["samples"], table["train_loss"], "FUSE-PV")
    plots.mark_switch(ax, 60_000)
    plots.show(fig, alt="Training loss of Adam and FUSE-PV …")

Nobody has to tell two lines apart by colour alone, and every figure carries a text that says what is
to be seen in it, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

_COLOURS = sns.color_palette("colorblind")

# name → (colour, marker, line style)
STYLES: dict[str, tuple] = {
    "Adam": (_COLOURS[0], "o", "-"),
    "Adam, cosine": (_COLOURS[4], "v", (0, (5, 1))),
    "FUSE-PV": (_COLOURS[3], "D", "-"),
    "FUSE, soft θ": (_COLOURS[1], "P", (0, (3, 1, 1, 1))),
    "L-BFGS": (_COLOURS[2], "s", "--"),
    "SGD": (_COLOURS[7], "X", ":"),
    "Adam+SGD": (_COLOURS[5], "^", "-."),
    "Anchored": ("0.15", "*", "-"),
}


def use_style() -> None:
    """Seaborn's white grid with text that can be read on a phone. Call it once, before the first figure."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 4.2),
            "figure.dpi": 100,
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "legend.frameon": True,
            "lines.linewidth": 1.8,
            "lines.markersize": 6,
        }
    )


def style(name: str) -> dict:
    """Keyword arguments of `Axes.plot` for an optimizer.

    Raises:
        ValueError: the optimizer has no style; the message lists those that have.

    >>> style("FUSE-PV")["marker"]
    'D'
    """
    if name not in STYLES:
        raise ValueError(f"name: got {name!r}; allowed is one of {', '.join(map(repr, STYLES))}")
    colour, marker, line = STYLES[name]
    return {"color": colour, "marker": marker, "linestyle": line}


def curve(ax: Axes, x: Sequence, y: Sequence, name: str, markers: int = 8, label: str | None = "", **options) -> None:
    """A line in the optimizer's style with about `markers` markers on it.

    label: of the legend; "" means the optimizer's name, None no entry.
    """
    every = max(1, len(x) // markers)
    label = name if label == "" else label
    ax.plot(x, y, **{**style(name), "markevery": (every // 2, every), "label": label, **options})


def mark_switch(ax: Axes, x: float, text: str = "switch") -> None:
    """A vertical line where the first phase ended."""
    ax.axvline(x, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
    ax.annotate(text, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -4), textcoords="offset points",
                va="top", color="0.25")  # fmt: skip


def landscape(ax: Axes, problem: object, points: int = 160, levels: int = 14, minima: bool = True) -> None:
    """Contours of a test function of two variables over its domain, light where it is low, stars at its global minima.

    problem: of `fuse_lib.problems`. The levels are quantiles of its values in the domain, closer where it is low, so
    that a flat floor and a steep wall both show.
    """
    grid = problem.grid(points)
    values = problem(grid)
    shares = [(k / levels) ** 1.5 for k in range(levels + 1)]
    edges = sorted({float(values.quantile(share)) for share in shares})
    colours = sns.color_palette("light:#65809b", as_cmap=True)
    norm = BoundaryNorm(edges, colours.N)
    x, y = grid.unbind(-1)
    ax.contourf(x, y, values, edges, cmap=colours, norm=norm, antialiased=False)  # smoothed edges make large files
    if minima:
        for x, y in problem.minima:
            ax.plot(x, y, "*", color="gold", markeredgecolor="black", markersize=15, zorder=3)
    (left, right), (low, high) = problem.domain
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")
    ax.grid(False)


def show(fig: Figure, alt: str) -> None:
    """Display a figure as a PNG with its alternative text, and close it.

    alt: what there is to see, in a sentence or two. It is stored with the image, and the HTML pages carry it.
    """
    if not alt.strip():
        raise ValueError("alt: got an empty text; allowed is a sentence that says what the figure shows")
    from IPython.display import display

    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)
