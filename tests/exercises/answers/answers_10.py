import math


def by_logarithms(theta, rho, L):
    return (math.exp(0.5 * math.log((1 - (1 - theta) * rho) / theta)) - 1) / L


RIGHT = {"10.1": ["(b)"], "10.2": [0.0501], "10.3": [by_logarithms], "10.4": [57], "10.5": ["B"]}
WRONG = {
    "10.1": [("a", "elsewhere"), ("c", "minibatches"), ("d", "letters")],
    "10.2": [(0.1, "share"), (0.025, "1 − ρ alone"), (0.0125, "not ρ"), (0.005, "one step's"), (-0.05, "sign")],
    "10.3": [
        (lambda theta, rho, L: by_logarithms(theta, rho, 1.0), "divide by L"),
        (lambda theta, rho, L: ((1 - (1 - theta) * rho) / theta - 1) / L, "root"),
        (lambda theta, rho, L: by_logarithms(theta, rho, L) + 1 / L, "subtract the 1"),
        (lambda theta, rho, L: 0.0, "should be 1"),
        (lambda theta, rho, L: None, "return"),
        (0.5, "function"),
    ],
    "10.4": [(38, "θ = 1"), (28.5, "missing"), (5.7, "0.1"), (20, "numerator"), (3, "too small")],
    "10.5": [("a", "another line"), ("c", "one bowl"), ("z", "letters")],
}
