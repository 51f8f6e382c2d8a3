"""Answers to the exercises of notebook 04."""

import math


def naive(k, n):
    half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def ends(k, n, z=1.96):
    p, root = k / n, math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) - z * root) / (1 + z * z / n), (p + z * z / (2 * n) + z * root) / (1 + z * z / n)


RIGHT = {
    "04.1": [2e-3],
    "04.3": [lambda k, n: list(ends(k, n)), ends],
    "04.5": [0.266, 0.2659],
    "04.7": [lambda f, x, xi: f(x) + xi @ x - (xi @ x).detach()],
}
WRONG = {
    "04.1": [
        (0.001, "best rate"),
        (2, "flat direction"),
        (1, "flat direction"),
        (0.004, "too large"),
        (-0.002, "sign"),
    ],
    "04.2": [("a", "longer history"), ("c", "none to tune"), ("d", "letters")],
    "04.3": [
        (naive, "usual"),
        (lambda k, n: tuple(100 * v for v in ends(k, n)), "per cent"),
        (lambda k, n: ends(k, n)[::-1], "lower one"),
        (lambda k, n: tuple(v * (1 + 1.96**2 / n) for v in ends(k, n)), "denominator"),
        (lambda k, n: k / n, "two numbers"),
        (lambda k, n: (0.0, 1.0), "the interval is"),
        (lambda k, n: None, "return"),
    ],
    "04.4": [("a", "flattens"), ("b", "own gradient"), (3, "letters")],
    "04.5": [
        (0.5157, "one coordinate"),
        (0.25, "not at 0"),
        (0.2345, "right-hand"),
        (26.6, "divide"),
        (0.7655, "takes both"),
    ],
    "04.6": [(0.531, "all six fail"), (0.6, "add up"), (0.1, "one try"), (47, "divide"), (1e-6, "succeed")],
    "04.7": [
        (lambda f, x, xi: f(x) + (xi * x).sum(), "tilted"),
        (lambda f, x, xi: f(x) + xi.sum(), "constant"),
        (lambda f, x, xi: f(x) - (xi * (x - x.detach())).sum(), "sign"),
        (lambda f, x, xi: f(x + xi), "the value is 7"),
        (lambda f, x, xi: float(f(x.detach())), "loss is a tensor"),
        (lambda f, x: f(x), "raised TypeError"),
    ],
    "04.8": [("b", "worse"), ("c", "Adam"), ("", "letters")],
}
