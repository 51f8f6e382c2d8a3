"""The methods that `second_order=` names: their own options, and what of the others they have no use for."""

from __future__ import annotations

import inspect
import math

from fuse_lib.optim.adahessian import AdaHessian
from fuse_lib.optim.conjugate_gradients import ConjugateGradients
from fuse_lib.optim.history import History
from fuse_lib.optim.method import Method
from fuse_lib.optim.newton_cg import NewtonCG
from fuse_lib.optim.quasi_newton import QuasiNewton
from fuse_lib.optim.vectors import Vectors

METHODS: dict[str, type[Method]] = {m.name: m for m in (QuasiNewton, ConjugateGradients, NewtonCG, AdaHessian)}
HISTORY = {"history_size": 10, "history_dtype": None, "damped": False, "scaling": "newest"}  # L-BFGS's, and defaults


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _share(value: object) -> bool:
    return _number(value) and 0.0 <= value < 1.0


CHECKS = {
    "lr": (lambda v: _number(v) and v > 0.0, "a finite number > 0"),
    "betas": (lambda v: isinstance(v, tuple | list) and len(v) == 2 and all(map(_share, v)), "two numbers in [0, 1)"),
    "eps": (lambda v: _number(v) and v > 0.0, "a finite number > 0"),
    "power": (lambda v: _number(v) and 0.0 < v <= 1.0, "a number in (0, 1]"),
    "seed": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "an integer ≥ 0"),
    "length": (lambda v: v is None or (_number(v) and v > 0.0), "None or a finite number > 0"),
}


def own_options(method: type[Method]) -> tuple[str, ...]:
    """The names that `second_order_args` may hold for a method."""
    return tuple(name for name in inspect.signature(method).parameters if name in CHECKS)


def check(name: str, args: dict | None, handover: str, of_history: dict) -> None:
    """Raise where second_order, its args, or an option that it has no use for, is not allowed.

    of_history: the options that HISTORY names.

    Raises:
        ValueError, TypeError: the message names the argument, its value and what is allowed.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"second_order: got {name!r}; allowed is {', '.join(map(repr, METHODS))}")
    if args is not None and not isinstance(args, dict):
        raise TypeError(f"second_order_args: got {args!r}; allowed is a dict from the names of options to values")
    method, allowed = METHODS[name], own_options(METHODS[name])
    for key, value in (args or {}).items():
        if key not in allowed:
            takes = f"one of {', '.join(map(repr, allowed))}" if allowed else "none"
            raise TypeError(f"second_order_args: got {key!r}; allowed with second_order={name!r} is {takes}")
        fits, what = CHECKS[key]
        if not fits(value):
            raise ValueError(f"second_order_args: got {key}={value!r}; allowed is {what}")
    if "pairs" not in method.inherits:
        for key, default in HISTORY.items():
            if of_history[key] != default:
                raise ValueError(f"{key}: got {of_history[key]!r}; allowed with second_order={name!r}, which keeps no "
                                 f"history of pairs, is the default {default!r}")  # fmt: skip
    if handover == "metric" and "metric" not in method.inherits:
        raise ValueError(f"handover: got 'metric'; allowed with second_order={name!r}, which is blind to a diagonal "
                         "change of variables, is 'none', 'pairs' or 'both'")  # fmt: skip


def make(name: str, args: dict | None, of_history: dict, vectors: Vectors) -> Method:
    """The method of this name, over these parameters. The others: as for `check`, which they have passed.

    Raises:
        ValueError: it cannot work on them.
    """
    method = METHODS[name]
    if vectors.processes.mesh is not None and not method.sharded:
        able = ", ".join(repr(name) for name, m in METHODS.items() if m.sharded)
        raise ValueError(f"second_order: got {method.name!r} with DTensor parameters; allowed is {able}")
    if method is not QuasiNewton:
        return method(vectors, **(args or {}))
    o = of_history
    history = History(
        o["history_size"], vectors.numel, vectors.dtype, vectors.device, o["history_dtype"], o["damped"],
        vectors.weights, adaptive=o["scaling"] == "adaptive",
    )  # fmt: skip
    return QuasiNewton(vectors, history)
