"""What a second-phase method is: a direction, and what it remembers.

`second_order.py` knows points, searches and the full-batch promise, whatever the method. What differs from one
method to another stands behind this interface, one small file each:

    quasi_newton.py         L-BFGS: the last m curvature pairs
    conjugate_gradients.py  non-linear conjugate gradients: the last step and the change of its gradient
    newton_cg.py            truncated Newton: how exactly the last system was solved
    adahessian.py           AdaHessian: running means of gradients and of estimates of the Hessian's diagonal

To add one, write such a file and enter it in `methods.py`. All vectors are (d,) and in the metric's variables
(see `vectors.py`); a number that decides anything comes through `Vectors.read`, so that processes decide alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fuse_lib.optim.history import History, Staged
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Vectors

Evaluate = Callable[[], tuple[object, "Tensor | float"]]  # () → (the closure's value, it as a scalar)


class Direction(NamedTuple):
    """A descent direction.

    p: (d,), the caller's to write to. slope: gᵀp < 0.
    first: the first trial step along it; None where its length says nothing: then the first trial is of length ≤ 1.
    evals: closure calls that it cost.
    """

    p: Tensor
    slope: float
    first: float | None = None
    evals: int = 0


class Method:
    """One method's direction and memory. This base remembers nothing and takes no notice.

    Class attributes:
        name: the string that `second_order=` takes.
        searches: whether a line search decides the step's length. If not, `step` does.
        inherits: what the method can take over from the first phase, of "pairs" and "metric".
        sharded: whether it works on DTensor parameters, of which a process holds a part.
        curvature: c2 of the strong Wolfe search.
    """

    name = ""
    searches = True
    inherits: tuple[str, ...] = ("metric",)
    sharded = True
    curvature = 0.9
    history: History | None = None
    allocated = False

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    # ---- a point is looked at
    def wanted(self, point: Point) -> dict[str, Tensor]:
        """Inner products to be read with the point, by name (not "gg", "noise", "norm_sq", "moved", "penalty")."""
        return {}

    def seen(self, point: Point, read: dict[str, list[float]]) -> None:
        """What was read."""

    # ---- one iteration
    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction | None:
        """A descent direction at a point that was looked at, by at most `most` closure calls.

        The parameters may be left anywhere. None: the method has none, and −g will do.
        """
        return None

    def step(self, point: Point, evaluate: Evaluate) -> Tensor | None:
        """Of methods that do not search: p of the step x + p, by at most one closure call; None where what that told
        is not finite. See `taken`. The parameters may be left anywhere."""
        raise NotImplementedError

    def taken(self) -> None:
        """The last `step` was made."""

    def change(self) -> Tensor:
        """A (d,) tensor for the search to write y to, the gradient's change up to its last trial."""
        return self.vectors.take()

    def searched(self, found: Search) -> None:
        """A search ended in a step. The start's vectors are given back after this; found.y is the method's."""
        self.vectors.give(found.y)

    def remember(self, start: Point, end: Point) -> Staged | None:
        """Two evaluated points of one function, joined by a step that no search made."""
        return None

    def clear(self) -> None:
        """Forget: a search found nothing lower."""

    def forget(self) -> None:
        """Forget all: the phase is left, and may begin anew elsewhere."""
        self.clear()

    # ---- what the first phase collects, for methods that inherit pairs
    def collect(self, start: Point, end: Point) -> None:
        raise NotImplementedError

    def measure(self) -> tuple[int, int] | None:
        """(pairs kept, pairs collected) of the first phase; None where there are none."""
        return None

    def rescale(self, scale: Tensor) -> None:
        """Go over to z = x / scale with what was collected in plain variables."""

    def pair_verdict(self) -> Callable[[], str] | str | None:
        """What becomes of the last step's pair, or a function that reads it; None where the method keeps none."""
        return None

    # ---- checkpoints
    def in_use(self) -> bool:
        """Whether anything is remembered."""
        return False

    def allocate(self) -> None:
        """Let `state` be saved from now on, so that a distributed checkpoint has somewhere to load to."""
        self.allocated = True

    def state(self, known: Point | None) -> tuple[dict[str, object], dict[str, Tensor]]:
        """(numbers and small tensors, vectors by name: see plain.VECTORS). The names depend on the settings only.

        known: the last point of the full-batch function.
        """
        return {}, {}

    def load(self, numbers: dict, vectors: dict[str, Tensor], known: Point | None) -> None:
        """Take over a state, by copying. ValueError where it does not fit; then nothing is changed."""

    def rows(self, name: str) -> tuple[int, ...]:
        """The leading shape of a saved vector: () for one of length d."""
        return ()
