"""A figure with sliders beside it, from core controls only, so that it works in JupyterLab, Colab and on a phone.

    def draw(switch: int, lr: float) -> Figure: ...

    explore(draw, switch=slider(0, 300, 100, label="switch after"), lr=choice([1e-3, 1e-2], 1e-2))

The notebook's next cell shows `draw(switch=100, lr=1e-2)` as a static figure: what there is to be seen must be
seen without moving anything, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import ipywidgets as core
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

WIDE = {"description_width": "initial"}


def slider(low: float, high: float, value: float, step: float | None = None, label: str = "") -> core.Widget:
    """A slider over [low, high]; of whole numbers where all three are. It reports when it is let go.

    >>> slider(0, 300, 100).value
    100
    """
    whole = all(isinstance(v, int) for v in (low, high, value))
    kind = core.IntSlider if whole else core.FloatSlider
    step = (1 if whole else (high - low) / 50) if step is None else step
    return kind(min=low, max=high, value=value, step=step, description=label, continuous_update=False, style=WIDE)


def choice(options: Sequence, value: object, label: str = "") -> core.Widget:
    """A list to choose from.

    >>> choice(["Adam", "SGD"], "SGD").value
    'SGD'
    """
    return core.Dropdown(options=list(options), value=value, description=label, style=WIDE)


def explore(draw: Callable[..., Figure], **controls: core.Widget) -> core.Widget:
    """Controls above the figure that `draw` makes of their values; it is drawn anew whenever one changes.

    draw: takes one keyword argument a control and returns a matplotlib figure. If it raises, the message is
        shown in the figure's place.
    """
    for name, control in controls.items():
        control.description = control.description or name
    picture = core.Image(format="png", layout=core.Layout(max_width="100%"))
    message = core.HTML()

    def redraw(_change: object = None) -> None:
        try:
            picture.value = _png(draw(**{name: control.value for name, control in controls.items()}))
            message.value = ""
        except Exception as error:
            message.value = f"<b>{type(error).__name__}</b>: {error}"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return core.VBox([*controls.values(), message, picture])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
