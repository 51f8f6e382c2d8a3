"""The checks of numbers: a rule's, and the groups' learning rates."""

from __future__ import annotations

import math


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check(value: object, name: str, allowed: str, ok: bool) -> None:
    if not ok:
        raise ValueError(f"{name}: got {value!r}; allowed is {allowed}")


def check_window(window: object, none_allowed: bool) -> None:
    ok = is_integer(window) and window >= 1
    allowed = "an integer ≥ 1" + (" or None" if none_allowed else "")
    check(window, "window", allowed, ok or (none_allowed and window is None))


def group_lrs(groups: list[dict]) -> list[float]:
    """Each group's lr as it stands, ≥ 0: rounding may take a schedule's end a little below.

    Raises:
        ValueError: one is no finite number. (The constructor has seen its own lr only.)
    """
    lrs = []
    for group in groups:
        try:
            value = float(group["lr"])
        except (TypeError, ValueError):
            value = math.nan
        check(group["lr"], "lr", "a finite number in each group", math.isfinite(value))
        lrs.append(max(0.0, value))
    return lrs
