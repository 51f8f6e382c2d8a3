from itertools import pairwise


def with_pairwise(losses):
    way = sum(abs(a - b) for a, b in pairwise(losses))
    return 0.0 if way == 0 else (losses[0] - losses[-1]) / way


def with_shares(losses):
    return len(losses) > 10 and (losses[-11] - losses[-1]) / (losses[0] - losses[-1]) < 0.01


def way(losses):
    return sum(abs(a - b) for a, b in pairwise(losses)) or 1.0


RIGHT = {"16.1": [1 / 9], "16.2": [with_pairwise], "16.3": [0.2463], "16.4": ["(b)"], "16.5": [with_shares]}
WRONG = {
    "16.1": [(0.0526, "0.9"), (0.2, "newest"), (9, "other way"), (1 / 3, "square"), (-0.11, "sign")],
    "16.2": [
        (lambda f: (f[-1] - f[0]) / way(f), "first minus last"),
        (lambda f: abs(f[0] - f[-1]) / way(f), "absolute"),
        (lambda f: (f[0] - f[-1]) / (len(f) - 1), "sizes"),
        (lambda f: None, "return"),
        (0.5, "function"),
    ],
    "16.3": [(0.3268, "153 + 50"), (0.1111, "last trial"), (0.3846, "add up")],
    "16.4": [("a", "line search"), ("c", "lower"), ("z", "letters")],
    "16.5": [
        (lambda f: True, "falls as fast"),
        (lambda f: False, "brought nothing"),
        (lambda f: f[-1] >= f[-min(11, len(f))] or len(f) < 5, "not yet ten"),
        (lambda f: len(f) > 10 and abs(f[-11] - f[-1]) < 0.1 * f[0], "height"),
        (
            lambda f: len(f) > 10 and sum(abs(a - b) for a, b in pairwise(f[-11:])) < 0.01 * (f[0] - f[-1]),
            "up and down",
        ),
        (lambda f: len(f) > 10 and f[-11] - f[-1] < 0.001, "unit"),
    ],
}
