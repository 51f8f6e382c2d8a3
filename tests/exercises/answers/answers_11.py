import math

import torch


def central(gradient, x, v, h=1e-4):
    return (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)


def by_numpy(table):
    t = torch.tensor(table)
    return float(t.mean(0).var(unbiased=False) / t.var(unbiased=False))


RIGHT = {"11.1": ["(c)"], "11.2": [central], "11.5": [690], "11.3": [by_numpy], "11.4": ["b"]}
WRONG = {
    "11.1": [("a", "calls too"), ("b", "anew"), ("d", "letters")],
    "11.2": [
        (lambda gradient, x, v: (gradient(x) - gradient(x + 1e-6 * v)) / 1e-6, "sign"),
        (lambda gradient, x, v: gradient(x + 1e-6 * v) - gradient(x), "divided by h"),
        (lambda gradient, x, v: gradient(v), "x + h·v"),
        (lambda gradient, x, v: x, "never called"),
        (lambda gradient, x, v: float(gradient(x).sum()), "shape"),
        (0.5, "function"),
    ],
    "11.5": [
        (math.log(1e6) / math.log(10001 / 9999), "gradient method"),
        (300, "logarithm"),
        (6, "six decades"),
        (-690, "sign"),
    ],
    "11.3": [
        (lambda table: 1 - by_numpy(table), "rows"),
        (lambda table: by_numpy(table) * 5, "at most 1"),
        (lambda table: 0.3, "mean of each column"),
        (lambda table: None, "return"),
    ],
    "11.4": [("a", "another question"), ("c", "bad candidate"), ("z", "letters")],
}
