import math


def with_if(A, B, eps):
    return eps if eps > A / B else A / B


RIGHT = {"09.1": ["(b)"], "09.2": [9999], "09.3": [with_if], "09.4": [2.606], "09.5": ["C"]}
WRONG = {
    "09.1": [("a", "stays at"), ("c", "large"), ("d", "letters")],
    "09.2": [(1000, "first term"), (66, "current value"), (9000, "geometric"), (100, "root"), (-10_000, "sign")],
    "09.3": [
        (lambda A, B, eps: A / B, "below ε"),
        (lambda A, B, eps: max(B / A, eps), "B/A"),
        (lambda A, B, eps: max(math.sqrt(A / B), eps), "too large"),
        (lambda A, B, eps: max(0.1 * A / B, eps), "too small"),
        (lambda A, B, eps: None, "return"),
        (0.5, "function"),
    ],
    "09.4": [(6, "factor of ten"), (0.384, "r_L"), (13.8, "fewer"), (1.0, "too small")],
    "09.5": [("a", "below"), ("b", "others"), ("z", "letters")],
}
