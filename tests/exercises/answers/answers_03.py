from itertools import accumulate


def mean_method(norms_sq, zeta):
    means = [total / k for k, total in enumerate(accumulate(norms_sq), 1)]
    return next((k for k, mean in enumerate(means, 1) if mean <= zeta), -1)


def from_zero(norms_sq, zeta):
    return mean_method(norms_sq, zeta) - 1


def each_alone(norms_sq, zeta):
    return next((k for k, n in enumerate(norms_sq, 1) if n <= zeta), -1)


def of_norms(norms_sq, zeta):
    return mean_method([n**0.5 for n in norms_sq], zeta)


def last_if_never(norms_sq, zeta):
    found = mean_method(norms_sq, zeta)
    return len(norms_sq) if found < 0 else found


RIGHT = {"03.1": [351.0], "03.2": [1.5, 6 / 4], "03.3": [mean_method], "03.4": [" (C) "], "03.6": [510.0]}
WRONG = {
    "03.1": [(3, "epochs"), (354, "118"), (352, "round down"), (180_000, "images"), (60_000 * 3 / 512, "round down")],
    "03.2": [(1, "mean of the norms"), (6, "divide"), (1.2247, "root"), (0.667, "first step"), (-1.5, "sign")],
    "03.3": [
        (from_zero, "from 1"),
        (each_alone, "by itself"),
        (of_norms, "squared"),
        (last_if_never, "never met"),
        (lambda norms_sq, zeta: None, "return"),
        (lambda norms_sq: 1, "raised TypeError"),
        (3, "function"),
    ],
    "03.4": [("a", "never"), ("b", "σ"), (100, "letters")],
    "03.5": [("a", "falling"), ("c", "as long"), ("d", "letters")],
    "03.6": [(500, "full batch"), (1000, "only m"), (520, "first evaluation"), (490, "on top")],
    "03.7": [("a", "guessing"), ("c", "too short"), ("", "letters")],
    "03.8": [("a", "covers"), ("c", "one evaluation each"), (True, "letters")],
}
