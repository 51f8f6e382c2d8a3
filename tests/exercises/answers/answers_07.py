import torch


def by_hand(v, r):
    mean = sum(v) / len(v)
    variance = sum(float(((row - mean) ** 2).sum()) for row in v) / (len(v) - 1)
    error = sum(float(((row - r) ** 2).sum()) for row in v) / len(v)
    unit = float((r**2).sum())
    return [variance / unit, (error - variance) / unit]


def changed(variance=lambda v, r, s, b: s, bias=lambda v, r, s, b: b):
    def answer(v, r):
        s, b = by_hand(v, r)
        return variance(v, r, s, b), bias(v, r, s, b)

    return answer


def plain_bias(v, r, s, b):
    return float(((v.mean(0) - r) ** 2).sum() / (r**2).sum())


RIGHT = {"07.1": ["(b)"], "07.2": [by_hand], "07.3": ["B"], "07.4": [4.0, torch.tensor(4)], "07.5": [0.416]}
WRONG = {
    "07.1": [("a", "squared length"), ("c", "shorter"), ("d", "letters")],
    "07.2": [
        (changed(variance=lambda v, r, s, b: s * (len(v) - 1) / len(v)), "n − 1"),
        (changed(variance=lambda v, r, s, b: s * float((r**2).sum())), "‖r‖²"),
        (changed(variance=lambda v, r, s, b: s / v.shape[1]), "added up"),
        (changed(variance=lambda v, r, s, b: s + b), "about r"),
        (changed(variance=lambda v, r, s, b: 3 * s), "but it is"),
        (changed(bias=plain_bias), "1/n of it"),
        (changed(bias=lambda v, r, s, b: 0.0), "squared bias"),
        (lambda v, r: by_hand(v, r)[0], "two numbers"),
        (lambda v, r: None, "return"),
        (3, "function"),
    ],
    "07.3": [("a", "does not cancel"), ("c", "changes less"), ("x", "letters")],
    "07.4": [(8, "ten pairs"), (14, "three of them"), (24, "without the pairs"), (5, "fifteenth"), (4.67, "made or not"),
             (3, "too small")],
    "07.5": [(4, "ratio itself"), (38.42, "upper end"), (0.2082, "square"), (0.6453, "root"), (-0.416, "sign")],
}  # fmt: skip
