import math


def by_residuals(r_xy, r_xz, r_yz):
    covariance = r_xy - r_xz * r_yz
    return covariance / (math.sqrt(1 - r_xz * r_xz) * math.sqrt(1 - r_yz * r_yz))


RIGHT = {"13.1": [20], "13.2": [by_residuals], "13.3": ["b"], "13.4": [1e4], "13.5": [0.05, 0.0487]}
WRONG = {
    "13.1": [(5, "share"), (2, "grid"), (80, "together"), (7, "small")],
    "13.2": [
        (lambda xy, xz, yz: xy - xz * yz, "covariance"),
        (lambda xy, xz, yz: xy, "plain correlation"),
        (lambda xy, xz, yz: (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)), "variances"),
        (lambda xy, xz, yz: (xy + xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)), "residuals"),
        (lambda xy, xz, yz: None, "return"),
        (0.5, "function"),
    ],
    "13.3": [("a", "bins"), ("c", "alike"), ("z", "letters")],
    "13.4": [(100, "square"), (10, "root"), (1, "later")],
    "13.5": [(0, "three cases"), (1 / 60, "one of sixty"), (0.000855, "usual"), (0.3, "large")],
}
