"""The checks of a rule's numbers."""

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
